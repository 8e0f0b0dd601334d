//! A connection to a server: an asyncio protocol over a transport, with the HTTP/1.1 codec in it.
//!
//! A transport of ours hands its bytes over where they were received ([`HttpConnection::take`]), with no bytes object in
//! between; any other loop's calls `data_received()`.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::{Error, Event, Finish, Limits, RequestKind, ResponseParser};
use whorl_core::sched::{Owned, Owner};

use super::exchange::{self, Effects, Exchange, Phase, Wishes};
use super::fault::{self, Fault};
use super::link::Link;
use super::pool::{ConnectionPool, Lease};
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, clock};
use crate::interpreter::new_future;
use crate::transport::{Chunk, set_result};

/// What the connection is doing.
#[derive(Debug)]
enum Stage {
    /// It has no transport yet.
    New,
    /// Ready for a request, or answering one.
    Http,
    /// Another protocol's from here on: nobody has asked for its bytes yet.
    Upgraded(Vec<u8>),
    /// The same; they go there.
    Handed(Py<PyAny>),
    /// `connection_lost()` was called.
    Lost,
}

/// How a connection may go on after the exchange that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Future {
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

/// When to give up on a silent peer.
#[derive(Debug, Default)]
struct ReadTimeout {
    /// Nanoseconds; none: never.
    limit: Option<u64>,
    /// Since when nothing has come; none while nothing is awaited.
    silent_since: Option<u64>,
    /// The timer, which looks when it is due whether anything has come since it was set.
    timer: Option<Py<PyAny>>,
}

/// The state, which belongs to the loop's thread.
#[derive(Debug)]
struct State {
    link: Option<Link>,
    stage: Stage,
    parser: ResponseParser,
    exchange: Option<Py<Exchange>>,
    future: Future,
    sending: Sending,
    writing_paused: bool,
    reading_paused: bool,
    drain_waiters: Vec<Py<PyAny>>,
    closed: Option<Py<PyAny>>,
    lease: Option<Lease>,
    /// Where it is kept while nobody uses it.
    home: Option<Py<ConnectionPool>>,
    read_timeout: ReadTimeout,
    served: u64,
}

/// What bytes came to, before anything is called.
#[derive(Debug, Default)]
pub struct Taken {
    exchange: Option<Py<Exchange>>,
    effects: Effects,
    outcome: Outcome,
}

#[derive(Debug, Default)]
enum Outcome {
    /// There is more to come.
    #[default]
    Open,
    /// The message has ended.
    Ended,
    /// The exchange has failed, in its head or its body.
    Failed(Fault, bool),
    /// Bytes that nobody asked for.
    Stray,
    /// Bytes of another protocol.
    Foreign(Vec<u8>),
}

/// A connection to a server. Source of the semantics: `aiohttp.client_proto.ResponseHandler`.
#[pyclass(frozen, weakref, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct HttpConnection {
    event_loop: Py<PyAny>,
    state: Owned<State>,
}

const NANOSECONDS: f64 = 1e9;

