//! What the pool gives a request: a connection, the permit for one, or a place in the queue.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::pool::{self, Checkout, WaiterId};
use whorl_core::sched::{LoopOwner, OwnerCell};

use crate::errors::OrRaise;
use crate::http::failures;
use crate::http::finish::finish_on;
use crate::http::guard::{EndGuard, EndWait};
use crate::http::poolable::{PooledConnection, ReuseCheck};
use crate::interpreter::{Collector, await_future};

use super::{ConnectionPool, Making};

/// The outcome of a request for a connection.
#[derive(Debug)]
pub enum Grant<'py> {
    /// One that was idle.
    Connection(Bound<'py, PyAny>),
    /// The permit for a new one.
    Slot(Bound<'py, PoolSlot>),
    /// A place in the queue.
    Waiter(Bound<'py, PoolWaiter>),
    /// The pool is closed.
    Closed,
}

/// The permit for a connection that is being made.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct PoolSlot {
    pool: Py<ConnectionPool>,
    permit: OwnerCell<Option<pool::Permit>>,
}

/// A connection that is no longer being made when this has ended.
#[derive(Debug)]
struct MakingGuard {
    pool: Py<ConnectionPool>,
    number: usize,
}

impl EndGuard for MakingGuard {
    fn end(self: Box<Self>, _py: Python<'_>) -> PyResult<()> {
        let _making = self.pool.get().with(|state| state.making.try_remove(self.number))?;
        Ok(())
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)
    }
}

/// A place in the queue.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct PoolWaiter {
    pool: Py<ConnectionPool>,
    waiter_id: WaiterId,
    future: Py<PyAny>,
    /// What is over when it is: the deadline of its request.
    guard: OwnerCell<Option<Box<dyn EndGuard>>>,
}

impl<'py> Grant<'py> {
    /// As Python gets it. Raises ClientConnectionError if the pool is closed.
    pub(super) fn into_object(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Connection(connection) => Ok(connection),
            Self::Slot(slot) => Ok(slot.into_any()),
            Self::Waiter(waiter) => Ok(waiter.into_any()),
            Self::Closed => {
                let error = failures::error(py, "ClientConnectionError", "Connector is closed.")?;
                Err(PyErr::from_value(error.into_bound(py)))
            }
        }
    }
}

impl PoolWaiter {
    pub(super) fn new(
        pool: &Bound<'_, ConnectionPool>,
        owner: &Arc<LoopOwner>,
        waiter_id: WaiterId,
        future: Py<PyAny>,
    ) -> Self {
        let guard = OwnerCell::new(Arc::clone(owner), None);
        Self { pool: pool.clone().unbind(), waiter_id, future, guard }
    }

    /// Its future, as an awaitable hands it to its task.
    ///
    /// # Errors
    /// The exception of the future.
    pub fn await_grant(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        await_future(self.future.clone_ref(py), py)
    }

    /// Has `guard` end along with it.
    pub fn set_guard(&self, guard: Box<dyn EndGuard>) -> PyResult<()> {
        let _previous = self.guard.with(|place| place.replace(guard)).or_raise()?;
        Ok(())
    }

    fn end_guard(&self, py: Python<'_>) -> PyResult<()> {
        match self.guard.with(Option::take).or_raise()? {
            Some(guard) => guard.end(py),
            None => Ok(()),
        }
    }

    /// Whether its wait is over.
    ///
    /// # Errors
    /// The exception of a foreign future.
    pub fn is_done(&self, py: Python<'_>) -> PyResult<bool> {
        self.future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()
    }

    /// Ends the wait with `error`.
    ///
    /// # Errors
    /// The exception of a foreign future.
    pub fn end_wait(slf: &Bound<'_, PyAny>, error: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.cast::<Self>()?.get();
        if this.is_done(py)? {
            return Ok(());
        }
        this.future.bind(py).call_method1(intern!(py, "set_exception"), (error,)).map(drop)
    }

    /// Takes the grant.
    pub fn take<'py>(slf: &Bound<'py, Self>, check: ReuseCheck) -> PyResult<Grant<'py>> {
        let this = slf.get();
        this.end_guard(slf.py())?;
        let pool = this.pool.bind(slf.py());
        let checkout = pool.get().with(|state| state.pool.claim(this.waiter_id))?.unwrap_or(Checkout::Closed);
        ConnectionPool::granted(pool, pool.get().use_checkout(pool, checkout, check)?)
    }
}

impl PoolSlot {
    pub(super) fn new(
        pool: &Bound<'_, ConnectionPool>,
        owner: &Arc<LoopOwner>,
        permit: pool::Permit,
    ) -> Self {
        let permit = OwnerCell::new(Arc::clone(owner), Some(permit));
        Self { pool: pool.clone().unbind(), permit }
    }

    /// Has `end` end the wait of `object`, which makes the connection, when the pool is closed, until the guard ends.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn end_on_close(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        end: EndWait,
    ) -> PyResult<Box<dyn EndGuard>> {
        let pool = slf.get().pool.clone_ref(slf.py());
        let making = Making { object: object.clone().unbind(), end };
        let number = pool.get().with(|state| state.making.insert(making))?;
        Ok(Box::new(MakingGuard { pool, number }))
    }

    /// The connection is made, and holds the permit now.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn fill(slf: &Bound<'_, Self>, connection: PooledConnection) -> PyResult<()> {
        let this = slf.get();
        match this.permit.with(Option::take).or_raise()? {
            Some(permit) => ConnectionPool::assign(this.pool.bind(slf.py()), permit, connection),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl PoolSlot {
    /// No connection was made: the permit goes to the next. Nothing happens if it was used.
    ///
    /// From any thread: the collector, which closes coroutines, runs on any.
    pub fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().pool.get().event_loop.bind(py);
        finish_on(event_loop, slf.getattr(intern!(py, "_give_back"))?, &PyTuple::empty(py))
    }

    fn _give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let pool = this.pool.bind(slf.py());
        match this.permit.with(Option::take).or_raise()? {
            Some(permit) => pool.get().release(pool, permit, None),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)
    }
}

#[pymethods]
impl PoolWaiter {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        visit.call(&self.future)?;
        self.guard
            .visit(Collector::of(&visit), |guard, visit| {
                guard.as_ref().map_or(Ok(()), |guard| guard.visit(*visit))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _guard = self.guard.with(Option::take);
    }

    /// Done when there is a grant.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    /// Take the grant: a connection, or the permit for a new one.
    fn claim<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::take(slf, ReuseCheck::Looked)?.into_object(slf.py())
    }

    /// Leave the queue; a grant meanwhile goes to the next. From any thread, as a slot's.
    pub fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().pool.get().event_loop.bind(py);
        finish_on(event_loop, slf.getattr(intern!(py, "_give_back"))?, &PyTuple::empty(py))
    }

    fn _give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.end_guard(slf.py())?;
        let pool = this.pool.bind(slf.py());
        let now = pool.get().now(slf.py())?;
        let (_future, released) = pool.get().with(|state| {
            let future = state.waiters.remove(&this.waiter_id);
            (future, state.pool.cancel(this.waiter_id, now))
        })?;
        pool.get().follow(pool, released)
    }
}
