//! A connection for a request: of the pool, of its queue, or one that is made.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::http::client::call_scope::{CallScope, Signal};
use whorl_core::client::retry;

use crate::event_loop::EventLoop;
use crate::http::client::address::Candidate;
use crate::http::client::deadlines::{Late, Limit, RequestDeadlines};
use crate::http::client::dial::{Dial, Dialled};
use crate::http::client::step::{AwaitedStep, Poll};
use crate::http::given;
use crate::http::h1::connection::HttpConnection;
use crate::http::pool::{ConnectionPool, Grant, PoolSlot, PoolWaiter};
use crate::http::poolable::{PooledConnection, ReuseCheck};

use super::plan::plan_of;
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
        if traces.listen_to(Signal::Connection) {
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
        self.begin_connect_timeout(py)?;
        let check = self.check(py)?;
        let grant = ConnectionPool::checkout_for(pool.bind(py), &key, check)?;
        self.use_grant(py, grant)
    }

    /// Continues with the pool's grant.
    pub(super) fn use_grant(&mut self, py: Python<'_>, grant: Grant<'_>) -> PyResult<Poll<Py<PyAny>>> {
        match grant {
            Grant::Connection(connection) => {
                let acquired = Acquired::of(&connection)?;
                if self.request.has_proxy(py)?
                    && let Err(error) = self.add_proxy_credentials(py)
                {
                    return acquired.fail(py, error);
                }
                self.send(py, acquired)
            }
            Grant::Slot(slot) => self.dial(&slot),
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

    /// Has the request carry the credentials for its proxy: on a new connection that is the tunnel's business.
    fn add_proxy_credentials(&mut self, py: Python<'_>) -> PyResult<()> {
        let request = self.request.object(py, &self.scope)?;
        let connector = &self.scope.get().config.connector;
        given::step(py, intern!(py, "proxy_request"))?.call1((connector, request)).map(drop)
    }

    /// How a connection is checked that it may have: one that turns out to be closed costs a request nothing that can be sent
    /// again.
    fn check(&mut self, py: Python<'_>) -> PyResult<ReuseCheck> {
        let can_be_repeated =
            retry::is_idempotent(self.request.method(py)?.to_str(py)?) && !self.request.has_payload(py)?;
        Ok(if can_be_repeated { ReuseCheck::Known } else { ReuseCheck::Looked })
    }

    /// Waits until another request gives its connection back.
    pub(super) fn wait(&mut self, waiter: &Bound<'_, PoolWaiter>) -> PyResult<Poll<Py<PyAny>>> {
        let py = waiter.py();
        if let Some(deadline) = self.deadline(waiter.as_any(), PoolWaiter::end_wait)? {
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
        let check = self.check(py)?;
        let grant = PoolWaiter::take(waiter.bind(py), check)?;
        self.use_grant(py, grant)
    }

    /// Where the connection leads, for the connector: the target, or the request.
    fn destination(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let target = self.request.with_data(py, |data| {
            let is_plain = data.proxy.is_none() && data.server_hostname.is_none();
            Ok(data.target.as_ref().filter(|_| is_plain).map(|target| target.clone_ref(py)))
        })?;
        match target {
            Some(target) => Ok(target.into_any()),
            None => Ok(self.request.object(py, &self.scope)?.into_any().unbind()),
        }
    }

    /// Makes a connection for the permit.
    fn dial(&mut self, slot: &Bound<'_, PoolSlot>) -> PyResult<Poll<Py<PyAny>>> {
        let begun = self.begin_dial(slot);
        if begun.is_err() {
            PoolSlot::give_back(slot)?;
        }
        begun
    }

    fn begin_dial(&mut self, slot: &Bound<'_, PoolSlot>) -> PyResult<Poll<Py<PyAny>>> {
        let py = slot.py();
        let destination = self.destination(py)?;
        let connector = self.scope.get().config.connector.bind(py);
        let plan = given::step(py, intern!(py, "dial_plan"))?.call1((connector, &destination))?;
        if plan.is_none() {
            // Something of it is the program's.
            return self.acquire(py, destination.bind(py), Some(slot.as_any()));
        }
        let plan = plan.cast_into::<PyTuple>()?;
        let addresses = plan.get_item(1)?;
        if addresses.is_instance_of::<PyList>() {
            return self.dial_addresses(slot, &plan, &addresses);
        }
        let step = AwaitedStep::new(&addresses)?;
        self.stage = HopStage::Resolving(step, plan.unbind(), slot.clone().unbind());
        self.resume(py, None)
    }

    /// Makes a connection to one of `addresses`.
    pub(super) fn dial_addresses(
        &mut self,
        slot: &Bound<'_, PoolSlot>,
        plan: &Bound<'_, PyTuple>,
        addresses: &Bound<'_, PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let py = slot.py();
        let scope = self.scope.clone_ref(py);
        let config = &scope.get().config;
        self.check_open(py)?;
        let candidates = addresses.try_iter()?.map(|address| Candidate::of(&address?)).collect();
        let candidates: Vec<_> = match candidates {
            Ok(candidates) => candidates,
            Err(error) => {
                let error: PyErr = error;
                let step = given::step(py, intern!(py, "connector_error"))?;
                return Err(PyErr::from_value(step.call1((plan.get_item(0)?, error.value(py)))?));
            }
        };
        let (plan, new) = plan_of(plan)?;
        let event_loop = config.event_loop.bind(py).cast::<EventLoop>()?;
        let dial = Dial::begin(event_loop, plan, candidates)?;
        self.new = new;
        self.await_dial(slot, dial)
    }

    /// Checks that the pool was not closed meanwhile.
    pub(super) fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        let pool = self.scope.get().config.pool.as_ref();
        if pool.map_or(Ok(false), |pool| pool.get().is_closed())? { Err(closed(py)?) } else { Ok(()) }
    }

    /// Waits until a connection is made for the permit.
    pub(super) fn await_dial(
        &mut self,
        slot: &Bound<'_, PoolSlot>,
        dial: Bound<'_, Dial>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        if let Some(outcome) = dial.get().take_outcome()? {
            return self.dialled(slot, outcome);
        }
        let waiting = self.limit_dial(slot, &dial).and_then(|()| dial.get().wait(slot.py()));
        match waiting {
            Ok(future) => {
                self.stage = HopStage::Dialling(dial.unbind(), slot.clone().unbind());
                Ok(Poll::Pending(future))
            }
            Err(error) => {
                Dial::give_up(&dial)?;
                Err(error)
            }
        }
    }

    /// Has `dial` end with the session, and when it has taken too long.
    fn limit_dial(&mut self, slot: &Bound<'_, PoolSlot>, dial: &Bound<'_, Dial>) -> PyResult<()> {
        let py = slot.py();
        let scope = self.scope.clone_ref(py);
        dial.get().add_guard(PoolSlot::end_on_close(slot, dial.as_any(), Dial::end_wait)?)?;
        if let Some(deadline) = self.deadline(dial.as_any(), Dial::end_wait)? {
            dial.get().add_guard(Box::new(deadline))?;
        }
        if let Some(left) = scope.get().timeouts.sock_connect {
            let limit = Limit { left, late: Late::Connection(self.request.url(py)?) };
            let deadlines = scope.get().config.deadlines.bind(py);
            let deadline = RequestDeadlines::enter(deadlines, limit, dial.as_any(), Dial::end_wait)?;
            dial.get().add_guard(Box::new(deadline))?;
        }
        Ok(())
    }

    /// The connection is made, or cannot be.
    pub(super) fn dialled(
        &mut self,
        slot: &Bound<'_, PoolSlot>,
        outcome: Dialled,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let py = slot.py();
        let connection = match outcome {
            Ok(connection) => connection.into_bound(py),
            Err(error) => {
                PoolSlot::give_back(slot)?;
                return Err(PyErr::from_value(error.into_bound(py)));
            }
        };
        if let Err(error) = self.check_open(py) {
            HttpConnection::give_up(&connection)?;
            PoolSlot::give_back(slot)?;
            return Err(error);
        }
        if let Some(tunnel) = self.new.tunnel.take() {
            return self.open_tunnel(slot, &connection, tunnel.bind(py));
        }
        if let Some(session) = &mut self.new.tls_session
            && let Some(transport) = connection.get().transport(py)?
        {
            let ssl_object = transport.call_method1(intern!(py, "get_extra_info"), ("ssl_object",))?;
            session.ssl_object = (!ssl_object.is_none()).then(|| ssl_object.unbind());
        }
        PoolSlot::fill(slot, PooledConnection::new(&connection))?;
        let acquired = Acquired { protocol: connection.unbind(), object: None };
        self.send(py, acquired)
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
