//! One request of a call: it gets a connection, is sent, and its response's head is awaited.
//!
//! Nothing here is a coroutine. What a program overrides or listens to is one [`AwaitedStep`] of it: its connector, signals, a request
//! class's `send()`, a response class's `start()`.

mod awaitable;
mod connecting;
mod limits;
mod plan;
mod sending;
mod tunnel;

pub use awaitable::{HopAwaitable, RequestHandler};
pub use connecting::fill_slot;

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use crate::http::client::call_scope::CallScope;
use crate::http::client::dial::Dial;
use crate::http::client::handle::RequestHandle;
use crate::http::client::request::RequestBase;
use crate::http::client::step::{AwaitedStep, Poll};
use crate::http::client::target::RequestRecord;
use crate::http::finish::finish_on;
use crate::http::h1::connection::HttpConnection;
use crate::http::h1::exchange::Exchange;
use crate::http::pool::{PoolSlot, PoolWaiter};
use crate::interpreter::in_destructor;

use limits::ConnectTimeout;
use plan::NewConnection;
use tunnel::Tunnel;

/// A request whose response's head is awaited.
#[derive(Debug)]
struct InFlight {
    exchange: Py<Exchange>,
    record: Arc<RequestRecord>,
    upload: Option<Upload>,
}

/// A body that Python writes.
#[derive(Debug)]
struct Upload {
    /// The `StreamWriter`.
    writer: Py<PyAny>,
    /// The task, if writing has to wait.
    task: Option<Py<PyAny>>,
}

/// A connection that a request has, and the object of a connector's that it came in.
#[derive(Debug)]
struct Acquired {
    protocol: Py<HttpConnection>,
    object: Option<Py<PyAny>>,
}

#[derive(Debug)]
enum HopStage {
    /// It has not begun.
    New,
    /// The pool has no permit for another connection.
    Waiting(Py<PoolWaiter>),
    /// The addresses of the host are being looked up, for a plan of the connection and its permit.
    Resolving(AwaitedStep, Py<PyTuple>, Py<PoolSlot>),
    /// A connection is being made, for a permit.
    Dialling(Py<Dial>, Py<PoolSlot>),
    /// A tunnel was requested from the proxy at the other end of a connection, for a permit.
    Tunnelling(Tunnel, Py<PoolSlot>),
    /// A connection is being made by the connector.
    Connecting(AwaitedStep),
    /// It has its connection.
    Connected(Acquired),
    /// The receivers of its head run.
    Announcing(AwaitedStep, Acquired),
    /// The request class sends it.
    Sending(AwaitedStep, Acquired),
    /// The head of its response is awaited.
    Awaiting(InFlight),
    /// The class of this response awaits the head; of a request class's own, there is nothing to do after it.
    Starting(AwaitedStep, Py<PyAny>, Option<Box<InFlight>>),
    /// It is over, or a step of it runs at the moment.
    Over,
}

/// Until when a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until it is sent.
    Sent,
    /// Until the head of its response is here.
    Head,
}

/// One request of a call.
#[derive(Debug)]
pub struct Hop {
    scope: Py<CallScope>,
    pub request: RequestHandle,
    stage: HopStage,
    until: Until,
    /// Its limit of time until it has its connection, once that is under way.
    connect: Option<ConnectTimeout>,
    new: NewConnection,
}

impl Hop {
    /// A request that has not begun.
    pub fn new(scope: Py<CallScope>, request: RequestHandle) -> Self {
        Self {
            scope,
            request,
            stage: HopStage::New,
            until: Until::Head,
            connect: None,
            new: NewConnection::default(),
        }
    }

    /// A request on a connection, until it is sent.
    pub fn on_connection(
        scope: Py<CallScope>,
        request: &Bound<'_, RequestBase>,
        protocol: Py<HttpConnection>,
        object: Py<PyAny>,
    ) -> Self {
        let stage = HopStage::Connected(Acquired { protocol, object: Some(object) });
        Self {
            scope,
            request: RequestHandle::Object(request.clone().unbind()),
            stage,
            until: Until::Sent,
            connect: None,
            new: NewConnection::default(),
        }
    }

