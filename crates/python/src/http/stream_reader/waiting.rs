//! The wait of a read: for a future that feeding makes done, within the time of the reader's timer.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::StreamReaderBase;
use super::goal::ReadGoal;
use super::state::StreamWaiter;
use crate::event_loop::new_future;
use crate::interpreter::{CloneWith, Identity};

/// A read waits.
#[derive(Debug)]
pub struct Wait {
    /// What it waits for.
    pub future: Py<PyAny>,
    /// The reader's timer, which was entered.
    timer: Option<Py<PyAny>>,
}

/// Whether a read has begun to wait.
enum WaitOutcome {
    /// It waits.
    Begun,
    /// Another one waits.
    Busy,
    /// What it waits for came meanwhile.
    Came,
}

impl Wait {
    /// Has a read for `goal` wait until `wanted` bytes are buffered; none if they came meanwhile.
    ///
    /// # Errors
    /// RuntimeError if nothing more can come, or if another read waits; the exception of the timer.
    pub fn begin(
        reader: &Bound<'_, StreamReaderBase>,
        goal: &ReadGoal,
        wanted: usize,
    ) -> PyResult<Option<Self>> {
        let py = reader.py();
        let this = reader.get();
        let for_end = matches!(goal, ReadGoal::End);
        let once = matches!(goal, ReadGoal::Wake(_));
        let source = this.source(py)?;
        if !for_end && !source.is_connected(py)? {
            return Err(PyRuntimeError::new_err("Connection closed."));
        }
        let (event_loop, timer) = this.with_attached(py, |state, at| {
            let timer = state.timer.as_ref().filter(|_| !for_end).map(|timer| timer.clone_with(at));
            (state.event_loop.clone_with(at), timer)
        })?;
        let event_loop = event_loop.unwrap_or_else(|| py.None());
        let future = new_future(event_loop.bind(py))?.unbind();
        let awaited = future.clone_ref(py);
        let outcome = this.with(|state| {
            let is_busy = if for_end { state.end_waiter.is_some() } else { state.waiter.is_some() };
            let is_over = state.ended || state.exception.is_some();
            if is_busy {
                WaitOutcome::Busy
            } else if !once && (is_over || (!for_end && state.buffer.size() >= wanted)) {
                WaitOutcome::Came
            } else {
                if for_end {
                    state.end_waiter = Some(awaited);
                } else {
                    state.waiter = Some(StreamWaiter { future: awaited, wanted, object: goal.object() });
                }
                WaitOutcome::Begun
            }
        })?;
        match outcome {
            WaitOutcome::Came => return Ok(None),
            WaitOutcome::Busy if for_end => {
                let text = "wait_eof() called while another coroutine is already waiting for the end";
                return Err(PyRuntimeError::new_err(text));
            }
            // A second reader would get the bytes that the first has not: surely a mistake.
            WaitOutcome::Busy => {
                return Err(PyRuntimeError::new_err(format!(
                    "{}() called while another coroutine is already waiting for incoming data",
                    goal.method()
                )));
            }
            WaitOutcome::Begun => {}
        }
        let wait = Self { future, timer };
        source.keep_reader(py, Some(reader.clone().unbind()))?;
        if let Some(timer) = &wait.timer
            && let Err(error) = timer.call_method0(py, intern!(py, "__enter__"))
        {
            wait.leave_reader(reader)?;
            return Err(error);
        }
        Ok(Some(wait))
    }

    /// The wait is over, by its future or by an error, which the timer may replace. The read is undone by an error.
    ///
    /// # Errors
    /// That of the wait.
    pub fn end(
        self,
        reader: &Bound<'_, StreamReaderBase>,
        goal: &mut ReadGoal,
        outcome: PyResult<()>,
    ) -> PyResult<()> {
        let py = reader.py();
        self.leave_reader(reader)?;
        let outcome = match &self.timer {
            Some(timer) => leave(timer.bind(py), outcome),
            None => outcome,
        };
        if outcome.is_err() {
            reader.get().with_attached(py, |state, at| state.undo(at, goal))?;
        }
        outcome
    }

    /// The reader has this waiter no more.
    fn leave_reader(&self, reader: &Bound<'_, StreamReaderBase>) -> PyResult<()> {
        let py = reader.py();
        let this = reader.get();
        let awaited = Identity::of(self.future.bind(py));
        let (none_waits, _future) = this.with(|state| {
            let data = state.waiter.take_if(|waiter| awaited.is(&waiter.future));
            let end = state.end_waiter.take_if(|waiter| awaited.is(waiter));
            (state.waiter.is_none() && state.end_waiter.is_none(), (data, end))
        })?;
        if none_waits { this.source(py)?.keep_reader(py, None) } else { Ok(()) }
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        visit.call(&self.timer)
    }
}

/// Leaves the reader's timer, as `with` does.
fn leave(timer: &Bound<'_, PyAny>, outcome: PyResult<()>) -> PyResult<()> {
    let py = timer.py();
    let exit = intern!(py, "__exit__");
    match outcome {
        Ok(()) => timer.call_method1(exit, (py.None(), py.None(), py.None())).map(drop),
        Err(error) => {
            let args = (error.get_type(py), error.value(py), error.traceback(py));
            if timer.call_method1(exit, args)?.is_truthy()? { Ok(()) } else { Err(error) }
        }
    }
}
