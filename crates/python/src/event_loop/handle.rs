//! Handles: a callback that is scheduled, and may be cancelled.
//!
//! A handle drops its callback, arguments and context when it has run or is cancelled.
//!
//! Handles are recycled, as the caller of `call_soon()` drops most of them at once. One that has run, has no other reference,
//! has never had a weak reference, and is no subclass serves a later `call_soon()`. The condition on weak references is
//! there because one would see the handle's next use.

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyClass, PyTraverseError, PyVisit, ffi, intern};

use super::{EventLoop, ThreadSafeHandle};
use crate::ffi::{Call, can_enter};
use crate::interpreter::{Attached, CloneWith, Collector, Guarded};

/// What a handle runs, and the context it was scheduled in.
#[derive(Debug)]
pub struct Scheduled {
    /// Callback and arguments.
    pub call: Call,
    /// The `contextvars.Context` that the callback is called in.
    pub context: Py<PyAny>,
}

/// How a handle's turn begins.
enum Begun {
    /// With this call.
    Call(Scheduled),
    /// By [`ThreadSafeHandle`], which keeps other threads waiting meanwhile.
    Shared,
    /// Not at all: it was cancelled, or has run.
    Nothing,
}

impl CloneWith for Scheduled {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self { call: self.call.clone_with(at), context: self.context.clone_with(at) }
    }
}

/// The stage of a handle, from the call that schedules it to the end of its run.
#[derive(Debug)]
pub(super) enum HandleStage {
    /// It waits to be run.
    Pending(Scheduled),
    /// It waits to be run, and other threads may wait for its end: see [`ThreadSafeHandle`].
    Shared(Scheduled),
    /// It waits for a descriptor, and runs each time that is ready, until it is cancelled.
    Repeating(Scheduled),
    /// It is running or has run; the callback, its arguments and its context are dropped.
    Done,
    /// It has run, or a tool's `_run` runs it, and what it holds is shown: to an exception handler, in a report, to the tool.
    Reporting(Scheduled),
    /// It was cancelled.
    Cancelled,
}

/// A callback wrapper, returned by `call_soon()`. Source of the semantics: `asyncio.Handle`.
///
/// It drops the callback, its arguments and its context once it has run or has been cancelled.
#[pyclass(frozen, subclass, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct Handle {
    stage: Guarded<HandleStage>,
    source_traceback: Option<Py<PyAny>>,
}

/// Whether `error` leaves `run_forever()`, as SystemExit and KeyboardInterrupt do; any other goes to the exception handler.
pub fn leaves_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

impl Handle {
    /// A handle that waits to be run.
    pub fn make(
        py: Python<'_>,
        scheduled: Scheduled,
        source_traceback: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'_, Self>> {
        untracked(py, Self::at(HandleStage::Pending(scheduled), source_traceback))
    }