    /// Continues it, or raises `thrown` where it waits.
    ///
    /// # Errors
    /// The failure of the request: it has no connection then.
    pub fn resume(&mut self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let limited = scope.get();
        match (std::mem::replace(&mut self.stage, HopStage::Over), thrown) {
            (stage @ (HopStage::New | HopStage::Connected(_) | HopStage::Waiting(_)), Some(error)) => {
                self.stage = stage;
                self.give_up(py)?;
                Err(error)
            }
            (HopStage::New, None) => self.connect(py),
            (HopStage::Waiting(waiter), None) => self.take_grant(py, waiter),
            (HopStage::Resolving(mut step, plan, slot), thrown) => {
                match step.resume(py, thrown, &self.until_connected(py, limited)) {
                    Ok(Poll::Ready(addresses)) => {
                        let slot = slot.bind(py);
                        let dialled = self.dial_addresses(slot, plan.bind(py), addresses.bind(py));
                        if dialled.is_err() {
                            // Nothing happens if it was used.
                            PoolSlot::give_back(slot)?;
                        }
                        dialled
                    }
                    Ok(waiting) => {
                        self.stage = HopStage::Resolving(step, plan, slot);
                        Ok(waiting)
                    }
                    Err(error) => {
                        PoolSlot::give_back(slot.bind(py))?;
                        Err(error)
                    }
                }
            }
            (stage @ (HopStage::Dialling(..) | HopStage::Tunnelling(..)), Some(error)) => {
                self.stage = stage;
                self.give_up(py)?;
                Err(error)
            }
            (HopStage::Dialling(dial, slot), None) => match dial.get().take_outcome()? {
                Some(outcome) => self.dialled(slot.bind(py), outcome),
                None => {
                    self.stage = HopStage::Dialling(dial, slot);
                    Ok(Poll::Early)
                }
            },
            (HopStage::Tunnelling(tunnel, slot), None) => self.enter_tunnel(slot.bind(py), tunnel),
            (HopStage::Connecting(mut step), thrown) => {
                match step.resume(py, thrown, &self.until_connected(py, limited))? {
                    Poll::Ready(connection) => {
                        let acquired = Acquired::of(connection.bind(py))?;
                        self.send(py, acquired)
                    }
                    waiting => {
                        self.stage = HopStage::Connecting(step);
                        Ok(waiting)
                    }
                }
            }
            (HopStage::Connected(acquired), None) => self.send(py, acquired),
            (HopStage::Announcing(mut step, acquired), thrown) => match step.resume(py, thrown, limited) {
                Ok(Poll::Ready(_)) => self.write(py, acquired),
                Ok(waiting) => {
                    self.stage = HopStage::Announcing(step, acquired);
                    Ok(waiting)
                }
                Err(error) => acquired.fail(py, error),
            },
            (HopStage::Sending(mut step, acquired), thrown) => match step.resume(py, thrown, limited) {
                Ok(Poll::Ready(response)) => self.start_sent(py, acquired, &response),
                Ok(waiting) => {
                    self.stage = HopStage::Sending(step, acquired);
                    Ok(waiting)
                }
                Err(error) => acquired.fail(py, error),
            },
            (HopStage::Awaiting(in_flight), Some(error)) => {
                in_flight.give_up(py)?;
                Err(error)
            }
            (HopStage::Awaiting(in_flight), None) => self.finish(py, in_flight),
            (HopStage::Starting(mut step, response, in_flight), thrown) => {
                match step.resume(py, thrown, limited)? {
                    // What a `start()` returns is not used, as in aiohttp: it may have no `return`.
                    Poll::Ready(_) => {
                        if let Some(in_flight) = &in_flight {
                            self.after_head(py, in_flight).inspect_err(|_| {
                                let _kept = in_flight.give_up(py);
                            })?;
                        }
                        Ok(Poll::Ready(response))
                    }
                    waiting => {
                        self.stage = HopStage::Starting(step, response, in_flight);
                        Ok(waiting)
                    }
                }
            }
            (HopStage::Over, _) => Err(awaited_again()),
        }
    }

    /// Gives it up where it stands, without another step: here, or on the loop's thread if the collector calls on another.
    ///
    /// # Errors
    /// What a user's code raises that is closed.
    pub fn give_up(&mut self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.scope.get().config.event_loop.bind(py);
        match std::mem::replace(&mut self.stage, HopStage::Over) {
            HopStage::New | HopStage::Over => Ok(()),
            HopStage::Waiting(waiter) => PoolWaiter::give_back(waiter.bind(py)),
            HopStage::Resolving(step, _, slot) => {
                let closed = step.close(py);
                PoolSlot::give_back(slot.bind(py)).and(closed)
            }
            HopStage::Dialling(dial, slot) => {
                let give_up = dial.bind(py).getattr(intern!(py, "give_up"))?;
                let given_up = finish_on(event_loop, give_up, &PyTuple::empty(py));
                PoolSlot::give_back(slot.bind(py)).and(given_up)
            }
            HopStage::Tunnelling(tunnel, slot) => {
                let left = tunnel.leave(py);
                PoolSlot::give_back(slot.bind(py)).and(left)
            }
            HopStage::Connecting(step) | HopStage::Starting(step, ..) => step.close(py),
            HopStage::Connected(acquired) => acquired.leave(event_loop),
            HopStage::Announcing(step, acquired) | HopStage::Sending(step, acquired) => {
                let closed = step.close(py);
                acquired.leave(event_loop).and(closed)
            }
            HopStage::Awaiting(in_flight) => in_flight.leave(event_loop),
        }
    }

