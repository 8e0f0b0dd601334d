//! The Python interface of a reader.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::stream::{LongLine, StreamBuffer, StreamMarks};
use whorl_core::sched::{LoopOwner, OwnerCell};

use super::goal::{LineGoal, ReadGoal};
use super::reading::StreamRead;
use super::state::{Fed, ReaderState, StreamWaiter};
use super::{StreamReaderBase, StreamSource};
use crate::errors::OrRaise;
use crate::interpreter::{CloneWith, Collector};
use crate::transport::set_result;

/// What is like bytes, as a bytes object: of no class that is derived from it, as the end of one could run other code.
fn as_bytes(object: &Bound<'_, PyAny>) -> PyResult<Py<PyBytes>> {
    match object.cast_exact::<PyBytes>() {
        Ok(bytes) => Ok(bytes.clone().unbind()),
        Err(_) => {
            let copy = PyMemoryView::from(object)?.call_method0(intern!(object.py(), "tobytes"))?;
            Ok(copy.cast_into::<PyBytes>()?.unbind())
        }
    }
}

impl StreamReaderBase {
    /// Wakes the waiter and has the source wait, as feeding requires.
    fn after_feeding(&self, py: Python<'_>, fed: Fed) -> PyResult<()> {
        if let Some(waiter) = fed.waiter {
            set_result(waiter.bind(py))?;
        }
        if fed.pauses { self.source(py)?.pause(py) } else { Ok(()) }
    }
}

/// None for a number below 0.
fn count_of(n: isize) -> Option<usize> {
    usize::try_from(n).ok()
}

