//! Encodes heads of requests.

use std::borrow::Cow;
use std::fmt::Display;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use whorl_core::http1::encode;

use crate::errors::OrRaise;

/// Text in UTF-8; lone surrogates are written as the bytes they stand for.
pub fn utf8<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    match text.to_str() {
        Ok(text) => Ok(Cow::Borrowed(text.as_bytes())),
        Err(_) => {
            let bytes = text.call_method1("encode", ("utf-8", "surrogateescape"))?;
            Ok(Cow::Owned(bytes.cast_into::<PyBytes>()?.as_bytes().to_vec()))
        }
    }
}

/// The head of a request: `request_line` without its line end, and `headers`, a mapping with `items()`.
///
/// Raises ValueError for a name that is no token and for control characters in a value (RFC 9110, section 5.5), and
/// TypeError for other types than str.
#[pyfunction]
pub fn encode_head<'py>(
    request_line: &Bound<'py, PyString>,
    headers: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = headers.py();
    let mut out = Vec::with_capacity(512);
    let line = utf8(request_line)?;
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let (target, version) = match rest.iter().rposition(|byte| *byte == b' ') {
        Some(space) => (&rest[..space], &rest[space + 1..]),
        None => (rest, &b""[..]),
    };
    let version = match version {
        b"HTTP/1.1" => whorl_core::http1::Version::Http11,
        b"HTTP/1.0" => whorl_core::http1::Version::Http10,
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(PyValueError::new_err(format!(
                "the request line ends with {other:?}, which is no version: HTTP/1.1 or HTTP/1.0 is expected"
            )));
        }
    };
    encode::request_line(&mut out, method, target, version).or_raise()?;
    for pair in headers.call_method0(pyo3::intern!(py, "items"))?.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        let name = text(&name, "name of a header field")?;
        let value = text(&value, format_args!("value of the header field {name}"))?;
        encode::field(&mut out, &utf8(name)?, &utf8(value)?).or_raise()?;
    }
    encode::end_of_head(&mut out);
    Ok(PyBytes::new(py, &out))
}

/// The name of an object's type, for errors that do not show the object: it may be a credential.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map(|name| name.to_string()).unwrap_or_default()
}

fn text<'a, 'py>(object: &'a Bound<'py, PyAny>, what: impl Display) -> PyResult<&'a Bound<'py, PyString>> {
    object
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err(format!("the {what} must be str, not {}", type_name(object))))
}
