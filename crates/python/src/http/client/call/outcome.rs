//! What becomes of a call when a request has ended: the next one, its response, or its failure.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use whorl_core::client::call::{Action, Answer, Call, Credentials, Failure, Outcome};
use whorl_core::client::redirect::{CONTENT_FIELDS, CREDENTIAL_FIELDS, NextRequest, RequestBody};

use crate::http::client::call_scope::Signal;
use crate::http::client::handle::RequestHandle;
use crate::http::client::hop::awaited_again;
use crate::http::client::outgoing_body::OutgoingBody;
use crate::http::client::response::ResponseBase;
use crate::http::client::session::SessionBase;
use crate::http::client::step::Poll;
use crate::http::given;

use super::{ActiveCall, CallBody, CallStage, Redirection, SentRequest};

impl ActiveCall {
    /// Notes what is needed of a request that has ended.
    pub(super) fn note_sent(&mut self, py: Python<'_>, request: &mut RequestHandle) -> PyResult<()> {
        let object = match &*request {
            RequestHandle::Object(object) => Some(object.clone_ref(py)),
            RequestHandle::Plain(_) => None,
        };
        self.sent = Some(SentRequest { body: request.body(py)?, object });
        Ok(())
    }

    /// A request has its response.
    pub(super) fn answered(
        &mut self,
        py: Python<'_>,
        request: &mut RequestHandle,
        response: Py<PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        self.response = Some(response.clone_ref(py));
        let response = response.bind(py);
        let (answer, location, sets_cookies) = answer_of(response)?;
        if sets_cookies {
            response.call_method0(intern!(py, "_keep_cookies"))?;
        }
        let body = if location.is_some() { request.body_state(py)? } else { RequestBody::Empty };
        let method = request.method(py)?;
        let action = self.call.next(&Outcome { method: method.to_str(py)?, body, result: Ok(answer) });
        match (action, location) {
            (Action::Follow(_) | Action::TooManyRedirects | Action::BodyConsumed, Some(location)) => {
                self.note_sent(py, request)?;
                self.begin_redirect(py, Redirection { action, location })
            }
            (action, _) => {
                self.raises = action == Action::RaiseForStatus;
                if request.has_payload(py)? {
                    self.note_sent(py, request)?;
                }
                self.close_body(py)
            }
        }
    }

    /// A request has failed.
    pub(super) fn lost(
        &mut self,
        py: Python<'_>,
        request: &mut RequestHandle,
        error: PyErr,
    ) -> PyResult<Poll<Py<PyAny>>> {
        if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
            let _kept = self.note_sent(py, request);
            return Err(error);
        }
        self.note_sent(py, request)?;
        let session = self.scope.get().session.bind(py);
        let step = given::step(py, intern!(py, "failure"))?;
        let (error, is_lost): (Bound<'_, PyAny>, bool) = step.call1((session, error.value(py)))?.extract()?;
        let failure = if is_lost { Failure::ConnectionLost } else { Failure::Other };
        let Some(sent) = &self.sent else { return Err(awaited_again()) };
        // Whether a body that Python was writing can be sent again is checked when its task is over.
        let body = match (&sent.body, is_lost) {
            (OutgoingBody::Payload(_), true) => RequestBody::Replayable,
            (body, true) => body.state(py)?,
            (_, false) => RequestBody::Empty,
        };
        let method = self.method.to_str(py)?;
        match self.call.next(&Outcome { method, body, result: Err(failure) }) {
            Action::Retry => {
                let Some(SentRequest { body, object, .. }) = self.sent.take() else {
                    return Err(awaited_again());
                };
                self.body = CallBody::Known(body);
                let Some(object) =
                    object.filter(|_| matches!(self.body, CallBody::Known(OutgoingBody::Payload(_))))
                else {
                    return self.request(py);
                };
                // It raises the error again if the body has been read off its source.
                let step = given::step(py, intern!(py, "close_before_retry"))?;
                let coroutine = step.call1((object, error))?;
                self.await_step(py, &coroutine, CallStage::Retrying)
            }
            _ => Err(PyErr::from_value(error)),
        }
    }

    // Redirects (RFC 9110, section 15.4).

