//! The session's native half: the options that its calls share, and the targets of URLs that were requested before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::call::{CallPolicy, RaiseForStatus};
use whorl_core::http1::Version;
use whorl_core::sched::{LoopOwner, OwnerCell};

use super::deadlines::{RequestDeadlines, RequestTimeouts};
use super::fields::{FieldLines, RequestFields, pairs};
use super::request::{lower_case_names, version_of};
use super::target::RequestTarget;
use crate::errors::OrRaise;
use crate::event_loop::EventLoop;
use crate::ffi::{class_version, own_attributes};
use crate::http::given;
use crate::http::h1::connection::ParserOptions;
use crate::http::h1::exchange::ResponseOptions;
use crate::http::pool::ConnectionPool;

/// So many URLs are cached, and as many again that were used before them.
const CACHED: usize = 512;

/// The steps of a call that are a program's own, by a class, an instance or an attribute of its.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// `request_class`, or a method of it: a request is made by its constructor, and sent by `send()`.
    pub request: bool,
    /// The connector, or its `connect()`.
    pub connect: bool,
    /// `response_class.__init__()` or `start()`.
    pub response: bool,
    /// `response_class.__aenter__()`.
    pub enter: bool,
    /// `response_class.__aexit__()` or `release()`.
    pub release: bool,
    /// `response_class.raise_for_status()` or `ok`.
    pub status: bool,
    /// The session's `_build_url()`, `_prepare_headers()`.
    pub headers: bool,
    /// The cookie jar, or its `filter_cookies()`.
    pub cookies: bool,
    /// The session's `_request()`: a tool responds itself.
    pub call: bool,
}

impl Overrides {
    /// Those whose names are in a set.
    fn named(names: &Bound<'_, PyAny>) -> PyResult<Self> {
        if names.len()? == 0 {
            // Of most sessions.
            return Ok(Self::default());
        }
        let is = |name: &str| names.contains(name);
        Ok(Self {
            request: is("request")?,
            connect: is("connect")?,
            response: is("response")?,
            enter: is("enter")?,
            release: is("release")?,
            status: is("status")?,
            headers: is("headers")?,
            cookies: is("cookies")?,
            call: is("call")?,
        })
    }

    /// When a call fails by its status, as a truth value says it.
    pub const fn raise_for_status(&self, raises: bool) -> RaiseForStatus {
        match (raises, self.status) {
            (false, _) => RaiseForStatus::Never,
            (true, false) => RaiseForStatus::Errors,
            (true, true) => RaiseForStatus::Always,
        }
    }
}

/// The options that a session's calls share.
#[derive(Debug)]
pub struct SessionConfig {
    pub event_loop: Py<PyAny>,
    /// Makes connections.
    pub connector: Py<PyAny>,
    /// The connector's pool; none of a connector that is not a `BaseConnector`.
    pub pool: Option<Py<ConnectionPool>>,
    /// Whether each connection serves one request.
    pub force_close: bool,
    /// Any callable, if it is overridden.
    pub request_class: Py<PyAny>,
    pub response_class: Py<PyAny>,
    /// Its `__new__()`.
    pub new_response: Py<PyAny>,
    pub response: ResponseOptions,
    pub parsing: ParserOptions,
    /// Of a line, of a field, and of the number of fields.
    pub sizes: (usize, usize, usize),
    strict: bool,
    /// Of calls that have none of their own.
    pub timeouts: RequestTimeouts,
    /// `whorl.http.ClientTimeout`
    pub timeout_class: Py<PyAny>,
    pub policy: CallPolicy,
    /// A coroutine function that decides about the status.
    pub status_check: Option<Py<PyAny>>,
    pub deadlines: Py<RequestDeadlines>,
    pub overrides: Overrides,
    pub version: Version,
    /// The header fields that were given to the session.
    pub fields: FieldLines,
    /// Those that every request has by default.
    pub automatic: FieldLines,
    /// Both, for a call that has none of its own.
    pub all_fields: FieldLines,
    /// The names of automatic fields that requests do not have, in lower case.
    pub skipped: Vec<Vec<u8>>,
    /// The credentials of requests that have none of their own: to the origin of `base_url`, or without one to any.
    pub auth: Option<Py<PyAny>>,
    /// The origin of `base_url`.
    pub base_origin: Option<Py<PyAny>>,
    /// Makes the text or the bytes of `json=`.
    pub json_serialize: Py<PyAny>,
    pub cookie_jar: Py<PyAny>,
    /// The records of the cookie jar; empty: there are no cookies.
    cookies: Py<PyDict>,
    pub proxy: Option<Py<PyAny>>,
    pub proxy_auth: Option<Py<PyAny>>,
    pub trust_env: bool,
    /// The session's middlewares; none: there are none.
    pub middlewares: Option<Py<PyAny>>,
    trace_configs: Py<PyList>,
    /// A bit for each signal that has a receiver.
    pub signals: u8,
    /// Whether the loop is in debug mode.
    pub debug: bool,
    traced: usize,
    own_attributes: [usize; 3],
    /// The classes whose methods a call would use, as they were.
    classes: Vec<ClassAsItWas>,
    headers: Py<PyAny>,
    headers_version: u64,
    cached: TargetCache,
}

