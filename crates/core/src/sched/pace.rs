//! How often a busy loop polls and reads its clock.
//!
//! A poll costs as much as several callbacks. While callbacks are ready there is no need to poll after each of them, only
//! soon enough that I/O and timers are not starved: every [`MOST_TURNS`] turns, and before
//! [`LONGEST_NANOS`] have passed. The clock itself is read every [`TURNS_A_READING`] turns, or after a turn that ran many
//! callbacks.
//!
//! While the polls report events there is one before each turn, as in asyncio: programs, tests above all, expect that what
//! a peer has sent is read after one turn. Polls are left out while the descriptors are quiet.
//!
//! What the loop itself does to a descriptor ends the quiet ([`Pace::disturb`]): the other end may be watched by the same
//! loop, and then has something to read, to accept or to write.

/// The most turns without a poll.
const MOST_TURNS: u32 = 128;
/// The longest time without a poll, as far as the readings of the clock show.
const LONGEST_NANOS: u64 = 25_000;
/// Short turns between two readings of the clock.
const TURNS_A_READING: u32 = 8;
/// Polls in a row without an event before the descriptors count as quiet.
const QUIET_POLLS: u32 = 4;
/// A turn of more callbacks than this is followed by a reading.
const LONG_TURN: usize = 16;

/// When one loop polls next.
#[derive(Debug, Default)]
pub struct Pace {
    turns: u32,
    unread: u32,
    polled_at: u64,
    quiet: u32,
}

impl Pace {
    /// Notes a poll at time `now`, in nanoseconds, and whether it reported an event.
    pub const fn note_poll(&mut self, now: u64, has_events: bool) {
        self.quiet = if has_events { 0 } else { self.quiet.saturating_add(1) };
        self.turns = 0;
        self.unread = 0;
        self.polled_at = now;
    }

    /// Ends the quiet: a descriptor was written to, closed, connected or newly watched.
    pub const fn disturb(&mut self) {
        self.quiet = 0;
    }

    /// Whether to poll before the next turn. The turn that is just over ran `ran` callbacks. `clock` is read only where the
    /// result depends on it.
    pub fn is_poll_due(&mut self, ran: usize, clock: impl FnOnce() -> u64) -> bool {
        if self.quiet < QUIET_POLLS {
            return true;
        }
        self.turns += 1;
        self.unread += 1;
        if self.turns >= MOST_TURNS {
            return true;
        }
        if self.unread < TURNS_A_READING && ran <= LONG_TURN {
            return false;
        }
        self.unread = 0;
        clock().saturating_sub(self.polled_at) >= LONGEST_NANOS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_due_after_many_short_turns_though_the_clock_stands() {
        let mut pace = quiet();
        let turns = (1..).find(|_| pace.is_poll_due(1, || 0));
        assert_eq!(turns, Some(MOST_TURNS));
    }

    #[test]
    fn a_poll_is_due_soon_after_slow_turns() {
        let mut pace = quiet();
        let turns = (1..).find(|turn| pace.is_poll_due(1, || u64::from(*turn) * 1_000_000));
        assert_eq!(turns, Some(TURNS_A_READING));
        pace.note_poll(0, false);
        assert!(pace.is_poll_due(LONG_TURN + 1, || LONGEST_NANOS));
    }

    #[test]
    fn a_poll_is_due_before_each_turn_until_the_descriptors_are_quiet() {
        let mut pace = quiet();
        assert!(!pace.is_poll_due(1, || 0));
        pace.note_poll(0, true);
        for _ in 0..QUIET_POLLS {
            assert!(pace.is_poll_due(1, || 0));
            pace.note_poll(0, false);
        }
        assert!(!pace.is_poll_due(1, || 0));
    }

    #[test]
    fn a_disturbance_ends_the_quiet() {
        let mut pace = quiet();
        assert!(!pace.is_poll_due(1, || 0));
        pace.disturb();
        for _ in 0..QUIET_POLLS {
            assert!(pace.is_poll_due(1, || 0));
            pace.note_poll(0, false);
        }
        assert!(!pace.is_poll_due(1, || 0));
    }

    fn quiet() -> Pace {
        let mut pace = Pace::default();
        (0..QUIET_POLLS).for_each(|_| pace.note_poll(0, false));
        pace
    }
}
