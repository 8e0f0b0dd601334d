//! The beginning of a call: its options, and the receivers of its signals.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use whorl_core::client::call::{Call, RaiseForStatus, Timeout};

use crate::event_loop::clock;
use crate::http::client::call_scope::{CallScope, Signal, Traces};
use crate::http::client::fields::{RequestFields, pairs};
use crate::http::client::options::{CallOptions, RareOptions};
use crate::http::client::outgoing_body::OutgoingBody;
use crate::http::client::session::{SessionBase, SessionConfig};
use crate::http::client::step::Poll;
use crate::http::client::target::with_params;
use crate::http::finish::runs_here;
use crate::http::given;

use super::context::CallArgs;
use super::{ActiveCall, CallBody, CallStage};

impl ActiveCall {
    /// Begins a call.
    pub(super) fn begin(py: Python<'_>, args: &CallArgs) -> PyResult<Self> {
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

    pub(super) fn begin_with(
        py: Python<'_>,
        args: &CallArgs,
        tracker: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let session = args.session.bind(py);
        if session.get().is_closed() {
            return Err(PyRuntimeError::new_err("Session is closed"));
        }
        let config = SessionBase::config(session)?;
        if !runs_here(config.event_loop.bind(py))? {
            given::step(py, intern!(py, "check_session"))?.call1((session,))?;
        }
        let keywords = args.keywords.as_ref().map(|keywords| keywords.bind(py));
        let options = CallOptions::read(session.as_any(), &config, args.follows, keywords)?;
        // Its connector may be closed by itself.
        let closed = match &config.pool {
            Some(pool) => pool.get().is_closed()?,
            None => session.getattr(intern!(py, "closed"))?.is_truthy()?,
        };
        if closed {
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
            total: Timeout::new(options.timeouts.total, began),
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
        let mut policy = options.policy;
        if middlewares.is_some() && policy.raises_for_status == RaiseForStatus::Errors {
            // The response may be a middleware's own, of any class.
            policy.raises_for_status = RaiseForStatus::Always;
        }
        Ok(Self {
            scope: Py::new(py, scope)?,
            stage: None,
            call: Call::new(policy),
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

    pub(super) fn traces(
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

    pub(super) fn start(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
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
    pub(super) fn traced<'py>(
        &mut self,
        py: Python<'py>,
        more: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let url = self.target.get().url.bind(py);
        let url = match &self.params {
            Some(params) => with_params(url, intern!(py, "update_query"), params.bind(py))?,
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
}