/// The targets of URLs: two dicts, of which the older one is forgotten when the newer one is full.
#[derive(Debug)]
struct TargetCache {
    newer: OwnerCell<Py<PyDict>>,
    older: OwnerCell<Py<PyDict>>,
}

/// A class, and its version, which changes with the class and its bases.
#[derive(Debug)]
struct ClassAsItWas {
    class: Py<PyType>,
    version: u32,
}

impl ClassAsItWas {
    fn new(class: &Bound<'_, PyType>) -> Self {
        Self { version: class_version(class), class: class.clone().unbind() }
    }

    /// Whether it may have changed.
    fn has_changed(&self, py: Python<'_>) -> bool {
        self.version == 0 || class_version(self.class.bind(py)) != self.version
    }
}

/// The native half of `whorl.http.ClientSession`.
#[pyclass(frozen, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct SessionBase {
    config: OwnerCell<Option<Arc<SessionConfig>>>,
    /// Whether the session has been closed or detached.
    closed: AtomicBool,
}

fn version_of_headers(headers: &Bound<'_, PyAny>) -> PyResult<u64> {
    static GETVERSION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = headers.py();
    let getversion = GETVERSION.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("multidict")?.getattr("getversion")?.unbind())
    })?;
    crate::ffi::call(py, getversion, [headers])?.extract()
}

impl SessionBase {
    /// The options of a call that begins now.
    ///
    /// # Errors
    /// The exception of the session's Python half.
    pub fn config(slf: &Bound<'_, Self>) -> PyResult<Arc<SessionConfig>> {
        let py = slf.py();
        if let Some(config) = slf.get().known()?
            && !config.is_stale(slf)?
        {
            return Ok(config);
        }
        given::step(py, intern!(py, "configure"))?.call1((slf,))?;
        let config = slf.get().known()?;
        config.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("Session is closed"))
    }

    /// Whether a tool responds to requests itself, by a `_request()` of its own.
    ///
    /// # Errors
    /// The exception of the session's Python half.
    pub fn is_request_replaced(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if let Some(attributes) = own_attributes(slf.as_any())
            && attributes.contains(intern!(py, "_request"))?
        {
            return Ok(true);
        }
        match slf.get().known()? {
            Some(config) if config.classes.first().is_some_and(|class| !class.has_changed(py)) => {
                Ok(config.overrides.call)
            }
            _ => given::step(py, intern!(py, "is_request_replaced"))?.call1((slf,))?.is_truthy(),
        }
    }

    fn known(&self) -> PyResult<Option<Arc<SessionConfig>>> {
        self.config.with(|config| config.clone()).or_raise()
    }

    /// Whether it has been closed or detached.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The target of `url`, with a TLS setting that is not the default one.
    ///
    /// # Errors
    /// The fault of the URL.
    pub fn target(
        slf: &Bound<'_, Self>,
        config: &SessionConfig,
        url: &Bound<'_, PyAny>,
        ssl: Option<&Py<PyAny>>,
    ) -> PyResult<Py<RequestTarget>> {
        let py = slf.py();
        // The setting may be a context of this one request, and a session's method may not be a function of the URL.
        let cacheable = ssl.is_none() && !config.overrides.headers;
        if cacheable && let Some(target) = config.cached.get(url)? {
            return Ok(target);
        }
        let target = Self::make_target(slf, url, ssl, false)?;
        if cacheable {
            config.cached.add(py, url, &target)?;
        }
        Ok(target)
    }

    /// The target of `url`, which a redirect may have led to.
    ///
    /// # Errors
    /// The fault of the URL.
    pub fn make_target(
        slf: &Bound<'_, Self>,
        url: &Bound<'_, PyAny>,
        ssl: Option<&Py<PyAny>>,
        redirected: bool,
    ) -> PyResult<Py<RequestTarget>> {
        let step = given::step(slf.py(), intern!(slf.py(), "target"))?;
        Ok(step.call1((slf, url, ssl, redirected))?.cast_into::<RequestTarget>()?.unbind())
    }
}

