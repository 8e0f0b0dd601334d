//! The body of a response as it arrives: kept until it is read, handed on, or joined.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::http::stream_reader::{Span, StreamInput, StreamReaderBase};
use crate::interpreter::Attached;

/// The received part of a body that was not handed on.
#[derive(Debug, Default)]
pub enum ResponseBody {
    /// Nothing.
    #[default]
    Empty,
    /// All in one piece, as small bodies come: the object that the user gets.
    One(Py<PyBytes>),
    /// The first bytes of a large body, in the memory that they were received into: most such bodies are read as a stream.
    Kept(StreamInput),
    /// Several pieces, put together. A chunk of the chunked transfer coding may have ended at some places.
    Joined {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where chunks ended; kept only for a body that is chunked.
        chunk_ends: VecDeque<usize>,
    },
}

impl ResponseBody {
    /// How many bytes there are.
    pub fn len(&self, at: Attached<'_>) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => at.bytes(bytes).len(),
            Self::Kept(input) => input.size(),
            Self::Joined { bytes, .. } => bytes.len(),
        }
    }

    /// Adds `data`; `expected` bytes are to come in all, as far as that is known.
    pub fn push(&mut self, at: Attached<'_>, data: &[u8], expected: Option<usize>) {
        match self {
            Self::Empty if expected == Some(data.len()) => *self = Self::One(at.new_bytes(data)),
            Self::Empty => {
                let mut bytes = with_capacity(expected, data.len());
                bytes.extend_from_slice(data);
                *self = Self::Joined { bytes, chunk_ends: VecDeque::new() };
            }
            Self::One(_) | Self::Kept(_) => {
                self.as_joined(at, expected);
                self.push(at, data, expected);
            }
            Self::Joined { bytes, .. } => bytes.extend_from_slice(data),
        }
    }

    /// Whether bytes are better kept where they were received: so many, if more are to come.
    pub const fn keeps(&self, size: usize) -> bool {
        matches!(self, Self::Empty) && size >= StreamInput::WORTH_KEEPING
    }

    /// Adds bytes, in the memory that they were received into.
    pub fn push_input(&mut self, at: Attached<'_>, input: StreamInput, expected: Option<usize>) {
        if let Self::Empty = self {
            *self = Self::Kept(input);
        } else {
            for part in input.parts(at) {
                self.push(at, part, expected);
            }
        }
    }

    /// Adds a piece; the first one is kept as it is.
    pub fn push_piece(&mut self, at: Attached<'_>, piece: Py<PyBytes>) {
        if let Self::Empty = self {
            *self = Self::One(piece);
        } else {
            self.push(at, at.bytes(&piece), None);
        }
    }

    /// A chunk ended after the bytes so far.
    pub fn end_chunk(&mut self, at: Attached<'_>) {
        self.as_joined(at, None);
        if let Self::Joined { bytes, chunk_ends } = self {
            chunk_ends.push_back(bytes.len());
        }
    }

    fn as_joined(&mut self, at: Attached<'_>, expected: Option<usize>) {
        let bytes = match self {
            Self::Joined { .. } => return,
            Self::Empty => Vec::new(),
            Self::One(bytes) => at.bytes(bytes).to_vec(),
            Self::Kept(input) => {
                let mut bytes = with_capacity(expected, input.size());
                input.parts(at).for_each(|part| bytes.extend_from_slice(part));
                bytes
            }
        };
        *self = Self::Joined { bytes, chunk_ends: VecDeque::new() };
    }

    /// Everything, as one object.
    pub fn into_bytes(self, py: Python<'_>) -> Py<PyBytes> {
        match self {
            Self::Empty => PyBytes::new(py, &[]).unbind(),
            Self::One(bytes) => bytes,
            Self::Kept(input) => {
                let at = Attached::from(py);
                let parts: Vec<&[u8]> = input.parts(at).collect();
                PyBytes::new(py, &parts.concat()).unbind()
            }
            Self::Joined { bytes, .. } => PyBytes::new(py, &bytes).unbind(),
        }
    }

    /// Hands everything to `reader`, and returns whether that has enough then.
    ///
    /// # Errors
    /// RuntimeError if the reader is in use further up the stack.
    pub fn hand_to(self, py: Python<'_>, reader: &StreamReaderBase) -> PyResult<bool> {
        match self {
            Self::Empty => Ok(false),
            Self::One(bytes) => Ok(reader.feed_piece(py, bytes)?.pauses),
            Self::Kept(input) => Ok(reader.feed_input(py, &input)?.pauses),
            Self::Joined { bytes, chunk_ends } => {
                let mut spans = Vec::with_capacity(2 * chunk_ends.len() + 1);
                let mut from = 0;
                for end in chunk_ends {
                    spans.extend([Span::Data(from..end), Span::ChunkEnd]);
                    from = end;
                }
                spans.push(Span::Data(from..bytes.len()));
                let object = PyBytes::new(py, &bytes).unbind();
                Ok(reader.feed_input(py, &StreamInput::new(object, spans))?.pauses)
            }
        }
    }
}

/// A vector for a body of which `expected` bytes are to come in all, and `size` are here.
fn with_capacity(expected: Option<usize>, size: usize) -> Vec<u8> {
    /// The most that is reserved at once for a body, whatever its head promises.
    const RESERVED: usize = 1024 * 1024;
    Vec::with_capacity(expected.unwrap_or(0).min(RESERVED).max(size))
}
