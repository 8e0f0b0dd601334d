//! What the requests of one call have in common, and its middlewares are given with each of them.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::call::Timeout;

use super::deadlines::{Late, Limit, RequestDeadlines, RequestTimeouts};
use super::session::{SessionBase, SessionConfig};
use super::step::Limited;
use crate::event_loop::clock;
use crate::http::given;
use crate::http::h1::connection::ParserOptions;
use crate::http::h1::exchange::ResponseOptions;

/// A signal, or a group of them, that the receivers of a call may listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    RequestStart,
    HeadersSent,
    ChunkSent,
    Redirect,
    RequestEnd,
    Exception,
    ChunkReceived,
    /// Those about connections and look-ups.
    Connection,
}

/// The receivers of a call's signals: a `Trace` for each trace config.
#[derive(Debug, Default)]
pub struct Traces {
    list: Option<Py<PyList>>,
    /// A bit for each [`Signal`] that has a receiver.
    signals: u8,
}

impl Traces {
    /// Of a list of `Trace` objects.
    pub const fn new(list: Py<PyList>, signals: u8) -> Self {
        Self { list: Some(list), signals }
    }

    /// Whether anything listens.
    pub const fn listen_to(&self, signal: Signal) -> bool {
        self.signals & 1 << signal as u8 != 0
    }

    /// The `Trace` objects.
    pub fn objects(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.list.as_ref().map(|list| list.bind(py).iter().map(Bound::unbind).collect()).unwrap_or_default()
    }

    /// The list of `Trace` objects, empty if there is none.
    pub fn list<'py>(&self, py: Python<'py>) -> Bound<'py, PyList> {
        self.list.as_ref().map_or_else(|| PyList::empty(py), |list| list.bind(py).clone())
    }

    /// A coroutine that sends a signal by the method `name` of each `Trace`; none if nothing listens.
    ///
    /// # Errors
    /// RuntimeError before `whorl.http` is imported.
    pub fn send<'py>(
        &self,
        py: Python<'py>,
        signal: Signal,
        name: &str,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.listen_to(signal) {
            return Ok(None);
        }
        given::step(py, intern!(py, "send_signal"))?.call1((self.list(py), name, args)).map(Some)
    }
}

/// What the requests of one call have in common.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct CallScope {
    /// The options of the session, as they were when the call began.
    pub config: Arc<SessionConfig>,
    /// The session.
    pub session: Py<SessionBase>,
    /// How much of a response is kept unread, and so on.
    pub response: ResponseOptions,
    /// How a response is parsed.
    pub parsing: ParserOptions,
    /// How long its steps may take.
    pub timeouts: RequestTimeouts,
    /// The option `timeout` as it was given; none: the session's.
    pub timeout: Option<Py<PyAny>>,
    /// The total timeout.
    pub total: Timeout,
    /// The receivers of signals.
    pub traces: Traces,
    /// The follower of its upload.
    pub tracker: Option<Py<PyAny>>,
}

impl Limited for CallScope {
    fn limit<'a>(&'a self, py: Python<'_>) -> PyResult<Option<(&'a Py<RequestDeadlines>, Limit)>> {
        Ok(self.time_left(py)?.map(|limit| (&self.config.deadlines, limit)))
    }
}

impl CallScope {
    /// The rest of the total timeout.
    ///
    /// # Errors
    /// The exception of a user's clock.
    pub fn time_left(&self, py: Python<'_>) -> PyResult<Option<Limit>> {
        if self.timeouts.total.is_none() {
            return Ok(None);
        }
        Ok(self.total.left(self.now(py)?).map(|left| Limit { left, late: Late::Call }))
    }

    /// The time on the loop's clock, in nanoseconds.
    ///
    /// # Errors
    /// The exception of a user's clock.
    pub fn now(&self, py: Python<'_>) -> PyResult<u64> {
        clock::now_on(self.config.event_loop.bind(py))
    }
}

#[pymethods]
impl CallScope {
    /// Not the config, which the session shows.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.session)?;
        visit.call(&self.timeout)?;
        visit.call(&self.traces.list)?;
        visit.call(&self.tracker)
    }
}
