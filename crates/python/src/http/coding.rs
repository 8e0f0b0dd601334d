//! Content codings: how the bodies of responses are decoded, and the encoder for those of requests.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whorl_core::client::coding::{Coding, DecodeError, Decoder, Encoder, Level, Progress};

use crate::buffer::BytesView;
use crate::errors::OrRaise;

/// Input of so many bytes is worked on without the interpreter, as zlib's module does.
const WORTH_DETACHING: usize = 64 * 1024;

/// Adds the class to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Compressor>()
}

/// Decodes `input` to at most so many bytes; without the interpreter if that takes long, as other threads may have work.
///
/// # Errors
/// What is wrong with the body.
pub fn decode(
    py: Python<'_>,
    decoder: &mut Decoder,
    input: &[u8],
    out: &mut Vec<u8>,
    most: usize,
) -> Result<Progress, DecodeError> {
    if input.len() >= WORTH_DETACHING {
        return py.detach(|| decoder.decode(input, out, most));
    }
    // Little input may come to much.
    let here = most.min(WORTH_DETACHING);
    let begun = decoder.decode(input, out, here)?;
    if !begun.more || here == most {
        return Ok(begun);
    }
    let rest = &input[begun.consumed..];
    let Progress { consumed, more } = py.detach(|| decoder.decode(rest, out, most - here))?;
    Ok(Progress { consumed: begun.consumed + consumed, more })
}

/// Encodes the body of a request piece by piece.
///
/// `encoding` is gzip, or deflate, which is the zlib format. ValueError for others.
#[pyclass(module = "whorl._core")]
#[derive(Debug)]
pub struct Compressor {
    encoder: Encoder,
}

#[pymethods]
impl Compressor {
    #[new]
    fn new(encoding: &str) -> PyResult<Self> {
        match Coding::from_name(encoding).and_then(|coding| Encoder::new(coding, Level::default())) {
            Some(encoder) => Ok(Self { encoder }),
            None => Err(PyValueError::new_err(format!(
                "a request body cannot be compressed as {encoding:?}: use 'deflate' or 'gzip'"
            ))),
        }
    }

    /// Encodes `data` and returns what comes of it, which may be nothing yet. ValueError after `finish()`.
    fn compress<'py>(&mut self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        let done = match data.cast_exact::<PyBytes>() {
            Ok(bytes) if bytes.as_bytes().len() >= WORTH_DETACHING => {
                let input = bytes.as_bytes();
                py.detach(|| self.encoder.encode(input, &mut out))
            }
            Ok(bytes) => self.encoder.encode(bytes.as_bytes(), &mut out),
            // Memory that somebody might write to is used with the interpreter held.
            Err(_) => self.encoder.encode(BytesView::readable(data)?.bytes(), &mut out),
        };
        done.or_raise()?;
        Ok(PyBytes::new(py, &out))
    }

    /// Returns the rest and the end of the body. ValueError the second time.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        self.encoder.finish(&mut out).or_raise()?;
        Ok(PyBytes::new(py, &out))
    }
}
