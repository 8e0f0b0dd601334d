//! An exchange: one request's answer, from the moment it is awaited until its body has ended.
//!
//! The connection fills it, whatever the user does meanwhile; the response takes from it. It outlives the connection's
//! part: a body that has arrived whole is here when the connection serves somebody else already.

use std::sync::Arc;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::coding::Decoder;
use whorl_core::http1::{Framing, ResponseHead};
use whorl_core::sched::{Owned, Owner};

use super::body::{Body, Piece};
use super::connection::HttpConnection;
use super::deadlines::Deadline;
use super::fault::{self, Fault};
use super::head;
use crate::errors::OrRaise;
use crate::interpreter::new_future;
use crate::transport::set_result;

/// How far the answer has come.
#[derive(Debug)]
pub enum Phase {
    /// The head has not arrived.
    Waiting,
    /// The head is here, the body on its way.
    Receiving,
    /// All of it has arrived.
    Ended,
    /// It will not come; the exception says why.
    Failed(Py<PyAny>),
}

/// Who gets the body.
#[derive(Debug)]
pub enum Delivery {
    /// Nobody has asked: kept, up to a limit.
    Unasked,
    /// Somebody waits for the whole.
    Whole,
    /// A `StreamReader` takes it as it comes.
    Reader(Py<PyAny>),
    /// Nobody will ask.
    Discarded,
}

/// A content coding being undone.
#[derive(Debug)]
pub struct Decoding {
    decoder: Decoder,
    /// Coded bytes that wait for room.
    pending: Vec<u8>,
    /// The decoder has more output than there was room for.
    more: bool,
}

impl Decoding {
    fn waits(&self) -> bool {
        self.more || !self.pending.is_empty()
    }
}

/// What the request asks of the answer's delivery.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Bytes kept for a user who does not read before the peer is made to wait.
    pub buffer_size: usize,
    /// Whether content codings are undone.
    pub decompress: bool,
    /// Whether a body without a length is read until the connection ends.
    pub read_until_eof: bool,
}

/// The state, which belongs to the loop's thread.
#[derive(Debug)]
pub struct State {
    pub connection: Option<Py<HttpConnection>>,
    pub head: Option<Arc<ResponseHead>>,
    framing: Framing,
    pub phase: Phase,
    pub delivery: Delivery,
    body: Body,
    decoding: Option<Box<Decoding>>,
    /// The connection has given all there is; with a coding, some of it may wait to be decoded.
    pub received: bool,
    paused: bool,
    head_waiter: Option<Py<PyAny>>,
    body_waiter: Option<Py<PyAny>>,
    continue_waiter: Option<Py<PyAny>>,
    on_end: Vec<Py<PyAny>>,
    deadline: Option<Deadline>,
    raw_bytes: u64,
    wishes: Wishes,
}

/// What is to be done once the state is closed: all of it runs foreign code.
#[derive(Debug, Default)]
pub struct Effects {
    pub pieces: Vec<Piece>,
    pub wake: Vec<Py<PyAny>>,
    pub ended: bool,
    /// More may be decoded after the pieces are fed.
    pub pump: bool,
    /// The connection, which the exchange has nothing to do with any more.
    pub parted: Option<Py<HttpConnection>>,
    pub pause: bool,
}

/// One request's answer. Made by `HttpConnection.begin()`.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct Exchange {
    event_loop: Py<PyAny>,
    state: Owned<State>,
}

impl State {
    /// The head has arrived.
    pub fn take_head(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        effects: &mut Effects,
    ) -> Result<(), Fault> {
        if self.wishes.decompress {
            self.decoding = decoder_for(&head)
                .map(|decoder| Box::new(Decoding { decoder, pending: Vec::new(), more: false }));
        }
        self.framing = framing;
        self.head = Some(Arc::new(head));
        self.phase = Phase::Receiving;
        effects.wake.extend(self.head_waiter.take());
        Ok(())
    }

    /// Whether a body that ends with the connection is not wanted.
    pub fn ignores_body(&self) -> bool {
        !self.wishes.read_until_eof && matches!(self.framing, Framing::UntilEof)
    }

    /// 100 Continue: the body may be sent.
    pub fn take_continue(&mut self, effects: &mut Effects) {
        effects.wake.extend(self.continue_waiter.take());
    }

