//! What the native half of the client uses of the Python half: its exceptions, and the steps of a call.
//!
//! Dependencies point down, so this crate imports nothing of `whorl`: `whorl.http` hands its modules over when they are
//! imported.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::finish::prepare;

/// The modules of `whorl.http` that are used here.
struct Given {
    /// `whorl.http.exceptions`
    exceptions: Py<PyAny>,
    /// `whorl.http.http_exceptions`
    http_exceptions: Py<PyAny>,
}

static GIVEN: PyOnceLock<Given> = PyOnceLock::new();

/// `whorl.http.steps`: the steps of a call that are Python.
static STEPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Takes the modules that have the client's exceptions; the first call counts.
#[pyfunction]
fn give_exceptions(py: Python<'_>, exceptions: Py<PyAny>, http_exceptions: Py<PyAny>) {
    let _given = GIVEN.get_or_init(py, || Given { exceptions, http_exceptions });
}

/// Takes the module that has the steps of a call; the first call counts.
#[pyfunction]
fn give_steps(py: Python<'_>, steps: Py<PyAny>) -> PyResult<()> {
    let _steps = STEPS.get_or_init(py, || steps);
    prepare(py).map(drop)
}

fn not_imported() -> PyErr {
    PyRuntimeError::new_err("whorl.http is not imported: import it first")
}

/// A class of `whorl.http.exceptions`.
///
/// # Errors
/// RuntimeError before `whorl.http` is imported.
pub fn client_exception<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    GIVEN.get(py).ok_or_else(not_imported)?.exceptions.bind(py).getattr(name)
}

/// A class of `whorl.http.http_exceptions`.
///
/// # Errors
/// As [`client_exception`].
pub fn http_exception<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    GIVEN.get(py).ok_or_else(not_imported)?.http_exceptions.bind(py).getattr(name)
}

/// A function of `whorl.http.steps`.
///
/// # Errors
/// As [`client_exception`].
pub fn step<'py>(py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    STEPS.get(py).ok_or_else(not_imported)?.bind(py).getattr(name)
}

/// Adds the functions to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(give_exceptions, module)?)?;
    module.add_function(wrap_pyfunction!(give_steps, module)?)
}
