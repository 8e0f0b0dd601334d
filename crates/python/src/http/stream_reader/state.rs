//! The state of a reader, and the steps of a read: it calls no foreign code.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::stream::{NotChunked, StreamBuffer, end_of_line};

use super::goal::{LineGoal, ReadGoal, ReadProgress, ReadStep};
use super::input::{Span, StreamInput, StreamPiece};
use super::source::StreamSource;
use crate::interpreter::{Attached, CloneWith};

/// More bytes than any body has: a read of so many waits for the end.
const EVERYTHING: usize = usize::MAX;

/// The beginning of a line that is too long, as its error shows it, in bytes.
const SHOWN_OF_LINE: usize = 100;

/// The waiter for data.
#[derive(Debug)]
pub struct StreamWaiter {
    /// Its future.
    pub future: Py<PyAny>,
    /// How many bytes have to be buffered before it is woken.
    pub wanted: usize,
    /// How many it takes as one object, at most.
    pub object: Option<usize>,
}

/// What is to be done after feeding, with the state closed.
#[derive(Debug, Default)]
pub struct Fed {
    /// The future to be done.
    pub waiter: Option<Py<PyAny>>,
    /// Whether the source is to wait.
    pub pauses: bool,
}

impl Fed {
    fn add(&mut self, more: Self) {
        // There is one waiter, which is taken out once.
        self.waiter = self.waiter.take().or(more.waiter);
        self.pauses |= more.pauses;
    }
}

/// The state of a reader.
#[derive(Debug, Default)]
pub struct ReaderState {
    pub buffer: StreamBuffer<StreamPiece>,
    pub source: Option<StreamSource>,
    pub event_loop: Option<Py<PyAny>>,
    /// What limits the time of each wait.
    pub timer: Option<Py<PyAny>>,
    /// Whether a native source was paused.
    pub paused: bool,
    /// Whether all of the body has come.
    pub ended: bool,
    /// What reading raises.
    pub exception: Option<Py<PyAny>>,
    pub waiter: Option<StreamWaiter>,
    pub end_waiter: Option<Py<PyAny>>,
    pub end_callbacks: Vec<Py<PyAny>>,
    pub reads_at_end: u32,
    /// Bytes of the body as they were sent, if they were compressed.
    pub compressed: Option<u64>,
    /// What is to stay alive until all of the body has come: the response.
    pub kept: Option<Py<PyAny>>,
}

impl ReaderState {
    /// Appends parts of received memory.
    ///
    /// # Errors
    /// The source has not said that the body is chunked.
    pub fn feed_input(&mut self, at: Attached<'_>, input: &StreamInput) -> Result<Fed, NotChunked> {
        let length = input.piece.content(at).len();
        let mut fed = Fed::default();
        for span in &input.spans {
            fed.add(match span {
                Span::Data(range) => {
                    let piece = input.piece.clone_with(at);
                    if range.len() == length {
                        self.buffer.push(piece, length);
                    } else {
                        self.buffer.push_part(piece, range.clone());
                    }
                    self.fed()
                }
                Span::ChunkEnd => self.end_chunk()?,
            });
        }
        Ok(fed)
    }

    /// Appends a piece as it is.
    pub fn feed_piece(&mut self, at: Attached<'_>, piece: Py<PyBytes>) -> Fed {
        let length = at.bytes(&piece).len();
        if length == 0 {
            return Fed::default();
        }
        self.buffer.push(StreamPiece::Object(piece), length);
        self.fed()
    }

    /// Appends pieces as they are.
    pub fn feed_pieces(&mut self, at: Attached<'_>, pieces: Vec<Py<PyBytes>>) -> Fed {
        for piece in pieces {
            let length = at.bytes(&piece).len();
            self.buffer.push(StreamPiece::Object(piece), length);
        }
        self.fed()
    }

    fn fed(&mut self) -> Fed {
        let size = self.buffer.size();
        let waiter = self.waiter.take_if(|waiter| size >= waiter.wanted);
        let pauses = self.buffer.is_above_high_mark();
        self.paused |= pauses;
        Fed { waiter: waiter.map(|waiter| waiter.future), pauses }
    }

    /// A chunk of the chunked transfer coding has ended.
    ///
    /// # Errors
    /// The source has not said that the body is chunked.
    pub fn end_chunk(&mut self) -> Result<Fed, NotChunked> {
        if !self.buffer.end_chunk()? {
            return Ok(Fed::default());
        }
        // A read of many bytes does not need the chunks that they come in.
        if self.waiter.as_ref().is_some_and(|waiter| waiter.wanted > 1) {
            self.buffer.merge_chunks();
        }
        let pauses = self.buffer.is_above_high_mark();
        self.paused |= pauses;
        // It may be `readchunk()` that waits, for this and not for data.
        let waiter = self.waiter.take_if(|waiter| waiter.wanted == 1);
        Ok(Fed { waiter: waiter.map(|waiter| waiter.future), pauses })
    }

