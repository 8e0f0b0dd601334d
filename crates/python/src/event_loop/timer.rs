//! Timers: handles with a deadline.

use std::mem;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::sched::{BorrowError, InjectionQueue, LoopOwner, OwnerCell, TimerKey, Timers};

use super::handle::{Handle, HandleStage, Scheduled, info};
use super::{Injected, clock};

/// The timers of a loop. Each refers to them, so the loop drains them at its end, and the queue as well.
#[derive(Debug)]
pub struct LoopTimers {
    timers: OwnerCell<Timers<Py<TimerHandle>>>,
    /// Where another thread leaves the key of a timer that it has cancelled.
    injection_queue: Arc<InjectionQueue<Injected>>,
}

impl LoopTimers {
    /// No timer.
    pub fn new(owner: Arc<LoopOwner>, injection_queue: Arc<InjectionQueue<Injected>>) -> Self {
        Self { timers: OwnerCell::new(owner, Timers::default()), injection_queue }
    }
}

impl Deref for LoopTimers {
    type Target = OwnerCell<Timers<Py<TimerHandle>>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.timers
    }
}

/// The key of a timer that is not among the timers of its loop yet.
const NO_KEY: u64 = u64::MAX;

/// A callback wrapper with a deadline, returned by `call_later()` and `call_at()`. Source: `asyncio.TimerHandle`.
#[pyclass(frozen, extends = Handle, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct TimerHandle {
    /// Seconds on the loop's clock.
    when: f64,
    /// The timers of its loop, which a cancelled one leaves.
    timers: Arc<LoopTimers>,
    /// Its [`TimerKey`], once it is among them.
    key: AtomicU64,
}

impl TimerHandle {
    /// [`Handle::visit`] for timers.
    pub fn visit(this: &Py<Self>, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Handle::visit(Self::as_handle(this), visit)
    }

    /// The timer as the handle that it is.
    pub const fn as_handle(this: &Py<Self>) -> &Py<Handle> {
        // SAFETY: a `Py` is one pointer whatever its type (`repr(transparent)`), and a timer is a handle by its base class.
        unsafe { &*std::ptr::from_ref(this).cast() }
    }

    /// The same, given away.
    pub const fn into_handle(this: Py<Self>) -> Py<Handle> {
        // SAFETY: as in `as_handle`; the reference goes along.
        unsafe { mem::transmute(this) }
    }

    /// A timer that is due at `when`, in seconds on the loop's clock.
    ///
    /// The garbage collector knows it: it lives long enough for the program to keep it in an object that its callback holds.
    pub fn make(
        py: Python<'_>,
        when: f64,
        timers: Arc<LoopTimers>,
        scheduled: Scheduled,
        source_traceback: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'_, Self>> {
        let timer = Self { when, timers, key: AtomicU64::new(NO_KEY) };
        let handle = PyClassInitializer::from(Handle::at(HandleStage::Pending(scheduled), source_traceback));
        Bound::new(py, handle.add_subclass(timer))
    }

    /// Adds `this` to the timers of its loop, unless it was cancelled on the way there.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] while another thread runs the loop.
    pub fn enter(py: Python<'_>, this: &Py<Self>) -> Result<(), BorrowError> {
        let timer = this.get();
        let mut entry =
            Some(this.clone_ref(py)).filter(|entry| !Handle::is_cancelled(entry.bind(py).as_super()));
        timer.timers.with(|timers| {
            if let Some(entry) = entry.take() {
                let key = timers.push(clock::deadline(timer.when), entry);
                timer.key.store(key.to_bits(), Ordering::Relaxed);
            }
        })?;
        // Cancelled meanwhile by another thread, which has found no key.
        if Handle::is_cancelled(this.bind(py).as_super()) {
            let _removed = timer.leave();
        }
        Ok(())
    }

    /// Removes a cancelled timer. While another thread runs the loop, its next turn does.
    fn leave(&self) -> Option<Py<Self>> {
        let key = Some(self.key.load(Ordering::Relaxed)).filter(|key| *key != NO_KEY)?;
        let key = TimerKey::from_bits(key);
        match self.timers.with(|timers| timers.remove(key)) {
            Ok(removed) => removed,
            Err(BorrowError::OtherThread) => {
                // It holds nothing any more, so that there is no reason to wake the loop for it.
                self.timers.injection_queue.push_without_waking(Injected::CancelledTimer(key));
                None
            }
            // A finaliser within a section: it stays until it is due.
            Err(BorrowError::Reentered) => None,
        }
    }
}

#[pymethods]
impl TimerHandle {
    /// Cancel the callback. If it has run or was cancelled before, this has no effect.
    fn cancel(slf: &Bound<'_, Self>) {
        if Handle::transition_to_cancelled(slf.as_super()) {
            let _removed = slf.get().leave();
        }
    }

    /// Return the scheduled time of the callback, in seconds on the clock of `loop.time()`.
    const fn when(&self) -> f64 {
        self.when
    }

    #[getter]
    const fn _when(&self) -> f64 {
        self.when
    }

    /// The class that `isinstance()` sees in addition to the true one, so that it is an `asyncio.TimerHandle` as well.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import(intern!(slf.py(), "asyncio"))?.getattr(intern!(slf.py(), "TimerHandle"))
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        pyo3::types::PyFloat::new(py, self.when).hash()
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let equal = || -> PyResult<bool> {
            let (a, b) = (Handle::parts(slf.as_super()), Handle::parts(other.as_super()));
            let same_parts = match (a, b) {
                (Some(a), Some(b)) => PyTuple::new(py, a)?.eq(PyTuple::new(py, b)?)?,
                (None, None) => true,
                _ => false,
            };
            Ok(slf.get().when == other.get().when
                && same_parts
                && Handle::is_cancelled(slf.as_super()) == Handle::is_cancelled(other.as_super()))
        };
        let (a, b) = (slf.get().when, other.get().when);
        let result = match op {
            CompareOp::Lt => a < b,
            CompareOp::Gt => a > b,
            CompareOp::Le => a < b || equal()?,
            CompareOp::Ge => a > b || equal()?,
            CompareOp::Eq => equal()?,
            CompareOp::Ne => !equal()?,
        };
        Ok(result.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        info(slf.as_super(), "TimerHandle", Some(slf.get().when))
    }
}
