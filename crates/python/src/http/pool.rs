//! The pool of connections: the core's policy over connections that are real.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::exceptions::PyTimeoutError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use slab::Slab;
use whorl_core::client::pool::{self, Checkout, Pool, PoolKey, PoolLimits, Released, WaiterId};
use whorl_core::sched::{LoopOwner, OwnerCell};

use super::connection::HttpConnection;
use super::deadlines::Deadline;
use super::exchange::await_future;
use super::fault;
use super::origin::Origin;
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, clock};
use crate::interpreter::{Attached, CloneWith, Collector, Identity, new_future};
use crate::transport::set_result;

/// A connection that nobody uses, and since when.
#[derive(Debug)]
struct Idle {
    connection: Py<HttpConnection>,
    since: u64,
}

/// A connection that a request has, and what it is good for.
#[derive(Debug)]
struct Leased {
    connection: Py<HttpConnection>,
    key: PoolKey<Origin>,
}

#[derive(Debug)]
struct State {
    pool: Pool<Origin, Idle>,
    /// The connections that requests have.
    leased: Slab<Leased>,
    waiters: HashMap<WaiterId, Py<PyAny>>,
    timer: Option<Py<PyAny>>,
}

/// The connections of a connector: those that requests have, those that are idle, and who waits for one.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct ConnectionPool {
    event_loop: Py<PyAny>,
    force_close: bool,
    state: OwnerCell<State>,
}

/// The place that a connection holds in its pool while a request has it.
#[derive(Debug)]
pub struct Lease {
    pool: Py<ConnectionPool>,
    lease: pool::Permit,
    place: usize,
    /// Called when it is given back.
    pub callbacks: Vec<Py<PyAny>>,
}

/// A place for a connection that is being made.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct PoolSlot {
    pool: Py<ConnectionPool>,
    lease: OwnerCell<Option<pool::Permit>>,
}

/// A place in the queue.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct PoolWaiter {
    pool: Py<ConnectionPool>,
    ticket: WaiterId,
    future: Py<PyAny>,
    /// Until when a plain request waits.
    deadline: OwnerCell<Option<Deadline>>,
}

