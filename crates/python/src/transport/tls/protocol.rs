//! The TLS protocol over a stream transport: its state, and what the stream tells it.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::exceptions::{PyConnectionAbortedError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::net::{Flow, WaterMarks};
use whorl_core::sched::OwnerCell;

use super::engine::{self, Engine, EngineCell, EngineInUse};
use super::transport::TlsTransport;
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, Handle, Scheduled, leaves_the_loop};
use crate::ffi::{Call, call_in_context_or_here, copy_context, copy_of_context};
use crate::interpreter::{Attached, CloneWith, Collector};
use crate::transport::StreamTransport;
use crate::transport::chunk::Chunk;
use crate::transport::ending::Ending;
use crate::transport::flow::Writes;
use crate::transport::protocol::{HeldProtocol, Protocol};

/// The connection's life; as with other transports, every thread may ask for it.
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

/// What the application has been told.
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
pub enum Reading {
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

/// Who waits for the handshake.
#[derive(Debug)]
pub enum HandshakeWaiter {
    /// A future.
    Future(Py<PyAny>),
    /// Nobody: a server has accepted the connection.
    Server,
    /// It is told already.
    Notified,
}

/// What belongs to the loop's thread.
#[derive(Debug)]
pub struct TlsState {
    pub told: Notified,
    pub reading: Reading,
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
    /// A client, of the host that the peer's certificate has to name.
    Client(Option<&'a Bound<'py, PyAny>>),
    /// A server.
    Server,
}

/// TLS over a stream transport. Source of the semantics: `asyncio.sslproto.SSLProtocol`.
///
/// It has a dictionary, as programs put a `connection_lost` of their own there to hear of the end.
#[pyclass(frozen, weakref, dict, module = "whorl._core")]
#[derive(Debug)]
pub struct TlsProtocol {
    pub(super) event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    pub(super) options: TlsOptions,
    pub(super) ssl_object: Py<PyAny>,
    engine: EngineCell,
    pub(super) phase: AtomicCell<TlsPhase>,
    state: OwnerCell<TlsState>,
}

/// asyncio's water marks for TLS, in KiB (asyncio.constants).
pub(super) const WRITE_HIGH: usize = 512 * 1024;
pub(super) const READ_HIGH: usize = 256 * 1024;

impl TlsProtocol {
    /// A protocol that does its handshake once it is given a stream, and its transport.
    ///
    /// # Errors
    /// TypeError for what is no context, ValueError from `wrap_bio()`.
    pub fn make<'py>(
        event_loop: &Bound<'py, EventLoop>,
        context: Py<PyAny>,
        protocol: &Bound<'py, PyAny>,
        options: TlsOptions,
        side: &TlsSide<'_, 'py>,
        waiter: HandshakeWaiter,
        told: Notified,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let (server_side, hostname) = match side {
            TlsSide::Client(hostname) => (false, *hostname),
            TlsSide::Server => (true, None),
        };
        let (engine, ssl_object) = engine::connect(options.sslcontext.bind(py), server_side, hostname)?;
        let marks = |high: usize| WaterMarks::new(None, Some(high), high).or_raise();
        let state = TlsState {
            told,
            reading: Reading::On,
            stream_ended: false,
            protocol: Some(Protocol::new(protocol)?),
            stream: None,
            transport: None,
            waiter,
            backlog: VecDeque::new(),
            backlog_size: 0,
            flow: Flow::Open,
            write_marks: marks(WRITE_HIGH)?,
            read_marks: marks(READ_HIGH)?,
            handshake_timer: None,
            shutdown_timer: None,
            handshake_began: None,
            late_writes: 0,
            deferred: Deferred::Nothing,
            extra: None,
        };
        let this = Self {
            event_loop: event_loop.clone().unbind(),
            context,
            options,
            ssl_object: ssl_object.unbind(),
            engine: EngineCell::new(engine),
            phase: AtomicCell::new(TlsPhase::New),
            state: OwnerCell::new(Arc::clone(event_loop.get().owner()), state),
        };
        let this = Bound::new(py, this)?;
        let transport = Py::new(py, TlsTransport::new(this.clone().unbind()))?;
        this.get().with(|state| state.transport = Some(transport))?;
        Ok(this)
    }

