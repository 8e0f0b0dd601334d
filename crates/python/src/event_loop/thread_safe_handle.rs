//! Handles that other threads may cancel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::{PyClassInitializer, intern};
use whorl_core::sched::{Process, assert_nothing_open, this_thread};

use super::handle::{Handle, HandleStage, Scheduled, untracked};

/// No thread runs the callback.
const IDLE: usize = 0;

/// Set in [`ThreadSafeHandle::runner`] once a thread waits for the end of the run: the number of a thread is even.
const WAITED_FOR: usize = 1;

/// Held from the setting of [`WAITED_FOR`] until the thread waits, detached from the interpreter, and by the end of such a run
/// for a moment: its holder does not attach, so an attached thread that waits for it waits for nothing of the interpreter's. The
/// collector never takes it. One for all handles, as next to none is ever waited for.
static WAITING: Mutex<()> = Mutex::new(());

/// A run has ended that was waited for.
static ENDED: Condvar = Condvar::new();

/// Ends a run, whether the callback returns or panics.
struct Running<'a> {
    runner: &'a AtomicUsize,
    process: Process,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let was_waited_for = self.runner.swap(IDLE, Ordering::AcqRel) & WAITED_FOR != 0;
        // In a child that the callback has forked there are no other threads, and one may have had the lock.
        if was_waited_for && self.process.is_current() {
            // The waiting thread has the lock from before it set the flag until it waits.
            drop(WAITING.lock().unwrap_or_else(PoisonError::into_inner));
            ENDED.notify_all();
        }
    }
}

/// A callback wrapper returned by `call_soon_threadsafe()` to other threads, from Python 3.14 on: `cancel()` and
/// `cancelled()` wait while the callback runs. Source of the semantics: `asyncio.events._ThreadSafeHandle`.
#[pyclass(frozen, extends = Handle, weakref, module = "whorl._core")]
#[derive(Debug, Default)]
pub struct ThreadSafeHandle {
    /// The thread that the callback runs on at the moment, or [`IDLE`]; with [`WAITED_FOR`].
    runner: AtomicUsize,
}

impl ThreadSafeHandle {
    /// A handle that waits to be run, as the interpreter's version has it for a call from another thread.
    pub fn make(
        py: Python<'_>,
        scheduled: Scheduled,
        traceback: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'_, Handle>> {
        if !cfg!(Py_3_14) {
            return Handle::make(py, scheduled, traceback);
        }
        let handle = PyClassInitializer::from(Handle::at(HandleStage::Shared(scheduled), traceback));
        Ok(untracked(py, handle.add_subclass(Self::default()))?.into_super())
    }

    /// Runs the callback by `run`, unless it was cancelled.
    #[cold]
    pub(super) fn run_shared(
        slf: &Bound<'_, Handle>,
        run: impl FnOnce(Scheduled) -> PyResult<()>,
    ) -> PyResult<()> {
        let Ok(this) = slf.cast::<Self>() else { return Ok(()) };
        let runner = &this.get().runner;
        // First this, then the stage: a thread that finds it begun finds its runner, too.
        runner.store(this_thread(), Ordering::Relaxed);
        let _running = Running { runner, process: Process::current() };
        Handle::begin_shared(slf).map_or(Ok(()), run)
    }

    /// Whether another thread runs the callback. Its own thread does not wait for it.
    fn is_elsewhere(&self) -> bool {
        let runner = self.runner.load(Ordering::Acquire) & !WAITED_FOR;
        runner != IDLE && runner != this_thread()
    }

    /// Waits until no other thread runs the callback.
    fn wait(slf: &Bound<'_, Self>) {
        let runner = &slf.get().runner;
        if !slf.get().is_elsewhere() {
            return;
        }
        // The callback needs the interpreter to come to its end, and this thread must not hold a cell that it may open. The
        // lock is given back before this thread attaches again.
        assert_nothing_open();
        slf.py().detach(|| {
            let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
            let set = |runner: usize| (runner != IDLE).then_some(runner | WAITED_FOR);
            while runner.fetch_update(Ordering::AcqRel, Ordering::Acquire, set).is_ok() {
                waiting = ENDED.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        });
    }
}

#[pymethods]
impl ThreadSafeHandle {
    /// Cancel the callback; one that another thread is running is waited for.
    fn cancel(slf: &Bound<'_, Self>) {
        // In one step, so that a run does not begin in between.
        if !Handle::transition_from_shared_to_cancelled(slf.as_super()) {
            Self::wait(slf);
            let _was_pending = Handle::transition_to_cancelled(slf.as_super());
        }
    }

    /// Return True if the callback was cancelled; waits as `cancel()` does.
    fn cancelled(slf: &Bound<'_, Self>) -> bool {
        Self::wait(slf);
        Handle::is_cancelled(slf.as_super())
    }

    /// The class that `isinstance()` sees in addition to the true one, so that it is asyncio's own as well.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import(intern!(slf.py(), "asyncio.events"))?.getattr(intern!(slf.py(), "_ThreadSafeHandle"))
    }
}
