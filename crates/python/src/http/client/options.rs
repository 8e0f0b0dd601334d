//! The options of a call: the keywords of `ClientSession.request()`, with the session's defaults.
//!
//! An option is named here and in `whorl.http.options`, which declares its type.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::call::{CallPolicy, RaiseForStatus};

use super::deadlines::RequestTimeouts;
use super::session::SessionConfig;
use crate::http::given;
use crate::http::h1::connection::ParserOptions;
use crate::http::h1::encode::type_name;
use crate::http::h1::exchange::ResponseOptions;

/// The options of one call. None of a Python object's: the option was not given, or is None.
#[derive(Debug)]
pub struct CallOptions {
    pub params: Option<Py<PyAny>>,
    pub headers: Option<Py<PyAny>>,
    pub data: Option<Py<PyAny>>,
    pub json: Option<Py<PyAny>>,
    pub policy: CallPolicy,
    /// A coroutine function that decides about the status.
    pub status_check: Option<Py<PyAny>>,
    /// A TLS setting that is not the default one.
    pub ssl: Option<Py<PyAny>>,
    pub timeouts: RequestTimeouts,
    /// As it was given.
    pub timeout: Option<Py<PyAny>>,
    pub response: ResponseOptions,
    pub parsing: ParserOptions,
    pub rare: Option<Box<RareOptions>>,
}

/// Options that few calls have.
#[derive(Debug, Default)]
pub struct RareOptions {
    pub cookies: Option<Py<PyAny>>,
    pub skip_auto_headers: Option<Py<PyAny>>,
    pub auth: Option<Py<PyAny>>,
    pub compress: Option<Py<PyAny>>,
    pub chunked: Option<bool>,
    pub expect100: bool,
    pub proxy: Option<Py<PyAny>>,
    pub proxy_auth: Option<Py<PyAny>>,
    pub proxy_headers: Option<Py<PyAny>>,
    pub server_hostname: Option<Py<PyAny>>,
    pub trace_request_ctx: Option<Py<PyAny>>,
    pub middlewares: Option<Py<PyAny>>,
    /// Deprecated forms of `ssl`.
    verify_ssl: Option<Py<PyAny>>,
    fingerprint: Option<Py<PyAny>>,
    ssl_context: Option<Py<PyAny>>,
}

impl CallOptions {
    /// Reads the keywords of the call.
    ///
    /// # Errors
    /// TypeError for a keyword that is none; TypeError and ValueError for values that no option takes.
    pub fn read(
        session: &Bound<'_, PyAny>,
        config: &SessionConfig,
        follows: bool,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = session.py();
        let mut options = Self {
            params: None,
            headers: None,
            data: None,
            json: None,
            policy: CallPolicy { follows, ..config.policy },
            status_check: None,
            ssl: None,
            timeouts: config.timeouts,
            timeout: None,
            response: config.response,
            parsing: config.parsing,
            rare: None,
        };
        let Some(keywords) = keywords else {
            options.status_check = config.status_check.as_ref().map(|check| check.clone_ref(py));
            return Ok(options);
        };
        let mut raises = None;
        let mut sizes = config.sizes;
        for (name, value) in keywords {
            let name = name.cast_into::<PyString>()?;
            options.set(session, config, &name, value, &mut raises, &mut sizes)?;
        }
        if options.data.is_some() && options.json.is_some() {
            return Err(PyValueError::new_err("data and json parameters can not be used at the same time"));
        }
        options.parsing = config.parsing_of(sizes);
        match raises {
            None => options.status_check = config.status_check.as_ref().map(|check| check.clone_ref(py)),
            Some(check) if check.is_callable() => {
                options.policy.raises_for_status = RaiseForStatus::Never;
                options.status_check = Some(check.unbind());
            }
            Some(raises) => {
                options.policy.raises_for_status = config.overrides.raise_for_status(raises.is_truthy()?);
            }
        }
        options.set_ssl(py)?;
        Ok(options)
    }

    fn rare(&mut self) -> &mut RareOptions {
        self.rare.get_or_insert_default()
    }

