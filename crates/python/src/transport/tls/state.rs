//! The states of a TLS connection, and what a user may choose for it.

use std::collections::VecDeque;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use whorl_core::net::{Flow, WaterMarks};

use super::transport::TlsTransport;
use crate::transport::StreamTransport;
use crate::transport::chunk::Chunk;
use crate::transport::protocol::Protocol;

/// The high-water mark of what is written, in bytes (asyncio.constants).
pub const WRITE_HIGH: usize = 512 * 1024;
/// The same of what has arrived.
pub const READ_HIGH: usize = 256 * 1024;

/// The connection's phase; as with other transports, every thread may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPhase {
    /// There is no stream yet.
    New,
    /// Before the handshake is complete.
    Handshake,
    /// In use.
    Open,
    /// The peer has ended the stream while reading was paused: what has arrived is still to be delivered.
    Draining,
    /// Our close_notify is sent, or about to be.
    ShuttingDown,
    /// Nothing is read or written any more.
    Closed,
}

/// The last of the protocol's methods that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// Nothing.
    Nothing,
    /// `connection_made()`
    Made,
    /// `eof_received()`
    Eof,
    /// `connection_lost()`
    Lost,
}

/// Whether decrypted data is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsReading {
    /// As it comes.
    On,
    /// `pause_reading()` was called.
    Paused,
    /// `resume_reading()` was called, and what has arrived meanwhile is delivered in the next turn.
    Resuming,
}

/// Whether something was asked for from within OpenSSL, and so is to be done in the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// Nothing was.
    Nothing,
    /// Plaintext waits to be encrypted.
    Writes,
    /// The same, and the end comes after it.
    Shutdown,
}

impl Deferred {
    /// Puts `more` off as well; true if it is the first thing: the next turn is to be asked for.
    #[must_use]
    pub fn transition_to(&mut self, more: Self) -> bool {
        let first = *self == Self::Nothing;
        if *self != Self::Shutdown {
            *self = more;
        }
        first
    }

    /// The next turn has come: what is to be done in it.
    #[must_use]
    pub const fn transition_to_nothing(&mut self) -> Self {
        std::mem::replace(self, Self::Nothing)
    }
}

/// Called with the object that waits for a handshake, and its outcome.
pub type HandshakeDone = fn(&Bound<'_, PyAny>, Result<(), &PyErr>) -> PyResult<()>;

/// The waiter for the handshake.
#[derive(Debug)]
pub enum HandshakeWaiter {
    /// A future.
    Future(Py<PyAny>),
    /// An object, and what is called with it and the outcome.
    Native(Py<PyAny>, HandshakeDone),
    /// Nothing: a server has accepted the connection.
    Server,
    /// It has been called already.
    Notified,
}

/// What belongs to the loop's thread.
#[derive(Debug)]
pub struct TlsState {
    pub notified: Notified,
    pub reading: TlsReading,
    /// Whether the stream has ended.
    pub stream_ended: bool,
    pub protocol: Option<Protocol>,
    pub stream: Option<Py<StreamTransport>>,
    pub transport: Option<Py<TlsTransport>>,
    pub waiter: HandshakeWaiter,
    /// Plaintext that waits for the handshake, or for a message of the peer's.
    pub backlog: VecDeque<Chunk>,
    pub backlog_size: usize,
    /// What the stream asks of us, and so we of the application.
    pub flow: Flow,
    pub write_marks: WaterMarks,
    pub read_marks: WaterMarks,
    pub handshake_timer: Option<Py<PyAny>>,
    pub shutdown_timer: Option<Py<PyAny>>,
    pub handshake_began: Option<f64>,
    pub late_writes: u32,
    /// What was asked for while the engine was in use.
    pub deferred: Deferred,
    /// What is known once the handshake is complete.
    pub extra: Option<Py<PyDict>>,
}

/// What a server or a call of `start_tls()` asks for.
#[derive(Debug)]
pub struct TlsOptions {
    /// An `ssl.SSLContext`.
    pub sslcontext: Py<PyAny>,
    /// Seconds.
    pub handshake_timeout: Py<PyAny>,
    /// Seconds.
    pub shutdown_timeout: Py<PyAny>,
}

/// Which end of the connection this is.
#[derive(Debug)]
pub enum TlsSide<'a, 'py> {
    /// A client.
    Client {
        /// The host that the peer's certificate has to name.
        hostname: Option<&'a Bound<'py, PyAny>>,
        /// Resumes a session: its `begin()` is called with the new `ssl.SSLObject`, and the digest of the certificate
        /// that it shows.
        resumption: Option<&'a Bound<'py, PyAny>>,
    },
    /// A server.
    Server,
}
/// A timeout as the user gave it, or the default by its name in `asyncio.constants`.
fn timeout_or_default(
    py: Python<'_>,
    name: &str,
    given: Option<Bound<'_, PyAny>>,
    default: &str,
) -> PyResult<Py<PyAny>> {
    let Some(seconds) = given else {
        return Ok(py.import(intern!(py, "asyncio.constants"))?.getattr(default)?.unbind());
    };
    if seconds.le(0)? {
        return Err(PyValueError::new_err(format!("{name} should be a positive number, got {seconds}")));
    }
    Ok(seconds.unbind())
}

impl TlsOptions {
    /// Checks what the user gave.
    ///
    /// # Errors
    /// ValueError for a timeout that is not positive.
    pub fn new(
        sslcontext: Bound<'_, PyAny>,
        handshake_timeout: Option<Bound<'_, PyAny>>,
        shutdown_timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = sslcontext.py();
        Ok(Self {
            sslcontext: sslcontext.unbind(),
            handshake_timeout: timeout_or_default(
                py,
                "ssl_handshake_timeout",
                handshake_timeout,
                "SSL_HANDSHAKE_TIMEOUT",
            )?,
            shutdown_timeout: timeout_or_default(
                py,
                "ssl_shutdown_timeout",
                shutdown_timeout,
                "SSL_SHUTDOWN_TIMEOUT",
            )?,
        })
    }

    /// The same again.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            sslcontext: self.sslcontext.clone_ref(py),
            handshake_timeout: self.handshake_timeout.clone_ref(py),
            shutdown_timeout: self.shutdown_timeout.clone_ref(py),
        }
    }
}