    /// A piece of the body has arrived.
    pub fn take_data(&mut self, py: Python<'_>, data: &[u8], effects: &mut Effects) -> Result<(), Fault> {
        self.raw_bytes += data.len() as u64;
        if matches!(self.delivery, Delivery::Discarded) {
            return Ok(());
        }
        match &mut self.decoding {
            None => {
                self.deliver(py, data, effects);
                Ok(())
            }
            Some(decoding) => {
                if decoding.waits() {
                    decoding.pending.extend_from_slice(data);
                    effects.pause |= self.is_over_limit(py);
                    return Ok(());
                }
                let used = self.decode(py, data, effects)?;
                if let (Some(decoding), Some(rest)) = (&mut self.decoding, data.get(used..)) {
                    decoding.pending.extend_from_slice(rest);
                }
                Ok(())
            }
        }
    }

    /// Decodes as much of `data` as there is room for; says how much was used.
    fn decode(&mut self, py: Python<'_>, data: &[u8], effects: &mut Effects) -> Result<usize, Fault> {
        let Some(decoding) = &mut self.decoding else { return Ok(0) };
        let mut out = Vec::new();
        let progress =
            decoding.decoder.decode(data, &mut out, self.wishes.buffer_size.max(1)).map_err(Fault::Coding)?;
        decoding.more = progress.more;
        effects.pump |= progress.more || progress.consumed < data.len();
        if !out.is_empty() {
            self.deliver(py, &out, effects);
        }
        Ok(progress.consumed)
    }

    fn deliver(&mut self, py: Python<'_>, data: &[u8], effects: &mut Effects) {
        match &self.delivery {
            Delivery::Reader(_) => effects.pieces.push(Piece::Data(PyBytes::new(py, data).unbind())),
            Delivery::Discarded => {}
            Delivery::Unasked | Delivery::Whole => {
                let expected = match (&self.framing, &self.decoding) {
                    (Framing::Length(size), None) => usize::try_from(*size).ok(),
                    _ => None,
                };
                self.body.push(py, data, expected);
                effects.pause |= self.is_over_limit(py);
            }
        }
    }

    /// Whether the peer is to be made to wait, as nobody reads.
    fn is_over_limit(&self, py: Python<'_>) -> bool {
        matches!(self.delivery, Delivery::Unasked) && self.body.len(py) > 2 * self.wishes.buffer_size
    }

    /// A chunk of the chunked coding has ended.
    pub fn take_chunk_end(&mut self, py: Python<'_>, effects: &mut Effects) {
        if self.decoding.is_some() {
            // Its bytes may wait to be decoded: chunks mean nothing there, and aiohttp's marks are by decoded bytes.
            return;
        }
        match &self.delivery {
            Delivery::Reader(_) => effects.pieces.push(Piece::ChunkEnd),
            Delivery::Unasked => self.body.end_chunk(py),
            Delivery::Whole | Delivery::Discarded => {}
        }
    }

    /// The connection has given all there is.
    pub fn take_end(&mut self, effects: &mut Effects) -> Result<(), Fault> {
        self.received = true;
        effects.parted = self.connection.take();
        self.end_if_drained(effects)
    }

    fn end_if_drained(&mut self, effects: &mut Effects) -> Result<(), Fault> {
        if !self.received || !matches!(self.phase, Phase::Receiving) {
            return Ok(());
        }
        if let Some(decoding) = &mut self.decoding {
            if decoding.waits() {
                effects.pump = true;
                return Ok(());
            }
            if self.raw_bytes > 0 && !matches!(self.delivery, Delivery::Discarded) {
                decoding.decoder.finish().map_err(Fault::Coding)?;
            }
        }
        self.phase = Phase::Ended;
        effects.ended = true;
        effects.wake.extend(self.body_waiter.take());
        Ok(())
    }

    /// Decodes more of what waits, if there is room.
    fn pump(&mut self, py: Python<'_>, effects: &mut Effects) -> Result<(), Fault> {
        let blocked = self.paused || self.is_over_limit(py);
        if blocked || !matches!(self.phase, Phase::Receiving) {
            return Ok(());
        }
        let Some(decoding) = &mut self.decoding else { return Ok(()) };
        if decoding.waits() {
            let pending = std::mem::take(&mut decoding.pending);
            let used = self.decode(py, &pending, effects)?;
            if let Some(decoding) = &mut self.decoding {
                // What came meanwhile is behind it: nothing can, as this is one step.
                decoding.pending = pending.get(used..).unwrap_or_default().to_vec();
            }
        }
        self.end_if_drained(effects)
    }

