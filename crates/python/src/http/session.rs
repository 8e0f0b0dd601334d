//! The session's native half: the options that its requests on the fast path share.

use std::sync::Arc;

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::ParserLimits;
use whorl_core::sched::{LoopOwner, OwnerCell};

use super::cached_target::CachedTarget;
use super::deadlines::{RequestDeadlines, RequestTimeouts};
use super::encode::utf8;
use super::encoded_request::{EncodedField, EncodedFields};
use super::exchange::ResponseOptions;
use super::options::RequestOptions;
use super::pool::ConnectionPool;
use crate::errors::OrRaise;
use crate::event_loop::EventLoop;
use crate::ffi::class_version;

/// The most URLs that are cached; then the cache is cleared.
const REMEMBERED: usize = 1024;

/// The options that a session's requests on the fast path share. The session makes them if it has no middlewares,
/// tracing, proxy and so on.
#[derive(Debug)]
pub struct FastPath {
    pub event_loop: Py<PyAny>,
    pub owner: Arc<LoopOwner>,
    pub pool: Py<ConnectionPool>,
    pub response_class: Py<PyType>,
    pub options: ResponseOptions,
    pub limits: ParserLimits,
    /// Of requests that have none of their own.
    pub timeouts: RequestTimeouts,
    /// `whorl.http.ClientTimeout`
    pub timeout_class: Py<PyAny>,
    pub raise_for_status: bool,
    pub deadlines: Py<RequestDeadlines>,
    /// The classes whose methods a request would call, as they were.
    classes: Vec<ClassAsItWas>,
    /// Makes new connections. A method that a tool sets on it is found in its attributes.
    pub connector: Py<PyAny>,
    headers: Py<PyAny>,
    headers_version: u64,
    /// The fields of every request.
    pub fields: EncodedFields,
    /// Makes the text or the bytes of `json=`.
    pub json_serialize: Py<PyAny>,
    cookie_jar: Py<PyAny>,
    /// The records of the cookie jar; empty: there are no cookies.
    cookies: Py<PyDict>,
    cached: Py<PyDict>,
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
    fast_path: OwnerCell<Option<Arc<FastPath>>>,
}

fn version_of(headers: &Bound<'_, PyAny>) -> PyResult<u64> {
    static GETVERSION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = headers.py();
    let getversion = GETVERSION.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("multidict")?.getattr("getversion")?.unbind())
    })?;
    crate::ffi::call(py, getversion, [headers])?.extract()
}

impl SessionBase {
    /// The options of the fast path, if the session has one at the moment.
    ///
    /// # Errors
    /// The exception of the session's Python half.
    pub fn fast_path(slf: &Bound<'_, Self>) -> PyResult<Option<Arc<FastPath>>> {
        let py = slf.py();
        let Some(fast_path) = slf.get().fast_path.with(|fast_path| fast_path.clone()).or_raise()? else {
            return Ok(None);
        };
        if fast_path.is_stale(py)? {
            slf.call_method0(intern!(py, "_set_fast_path"))?;
            return slf.get().fast_path.with(|fast_path| fast_path.clone()).or_raise();
        }
        Ok(Some(fast_path))
    }

    /// The cached target of `url`, with the options' TLS setting and additions to the query.
    ///
    /// # Errors
    /// The fault of the URL.
    pub fn prepare<'py>(
        slf: &Bound<'py, Self>,
        fast_path: &FastPath,
        url: &Bound<'py, PyAny>,
        options: &RequestOptions<'py>,
    ) -> PyResult<Option<Bound<'py, CachedTarget>>> {
        let py = slf.py();
        let cached = match &options.ssl {
            None => Self::remembered(slf, fast_path, url)?,
            // The setting may be a context of this one request: it is not cached.
            Some(ssl) => {
                let cached = slf.call_method1(intern!(py, "_prepare"), (url, ssl))?;
                cached.cast_into::<CachedTarget>().ok()
            }
        };
        match (cached, &options.params) {
            (Some(cached), Some(params)) => match cached.get().extended(params) {
                Ok(extended) => Ok(Some(extended)),
                // The coroutine raises the error about them.
                Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
                Err(error) => Err(error),
            },
            (cached, _) => Ok(cached),
        }
    }

    /// The target of `url`, which is cached.
    fn remembered<'py>(
        slf: &Bound<'py, Self>,
        fast_path: &FastPath,
        url: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, CachedTarget>>> {
        let py = slf.py();
        let known = fast_path.cached.bind(py);
        if let Some(cached) = known.get_item(url)? {
            return Ok(cached.cast_into::<CachedTarget>().ok());
        }
        let cached = slf.call_method1(intern!(py, "_prepare"), (url,))?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        if url.is_exact_instance_of::<PyString>() || !cached.is_none() {
            known.set_item(url, &cached)?;
        }
        Ok(cached.cast_into::<CachedTarget>().ok())
    }
}

impl FastPath {
    /// The value of the Cookie field of a request for `url`; none if there is none.
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

