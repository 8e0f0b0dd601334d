//! What a body is made of: parts of received memory, which are not copied before they are read.

use std::ops::Range;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whorl_core::net::KeptBuffer;

use crate::interpreter::{Attached, CloneWith};
use crate::transport::Received;

/// An object in which a part of a body is.
#[derive(Debug)]
pub enum StreamPiece {
    /// A bytes object, of no class that is derived from it: its end runs no other code.
    Object(Py<PyBytes>),
    /// A buffer of the loop's.
    Buffer(Arc<KeptBuffer>),
}

impl StreamPiece {
    /// Its content.
    pub fn content<'a>(&'a self, at: Attached<'a>) -> &'a [u8] {
        match self {
            Self::Object(bytes) => at.bytes(bytes),
            Self::Buffer(buffer) => buffer,
        }
    }

    /// All of it as a bytes object.
    pub fn into_bytes(self, at: Attached<'_>) -> Py<PyBytes> {
        match self {
            Self::Object(bytes) => bytes,
            Self::Buffer(buffer) => at.new_bytes(&buffer),
        }
    }
}

impl CloneWith for StreamPiece {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        match self {
            Self::Object(bytes) => Self::Object(bytes.clone_with(at)),
            Self::Buffer(buffer) => Self::Buffer(Arc::clone(buffer)),
        }
    }
}

/// What was found in received bytes.
#[derive(Clone, Debug)]
pub enum Span {
    /// Bytes of the body.
    Data(Range<usize>),
    /// A chunk of the chunked transfer coding has ended.
    ChunkEnd,
}

impl Span {
    /// Where the bytes are, if it is some.
    fn data(&self) -> Option<Range<usize>> {
        match self {
            Self::Data(range) => Some(range.clone()),
            Self::ChunkEnd => None,
        }
    }
}

/// Parts of a body, with the memory that they are in.
#[derive(Debug)]
pub struct StreamInput {
    pub(super) piece: StreamPiece,
    pub(super) spans: Vec<Span>,
}

impl StreamInput {
    /// From so many bytes of a body on, the buffer that they were received into is kept. It is a quarter of the loop's buffer,
    /// so a stream holds at most four times the bytes that it buffers.
    pub const WORTH_KEEPING: usize = 64 * 1024;

    /// The parts of a bytes object.
    pub const fn new(object: Py<PyBytes>, spans: Vec<Span>) -> Self {
        Self { piece: StreamPiece::Object(object), spans }
    }

    /// How many bytes of a body it has.
    pub fn size(&self) -> usize {
        self.spans.iter().filter_map(Span::data).map(|range| range.len()).sum()
    }

    /// The bytes of the body.
    pub fn parts<'a>(&'a self, at: Attached<'a>) -> impl Iterator<Item = &'a [u8]> {
        let content = self.piece.content(at);
        self.spans.iter().filter_map(Span::data).map(|range| content.get(range).unwrap_or_default())
    }

    /// Takes the parts out of received bytes, whose memory goes back to the loop unless it is kept; none if there are none.
    pub fn take(py: Python<'_>, received: Received<'_, '_>, mut spans: Vec<Span>) -> Option<Self> {
        let start = spans.iter().find_map(Span::data).map_or(0, |range| range.start);
        let end = spans.iter().rev().find_map(Span::data).map_or(0, |range| range.end);
        let size: usize = spans.iter().filter_map(Span::data).map(|range| range.len()).sum();
        if spans.is_empty() {
            return None;
        }
        let piece = match received {
            Received::Lent(buffer, _) if size >= Self::WORTH_KEEPING => {
                StreamPiece::Buffer(Arc::new(buffer.keep()))
            }
            Received::Object(bytes)
                if size >= bytes.as_bytes().len() / 4 && bytes.is_exact_instance_of::<PyBytes>() =>
            {
                StreamPiece::Object(bytes.unbind())
            }
            received => {
                for span in &mut spans {
                    if let Span::Data(range) = span {
                        *range = range.start - start..range.end - start;
                    }
                }
                StreamPiece::Object(PyBytes::new(py, received.get(start..end).unwrap_or_default()).unbind())
            }
        };
        Some(Self { piece, spans })
    }
}
