//! One turn after the other: `run_forever()`.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use whorl_core::reactor::{Event, Events, Poller};
use whorl_core::sched::{OwnerGuard, assert_nothing_open};

use super::source::Dispatch;
use super::{EventLoop, Handle, Injected, IoHandle, MOST_RECYCLED, TimerHandle, clock};
use crate::errors::{IntoPyErr, OrRaise};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;

/// Waits in a row that brought an event of a source which is gone, before the poller is made anew: somebody holds a
/// duplicate of a descriptor that was closed without being unregistered, and the kernel reports it for ever.
const STALE_WAITS: u32 = 16;

/// Handles that have run which are kept together.
const RECYCLE_LOT: usize = 32;

/// Transports that are to be told of an event.
type Deferred = Vec<(Dispatch, Event)>;

/// How a poll of the descriptors may wait.
enum Wait {
    /// Something is ready to run.
    No,
    /// A timer comes up in so many nanoseconds.
    Nanos(u64),
    /// Nothing is scheduled.
    Forever,
}

impl Wait {
    const fn limit(&self) -> Option<Duration> {
        match self {
            Self::No => Some(Duration::ZERO),
            Self::Nanos(nanos) => Some(Duration::from_nanos(*nanos)),
            Self::Forever => None,
        }
    }
}

impl EventLoop {
    /// Runs turns until `stop()`.
    ///
    /// # Errors
    /// KeyboardInterrupt and SystemExit raised by what ran; OSError if the poller fails.
    pub fn run_turns(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let guard = this.owner.take().or_raise()?;
        let mut events = Events::with_capacity(EVENTS);
        let mut batch = VecDeque::new();
        let mut recycled = Vec::with_capacity(RECYCLE_LOT);
        let mut stale_waits = 0;
        let mut poll = true;
        let mut deferred = Deferred::new();
        loop {
            if !this.injection_queue.is_empty() {
                Self::take_injected(slf)?;
            }
            if poll {
                let stale = Self::poll(slf, &mut events, &mut deferred)?;
                stale_waits = if stale { stale_waits + 1 } else { 0 };
                if stale_waits >= STALE_WAITS {
                    this.renew_poller()?;
                    stale_waits = 0;
                }
            }
            this.state.with_guard(&guard, |state| mem::swap(&mut batch, &mut state.ready)).or_raise()?;
            let ran = batch.len();
            if let Err(error) = Self::run_batch(slf, &guard, &mut batch, &mut recycled) {
                this.put_back(batch)?;
                return Err(error);
            }
            for (dispatch, event) in deferred.drain(..) {
                Self::run_dispatch(slf, dispatch, event)?;
            }
            let (stopping, unsent) = this
                .state
                .with_guard(&guard, |state| {
                    state.turn.advance();
                    poll = state.pace.is_time_to_look(ran, clock::now) || state.ready.is_empty();
                    (state.stopping, !state.to_flush.is_empty())
                })
                .or_raise()?;
            if unsent {
                Self::flush(slf)?;
            }
            if stopping {
                return Ok(());
            }
        }
    }

    /// What a batch left over, after an exception that ends the loop, comes first when the loop runs again.
    fn put_back(&self, mut batch: VecDeque<Py<Handle>>) -> PyResult<()> {
        self.with(|state| {
            while let Some(handle) = batch.pop_back() {
                state.ready.push_front(handle);
            }
        })
    }

    fn take_injected(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let mut injected = Vec::new();
        this.injection_queue.drain(|item| injected.push(item));
        let changes = this.with(|state| {
            let mut changes = Vec::new();
            for item in injected {
                match item {
                    Injected::Soon(handle) => state.ready.push_back(handle),
                    Injected::Timer(timer) => {
                        state.timers.push(clock::deadline(timer.get().deadline()), timer)
                    }
                    Injected::Watch(change) => changes.push(change),
                }
            }
            changes
        })?;
        // Now, and not behind the callbacks: `add_reader()` of this thread takes effect at once as well.
        changes.iter().try_for_each(|change| Self::make_change(slf, change))
    }

    /// Waits as long as nothing is to be run, tells those whose descriptors are ready, and moves due timers to what is
    /// ready. True if an event came for a source that is gone.
    ///
    /// What was scheduled before comes first, as in asyncio, or a task that is about to be cancelled would still take a
    /// connection or data, which would be lost: if anything is ready to run, transports are told after the batch.
    fn poll(slf: &Bound<'_, Self>, events: &mut Events, deferred: &mut Deferred) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let foreign_now = Self::foreign_now(slf)?;
        let (poller, wait, later) = this.with(|state| {
            let later = !state.ready.is_empty();
            let wait = if !state.ready.is_empty() || state.stopping {
                Wait::No
            } else if let Some(deadline) = state.timers.next_deadline() {
                match deadline.saturating_sub(foreign_now.unwrap_or_else(clock::now)) {
                    0 => Wait::No,
                    nanos => Wait::Nanos(nanos),
                }
            } else {
                Wait::Forever
            };
            (state.poller.clone(), wait, later)
        })?;
        let Some(poller) = poller else {
            return Err(this.check_closed().err().unwrap_or_else(closed_while_running));
        };
        let limit = wait.limit();
        match wait {
            Wait::No => poller.wait(events, limit),
            // The one place where the interpreter is let go of.
            Wait::Nanos(_) | Wait::Forever if this.injection_queue.park() => {
                assert_nothing_open();
                let outcome = py.detach(|| poller.wait(events, limit));
                this.injection_queue.unpark();
                outcome
            }
            // Another thread has left something meanwhile.
            Wait::Nanos(_) | Wait::Forever => poller.wait(events, Wait::No.limit()),
        }
        .or_raise()?;
        // A signal may have ended the wait. Its Python handler runs here, where what it raises leaves `run_forever()` as it
        // leaves `select()` in asyncio, and not in whatever callback is next.
        py.check_signals()?;
        let stale = Self::dispatch_events(slf, events, later.then_some(deferred))?;
        if !this.injection_queue.is_empty() {
            Self::take_injected(slf)?;
        }
        let foreign_now = Self::foreign_now(slf)?;
        let any_event = !events.is_empty();
        let _cancelled = this.with_attached(py, |state, at| {
            let now = clock::now();
            state.pace.looked(now, any_event);
            let now = foreign_now.unwrap_or(now);
            while let Some(timer) = state.timers.pop_due(now) {
                let timer = TimerHandle::into_handle(timer);
                if timer.get().is_cancelled_with(at) {
                    state.timers.forget_cancelled();
                }
                // A cancelled one does nothing when it is run; it goes the same way, so that it is dropped there.
                state.ready.push_back(timer);
            }
            state.sweep_timers(at)
        })?;
        Ok(stale)
    }

