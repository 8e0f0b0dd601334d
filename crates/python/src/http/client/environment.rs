//! Variables of the environment, compared with what they were.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use rustix::fs::{Access, access};

/// The last snapshot of an environment that says nothing of any request.
static SILENT: Mutex<Option<Py<EnvironmentSnapshot>>> = Mutex::new(None);

/// A variable of the environment.
struct Variable {
    name: Py<PyString>,
    /// The name as a key of the dictionary behind `os.environ`.
    key: Py<PyBytes>,
    value: Option<Py<PyAny>>,
}

/// Values of variables, and that a file was absent: for what is made of them and kept while they stay the same.
#[pyclass(frozen, module = "whorl._core")]
pub struct EnvironmentSnapshot {
    variables: Vec<Variable>,
    absent_file: Option<OsString>,
}

#[pymethods]
impl EnvironmentSnapshot {
    /// Takes the values of the variables, and the path of a file that is absent.
    #[new]
    #[pyo3(signature = (names, absent_file=None))]
    fn new(py: Python<'_>, names: Vec<Py<PyString>>, absent_file: Option<OsString>) -> PyResult<Self> {
        let environ = Environ::now(py)?;
        let mut variables = Vec::with_capacity(names.len());
        for name in names {
            let key = PyBytes::new(py, name.bind(py).to_str()?.as_bytes()).unbind();
            let mut variable = Variable { name, key, value: None };
            variable.value = environ.get(&variable)?.map(Bound::unbind);
            variables.push(variable);
        }
        Ok(Self { variables, absent_file })
    }

    /// Whether the variables have these values, and the file is still absent.
    fn is_current(&self, py: Python<'_>) -> PyResult<bool> {
        let environ = Environ::now(py)?;
        for variable in &self.variables {
            let is_same = match (environ.get(variable)?, &variable.value) {
                (None, None) => true,
                (Some(now), Some(then)) => now.is(then) || now.eq(then)?,
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !is_same {
                return Ok(false);
            }
        }
        Ok(self.absent_file.as_ref().is_none_or(|path| access(path.as_os_str(), Access::EXISTS).is_err()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for Variable { name, key, value } in &self.variables {
            visit.call(name)?;
            visit.call(key)?;
            visit.call(value)?;
        }
        Ok(())
    }
}

/// The environment as it is.
enum Environ<'py> {
    /// The dictionary behind `os.environ`. Octets are compared: `os.environ` decodes each value, and raises and catches
    /// an exception for each that is not set.
    Encoded(Bound<'py, PyDict>),
    /// A mapping that a program has put in its place.
    Replaced(Bound<'py, PyAny>),
}

impl<'py> Environ<'py> {
    fn now(py: Python<'py>) -> PyResult<Self> {
        static OS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let os = OS.get_or_try_init(py, || py.import("os").map(|module| module.into_any().unbind()))?;
        let environ = os.bind(py).getattr(intern!(py, "environ"))?;
        Ok(match environ.getattr_opt(intern!(py, "_data"))?.map(Bound::cast_into_exact) {
            Some(Ok(data)) => Self::Encoded(data),
            Some(Err(_)) | None => Self::Replaced(environ),
        })
    }

    fn get(&self, variable: &Variable) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Encoded(data) => data.get_item(&variable.key),
            Self::Replaced(environ) => {
                let value = environ.call_method1(intern!(environ.py(), "get"), (&variable.name,))?;
                Ok((!value.is_none()).then_some(value))
            }
        }
    }
}

/// Whether the environment is one that is known to say nothing of any request.
pub fn is_silent(py: Python<'_>) -> PyResult<bool> {
    let known =
        SILENT.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|known| known.clone_ref(py));
    known.map_or(Ok(false), |known| known.get().is_current(py))
}

/// Keeps a snapshot of an environment that says nothing of any request.
pub fn set_silent(snapshot: Py<EnvironmentSnapshot>) {
    let _replaced = SILENT.lock().unwrap_or_else(PoisonError::into_inner).replace(snapshot);
}
