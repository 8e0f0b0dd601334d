//! One request of a call: it gets a connection, is sent, and its response's head is awaited.
//!
//! Nothing here is a coroutine. What a program overrides or listens to is one [`Step`] of it: its connector, signals, a request
//! class's `send()`, a response class's `start()`.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::sched::assert_nothing_open;

use super::call_scope::{CallScope, Signal};
use super::deadlines::{RequestDeadlines, Timed};
use super::handle::{RequestHandle, WrittenRequest};
use super::request::RequestBase;
use super::request_data::Sendable;
use super::response::ResponseBase;
use super::step::{Poll, Step};
use super::target::RequestRecord;
use crate::http::finish::finish_on;
use crate::http::given;
use crate::http::h1::connection::HttpConnection;
use crate::http::h1::exchange::Exchange;
use crate::http::pool::{ConnectionPool, Grant, PoolWaiter};
use crate::interpreter::{Collector, Guarded, in_destructor};
use crate::transport::Chunk;

/// A request whose response's head is awaited.
#[derive(Debug)]
struct InFlight {
    exchange: Py<Exchange>,
    record: Arc<RequestRecord>,
    upload: Option<Upload>,
    /// The connection, as a connector of the program's has given it.
    connection: Option<Py<PyAny>>,
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
    /// A connection is being made.
    Connecting(Step),
    /// It has its connection.
    Connected(Acquired),
    /// The receivers of a signal are being told that its head is sent.
    Announcing(Step, Acquired),
    /// The request class sends it.
    Sending(Step, Acquired),
    /// The head of its response is awaited.
    Awaiting(InFlight),
    /// The response class awaits the head.
    Starting(Step),
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
}

impl Hop {
    /// A request that has not begun.
    pub const fn new(scope: Py<CallScope>, request: RequestHandle) -> Self {
        Self { scope, request, stage: HopStage::New, until: Until::Head }
    }

