//! What a step of the loop does next, by numbers: nothing here waits or reads a clock.
//!
//! A step has three parts. *Prepare* says how long the loop may sleep ([`Outlook::sleep`]), *poll* waits that long and is the
//! only part that may block, *dispatch* is handed the events that came. A normal run repeats the three; a guest of another
//! main loop never lets *poll* wait, and ends its turn when its [`Budget`] is used up.

use std::time::Duration;

/// Polls in a row that bring an event of a source which is gone, before the poller is made anew.
///
/// Such events mean that a descriptor was closed without being unregistered and has a duplicate: the kernel continues to
/// report it.
const STALE_POLLS: u32 = 16;

/// What is known before a poll.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// The batch of the turn has been interrupted and continues.
    pub in_batch: bool,
    /// [`Pace`](super::Pace) says that a poll is due.
    pub polls: bool,
    /// A callback is ready to run, or the loop is to stop: there is no reason to sleep.
    pub is_busy: bool,
}

/// How long a poll may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// There is no poll in this step.
    Skip,
    /// Not at all: work is ready.
    No,
    /// Until a time in nanoseconds of the loop's clock.
    Until(u64),
    /// Until an event comes.
    Forever,
}

impl Outlook {
    /// How long the poll may wait. `next_deadline`, when the next timer is due, is called only where the result depends on
    /// it.
    ///
    /// # Errors
    /// The error of `next_deadline`.
    #[inline]
    pub fn sleep<E>(self, next_deadline: impl FnOnce() -> Result<Option<u64>, E>) -> Result<Sleep, E> {
        Ok(match self {
            Self { in_batch: true, .. } | Self { polls: false, .. } => Sleep::Skip,
            Self { is_busy: true, .. } => Sleep::No,
            Self { .. } => next_deadline()?.map_or(Sleep::Forever, Sleep::Until),
        })
    }
}

impl Sleep {
    /// Whether the loop has nothing to run before an event comes or a timer is due.
    #[must_use]
    pub const fn is_idle(self) -> bool {
        matches!(self, Self::Until(_) | Self::Forever)
    }

    /// The same without waiting.
    #[must_use]
    pub const fn without_waiting(self) -> Self {
        match self {
            Self::Skip => Self::Skip,
            Self::No | Self::Until(_) | Self::Forever => Self::No,
        }
    }

    /// The timeout of the poll, none to wait without end. `now` is called only where the result depends on it.
    ///
    /// # Errors
    /// What `now` reports.
    #[inline]
    pub fn limit<E>(self, now: impl FnOnce() -> Result<u64, E>) -> Result<Option<Duration>, E> {
        Ok(match self {
            Self::Skip | Self::No => Some(Duration::ZERO),
            Self::Until(deadline) => Some(Duration::from_nanos(deadline.saturating_sub(now()?))),
            Self::Forever => None,
        })
    }
}

/// How often in a row a poll brought an event of a source that is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct StalePolls {
    in_a_row: u32,
}

impl StalePolls {
    /// Notes a poll; true if the poller is to be made anew.
    #[must_use]
    pub const fn note(&mut self, is_stale: bool) -> bool {
        self.in_a_row = if is_stale { self.in_a_row + 1 } else { 0 };
        if self.in_a_row < STALE_POLLS {
            return false;
        }
        self.in_a_row = 0;
        true
    }
}

/// How long the callbacks of one guest turn may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    end: u64,
}

impl Budget {
    /// So many nanoseconds from `now` on.
    #[must_use]
    pub const fn new(now: u64, nanos: u64) -> Self {
        Self { end: now.saturating_add(nanos) }
    }

    /// Whether it is used up at `now`. A budget of nothing lets one callback run.
    #[must_use]
    pub const fn is_used_up(self, now: u64) -> bool {
        now >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const IDLE: Outlook = Outlook { in_batch: false, polls: true, is_busy: false };

    fn sleep(outlook: Outlook, next_deadline: Option<u64>) -> Sleep {
        let sleep = outlook.sleep(|| Ok::<_, Infallible>(next_deadline));
        sleep.unwrap_or_else(|never| match never {})
    }

    #[test]
    fn work_that_is_ready_keeps_the_loop_awake() {
        assert_eq!(sleep(Outlook { is_busy: true, ..IDLE }, Some(5)), Sleep::No);
    }

    #[test]
    fn without_work_the_next_timer_ends_the_sleep() {
        assert_eq!(sleep(IDLE, Some(5)), Sleep::Until(5));
        assert_eq!(sleep(IDLE, None), Sleep::Forever);
    }

    #[test]
    fn an_interrupted_batch_continues_without_a_poll() {
        let outlook = Outlook { in_batch: true, is_busy: true, ..IDLE };
        assert_eq!(sleep(outlook, None), Sleep::Skip);
        assert_eq!(sleep(Outlook { polls: false, is_busy: true, ..IDLE }, None), Sleep::Skip);
    }

    #[test]
    fn a_limit_is_what_is_left_and_never_negative() {
        let at = |now| move || Ok::<_, Infallible>(now);
        assert_eq!(Sleep::Until(50).limit(at(20)), Ok(Some(Duration::from_nanos(30))));
        assert_eq!(Sleep::Until(50).limit(at(70)), Ok(Some(Duration::ZERO)));
        assert_eq!(Sleep::Forever.limit(at(0)), Ok(None));
    }

    #[test]
    fn the_clock_is_read_only_for_a_deadline() {
        let broken = || Err::<u64, _>("read");
        assert_eq!(Sleep::No.limit(broken), Ok(Some(Duration::ZERO)));
        assert_eq!(Sleep::Skip.limit(broken), Ok(Some(Duration::ZERO)));
        assert_eq!(Sleep::Forever.limit(broken), Ok(None));
        assert_eq!(Sleep::Until(1).limit(broken), Err("read"));
    }

    #[test]
    fn a_guest_never_waits() {
        for sleep in [Sleep::No, Sleep::Until(5), Sleep::Forever] {
            assert_eq!(sleep.without_waiting(), Sleep::No);
        }
        assert_eq!(Sleep::Skip.without_waiting(), Sleep::Skip);
        assert!(Sleep::Forever.is_idle() && Sleep::Until(1).is_idle());
        assert!(!Sleep::Skip.is_idle() && !Sleep::No.is_idle());
    }

    #[test]
    fn stale_polls_count_in_a_row_only() {
        let mut polls = StalePolls::default();
        assert!((1..STALE_POLLS).all(|_| !polls.note(true)));
        assert!(!polls.note(false));
        assert!((1..STALE_POLLS).all(|_| !polls.note(true)));
        assert!(polls.note(true));
        assert!(!polls.note(true), "the count begins again");
    }

    #[test]
    fn a_budget_ends_when_it_is_used_up() {
        let budget = Budget::new(100, 10);
        assert!(!budget.is_used_up(109));
        assert!(budget.is_used_up(110));
        assert!(Budget::new(100, 0).is_used_up(100));
        assert!(!Budget::new(u64::MAX - 1, 10).is_used_up(u64::MAX - 1), "the sum is clamped");
    }
}