/// What a request for a connection comes to.
#[derive(Debug)]
pub enum Grant<'py> {
    /// One that was idle.
    Connection(Bound<'py, HttpConnection>),
    /// The place for a new one.
    Slot(Bound<'py, PoolSlot>),
    /// A place in the queue.
    Waiter(Bound<'py, PoolWaiter>),
    /// The pool is closed.
    Closed,
}

impl Lease {
    /// Which of the pool's leases it is.
    pub const fn place(&self) -> usize {
        self.place
    }

    /// The pool.
    pub const fn pool(&self) -> &Py<ConnectionPool> {
        &self.pool
    }

    /// Whether its pool's connections serve one request each.
    pub fn is_for_one_request(&self) -> bool {
        self.pool.get().force_close
    }

    /// The connection's request is over; with a connection, it can be used again.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn end(self, py: Python<'_>, connection: Option<Py<HttpConnection>>) -> PyResult<()> {
        let Self { pool, lease, place, callbacks } = self;
        let pool = pool.bind(py);
        let this = pool.get();
        let _leased = this.with(|state| state.leased.try_remove(place))?;
        this.release(pool, lease, connection)?;
        for callback in callbacks {
            // As in aiohttp: whatever it raises is its own affair.
            let _raised = callback.call0(py);
        }
        Ok(())
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        self.callbacks.iter().try_for_each(|callback| visit.call(callback))
    }
}

impl ConnectionPool {
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// The time on the loop's clock, in nanoseconds.
    fn now(&self, py: Python<'_>) -> PyResult<u64> {
        clock::now_on(self.event_loop.bind(py))
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    #[inline]
    fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut State, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.state.with_token(at.into(), act).or_raise()
    }

    /// Gives `connection` the place.
    fn lease(
        slf: &Bound<'_, Self>,
        lease: pool::Permit,
        connection: &Bound<'_, HttpConnection>,
    ) -> PyResult<()> {
        let reference = connection.clone().unbind();
        let place = slf.get().with(|state| {
            let key = state.pool.key(&lease).clone();
            state.leased.insert(Leased { connection: reference, key })
        })?;
        let lease = Lease { pool: slf.clone().unbind(), lease, place, callbacks: Vec::new() };
        connection.get().set_lease(slf.py(), lease)
    }

    /// A connection that can be used, or the place for one.
    fn use_checkout<'py>(
        &self,
        slf: &Bound<'py, Self>,
        checkout: Checkout<Idle>,
    ) -> PyResult<Result<Bound<'py, HttpConnection>, Place>> {
        let py = slf.py();
        match checkout {
            Checkout::Reuse(lease, idle) => {
                let connection = idle.connection.into_bound(py);
                if connection.get().is_usable(py)? {
                    Self::lease(slf, lease, &connection)?;
                    return Ok(Ok(connection));
                }
                HttpConnection::give_up(&connection)?;
                // The place is good for another: one that is idle, if there is.
                self.next_for(slf, lease)
            }
            Checkout::Open(lease) => Ok(Err(Place::Open(lease))),
            Checkout::Wait(ticket) => Ok(Err(Place::Wait(ticket))),
            Checkout::Closed => Ok(Err(Place::Closed)),
        }
    }

    fn next_for<'py>(
        &self,
        slf: &Bound<'py, Self>,
        lease: pool::Permit,
    ) -> PyResult<Result<Bound<'py, HttpConnection>, Place>> {
        let py = slf.py();
        let now = self.now(py)?;
        loop {
            match self.with(|state| state.pool.another(&lease, now))? {
                None => return Ok(Err(Place::Open(lease))),
                Some(idle) => {
                    let connection = idle.connection.into_bound(py);
                    if connection.get().is_usable(py)? {
                        Self::lease(slf, lease, &connection)?;
                        return Ok(Ok(connection));
                    }
                    HttpConnection::give_up(&connection)?;
                }
            }
        }
    }

    /// A connection for `key`, or a place for one.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn checkout_for<'py>(slf: &Bound<'py, Self>, key: &PoolKey<Origin>) -> PyResult<Grant<'py>> {
        let this = slf.get();
        let now = this.now(slf.py())?;
        let checkout = this.with(|state| state.pool.checkout(key, now))?;
        Self::granted(slf, this.use_checkout(slf, checkout)?)
    }

    /// Gives a place back, with its connection if it can be used again.
    fn release(
        &self,
        slf: &Bound<'_, Self>,
        lease: pool::Permit,
        connection: Option<Py<HttpConnection>>,
    ) -> PyResult<()> {
        let now = self.now(slf.py())?;
        let is_idle = connection.is_some();
        let idle = connection.map(|connection| Idle { connection, since: now });
        let released = self.with(|state| state.pool.release(lease, idle, now))?;
        self.follow(slf, released)?;
        if is_idle { self.set_timer(slf) } else { Ok(()) }
    }

    /// Wakes who has the place now.
    fn follow(&self, slf: &Bound<'_, Self>, mut released: Released<Idle>) -> PyResult<()> {
        let py = slf.py();
        loop {
            match released {
                Released::Free => return Ok(()),
                Released::Close(idle) => return HttpConnection::give_up(idle.connection.bind(py)),
                Released::Woken(ticket) => {
                    let future = self.with(|state| state.waiters.remove(&ticket))?;
                    if let Some(future) = future
                        && !future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()?
                    {
                        return set_result(future.bind(py));
                    }
                    // It was cancelled, and its task has not run since.
                    let now = self.now(py)?;
                    released = self.with(|state| state.pool.cancel(ticket, now))?;
                }
            }
        }
    }

    /// Sets a timer for the connection that has been idle longest.
    fn set_timer(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let next = self.with(|state| if state.timer.is_some() { None } else { state.pool.next_expiry() })?;
        let Some(next) = next else { return Ok(()) };
        let event_loop = self.event_loop.bind(py);
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        let delay = clock::seconds(next.saturating_sub(self.now(py)?));
        let timer = event_loop
            .call_method1(intern!(py, "call_later"), (delay, slf.getattr(intern!(py, "_expire"))?))?;
        let timer = timer.unbind();
        let _former = self.with(|state| state.timer.replace(timer))?;
        Ok(())
    }

    /// The key of a connection that a request has.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn key_of(&self, py: Python<'_>, place: usize) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| {
            state.leased.get(place).map(|leased| leased.key.object().clone_with(at))
        })
    }

    /// An idle connection is gone.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn forget(&self, connection: &Bound<'_, HttpConnection>) -> PyResult<()> {
        let connection = Identity::of(connection);
        let _idle = self.with(|state| state.pool.remove_idle(|idle| connection.is(&idle.connection)))?;
        Ok(())
    }
}

/// What a request without a connection has.
enum Place {
    Open(pool::Permit),
    Wait(WaiterId),
    Closed,
}