    fn set<'py>(
        &mut self,
        session: &Bound<'py, PyAny>,
        config: &SessionConfig,
        name: &Bound<'py, PyString>,
        value: Bound<'py, PyAny>,
        raises: &mut Option<Bound<'py, PyAny>>,
        sizes: &mut (usize, usize, usize),
    ) -> PyResult<()> {
        let py = session.py();
        let given = (!value.is_none()).then(|| value.clone().unbind());
        match name.to_str()? {
            "timeout" => return self.set_timeout(session, config, value),
            "params" => self.params = if value.is_truthy()? { given } else { None },
            "headers" => self.headers = given,
            "data" => self.data = given,
            "json" => self.json = given,
            "ssl" => {
                let is_default = value.is_none() || value.cast::<PyBool>().is_ok_and(|value| value.is_true());
                self.ssl = if is_default { None } else { given };
            }
            "allow_redirects" => self.policy.follows = value.is_truthy()?,
            "max_redirects" => {
                self.policy.max_redirects = if given.is_some() { max_redirects(&value)? } else { 0 };
            }
            "raise_for_status" => *raises = given.map(|_| value),
            "read_until_eof" => self.response.read_until_eof = value.is_truthy()?,
            "expect100" => {
                if value.is_truthy()? {
                    self.rare().expect100 = true;
                }
            }
            name => {
                let Some(given) = given else { return Ok(()) };
                match name {
                    "read_bufsize" => self.response.buffer_size = size(name, &value)?,
                    "auto_decompress" => self.response.decompress = value.is_truthy()?,
                    "max_line_size" => sizes.0 = size(name, &value)?,
                    "max_field_size" => sizes.1 = size(name, &value)?,
                    "max_headers" => sizes.2 = size(name, &value)?,
                    "chunked" => {
                        if value.cast::<PyBool>().is_err() {
                            deprecated(py, "chunked")?;
                        }
                        self.rare().chunked = Some(value.is_truthy()?);
                    }
                    "auth" | "proxy_auth" => {
                        deprecated(py, name)?;
                        let rare = self.rare();
                        *if name == "auth" { &mut rare.auth } else { &mut rare.proxy_auth } = Some(given);
                    }
                    "cookies" => self.rare().cookies = Some(given),
                    "skip_auto_headers" => {
                        given::step(py, intern!(py, "check_names"))?.call1((value, name))?;
                        self.rare().skip_auto_headers = Some(given);
                    }
                    "compress" => self.rare().compress = Some(given),
                    "proxy" => self.rare().proxy = Some(given),
                    "proxy_headers" => self.rare().proxy_headers = Some(given),
                    "server_hostname" if value.cast::<PyString>().is_err() => {
                        return Err(wrong_type(name, "str", &value));
                    }
                    "server_hostname" => self.rare().server_hostname = Some(given),
                    "trace_request_ctx" => self.rare().trace_request_ctx = Some(given),
                    "middlewares" => {
                        given::step(py, intern!(py, "check_list"))?.call1((
                            value,
                            name,
                            "coroutine functions",
                        ))?;
                        self.rare().middlewares = Some(given);
                    }
                    // Read when the call begins.
                    "upload_tracker" => {}
                    "verify_ssl" => self.rare().verify_ssl = Some(given),
                    "fingerprint" => self.rare().fingerprint = Some(given),
                    "ssl_context" => self.rare().ssl_context = Some(given),
                    name => return Err(unknown(py, name)?),
                }
            }
        }
        Ok(())
    }

    fn set_timeout(
        &mut self,
        session: &Bound<'_, PyAny>,
        config: &SessionConfig,
        timeout: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = session.py();
        self.timeouts = if timeout.is_exact_instance(config.timeout_class.bind(py)) {
            RequestTimeouts::of_client_timeout(&timeout)?
        } else if timeout.is_none() {
            RequestTimeouts::default()
        } else if timeout.is_exact_instance_of::<PyFloat>() || timeout.is_exact_instance_of::<PyInt>() {
            RequestTimeouts::new(Some(timeout.extract()?), None)
        } else {
            let timeout = given::step(py, intern!(py, "timeout"))?.call1((session, timeout))?;
            self.timeouts = RequestTimeouts::of_client_timeout(&timeout)?;
            self.timeout = Some(timeout.unbind());
            return Ok(());
        };
        self.timeout = Some(timeout.unbind());
        Ok(())
    }

    /// Checks the TLS setting, which may have been given in one of the deprecated forms.
    fn set_ssl(&mut self, py: Python<'_>) -> PyResult<()> {
        let deprecated = self
            .rare
            .as_deref_mut()
            .map(|rare| (rare.verify_ssl.take(), rare.ssl_context.take(), rare.fingerprint.take()));
        let (verify_ssl, ssl_context, fingerprint) = deprecated.unwrap_or_default();
        let is_deprecated = verify_ssl.is_some() || fingerprint.is_some() || ssl_context.is_some();
        if self.ssl.is_none() && !is_deprecated {
            return Ok(());
        }
        let step = given::step(py, intern!(py, "tls_setting"))?;
        let setting = step.call1((&self.ssl, verify_ssl, ssl_context, fingerprint))?;
        let is_default = setting.cast::<PyBool>().is_ok_and(|setting| setting.is_true());
        self.ssl = (!is_default).then(|| setting.unbind());
        Ok(())
    }
}

