//! The transport that the application sees.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::net::{Flow, WaterMarks};

use super::engine::Engine;
use super::protocol::TlsProtocol;
use super::state::{READ_HIGH, TlsPhase, TlsReading, WRITE_HIGH};
use crate::event_loop::EventLoop;
use crate::interpreter::{CloneWith, warn_resource};
use crate::transport::StreamTransport;
use crate::transport::base::Transport;
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::extra_info::SocketTransport;
use crate::transport::flow::Writes;
use crate::transport::protocol::{HeldProtocol, Protocol};

/// A connection under TLS. Source of the semantics: `asyncio.Transport`, and asyncio's transport of `SSLProtocol`.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct TlsTransport {
    protocol: Py<TlsProtocol>,
}

impl TlsTransport {
    /// Bytes that wait to be sent.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.protocol.get().write_buffer_size(py)
    }

    /// The transport of `protocol`.
    pub const fn new(protocol: Py<TlsProtocol>) -> Self {
        Self { protocol }
    }

    /// `writelines()`
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol's flow control; RuntimeError on the wrong thread.
    pub fn write_chunks(slf: &Bound<'_, Self>, chunks: impl Iterator<Item = Chunk> + Send) -> PyResult<()> {
        let protocol = slf.get().protocol.bind(slf.py());
        protocol.get().write(protocol, chunks)
    }
}

fn set_limits(py: Python<'_>, protocol: &TlsProtocol, marks: WaterMarks) -> PyResult<()> {
    protocol.with(|state| state.write_marks = marks)?;
    match protocol.stream(py)? {
        Some(stream) => StreamTransport::set_marks(&stream, marks),
        None => Ok(()),
    }
}

impl TlsTransport {
    /// [`StreamTransport::look`] at the stream below.
    ///
    /// # Errors
    /// As that.
    pub fn look(&self, py: Python<'_>) -> PyResult<()> {
        match self.protocol.get().stream(py)? {
            Some(stream) => StreamTransport::look(&stream),
            None => Ok(()),
        }
    }

    /// Whether it is closed for its user.
    pub fn is_closing(&self, py: Python<'_>) -> bool {
        let protocol = self.protocol.get();
        if matches!(protocol.phase.load(), TlsPhase::ShuttingDown | TlsPhase::Closed) {
            return true;
        }
        // The stream closes by itself a turn before it calls the TLS protocol; on another thread, where it cannot be had, the
        // result is False in that turn.
        protocol.stream(py).is_ok_and(|stream| stream.is_some_and(|stream| stream.get().is_closing()))
    }
}

