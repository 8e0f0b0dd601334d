//! Content codings as Python objects, with the methods that the interpreter's own compression modules have.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whorl_core::client::coding::{Coding, DecodeError, Decoder, Encoder, Finished, Level, Progress};

use crate::buffer::BytesView;
use crate::errors::OrRaise;

/// Input of so many bytes is worked on without the interpreter, as zlib's module does.
const WORTH_DETACHING: usize = 64 * 1024;

/// Adds the classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Decompressor>()?;
    module.add_class::<Compressor>()
}

/// Decodes the body of a response piece by piece.
///
/// `encoding` is the value of its Content-Encoding: gzip, deflate, br, zstd, or several in the order in which they were
/// applied. ValueError for one that is not known.
#[pyclass(module = "whorl._core")]
#[derive(Debug)]
pub struct Decompressor {
    decoder: Decoder,
    /// Input that the bound on the output has left over, from `taken` on.
    left: Vec<u8>,
    taken: usize,
    more: bool,
}

#[pymethods]
impl Decompressor {
    #[new]
    fn new(encoding: &str) -> PyResult<Self> {
        Ok(Self { decoder: Decoder::new(encoding).or_raise()?, left: Vec::new(), taken: 0, more: false })
    }

    /// Decodes `data` and returns at most `max_length` bytes of what comes of it; all of it if that is negative.
    ///
    /// What does not fit is kept: `needs_input` is False then, and calls with empty `data` bring the rest. ValueError if the
    /// body is not what its coding says.
    #[pyo3(signature = (data, max_length = -1), text_signature = "($self, data, max_length=-1)")]
    fn decompress<'py>(
        &mut self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        max_length: isize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if max_length == 0 {
            return Err(PyValueError::new_err(
                "max_length 0 leaves no room for output; give a positive number, or -1 for no limit",
            ));
        }
        let most = usize::try_from(max_length).unwrap_or(usize::MAX);
        let mut out = Vec::new();
        let done = if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let input = bytes.as_bytes();
            if input.len() + self.left.len() >= WORTH_DETACHING {
                py.detach(|| self.feed(input, &mut out, most))
            } else {
                // Little input may come to much: then it goes on without the interpreter.
                let here = most.min(WORTH_DETACHING);
                self.feed(input, &mut out, here).and_then(|()| {
                    if !self.more || here == most {
                        return Ok(());
                    }
                    py.detach(|| self.feed(&[], &mut out, most - here))
                })
            }
        } else {
            // Memory that somebody might write to is used with the interpreter held.
            self.feed(BytesView::readable(data)?.bytes(), &mut out, most)
        };
        done.or_raise()?;
        Ok(PyBytes::new(py, &out))
    }

    /// Whether more input is needed: False while output is waiting.
    #[getter]
    const fn needs_input(&self) -> bool {
        !self.more
    }

    /// Whether the body is what it decodes to: no coding but identity.
    #[getter]
    fn is_identity(&self) -> bool {
        self.decoder.is_identity()
    }

    /// Says that the body has ended. EOFError if it ends within its compressed data, ValueError if it was wrong before.
    fn finish(&self) -> PyResult<()> {
        self.decoder.finish().or_raise()
    }
}

impl Decompressor {
    /// Decodes what is left, then `input`; keeps what is left then.
    fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            let Progress { consumed, more } = self.decoder.decode(input, out, most)?;
            self.left.extend_from_slice(&input[consumed..]);
            self.more = more;
            return Ok(());
        }
        if !input.is_empty() {
            self.left.drain(..self.taken);
            self.taken = 0;
            self.left.extend_from_slice(input);
        }
        let Progress { consumed, more } = self.decoder.decode(&self.left[self.taken..], out, most)?;
        self.taken += consumed;
        self.more = more;
        if self.taken == self.left.len() {
            self.left = Vec::new();
            self.taken = 0;
        }
        Ok(())
    }
}

/// Encodes the body of a request piece by piece.
///
/// `encoding` is gzip or deflate, `level` 0 to 9, or -1 for the usual one, 6. ValueError for others.
#[pyclass(module = "whorl._core")]
#[derive(Debug)]
pub struct Compressor {
    encoder: Encoder,
}

#[pymethods]
impl Compressor {
    #[new]
    #[pyo3(signature = (encoding, level = -1), text_signature = "(encoding, level=-1)")]
    fn new(encoding: &str, level: i64) -> PyResult<Self> {
        let known = match level {
            -1 => Some(Level::default()),
            _ => u8::try_from(level).ok().and_then(Level::new),
        };
        let level = known.ok_or_else(|| {
            PyValueError::new_err(format!("level is 0 to 9, or -1 for the usual one, not {level}"))
        })?;
        let encoder = Coding::from_name(encoding).and_then(|coding| Encoder::new(coding, level));
        let encoder = encoder.ok_or_else(|| {
            PyValueError::new_err(format!("bodies are encoded as gzip or deflate, not as {encoding:?}"))
        })?;
        Ok(Self { encoder })
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
            Err(_) => self.encoder.encode(BytesView::readable(data)?.bytes(), &mut out),
        };
        done.or_raise()?;
        Ok(PyBytes::new(py, &out))
    }

    /// Returns everything that was kept back, so that the receiver can decode all data so far. ValueError after `finish()`.
    fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.end(py, Encoder::flush)
    }

    /// Returns the rest and the end of the body. ValueError the second time.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.end(py, Encoder::finish)
    }
}

impl Compressor {
    fn end<'py>(
        &mut self,
        py: Python<'py>,
        end: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), Finished>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        end(&mut self.encoder, &mut out).or_raise()?;
        Ok(PyBytes::new(py, &out))
    }
}