/// The number of redirects that is too many; 0 is no limit.
///
/// # Errors
/// TypeError for what is no number.
fn max_redirects(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Ok(count) = value.extract::<i64>() {
        // Fewer than none: the first is too many.
        return Ok(count.try_into().unwrap_or(1));
    }
    let count: f64 = value.extract().map_err(|_| wrong_type("max_redirects", "an int", value))?;
    // An infinite number, or one that no call reaches; NaN is not reached either.
    let is_limit = count != 0.0 && count < i64::MAX as f64;
    Ok(if is_limit { (count.ceil() as i64).max(1).try_into().unwrap_or(1) } else { 0 })
}

impl RareOptions {
    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for option in [
            &self.cookies,
            &self.skip_auto_headers,
            &self.auth,
            &self.compress,
            &self.proxy,
            &self.proxy_auth,
            &self.proxy_headers,
            &self.server_hostname,
            &self.trace_request_ctx,
            &self.middlewares,
            &self.verify_ssl,
            &self.fingerprint,
            &self.ssl_context,
        ] {
            visit.call(option)?;
        }
        Ok(())
    }
}

/// Every option.
const NAMES: [&str; 31] = [
    "allow_redirects",
    "auth",
    "auto_decompress",
    "chunked",
    "compress",
    "cookies",
    "data",
    "expect100",
    "fingerprint",
    "headers",
    "json",
    "max_field_size",
    "max_headers",
    "max_line_size",
    "max_redirects",
    "middlewares",
    "params",
    "proxy",
    "proxy_auth",
    "proxy_headers",
    "raise_for_status",
    "read_bufsize",
    "read_until_eof",
    "server_hostname",
    "skip_auto_headers",
    "ssl",
    "ssl_context",
    "timeout",
    "trace_request_ctx",
    "upload_tracker",
    "verify_ssl",
];

/// Checks the names of a call's keywords.
///
/// # Errors
/// TypeError for one that is no option.
pub fn check_names(keywords: &Bound<'_, PyDict>) -> PyResult<()> {
    for name in keywords.keys() {
        let name = name.cast_into::<PyString>()?;
        if NAMES.binary_search(&name.to_str()?).is_err() {
            return Err(unknown(name.py(), name.to_str()?)?);
        }
    }
    Ok(())
}

/// The value of an option that is a number of bytes or of fields.
///
/// # Errors
/// TypeError for one that is no number; ValueError for a negative one.
fn size(name: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    value.extract().or_else(|error| {
        let py = value.py();
        let sizes = PyDict::new(py);
        sizes.set_item(name, value)?;
        given::step(py, intern!(py, "check_sizes"))?.call((), Some(&sizes))?;
        Err(error)
    })
}

fn wrong_type(name: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{name} must be {expected} or None, not {}", type_name(value)))
}

/// The TypeError for a keyword that is no option.
fn unknown(py: Python<'_>, name: &str) -> PyResult<PyErr> {
    Ok(PyErr::from_value(given::step(py, intern!(py, "unknown_option"))?.call1((name,))?))
}

fn deprecated(py: Python<'_>, name: &str) -> PyResult<()> {
    given::step(py, intern!(py, "deprecated"))?.call1((name,)).map(drop)
}
