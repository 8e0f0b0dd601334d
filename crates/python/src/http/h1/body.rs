//! The body of a response as it arrives: kept until it is read, handed on, or joined.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::interpreter::Attached;

/// The received part of a body that was not handed on.
#[derive(Debug, Default)]
pub enum ResponseBody {
    /// Nothing.
    #[default]
    Empty,
    /// All in one piece, as small bodies come: the object that the user gets.
    One(Py<PyBytes>),
    /// Several pieces, put together. A chunk of the chunked transfer coding may have ended at some places.
    Joined {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where chunks ended; kept only for a body that is chunked.
        chunk_ends: VecDeque<usize>,
    },
}

/// A piece on its way to a reader.
#[derive(Debug)]
pub enum Piece {
    /// Data.
    Data(Py<PyBytes>),
    /// A chunk of the chunked transfer coding ended here.
    ChunkEnd,
}

impl ResponseBody {
    /// How many bytes there are.
    pub fn len(&self, at: Attached<'_>) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => at.bytes(bytes).len(),
            Self::Joined { bytes, .. } => bytes.len(),
        }
    }

    /// Adds `data`; `expected` bytes are to come in all, as far as that is known.
    pub fn push(&mut self, at: Attached<'_>, data: &[u8], expected: Option<usize>) {
        /// The most that is reserved at once for a body, whatever its head promises.
        const RESERVED: usize = 1024 * 1024;
        match self {
            Self::Empty if expected == Some(data.len()) => *self = Self::One(at.new_bytes(data)),
            Self::Empty => {
                let mut bytes = Vec::with_capacity(expected.unwrap_or(0).min(RESERVED).max(data.len()));
                bytes.extend_from_slice(data);
                *self = Self::Joined { bytes, chunk_ends: VecDeque::new() };
            }
            Self::One(_) => {
                self.as_joined(at);
                self.push(at, data, expected);
            }
            Self::Joined { bytes, .. } => bytes.extend_from_slice(data),
        }
    }

    /// Adds `data`, which the caller owns: the first piece is not copied.
    pub fn push_owned(&mut self, at: Attached<'_>, data: Vec<u8>) {
        if let Self::Empty = self {
            *self = Self::Joined { bytes: data, chunk_ends: VecDeque::new() };
        } else {
            self.push(at, &data, None);
        }
    }

    /// A chunk ended after the bytes so far.
    pub fn end_chunk(&mut self, at: Attached<'_>) {
        self.as_joined(at);
        if let Self::Joined { bytes, chunk_ends } = self {
            chunk_ends.push_back(bytes.len());
        }
    }

    fn as_joined(&mut self, at: Attached<'_>) {
        if let Self::Empty | Self::One(_) = self {
            let bytes = match self {
                Self::One(bytes) => at.bytes(bytes).to_vec(),
                _ => Vec::new(),
            };
            *self = Self::Joined { bytes, chunk_ends: VecDeque::new() };
        }
    }

    /// Everything, as one object.
    pub fn into_bytes(self, py: Python<'_>) -> Py<PyBytes> {
        match self {
            Self::Empty => PyBytes::new(py, &[]).unbind(),
            Self::One(bytes) => bytes,
            Self::Joined { bytes, .. } => PyBytes::new(py, &bytes).unbind(),
        }
    }

    /// Everything, in pieces for a reader.
    pub fn into_pieces(self, py: Python<'_>) -> Vec<Piece> {
        let Self::Joined { bytes, chunk_ends } = self else {
            return match self {
                Self::One(bytes) => vec![Piece::Data(bytes)],
                _ => Vec::new(),
            };
        };
        let mut pieces = Vec::new();
        let mut from = 0;
        let mut data = |pieces: &mut Vec<Piece>, until: usize| {
            if let Some(part) = bytes.get(from..until).filter(|part| !part.is_empty()) {
                pieces.push(Piece::Data(PyBytes::new(py, part).unbind()));
            }
            from = until;
        };
        for end in chunk_ends {
            data(&mut pieces, end);
            pieces.push(Piece::ChunkEnd);
        }
        data(&mut pieces, bytes.len());
        pieces
    }
}
