//! Iteration over what a method of a stream returns.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::reading::StreamRead;
use crate::interpreter::{CloneWith, Collector, Guarded};

/// The native half of the iterators of `whorl.http.streams`: it calls a function for each item, and hands its awaitable to
/// the loop over it as it is, if that is a read of a reader's.
#[pyclass(frozen, subclass, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct StreamIteratorBase {
    read_func: Guarded<Option<Py<PyAny>>>,
}

#[pymethods]
impl StreamIteratorBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { read_func: Guarded::new(None) }
    }

    /// What is called for each item: it returns an awaitable.
    #[getter]
    fn read_func(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.read_func.peek(py, |read_func, at| read_func.clone_with(at))
    }

    #[setter(read_func)]
    fn set_read_func(&self, py: Python<'_>, read_func: Py<PyAny>) {
        let _previous = self.read_func.replace(py, Some(read_func));
    }

    const fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let read_func = slf.get().read_func(py).unwrap_or_else(|| py.None());
        let awaitable = crate::ffi::call(py, &read_func, [])?;
        if let Ok(read) = awaitable.cast_exact::<StreamRead>() {
            read.get().set_iterates();
            return Ok(awaitable);
        }
        slf.call_method1(intern!(py, "_checked"), (awaitable,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.read_func.visit(Collector::of(&visit), |read_func, visit| visit.call(read_func))
    }

    fn __clear__(&self, py: Python<'_>) {
        let _read_func = self.read_func.replace(py, None);
    }
}