    #[inline]
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut TlsState) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    #[inline]
    pub(super) fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut TlsState, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.state.with_token(at.into(), act).or_raise()
    }

    /// The state for `repr()` and finalisers, where nothing is to be raised.
    pub(super) fn peek<R>(&self, act: impl FnOnce(&mut TlsState) -> R + Send) -> Option<R> {
        self.state.with(act).ok()
    }

    /// The engine, for this use alone; none if this is called from within OpenSSL.
    #[inline]
    pub(super) fn free_engine(&self) -> PyResult<Option<EngineInUse<'_>>> {
        self.engine.enter(self.state.owner()).or_raise()
    }

    /// The same for what only the loop and the stream ask for.
    ///
    /// # Errors
    /// RuntimeError from within OpenSSL.
    #[inline]
    pub(super) fn engine(&self) -> PyResult<EngineInUse<'_>> {
        self.free_engine()?.ok_or_else(in_use)
    }

    /// Whether this is called from within OpenSSL: asked on the loop's thread.
    #[inline]
    pub(super) fn is_in_engine(&self) -> bool {
        self.engine.is_in_use()
    }

    /// Puts `more` off until the next turn, where OpenSSL is not at work.
    pub(super) fn defer(&self, slf: &Bound<'_, Self>, more: Deferred) -> PyResult<()> {
        if self.with(|state| state.deferred.transition_to(more))? {
            self.call_soon(slf, intern!(slf.py(), "_do_deferred"), None)?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.event_loop.bind(py)
    }

    #[inline]
    pub(super) fn stream<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, StreamTransport>>> {
        let stream =
            self.with_attached(py, |state, at| state.stream.as_ref().map(|stream| stream.clone_with(at)))?;
        Ok(stream.map(|stream| stream.into_bound(py)))
    }

    pub(super) fn application<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = self.with_attached(py, |state, at| {
            state.protocol.as_ref().map(|protocol| protocol.object.clone_with(at))
        })?;
        Ok(object.map(|object| object.into_bound(py)))
    }

    /// Calls into the application, in its connection's context.
    #[inline]
    pub(super) fn call<'py, const N: usize>(
        &self,
        py: Python<'py>,
        callable: &Py<PyAny>,
        args: [&Bound<'py, PyAny>; N],
    ) -> PyResult<Bound<'py, PyAny>> {
        // The application may have called us from within the context, which cannot be entered twice.
        call_in_context_or_here(py, &self.context, callable, args)
    }

    /// Calls a method of the application's protocol; nothing once it is gone.
    pub(super) fn tell<'py, const N: usize>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyString>,
        args: [&Bound<'py, PyAny>; N],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(application) = self.application(py)? else { return Ok(None) };
        let method = application.getattr(method)?.unbind();
        self.call(py, &method, args).map(Some)
    }

    /// Schedules a method of ours for the next turn.
    pub(super) fn call_soon(
        &self,
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyString>,
        arg: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = self.loop_of(py).get();
        if event_loop.has_closed() {
            return Ok(());
        }
        let method = slf.getattr(method)?.unbind();
        let call = match arg {
            Some(arg) => Call::of1(method, arg),
            None => Call::of(method),
        };
        // The method enters the connection's own context: it is run in a copy.
        let scheduled = Scheduled { call, context: copy_of_context(py, &self.context)? };
        event_loop.push_ready(Handle::make(py, scheduled, None)?.unbind())
    }

    /// Starts a timer that calls a method of ours after `seconds`.
    pub(super) fn call_later(
        &self,
        slf: &Bound<'_, Self>,
        seconds: &Py<PyAny>,
        method: &Bound<'_, PyString>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let method = slf.getattr(method)?;
        Ok(self.loop_of(py).call_method1(intern!(py, "call_later"), (seconds, method))?.unbind())
    }

    pub(super) fn cancel(py: Python<'_>, timer: Option<Py<PyAny>>) -> PyResult<()> {
        match timer {
            Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// Tells who waits for the handshake how it went; once.
    pub(super) fn wake(&self, py: Python<'_>, outcome: Result<(), &PyErr>) -> PyResult<()> {
        match (self.with(|state| std::mem::replace(&mut state.waiter, HandshakeWaiter::Notified))?, outcome) {
            (HandshakeWaiter::Future(future), outcome) => {
                let future = future.bind(py);
                if future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
                    return Ok(());
                }
                match outcome {
                    Ok(()) => future.call_method1(intern!(py, "set_result"), (py.None(),)),
                    Err(error) => future.call_method1(intern!(py, "set_exception"), (error.value(py),)),
                }
                .map(drop)
            }
            (HandshakeWaiter::Server, Err(error)) if self.loop_of(py).get().is_debug() => {
                // asyncio says so in debug mode only: anybody may connect and not speak TLS.
                self.report(py, "Error on transport creation for incoming connection", error)
            }
            (HandshakeWaiter::Server, _) | (HandshakeWaiter::Notified, _) => Ok(()),
        }
    }

    /// Tells the loop's exception handler.
    pub(super) fn report(&self, py: Python<'_>, message: &str, error: &PyErr) -> PyResult<()> {
        let context = PyDict::new(py);
        context.set_item("message", message)?;
        context.set_item("exception", error.value(py))?;
        let (transport, protocol) = self.with_attached(py, |state, at| {
            (
                state.transport.as_ref().map(|transport| transport.clone_with(at)),
                state.protocol.as_ref().map(|protocol| protocol.object.clone_with(at)),
            )
        })?;
        context.set_item("transport", transport)?;
        context.set_item("protocol", protocol)?;
        self.loop_of(py).call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }

    /// An error that ends the connection: reported unless it is the network's or the peer's doing, and handed to
    /// `connection_lost()`.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt, which end the loop's run.
    pub(super) fn fatal(&self, slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        if error.is_instance_of::<PyOSError>(py) {
            let event_loop = self.loop_of(py);
            if event_loop.get().is_debug() {
                event_loop
                    .call_method1(intern!(py, "_log_transport_error"), (slf, error.value(py), message))?;
            }
        } else if !error.is_instance(py, cancelled_error(py)?) {
            self.report(py, message, &error)?;
        }
        self.abort(slf, Some(error))
    }

    /// Closes at once.
    pub(super) fn abort(&self, slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        let stream = self.with_attached(py, |state, at| {
            self.phase.store(TlsPhase::Closed);
            state.stream.as_ref().map(|stream| stream.clone_with(at))
        })?;
        match stream {
            Some(stream) => StreamTransport::force_close_with(stream.bind(py), error),
            None => Ok(()),
        }
    }

    /// Writes a line of asyncio's debug log.
    pub(super) fn log_debug(&self, slf: &Bound<'_, Self>, line: &str) -> PyResult<()> {
        let py = slf.py();
        let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
        logger.call_method1(intern!(py, "debug"), (line, slf)).map(drop)
    }
}

