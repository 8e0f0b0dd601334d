//! A request that is being made: its head and body, and the order in which options become header fields.
//!
//! The order is aiohttp's: Host, the session's and the call's own fields, automatic ones, Cookie, Content-Encoding,
//! Authorization, those of the body, Transfer-Encoding, Expect; and when it is sent, the defaults of Content-Type and Connection.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::{Version, encode};

use super::fields::{FieldLines, RequestFields, skips};
use super::outgoing_body::OutgoingBody;
use super::target::RequestTarget;
use crate::errors::OrRaise;
use crate::http::given;

/// What kind of body a method usually has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MethodKind {
    /// None: GET, HEAD, OPTIONS, TRACE.
    Get,
    /// One, whose media type has a default, as in aiohttp: PATCH, POST, PUT.
    Post,
    /// Any other: without a body the length is said to be 0 (RFC 9110, section 8.6).
    Other,
}

impl MethodKind {
    fn of(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Get,
            "PATCH" | "POST" | "PUT" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// The proxy of a request.
#[derive(Debug)]
pub struct ProxyOptions {
    /// Its `yarl.URL`.
    pub url: Py<PyAny>,
    /// The `BasicAuth` for it.
    pub auth: Option<Py<PyAny>>,
    /// Header fields for it.
    pub headers: Option<Py<PyAny>>,
}

/// A request that is being made.
#[derive(Debug)]
pub struct RequestData {
    pub method: Py<PyString>,
    /// The URL without its fragment.
    pub url: Py<PyAny>,
    /// The URL as it was requested.
    pub original_url: Py<PyAny>,
    /// What the URL comes to; none once a program has changed the URL.
    pub target: Option<Py<RequestTarget>>,
    pub fields: RequestFields,
    pub body: OutgoingBody,
    /// The names of automatic fields that it does not have, in lower case.
    pub skipped: Vec<Vec<u8>>,
    pub version: Version,
    /// Whether the body is sent in chunks; none: as the body requires.
    pub chunked: Option<bool>,
    /// The coding of the body, as text.
    pub compress: Option<Py<PyAny>>,
    /// Whether 100 Continue is awaited before the body is sent.
    pub continues: bool,
    pub auth: Option<Py<PyAny>>,
    pub proxy: Option<Box<ProxyOptions>>,
    pub ssl: Option<Py<PyAny>>,
    pub server_hostname: Option<Py<PyAny>>,
}

/// The body of a request that is sent together with its head.
#[derive(Debug, PartialEq, Eq)]
pub enum Sendable {
    /// So many bytes of it.
    Whole(usize),
    /// All of it, which is less than the head says: the connection ends with the request (RFC 9112, section 9.3).
    Short(usize),
    /// There is none, and the head says that it is sent in chunks.
    LastChunk,
}

impl RequestData {
    /// A request with `method` for `target`, without any field.
    pub fn new(py: Python<'_>, method: Py<PyString>, target: Py<RequestTarget>) -> Self {
        let (url, original_url) = (target.get().bare_url.clone_ref(py), target.get().url.clone_ref(py));
        Self::with_url(method, url, original_url, Some(target))
    }

    /// A request whose target is not known.
    pub fn with_url(
        method: Py<PyString>,
        url: Py<PyAny>,
        original_url: Py<PyAny>,
        target: Option<Py<RequestTarget>>,
    ) -> Self {
        Self {
            method,
            url,
            original_url,
            target,
            fields: RequestFields::default(),
            body: OutgoingBody::Nothing,
            skipped: Vec::new(),
            version: Version::Http11,
            chunked: None,
            compress: None,
            continues: false,
            auth: None,
            proxy: None,
            ssl: None,
            server_hostname: None,
        }
    }

    /// Takes `fields` for its own, with Host in front.
    pub fn set_fields(&mut self, py: Python<'_>, fields: RequestFields) -> PyResult<()> {
        self.fields = fields;
        match &self.target {
            Some(target) => self.fields.put_first(py, "Host", &target.get().host),
            None => {
                let host = given::step(py, intern!(py, "host_field"))?.call1((&self.url,))?;
                let host = host.cast_into::<PyString>()?;
                self.fields.put_first(py, "Host", host.to_str()?.as_bytes())
            }
        }
    }

    /// Adds the fields that every request has by default.
    pub fn add_automatic(&mut self, py: Python<'_>, automatic: &FieldLines) -> PyResult<()> {
        self.fields.add_missing(py, automatic, &self.skipped)
    }

    /// Sets the Cookie field, behind the others.
    pub fn set_cookies(&mut self, py: Python<'_>, cookies: &Bound<'_, PyString>) -> PyResult<()> {
        self.fields.remove(py, "Cookie")?;
        self.fields.set(py, "Cookie", &crate::http::h1::encode::utf8(cookies)?)
    }

    /// Sets the coding of the body, unless the body is empty.
    ///
    /// # Errors
    /// ValueError if the fields name one already; what the truth of `data` raises.
    pub fn set_compression(
        &mut self,
        py: Python<'_>,
        compress: Option<&Bound<'_, PyAny>>,
        data_is_empty: bool,
    ) -> PyResult<()> {
        self.compress = None;
        let Some(compress) = compress else { return Ok(()) };
        if data_is_empty || !compress.is_truthy()? {
            return Ok(());
        }
        if self.fields.get(py, "Content-Encoding")?.is_some_and(|value| !value.is_empty()) {
            return Err(PyValueError::new_err("compress can not be set if Content-Encoding header is set"));
        }
        let coding = match compress.cast::<PyString>() {
            Ok(coding) => coding.clone(),
            Err(_) => intern!(py, "deflate").clone(),
        };
        self.fields.set(py, "Content-Encoding", &crate::http::h1::encode::utf8(&coding)?)?;
        self.compress = Some(coding.into_any().unbind());
        // Its length is not known before it is compressed.
        self.chunked = Some(true);
        Ok(())
    }

    /// Sets the Authorization field for `auth`.
    pub fn set_auth(&mut self, auth: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = auth.py();
        let value = auth.call_method0(intern!(py, "encode"))?.cast_into::<PyString>()?;
        self.fields.set(py, "Authorization", &crate::http::h1::encode::utf8(&value)?)?;
        self.auth = Some(auth.clone().unbind());
        Ok(())
    }

    /// Sets the body, with the fields that describe it.
    ///
    /// # Errors
    /// What the payload raises; ValueError for fields that contradict it.
    pub fn set_body(&mut self, py: Python<'_>, body: OutgoingBody) -> PyResult<()> {
        self.body = body;
        let bodyless = matches!(self.body, OutgoingBody::Nothing);
        let kind = MethodKind::of(self.method.to_str(py)?);
        if bodyless && kind == MethodKind::Get {
            return Ok(());
        }
        let is_chunked = self.is_chunked(py)?;
        if bodyless {
            if !is_chunked && !self.fields.contains(py, "Content-Length")? {
                self.fields.set(py, "Content-Length", b"0")?;
            }
        } else {
            if !is_chunked && !self.fields.contains(py, "Content-Length")? {
                match self.body.size(py)? {
                    Some(size) => self.fields.set(py, "Content-Length", size.to_string().as_bytes())?,
                    None => self.chunked = Some(true),
                }
            }
            let Self { body, fields, skipped, .. } = self;
            body.describe(py, fields, skipped)?;
        }
        self.set_transfer_encoding(py)
    }

    fn is_chunked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.chunked == Some(true) || self.has_chunked_field(py)?)
    }

