//! A read that is awaited: an awaitable without a coroutine, which waits for a future if the bytes are not there.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::asyncio::{IncompleteReadError, InvalidStateError};
use pyo3::exceptions::{
    PyGeneratorExit, PyRuntimeError, PyRuntimeWarning, PyStopAsyncIteration, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::sched::assert_nothing_open;

use super::StreamReaderBase;
use super::goal::{ReadGoal, ReadProgress, ReadStep};
use super::waiting::Wait;
use crate::http::coroutine::{coroutine_methods, stop_iteration};
use crate::interpreter::{Collector, Guarded, await_future, in_destructor};

/// So many reads at the end of the body are taken for a mistake: the program may be in an endless loop.
const READS_AT_END: u32 = 5;

/// The phase of a read.
#[derive(Debug)]
enum ReadPhase {
    /// It was not awaited.
    New(ReadGoal),
    /// It waits.
    Waiting(ReadGoal, Wait),
    /// It has returned, or was given up.
    Over,
}

/// What a read has taken out of the buffer.
enum Taken {
    /// Its result.
    Value(Py<PyAny>),
    /// Not enough: it waits.
    Nothing(Wait),
}

/// A read of a `StreamReader`: a coroutine by its methods. Nothing is taken out of the buffer before it is awaited.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct StreamRead {
    reader: Py<StreamReaderBase>,
    phase: Guarded<ReadPhase>,
    /// Whether it is a step of an iteration, which stops at the end of the body.
    iterates: AtomicBool,
}

impl StreamRead {
    /// A read of `reader`.
    pub fn new(reader: &Bound<'_, StreamReaderBase>, goal: ReadGoal) -> Self {
        Self {
            reader: reader.clone().unbind(),
            phase: Guarded::new(ReadPhase::New(goal)),
            iterates: AtomicBool::new(false),
        }
    }

    /// Has it raise StopAsyncIteration at the end of the body.
    pub fn set_iterates(&self) {
        self.iterates.store(true, Ordering::Relaxed);
    }

