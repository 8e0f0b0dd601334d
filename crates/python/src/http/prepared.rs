//! What is known of a URL, so that a request for it need not look at it again.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::pool::PoolKey;
use whorl_core::http1::{Version, encode};

use super::origin::Origin;
use crate::errors::OrRaise;

/// A URL that requests were made for: where it leads, and what is sent there.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct Prepared {
    /// Where it leads.
    pub key: PoolKey<Origin>,
    /// The `yarl.URL`.
    pub url: Py<PyAny>,
    target: Vec<u8>,
    host: Vec<u8>,
}

impl Prepared {
    /// The same place, with `params` in the query.
    ///
    /// # Errors
    /// What `URL.extend_query()` raises.
    pub fn extended<'py>(&self, params: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = params.py();
        let url = self.url.bind(py).call_method1(intern!(py, "extend_query"), (params,))?;
        let target = url.getattr(intern!(py, "raw_path_qs"))?.cast_into::<PyString>()?;
        let target = target.to_str()?.as_bytes().to_vec();
        Bound::new(py, Self { key: self.key.clone(), url: url.unbind(), target, host: self.host.clone() })
    }

    /// The head of a request for it: the request line, Host, and `fields`, which are encoded already.
    ///
    /// # Errors
    /// ValueError for a method that is no token.
    pub fn head(&self, method: &str, fields: &[u8]) -> PyResult<Vec<u8>> {
        let mut head =
            Vec::with_capacity(method.len() + self.target.len() + self.host.len() + fields.len() + 128);
        encode::request_line(&mut head, method.as_bytes(), &self.target, Version::Http11).or_raise()?;
        encode::field(&mut head, b"Host", &self.host).or_raise()?;
        head.extend_from_slice(fields);
        Ok(head)
    }
}

#[pymethods]
impl Prepared {
    #[new]
    fn new(key: &Bound<'_, PyAny>, url: Py<PyAny>, target: &str, host: &str) -> PyResult<Self> {
        let key = PoolKey::new(Origin::new(key)?);
        Ok(Self { key, url, target: target.as_bytes().to_vec(), host: host.as_bytes().to_vec() })
    }

    /// The `ConnectionKey`.
    #[getter]
    fn connection_key(&self, py: Python<'_>) -> Py<PyAny> {
        self.key.object().clone_ref(py)
    }

    /// The URL as it was asked for.
    #[getter]
    fn url(&self, py: Python<'_>) -> Py<PyAny> {
        self.url.clone_ref(py)
    }

    /// Not the key's object, which other owners of the key share: each would count the one reference.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.url)
    }
}

/// A request that was sent: what a response tells of it, if it is asked.
#[derive(Debug)]
pub struct Sent {
    /// The method.
    pub method: Py<PyString>,
    /// The URL.
    pub prepared: Py<Prepared>,
    /// The head, as it went out.
    pub head: Py<PyBytes>,
}
