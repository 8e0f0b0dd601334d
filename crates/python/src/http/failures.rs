//! The failures of exchanges, as the exceptions that aiohttp's users expect.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use whorl_core::client::coding;
use whorl_core::http1::{self, Incomplete, ParseErrorKind};

use super::given::{client_exception, http_exception};

/// Why a response will not be complete.
#[derive(Debug)]
pub enum MessageError {
    /// It is not HTTP/1.1.
    Protocol(http1::ParseError),
    /// Its content coding is broken.
    Coding(coding::DecodeError),
}

impl From<http1::ParseError> for MessageError {
    fn from(error: http1::ParseError) -> Self {
        Self::Protocol(error)
    }
}

/// An exception of the client's, by name.
pub fn error(py: Python<'_>, name: &str, message: &str) -> PyResult<Py<PyAny>> {
    Ok(client_exception(py, name)?.call1((message,))?.unbind())
}

/// `exception`, raised because of `cause`.
fn because_of(exception: Bound<'_, PyAny>, cause: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    exception.setattr("__cause__", cause)?;
    Ok(exception.unbind())
}

impl MessageError {
    /// The exception of `http_exceptions` that names the fault.
    fn cause<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Coding(error) => http_exception(py, "ContentEncodingError")?.call1((error.to_string(),)),
            Self::Protocol(error) => {
                let message = error.to_string();
                match error.kind() {
                    ParseErrorKind::LineTooLong { limit }
                    | ParseErrorKind::FieldTooLong { limit }
                    | ParseErrorKind::HeadTooLong { limit } => {
                        http_exception(py, "LineTooLong")?.call1((message, limit.to_string()))
                    }
                    ParseErrorKind::BadStatusLine => {
                        http_exception(py, "BadStatusLine")?.call1(("", message))
                    }
                    ParseErrorKind::BadField => http_exception(py, "InvalidHeader")?.call1((message,)),
                    ParseErrorKind::BadTransferEncoding
                    | ParseErrorKind::BadChunk
                    | ParseErrorKind::Incomplete(Incomplete::Chunk { .. }) => {
                        http_exception(py, "TransferEncodingError")?.call1((message,))
                    }
                    ParseErrorKind::Incomplete(Incomplete::Body { .. }) => {
                        http_exception(py, "ContentLengthError")?.call1((message,))
                    }
                    _ => http_exception(py, "BadHttpMessage")?.call1((message,)),
                }
            }
        }
    }

    /// The exception while the head is awaited: one of `http_exceptions`, which the response makes a
    /// ClientResponseError.
    pub fn in_head(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.cause(py)?.unbind())
    }

    /// The exception while the body is received: ClientPayloadError.
    pub fn in_body(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let cause = self.cause(py)?;
        let message = format!("Response payload is not completed: {}", cause.repr()?);
        because_of(client_exception(py, "ClientPayloadError")?.call1((message,))?, &cause)
    }
}

/// The connection is lost while the head is awaited.
pub fn lost_in_head(py: Python<'_>, cause: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    match cause {
        None => Ok(client_exception(py, "ServerDisconnectedError")?.call0()?.unbind()),
        Some(cause) if cause.is_instance_of::<PyOSError>() => {
            let args = cause.getattr("args")?.cast_into::<pyo3::types::PyTuple>()?;
            because_of(client_exception(py, "ClientOSError")?.call1(args)?, cause)
        }
        Some(cause) => Ok(cause.clone().unbind()),
    }
}

/// The connection is lost by `cause` while a body is received that would have ended with it.
pub fn cut_in_body(py: Python<'_>, cause: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let message = format!("Response payload is not completed: {}", cause.repr()?);
    because_of(client_exception(py, "ClientPayloadError")?.call1((message,))?, cause)
}

/// The connection is lost while the body is received.
pub fn lost_in_body(
    py: Python<'_>,
    fault: &MessageError,
    cause: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let Some(cause) = cause else { return fault.in_body(py) };
    let what = fault.cause(py)?;
    let message = format!("Response payload is not completed: {}. {}", what.repr()?, cause.repr()?);
    because_of(client_exception(py, "ClientPayloadError")?.call1((message,))?, cause)
}

/// `connection_lost()` for the waiter of the connection's close.
pub fn lost(py: Python<'_>, cause: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let message = format!("Connection lost: {cause}");
    because_of(client_exception(py, "ClientConnectionError")?.call1((message,))?, cause)
}