    /// A handle that runs whenever its descriptor is ready.
    ///
    /// The garbage collector knows it: it has two owners, its source and the loop's [`super::watch::Watchers`].
    pub fn repeating(
        py: Python<'_>,
        scheduled: Scheduled,
        source_traceback: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self::at(HandleStage::Repeating(scheduled), source_traceback))
    }

    pub(super) const fn at(stage: HandleStage, source_traceback: Option<Py<PyAny>>) -> Self {
        Self { stage: Guarded::new(stage), source_traceback }
    }

    /// Pending to Done. A repeating handle stays what it is, and a shared one until [`ThreadSafeHandle`] begins it.
    #[inline]
    fn begin(slf: &Bound<'_, Self>) -> Begun {
        let stage = &slf.get().stage;
        match stage.replace_if(slf.py(), HandleStage::Done, |stage| matches!(stage, HandleStage::Pending(_)))
        {
            Ok(HandleStage::Pending(scheduled)) => Begun::Call(scheduled),
            _ => stage.peek(slf.py(), |stage, at| match stage {
                HandleStage::Repeating(scheduled) => Begun::Call(scheduled.clone_with(at)),
                HandleStage::Shared(_) => Begun::Shared,
                HandleStage::Pending(_)
                | HandleStage::Done
                | HandleStage::Reporting(_)
                | HandleStage::Cancelled => Begun::Nothing,
            }),
        }
    }

    /// Shared to Done; what is to be run, unless it has been cancelled.
    pub(super) fn begin_shared(slf: &Bound<'_, Self>) -> Option<Scheduled> {
        match slf
            .get()
            .stage
            .replace_if(slf.py(), HandleStage::Done, |stage| matches!(stage, HandleStage::Shared(_)))
        {
            Ok(HandleStage::Shared(scheduled)) => Some(scheduled),
            _ => None,
        }
    }

    /// Shared to Cancelled; false if it is not shared: another thread has begun it, or it is over.
    pub(super) fn transition_from_shared_to_cancelled(slf: &Bound<'_, Self>) -> bool {
        let is_shared = |stage: &HandleStage| matches!(stage, HandleStage::Shared(_));
        // What it held is dropped here, as finalisers may run.
        slf.get().stage.replace_if(slf.py(), HandleStage::Cancelled, is_shared).is_ok()
    }

    /// Pending to Cancelled, or Done to Cancelled; true if it was pending.
    pub fn transition_to_cancelled(slf: &Bound<'_, Self>) -> bool {
        // What it held is dropped here, as finalisers may run.
        let previous = slf.get().stage.replace(slf.py(), HandleStage::Cancelled);
        matches!(previous, HandleStage::Pending(_) | HandleStage::Shared(_))
    }

    /// Whatever it was to Done, but for Cancelled: its loop is closed and will not run it.
    ///
    /// What it held is dropped, as the garbage collector does not see it in a handle that the loop does not own any more.
    pub fn transition_to_done(slf: &Bound<'_, Self>) {
        let not_cancelled = |stage: &HandleStage| !matches!(stage, HandleStage::Cancelled);
        // Dropped here, outside the stage, as finalisers may run.
        drop(slf.get().stage.replace_if(slf.py(), HandleStage::Done, not_cancelled));
    }

    /// Whether the handle may be used again: it has run, has no other reference, weak or strong, and is no subclass.
    #[inline]
    pub fn is_recyclable(slf: &Bound<'_, Self>) -> bool {
        crate::ffi::is_uniquely_referenced(slf)
            && slf.get_type_ptr() == <Self as pyo3::PyTypeInfo>::type_object_raw(slf.py())
            && slf.get().source_traceback.is_none()
            && slf.get().stage.peek(slf.py(), |stage, _at| matches!(stage, HandleStage::Done))
    }

    /// Done to Pending again, for a handle that `is_recyclable`.
    #[inline]
    pub fn transition_to_pending(&self, at: Attached<'_>, scheduled: Scheduled) {
        let previous = self.stage.replace(at, HandleStage::Pending(scheduled));
        debug_assert!(matches!(previous, HandleStage::Done), "a recycled handle holds nothing");
    }

    /// Where it was scheduled, in debug mode.
    pub fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback.as_ref().map(|traceback| traceback.clone_ref(py))
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(slf: &Bound<'_, Self>) -> bool {
        slf.get().stage.peek(slf.py(), |stage, _at| matches!(stage, HandleStage::Cancelled))
    }

    /// Whether the context that it runs in is entered already, further up the stack.
    pub fn is_context_entered(slf: &Bound<'_, Self>) -> bool {
        Self::get_context(slf).is_some_and(|context| !can_enter(slf.py(), &context))
    }

    /// The callback and its arguments, if it still holds them.
    pub(super) fn parts(slf: &Bound<'_, Self>) -> Option<Vec<Py<PyAny>>> {
        slf.get().stage.peek(slf.py(), |stage, at| match stage {
            HandleStage::Pending(scheduled)
            | HandleStage::Shared(scheduled)
            | HandleStage::Repeating(scheduled)
            | HandleStage::Reporting(scheduled) => {
                Some(scheduled.call.parts().map(|part| part.clone_with(at)).collect())
            }
            HandleStage::Done | HandleStage::Cancelled => None,
        })
    }

    /// Calls the callback unless the handle was cancelled. What it raises goes to the loop's exception handler.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt, which end `run_forever()`.
    #[inline]
    pub fn run(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        match Self::begin(slf) {
            Begun::Call(scheduled) => Self::call(slf, event_loop, scheduled),
            Begun::Shared => {
                ThreadSafeHandle::run_shared(slf, |scheduled| Self::call(slf, event_loop, scheduled))
            }
            Begun::Nothing => Ok(()),
        }
    }

    /// The same on a loop that is observed ([`EventLoop::is_observed`]): in debug mode a callback that takes longer than
    /// `loop.slow_callback_duration` seconds is reported, and what a tool has put in the place of `asyncio.Handle._run` is
    /// called.
    pub fn run_observed(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        match Self::begin(slf) {
            Begun::Call(scheduled) => Self::call_observed(slf, event_loop, scheduled),
            Begun::Shared => {
                ThreadSafeHandle::run_shared(slf, |scheduled| Self::call_observed(slf, event_loop, scheduled))
            }
            Begun::Nothing => Ok(()),
        }
    }

    #[inline]
    fn call(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        mut scheduled: Scheduled,
    ) -> PyResult<()> {
        let py = slf.py();
        match scheduled.call.run(py, &scheduled.context) {
            Ok(_) => {
                let Scheduled { call, context } = scheduled;
                call.release(py);
                context.drop_ref(py);
                Ok(())
            }
            Err(error) => Self::report(slf, event_loop, scheduled, error),
        }
    }

    fn call_observed(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        mut scheduled: Scheduled,
    ) -> PyResult<()> {
        let py = slf.py();
        let start = super::clock::monotonic();
        if event_loop.get().is_handle_run_replaced() {
            // As it is now. asyncio's own, which the replacement calls, runs what the handle shows.
            let run = py
                .import(intern!(py, "asyncio.events"))?
                .getattr(intern!(py, "Handle"))?
                .getattr(intern!(py, "_run"))?;
            return Self::show(slf, scheduled, || {
                run.call1((slf,))?;
                Self::report_slow(slf, event_loop, start)
            });
        }
        let outcome = scheduled.call.run(py, &scheduled.context);
        match outcome {
            Ok(_) => Self::show(slf, scheduled, || Self::report_slow(slf, event_loop, start)),
            Err(error) => Self::report(slf, event_loop, scheduled, error),
        }
    }

    /// In debug mode: reports a callback that began at `start`, if that is too long ago.
    fn report_slow(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>, start: u64) -> PyResult<()> {
        let py = slf.py();
        if !event_loop.get().is_debug() {
            return Ok(());
        }
        let seconds = super::clock::seconds(super::clock::monotonic() - start);
        let limit: f64 = event_loop.getattr(intern!(py, "slow_callback_duration"))?.extract()?;
        if seconds < limit {
            return Ok(());
        }
        event_loop.call_method1(intern!(py, "_report_slow_callback"), (slf, seconds)).map(drop)
    }

    /// Has the handle hold `scheduled` for the length of `act`, so that its repr names the callback. A repeating one still does.
    fn show(slf: &Bound<'_, Self>, scheduled: Scheduled, act: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let stage = &slf.get().stage;
        let given = stage.replace_if(slf.py(), HandleStage::Reporting(scheduled), |stage| {
            matches!(stage, HandleStage::Done)
        });
        let result = act();
        let shown =
            stage.replace_if(slf.py(), HandleStage::Done, |stage| matches!(stage, HandleStage::Reporting(_)));
        // Here, as finalisers may run.
        drop((given, shown));
        result
    }

    #[cold]
    fn report(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        scheduled: Scheduled,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        let source = describe(py, scheduled.call.parts())?;
        Self::show(slf, scheduled, || {
            let context = PyDict::new(py);
            context.set_item("message", format!("Exception in callback {source}"))?;
            context.set_item("exception", error.value(py))?;
            context.set_item("handle", slf)?;
            if let Some(traceback) = &slf.get().source_traceback {
                context.set_item("source_traceback", traceback)?;
            }
            event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
        })
    }

    /// Has the garbage collector traverse the handle from now on.
    ///
    /// # Safety
    /// No other thread tracks the handle meanwhile.
    pub(super) unsafe fn track(this: &Py<Self>, _at: Attached<'_>) {
        // SAFETY: attached, and a live object of a collected type, which is whole. The interpreter refuses one that is tracked
        // already; it stays untracked in between, by the contract of this function.
        unsafe {
            if ffi::PyObject_GC_IsTracked(this.as_ptr()) == 0 {
                ffi::PyObject_GC_Track(this.as_ptr().cast());
            }
        }
    }

    /// Visits a handle, for its owner: itself if the garbage collector knows it, and otherwise what it holds, if there is no
    /// other owner.
    pub fn visit(this: &Py<Self>, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: reading a flag of a live object; nothing is changed.
        if unsafe { ffi::PyObject_GC_IsTracked(this.as_ptr()) } != 0 {
            return visit.call(this);
        }
        // SAFETY: reading the count of a live object; nothing is changed.
        if unsafe { ffi::Py_REFCNT(this.as_ptr()) } != 1 {
            return Ok(());
        }
        this.get().visit_scheduled(visit)
    }

    fn visit_scheduled(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.stage.visit(Collector::of(&visit), |stage, visit| {
            if let HandleStage::Pending(scheduled)
            | HandleStage::Shared(scheduled)
            | HandleStage::Repeating(scheduled)
            | HandleStage::Reporting(scheduled) = stage
            {
                for part in scheduled.call.parts() {
                    visit.call(part)?;
                }
                visit.call(&scheduled.context)?;
            }
            Ok(())
        })
    }
}

