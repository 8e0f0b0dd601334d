//! The Python interface of an exchange.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::Framing;

use super::{BodyDelivery, Exchange, ExchangePhase, waiter};
use crate::http::body_source::Source;
use crate::http::given;
use crate::http::h1::head;
use crate::http::stream_reader::{ReaderSource, StreamReaderBase, StreamSource};
use crate::interpreter::{CloneWith, Collector};
use crate::transport::set_result;

#[pymethods]
impl Exchange {
    /// A future for the head, or None if it is here. Raises the error of a failed exchange.
    fn head_waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.check_head(py)?;
        self.wait_for_head(py)
    }

    /// A future for 100 Continue, which a final head and a failure complete as well.
    fn continue_waiter(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = waiter(self.event_loop.bind(py))?;
        let _previous =
            self.with_attached(py, |state, at| state.continue_waiter.replace(future.clone_with(at)))?;
        Ok(future)
    }

    /// Raise the error of a failed exchange, unless the head is here: the failure is the body's then.
    fn check_head(&self, py: Python<'_>) -> PyResult<()> {
        if self.head_if_any().is_some() { Ok(()) } else { self.check(py) }
    }

    /// Raise the error of a failed exchange.
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        let error = self.with_attached(py, |state, at| match &state.phase {
            ExchangePhase::Failed(error) => Some(error.clone_with(at)),
            _ => None,
        })?;
        match error {
            Some(error) => Err(PyErr::from_value(error.into_bound(py))),
            None => Ok(()),
        }
    }

    /// The whole body, if it has arrived and was not taken; None while it is on its way.
    fn body(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        self.check(py)?;
        let body = self.with(|state| {
            // Bytes after a change of protocol are no body.
            let over =
                matches!(state.phase, ExchangePhase::Ended) || matches!(state.framing, Framing::Tunnel);
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
        let reference = future.clone_ref(py);
        this.with(|state| {
            if matches!(state.delivery, BodyDelivery::Unread) {
                state.delivery = BodyDelivery::Whole;
            }
            state.body_waiters.push(reference);
        })?;
        this.resume_source(py)?;
        this.decode_more(slf)?;
        if this.is_done() {
            set_result(future.bind(py))?;
        }
        Ok(future)
    }

    /// Decodes more of the pending bytes, in a turn of its own.
    fn _continue_decoding(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let paused = this.with(|state| {
            state.deferred = false;
            state.paused
        })?;
        if !paused {
            this.resume_source(slf.py())?;
        }
        this.decode_more(slf)
    }

    /// Hand the body to `reader` from now on; the bytes that have arrived go first. The reader keeps `response` until all of the
    /// body has come.
    fn attach(
        slf: &Bound<'_, Self>,
        reader: &Bound<'_, StreamReaderBase>,
        response: Py<PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let reference = PyWeakrefReference::new(reader)?.unbind();
        let (body, is_chunked, compressed, _previous) = this.with(|state| {
            let previous = std::mem::replace(&mut state.delivery, BodyDelivery::Reader(reference));
            let compressed = state.decoding.is_some().then_some(state.raw_bytes);
            let is_chunked = matches!(state.framing, Framing::Chunked);
            (std::mem::take(&mut state.body), is_chunked, compressed, previous)
        })?;
        reader.get().attach(StreamSource::native(slf), is_chunked, Some(response))?;
        if let Some(count) = compressed {
            reader.get().set_compressed(count)?;
        }
        if body.hand_to(py, reader.get())? {
            Self::pause(slf)?;
        } else {
            // It may have been paused as no reader took the body.
            this.resume_source(py)?;
        }
        if this.is_done() {
            return this.ended(slf);
        }
        this.decode_more(slf)
    }

    /// Make the peer wait: called by the reader.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause(slf)
    }

    /// Resume: called by the reader.
    #[pyo3(signature = (resume_parser=true))]
    fn resume_reading(slf: &Bound<'_, Self>, resume_parser: bool) -> PyResult<()> {
        // aiohttp's protocol has such a parameter.
        let _ = resume_parser;
        Self::resume(slf)
    }

    /// Whether the reader has paused.
    #[getter]
    fn _reading_paused(&self) -> PyResult<bool> {
        self.with(|state| state.paused)
    }

    /// Whether more can come: a reader checks this before it waits.
    #[getter]
    fn connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_connected(py)
    }

    /// End the exchange with `exc`, unless it is over; the connection is closed.
    #[pyo3(name = "fail")]
    fn py_fail(slf: &Bound<'_, Self>, exc: Py<PyAny>) -> PyResult<()> {
        Self::fail_with_source(slf, exc)
    }

    /// Abandon the response: the connection is closed if more of it is still to come.
    pub fn abandon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (source, guard, _body, _previous) = this.with(|state| {
            let previous = std::mem::replace(&mut state.delivery, BodyDelivery::Discarded);
            state.decoding = None;
            (state.source.take(), state.guard.take(), std::mem::take(&mut state.body), previous)
        })?;
        if let Some(guard) = guard {
            guard.end(py)?;
        }
        match source {
            Some(source) => source.give_up(py),
            None => Ok(()),
        }
    }

    /// Abandon the unreleased response to a request with `method` for `url`, which is no longer referenced.
    fn _abandon_unclosed(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyAny>,
        url: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().event_loop.bind(py);
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? || slf.get().is_done() {
            return Ok(());
        }
        Self::abandon(slf)?;
        if event_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()? {
            given::step(py, intern!(py, "warn_unclosed"))?.call1((event_loop, method, url))?;
        }
        Ok(())
    }

    /// The event loop.
    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Call `callback()` when the exchange is over; at once if it is.
    fn on_end(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let mut callback = Some(callback);
        self.with(|state| {
            if !matches!(state.phase, ExchangePhase::Ended | ExchangePhase::Failed(_)) {
                state.on_end.extend(callback.take());
            }
        })?;
        match callback {
            Some(callback) => callback.call0(py).map(drop),
            None => Ok(()),
        }
    }

    /// The connection, until it has received all of the response.
    #[getter(connection)]
    fn py_connection(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.is_done() {
            return Ok(None);
        }
        Ok(self.source(py)?.map(Source::into_object))
    }

    /// 'waiting', 'receiving', 'ended' or 'failed'.
    #[getter]
    fn phase(&self) -> PyResult<&'static str> {
        self.with(|state| match state.phase {
            ExchangePhase::Waiting => "waiting",
            ExchangePhase::Receiving => "receiving",
            ExchangePhase::Ended => "ended",
            ExchangePhase::Failed(_) => "failed",
        })
    }

    /// Whether the head announces a body of at least one byte, as far as that can be known.
    #[getter]
    fn has_body(&self) -> PyResult<bool> {
        self.with(|state| !matches!(state.framing, Framing::Empty | Framing::Tunnel | Framing::Length(0)))
    }

    /// Whether nothing more will come of it.
    #[pyo3(name = "is_over")]
    fn py_is_over(&self) -> bool {
        self.is_done()
    }

    /// Bytes that are kept unread.
    #[getter]
    fn buffer_size(&self) -> PyResult<usize> {
        self.with(|state| state.options.buffer_size)
    }

    /// Bytes of the body that have arrived, before a content coding was undone.
    #[getter]
    fn raw_bytes(&self) -> PyResult<u64> {
        self.with(|state| state.raw_bytes)
    }

    /// Whether the connection belongs to another protocol from now on: 101, or 2xx to CONNECT.
    #[getter]
    fn upgraded(&self) -> PyResult<bool> {
        self.is_tunnel()
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

    /// The first value of the field `name`.
    fn value<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.head()?.fields.get(name).map(|value| head::text(py, value)).transpose()
    }

    /// All values of the field `name`.
    fn values<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.head()?.fields.get_all(name).map(|value| head::text(py, value)).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                if let Some(source) = &state.source {
                    source.visit(*visit)?;
                }
                if let Some(guard) = &state.guard {
                    guard.visit(*visit)?;
                }
                if let ExchangePhase::Failed(error) = &state.phase {
                    visit.call(error)?;
                }
                if let BodyDelivery::Reader(reader) = &state.delivery {
                    visit.call(reader)?;
                }
                visit.call(&state.head_waiter)?;
                visit.call(&state.awaited_reader)?;
                state.body_waiters.iter().try_for_each(|waiter| visit.call(waiter))?;
                visit.call(&state.continue_waiter)?;
                state.on_end.iter().try_for_each(|callback| visit.call(callback))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _source = self.state.with(|state| state.source.take());
        let _reader =
            self.state.with(|state| std::mem::replace(&mut state.delivery, BodyDelivery::Discarded));
        let _waiters = self.state.with(|state| {
            (state.head_waiter.take(), std::mem::take(&mut state.body_waiters), state.continue_waiter.take())
        });
        let _reader = self.state.with(|state| state.awaited_reader.take());
        let _callbacks = self.state.with(|state| std::mem::take(&mut state.on_end));
        let _guard = self.state.with(|state| state.guard.take());
    }
}
