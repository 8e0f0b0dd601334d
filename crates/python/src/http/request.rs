//! A request on the fast path: from `session.get(url)` to its response, without a coroutine.
//!
//! A coroutine of the session's does the other work, and is then awaited instead: it makes a connection, if none is
//! idle; and it runs as a whole a request that is not on the fast path, one whose connection was lost, and a redirect.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use whorl_core::client::redirect::{Redirect, RedirectContext, RequestBody, redirect};

use super::connection::HttpConnection;
use super::deadlines::{RequestDeadlines, Timed};
use super::exchange::Exchange;
use super::pool::{ConnectionPool, Grant, PoolWaiter};
use super::prepared_request::{InFlight, PreparedRequest, RequestArgs};
use super::ready::{Ready, stop_iteration};
use super::response::ResponseBase;
use super::session::SessionBase;
use whorl_core::sched::assert_nothing_open;

use crate::event_loop::clock;
use crate::interpreter::{CloneWith, Collector, Guarded, in_destructor};

/// A request that waits for another to give its connection back.
#[derive(Debug)]
struct Waiting {
    prepared: Arc<PreparedRequest>,
    waiter: Py<PoolWaiter>,
}

/// A request for which a coroutine makes a connection.
#[derive(Debug)]
struct Connecting {
    prepared: Arc<PreparedRequest>,
    coroutine: Py<PyAny>,
}

#[derive(Debug)]
enum RequestStage {
    /// It was not awaited.
    New,
    /// The pool has no permit for another connection.
    Waiting(Arc<Waiting>),
    /// A connection is being made.
    Connecting(Arc<Connecting>),
    /// The response is awaited.
    Awaiting(Arc<InFlight>),
    /// A coroutine runs it.
    Delegated(Py<PyAny>),
    /// It is over.
    Over,
}

/// The result of `ClientSession.request()`, `get()` and the other methods: to be awaited, or entered with `async with`.
#[pyclass(frozen, weakref, name = "_RequestContextManager", module = "whorl._core")]
#[derive(Debug)]
pub struct RequestContext {
    args: RequestArgs,
    stage: Guarded<RequestStage>,
    response: Guarded<Option<Py<PyAny>>>,
}

impl RequestContext {
    fn stage(&self, py: Python<'_>, stage: RequestStage) {
        let _previous = self.stage.replace(py, stage);
    }

    /// The first step.
    fn start(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(prepared) = PreparedRequest::new(py, &self.args)? else {
            let coroutine = self.coroutine(py, intern!(py, "_request"), None)?;
            return self.delegate(py, coroutine);
        };
        let prepared = Arc::new(prepared);
        let pool = prepared.fast_path.pool.bind(py);
        let grant = ConnectionPool::checkout_for(pool, &prepared.cached.get().key)?;
        self.use_grant(py, Arc::clone(&prepared), grant)
    }

    /// Continues with the pool's grant.
    fn use_grant(
        &self,
        py: Python<'_>,
        prepared: Arc<PreparedRequest>,
        grant: Grant<'_>,
    ) -> PyResult<Py<PyAny>> {
        match grant {
            Grant::Connection(connection) => self.send_on(&connection, &prepared),
            Grant::Slot(slot) => self.connect(py, prepared, Some(slot.as_any())),
            Grant::Waiter(waiter) if prepared.limits.has_connect => {
                self.connect(py, prepared, Some(waiter.as_any()))
            }
            Grant::Waiter(waiter) => {
                let future = self.wait(prepared, &waiter);
                if future.is_err() {
                    PoolWaiter::give_back(&waiter)?;
                }
                future
            }
            Grant::Closed => self.connect(py, prepared, None),
        }
    }

    /// Waits until another request gives its connection back.
    fn wait(&self, prepared: Arc<PreparedRequest>, waiter: &Bound<'_, PoolWaiter>) -> PyResult<Py<PyAny>> {
        let py = waiter.py();
        if let Some(total) = prepared.total_left(py)? {
            let timed = Timed::Waiter(waiter.clone().unbind());
            let deadline = RequestDeadlines::enter(prepared.fast_path.deadlines.bind(py), timed, total)?;
            waiter.get().set_deadline(deadline)?;
        }
        let future = waiter.get().await_grant(py)?;
        let waiting = Waiting { prepared, waiter: waiter.clone().unbind() };
        self.stage(py, RequestStage::Waiting(Arc::new(waiting)));
        Ok(future)
    }

