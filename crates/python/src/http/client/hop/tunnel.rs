//! A tunnel through a proxy (RFC 9110, section 9.3.6): a request for it is sent, and TLS with the host goes through it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::EventLoop;
use crate::http::client::dial::Dial;
use crate::http::client::step::Poll;
use crate::http::given;
use crate::http::h1::connection::HttpConnection;
use crate::http::h1::exchange::Exchange;
use crate::http::pool::PoolSlot;

use super::plan::plan_of;
use super::{Hop, HopStage};

/// A tunnel that was requested from a proxy.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// The response of the proxy.
    response: Py<PyAny>,
    exchange: Py<Exchange>,
    /// The connection to the proxy.
    connection: Py<HttpConnection>,
    /// The plan of the connection in it.
    plan: Py<PyTuple>,
}

impl Tunnel {
    /// Sends the request for it to the proxy at the other end of `connection`.
    fn request(connection: &Bound<'_, HttpConnection>, planned: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let py = connection.py();
        let (request, to_proxy, plan): (Py<PyAny>, Py<PyAny>, Py<PyTuple>) = planned.extract()?;
        let step = given::step(py, intern!(py, "begin_tunnel"))?;
        let response = step.call1((request, to_proxy, connection))?;
        let exchange = response.getattr(intern!(py, "_exchange"))?.cast_into::<Exchange>()?;
        Ok(Self {
            response: response.unbind(),
            exchange: exchange.unbind(),
            connection: connection.clone().unbind(),
            plan,
        })
    }

    /// Gives it up, from any thread.
    pub(super) fn leave(&self, py: Python<'_>) -> PyResult<()> {
        Exchange::finish(self.exchange.bind(py), intern!(py, "abandon"), &PyTuple::empty(py))
    }

    pub(super) fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.response)?;
        visit.call(&self.exchange)?;
        visit.call(&self.connection)?;
        visit.call(&self.plan)
    }
}

impl Hop {
    /// Requests the tunnel from the proxy at the other end of `connection`.
    pub(super) fn open_tunnel(
        &mut self,
        slot: &Bound<'_, PoolSlot>,
        connection: &Bound<'_, HttpConnection>,
        planned: &Bound<'_, PyTuple>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let opened = self.request_tunnel(slot, connection, planned);
        if opened.is_err() {
            HttpConnection::give_up(connection)?;
            PoolSlot::give_back(slot)?;
        }
        opened
    }

    fn request_tunnel(
        &mut self,
        slot: &Bound<'_, PoolSlot>,
        connection: &Bound<'_, HttpConnection>,
        planned: &Bound<'_, PyTuple>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let py = slot.py();
        let tunnel = Tunnel::request(connection, planned)?;
        let waiting = tunnel.exchange.bind(py).as_any();
        let mut guards = vec![PoolSlot::end_on_close(slot, waiting, Exchange::end_wait)?];
        if let Some(deadline) = self.deadline(waiting, Exchange::end_wait)? {
            guards.push(Box::new(deadline));
        }
        tunnel.exchange.get().set_guard(Box::new(guards))?;
        let Some(future) = tunnel.exchange.get().await_head(py)? else {
            return self.enter_tunnel(slot, tunnel);
        };
        self.stage = HopStage::Tunnelling(tunnel, slot.clone().unbind());
        Ok(Poll::Pending(future))
    }

    /// Begins TLS with the host, once the proxy has opened the tunnel.
    pub(super) fn enter_tunnel(
        &mut self,
        slot: &Bound<'_, PoolSlot>,
        tunnel: Tunnel,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let py = slot.py();
        let exchange = tunnel.exchange.get();
        if exchange.head_if_any().is_none() && exchange.check(py).is_ok() {
            self.stage = HopStage::Tunnelling(tunnel, slot.clone().unbind());
            return Ok(Poll::Early);
        }
        let entered = self.begin_tls_in(slot, &tunnel);
        if entered.is_err() {
            // Nothing happens to what is closed or given back already.
            HttpConnection::give_up(tunnel.connection.bind(py))?;
            PoolSlot::give_back(slot)?;
        }
        entered
    }

    fn begin_tls_in(&mut self, slot: &Bound<'_, PoolSlot>, tunnel: &Tunnel) -> PyResult<Poll<Py<PyAny>>> {
        let py = slot.py();
        self.check_open(py)?;
        given::step(py, intern!(py, "check_tunnel"))?.call1((&tunnel.response,))?;
        tunnel.exchange.get().end_guard(py)?;
        let (plan, new) = plan_of(tunnel.plan.bind(py))?;
        self.new = new;
        let scope = self.scope.clone_ref(py);
        let event_loop = scope.get().config.event_loop.bind(py).cast::<EventLoop>()?;
        let dial = Dial::begin_in_tunnel(event_loop, plan, tunnel.connection.bind(py))?;
        self.await_dial(slot, dial)
    }
}
