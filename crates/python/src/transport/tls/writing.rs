//! From plaintext that the application writes to ciphertext in the stream's queue.

use pyo3::intern;
use pyo3::prelude::*;

use super::engine::{Encrypted, Engine};
use super::protocol::TlsProtocol;
use super::state::{Deferred, TlsPhase, WRITE_HIGH};
use crate::transport::StreamTransport;
use crate::transport::chunk::Chunk;

/// Writes to a lost connection before a warning is logged each time; asyncio's.
const LATE_WRITES: u32 = 5;

/// What becomes of written data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It is encrypted now.
    Encrypt,
    /// It waits for the handshake, or for a message of the peer's.
    Keep,
    /// It waits for the next turn: OpenSSL is at work.
    Defer,
    /// The connection is closing: it is dropped, as in asyncio.
    Drop,
    /// Dropped, and this was not the first time.
    DropAndWarn,
}

impl TlsProtocol {
    /// Writes what the application gave: what is encrypted goes to the stream together.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol's flow control.
    #[inline]
    pub(super) fn write(&self, slf: &Bound<'_, Self>, chunks: impl Iterator<Item = Chunk>) -> PyResult<()> {
        let mut size = 0;
        for chunk in chunks.filter(|chunk| !chunk.as_ref().is_empty()) {
            size += chunk.as_ref().len();
            self.encrypt_or_keep(slf, chunk)?;
            if size > WRITE_HIGH {
                // More would not go out in one call, and takes memory twice.
                self.send_outgoing(slf)?;
                size = 0;
            }
        }
        self.send_outgoing(slf)
    }

    #[inline]
    fn encrypt_or_keep(&self, slf: &Bound<'_, Self>, chunk: Chunk) -> PyResult<()> {
        let in_engine = self.is_in_engine();
        let written = self.with(|state| match self.phase.load() {
            TlsPhase::Open if in_engine => Written::Defer,
            TlsPhase::Open if state.backlog_size == 0 => Written::Encrypt,
            TlsPhase::Open | TlsPhase::New | TlsPhase::Handshake => Written::Keep,
            TlsPhase::Draining | TlsPhase::ShuttingDown | TlsPhase::Closed => {
                state.late_writes = state.late_writes.saturating_add(1);
                if state.late_writes > LATE_WRITES { Written::DropAndWarn } else { Written::Drop }
            }
        })?;
        match written {
            Written::Encrypt => self.encrypt(slf, chunk),
            Written::Keep => self.keep(chunk),
            Written::Defer => {
                self.keep(chunk)?;
                self.defer(slf, Deferred::Writes)
            }
            Written::Drop => Ok(()),
            Written::DropAndWarn => {
                let py = slf.py();
                let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
                logger.call_method1(intern!(py, "warning"), ("SSL connection is closed",)).map(drop)
            }
        }
    }

    #[inline]
    fn encrypt(&self, slf: &Bound<'_, Self>, chunk: Chunk) -> PyResult<()> {
        let py = slf.py();
        let outcome = self.engine()?.encrypt(py, chunk.as_ref());
        match outcome {
            Ok(Encrypted::All) => Ok(()),
            Ok(Encrypted::Part(done)) => {
                let rest = chunk.as_ref().get(done..).unwrap_or_default().to_vec();
                self.keep_first(rest)
            }
            Err(error) => self.fatal(slf, error, "Fatal error on SSL protocol"),
        }
    }

    /// Puts plaintext before what waits: what OpenSSL called meanwhile may have written.
    fn keep_first(&self, rest: Vec<u8>) -> PyResult<()> {
        self.with(|state| {
            state.backlog_size += rest.len();
            state.backlog.push_front(Chunk::owned(rest));
        })
    }

    /// Puts plaintext behind what waits.
    pub(super) fn keep(&self, chunk: Chunk) -> PyResult<()> {
        self.with(|state| {
            state.backlog_size += chunk.as_ref().len();
            state.backlog.push_back(chunk);
        })
    }

    /// Encrypts what waits, as far as that goes. What OpenSSL's callbacks write meanwhile is not waited for: it has a turn of
    /// its own.
    pub(super) fn write_backlog(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        for _ in 0..self.with(|state| state.backlog.len())? {
            let chunk = self.with(|state| {
                let chunk = state.backlog.pop_front();
                state.backlog_size -= chunk.as_ref().map_or(0, |chunk| chunk.as_ref().len());
                chunk
            })?;
            let Some(chunk) = chunk else { break };
            let outcome = self.engine()?.encrypt(py, chunk.as_ref());
            match outcome {
                Ok(Encrypted::All) => {}
                Ok(Encrypted::Part(done)) => {
                    self.keep_first(chunk.as_ref().get(done..).unwrap_or_default().to_vec())?;
                    break;
                }
                Err(error) => return self.fatal(slf, error, "Fatal error on SSL protocol"),
            }
        }
        self.send_outgoing(slf)
    }

    /// Hands to the stream what OpenSSL wants sent; from within OpenSSL nothing, as its caller does so then.
    #[inline]
    pub(super) fn send_outgoing(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(engine) = self.free_engine()? else { return Ok(()) };
        let ciphertext = engine.take_outgoing(py)?;
        drop(engine);
        if ciphertext.is_empty() {
            return Ok(());
        }
        match self.stream(py)? {
            Some(stream) => StreamTransport::write_owned(&stream, ciphertext),
            None => Ok(()),
        }
    }

    /// The same, and has the stream send it before it is closed.
    pub(super) fn send_at_once(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        self.send_outgoing(slf)?;
        match self.stream(py)? {
            Some(stream) => StreamTransport::flush(&stream, self.loop_of(py)),
            None => Ok(()),
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        let waits = self.with(|state| state.backlog_size)?;
        let queued = match self.stream(py)? {
            Some(stream) => stream.get().write_buffer_size()?,
            None => 0,
        };
        Ok(waits + queued)
    }
}
