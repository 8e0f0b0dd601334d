//! The output side of a byte stream: what waits to be written, who will send it, and whether the writer should pause.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use whorl_core::net::{Flow, Flushed, WaterMarks, WriteQueue};

use super::chunk::Chunk;

/// Who will send what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// Nobody: nothing waits.
    #[default]
    Idle,
    /// The end of this turn of the loop.
    Scheduled,
    /// The next report that the descriptor takes more.
    Blocked,
}

/// The output side of one descriptor.
#[derive(Debug, Default)]
pub struct Output {
    queue: WriteQueue<Chunk>,
    marks: WaterMarks,
    flow: Flow,
    sender: Sender,
}

/// What a flush did.
#[derive(Debug)]
#[must_use]
pub struct FlushReport {
    /// How far it came.
    pub outcome: io::Result<Flushed>,
    /// Whether the poller has to be told that write readiness is wanted now, or no more.
    pub interest_changed: bool,
}

impl Output {
    /// Who will send what waits.
    pub const fn sender(&self) -> Sender {
        self.sender
    }

    /// Whether write readiness is what it waits for.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.sender == Sender::Blocked
    }

    /// What waits is to be sent at the end of the turn; true if that is new: the loop is to be told.
    #[inline]
    #[must_use]
    pub fn transition_to_scheduled(&mut self) -> bool {
        let first = self.sender == Sender::Idle;
        if first {
            self.sender = Sender::Scheduled;
        }
        first
    }

    /// Bytes that wait.
    pub const fn size(&self) -> usize {
        self.queue.size()
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts `chunk` behind what waits.
    #[inline]
    pub fn push(&mut self, chunk: Chunk) {
        self.queue.push(chunk);
    }

    /// Sends with `write` until all is gone or the descriptor takes no more.
    pub fn flush(&mut self, write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> FlushReport {
        let was_blocked = self.is_blocked();
        let outcome = self.queue.flush(write);
        self.sender = if matches!(outcome, Ok(Flushed::Blocked)) { Sender::Blocked } else { Sender::Idle };
        FlushReport { outcome, interest_changed: was_blocked != self.is_blocked() }
    }

    /// Drops all that waits, and returns it for a place where dropping is allowed.
    pub fn take(&mut self) -> VecDeque<Chunk> {
        self.sender = Sender::Idle;
        self.queue.take()
    }

    /// The water marks.
    pub const fn marks(&self) -> WaterMarks {
        self.marks
    }

    /// Changes the water marks.
    pub const fn set_marks(&mut self, marks: WaterMarks) {
        self.marks = marks;
    }

    /// Whether the writer has been asked to pause.
    pub fn is_paused(&self) -> bool {
        self.flow == Flow::Paused
    }

    /// Whether more than the high mark waits; true if that is new: `pause_writing()` is to be called.
    #[inline]
    #[must_use]
    pub fn transition_to_paused(&mut self) -> bool {
        self.flow.transition_to_paused(self.queue.size(), self.marks)
    }

    /// Whether no more than the low mark waits; true if that is new: `resume_writing()` is to be called.
    #[inline]
    #[must_use]
    pub fn transition_to_open(&mut self) -> bool {
        self.flow.transition_to_open(self.queue.size(), self.marks)
    }
}
