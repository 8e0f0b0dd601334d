//! Water marks: when a writer is paused, and when it is resumed.

use std::fmt;

/// The limits of a write buffer in bytes, as `asyncio.WriteTransport.set_write_buffer_limits` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaterMarks {
    low: usize,
    high: usize,
}

/// `low` was above `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongWaterMarks {
    /// The low mark given, in bytes.
    pub low: usize,
    /// The high mark given, in bytes.
    pub high: usize,
}

impl fmt::Display for WrongWaterMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "high ({}) must be >= low ({}) must be >= 0", self.high, self.low)
    }
}

impl std::error::Error for WrongWaterMarks {}

impl Default for WaterMarks {
    /// 64 KiB and 16 KiB, asyncio's.
    fn default() -> Self {
        Self { low: 16 * 1024, high: 64 * 1024 }
    }
}

impl WaterMarks {
    /// Marks from the user's values, `default_high` bytes if there are none: a missing high is four times the low, a
    /// missing low a quarter of the high, as in asyncio.
    ///
    /// # Errors
    /// [`WrongWaterMarks`] when `low` is above `high`.
    pub fn new(
        low: Option<usize>,
        high: Option<usize>,
        default_high: usize,
    ) -> Result<Self, WrongWaterMarks> {
        let high = high.unwrap_or_else(|| low.map_or(default_high, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high / 4);
        if low > high { Err(WrongWaterMarks { low, high }) } else { Ok(Self { low, high }) }
    }

    /// The mark at which a paused writer continues, in bytes.
    #[must_use]
    pub const fn low(self) -> usize {
        self.low
    }

    /// The mark above which a writer pauses, in bytes.
    #[must_use]
    pub const fn high(self) -> usize {
        self.high
    }
}

/// Whether the writer was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// It may write.
    #[default]
    Open,
    /// `pause_writing()` was called and `resume_writing()` not yet.
    Paused,
}

impl Flow {
    /// Goes to [`Flow::Paused`] when `size` bytes wait, more than the high mark; true if that is new.
    #[must_use]
    pub fn transition_to_paused(&mut self, size: usize, marks: WaterMarks) -> bool {
        let pauses = *self == Self::Open && size > marks.high;
        if pauses {
            *self = Self::Paused;
        }
        pauses
    }

    /// Goes to [`Flow::Open`] when no more than the low mark waits; true if that is new.
    #[must_use]
    pub fn transition_to_open(&mut self, size: usize, marks: WaterMarks) -> bool {
        let opens = *self == Self::Paused && size <= marks.low;
        if opens {
            *self = Self::Open;
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_asyncio() {
        assert_eq!(WaterMarks::new(None, None, 64 * 1024), Ok(WaterMarks::default()));
        assert_eq!(WaterMarks::new(Some(10), None, 0), Ok(WaterMarks { low: 10, high: 40 }));
        assert_eq!(WaterMarks::new(None, Some(100), 0), Ok(WaterMarks { low: 25, high: 100 }));
        assert_eq!(WaterMarks::new(None, Some(0), 0), Ok(WaterMarks { low: 0, high: 0 }));
        let wrong = WrongWaterMarks { low: 2, high: 1 };
        assert_eq!(WaterMarks::new(Some(2), Some(1), 0), Err(wrong));
        assert_eq!(wrong.to_string(), "high (1) must be >= low (2) must be >= 0");
    }

    #[test]
    fn each_transition_is_reported_once() {
        let marks = WaterMarks { low: 2, high: 4 };
        let mut flow = Flow::default();
        assert!(!flow.transition_to_paused(4, marks));
        assert!(flow.transition_to_paused(5, marks));
        assert!(!flow.transition_to_paused(6, marks));
        assert!(!flow.transition_to_open(3, marks));
        assert!(flow.transition_to_open(2, marks));
        assert!(!flow.transition_to_open(0, marks));
    }
}
