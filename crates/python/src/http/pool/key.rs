//! The key that requests must share to use the same connection.

use std::hash::{Hash, Hasher};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Python's `ConnectionKey`, compared without Python: a connection must never serve a request with other settings.
#[derive(Debug)]
pub struct ConnectionKey {
    parts: Parts,
    object: Py<PyAny>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    host: String,
    port: Option<u16>,
    is_ssl: bool,
    /// Which setting it is: True, False, a context or a fingerprint, compared by identity. The key's object keeps it
    /// alive.
    ssl: usize,
    proxy: Option<String>,
    proxy_auth: Option<String>,
    proxy_headers_hash: Option<isize>,
    server_hostname: Option<String>,
}

impl ConnectionKey {
    /// Of a `ConnectionKey`.
    ///
    /// # Errors
    /// TypeError for another type.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        type Tuple<'py> = (
            String,
            Option<u16>,
            bool,
            Bound<'py, PyAny>,
            Bound<'py, PyAny>,
            Bound<'py, PyAny>,
            Option<isize>,
            Option<String>,
        );
        let (host, port, is_ssl, ssl, proxy, proxy_auth, proxy_headers_hash, server_hostname): Tuple<'_> =
            object.extract()?;
        let parts = Parts {
            host,
            port,
            is_ssl,
            ssl: ssl.as_ptr() as usize,
            proxy: if proxy.is_none() { None } else { Some(proxy.str()?.to_string()) },
            proxy_auth: credentials(&proxy_auth)?,
            proxy_headers_hash,
            server_hostname,
        };
        Ok(Self { parts, object: object.clone().unbind() })
    }

    /// The `ConnectionKey`.
    pub const fn object(&self) -> &Py<PyAny> {
        &self.object
    }
}

/// All of a `BasicAuth`, as text: its own representation has no password.
fn credentials(auth: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if auth.is_none() {
        return Ok(None);
    }
    let parts = auth.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    Ok(Some(PyTuple::new(auth.py(), parts)?.repr()?.to_string()))
}

impl PartialEq for ConnectionKey {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for ConnectionKey {}

impl Hash for ConnectionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}