impl HttpConnection {
    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// Takes what the transport has received. Calls nothing foreign: the memory is the loop's.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    pub fn take(&self, py: Python<'_>, input: &[u8]) -> PyResult<Taken> {
        let mut taken = Taken::default();
        self.with(|state| state.take(py, input, &mut taken))??;
        Ok(taken)
    }

    /// Does what the bytes ask for.
    ///
    /// # Errors
    /// What the reader, the sink or a callback raises.
    pub fn on_data(slf: &Bound<'_, Self>, taken: Taken) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Taken { exchange, effects, outcome } = taken;
        let exchange = exchange.map(|exchange| exchange.into_bound(py));
        match outcome {
            Outcome::Open => {}
            // The connection is free before anybody is told, so that who is told finds it so.
            Outcome::Ended => this.exchange_ended(slf)?,
            Outcome::Failed(fault, in_head) => {
                Self::give_up(slf)?;
                let Some(exchange) = &exchange else { return Ok(()) };
                exchange.get().act(exchange, effects)?;
                let error = if in_head { fault.in_head(py)? } else { fault.in_body(py)? };
                return exchange.get().fail(exchange, error);
            }
            Outcome::Stray => return Self::give_up(slf),
            Outcome::Foreign(data) => {
                if let Some(exchange) = &exchange {
                    exchange.get().act(exchange, effects)?;
                }
                return this.hand_over(slf, data);
            }
        }
        match &exchange {
            Some(exchange) => exchange.get().act(exchange, effects),
            None => Ok(()),
        }
    }

    /// Bytes of another protocol, to who speaks it.
    fn hand_over(&self, slf: &Bound<'_, Self>, data: Vec<u8>) -> PyResult<()> {
        /// What is kept for a protocol that has not been set; more waits in the kernel.
        const KEPT: usize = 256 * 1024;
        let py = slf.py();
        let mut data = Some(data);
        let (sink, full) = self.with(|state| match &mut state.stage {
            Stage::Handed(sink) => (Some(sink.clone_ref(py)), false),
            Stage::Upgraded(kept) => {
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

    /// All of the answer is here: the connection goes back to its pool, or is closed.
    fn exchange_ended(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (reuse, lease, timer, paused, _exchange) = self.with(|state| {
            // A body that is still being sent is of no use to the server: the connection cannot serve another. It is let
            // go of when its sender has heard of that (`sent()`, `close()`).
            let sending = state.sending == Sending::Body;
            if sending {
                state.future = Future::Close;
            }
            let reuse = state.future == Future::Reuse;
            let paused = std::mem::take(&mut state.reading_paused);
            let lease = if sending { None } else { Some(state.lease.take()) };
            (reuse, lease, state.read_timeout.stop(), paused, state.exchange.take())
        })?;
        cancel(py, timer)?;
        let Some(lease) = lease else { return Ok(()) };
        if paused && reuse {
            self.call_link(py, intern!(py, "resume_reading"))?;
        }
        if !reuse {
            self.close_link(py)?;
        }
        match lease {
            Some(lease) => lease.end(py, reuse.then(|| slf.clone().unbind())),
            None => Ok(()),
        }
    }

    /// Closes the connection, whatever it is doing, and gives its place in the pool back.
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // An exchange that it is in is told by `connection_lost()`.
        let (lease, timer) = this.with(|state| {
            state.future = Future::Close;
            (state.lease.take(), state.read_timeout.stop())
        })?;
        cancel(py, timer)?;
        this.close_link(py)?;
        match lease {
            Some(lease) => lease.end(py, None),
            None => Ok(()),
        }
    }

    fn link(&self, py: Python<'_>) -> PyResult<Option<Link>> {
        self.with(|state| state.link.as_ref().map(|link| link.clone_ref(py)))
    }

    fn call_link(&self, py: Python<'_>, method: &Bound<'_, PyString>) -> PyResult<()> {
        match self.link(py)? {
            Some(link) => link.call(py, method),
            None => Ok(()),
        }
    }

    fn close_link(&self, py: Python<'_>) -> PyResult<()> {
        match self.with(|state| state.link.take())? {
            Some(link) => link.call(py, intern!(py, "close")),
            None => Ok(()),
        }
    }

    /// Makes the peer wait, until [`HttpConnection::resume_reading`].
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (first, timer) = this.with(|state| {
            let first = !std::mem::replace(&mut state.reading_paused, true);
            (first, first.then(|| state.read_timeout.stop()).flatten())
        })?;
        cancel(py, timer)?;
        if first { this.call_link(py, intern!(py, "pause_reading")) } else { Ok(()) }
    }

    /// Goes on.
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.with(|state| std::mem::take(&mut state.reading_paused))? {
            return Ok(());
        }
        this.call_link(py, intern!(py, "resume_reading"))?;
        this.start_read_timeout(slf)
    }

    /// Counts the peer's silence from now on.
    fn start_read_timeout(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let delay = self.with(|state| {
            let timeout = &mut state.read_timeout;
            let limit = timeout.limit?;
            timeout.silent_since = Some(clock::now());
            timeout.timer.is_none().then_some(limit)
        })?;
        match delay {
            Some(delay) => self.set_read_timer(slf, delay),
            None => Ok(()),
        }
    }

    fn set_read_timer(&self, slf: &Bound<'_, Self>, delay: u64) -> PyResult<()> {
        let py = slf.py();
        let method = slf.getattr(intern!(py, "_check_read_timeout"))?;
        let timer = self
            .event_loop
            .bind(py)
            .call_method1(intern!(py, "call_later"), (clock::seconds(delay), method))?;
        let _former = self.with(|state| state.read_timeout.timer.replace(timer.unbind()))?;
        Ok(())
    }

    /// Awaits an answer; `read_timeout` is in nanoseconds.
    ///
    /// # Errors
    /// RuntimeError if it is in an exchange.
    pub fn begin_with(
        slf: &Bound<'_, Self>,
        method: &str,
        wishes: Wishes,
        limits: Limits,
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
            Exchange::make(py, this.event_loop.clone_ref(py), owner, slf.clone().unbind(), wishes)?.unbind();
        let reference = exchange.clone_ref(py);
        let begun = this.with(|state| {
            if state.exchange.is_some() {
                return false;
            }
            state.parser.set_limits(limits);
            // 101 to a request that offered nothing is let through, as in aiohttp: the connection serves nobody else.
            state.parser.expect(kind, true);
            state.exchange = Some(reference);
            state.sending = Sending::Body;
            state.read_timeout.limit = read_timeout;
            true
        })?;
        if begun { Ok(exchange) } else { Err(exchange::busy()) }
    }

    /// Writes `chunks`.
    ///
    /// # Errors
    /// ClientConnectionResetError once it is closed.
    pub fn write_chunks(&self, py: Python<'_>, chunks: impl Iterator<Item = Chunk>) -> PyResult<()> {
        match self.link(py)? {
            Some(link) => link.write(py, chunks),
            None => {
                let text = "Cannot write to closing transport";
                let error = fault::error(py, "ClientConnectionResetError", text)?;
                Err(PyErr::from_value(error.into_bound(py)))
            }
        }
    }

    /// Makes it serve a place of a pool's.
    pub fn set_lease(&self, py: Python<'_>, lease: Lease) -> PyResult<()> {
        let home = lease.pool().clone_ref(py);
        let _former = self.with(|state| {
            state.served += 1;
            if lease.is_for_one_request() {
                state.future = Future::Close;
            }
            (state.lease.replace(lease), state.home.replace(home))
        })?;
        Ok(())
    }

    /// Whether it has a transport.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn is_open(&self) -> PyResult<bool> {
        self.with(|state| state.link.is_some())
    }

    /// Whether it can take a request.
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn is_usable(&self, py: Python<'_>) -> PyResult<bool> {
        match self.link(py)? {
            Some(link) => Ok(!link.is_closing(py)?),
            None => Ok(false),
        }
    }
}