    /// Takes the grant, once there is one.
    fn take_grant(&self, py: Python<'_>, waiting: &Waiting) -> PyResult<Py<PyAny>> {
        let waiter = waiting.waiter.bind(py);
        if !waiter.get().is_done(py)? {
            // The waiter stays in the queue.
            return Err(awaited_again());
        }
        self.stage(py, RequestStage::Over);
        self.use_grant(py, Arc::clone(&waiting.prepared), PoolWaiter::take(waiter)?)
    }

    /// Has a connection made, with the permit that the pool has granted or will.
    fn connect(
        &self,
        py: Python<'_>,
        prepared: Arc<PreparedRequest>,
        grant: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let timeout = match &self.args.options {
            Some(options) => options.bind(py).get_item(intern!(py, "timeout"))?,
            None => None,
        };
        let session = self.args.session.bind(py);
        let connect = session.as_any().getattr(intern!(py, "_connect"))?;
        let elapsed = clock::seconds(prepared.elapsed(py)?);
        let (connector, cached) = (&prepared.fast_path.connector, &prepared.cached);
        let coroutine = match timeout {
            Some(timeout) => connect.call1((connector, cached, grant, elapsed, timeout))?,
            None => connect.call1((connector, cached, grant, elapsed))?,
        };
        let connecting = Arc::new(Connecting { prepared, coroutine: coroutine.unbind() });
        self.stage(py, RequestStage::Connecting(Arc::clone(&connecting)));
        let step = connecting.coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
        self.connected(py, &connecting, step)
    }

    /// Continues when the connection is there.
    fn connected(
        &self,
        py: Python<'_>,
        connecting: &Connecting,
        step: PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = match step {
            Ok(future) => return Ok(future),
            Err(error) => error,
        };
        self.stage(py, RequestStage::Over);
        if !error.is_instance_of::<PyStopIteration>(py) {
            return Err(error);
        }
        let connection = error.value(py).getattr(intern!(py, "value"))?.cast_into::<HttpConnection>()?;
        self.send_on(&connection, &connecting.prepared)
    }

    /// Sends the request on `connection`.
    fn send_on(
        &self,
        connection: &Bound<'_, HttpConnection>,
        prepared: &PreparedRequest,
    ) -> PyResult<Py<PyAny>> {
        match prepared.send_on(connection, self.args.method.bind(connection.py())) {
            Ok((in_flight, future)) => {
                self.stage(connection.py(), RequestStage::Awaiting(Arc::new(in_flight)));
                Ok(future)
            }
            Err(error) => {
                HttpConnection::give_up(connection)?;
                Err(error)
            }
        }
    }

    /// A coroutine of the session's that continues a request, with an extra option.
    fn coroutine_after(
        &self,
        in_flight: &InFlight,
        name: &Bound<'_, PyString>,
        extra: &Bound<'_, PyDict>,
    ) -> PyResult<Py<PyAny>> {
        let py = name.py();
        extra.set_item(intern!(py, "elapsed"), in_flight.elapsed(py)?)?;
        if let Some(body) = &in_flight.body {
            // JSON is not serialised again: the value may be another one by now.
            extra.set_item(intern!(py, "sent"), body)?;
        }
        self.coroutine(py, name, Some(extra))
    }

    /// A coroutine of the session's for the same request, with some extra options.
    fn coroutine(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        extra: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let RequestArgs { session, method, url, allow_redirects, options } = &self.args;
        let options = match options {
            Some(options) => options.bind(py).copy()?,
            None => PyDict::new(py),
        };
        options.set_item(intern!(py, "allow_redirects"), allow_redirects)?;
        if let Some(extra) = extra {
            options.update(extra.as_mapping())?;
        }
        let method_of_session = session.bind(py).as_any().getattr(name)?;
        Ok(method_of_session.call((method, url), Some(&options))?.unbind())
    }

    fn delegate(&self, py: Python<'_>, coroutine: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let reference = coroutine.clone_ref(py);
        self.stage(py, RequestStage::Delegated(reference));
        let step = coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
        self.watch(py, step)
    }