    fn has_chunked_field(&self, py: Python<'_>) -> PyResult<bool> {
        let value = self.fields.get(py, "Transfer-Encoding")?;
        Ok(value.is_some_and(|value| value.to_ascii_lowercase().windows(7).any(|part| part == b"chunked")))
    }

    fn set_transfer_encoding(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.has_chunked_field(py)? {
            if self.chunked == Some(true) {
                return Err(PyValueError::new_err(
                    "chunked can not be set if \"Transfer-Encoding: chunked\" header is set",
                ));
            }
            self.chunked = Some(true);
        } else if self.chunked == Some(true) {
            if self.fields.contains(py, "Content-Length")? {
                return Err(PyValueError::new_err("chunked can not be set if Content-Length header is set"));
            }
            self.fields.set(py, "Transfer-Encoding", b"chunked")?;
        }
        Ok(())
    }

    /// Replaces the body by another.
    ///
    /// # Errors
    /// As [`RequestData::set_body`].
    pub fn replace_body(&mut self, py: Python<'_>, body: OutgoingBody) -> PyResult<()> {
        self.fields.remove(py, "Content-Length")?;
        if self.chunked == Some(true) {
            self.fields.remove(py, "Transfer-Encoding")?;
        }
        self.set_body(py, body)
    }

    /// Has the server asked for the body first, if that is wanted or the fields say so.
    pub fn set_expect(&mut self, py: Python<'_>, expect: bool) -> PyResult<()> {
        if expect {
            self.fields.set(py, "Expect", b"100-continue")?;
        }
        self.continues = expect
            || self
                .fields
                .get(py, "Expect")?
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        Ok(())
    }

