//! The session's native half: what all its plain requests have in common.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::Limits;
use whorl_core::sched::{Owned, Owner};

use super::deadlines::RequestDeadlines;
use super::exchange::Wishes;
use super::pool::ConnectionPool;
use super::prepared::Prepared;
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, clock};

/// URLs that are remembered at the most; then all are forgotten.
const REMEMBERED: usize = 1024;

/// What plain requests need: those of a session without middlewares, tracing, proxy, and so on. Made by the session, which
/// knows whether it is such a one.
#[derive(Debug)]
pub struct Plain {
    pub event_loop: Py<PyAny>,
    pub owner: Arc<Owner>,
    pub pool: Py<ConnectionPool>,
    pub response_class: Py<PyType>,
    pub wishes: Wishes,
    pub limits: Limits,
    /// Nanoseconds.
    pub read_timeout: Option<u64>,
    /// Nanoseconds.
    pub total_timeout: Option<u64>,
    pub raise_for_status: bool,
    pub deadlines: Py<RequestDeadlines>,
    connector: Py<PyAny>,
    headers: Py<PyAny>,
    headers_version: u64,
    /// The fields of every request, encoded.
    pub fields: Vec<u8>,
    /// Those of them that every session has, each by its name in lower case.
    pub automatic: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there are no others.
    pub has_automatic_fields_only: bool,
    /// Whether Content-Type is among them.
    pub has_media_type: bool,
    /// Makes the text of `json=`, if that is what the session's does.
    pub json_serialize: Option<Py<PyAny>>,
    /// The records of the cookie jar; empty: there are no cookies.
    cookies: Py<PyDict>,
    prepared: Py<PyDict>,
}

/// The native half of `whorl.http.ClientSession`.
#[pyclass(frozen, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct SessionBase {
    plain: Owned<Option<Arc<Plain>>>,
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
        if !plain.cookies.bind(py).is_empty() || plain.is_patched(py)? {
            return Ok(None);
        }
        if version_of(plain.headers.bind(py))? != plain.headers_version {
            slf.call_method0(intern!(py, "_set_plain"))?;
            return slf.get().plain.with(|plain| plain.clone()).or_raise();
        }
        Ok(Some(plain))
    }

    /// What is known of `url`, which is remembered.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prepare<'py>(
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
    /// Whether somebody has put a method of their own into the connector.
    fn is_patched(&self, py: Python<'_>) -> PyResult<bool> {
        let attributes = self.connector.bind(py).getattr(intern!(py, "__dict__"))?;
        attributes.cast::<PyDict>()?.contains(intern!(py, "connect"))
    }
}

#[pymethods]
impl SessionBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { plain: Owned::new(Arc::new(Owner::new()), None) }
    }

    /// Let plain requests take the native way; `fields` are those of every request, encoded.
    #[pyo3(signature = (*, event_loop, pool, connector, headers, fields, automatic, json_serialize, cookies,
                        response_class, decompress,
                        buffer_size, read_timeout, total_timeout, raise_for_status, max_line_size, max_field_size,
                        max_headers))]
    #[expect(clippy::too_many_arguments, reason = "a method of Python's, with keywords")]
    fn _allow_plain(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        pool: Py<ConnectionPool>,
        connector: Py<PyAny>,
        headers: &Bound<'_, PyAny>,
        fields: Vec<u8>,
        automatic: Vec<(Vec<u8>, Vec<u8>)>,
        json_serialize: Option<Py<PyAny>>,
        cookies: Py<PyDict>,
        response_class: Py<PyType>,
        decompress: bool,
        buffer_size: usize,
        read_timeout: Option<f64>,
        total_timeout: Option<f64>,
        raise_for_status: bool,
        max_line_size: usize,
        max_field_size: usize,
        max_headers: usize,
    ) -> PyResult<()> {
        let owner = match event_loop.cast::<EventLoop>() {
            Ok(event_loop) => Arc::clone(event_loop.get().owner()),
            Err(_) => Arc::new(Owner::new()),
        };
        let limit = |seconds: Option<f64>| seconds.filter(|seconds| *seconds > 0.0).map(clock::deadline);
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
            wishes: Wishes { buffer_size, decompress, read_until_eof: true },
            limits: Limits::new(max_line_size, max_field_size, max_headers),
            read_timeout: limit(read_timeout),
            total_timeout: limit(total_timeout),
            raise_for_status,
            deadlines,
            connector,
            headers: headers.clone().unbind(),
            headers_version: version_of(headers)?,
            has_automatic_fields_only: headers.len()? == 0,
            has_media_type: headers.contains("Content-Type")?,
            fields,
            automatic,
            json_serialize,
            cookies,
            prepared: PyDict::new(py).unbind(),
        };
        let plain = Arc::new(plain);
        let _former = self.plain.with(|place| place.replace(plain)).or_raise()?;
        Ok(())
    }

    /// No request takes the native way any more.
    fn _forbid_plain(&self, py: Python<'_>) -> PyResult<()> {
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
        visit.call(&plain.headers)?;
        visit.call(&plain.cookies)?;
        visit.call(&plain.prepared)?;
        visit.call(&plain.deadlines)
    }

    fn __clear__(&self) {
        let _plain = self.plain.with(Option::take);
    }
}
