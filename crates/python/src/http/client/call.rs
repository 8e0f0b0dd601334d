//! A call of `session.request()`, from the first request to the response that is the user's, without a coroutine.
//!
//! The policy is the core's ([`whorl_core::client::call`]); [`Hop`] sends one request. A step that is a program's own is
//! awaited in between: receivers of signals, the environment's files, middlewares, a status check, the end of a payload.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::call::{
    Action, Answer, Call, Credentials, Failure, Outcome, TotalTimeout,
};
use whorl_core::client::redirect::{CONTENT_FIELDS, CREDENTIAL_FIELDS, NextRequest, RequestBody};
use whorl_core::sched::assert_nothing_open;

use super::call_scope::{CallScope, Signal, Traces};
use super::fields::{RequestFields, pairs};
use super::handle::RequestHandle;
use super::hop::{Hop, RequestHandler, awaited_again, thrown};
use super::options::{CallOptions, RareOptions, check_names};
use super::outgoing_body::OutgoingBody;
use super::ready::{Ready, stop_iteration};
use super::request::{RequestBase, lower_case_names};
use super::request_data::{ProxyOptions, RequestData};
use super::response::ResponseBase;
use super::session::{SessionBase, SessionConfig};
use super::step::{Poll, Step};
use super::target::RequestTarget;
use crate::event_loop::clock;
use crate::http::finish::finish_on;
use crate::http::given;
use crate::interpreter::{CloneWith, Collector, Guarded};

/// What a call does at the moment.
#[derive(Debug)]
enum CallStage {
    /// The receivers are being told that it begins.
    Starting(Step),
    /// Proxies and passwords are being read off a file.
    LookingUp(Step),
    /// A request is on its way.
    Sending(Hop),
    /// A request is on its way through the middlewares.
    InMiddlewares(Step, RequestHandle),
    /// A request that is sent again is being closed.
    Retrying(Step),
    /// The receivers are being told of a redirect.
    Redirecting(Step, Redirection),
    /// The payload of the last request is being closed.
    Closing(Step),
    /// The program decides about the status.
    Checking(Step),
    /// The receivers are being told that it has ended.
    Ending(Step),
    /// It has failed with this error, and cleans up.
    Failing(Step, Py<PyAny>),
}

/// A redirect that is to be followed or refused.
#[derive(Debug)]
struct Redirection {
    action: Action,
    location: Py<PyString>,
}

/// Where a call stands.
#[derive(Debug)]
enum CallState {
    /// It was not awaited.
    New,
    /// It is on its way.
    Active(Box<ActiveCall>),
    /// A step of it runs at the moment.
    Running,
    /// It is over.
    Over,
}

/// The arguments of the user's call.
#[derive(Debug)]
struct CallArgs {
    session: Py<SessionBase>,
    /// In capitals.
    method: Py<PyString>,
    url: Py<PyAny>,
    follows: bool,
    keywords: Option<Py<PyDict>>,
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
    /// The body of the last request, and its method.
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
    method: Py<PyString>,
    body: OutgoingBody,
    /// The request as an object, if it is one: it may have a task that writes its body.
    object: Option<Py<RequestBase>>,
}

/// The result of a request: to be awaited, or entered with `async with`.
#[pyclass(frozen, weakref, name = "_RequestContextManager", module = "whorl._core")]
#[derive(Debug)]
pub struct RequestContext {
    args: CallArgs,
    state: Guarded<CallState>,
    response: Guarded<Option<Py<PyAny>>>,
    /// Whether the response class overrides what ends the context.
    release_is_overridden: AtomicBool,
}

impl ActiveCall {
    /// Begins a call.
    fn begin(py: Python<'_>, args: &CallArgs) -> PyResult<Self> {
        // What follows an upload learns of a call that does not begin, too.
        let tracker = match &args.keywords {
            Some(keywords) => keywords.bind(py).get_item(intern!(py, "upload_tracker"))?,
            None => None,
        };
        let Some(tracker) = tracker.filter(|tracker| !tracker.is_none()) else {
            return Self::begin_with(py, args, None);
        };
        tracker.call_method0(intern!(py, "_bind"))?;
        Self::begin_with(py, args, Some(&tracker)).inspect_err(|_| {
            let _kept = tracker.call_method0(intern!(py, "_finish"));
        })
    }