    /// It will not come; false if it is over already.
    #[must_use]
    fn transition_to_failed(&mut self, error: Py<PyAny>, effects: &mut Effects) -> bool {
        if matches!(self.phase, Phase::Ended | Phase::Failed(_)) {
            return false;
        }
        self.phase = Phase::Failed(error);
        self.decoding = None;
        effects.wake.extend(self.head_waiter.take());
        effects.wake.extend(self.body_waiter.take());
        effects.wake.extend(self.continue_waiter.take());
        effects.ended = true;
        true
    }
}

impl Exchange {
    /// An answer that is awaited.
    pub fn make<'py>(
        py: Python<'py>,
        event_loop: Py<PyAny>,
        owner: Arc<Owner>,
        connection: Py<HttpConnection>,
        wishes: Wishes,
    ) -> PyResult<Bound<'py, Self>> {
        let state = State {
            connection: Some(connection),
            head: None,
            framing: Framing::Empty,
            phase: Phase::Waiting,
            delivery: Delivery::Unasked,
            body: Body::Empty,
            decoding: None,
            received: false,
            paused: false,
            head_waiter: None,
            body_waiter: None,
            continue_waiter: None,
            on_end: Vec::new(),
            deadline: None,
            raw_bytes: 0,
            wishes,
        };
        Bound::new(py, Self { event_loop, state: Owned::new(owner, state) })
    }

    /// Opens the state; nothing foreign may run meanwhile.
    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// Does what the state could not.
    ///
    /// # Errors
    /// What the reader or a callback raises; RuntimeError on the wrong thread.
    pub fn act(&self, slf: &Bound<'_, Self>, mut effects: Effects) -> PyResult<()> {
        let py = slf.py();
        loop {
            if effects.pause {
                self.pause_connection(py)?;
            }
            let reader = self.with(|state| match &state.delivery {
                Delivery::Reader(reader) => Some(reader.clone_ref(py)),
                _ => None,
            })?;
            if let Some(reader) = &reader {
                self.feed(reader.bind(py), &effects.pieces)?;
            }
            if effects.ended {
                self.ended(slf, reader.as_ref())?;
            }
            for future in effects.wake.drain(..) {
                set_result(future.bind(py))?;
            }
            if !effects.pump {
                return Ok(());
            }
            effects = Effects::default();
            let outcome = self.with(|state| state.pump(py, &mut effects))?;
            if let Err(fault) = outcome {
                let error = fault.in_body(py)?;
                return self.fail(slf, error);
            }
        }
    }

    /// The answer is over, well or not: tells the reader and who asked to be told.
    fn ended(&self, slf: &Bound<'_, Self>, reader: Option<&Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let (error, callbacks, deadline) = self.with(|state| {
            let error = match &state.phase {
                Phase::Failed(error) => Some(error.clone_ref(py)),
                _ => None,
            };
            (error, std::mem::take(&mut state.on_end), state.deadline.take())
        })?;
        if let Some(deadline) = deadline {
            deadline.cancel(py)?;
        }
        if let Some(reader) = reader {
            let reader = reader.bind(py);
            match error {
                None => reader.call_method0(intern!(py, "feed_eof"))?,
                Some(error) => reader.call_method1(intern!(py, "set_exception"), (error,))?,
            };
        }
        for callback in callbacks {
            callback.call0(py)?;
        }
        Ok(())
    }

    /// Ends the exchange with an exception, unless it is over already.
    ///
    /// # Errors
    /// As [`Exchange::act`].
    pub fn fail(&self, slf: &Bound<'_, Self>, error: Py<PyAny>) -> PyResult<()> {
        let mut effects = Effects::default();
        let failed = self.with(|state| state.transition_to_failed(error, &mut effects))?;
        if failed { self.act(slf, effects) } else { Ok(()) }
    }

    /// The connection was closed by our side while the body was on its way: who waits is told as by `release()`, who comes
    /// later gets aiohttp's RuntimeError.
    ///
    /// # Errors
    /// As [`Exchange::act`].
    pub fn fail_closed(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let awaited =
            self.with(|state| state.body_waiter.is_some() || matches!(state.delivery, Delivery::Reader(_)))?;
        let error = if awaited {
            fault::error(py, "ClientConnectionError", "Connection closed")?
        } else {
            PyRuntimeError::new_err("Connection closed.").into_value(py).into_any()
        };
        self.fail(slf, error)
    }

    /// Sets the time until which it has to be over.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn set_deadline(&self, deadline: Deadline) -> PyResult<()> {
        let _former = self.with(|state| state.deadline.replace(deadline))?;
        Ok(())
    }

    /// A future for the head, as an awaitable hands it to its task.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn await_head(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = waiter(self.event_loop.bind(py))?;
        // What `Future.__await__()` does: the task takes it for one that is being awaited.
        future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
        let reference = future.clone_ref(py);
        let _former = self.with(|state| state.head_waiter.replace(reference))?;
        Ok(future)
    }

    /// The head, if it has come.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn head_if_any(&self) -> PyResult<Option<Arc<ResponseHead>>> {
        self.with(|state| state.head.clone())
    }

    /// Whether nothing more will come of it.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn is_done(&self) -> PyResult<bool> {
        self.with(|state| matches!(state.phase, Phase::Ended | Phase::Failed(_)))
    }

    /// The body, if all of it has come and nobody reads it as a stream.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn take_whole(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        let body = self.with(|state| {
            let whole = matches!(state.phase, Phase::Ended)
                && matches!(state.delivery, Delivery::Unasked | Delivery::Whole);
            whole.then(|| std::mem::take(&mut state.body))
        })?;
        Ok(body.map(|body| body.into_bytes(py)))
    }

    /// The connection, until it has given all there is.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn connection<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, HttpConnection>>> {
        let connection =
            self.with(|state| state.connection.as_ref().map(|connection| connection.clone_ref(py)))?;
        Ok(connection.map(|connection| connection.into_bound(py)))
    }

    /// Whether more can come: from the connection, or out of what has come.
    fn is_connected(&self, py: Python<'_>) -> PyResult<bool> {
        if self.with(|state| state.received)? {
            return Ok(true);
        }
        match self.connection(py)? {
            Some(connection) => connection.get().is_open(),
            None => Ok(false),
        }
    }

    fn pause_connection(&self, py: Python<'_>) -> PyResult<()> {
        match self.connection(py)? {
            Some(connection) => HttpConnection::pause_reading(&connection),
            None => Ok(()),
        }
    }

    fn resume_connection(&self, py: Python<'_>) -> PyResult<()> {
        match self.connection(py)? {
            Some(connection) => HttpConnection::resume_reading(&connection),
            None => Ok(()),
        }
    }

    fn head(&self) -> PyResult<Arc<ResponseHead>> {
        self.with(|state| state.head.clone())?
            .ok_or_else(|| PyAssertionError::new_err("the response has not started"))
    }

    /// Hands `pieces` to `reader`.
    fn feed(&self, reader: &Bound<'_, PyAny>, pieces: &[Piece]) -> PyResult<()> {
        let py = reader.py();
        if pieces.is_empty() {
            return Ok(());
        }
        if let Some(coded) = self.with(|state| state.decoding.is_some().then_some(state.raw_bytes))? {
            reader.setattr(intern!(py, "total_compressed_bytes"), coded)?;
        }
        for piece in pieces {
            match piece {
                Piece::Data(data) => reader.call_method1(intern!(py, "feed_data"), (data,))?,
                Piece::ChunkEnd => reader.call_method0(intern!(py, "end_http_chunk_receiving"))?,
            };
        }
        Ok(())
    }

    /// Goes on with what waits to be decoded.
    fn go_on(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        self.act(slf, Effects { pump: true, ..Effects::default() })
    }
}

