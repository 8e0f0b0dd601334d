//! A connection to a server: an asyncio protocol over a transport, with the HTTP/1.1 codec in it.
//!
//! A transport of ours hands its bytes over where they were received ([`HttpConnection::received`]), with no bytes
//! object in between; any other loop's calls `data_received()`.

mod methods;
mod parsing;
mod read_timeout;

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use whorl_core::http1::{Finish, ParseError, ParserLimits, RequestKind, ResponseParser, Tolerance};
use whorl_core::sched::OwnerCell;

use crate::errors::OrRaise;
use crate::event_loop::clock;
use crate::ffi::call_in_context;
use crate::http::body_source::{BodySource, Source};
use crate::http::failures::{self, MessageError};
use crate::http::h1::exchange::{Actions, Exchange, ExchangePhase, ResponseOptions};
use crate::http::h1::transport_handle::TransportHandle;
use crate::http::poolable::{ConnectionPermit, Home, Poolable, PooledConnection, ReuseCheck};
use crate::http::stream_reader::StreamInput;
use crate::interpreter::{Attached, CloneWith};
use crate::transport::{Chunk, NativeProtocol, Received, StreamTransport};

use parsing::{MessagePart, Outcome, Parsed};
use read_timeout::ReadTimeout;

/// The stage of a connection.
#[derive(Debug)]
enum ConnectionStage {
    /// It has no transport yet.
    New,
    /// Ready for a request, or serving one.
    Http,
    /// Another protocol's from here on, which has no sink yet: its bytes are kept.
    Upgraded(Vec<u8>),
    /// The same; its bytes go to this sink.
    Handed(Py<PyAny>),
    /// `connection_lost()` was called.
    Lost,
}

/// Whether a connection serves another request after its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeepAlive {
    /// It may serve another.
    Reuse,
    /// It is to be closed.
    Close,
}

/// Whether a request is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// All of it is written, or there is none.
    Done,
    /// Its body is being written.
    Body,
}

/// How a response is parsed.
#[derive(Clone, Copy, Debug)]
pub struct ParserOptions {
    limits: ParserLimits,
    tolerance: Tolerance,
}

impl ParserOptions {
    /// The sizes are in bytes; `strict`: what a server may not send is an error.
    pub fn new(max_line_size: usize, max_field_size: usize, max_headers: usize, strict: bool) -> Self {
        Self {
            limits: ParserLimits::new(max_line_size, max_field_size, max_headers),
            tolerance: if strict { Tolerance::Strict } else { Tolerance::UserAgent },
        }
    }
}

/// The state, which belongs to the loop's thread.
#[derive(Debug)]
struct ConnectionState {
    handle: Option<TransportHandle>,
    stage: ConnectionStage,
    parser: ResponseParser,
    exchange: Option<Py<Exchange>>,
    keep_alive: KeepAlive,
    sending: Sending,
    writing_paused: bool,
    reading_paused: bool,
    drain_waiters: Vec<Py<PyAny>>,
    closed: Option<Py<PyAny>>,
    permit: Option<Box<dyn ConnectionPermit>>,
    /// The pool that keeps it while it is idle.
    home: Option<Box<dyn Home>>,
    read_timeout: ReadTimeout,
    served: u64,
}

/// A connection to a server. Source of the semantics: `aiohttp.client_proto.ResponseHandler`.
#[pyclass(frozen, weakref, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct HttpConnection {
    event_loop: Py<PyAny>,
    state: OwnerCell<ConnectionState>,
}

const NANOSECONDS: f64 = 1e9;

impl NativeProtocol for HttpConnection {
    const WITH_SUBCLASSES: bool = true;

    #[inline]
    fn received(slf: &Bound<'_, Self>, bytes: Received<'_, '_>) -> PyResult<()> {
        let mut parsed = slf.get().feed(slf.py(), &bytes)?;
        let spans = std::mem::take(&mut parsed.actions.spans);
        parsed.actions.input = StreamInput::take(slf.py(), bytes, spans);
        Self::on_data(slf, parsed)
    }

    #[inline]
    fn wanted(slf: &Bound<'_, Self>) -> PyResult<Option<usize>> {
        let py = slf.py();
        let exchange = slf.get().with_attached(py, |state, at| {
            let left = state.parser.content_left()?;
            Some((state.exchange.as_ref()?.clone_with(at), left))
        })?;
        match exchange {
            Some((exchange, left)) => Ok(exchange.get().wanted(py)?.and_then(|size| object_size(size, left))),
            None => Ok(None),
        }
    }

