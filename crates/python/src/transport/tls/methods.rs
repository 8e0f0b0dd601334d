//! What Python sees of the TLS protocol: the methods that the stream calls, and those that programs do.

use pyo3::exceptions::PyConnectionAbortedError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::net::Flow;

use super::engine::Engine;
use super::protocol::TlsProtocol;
use super::state::{Deferred, HandshakeWaiter, Notified, TlsOptions, TlsPhase, TlsSide};
use super::transport::TlsTransport;
use crate::event_loop::EventLoop;
use crate::ffi::copy_context;
use crate::interpreter::{CloneWith, Collector};
use crate::transport::StreamTransport;
use crate::transport::flow::Writes;
use crate::transport::protocol::HeldProtocol;

#[pymethods]
impl TlsProtocol {
    /// Make a protocol that does a TLS handshake once it has a stream transport, then serves `protocol`.
    ///
    /// Raises ValueError for a timeout that is not positive, TypeError for what is no SSLContext.
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
        let side = if server_side { TlsSide::Server } else { TlsSide::Client { hostname, resumption: None } };
        let waiter = waiter.map_or(HandshakeWaiter::Notified, HandshakeWaiter::Future);
        let notified = if call_connection_made { Notified::Nothing } else { Notified::Made };
        let context = copy_context(event_loop.py())?;
        Self::make(event_loop, context, protocol, options, &side, waiter, notified).map(Bound::unbind)
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
        let (notifies, timers, _transport, _backlog) = this.with(|state| {
            this.phase.store(TlsPhase::Closed);
            let notifies = matches!(state.notified, Notified::Made | Notified::Eof);
            if notifies {
                state.notified = Notified::Lost;
            }
            state.backlog_size = 0;
            (
                notifies,
                (state.handshake_timer.take(), state.shutdown_timer.take()),
                state.transport.take(),
                std::mem::take(&mut state.backlog),
            )
        })?;
        Self::cancel(py, timers.0)?;
        Self::cancel(py, timers.1)?;
        if notifies {
            this.call_soon(slf, intern!(py, "_connection_lost"), Some(exc.clone().unbind()))?;
        } else {
            let _protocol = this.with(|state| state.protocol.take())?;
        }
        let error = if exc.is_none() {
            // The stream was closed in the middle of the handshake.
            PyConnectionAbortedError::new_err(
                "the connection was closed before the SSL handshake was complete",
            )
        } else {
            PyErr::from_value(exc.clone())
        };
        this.wake(py, Err(&error))
    }

    /// Calls the protocol's `connection_lost()`, in a turn of its own, as asyncio does.
    fn _connection_lost(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let outcome = this.notify(py, intern!(py, "connection_lost"), [exc]);
        let _protocol = this.with(|state| state.protocol.take())?;
        outcome.map(drop)
    }

    /// Data from a stream that is not read natively: what a user of this class as a protocol may call.
    fn data_received(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        slf.get().engine()?.feed(py, data)?;
        slf.get().advance(slf)
    }

    /// Ciphertext that was read before the stream was ours.
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
        slf.get().change_flow(slf.py(), Flow::Paused, intern!(slf.py(), "pause_writing"))
    }

    /// The stream's buffer has drained, so the application may continue.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().change_flow(slf.py(), Flow::Open, intern!(slf.py(), "resume_writing"))
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
                if let HandshakeWaiter::Future(future) | HandshakeWaiter::Native(future, _) = &state.waiter {
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
