//! A URL with its derived values, so that a later request for it need not parse it again.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::pool::PoolKey;
use whorl_core::http1::{Version, encode};

use super::connection_key::ConnectionKey;
use crate::errors::OrRaise;

/// A URL that requests were made for: its pool key, and the encoded target and host.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct CachedTarget {
    /// The key of its connections.
    pub key: PoolKey<ConnectionKey>,
    /// The `yarl.URL`.
    pub url: Py<PyAny>,
    target: Vec<u8>,
    host: Vec<u8>,
}

impl CachedTarget {
    /// The same target, with `params` in the query.
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
impl CachedTarget {
    #[new]
    fn new(key: &Bound<'_, PyAny>, url: Py<PyAny>, target: &str, host: &str) -> PyResult<Self> {
        let key = PoolKey::new(ConnectionKey::new(key)?);
        Ok(Self { key, url, target: target.as_bytes().to_vec(), host: host.as_bytes().to_vec() })
    }

    /// The `ConnectionKey`.
    #[getter]
    fn connection_key(&self, py: Python<'_>) -> Py<PyAny> {
        self.key.object().clone_ref(py)
    }

    /// The requested URL.
    #[getter]
    fn url(&self, py: Python<'_>) -> Py<PyAny> {
        self.url.clone_ref(py)
    }

    /// Not the key's object, which other owners of the key share: each would count the one reference.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.url)
    }
}

/// The record of a sent request, from which the response's `request_info` is made.
#[derive(Debug)]
pub struct RequestRecord {
    /// The method.
    pub method: Py<PyString>,
    /// The URL.
    pub cached: Py<CachedTarget>,
    /// The head, as it was sent.
    pub head: Py<PyBytes>,
}