#[pymethods]
impl StreamReaderBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { state: OwnerCell::new(Arc::new(LoopOwner::new()), ReaderState::default()) }
    }

    /// Take the arguments of the constructor.
    fn _begin(
        &self,
        protocol: Py<PyAny>,
        limit: usize,
        timer: Option<Py<PyAny>>,
        r#loop: Py<PyAny>,
    ) -> PyResult<()> {
        let state = ReaderState {
            buffer: StreamBuffer::new(StreamMarks::new(limit)),
            source: Some(StreamSource::foreign(protocol)),
            event_loop: Some(r#loop),
            timer,
            ..ReaderState::default()
        };
        let _previous = self.with(|place| std::mem::replace(place, state))?;
        Ok(())
    }

    /// End the body, and do nothing else.
    fn _set_ended(&self) -> PyResult<()> {
        self.with(|state| state.ended = true)
    }

    // Feeding.

    /// Add a piece of the body. `size` is there for aiohttp's sake, and the result is always False.
    ///
    /// Raises RuntimeError after the end of the body.
    #[pyo3(signature = (data, size=0))]
    fn feed_data(&self, data: &Bound<'_, PyAny>, size: usize) -> PyResult<bool> {
        let _ = size;
        let py = data.py();
        let data = as_bytes(data)?;
        if self.is_eof()? {
            let text =
                format!("feed_data() after feed_eof(): {} bytes too many", data.bind(py).as_bytes().len());
            return Err(PyRuntimeError::new_err(text));
        }
        let fed = self.with_attached(py, |state, at| state.feed_piece(at, data))?;
        self.after_feeding(py, fed)?;
        Ok(false)
    }

    /// End the body.
    fn feed_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end(slf)
    }

    /// Break the body off: the waiter, and every read from now on, gets `exc`, whose cause becomes `exc_cause`.
    #[pyo3(signature = (exc, exc_cause=None))]
    fn set_exception(
        slf: &Bound<'_, Self>,
        exc: &Bound<'_, PyAny>,
        exc_cause: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(cause) = exc_cause
            && !cause.is(exc)
        {
            exc.setattr(intern!(slf.py(), "__cause__"), cause)?;
        }
        Self::fail(slf, exc)
    }

    /// Begin an HTTP chunk: the body is chunked, which has to be known before any of it comes.
    ///
    /// Raises RuntimeError otherwise.
    fn begin_http_chunk_receiving(&self) -> PyResult<()> {
        self.with(|state| state.buffer.begin_chunk())?.or_raise()
    }

    /// End an HTTP chunk here. One that has added nothing does not count: a compressed one may be too little to decompress.
    ///
    /// Raises RuntimeError if none has begun.
    fn end_http_chunk_receiving(&self, py: Python<'_>) -> PyResult<()> {
        let fed = self.end_chunk()?;
        self.after_feeding(py, fed)
    }

    // Reading.

    /// Read at most `n` bytes, and wait only if there are none; everything if `n` is negative.
    ///
    /// Returns `b""` at the end of the body.
    #[pyo3(signature = (n=-1))]
    fn read(slf: &Bound<'_, Self>, n: isize) -> StreamRead {
        StreamRead::new(slf, count_of(n).map_or(ReadGoal::All(None), ReadGoal::AtMost))
    }

    /// Read all buffered bytes; wait only if there are none. `b""` at the end of the body.
    fn readany(slf: &Bound<'_, Self>) -> StreamRead {
        StreamRead::new(slf, ReadGoal::Any)
    }

    /// Read `n` bytes.
    ///
    /// Raises asyncio.IncompleteReadError, with the bytes so far, if the body ends before.
    fn readexactly(slf: &Bound<'_, Self>, n: isize) -> StreamRead {
        StreamRead::new(slf, ReadGoal::Exactly(count_of(n).unwrap_or(0)))
    }

    /// Read a piece of the body, and return whether an HTTP chunk ends with it.
    ///
    /// The piece may be empty if the end came later than all of the chunk. `(b"", False)` is the end of the body.
    fn readchunk(slf: &Bound<'_, Self>) -> StreamRead {
        StreamRead::new(slf, ReadGoal::Chunk)
    }

    /// Read up to `separator` and with it, or the rest of the body if it does not come.
    ///
    /// Raises LineTooLong if that is longer than `max_size` bytes, which is by default the limit that the stream buffers; the
    /// bytes that were read are gone then. ValueError if the separator is empty.
    #[pyo3(signature = (separator=None, *, max_size=None), text_signature = "($self, separator=b'\\n', *, max_size=None)")]
    fn readuntil(
        slf: &Bound<'_, Self>,
        separator: Option<&Bound<'_, PyAny>>,
        max_size: Option<usize>,
    ) -> PyResult<StreamRead> {
        let separator = match separator {
            Some(separator) => as_bytes(separator)?,
            None => PyBytes::new(slf.py(), b"\n").unbind(),
        };
        let most = max_size.filter(|size| *size > 0);
        let goal = LineGoal { separator, most, line: LongLine::default() };
        Ok(StreamRead::new(slf, ReadGoal::Line(Box::new(goal))))
    }

    /// Wait until all of the body has come, read or not. One task at a time may do so.
    fn wait_eof(slf: &Bound<'_, Self>) -> StreamRead {
        StreamRead::new(slf, ReadGoal::End)
    }

    /// Wait until a piece comes, a chunk or the body ends, or the body breaks off.
    fn _wait(slf: &Bound<'_, Self>, func_name: String) -> StreamRead {
        StreamRead::new(slf, ReadGoal::Wake(func_name))
    }

    /// Read all buffered bytes, or at most `n` of them; `b""` if there are none.
    ///
    /// Raises RuntimeError while a task waits for data.
    #[pyo3(signature = (n=-1))]
    fn read_nowait(&self, py: Python<'_>, n: isize) -> PyResult<Py<PyBytes>> {
        let (exception, waiter, timer) = self.with_attached(py, |state, at| {
            let waiter = state.waiter.as_ref().map(|StreamWaiter { future, .. }| future.clone_with(at));
            (state.exception.clone_with(at), waiter, state.timer.clone_with(at))
        })?;
        if let Some(error) = exception {
            return Err(PyErr::from_value(error.into_bound(py)));
        }
        if let Some(waiter) = waiter
            && !waiter.call_method0(py, intern!(py, "done"))?.is_truthy(py)?
        {
            return Err(PyRuntimeError::new_err("Called while some coroutine is waiting for incoming data."));
        }
        if let Some(timer) = timer {
            timer.call_method0(py, intern!(py, "assert_timeout"))?;
        }
        let (taken, resumes) = self.with_attached(py, |state, at| {
            let taken = state.take(at, count_of(n).unwrap_or(usize::MAX));
            let resumes = matches!(taken, Ok(Some(_))) && state.resumes();
            (taken, resumes)
        })?;
        if resumes {
            self.resume_source(py)?;
        }
        Ok(taken?.unwrap_or_else(|| PyBytes::new(py, &[]).unbind()))
    }

    /// Put `data` back, to be read again before everything else.
    fn _put_back(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let data = as_bytes(data)?;
        self.with_attached(py, |state, at| {
            let length = at.bytes(&data).len();
            state.put_back(data, length);
        })
    }

    // The state.

    /// Bytes of the body so far, decompressed.
    #[getter]
    fn total_bytes(&self) -> PyResult<u64> {
        self.with(|state| state.buffer.total())
    }

    /// Bytes of the body so far as they were sent, if they were compressed.
    #[getter]
    fn total_compressed_bytes(&self) -> PyResult<Option<u64>> {
        self.with(|state| state.compressed)
    }

    #[setter(total_compressed_bytes)]
    fn set_total_compressed_bytes(&self, count: Option<u64>) -> PyResult<()> {
        self.with(|state| state.compressed = count)
    }

    /// Bytes of the body so far, as they were sent.
    #[getter]
    fn total_raw_bytes(&self) -> PyResult<u64> {
        self.with(|state| state.compressed.unwrap_or_else(|| state.buffer.total()))
    }

    /// Return the marks in bytes below which the source is resumed, and above which it is paused.
    fn get_read_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.with(|state| (state.buffer.marks().low(), state.buffer.marks().high()))
    }

    /// Raise the marks so that a caller that reads `n` bytes at a time gets as many.
    fn set_read_chunk_size(&self, n: isize) -> PyResult<()> {
        match count_of(n) {
            Some(0) | None => Ok(()),
            Some(count) => self.with(|state| state.buffer.set_read_size(count)),
        }
    }

    /// Return what reading raises, if it does.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| state.exception.clone_with(at))
    }

    /// Whether all of the body has come.
    fn is_eof(&self) -> PyResult<bool> {
        self.with(|state| state.ended)
    }

    /// Whether all of the body has been read.
    fn at_eof(&self) -> PyResult<bool> {
        self.with(|state| state.ended && state.buffer.is_empty())
    }

    /// Call `callback` when all of the body has come, or at once if it has.
    ///
    /// It is not called if the body breaks off. Its exceptions are logged.
    fn on_eof(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<()> {
        let mut callback = Some(callback);
        slf.get().with(|state| {
            if !state.ended {
                state.end_callbacks.extend(callback.take());
            }
        })?;
        match callback {
            Some(callback) => slf.call_method1(intern!(slf.py(), "_call_at_end"), (callback,)).map(drop),
            None => Ok(()),
        }
    }

    // What tests of aiohttp's look into.

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.source(py)?.object().clone_ref(py))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| state.event_loop.clone_with(at))
    }

    #[getter]
    fn _buffer(&self, py: Python<'_>) -> PyResult<Vec<Py<PyBytes>>> {
        self.with_attached(py, |state, at| {
            let parts = state.buffer.parts(usize::MAX);
            parts.map(|(piece, part)| at.new_bytes(&piece.content(at)[part])).collect()
        })
    }

    #[getter]
    fn _size(&self) -> PyResult<usize> {
        self.with(|state| state.buffer.size())
    }

    #[getter]
    fn _eof(&self) -> PyResult<bool> {
        self.is_eof()
    }

    #[getter]
    fn _eof_callbacks(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.with_attached(py, |state, at| {
            state.end_callbacks.iter().map(|callback| callback.clone_with(at)).collect()
        })
    }

    #[getter]
    fn _http_chunk_splits(&self) -> PyResult<Option<Vec<i64>>> {
        self.with(|state| state.buffer.chunk_ends().map(Iterator::collect))
    }

    #[getter]
    fn _low_water_chunks(&self) -> PyResult<usize> {
        self.with(|state| state.buffer.marks().low_chunks())
    }

    #[getter]
    fn _high_water_chunks(&self) -> PyResult<usize> {
        self.with(|state| state.buffer.marks().high_chunks())
    }

    #[getter]
    fn _waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| {
            state.waiter.as_ref().map(|StreamWaiter { future, .. }| future.clone_with(at))
        })
    }

    #[setter(_waiter)]
    fn set_waiter(&self, future: Option<Py<PyAny>>) -> PyResult<()> {
        let waiter = future.map(|future| StreamWaiter { future, wanted: 1, object: None });
        let _previous = self.with(|state| std::mem::replace(&mut state.waiter, waiter))?;
        Ok(())
    }

    #[getter]
    fn _eof_waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| state.end_waiter.clone_with(at))
    }

    #[setter(_eof_waiter)]
    fn set_eof_waiter(&self, future: Option<Py<PyAny>>) -> PyResult<()> {
        let _previous = self.with(|state| std::mem::replace(&mut state.end_waiter, future))?;
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.visit(Collector::of(&visit), |state, visit| state.visit(*visit)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _state = self.state.with(std::mem::take);
    }
}
