//! What the collector finds ends on the thread of its loop: the collector runs on any.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::event_loop::EventLoop;

/// `asyncio._get_running_loop`: at the interpreter's exit, when much is finished, nothing can be imported any more.
static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Imports what is used here.
///
/// # Errors
/// ImportError.
pub fn prepare(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let function = GET_RUNNING_LOOP.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("asyncio")?.getattr("_get_running_loop")?.unbind())
    })?;
    Ok(function.bind(py))
}

/// Whether the objects of `event_loop` may be used on this thread: it is the loop's, or the loop does not run.
///
/// On a loop that is not ours the guard of an object's owner says nothing, as that loop takes none.
fn is_usable_here(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    if let Ok(native) = event_loop.cast::<EventLoop>() {
        let owner = native.get().owner();
        return Ok(owner.is_here() || !owner.is_held());
    }
    Ok(is_running_loop(event_loop)? || !event_loop.call_method0(intern!(py, "is_running"))?.is_truthy()?)
}

/// Whether `event_loop` runs on this thread.
///
/// # Errors
/// ImportError.
pub fn runs_here(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    match event_loop.cast::<EventLoop>() {
        Ok(native) => Ok(native.get().owner().is_here()),
        Err(_) => is_running_loop(event_loop),
    }
}

fn is_running_loop(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(prepare(event_loop.py())?.call0()?.is(event_loop))
}

/// Call `finish(*args)` here, or by `event_loop.call_soon_threadsafe()` if the loop runs on another thread.
///
/// A run may begin there after the check, and refuse what `finish` does here: `finish` is called again on the loop's thread
/// then, and must have left nothing half done.
///
/// Raises what `finish` raises here, or `call_soon_threadsafe()`.
#[pyfunction]
#[pyo3(signature = (event_loop, finish, *args))]
pub fn finish_on<'py>(
    event_loop: &Bound<'py, PyAny>,
    finish: Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<()> {
    let py = event_loop.py();
    if is_usable_here(event_loop)? {
        match finish.call1(args) {
            Err(error) if error.is_instance_of::<PyRuntimeError>(py) && !is_usable_here(event_loop)? => {}
            outcome => return outcome.map(drop),
        }
    }
    let call: Vec<_> = std::iter::once(finish).chain(args).collect();
    event_loop.call_method1(intern!(py, "call_soon_threadsafe"), PyTuple::new(py, call)?).map(drop)
}