    /// A request on a connection, until it is sent.
    pub fn on_connection(
        scope: Py<CallScope>,
        request: &Bound<'_, RequestBase>,
        protocol: Py<HttpConnection>,
        object: Py<PyAny>,
    ) -> Self {
        let stage = HopStage::Connected(Acquired { protocol, object: Some(object) });
        Self { scope, request: RequestHandle::Object(request.clone().unbind()), stage, until: Until::Sent }
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
            (HopStage::Connecting(mut step), thrown) => match step.resume(py, thrown, limited)? {
                Poll::Ready(connection) => {
                    let acquired = Acquired::of(connection.bind(py))?;
                    self.send(py, acquired)
                }
                waiting => {
                    self.stage = HopStage::Connecting(step);
                    Ok(waiting)
                }
            },
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
                Ok(Poll::Ready(response)) => self.start(py, acquired, &response),
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
            (HopStage::Starting(mut step), thrown) => {
                let outcome = step.resume(py, thrown, limited)?;
                if !matches!(outcome, Poll::Ready(_)) {
                    self.stage = HopStage::Starting(step);
                }
                Ok(outcome)
            }
            (HopStage::Over, _) => Err(awaited_again()),
        }
    }

    // Its connection.

    fn connect(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
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
    fn use_grant(&mut self, py: Python<'_>, grant: Grant<'_>) -> PyResult<Poll<Py<PyAny>>> {
        match grant {
            Grant::Connection(connection) => {
                let acquired = Acquired { protocol: connection.unbind(), object: None };
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
    fn wait(&mut self, waiter: &Bound<'_, PoolWaiter>) -> PyResult<Poll<Py<PyAny>>> {
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
    fn take_grant(&mut self, py: Python<'_>, waiter: Py<PoolWaiter>) -> PyResult<Poll<Py<PyAny>>> {
        if !waiter.get().is_done(py)? {
            self.stage = HopStage::Waiting(waiter);
            return Ok(Poll::Early);
        }
        let grant = PoolWaiter::take(waiter.bind(py))?;
        self.use_grant(py, grant)
    }

    /// Has a connection made, with the permit that the pool has granted or will.
    fn dial(&mut self, py: Python<'_>, grant: &Bound<'_, PyAny>) -> PyResult<Poll<Py<PyAny>>> {
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
    fn acquire(
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

    fn await_connection(
        &mut self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        self.stage = HopStage::Connecting(Step::new(coroutine)?);
        self.resume(py, None)
    }

    // Its sending.

    fn send(&mut self, py: Python<'_>, acquired: Acquired) -> PyResult<Poll<Py<PyAny>>> {
        match self.begin_sending(py, &acquired) {
            Ok(None) => self.write(py, acquired),
            Ok(Some(stage)) => {
                self.stage = match stage {
                    Begun::Announcing(step) => HopStage::Announcing(step, acquired),
                    Begun::Sending(step) => HopStage::Sending(step, acquired),
                };
                self.resume(py, None)
            }
            Err(error) => acquired.fail(py, error),
        }
    }

    /// The step that comes before the request is written, if there is one.
    fn begin_sending(&mut self, py: Python<'_>, acquired: &Acquired) -> PyResult<Option<Begun>> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, traces, .. } = scope.get();
        if config.overrides.request && self.until == Until::Head {
            let request = self.request.object(py, &scope)?;
            let connection = self.connection_object(py, acquired)?;
            let coroutine = request.call_method1(intern!(py, "send"), (connection,))?;
            return Ok(Some(Begun::Sending(Step::new(&coroutine)?)));
        }
        if !traces.listen_to(Signal::HeadersSent) {
            return Ok(None);
        }
        let (method, url) = (self.request.method(py)?, self.request.url(py)?);
        let headers = self.request.with_data(py, |data| data.fields.dict(py))?;
        let args = (method, url, headers).into_pyobject(py)?;
        let coroutine = traces.send(py, Signal::HeadersSent, "send_request_headers", args)?;
        coroutine.map(|coroutine| Ok(Begun::Announcing(Step::new(&coroutine)?))).transpose()
    }

    /// The connection as a program sees it.
    fn connection_object<'py>(&self, py: Python<'py>, acquired: &Acquired) -> PyResult<Bound<'py, PyAny>> {
        if let Some(object) = &acquired.object {
            return Ok(object.bind(py).clone());
        }
        let connector = &self.scope.get().config.connector;
        given::step(py, intern!(py, "connection"))?.call1((connector, &acquired.protocol))
    }

    fn write(&mut self, py: Python<'_>, acquired: Acquired) -> PyResult<Poll<Py<PyAny>>> {
        match self.try_write(py, &acquired) {
            Ok(in_flight) if self.until == Until::Sent => match self.response(py, &in_flight) {
                Ok(response) => Ok(Poll::Ready(response.unbind())),
                Err(error) => acquired.fail(py, error),
            },
            Ok(in_flight) => match in_flight.exchange.get().await_head(py) {
                Ok(future) => {
                    self.stage = HopStage::Awaiting(in_flight);
                    Ok(Poll::Pending(future))
                }
                Err(error) => acquired.fail(py, error),
            },
            Err(error) => acquired.fail(py, error),
        }
    }

    fn try_write(&mut self, py: Python<'_>, acquired: &Acquired) -> PyResult<InFlight> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, response, parsing, timeouts, traces, tracker, .. } = scope.get();
        let protocol = acquired.protocol.bind(py);
        let by_python = config.overrides.request
            || tracker.is_some()
            || traces.listen_to(Signal::ChunkSent)
            || protocol.get().is_writing_paused()?;
        let WrittenRequest { head, body, sendable, record } = self.request.write(py, &scope, by_python)?;
        let method = record.method.bind(py).to_str()?;
        let exchange = HttpConnection::begin_with(protocol, method, *response, *parsing, timeouts.read)?;
        let upload = match sendable {
            Some(sendable) => {
                let head = Chunk::of_bytes(head.bind(py));
                let body = body.as_ref().map(|body| Chunk::of_bytes(body.bind(py)));
                protocol.get().write_chunks(py, std::iter::once(head).chain(body))?;
                HttpConnection::sent(protocol)?;
                if let Sendable::Short(_) = sendable {
                    protocol.get().close_after_exchange()?;
                }
                None
            }
            None => {
                let request = self.request.object(py, &scope)?;
                let connection = self.connection_object(py, acquired)?;
                let (writer, task): (Py<PyAny>, Option<Py<PyAny>>) = request
                    .call_method1(intern!(py, "_start_upload"), (connection, head))?
                    .extract()?;
                Some(Upload { writer, task })
            }
        };
        if let Some(left) = scope.get().time_left(py)? {
            let timed = Timed::new(exchange.bind(py).as_any(), Exchange::time_out);
            let deadline = RequestDeadlines::enter(config.deadlines.bind(py), timed, left)?;
            exchange.get().set_guard(Box::new(deadline))?;
        }
        let connection = acquired.object.as_ref().map(|object| object.clone_ref(py));
        Ok(InFlight { exchange, record, upload, connection })
    }

    // Its response.

    /// Ends the wait for the head: it has come, or will not.
    fn finish(&mut self, py: Python<'_>, in_flight: InFlight) -> PyResult<Poll<Py<PyAny>>> {
        let exchange = in_flight.exchange.bind(py);
        if exchange.get().head_if_any()?.is_none() {
            let Err(error) = exchange.get().check(py) else {
                self.stage = HopStage::Awaiting(in_flight);
                return Ok(Poll::Early);
            };
            in_flight.give_up(py)?;
            let RequestRecord { method, url, head } = &*in_flight.record;
            let step = given::step(py, intern!(py, "response_error"))?;
            return Err(PyErr::from_value(step.call1((error.value(py), method, url, head))?));
        }
        let response = self.response(py, &in_flight).inspect_err(|_| {
            let _kept = in_flight.give_up(py);
        })?;
        if exchange.get().is_tunnel()? {
            // Another protocol has limits of its own.
            exchange.get().end_guard(py)?;
        }
        if self.scope.get().config.overrides.response {
            let connection = match in_flight.connection {
                Some(connection) => connection,
                None => response.getattr(intern!(py, "_connection"))?.unbind(),
            };
            let coroutine = response.call_method1(intern!(py, "start"), (connection,))?;
            self.stage = HopStage::Starting(Step::new(&coroutine)?);
            return self.resume(py, None);
        }
        Ok(Poll::Ready(response.unbind()))
    }

    /// Has the response class await the head, of a request that the request class has sent.
    fn start(
        &mut self,
        py: Python<'_>,
        acquired: Acquired,
        response: &Py<PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let step = self.connection_object(py, &acquired).and_then(|connection| {
            let coroutine = given::step(py, intern!(py, "start"))?.call1((response, connection))?;
            Step::new(&coroutine)
        });
        match step {
            Ok(step) => {
                self.stage = HopStage::Starting(step);
                self.resume(py, None)
            }
            Err(error) => acquired.fail(py, error),
        }
    }

    /// The response, by its class.
    fn response<'py>(&mut self, py: Python<'py>, in_flight: &InFlight) -> PyResult<Bound<'py, PyAny>> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, session, traces, .. } = scope.get();
        let InFlight { exchange, record, upload, .. } = in_flight;
        let class = config.response_class.bind(py);
        let listens = traces.listen_to(Signal::ChunkReceived);
        let is_simple = upload.is_none() && !listens;
        let response = if config.overrides.response {
            let keywords = PyDict::new(py);
            let request = self.request.object(py, &scope)?;
            keywords.set_item("writer", upload.as_ref().and_then(|upload| upload.task.as_ref()))?;
            keywords.set_item("continue100", py.None())?;
            keywords.set_item("timer", request.getattr(intern!(py, "_timer"))?)?;
            keywords.set_item("request_info", request.getattr(intern!(py, "request_info"))?)?;
            keywords.set_item("traces", traces.list(py))?;
            keywords.set_item("loop", &config.event_loop)?;
            keywords.set_item("session", session)?;
            keywords.set_item("stream_writer", upload.as_ref().map(|upload| &upload.writer))?;
            let response = class.call((&record.method, &record.url), Some(&keywords))?;
            response.setattr(intern!(py, "_exchange"), exchange)?;
            response
        } else {
            let session = session.clone_ref(py).into_any();
            let response =
                ResponseBase::make(class, exchange.clone_ref(py), Arc::clone(record), session, is_simple)?;
            if listens {
                response.setattr(intern!(py, "_traces"), traces.list(py))?;
            }
            if let Some(Upload { writer, task }) = upload {
                response.call_method1(intern!(py, "_follow_upload"), (writer, task))?;
            }
            if config.debug {
                given::step(py, intern!(py, "note_origin"))?.call1((&response,))?;
            }
            response
        };
        if let RequestHandle::Object(request) = &self.request {
            request.get().set_response(&response)?;
        }
        Ok(response)
    }

    /// Gives it up where it stands, without another step: here, or on the loop's thread if the collector calls on another.
    ///
    /// # Errors
    /// What a user's code raises that is closed.
    pub fn give_up(&mut self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.scope.get().config.event_loop.bind(py);
        match std::mem::replace(&mut self.stage, HopStage::Over) {
            HopStage::New | HopStage::Over => Ok(()),
            HopStage::Waiting(waiter) => PoolWaiter::leave(waiter.bind(py)),
            HopStage::Connecting(step) | HopStage::Starting(step) => step.close(py),
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

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)?;
        self.request.visit(visit)?;
        match &self.stage {
            HopStage::New | HopStage::Over => Ok(()),
            HopStage::Waiting(waiter) => visit.call(waiter),
            HopStage::Connecting(step) | HopStage::Starting(step) => step.visit(visit),
            HopStage::Connected(acquired) => acquired.visit(visit),
            HopStage::Announcing(step, acquired) | HopStage::Sending(step, acquired) => {
                step.visit(visit)?;
                acquired.visit(visit)
            }
            HopStage::Awaiting(InFlight { exchange, upload, connection, .. }) => {
                visit.call(exchange)?;
                visit.call(connection)?;
                match upload {
                    Some(Upload { writer, task }) => {
                        visit.call(writer)?;
                        visit.call(task)
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// A step that comes before a request is written.
enum Begun {
    Announcing(Step),
    Sending(Step),
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
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(Upload { task: Some(task), .. }) = &self.upload {
            task.call_method0(py, intern!(py, "cancel"))?;
        }
        Exchange::abandon(self.exchange.bind(py))
    }

    /// [`InFlight::give_up`], from any thread.
    fn leave(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
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

/// The error for a request whose session is closed meanwhile.
fn closed(py: Python<'_>) -> PyResult<PyErr> {
    let error = crate::http::failures::error(py, "ClientConnectionError", "Connector is closed.")?;
    Ok(PyErr::from_value(error.into_bound(py)))
}

/// A request that is awaited by itself: by a middleware, or by `ClientRequest.send()`.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct HopAwaitable {
    hop: Guarded<Option<Box<Hop>>>,
}

impl HopAwaitable {
    /// An awaitable for the response of `hop`.
    pub fn new(hop: Hop) -> Self {
        Self { hop: Guarded::new(Some(Box::new(hop))) }
    }

    fn resume(&self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Py<PyAny>> {
        let Some(mut hop) = self.hop.replace(py, None) else { return Err(awaited_again()) };
        match hop.resume(py, thrown)? {
            Poll::Pending(future) => {
                let _none = self.hop.replace(py, Some(hop));
                Ok(future)
            }
            Poll::Early => {
                let _none = self.hop.replace(py, Some(hop));
                Err(awaited_again())
            }
            Poll::Ready(response) => Err(super::ready::stop_iteration(response)),
        }
    }
}

#[pymethods]
impl HopAwaitable {
    const fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py, None)
    }

    /// Continue: a coroutine's method.
    fn send(&self, py: Python<'_>, arg: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = arg;
        self.resume(py, None)
    }

    /// Raise an exception where it waits: a coroutine's method.
    #[pyo3(signature = (typ, val=None, tb=None))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = tb;
        self.resume(py, Some(thrown(typ, val)))
    }

    /// Give it up: a coroutine's method.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.hop.replace(py, None) {
            Some(mut hop) => hop.give_up(py),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.hop.visit(Collector::of(&visit), |hop, visit| match hop {
            Some(hop) => hop.visit(*visit),
            None => Ok(()),
        })
    }
}

impl Drop for HopAwaitable {
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        if let Some(mut hop) = self.hop.get_mut().take() {
            Python::attach(|py| hop.drop_in_destructor(py));
        }
    }
}

/// The error that `throw()` was called with.
pub fn thrown(typ: &Bound<'_, PyAny>, val: Option<&Bound<'_, PyAny>>) -> PyErr {
    match val {
        Some(value) if !value.is_none() => PyErr::from_value(value.clone()),
        _ => PyErr::from_value(typ.clone()),
    }
}

/// The innermost handler of a call's middlewares: it sends a request.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct RequestHandler {
    scope: Py<CallScope>,
}

impl RequestHandler {
    /// Of a call.
    pub const fn new(scope: Py<CallScope>) -> Self {
        Self { scope }
    }
}

#[pymethods]
impl RequestHandler {
    fn __call__(&self, request: &Bound<'_, RequestBase>) -> HopAwaitable {
        let py = request.py();
        if request.get().scope_if_any(py).is_none() {
            // A request that a middleware has made.
            request.get().set_scope(py, self.scope.clone_ref(py));
        }
        HopAwaitable::new(Hop::new(
            self.scope.clone_ref(py),
            RequestHandle::Object(request.clone().unbind()),
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)
    }
}
