//! The next request of a call: what it is made of, and where it is sent through.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::http::client::call_scope::CallScope;
use crate::http::client::environment::{self, EnvironmentSnapshot};
use crate::http::client::fields::RequestFields;
use crate::http::client::handle::RequestHandle;
use crate::http::client::hop::{Hop, RequestHandler};
use crate::http::client::options::RareOptions;
use crate::http::client::outgoing_body::OutgoingBody;
use crate::http::client::request::{RequestBase, lower_case_names};
use crate::http::client::request_data::{ProxyOptions, RequestData};
use crate::http::client::session::SessionConfig;
use crate::http::client::step::Poll;
use crate::http::client::target::RequestTarget;
use crate::http::given;

use super::{ActiveCall, CallBody, CallStage};

/// The credentials for a host in the user's netrc, its proxy of the environment, and the credentials for that.
type Environment = (Option<Py<PyAny>>, Option<Py<PyAny>>, Option<Py<PyAny>>);

impl ActiveCall {
    /// Begins a request, once proxies and passwords of the environment are known.
    pub(super) fn request(&mut self, py: Python<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let config = &scope.get().config;
        if !config.trust_env || environment::is_silent(py)? {
            return self.request_with(py, None);
        }
        let rare = self.rare.as_ref();
        let wants_proxy = rare.is_none_or(|rare| rare.proxy.is_none()) && config.proxy.is_none();
        let step = given::step(py, intern!(py, "environment"))?;
        let found = step.call1((&self.target.get().url, wants_proxy))?;
        if found.is_instance_of::<PyTuple>() {
            return self.request_with(py, Some(&found));
        }
        if let Ok(snapshot) = found.cast::<EnvironmentSnapshot>() {
            environment::set_silent(snapshot.clone().unbind());
            return self.request_with(py, None);
        }
        self.await_step(py, &found, CallStage::LookingUp)
    }

    /// Begins a request; `environment` has the credentials for its host, and its proxy with the credentials for that.
    pub(super) fn request_with(
        &mut self,
        py: Python<'_>,
        environment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let scope = self.scope.clone_ref(py);
        let mut request = self.make_request(py, &scope, environment)?;
        let Some(middlewares) = &self.middlewares else {
            return self.send(py, Hop::new(scope, request));
        };
        let object = request.object(py, &scope)?;
        let handler = Bound::new(py, RequestHandler::new(scope.clone_ref(py)))?;
        let step = given::step(py, intern!(py, "through_middlewares"))?;
        let awaitable = step.call1((handler, middlewares, object))?;
        self.await_step(py, &awaitable, |step| CallStage::InMiddlewares(step, request))
    }

