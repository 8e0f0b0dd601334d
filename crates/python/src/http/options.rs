//! The options that a request on the fast path may have.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString};

use super::deadlines::RequestTimeouts;
use super::session::FastPath;

/// aiohttp warns of larger bodies that are given as bytes; the coroutine does so.
const LARGEST: usize = 1024 * 1024;

/// Options that have no effect if they are None.
const OPTIONAL: [&str; 25] = [
    "params",
    "data",
    "json",
    "cookies",
    "headers",
    "skip_auto_headers",
    "auth",
    "compress",
    "chunked",
    "raise_for_status",
    "proxy",
    "proxy_auth",
    "proxy_headers",
    "verify_ssl",
    "fingerprint",
    "ssl_context",
    "ssl",
    "server_hostname",
    "read_bufsize",
    "auto_decompress",
    "max_line_size",
    "max_field_size",
    "max_headers",
    "middlewares",
    "upload_tracker",
];

/// A body that takes no task to send.
#[derive(Debug)]
pub enum RequestBody<'py> {
    /// None.
    Nothing,
    /// `data=b"…"`
    Bytes(Bound<'py, PyBytes>),
    /// `data="…"`
    Text(Bound<'py, PyString>),
    /// `json=…`
    Json(Bound<'py, PyAny>),
}

/// The options of a request on the fast path.
#[derive(Debug)]
pub struct RequestOptions<'py> {
    /// The extension of the query.
    pub params: Option<Bound<'py, PyAny>>,
    /// A mapping.
    pub headers: Option<Bound<'py, PyAny>>,
    /// The body.
    pub body: RequestBody<'py>,
    /// A TLS setting that is not the default one.
    pub ssl: Option<Bound<'py, PyAny>>,
    /// How long it may take.
    pub limits: RequestTimeouts,
    /// Whether a status of 400 or more raises.
    pub raise_for_status: bool,
}

impl<'py> RequestOptions<'py> {
    /// Reads the keywords of the call; none if the fast path does not support them.
    ///
    /// # Errors
    /// TypeError for a timeout that is no number.
    pub fn read(fast_path: &FastPath, keywords: Option<&Bound<'py, PyDict>>) -> PyResult<Option<Self>> {
        let mut options = Self {
            params: None,
            headers: None,
            body: RequestBody::Nothing,
            ssl: None,
            limits: fast_path.timeouts,
            raise_for_status: fast_path.raise_for_status,
        };
        for (name, value) in keywords.into_iter().flat_map(|keywords| keywords.iter()) {
            let name = name.cast_into::<PyString>()?;
            let known = match name.to_str()? {
                "timeout" => options.read_timeout(fast_path, value)?,
                // For tracing, and for redirects: there are none yet.
                "trace_request_ctx" | "max_redirects" => true,
                name if value.is_none() => OPTIONAL.contains(&name),
                "params" => {
                    options.params = value.is_truthy()?.then_some(value);
                    true
                }
                "headers" => {
                    options.headers = Some(value);
                    true
                }
                "data" | "json" if !matches!(options.body, RequestBody::Nothing) => false,
                "data" => options.read_data(value),
                "json" => {
                    options.body = RequestBody::Json(value);
                    true
                }
                "ssl" => {
                    let is_default = value.cast::<PyBool>().is_ok_and(|value| value.is_true());
                    options.ssl = (!is_default).then_some(value);
                    true
                }
                "raise_for_status" => match value.cast_exact::<PyBool>() {
                    Ok(value) => {
                        options.raise_for_status = value.is_true();
                        true
                    }
                    Err(_) => false,
                },
                "expect100" => !value.is_truthy()?,
                "read_until_eof" => value.is_truthy()?,
                _ => false,
            };
            if !known {
                return Ok(None);
            }
        }
        Ok(Some(options))
    }

    fn read_data(&mut self, data: Bound<'py, PyAny>) -> bool {
        let data = match data.cast_into_exact::<PyBytes>() {
            Ok(bytes) => {
                let fits = bytes.as_bytes().len() <= LARGEST;
                self.body = RequestBody::Bytes(bytes);
                return fits;
            }
            Err(error) => error.into_inner(),
        };
        match data.cast_into_exact::<PyString>() {
            // No character takes more than four bytes.
            Ok(text) if text.len().is_ok_and(|length| length <= LARGEST / 4) => {
                self.body = RequestBody::Text(text);
                true
            }
            _ => false,
        }
    }

    fn read_timeout(&mut self, fast_path: &FastPath, timeout: Bound<'py, PyAny>) -> PyResult<bool> {
        if timeout.is_exact_instance(fast_path.timeout_class.bind(timeout.py())) {
            self.limits = RequestTimeouts::of_client_timeout(&timeout)?;
        } else if timeout.is_none() {
            self.limits = RequestTimeouts::default();
        } else if timeout.is_exact_instance_of::<PyFloat>() || timeout.is_exact_instance_of::<PyInt>() {
            self.limits = RequestTimeouts::new(Some(timeout.extract()?), None);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
