//! What Python sees of an exchange.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::Framing;

use super::{Delivery, Exchange, Phase, waiter};
use crate::http::connection::HttpConnection;
use crate::http::given;
use crate::http::head;
use crate::interpreter::{CloneWith, Collector};
use crate::transport::set_result;

#[pymethods]
impl Exchange {
    /// A future for the head, or None if it is here. Raises what the exchange failed with.
    fn head_waiter(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.with(|state| state.head.is_some())? {
            return Ok(None);
        }
        self.check(py)?;
        let future = waiter(self.event_loop.bind(py))?;
        let _former = self.with_attached(py, |state, at| state.head_waiter.replace(future.clone_with(at)))?;
        Ok(Some(future))
    }

    /// A future for 100 Continue, which a final head and a failure complete as well.
    fn continue_waiter(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = waiter(self.event_loop.bind(py))?;
        let _former =
            self.with_attached(py, |state, at| state.continue_waiter.replace(future.clone_with(at)))?;
        Ok(future)
    }

    /// Raise what the exchange failed with, unless the head is here: the failure is the body's then.
    fn check_head(&self, py: Python<'_>) -> PyResult<()> {
        if self.with(|state| state.head.is_some())? { Ok(()) } else { self.check(py) }
    }

    /// Raise what the exchange failed with, if it did.
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        let error = self.with_attached(py, |state, at| match &state.phase {
            Phase::Failed(error) => Some(error.clone_with(at)),
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
        let reference = future.clone_ref(py);
        this.with(|state| {
            if matches!(state.delivery, Delivery::Unread) {
                state.delivery = Delivery::Whole;
            }
            state.body_waiters.push(reference);
        })?;
        this.resume_connection(py)?;
        this.go_on(slf)?;
        if this.with(|state| matches!(state.phase, Phase::Ended | Phase::Failed(_)))? {
            set_result(future.bind(py))?;
        }
        Ok(future)
    }

    /// Decodes more of what has come, in a turn of its own.
    fn _go_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let paused = this.with(|state| {
            state.deferred = false;
            state.paused
        })?;
        if !paused {
            this.resume_connection(slf.py())?;
        }
        this.go_on(slf)
    }

    /// Keep `reader` while somebody waits in it; None when nobody does.
    fn keep_reader(&self, reader: Option<Py<PyAny>>) -> PyResult<()> {
        let _former = self.with(|state| std::mem::replace(&mut state.awaited_reader, reader))?;
        Ok(())
    }

    /// Hand the body to `reader`, a `StreamReader`, from now on; what has arrived goes first.
    fn attach(slf: &Bound<'_, Self>, reader: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let reference = PyWeakrefReference::new(reader)?.unbind();
        let (body, chunked) = this.with(|state| {
            state.delivery = Delivery::Reader(reference);
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
        // aiohttp's protocol has such a parameter.
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
            state.decoding = None;
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
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? || slf.get().is_done()? {
            return Ok(());
        }
        Self::abandon(slf)?;
        if event_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()? {
            given::warn_unclosed(event_loop, method, url)?;
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

    /// Whether the head announces a body of at least one byte, as far as that can be known.
    #[getter]
    fn has_body(&self) -> PyResult<bool> {
        self.with(|state| !matches!(state.framing, Framing::Empty | Framing::Tunnel | Framing::Length(0)))
    }

    /// Whether nothing more will come of it.
    #[pyo3(name = "is_over")]
    fn py_is_over(&self) -> PyResult<bool> {
        self.is_done()
    }

    /// Bytes that are kept for a user who does not read.
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
            .visit(Collector::of(&visit), |state, visit| {
                visit.call(&state.connection)?;
                if let Some(deadline) = &state.deadline {
                    deadline.visit(*visit)?;
                }
                if let Phase::Failed(error) = &state.phase {
                    visit.call(error)?;
                }
                if let Delivery::Reader(reader) = &state.delivery {
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
        let _connection = self.state.with(|state| state.connection.take());
        let _reader = self.state.with(|state| std::mem::replace(&mut state.delivery, Delivery::Discarded));
        let _waiters = self.state.with(|state| {
            (state.head_waiter.take(), std::mem::take(&mut state.body_waiters), state.continue_waiter.take())
        });
        let _reader = self.state.with(|state| state.awaited_reader.take());
        let _callbacks = self.state.with(|state| std::mem::take(&mut state.on_end));
        let _deadline = self.state.with(|state| state.deadline.take());
    }
}
