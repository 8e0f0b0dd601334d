//! A request on its way: plain data, or the object that a program has a reference to.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::pool::PoolKey;
use whorl_core::client::redirect::RequestBody;
use whorl_core::http1::encode;

use super::call_scope::CallScope;
use super::outgoing_body::OutgoingBody;
use super::request::RequestBase;
use super::request_data::{RequestData, Sendable};
use super::target::RequestRecord;
use crate::errors::OrRaise;
use crate::http::pool::ConnectionKey;

/// A request on its way.
#[derive(Debug)]
pub enum RequestHandle {
    /// No program has seen it.
    Plain(Box<RequestData>),
    /// A `ClientRequest`.
    Object(Py<RequestBase>),
}

/// A request as it is written: the head, and as much of the body as goes with it.
#[derive(Debug)]
pub struct WrittenRequest {
    /// The head.
    pub head: Py<PyBytes>,
    /// The body; none: there is none, or it is written piece by piece.
    pub body: Option<Py<PyBytes>>,
    /// How much of the body goes with the head; none: Python writes it.
    pub sendable: Option<Sendable>,
    /// The record for the response.
    pub record: Arc<RequestRecord>,
}

impl RequestHandle {
    /// Acts on its data.
    ///
    /// # Errors
    /// As [`RequestBase::with_data`].
    pub fn with_data<R>(
        &mut self,
        py: Python<'_>,
        act: impl FnOnce(&mut RequestData) -> PyResult<R>,
    ) -> PyResult<R> {
        match self {
            Self::Plain(data) => act(data),
            Self::Object(request) => request.get().with_data(py, act),
        }
    }

    /// It as an object.
    ///
    /// # Errors
    /// The exception of making an instance of its class.
    pub fn into_object<'py>(
        self,
        py: Python<'py>,
        scope: &Py<CallScope>,
    ) -> PyResult<Bound<'py, RequestBase>> {
        match self {
            Self::Object(request) => Ok(request.into_bound(py)),
            Self::Plain(data) => {
                let class = scope.get().config.request_class.bind(py);
                RequestBase::make(class, data, scope.clone_ref(py))
            }
        }
    }

    /// Makes it an object, and gives that.
    ///
    /// # Errors
    /// As [`RequestHandle::into_object`]; the request is lost then.
    pub fn object<'py>(
        &mut self,
        py: Python<'py>,
        scope: &Py<CallScope>,
    ) -> PyResult<Bound<'py, RequestBase>> {
        if let Self::Object(request) = self {
            return Ok(request.bind(py).clone());
        }
        let data = self.take_plain(py);
        let request = data.into_object(py, scope)?;
        *self = Self::Object(request.clone().unbind());
        Ok(request)
    }

    /// Takes the data out, and leaves an empty request.
    fn take_plain(&mut self, py: Python<'_>) -> Self {
        let none = || py.None();
        let empty = RequestData::with_url(PyString::new(py, "").unbind(), none(), none(), None);
        std::mem::replace(self, Self::Plain(Box::new(empty)))
    }

    /// The key of its connections.
    ///
    /// # Errors
    /// The exception of the request's class.
    pub fn key(&mut self, py: Python<'_>) -> PyResult<Option<PoolKey<ConnectionKey>>> {
        let known = self.with_data(py, |data| {
            let is_plain = data.proxy.is_none() && data.server_hostname.is_none();
            Ok(data.target.as_ref().filter(|_| is_plain).map(|target| target.get().key.clone()))
        })?;
        match (known, &self) {
            (Some(key), _) => Ok(Some(key)),
            (None, Self::Plain(_)) => Ok(None),
            (None, Self::Object(request)) => {
                let key = request.bind(py).getattr(intern!(py, "connection_key"))?;
                Ok(Some(PoolKey::new(ConnectionKey::new(&key)?)))
            }
        }
    }

    /// Whether it goes by way of a proxy.
    ///
    /// # Errors
    /// As [`RequestBase::with_data`].
    pub fn has_proxy(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.with_data(py, |data| Ok(data.proxy.is_some()))
    }

    /// Whether its body can be sent again.
    ///
    /// # Errors
    /// What the payload raises.
    pub fn body_state(&mut self, py: Python<'_>) -> PyResult<RequestBody> {
        self.with_data(py, |data| data.body.state(py))
    }

    /// Whether Python writes its body.
    ///
    /// # Errors
    /// As [`RequestBase::with_data`].
    pub fn has_payload(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.with_data(py, |data| Ok(matches!(data.body, OutgoingBody::Payload(_))))
    }

    /// A second reference to its body.
    ///
    /// # Errors
    /// As [`RequestBase::with_data`].
    pub fn body(&mut self, py: Python<'_>) -> PyResult<OutgoingBody> {
        self.with_data(py, |data| Ok(data.body.share(py)))
    }

    /// The method.
    ///
    /// # Errors
    /// As [`RequestBase::with_data`].
    pub fn method(&mut self, py: Python<'_>) -> PyResult<Py<PyString>> {
        self.with_data(py, |data| Ok(data.method.clone_ref(py)))
    }

    /// The URL without its fragment.
    ///
    /// # Errors
    /// As [`RequestBase::with_data`].
    pub fn url(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.with_data(py, |data| Ok(data.url.clone_ref(py)))
    }

    /// The request target (RFC 9112, section 3.2), where it is not the path and query of the URL.
    fn other_target(&mut self, py: Python<'_>, scope: &Py<CallScope>) -> PyResult<Option<Vec<u8>>> {
        let is_known = self.with_data(py, |data| {
            Ok(data.target.is_some() && data.proxy.is_none() && data.method.to_str(py)? != "CONNECT")
        })?;
        if is_known {
            return Ok(None);
        }
        let target = self.object(py, scope)?.call_method0(intern!(py, "_target"))?;
        Ok(Some(target.cast_into::<PyString>()?.to_str()?.as_bytes().to_vec()))
    }

    /// Encodes it. `by_python`: its body is written by Python in any case.
    ///
    /// # Errors
    /// ValueError for what cannot be sent.
    pub fn write(
        &mut self,
        py: Python<'_>,
        scope: &Py<CallScope>,
        by_python: bool,
    ) -> PyResult<WrittenRequest> {
        let target = self.other_target(py, scope)?;
        let closes = scope.get().config.force_close;
        self.with_data(py, |data| {
            let head = data.head(py, target.as_deref(), closes)?;
            let sendable = if by_python { None } else { data.sendable(py)? };
            let body = match (&data.body, &sendable) {
                (
                    OutgoingBody::Bytes { data, .. },
                    Some(Sendable::Whole(length) | Sendable::Short(length)),
                ) => {
                    let all = data.bind(py);
                    if *length == all.as_bytes().len() {
                        Some(data.clone_ref(py))
                    } else {
                        Some(PyBytes::new(py, &all.as_bytes()[..*length]).unbind())
                    }
                }
                (_, Some(Sendable::LastChunk)) => {
                    let mut end = Vec::new();
                    encode::last_chunk(&mut end, std::iter::empty()).or_raise()?;
                    Some(PyBytes::new(py, &end).unbind())
                }
                _ => None,
            };
            let record = RequestRecord {
                method: data.method.clone_ref(py),
                url: data.original_url.clone_ref(py),
                head: head.clone_ref(py),
            };
            Ok(WrittenRequest { head, body, sendable, record: Arc::new(record) })
        })
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Plain(data) => data.visit(visit),
            Self::Object(request) => visit.call(request),
        }
    }
}