    /// Keeps the response that a coroutine returns.
    fn watch(&self, py: Python<'_>, step: PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        if let Err(error) = &step {
            if error.is_instance_of::<PyStopIteration>(py) {
                let response = error.value(py).getattr(intern!(py, "value"))?.unbind();
                let _previous = self.response.replace(py, Some(response));
            }
            self.stage(py, RequestStage::Over);
        }
        step
    }

    /// Ends the wait for the head: it has come, or will not.
    fn finish(&self, py: Python<'_>, in_flight: &InFlight) -> PyResult<Py<PyAny>> {
        let InFlight { fast_path, exchange, sent, .. } = in_flight;
        let Some(head) = exchange.get().head_if_any()? else {
            return self.failed(py, in_flight);
        };
        let class = fast_path.response_class.bind(py);
        let session = self.args.session.clone_ref(py).into_any();
        let response = ResponseBase::make(class, exchange.clone_ref(py), Arc::clone(sent), session)?.unbind();
        if head.fields.get("set-cookie").is_some() {
            response.call_method0(py, intern!(py, "_keep_cookies"))?;
        }
        let facts = RedirectContext {
            status: head.status,
            has_location: head.fields.get("location").or_else(|| head.fields.get("uri")).is_some(),
            method: sent.method.bind(py).to_str()?,
            // The coroutine checks the body itself.
            body: RequestBody::Replayable,
            followed: 0,
            max_redirects: 0,
        };
        let redirected = self.args.allow_redirects && redirect(&facts) != Redirect::No;
        if redirected || (in_flight.raise_for_status && head.status >= 400) {
            let options = PyDict::new(py);
            options.set_item(intern!(py, "response"), response)?;
            let coroutine = self.coroutine_after(in_flight, intern!(py, "_follow_up"), &options)?;
            return self.delegate(py, coroutine);
        }
        self.stage(py, RequestStage::Over);
        let kept = response.clone_ref(py);
        let _previous = self.response.replace(py, Some(kept));
        Err(stop_iteration(response))
    }

    fn failed(&self, py: Python<'_>, in_flight: &InFlight) -> PyResult<Py<PyAny>> {
        self.stage(py, RequestStage::Over);
        let error = match in_flight.exchange.get().check(py) {
            Err(error) => error,
            Ok(()) => awaited_again(),
        };
        let session = self.args.session.bind(py);
        let method = self.args.method.bind(py);
        // Raises, unless the request is to be sent again (RFC 9112, section 9.3.1).
        let sent = (&in_flight.sent.cached, &in_flight.sent.head);
        session
            .call_method1(intern!(py, "_raise_unless_retried"), (error.value(py), method, sent.0, sent.1))?;
        let options = PyDict::new(py);
        let coroutine = self.coroutine_after(in_flight, intern!(py, "_request_again"), &options)?;
        self.delegate(py, coroutine)
    }

    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        enum Step {
            Start,
            Take(Arc<Waiting>),
            Connect(Arc<Connecting>),
            Finish(Arc<InFlight>),
            Send(Py<PyAny>),
            Over,
        }
        let step = self.stage.peek(py, |stage, at| match stage {
            RequestStage::New => Step::Start,
            RequestStage::Waiting(waiting) => Step::Take(Arc::clone(waiting)),
            RequestStage::Connecting(connecting) => Step::Connect(Arc::clone(connecting)),
            RequestStage::Awaiting(in_flight) => Step::Finish(Arc::clone(in_flight)),
            RequestStage::Delegated(coroutine) => Step::Send(coroutine.clone_with(at)),
            RequestStage::Over => Step::Over,
        });
        match step {
            Step::Start => self.start(py),
            Step::Take(waiting) => self.take_grant(py, &waiting),
            Step::Connect(connecting) => {
                let step = connecting.coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
                self.connected(py, &connecting, step)
            }
            Step::Finish(in_flight) => self.finish(py, &in_flight),
            Step::Send(coroutine) => {
                let step = coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
                self.watch(py, step)
            }
            Step::Over => Err(PyRuntimeError::new_err("cannot reuse already awaited request")),
        }
    }
}

/// The error for a step before the awaited future is done.
fn awaited_again() -> PyErr {
    PyRuntimeError::new_err("the request was awaited again before its response had come")
}

/// `coroutine.throw()`
fn throw_into(
    coroutine: &Bound<'_, PyAny>,
    typ: &Bound<'_, PyAny>,
    val: Option<&Bound<'_, PyAny>>,
    tb: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let throw = intern!(coroutine.py(), "throw");
    // Three arguments are deprecated since Python 3.12.
    let step = match (val, tb) {
        (None, None) => coroutine.call_method1(throw, (typ,)),
        _ => coroutine.call_method1(throw, (typ, val, tb)),
    };
    step.map(Bound::unbind)
}

