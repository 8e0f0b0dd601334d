//! The session's native half: what all its plain requests have in common.

use std::sync::Arc;

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::ParserLimits;
use whorl_core::sched::{LoopOwner, OwnerCell};

use super::deadlines::{RequestDeadlines, TimeLimits};
use super::encode::utf8;
use super::exchange::ResponseOptions;
use super::options::Options;
use super::outgoing::{Field, Fields};
use super::pool::ConnectionPool;
use super::prepared::Prepared;
use crate::errors::OrRaise;
use crate::event_loop::EventLoop;
use crate::ffi::class_version;

/// URLs that are remembered at the most; then all are forgotten.
const REMEMBERED: usize = 1024;

/// What plain requests need: those of a session without middlewares, tracing, proxy, and so on. Made by the session, which
/// knows whether it is such a one.
#[derive(Debug)]
pub struct Plain {
    pub event_loop: Py<PyAny>,
    pub owner: Arc<LoopOwner>,
    pub pool: Py<ConnectionPool>,
    pub response_class: Py<PyType>,
    pub options: ResponseOptions,
    pub limits: ParserLimits,
    /// Of requests that have none of their own.
    pub time_limits: TimeLimits,
    /// `whorl.http.ClientTimeout`
    pub timeout_class: Py<PyAny>,
    pub raise_for_status: bool,
    pub deadlines: Py<RequestDeadlines>,
    /// Those whose methods make up a request, as they were.
    classes: Vec<ClassAsItWas>,
    /// Makes new connections. A method that is put there is found in its attributes.
    pub connector: Py<PyAny>,
    headers: Py<PyAny>,
    headers_version: u64,
    /// The fields of every request.
    pub fields: Fields,
    /// Makes the text or the bytes of `json=`.
    pub json_serialize: Py<PyAny>,
    cookie_jar: Py<PyAny>,
    /// The records of the cookie jar; empty: there are no cookies.
    cookies: Py<PyDict>,
    prepared: Py<PyDict>,
}

/// A class, and what tells whether anybody has changed it or what it inherits since.
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
    plain: OwnerCell<Option<Arc<Plain>>>,
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
    /// What a plain request needs, if the session is for such at the moment.
    ///
    /// # Errors
    /// What the session's Python half raises.
    pub fn plain(slf: &Bound<'_, Self>) -> PyResult<Option<Arc<Plain>>> {
        let py = slf.py();
        let Some(plain) = slf.get().plain.with(|plain| plain.clone()).or_raise()? else { return Ok(None) };
        if plain.is_stale(py)? {
            slf.call_method0(intern!(py, "_set_fast_path"))?;
            return slf.get().plain.with(|plain| plain.clone()).or_raise();
        }
        Ok(Some(plain))
    }

    /// What is known of `url`, with the TLS setting and the additions to the query that are asked for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prepare<'py>(
        slf: &Bound<'py, Self>,
        plain: &Plain,
        url: &Bound<'py, PyAny>,
        options: &Options<'py>,
    ) -> PyResult<Option<Bound<'py, Prepared>>> {
        let py = slf.py();
        let prepared = match &options.ssl {
            None => Self::remembered(slf, plain, url)?,
            // The setting may be a context of this one request: nobody keeps it.
            Some(ssl) => {
                let prepared = slf.call_method1(intern!(py, "_prepare"), (url, ssl))?;
                prepared.cast_into::<Prepared>().ok()
            }
        };
        match (prepared, &options.params) {
            (Some(prepared), Some(params)) => match prepared.get().extended(params) {
                Ok(extended) => Ok(Some(extended)),
                // What is wrong with them, the coroutine says.
                Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
                Err(error) => Err(error),
            },
            (prepared, _) => Ok(prepared),
        }
    }

    /// What is known of `url`, which is remembered.
    fn remembered<'py>(
        slf: &Bound<'py, Self>,
        plain: &Plain,
        url: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, Prepared>>> {
        let py = slf.py();
        let known = plain.prepared.bind(py);
        if let Some(prepared) = known.get_item(url)? {
            return Ok(prepared.cast_into::<Prepared>().ok());
        }
        let prepared = slf.call_method1(intern!(py, "_prepare"), (url,))?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        if url.is_exact_instance_of::<PyString>() || !prepared.is_none() {
            known.set_item(url, &prepared)?;
        }
        Ok(prepared.cast_into::<Prepared>().ok())
    }
}

