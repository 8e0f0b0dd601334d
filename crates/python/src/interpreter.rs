//! The one doorway to the interpreter: what is imported once, and where it is let go of.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyClass, PyClassInitializer, ffi, intern};
use whorl_core::sched::Owned;

use crate::errors::OrRaise;

/// `asyncio.futures.Future`, as it is now: the C type, or what a tool has put in its place (nest_asyncio does).
pub fn future_type(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static NAMES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    current(names_of(py, &NAMES, "asyncio.futures")?, intern!(py, "Future"))
}

/// `asyncio.tasks.Task`, as it is now.
pub fn task_type(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static NAMES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    current(names_of(py, &NAMES, "asyncio.tasks")?, intern!(py, "Task"))
}

/// The global names of a module, which it keeps for life.
fn names_of<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyDict>>,
    module: &str,
) -> PyResult<&'py Bound<'py, PyDict>> {
    Ok(cell.get_or_try_init(py, || py.import(module).map(|module| module.dict().unbind()))?.bind(py))
}

fn current<'py>(names: &Bound<'py, PyDict>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    names.get_item(name)?.ok_or_else(|| PyAttributeError::new_err(format!("asyncio has lost its {name}")))
}

/// The tuple `(name,)` for vectorcalls with one keyword.
fn one_keyword<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyTuple>>,
    name: &Bound<'py, PyString>,
) -> PyResult<&'py Bound<'py, PyTuple>> {
    Ok(cell.get_or_try_init(py, || PyTuple::new(py, [name]).map(Bound::unbind))?.bind(py))
}

/// `asyncio.Future(loop=event_loop)`.
pub fn new_future<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let py = event_loop.py();
    let names = one_keyword(py, &NAMES, intern!(py, "loop"))?;
    let args = [event_loop.as_ptr()];
    // SAFETY: attached; no positional argument and one keyword value for the one name, all borrowed for the call.
    unsafe {
        let future = ffi::PyObject_Vectorcall(future_type(py)?.as_ptr(), args.as_ptr(), 0, names.as_ptr());
        Bound::from_owned_ptr_or_err(py, future)
    }
}

/// Reads `owned` on whatever thread, for questions that code of others asks on any of them (a `StreamWriter` that is
/// collected on another thread asks its transport `is_closing()`). On a free-threaded interpreter only the owner's thread is
/// answered.
///
/// # Errors
/// RuntimeError where it is refused.
pub fn peek<T, R>(_py: Python<'_>, owned: &Owned<T>, act: impl FnOnce(&T) -> R) -> PyResult<R> {
    #[cfg(Py_GIL_DISABLED)]
    return owned.with(|value| act(value)).or_raise();
    // SAFETY: the GIL is held here, as `_py` shows, and wherever state of ours is open: no section lets go of it.
    #[cfg(not(Py_GIL_DISABLED))]
    unsafe {
        owned.with_exclusion(act).or_raise()
    }
}

/// `Bound::new` for a class with an instance `__dict__`.
///
/// Before Python 3.12 the dict is made while the new object is known to the garbage collector already and its fields are not
/// written yet; a collection that this starts would look into them. There the collector rests meanwhile.
pub fn new_with_dict<T>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    #[cfg(Py_3_12)]
    return Bound::new(py, value);
    #[cfg(not(Py_3_12))]
    {
        // SAFETY: attached; a switch, which is put back below.
        let was_enabled = unsafe { ffi::PyGC_Disable() } == 1;
        let object = Bound::new(py, value);
        if was_enabled {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
        object
    }
}