    pub(super) fn make_request(
        &mut self,
        py: Python<'_>,
        scope: &Py<CallScope>,
        environment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<RequestHandle> {
        let config = &scope.get().config;
        let (netrc, env_proxy, env_proxy_auth): Environment = match environment {
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
        match &self.fields {
            // The usual case: what is to be added is known.
            None if data.skipped.len() == config.skipped.len() => {
                data.set_fields(py, RequestFields::Lines(config.all_fields.roomy_clone()))?;
            }
            None => {
                data.set_fields(py, config.call_fields())?;
                data.add_automatic(py, &config.automatic)?;
            }
            Some(fields) => {
                data.set_fields(py, fields.copy(py)?)?;
                data.add_automatic(py, &config.automatic)?;
            }
        }
        self.add_cookies(py, scope, &mut data)?;
        let rare = self.rare.as_deref();
        let body = match &self.body {
            CallBody::Data(value) => {
                // The truth of a value of a program's own may be an error, so it is evaluated only where it counts.
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

    pub(super) fn compress(
        &self,
        py: Python<'_>,
        data: &mut RequestData,
        body: &OutgoingBody,
    ) -> PyResult<()> {
        let Some(compress) = self.rare.as_ref().and_then(|rare| rare.compress.as_ref()) else {
            return Ok(());
        };
        let is_empty = match body {
            OutgoingBody::Nothing => true,
            OutgoingBody::Bytes { data, .. } => data.as_bytes(py).is_empty(),
            OutgoingBody::Payload(_) => false,
        };
        data.set_compression(py, Some(compress.bind(py)), is_empty)
    }

    pub(super) fn add_cookies(
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
    pub(super) fn credentials(
        &mut self,
        py: Python<'_>,
        config: &SessionConfig,
        netrc: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let redirected = self.call.followed() > 0;
        let mut of_url = self.target.get().auth.as_ref();
        // A field that the program has set is not replaced by what a server's Location says.
        if redirected && of_url.is_some() && self.has_authorization(py, config)? {
            of_url = None;
        }
        if self.auth.is_some() && of_url.is_some() && !redirected {
            return Err(PyValueError::new_err(
                "Cannot combine AUTH argument with credentials encoded in URL",
            ));
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
        if self.auth.is_some() && self.has_authorization(py, config)? {
            return Err(PyValueError::new_err(
                "Cannot combine AUTHORIZATION header with AUTH argument or credentials encoded in URL",
            ));
        }
        Ok(self.auth.as_ref().map(|auth| auth.clone_ref(py)))
    }

    /// Whether the program has set the Authorization field.
    fn has_authorization(&self, py: Python<'_>, config: &SessionConfig) -> PyResult<bool> {
        match &self.fields {
            Some(fields) => fields.contains(py, "Authorization"),
            None => Ok(config.fields.contains(b"Authorization")),
        }
    }

    /// The proxy that the call or the session names.
    pub(super) fn proxy(&self, py: Python<'_>, config: &SessionConfig) -> PyResult<Option<ProxyOptions>> {
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

    pub(super) fn checked_proxy(&self, py: Python<'_>, proxy: ProxyOptions) -> PyResult<ProxyOptions> {
        given::step(py, intern!(py, "check_proxy"))?.call1((&proxy.url, &proxy.auth))?;
        Ok(proxy)
    }

    /// Makes the request by the constructor of its class.
    pub(super) fn construct(
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
        let cookies =
            given::step(py, intern!(py, "cookies_for"))?.call1((&config.cookie_jar, url, &self.cookies))?;
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
        let options = PyDict::new(py);
        options.set_item(intern!(py, "params"), &self.params)?;
        options.set_item(intern!(py, "headers"), headers)?;
        options.set_item(intern!(py, "skipped"), skipped)?;
        options.set_item(intern!(py, "own_skipped"), &rare.skip_auto_headers)?;
        options.set_item(intern!(py, "data"), data)?;
        options.set_item(intern!(py, "cookies"), cookies)?;
        options.set_item(intern!(py, "auth"), auth)?;
        options.set_item(intern!(py, "compress"), &rare.compress)?;
        options.set_item(intern!(py, "chunked"), rare.chunked)?;
        options.set_item(intern!(py, "expect100"), rare.expect100)?;
        options.set_item(intern!(py, "proxy"), proxy)?;
        options.set_item(intern!(py, "proxy_auth"), proxy_auth)?;
        options.set_item(intern!(py, "proxy_headers"), proxy_headers)?;
        options.set_item(intern!(py, "ssl"), &self.ssl)?;
        options.set_item(intern!(py, "server_hostname"), &rare.server_hostname)?;
        options.set_item(intern!(py, "traces"), traces.list(py))?;
        options.set_item(intern!(py, "trust_env"), config.trust_env)?;
        let step = given::step(py, intern!(py, "construct"))?;
        let request = step.call((session, &config.request_class, &self.method, url), Some(&options))?;
        let request = request.cast_into::<RequestBase>()?;
        request.get().set_scope(py, scope.clone_ref(py));
        Ok(RequestHandle::Object(request.unbind()))
    }
}
