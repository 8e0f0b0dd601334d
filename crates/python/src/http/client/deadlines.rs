//! The timeouts of requests; the total ones of a session share one timer.

use std::sync::Arc;

use pyo3::exceptions::PyTimeoutError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::deadlines::{DeadlineId, Deadlines};
use whorl_core::sched::{LoopOwner, OwnerCell};

use crate::errors::OrRaise;
use crate::event_loop::clock;
use crate::http::given;
use crate::http::guard::{EndGuard, EndWait};
use crate::interpreter::Collector;

/// How long a response may take, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestTimeouts {
    /// As a whole.
    pub total: Option<u64>,
    /// From one piece to the next.
    pub read: Option<u64>,
    /// For connecting, TLS included.
    pub sock_connect: Option<u64>,
    /// For getting a connection: the wait for a permit, the look-up of the host, and the connecting.
    pub connect: Option<u64>,
}

impl RequestTimeouts {
    /// Of seconds; none, 0 and less are no limit.
    pub fn new(total: Option<f64>, read: Option<f64>) -> Self {
        Self { total: limit(total), read: limit(read), sock_connect: None, connect: None }
    }

    /// Of a `whorl.http.ClientTimeout`.
    ///
    /// # Errors
    /// TypeError for a limit that is no number.
    pub fn of_client_timeout(timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = timeout.py();
        Ok(Self {
            total: limit(timeout.getattr(intern!(py, "total"))?.extract()?),
            read: limit(timeout.getattr(intern!(py, "sock_read"))?.extract()?),
            sock_connect: limit(timeout.getattr(intern!(py, "sock_connect"))?.extract()?),
            connect: limit(timeout.getattr(intern!(py, "connect"))?.extract()?),
        })
    }
}

fn limit(seconds: Option<f64>) -> Option<u64> {
    seconds.filter(|seconds| *seconds > 0.0).map(clock::nanos)
}

/// What has taken too long when a deadline has passed.
#[derive(Debug)]
pub enum Late {
    /// The call.
    Call,
    /// Getting a connection to the host of this URL.
    Connection(Py<PyAny>),
}

impl Late {
    fn error(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Call => Ok(PyTimeoutError::new_err(()).into_value(py).into_any()),
            Self::Connection(url) => {
                Ok(given::step(py, intern!(py, "connection_timeout"))?.call1((url,))?.unbind())
            }
        }
    }
}

/// How long a wait may last.
#[derive(Debug)]
pub struct Limit {
    /// Nanoseconds.
    pub left: u64,
    /// What takes too long then.
    pub late: Late,
}

/// A wait that is given up when its deadline has passed.
#[derive(Debug)]
struct Timed {
    object: Py<PyAny>,
    end: EndWait,
    late: Late,
}

impl Timed {
    fn time_out(&self, py: Python<'_>) -> PyResult<()> {
        (self.end)(self.object.bind(py), self.late.error(py)?)
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        match &self.late {
            Late::Call => Ok(()),
            Late::Connection(url) => visit.call(url),
        }
    }
}

#[derive(Debug, Default)]
struct DeadlinesState {
    queue: Deadlines<Timed>,
    timer: Option<Timer>,
    /// No more deadlines will be added.
    closing: bool,
}

impl DeadlinesState {
    /// The timer, if no deadline needs it any more.
    fn last_timer(&mut self) -> Option<Timer> {
        if self.closing && self.queue.is_empty() { self.timer.take() } else { None }
    }
}

/// The event loop's timer.
#[derive(Debug)]
struct Timer {
    handle: Py<PyAny>,
    /// Nanoseconds of the loop's clock.
    when: u64,
}

/// The deadlines of a session's requests.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct RequestDeadlines {
    event_loop: Py<PyAny>,
    state: OwnerCell<DeadlinesState>,
}

/// One of the deadlines.
#[derive(Debug)]
pub struct Deadline {
    deadlines: Py<RequestDeadlines>,
    slot: DeadlineId,
}

