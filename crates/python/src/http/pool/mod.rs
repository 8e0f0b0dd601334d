//! The pool of connections: the core's policy over connections that are real.

mod grant;
mod key;

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use slab::Slab;
use whorl_core::client::pool::{self, Checkout, Pool, PoolKey, PoolLimits, Released, WaiterId};
use whorl_core::sched::{LoopOwner, OwnerCell};

pub use grant::{Grant, PoolSlot, PoolWaiter};
pub use key::ConnectionKey;

use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, clock, new_future};
use crate::http::failures;
use crate::http::guard::EndWait;
use crate::http::poolable::{ConnectionPermit, Home, PooledConnection, ReuseCheck};
use crate::interpreter::{Attached, CloneWith, Collector, Identity};
use crate::transport::set_result;

/// An idle connection, and since when it is idle.
#[derive(Debug)]
struct IdleConnection {
    connection: PooledConnection,
    since: u64,
}

/// A connection that a request has, and its key.
#[derive(Debug)]
struct Acquired {
    connection: PooledConnection,
    key: PoolKey<ConnectionKey>,
}

/// A connection that is being made, and what ends that.
#[derive(Debug)]
struct Making {
    object: Py<PyAny>,
    end: EndWait,
}

#[derive(Debug)]
struct PoolState {
    pool: Pool<ConnectionKey, IdleConnection>,
    /// The connections that requests have.
    acquired: Slab<Acquired>,
    waiters: HashMap<WaiterId, Py<PyAny>>,
    /// What makes connections, for permits.
    making: Slab<Making>,
    timer: Option<Py<PyAny>>,
}

/// The connections of a connector: those that requests have, those that are idle, and the waiters for one.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct ConnectionPool {
    event_loop: Py<PyAny>,
    force_close: bool,
    state: OwnerCell<PoolState>,
}

/// The permit that a connection holds while a request has it.
#[derive(Debug)]
struct PoolPermit {
    pool: Py<ConnectionPool>,
    permit: pool::Permit,
    slot: usize,
    /// Called when it is given back.
    callbacks: Vec<Py<PyAny>>,
}

impl ConnectionPermit for PoolPermit {
    fn end(self: Box<Self>, py: Python<'_>, connection: Option<PooledConnection>) -> PyResult<()> {
        let Self { pool, permit, slot, callbacks } = *self;
        let pool = pool.bind(py);
        let this = pool.get();
        let _acquired = this.with(|state| state.acquired.try_remove(slot))?;
        this.release(pool, permit, connection)?;
        for callback in callbacks {
            // Its exceptions are ignored, as in aiohttp.
            let _raised = callback.call0(py);
        }
        Ok(())
    }

    fn on_end(&mut self, callback: Py<PyAny>) {
        self.callbacks.push(callback);
    }

    fn is_for_one_request(&self) -> bool {
        self.pool.get().force_close
    }

    fn key(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let slot = self.slot;
        self.pool.get().with_attached(py, |state, at| {
            state.acquired.get(slot).map(|acquired| acquired.key.object().clone_with(at))
        })
    }

    fn home(&self, py: Python<'_>) -> Box<dyn Home> {
        Box::new(PoolHome(self.pool.clone_ref(py)))
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        self.callbacks.iter().try_for_each(|callback| visit.call(callback))
    }
}

/// The pool, for its idle connections.
#[derive(Debug)]
struct PoolHome(Py<ConnectionPool>);

