//! A connection for a request: of the pool, of its queue, or one that is made.

use pyo3::intern;
use pyo3::prelude::*;

use crate::http::client::call_scope::{CallScope, Signal};
use crate::http::client::deadlines::{RequestDeadlines, Timed};
use crate::http::client::step::{AwaitedStep, Poll};
use crate::http::given;
use crate::http::h1::connection::HttpConnection;
use crate::http::pool::{ConnectionPool, Grant, PoolSlot, PoolWaiter};
use crate::http::poolable::PooledConnection;

use super::{Acquired, Hop, HopStage, awaited_again};

impl Hop {
    pub(super) fn connect(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, session, traces, tracker, timeout, .. } = scope.get();
        if session.get().is_closed() {
            return Err(closed(py)?);
        }
        if tracker.is_some() {
            let request = self.request.object(py, &scope)?;
            given::step(py, intern!(py, "begin_upload"))?.call1((request, tracker))?;
        }
        let Some(pool) = config.pool.as_ref().filter(|_| !config.overrides.connect) else {
            let request = self.request.object(py, &scope)?;
            let coroutine = given::step(py, intern!(py, "connect"))?.call1((
                session,
                &config.connector,
                request,
                traces.list(py),
                timeout,
            ))?;
            return self.await_connection(py, &coroutine);
        };
        if traces.listen_to(Signal::Connection) || self.request.has_proxy(py)? {
            let request = self.request.object(py, &scope)?;
            return self.acquire(py, request.as_any(), None);
        }
        let key = match self.request.key(py)? {
            Some(key) => key,
            None => {
                self.request.object(py, &scope)?;
                self.request.key(py)?.ok_or_else(awaited_again)?
            }
        };
        let grant = ConnectionPool::checkout_for(pool.bind(py), &key)?;
        self.use_grant(py, grant)
    }

    /// Continues with the pool's grant.
    pub(super) fn use_grant(&mut self, py: Python<'_>, grant: Grant<'_>) -> PyResult<Poll<Py<PyAny>>> {
        match grant {
            Grant::Connection(connection) => {
                let acquired = Acquired::of(&connection)?;
                self.send(py, acquired)
            }
            Grant::Slot(slot) => self.dial(py, slot.as_any()),
            Grant::Waiter(waiter) if self.scope.get().timeouts.has_connect => self.dial(py, waiter.as_any()),
            Grant::Waiter(waiter) => {
                let future = self.wait(&waiter);
                if future.is_err() {
                    PoolWaiter::give_back(&waiter)?;
                }
                future
            }
            Grant::Closed => Err(closed(py)?),
        }
    }

    /// Waits until another request gives its connection back.
    pub(super) fn wait(&mut self, waiter: &Bound<'_, PoolWaiter>) -> PyResult<Poll<Py<PyAny>>> {
        let py = waiter.py();
        let scope = self.scope.get();
        if let Some(left) = scope.time_left(py)? {
            let timed = Timed::new(waiter.as_any(), PoolWaiter::time_out);
            let deadline = RequestDeadlines::enter(scope.config.deadlines.bind(py), timed, left)?;
            waiter.get().set_guard(Box::new(deadline))?;
        }
        let future = waiter.get().await_grant(py)?;
        self.stage = HopStage::Waiting(waiter.clone().unbind());
        Ok(Poll::Pending(future))
    }

    /// Takes the grant, once there is one.
    pub(super) fn take_grant(&mut self, py: Python<'_>, waiter: Py<PoolWaiter>) -> PyResult<Poll<Py<PyAny>>> {
        if !waiter.get().is_done(py)? {
            self.stage = HopStage::Waiting(waiter);
            return Ok(Poll::Early);
        }
        let grant = PoolWaiter::take(waiter.bind(py))?;
        self.use_grant(py, grant)
    }

    /// Has a connection made, with the permit that the pool has granted or will.
    pub(super) fn dial(&mut self, py: Python<'_>, grant: &Bound<'_, PyAny>) -> PyResult<Poll<Py<PyAny>>> {
        let destination = self.request.with_data(py, |data| {
            let is_plain = data.proxy.is_none() && data.server_hostname.is_none();
            Ok(data.target.as_ref().filter(|_| is_plain).map(|target| target.clone_ref(py)))
        })?;
        match destination {
            Some(target) => self.acquire(py, target.bind(py).as_any(), Some(grant)),
            None => {
                let request = self.request.object(py, &self.scope)?;
                self.acquire(py, request.as_any(), Some(grant))
            }
        }
    }

    /// Has the connector get a connection to `destination`.
    pub(super) fn acquire(
        &mut self,
        py: Python<'_>,
        destination: &Bound<'_, PyAny>,
        grant: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let CallScope { config, session, traces, timeout, .. } = self.scope.get();
        let coroutine = given::step(py, intern!(py, "acquire"))?.call1((
            session,
            &config.connector,
            destination,
            traces.list(py),
            timeout,
            grant,
        ))?;
        self.await_connection(py, &coroutine)
    }

    pub(super) fn await_connection(
        &mut self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        self.stage = HopStage::Connecting(AwaitedStep::new(coroutine)?);
        self.resume(py, None)
    }
}

/// The error for a request whose session is closed meanwhile.
fn closed(py: Python<'_>) -> PyResult<PyErr> {
    let error = crate::http::failures::error(py, "ClientConnectionError", "Connector is closed.")?;
    Ok(PyErr::from_value(error.into_bound(py)))
}

/// A connection is made: it holds the permit of `slot` now, for the request that had it.
#[pyfunction]
pub fn fill_slot(slot: &Bound<'_, PoolSlot>, connection: &Bound<'_, HttpConnection>) -> PyResult<()> {
    PoolSlot::fill(slot, PooledConnection::new(connection))
}
