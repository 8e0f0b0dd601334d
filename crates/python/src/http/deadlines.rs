//! The total time limits of a session's requests: one timer for all of them.

use std::sync::Arc;

use pyo3::exceptions::PyTimeoutError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::deadlines::{Deadlines, Slot};
use whorl_core::sched::{Owned, Owner};

use super::connection::HttpConnection;
use super::exchange::Exchange;
use crate::errors::OrRaise;
use crate::event_loop::clock;

#[derive(Debug, Default)]
struct State {
    queue: Deadlines<Py<Exchange>>,
    timer: Option<Py<PyAny>>,
}

/// When the exchanges of a session are given up.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct RequestDeadlines {
    event_loop: Py<PyAny>,
    state: Owned<State>,
}

/// An exchange's place among them.
#[derive(Debug)]
pub struct Deadline {
    deadlines: Py<RequestDeadlines>,
    slot: Slot,
}

impl Deadline {
    /// The exchange is over.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn cancel(self, py: Python<'_>) -> PyResult<()> {
        let _exchange =
            self.deadlines.bind(py).get().state.with(|state| state.queue.remove(self.slot)).or_raise()?;
        Ok(())
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.deadlines)
    }
}

impl RequestDeadlines {
    /// None so far.
    pub fn make(event_loop: Py<PyAny>, owner: Arc<Owner>) -> Self {
        Self { event_loop, state: Owned::new(owner, State::default()) }
    }

    /// Gives `exchange` so many nanoseconds from now.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn enter(slf: &Bound<'_, Self>, exchange: &Bound<'_, Exchange>, limit: u64) -> PyResult<Deadline> {
        let this = slf.get();
        let reference = exchange.clone().unbind();
        let now = clock::now();
        let (slot, timed) = this
            .state
            .with(|state| (state.queue.insert(limit, now, reference), state.timer.is_some()))
            .or_raise()?;
        if !timed {
            this.set_timer(slf, limit)?;
        }
        Ok(Deadline { deadlines: slf.clone().unbind(), slot })
    }

    fn set_timer(&self, slf: &Bound<'_, Self>, delay: u64) -> PyResult<()> {
        let py = slf.py();
        let method = slf.getattr(intern!(py, "_expire"))?;
        let timer = self
            .event_loop
            .bind(py)
            .call_method1(intern!(py, "call_later"), (clock::seconds(delay), method))?;
        let _former = self.state.with(|state| state.timer.replace(timer.unbind())).or_raise()?;
        Ok(())
    }
}

#[pymethods]
impl RequestDeadlines {
    fn _expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let now = clock::now();
        let mut expired = Vec::new();
        let (next, _timer) = this
            .state
            .with(|state| {
                state.queue.expire(now, &mut expired);
                (state.queue.next_deadline(), state.timer.take())
            })
            .or_raise()?;
        for exchange in expired {
            let exchange = exchange.bind(py);
            if let Some(connection) = exchange.get().connection(py)? {
                HttpConnection::give_up(&connection)?;
            }
            exchange.get().fail(exchange, PyTimeoutError::new_err(()).into_value(py).into_any())?;
        }
        match next {
            Some(next) => this.set_timer(slf, next.saturating_sub(now)),
            None => Ok(()),
        }
    }

    /// No exchange is given up any more.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.with(|state| state.timer.take()).or_raise()? {
            Some(timer) => timer.call_method0(py, intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state.with(|state| visit.call(&state.timer)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _timer = self.state.with(|state| state.timer.take());
    }
}
