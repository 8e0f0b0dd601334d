//! A plain request: from `session.get(url)` to its response, without a coroutine.
//!
//! What the native way cannot do is done by a coroutine of the session's, which is then what is awaited: a connection, if
//! none is idle; and as a whole, a request that is not plain, one whose connection was lost, and a redirect.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};

use whorl_core::client::redirect::{Redirect, RedirectContext, RequestBody, redirect};

use super::connection::HttpConnection;
use super::deadlines::{RequestDeadlines, Timed};
use super::exchange::Exchange;
use super::planned::{Asked, Awaited, Planned};
use super::pool::{ConnectionPool, Grant, PoolWaiter};
use super::ready::{Ready, stop_iteration};
use super::response::ResponseBase;
use super::session::SessionBase;
use crate::event_loop::clock;
use crate::interpreter::{CloneWith, Collector, Guarded};

/// A request that waits for another to give its connection back.
#[derive(Debug)]
struct Waiting {
    planned: Arc<Planned>,
    waiter: Py<PoolWaiter>,
}

/// A request for which a coroutine makes a connection.
#[derive(Debug)]
struct Connecting {
    planned: Arc<Planned>,
    coroutine: Py<PyAny>,
}

#[derive(Debug)]
enum Stage {
    /// Nobody has awaited it.
    New,
    /// There is no place for another connection.
    Waiting(Arc<Waiting>),
    /// A connection is being made.
    Connecting(Arc<Connecting>),
    /// The answer is on its way.
    Awaiting(Arc<Awaited>),
    /// A coroutine does it.
    Delegated(Py<PyAny>),
    /// It is over.
    Over,
}

/// What `ClientSession.get()` and its kin return: to be awaited, or entered with `async with`.
#[pyclass(frozen, weakref, name = "_RequestContextManager", module = "whorl._core")]
#[derive(Debug)]
pub struct RequestContext {
    asked: Asked,
    stage: Guarded<Stage>,
    response: Guarded<Option<Py<PyAny>>>,
}

impl RequestContext {
    fn stage(&self, py: Python<'_>, stage: Stage) {
        let _former = self.stage.replace(py, stage);
    }

    /// The first step.
    fn start(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(planned) = Planned::new(py, &self.asked)? else {
            let coroutine = self.coroutine(py, intern!(py, "_request"), None)?;
            return self.delegate(py, coroutine);
        };
        let planned = Arc::new(planned);
        let pool = planned.plain.pool.bind(py);
        let grant = ConnectionPool::checkout_for(pool, &planned.prepared.get().key)?;
        self.use_grant(py, Arc::clone(&planned), grant)
    }

    /// Goes on with what the pool gives.
    fn use_grant(&self, py: Python<'_>, planned: Arc<Planned>, grant: Grant<'_>) -> PyResult<Py<PyAny>> {
        match grant {
            Grant::Connection(connection) => self.send_on(&connection, &planned),
            Grant::Slot(slot) => self.connect(py, planned, Some(slot.as_any())),
            Grant::Waiter(waiter) if planned.limits.has_connect => {
                self.connect(py, planned, Some(waiter.as_any()))
            }
            Grant::Waiter(waiter) => {
                let future = self.wait(planned, &waiter);
                if future.is_err() {
                    PoolWaiter::give_back(&waiter)?;
                }
                future
            }
            Grant::Closed => self.connect(py, planned, None),
        }
    }

    /// Waits for another request's connection.
    fn wait(&self, planned: Arc<Planned>, waiter: &Bound<'_, PoolWaiter>) -> PyResult<Py<PyAny>> {
        let py = waiter.py();
        if let Some(total) = planned.total_left(py)? {
            let timed = Timed::Waiter(waiter.clone().unbind());
            let deadline = RequestDeadlines::enter(planned.plain.deadlines.bind(py), timed, total)?;
            waiter.get().set_deadline(deadline)?;
        }
        let future = waiter.get().await_place(py)?;
        let waiting = Waiting { planned, waiter: waiter.clone().unbind() };
        self.stage(py, Stage::Waiting(Arc::new(waiting)));
        Ok(future)
    }

