//! Handles that other threads may cancel.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::{PyClassInitializer, intern};
use whorl_core::sched::{assert_nothing_open, this_thread};

use super::handle::{Handle, Scheduled, Stage, untracked};

/// A callback wrapper returned by `call_soon_threadsafe()` to other threads, from Python 3.14 on: cancelling it, or asking
/// whether it is cancelled, waits while the callback runs. Source of the semantics: `asyncio.events._ThreadSafeHandle`.
#[pyclass(frozen, extends = Handle, weakref, module = "whorl._core")]
#[derive(Debug, Default)]
pub struct ThreadSafeHandle {
    /// Held for a few loads and stores, by a thread that neither attaches nor detaches meanwhile: an attached thread that
    /// waits for it waits for nothing of the interpreter's. The collector never takes it.
    run: Mutex<Run>,
    /// Waited for detached from the interpreter alone.
    finished: Condvar,
}

/// The callback's one run, for those who wait for its end.
#[derive(Debug, Default)]
struct Run {
    /// The thread that the callback runs on at the moment.
    runner: Option<usize>,
    /// How many other threads wait.
    waiting: usize,
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
        let handle = PyClassInitializer::from(Handle::at(Stage::Shared(scheduled), traceback));
        Ok(untracked(py, handle.add_subclass(Self::default()))?.into_super())
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        // Nothing panics while it is held; what a poisoned lock protects is whole all the same.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    pub(super) fn run_shared(
        slf: &Bound<'_, Handle>,
        run: impl FnOnce(Scheduled) -> PyResult<()>,
    ) -> PyResult<()> {
        let Ok(this) = slf.cast::<Self>() else { return Ok(()) };
        // First this, then the stage: a thread that finds it begun finds its runner, too.
        this.get().lock().runner = Some(this_thread());
        let outcome = Handle::begin_shared(slf).map_or(Ok(()), run);
        let waiting = {
            let mut run = this.get().lock();
            run.runner = None;
            run.waiting
        };
        // Waking is a system call even if nobody waits.
        if waiting > 0 {
            this.get().finished.notify_all();
        }
        outcome
    }

    /// Waits until no other thread runs the callback. The callback itself does not wait for its own end.
    fn wait(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let here = this_thread();
        // The callback needs the interpreter to come to its end, and this thread must not hold a cell that it may want. The
        // lock is given back before this thread attaches again.
        assert_nothing_open();
        slf.py().detach(|| {
            let mut run = this.lock();
            run.waiting += 1;
            while run.runner.is_some_and(|runner| runner != here) {
                run = this.finished.wait(run).unwrap_or_else(PoisonError::into_inner);
            }
            run.waiting -= 1;
        });
    }
}

#[pymethods]
impl ThreadSafeHandle {
    /// Cancel the callback, once another thread that is running it is done with it.
    fn cancel(slf: &Bound<'_, Self>) {
        Self::wait(slf);
        let _was_pending = Handle::transition_to_cancelled(slf.as_super());
    }

    /// Return True if the callback was cancelled; waits as `cancel()` does.
    fn cancelled(slf: &Bound<'_, Self>) -> bool {
        Self::wait(slf);
        Handle::is_cancelled(slf.as_super())
    }

    /// The class that `isinstance()` sees beside the true one, so that it is asyncio's own as well.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import(intern!(slf.py(), "asyncio.events"))?.getattr(intern!(slf.py(), "_ThreadSafeHandle"))
    }
}
