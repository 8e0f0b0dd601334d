//! A plain request on its way out: the fields and the body that its options come to.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use whorl_core::http1::encode;

use super::encode::utf8;
use super::session::Plain;
use crate::errors::OrRaise;

/// aiohttp warns of larger bodies that are given as bytes; the coroutine does so.
const LARGEST: usize = 1024 * 1024;

/// Fields that say something of the message or the connection: a request that is given one is not plain.
const SPECIAL: [&str; 9] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "host",
    "transfer-encoding",
    "upgrade",
];

/// What a request of the method has if it is given no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bodyless {
    /// Nothing: GET and its kin.
    Nothing,
    /// `Content-Length: 0` (RFC 9110, section 8.6).
    Length,
    /// The same, and a media type, as in aiohttp.
    LengthAndType,
}

/// Fields and body of a plain request.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The fields after Host, encoded, with the empty line that ends the head.
    pub fields: Vec<u8>,
    /// The body.
    pub body: Option<Py<PyBytes>>,
}

/// The media type of a body that nobody has given one.
const OCTETS: &[u8] = b"application/octet-stream";

impl Outgoing {
    /// What `options` come to; none if they are not those of a plain request.
    ///
    /// # Errors
    /// What serialising `json` raises; ValueError for a header field that cannot be sent.
    pub fn new(
        py: Python<'_>,
        plain: &Plain,
        method: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<Self>> {
        let bodyless = match method {
            "GET" | "HEAD" | "OPTIONS" => Bodyless::Nothing,
            "DELETE" => Bodyless::Length,
            "POST" | "PUT" | "PATCH" => Bodyless::LengthAndType,
            _ => return Ok(None),
        };
        let mut outgoing = Self::default();
        let mut headers = None;
        let mut media_type: Option<&[u8]> = None;
        for (name, value) in options.into_iter().flat_map(|options| options.iter()) {
            let name = name.cast_into::<PyString>()?;
            match name.to_str()? {
                "headers" if value.is_none() => {}
                "headers" => match value.cast_into_exact::<PyDict>() {
                    Ok(fields) => headers = Some(fields),
                    Err(_) => return Ok(None),
                },
                "data" if outgoing.body.is_none() => match value.cast_into_exact::<PyBytes>() {
                    Ok(data) if data.as_bytes().len() <= LARGEST => {
                        outgoing.body = Some(data.unbind());
                        media_type = Some(OCTETS);
                    }
                    _ => return Ok(None),
                },
                "json" if outgoing.body.is_none() && !value.is_none() => {
                    let Some(dumps) = &plain.json_serialize else { return Ok(None) };
                    let text = dumps.call1(py, (value,))?.into_bound(py);
                    let Ok(text) = text.cast_into::<PyString>() else { return Ok(None) };
                    outgoing.body = Some(PyBytes::new(py, &utf8(&text)?).unbind());
                    media_type = Some(b"application/json");
                }
                _ => return Ok(None),
            }
        }
        let named_type = match &headers {
            None => {
                outgoing.fields.extend_from_slice(&plain.fields);
                plain.has_media_type
            }
            Some(headers) => match outgoing.add(plain, headers)? {
                Some(named_type) => named_type,
                None => return Ok(None),
            },
        };
        let length = outgoing.body.as_ref().map(|body| body.as_bytes(py).len());
        if length.is_some() || bodyless != Bodyless::Nothing {
            let length = length.unwrap_or(0).to_string();
            encode::field(&mut outgoing.fields, b"Content-Length", length.as_bytes()).or_raise()?;
        }
        let media_type = media_type.or((bodyless == Bodyless::LengthAndType).then_some(OCTETS));
        if let Some(media_type) = media_type.filter(|_| !named_type) {
            encode::field(&mut outgoing.fields, b"Content-Type", media_type).or_raise()?;
        }
        encode::end_of_head(&mut outgoing.fields);
        Ok(Some(outgoing))
    }

    /// Adds the request's own fields, then those that every request has unless it names them. Says whether the media type
    /// is named; none: they are not those of a plain request.
    fn add(&mut self, plain: &Plain, headers: &Bound<'_, PyDict>) -> PyResult<Option<bool>> {
        if !plain.has_automatic_fields_only {
            return Ok(None);
        }
        let py = headers.py();
        let mut own: Vec<Vec<u8>> = Vec::with_capacity(headers.len());
        for (name, value) in headers.iter() {
            let (Ok(name), Ok(value)) = (name.cast_into::<PyString>(), value.cast_into::<PyString>()) else {
                return Ok(None);
            };
            let folded = name.call_method0(intern!(py, "lower"))?.cast_into::<PyString>()?;
            let folded = folded.to_str()?.as_bytes().to_vec();
            // Of two that differ in case alone the coroutine knows what aiohttp makes.
            if SPECIAL.iter().any(|special| special.as_bytes() == folded) || own.contains(&folded) {
                return Ok(None);
            }
            encode::field(&mut self.fields, &utf8(&name)?, &utf8(&value)?).or_raise()?;
            own.push(folded);
        }
        for (name, line) in &plain.automatic {
            if !own.contains(name) {
                self.fields.extend_from_slice(line);
            }
        }
        Ok(Some(own.iter().any(|name| name == b"content-type")))
    }
}