    /// It is its turn.
    fn take_place(&self, py: Python<'_>, waiting: &Waiting) -> PyResult<Py<PyAny>> {
        let waiter = waiting.waiter.bind(py);
        if !waiter.get().is_done(py)? {
            // Whoever waits for it goes on waiting.
            return Err(awaited_again());
        }
        self.stage(py, Stage::Over);
        self.use_grant(py, Arc::clone(&waiting.planned), PoolWaiter::take(waiter)?)
    }

    /// Has a connection made, in the place that the pool has granted or will.
    fn connect(
        &self,
        py: Python<'_>,
        planned: Arc<Planned>,
        grant: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let timeout = match &self.asked.options {
            Some(options) => options.bind(py).get_item(intern!(py, "timeout"))?,
            None => None,
        };
        let session = self.asked.session.bind(py);
        let connect = session.as_any().getattr(intern!(py, "_connect"))?;
        let elapsed = clock::seconds(planned.elapsed(py)?);
        let (connector, prepared) = (&planned.plain.connector, &planned.prepared);
        let coroutine = match timeout {
            Some(timeout) => connect.call1((connector, prepared, grant, elapsed, timeout))?,
            None => connect.call1((connector, prepared, grant, elapsed))?,
        };
        let connecting = Arc::new(Connecting { planned, coroutine: coroutine.unbind() });
        self.stage(py, Stage::Connecting(Arc::clone(&connecting)));
        let step = connecting.coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
        self.connected(py, &connecting, step)
    }

    /// Goes on when the connection is there.
    fn connected(
        &self,
        py: Python<'_>,
        connecting: &Connecting,
        step: PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = match step {
            Ok(awaited) => return Ok(awaited),
            Err(error) => error,
        };
        self.stage(py, Stage::Over);
        if !error.is_instance_of::<PyStopIteration>(py) {
            return Err(error);
        }
        let connection = error.value(py).getattr(intern!(py, "value"))?.cast_into::<HttpConnection>()?;
        self.send_on(&connection, &connecting.planned)
    }

    /// Sends the request on `connection`.
    fn send_on(&self, connection: &Bound<'_, HttpConnection>, planned: &Planned) -> PyResult<Py<PyAny>> {
        match planned.send_on(connection, self.asked.method.bind(connection.py())) {
            Ok((awaited, future)) => {
                self.stage(connection.py(), Stage::Awaiting(Arc::new(awaited)));
                Ok(future)
            }
            Err(error) => {
                HttpConnection::give_up(connection)?;
                Err(error)
            }
        }
    }

    /// A coroutine of the session's that goes on with a request, with an option beside the user's.
    fn coroutine_after(
        &self,
        awaited: &Awaited,
        name: &Bound<'_, PyString>,
        beside: &Bound<'_, PyDict>,
    ) -> PyResult<Py<PyAny>> {
        let py = name.py();
        beside.set_item(intern!(py, "elapsed"), awaited.elapsed(py)?)?;
        if let Some(body) = &awaited.body {
            // JSON is not made again: the value may be another one by now.
            beside.set_item(intern!(py, "sent"), body)?;
        }
        self.coroutine(py, name, Some(beside))
    }

    /// A coroutine of the session's for the same request, with some options beside the user's.
    fn coroutine(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        beside: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let Asked { session, method, url, allow_redirects, options } = &self.asked;
        let options = match options {
            Some(options) => options.bind(py).copy()?,
            None => PyDict::new(py),
        };
        options.set_item(intern!(py, "allow_redirects"), allow_redirects)?;
        if let Some(beside) = beside {
            options.update(beside.as_mapping())?;
        }
        let method_of_session = session.bind(py).as_any().getattr(name)?;
        Ok(method_of_session.call((method, url), Some(&options))?.unbind())
    }

    fn delegate(&self, py: Python<'_>, coroutine: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let reference = coroutine.clone_ref(py);
        self.stage(py, Stage::Delegated(reference));
        let step = coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
        self.watch(py, step)
    }

