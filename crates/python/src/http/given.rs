//! The Python half of the client, as `whorl.http` gives it when it is imported: this crate imports nothing of `whorl`.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The objects of `whorl.http` that are used here.
struct Given {
    /// `whorl.http.exceptions`
    exceptions: Py<PyAny>,
    /// `whorl.http.http_exceptions`
    http_exceptions: Py<PyAny>,
    /// `whorl.http.connect.connection._warn_unclosed`
    warn_unclosed: Py<PyAny>,
}

static GIVEN: PyOnceLock<Given> = PyOnceLock::new();

/// Takes the parts of `whorl.http` that this module uses; the first call counts.
#[pyfunction]
fn give_http(py: Python<'_>, exceptions: Py<PyAny>, http_exceptions: Py<PyAny>, warn_unclosed: Py<PyAny>) {
    let _given = GIVEN.get_or_init(py, || Given { exceptions, http_exceptions, warn_unclosed });
}

fn given(py: Python<'_>) -> PyResult<&Given> {
    GIVEN.get(py).ok_or_else(|| PyRuntimeError::new_err("whorl.http is not imported: import it first"))
}

/// A class of `whorl.http.exceptions`.
///
/// # Errors
/// RuntimeError before `whorl.http` is imported.
pub fn client_exception<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    given(py)?.exceptions.bind(py).getattr(name)
}

/// A class of `whorl.http.http_exceptions`.
///
/// # Errors
/// As [`client_exception`].
pub fn http_exception<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    given(py)?.http_exceptions.bind(py).getattr(name)
}

/// Warns of a response that the program has not released.
///
/// # Errors
/// The warning, where a filter makes it an exception.
pub fn warn_unclosed(
    event_loop: &Bound<'_, PyAny>,
    method: &Bound<'_, PyAny>,
    url: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    given(py)?.warn_unclosed.call1(py, (event_loop, method, url)).map(drop)
}

/// Adds the function to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(give_http, module)?)
}
