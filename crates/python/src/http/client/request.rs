//! A request as a program sees it: the native half of `whorl.http.ClientRequest`.
//!
//! Most requests never become such an object. One is made for a middleware, a trace, a connector's method or a payload that
//! Python writes; its header fields become a `CIMultiDict` when `headers` is first read.

use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::Version;

use super::call_scope::CallScope;
use super::fields::{RequestFields, ci_multi_dict, pairs};
use super::hop::{Hop, HopAwaitable};
use super::outgoing_body::OutgoingBody;
use super::request_data::{ProxyOptions, RequestData};
use super::session::SessionBase;
use crate::http::h1::connection::HttpConnection;
use crate::http::h1::encode::utf8;
use crate::interpreter::{Attached, CloneWith, Collector, Guarded};

/// The native half of `whorl.http.ClientRequest`.
#[pyclass(frozen, subclass, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct RequestBase {
    data: Guarded<Option<Box<RequestData>>>,
    /// The call that it belongs to; none if a program has made it.
    scope: Guarded<Option<Py<CallScope>>>,
    /// A task that writes the body has the request: that must not keep a response that is dropped.
    response: Guarded<Option<Py<PyWeakrefReference>>>,
}

impl RequestBase {
    /// A request of `class`, which is not initialised: for a class that changes nothing about that.
    ///
    /// # Errors
    /// The exception of making an instance.
    pub fn make<'py>(
        class: &Bound<'py, PyAny>,
        data: Box<RequestData>,
        scope: Py<CallScope>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = class.py();
        let request = class.call_method1(intern!(py, "__new__"), (class,))?.cast_into::<Self>()?;
        let _previous = request.get().data.replace(py, Some(data));
        request.get().set_scope(py, scope);
        Ok(request)
    }

    /// Says which call it belongs to.
    pub fn set_scope(&self, py: Python<'_>, scope: Py<CallScope>) {
        let _previous = self.scope.replace(py, Some(scope));
    }

    /// Acts on the request's data, which is not there for others meanwhile.
    ///
    /// # Errors
    /// RuntimeError before `__init__()`, or where `act` has come here again; what `act` returns.
    pub fn with_data<R>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut RequestData) -> PyResult<R>,
    ) -> PyResult<R> {
        let Some(mut data) = self.data.replace(py, None) else { return Err(not_initialised()) };
        let outcome = act(&mut data);
        let _meanwhile = self.data.replace(py, Some(data));
        outcome
    }

    /// A field of the data that is copied by reference.
    fn field<'py, R: Send>(
        &self,
        py: Python<'py>,
        read: fn(&RequestData, Attached<'py>) -> R,
    ) -> PyResult<R> {
        self.data.peek(py, |data, at| data.as_deref().map(|data| read(data, at))).ok_or_else(not_initialised)
    }

    /// Notes its response.
    pub fn set_response(&self, response: &Bound<'_, PyAny>) -> PyResult<()> {
        let reference = PyWeakrefReference::new(response)?.unbind();
        let _previous = self.response.replace(response.py(), Some(reference));
        Ok(())
    }

    /// The call that it belongs to.
    ///
    /// # Errors
    /// RuntimeError for a request that no session has made.
    pub fn scope(&self, py: Python<'_>) -> PyResult<Py<CallScope>> {
        self.scope_if_any(py).ok_or_else(|| {
            PyRuntimeError::new_err(
                "the request belongs to no call of a session: have a session make it, by session.request()",
            )
        })
    }
}

impl RequestBase {
    /// The call that it belongs to, if a session has made it.
    pub fn scope_if_any(&self, py: Python<'_>) -> Option<Py<CallScope>> {
        self.scope.peek(py, |scope, at| scope.clone_with(at))
    }
}

fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("the request is not initialised: call super().__init__() first")
}

/// None for a Python None.
fn given(value: Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    (!value.is_none()).then(|| value.unbind())
}

/// The version of HTTP of a request.
///
/// # Errors
/// ValueError for another than 1.0 and 1.1.
pub fn version_of(version: (u8, u8)) -> PyResult<Version> {
    match version {
        (1, 0) => Ok(Version::Http10),
        (1, 1) => Ok(Version::Http11),
        (major, minor) => Err(PyValueError::new_err(format!(
            "the version of HTTP is {major}.{minor}: requests are sent in 1.1 or 1.0"
        ))),
    }
}

