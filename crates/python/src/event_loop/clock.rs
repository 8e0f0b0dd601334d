//! The loop's clock: CLOCK_MONOTONIC in nanoseconds, as `time.monotonic()` reads it.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
const GIGA: f64 = 1e9;

/// Now, in nanoseconds.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts near zero at boot and is never negative.
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds as the seconds that Python sees.
#[inline]
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / GIGA
}

/// The deadline in nanoseconds of a timer for `when` seconds: rounded up, and by one more for the rounding of the
/// seconds themselves, so that `loop.time() >= when` holds whenever it comes up. Huge values and infinity are clamped.
#[inline]
pub fn deadline(when: f64) -> u64 {
    // `as` saturates: negative values are 0, infinity is u64::MAX.
    ((when * GIGA).ceil() as u64).saturating_add(1)
}