#[pymethods]
impl RequestContext {
    #[new]
    #[pyo3(signature = (session, method, url, allow_redirects, options))]
    fn new(
        session: Py<SessionBase>,
        method: Py<PyString>,
        url: Py<PyAny>,
        allow_redirects: &Bound<'_, PyAny>,
        options: Option<Py<PyDict>>,
    ) -> PyResult<Self> {
        let allow_redirects = allow_redirects.is_truthy()?;
        let args = RequestArgs { session, method, url, allow_redirects, options };
        Ok(Self { args, stage: Guarded::new(RequestStage::New), response: Guarded::new(None) })
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let in_flight =
            slf.stage.peek(slf.py(), |stage, _at| !matches!(stage, RequestStage::New | RequestStage::Over));
        if in_flight { Err(awaited_again()) } else { Ok(slf) }
    }

    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    const fn __aenter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    /// The awaited coroutine: itself.
    #[getter]
    const fn _coro(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The response, once it was awaited.
    #[getter]
    fn _resp(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.response.peek(py, |response, at| response.clone_with(at))
    }

    /// Continue: a coroutine's method.
    fn send(&self, py: Python<'_>, arg: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = arg;
        self.step(py)
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
        let stage = self.stage.replace(py, RequestStage::Over);
        match stage {
            RequestStage::Waiting(waiting) => PoolWaiter::give_back(waiting.waiter.bind(py))?,
            RequestStage::Connecting(connecting) => {
                self.stage(py, RequestStage::Connecting(Arc::clone(&connecting)));
                let step = throw_into(connecting.coroutine.bind(py), typ, val, tb);
                return self.connected(py, &connecting, step);
            }
            RequestStage::Delegated(coroutine) => {
                let reference = coroutine.clone_ref(py);
                self.stage(py, RequestStage::Delegated(reference));
                let step = throw_into(coroutine.bind(py), typ, val, tb);
                return self.watch(py, step);
            }
            RequestStage::Awaiting(in_flight) => Exchange::abandon(in_flight.exchange.bind(py))?,
            RequestStage::New | RequestStage::Over => {}
        }
        let value = match val {
            Some(value) if !value.is_none() => value.clone(),
            _ => typ.clone(),
        };
        Err(PyErr::from_value(value))
    }

    /// Give it up: a coroutine's method.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let stage = self.stage.replace(py, RequestStage::Over);
        match stage {
            RequestStage::Waiting(waiting) => PoolWaiter::give_back(waiting.waiter.bind(py)),
            RequestStage::Connecting(connecting) => {
                connecting.coroutine.call_method0(py, intern!(py, "close")).map(drop)
            }
            RequestStage::Delegated(coroutine) => coroutine.call_method0(py, intern!(py, "close")).map(drop),
            RequestStage::Awaiting(in_flight) => Exchange::abandon(in_flight.exchange.bind(py)),
            RequestStage::New | RequestStage::Over => Ok(()),
        }
    }

    #[pyo3(signature = (*exc))]
    fn __aexit__<'py>(&self, py: Python<'py>, exc: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let Some(response) = self.response.peek(py, |response, at| response.clone_with(at)) else {
            return Ok(Bound::new(py, Ready::new(py.None()))?.into_any());
        };
        let response = response.into_bound(py);
        if let Ok(base) = response.cast::<ResponseBase>()
            && base.get().release_ended(py)?
        {
            return Ok(Bound::new(py, Ready::new(py.None()))?.into_any());
        }
        response.call_method1(intern!(py, "__aexit__"), exc)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.args.session)?;
        visit.call(&self.args.url)?;
        visit.call(&self.args.options)?;
        self.response.visit(Collector::of(&visit), |response, visit| visit.call(response))?;
        self.stage.visit(Collector::of(&visit), |stage, visit| match stage {
            RequestStage::Waiting(waiting) => visit.call(&waiting.waiter),
            RequestStage::Connecting(connecting) => visit.call(&connecting.coroutine),
            RequestStage::Delegated(coroutine) => visit.call(coroutine),
            RequestStage::Awaiting(in_flight) => visit.call(&in_flight.exchange),
            RequestStage::New | RequestStage::Over => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // An exchange and a place in the queue stay: they do not know the request, and `drop()` has to release them.
        let _coroutine = self.stage.replace_if(py, RequestStage::Over, |stage| {
            matches!(stage, RequestStage::Connecting(_) | RequestStage::Delegated(_))
        });
        let _response = self.response.replace(py, None);
    }
}

impl Drop for RequestContext {
    /// A request whose task is gone: its response is abandoned. The collector runs on any thread.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        Python::attach(|py| match self.stage.replace(py, RequestStage::Over) {
            RequestStage::Awaiting(in_flight) => {
                let exchange = in_flight.exchange.bind(py);
                in_destructor(exchange, || {
                    Exchange::finish(exchange, intern!(py, "abandon"), &PyTuple::empty(py))
                });
            }
            RequestStage::Waiting(waiting) => {
                let waiter = waiting.waiter.bind(py);
                in_destructor(waiter, || PoolWaiter::leave(waiter));
            }
            RequestStage::New
            | RequestStage::Connecting(_)
            | RequestStage::Delegated(_)
            | RequestStage::Over => {}
        });
    }
}