impl Deadline {
    /// Removes the deadline, as its wait is over.
    pub fn cancel(self, py: Python<'_>) -> PyResult<()> {
        let (_timed, timer) = self
            .deadlines
            .bind(py)
            .get()
            .state
            .with(|state| (state.queue.remove(self.slot), state.last_timer()))
            .or_raise()?;
        match timer {
            Some(timer) => timer.cancel(py),
            None => Ok(()),
        }
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.deadlines)
    }
}

impl EndGuard for Deadline {
    fn end(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        self.cancel(py)
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Self::visit(self, visit)
    }
}

impl Timer {
    fn cancel(self, py: Python<'_>) -> PyResult<()> {
        self.handle.call_method0(py, intern!(py, "cancel")).map(drop)
    }
}

impl RequestDeadlines {
    /// An empty set of deadlines.
    pub fn make(event_loop: Py<PyAny>, owner: Arc<LoopOwner>) -> Self {
        Self { event_loop, state: OwnerCell::new(owner, DeadlinesState::default()) }
    }

    /// The time on the loop's clock, in nanoseconds.
    fn now(&self, py: Python<'_>) -> PyResult<u64> {
        clock::now_on(self.event_loop.bind(py))
    }

    /// Adds a deadline for the wait of `object`, which `end` ends.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn enter(
        slf: &Bound<'_, Self>,
        limit: Limit,
        object: &Bound<'_, PyAny>,
        end: EndWait,
    ) -> PyResult<Deadline> {
        let this = slf.get();
        let Limit { left: limit, late } = limit;
        let timed = Timed { object: object.clone().unbind(), end, late };
        let now = this.now(slf.py())?;
        let when = now.saturating_add(limit);
        let (slot, in_time) = this
            .state
            .with(|state| {
                let slot = state.queue.insert(limit, now, timed);
                (slot, state.timer.as_ref().is_some_and(|timer| timer.when <= when))
            })
            .or_raise()?;
        let deadline = Deadline { deadlines: slf.clone().unbind(), slot };
        if !in_time && let Err(error) = this.set_timer(slf, now, when) {
            deadline.cancel(slf.py())?;
            return Err(error);
        }
        Ok(deadline)
    }

    /// Sets the timer to `when`, in place of any other time.
    fn set_timer(&self, slf: &Bound<'_, Self>, now: u64, when: u64) -> PyResult<()> {
        let py = slf.py();
        let method = slf.getattr(intern!(py, "_expire"))?;
        let delay = clock::seconds(when.saturating_sub(now));
        let handle = self.event_loop.bind(py).call_method1(intern!(py, "call_later"), (delay, method))?;
        let timer = Timer { handle: handle.unbind(), when };
        match self.state.with(|state| state.timer.replace(timer)).or_raise()? {
            Some(previous) => previous.cancel(py),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl RequestDeadlines {
    fn _expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let now = this.now(py)?;
        let mut expired = Vec::new();
        let (next, _timer) = this
            .state
            .with(|state| {
                state.queue.expire(now, &mut expired);
                (state.queue.next_deadline(), state.timer.take())
            })
            .or_raise()?;
        let mut outcome = Ok(());
        for timed in expired {
            outcome = outcome.and(timed.time_out(py));
        }
        match next {
            Some(next) => outcome.and(this.set_timer(slf, now, next)),
            None => outcome,
        }
    }

    /// Accept no more deadlines; the present ones stay.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let timer = self.state.with(|state| {
            state.closing = true;
            state.last_timer()
        });
        match timer.or_raise()? {
            Some(timer) => timer.cancel(py),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                state.queue.iter().try_for_each(|timed| timed.visit(*visit))?;
                state.timer.as_ref().map_or(Ok(()), |timer| visit.call(&timer.handle))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _timer = self.state.with(|state| state.timer.take());
        let _queue = self.state.with(|state| std::mem::take(&mut state.queue));
    }
}
