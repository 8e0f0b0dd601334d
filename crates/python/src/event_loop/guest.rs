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

use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::PyVisit;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use whorl_core::reactor::{Alarm, Interest, Poller, Token};
use whorl_core::sched::{BorrowError, Budget, KeptGuard, OwnerGuard, Sleep, assert_nothing_open};

use super::clock;
use super::run::{Caller, Step, StepFlow};
use super::{EventLoop, Source};
use crate::errors::OrRaise;
use crate::interpreter::with_exception_aside;

/// The turns of a loop within the main loop of a host. `whorl.guest.Guest` has one.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct GuestTurns {
    event_loop: Py<EventLoop>,
    /// How many turns are under way on the stack.
    depth: AtomicU32,
    stopped: AtomicBool,
    /// Until the guest ends. Locked for the length of a move only, on an attached thread that does not detach meanwhile.
    resources: Mutex<Option<Arc<GuestResources>>>,
    /// What the host watches, until it has stopped to. Locked as `resources`.
    outer: Mutex<Option<Arc<Poller>>>,
}

/// The loop's guard, in an object that any thread may have and drop.
#[derive(Debug)]
struct GuestGuard(ManuallyDrop<KeptGuard>);

// SAFETY: a kept guard is not `Send` so that no section over open state uses or ends it. Here it takes a `Python`, which no section
// has, and `KeptGuard::is_here`, which may be called on any thread, comes before everything else. Its `drop` is left out.
unsafe impl Send for GuestGuard {}
// SAFETY: as above.
unsafe impl Sync for GuestGuard {}

impl GuestGuard {
    /// The guard, on the thread that took it.
    ///
    /// # Errors
    /// RuntimeError on another, and once the guard is released.
    fn here(&self, _py: Python<'_>) -> PyResult<&KeptGuard> {
        if self.0.is_here() { Ok(&self.0) } else { Err(BorrowError::OtherThread).or_raise() }
    }
}

impl Drop for GuestGuard {
    fn drop(&mut self) {
        // SAFETY: the value is not used again.
        unsafe { ManuallyDrop::take(&mut self.0) }.abandon();
    }
}

/// What the guest has from its beginning to its end.
#[derive(Debug)]
struct GuestResources {
    guard: GuestGuard,
    alarm: Alarm,
    alarm_token: Token,
    /// What the host watches.
    outer: Arc<Poller>,
    /// The loop's poller that is in it. Locked for the length of a comparison or a move.
    inner: Mutex<Option<Arc<Poller>>>,
}

impl GuestResources {
    /// Takes the loop over.
    ///
    /// # Errors
    /// RuntimeError if the loop runs; OSError from the poller. The loop is as it was then.
    fn new(py: Python<'_>, event_loop: &EventLoop) -> PyResult<Self> {
        let guard = KeptGuard::take(event_loop.owner()).or_raise()?;
        let (alarm, outer) = (Alarm::new().or_raise()?, Arc::new(Poller::new().or_raise()?));
        let alarm_token = event_loop.register(alarm.fd(), Interest::READ, Source::Waker)?;
        let guard = GuestGuard(ManuallyDrop::new(guard));
        let resources = Self { guard, alarm, alarm_token, outer, inner: Mutex::new(None) };
        let begun = resources.follow(event_loop).and_then(|()| event_loop.leave_rest());
        // The first turn is due.
        match begun.and_then(|()| event_loop.injection_queue.wake().or_raise()) {
            Ok(()) => Ok(resources),
            Err(error) => {
                resources.release(py, event_loop)?;
                Err(error)
            }
        }
    }

    /// Gives the loop back.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn release(&self, py: Python<'_>, event_loop: &EventLoop) -> PyResult<()> {
        let guard = self.guard.here(py)?;
        event_loop.injection_queue.unpark();
        let _alarm = event_loop.unregister(self.alarm_token)?;
        guard.release().or_raise()
    }

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
            Some(previous) => self.outer.delete(previous.as_raw_fd()).or_raise(),
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

