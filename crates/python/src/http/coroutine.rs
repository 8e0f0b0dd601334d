//! What the objects that a task drives as a coroutine share.

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The exception by which an iterator returns the result of `await`.
pub fn stop_iteration(value: Py<PyAny>) -> PyErr {
    // One argument in a tuple of its own: a value that is a tuple would be taken for several.
    PyStopIteration::new_err((value,))
}

/// The exception that a coroutine's `throw()` was called with.
pub fn thrown(typ: &Bound<'_, PyAny>, val: Option<&Bound<'_, PyAny>>) -> PyErr {
    match val {
        Some(value) if value.is_instance_of::<PyBaseException>() => PyErr::from_value(value.clone()),
        // As `raise typ(value)`, or `raise typ(*value)` with a tuple.
        Some(value) if !value.is_none() => {
            let made = match value.cast::<PyTuple>() {
                Ok(args) => typ.call1(args),
                Err(_) => typ.call1((value,)),
            };
            made.map_or_else(|error| error, PyErr::from_value)
        }
        _ => PyErr::from_value(typ.clone()),
    }
}

/// The methods by which a task drives a coroutine, of a class with `resume()`: it continues, or raises where it waits.
macro_rules! coroutine_methods {
    ($class:ident) => {
        #[pymethods]
        impl $class {
            const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
                slf
            }

            fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
                self.resume(py, None)
            }

            /// Continue: a coroutine's method.
            fn send(&self, py: Python<'_>, arg: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                let _ = arg;
                self.resume(py, None)
            }

            /// Raise an exception where it waits: a coroutine's method.
            #[pyo3(signature = (typ, val=None, tb=None))]
            fn throw(
                &self,
                py: Python<'_>,
                typ: &Bound<'_, PyAny>,
                val: Option<&Bound<'_, PyAny>>,
                tb: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<Py<PyAny>> {
                let _ = tb;
                self.resume(py, Some($crate::http::coroutine::thrown(typ, val)))
            }
        }
    };
}

pub(crate) use coroutine_methods;