    /// Whether the source is to be resumed, as bytes were taken.
    pub fn resumes(&mut self) -> bool {
        // After the end the connection may be another message's, which has flow control of its own.
        !self.ended && self.buffer.is_below_low_mark() && self.may_resume()
    }

    /// Whether the source may be paused. A program's may be, whatever is known here.
    fn may_resume(&mut self) -> bool {
        match &self.source {
            Some(source) if source.is_native() => std::mem::take(&mut self.paused),
            Some(_) => true,
            None => false,
        }
    }

    /// Takes at most `count` bytes out.
    ///
    /// # Errors
    /// MemoryError.
    pub fn take(&mut self, at: Attached<'_>, count: usize) -> PyResult<Option<Py<PyBytes>>> {
        let count = count.min(self.buffer.size());
        if count == 0 {
            return Ok(None);
        }
        if let Some(piece) = self.buffer.take_whole(count) {
            return Ok(Some(piece.into_bytes(at)));
        }
        let parts = self.buffer.parts(count).map(|(piece, part)| &piece.content(at)[part]);
        let joined = at.join_bytes(count, parts)?;
        self.buffer.advance(count);
        Ok(Some(joined))
    }

    /// One step of a read, and whether the source is to be resumed after it.
    ///
    /// # Errors
    /// MemoryError.
    pub fn step(
        &mut self,
        at: Attached<'_>,
        goal: &mut ReadGoal,
        progress: ReadProgress,
    ) -> PyResult<(ReadStep, bool)> {
        if let ReadGoal::Line(goal) = goal
            && at.bytes(&goal.separator).is_empty()
        {
            return Ok((ReadStep::NoSeparator, false));
        }
        if (progress.is_first || matches!(goal, ReadGoal::Chunk))
            && !(self.ended && matches!(goal, ReadGoal::End))
            && let Some(raised) = self.raised(at)
        {
            return Ok((raised, false));
        }
        if progress.is_first
            && let Some(step) = self.begin(goal)
        {
            return Ok((step, false));
        }
        if !progress.is_in_time
            && !self.buffer.is_empty()
            && !matches!(goal, ReadGoal::Wake(_) | ReadGoal::End)
            && let Some(timer) = &self.timer
        {
            return Ok((ReadStep::AskTimer(timer.clone_with(at)), false));
        }
        let before = self.buffer.size();
        let step = self.try_to_reach(at, goal, progress.is_first)?;
        let has_taken = self.buffer.size() < before;
        match step {
            ReadStep::Wait(wanted) => {
                if let Some(raised) = self.raised(at) {
                    return Ok((raised, false));
                }
                // It may rest because of the marks before.
                let rests = wanted > 1 && !progress.has_resumed && self.may_resume();
                Ok((ReadStep::Wait(wanted), rests || (has_taken && self.resumes())))
            }
            step => Ok((step, has_taken && self.resumes())),
        }
    }

    fn raised(&self, at: Attached<'_>) -> Option<ReadStep> {
        self.exception.as_ref().map(|error| ReadStep::Raise(error.clone_with(at)))
    }

    /// What comes before the first attempt.
    fn begin(&mut self, goal: &mut ReadGoal) -> Option<ReadStep> {
        match goal {
            ReadGoal::AtMost(_) | ReadGoal::All(_) if self.ended && self.buffer.is_empty() => {
                self.reads_at_end = self.reads_at_end.saturating_add(1);
                return Some(ReadStep::AtEnd(self.reads_at_end));
            }
            ReadGoal::AtMost(0) | ReadGoal::Exactly(0) => return Some(ReadStep::Bytes(None)),
            ReadGoal::AtMost(count) | ReadGoal::Exactly(count) => self.buffer.set_read_size(*count),
            ReadGoal::All(marks) => {
                let mut lifted = self.buffer.marks();
                *marks = Some(lifted);
                lifted.raise_to(EVERYTHING);
                self.buffer.set_marks(lifted);
            }
            _ => {}
        }
        None
    }