fn ended() -> PyErr {
    PyRuntimeError::new_err("the guest has ended")
}

impl GuestTurns {
    fn resources(&self) -> PyResult<Arc<GuestResources>> {
        let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        resources.clone().ok_or_else(ended)
    }

    /// Runs steps without waiting, until nothing is ready or the budget is used up. A poll that has found something is followed by
    /// another one, which costs less than to return to the host and come back.
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
            if sleep.is_idle() && !first && !step.has_found_events() {
                return Ok(());
            }
            first = false;
            step.poll(event_loop, sleep.without_waiting())?;
            let outcome = step.dispatch(event_loop, Some(budget));
            // After an exception as well: the host may continue, and nothing else would bring them back.
            if caller == Caller::Host && this.has_entered(guard)? {
                this.take_entered()?;
            }
            if outcome? == StepFlow::Stop {
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
    fn settle(event_loop: &Bound<'_, EventLoop>, resources: &GuestResources) -> PyResult<Option<f64>> {
        let this = event_loop.get();
        resources.follow(this)?;
        let sleep = this.may_sleep()?;
        let delay = match sleep {
            Sleep::Skip | Sleep::No => Some(Duration::ZERO),
            Sleep::Until(_) | Sleep::Forever => sleep.limit(|| EventLoop::now(event_loop))?,
        };
        resources.alarm.set(delay.filter(|_| sleep.is_idle())).or_raise()?;
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

impl Drop for GuestTurns {
    /// Gives the loop back, if this is the thread that has it.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        let resources = self.resources.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(resources) = resources else { return };
        Python::attach(|py| {
            with_exception_aside(py, || {
                let _on_another_thread = resources.release(py, self.event_loop.get());
            });
        });
    }
}

#[pymethods]
impl GuestTurns {
    #[new]
    fn new(event_loop: &Bound<'_, EventLoop>) -> PyResult<Self> {
        let this = event_loop.get();
        this.check_closed()?;
        this.check_process()?;
        let resources = GuestResources::new(event_loop.py(), this)?;
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            depth: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            outer: Mutex::new(Some(Arc::clone(&resources.outer))),
            resources: Mutex::new(Some(Arc::new(resources))),
        })
    }

    /// The descriptor that is readable when there is something to do, until it is closed.
    #[getter]
    fn fd(&self) -> PyResult<i32> {
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        outer.as_ref().map(|outer| outer.as_raw_fd()).ok_or_else(ended)
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
        let resources = self.resources()?;
        let outcome = resources.guard.here(py)?.with(|guard| {
            let is_nested = self.depth.fetch_add(1, Ordering::Relaxed) > 0;
            let caller = if is_nested { Caller::NestedHost } else { Caller::Host };
            let _entered = Entered(&self.depth);
            let this = event_loop.get();
            this.injection_queue.unpark();
            // A callback may run the host's main loop: it finds the descriptor readable.
            this.injection_queue.wake().or_raise()?;
            let budget = Budget::new(clock::monotonic(), clock::nanos(budget));
            let outcome = self.run_steps(event_loop, guard, budget, caller);
            // After an exception as well: the host may continue, and call the next turn.
            let next = Self::settle(event_loop, &resources);
            outcome.and(next)
        });
        outcome.or_raise()?
    }

    /// Gives the loop back, to be run or closed. The descriptor stays open.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        if self.depth() > 0 {
            return Err(PyRuntimeError::new_err("a guest cannot end within a turn of its own"));
        }
        self.resources()?.release(py, self.event_loop.get())?;
        let _descriptors = self.resources.lock().unwrap_or_else(PoisonError::into_inner).take();
        EventLoop::come_to_rest(self.event_loop.bind(py));
        Ok(())
    }

    /// Closes the descriptor, which the host does not watch any more.
    fn close_fd(&self) {
        let _descriptor = self.outer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.event_loop)
    }
}