    fn begin_with(py: Python<'_>, args: &CallArgs, tracker: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let session = args.session.bind(py);
        if session.get().is_closed() {
            return Err(PyRuntimeError::new_err("Session is closed"));
        }
        let config = SessionBase::config(session)?;
        let keywords = args.keywords.as_ref().map(|keywords| keywords.bind(py));
        let options = CallOptions::read(session.as_any(), &config, args.follows, keywords)?;
        if config.pool.is_none() && session.getattr(intern!(py, "closed"))?.is_truthy()? {
            return Err(PyRuntimeError::new_err("Session is closed"));
        }
        let CallOptions { params, headers, data, json, mut rare, .. } = options;
        let target = SessionBase::target(session, &config, args.url.bind(py), options.ssl.as_ref())?;
        let fields = if config.overrides.headers {
            let prepared = session.call_method1(intern!(py, "_prepare_headers"), (headers,))?;
            Some(RequestFields::Dict(prepared.unbind()))
        } else if let Some(headers) = headers.filter(|headers| headers.bind(py).is_truthy().unwrap_or(true)) {
            let mut fields = config.call_fields();
            fields.merge(py, &pairs(headers.bind(py))?)?;
            Some(fields)
        } else {
            None
        };
        let traces = Self::traces(py, session, &config, rare.as_deref_mut())?;
        let began = clock::now_on(config.event_loop.bind(py))?;
        let scope = CallScope {
            config: std::sync::Arc::clone(&config),
            session: args.session.clone_ref(py),
            response: options.response,
            parsing: options.parsing,
            timeouts: options.timeouts,
            timeout: options.timeout,
            total: TotalTimeout::new(options.timeouts.total, began),
            traces,
            tracker: tracker.map(|tracker| tracker.clone().unbind()),
        };
        let body = match (data, json) {
            (Some(data), _) => CallBody::Data(data),
            (None, Some(json)) => CallBody::Json(json),
            (None, None) => CallBody::Known(OutgoingBody::Nothing),
        };
        let middlewares = match rare.as_mut().and_then(|rare| rare.middlewares.take()) {
            Some(middlewares) => middlewares.bind(py).is_truthy()?.then_some(middlewares),
            None => config.middlewares.as_ref().map(|middlewares| middlewares.clone_ref(py)),
        };
        Ok(Self {
            scope: Py::new(py, scope)?,
            stage: None,
            call: Call::new(options.policy),
            method: args.method.clone_ref(py),
            target,
            params,
            fields,
            body,
            auth: rare.as_mut().and_then(|rare| rare.auth.take()),
            cookies: rare.as_mut().and_then(|rare| rare.cookies.take()),
            ssl: options.ssl,
            status_check: options.status_check,
            middlewares,
            rare,
            history: Vec::new(),
            response: None,
            sent: None,
            raises: false,
            failing: false,
        })
    }

    fn traces(
        py: Python<'_>,
        session: &Bound<'_, SessionBase>,
        config: &SessionConfig,
        rare: Option<&mut RareOptions>,
    ) -> PyResult<Traces> {
        if !config.is_traced() {
            return Ok(Traces::default());
        }
        let context = rare.and_then(|rare| rare.trace_request_ctx.take());
        let list = given::step(py, intern!(py, "make_traces"))?.call1((session, context))?;
        Ok(Traces::new(list.cast_into()?.unbind(), config.signals))
    }

    // Its steps.