    pub(super) fn begin_redirect(
        &mut self,
        py: Python<'_>,
        redirection: Redirection,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let traces = &scope.get().traces;
        if traces.listen_to(Signal::Redirect) {
            let response = self.response.as_ref().map(|response| response.bind(py).clone());
            let args = self.traced(py, response.as_ref())?;
            if let Some(coroutine) = traces.send(py, Signal::Redirect, "send_request_redirect", args)? {
                return self.await_step(py, &coroutine, |step| CallStage::Redirecting(step, redirection));
            }
        }
        self.redirect(py, &redirection)
    }

    pub(super) fn redirect(
        &mut self,
        py: Python<'_>,
        redirection: &Redirection,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let Some(response) = self.response.take() else { return Err(awaited_again()) };
        self.history.push(response.clone_ref(py));
        let next = match redirection.action {
            Action::Follow(next) => next,
            Action::TooManyRedirects => {
                response.call_method0(py, intern!(py, "close"))?;
                let history = PyTuple::new(py, &self.history)?;
                let step = given::step(py, intern!(py, "too_many_redirects"))?;
                return Err(PyErr::from_value(step.call1((history,))?));
            }
            _ => {
                response.call_method0(py, intern!(py, "close"))?;
                let message = "Cannot follow redirect with a consumed request body. Use bytes, a seekable \
                               file-like object, or set allow_redirects=False.";
                let error = crate::http::failures::error(py, "ClientPayloadError", message)?;
                return Err(PyErr::from_value(error.into_bound(py)));
            }
        };
        if next == NextRequest::Get {
            self.method = intern!(py, "GET").clone().unbind();
            self.body = CallBody::Known(OutgoingBody::Nothing);
            self.drop_fields(py, &CONTENT_FIELDS)?;
        } else if let Some(sent) = &self.sent {
            self.body = CallBody::Known(sent.body.share(py));
        }
        // A redirect that is followed is not read.
        given::step(py, intern!(py, "release"))?.call1((&response,))?;
        let session = self.scope.get().session.clone_ref(py).into_bound(py);
        let step = given::step(py, intern!(py, "redirect_target"))?;
        let base = self.target.get().url.bind(py).clone();
        // A Location may be a fragment alone.
        let base = match &self.params {
            Some(params) => base.call_method1(intern!(py, "extend_query"), (params,))?,
            None => base,
        };
        let (url, same_origin): (Bound<'_, PyAny>, bool) =
            step.call1((&session, base, &redirection.location))?.extract()?;
        if Call::credentials(same_origin) == Credentials::Drop {
            self.auth = None;
            self.cookies = None;
            self.drop_fields(py, &CREDENTIAL_FIELDS)?;
        }
        self.target = SessionBase::make_target(&session, &url, self.ssl.as_ref(), true)?;
        self.params = None;
        // Until here a failure closes its payload.
        self.sent = None;
        self.request(py)
    }

    pub(super) fn drop_fields(&mut self, py: Python<'_>, names: &[&str]) -> PyResult<()> {
        let scope = self.scope.clone_ref(py);
        let fields = self.fields.get_or_insert_with(|| scope.get().config.call_fields());
        names.iter().try_for_each(|name| fields.remove(py, name))
    }

    // The response is the user's.

    /// Closes the payload of the last request; then the status is checked.
    pub(super) fn close_body(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let payload = self.sent.as_ref().and_then(SentRequest::open_payload);
        match payload {
            None => self.check_status(py),
            Some(payload) => {
                let coroutine = payload.call_method0(py, intern!(py, "close"))?;
                self.await_step(py, coroutine.bind(py), CallStage::Closing)
            }
        }
    }

    pub(super) fn check_status(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let Some(response) = &self.response else { return Err(awaited_again()) };
        // Before the check: the error for the status has it. A middleware may give a response that it has from another call.
        if !self.history.is_empty() || self.middlewares.is_some() {
            let history = PyTuple::new(py, &self.history)?;
            response.setattr(py, intern!(py, "_history"), history)?;
        }
        if let Some(check) = &self.status_check {
            let coroutine = check.call1(py, (response,))?;
            return self.await_step(py, coroutine.bind(py), CallStage::Checking);
        }
        if self.raises {
            response.call_method0(py, intern!(py, "raise_for_status"))?;
        }
        self.end(py)
    }

    pub(super) fn end(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let Some(response) = &self.response else { return Err(awaited_again()) };
        let scope = self.scope.clone_ref(py);
        let traces = &scope.get().traces;
        if traces.listen_to(Signal::RequestEnd) {
            let response = response.bind(py).clone();
            let args = self.traced(py, Some(&response))?;
            if let Some(coroutine) = traces.send(py, Signal::RequestEnd, "send_request_end", args)? {
                return self.await_step(py, &coroutine, CallStage::Ending);
            }
        }
        self.deliver(py)
    }

    pub(super) fn deliver(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        self.finish_upload(py)?;
        let Some(response) = self.response.take() else { return Err(awaited_again()) };
        Ok(Poll::Ready(response))
    }

    pub(super) fn finish_upload(&self, py: Python<'_>) -> PyResult<()> {
        match &self.scope.get().tracker {
            Some(tracker) => tracker.call_method0(py, intern!(py, "_finish")).map(drop),
            None => Ok(()),
        }
    }

    // It has failed.

    /// Cleans up after `error`, and fails with it.
    pub(super) fn fail(&mut self, py: Python<'_>, error: PyErr) -> PyResult<Poll<Py<PyAny>>> {
        if std::mem::replace(&mut self.failing, true) {
            // An error of the clean-up takes the place of the first one, as in an `except` clause.
            self.finish_upload(py)?;
            return Err(error);
        }
        self.close_response(py)?;
        let scope = self.scope.clone_ref(py);
        let traces = &scope.get().traces;
        let payload =
            self.sent.take().and_then(|sent| sent.open_payload().map(|payload| payload.clone_ref(py)));
        let signal = if traces.listen_to(Signal::Exception) {
            let value = error.value(py).clone().into_any();
            match self.traced(py, Some(&value)) {
                Ok(args) => traces.send(py, Signal::Exception, "send_request_exception", args)?,
                // The URL is what it has failed by.
                Err(_) => None,
            }
        } else {
            None
        };
        if payload.is_none() && signal.is_none() {
            self.finish_upload(py)?;
            return Err(error);
        }
        let step = given::step(py, intern!(py, "clean_up"))?;
        let coroutine = step.call1((payload, signal, &scope.get().tracker))?;
        let error = error.into_value(py).into_any();
        self.await_step(py, &coroutine, |step| CallStage::Failing(step, error))
    }
}

impl SentRequest {
    /// The payload, which is to be closed.
    pub(super) const fn open_payload(&self) -> Option<&Py<PyAny>> {
        match &self.body {
            OutgoingBody::Payload(payload) => Some(payload),
            OutgoingBody::Nothing | OutgoingBody::Bytes { .. } => None,
        }
    }
}

/// Of a response: what the policy has to know, where it leads, and whether it sets cookies.
fn answer_of(response: &Bound<'_, PyAny>) -> PyResult<(Answer, Option<Py<PyString>>, bool)> {
    let py = response.py();
    if let Ok(base) = response.cast::<ResponseBase>()
        && let Some(head) = base.get().head(py)
    {
        // As a program sees them, for a redirect only.
        let location = if head.status / 100 == 3 {
            let named = |name| head.fields.get(name).filter(|value| !value.is_empty());
            let value = named("location").or_else(|| named("uri"));
            let text = value.map(|value| crate::http::h1::head::text(py, value)).transpose()?;
            text.map(|text| text.cast_into::<PyString>().map(Bound::unbind)).transpose()?
        } else {
            None
        };
        let answer = Answer { status: head.status, has_location: location.is_some() };
        return Ok((answer, location, head.fields.get("set-cookie").is_some()));
    }
    // A response that a middleware has made.
    let (status, location, sets_cookies) = given::step(py, intern!(py, "answer_of"))?
        .call1((response,))?
        .extract::<(u16, Option<Py<PyString>>, bool)>()?;
    Ok((Answer { status, has_location: location.is_some() }, location, sets_cookies))
}