    /// Whether a condition of the fast path has changed.
    fn is_stale(&self, py: Python<'_>) -> PyResult<bool> {
        let attributes = self.connector.bind(py).getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
        let override_points = [
            intern!(py, "connect"),
            intern!(py, "_create_connection"),
            intern!(py, "_wrap_create_connection"),
        ];
        for name in override_points {
            if attributes.contains(name)? {
                return Ok(true);
            }
        }
        Ok(self.classes.iter().any(|class| class.has_changed(py))
            || version_of(self.headers.bind(py))? != self.headers_version)
    }
}

#[pymethods]
impl SessionBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { fast_path: OwnerCell::new(Arc::new(LoopOwner::new()), None) }
    }

    /// Open the fast path; `given` and `automatic` are the fields of all its requests.
    #[pyo3(signature = (*, event_loop, pool, connector, classes, headers, given, automatic, auth, json_serialize, cookie_jar,
                        cookies, response_class, decompress, buffer_size, timeout, raise_for_status, max_line_size,
                        max_field_size, max_headers))]
    #[expect(clippy::too_many_arguments, reason = "a method of Python's, with keywords")]
    fn _allow_fast_path(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        pool: Py<ConnectionPool>,
        connector: Py<PyAny>,
        classes: Vec<Bound<'_, PyType>>,
        headers: &Bound<'_, PyAny>,
        given: Vec<(Bound<'_, PyString>, Bound<'_, PyString>)>,
        automatic: Vec<(Bound<'_, PyString>, Bound<'_, PyString>)>,
        auth: Option<&str>,
        json_serialize: Py<PyAny>,
        cookie_jar: Py<PyAny>,
        cookies: Py<PyDict>,
        response_class: Py<PyType>,
        decompress: bool,
        buffer_size: usize,
        timeout: &Bound<'_, PyAny>,
        raise_for_status: bool,
        max_line_size: usize,
        max_field_size: usize,
        max_headers: usize,
    ) -> PyResult<()> {
        let owner = match event_loop.cast::<EventLoop>() {
            Ok(event_loop) => Arc::clone(event_loop.get().owner()),
            Err(_) => Arc::new(LoopOwner::new()),
        };
        let encoded =
            |fields: Vec<(Bound<'_, PyString>, Bound<'_, PyString>)>| -> PyResult<Vec<EncodedField>> {
                fields.iter().map(|(name, value)| EncodedField::new(&utf8(name)?, &utf8(value)?)).collect()
            };
        let auth = auth.map(|value| EncodedField::new(b"Authorization", value.as_bytes())).transpose()?;
        let previous = self.fast_path.with(|fast_path| fast_path.clone()).or_raise()?;
        let deadlines = match &previous {
            Some(previous) => previous.deadlines.clone_ref(py),
            None => Py::new(py, RequestDeadlines::make(event_loop.clone().unbind(), Arc::clone(&owner)))?,
        };
        let fast_path = FastPath {
            event_loop: event_loop.clone().unbind(),
            owner,
            pool,
            response_class,
            options: ResponseOptions { buffer_size, decompress, read_until_eof: true },
            limits: ParserLimits::new(max_line_size, max_field_size, max_headers),
            timeouts: RequestTimeouts::of_client_timeout(timeout)?,
            timeout_class: timeout.get_type().into_any().unbind(),
            raise_for_status,
            deadlines,
            classes: classes.iter().map(ClassAsItWas::new).collect(),
            connector,
            headers: headers.clone().unbind(),
            headers_version: version_of(headers)?,
            fields: EncodedFields { given: encoded(given)?, automatic: encoded(automatic)?, auth },
            json_serialize,
            cookie_jar,
            cookies,
            cached: PyDict::new(py).unbind(),
        };
        let fast_path = Arc::new(fast_path);
        let _previous = self.fast_path.with(|place| place.replace(fast_path)).or_raise()?;
        Ok(())
    }

    /// Close the fast path.
    fn _forbid_fast_path(&self, py: Python<'_>) -> PyResult<()> {
        match self.fast_path.with(Option::take).or_raise()? {
            Some(fast_path) => fast_path.deadlines.call_method0(py, intern!(py, "_close")).map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(Some(fast_path)) = self.fast_path.with(|fast_path| fast_path.clone()) else { return Ok(()) };
        visit.call(&fast_path.event_loop)?;
        visit.call(&fast_path.pool)?;
        visit.call(&fast_path.connector)?;
        visit.call(&fast_path.response_class)?;
        visit.call(&fast_path.timeout_class)?;
        for class in &fast_path.classes {
            visit.call(&class.class)?;
        }
        visit.call(&fast_path.headers)?;
        visit.call(&fast_path.json_serialize)?;
        visit.call(&fast_path.cookie_jar)?;
        visit.call(&fast_path.cookies)?;
        visit.call(&fast_path.cached)?;
        visit.call(&fast_path.deadlines)
    }

    fn __clear__(&self) {
        let _fast_path = self.fast_path.with(Option::take);
    }
}
