//! A request on the fast path, encoded: the fields and the body that result from its options.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString};
use whorl_core::http1::encode;

use super::encode::utf8;
use super::options::{RequestBody, RequestOptions};
use super::session::FastPath;
use crate::errors::OrRaise;

/// Fields that describe the message or the connection: a request with one of its own is not on the fast path.
const SPECIAL: [&[u8]; 8] = [
    b"connection",
    b"content-encoding",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"transfer-encoding",
    b"upgrade",
];

const CONTENT_TYPE: &[u8] = b"content-type";

/// The fields of a request without a body, by its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bodyless {
    /// None: GET, HEAD, OPTIONS.
    Nothing,
    /// `Content-Length: 0` (RFC 9110, section 8.6).
    Length,
    /// The same, and a media type, as in aiohttp.
    LengthAndType,
}

/// A field that all requests of a session have, unless they name it themselves.
#[derive(Debug)]
pub struct EncodedField {
    name: Vec<u8>,
    /// As it is sent.
    line: Vec<u8>,
}

impl EncodedField {
    /// Encodes it.
    ///
    /// # Errors
    /// ValueError for a field that cannot be sent.
    pub fn new(name: &[u8], value: &[u8]) -> PyResult<Self> {
        let mut line = Vec::new();
        encode::field(&mut line, name, value).or_raise()?;
        Ok(Self { name: name.to_vec(), line })
    }

    fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The fields that all requests of a session have, unless they name them themselves.
#[derive(Debug)]
pub struct EncodedFields {
    /// Those that the session was given: they come first.
    pub given: Vec<EncodedField>,
    /// Those that every session has, except the ones it was given.
    pub automatic: Vec<EncodedField>,
    /// The field of the session's `auth`, which excludes other credentials.
    pub auth: Option<EncodedField>,
}

/// A field of the request's own.
struct Own<'a> {
    name: Cow<'a, [u8]>,
    value: Cow<'a, [u8]>,
}

/// Fields and body of a request on the fast path.
#[derive(Debug, Default)]
pub struct EncodedRequest {
    /// The fields after Host, encoded, with the empty line that ends the head.
    pub fields: Vec<u8>,
    /// The body.
    pub body: Option<Py<PyBytes>>,
}

impl EncodedRequest {
    /// Encodes `options`, with the value of the Cookie field if there is one; none if they are not for the fast path.
    ///
    /// # Errors
    /// The exception of serialising `json` raises; ValueError for a header field that cannot be sent.
    pub fn new(
        py: Python<'_>,
        fast_path: &FastPath,
        method: &str,
        options: &RequestOptions<'_>,
        cookies: Option<&Bound<'_, PyString>>,
    ) -> PyResult<Option<Self>> {
        let bodyless = match method {
            "GET" | "HEAD" | "OPTIONS" => Bodyless::Nothing,
            "DELETE" => Bodyless::Length,
            "POST" | "PUT" | "PATCH" => Bodyless::LengthAndType,
            _ => return Ok(None),
        };
        let pairs = match &options.headers {
            None => Vec::new(),
            Some(headers) => match pairs(headers)? {
                Some(pairs) => pairs,
                None => return Ok(None),
            },
        };
        let mut own = Vec::with_capacity(pairs.len());
        for (name, value) in &pairs {
            let field = Own { name: utf8(name)?, value: utf8(value)? };
            if !may_have(&field.name, &own, &fast_path.fields) {
                return Ok(None);
            }
            own.push(field);
        }
        let mut encoded = Self::default();
        let has_media_type = encoded.add_fields(&fast_path.fields, &own)?;
        if let Some(cookies) = cookies {
            encode::field(&mut encoded.fields, b"Cookie", &utf8(cookies)?).or_raise()?;
        }
        if let Some(auth) = &fast_path.fields.auth {
            encoded.fields.extend_from_slice(&auth.line);
        }
        let Some(media_type) = encoded.take_body(py, fast_path, &options.body)? else { return Ok(None) };
        let length = encoded.body.as_ref().map(|body| body.as_bytes(py).len());
        if length.is_some() || bodyless != Bodyless::Nothing {
            let length = length.unwrap_or(0).to_string();
            encode::field(&mut encoded.fields, b"Content-Length", length.as_bytes()).or_raise()?;
        }
        if !has_media_type && (length.is_some() || bodyless == Bodyless::LengthAndType) {
            encode::field(&mut encoded.fields, b"Content-Type", media_type).or_raise()?;
        }
        encode::end_of_head(&mut encoded.fields);
        Ok(Some(encoded))
    }