impl TargetCache {
    fn new(py: Python<'_>, owner: &Arc<LoopOwner>) -> Self {
        let cell = || OwnerCell::new(Arc::clone(owner), PyDict::new(py).unbind());
        Self { newer: cell(), older: cell() }
    }

    fn dict<'py>(py: Python<'py>, cell: &OwnerCell<Py<PyDict>>) -> PyResult<Bound<'py, PyDict>> {
        let token = crate::interpreter::Attached::from(py);
        let dict = cell
            .with_token(token, |dict, at| crate::interpreter::CloneWith::clone_with(dict, at))
            .or_raise()?;
        Ok(dict.into_bound(py))
    }

    fn get(&self, url: &Bound<'_, PyAny>) -> PyResult<Option<Py<RequestTarget>>> {
        let py = url.py();
        let newer = Self::dict(py, &self.newer)?;
        if let Some(target) = newer.get_item(url)? {
            return Ok(Some(target.cast_into::<RequestTarget>()?.unbind()));
        }
        let older = Self::dict(py, &self.older)?;
        if older.is_empty() {
            return Ok(None);
        }
        let Some(target) = older.get_item(url)? else { return Ok(None) };
        let target = target.cast_into::<RequestTarget>()?.unbind();
        self.add(py, url, &target)?;
        Ok(Some(target))
    }

    fn add(&self, py: Python<'_>, url: &Bound<'_, PyAny>, target: &Py<RequestTarget>) -> PyResult<()> {
        let newer = Self::dict(py, &self.newer)?;
        newer.set_item(url, target)?;
        if newer.len() >= CACHED {
            let empty = PyDict::new(py).unbind();
            let full = self.newer.with(|newer| std::mem::replace(newer, empty)).or_raise()?;
            let _forgotten = self.older.with(|older| std::mem::replace(older, full)).or_raise()?;
        }
        Ok(())
    }
}

impl SessionConfig {
    /// The value of the Cookie field of a request for `url`, from a jar of ours; none if there is none.
    ///
    /// # Errors
    /// The exception of the cookie jar.
    pub fn cookies_for<'py>(&self, url: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
        let py = url.py();
        if self.cookies.bind(py).is_empty() {
            return Ok(None);
        }
        let field = self.cookie_jar.bind(py).call_method1(intern!(py, "_field_for"), (url,))?;
        let field = field.cast_into::<PyString>()?;
        Ok(if field.is_empty()? { None } else { Some(field) })
    }

    /// How a response is parsed by three limits of its head: of a line, of a field, and of the number of fields.
    pub fn parsing_of(&self, sizes: (usize, usize, usize)) -> ParserOptions {
        if sizes == self.sizes {
            return self.parsing;
        }
        let (line, field, count) = sizes;
        ParserOptions::new(line, field, count, self.strict)
    }

    /// Whether the session has trace configs.
    pub const fn is_traced(&self) -> bool {
        self.traced > 0
    }

    /// The numbers of own attributes of the session, its connector and its jar.
    fn count_attributes(&self, session: &Bound<'_, SessionBase>) -> [usize; 3] {
        let py = session.py();
        // What a program replaces in an object is one more.
        [session.as_any(), self.connector.bind(py), self.cookie_jar.bind(py)]
            .map(|object| own_attributes(object).map_or(0, |attributes| attributes.len()))
    }

    /// Whether something that it was made of has changed.
    fn is_stale(&self, session: &Bound<'_, SessionBase>) -> PyResult<bool> {
        let py = session.py();
        Ok(self.own_attributes != self.count_attributes(session)
            || self.classes.iter().any(|class| class.has_changed(py))
            || self.trace_configs.bind(py).len() != self.traced
            || version_of_headers(self.headers.bind(py))? != self.headers_version)
    }
}