#[cold]
fn in_use() -> PyErr {
    PyRuntimeError::new_err("OpenSSL is at work on this connection further up the stack")
}

fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "asyncio", "CancelledError")
}

/// A time limit as the user gave it, or the default by its name in `asyncio.constants`.
fn time_limit(
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
    /// ValueError for a time limit that is not positive.
    pub fn new(
        sslcontext: Bound<'_, PyAny>,
        handshake_timeout: Option<Bound<'_, PyAny>>,
        shutdown_timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = sslcontext.py();
        Ok(Self {
            sslcontext: sslcontext.unbind(),
            handshake_timeout: time_limit(
                py,
                "ssl_handshake_timeout",
                handshake_timeout,
                "SSL_HANDSHAKE_TIMEOUT",
            )?,
            shutdown_timeout: time_limit(
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

#[pymethods]
impl TlsProtocol {
    /// Make a protocol that does a TLS handshake once it has a stream transport, then serves `protocol`.
    ///
    /// Raises ValueError for a time limit that is not positive, TypeError for what is no SSLContext.
    #[new]
    #[pyo3(signature = (event_loop, protocol, sslcontext, waiter, server_side=false, server_hostname=None,
                        call_connection_made=true, ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    #[expect(clippy::too_many_arguments, reason = "those of asyncio's SSLProtocol")]
    fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        protocol: &Bound<'py, PyAny>,
        sslcontext: Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        server_side: bool,
        server_hostname: Option<Bound<'py, PyAny>>,
        call_connection_made: bool,
        ssl_handshake_timeout: Option<Bound<'py, PyAny>>,
        ssl_shutdown_timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let options = TlsOptions::new(sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout)?;
        // An empty name is none, as in asyncio.
        let hostname = match &server_hostname {
            Some(name) if name.is_truthy()? => Some(name),
            _ => None,
        };
        let side = if server_side { TlsSide::Server } else { TlsSide::Client(hostname) };
        let waiter = waiter.map_or(HandshakeWaiter::Notified, HandshakeWaiter::Future);
        let told = if call_connection_made { Notified::Nothing } else { Notified::Made };
        let context = copy_context(event_loop.py())?;
        Self::make(event_loop, context, protocol, options, &side, waiter, told).map(Bound::unbind)
    }

    /// The stream is connected: starts the handshake.
    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
        let this = slf.get();
        let stream = transport.clone().unbind();
        let marks = this.with(|state| {
            state.stream = Some(stream);
            state.write_marks
        })?;
        StreamTransport::set_marks(transport, marks)?;
        this.start_handshake(slf)
    }

    /// The stream is lost.
    fn connection_lost(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (tell, timers, _transport, _backlog) = this.with(|state| {
            this.phase.store(TlsPhase::Closed);
            let tell = matches!(state.told, Notified::Made | Notified::Eof);
            if tell {
                state.told = Notified::Lost;
            }
            state.backlog_size = 0;
            (
                tell,
                (state.handshake_timer.take(), state.shutdown_timer.take()),
                state.transport.take(),
                std::mem::take(&mut state.backlog),
            )
        })?;
        Self::cancel(py, timers.0)?;
        Self::cancel(py, timers.1)?;
        if tell {
            this.call_soon(slf, intern!(py, "_connection_lost"), Some(exc.clone().unbind()))?;
        } else {
            let _protocol = this.with(|state| state.protocol.take())?;
        }
        let error = if exc.is_none() {
            // Somebody closed the stream in the middle of the handshake.
            PyConnectionAbortedError::new_err(
                "the connection was closed before the SSL handshake was complete",
            )
        } else {
            PyErr::from_value(exc.clone())
        };
        this.wake(py, Err(&error))
    }

    /// Tells the application; in a turn of its own, as asyncio does.
    fn _connection_lost(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let outcome = this.tell(py, intern!(py, "connection_lost"), [exc]);
        let _protocol = this.with(|state| state.protocol.take())?;
        outcome.map(drop)
    }

    /// Data from a stream that is not read natively: what a user of this class as a protocol may call.
    fn data_received(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        slf.get().engine()?.feed(py, data)?;
        slf.get().advance(slf)
    }

    /// Ciphertext that somebody read before the stream was ours.
    fn _feed(&self, py: Python<'_>, data: pyo3::buffer::PyBuffer<u8>) -> PyResult<()> {
        let data = data.to_vec(py)?;
        self.engine()?.feed(py, &data)
    }

    /// The stream has ended.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().on_stream_end(slf)
    }

    /// The stream's buffer is full, so the application is asked to pause.
    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let changed = this.with(|state| std::mem::replace(&mut state.flow, Flow::Paused) == Flow::Open)?;
        if changed {
            this.tell(py, intern!(py, "pause_writing"), [])?;
        }
        Ok(())
    }

    /// The stream's buffer has drained, so the application may go on.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let changed = this.with(|state| std::mem::replace(&mut state.flow, Flow::Open) == Flow::Paused)?;
        if changed {
            this.tell(py, intern!(py, "resume_writing"), [])?;
        }
        Ok(())
    }

    fn _check_handshake_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().handshake_timed_out(slf)
    }

    fn _check_shutdown_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().shutdown_timed_out(slf)
    }

    fn _resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().resume(slf)
    }

    fn _do_deferred(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        match this.with(|state| state.deferred.transition_to_nothing())? {
            Deferred::Nothing => Ok(()),
            Deferred::Writes if this.phase.load() == TlsPhase::Open => this.write_backlog(slf),
            // The end that has begun meanwhile has written it.
            Deferred::Writes => Ok(()),
            Deferred::Shutdown => this.continue_shutdown(slf),
        }
    }

    /// The application's transport, until the connection is lost.
    #[getter]
    fn _app_transport(&self, py: Python<'_>) -> PyResult<Option<Py<TlsTransport>>> {
        self.with_attached(py, |state, at| state.transport.as_ref().map(|transport| transport.clone_with(at)))
    }

    /// The application's protocol.
    #[getter]
    fn _app_protocol<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.application(py)
    }

    /// The stream transport below.
    #[getter]
    fn _transport(&self, py: Python<'_>) -> PyResult<Option<Py<StreamTransport>>> {
        self.with_attached(py, |state, at| state.stream.as_ref().map(|stream| stream.clone_with(at)))
    }

    /// The `ssl.SSLObject`.
    #[getter]
    fn _sslobj(&self, py: Python<'_>) -> Py<PyAny> {
        self.ssl_object.clone_ref(py)
    }

    /// What `get_extra_info()` of the transport knows of TLS, once the handshake is over.
    #[getter]
    fn _extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let extra =
            self.with_attached(py, |state, at| state.extra.as_ref().map(|extra| extra.clone_with(at)))?;
        Ok(extra.map_or_else(|| PyDict::new(py), |extra| extra.into_bound(py)))
    }

    /// Which engine carries the data: 'native' or 'object'.
    #[getter]
    const fn _engine(&self) -> &'static str {
        self.engine.name()
    }

    fn __repr__(&self) -> String {
        format!("<TlsProtocol {:?}>", self.phase.load())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        visit.call(&self.options.sslcontext)?;
        visit.call(&self.options.handshake_timeout)?;
        visit.call(&self.options.shutdown_timeout)?;
        visit.call(&self.ssl_object)?;
        self.engine.visit(visit)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                if let Some(protocol) = &state.protocol {
                    protocol.visit(&visit)?;
                }
                if let HandshakeWaiter::Future(future) = &state.waiter {
                    visit.call(future)?;
                }
                visit.call(&state.stream)?;
                visit.call(&state.transport)?;
                visit.call(&state.extra)?;
                visit.call(&state.handshake_timer)?;
                visit.call(&state.shutdown_timer)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.peek(|state| state.protocol.take());
        let _stream = self.peek(|state| state.stream.take());
        let _transport = self.peek(|state| state.transport.take());
        let _waiter = self.peek(|state| std::mem::replace(&mut state.waiter, HandshakeWaiter::Notified));
        let _timers = self.peek(|state| (state.handshake_timer.take(), state.shutdown_timer.take()));
    }
}