fn cancel(py: Python<'_>, timer: Option<Py<PyAny>>) -> PyResult<()> {
    match timer {
        Some(timer) => timer.call_method0(py, intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}

impl ReadTimeout {
    #[must_use]
    fn stop(&mut self) -> Option<Py<PyAny>> {
        self.silent_since = None;
        self.timer.take()
    }
}

impl State {
    /// Parses `input`, which is everything that has arrived.
    fn take(&mut self, py: Python<'_>, mut input: &[u8], taken: &mut Taken) -> PyResult<()> {
        if let Stage::Upgraded(_) | Stage::Handed(_) = self.stage {
            taken.outcome = Outcome::Foreign(input.to_vec());
            return Ok(());
        }
        if let Some(since) = &mut self.read_timeout.silent_since {
            *since = clock::now();
        }
        let Some(exchange) = &self.exchange else {
            taken.outcome = Outcome::Stray;
            return Ok(());
        };
        taken.exchange = Some(exchange.clone_ref(py));
        let parser = &mut self.parser;
        let (stage, future) = (&mut self.stage, &mut self.future);
        let effects = &mut taken.effects;
        taken.outcome = exchange.get().with(|exchange| {
            loop {
                let step = parser.parse(input).map_err(Fault::from).and_then(|(event, used)| {
                    input = input.get(used..).unwrap_or_default();
                    match event {
                        Event::NeedMore => return Ok(Some(Outcome::Open)),
                        Event::Informational(head) => {
                            if head.status == 100 {
                                exchange.take_continue(effects);
                            }
                        }
                        Event::Head(head, framing) => {
                            exchange.take_continue(effects);
                            exchange.take_head(head, framing, effects)?;
                            if exchange.ignores_body() {
                                *future = Future::Close;
                                exchange.take_end(effects)?;
                                return Ok(Some(Outcome::Ended));
                            }
                        }
                        Event::Data(data) => exchange.take_data(py, data, effects)?,
                        Event::ChunkEnd => exchange.take_chunk_end(py, effects),
                        Event::Trailers(_) => {}
                        Event::End { keep_alive } => {
                            // Bytes behind the answer are nobody's: the connection cannot be trusted with another.
                            if !keep_alive || !input.is_empty() {
                                *future = Future::Close;
                            }
                            exchange.take_end(effects)?;
                            return Ok(Some(Outcome::Ended));
                        }
                        Event::Tunnel => {
                            *stage = Stage::Upgraded(Vec::new());
                            *future = Future::Close;
                            return Ok(Some(Outcome::Foreign(input.to_vec())));
                        }
                    }
                    Ok(None)
                });
                match step {
                    Ok(None) => {}
                    Ok(Some(outcome)) => return outcome,
                    Err(fault) => {
                        *future = Future::Close;
                        return Outcome::Failed(fault, matches!(exchange.phase, Phase::Waiting));
                    }
                }
            }
        })?;
        Ok(())
    }
}

#[pymethods]
impl HttpConnection {
    #[new]
    #[pyo3(signature = (loop_))]
    fn new(loop_: &Bound<'_, PyAny>) -> PyResult<Self> {
        let owner = match loop_.cast::<EventLoop>() {
            Ok(event_loop) => Arc::clone(event_loop.get().owner()),
            Err(_) => Arc::new(Owner::new()),
        };
        let state = State {
            link: None,
            stage: Stage::New,
            parser: ResponseParser::new(Limits::default()),
            exchange: None,
            future: Future::Reuse,
            sending: Sending::Done,
            writing_paused: false,
            reading_paused: false,
            drain_waiters: Vec::new(),
            closed: None,
            lease: None,
            home: None,
            read_timeout: ReadTimeout::default(),
            served: 0,
        };
        Ok(Self { event_loop: loop_.clone().unbind(), state: Owned::new(owner, state) })
    }

    /// Await an answer: the request that is written next is answered by the exchange returned.
    ///
    /// `method` says how the answer is framed (RFC 9112, section 6.3). `read_timeout` is in seconds; the sizes are in bytes.
    #[pyo3(signature = (method, *, read_until_eof=true, decompress=true, buffer_size=262_144,
                        read_timeout=None, max_line_size=8190, max_field_size=8190, max_headers=128))]
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
    ) -> PyResult<Py<Exchange>> {
        let wishes = Wishes { buffer_size, decompress, read_until_eof };
        let limits = Limits::new(max_line_size, max_field_size, max_headers);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive time limit")]
        let limit = |seconds: f64| (seconds * NANOSECONDS) as u64;
        let read_timeout = read_timeout.filter(|seconds| *seconds > 0.0).map(limit);
        Self::begin_with(slf, method, wishes, limits, read_timeout)
    }

    /// The request is written: the connection is free once its answer has come, and the peer's silence counts.
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

    /// A future for room to write, or None if there is.
    fn drain_waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !self.with(|state| state.writing_paused)? {
            return Ok(None);
        }
        let future = new_future(self.event_loop.bind(py))?.unbind();
        self.with(|state| state.drain_waiters.push(future.clone_ref(py)))?;
        Ok(Some(future))
    }

    /// Hand everything that comes from now on to `sink`: `data_received`, `eof_received`, `connection_lost`,
    /// `pause_writing`, `resume_writing`.
    fn upgrade(slf: &Bound<'_, Self>, sink: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let former = this.with(|state| {
            let timer = state.read_timeout.stop();
            state.read_timeout.limit = None;
            match state.stage {
                Stage::Lost => (None, timer),
                _ => (Some(std::mem::replace(&mut state.stage, Stage::Handed(sink))), timer),
            }
        })?;
        cancel(py, former.1)?;
        Self::resume_reading(slf)?;
        match former.0 {
            Some(Stage::Upgraded(kept)) => this.hand_over(slf, kept),
            _ => Ok(()),
        }
    }

    /// Close the connection; the place in the pool, if it has one, is given back.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf)
    }

    /// Close the connection at once: what is not sent is dropped.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.get().call_link(py, intern!(py, "abort"))?;
        Self::give_up(slf)
    }

    /// Give the connection back to its pool; it is closed if an exchange on it is not over.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        let busy = slf.get().with(|state| {
            state.exchange.is_some() || state.future == Future::Close || state.sending == Sending::Body
        })?;
        if busy { Self::give_up(slf) } else { slf.get().exchange_ended(slf) }
    }

    /// Whether it still has the place in the pool that it had when it was taken for the `served`th time.
    fn is_leased(&self, served: u64) -> PyResult<bool> {
        self.with(|state| state.served == served && state.lease.is_some())
    }

    /// Call `callback` when it is given back, or closed.
    fn on_release(&self, callback: Py<PyAny>) -> PyResult<()> {
        let mut callback = Some(callback);
        self.with(|state| {
            if let Some(lease) = &mut state.lease {
                lease.callbacks.extend(callback.take());
            }
        })
    }

    /// The exchange that it is in.
    #[getter]
    fn exchange(&self, py: Python<'_>) -> PyResult<Option<Py<Exchange>>> {
        self.with(|state| state.exchange.as_ref().map(|exchange| exchange.clone_ref(py)))
    }

    /// Close the connection when the exchange that it is in has ended.
    fn force_close(&self) -> PyResult<()> {
        self.with(|state| state.future = Future::Close)
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
        let exchange = slf.get().with(|state| {
            state.future = Future::Close;
            state.exchange.as_ref().map(|exchange| exchange.clone_ref(py))
        })?;
        match exchange {
            Some(exchange) => exchange.get().fail(exchange.bind(py), exc.clone().unbind()),
            None => Ok(()),
        }
    }

    /// Whether it is connected and not closing.
    fn is_connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_usable(py)
    }

    /// The transport, until it is closed.
    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.link(py)?.map(|link| link.object(py)))
    }

    /// Whether it must not serve another request.
    #[getter]
    fn should_close(&self) -> PyResult<bool> {
        self.with(|state| state.future == Future::Close || state.exchange.is_some())
    }

    /// Whether another protocol has it.
    #[getter]
    fn upgraded(&self) -> PyResult<bool> {
        self.with(|state| matches!(state.stage, Stage::Upgraded(_) | Stage::Handed(_)))
    }

    /// Whether the transport asks for a pause in writing.
    #[getter]
    fn writing_paused(&self) -> PyResult<bool> {
        self.with(|state| state.writing_paused)
    }

    /// Whether the peer is made to wait.
    #[getter]
    fn _reading_paused(&self) -> PyResult<bool> {
        self.with(|state| state.reading_paused)
    }

    /// The key of its place in the pool.
    #[getter]
    fn key(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let lease = self.with(|state| state.lease.as_ref().map(Lease::place))?;
        match (lease, self.with(|state| state.home.as_ref().map(|home| home.clone_ref(py)))?) {
            (Some(place), Some(home)) => home.get().key_of(py, place),
            _ => Ok(None),
        }
    }

    /// How many requests it was taken for.
    #[getter]
    fn served(&self) -> PyResult<u64> {
        self.with(|state| state.served)
    }

    /// Seconds of silence after which an answer is given up; None: never.
    #[getter]
    fn read_timeout(&self) -> PyResult<Option<f64>> {
        self.with(|state| state.read_timeout.limit.map(clock::seconds))
    }

    /// A future that is done when the connection is closed; None if it is.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (known, lost) = self.with(|state| {
            (state.closed.as_ref().map(|closed| closed.clone_ref(py)), matches!(state.stage, Stage::Lost))
        })?;
        if known.is_some() || lost {
            return Ok(known);
        }
        let future = new_future(self.event_loop.bind(py))?.unbind();
        let _former = self.with(|state| state.closed.replace(future.clone_ref(py)))?;
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

    /// Go on.
    #[pyo3(name = "resume_reading")]
    fn py_resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume_reading(slf)
    }

    fn _check_read_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (wait, exchange, _timer) = this.with(|state| {
            let timeout = &mut state.read_timeout;
            let timer = timeout.timer.take();
            let (Some(limit), Some(since)) = (timeout.limit, timeout.silent_since) else {
                return (None, None, timer);
            };
            let left = since.saturating_add(limit).saturating_sub(clock::now());
            let exchange = state.exchange.as_ref().map(|exchange| exchange.clone_ref(py));
            (Some(left), exchange, timer)
        })?;
        match (wait, exchange) {
            (Some(0), Some(exchange)) => {
                let error = fault::error(py, "SocketTimeoutError", "Timeout on reading data from socket")?;
                Self::give_up(slf)?;
                exchange.get().fail(exchange.bind(py), error)
            }
            (Some(left), Some(_)) => this.set_read_timer(slf, left),
            _ => Ok(()),
        }
    }

    /// asyncio: the connection is there.
    fn connection_made(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let link = Link::of(transport);
        let _former = self.with(|state| {
            state.stage = Stage::Http;
            state.link.replace(link)
        })?;
        Ok(())
    }

    /// asyncio: data has come; a transport of ours calls the native way instead.
    pub fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let taken = slf.get().take(slf.py(), data.as_bytes())?;
        Self::on_data(slf, taken)
    }

    /// asyncio: the peer will send no more. The transport closes itself.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let (sink, timer) = slf.get().with(|state| {
            let sink = match &state.stage {
                Stage::Handed(sink) => Some(sink.clone_ref(py)),
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

    /// asyncio: the connection is gone.
    fn connection_lost(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let cause = (!exc.is_none()).then_some(exc);
        let lost = this.with(|state| {
            let stage = std::mem::replace(&mut state.stage, Stage::Lost);
            let timer = state.read_timeout.stop();
            (
                stage,
                timer,
                state.link.take(),
                state.exchange.take(),
                state.lease.take(),
                state.closed.as_ref().map(|closed| closed.clone_ref(py)),
                std::mem::take(&mut state.drain_waiters),
                state.parser.finish(),
                state.home.take(),
            )
        })?;
        let (stage, timer, link, exchange, lease, closed, drain_waiters, finish, home) = lost;
        cancel(py, timer)?;
        match (lease, home) {
            (Some(lease), _) => lease.end(py, None)?,
            (None, Some(home)) => home.get().forget(slf)?,
            (None, None) => {}
        }
        if let Some(exchange) = exchange {
            // Our side closes by letting go of the transport first.
            let by_us = link.is_none() && cause.is_none();
            Self::end_exchange(exchange.bind(py), finish, cause, by_us)?;
        }
        for waiter in drain_waiters {
            let waiter = waiter.bind(py);
            if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
                let error = fault::error(py, "ClientConnectionResetError", "Connection lost")?;
                waiter.call_method1(intern!(py, "set_exception"), (error,))?;
            }
        }
        if let Some(closed) = closed {
            let closed = closed.bind(py);
            match cause {
                None => set_result(closed)?,
                Some(cause) if !closed.call_method0(intern!(py, "done"))?.is_truthy()? => {
                    closed.call_method1(intern!(py, "set_exception"), (fault::lost(py, cause)?,))?;
                    // Who waits is told; that nobody waits is no error.
                    closed.call_method0(intern!(py, "exception"))?;
                }
                Some(_) => {}
            }
        }
        match stage {
            Stage::Handed(sink) => sink.call_method1(py, intern!(py, "connection_lost"), (exc,)).map(drop),
            _ => Ok(()),
        }
    }

    /// asyncio: more is waiting to be sent than the high-water mark.
    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        match self.pause_or_resume(py, true)? {
            Some(sink) => sink.call_method0(py, intern!(py, "pause_writing")).map(drop),
            None => Ok(()),
        }
    }

    /// asyncio: there is room again.
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
            .with(|state| {
                if let Some(link) = &state.link {
                    link.visit(visit)?;
                }
                if let Stage::Handed(sink) = &state.stage {
                    visit.call(sink)?;
                }
                if let Some(lease) = &state.lease {
                    lease.visit(visit)?;
                }
                visit.call(&state.exchange)?;
                visit.call(&state.home)?;
                visit.call(&state.closed)?;
                visit.call(&state.read_timeout.timer)?;
                state.drain_waiters.iter().try_for_each(|waiter| visit.call(waiter))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _exchange = self.state.with(|state| state.exchange.take());
        let _link = self.state.with(|state| state.link.take());
        let _lease = self.state.with(|state| (state.lease.take(), state.home.take()));
        let _stage = self.state.with(|state| std::mem::replace(&mut state.stage, Stage::Lost));
        let _timer = self.state.with(|state| state.read_timeout.timer.take());
    }
}

