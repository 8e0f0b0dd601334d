//! TLS of a client that is native itself: no future, no coroutine.

use pyo3::prelude::*;

use super::protocol::TlsProtocol;
use super::state::{HandshakeDone, HandshakeWaiter, Notified, TlsOptions, TlsSide};
use super::transport::TlsTransport;
use crate::event_loop::EventLoop;
use crate::ffi::copy_context;
use crate::interpreter::CloneWith;

/// What a client's connection under TLS is made of.
#[derive(Debug)]
pub struct TlsClient<'a, 'py> {
    /// An `ssl.SSLContext`.
    pub context: Bound<'py, PyAny>,
    /// The host that the peer's certificate has to name.
    pub hostname: Option<&'a Bound<'py, PyAny>>,
    /// Resumes a session: see [`TlsSide`].
    pub resumption: Option<&'a Bound<'py, PyAny>>,
    /// Seconds; none: the loop's default.
    pub shutdown_timeout: Option<Bound<'py, PyAny>>,
    /// The object that waits for the handshake, and what is called with it.
    pub waiter: (Py<PyAny>, HandshakeDone),
}

/// TLS for `protocol`, as the protocol of a stream: the handshake begins when that is connected. With its transport.
///
/// # Errors
/// What `wrap_bio()` raises, as ValueError for a host name that is none.
pub fn start_client<'py>(
    event_loop: &Bound<'py, EventLoop>,
    protocol: &Bound<'py, PyAny>,
    client: TlsClient<'_, 'py>,
) -> PyResult<(Bound<'py, TlsProtocol>, Py<TlsTransport>)> {
    let py = event_loop.py();
    let TlsClient { context, hostname, resumption, shutdown_timeout, waiter } = client;
    let options = TlsOptions::new(context, None, shutdown_timeout)?;
    let side = TlsSide::Client { hostname, resumption };
    let waiter = HandshakeWaiter::Native(waiter.0, waiter.1);
    let context = copy_context(py)?;
    let tls = TlsProtocol::make(event_loop, context, protocol, options, &side, waiter, Notified::Nothing)?;
    let transport = tls
        .get()
        .with_attached(py, |state, at| state.transport.as_ref().map(|transport| transport.clone_with(at)))?
        .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("the connection is closed"))?;
    Ok((tls, transport))
}