    /// Tells those whose descriptors are ready; with `later`, what is not a matter of queued callbacks is left in there.
    fn dispatch_events(
        slf: &Bound<'_, Self>,
        events: &Events,
        mut later: Option<&mut Deferred>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let mut stale = false;
        for index in 0..events.len() {
            let Some(event) = events.get(index) else { break };
            let dispatch = this.with_attached(py, |state, at| match state.sources.get(event.token) {
                Some(source) => source.dispatch(at, event.readiness, &mut state.ready),
                None => Dispatch::Stale,
            })?;
            stale |= matches!(dispatch, Dispatch::Stale);
            if matches!(dispatch, Dispatch::Waker) {
                this.injection_queue.drain_waker();
            }
            match &mut later {
                Some(later) => later.push((dispatch, event)),
                // After an error the rest of the events is not lost: the poller is level-triggered and tells them again.
                None => Self::run_dispatch(slf, dispatch, event)?,
            }
        }
        Ok(stale)
    }

    /// Tells one source; in debug mode one that takes longer than `loop.slow_callback_duration` is reported.
    fn run_dispatch(slf: &Bound<'_, Self>, dispatch: Dispatch, event: Event) -> PyResult<()> {
        if !slf.get().is_debug() {
            return dispatch.run(slf, event);
        }
        let py = slf.py();
        let source = dispatch.object(py);
        let start = clock::now();
        dispatch.run(slf, event)?;
        let seconds = clock::seconds(clock::now() - start);
        let limit: f64 = slf.getattr(intern!(py, "slow_callback_duration"))?.extract()?;
        match source {
            Some(source) if seconds >= limit => {
                slf.call_method1(intern!(py, "_report_slow_callback"), (source, seconds)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Runs what was ready when the turn began.
    #[inline]
    fn run_batch(
        slf: &Bound<'_, Self>,
        guard: &OwnerGuard<'_>,
        batch: &mut VecDeque<Py<Handle>>,
        recycled: &mut Vec<Py<Handle>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let observed = this.is_observed();
        while let Some(handle) = batch.pop_front() {
            let handle = handle.into_bound(py);
            if observed {
                Handle::run_observed(&handle, slf)?;
            } else {
                Handle::run(&handle, slf)?;
                if Handle::is_recyclable(&handle) {
                    recycled.push(handle.unbind());
                    // Not all at the end: what the next callbacks schedule is put into handles that are still in the cache.
                    if recycled.len() == RECYCLE_LOT {
                        this.recycle(guard, recycled)?;
                    }
                }
            }
        }
        this.recycle(guard, recycled)
    }

    /// Keeps handles to be used again, as long as there are not too many.
    fn recycle(&self, guard: &OwnerGuard<'_>, recycled: &mut Vec<Py<Handle>>) -> PyResult<()> {
        self.state
            .with_guard(guard, |state| {
                if state.recycled.len() < MOST_RECYCLED {
                    state.recycled.append(recycled);
                }
            })
            .or_raise()?;
        recycled.clear();
        Ok(())
    }

    /// Sends what was gathered in this turn, which is over: what `resume_writing()` writes belongs to no turn.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        loop {
            let io = this.with(|state| {
                // In a child process it is the parent's to send.
                let io = state.to_flush.pop().filter(|_| !this.is_the_parents());
                if io.is_none() {
                    state.turn.advance();
                }
                io
            })?;
            let Some(io) = io else { return Ok(()) };
            io.on_turn_end(slf)?;
        }
    }

    /// A new poller with every source in it.
    fn renew_poller(&self) -> PyResult<()> {
        self.check_process()?;
        let poller = Poller::new().or_raise()?;
        self.with(|state| {
            for (token, fd, interest) in
                state.sources.registrations().filter(|(_, _, wanted)| !wanted.is_none())
            {
                // A source whose descriptor is closed has nothing to wait for.
                let _closed = poller.add(fd, token, interest);
            }
            state.poller.replace(Arc::new(poller))
        })?;
        Ok(())
    }

    /// Tells `transport`'s loop to flush it when the turn is over.
    pub fn flush_later(&self, io: IoHandle) -> PyResult<()> {
        self.with(|state| state.to_flush.push(io))
    }
}

#[cold]
fn closed_while_running() -> PyErr {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into_py_err()
}

#[pymethods]
impl EventLoop {
    /// Run turns until `stop()`; the bookkeeping around it is Python's.
    fn _run_turns(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().check_closed()?;
        slf.get().check_process()?;
        let outcome = Self::run_turns(slf);
        if outcome.is_err() {
            // It has cut the turn short, and is what the caller has to see.
            let _second = Self::flush(slf);
        }
        // A `stop()` that an exception overtook does not stop the next run.
        slf.get().with(|state| state.stopping = false)?;
        outcome
    }
}
