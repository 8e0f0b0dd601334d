//! The TLS protocol over a stream transport: how it is made, what it schedules, and how it reports.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use whorl_core::net::{Flow, WaterMarks};
use whorl_core::sched::{BorrowError, OwnerCell};

use super::engine::{self, EngineCell, EngineInUse, in_use};
use super::state::{
    Deferred, HandshakeWaiter, Notified, READ_HIGH, TlsOptions, TlsPhase, TlsReading, TlsSide, TlsState,
    WRITE_HIGH,
};
use super::transport::TlsTransport;
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, Handle, Scheduled, leaves_the_loop};
use crate::ffi::{Call, call_in_context_or_here, copy_of_context};
use crate::interpreter::{Attached, CloneWith};
use crate::transport::StreamTransport;
use crate::transport::ending::Ending;
use crate::transport::protocol::{HeldProtocol, Protocol};

/// TLS over a stream transport. Source of the semantics: `asyncio.sslproto.SSLProtocol`.
///
/// It has a dictionary, as programs put a `connection_lost` of their own there to hear of the end.
#[pyclass(frozen, weakref, dict, module = "whorl._core")]
#[derive(Debug)]
pub struct TlsProtocol {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) context: Py<PyAny>,
    pub(super) options: TlsOptions,
    pub(super) ssl_object: Py<PyAny>,
    pub(super) engine: EngineCell,
    pub(super) phase: AtomicCell<TlsPhase>,
    pub(super) state: OwnerCell<TlsState>,
}

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
        notified: Notified,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let (engine, ssl_object) =
            engine::connect(options.sslcontext.bind(py), side, event_loop.get().owner())?;
        let marks = |high: usize| WaterMarks::new(None, Some(high), high).or_raise();
        let state = TlsState {
            notified,
            reading: TlsReading::On,
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
            engine,
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

    /// Whether the loop runs on another thread, so that the state does not open here.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.state.with(|_state| ()) == Err(BorrowError::OtherThread)
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
    pub(super) fn notify<'py, const N: usize>(
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

    /// Gives the handshake's waiter its result; once.
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
            (HandshakeWaiter::Native(object, done), outcome) => done(object.bind(py), outcome),
            (HandshakeWaiter::Server, Err(error)) if self.loop_of(py).get().is_debug() => {
                // asyncio reports it in debug mode only: any peer may connect and not speak TLS.
                self.report(py, "Error on transport creation for incoming connection", error)
            }
            (HandshakeWaiter::Server, _) | (HandshakeWaiter::Notified, _) => Ok(()),
        }
    }

    /// Calls the loop's exception handler.
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
            // What was to come after the call that raised comes when the loop runs again.
            if matches!(self.phase.load(), TlsPhase::Open | TlsPhase::Draining) {
                self.read_later(slf)?;
            }
            return Err(error);
        }
        if error.is_instance_of::<PyOSError>(py) {
            let event_loop = self.loop_of(py);
            if event_loop.get().is_debug() {
                event_loop
                    .call_method1(intern!(py, "_log_transport_error"), (slf, error.value(py), message))?;
            }
        } else {
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

    /// The stream asks for a pause or its end, and so the application is asked, if that is new.
    ///
    /// # Errors
    /// What the application's method raises.
    pub(super) fn change_flow(
        &self,
        py: Python<'_>,
        flow: Flow,
        method: &Bound<'_, PyString>,
    ) -> PyResult<()> {
        let is_new = self.with(|state| std::mem::replace(&mut state.flow, flow) != flow)?;
        if is_new { self.notify(py, method, []).map(drop) } else { Ok(()) }
    }

    /// Writes a line of asyncio's debug log.
    pub(super) fn log_debug(&self, slf: &Bound<'_, Self>, line: &str) -> PyResult<()> {
        let py = slf.py();
        let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
        logger.call_method1(intern!(py, "debug"), (line, slf)).map(drop)
    }
}

/// `asyncio.CancelledError`
pub(super) fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "asyncio", "CancelledError")
}
