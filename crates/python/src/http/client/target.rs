//! Where a request goes: a URL with its derived values, so that a later request for it need not parse it again.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::pool::PoolKey;

use crate::http::given;
use crate::http::pool::ConnectionKey;

/// The target of requests: the URL, the key of their connections, and what the head says of the two.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct RequestTarget {
    /// The key of its connections, for requests without a proxy.
    pub key: PoolKey<ConnectionKey>,
    /// The `yarl.URL`, without credentials.
    pub url: Py<PyAny>,
    /// The same without a fragment.
    pub bare_url: Py<PyAny>,
    /// The `BasicAuth` of the URL's user and password.
    pub auth: Option<Py<PyAny>>,
    /// Path and query (RFC 9112, section 3.2.1).
    pub path: Vec<u8>,
    /// The value of the Host field.
    pub host: Vec<u8>,
}

impl RequestTarget {
    /// The same target, with `params` in the query.
    ///
    /// # Errors
    /// TypeError and ValueError for params that no query has.
    pub fn extended(slf: &Bound<'_, Self>, params: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let py = params.py();
        let this = slf.get();
        let with_params = |url: &Py<PyAny>| with_params(url.bind(py), intern!(py, "extend_query"), params);
        let url = with_params(&this.url)?;
        let bare_url = if this.bare_url.is(&this.url) { url.clone() } else { with_params(&this.bare_url)? };
        let path = url.getattr(intern!(py, "raw_path_qs"))?.cast_into::<PyString>()?;
        let path = path.to_str()?.as_bytes().to_vec();
        let auth = this.auth.as_ref().map(|auth| auth.clone_ref(py));
        let (url, bare_url) = (url.unbind(), bare_url.unbind());
        Py::new(py, Self { key: this.key.clone(), url, bare_url, auth, path, host: this.host.clone() })
    }
}

/// The URL with `params` in its query, by a method of `yarl.URL`.
///
/// # Errors
/// TypeError and ValueError for params that no query has.
pub fn with_params<'py>(
    url: &Bound<'py, PyAny>,
    method: &Bound<'py, PyString>,
    params: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = url.py();
    url.call_method1(method, (params,)).or_else(|error| {
        let named = given::step(py, intern!(py, "params_error"))?.call1((params, error.value(py)))?;
        let named = PyErr::from_value(named);
        named.set_cause(py, Some(error));
        Err(named)
    })
}

#[pymethods]
impl RequestTarget {
    #[new]
    fn new(
        key: &Bound<'_, PyAny>,
        url: Py<PyAny>,
        bare_url: Py<PyAny>,
        auth: Option<Py<PyAny>>,
        path: &str,
        host: &str,
    ) -> PyResult<Self> {
        let key = PoolKey::new(ConnectionKey::new(key)?);
        Ok(Self { key, url, bare_url, auth, path: path.as_bytes().to_vec(), host: host.as_bytes().to_vec() })
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
        visit.call(&self.url)?;
        visit.call(&self.bare_url)?;
        visit.call(&self.auth)
    }
}

/// The record of a sent request, from which the response's `request_info` is made.
#[derive(Debug)]
pub struct RequestRecord {
    /// The method.
    pub method: Py<PyString>,
    /// The URL as it was requested.
    pub url: Py<PyAny>,
    /// The head, as it was sent.
    pub head: Py<PyBytes>,
}

impl RequestRecord {
    /// Whether it wants another protocol on the connection (RFC 9110, sections 7.8 and 9.3.6).
    ///
    /// # Errors
    /// UnicodeError for a method with surrogates.
    pub fn wants_tunnel(&self, py: Python<'_>) -> PyResult<bool> {
        const UPGRADE: &[u8] = b"\r\nupgrade:";
        let mut places = self.head.as_bytes(py).windows(UPGRADE.len());
        Ok(places.any(|place| place.eq_ignore_ascii_case(UPGRADE)) || self.method.to_str(py)? == "CONNECT")
    }
}