    fn resume(&self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Py<PyAny>> {
        let reader = self.reader.bind(py);
        match (self.phase.replace(py, ReadPhase::Over), thrown) {
            (ReadPhase::Over, None) => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
            (ReadPhase::New(_) | ReadPhase::Over, Some(error)) => Err(error),
            (ReadPhase::New(goal), None) => self.advance(reader, goal, true),
            (ReadPhase::Waiting(mut goal, wait), thrown) => {
                let outcome = match thrown {
                    Some(error) => Err(error),
                    None => match wait.future.call_method0(py, intern!(py, "result")) {
                        Err(error) if error.is_instance_of::<InvalidStateError>(py) => {
                            let _over = self.phase.replace(py, ReadPhase::Waiting(goal, wait));
                            return Err(PyRuntimeError::new_err("await wasn't used with future"));
                        }
                        outcome => outcome.map(drop),
                    },
                };
                wait.end(reader, &mut goal, outcome)?;
                self.advance(reader, goal, false)
            }
        }
    }

    /// Takes what the read is for, or waits for it: returns the future.
    fn advance(
        &self,
        reader: &Bound<'_, StreamReaderBase>,
        mut goal: ReadGoal,
        is_first: bool,
    ) -> PyResult<Py<PyAny>> {
        let py = reader.py();
        match self.take(reader, &mut goal, is_first) {
            Ok(Taken::Value(value)) => Err(stop_iteration(value)),
            Ok(Taken::Nothing(wait)) => {
                let future = wait.future.clone_ref(py);
                let _over = self.phase.replace(py, ReadPhase::Waiting(goal, wait));
                await_future(future, py)
            }
            Err(error) => {
                reader.get().with_attached(py, |state, at| state.undo(at, &mut goal))?;
                Err(error)
            }
        }
    }

    fn take(
        &self,
        reader: &Bound<'_, StreamReaderBase>,
        goal: &mut ReadGoal,
        is_first: bool,
    ) -> PyResult<Taken> {
        let py = reader.py();
        let this = reader.get();
        let mut progress = ReadProgress { is_first, is_in_time: false, has_resumed: false };
        loop {
            let (step, resumes) = this.with_attached(py, |state, at| state.step(at, goal, progress))??;
            progress.is_first = false;
            if resumes {
                this.resume_source(py)?;
            }
            match step {
                ReadStep::Wait(_) if resumes => progress.has_resumed = true,
                ReadStep::Wait(1) if this.receive(py, goal)? => {}
                ReadStep::Wait(wanted) => {
                    if let Some(wait) = Wait::begin(reader, goal, wanted)? {
                        return Ok(Taken::Nothing(wait));
                    }
                }
                ReadStep::AskTimer(timer) => {
                    timer.call_method0(py, intern!(py, "assert_timeout"))?;
                    progress.is_in_time = true;
                }
                ReadStep::Bytes(None) => return self.end(empty(py), true),
                ReadStep::Bytes(Some(bytes)) => return self.end(bytes.into_any(), false),
                ReadStep::Chunk(bytes, ends) => {
                    let is_over = bytes.is_none() && !ends;
                    let bytes = bytes.map_or_else(|| empty(py), Py::into_any);
                    return self.end((bytes, ends).into_pyobject(py)?.into_any().unbind(), is_over);
                }
                ReadStep::Nothing => return Ok(Taken::Value(py.None())),
                ReadStep::AtEnd(count) => {
                    if count > READS_AT_END {
                        reader.call_method0(intern!(py, "_warn_at_end"))?;
                    }
                    return self.end(empty(py), true);
                }
                ReadStep::Raise(error) => return Err(PyErr::from_value(error.into_bound(py))),
                ReadStep::Incomplete(partial, expected) => {
                    let partial = partial.map_or_else(|| empty(py), Py::into_any);
                    return Err(IncompleteReadError::new_err((partial, expected)));
                }
                ReadStep::NoSeparator => {
                    return Err(PyValueError::new_err("Separator should be at least one-byte string"));
                }
                ReadStep::TooLong(line, limit) => {
                    let args = (PyBytes::new(py, &line), limit);
                    let error = reader.call_method1(intern!(py, "_line_too_long"), args)?;
                    return Err(PyErr::from_value(error));
                }
            }
        }
    }

    /// It returns `value`, which may be the end of the body.
    fn end(&self, value: Py<PyAny>, is_end_of_body: bool) -> PyResult<Taken> {
        if is_end_of_body && self.iterates.load(Ordering::Relaxed) {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        Ok(Taken::Value(value))
    }

    /// Gives the read up: the next one gets the bytes that it has not returned.
    fn give_up(reader: &Bound<'_, StreamReaderBase>, phase: ReadPhase) -> PyResult<()> {
        let ReadPhase::Waiting(mut goal, wait) = phase else { return Ok(()) };
        match wait.end(reader, &mut goal, Err(PyGeneratorExit::new_err(()))) {
            Err(error) if !error.is_instance_of::<PyGeneratorExit>(reader.py()) => Err(error),
            _ => Ok(()),
        }
    }
}

fn empty(py: Python<'_>) -> Py<PyAny> {
    PyBytes::new(py, &[]).into_any().unbind()
}

coroutine_methods!(StreamRead);

#[pymethods]
impl StreamRead {
    const fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Give it up: a coroutine's method.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let phase = self.phase.replace(py, ReadPhase::Over);
        Self::give_up(self.reader.bind(py), phase)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        self.phase.visit(Collector::of(&visit), |phase, visit| match phase {
            ReadPhase::New(goal) => goal.visit(*visit),
            ReadPhase::Waiting(goal, wait) => {
                goal.visit(*visit)?;
                wait.visit(*visit)
            }
            ReadPhase::Over => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let phase = self.phase.replace(py, ReadPhase::Over);
        in_destructor(self.reader.bind(py), || Self::give_up(self.reader.bind(py), phase));
    }
}

impl Drop for StreamRead {
    /// Gives up a read that waits; warns of one that was not awaited, as of a coroutine.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        let phase = std::mem::replace(self.phase.get_mut(), ReadPhase::Over);
        if matches!(phase, ReadPhase::Over) {
            return;
        }
        Python::attach(|py| {
            let reader = self.reader.bind(py);
            in_destructor(reader, || match &phase {
                ReadPhase::New(goal) => {
                    let text = format!("coroutine 'StreamReader.{}' was never awaited", goal.method());
                    let text = std::ffi::CString::new(text)?;
                    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
                }
                _ => Self::give_up(reader, phase),
            });
        });
    }
}
