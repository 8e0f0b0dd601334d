//! A call of `session.request()`, from the first request to the response that is the user's, without a coroutine.
//!
//! The policy is the core's ([`whorl_core::client::call`]); [`Hop`] sends one request. A step that is a program's own is
//! awaited in between: receivers of signals, the environment's files, middlewares, a status check, the end of a payload.

mod begin;
mod context;
mod making;
mod outcome;

pub use context::{RequestContext, new_request, own_request};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::call::{Action, Call};

use crate::http::client::call_scope::CallScope;
use crate::http::client::fields::RequestFields;
use crate::http::client::handle::RequestHandle;
use crate::http::client::hop::{Hop, awaited_again};
use crate::http::client::options::RareOptions;
use crate::http::client::outgoing_body::OutgoingBody;
use crate::http::client::request::RequestBase;
use crate::http::client::step::{AwaitedStep, Poll};
use crate::http::client::target::RequestTarget;
use crate::http::finish::finish_on;

/// What a call does at the moment.
#[derive(Debug)]
enum CallStage {
    /// The receivers of the first signal run.
    Starting(AwaitedStep),
    /// Proxies and passwords are being read off a file.
    LookingUp(AwaitedStep),
    /// A request is on its way.
    Sending(Hop),
    /// A request is on its way through the middlewares.
    InMiddlewares(AwaitedStep, RequestHandle),
    /// A request that is sent again is being closed.
    Retrying(AwaitedStep),
    /// The receivers of a redirect run.
    Redirecting(AwaitedStep, Redirection),
    /// The payload of the last request is being closed.
    Closing(AwaitedStep),
    /// The program decides about the status.
    Checking(AwaitedStep),
    /// The receivers of the last signal run.
    Ending(AwaitedStep),
    /// It has failed with this error, and cleans up.
    Failing(AwaitedStep, Py<PyAny>),
}

/// A redirect that is to be followed or refused.
#[derive(Debug)]
struct Redirection {
    action: Action,
    location: Py<PyString>,
}

/// A call that is on its way.
#[derive(Debug)]
struct ActiveCall {
    scope: Py<CallScope>,
    stage: Option<CallStage>,
    call: Call,
    /// Of the next request.
    method: Py<PyString>,
    target: Py<RequestTarget>,
    /// What the query of the first request is extended by.
    params: Option<Py<PyAny>>,
    /// The fields of the call's own and of the session's; none: the session's alone.
    fields: Option<RequestFields>,
    body: CallBody,
    /// The user's credentials; a redirect to another origin removes them.
    auth: Option<Py<PyAny>>,
    /// Cookies of the call's own; likewise.
    cookies: Option<Py<PyAny>>,
    ssl: Option<Py<PyAny>>,
    status_check: Option<Py<PyAny>>,
    middlewares: Option<Py<PyAny>>,
    rare: Option<Box<RareOptions>>,
    history: Vec<Py<PyAny>>,
    /// The last response.
    response: Option<Py<PyAny>>,
    /// The body of the last request, if it may have to be closed or sent again.
    sent: Option<SentRequest>,
    /// Whether the status fails the call.
    raises: bool,
    /// Whether it has failed, and cleans up.
    failing: bool,
}

/// The body of a call's next request.
#[derive(Debug)]
enum CallBody {
    /// The option `data`.
    Data(Py<PyAny>),
    /// The option `json`.
    Json(Py<PyAny>),
    /// That of a request before, or none.
    Known(OutgoingBody),
}

/// What is kept of a request that was sent.
#[derive(Debug)]
struct SentRequest {
    body: OutgoingBody,
    /// The request as an object, if it is one: it may have a task that writes its body.
    object: Option<Py<RequestBase>>,
}

impl ActiveCall {
    // Its steps.