/// Reads the options of a session, which are attributes of its Python half.
struct Options<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'py> Options<'_, 'py> {
    fn any(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.0.getattr(name)
    }

    fn object(&self, name: &Bound<'py, PyString>) -> PyResult<Py<PyAny>> {
        self.any(name).map(Bound::unbind)
    }

    fn optional(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Py<PyAny>>> {
        let value = self.any(name)?;
        Ok((!value.is_none()).then(|| value.unbind()))
    }

    fn is(&self, name: &Bound<'py, PyString>) -> PyResult<bool> {
        self.any(name)?.is_truthy()
    }

    fn size(&self, name: &Bound<'py, PyString>) -> PyResult<usize> {
        self.any(name)?.extract()
    }
}

/// The lines of header fields in a mapping.
fn lines_of(headers: &Bound<'_, PyAny>) -> PyResult<FieldLines> {
    let mut lines = FieldLines::default();
    for (name, value) in pairs(headers)? {
        lines.add(&crate::http::h1::encode::utf8(&name)?, &crate::http::h1::encode::utf8(&value)?)?;
    }
    Ok(lines)
}

#[pymethods]
impl SessionBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { config: OwnerCell::new(Arc::new(LoopOwner::new()), None), closed: AtomicBool::new(false) }
    }

    /// Take the options of the session's calls: those that are its attributes, and what its Python half has made of
    /// them.
    #[pyo3(signature = (*, pool, force_close, overrides, version, automatic, cookies, signals, debug, classes))]
    #[expect(clippy::too_many_arguments, reason = "each is made of other attributes")]
    fn _configure(
        slf: &Bound<'_, Self>,
        pool: Option<Py<ConnectionPool>>,
        force_close: bool,
        overrides: &Bound<'_, PyAny>,
        version: (u8, u8),
        automatic: &Bound<'_, PyAny>,
        cookies: Py<PyDict>,
        signals: u8,
        debug: bool,
        classes: Vec<Bound<'_, PyType>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let options = Options(slf.as_any());
        let event_loop = options.any(intern!(py, "_loop"))?;
        let owner = match event_loop.cast::<EventLoop>() {
            Ok(event_loop) => Arc::clone(event_loop.get().owner()),
            Err(_) => Arc::new(LoopOwner::new()),
        };
        let deadlines = match this.known()? {
            Some(previous) => previous.deadlines.clone_ref(py),
            None => Py::new(py, RequestDeadlines::make(event_loop.clone().unbind(), Arc::clone(&owner)))?,
        };
        let overrides = Overrides::named(overrides)?;
        let timeout = options.any(intern!(py, "_timeout"))?;
        let sizes = (
            options.size(intern!(py, "_max_line_size"))?,
            options.size(intern!(py, "_max_field_size"))?,
            options.size(intern!(py, "_max_headers"))?,
        );
        let strict = options.is(intern!(py, "_strict"))?;
        let headers = options.any(intern!(py, "_default_headers"))?;
        let trace_configs = options.any(intern!(py, "_trace_configs"))?.cast_into::<PyList>()?;
        let raises = options.any(intern!(py, "_raise_for_status"))?;
        let status_check = raises.is_callable().then(|| raises.clone().unbind());
        let fields = if overrides.headers { FieldLines::default() } else { lines_of(&headers)? };
        let automatic = lines_of(automatic)?;
        let skipped = lower_case_names(&options.any(intern!(py, "_skip_auto_headers"))?)?;
        let mut all_fields = fields.clone();
        all_fields.add_missing(&automatic, &skipped);
        let response_class = options.any(intern!(py, "_response_class"))?;
        let raises_for_status = overrides.raise_for_status(status_check.is_none() && raises.is_truthy()?);
        let json_serialize = match options.optional(intern!(py, "_json_serialize_bytes"))? {
            Some(serialize) => serialize,
            None => options.object(intern!(py, "_json_serialize"))?,
        };
        let middlewares = options.any(intern!(py, "_middlewares"))?;
        let mut config = SessionConfig {
            connector: options.object(intern!(py, "_connector"))?,
            pool,
            force_close,
            request_class: options.object(intern!(py, "_request_class"))?,
            new_response: response_class.getattr(intern!(py, "__new__"))?.unbind(),
            response_class: response_class.unbind(),
            response: ResponseOptions {
                buffer_size: options.size(intern!(py, "_read_bufsize"))?,
                decompress: options.is(intern!(py, "_auto_decompress"))?,
                read_until_eof: true,
            },
            parsing: ParserOptions::new(sizes.0, sizes.1, sizes.2, strict),
            sizes,
            strict,
            timeouts: RequestTimeouts::of_client_timeout(&timeout)?,
            timeout_class: timeout.get_type().into_any().unbind(),
            policy: CallPolicy { follows: true, max_redirects: 10, retries: true, raises_for_status },
            status_check,
            deadlines,
            overrides,
            version: version_of(version)?,
            fields,
            automatic,
            all_fields,
            skipped,
            auth: options.optional(intern!(py, "_default_auth"))?,
            base_origin: options.optional(intern!(py, "_base_url_origin"))?,
            json_serialize,
            cookie_jar: options.object(intern!(py, "_cookie_jar"))?,
            cookies,
            proxy: options.optional(intern!(py, "_default_proxy"))?,
            proxy_auth: options.optional(intern!(py, "_default_proxy_auth"))?,
            trust_env: options.is(intern!(py, "_trust_env"))?,
            middlewares: middlewares.is_truthy()?.then(|| middlewares.unbind()),
            signals,
            debug,
            traced: trace_configs.len(),
            own_attributes: [0; 3],
            trace_configs: trace_configs.unbind(),
            classes: classes.iter().map(ClassAsItWas::new).collect(),
            headers_version: version_of_headers(&headers)?,
            headers: headers.unbind(),
            cached: TargetCache::new(py, &owner),
            event_loop: event_loop.unbind(),
        };
        config.own_attributes = config.count_attributes(slf);
        let config = Arc::new(config);
        let _previous = this.config.with(|place| place.replace(config)).or_raise()?;
        Ok(())
    }

    /// The session is closed or detached: no call begins any more.
    fn _end(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, Ordering::Relaxed);
        match self.config.with(Option::take).or_raise()? {
            Some(config) => config.deadlines.call_method0(py, intern!(py, "_close")).map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(Some(config)) = self.config.with(|config| config.clone()) else { return Ok(()) };
        visit.call(&config.event_loop)?;
        visit.call(&config.connector)?;
        visit.call(&config.pool)?;
        visit.call(&config.request_class)?;
        visit.call(&config.response_class)?;
        visit.call(&config.new_response)?;
        visit.call(&config.timeout_class)?;
        visit.call(&config.status_check)?;
        for class in &config.classes {
            visit.call(&class.class)?;
        }
        visit.call(&config.base_origin)?;
        visit.call(&config.json_serialize)?;
        visit.call(&config.cookie_jar)?;
        visit.call(&config.cookies)?;
        visit.call(&config.auth)?;
        visit.call(&config.proxy)?;
        visit.call(&config.proxy_auth)?;
        visit.call(&config.middlewares)?;
        visit.call(&config.trace_configs)?;
        visit.call(&config.headers)?;
        visit.call(&config.deadlines)?;
        let visit = crate::interpreter::Collector::of(&visit);
        config.cached.newer.visit(visit, |dict, visit| visit.call(dict)).unwrap_or(Ok(()))?;
        config.cached.older.visit(visit, |dict, visit| visit.call(dict)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _config = self.config.with(Option::take);
    }
}

impl SessionConfig {
    /// The fields of a call without own ones.
    pub fn call_fields(&self) -> RequestFields {
        RequestFields::Lines(self.fields.clone())
    }
}

/// The versions of classes, which change with them and their bases; None if one has none.
#[pyfunction]
pub fn class_versions(
    py: Python<'_>,
    classes: Vec<Bound<'_, PyType>>,
) -> PyResult<Option<Py<pyo3::types::PyTuple>>> {
    let versions: Vec<u32> = classes.iter().map(class_version).collect();
    if versions.contains(&0) {
        return Ok(None);
    }
    Ok(Some(pyo3::types::PyTuple::new(py, versions)?.unbind()))
}