#[pymethods]
impl ConnectionPool {
    #[new]
    #[pyo3(signature = (loop_, *, limit, limit_per_host, keepalive_timeout, force_close))]
    fn new(
        loop_: &Bound<'_, PyAny>,
        limit: usize,
        limit_per_host: usize,
        keepalive_timeout: Option<f64>,
        force_close: bool,
    ) -> Self {
        let owner = match loop_.cast::<EventLoop>() {
            Ok(event_loop) => Arc::clone(event_loop.get().owner()),
            Err(_) => Arc::new(LoopOwner::new()),
        };
        let limits = PoolLimits {
            total: limit,
            per_host: limit_per_host,
            keep_alive: keepalive_timeout.map(clock::nanos),
        };
        let state =
            State { pool: Pool::new(limits), leased: Slab::new(), waiters: HashMap::new(), timer: None };
        Self { event_loop: loop_.clone().unbind(), force_close, state: OwnerCell::new(owner, state) }
    }

    /// A connection for `key`, a `ConnectionKey`: one that was idle, or the place for a new one (`PoolSlot`), or a place in
    /// the queue (`PoolWaiter`). Raises ClientConnectionError once the pool is closed.
    fn checkout<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::checkout_for(slf, &PoolKey::new(Origin::new(key)?))?.into_object(slf.py())
    }

    /// The idle connections by key: pairs of the connection and the time since when, in seconds of the loop's clock.
    fn idle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let idle: Vec<_> = self.with_attached(py, |state, at| {
            let pairs = state.pool.idle();
            pairs
                .map(|(key, idle)| (key.object().clone_with(at), idle.connection.clone_with(at), idle.since))
                .collect()
        })?;
        let by_key = PyDict::new(py);
        for (key, connection, since) in idle {
            let entry = (connection, clock::seconds(since));
            match by_key.get_item(&key)? {
                Some(list) => list.call_method1(intern!(py, "append"), (entry,)).map(drop)?,
                None => by_key.set_item(key, vec![entry])?,
            }
        }
        Ok(by_key)
    }

    /// The connections that requests have.
    fn acquired(&self, py: Python<'_>) -> PyResult<Vec<Py<HttpConnection>>> {
        self.with_attached(py, |state, at| {
            state.leased.iter().map(|(_, leased)| leased.connection.clone_with(at)).collect()
        })
    }

    /// Close the pool: who waits gets ClientConnectionError. The connections, idle and acquired, are the caller's to close.
    fn close(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<HttpConnection>>> {
        let py = slf.py();
        let this = slf.get();
        let (drained, waiters, timer, leased) = this.with_attached(py, |state, at| {
            let drained = state.pool.close();
            let leased: Vec<_> =
                state.leased.iter().map(|(_, leased)| leased.connection.clone_with(at)).collect();
            (drained, std::mem::take(&mut state.waiters), state.timer.take(), leased)
        })?;
        if let Some(timer) = timer {
            timer.call_method0(py, intern!(py, "cancel"))?;
        }
        // The callbacks of a future cannot be scheduled any more: who waited is collected along with the loop.
        let has_ended = this.event_loop.bind(py).call_method0(intern!(py, "is_closed"))?.is_truthy()?;
        for future in waiters.into_values() {
            let future = future.bind(py);
            if !has_ended && !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                let error = fault::error(py, "ClientConnectionError", "Connector is closed.")?;
                future.call_method1(intern!(py, "set_exception"), (error,))?;
            }
        }
        Ok(drained.connections.into_iter().map(|idle| idle.connection).chain(leased).collect())
    }

    fn _expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let now = this.now(py)?;
        let mut expired = Vec::new();
        let _timer = this.with(|state| {
            state.pool.expire(now, &mut expired);
            state.timer.take()
        })?;
        for idle in expired {
            HttpConnection::give_up(idle.connection.bind(py))?;
        }
        this.set_timer(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                for (_, idle) in state.pool.idle() {
                    visit.call(&idle.connection)?;
                }
                visit.call(&state.timer)?;
                state.waiters.values().try_for_each(|waiter| visit.call(waiter))?;
                state.leased.iter().try_for_each(|(_, leased)| visit.call(&leased.connection))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _drained = self.state.with(|state| state.pool.close());
        let _leased = self.state.with(|state| std::mem::take(&mut state.leased));
        let _waiters = self.state.with(|state| std::mem::take(&mut state.waiters));
        let _timer = self.state.with(|state| state.timer.take());
    }
}

impl ConnectionPool {
    fn granted<'py>(
        slf: &Bound<'py, Self>,
        granted: Result<Bound<'py, HttpConnection>, Place>,
    ) -> PyResult<Grant<'py>> {
        let py = slf.py();
        let this = slf.get();
        let owner = || Arc::clone(this.state.owner());
        Ok(match granted {
            Ok(connection) => Grant::Connection(connection),
            Err(Place::Open(lease)) => {
                let lease = OwnerCell::new(owner(), Some(lease));
                Grant::Slot(Bound::new(py, PoolSlot { pool: slf.clone().unbind(), lease })?)
            }
            Err(Place::Wait(ticket)) => {
                let future = new_future(this.event_loop.bind(py))?.unbind();
                let reference = future.clone_ref(py);
                let _former = this.with(|state| state.waiters.insert(ticket, reference))?;
                let deadline = OwnerCell::new(owner(), None);
                Grant::Waiter(Bound::new(
                    py,
                    PoolWaiter { pool: slf.clone().unbind(), ticket, future, deadline },
                )?)
            }
            Err(Place::Closed) => Grant::Closed,
        })
    }
}