    /// Continues it, or raises `thrown` where it waits, until it waits for a future or is over.
    fn resume(&mut self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Poll<Py<PyAny>>> {
        let outcome = if let Some(CallStage::Sending(_)) = &self.stage {
            self.resume_sending(py, thrown)
        } else {
            match (self.stage.take(), thrown) {
                (None, Some(error)) => Err(error),
                (None, None) => self.start(py),
                (Some(stage), thrown) => self.resume_stage(py, stage, thrown),
            }
        };
        match outcome {
            Err(error) => self.fail(py, error),
            outcome => outcome,
        }
    }

    fn resume_stage(
        &mut self,
        py: Python<'_>,
        stage: CallStage,
        thrown: Option<PyErr>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let limited = scope.get();
        /// Continues a step; where it waits, its stage is kept.
        macro_rules! resume {
            ($step:ident, $kept:expr) => {{
                match $step.resume(py, thrown, limited)? {
                    Poll::Ready(value) => value,
                    waiting => {
                        self.stage = Some($kept);
                        return Ok(waiting);
                    }
                }
            }};
        }
        match stage {
            CallStage::Starting(mut step) => {
                resume!(step, CallStage::Starting(step));
                self.request(py)
            }
            CallStage::LookingUp(mut step) => {
                let found = resume!(step, CallStage::LookingUp(step));
                self.request_with(py, Some(found.bind(py)))
            }
            CallStage::Sending(hop) => {
                self.stage = Some(CallStage::Sending(hop));
                self.resume_sending(py, thrown)
            }
            CallStage::InMiddlewares(mut step, mut request) => match step.resume(py, thrown, limited) {
                Ok(Poll::Ready(response)) => self.answered(py, &mut request, response),
                Ok(waiting) => {
                    self.stage = Some(CallStage::InMiddlewares(step, request));
                    Ok(waiting)
                }
                Err(error) => self.lost(py, &mut request, error),
            },
            CallStage::Retrying(mut step) => {
                resume!(step, CallStage::Retrying(step));
                self.request(py)
            }
            CallStage::Redirecting(mut step, redirection) => {
                resume!(step, CallStage::Redirecting(step, redirection));
                self.redirect(py, &redirection)
            }
            CallStage::Closing(mut step) => {
                resume!(step, CallStage::Closing(step));
                self.check_status(py)
            }
            CallStage::Checking(mut step) => {
                resume!(step, CallStage::Checking(step));
                self.end(py)
            }
            CallStage::Ending(mut step) => {
                resume!(step, CallStage::Ending(step));
                self.deliver(py)
            }
            CallStage::Failing(mut step, error) => {
                resume!(step, CallStage::Failing(step, error));
                Err(PyErr::from_value(error.into_bound(py)))
            }
        }
    }

    /// Begins to send a request.
    fn send(&mut self, py: Python<'_>, hop: Hop) -> PyResult<Poll<Py<PyAny>>> {
        self.stage = Some(CallStage::Sending(hop));
        self.resume_sending(py, None)
    }

    /// Continues a request that is on its way. It stays in its place until it is over.
    fn resume_sending(&mut self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Poll<Py<PyAny>>> {
        let Some(CallStage::Sending(hop)) = &mut self.stage else { return Err(awaited_again()) };
        let outcome = hop.resume(py, thrown);
        if let Ok(Poll::Pending(_) | Poll::Early) = outcome {
            return outcome;
        }
        let Some(CallStage::Sending(mut hop)) = self.stage.take() else { return Err(awaited_again()) };
        match outcome {
            Ok(Poll::Ready(response)) => self.answered(py, &mut hop.request, response),
            Ok(waiting) => Ok(waiting),
            Err(error) => self.lost(py, &mut hop.request, error),
        }
    }

    /// Awaits a user's coroutine, as `stage`.
    fn await_step(
        &mut self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
        stage: impl FnOnce(AwaitedStep) -> CallStage,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let stage = stage(AwaitedStep::new(coroutine)?);
        self.resume_stage(py, stage, None)
    }

    /// Closes the response that the call will not deliver.
    fn close_response(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(response) = self.response.take() else { return Ok(()) };
        // The collector closes a coroutine on any thread.
        let close = response.bind(py).getattr(intern!(py, "close"))?;
        finish_on(self.scope.get().config.event_loop.bind(py), close, &PyTuple::empty(py))
    }

    /// Gives it up where it stands, without another step.
    fn give_up(&mut self, py: Python<'_>) -> PyResult<()> {
        let closed = match self.stage.take() {
            None => Ok(()),
            Some(CallStage::Sending(mut hop)) => hop.give_up(py),
            Some(
                CallStage::Starting(step)
                | CallStage::LookingUp(step)
                | CallStage::InMiddlewares(step, _)
                | CallStage::Retrying(step)
                | CallStage::Redirecting(step, _)
                | CallStage::Closing(step)
                | CallStage::Checking(step)
                | CallStage::Ending(step)
                | CallStage::Failing(step, _),
            ) => step.close(py),
        };
        let payload = self.sent.as_ref().and_then(SentRequest::open_payload);
        let disposed = match payload {
            Some(payload) => payload.call_method0(py, intern!(py, "_close")).map(drop),
            None => Ok(()),
        };
        closed.and(disposed).and(self.close_response(py)).and(self.finish_upload(py))
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)?;
        visit.call(&self.target)?;
        visit.call(&self.params)?;
        if let Some(fields) = &self.fields {
            fields.visit(visit)?;
        }
        match &self.body {
            CallBody::Data(value) | CallBody::Json(value) => visit.call(value)?,
            CallBody::Known(body) => body.visit(visit)?,
        }
        visit.call(&self.auth)?;
        visit.call(&self.cookies)?;
        visit.call(&self.ssl)?;
        visit.call(&self.status_check)?;
        visit.call(&self.middlewares)?;
        if let Some(rare) = &self.rare {
            rare.visit(visit)?;
        }
        self.history.iter().try_for_each(|response| visit.call(response))?;
        visit.call(&self.response)?;
        if let Some(sent) = &self.sent {
            sent.body.visit(visit)?;
            visit.call(&sent.object)?;
        }
        match &self.stage {
            None => Ok(()),
            Some(CallStage::Sending(hop)) => hop.visit(visit),
            Some(CallStage::InMiddlewares(step, request)) => {
                step.visit(visit)?;
                request.visit(visit)
            }
            Some(
                CallStage::Starting(step)
                | CallStage::LookingUp(step)
                | CallStage::Retrying(step)
                | CallStage::Redirecting(step, _)
                | CallStage::Closing(step)
                | CallStage::Checking(step)
                | CallStage::Ending(step),
            ) => step.visit(visit),
            Some(CallStage::Failing(step, error)) => {
                step.visit(visit)?;
                visit.call(error)
            }
        }
    }
}