    /// The value of Content-Length, in bytes.
    ///
    /// # Errors
    /// ValueError for one that is no number.
    pub fn content_length(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let Some(value) = self.fields.get(py, "Content-Length")? else { return Ok(None) };
        let text = String::from_utf8_lossy(&value);
        match text.parse() {
            Ok(length) if value.iter().all(u8::is_ascii_digit) => Ok(Some(length)),
            _ => Err(PyValueError::new_err(format!("Invalid Content-Length header: '{text}'"))),
        }
    }

    /// Whether the head says that the body is sent in chunks: a length with it is a user's, and counts.
    ///
    /// # Errors
    /// What the class of the fields raises.
    pub fn is_sent_in_chunks(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.has_chunked_field(py)?
            && (self.chunked == Some(true) || !self.fields.contains(py, "Content-Length")?))
    }

    /// How much of the body is sent with the head; none if it has to be written piece by piece.
    ///
    /// # Errors
    /// As [`RequestData::content_length`].
    pub fn sendable(&self, py: Python<'_>) -> PyResult<Option<Sendable>> {
        if self.continues || self.compress.is_some() || matches!(self.body, OutgoingBody::Payload(_)) {
            return Ok(None);
        }
        let has_body = matches!(self.body, OutgoingBody::Bytes { .. });
        if has_body && self.chunked == Some(true) {
            return Ok(None);
        }
        let size = match &self.body {
            OutgoingBody::Bytes { data, .. } => data.as_bytes(py).len(),
            _ => 0,
        };
        let declared = self.content_length(py)?;
        if declared.is_none() && self.has_chunked_field(py)? {
            return Ok((!has_body).then_some(Sendable::LastChunk));
        }
        // A body that is announced by a field and is not there leaves the server waiting.
        let is_short = declared.is_some_and(|length| length > size as u64);
        let length = declared.map_or(size, |length| usize::try_from(length).unwrap_or(size).min(size));
        Ok(Some(if is_short { Sendable::Short(length) } else { Sendable::Whole(length) }))
    }

    /// The head as it is sent, with the request target `path`, or that of its own target.
    ///
    /// # Errors
    /// ValueError for a method, a target or a field that cannot be sent.
    pub fn head(&mut self, py: Python<'_>, path: Option<&[u8]>, closes: bool) -> PyResult<Py<PyBytes>> {
        self.set_last_fields(py, closes)?;
        let own = self.target.as_ref().map(|target| target.get().path.as_slice());
        let path = path.or(own).unwrap_or_default();
        let mut line = Vec::with_capacity(path.len() + 32);
        encode::request_line(&mut line, self.method.to_str(py)?.as_bytes(), path, self.version).or_raise()?;
        let mut encoded = FieldLines::default();
        let fields = self.fields.lines(py, &mut encoded)?;
        let parts = || {
            std::iter::once(line.as_slice()).chain(fields.iter_lines()).chain(std::iter::once(encode::CRLF))
        };
        let size = parts().map(<[u8]>::len).sum();
        let head = PyBytes::new_with(py, size, |mut rest| {
            for part in parts() {
                let (place, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = behind;
            }
            Ok(())
        })?;
        Ok(head.unbind())
    }

    fn set_last_fields(&mut self, py: Python<'_>, closes: bool) -> PyResult<()> {
        const CONTENT_TYPE: &str = "Content-Type";
        if MethodKind::of(self.method.to_str(py)?) == MethodKind::Post
            && !skips(&self.skipped, CONTENT_TYPE.as_bytes())
            && !self.fields.contains(py, CONTENT_TYPE)?
        {
            self.fields.set(py, CONTENT_TYPE, b"application/octet-stream")?;
        }
        let connection: &[u8] = match (closes, self.version) {
            (true, Version::Http11) => b"close",
            (false, Version::Http10) => b"keep-alive",
            _ => return Ok(()),
        };
        if self.fields.contains(py, "Connection")? {
            return Ok(());
        }
        self.fields.set(py, "Connection", connection)
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.url)?;
        visit.call(&self.original_url)?;
        visit.call(&self.target)?;
        self.fields.visit(visit)?;
        self.body.visit(visit)?;
        visit.call(&self.compress)?;
        visit.call(&self.auth)?;
        if let Some(proxy) = &self.proxy {
            visit.call(&proxy.url)?;
            visit.call(&proxy.auth)?;
            visit.call(&proxy.headers)?;
        }
        visit.call(&self.ssl)?;
        visit.call(&self.server_hostname)
    }
}