    /// Whether it holds something that its destructor has to give up.
    const fn holds(&self) -> bool {
        !matches!(self.stage, HopStage::New | HopStage::Over)
    }

    /// Gives it up in the destructor of `owner`.
    pub fn drop_in_destructor(&mut self, py: Python<'_>) {
        if self.holds() {
            let scope = self.scope.clone_ref(py);
            in_destructor(scope.bind(py), || self.give_up(py));
        }
    }

    /// Whether it has not begun.
    pub const fn is_new(&self) -> bool {
        matches!(self.stage, HopStage::New | HopStage::Connected(_))
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)?;
        self.new.visit(&visit)?;
        if let Some(timeout) = &self.connect {
            timeout.visit(visit)?;
        }
        self.request.visit(visit)?;
        match &self.stage {
            HopStage::New | HopStage::Over => Ok(()),
            HopStage::Waiting(waiter) => visit.call(waiter),
            HopStage::Resolving(step, plan, slot) => {
                step.visit(visit)?;
                visit.call(plan)?;
                visit.call(slot)
            }
            HopStage::Dialling(dial, slot) => {
                visit.call(dial)?;
                visit.call(slot)
            }
            HopStage::Tunnelling(tunnel, slot) => {
                tunnel.visit(visit)?;
                visit.call(slot)
            }
            HopStage::Connecting(step) => step.visit(visit),
            HopStage::Starting(step, response, in_flight) => {
                step.visit(visit)?;
                visit.call(response)?;
                in_flight.as_ref().map_or(Ok(()), |in_flight| in_flight.visit(visit))
            }
            HopStage::Connected(acquired) => acquired.visit(visit),
            HopStage::Announcing(step, acquired) | HopStage::Sending(step, acquired) => {
                step.visit(visit)?;
                acquired.visit(visit)
            }
            HopStage::Awaiting(in_flight) => in_flight.visit(visit),
        }
    }
}

impl Acquired {
    /// Of what a connector has given: a connection of the pool's, or the object that `connect()` returns.
    fn of(connection: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(protocol) = connection.cast::<HttpConnection>() {
            return Ok(Self { protocol: protocol.clone().unbind(), object: None });
        }
        let protocol = connection.getattr(intern!(connection.py(), "protocol"))?;
        let protocol = protocol.cast_into::<HttpConnection>()?.unbind();
        Ok(Self { protocol, object: Some(connection.clone().unbind()) })
    }

    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        HttpConnection::give_up(self.protocol.bind(py))
    }

    /// [`Acquired::give_up`], from any thread.
    fn leave(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        let close = self.protocol.bind(py).getattr(intern!(py, "close"))?;
        finish_on(event_loop, close, &PyTuple::empty(py))
    }

    /// Gives it up because of `error`.
    fn fail<T>(&self, py: Python<'_>, error: PyErr) -> PyResult<T> {
        self.give_up(py)?;
        Err(error)
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.protocol)?;
        visit.call(&self.object)
    }
}

impl InFlight {
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.exchange)?;
        match &self.upload {
            Some(Upload { writer, task }) => {
                visit.call(writer)?;
                visit.call(task)
            }
            None => Ok(()),
        }
    }

    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(Upload { task: Some(task), .. }) = &self.upload {
            task.call_method0(py, intern!(py, "cancel"))?;
        }
        Exchange::abandon(self.exchange.bind(py))
    }

    /// [`InFlight::give_up`], from any thread.
    fn leave(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            // Its tasks and transports ended with it.
            return Ok(());
        }
        if let Some(Upload { task: Some(task), .. }) = &self.upload {
            let cancel = task.bind(py).getattr(intern!(py, "cancel"))?;
            finish_on(event_loop, cancel, &PyTuple::empty(py))?;
        }
        Exchange::finish(self.exchange.bind(py), intern!(py, "abandon"), &PyTuple::empty(py))
    }
}

/// The error for a step before the awaited future is done.
pub fn awaited_again() -> PyErr {
    PyRuntimeError::new_err("the request was awaited again before its response had come")
}