    fn eof_received(slf: &Bound<'_, Self>, context: &Py<PyAny>) -> PyResult<bool> {
        let method = slf.getattr(intern!(slf.py(), "eof_received"))?.unbind();
        call_in_context(slf.py(), context, &method, [])?.is_truthy()
    }
}

impl HttpConnection {
    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut ConnectionState) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// The time on the loop's clock, in nanoseconds.
    fn now(&self, py: Python<'_>) -> PyResult<u64> {
        clock::now_on(self.event_loop.bind(py))
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    #[inline]
    fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut ConnectionState, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.state.with_token(at.into(), act).or_raise()
    }

    /// Acts on the parsed bytes.
    ///
    /// # Errors
    /// The exception of the reader, the sink or a callback.
    fn on_data(slf: &Bound<'_, Self>, parsed: Parsed) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Parsed { exchange, mut actions, outcome, breaks_silence } = parsed;
        if let Some(exchange) = &exchange {
            exchange.get().publish(&mut actions);
        }
        if breaks_silence {
            let now = this.now(py)?;
            this.with(|state| {
                if let Some(since) = &mut state.read_timeout.silent_since {
                    *since = now;
                }
            })?;
        }
        let exchange = exchange.map(|exchange| exchange.into_bound(py));
        match outcome {
            Outcome::Open => {}
            // The connection is free before any callback or waiter runs, so that they find it free.
            Outcome::Ended => this.exchange_ended(slf)?,
            Outcome::Failed(fault, part) => {
                Self::give_up(slf)?;
                let Some(exchange) = &exchange else { return Ok(()) };
                exchange.get().act(exchange, actions)?;
                let error = match part {
                    MessagePart::Head => fault.in_head(py)?,
                    MessagePart::Body => fault.in_body(py)?,
                };
                return exchange.get().fail(exchange, error);
            }
            Outcome::Stray => return Self::give_up(slf),
            Outcome::Foreign(data) => {
                if let Some(exchange) = &exchange {
                    exchange.get().act(exchange, actions)?;
                }
                return this.hand_over(slf, data);
            }
        }
        match &exchange {
            Some(exchange) => exchange.get().act(exchange, actions),
            None => Ok(()),
        }
    }

    /// Hands bytes of another protocol to its sink.
    fn hand_over(&self, slf: &Bound<'_, Self>, data: Vec<u8>) -> PyResult<()> {
        /// The most that is kept for a protocol that has not been set; more waits in the kernel.
        const KEPT: usize = 256 * 1024;
        let py = slf.py();
        let mut data = Some(data);
        let (sink, full) = self.with_attached(py, |state, at| match &mut state.stage {
            ConnectionStage::Handed(sink) => (Some(sink.clone_with(at)), false),
            ConnectionStage::Upgraded(kept) => {
                kept.extend(data.take().unwrap_or_default());
                (None, kept.len() > KEPT)
            }
            _ => (None, false),
        })?;
        if full {
            Self::pause_reading(slf)?;
        }
        match (sink, data) {
            (Some(sink), Some(data)) if !data.is_empty() => {
                sink.call_method1(py, intern!(py, "data_received"), (PyBytes::new(py, &data),)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// All of the response is here: the connection goes back to its pool, or is closed.
    fn exchange_ended(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let unsent = self.has_unsent(py)?;
        let (reuse, permit, timer, paused, _exchange) = self.with(|state| {
            // A body that is not sent yet is of no use to the server: the connection cannot serve another. It is released when
            // its sender has noticed (`sent()`, `close()`).
            let sending = state.sending == Sending::Body;
            if sending || unsent {
                state.keep_alive = KeepAlive::Close;
            }
            let reuse = state.keep_alive == KeepAlive::Reuse;
            let paused = std::mem::take(&mut state.reading_paused);
            let permit = if sending { None } else { Some(state.permit.take()) };
            (reuse, permit, state.read_timeout.stop(), paused, state.exchange.take())
        })?;
        cancel(py, timer)?;
        let Some(permit) = permit else { return Ok(()) };
        if paused && reuse {
            self.call_transport(py, intern!(py, "resume_reading"))?;
        }
        if !reuse {
            self.close_transport(py)?;
        }
        match permit {
            Some(permit) => permit.end(py, reuse.then(|| PooledConnection::new(slf))),
            None => Ok(()),
        }
    }

    /// Closes the connection, whatever it is doing, and gives its permit back.
    ///
    /// # Errors
    /// The exception of a foreign transport.
    pub fn give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Its exchange is ended by `connection_lost()`.
        let (permit, timer, handle, in_exchange) = this.with(|state| {
            state.keep_alive = KeepAlive::Close;
            let in_exchange = matches!(state.stage, ConnectionStage::Http)
                && (state.exchange.is_some() || state.sending == Sending::Body);
            (state.permit.take(), state.read_timeout.stop(), state.handle.take(), in_exchange)
        })?;
        cancel(py, timer)?;
        if let Some(handle) = handle {
            // A transport that closes waits for its buffer to drain: without limit, if the peer does not read. The rest
            // of a request whose response is abandoned is not worth that.
            let aborts = in_exchange && handle.has_unsent(py)?;
            handle.call(py, if aborts { intern!(py, "abort") } else { intern!(py, "close") })?;
        }
        match permit {
            Some(permit) => permit.end(py, None),
            None => Ok(()),
        }
    }

    /// Whether something of a request waits in the transport.
    fn has_unsent(&self, py: Python<'_>) -> PyResult<bool> {
        match self.handle(py)? {
            Some(handle) => handle.has_unsent(py),
            None => Ok(false),
        }
    }

    fn handle(&self, py: Python<'_>) -> PyResult<Option<TransportHandle>> {
        self.with_attached(py, |state, at| state.handle.as_ref().map(|handle| handle.clone_with(at)))
    }

    fn call_transport(&self, py: Python<'_>, method: &Bound<'_, PyString>) -> PyResult<()> {
        match self.handle(py)? {
            Some(handle) => handle.call(py, method),
            None => Ok(()),
        }
    }

    fn close_transport(&self, py: Python<'_>) -> PyResult<()> {
        match self.with(|state| state.handle.take())? {
            Some(handle) => handle.call(py, intern!(py, "close")),
            None => Ok(()),
        }
    }

    /// Makes the peer wait, until [`HttpConnection::resume_reading`].
    ///
    /// # Errors
    /// The exception of a foreign transport.
    pub fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (first, timer) = this.with(|state| {
            let first = !std::mem::replace(&mut state.reading_paused, true);
            (first, first.then(|| state.read_timeout.stop()).flatten())
        })?;
        cancel(py, timer)?;
        if first { this.call_transport(py, intern!(py, "pause_reading")) } else { Ok(()) }
    }

    /// Resumes reading.
    ///
    /// # Errors
    /// The exception of a foreign transport.
    pub fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.with(|state| std::mem::take(&mut state.reading_paused))? {
            return Ok(());
        }
        this.call_transport(py, intern!(py, "resume_reading"))?;
        this.start_read_timeout(slf)
    }

    /// Begins an exchange; `read_timeout` is in nanoseconds.
    ///
    /// # Errors
    /// RuntimeError if it is in an exchange.
    pub fn begin_with(
        slf: &Bound<'_, Self>,
        method: &str,
        options: ResponseOptions,
        parsing: ParserOptions,
        read_timeout: Option<u64>,
    ) -> PyResult<Py<Exchange>> {
        let py = slf.py();
        let this = slf.get();
        let kind = match method {
            "HEAD" => RequestKind::Head,
            "CONNECT" => RequestKind::Connect,
            _ => RequestKind::Other,
        };
        let owner = Arc::clone(this.state.owner());
        let exchange =
            Exchange::make(py, this.event_loop.clone_ref(py), owner, Source::new(slf), options)?.unbind();
        let reference = exchange.clone_ref(py);
        let begun = this.with(|state| {
            if state.exchange.is_some() {
                return false;
            }
            state.parser.set_limits(parsing.limits);
            state.parser.set_tolerance(parsing.tolerance);
            // 101 to a request that offered nothing is let through, as in aiohttp: the connection serves no other
            // request.
            state.parser.await_response(kind, true);
            state.exchange = Some(reference);
            state.sending = Sending::Body;
            state.read_timeout.limit = read_timeout;
            true
        })?;
        if begun { Ok(exchange) } else { Err(busy()) }
    }

    /// Writes `chunks`.
    ///
    /// # Errors
    /// ClientConnectionResetError once it is closed.
    pub fn write_chunks(&self, py: Python<'_>, chunks: impl Iterator<Item = Chunk> + Send) -> PyResult<()> {
        match self.handle(py)? {
            Some(handle) => handle.write(py, chunks),
            None => {
                let text = "Cannot write to closing transport";
                let error = failures::error(py, "ClientConnectionResetError", text)?;
                Err(PyErr::from_value(error.into_bound(py)))
            }
        }
    }

    /// Gives it a permit of a pool.
    fn set_permit(&self, py: Python<'_>, permit: Box<dyn ConnectionPermit>) -> PyResult<()> {
        let home = if self.with(|state| state.home.is_none())? { Some(permit.home(py)) } else { None };
        let _previous = self.with(|state| {
            state.served += 1;
            if permit.is_for_one_request() {
                state.keep_alive = KeepAlive::Close;
            }
            if home.is_some() {
                state.home = home;
            }
            state.permit.replace(permit)
        })?;
        Ok(())
    }

    /// Closes it when the exchange that it is in has ended.
    pub fn close_after_exchange(&self) -> PyResult<()> {
        self.with(|state| state.keep_alive = KeepAlive::Close)
    }

    /// Whether the transport has paused writing.
    pub fn is_writing_paused(&self) -> PyResult<bool> {
        self.with(|state| state.writing_paused)
    }

    /// Whether it can take a request.
    ///
    /// # Errors
    /// The exception of a foreign transport.
    pub fn is_usable(&self, py: Python<'_>, check: ReuseCheck) -> PyResult<bool> {
        match self.handle(py)? {
            Some(handle) => Ok(!handle.is_closing(py)? && (check == ReuseCheck::Known || handle.look(py)?)),
            None => Ok(false),
        }
    }
}

