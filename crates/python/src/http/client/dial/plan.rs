//! What a connection is made of.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustix::net::SocketAddrAny;

/// TLS of a connection that is made.
#[derive(Debug)]
pub struct TlsPlan {
    /// An `ssl.SSLContext`.
    pub context: Py<PyAny>,
    /// The name that the certificate must have.
    pub hostname: Option<Py<PyAny>>,
    /// Resumes a session, and keeps the new one.
    pub resumption: Option<Py<PyAny>>,
    /// Seconds.
    pub shutdown_timeout: Option<Py<PyAny>>,
    /// A fingerprint: its `check()` is called with the transport after the handshake.
    pub fingerprint: Option<Py<PyAny>>,
}

/// What a connection is made of.
#[derive(Debug)]
pub struct DialPlan {
    /// The key of the connection, for errors.
    pub key: Py<PyAny>,
    /// Makes the protocol.
    pub factory: Py<PyAny>,
    /// Seconds before the next address is tried along with those still pending.
    pub delay: Option<f64>,
    /// Addresses to connect from.
    pub local: Vec<SocketAddrAny>,
    /// TLS, if the connection is to be under it.
    pub tls: Option<TlsPlan>,
}

impl TlsPlan {
    /// Checks the certificate that the peer of a transport has shown, where it is known by its fingerprint.
    ///
    /// # Errors
    /// ServerFingerprintMismatch; what a foreign fingerprint raises.
    pub fn check(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.fingerprint {
            Some(fingerprint) => {
                let check = intern!(transport.py(), "check");
                fingerprint.bind(transport.py()).call_method1(check, (transport,)).map(drop)
            }
            None => Ok(()),
        }
    }
}

impl DialPlan {
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.key)?;
        visit.call(&self.factory)?;
        if let Some(tls) = &self.tls {
            visit.call(&tls.context)?;
            visit.call(&tls.hostname)?;
            visit.call(&tls.resumption)?;
            visit.call(&tls.shutdown_timeout)?;
            visit.call(&tls.fingerprint)?;
        }
        Ok(())
    }
}