impl Plain {
    /// The value of the Cookie field of a request for `url`; none if there is none.
    ///
    /// # Errors
    /// What the cookie jar raises.
    pub fn cookies_for<'py>(&self, url: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
        let py = url.py();
        if self.cookies.bind(py).is_empty() {
            return Ok(None);
        }
        let field = self.cookie_jar.bind(py).call_method1(intern!(py, "_field_for"), (url,))?;
        let field = field.cast_into::<PyString>()?;
        Ok(if field.is_empty()? { None } else { Some(field) })
    }

    /// Whether something has changed that decides what is plain.
    fn is_stale(&self, py: Python<'_>) -> PyResult<bool> {
        let attributes = self.connector.bind(py).getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
        let seams = [
            intern!(py, "connect"),
            intern!(py, "_create_connection"),
            intern!(py, "_wrap_create_connection"),
        ];
        for name in seams {
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
        Self { plain: OwnerCell::new(Arc::new(LoopOwner::new()), None) }
    }

    /// Let plain requests take the native way; `given` and `automatic` are the fields of all of them.
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
        let encoded = |fields: Vec<(Bound<'_, PyString>, Bound<'_, PyString>)>| -> PyResult<Vec<Field>> {
            fields.iter().map(|(name, value)| Field::new(&utf8(name)?, &utf8(value)?)).collect()
        };
        let auth = auth.map(|value| Field::new(b"Authorization", value.as_bytes())).transpose()?;
        let former = self.plain.with(|plain| plain.clone()).or_raise()?;
        let deadlines = match &former {
            Some(former) => former.deadlines.clone_ref(py),
            None => Py::new(py, RequestDeadlines::make(event_loop.clone().unbind(), Arc::clone(&owner)))?,
        };
        let plain = Plain {
            event_loop: event_loop.clone().unbind(),
            owner,
            pool,
            response_class,
            options: ResponseOptions { buffer_size, decompress, read_until_eof: true },
            limits: ParserLimits::new(max_line_size, max_field_size, max_headers),
            time_limits: TimeLimits::of_client_timeout(timeout)?,
            timeout_class: timeout.get_type().into_any().unbind(),
            raise_for_status,
            deadlines,
            classes: classes.iter().map(ClassAsItWas::new).collect(),
            connector,
            headers: headers.clone().unbind(),
            headers_version: version_of(headers)?,
            fields: Fields { given: encoded(given)?, automatic: encoded(automatic)?, auth },
            json_serialize,
            cookie_jar,
            cookies,
            prepared: PyDict::new(py).unbind(),
        };
        let plain = Arc::new(plain);
        let _former = self.plain.with(|place| place.replace(plain)).or_raise()?;
        Ok(())
    }

    /// No request takes the native way any more.
    fn _forbid_fast_path(&self, py: Python<'_>) -> PyResult<()> {
        match self.plain.with(Option::take).or_raise()? {
            Some(plain) => plain.deadlines.call_method0(py, intern!(py, "_close")).map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(Some(plain)) = self.plain.with(|plain| plain.clone()) else { return Ok(()) };
        visit.call(&plain.event_loop)?;
        visit.call(&plain.pool)?;
        visit.call(&plain.connector)?;
        visit.call(&plain.response_class)?;
        for class in &plain.classes {
            visit.call(&class.class)?;
        }
        visit.call(&plain.headers)?;
        visit.call(&plain.json_serialize)?;
        visit.call(&plain.cookie_jar)?;
        visit.call(&plain.cookies)?;
        visit.call(&plain.prepared)?;
        visit.call(&plain.deadlines)
    }

    fn __clear__(&self) {
        let _plain = self.plain.with(Option::take);
    }
}
