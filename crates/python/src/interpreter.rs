//! The one doorway to the interpreter: what is imported once, and where it is let go of.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{ffi, intern};

/// `asyncio.Future`, the C type.
pub fn future_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "asyncio", "Future")
}

/// `asyncio.Task`, the C type.
pub fn task_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "asyncio", "Task")
}

/// The tuple `(name,)` for vectorcalls with one keyword.
fn one_keyword<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyTuple>>,
    name: &Bound<'py, pyo3::types::PyString>,
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
