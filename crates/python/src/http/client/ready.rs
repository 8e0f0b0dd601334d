//! An awaitable that has its result already.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::http::coroutine::stop_iteration;

/// Awaiting it gives the value at once, without a suspension; once.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct Ready {
    value: Py<PyAny>,
}

impl Ready {
    /// An awaitable for `value`.
    pub const fn new(value: Py<PyAny>) -> Self {
        Self { value }
    }

    /// The awaitable for None.
    ///
    /// # Errors
    /// MemoryError.
    pub fn nothing(py: Python<'_>) -> PyResult<&Bound<'_, Self>> {
        static NOTHING: PyOnceLock<Py<Ready>> = PyOnceLock::new();
        Ok(NOTHING.get_or_try_init(py, || Py::new(py, Self::new(py.None())))?.bind(py))
    }
}

#[pymethods]
impl Ready {
    const fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        // An iterator that ends without an exception returns None.
        if self.value.is_none(py) { Ok(None) } else { Err(stop_iteration(self.value.clone_ref(py))) }
    }
}
