//! How often a busy loop looks at its descriptors and its clock.
//!
//! A wait in the kernel costs as much as several callbacks. While callbacks are ready there is no need to ask after each
//! of them, only soon enough that I/O and timers are not starved: every [`MOST_TURNS`] turns, and before
//! [`LONGEST_NANOS`] have passed. The clock itself is read every [`TURNS_A_READING`] turns, or after a turn that ran many
//! callbacks.
//!
//! While the looks keep finding something there is one before each turn, as in asyncio: programs, tests above all, expect
//! that what a peer has sent is seen after one turn. The rhythm is for a loop whose descriptors are quiet.
//!
//! What the loop itself does to a descriptor ends the quiet ([`Pace::disturb`]): the other end may be watched by the same
//! loop, and then has something to read, to accept or to write.

/// The most turns without a poll.
const MOST_TURNS: u32 = 128;
/// The longest time without a poll, as far as the readings of the clock tell.
const LONGEST_NANOS: u64 = 25_000;
/// Short turns between two readings of the clock.
const TURNS_A_READING: u32 = 8;
/// Looks in a row that find nothing before the descriptors count as quiet.
const QUIET_LOOKS: u32 = 4;
/// A turn of more callbacks than this is followed by a reading.
const LONG_TURN: usize = 16;

/// The rhythm of one loop.
#[derive(Debug, Default)]
pub struct Pace {
    turns: u32,
    unread: u32,
    looked_at: u64,
    quiet: u32,
}

impl Pace {
    /// Notes a look at the descriptors at time `now`, in nanoseconds, and whether it found anything.
    pub const fn looked(&mut self, now: u64, found: bool) {
        self.quiet = if found { 0 } else { self.quiet.saturating_add(1) };
        self.turns = 0;
        self.unread = 0;
        self.looked_at = now;
    }

    /// Ends the quiet: a descriptor was written to, closed, connected or newly watched.
    pub const fn disturb(&mut self) {
        self.quiet = 0;
    }

    /// Whether to look before the next turn, with the turn just over having run `ran` callbacks. `clock` is read only
    /// when the answer depends on it.
    pub fn is_time_to_look(&mut self, ran: usize, clock: impl FnOnce() -> u64) -> bool {
        if self.quiet < QUIET_LOOKS {
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
        clock().saturating_sub(self.looked_at) >= LONGEST_NANOS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_after_many_short_turns_though_the_clock_stands() {
        let mut pace = quiet();
        let turns = (1..).find(|_| pace.is_time_to_look(1, || 0));
        assert_eq!(turns, Some(MOST_TURNS));
    }

    #[test]
    fn looks_soon_after_slow_turns() {
        let mut pace = quiet();
        let turns = (1..).find(|turn| pace.is_time_to_look(1, || u64::from(*turn) * 1_000_000));
        assert_eq!(turns, Some(TURNS_A_READING));
        pace.looked(0, false);
        assert!(pace.is_time_to_look(LONG_TURN + 1, || LONGEST_NANOS));
    }

    #[test]
    fn looks_before_each_turn_until_the_descriptors_are_quiet() {
        let mut pace = quiet();
        assert!(!pace.is_time_to_look(1, || 0));
        pace.looked(0, true);
        for _ in 0..QUIET_LOOKS {
            assert!(pace.is_time_to_look(1, || 0));
            pace.looked(0, false);
        }
        assert!(!pace.is_time_to_look(1, || 0));
    }

    #[test]
    fn a_disturbance_ends_the_quiet() {
        let mut pace = quiet();
        assert!(!pace.is_time_to_look(1, || 0));
        pace.disturb();
        for _ in 0..QUIET_LOOKS {
            assert!(pace.is_time_to_look(1, || 0));
            pace.looked(0, false);
        }
        assert!(!pace.is_time_to_look(1, || 0));
    }

    fn quiet() -> Pace {
        let mut pace = Pace::default();
        (0..QUIET_LOOKS).for_each(|_| pace.looked(0, false));
        pace
    }
}
