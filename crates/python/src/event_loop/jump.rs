//! The clock for tests: it stands, and jumps to the next deadline once nothing else can happen.
//!
//! `whorl.testing.EventLoop` is a loop with this clock. That class finds out what keeps the clock from jumping, as this
//! depends on peers, executors and children; the poll itself is here.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use whorl_core::reactor::{Events, Interest};

use super::clock;
use super::{EventLoop, Source};
use crate::interpreter::Outgoing;

impl EventLoop {
    /// A poll of a loop that has nothing to run, on a clock that stands at `now`: it brings events, or the clock jumps.
    ///
    /// # Errors
    /// What `_clock_is_stuck` raises when the clock could not jump for as long as the test's patience; OSError from the poller.
    #[cold]
    pub fn poll_or_jump(slf: &Bound<'_, Self>, events: &mut Events, now: u64) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let patience: f64 = slf.getattr(intern!(py, "_clock_patience"))?.extract()?;
        let end = clock::monotonic().saturating_add(clock::nanos(patience));
        loop {
            Self::poll(slf, events, Some(Duration::ZERO))?;
            if !events.is_empty() || !this.injection_queue.is_empty() {
                return Ok(());
            }
            let holds = slf.call_method0(intern!(py, "_what_holds_the_clock"))?;
            let next = this.next_deadline()?;
            if let Some(deadline) = next
                && !holds.is_truthy()?
            {
                this.clock.jump(deadline.max(now));
                return Ok(());
            }
            let left = end.saturating_sub(clock::monotonic());
            if left == 0 {
                return slf.call_method1(intern!(py, "_clock_is_stuck"), (holds,)).map(drop);
            }
            Self::poll(slf, events, Some(Duration::from_nanos(left)))?;
            if !events.is_empty() || !this.injection_queue.is_empty() {
                return Ok(());
            }
        }
    }
}

/// A registered descriptor: its number, whether it is watched for reading and for writing, and the object that stands for it.
type Registration<'py> = (i32, bool, bool, Option<Bound<'py, PyAny>>);

#[pymethods]
impl EventLoop {
    /// Makes the loop's clock stand at the present time; from now on it moves by jumps alone.
    fn _let_clock_jump(&self) {
        self.clock.stand();
    }

    /// The registered descriptors, but for the loop's own wake-up.
    fn _registrations<'py>(&self, py: Python<'py>) -> PyResult<Vec<Registration<'py>>> {
        let registered: Vec<_> = self.with_attached(py, |state, at| {
            let registrations = state.sources.registrations();
            registrations
                .filter_map(|(token, fd, interest)| {
                    let object = match state.sources.get(token)? {
                        Source::Waker => return None,
                        Source::Watch(watch) => watch.owner(at),
                        source => source.transport(at),
                    };
                    Some((fd, interest, object))
                })
                .collect()
        })?;
        let shown = |(fd, interest, object): (i32, Interest, Option<Outgoing>)| {
            (fd, interest.read, interest.write, object.map(|object| object.into_bound(py)))
        };
        Ok(registered.into_iter().map(shown).collect())
    }
}