/// The size of an object for content, if `left` bytes are to come and the reader takes `size`; none where one is not worth it.
/// It is no more than the loop's buffer has: a reader that takes much more does not have it reserved.
fn object_size(size: usize, left: u64) -> Option<usize> {
    const SIZES: std::ops::RangeInclusive<usize> = 16 * 1024..=256 * 1024;
    let size = usize::try_from(left).map_or(size, |left| left.min(size)).min(*SIZES.end());
    SIZES.contains(&size).then_some(size)
}

impl BodySource for HttpConnection {
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause_reading(slf)
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume_reading(slf)
    }

    fn receive(slf: &Bound<'_, Self>, size: usize) -> PyResult<bool> {
        let py = slf.py();
        let (handle, left) = slf.get().with_attached(py, |state, at| {
            let handle = state.handle.as_ref().filter(|_| !state.reading_paused);
            (handle.map(|handle| handle.clone_with(at)), state.parser.content_left())
        })?;
        match (handle, left.and_then(|left| object_size(size, left))) {
            (Some(TransportHandle::Stream(stream)), Some(size)) => {
                StreamTransport::read_on(stream.bind(py), size)
            }
            _ => Ok(false),
        }
    }

    fn give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf)
    }

    fn is_open(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().with(|state| state.handle.is_some())
    }
}

