//! What a read is to return, and what a step towards it gives.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::stream::{LongLine, StreamMarks};

/// What a read is to return.
#[derive(Debug)]
pub enum ReadGoal {
    /// So many bytes at most: `read(n)`.
    AtMost(usize),
    /// The rest of the body, with the marks to be set again: `read()`.
    All(Option<StreamMarks>),
    /// What is there: `readany()`.
    Any,
    /// So many bytes: `readexactly(n)`.
    Exactly(usize),
    /// A piece, and whether a chunk ends with it: `readchunk()`.
    Chunk,
    /// A line.
    Line(Box<LineGoal>),
    /// Nothing: it waits once. `_wait()`, with the name of the method that waits.
    Wake(String),
    /// Nothing: it waits for the end of the body. `wait_eof()`
    End,
}

/// A line that is read: `readuntil()`.
#[derive(Debug)]
pub struct LineGoal {
    /// How it ends.
    pub separator: Py<PyBytes>,
    /// The most bytes that it may have; none: what the stream buffers.
    pub most: Option<usize>,
    /// What has come, if the first piece has not all of it.
    pub line: LongLine,
}

impl ReadGoal {
    /// How many bytes it takes as one object, at most.
    pub const fn object(&self) -> Option<usize> {
        match self {
            Self::AtMost(count) => Some(*count),
            _ => None,
        }
    }

    /// The method, as errors name it.
    pub fn method(&self) -> &str {
        match self {
            Self::AtMost(_) | Self::All(_) => "read",
            Self::Any => "readany",
            Self::Exactly(_) => "readexactly",
            Self::Chunk => "readchunk",
            Self::Line(_) => "readuntil",
            Self::Wake(name) => name,
            Self::End => "wait_eof",
        }
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Line(goal) => visit.call(&goal.separator),
            _ => Ok(()),
        }
    }
}

/// How far a read has come between two steps.
#[derive(Clone, Copy, Debug)]
pub struct ReadProgress {
    /// Whether it is the first step of the read.
    pub is_first: bool,
    /// Whether the reader's timer was asked since the last wait.
    pub is_in_time: bool,
    /// Whether the source was resumed since the last wait.
    pub has_resumed: bool,
}

/// The outcome of a step.
#[derive(Debug)]
pub enum ReadStep {
    /// Bytes; none is an empty object.
    Bytes(Option<Py<PyBytes>>),
    /// Bytes, and whether a chunk ends with them.
    Chunk(Option<Py<PyBytes>>, bool),
    /// None.
    Nothing,
    /// No bytes, as the body had ended before this read: for the so-manieth time.
    AtEnd(u32),
    /// The body has broken off.
    Raise(Py<PyAny>),
    /// The body ends before so many bytes.
    Incomplete(Option<Py<PyBytes>>, usize),
    /// A line has to end with something.
    NoSeparator,
    /// The line that begins so is longer than the limit.
    TooLong(Vec<u8>, usize),
    /// The timer is to be asked first.
    AskTimer(Py<PyAny>),
    /// It waits until so many bytes are buffered.
    Wait(usize),
}
