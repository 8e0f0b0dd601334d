//! Turns that the main loop of a host calls, one at a time.
//!
//! A poller's own descriptor can be watched by another poller, `select()` or a toolkit's main loop, and is readable whenever
//! a source is ready. The host watches one that has nothing but the loop's poller in it, and so stays the same where that is
//! made anew. Between two turns three things keep it true that it is readable exactly when there is something to do:
//! an [`Alarm`] among the sources stands for the next timer; the injection queue is parked, so that a call from another thread
//! writes the waker; and whatever opens the loop's state on this thread does so too (`EventLoop::with`), as a handler of the
//! host may schedule something for the next turn. Work that a turn leaves, its budget used up, writes the waker itself. During
//! a turn the waker stays written.
//!
//! The guest keeps the loop's guard from the first turn to the last, and a turn may begin within a turn: a callback that runs
//! a modal dialog runs the host's main loop, which calls the next turn.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::PyVisit;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use whorl_core::reactor::{Alarm, Interest, Poller, Token};
use whorl_core::sched::{Budget, KeptGuard, OwnerGuard, Sleep};

use super::clock;
use super::run::{Caller, Flow, Step};
use super::{EventLoop, Source};
use crate::errors::OrRaise;

/// The turns of a loop within the main loop of a host. `whorl.guest.Guest` has one.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct GuestTurns {
    event_loop: Py<EventLoop>,
    /// How many turns are under way on the stack.
    depth: AtomicU32,
    stopped: AtomicBool,
    /// Until the guest ends. Locked for the length of a move only, on an attached thread that does not detach meanwhile.
    tenure: Mutex<Option<Arc<Tenure>>>,
}

/// What the guest has from its beginning to its end.
#[derive(Debug)]
struct Tenure {
    guard: KeptGuard,
    alarm: Alarm,
    alarm_token: Token,
    /// What the host watches.
    outer: Poller,
    /// The loop's poller that is in it. Locked for the length of a comparison or a move.
    inner: Mutex<Option<Arc<Poller>>>,
}

impl Tenure {
    /// Has the host see what the loop's poller has, which may be a new one.
    ///
    /// # Errors
    /// OSError from the poller; RuntimeError on the wrong thread.
    fn follow(&self, event_loop: &EventLoop) -> PyResult<()> {
        // Not by way of `with`, which takes a change for granted and wakes the host.
        let current = event_loop.state.with(|state| state.poller.clone()).or_raise()?;
        let Some(current) = current else { return Ok(()) };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.as_ref().is_some_and(|inner| Arc::ptr_eq(inner, &current)) {
            return Ok(());
        }
        // SAFETY: the descriptor of a poller that `inner` keeps open until it is taken out again.
        unsafe { self.outer.add(current.as_raw_fd(), Token::from_raw(0), Interest::READ) }.or_raise()?;
        match inner.replace(current) {
            Some(former) => self.outer.delete(former.as_raw_fd()).or_raise(),
            None => Ok(()),
        }
    }
}

/// Counts a turn for as long as it is under way.
struct Entered<'a>(&'a AtomicU32);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GuestTurns {
    fn tenure(&self) -> PyResult<Arc<Tenure>> {
        let tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        tenure.clone().ok_or_else(|| PyRuntimeError::new_err("the guest has ended"))
    }

    /// Runs steps without waiting, until nothing is ready or the budget is used up.
    fn run_steps(
        &self,
        event_loop: &Bound<'_, EventLoop>,
        guard: &OwnerGuard<'_>,
        budget: Budget,
        caller: Caller,
    ) -> PyResult<()> {
        let this = event_loop.get();
        let mut step = Step::new(guard, caller);
        let mut first = true;
        loop {
            let sleep = step.prepare(event_loop)?;
            if sleep.is_idle() && !first {
                return Ok(());
            }
            first = false;
            step.poll(event_loop, sleep.without_waiting())?;
            let outcome = step.dispatch(event_loop, Some(budget));
            // After an exception as well: the host may go on, and nothing else would bring them back.
            if caller == Caller::Host {
                this.take_entered()?;
            }
            if outcome? == Flow::Stop {
                this.with(|state| state.stopping = false)?;
                self.stopped.store(true, Ordering::Relaxed);
                return Ok(());
            }
            if budget.is_used_up(clock::monotonic()) {
                return Ok(());
            }
        }
    }

