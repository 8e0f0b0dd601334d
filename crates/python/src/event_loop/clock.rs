//! The clock of a loop: everything that keeps time on a loop reads that loop's clock.
//!
//! [`EventLoop::now`] and [`now_on`] are the only ways to it from outside of the event loop. [`monotonic`] is the machine's
//! own clock, for measuring how long the process itself took (a slow callback, the time between polls, the budget of a
//! guest's turn): those are no matter of the loop's clock, and nothing beyond the event loop sees that function.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::EventLoop;

/// Nanoseconds in a second.
const GIGA: f64 = 1e9;

/// The machine's clock in nanoseconds: CLOCK_MONOTONIC, as `time.monotonic()` reads it.
#[inline]
pub(super) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts near zero at boot and is never negative.
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds as the seconds that Python sees.
#[inline]
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / GIGA
}

/// A length of time in nanoseconds, rounded up. Huge values and infinity are clamped.
#[inline]
pub fn nanos(seconds: f64) -> u64 {
    // `as` saturates: negative values are 0, infinity is u64::MAX.
    (seconds * GIGA).ceil() as u64
}

/// The deadline in nanoseconds of a timer for `when` seconds: rounded up, and by one more for the rounding of the
/// seconds themselves, so that `loop.time() >= when` holds whenever it is due.
#[inline]
pub fn deadline(when: f64) -> u64 {
    nanos(when).saturating_add(1)
}

/// Which clock a loop goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's.
    System,
    /// `loop.time` of the user's own, on the instance or in a subclass: Python has to be called.
    Replaced,
    /// One for tests, which stands at so many nanoseconds until the loop moves it.
    Test(u64),
}

/// The choice of a loop's clock. Any thread may read the time.
#[derive(Debug, Default)]
pub struct LoopClock {
    is_replaced: AtomicBool,
    is_test: AtomicBool,
    stands_at: AtomicU64,
}

impl LoopClock {
    /// The clock that the loop goes by.
    #[inline]
    pub fn kind(&self) -> Clock {
        if self.is_replaced.load(Ordering::Relaxed) { Clock::Replaced } else { self.own() }
    }

    /// The same, but for what the user has put in its place.
    #[inline]
    fn own(&self) -> Clock {
        if self.is_test.load(Ordering::Relaxed) {
            Clock::Test(self.stands_at.load(Ordering::Relaxed))
        } else {
            Clock::System
        }
    }

    /// The time in nanoseconds, but for what the user has put in its place.
    #[inline]
    pub fn own_now(&self) -> u64 {
        match self.own() {
            Clock::Test(now) => now,
            Clock::System | Clock::Replaced => monotonic(),
        }
    }

    /// Notes whether `loop.time` is the user's.
    pub fn set_replaced(&self, is_replaced: bool) {
        self.is_replaced.store(is_replaced, Ordering::Relaxed);
    }

    /// Makes it a clock for tests, which stands at the present time.
    pub fn stand(&self) {
        self.stands_at.store(monotonic(), Ordering::Relaxed);
        self.is_test.store(true, Ordering::Relaxed);
    }

    /// Moves a clock for tests on; never back.
    pub fn jump(&self, to: u64) {
        self.stands_at.fetch_max(to, Ordering::Relaxed);
    }
}

impl EventLoop {
    /// The time on the loop's clock, in nanoseconds. It may call Python: never with state open.
    ///
    /// # Errors
    /// What a clock of the user's raises.
    #[inline]
    pub fn now(slf: &Bound<'_, Self>) -> PyResult<u64> {
        match slf.get().clock.kind() {
            Clock::System => Ok(monotonic()),
            Clock::Test(now) => Ok(now),
            // A timer for the time that it shows is due.
            Clock::Replaced => Ok(deadline(call_time(slf.as_any())?)),
        }
    }

    /// The same in seconds, as `loop.time()` shows it.
    ///
    /// # Errors
    /// What a clock of the user's raises.
    #[inline]
    pub fn now_in_seconds(slf: &Bound<'_, Self>) -> PyResult<f64> {
        match slf.get().clock.kind() {
            Clock::System => Ok(seconds(monotonic())),
            Clock::Test(now) => Ok(seconds(now)),
            Clock::Replaced => call_time(slf.as_any()),
        }
    }
}

#[cold]
fn call_time(event_loop: &Bound<'_, PyAny>) -> PyResult<f64> {
    event_loop.call_method0(intern!(event_loop.py(), "time"))?.extract()
}

/// The time in nanoseconds on the clock of any loop, ours or not. It may call Python: never with state open.
///
/// # Errors
/// What `loop.time()` of another loop, or a clock of the user's, raises.
#[inline]
pub fn now_on(event_loop: &Bound<'_, PyAny>) -> PyResult<u64> {
    match event_loop.cast::<EventLoop>() {
        Ok(event_loop) => EventLoop::now(event_loop),
        Err(_) => Ok(deadline(call_time(event_loop)?)),
    }
}
