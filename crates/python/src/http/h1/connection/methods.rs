//! The Python interface of a connection.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::{ParserLimits, ResponseParser};
use whorl_core::sched::{LoopOwner, OwnerCell};

use super::{
    ConnectionStage, ConnectionState, HttpConnection, KeepAlive, NANOSECONDS, ParserOptions, ReadTimeout,
    Sending, cancel,
};
use crate::event_loop::{EventLoop, clock, new_future};
use crate::http::failures;
use crate::http::h1::exchange::{Exchange, ResponseOptions};
use crate::http::h1::transport_handle::TransportHandle;
use crate::http::poolable::ReuseCheck;
use crate::interpreter::{CloneWith, Collector};
use crate::transport::{Chunk, NativeProtocol, Received, set_result};

#[pymethods]
impl HttpConnection {
    #[new]
    #[pyo3(signature = (r#loop, *_args, **_kwargs))]
    fn new(
        r#loop: &Bound<'_, PyAny>,
        _args: &Bound<'_, PyAny>,
        _kwargs: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let owner = match r#loop.cast::<EventLoop>() {
            Ok(event_loop) => Arc::clone(event_loop.get().owner()),
            Err(_) => Arc::new(LoopOwner::new()),
        };
        let state = ConnectionState {
            handle: None,
            stage: ConnectionStage::New,
            parser: ResponseParser::new(ParserLimits::default()),
            exchange: None,
            keep_alive: KeepAlive::Reuse,
            sending: Sending::Done,
            writing_paused: false,
            reading_paused: false,
            drain_waiters: Vec::new(),
            closed: None,
            permit: None,
            home: None,
            read_timeout: ReadTimeout::default(),
            served: 0,
        };
        Ok(Self { event_loop: r#loop.clone().unbind(), state: OwnerCell::new(owner, state) })
    }

    /// Begin an exchange: the request that is written next gets its response in the exchange returned.
    ///
    /// `method` says how the response is framed (RFC 9112, section 6.3). `read_timeout` is in seconds; the sizes are in
    /// bytes. `strict`: what a server may not send is an error, even where it leaves no doubt.
    #[pyo3(signature = (method, *, read_until_eof=true, decompress=true, buffer_size=262_144,
                        read_timeout=None, max_line_size=8190, max_field_size=8190, max_headers=128,
                        strict=false))]
    #[expect(clippy::too_many_arguments, reason = "a method of Python's, with keywords")]
    fn begin(
        slf: &Bound<'_, Self>,
        method: &str,
        read_until_eof: bool,
        decompress: bool,
        buffer_size: usize,
        read_timeout: Option<f64>,
        max_line_size: usize,
        max_field_size: usize,
        max_headers: usize,
        strict: bool,
    ) -> PyResult<Py<Exchange>> {
        let options = ResponseOptions { buffer_size, decompress, read_until_eof };
        let parsing = ParserOptions::new(max_line_size, max_field_size, max_headers, strict);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive timeout")]
        let limit = |seconds: f64| (seconds * NANOSECONDS) as u64;
        let read_timeout = read_timeout.filter(|seconds| *seconds > 0.0).map(limit);
        Self::begin_with(slf, method, options, parsing, read_timeout)
    }

    /// The request is written: the connection is free once its response has come, and the peer's silence counts.
    pub fn sent(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let awaited = this.with(|state| {
            state.sending = Sending::Done;
            state.exchange.is_some()
        })?;
        if awaited { this.start_read_timeout(slf) } else { this.exchange_ended(slf) }
    }

    /// Write bytes, or a list of pieces.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match data.cast_exact::<pyo3::types::PyList>() {
            Ok(pieces) => self.write_chunks(py, Chunk::all(pieces.as_any())?.into_iter()),
            Err(_) => self.write_chunks(py, std::iter::once(Chunk::new(data)?)),
        }
    }

    /// A future for the end of a pause in writing, or None if there is none.
    fn drain_waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !self.with(|state| state.writing_paused)? {
            return Ok(None);
        }
        let future = new_future(self.event_loop.bind(py))?.unbind();
        self.with_attached(py, |state, at| state.drain_waiters.push(future.clone_with(at)))?;
        Ok(Some(future))
    }

    /// Hand all later bytes and events to `sink`: `data_received`, `eof_received`, `connection_lost`,
    /// `pause_writing`, `resume_writing`.
    fn upgrade(slf: &Bound<'_, Self>, sink: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let previous = this.with(|state| {
            let timer = state.read_timeout.stop();
            state.read_timeout.limit = None;
            match state.stage {
                ConnectionStage::Lost => (None, timer),
                _ => (Some(std::mem::replace(&mut state.stage, ConnectionStage::Handed(sink))), timer),
            }
        })?;
        cancel(py, previous.1)?;
        Self::resume_reading(slf)?;
        match previous.0 {
            Some(ConnectionStage::Upgraded(kept)) => this.hand_over(slf, kept),
            _ => Ok(()),
        }
    }

    /// Close the connection; its permit, if it has one, is given back.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf)
    }

    /// Close the connection at once: unsent bytes are dropped.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.get().call_transport(py, intern!(py, "abort"))?;
        Self::give_up(slf)
    }

    /// Give the connection back to its pool; it is closed if an exchange on it is not over.
    pub fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        let busy = slf.get().with(|state| {
            state.exchange.is_some() || state.keep_alive == KeepAlive::Close || state.sending == Sending::Body
        })?;
        if busy { Self::give_up(slf) } else { slf.get().exchange_ended(slf) }
    }

    /// Whether it still has the permit that it had when it was taken for the `served`th time.
    fn has_permit(&self, served: u64) -> PyResult<bool> {
        self.with(|state| state.served == served && state.permit.is_some())
    }

    /// Call `callback` when it is given back, or closed.
    fn on_release(&self, callback: Py<PyAny>) -> PyResult<()> {
        let mut callback = Some(callback);
        self.with(|state| {
            if let Some(permit) = &mut state.permit
                && let Some(callback) = callback.take()
            {
                permit.on_end(callback);
            }
        })
    }

    /// The exchange that it is in.
    #[getter]
    fn exchange(&self, py: Python<'_>) -> PyResult<Option<Py<Exchange>>> {
        self.with_attached(py, |state, at| state.exchange.as_ref().map(|exchange| exchange.clone_with(at)))
    }

    /// Close the connection when the exchange that it is in has ended.
    fn force_close(&self) -> PyResult<()> {
        self.close_after_exchange()
    }

    /// Fail the exchange that the connection is in with `exc`.
    #[pyo3(signature = (exc, exc_cause=None))]
    fn set_exception(
        slf: &Bound<'_, Self>,
        exc: &Bound<'_, PyAny>,
        exc_cause: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        if let Some(cause) = exc_cause {
            exc.setattr("__cause__", cause)?;
        }
        let exchange = slf.get().with_attached(py, |state, at| {
            state.keep_alive = KeepAlive::Close;
            state.exchange.as_ref().map(|exchange| exchange.clone_with(at))
        })?;
        match exchange {
            Some(exchange) => exchange.get().fail(exchange.bind(py), exc.clone().unbind()),
            None => Ok(()),
        }
    }

    /// Whether it is connected and not closing.
    fn is_connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_usable(py, ReuseCheck::Known)
    }

    /// The transport, until it is closed.
    #[getter]
    pub fn transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.handle(py)?.map(|handle| handle.object(py)))
    }

    /// Whether it must not serve another request.
    #[getter]
    fn should_close(&self) -> PyResult<bool> {
        self.with(|state| state.keep_alive == KeepAlive::Close || state.exchange.is_some())
    }

    /// Whether another protocol has it.
    #[getter]
    fn upgraded(&self) -> PyResult<bool> {
        self.with(|state| matches!(state.stage, ConnectionStage::Upgraded(_) | ConnectionStage::Handed(_)))
    }

    /// Whether the transport has paused writing.
    #[getter]
    fn writing_paused(&self) -> PyResult<bool> {
        self.is_writing_paused()
    }

    /// Whether the peer is made to wait.
    #[getter]
    fn _reading_paused(&self) -> PyResult<bool> {
        self.with(|state| state.reading_paused)
    }

    /// The key of its permit.
    #[getter]
    fn key(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        // The pool is asked with the state closed.
        let Some(permit) = self.with(|state| state.permit.take())? else { return Ok(None) };
        let key = permit.key(py);
        let _none = self.with(|state| state.permit.replace(permit))?;
        key
    }

    /// How many requests it was taken for.
    #[getter]
    fn served(&self) -> PyResult<u64> {
        self.with(|state| state.served)
    }

    /// Seconds of silence after which a response is given up; None: never.
    #[getter]
    fn read_timeout(&self) -> PyResult<Option<f64>> {
        self.with(|state| state.read_timeout.limit.map(clock::seconds))
    }

    /// A future that is done when the connection is closed; None if it is.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (known, lost) = self.with_attached(py, |state, at| {
            (
                state.closed.as_ref().map(|closed| closed.clone_with(at)),
                matches!(state.stage, ConnectionStage::Lost),
            )
        })?;
        if known.is_some() || lost {
            return Ok(known);
        }
        let future = new_future(self.event_loop.bind(py))?.unbind();
        let kept = future.clone_ref(py);
        let _previous = self.with(|state| state.closed.replace(kept))?;
        Ok(Some(future))
    }

    /// The loop.
    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Make the peer wait.
    #[pyo3(name = "pause_reading")]
    fn py_pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause_reading(slf)
    }

    /// Resume reading.
    #[pyo3(name = "resume_reading")]
    fn py_resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume_reading(slf)
    }

    fn _check_read_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_read_timeout(slf)
    }

    /// asyncio: the connection is there.
    fn connection_made(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let handle = TransportHandle::of(transport);
        let _previous = self.with(|state| {
            state.stage = ConnectionStage::Http;
            state.handle.replace(handle)
        })?;
        Ok(())
    }

    /// asyncio: data has come; a transport of ours calls the native way instead.
    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        Self::received(slf, Received::Object(data.clone()))
    }

    /// asyncio: the peer will send no more. The transport closes itself.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let (sink, timer) = slf.get().with_attached(py, |state, at| {
            let sink = match &state.stage {
                ConnectionStage::Handed(sink) => Some(sink.clone_with(at)),
                _ => None,
            };
            (sink, state.read_timeout.stop())
        })?;
        cancel(py, timer)?;
        match sink {
            Some(sink) => sink.call_method0(py, intern!(py, "eof_received")).map(Some),
            None => Ok(None),
        }
    }

    /// asyncio: the connection is lost.
    fn connection_lost(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let cause = (!exc.is_none()).then_some(exc);
        let lost = this.with_attached(py, |state, at| {
            let stage = std::mem::replace(&mut state.stage, ConnectionStage::Lost);
            let timer = state.read_timeout.stop();
            (
                stage,
                timer,
                state.handle.take(),
                state.exchange.take(),
                state.permit.take(),
                state.closed.as_ref().map(|closed| closed.clone_with(at)),
                std::mem::take(&mut state.drain_waiters),
                state.parser.finish(),
                state.home.take(),
            )
        })?;
        let (stage, timer, handle, exchange, permit, closed, drain_waiters, finish, home) = lost;
        cancel(py, timer)?;
        match (permit, home) {
            (Some(permit), _) => permit.end(py, None)?,
            (None, Some(home)) => home.forget(py, slf.as_any())?,
            (None, None) => {}
        }
        if let Some(exchange) = exchange {
            // Our side closes by dropping the transport first.
            let by_us = handle.is_none() && cause.is_none();
            Self::end_exchange(exchange.bind(py), finish, cause, by_us)?;
        }
        for waiter in drain_waiters {
            let waiter = waiter.bind(py);
            if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
                let error = failures::error(py, "ClientConnectionResetError", "Connection lost")?;
                waiter.call_method1(intern!(py, "set_exception"), (error,))?;
            }
        }
        if let Some(closed) = closed {
            let closed = closed.bind(py);
            match cause {
                None => set_result(closed)?,
                Some(cause) if !closed.call_method0(intern!(py, "done"))?.is_truthy()? => {
                    closed.call_method1(intern!(py, "set_exception"), (failures::lost(py, cause)?,))?;
                    // A waiter gets the exception; without one it is no error.
                    closed.call_method0(intern!(py, "exception"))?;
                }
                Some(_) => {}
            }
        }
        match stage {
            ConnectionStage::Handed(sink) => {
                sink.call_method1(py, intern!(py, "connection_lost"), (exc,)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// asyncio: the write buffer is above the high-water mark.
    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        match self.pause_or_resume(py, true)? {
            Some(sink) => sink.call_method0(py, intern!(py, "pause_writing")).map(drop),
            None => Ok(()),
        }
    }

    /// asyncio: the write buffer is below the low-water mark.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        let sink = self.pause_or_resume(py, false)?;
        for waiter in self.with(|state| std::mem::take(&mut state.drain_waiters))? {
            set_result(waiter.bind(py))?;
        }
        match sink {
            Some(sink) => sink.call_method0(py, intern!(py, "resume_writing")).map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                if let Some(handle) = &state.handle {
                    handle.visit(*visit)?;
                }
                if let ConnectionStage::Handed(sink) = &state.stage {
                    visit.call(sink)?;
                }
                if let Some(permit) = &state.permit {
                    permit.visit(*visit)?;
                }
                if let Some(home) = &state.home {
                    home.visit(*visit)?;
                }
                visit.call(&state.exchange)?;
                visit.call(&state.closed)?;
                visit.call(&state.read_timeout.timer)?;
                state.drain_waiters.iter().try_for_each(|waiter| visit.call(waiter))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _exchange = self.state.with(|state| state.exchange.take());
        let _handle = self.state.with(|state| state.handle.take());
        let _permit = self.state.with(|state| (state.permit.take(), state.home.take()));
        let _stage = self.state.with(|state| std::mem::replace(&mut state.stage, ConnectionStage::Lost));
        let _timer = self.state.with(|state| state.read_timeout.timer.take());
    }
}
