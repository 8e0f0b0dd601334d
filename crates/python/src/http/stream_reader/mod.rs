//! The body of a response as a stream: the native half of `whorl.http.StreamReader`.
//!
//! | file | content |
//! |---|---|
//! | `state.rs`, `goal.rs` | what is buffered and awaited; the steps of a read towards its goal |
//! | `reading.rs`, `waiting.rs` | a read that is awaited; its wait |
//! | `methods.rs`, `iteration.rs` | the Python interface; iterators |
//! | `input.rs` | parts of received memory |
//! | `source.rs` | what feeds a reader: an exchange, or an object of a program's |
//!
//! A reader belongs to no loop: a program may read from any thread how much has come. Its state has an owner of its own,
//! which is taken for each access. Feeding, pausing and resuming an exchange is for the loop's thread, as the exchange says.
//!
//! An exchange has a weak reference to its reader, and a strong one while a task waits in it; a reader has its source, and the
//! response until all of the body has come. So a body that nothing refers to is not received to its end.

mod goal;
mod input;
mod iteration;
mod methods;
mod reading;
mod source;
mod state;
mod waiting;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whorl_core::client::stream::PieceSizes;
use whorl_core::sched::OwnerCell;

use goal::ReadGoal;
pub use input::{Span, StreamInput};
pub use source::{ReaderSource, StreamSource};
pub use state::Fed;
use state::ReaderState;

use crate::errors::OrRaise;
use crate::interpreter::{Attached, CloneWith, add_class};
use crate::transport::{set_exception, set_result};

/// The native half of `whorl.http.StreamReader`. Source of the semantics: `aiohttp.StreamReader`.
#[pyclass(frozen, subclass, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct StreamReaderBase {
    state: OwnerCell<ReaderState>,
}

impl StreamReaderBase {
    fn with<R>(&self, act: impl FnOnce(&mut ReaderState) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut ReaderState, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.state.with_token(at.into(), act).or_raise()
    }

    /// Its source.
    fn source(&self, py: Python<'_>) -> PyResult<StreamSource> {
        let source = self.with_attached(py, |state, at| state.source.as_ref().map(|s| s.clone_with(at)))?;
        Ok(source.unwrap_or_else(|| StreamSource::foreign(py.None())))
    }

    /// Has the source receive what `goal` is for at once, if it can; true if it has.
    fn receive(&self, py: Python<'_>, goal: &ReadGoal) -> PyResult<bool> {
        let Some(size) = goal.object() else { return Ok(false) };
        let source = self.with_attached(py, |state, at| {
            // While another task waits this read is an error.
            state.source.as_ref().filter(|_| state.waiter.is_none()).map(|source| source.clone_with(at))
        })?;
        match source {
            Some(source) => source.receive(py, size),
            None => Ok(false),
        }
    }

    fn resume_source(&self, py: Python<'_>) -> PyResult<()> {
        self.source(py)?.resume(py)
    }

    /// Appends parts of received memory: for a native source, as what follows.
    ///
    /// # Errors
    /// RuntimeError if the body is not known to be chunked, and is.
    pub fn feed_input(&self, py: Python<'_>, input: &StreamInput) -> PyResult<Fed> {
        self.with_attached(py, |state, at| state.feed_input(at, input))?.or_raise()
    }

    /// Appends a piece as it is.
    ///
    /// # Errors
    /// RuntimeError if the state is open further up the stack; so below.
    pub fn feed_piece(&self, py: Python<'_>, piece: Py<PyBytes>) -> PyResult<Fed> {
        self.with_attached(py, |state, at| state.feed_piece(at, piece))
    }

    /// Appends pieces that were decoded from the first `compressed` bytes of the body.
    ///
    /// # Errors
    /// As above.
    pub fn feed_decoded(&self, py: Python<'_>, pieces: Vec<Py<PyBytes>>, compressed: u64) -> PyResult<Fed> {
        self.with_attached(py, |state, at| {
            state.compressed = Some(compressed);
            state.feed_pieces(at, pieces)
        })
    }

    /// Notes that the body was decoded from so many bytes so far.
    ///
    /// # Errors
    /// As above.
    pub fn set_compressed(&self, count: u64) -> PyResult<()> {
        self.with(|state| state.compressed = Some(count))
    }

    /// A chunk of the chunked transfer coding has ended.
    ///
    /// # Errors
    /// RuntimeError if the body is not known to be chunked.
    pub fn end_chunk(&self) -> PyResult<Fed> {
        self.with(ReaderState::end_chunk)?.or_raise()
    }

    /// How many of the next bytes a read that waits takes as one object, if nothing is buffered.
    ///
    /// # Errors
    /// As above.
    pub fn wanted(&self) -> PyResult<Option<usize>> {
        self.with(|state| state.waiter.as_ref().filter(|_| state.buffer.is_empty())?.object)
    }

    /// The lengths that the next pieces are to have.
    ///
    /// # Errors
    /// As above.
    pub fn piece_sizes(&self) -> PyResult<PieceSizes> {
        self.with(|state| state.buffer.piece_sizes())
    }

    /// Has `source` feed it, which keeps `kept` alive until all of the body has come.
    ///
    /// # Errors
    /// As above.
    pub fn attach(&self, source: StreamSource, is_chunked: bool, kept: Option<Py<PyAny>>) -> PyResult<()> {
        let (begun, _previous) = self.with(|state| {
            let begun = if is_chunked { state.buffer.begin_chunk() } else { Ok(()) };
            (begun, (state.source.replace(source), std::mem::replace(&mut state.kept, kept)))
        })?;
        begun.or_raise()
    }

    /// All of the body has come: wakes the waiters, and calls what was given to `on_eof()`.
    ///
    /// # Errors
    /// What the source raises.
    pub fn end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (waiter, end_waiter, callbacks, was_paused, _kept) = this.with(|state| {
            state.ended = true;
            (
                state.waiter.take(),
                state.end_waiter.take(),
                std::mem::take(&mut state.end_callbacks),
                std::mem::take(&mut state.paused),
                state.kept.take(),
            )
        })?;
        for future in waiter.map(|waiter| waiter.future).into_iter().chain(end_waiter) {
            set_result(future.bind(py))?;
        }
        // The connection may serve another message now, whose reader does not know that it is paused. If it does not, it
        // may be feeding from within its resume_reading(), and is not called a second time.
        let source = this.source(py)?;
        let resumes = if source.is_native() { was_paused } else { source.says_paused(py)? };
        if resumes {
            source.resume(py)?;
        }
        for callback in callbacks {
            slf.call_method1(intern!(py, "_call_at_end"), (callback,))?;
        }
        Ok(())
    }

    /// The body breaks off: the waiters, and every read from now on, get `error`.
    ///
    /// # Errors
    /// What a future raises that a tool has put in the place of asyncio's.
    pub fn fail(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let kept = error.clone().unbind();
        let (waiter, end_waiter, _rest) = slf.get().with(|state| {
            let rest =
                (state.exception.replace(kept), std::mem::take(&mut state.end_callbacks), state.kept.take());
            (state.waiter.take(), state.end_waiter.take(), rest)
        })?;
        for future in waiter.map(|waiter| waiter.future).into_iter().chain(end_waiter) {
            set_exception(future.bind(py), error)?;
        }
        Ok(())
    }
}

/// Adds the classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<StreamReaderBase>(module)?;
    add_class::<reading::StreamRead>(module)?;
    add_class::<iteration::StreamIteratorBase>(module)
}
