//! A step of a request that is a user's: its coroutine is awaited, and the request continues.

use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyRuntimeWarning, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use super::deadlines::{Deadline, Limit, RequestDeadlines};
use crate::ffi::{Sent, is_coroutine, send_none};

/// Whether something that is awaited has a result.
#[derive(Debug)]
pub enum Poll<T> {
    /// Not before this future is done: the task waits for it.
    Pending(Py<PyAny>),
    /// This is it.
    Ready(T),
    /// It was continued before its future was done: nothing has changed.
    Early,
}

/// The limit of a step's time, of which a call keeps account.
pub trait Limited {
    /// The deadlines to enter one in, and what is left; none: there is no limit.
    ///
    /// # Errors
    /// The exception of a user's clock.
    fn limit<'a>(&'a self, py: Python<'_>) -> PyResult<Option<(&'a Py<RequestDeadlines>, Limit)>>;
}

/// No limit.
pub struct Unlimited;

impl Limited for Unlimited {
    fn limit<'a>(&'a self, _py: Python<'_>) -> PyResult<Option<(&'a Py<RequestDeadlines>, Limit)>> {
        Ok(None)
    }
}

/// Warns of an awaitable that is gone before its first step, as the interpreter does of coroutines.
///
/// # Errors
/// The warning, where it is an error.
pub fn warn_never_awaited(py: Python<'_>, message: &CStr) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), message, 1)
}

/// The task that awaits a step: it is cancelled when the deadline has passed, as `asyncio.timeout()` does.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct TimedTask {
    task: Py<PyAny>,
    /// How many requests to cancel it had before.
    cancelling: usize,
    /// The error of a deadline that has passed.
    expired: OnceLock<Py<PyAny>>,
    /// Whether the step is gone.
    retired: AtomicBool,
}

#[pymethods]
impl TimedTask {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)?;
        self.expired.get().map_or(Ok(()), |error| visit.call(error))
    }
}

impl TimedTask {
    fn current(py: Python<'_>) -> PyResult<Option<Self>> {
        static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let current_task = CURRENT_TASK.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
            Ok(py.import("asyncio")?.getattr("current_task")?.unbind())
        })?;
        let task = current_task.bind(py).call0()?;
        if task.is_none() {
            return Ok(None);
        }
        // A task of another library need not count.
        let cancelling = match task.call_method0(intern!(py, "cancelling")) {
            Ok(count) => count.extract()?,
            Err(_) => 0,
        };
        Ok(Some(Self {
            task: task.unbind(),
            cancelling,
            expired: OnceLock::new(),
            retired: AtomicBool::new(false),
        }))
    }

    fn time_out(object: &Bound<'_, PyAny>, error: Py<PyAny>) -> PyResult<()> {
        let this = object.cast::<Self>()?.get();
        if this.retired.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _first = this.expired.set(error);
        this.task.call_method0(object.py(), intern!(object.py(), "cancel")).map(drop)
    }

    /// The error of a step whose deadline may have passed meanwhile.
    fn finish<T>(&self, py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
        let Some(expired) = self.expired.get() else { return outcome };
        let left: usize = match self.task.call_method0(py, intern!(py, "uncancel")) {
            Ok(count) => count.extract(py)?,
            Err(_) => 0,
        };
        match outcome {
            Err(error) if left <= self.cancelling && error.is_instance_of::<CancelledError>(py) => {
                let timeout = PyErr::from_value(expired.bind(py).clone());
                timeout.set_cause(py, Some(error));
                Err(timeout)
            }
            outcome => outcome,
        }
    }
}

/// A user's coroutine, or another awaitable, that is being awaited.
#[derive(Debug)]
pub struct AwaitedStep {
    iterator: Py<PyAny>,
    timed: Option<(Deadline, Py<TimedTask>)>,
}

impl AwaitedStep {
    /// Awaits `awaitable`.
    ///
    /// # Errors
    /// TypeError if it is none.
    pub fn new(awaitable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = awaitable.py();
        // A coroutine has `send()` itself; another awaitable may be anything.
        let iterator = if is_coroutine(awaitable) {
            awaitable.clone()
        } else {
            awaitable.call_method0(intern!(py, "__await__"))?
        };
        Ok(Self { iterator: iterator.unbind(), timed: None })
    }

    /// Continues it, or raises `thrown` where it waits; within the time that `limited` has left.
    ///
    /// # Errors
    /// What it raises; TimeoutError when the time has passed.
    pub fn resume(
        &mut self,
        py: Python<'_>,
        thrown: Option<PyErr>,
        limited: &dyn Limited,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let iterator = self.iterator.bind(py);
        let sent = match thrown {
            None => send_none(iterator),
            Some(error) => throw(iterator, error),
        };
        match sent {
            Ok(Sent::Yielded(future)) => {
                if self.timed.is_none() {
                    self.begin_timeout(py, limited)?;
                }
                Ok(Poll::Pending(future.unbind()))
            }
            Ok(Sent::Returned(value)) => self.finish(py, Ok(value.unbind())).map(Poll::Ready),
            Err(error) => self.finish(py, Err(error)).map(Poll::Ready),
        }
    }

    fn begin_timeout(&mut self, py: Python<'_>, limited: &dyn Limited) -> PyResult<()> {
        let Some((deadlines, limit)) = limited.limit(py)? else { return Ok(()) };
        let Some(task) = TimedTask::current(py)? else { return Ok(()) };
        let task = Bound::new(py, task)?;
        let deadline =
            RequestDeadlines::enter(deadlines.bind(py), limit, task.as_any(), TimedTask::time_out)?;
        self.timed = Some((deadline, task.unbind()));
        Ok(())
    }

    fn finish(&mut self, py: Python<'_>, outcome: PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        match self.timed.take() {
            None => outcome,
            Some((deadline, task)) => {
                deadline.cancel(py)?;
                task.get().finish(py, outcome)
            }
        }
    }

    /// Gives it up: `close()` of a coroutine.
    ///
    /// # Errors
    /// What it raises.
    pub fn close(mut self, py: Python<'_>) -> PyResult<()> {
        if let Some((deadline, task)) = self.timed.take() {
            task.get().retired.store(true, Ordering::Relaxed);
            // On another thread than the loop's, where the collector may run, it stays until it has passed.
            let _other_thread = deadline.cancel(py);
        }
        let iterator = self.iterator.bind(py);
        if iterator.hasattr(intern!(py, "close"))? {
            iterator.call_method0(intern!(py, "close"))?;
        }
        Ok(())
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.iterator)?;
        match &self.timed {
            Some((deadline, task)) => {
                deadline.visit(visit)?;
                visit.call(task)
            }
            None => Ok(()),
        }
    }
}

impl Drop for AwaitedStep {
    /// A step that is gone does not cancel its task.
    fn drop(&mut self) {
        if let Some((_deadline, task)) = &self.timed {
            task.get().retired.store(true, Ordering::Relaxed);
        }
    }
}

/// Raises `error` where the iterator of an awaitable waits.
fn throw<'py>(iterator: &Bound<'py, PyAny>, error: PyErr) -> PyResult<Sent<'py>> {
    let py = iterator.py();
    if !iterator.hasattr(intern!(py, "throw"))? {
        return Err(error);
    }
    match iterator.call_method1(intern!(py, "throw"), (error.into_value(py),)) {
        Ok(future) => Ok(Sent::Yielded(future)),
        Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
            Ok(Sent::Returned(stop.value(py).getattr(intern!(py, "value"))?))
        }
        Err(error) => Err(error),
    }
}
