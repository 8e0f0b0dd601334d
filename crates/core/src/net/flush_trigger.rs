//! When a stream sends the bytes that were written to it.

use crate::sched::Turn;

/// The event that sends the bytes written to a stream.
///
/// The first write of a turn is sent at once, so that a program which writes and then blocks has sent before. Bytes
/// written after it in the same turn are gathered, and sent in one call when the turn ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushTrigger {
    /// The next write.
    #[default]
    Idle,
    /// The next write, in any turn but this one, in which a write was sent already.
    Sent(Turn),
    /// The end of this turn: it was requested from the loop.
    Scheduled,
    /// The poller's report that the descriptor takes more.
    Blocked,
}

/// The next step of a write once its bytes are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteStep {
    /// Flush at once.
    Flush,
    /// Ask the loop for a flush when the turn ends.
    Schedule,
    /// Nothing: a flush comes.
    Wait,
}

impl FlushTrigger {
    /// Bytes were written in `turn`; `at_once` if they must not wait for its end.
    #[inline]
    pub fn transition_on_write(&mut self, turn: Turn, at_once: bool) -> WriteStep {
        match *self {
            Self::Blocked => WriteStep::Wait,
            Self::Sent(sent) if sent == turn && !at_once => {
                *self = Self::Scheduled;
                WriteStep::Schedule
            }
            Self::Scheduled if !at_once => WriteStep::Wait,
            // The loop has it on its list until the turn ends.
            Self::Scheduled => WriteStep::Flush,
            Self::Idle | Self::Sent(_) => {
                *self = Self::Sent(turn);
                WriteStep::Flush
            }
        }
    }

    /// A flush came to its end; `blocked` if the descriptor took no more. True if the poller's interest changes by it.
    #[inline]
    #[must_use]
    pub fn transition_on_flush(&mut self, blocked: bool) -> bool {
        match (*self == Self::Blocked, blocked) {
            (false, true) => *self = Self::Blocked,
            (true, false) => *self = Self::Idle,
            (true, true) | (false, false) => return false,
        }
        true
    }

    /// The turn ends for which a flush was scheduled; true if it is still to be done.
    #[inline]
    #[must_use]
    pub fn transition_on_turn_end(&mut self) -> bool {
        let scheduled = *self == Self::Scheduled;
        if scheduled {
            *self = Self::Idle;
        }
        scheduled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turns() -> (Turn, Turn) {
        let first = Turn::default();
        let mut second = first;
        second.advance();
        (first, second)
    }

    #[test]
    fn the_first_write_of_each_turn_is_sent_and_the_others_are_gathered() {
        let (first, second) = turns();
        let mut trigger = FlushTrigger::default();
        for turn in [first, second] {
            assert_eq!(trigger.transition_on_write(turn, false), WriteStep::Flush);
            assert!(!trigger.transition_on_flush(false));
            assert_eq!(trigger.transition_on_write(turn, false), WriteStep::Schedule);
            assert_eq!(trigger.transition_on_write(turn, false), WriteStep::Wait);
            assert!(trigger.transition_on_turn_end());
            assert!(!trigger.transition_on_flush(false));
        }
        assert_eq!(trigger, FlushTrigger::Idle);
    }

    #[test]
    fn a_flush_in_between_leaves_the_one_at_the_end_scheduled() {
        let (turn, _) = turns();
        let mut trigger = FlushTrigger::default();
        assert_eq!(trigger.transition_on_write(turn, false), WriteStep::Flush);
        assert_eq!(trigger.transition_on_write(turn, false), WriteStep::Schedule);
        assert!(!trigger.transition_on_flush(false));
        assert_eq!(trigger.transition_on_write(turn, true), WriteStep::Flush);
        assert_eq!(trigger.transition_on_write(turn, false), WriteStep::Wait, "it is on the loop's list");
        assert!(trigger.transition_on_turn_end());
        assert!(!trigger.transition_on_turn_end());
    }

    #[test]
    fn writes_wait_while_the_descriptor_takes_no_more() {
        let (first, second) = turns();
        let mut trigger = FlushTrigger::default();
        assert_eq!(trigger.transition_on_write(first, false), WriteStep::Flush);
        assert!(trigger.transition_on_flush(true));
        assert_eq!(trigger.transition_on_write(first, true), WriteStep::Wait);
        assert_eq!(trigger.transition_on_write(second, false), WriteStep::Wait);
        assert!(!trigger.transition_on_turn_end());
        assert!(!trigger.transition_on_flush(true));
        assert!(trigger.transition_on_flush(false));
        assert_eq!(trigger.transition_on_write(second, false), WriteStep::Flush);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(bool),
        Flush(bool),
        TurnEnd,
    }

    proptest! {
        #[test]
        fn no_bytes_wait_without_a_flush_to_come(steps in prop::collection::vec(prop_oneof![
            any::<bool>().prop_map(Step::Write),
            any::<bool>().prop_map(Step::Flush),
            Just(Step::TurnEnd),
        ], 0..100)) {
            let (mut turn, _) = turns();
            let mut trigger = FlushTrigger::default();
            let (mut waits, mut watched, mut listed) = (false, false, 0);
            for step in steps {
                let flushes = match step {
                    Step::Write(at_once) => {
                        waits = true;
                        let step = trigger.transition_on_write(turn, at_once);
                        listed += usize::from(step == WriteStep::Schedule);
                        (step == WriteStep::Flush).then_some(false)
                    }
                    // Only bytes that wait can be refused.
                    Step::Flush(blocked) => Some(blocked && waits),
                    Step::TurnEnd => {
                        let due = trigger.transition_on_turn_end();
                        prop_assert!(!due || listed > 0);
                        listed = 0;
                        turn.advance();
                        due.then_some(false)
                    }
                };
                if let Some(blocked) = flushes {
                    watched ^= trigger.transition_on_flush(blocked);
                    waits = blocked;
                }
                prop_assert_eq!(watched, trigger == FlushTrigger::Blocked);
                prop_assert!(!waits || watched || (listed > 0 && trigger == FlushTrigger::Scheduled));
            }
        }
    }
}