    /// Keeps the response that a coroutine returns.
    fn watch(&self, py: Python<'_>, step: PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        if let Err(error) = &step {
            if error.is_instance_of::<PyStopIteration>(py) {
                let response = error.value(py).getattr(intern!(py, "value"))?.unbind();
                let _former = self.response.replace(py, Some(response));
            }
            self.stage(py, Stage::Over);
        }
        step
    }

    /// The head has come, or will not.
    fn finish(&self, py: Python<'_>, awaited: &Awaited) -> PyResult<Py<PyAny>> {
        let Awaited { plain, exchange, sent, .. } = awaited;
        let Some(head) = exchange.get().head_if_any()? else {
            return self.failed(py, awaited);
        };
        let class = plain.response_class.bind(py);
        let session = self.asked.session.clone_ref(py).into_any();
        let response = ResponseBase::make(class, exchange.clone_ref(py), Arc::clone(sent), session)?.unbind();
        if head.fields.get("set-cookie").is_some() {
            response.call_method0(py, intern!(py, "_keep_cookies"))?;
        }
        let answer = RedirectContext {
            status: head.status,
            has_location: head.fields.get("location").or_else(|| head.fields.get("uri")).is_some(),
            method: sent.method.bind(py).to_str()?,
            // Whatever it is, the coroutine looks closer.
            body: RequestBody::Replayable,
            followed: 0,
            max_redirects: 0,
        };
        let redirected = self.asked.allow_redirects && redirect(&answer) != Redirect::No;
        if redirected || (awaited.raise_for_status && head.status >= 400) {
            let options = PyDict::new(py);
            options.set_item(intern!(py, "response"), response)?;
            let coroutine = self.coroutine_after(awaited, intern!(py, "_go_on"), &options)?;
            return self.delegate(py, coroutine);
        }
        self.stage(py, Stage::Over);
        let kept = response.clone_ref(py);
        let _former = self.response.replace(py, Some(kept));
        Err(stop_iteration(response))
    }

    fn failed(&self, py: Python<'_>, awaited: &Awaited) -> PyResult<Py<PyAny>> {
        self.stage(py, Stage::Over);
        let error = match awaited.exchange.get().check(py) {
            Err(error) => error,
            Ok(()) => awaited_again(),
        };
        let session = self.asked.session.bind(py);
        let method = self.asked.method.bind(py);
        // Raises, unless the request is to be sent again (RFC 9112, section 9.3.1).
        let sent = (&awaited.sent.prepared, &awaited.sent.head);
        session.call_method1(intern!(py, "_refuse"), (error.value(py), method, sent.0, sent.1))?;
        let options = PyDict::new(py);
        let coroutine = self.coroutine_after(awaited, intern!(py, "_request_again"), &options)?;
        self.delegate(py, coroutine)
    }

    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        enum Step {
            Start,
            Take(Arc<Waiting>),
            Connect(Arc<Connecting>),
            Finish(Arc<Awaited>),
            Send(Py<PyAny>),
            Over,
        }
        let step = self.stage.peek(py, |stage, at| match stage {
            Stage::New => Step::Start,
            Stage::Waiting(waiting) => Step::Take(Arc::clone(waiting)),
            Stage::Connecting(connecting) => Step::Connect(Arc::clone(connecting)),
            Stage::Awaiting(awaited) => Step::Finish(Arc::clone(awaited)),
            Stage::Delegated(coroutine) => Step::Send(coroutine.clone_with(at)),
            Stage::Over => Step::Over,
        });
        match step {
            Step::Start => self.start(py),
            Step::Take(waiting) => self.take_place(py, &waiting),
            Step::Connect(connecting) => {
                let step = connecting.coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
                self.connected(py, &connecting, step)
            }
            Step::Finish(awaited) => self.finish(py, &awaited),
            Step::Send(coroutine) => {
                let step = coroutine.call_method1(py, intern!(py, "send"), (py.None(),));
                self.watch(py, step)
            }
            Step::Over => Err(PyRuntimeError::new_err("cannot reuse already awaited request")),
        }
    }
}

