//! The output side of a transport: what waits to be written, what has it sent, and whether the writer should pause.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use whorl_core::net::{DatagramQueue, Flow, FlushTrigger, Flushed, WaterMarks, WriteQueue, WriteStep};
use whorl_core::sched::Turn;

use super::chunk::Chunk;

/// What waits to be sent, in order.
pub trait Backlog: Send {
    /// One of what waits.
    type Item;

    /// Bytes that wait.
    fn size(&self) -> usize;

    /// Whether nothing waits.
    fn is_empty(&self) -> bool;

    /// Drops all that waits, and returns it for a place where dropping is allowed.
    fn take(&mut self) -> VecDeque<Self::Item>;
}

impl Backlog for WriteQueue<Chunk> {
    type Item = Chunk;

    #[inline]
    fn size(&self) -> usize {
        self.size()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn take(&mut self) -> VecDeque<Chunk> {
        self.take()
    }
}

impl<D: Send> Backlog for DatagramQueue<Chunk, D> {
    type Item = (Chunk, D);

    #[inline]
    fn size(&self) -> usize {
        self.size()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn take(&mut self) -> VecDeque<(Chunk, D)> {
        self.take()
    }
}

/// The output side of one descriptor.
#[derive(Debug, Default)]
pub struct OutputSide<Q> {
    /// What waits.
    pub queue: Q,
    marks: WaterMarks,
    flow: Flow,
    trigger: FlushTrigger,
}

/// What a flush did.
#[derive(Debug)]
#[must_use]
pub struct FlushReport {
    /// How far it came.
    pub outcome: io::Result<Flushed>,
    /// Whether write readiness is to be added to the interest, or removed.
    pub interest_changed: bool,
}

impl<Q: Backlog> OutputSide<Q> {
    /// Nothing waits in `queue`.
    pub fn new(queue: Q) -> Self {
        Self { queue, marks: WaterMarks::default(), flow: Flow::default(), trigger: FlushTrigger::default() }
    }

    /// Whether write readiness is what it waits for.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.trigger == FlushTrigger::Blocked
    }

    /// Bytes that wait.
    #[inline]
    pub fn size(&self) -> usize {
        self.queue.size()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops all that waits, and returns it for a place where dropping is allowed.
    pub fn take(&mut self) -> VecDeque<Q::Item> {
        self.trigger = FlushTrigger::Idle;
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

    /// A flush came to its end, `blocked` if the descriptor took no more. True if the poller's interest changes by it.
    #[inline]
    pub fn transition_on_flush(&mut self, blocked: bool) -> bool {
        self.trigger.transition_on_flush(blocked)
    }
}

impl OutputSide<WriteQueue<Chunk>> {
    /// Whether something waits for the end of the turn only.
    #[inline]
    pub fn has_gathered(&self) -> bool {
        self.trigger == FlushTrigger::Scheduled && !self.is_empty()
    }

    /// What a write in `turn` has to do, its data being queued; above the high-water mark, and if `at_once`, nothing waits
    /// for the end of the turn.
    #[inline]
    pub fn transition_on_write(&mut self, turn: Turn, at_once: bool) -> WriteStep {
        if self.is_empty() {
            return WriteStep::Wait;
        }
        self.trigger.transition_on_write(turn, at_once || self.size() > self.marks.high())
    }

    /// The turn ends; true if what was gathered is to be sent now.
    #[inline]
    #[must_use]
    pub fn transition_on_turn_end(&mut self) -> bool {
        self.trigger.transition_on_turn_end()
    }

    /// Puts `chunk` behind what waits.
    #[inline]
    pub fn push(&mut self, chunk: Chunk) {
        self.queue.push(chunk);
    }

    /// Sends with `write` until all is gone or the descriptor takes no more.
    pub fn flush(&mut self, write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> FlushReport {
        let outcome = self.queue.flush(write);
        let interest_changed = self.trigger.transition_on_flush(matches!(outcome, Ok(Flushed::Blocked)));
        FlushReport { outcome, interest_changed }
    }
}
