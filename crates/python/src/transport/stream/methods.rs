//! What Python sees of the stream transport.

use std::os::fd::RawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::net::WaterMarks;

use super::StreamTransport;
use crate::event_loop::EventLoop;
use crate::ffi::copy_context;
use crate::interpreter::Collector;
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::extra_info::{ExtraInfo, HasExtraInfo};
use crate::transport::protocol::Protocol;
use crate::transport::socket::Socket;
use crate::transport::states::{ReadState, TransportPhase};

/// `asyncio.constants._SendfileMode.TRY_NATIVE`
fn sendfile_mode(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static MODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    MODE.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        let modes = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        Ok(modes.getattr("TRY_NATIVE")?.unbind())
    })
    .map(|mode| mode.clone_ref(py))
}

#[pymethods]
impl StreamTransport {
    /// Make a transport over `sock`; `connection_made()` is called in the next turn, then `waiter` gets its result.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, waiter=None, extra=None, server=None))]
    fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let socket = Socket::from_python(sock)?;
        let info = ExtraInfo::of(&socket, extra)?;
        let transport = Self::make(event_loop, copy_context(py)?, socket, info, protocol, server)?;
        let this = transport.get();
        this.attach(&transport)?;
        common::schedule_start(event_loop, &this.context, &transport, waiter)?;
        Ok(transport.unbind())
    }

    fn _start(slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        if let Some(protocol) = this.protocol(py)? {
            // In the transport's context already, as a callback of the loop.
            let made = common::call_protocol(protocol.bind(py), intern!(py, "connection_made"), [slf]);
            this.after_connection_made(slf, event_loop, made)?;
        }
        if waiter.is_none() { Ok(()) } else { common::set_result(waiter) }
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (protocol, server) = this.with(|state| (state.protocol.take(), state.server.take()))?;
        let result = common::connection_lost(protocol.as_ref().map(|protocol| &protocol.object), error);
        let (socket, _waiter) = this.with(|state| {
            this.phase.store(TransportPhase::Lost);
            (state.socket.take(), state.empty_waiter.take())
        })?;
        let closed = socket.close(py)?;
        this.with(|state| state.socket = closed)?;
        if let Some(server) = server {
            server.bind(py).call_method1(intern!(py, "_detach"), (slf,))?;
        }
        result
    }

    /// Return information about the connection: 'socket' (an asyncio.TransportSocket), 'sockname', 'peername' and what
    /// the loop added; `default` for any other name.
    #[pyo3(signature = (name, default=None))]
    pub fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        slf.get().extra_info(slf.py(), name, default)
    }

    /// Set a new protocol; data goes to it from now on.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = Protocol::new(protocol)?;
        let _former = slf.get().with(|state| state.protocol.replace(protocol))?;
        Ok(())
    }

    /// Return the current protocol, or None once the connection is lost.
    fn get_protocol(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        slf.get().protocol(slf.py())
    }

    /// Return True if the transport is closing or closed. What was written is sent first: `StreamWriter.drain()` asks this
    /// before it returns at once.
    #[pyo3(name = "is_closing")]
    fn send_gathered_and_check_closing(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::send_gathered(slf)?;
        Ok(slf.get().is_closing())
    }

    /// Close the transport: nothing more is read, what waits is sent, then `connection_lost(None)` is called.
    pub fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        // What was gathered in this turn goes out now, as the loop may be stopped before the turn is over.
        Self::send_gathered(slf)?;
        let waits = this.with(|state| {
            TransportPhase::transition_to_closing(&this.phase).then(|| !state.output.is_empty())
        })?;
        match waits {
            None => Ok(()),
            Some(true) => this.update_interest(event_loop),
            Some(false) => this.lose(slf, event_loop, None),
        }
    }

    /// Close the transport at once: what the socket has not taken is dropped, then `connection_lost(None)` is called.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), None)
    }

    fn _force_close(slf: &Bound<'_, Self>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), error.map(PyErr::from_value))
    }

    #[pyo3(signature = (exc, message="Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        let this = slf.get();
        this.fatal(slf, this.loop_of(slf.py()), PyErr::from_value(exc), message)
    }

    /// Return True if data is being received.
    fn is_reading(&self) -> PyResult<bool> {
        self.with(|state| !self.is_closing() && state.reading != ReadState::Paused)
    }

    /// Stop calling `data_received()` until `resume_reading()`. Does nothing while paused or closing.
    pub fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if !this.is_closing() {
                state.reading.pause();
            }
        })?;
        this.update_interest(this.loop_of(slf.py()))
    }

    /// Go on calling `data_received()`. Does nothing unless paused.
    pub fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if !this.is_closing() {
                state.reading.resume();
            }
        })?;
        this.update_interest(this.loop_of(slf.py()))
    }

    /// Set the water marks in bytes: above `high` the protocol is asked to pause writing, at `low` to go on.
    ///
    /// Defaults are 64 KiB and a quarter of `high`. Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        Self::set_marks(slf, common::water_marks(high, low, WaterMarks::default().high())?)
    }

    /// Return the water marks `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.with(|state| (state.output.marks().low(), state.output.marks().high()))
    }

    /// Return how many bytes wait to be sent.
    pub fn get_write_buffer_size(&self) -> PyResult<usize> {
        self.with(|state| state.output.size())
    }

    /// Write bytes-like `data`. It does not block: the first data of a turn is sent at once, what follows when the turn ends,
    /// and what the socket does not take as soon as it does.
    ///
    /// A bytearray or memoryview may be changed as soon as this returns. On a closing transport the data is dropped.
    /// Raises TypeError for what is not bytes-like, RuntimeError after `write_eof()` or during `sendfile()`.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_chunks(slf, std::iter::once(Chunk::new(data)?))
    }

    /// Write an iterable of bytes-like objects, as one `write()` of all of them.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_chunks(slf, Chunk::all(list_of_data)?.into_iter())
    }

    /// Close the write side once what waits is sent; the transport may still receive.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        let sends = this.with(|state| {
            let first =
                this.phase.load() == TransportPhase::Open && state.writing.transition_to_eof_pending();
            first && !state.output.is_blocked()
        })?;
        if sends { Self::flush(slf, event_loop) } else { Ok(()) }
    }

    /// Return True: a stream socket can be half-closed.
    const fn can_write_eof(&self) -> bool {
        true
    }

    fn _make_empty_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        if this.with(|state| state.empty_waiter.is_some())? {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = crate::interpreter::new_future(event_loop.as_any())?;
        let kept = waiter.clone().unbind();
        let empty = this.with(|state| {
            state.empty_waiter = Some(kept);
            state.output.is_empty()
        })?;
        if empty {
            common::set_result(&waiter)?;
        }
        Ok(waiter)
    }

    fn _reset_empty_waiter(&self) -> PyResult<()> {
        let _waiter = self.with(|state| state.empty_waiter.take())?;
        Ok(())
    }

    /// Stops being watched, so that `sendfile()` may watch the descriptor in its own way.
    fn _leave_poller(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if let Some(token) = this.with(|state| state.token.take())? {
            drop(this.loop_of(slf.py()).get().unregister(token)?);
        }
        Ok(())
    }

    /// Is watched again after `_leave_poller()`.
    fn _enter_poller(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.start_reading(slf, this.loop_of(slf.py()))
    }

    #[classattr]
    #[pyo3(name = "_start_tls_compatible")]
    const START_TLS_COMPATIBLE: bool = true;

    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        sendfile_mode(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        slf.get().protocol(slf.py())
    }

    /// Whether `pause_reading()` was called; some programs read it, as asyncio's class has it.
    #[getter]
    fn _paused(&self) -> PyResult<bool> {
        self.with(|state| state.reading == ReadState::Paused)
    }

    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        self.with(|state| state.output.is_paused())
    }

    #[getter]
    fn _sock(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        slf.get().socket_object(slf.py())
    }

    #[getter]
    fn _sock_fd(&self) -> PyResult<RawFd> {
        self.with(|state| state.socket.fd())
    }

    /// The class that `isinstance()` sees beside the true one, so that it is an `asyncio.Transport` as well.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import(intern!(slf.py(), "asyncio.transports"))?
            .getattr(intern!(slf.py(), "_FlowControlMixin"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        Ok(this
            .state
            .with(|state| {
                format!(
                    "<StreamTransport fd={} {} reading={:?} write_buffer={}>",
                    state.socket.fd(),
                    this.phase.load().describe(),
                    state.reading,
                    state.output.size()
                )
            })
            .unwrap_or_else(|refused| format!("<StreamTransport: {refused}>")))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                state.socket.visit(&visit)?;
                if let Some(protocol) = &state.protocol {
                    protocol.visit(*visit)?;
                }
                state.info.visit(&visit)?;
                visit.call(&state.empty_waiter)?;
                visit.call(&state.server)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.state.with(|state| state.protocol.take());
        let _server = self.state.with(|state| state.server.take());
        let _info = self.state.with(|state| state.info.take_objects());
    }
}
