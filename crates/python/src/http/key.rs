//! What requests must have in common to share a connection.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pyo3::prelude::*;

/// A `ConnectionKey`, compared without Python: a connection must never serve a request with other settings.
#[derive(Clone, Debug)]
pub struct Key(Arc<Keyed>);

#[derive(Debug)]
struct Keyed {
    hash: u64,
    parts: Parts,
    object: Py<PyAny>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    host: String,
    port: Option<u16>,
    is_ssl: bool,
    /// Which setting it is: True, False, a context or a fingerprint, told apart by identity. The key's object keeps it
    /// alive.
    ssl: usize,
    proxy: Option<String>,
    proxy_auth: Option<String>,
    proxy_headers_hash: Option<isize>,
    server_hostname: Option<String>,
}

impl Key {
    /// Of a `ConnectionKey`.
    ///
    /// # Errors
    /// TypeError for what is none.
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
        let text = |value: &Bound<'_, PyAny>| -> PyResult<Option<String>> {
            if value.is_none() { Ok(None) } else { Ok(Some(value.repr()?.to_string())) }
        };
        let parts = Parts {
            host,
            port,
            is_ssl,
            ssl: ssl.as_ptr() as usize,
            proxy: if proxy.is_none() { None } else { Some(proxy.str()?.to_string()) },
            proxy_auth: text(&proxy_auth)?,
            proxy_headers_hash,
            server_hostname,
        };
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Ok(Self(Arc::new(Keyed { hash: hasher.finish(), parts, object: object.clone().unbind() })))
    }

    /// The `ConnectionKey`.
    pub fn object(&self) -> &Py<PyAny> {
        &self.0.object
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.parts == other.0.parts)
    }
}

impl Eq for Key {}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}