#[pymethods]
impl TlsTransport {
    /// Return information about the connection: 'ssl_object', 'sslcontext', 'peercert', 'cipher', 'compression', what the
    /// stream below knows ('socket', 'sockname', 'peername'); `default` for any other name.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let protocol = self.protocol.get();
        if name == "sslcontext" {
            return Ok(Some(protocol.options.sslcontext.bind(py).clone()));
        }
        let extra =
            protocol.with_attached(py, |state, at| state.extra.as_ref().map(|extra| extra.clone_with(at)))?;
        if let Some(value) = extra.map(|extra| extra.bind(py).get_item(name)).transpose()?.flatten() {
            return Ok(Some(value));
        }
        match protocol.stream(py)? {
            Some(stream) => stream.get().extra_info(py, name, default),
            None => Ok(default),
        }
    }

    /// Set a new protocol; data goes to it from now on.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = Protocol::new(protocol)?;
        let _previous = self.protocol.get().with(|state| state.protocol.replace(protocol))?;
        Ok(())
    }

    /// Return the current protocol, or None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.protocol.get().application(py)
    }

    /// Return True if the transport is closing or closed. What was written is sent first, as far as it is encrypted:
    /// `StreamWriter.drain()` asks this before it returns at once.
    #[pyo3(name = "is_closing")]
    fn send_gathered_and_check_closing(&self, py: Python<'_>) -> PyResult<bool> {
        // On another thread, where it cannot be had, nothing is sent.
        if let Ok(Some(stream)) = self.protocol.get().stream(py) {
            StreamTransport::send_gathered(&stream)?;
        }
        Ok(self.is_closing(py))
    }

    /// Close the transport: what waits is sent, then close_notify, then `connection_lost(None)` is called; with a
    /// TimeoutError if the peer has not answered after `ssl_shutdown_timeout` seconds. From another thread than the loop's, as
    /// by `loop.call_soon_threadsafe()`.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let protocol = slf.get().protocol.bind(py);
        if protocol.get().is_elsewhere() {
            return common::hand_over(protocol.get().loop_of(py), slf.as_any(), intern!(py, "close"));
        }
        protocol.get().start_shutdown(protocol)
    }

    /// Close the transport at once: what waits is dropped, then `connection_lost(None)` is called. From another thread than the
    /// loop's, as by `loop.call_soon_threadsafe()`.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let protocol = slf.get().protocol.bind(py);
        if protocol.get().is_elsewhere() {
            return common::hand_over(protocol.get().loop_of(py), slf.as_any(), intern!(py, "abort"));
        }
        protocol.get().abort(protocol, None)
    }

    fn _force_close(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let protocol = self.protocol.bind(py);
        protocol.get().abort(protocol, exc.map(PyErr::from_value))
    }

    /// Return True unless reading is paused.
    fn is_reading(&self) -> PyResult<bool> {
        self.protocol.get().with(|state| state.reading != TlsReading::Paused)
    }

    /// Stop calling `data_received()` until `resume_reading()`.
    fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        let protocol = self.protocol.bind(py);
        protocol.get().pause_reading(protocol)
    }

    /// Resume calling `data_received()`. Does nothing unless paused.
    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        let protocol = self.protocol.bind(py);
        protocol.get().resume_reading(protocol)
    }

    /// Set the water marks in bytes: above `high` the protocol's `pause_writing()` is called, at `low` its `resume_writing()`.
    ///
    /// Defaults are 512 KiB and a quarter of `high`. Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let marks = common::water_marks(high, low, WRITE_HIGH)?;
        set_limits(py, self.protocol.get(), marks)
    }

    /// Return the water marks `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.protocol.get().with(|state| (state.write_marks.low(), state.write_marks.high()))
    }

    /// Return how many bytes wait to be sent.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.write_buffer_size(py)
    }

    /// Set the marks that `get_read_buffer_limits()` returns. Nothing is buffered beyond one read while reading is paused:
    /// what the peer sends waits in the kernel.
    #[pyo3(signature = (high=None, low=None))]
    fn set_read_buffer_limits(&self, high: Option<isize>, low: Option<isize>) -> PyResult<()> {
        let marks = common::water_marks(high, low, READ_HIGH)?;
        self.protocol.get().with(|state| state.read_marks = marks)
    }

    /// Return the marks `(low, high)` in bytes.
    fn get_read_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.protocol.get().with(|state| (state.read_marks.low(), state.read_marks.high()))
    }

    /// Return how many bytes have arrived and are not delivered.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        // From within OpenSSL, which has taken what there was, nothing.
        self.protocol.get().free_engine()?.map_or(Ok(0), |engine| engine.pending(py))
    }

    /// Write bytes-like `data`. It does not block: the first data of a turn is sent at once, what follows when the turn ends,
    /// and what the socket does not take as soon as it does.
    ///
    /// A bytearray or memoryview may be changed as soon as this returns. On a closing transport the data is dropped.
    /// Raises TypeError for what is not bytes-like.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let chunk = Chunk::new(data)?;
        if chunk.as_ref().is_empty() {
            return Ok(());
        }
        let protocol = self.protocol.bind(data.py());
        protocol.get().write(protocol, std::iter::once(chunk))
    }

    /// Write an iterable of bytes-like objects, as one `write()` of all of them.
    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = self.protocol.bind(list_of_data.py());
        protocol.get().write(protocol, Chunk::all(list_of_data)?.into_iter())
    }

    /// Raise NotImplementedError: TLS has no half-close in asyncio.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(
            "asyncio's TLS has no half-close; close() says goodbye to the peer",
        ))
    }

    /// Return False.
    const fn can_write_eof(&self) -> bool {
        false
    }

    /// For CPython's tests only: plaintext that waits without a call of the protocol.
    #[pyo3(name = "_test__append_write_backlog")]
    fn append_to_backlog(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.protocol.get().keep(Chunk::new(data)?)
    }

    #[classattr]
    #[pyo3(name = "_start_tls_compatible")]
    const START_TLS_COMPATIBLE: bool = true;

    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        common::sendfile_mode(py, "FALLBACK")
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.protocol.get().event_loop.clone_ref(py)
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> Py<TlsProtocol> {
        self.protocol.clone_ref(py)
    }

    /// Whether `pause_reading()` was called; some programs read it, as asyncio's class has it.
    #[getter]
    fn _paused(&self) -> PyResult<bool> {
        self.protocol.get().with(|state| state.reading == TlsReading::Paused)
    }

    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        self.protocol.get().with(|state| state.flow == Flow::Paused)
    }

    /// The class that `isinstance()` sees in addition to the true one, so that it is an `asyncio.Transport`, and one of TLS.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import(intern!(slf.py(), "asyncio.sslproto"))?
            .getattr(intern!(slf.py(), "_SSLProtocolTransport"))
    }

    fn __repr__(&self) -> String {
        let shown = self.protocol.get().peek(|state| {
            let phase = match self.protocol.get().phase.load() {
                TlsPhase::New | TlsPhase::Handshake => "handshake",
                TlsPhase::Open | TlsPhase::Draining => "open",
                TlsPhase::ShuttingDown => "closing",
                TlsPhase::Closed => "closed",
            };
            format!("<TlsTransport {phase} reading={:?}>", state.reading)
        });
        shown.unwrap_or_else(|| "<TlsTransport>".to_owned())
    }

    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let phase = slf.get().protocol.get().phase.swap(TlsPhase::Closed);
        if matches!(phase, TlsPhase::New | TlsPhase::ShuttingDown | TlsPhase::Closed) {
            return Ok(());
        }
        warn_resource(py, "unclosed transport <TlsTransport>", Some(slf.as_any()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.protocol)
    }
}