impl Poolable for HttpConnection {
    fn is_usable(slf: &Bound<'_, Self>, check: ReuseCheck) -> PyResult<bool> {
        slf.get().is_usable(slf.py(), check)
    }

    fn set_permit(slf: &Bound<'_, Self>, permit: Box<dyn ConnectionPermit>) -> PyResult<()> {
        slf.get().set_permit(slf.py(), permit)
    }

    fn give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf)
    }
}

/// RuntimeError for a second request on a connection that is in an exchange.
fn busy() -> PyErr {
    PyRuntimeError::new_err("the connection is in use: HTTP/1.1 answers one request after the other")
}

fn cancel(py: Python<'_>, timer: Option<Py<PyAny>>) -> PyResult<()> {
    match timer {
        Some(timer) => timer.call_method0(py, intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}

impl HttpConnection {
    fn pause_or_resume(&self, py: Python<'_>, paused: bool) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| {
            state.writing_paused = paused;
            match &state.stage {
                ConnectionStage::Handed(sink) => Some(sink.clone_with(at)),
                _ => None,
            }
        })
    }

    /// The connection is gone: a body that ends with it is complete, anything else has failed.
    fn end_exchange(
        exchange: &Bound<'_, Exchange>,
        finish: Result<Finish, ParseError>,
        cause: Option<&Bound<'_, PyAny>>,
        by_us: bool,
    ) -> PyResult<()> {
        let py = exchange.py();
        let this = exchange.get();
        let mut actions = Actions::default();
        let waiting = this.with(|state| matches!(state.phase, ExchangePhase::Waiting))?;
        if by_us {
            return this.fail_closed(exchange);
        }
        let fault = match finish {
            Ok(_) if cause.is_none() && !waiting => match this.with(|state| state.take_end(&mut actions))? {
                Ok(()) => return this.act(exchange, actions),
                Err(fault) => Some(fault),
            },
            Ok(_) => None,
            Err(error) => Some(MessageError::from(error)),
        };
        let error = match (fault, cause) {
            (Some(fault), _) if !waiting => failures::lost_in_body(py, &fault, cause)?,
            (None, Some(cause)) if !waiting => failures::cut_in_body(py, cause)?,
            _ => failures::lost_in_head(py, cause)?,
        };
        this.fail(exchange, error)
    }
}