impl Home for PoolHome {
    fn forget(&self, _py: Python<'_>, connection: &Bound<'_, PyAny>) -> PyResult<()> {
        let connection = Identity::of(connection);
        let _idle =
            self.0.get().with(|state| state.pool.remove_idle(|idle| idle.connection.is(connection)))?;
        Ok(())
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

impl ConnectionPool {
    fn with<R>(&self, act: impl FnOnce(&mut PoolState) -> R + Send) -> PyResult<R> {
        // Dropped outside: a key has a reference to an object of the program's, which may have a finaliser.
        let (result, _unused_keys) =
            self.state.with(|state| (act(state), state.pool.take_unused_keys())).or_raise()?;
        Ok(result)
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
        act: impl FnOnce(&mut PoolState, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        let at = at.into();
        let (result, _unused_keys) = self
            .state
            .with_token(at, |state, at| (act(state, at), state.pool.take_unused_keys()))
            .or_raise()?;
        Ok(result)
    }

    /// Gives `connection` the permit.
    fn assign(slf: &Bound<'_, Self>, permit: pool::Permit, connection: PooledConnection) -> PyResult<()> {
        let reference = Attached::from(slf.py());
        let reference = connection.clone_with(reference);
        let slot = slf.get().with(|state| {
            let key = state.pool.key(&permit).clone();
            state.acquired.insert(Acquired { connection: reference, key })
        })?;
        let permit = PoolPermit { pool: slf.clone().unbind(), permit, slot, callbacks: Vec::new() };
        connection.set_permit(slf.py(), Box::new(permit))
    }

    /// Gives an idle connection the permit.
    fn take_idle<'py>(
        slf: &Bound<'py, Self>,
        permit: pool::Permit,
        idle: IdleConnection,
    ) -> PyResult<Bound<'py, PyAny>> {
        let object = idle.connection.clone_with(Attached::from(slf.py())).into_object();
        Self::assign(slf, permit, idle.connection)?;
        Ok(object.into_bound(slf.py()))
    }

    /// A connection that can be used, or the permit for one.
    fn use_checkout<'py>(
        &self,
        slf: &Bound<'py, Self>,
        checkout: Checkout<IdleConnection>,
        check: ReuseCheck,
    ) -> PyResult<Result<Bound<'py, PyAny>, Pending>> {
        let py = slf.py();
        match checkout {
            Checkout::Reuse(permit, idle) => {
                if idle.connection.is_usable(py, check)? {
                    return Ok(Ok(Self::take_idle(slf, permit, idle)?));
                }
                idle.connection.give_up(py)?;
                // The permit serves another: an idle one, if there is one.
                self.next_for(slf, permit, check)
            }
            Checkout::Open(permit) => Ok(Err(Pending::Open(permit))),
            Checkout::Wait(waiter_id) => Ok(Err(Pending::Wait(waiter_id))),
            Checkout::Closed => Ok(Err(Pending::Closed)),
        }
    }

    fn next_for<'py>(
        &self,
        slf: &Bound<'py, Self>,
        permit: pool::Permit,
        check: ReuseCheck,
    ) -> PyResult<Result<Bound<'py, PyAny>, Pending>> {
        let py = slf.py();
        let now = self.now(py)?;
        loop {
            match self.with(|state| state.pool.another(&permit, now))? {
                None => return Ok(Err(Pending::Open(permit))),
                Some(idle) => {
                    if idle.connection.is_usable(py, check)? {
                        return Ok(Ok(Self::take_idle(slf, permit, idle)?));
                    }
                    idle.connection.give_up(py)?;
                }
            }
        }
    }

    /// Whether it has been closed.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn is_closed(&self) -> PyResult<bool> {
        self.with(|state| state.pool.is_closed())
    }

    /// A connection for `key`, or a permit for one.
    pub fn checkout_for<'py>(
        slf: &Bound<'py, Self>,
        key: &PoolKey<ConnectionKey>,
        check: ReuseCheck,
    ) -> PyResult<Grant<'py>> {
        let this = slf.get();
        let now = this.now(slf.py())?;
        let checkout = this.with(|state| state.pool.checkout(key, now))?;
        Self::granted(slf, this.use_checkout(slf, checkout, check)?)
    }

    /// Gives a permit back, with its connection if it can be used again.
    fn release(
        &self,
        slf: &Bound<'_, Self>,
        permit: pool::Permit,
        connection: Option<PooledConnection>,
    ) -> PyResult<()> {
        let now = self.now(slf.py())?;
        let is_idle = connection.is_some();
        let idle = connection.map(|connection| IdleConnection { connection, since: now });
        let released = self.with(|state| state.pool.release(permit, idle, now))?;
        self.follow(slf, released)?;
        if is_idle { self.set_timer(slf) } else { Ok(()) }
    }

    /// Wakes the waiter that has the permit now.
    fn follow(&self, slf: &Bound<'_, Self>, mut released: Released<IdleConnection>) -> PyResult<()> {
        let py = slf.py();
        loop {
            match released {
                Released::Free => return Ok(()),
                Released::Close(idle) => return idle.connection.give_up(py),
                Released::Woken(waiter_id) => {
                    let future = self.with(|state| state.waiters.remove(&waiter_id))?;
                    // The callbacks of a future cannot be scheduled any more.
                    if self.event_loop.bind(py).call_method0(intern!(py, "is_closed"))?.is_truthy()? {
                        return Ok(());
                    }
                    if let Some(future) = future
                        && !future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()?
                    {
                        return set_result(future.bind(py));
                    }
                    // It was cancelled, and its task has not run since.
                    let now = self.now(py)?;
                    released = self.with(|state| state.pool.cancel(waiter_id, now))?;
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
        let _previous = self.with(|state| state.timer.replace(timer))?;
        Ok(())
    }
}

/// The outcome for a request that gets no idle connection.
enum Pending {
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
        let state = PoolState {
            pool: Pool::new(limits),
            acquired: Slab::new(),
            waiters: HashMap::new(),
            making: Slab::new(),
            timer: None,
        };
        Self { event_loop: loop_.clone().unbind(), force_close, state: OwnerCell::new(owner, state) }
    }

    /// A connection for `key`, a `ConnectionKey`: one that was idle, or the permit for a new one (`PoolSlot`), or a
    /// place in the queue (`PoolWaiter`). Raises ClientConnectionError once the pool is closed.
    fn checkout<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::checkout_for(slf, &PoolKey::new(ConnectionKey::new(key)?), ReuseCheck::Looked)?
            .into_object(slf.py())
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
            let entry = (connection.into_object(), clock::seconds(since));
            match by_key.get_item(&key)? {
                Some(list) => list.call_method1(intern!(py, "append"), (entry,)).map(drop)?,
                None => by_key.set_item(key, vec![entry])?,
            }
        }
        Ok(by_key)
    }

    /// The connections that requests have.
    fn acquired(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let acquired: Vec<_> = self.with_attached(py, |state, at| {
            state.acquired.iter().map(|(_, acquired)| acquired.connection.clone_with(at)).collect()
        })?;
        Ok(acquired.into_iter().map(PooledConnection::into_object).collect())
    }

    /// Close the pool: waiters, and requests whose connection is being made, get ClientConnectionError. The caller closes the returned connections, idle and
    /// acquired.
    fn close(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let (drained, waiters, making, timer, acquired) = this.with_attached(py, |state, at| {
            let drained = state.pool.close();
            let acquired: Vec<_> =
                state.acquired.iter().map(|(_, acquired)| acquired.connection.clone_with(at)).collect();
            let waiters = std::mem::take(&mut state.waiters);
            (drained, waiters, std::mem::take(&mut state.making), state.timer.take(), acquired)
        })?;
        if let Some(timer) = timer {
            timer.call_method0(py, intern!(py, "cancel"))?;
        }
        // The callbacks of a future cannot be scheduled any more: the waiting tasks are collected along with the loop.
        let has_ended = this.event_loop.bind(py).call_method0(intern!(py, "is_closed"))?.is_truthy()?;
        for future in waiters.into_values() {
            let future = future.bind(py);
            if !has_ended && !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                let error = failures::error(py, "ClientConnectionError", "Connector is closed.")?;
                future.call_method1(intern!(py, "set_exception"), (error,))?;
            }
        }
        for (_, Making { object, end }) in making.into_iter().filter(|_| !has_ended) {
            end(object.bind(py), failures::error(py, "ClientConnectionError", "Connector is closed.")?)?;
        }
        let idle = drained.connections.into_iter().map(|idle| idle.connection);
        Ok(idle.chain(acquired).map(PooledConnection::into_object).collect())
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
            idle.connection.give_up(py)?;
        }
        this.set_timer(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                for (_, idle) in state.pool.idle() {
                    idle.connection.visit(*visit)?;
                }
                visit.call(&state.timer)?;
                state.waiters.values().try_for_each(|waiter| visit.call(waiter))?;
                state.making.iter().try_for_each(|(_, making)| visit.call(&making.object))?;
                state.acquired.iter().try_for_each(|(_, acquired)| acquired.connection.visit(*visit))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _drained = self.with(|state| state.pool.close());
        let _acquired = self.with(|state| std::mem::take(&mut state.acquired));
        let _waiters = self.with(|state| std::mem::take(&mut state.waiters));
        let _making = self.with(|state| std::mem::take(&mut state.making));
        let _timer = self.with(|state| state.timer.take());
    }
}

impl ConnectionPool {
    fn granted<'py>(
        slf: &Bound<'py, Self>,
        granted: Result<Bound<'py, PyAny>, Pending>,
    ) -> PyResult<Grant<'py>> {
        let py = slf.py();
        let this = slf.get();
        Ok(match granted {
            Ok(connection) => Grant::Connection(connection),
            Err(Pending::Open(permit)) => {
                Grant::Slot(Bound::new(py, PoolSlot::new(slf, this.state.owner(), permit))?)
            }
            Err(Pending::Wait(waiter_id)) => {
                let future = new_future(this.event_loop.bind(py))?.unbind();
                let reference = future.clone_ref(py);
                let _previous = this.with(|state| state.waiters.insert(waiter_id, reference))?;
                let waiter = PoolWaiter::new(slf, this.state.owner(), waiter_id, future);
                Grant::Waiter(Bound::new(py, waiter)?)
            }
            Err(Pending::Closed) => Grant::Closed,
        })
    }
}