/// Whoever awaits it goes on before what it waits for is there.
fn awaited_again() -> PyErr {
    PyRuntimeError::new_err("the request was awaited again before its answer had come")
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
        let asked = Asked { session, method, url, allow_redirects, options };
        Ok(Self { asked, stage: Guarded::new(Stage::New), response: Guarded::new(None) })
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let awaited = slf.stage.peek(slf.py(), |stage, _at| !matches!(stage, Stage::New | Stage::Over));
        if awaited { Err(awaited_again()) } else { Ok(slf) }
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

    /// What is awaited: itself.
    #[getter]
    const fn _coro(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The response, once it was awaited.
    #[getter]
    fn _resp(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.response.peek(py, |response, at| response.clone_with(at))
    }

    /// Go on: a coroutine's method.
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
        let stage = self.stage.replace(py, Stage::Over);
        match stage {
            Stage::Waiting(waiting) => PoolWaiter::give_back(waiting.waiter.bind(py))?,
            Stage::Connecting(connecting) => {
                self.stage(py, Stage::Connecting(Arc::clone(&connecting)));
                let step = throw_into(connecting.coroutine.bind(py), typ, val, tb);
                return self.connected(py, &connecting, step);
            }
            Stage::Delegated(coroutine) => {
                let reference = coroutine.clone_ref(py);
                self.stage(py, Stage::Delegated(reference));
                let step = throw_into(coroutine.bind(py), typ, val, tb);
                return self.watch(py, step);
            }
            Stage::Awaiting(awaited) => Exchange::abandon(awaited.exchange.bind(py))?,
            Stage::New | Stage::Over => {}
        }
        let value = match val {
            Some(value) if !value.is_none() => value.clone(),
            _ => typ.clone(),
        };
        Err(PyErr::from_value(value))
    }

    /// Give it up: a coroutine's method.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let stage = self.stage.replace(py, Stage::Over);
        match stage {
            Stage::Waiting(waiting) => PoolWaiter::give_back(waiting.waiter.bind(py)),
            Stage::Connecting(connecting) => {
                connecting.coroutine.call_method0(py, intern!(py, "close")).map(drop)
            }
            Stage::Delegated(coroutine) => coroutine.call_method0(py, intern!(py, "close")).map(drop),
            Stage::Awaiting(awaited) => Exchange::abandon(awaited.exchange.bind(py)),
            Stage::New | Stage::Over => Ok(()),
        }
    }

    #[pyo3(signature = (*exc))]
    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        exc: &Bound<'py, pyo3::types::PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
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
        visit.call(&self.asked.session)?;
        visit.call(&self.asked.url)?;
        visit.call(&self.asked.options)?;
        self.response.visit(Collector::of(&visit), |response, visit| visit.call(response))?;
        self.stage.visit(Collector::of(&visit), |stage, visit| match stage {
            Stage::Waiting(waiting) => visit.call(&waiting.waiter),
            Stage::Connecting(connecting) => visit.call(&connecting.coroutine),
            Stage::Delegated(coroutine) => visit.call(coroutine),
            Stage::Awaiting(awaited) => visit.call(&awaited.exchange),
            Stage::New | Stage::Over => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // An exchange and a place in the queue stay: they do not know the request, and `drop()` has to let go of them.
        let _coroutine = self
            .stage
            .replace_if(py, Stage::Over, |stage| matches!(stage, Stage::Connecting(_) | Stage::Delegated(_)));
        let _response = self.response.replace(py, None);
    }
}

impl Drop for RequestContext {
    /// A request whose task is gone: nobody will take its answer. The collector runs on any thread.
    fn drop(&mut self) {
        Python::attach(|py| match self.stage.replace(py, Stage::Over) {
            Stage::Awaiting(awaited) => {
                let exchange = awaited.exchange.bind(py);
                let told = match exchange.get().is_done() {
                    Ok(_) => Exchange::abandon(exchange),
                    Err(_) => exchange
                        .getattr(intern!(py, "abandon"))
                        .and_then(|abandon| exchange.get().call_soon(py, (abandon,)).map(drop)),
                };
                if let Err(error) = told {
                    error.write_unraisable(py, Some(exchange));
                }
            }
            Stage::Waiting(waiting) => {
                let waiter = waiting.waiter.bind(py);
                if let Err(error) = PoolWaiter::leave(waiter) {
                    error.write_unraisable(py, Some(waiter));
                }
            }
            Stage::New | Stage::Connecting(_) | Stage::Delegated(_) | Stage::Over => {}
        });
    }
}