    /// Makes the descriptor readable for what is left to do, now or at the next deadline; returns the seconds until then.
    fn settle(event_loop: &Bound<'_, EventLoop>, tenure: &Tenure) -> PyResult<Option<f64>> {
        let this = event_loop.get();
        tenure.follow(this)?;
        let sleep = this.may_sleep()?;
        let delay = match sleep {
            Sleep::Skip | Sleep::No => Some(Duration::ZERO),
            Sleep::Until(_) | Sleep::Forever => sleep.limit(|| EventLoop::now(event_loop))?,
        };
        tenure.alarm.set(delay.filter(|_| sleep.is_idle())).or_raise()?;
        this.injection_queue.drain_waker();
        // Another thread may have left a call meanwhile.
        if !this.injection_queue.park() || !sleep.is_idle() {
            this.injection_queue.unpark();
            this.injection_queue.wake().or_raise()?;
            return Ok(Some(0.0));
        }
        Ok(delay.map(|delay| delay.as_secs_f64()))
    }
}

#[pymethods]
impl GuestTurns {
    #[new]
    fn new(event_loop: &Bound<'_, EventLoop>) -> PyResult<Self> {
        let this = event_loop.get();
        this.check_closed()?;
        this.check_process()?;
        let guard = KeptGuard::take(this.owner()).or_raise()?;
        this.leave_rest()?;
        // The descriptors first: what fails after the alarm is registered would leave it among the sources.
        let (alarm, outer) = (Alarm::new().or_raise()?, Poller::new().or_raise()?);
        let alarm_token = this.register(alarm.fd(), Interest::READ, Source::Waker)?;
        let tenure = Tenure { guard, alarm, alarm_token, outer, inner: Mutex::new(None) };
        tenure.follow(this)?;
        // The first turn is due.
        this.injection_queue.wake().or_raise()?;
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            depth: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            tenure: Mutex::new(Some(Arc::new(tenure))),
        })
    }

    /// The descriptor that is readable when there is something to do.
    #[getter]
    fn fd(&self) -> PyResult<i32> {
        self.event_loop.get().check_closed()?;
        Ok(self.tenure()?.outer.as_raw_fd())
    }

    /// How many turns are under way.
    #[getter]
    fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Whether `loop.stop()` was called.
    #[getter]
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Runs what is due, for `budget` seconds at most as far as callbacks are short; returns the seconds until the next timer.
    fn turn(&self, py: Python<'_>, budget: f64) -> PyResult<Option<f64>> {
        let event_loop = self.event_loop.bind(py);
        let tenure = self.tenure()?;
        let outcome = tenure.guard.with(|guard| {
            let is_nested = self.depth.fetch_add(1, Ordering::Relaxed) > 0;
            let caller = if is_nested { Caller::NestedHost } else { Caller::Host };
            let _entered = Entered(&self.depth);
            let this = event_loop.get();
            this.injection_queue.unpark();
            // A callback may run the host's main loop: it finds the descriptor readable.
            this.injection_queue.wake().or_raise()?;
            let budget = Budget::new(clock::monotonic(), clock::nanos(budget));
            let outcome = self.run_steps(event_loop, guard, budget, caller);
            // After an exception as well: the host may go on, and call the next turn.
            let next = Self::settle(event_loop, &tenure);
            outcome.and(next)
        });
        outcome.or_raise()?
    }

    /// Gives the loop back, to be run or closed.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        if self.depth() > 0 {
            return Err(PyRuntimeError::new_err("a guest cannot end within a turn of its own"));
        }
        let this = self.event_loop.get();
        let tenure = self.tenure()?;
        tenure.guard.with(|_| ()).or_raise()?;
        this.injection_queue.unpark();
        let _alarm = this.unregister(tenure.alarm_token)?;
        // The loop's guard and two descriptors go with it.
        let taken = self.tenure.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop((tenure, taken));
        EventLoop::come_to_rest(self.event_loop.bind(py));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.event_loop)
    }
}