/// Names in lower case.
///
/// # Errors
/// TypeError for what is no text.
pub fn lower_case_names(names: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    names
        .try_iter()?
        .map(|name| {
            let name = name?;
            Ok(utf8(name.cast::<PyString>()?)?.to_ascii_lowercase())
        })
        .collect()
}

#[pymethods]
impl RequestBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { data: Guarded::new(None), scope: Guarded::new(None), response: Guarded::new(None) }
    }

    /// Make the request of its options: the steps that a class may override are called as methods.
    #[pyo3(signature = (method, url, bare_url, *, automatic, headers, skip_auto_headers, data, cookies, auth, version, compress,
                        chunked, expect100, proxy, proxy_auth, proxy_headers, ssl, server_hostname))]
    #[expect(clippy::too_many_arguments, reason = "a method of Python's, with keywords")]
    fn _build(
        slf: &Bound<'_, Self>,
        method: Py<PyString>,
        url: Py<PyAny>,
        bare_url: Py<PyAny>,
        automatic: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        skip_auto_headers: Option<&Bound<'_, PyAny>>,
        data: &Bound<'_, PyAny>,
        cookies: &Bound<'_, PyAny>,
        auth: &Bound<'_, PyAny>,
        version: (u8, u8),
        compress: Option<&Bound<'_, PyAny>>,
        chunked: Option<bool>,
        expect100: bool,
        proxy: Option<Py<PyAny>>,
        proxy_auth: Option<Py<PyAny>>,
        proxy_headers: Option<Py<PyAny>>,
        ssl: Py<PyAny>,
        server_hostname: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let mut request = Box::new(RequestData::with_url(method, bare_url, url, None));
        request.version = version_of(version)?;
        request.chunked = chunked;
        request.ssl = Some(ssl);
        request.server_hostname = server_hostname;
        request.skipped = skip_auto_headers.map(lower_case_names).transpose()?.unwrap_or_default();
        let _previous = this.data.replace(py, Some(request));

        slf.call_method1(intern!(py, "update_headers"), (headers,))?;
        let mut lines = RequestFields::default();
        lines.merge(py, &pairs(automatic)?)?;
        this.with_data(py, |request| match &lines {
            RequestFields::Lines(lines) => request.add_automatic(py, lines),
            RequestFields::Dict(_) => Ok(()),
        })?;
        slf.call_method1(intern!(py, "update_cookies"), (cookies,))?;
        let data_is_empty = data.is_none() || !data.is_truthy()?;
        this.with_data(py, |request| request.set_compression(py, compress, data_is_empty))?;
        slf.call_method1(intern!(py, "update_auth"), (auth,))?;
        let body = if data.is_none() { OutgoingBody::Nothing } else { OutgoingBody::of_data(data)? };
        this.with_data(py, |request| {
            request.proxy =
                proxy.map(|url| Box::new(ProxyOptions { url, auth: proxy_auth, headers: proxy_headers }));
            request.set_body(py, body)?;
            request.set_expect(py, expect100)
        })
    }

    /// Replace the header fields by `headers`, after a Host field for the URL.
    fn _set_headers(&self, py: Python<'_>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut fields = RequestFields::Dict(ci_multi_dict(py)?.call0()?.unbind());
        if let (Some(headers), RequestFields::Dict(dict)) = (headers, &mut fields) {
            for (name, value) in pairs(headers)? {
                dict.call_method1(py, intern!(py, "add"), (name, value))?;
            }
        }
        self.with_data(py, |request| request.set_fields(py, fields))
    }

    /// Set the Authorization field for `auth`.
    fn _set_auth(&self, py: Python<'_>, auth: &Bound<'_, PyAny>) -> PyResult<()> {
        self.with_data(py, |request| request.set_auth(auth))
    }

    /// Replace the body by another, `data`, with the fields that describe it.
    fn _replace_body(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let body = if data.is_none() { OutgoingBody::Nothing } else { OutgoingBody::of_data(data)? };
        self.with_data(py, |request| request.replace_body(py, body))
    }

    /// The value of the Content-Length field, in bytes.
    fn _content_length(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        self.with_data(py, |request| request.content_length(py))
    }

    /// Send it on a connection: an awaitable for the response, which has not started then.
    fn _send(slf: &Bound<'_, Self>, connection: &Bound<'_, PyAny>) -> PyResult<HopAwaitable> {
        let py = slf.py();
        let protocol = connection.getattr(intern!(py, "protocol"))?.cast_into::<HttpConnection>()?;
        let scope = slf.get().scope(py)?;
        Ok(HopAwaitable::new(Hop::on_connection(scope, slf, protocol.unbind(), connection.clone().unbind())))
    }

    /// The request's payload; None without a body.
    #[getter]
    fn _body(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_data(py, |request| request.body.payload(py))
    }

    /// The header fields, a CIMultiDict that may be changed.
    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.with_data(py, |request| request.fields.dict(py))
    }

    /// Take the CIMultiDict of a class that keeps the fields itself.
    fn _take_headers(&self, py: Python<'_>, headers: Py<PyAny>) -> PyResult<()> {
        self.set_headers(py, headers)
    }

    #[setter(headers)]
    fn set_headers(&self, py: Python<'_>, headers: Py<PyAny>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.fields = RequestFields::Dict(headers);
            Ok(())
        })
    }

    /// The method, in capitals.
    #[getter]
    fn method(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        self.field(py, |data, at| data.method.clone_with(at))
    }

    #[setter(method)]
    fn set_method(&self, py: Python<'_>, method: Py<PyString>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.method = method;
            Ok(())
        })
    }

    /// The URL, without its fragment.
    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.field(py, |data, at| data.url.clone_with(at))
    }

    #[setter(url)]
    fn set_url(&self, py: Python<'_>, url: Py<PyAny>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.url = url;
            request.target = None;
            Ok(())
        })
    }

    /// The URL as it was requested.
    #[getter]
    fn original_url(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.field(py, |data, at| data.original_url.clone_with(at))
    }

    #[setter(original_url)]
    fn set_original_url(&self, py: Python<'_>, url: Py<PyAny>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.original_url = url;
            Ok(())
        })
    }

    #[getter]
    fn _version(&self, py: Python<'_>) -> PyResult<(u8, u8)> {
        self.field(py, |data, _at| data.version.numbers())
    }

    #[setter(_version)]
    fn set_version(&self, py: Python<'_>, version: (u8, u8)) -> PyResult<()> {
        let version = version_of(version)?;
        self.with_data(py, |request| {
            request.version = version;
            Ok(())
        })
    }

    /// Whether the body is sent in chunks; None: as the body requires.
    #[getter]
    fn chunked(&self, py: Python<'_>) -> PyResult<Option<bool>> {
        self.field(py, |data, _at| data.chunked)
    }

    #[setter(chunked)]
    fn set_chunked(&self, py: Python<'_>, chunked: Option<bool>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.chunked = chunked;
            Ok(())
        })
    }

    /// The coding of the body: 'deflate', 'gzip', or None.
    #[getter]
    fn compress(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.field(py, |data, at| data.compress.clone_with(at))
    }

    #[setter(compress)]
    fn set_compress(&self, py: Python<'_>, compress: &Bound<'_, PyAny>) -> PyResult<()> {
        let compress = match compress.cast::<PyBool>() {
            Ok(chosen) => chosen.is_true().then(|| intern!(py, "deflate").clone().into_any().unbind()),
            Err(_) => given(compress.clone()),
        };
        self.with_data(py, |request| {
            request.compress = compress;
            Ok(())
        })
    }

    /// The credentials that made the Authorization field, if any did.
    #[getter]
    fn auth(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.field(py, |data, at| data.auth.clone_with(at))
    }

    #[setter(auth)]
    fn set_auth_attribute(&self, py: Python<'_>, auth: Option<Py<PyAny>>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.auth = auth;
            Ok(())
        })
    }

    /// The URL of its proxy.
    #[getter]
    fn proxy(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.field(py, |data, at| data.proxy.as_ref().map(|proxy| proxy.url.clone_with(at)))
    }

    #[setter(proxy)]
    fn set_proxy(&self, py: Python<'_>, url: Option<Py<PyAny>>) -> PyResult<()> {
        self.with_data(py, |request| {
            match (url, &mut request.proxy) {
                (None, proxy) => *proxy = None,
                (Some(url), Some(proxy)) => proxy.url = url,
                (Some(url), none) => *none = Some(Box::new(ProxyOptions { url, auth: None, headers: None })),
            }
            Ok(())
        })
    }

    /// The credentials for its proxy.
    #[getter]
    fn proxy_auth(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.field(py, |data, at| data.proxy.as_ref().and_then(|proxy| proxy.auth.clone_with(at)))
    }

    #[setter(proxy_auth)]
    fn set_proxy_auth(&self, py: Python<'_>, auth: Option<Py<PyAny>>) -> PyResult<()> {
        self.with_data(py, |request| match &mut request.proxy {
            Some(proxy) => {
                proxy.auth = auth;
                Ok(())
            }
            None => no_proxy(auth.is_none()),
        })
    }

    /// Header fields for its proxy.
    #[getter]
    fn proxy_headers(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.field(py, |data, at| data.proxy.as_ref().and_then(|proxy| proxy.headers.clone_with(at)))
    }

    #[setter(proxy_headers)]
    fn set_proxy_headers(&self, py: Python<'_>, headers: Option<Py<PyAny>>) -> PyResult<()> {
        self.with_data(py, |request| match &mut request.proxy {
            Some(proxy) => {
                proxy.headers = headers;
                Ok(())
            }
            None => no_proxy(headers.is_none()),
        })
    }

    #[getter]
    fn _ssl(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let setting = self.field(py, |data, at| data.ssl.clone_with(at))?;
        Ok(setting.unwrap_or_else(|| PyBool::new(py, true).to_owned().into_any().unbind()))
    }

    #[setter(_ssl)]
    fn set_ssl(&self, py: Python<'_>, setting: Py<PyAny>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.ssl = Some(setting);
            // The key of its connections depends on it.
            request.target = None;
            Ok(())
        })
    }

    /// The name that the certificate must have, in place of the host.
    #[getter]
    fn server_hostname(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.field(py, |data, at| data.server_hostname.clone_with(at))
    }

    #[setter(server_hostname)]
    fn set_server_hostname(&self, py: Python<'_>, name: Option<Py<PyAny>>) -> PyResult<()> {
        self.with_data(py, |request| {
            request.server_hostname = name;
            Ok(())
        })
    }

    /// The names of automatic fields that it does not have, in lower case.
    #[getter]
    fn _skipped(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with_data(py, |request| {
            Ok(request.skipped.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
        })
    }

    /// Whether 100 Continue is awaited before the body is sent.
    #[getter]
    fn _continues(&self, py: Python<'_>) -> PyResult<bool> {
        self.field(py, |data, _at| data.continues)
    }

    /// Whether its head says that the body is sent in chunks.
    #[getter]
    fn _is_chunked(&self, py: Python<'_>) -> PyResult<bool> {
        self.with_data(py, |request| request.is_sent_in_chunks(py))
    }

    /// The session whose call it is; None if a program has made it.
    #[getter]
    fn _session(&self, py: Python<'_>) -> Option<Py<SessionBase>> {
        self.scope_if_any(py).map(|scope| scope.get().session.clone_ref(py))
    }

    /// The receivers of signals.
    #[getter]
    fn _traces(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.scope_if_any(py).map(|scope| scope.get().traces.objects(py)).unwrap_or_default()
    }

    /// The follower of its upload.
    #[getter]
    fn _upload_tracker(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.scope_if_any(py)?.get().tracker.as_ref().map(|tracker| tracker.clone_ref(py))
    }

    /// The response, once the request is sent, for as long as it is referenced.
    #[getter]
    fn response(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let reference = self.response.peek(py, |response, at| response.clone_with(at))?;
        reference.bind(py).upgrade().map(Bound::unbind)
    }

    /// The bytes of a body that needs no task to send it.
    #[getter]
    fn _bytes(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        self.field(py, |data, at| match &data.body {
            OutgoingBody::Bytes { data, .. } => Some(data.clone_with(at)),
            _ => None,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit = Collector::of(&visit);
        self.scope.visit(visit, |scope, visit| visit.call(scope))?;
        self.response.visit(visit, |response, visit| visit.call(response))?;
        self.data.visit(visit, |data, visit| match data {
            Some(data) => data.visit(*visit),
            None => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _scope = self.scope.replace(py, None);
        let _data = self.data.replace(py, None);
    }
}

fn no_proxy(is_none: bool) -> PyResult<()> {
    if is_none { Ok(()) } else { Err(PyAttributeError::new_err("the request has no proxy: set proxy first")) }
}