/// A handle that the garbage collector does not track, as most are gone within a turn: the loop shows what it holds
/// ([`Handle::visit`]), tracks it if it is left when a run ends ([`EventLoop::come_to_rest`]), and drops what it holds when the
/// loop is closed ([`Handle::transition_to_done`]).
pub(super) fn untracked<T: PyClass>(
    py: Python<'_>,
    handle: impl Into<PyClassInitializer<T>>,
) -> PyResult<Bound<'_, T>> {
    let handle = Bound::new(py, handle)?;
    // SAFETY: attached; an object of a collected type, to which there is no other reference yet.
    unsafe { ffi::PyObject_GC_UnTrack(handle.as_ptr().cast()) };
    Ok(handle)
}

/// `callback(args) at file:line`, as asyncio shows it; its type, if it cannot be shown: an object whose `repr()` raises must
/// not take the loop down.
///
/// # Errors
/// SystemExit and KeyboardInterrupt, which end `run_forever()`: Ctrl-C may come here as well.
fn describe<'a>(py: Python<'_>, mut parts: impl Iterator<Item = &'a Py<PyAny>>) -> PyResult<String> {
    let Some(callback) = parts.next() else { return Ok(String::new()) };
    let shown = PyTuple::new(py, parts.collect::<Vec<_>>()).and_then(|args| {
        py.import(intern!(py, "asyncio.format_helpers"))?
            .call_method1(intern!(py, "_format_callback_source"), (callback, args))?
            .extract()
    });
    match shown {
        Err(error) if !leaves_the_loop(py, &error) => {
            Ok(format!("<unprintable {} object>", callback.bind(py).get_type()))
        }
        shown => shown,
    }
}