impl<'py> Grant<'py> {
    /// As Python gets it. Raises ClientConnectionError if the pool is closed.
    fn into_object(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Connection(connection) => Ok(connection.into_any()),
            Self::Slot(slot) => Ok(slot.into_any()),
            Self::Waiter(waiter) => Ok(waiter.into_any()),
            Self::Closed => {
                let error = fault::error(py, "ClientConnectionError", "Connector is closed.")?;
                Err(PyErr::from_value(error.into_bound(py)))
            }
        }
    }
}

impl PoolWaiter {
    /// Its future, as an awaitable hands it to its task.
    ///
    /// # Errors
    /// What the future raises.
    pub fn await_place(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        await_future(self.future.clone_ref(py), py)
    }

    /// Sets the time until which it waits.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn set_deadline(&self, deadline: Deadline) -> PyResult<()> {
        let _former = self.deadline.with(|place| place.replace(deadline)).or_raise()?;
        Ok(())
    }

    fn cancel_deadline(&self, py: Python<'_>) -> PyResult<()> {
        match self.deadline.with(Option::take).or_raise()? {
            Some(deadline) => deadline.cancel(py),
            None => Ok(()),
        }
    }

    /// Whether it waits no more.
    ///
    /// # Errors
    /// What a foreign future raises.
    pub fn is_done(&self, py: Python<'_>) -> PyResult<bool> {
        self.future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()
    }

    /// `give_back()`, from any thread.
    ///
    /// # Errors
    /// What `call_soon_threadsafe()` raises.
    pub fn leave(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let pool = slf.get().pool.get();
        if pool.state.with(|_| ()).is_ok() {
            return Self::give_back(slf);
        }
        let event_loop = pool.event_loop.bind(py);
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        let give_back = slf.getattr(intern!(py, "give_back"))?;
        event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (give_back,)).map(drop)
    }

    /// It has waited too long.
    ///
    /// # Errors
    /// What a foreign future raises.
    pub fn time_out(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_done(py)? {
            return Ok(());
        }
        let error = PyTimeoutError::new_err(()).into_value(py);
        self.future.bind(py).call_method1(intern!(py, "set_exception"), (error,)).map(drop)
    }

    /// Takes what was granted.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn take<'py>(slf: &Bound<'py, Self>) -> PyResult<Grant<'py>> {
        let this = slf.get();
        this.cancel_deadline(slf.py())?;
        let pool = this.pool.bind(slf.py());
        let checkout = pool.get().with(|state| state.pool.claim(this.ticket))?.unwrap_or(Checkout::Closed);
        ConnectionPool::granted(pool, pool.get().use_checkout(pool, checkout)?)
    }
}

#[pymethods]
impl PoolSlot {
    /// The connection is made, and has the place now.
    fn opened(slf: &Bound<'_, Self>, connection: &Bound<'_, HttpConnection>) -> PyResult<()> {
        let this = slf.get();
        match this.lease.with(Option::take).or_raise()? {
            Some(lease) => ConnectionPool::lease(this.pool.bind(slf.py()), lease, connection),
            None => Ok(()),
        }
    }

    /// Nothing was made: the place goes to the next.
    fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let pool = this.pool.bind(slf.py());
        match this.lease.with(Option::take).or_raise()? {
            Some(lease) => pool.get().release(pool, lease, None),
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
        self.deadline
            .visit(Collector::of(&visit), |deadline, visit| {
                deadline.as_ref().map_or(Ok(()), |deadline| deadline.visit(*visit))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _deadline = self.deadline.with(Option::take);
    }

    /// Done when there is a place.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    /// Take what was granted: a connection, or the place for a new one.
    fn claim<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::take(slf)?.into_object(slf.py())
    }

    /// Leave the queue; what was granted meanwhile goes to the next.
    pub fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.cancel_deadline(slf.py())?;
        let pool = this.pool.bind(slf.py());
        let now = pool.get().now(slf.py())?;
        let (_future, released) = pool.get().with(|state| {
            let future = state.waiters.remove(&this.ticket);
            (future, state.pool.cancel(this.ticket, now))
        })?;
        pool.get().follow(pool, released)
    }
}
