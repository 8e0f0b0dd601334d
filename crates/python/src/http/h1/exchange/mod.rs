//! An exchange: one request's response, from the moment it is awaited until its body has ended.
//!
//! The connection fills it, independently of the user; the response takes from it. It outlives the connection's
//! part: a body that has arrived whole is here when the connection already serves another request.

mod methods;
mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple, PyWeakrefMethods};
use whorl_core::client::stream::PieceSizes;
use whorl_core::http1::{Framing, ResponseHead};
use whorl_core::sched::{LoopOwner, OwnerCell};

pub use state::{Actions, BodyDelivery, ExchangePhase, ExchangeState, ResponseOptions};

use crate::errors::OrRaise;
use crate::event_loop::new_future;
use crate::http::body_source::Source;
use crate::http::failures::{self, MessageError};
use crate::http::finish::finish_on;
use crate::http::guard::EndGuard;
use crate::http::h1::body::ResponseBody;
use crate::http::stream_reader::{ReaderSource, StreamReaderBase};
use crate::interpreter::{Attached, CloneWith, await_future};
use crate::transport::set_result;

/// One request's response. Made by `HttpConnection.begin()`.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct Exchange {
    event_loop: Py<PyAny>,
    /// The head, once it has come: for every thread.
    head: OnceLock<Arc<ResponseHead>>,
    /// Whether nothing more will come: likewise.
    is_over: AtomicBool,
    state: OwnerCell<ExchangeState>,
}