    /// Adds the session's fields, each in the request's own form if it has one; then the rest of the request's, and
    /// those that every request has. Says whether the media type is among them.
    fn add_fields(&mut self, fields: &EncodedFields, own: &[Own<'_>]) -> PyResult<bool> {
        let mut added = Vec::with_capacity(own.len());
        for field in &fields.given {
            match own.iter().position(|own| field.is(&own.name)) {
                None => self.fields.extend_from_slice(&field.line),
                Some(place) if added.contains(&place) => {}
                Some(place) => {
                    added.push(place);
                    encode::field(&mut self.fields, &own[place].name, &own[place].value).or_raise()?;
                }
            }
        }
        for (place, field) in own.iter().enumerate() {
            if !added.contains(&place) {
                encode::field(&mut self.fields, &field.name, &field.value).or_raise()?;
            }
        }
        for field in &fields.automatic {
            if !own.iter().any(|own| field.is(&own.name)) {
                self.fields.extend_from_slice(&field.line);
            }
        }
        Ok(fields.given.iter().any(|field| field.is(CONTENT_TYPE))
            || own.iter().any(|own| own.name.eq_ignore_ascii_case(CONTENT_TYPE)))
    }

    /// Takes the body as bytes, and returns their media type; none if the session cannot encode it.
    fn take_body(
        &mut self,
        py: Python<'_>,
        fast_path: &FastPath,
        body: &RequestBody<'_>,
    ) -> PyResult<Option<&'static [u8]>> {
        let media_type: &[u8] = match body {
            RequestBody::Nothing => b"application/octet-stream",
            RequestBody::Bytes(bytes) => {
                self.body = Some(bytes.clone().unbind());
                b"application/octet-stream"
            }
            RequestBody::Text(text) => {
                self.body = Some(text.encode_utf8()?.unbind());
                b"text/plain; charset=utf-8"
            }
            RequestBody::Json(value) => {
                let serialized = fast_path.json_serialize.bind(py).call1((value,))?;
                let bytes = match serialized.cast_into_exact::<PyBytes>() {
                    Ok(bytes) => bytes,
                    Err(error) => match error.into_inner().cast_into::<PyString>() {
                        Ok(text) => text.encode_utf8()?,
                        // The coroutine raises the error.
                        Err(_) => return Ok(None),
                    },
                };
                self.body = Some(bytes.unbind());
                b"application/json"
            }
        };
        Ok(Some(media_type))
    }
}

/// Name and value.
type Pair<'py> = (Bound<'py, PyString>, Bound<'py, PyString>);

/// Names and values of `headers`; none if they are not text.
fn pairs<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Option<Vec<Pair<'py>>>> {
    let text = |(name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>)| {
        Some((name.cast_into::<PyString>().ok()?, value.cast_into::<PyString>().ok()?))
    };
    if let Ok(headers) = headers.cast_exact::<PyDict>() {
        return Ok(headers.iter().map(text).collect());
    }
    let Ok(headers) = headers.cast::<PyMapping>() else { return Ok(None) };
    let mut pairs = Vec::new();
    for item in headers.items()? {
        match text(item.extract()?) {
            Some(pair) => pairs.push(pair),
            None => return Ok(None),
        }
    }
    Ok(Some(pairs))
}

/// Whether a request on the fast path may have a field of that name in addition to those it has.
fn may_have(name: &[u8], own: &[Own<'_>], fields: &EncodedFields) -> bool {
    !SPECIAL.iter().any(|special| special.eq_ignore_ascii_case(name))
        && !fields.auth.as_ref().is_some_and(|auth| auth.is(name))
        // Two fields of one name are left to the coroutine, which treats them as aiohttp does.
        && !own.iter().any(|own| own.name.eq_ignore_ascii_case(name))
}