    /// Continues it, or raises `thrown` where it waits, until it waits for a future or is over.
    fn resume(&mut self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Poll<Py<PyAny>>> {
        let outcome = match (self.stage.take(), thrown) {
            (None, Some(error)) => Err(error),
            (None, None) => self.start(py),
            (Some(stage), thrown) => self.resume_stage(py, stage, thrown),
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
            CallStage::Sending(mut hop) => match hop.resume(py, thrown) {
                Ok(Poll::Ready(response)) => self.answered(py, &mut hop.request, response),
                Ok(waiting) => {
                    self.stage = Some(CallStage::Sending(hop));
                    Ok(waiting)
                }
                Err(error) => self.lost(py, &mut hop.request, error),
            },
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

    /// Awaits a user's coroutine, as `stage`.
    fn await_step(
        &mut self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
        stage: impl FnOnce(Step) -> CallStage,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let stage = stage(Step::new(coroutine)?);
        self.resume_stage(py, stage, None)
    }

    fn start(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let traces = &scope.get().traces;
        if traces.listen_to(Signal::RequestStart) {
            let args = self.traced(py, None)?;
            let coroutine = given::step(py, intern!(py, "start_traces"))?.call1((traces.list(py), args))?;
            return self.await_step(py, &coroutine, CallStage::Starting);
        }
        self.request(py)
    }

    /// The arguments of a signal about the request: method, URL, header fields, and one more.
    fn traced<'py>(&mut self, py: Python<'py>, more: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyTuple>> {
        let url = self.target.get().url.bind(py);
        let url = match &self.params {
            Some(params) => url.call_method1(intern!(py, "update_query"), (params,))?,
            None => url.clone(),
        };
        let scope = self.scope.clone_ref(py);
        let fields = self.fields.get_or_insert_with(|| scope.get().config.call_fields());
        let headers = fields.dict(py)?;
        match more {
            Some(more) => (&self.method, url, headers, more).into_pyobject(py),
            None => (&self.method, url, headers).into_pyobject(py),
        }
    }

    // A request.

    /// Begins a request, once proxies and passwords of the environment are known.
    fn request(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let config = &scope.get().config;
        if !config.trust_env {
            return self.request_with(py, None);
        }
        let rare = self.rare.as_ref();
        let wants_proxy = rare.is_none_or(|rare| rare.proxy.is_none()) && config.proxy.is_none();
        let step = given::step(py, intern!(py, "environment"))?;
        let found = step.call1((&self.target.get().url, wants_proxy))?;
        if found.is_instance_of::<PyTuple>() {
            return self.request_with(py, Some(&found));
        }
        self.await_step(py, &found, CallStage::LookingUp)
    }

    /// Begins a request; `environment` has the credentials for its host, and its proxy with the credentials for that.
    fn request_with(
        &mut self,
        py: Python<'_>,
        environment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let mut request = self.make_request(py, &scope, environment)?;
        let Some(middlewares) = &self.middlewares else {
            return self.resume_stage(py, CallStage::Sending(Hop::new(scope, request)), None);
        };
        let object = request.object(py, &scope)?;
        let handler = Bound::new(py, RequestHandler::new(scope.clone_ref(py)))?;
        let step = given::step(py, intern!(py, "through_middlewares"))?;
        let awaitable = step.call1((handler, middlewares, object))?;
        self.await_step(py, &awaitable, |step| CallStage::InMiddlewares(step, request))
    }

    fn make_request(
        &mut self,
        py: Python<'_>,
        scope: &Py<CallScope>,
        environment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<RequestHandle> {
        let config = &scope.get().config;
        let (netrc, env_proxy, env_proxy_auth): (Option<Py<PyAny>>, Option<Py<PyAny>>, Option<Py<PyAny>>) =
            match environment {
                Some(found) => found.extract()?,
                None => (None, None, None),
            };
        let auth = self.credentials(py, config, netrc)?;
        let mut proxy = self.proxy(py, config)?;
        if proxy.is_none()
            && let Some(url) = env_proxy
        {
            proxy = Some(ProxyOptions { url, auth: env_proxy_auth, headers: None });
        }
        if config.overrides.request {
            return self.construct(py, scope, auth.as_ref(), proxy);
        }
        let target = match &self.params {
            Some(params) => RequestTarget::extended(self.target.bind(py), params.bind(py))?,
            None => self.target.clone_ref(py),
        };
        let mut data = Box::new(RequestData::new(py, self.method.clone_ref(py), target));
        data.version = config.version;
        data.skipped.clone_from(&config.skipped);
        data.ssl = self.ssl.as_ref().map(|ssl| ssl.clone_ref(py));
        let rare = self.rare.as_deref();
        if let Some(rare) = rare {
            data.chunked = rare.chunked;
            data.server_hostname = rare.server_hostname.as_ref().map(|name| name.clone_ref(py));
            if let Some(names) = &rare.skip_auto_headers {
                data.skipped.extend(lower_case_names(names.bind(py))?);
            }
        }
        let fields = match &self.fields {
            Some(fields) => fields.copy(py)?,
            None => config.call_fields(),
        };
        data.set_fields(py, fields)?;
        data.add_automatic(py, &config.automatic)?;
        self.add_cookies(py, scope, &mut data)?;
        let rare = self.rare.as_deref();
        let body = match &self.body {
            CallBody::Data(value) => {
                // The truth of a value of a program's own may be an error, so it is asked only where it counts.
                if let Some(compress) = rare.and_then(|rare| rare.compress.as_ref()) {
                    let is_empty = !value.bind(py).is_truthy()?;
                    data.set_compression(py, Some(compress.bind(py)), is_empty)?;
                }
                OutgoingBody::of_data(value.bind(py))?
            }
            CallBody::Json(value) => {
                let body = OutgoingBody::of_json(config.json_serialize.bind(py), value.bind(py))?;
                self.compress(py, &mut data, &body)?;
                body
            }
            CallBody::Known(body) => {
                let body = body.share(py);
                self.compress(py, &mut data, &body)?;
                body
            }
        };
        if let Some(auth) = &auth {
            given::step(py, intern!(py, "check_auth"))?.call1((auth,))?;
            data.set_auth(auth.bind(py))?;
        }
        if let Some(proxy) = proxy {
            data.proxy = Some(Box::new(self.checked_proxy(py, proxy)?));
        }
        // JSON is not serialised again, and a payload is not made again: a value may be another one by the next request.
        self.body = CallBody::Known(body.share(py));
        data.set_body(py, body)?;
        data.set_expect(py, self.rare.as_ref().is_some_and(|rare| rare.expect100))?;
        let request = RequestHandle::Plain(data);
        Ok(request)
    }

    fn compress(&self, py: Python<'_>, data: &mut RequestData, body: &OutgoingBody) -> PyResult<()> {
        let Some(compress) = self.rare.as_ref().and_then(|rare| rare.compress.as_ref()) else { return Ok(()) };
        let is_empty = match body {
            OutgoingBody::Nothing => true,
            OutgoingBody::Bytes { data, .. } => data.as_bytes(py).is_empty(),
            OutgoingBody::Payload(_) => false,
        };
        data.set_compression(py, Some(compress.bind(py)), is_empty)
    }

    fn add_cookies(
        &self,
        py: Python<'_>,
        scope: &Py<CallScope>,
        data: &mut RequestData,
    ) -> PyResult<()> {
        let config = &scope.get().config;
        let url = self.target.get().url.bind(py);
        let present = data.fields.get(py, "Cookie")?;
        let cookies = if self.cookies.is_none() && present.is_none() && !config.overrides.cookies {
            config.cookies_for(url)?
        } else {
            let present = present.map(|present| String::from_utf8_lossy(&present).into_owned());
            let step = given::step(py, intern!(py, "cookie_field"))?;
            step.call1((&config.cookie_jar, url, &self.cookies, present))?.extract()?
        };
        match cookies {
            Some(cookies) => data.set_cookies(py, &cookies),
            None => Ok(()),
        }
    }

    /// The credentials of the next request: the call's, the URL's, the session's, or those of the user's netrc.
    fn credentials(
        &mut self,
        py: Python<'_>,
        config: &SessionConfig,
        netrc: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let of_url = self.target.get().auth.as_ref();
        let redirected = self.call.followed() > 0;
        if self.auth.is_some() && of_url.is_some() && !redirected {
            return Err(PyValueError::new_err("Cannot combine AUTH argument with credentials encoded in URL"));
        }
        if let Some(of_url) = of_url
            && (self.auth.is_none() || redirected)
        {
            self.auth = Some(of_url.clone_ref(py));
        }
        if self.auth.is_none()
            && let Some(auth) = &config.auth
        {
            let in_scope = match &config.base_origin {
                None => true,
                Some(base) => {
                    let origin = self.target.get().url.bind(py).call_method0(intern!(py, "origin"))?;
                    base.bind(py).eq(origin)?
                }
            };
            if in_scope {
                self.auth = Some(auth.clone_ref(py));
            }
        }
        if self.auth.is_none() {
            self.auth = netrc;
        }
        let has_field = match (&self.auth, &self.fields) {
            (None, _) => false,
            (Some(_), Some(fields)) => fields.contains(py, "Authorization")?,
            (Some(_), None) => config.fields.contains(b"Authorization"),
        };
        if has_field {
            return Err(PyValueError::new_err(
                "Cannot combine AUTHORIZATION header with AUTH argument or credentials encoded in URL",
            ));
        }
        Ok(self.auth.as_ref().map(|auth| auth.clone_ref(py)))
    }

    /// The proxy that the call or the session names.
    fn proxy(&self, py: Python<'_>, config: &SessionConfig) -> PyResult<Option<ProxyOptions>> {
        let rare = self.rare.as_deref();
        let url = rare.and_then(|rare| rare.proxy.as_ref()).or(config.proxy.as_ref());
        let Some(url) = url else { return Ok(None) };
        let auth = rare.and_then(|rare| rare.proxy_auth.as_ref()).or(config.proxy_auth.as_ref());
        let own = rare.and_then(|rare| rare.proxy_headers.as_ref());
        let step = given::step(py, intern!(py, "headers_for_proxy"))?;
        let headers = step.call1((&self.scope.get().session, own))?;
        Ok(Some(ProxyOptions {
            url: given::step(py, intern!(py, "proxy_url"))?.call1((url,))?.unbind(),
            auth: auth.map(|auth| auth.clone_ref(py)),
            headers: Some(headers.unbind()),
        }))
    }

    fn checked_proxy(&self, py: Python<'_>, proxy: ProxyOptions) -> PyResult<ProxyOptions> {
        given::step(py, intern!(py, "check_proxy"))?.call1((&proxy.url, &proxy.auth))?;
        Ok(proxy)
    }

    /// Makes the request by the constructor of its class.
    fn construct(
        &mut self,
        py: Python<'_>,
        scope: &Py<CallScope>,
        auth: Option<&Py<PyAny>>,
        proxy: Option<ProxyOptions>,
    ) -> PyResult<RequestHandle> {
        let CallScope { config, session, traces, .. } = scope.get();
        let fields = self.fields.get_or_insert_with(|| config.call_fields());
        let headers = fields.dict(py)?;
        let url = &self.target.get().url;
        let cookies = given::step(py, intern!(py, "cookies_for"))?.call1((
            &config.cookie_jar,
            url,
            &self.cookies,
        ))?;
        let data = match &mut self.body {
            CallBody::Data(data) => data.clone_ref(py),
            CallBody::Json(value) => {
                let mut body = OutgoingBody::of_json(config.json_serialize.bind(py), value.bind(py))?;
                body.payload(py)?.unwrap_or_else(|| py.None())
            }
            CallBody::Known(body) => body.payload(py)?.unwrap_or_else(|| py.None()),
        };
        let (proxy, proxy_auth, proxy_headers) = match proxy {
            Some(ProxyOptions { url, auth, headers }) => (Some(url), auth, headers),
            None => (None, None, None),
        };
        let no_options = RareOptions::default();
        let rare = self.rare.as_deref().unwrap_or(&no_options);
        let skipped: Vec<String> =
            config.skipped.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let request = given::step(py, intern!(py, "construct"))?.call1((
            (session, &config.request_class, &self.method, url, &self.params),
            (headers, skipped, &rare.skip_auto_headers, data, cookies, auth),
            (&rare.compress, rare.chunked, rare.expect100),
            (proxy, proxy_auth, proxy_headers),
            (&self.ssl, &rare.server_hostname, traces.list(py), config.trust_env),
        ))?;
        let request = request.cast_into::<RequestBase>()?;
        request.get().set_scope(py, scope.clone_ref(py));
        Ok(RequestHandle::Object(request.unbind()))
    }

    // Its end.

    /// Notes what is needed of a request that has ended.
    fn note_sent(&mut self, py: Python<'_>, request: &mut RequestHandle) -> PyResult<()> {
        let object = match &*request {
            RequestHandle::Object(object) => Some(object.clone_ref(py)),
            RequestHandle::Plain(_) => None,
        };
        self.sent = Some(SentRequest { method: request.method(py)?, body: request.body(py)?, object });
        Ok(())
    }

    /// A request has its response.
    fn answered(
        &mut self,
        py: Python<'_>,
        request: &mut RequestHandle,
        response: Py<PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        self.note_sent(py, request)?;
        self.response = Some(response.clone_ref(py));
        let response = response.bind(py);
        let (answer, location, sets_cookies) = answer_of(response)?;
        if sets_cookies {
            response.call_method0(intern!(py, "_keep_cookies"))?;
        }
        let Some(sent) = &self.sent else { return Err(awaited_again()) };
        let method = sent.method.bind(py);
        let is_redirect = answer.has_location && answer.status / 100 == 3;
        let body = if is_redirect { sent.body.state(py)? } else { RequestBody::Empty };
        let action = self.call.next(&Outcome { method: method.to_str()?, body, result: Ok(answer) });
        match (action, location) {
            (Action::Follow(_) | Action::TooManyRedirects | Action::BodyConsumed, Some(location)) => {
                self.begin_redirect(py, Redirection { action, location })
            }
            (action, _) => {
                self.raises = action == Action::RaiseForStatus;
                self.close_body(py)
            }
        }
    }

    /// A request has failed.
    fn lost(
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
        // A body that Python was writing has to be asked when its task is over.
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
                let Some(object) = object.filter(|_| matches!(self.body, CallBody::Known(OutgoingBody::Payload(_))))
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

    fn begin_redirect(
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

    fn redirect(&mut self, py: Python<'_>, redirection: &Redirection) -> PyResult<Poll<Py<PyAny>>> {
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
        given::step(py, intern!(py, "let_go"))?.call1((&response,))?;
        let session = self.scope.get().session.clone_ref(py).into_bound(py);
        let step = given::step(py, intern!(py, "redirect_target"))?;
        let (url, same_origin): (Bound<'_, PyAny>, bool) =
            step.call1((&session, &self.target.get().url, &redirection.location))?.extract()?;
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

    fn drop_fields(&mut self, py: Python<'_>, names: &[&str]) -> PyResult<()> {
        let scope = self.scope.clone_ref(py);
        let fields = self.fields.get_or_insert_with(|| scope.get().config.call_fields());
        names.iter().try_for_each(|name| fields.remove(py, name))
    }

    // The response is the user's.

    /// Closes the payload of the last request; then the status is checked.
    fn close_body(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let payload = self.sent.as_ref().and_then(SentRequest::open_payload);
        match payload {
            None => self.check_status(py),
            Some(payload) => {
                let coroutine = payload.call_method0(py, intern!(py, "close"))?;
                self.await_step(py, coroutine.bind(py), CallStage::Closing)
            }
        }
    }

    fn check_status(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let Some(response) = &self.response else { return Err(awaited_again()) };
        if let Some(check) = &self.status_check {
            let coroutine = check.call1(py, (response,))?;
            return self.await_step(py, coroutine.bind(py), CallStage::Checking);
        }
        if self.raises {
            response.call_method0(py, intern!(py, "raise_for_status"))?;
        }
        self.end(py)
    }

    fn end(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let Some(response) = &self.response else { return Err(awaited_again()) };
        if !self.history.is_empty() {
            let history = PyTuple::new(py, &self.history)?;
            response.setattr(py, intern!(py, "_history"), history)?;
        }
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

    fn deliver(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        self.finish_upload(py)?;
        let Some(response) = self.response.take() else { return Err(awaited_again()) };
        Ok(Poll::Ready(response))
    }

    fn finish_upload(&self, py: Python<'_>) -> PyResult<()> {
        match &self.scope.get().tracker {
            Some(tracker) => tracker.call_method0(py, intern!(py, "_finish")).map(drop),
            None => Ok(()),
        }
    }

    // It has failed.

    /// Cleans up after `error`, and fails with it.
    fn fail(&mut self, py: Python<'_>, error: PyErr) -> PyResult<Poll<Py<PyAny>>> {
        if std::mem::replace(&mut self.failing, true) {
            // An error of the clean-up takes the place of the first one, as in an `except` clause.
            self.finish_upload(py)?;
            return Err(error);
        }
        self.let_go(py)?;
        let scope = self.scope.clone_ref(py);
        let traces = &scope.get().traces;
        let payload = self.sent.take().and_then(|sent| sent.open_payload().map(|payload| payload.clone_ref(py)));
        let signal = if traces.listen_to(Signal::Exception) {
            let value = error.value(py).clone().into_any();
            match self.traced(py, Some(&value)) {
                Ok(args) => traces.send(py, Signal::Exception, "send_request_exception", args)?,
                // What cannot be told of the request is what it has failed by.
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

    /// Closes the response that the call will not deliver.
    fn let_go(&mut self, py: Python<'_>) -> PyResult<()> {
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
        closed.and(disposed).and(self.let_go(py)).and(self.finish_upload(py))
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

impl SentRequest {
    /// The payload, which is to be closed.
    const fn open_payload(&self) -> Option<&Py<PyAny>> {
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
        && let Some(head) = base.get().head(py)?
    {
        // As a program sees them, for a redirect only.
        let location = if head.status / 100 == 3 {
            let value = head.fields.get("location").or_else(|| head.fields.get("uri"));
            let text = value.map(|value| crate::http::h1::head::text(py, value)).transpose()?;
            text.map(|text| text.cast_into::<PyString>().map(Bound::unbind)).transpose()?
        } else {
            None
        };
        let answer = Answer { status: head.status, has_location: location.is_some() };
        return Ok((answer, location, head.fields.get("set-cookie").is_some()));
    }
    // A response that a middleware has made.
    let (status, location, sets_cookies) =
        given::step(py, intern!(py, "answer_of"))?.call1((response,))?.extract::<(u16, Option<Py<PyString>>, bool)>()?;
    Ok((Answer { status, has_location: location.is_some() }, location, sets_cookies))
}

impl RequestContext {
    fn resume(&self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Py<PyAny>> {
        let mut active = match self.state.replace(py, CallState::Running) {
            CallState::Active(active) => active,
            CallState::New => {
                if let Some(error) = thrown {
                    let _running = self.state.replace(py, CallState::Over);
                    return Err(error);
                }
                match ActiveCall::begin(py, &self.args) {
                    Ok(active) => Box::new(active),
                    Err(error) => {
                        let _running = self.state.replace(py, CallState::Over);
                        return Err(error);
                    }
                }
            }
            CallState::Running => return Err(awaited_again()),
            CallState::Over => {
                let _running = self.state.replace(py, CallState::Over);
                return Err(PyRuntimeError::new_err("cannot reuse already awaited request"));
            }
        };
        match active.resume(py, thrown) {
            Ok(Poll::Pending(future)) => {
                let _running = self.state.replace(py, CallState::Active(active));
                Ok(future)
            }
            Ok(Poll::Early) => {
                let _running = self.state.replace(py, CallState::Active(active));
                Err(awaited_again())
            }
            Ok(Poll::Ready(response)) => {
                let overrides = active.scope.get().config.overrides;
                self.release_is_overridden.store(overrides.release, Ordering::Relaxed);
                let _running = self.state.replace(py, CallState::Over);
                let kept = response.clone_ref(py);
                let _previous = self.response.replace(py, Some(kept));
                Err(stop_iteration(response))
            }
            Err(error) => {
                let _running = self.state.replace(py, CallState::Over);
                Err(error)
            }
        }
    }
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
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if let Some(options) = options {
            check_names(options)?;
        }
        let follows = allow_redirects.is_truthy()?;
        let keywords = options.map(|options| options.clone().unbind());
        Ok(Self {
            args: CallArgs { session, method, url, follows, keywords },
            state: Guarded::new(CallState::New),
            response: Guarded::new(None),
            release_is_overridden: AtomicBool::new(false),
        })
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let on_its_way =
            slf.state.peek(slf.py(), |state, _at| !matches!(state, CallState::New | CallState::Over));
        if on_its_way { Err(awaited_again()) } else { Ok(slf) }
    }

    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    const fn __aenter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py, None)
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
        match self.state.replace(py, CallState::Over) {
            CallState::Active(mut active) => active.give_up(py),
            CallState::New | CallState::Running | CallState::Over => Ok(()),
        }
    }

    #[pyo3(signature = (*exc))]
    fn __aexit__<'py>(&self, py: Python<'py>, exc: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let Some(response) = self.response.peek(py, |response, at| response.clone_with(at)) else {
            return Ok(Bound::new(py, Ready::new(py.None()))?.into_any());
        };
        let response = response.into_bound(py);
        if !self.release_is_overridden.load(Ordering::Relaxed)
            && let Ok(base) = response.cast::<ResponseBase>()
            && base.get().release_ended(py)?
        {
            return Ok(Bound::new(py, Ready::new(py.None()))?.into_any());
        }
        response.call_method1(intern!(py, "__aexit__"), exc)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.args.session)?;
        visit.call(&self.args.url)?;
        visit.call(&self.args.keywords)?;
        let visit = Collector::of(&visit);
        self.response.visit(visit, |response, visit| visit.call(response))?;
        self.state.visit(visit, |state, visit| match state {
            CallState::Active(active) => active.visit(*visit),
            CallState::New | CallState::Running | CallState::Over => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // A request on its way stays: `drop()` has to release what it holds.
        let _response = self.response.replace(py, None);
    }
}

impl Drop for RequestContext {
    /// A request whose task is gone: its response is abandoned. The collector runs on any thread.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        if let CallState::Active(active) = self.state.get_mut()
            && let Some(CallStage::Sending(hop)) = &mut active.stage
        {
            Python::attach(|py| hop.drop_in_destructor(py));
        }
    }
}