    fn try_to_reach(&mut self, at: Attached<'_>, goal: &mut ReadGoal, is_first: bool) -> PyResult<ReadStep> {
        let nothing = self.buffer.is_empty() && !self.ended;
        Ok(match goal {
            ReadGoal::AtMost(_) | ReadGoal::Any if nothing => ReadStep::Wait(1),
            ReadGoal::AtMost(count) => ReadStep::Bytes(self.take(at, *count)?),
            ReadGoal::Any => ReadStep::Bytes(self.take(at, EVERYTHING)?),
            ReadGoal::All(_) if !self.ended => self.wait_for(EVERYTHING),
            ReadGoal::All(marks) => {
                if let Some(marks) = marks.take() {
                    self.buffer.set_marks(marks);
                }
                ReadStep::Bytes(self.take(at, EVERYTHING)?)
            }
            ReadGoal::Exactly(count) if self.buffer.size() >= *count => {
                ReadStep::Bytes(self.take(at, *count)?)
            }
            ReadGoal::Exactly(count) if !self.ended => self.wait_for(*count),
            ReadGoal::Exactly(count) => ReadStep::Incomplete(self.take(at, *count)?, *count),
            ReadGoal::Chunk => self.take_chunk(at)?,
            ReadGoal::Line(goal) => self.take_line(at, goal)?,
            ReadGoal::Wake(_) if is_first => ReadStep::Wait(1),
            ReadGoal::End if is_first && !self.ended => ReadStep::Wait(1),
            ReadGoal::Wake(_) | ReadGoal::End => ReadStep::Nothing,
        })
    }

    /// It waits for many bytes. As many chunks may end meanwhile as there are, and no reader takes their ends.
    fn wait_for(&mut self, count: usize) -> ReadStep {
        self.buffer.merge_chunks();
        ReadStep::Wait(count)
    }

    fn take_chunk(&mut self, at: Attached<'_>) -> PyResult<ReadStep> {
        if let Some(count) = self.buffer.take_chunk_end() {
            return Ok(ReadStep::Chunk(self.take(at, count)?, true));
        }
        if let Some((_, unread)) = self.buffer.first() {
            return Ok(ReadStep::Chunk(self.take(at, unread.len())?, false));
        }
        Ok(if self.ended { ReadStep::Chunk(None, false) } else { ReadStep::Wait(1) })
    }

    fn take_line(&mut self, at: Attached<'_>, goal: &mut LineGoal) -> PyResult<ReadStep> {
        let separator = at.bytes(&goal.separator);
        let most = goal.most.unwrap_or(self.buffer.marks().high());
        while let Some((piece, unread)) = self.buffer.first() {
            let part = &piece.content(at)[unread];
            if goal.line.bytes().is_empty()
                && let Some(length) = end_of_line(part, separator)
            {
                // The usual case: the piece has all of the line.
                let line = self.take(at, length)?;
                return Ok(match &line {
                    Some(line) if length > most => too_long(at.bytes(line), most),
                    _ => ReadStep::Bytes(line),
                });
            }
            let (taken, is_found) = goal.line.push(part, separator);
            self.buffer.advance(taken);
            let line = goal.line.bytes();
            if line.len() > most {
                let line = std::mem::take(&mut goal.line);
                return Ok(too_long(line.bytes(), most));
            }
            if is_found {
                return Ok(ReadStep::Bytes(Some(at.new_bytes(line))));
            }
        }
        Ok(match goal.line.bytes() {
            _ if !self.ended => ReadStep::Wait(1),
            b"" => ReadStep::Bytes(None),
            line => ReadStep::Bytes(Some(at.new_bytes(line))),
        })
    }

    /// A read is given up while it waits: the next one gets the bytes that it has not returned.
    pub fn undo(&mut self, at: Attached<'_>, goal: &mut ReadGoal) {
        match goal {
            ReadGoal::All(marks) => {
                if let Some(marks) = marks.take() {
                    self.buffer.set_marks(marks);
                }
            }
            ReadGoal::Line(goal) if !goal.line.bytes().is_empty() => {
                let line = std::mem::take(&mut goal.line);
                self.put_back(at.new_bytes(line.bytes()), line.bytes().len());
            }
            _ => {}
        }
    }

    /// Puts a piece back, to be read before everything else.
    pub fn put_back(&mut self, piece: Py<PyBytes>, length: usize) {
        if length > 0 {
            self.buffer.put_back(StreamPiece::Object(piece), length);
            self.reads_at_end = 0;
        }
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(source) = &self.source {
            source.visit(visit)?;
        }
        visit.call(&self.event_loop)?;
        visit.call(&self.timer)?;
        visit.call(&self.exception)?;
        if let Some(StreamWaiter { future, .. }) = &self.waiter {
            visit.call(future)?;
        }
        visit.call(&self.end_waiter)?;
        self.end_callbacks.iter().try_for_each(|callback| visit.call(callback))?;
        visit.call(&self.kept)
    }
}

fn too_long(line: &[u8], most: usize) -> ReadStep {
    let shown = line.get(..SHOWN_OF_LINE).unwrap_or(line);
    ReadStep::TooLong([shown, b"..."].concat(), most)
}