impl Exchange {
    /// An exchange whose response is awaited.
    pub fn make<'py>(
        py: Python<'py>,
        event_loop: Py<PyAny>,
        owner: Arc<LoopOwner>,
        source: Source,
        options: ResponseOptions,
    ) -> PyResult<Bound<'py, Self>> {
        let state = ExchangeState {
            source: Some(source),
            framing: Framing::Empty,
            phase: ExchangePhase::Waiting,
            delivery: BodyDelivery::Unread,
            body: ResponseBody::default(),
            decoding: None,
            received: false,
            paused: false,
            head_waiter: None,
            body_waiters: Vec::new(),
            awaited_reader: None,
            deferred: false,
            continue_waiter: None,
            on_end: Vec::new(),
            guard: None,
            raw_bytes: 0,
            options,
        };
        let (head, is_over) = (OnceLock::new(), AtomicBool::new(false));
        Bound::new(py, Self { event_loop, head, is_over, state: OwnerCell::new(owner, state) })
    }

    /// Opens the state; nothing foreign may run meanwhile.
    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut ExchangeState) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    #[inline]
    pub fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut ExchangeState, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.state.with_token(at.into(), act).or_raise()
    }

    /// Performs actions, once the state is closed.
    ///
    /// # Errors
    /// What the reader or a callback raises.
    pub fn act(&self, slf: &Bound<'_, Self>, mut actions: Actions) -> PyResult<()> {
        /// How many rounds of `buffer_size` bytes are decoded in one turn of the loop, at most: a bomb of a few
        /// kilobytes must not keep other tasks and the timeouts from running.
        const ROUNDS: usize = 16;
        let py = slf.py();
        let mut rounds = 0;
        loop {
            self.publish(&mut actions);
            if actions.input.is_some() || !actions.decoded.is_empty() {
                self.hand_on(py, &mut actions)?;
            }
            if actions.pause {
                self.pause_source(py)?;
            }
            if actions.ended {
                self.ended(slf)?;
            }
            for future in actions.wake.drain(..) {
                set_result(future.bind(py))?;
            }
            if !actions.pump {
                return Ok(());
            }
            rounds += 1;
            if rounds > ROUNDS {
                return self.defer(slf);
            }
            actions = Actions::default();
            if let Err(fault) = self.pump(py, &mut actions)? {
                let error = fault.in_body(py)?;
                return Self::fail_with_source(slf, error);
            }
        }
    }

    /// Shows every thread what the state has come to.
    pub fn publish(&self, actions: &mut Actions) {
        if let Some(head) = actions.head.take() {
            let _first = self.head.set(head);
        }
        if actions.ended {
            self.is_over.store(true, Ordering::Release);
        }
    }

    /// Hands to the reader what has come for it; what has come before one is kept.
    fn hand_on(&self, py: Python<'_>, actions: &mut Actions) -> PyResult<()> {
        let (input, decoded) = (actions.input.take(), std::mem::take(&mut actions.decoded));
        let Some(reader) = self.reader(py)? else {
            let Some(input) = input else { return Ok(()) };
            let (full, _unread) = self.with_attached(py, |state, at| match &state.delivery {
                BodyDelivery::Unread | BodyDelivery::Whole => (state.keep_input(at, input), None),
                BodyDelivery::Reader(_) | BodyDelivery::Discarded => (false, Some(input)),
            })?;
            actions.pause |= full;
            return Ok(());
        };
        let fed = match input {
            Some(input) => reader.get().feed_input(py, &input)?,
            None => reader.get().feed_decoded(py, decoded, self.with(|state| state.raw_bytes)?)?,
        };
        if fed.pauses {
            self.with(|state| state.paused = true)?;
            actions.pause = true;
        }
        match fed.waiter {
            Some(waiter) => set_result(waiter.bind(py)),
            None => Ok(()),
        }
    }

    /// Decodes more of the pending bytes, if the buffer allows it.
    fn pump(&self, py: Python<'_>, actions: &mut Actions) -> PyResult<Result<(), MessageError>> {
        let sizes = match self.reader(py)? {
            Some(reader) => reader.get().piece_sizes()?,
            None => PieceSizes::ANY,
        };
        let mut step = match self.with_attached(py, |state, at| state.begin_decoding(at, sizes, actions))? {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(Ok(())),
            Err(fault) => return Ok(Err(fault)),
        };
        // Here no state is open, as the step may detach.
        let decoded = step.run(py)?;
        self.with_attached(py, |state, at| state.end_decoding(at, step, decoded, actions))
    }

    /// Continues to decode in the next turn of the loop; the peer waits meanwhile.
    fn defer(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if self.with(|state| std::mem::replace(&mut state.deferred, true))? {
            return Ok(());
        }
        self.pause_source(py)?;
        let decode_more = slf.getattr(intern!(py, "_continue_decoding"))?;
        self.event_loop.bind(py).call_method1(intern!(py, "call_soon"), (decode_more,)).map(drop)
    }

    /// The reader, if the body goes to one that is still alive.
    fn reader<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, StreamReaderBase>>> {
        let (awaited, reference) = self.with_attached(py, |state, at| match &state.delivery {
            BodyDelivery::Reader(reference) if state.awaited_reader.is_none() => {
                (None, Some(reference.clone_with(at)))
            }
            BodyDelivery::Reader(_) => (state.awaited_reader.clone_with(at), None),
            _ => (None, None),
        })?;
        match (awaited, reference) {
            (Some(reader), _) => Ok(Some(reader.into_bound(py))),
            (None, Some(reference)) => match reference.bind(py).upgrade() {
                Some(reader) => Ok(Some(reader.cast_into()?)),
                None => Ok(None),
            },
            (None, None) => Ok(None),
        }
    }

    /// How many of the next bytes its reader takes as an object of their own.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn wanted(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let reader = self.with_attached(py, |state, at| {
            state
                .awaited_reader
                .as_ref()
                .filter(|_| state.decoding.is_none())
                .map(|reader| reader.clone_with(at))
        })?;
        match reader {
            Some(reader) => reader.get().wanted(),
            None => Ok(None),
        }
    }

    /// The exchange is over, with or without an error: ends the reader and runs the callbacks.
    fn ended(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (error, callbacks, guard) = self.with_attached(py, |state, at| {
            let error = match &state.phase {
                ExchangePhase::Failed(error) => Some(error.clone_with(at)),
                _ => None,
            };
            (error, std::mem::take(&mut state.on_end), state.guard.take())
        })?;
        if let Some(guard) = guard {
            guard.end(py)?;
        }
        if let Some(reader) = self.reader(py)? {
            match error {
                None => StreamReaderBase::end(&reader)?,
                Some(error) => StreamReaderBase::fail(&reader, error.bind(py))?,
            }
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
        let mut actions = Actions::default();
        match self.with(|state| state.transition_to_failed(error, &mut actions))? {
            Ok(()) => self.act(slf, actions),
            Err(_unused) => Ok(()),
        }
    }

    /// Its time is over: it fails with `error`, and its connection is closed.
    ///
    /// # Errors
    /// As [`Exchange::act`].
    pub fn end_wait(slf: &Bound<'_, PyAny>, error: Py<PyAny>) -> PyResult<()> {
        Self::fail_with_source(slf.cast::<Self>()?, error)
    }

    /// Ends it with an exception, unless it is over already; its connection is closed.
    ///
    /// # Errors
    /// As [`Exchange::act`].
    pub fn fail_with_source(slf: &Bound<'_, Self>, error: Py<PyAny>) -> PyResult<()> {
        let this = slf.get();
        if let Some(source) = this.source(slf.py())? {
            source.give_up(slf.py())?;
        }
        this.fail(slf, error)
    }

    /// The connection was closed by our side while the head or the body was on its way: waiters get the error of `release()`,
    /// later callers aiohttp's RuntimeError.
    ///
    /// # Errors
    /// As [`Exchange::act`].
    pub fn fail_closed(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let awaited = self.with(|state| {
            matches!(state.phase, ExchangePhase::Waiting)
                || !state.body_waiters.is_empty()
                || matches!(state.delivery, BodyDelivery::Reader(_))
        })?;
        let error = if awaited {
            failures::error(py, "ClientConnectionError", "Connection closed")?
        } else {
            PyRuntimeError::new_err("Connection closed.").into_value(py).into_any()
        };
        self.fail(slf, error)
    }

    /// Abandons it from a destructor: on the loop's thread, by a method and its arguments. With its loop closed there is nothing
    /// to do.
    ///
    /// # Errors
    /// As [`finish_on`].
    pub fn finish(
        slf: &Bound<'_, Self>,
        abandon: &Bound<'_, PyString>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let event_loop = slf.get().event_loop.bind(slf.py());
        if event_loop.call_method0(intern!(slf.py(), "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        finish_on(event_loop, slf.getattr(abandon)?, args)
    }

    /// Has `guard` end along with it.
    pub fn set_guard(&self, guard: Box<dyn EndGuard>) -> PyResult<()> {
        let _previous = self.with(|state| state.guard.replace(guard))?;
        Ok(())
    }

    /// Ends what was to end along with it, now.
    ///
    /// # Errors
    /// The exception of the guard.
    pub fn end_guard(&self, py: Python<'_>) -> PyResult<()> {
        match self.with(|state| state.guard.take())? {
            Some(guard) => guard.end(py),
            None => Ok(()),
        }
    }

    /// Whether the connection belongs to another protocol from now on: 101, or 2xx to CONNECT.
    pub fn is_tunnel(&self) -> PyResult<bool> {
        self.with(|state| matches!(state.framing, Framing::Tunnel))
    }

    /// A future for the head, as an awaitable hands it to its task; none if the head is here or will not come.
    pub fn await_head(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.wait_for_head(py)?.map(|future| await_future(future, py)).transpose()
    }

    /// A future for the head; none if the head is here or will not come.
    fn wait_for_head(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !self.with(|state| matches!(state.phase, ExchangePhase::Waiting))? {
            return Ok(None);
        }
        let future = waiter(self.event_loop.bind(py))?;
        let reference = future.clone_ref(py);
        let _previous = self.with(|state| state.head_waiter.replace(reference))?;
        Ok(Some(future))
    }

    /// The head, if it has come.
    pub fn head_if_any(&self) -> Option<&Arc<ResponseHead>> {
        self.head.get()
    }

    /// Whether nothing more will come of it.
    pub fn is_done(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// The body, if all of it has come and it is not read as a stream.
    pub fn take_whole(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        let body = self.with(|state| {
            let whole = matches!(state.phase, ExchangePhase::Ended)
                && matches!(state.delivery, BodyDelivery::Unread | BodyDelivery::Whole);
            whole.then(|| std::mem::take(&mut state.body))
        })?;
        Ok(body.map(|body| body.into_bytes(py)))
    }

    /// Where it comes from, until all of it has been received.
    pub fn source(&self, py: Python<'_>) -> PyResult<Option<Source>> {
        self.with_attached(py, |state, at| state.source.as_ref().map(|source| source.clone_with(at)))
    }

    /// Whether more can come: from its source, or from pending bytes.
    fn is_connected(&self, py: Python<'_>) -> PyResult<bool> {
        if self.with(|state| state.received)? {
            return Ok(true);
        }
        match self.source(py)? {
            Some(source) => source.is_open(py),
            None => Ok(false),
        }
    }

    fn pause_source(&self, py: Python<'_>) -> PyResult<()> {
        match self.source(py)? {
            Some(source) => source.pause_reading(py),
            None => Ok(()),
        }
    }

    fn resume_source(&self, py: Python<'_>) -> PyResult<()> {
        match self.source(py)? {
            Some(source) => source.resume_reading(py),
            None => Ok(()),
        }
    }

    fn head(&self) -> PyResult<&Arc<ResponseHead>> {
        self.head.get().ok_or_else(|| PyAssertionError::new_err("the response has not started"))
    }

    /// Continues to decode pending bytes.
    fn decode_more(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        self.act(slf, Actions { pump: true, ..Actions::default() })
    }
}

impl ReaderSource for Exchange {
    fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().with(|state| state.paused = true)?;
        slf.get().pause_source(slf.py())
    }

    fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| state.paused = false)?;
        this.resume_source(slf.py())?;
        this.decode_more(slf)
    }

    fn is_connected(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().is_connected(slf.py())
    }

    fn receive(slf: &Bound<'_, Self>, size: usize) -> PyResult<bool> {
        let py = slf.py();
        let source = slf.get().with_attached(py, |state, at| {
            let receives = !state.paused && state.decoding.is_none();
            state.source.as_ref().filter(|_| receives).map(|source| source.clone_with(at))
        })?;
        match source {
            Some(source) => source.receive(py, size),
            None => Ok(false),
        }
    }

    fn keep_reader(slf: &Bound<'_, Self>, reader: Option<Py<StreamReaderBase>>) -> PyResult<()> {
        let _previous = slf.get().with(|state| std::mem::replace(&mut state.awaited_reader, reader))?;
        Ok(())
    }
}

/// A new future for a waiter.
fn waiter(event_loop: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    new_future(event_loop).map(Bound::unbind)
}