pub(super) fn info(slf: &Bound<'_, Handle>, class: &str, when: Option<f64>) -> PyResult<String> {
    let py = slf.py();
    let mut info = vec![class.to_owned()];
    if Handle::is_cancelled(slf) {
        info.push("cancelled".to_owned());
    }
    if let Some(when) = when {
        info.push(format!("when={when}"));
    }
    if let Some(parts) = Handle::parts(slf) {
        info.push(describe(py, parts.iter())?);
    }
    if let Some(traceback) = &slf.get().source_traceback {
        let frame = traceback.bind(py).get_item(-1)?;
        info.push(format!("created at {}:{}", frame.get_item(0)?, frame.get_item(1)?));
    }
    Ok(format!("<{}>", info.join(" ")))
}

#[pymethods]
impl Handle {
    /// Cancel the callback. If it has run or was cancelled before, this has no effect.
    pub fn cancel(slf: &Bound<'_, Self>) {
        let _was_pending = Self::transition_to_cancelled(slf);
    }

    /// Return True if the callback was cancelled.
    fn cancelled(slf: &Bound<'_, Self>) -> bool {
        Self::is_cancelled(slf)
    }

    /// Return the context that the callback is called in, or None once it has run or was cancelled.
    fn get_context(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        slf.get().stage.peek(slf.py(), |stage, at| match stage {
            HandleStage::Pending(scheduled)
            | HandleStage::Shared(scheduled)
            | HandleStage::Repeating(scheduled)
            | HandleStage::Reporting(scheduled) => Some(scheduled.context.clone_with(at)),
            HandleStage::Done | HandleStage::Cancelled => None,
        })
    }

    #[getter]
    fn _callback(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        Self::parts(slf)?.into_iter().next()
    }

    #[getter]
    fn _args<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        Self::parts(slf).map(|parts| PyTuple::new(slf.py(), parts.into_iter().skip(1))).transpose()
    }

    #[getter]
    fn _context(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        Self::get_context(slf)
    }

    /// The loop that runs in this thread, or None: a handle keeps no loop alive, and is run on its own loop only.
    #[getter]
    fn _loop<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import(intern!(slf.py(), "asyncio"))?.call_method0(intern!(slf.py(), "_get_running_loop"))
    }

    #[getter]
    fn _cancelled(slf: &Bound<'_, Self>) -> bool {
        Self::is_cancelled(slf)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback(py)
    }

    /// The class that `isinstance()` sees in addition to the true one, so that it is an `asyncio.Handle` as well.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import(intern!(slf.py(), "asyncio"))?.getattr(intern!(slf.py(), "Handle"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        info(slf, "Handle", None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.source_traceback)?;
        self.visit_scheduled(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        Self::transition_to_done(slf);
    }
}