/// A decoder for the codings that the head names; a body in one that is not known is handed on as it comes.
fn decoder_for(head: &ResponseHead) -> Option<Decoder> {
    let codings = std::str::from_utf8(head.fields.get("content-encoding")?).ok()?;
    Decoder::new(codings).ok().filter(|decoder| !decoder.is_identity())
}

/// Futures for one event: the one that is there, unless it is done.
fn waiter(event_loop: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    new_future(event_loop).map(Bound::unbind)
}

#[pymethods]
impl Exchange {
    /// A future for the head, or None if it is here. Raises what the exchange failed with.
    fn head_waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.with(|state| state.head.is_some())? {
            return Ok(None);
        }
        self.check(py)?;
        let future = waiter(self.event_loop.bind(py))?;
        let _former = self.with(|state| state.head_waiter.replace(future.clone_ref(py)))?;
        Ok(Some(future))
    }

    /// A future for 100 Continue, which a final head and a failure complete as well.
    fn continue_waiter(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = waiter(self.event_loop.bind(py))?;
        let _former = self.with(|state| state.continue_waiter.replace(future.clone_ref(py)))?;
        Ok(future)
    }

    /// Raise what the exchange failed with, unless the head is here: the failure is the body's then.
    fn check_head(&self, py: Python<'_>) -> PyResult<()> {
        if self.with(|state| state.head.is_some())? { Ok(()) } else { self.check(py) }
    }

    /// Raise what the exchange failed with, if it did.
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        let error = self.with(|state| match &state.phase {
            Phase::Failed(error) => Some(error.clone_ref(py)),
            _ => None,
        })?;
        match error {
            Some(error) => Err(PyErr::from_value(error.into_bound(py))),
            None => Ok(()),
        }
    }

    /// The whole body, if it has arrived and nobody has taken it; None while it is on its way.
    fn body(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        self.check(py)?;
        let body = self.with(|state| {
            // What follows a change of protocol is no body.
            let over = matches!(state.phase, Phase::Ended) || matches!(state.framing, Framing::Tunnel);
            over.then(|| std::mem::take(&mut state.body))
        })?;
        Ok(body.map(|body| body.into_bytes(py)))
    }

    /// A future for the end of the body, which is kept whole from now on.
    fn body_waiter(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if !this.is_connected(py)? {
            return Err(PyRuntimeError::new_err("Connection closed."));
        }
        let future = waiter(this.event_loop.bind(py))?;
        let _former = this.with(|state| {
            if matches!(state.delivery, Delivery::Unasked) {
                state.delivery = Delivery::Whole;
            }
            state.body_waiter.replace(future.clone_ref(py))
        })?;
        this.resume_connection(py)?;
        this.go_on(slf)?;
        if this.with(|state| matches!(state.phase, Phase::Ended | Phase::Failed(_)))? {
            set_result(future.bind(py))?;
        }
        Ok(future)
    }

    /// Whether nobody has asked for the body as a stream.
    fn is_whole(&self) -> PyResult<bool> {
        self.with(|state| matches!(state.delivery, Delivery::Unasked | Delivery::Whole))
    }

    /// Hand the body to `reader`, a `StreamReader`, from now on; what has arrived goes first.
    fn attach(slf: &Bound<'_, Self>, reader: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (body, chunked) = this.with(|state| {
            state.delivery = Delivery::Reader(reader.clone().unbind());
            (std::mem::take(&mut state.body), matches!(state.framing, Framing::Chunked))
        })?;
        if chunked {
            reader.call_method0(intern!(py, "begin_http_chunk_receiving"))?;
        }
        // Nobody has paused for the reader's sake so far.
        this.resume_connection(py)?;
        this.feed(reader, &body.into_pieces(py))?;
        let over = this.with(|state| matches!(state.phase, Phase::Ended | Phase::Failed(_)))?;
        if over {
            let reader = reader.clone().unbind();
            return this.ended(slf, Some(&reader));
        }
        this.go_on(slf)
    }

    /// Make the peer wait: called by the reader.
    fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.with(|state| state.paused = true)?;
        self.pause_connection(py)
    }

    /// Go on: called by the reader.
    #[pyo3(signature = (resume_parser=true))]
    fn resume_reading(slf: &Bound<'_, Self>, resume_parser: bool) -> PyResult<()> {
        let _ = resume_parser;
        let this = slf.get();
        this.with(|state| state.paused = false)?;
        this.resume_connection(slf.py())?;
        this.go_on(slf)
    }

    /// Whether the reader has paused.
    #[getter]
    fn _reading_paused(&self) -> PyResult<bool> {
        self.with(|state| state.paused)
    }

    /// Whether more can come: what a reader asks before it waits.
    #[getter]
    fn connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_connected(py)
    }

    /// End the exchange with `exc`, unless it is over; the connection is closed.
    #[pyo3(name = "fail")]
    fn py_fail(slf: &Bound<'_, Self>, exc: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Some(connection) = this.connection(py)? {
            HttpConnection::give_up(&connection)?;
        }
        this.fail(slf, exc)
    }

    /// Let go of the answer: what is still to come closes the connection, as nobody will read it.
    pub fn abandon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (connection, deadline, _body, _former) = this.with(|state| {
            let former = std::mem::replace(&mut state.delivery, Delivery::Discarded);
            (state.connection.take(), state.deadline.take(), std::mem::take(&mut state.body), former)
        })?;
        if let Some(deadline) = deadline {
            deadline.cancel(py)?;
        }
        match connection {
            Some(connection) => HttpConnection::give_up(connection.bind(py)),
            None => Ok(()),
        }
    }

    /// Nobody has released the response to a request with `method` for `url`, and nobody can any more.
    fn _abandon_unclosed(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyAny>,
        url: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().event_loop.bind(py);
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        Self::abandon(slf)?;
        if event_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()? {
            py.import("whorl.http.response")?.call_method1("warn_unclosed", (event_loop, method, url))?;
        }
        Ok(())
    }

    /// The event loop.
    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Call `callback()` when the answer is over; at once if it is.
    fn on_end(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let mut callback = Some(callback);
        self.with(|state| {
            if !matches!(state.phase, Phase::Ended | Phase::Failed(_)) {
                state.on_end.extend(callback.take());
            }
        })?;
        match callback {
            Some(callback) => callback.call0(py).map(drop),
            None => Ok(()),
        }
    }

    /// The connection, until it has given all there is.
    #[getter(connection)]
    fn py_connection(&self, py: Python<'_>) -> PyResult<Option<Py<HttpConnection>>> {
        Ok(self.connection(py)?.map(Bound::unbind))
    }

    /// 'waiting', 'receiving', 'ended' or 'failed'.
    #[getter]
    fn phase(&self) -> PyResult<&'static str> {
        self.with(|state| match state.phase {
            Phase::Waiting => "waiting",
            Phase::Receiving => "receiving",
            Phase::Ended => "ended",
            Phase::Failed(_) => "failed",
        })
    }

    /// Whether nothing more will come of it.
    #[pyo3(name = "is_over")]
    fn py_is_over(&self) -> PyResult<bool> {
        self.is_done()
    }

    /// Bytes that are kept for a user who does not read.
    #[getter]
    fn buffer_size(&self) -> PyResult<usize> {
        self.with(|state| state.wishes.buffer_size)
    }

    /// Bytes of the body that have arrived, before a content coding was undone.
    #[getter]
    fn raw_bytes(&self) -> PyResult<u64> {
        self.with(|state| state.raw_bytes)
    }

    /// Whether the connection belongs to another protocol from now on: 101, or 2xx to CONNECT.
    #[getter]
    fn upgraded(&self) -> PyResult<bool> {
        self.with(|state| matches!(state.framing, Framing::Tunnel))
    }

    /// (major, minor)
    #[getter]
    fn version(&self) -> PyResult<(u8, u8)> {
        Ok(self.head()?.version.numbers())
    }

    /// The status code.
    #[getter]
    fn status(&self) -> PyResult<u16> {
        Ok(self.head()?.status)
    }

    /// The reason phrase.
    #[getter]
    fn reason<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        head::text(py, self.head()?.reason())
    }

    /// The fields as a `CIMultiDictProxy`.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        head::headers(py, &self.head()?.fields)
    }

    /// The fields as they came: pairs of bytes.
    fn raw_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        head::raw_headers(py, &self.head()?.fields)
    }

    /// All values of the field `name`.
    fn values<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.head()?.fields.get_all(name).map(|value| head::text(py, value)).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .with(|state| {
                visit.call(&state.connection)?;
                if let Some(deadline) = &state.deadline {
                    deadline.visit(visit)?;
                }
                if let Phase::Failed(error) = &state.phase {
                    visit.call(error)?;
                }
                if let Delivery::Reader(reader) = &state.delivery {
                    visit.call(reader)?;
                }
                visit.call(&state.head_waiter)?;
                visit.call(&state.body_waiter)?;
                visit.call(&state.continue_waiter)?;
                state.on_end.iter().try_for_each(|callback| visit.call(callback))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _connection = self.state.with(|state| state.connection.take());
        let _reader = self.state.with(|state| std::mem::replace(&mut state.delivery, Delivery::Discarded));
        let _waiters = self
            .state
            .with(|state| (state.head_waiter.take(), state.body_waiter.take(), state.continue_waiter.take()));
        let _callbacks = self.state.with(|state| std::mem::take(&mut state.on_end));
    }
}

/// RuntimeError for a second request on a connection that is answering one.
pub fn busy() -> PyErr {
    PyRuntimeError::new_err("the connection is in use: HTTP/1.1 answers one request after the other")
}