impl HttpConnection {
    fn pause_or_resume(&self, py: Python<'_>, paused: bool) -> PyResult<Option<Py<PyAny>>> {
        self.with(|state| {
            state.writing_paused = paused;
            match &state.stage {
                Stage::Handed(sink) => Some(sink.clone_ref(py)),
                _ => None,
            }
        })
    }

    /// The connection is gone: a body that ends with it is complete, anything else has failed.
    fn end_exchange(
        exchange: &Bound<'_, Exchange>,
        finish: Result<Finish, Error>,
        cause: Option<&Bound<'_, PyAny>>,
        by_us: bool,
    ) -> PyResult<()> {
        let py = exchange.py();
        let this = exchange.get();
        let mut effects = Effects::default();
        let waiting = this.with(|state| matches!(state.phase, Phase::Waiting))?;
        if by_us && !waiting {
            return this.fail_closed(exchange);
        }
        let fault = match finish {
            Ok(_) if cause.is_none() && !waiting => match this.with(|state| state.take_end(&mut effects))? {
                Ok(()) => return this.act(exchange, effects),
                Err(fault) => Some(fault),
            },
            Ok(_) => None,
            Err(error) => Some(Fault::from(error)),
        };
        let error = match fault {
            _ if waiting => fault::lost_in_head(py, cause)?,
            Some(fault) => fault::lost_in_body(py, &fault, cause)?,
            None => fault::lost_in_head(py, cause)?,
        };
        this.fail(exchange, error)
    }
}
