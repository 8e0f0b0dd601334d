//! The body of a request: bytes that are sent along with the head, or a payload that Python writes.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::redirect::RequestBody;

use super::fields::RequestFields;
use crate::http::given;

/// aiohttp warns of larger bodies that are given as bytes: its payload does so.
const LARGEST: usize = 1024 * 1024;

const OCTETS: &[u8] = b"application/octet-stream";

/// The body of a request.
#[derive(Debug, Default)]
pub enum OutgoingBody {
    /// There is none.
    #[default]
    Nothing,
    /// Bytes, which need no task to send them.
    Bytes {
        /// The bytes.
        data: Py<PyBytes>,
        /// Their media type; none: what the payload says.
        media_type: Option<&'static [u8]>,
        /// The `Payload`, once a program has looked at it or if it has given one.
        payload: Option<Py<PyAny>>,
    },
    /// A `Payload` that is written by a coroutine.
    Payload(Py<PyAny>),
}

impl OutgoingBody {
    /// Of the option `data`, which is not None.
    ///
    /// # Errors
    /// What the payload's class raises, for a value that is no body.
    pub fn of_data(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>()
            && bytes.as_bytes().len() <= LARGEST
        {
            return Ok(Self::bytes(bytes, OCTETS));
        }
        // No character takes more than four bytes.
        if let Ok(text) = data.cast_exact::<PyString>()
            && text.len()? <= LARGEST / 4
        {
            return Ok(Self::bytes(&text.encode_utf8()?, b"text/plain; charset=utf-8"));
        }
        let py = data.py();
        let (payload, bytes): (Bound<'_, PyAny>, Option<Bound<'_, PyBytes>>) =
            given::step(py, intern!(py, "payload"))?.call1((data,))?.extract()?;
        let payload = payload.unbind();
        Ok(match bytes {
            Some(data) => Self::Bytes { data: data.unbind(), media_type: None, payload: Some(payload) },
            None => Self::Payload(payload),
        })
    }

    /// Of the option `json`.
    ///
    /// # Errors
    /// What `serialize` raises; TypeError if it returns neither text nor bytes.
    pub fn of_json(serialize: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        const JSON: &[u8] = b"application/json";
        let serialized = match serialize.call1((value,))?.cast_into::<PyBytes>() {
            Ok(bytes) => return Ok(Self::bytes(&bytes, JSON)),
            Err(error) => error.into_inner(),
        };
        match serialized.cast::<PyString>() {
            Ok(text) => Ok(Self::bytes(&text.encode_utf8()?, JSON)),
            Err(_) => Err(PyTypeError::new_err(format!(
                "json_serialize has returned {}: it has to return str or bytes",
                serialized.repr()?
            ))),
        }
    }

    fn bytes(data: &Bound<'_, PyBytes>, media_type: &'static [u8]) -> Self {
        Self::Bytes { data: data.clone().unbind(), media_type: Some(media_type), payload: None }
    }

    /// A second reference to it.
    pub fn share(&self, py: Python<'_>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Bytes { data, media_type, payload } => Self::Bytes {
                data: data.clone_ref(py),
                media_type: *media_type,
                payload: payload.as_ref().map(|payload| payload.clone_ref(py)),
            },
            Self::Payload(payload) => Self::Payload(payload.clone_ref(py)),
        }
    }

    /// Whether it can be sent again.
    ///
    /// # Errors
    /// What the payload raises.
    pub fn state(&self, py: Python<'_>) -> PyResult<RequestBody> {
        Ok(match self {
            Self::Nothing => RequestBody::Empty,
            Self::Bytes { .. } => RequestBody::Replayable,
            Self::Payload(payload) if payload.bind(py).getattr(intern!(py, "consumed"))?.is_truthy()? => {
                RequestBody::Consumed
            }
            Self::Payload(_) => RequestBody::Replayable,
        })
    }

    /// Its length in bytes, if that is known before it is written.
    ///
    /// # Errors
    /// What the payload raises.
    pub fn size(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        match self {
            Self::Nothing => Ok(Some(0)),
            Self::Bytes { data, .. } => Ok(Some(data.as_bytes(py).len() as u64)),
            Self::Payload(payload) => payload.bind(py).getattr(intern!(py, "size"))?.extract(),
        }
    }

    /// Adds the fields that describe it and are neither there nor among `skipped`.
    ///
    /// # Errors
    /// What the payload raises; ValueError for a field that cannot be sent.
    pub fn describe(&self, py: Python<'_>, fields: &mut RequestFields, skipped: &[Vec<u8>]) -> PyResult<()> {
        let payload = match self {
            Self::Nothing => return Ok(()),
            Self::Bytes { media_type: Some(media_type), .. } => {
                return if super::fields::skips(skipped, b"content-type")
                    || fields.contains(py, "Content-Type")?
                {
                    Ok(())
                } else {
                    fields.set(py, "Content-Type", media_type)
                };
            }
            Self::Bytes { payload: Some(payload), .. } | Self::Payload(payload) => payload,
            Self::Bytes { payload: None, .. } => return Ok(()),
        };
        let headers = payload.bind(py).getattr(intern!(py, "headers"))?;
        for (name, value) in super::fields::pairs(&headers)? {
            let name = name.to_str()?;
            if !fields.contains(py, name)? && !super::fields::skips(skipped, name.as_bytes()) {
                fields.set(py, name, &crate::http::h1::encode::utf8(&value)?)?;
            }
        }
        Ok(())
    }

    /// The `Payload`, which is the body from now on; none without a body.
    ///
    /// # Errors
    /// What the payload's class raises.
    pub fn payload(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Payload(payload) | Self::Bytes { payload: Some(payload), .. } => {
                Ok(Some(payload.clone_ref(py)))
            }
            Self::Bytes { data, media_type, payload } => {
                let media_type = String::from_utf8_lossy(media_type.unwrap_or(OCTETS));
                let made =
                    given::step(py, intern!(py, "bytes_payload"))?.call1((&*data, media_type))?.unbind();
                *payload = Some(made.clone_ref(py));
                Ok(Some(made))
            }
        }
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Bytes { payload, .. } => visit.call(payload),
            Self::Payload(payload) => visit.call(payload),
        }
    }
}
