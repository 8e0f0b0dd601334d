//! The step of the loop, and one step after the other: `run_forever()`.
//!
//! A step is *prepare* (takes what other threads left, and says how long the loop may sleep), *poll* (the only part that
//! may block or detach from the interpreter) and *dispatch* (hands the events to their sources, makes due timers ready, and
//! runs the batch). All that lasts from one step to the next is in [`LoopState`], so that a step may begin while one
//! further up the stack is in its batch: a guest's task that runs a main loop of its host does that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::reactor::{Event, Events, Poller};
use whorl_core::sched::{Budget, Outlook, OwnerGuard, Sleep, StalePolls, Timers, assert_nothing_open};

use super::clock::{self, Clock};
use super::source::Dispatch;
use super::{EventLoop, Handle, Injected, IoHandle, LoopState, MOST_RECYCLED, TimerHandle};
use crate::errors::{IntoPyErr, OrRaise};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;

/// Handles that have run which are kept together.
const RECYCLE_LOT: usize = 32;

/// Where the loop is between two parts of a step.
#[derive(Debug)]
pub struct TurnProgress {
    /// Whether the next step polls.
    polls: bool,
    /// Handles at the front of `ready` that belong to the batch. What a batch leaves, interrupted or ended by an exception,
    /// stays at the front.
    batch: usize,
    /// Events that are to be dispatched once the batch is over.
    deferred: VecDeque<(Dispatch, Event)>,
    stale_polls: StalePolls,
    /// Handles of a nested step whose context is entered further up the stack: they wait for that step.
    pub entered: Vec<Py<Handle>>,
}

impl Default for TurnProgress {
    fn default() -> Self {
        Self {
            polls: true,
            batch: 0,
            deferred: VecDeque::new(),
            stale_polls: StalePolls::default(),
            entered: Vec::new(),
        }
    }
}

impl TurnProgress {
    /// Shows the collector what the rest of a turn holds.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entered.iter().try_for_each(|handle| Handle::visit(handle, visit))?;
        self.deferred.iter().try_for_each(|(dispatch, _)| dispatch.visit(visit))
    }
}

impl LoopState {
    /// What is known before a poll.
    #[inline]
    fn outlook(&self) -> Outlook {
        Outlook {
            in_batch: self.progress.batch > 0 || !self.progress.deferred.is_empty(),
            polls: self.progress.polls,
            is_busy: !self.ready.is_empty() || self.stopping,
        }
    }

    /// Keeps handles to be used again, as long as there are not too many: those that are left are to be dropped outside.
    #[inline]
    fn recycle(&mut self, handles: &mut Vec<Py<Handle>>) {
        if self.recycled.len() < MOST_RECYCLED {
            self.recycled.append(handles);
        }
    }

    /// The next handle of the batch.
    #[inline]
    fn next_of_batch(&mut self) -> Option<Py<Handle>> {
        self.progress.batch = self.progress.batch.checked_sub(1)?;
        self.ready.pop_front()
    }

    /// Ends the batch, whose rest stays at the front of the ready handles. The events are not lost: the poller is
    /// level-triggered and reports them again. They are to be dropped outside the state.
    #[must_use]
    fn abandon_batch(&mut self) -> VecDeque<(Dispatch, Event)> {
        self.progress.batch = 0;
        self.progress.polls = true;
        std::mem::take(&mut self.progress.deferred)
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFlow {
    /// Another one follows.
    Continue,
    /// `stop()` was called.
    Stop,
}

/// What calls the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// `run_forever()`.
    Run,
    /// The main loop of a host, which a callback may run as well: until the turn is over the waker stays written, as that
    /// main loop must find the guest's descriptor readable.
    Host,
    /// The same, within a callback of a turn of the guest's.
    NestedHost,
}

/// The three parts of a step, and what the caller of steps uses again from one to the next.
#[derive(Debug)]
pub struct Step<'guard, 'owner> {
    guard: &'guard OwnerGuard<'owner>,
    events: Events,
    /// Handles to be used again, until there is a lot of them or the turn ends.
    recycled: Vec<Py<Handle>>,
    has_polled: bool,
    /// Whether the last poll brought events of descriptors.
    has_found: bool,
    caller: Caller,
}

impl<'guard, 'owner> Step<'guard, 'owner> {
    /// None begun.
    pub fn new(guard: &'guard OwnerGuard<'owner>, caller: Caller) -> Self {
        Self {
            guard,
            events: Events::with_capacity(EVENTS),
            recycled: Vec::with_capacity(RECYCLE_LOT),
            has_polled: false,
            has_found: false,
            caller,
        }
    }

    /// Whether the step has polled and found events of descriptors: the next poll may well find more, such as what a peer on
    /// the same loop has answered.
    #[must_use]
    pub const fn has_found_events(&self) -> bool {
        self.has_polled && self.has_found
    }

    /// Takes what other threads left, and says how long the poll may wait.
    ///
    /// # Errors
    /// RuntimeError with the state open further up.
    #[inline]
    pub fn prepare(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<Sleep> {
        let this = event_loop.get();
        if !this.injection_queue.is_empty() {
            EventLoop::take_injected(event_loop)?;
        }
        this.state
            .with_guard(self.guard, |state| state.outlook())
            .and_then(|outlook| {
                outlook.sleep(|| this.timers.with_guard(self.guard, |timers| timers.next_deadline()))
            })
            .or_raise()
    }

    /// Waits for events, for as long as `sleep` says.
    ///
    /// # Errors
    /// OSError from the poller; what a signal handler raises.
    #[inline]
    pub fn poll(&mut self, event_loop: &Bound<'_, EventLoop>, sleep: Sleep) -> PyResult<()> {
        self.has_polled = sleep != Sleep::Skip;
        if !self.has_polled {
            return Ok(());
        }
        match event_loop.get().clock.kind() {
            Clock::Test(now) if sleep.is_idle() => EventLoop::poll_or_jump(event_loop, &mut self.events, now),
            _ => {
                let limit = sleep.limit(|| EventLoop::now(event_loop))?;
                EventLoop::poll(event_loop, &mut self.events, limit)
            }
        }
    }

    /// Hands the events to their sources, makes due timers ready, and runs the batch: the handles that are ready then. With
    /// a budget the batch may end early, and the next step continues it.
    ///
    /// What was scheduled before comes first, as in asyncio, or a task that is about to be cancelled would still take a
    /// connection or data, which would be lost: if a callback is ready to run, transports get their events after the batch.
    ///
    /// # Errors
    /// KeyboardInterrupt and SystemExit raised by what ran; OSError if the poller cannot be made anew.
    pub fn dispatch(
        &mut self,
        event_loop: &Bound<'_, EventLoop>,
        budget: Option<Budget>,
    ) -> PyResult<StepFlow> {
        let outcome = self.dispatch_all(event_loop, budget);
        if outcome.is_err() {
            let _events = event_loop.get().with(LoopState::abandon_batch)?;
        }
        outcome
    }

    fn dispatch_all(
        &mut self,
        event_loop: &Bound<'_, EventLoop>,
        budget: Option<Budget>,
    ) -> PyResult<StepFlow> {
        let this = event_loop.get();
        if self.has_polled {
            self.hand_out(event_loop, budget)?;
        }
        let Some(ran) = self.run_batch(event_loop, budget)? else {
            EventLoop::flush(event_loop)?;
            return Ok(StepFlow::Continue);
        };
        let recycled = &mut self.recycled;
        let (stopping, has_deferred, unsent) = this
            .state
            .with_guard(self.guard, |state| {
                state.turn.advance();
                state.recycle(recycled);
                let (stopping, has_deferred) = (state.stopping, !state.progress.deferred.is_empty());
                state.progress.polls =
                    has_deferred || state.pace.is_poll_due(ran, clock::monotonic) || state.ready.is_empty();
                (stopping, has_deferred, !state.to_flush.is_empty())
            })
            .or_raise()?;
        self.recycled.clear();
        if has_deferred {
            Self::run_deferred(event_loop, budget)?;
        }
        if unsent || has_deferred {
            EventLoop::flush(event_loop)?;
        }
        Ok(if stopping || (has_deferred && this.with(|state| state.stopping)?) {
            StepFlow::Stop
        } else {
            StepFlow::Continue
        })
    }

    /// After a poll: dispatches the events, or keeps them until the batch is over, and takes due timers.
    // Never: a turn without a poll would pay for its locals.
    #[inline(never)]
    fn hand_out(&mut self, event_loop: &Bound<'_, EventLoop>, budget: Option<Budget>) -> PyResult<()> {
        let this = event_loop.get();
        let stale = self.hand_out_events(event_loop, budget)?;
        let renew =
            this.state.with_guard(self.guard, |state| state.progress.stale_polls.note(stale)).or_raise()?;
        if renew {
            this.renew_poller()?;
        }
        if !this.injection_queue.is_empty() {
            EventLoop::take_injected(event_loop)?;
        }
        let now = EventLoop::now(event_loop)?;
        let polled_at = if this.clock.kind() == Clock::System { now } else { clock::monotonic() };
        // A guest's waker stays readable, and its event says nothing of the descriptors.
        let has_events = if self.caller == Caller::Run { !self.events.is_empty() } else { self.has_found };
        this.state.with_guard(self.guard, |state| state.pace.note_poll(polled_at, has_events)).or_raise()?;
        loop {
            let timer = this.timers.with_guard(self.guard, |timers| timers.pop_due(now)).or_raise()?;
            let Some(timer) = timer.map(TimerHandle::into_handle) else { break };
            this.state.with_guard(self.guard, |state| state.ready.push_back(timer)).or_raise()?;
        }
        Ok(())
    }

    /// Dispatches the events, or keeps them until the batch is over if there is one. True if an event came for a source
    /// that is gone.
    fn hand_out_events(
        &mut self,
        event_loop: &Bound<'_, EventLoop>,
        budget: Option<Budget>,
    ) -> PyResult<bool> {
        let py = event_loop.py();
        let this = event_loop.get();
        let events = &self.events;
        let (mut stale, mut found) = (false, false);
        let later = !events.is_empty() && this.with(|state| !state.ready.is_empty())?;
        for index in 0..events.len() {
            let Some(event) = events.get(index) else { break };
            let dispatch = this.with_attached(py, |state, at| match state.sources.get(event.token) {
                Some(source) => source.dispatch(at, event.readiness, &mut state.ready),
                None => Dispatch::Stale,
            })?;
            found |= !matches!(dispatch, Dispatch::Waker | Dispatch::Stale);
            match dispatch {
                Dispatch::Nothing => {}
                Dispatch::Stale => stale = true,
                Dispatch::Waker if self.caller == Caller::Run => this.injection_queue.drain_waker(),
                Dispatch::Waker => {}
                dispatch if later => {
                    this.with(|state| state.progress.deferred.push_back((dispatch, event)))?
                }
                // After an error, or with the budget used up, the rest of the events is not lost: the poller is
                // level-triggered and reports them again.
                dispatch => {
                    EventLoop::run_dispatch(event_loop, dispatch, event)?;
                    if is_used_up(budget) {
                        break;
                    }
                }
            }
        }
        self.has_found = found;
        Ok(stale)
    }

    /// Runs the batch: the handles that are ready as it begins. Returns how many ran, or nothing if the budget was used up
    /// before.
    #[inline]
    fn run_batch(
        &mut self,
        event_loop: &Bound<'_, EventLoop>,
        budget: Option<Budget>,
    ) -> PyResult<Option<usize>> {
        let py = event_loop.py();
        let this = event_loop.get();
        let observed = this.is_observed();
        let is_nested = self.caller == Caller::NestedHost;
        let mut ran = 0;
        let mut next = this
            .state
            .with_guard(self.guard, |state| {
                if state.progress.batch == 0 {
                    state.progress.batch = state.ready.len();
                }
                state.next_of_batch()
            })
            .or_raise()?;
        while let Some(handle) = next {
            let handle = handle.into_bound(py);
            if is_nested && Handle::is_context_entered(&handle) {
                let handle = handle.unbind();
                this.with(|state| state.progress.entered.push(handle))?;
            } else if observed {
                Handle::run_observed(&handle, event_loop)?;
            } else {
                Handle::run(&handle, event_loop)?;
                if Handle::is_recyclable(&handle) {
                    self.recycled.push(handle.unbind());
                    // Not all at the end: what the next callbacks schedule is put into handles that are still in the cache.
                    if self.recycled.len() == RECYCLE_LOT {
                        this.recycle(self.guard, &mut self.recycled)?;
                    }
                }
            }
            ran += 1;
            if budget.is_some() && this.has_more_of_batch(self.guard)? && is_used_up(budget) {
                this.recycle(self.guard, &mut self.recycled)?;
                return Ok(None);
            }
            next = this.state.with_guard(self.guard, LoopState::next_of_batch).or_raise()?;
        }
        Ok(Some(ran))
    }

    #[cold]
    fn run_deferred(event_loop: &Bound<'_, EventLoop>, budget: Option<Budget>) -> PyResult<()> {
        let this = event_loop.get();
        while let Some((dispatch, event)) = this.with(|state| state.progress.deferred.pop_front())? {
            EventLoop::run_dispatch(event_loop, dispatch, event)?;
            if is_used_up(budget) {
                break;
            }
        }
        Ok(())
    }
}

impl EventLoop {
    /// How long the loop may sleep.
    pub fn may_sleep(&self) -> PyResult<Sleep> {
        self.state.with(|state| state.outlook()).or_raise()?.sleep(|| self.next_deadline())
    }

    /// Runs turns until `stop()`.
    ///
    /// # Errors
    /// KeyboardInterrupt and SystemExit raised by what ran; OSError if the poller fails.
    pub fn run_turns(slf: &Bound<'_, Self>) -> PyResult<()> {
        let guard = slf.get().owner.take().or_raise()?;
        slf.get().leave_rest()?;
        let mut step = Step::new(&guard, Caller::Run);
        loop {
            let sleep = step.prepare(slf)?;
            step.poll(slf, sleep)?;
            if step.dispatch(slf, None)? == StepFlow::Stop {
                return Ok(());
            }
        }
    }

    pub(super) fn take_injected(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let mut injected = Vec::new();
        this.injection_queue.drain(|item| injected.push(item));
        let (timers, cancelled, changes) = this.with(|state| {
            let (mut timers, mut cancelled, mut changes) = (Vec::new(), Vec::new(), Vec::new());
            for item in injected {
                match item {
                    Injected::Soon(handle) => state.ready.push_back(handle),
                    Injected::Timer(timer) => timers.push(timer),
                    Injected::CancelledTimer(key) => cancelled.push(key),
                    Injected::Watch(change) => changes.push(change),
                }
            }
            (timers, cancelled, changes)
        })?;
        if !cancelled.is_empty() {
            let remove = |timers: &mut Timers<_>| -> Vec<_> {
                cancelled.iter().filter_map(|key| timers.remove(*key)).collect()
            };
            let _removed = this.timers.with(remove).or_raise()?;
        }
        for timer in timers {
            TimerHandle::enter(slf.py(), &timer).or_raise()?;
        }
        // Now, and not behind the callbacks: `add_reader()` of this thread takes effect at once as well.
        changes.iter().try_for_each(|change| Self::make_change(slf, change))
    }

    /// Whether nested steps have left handles to the outermost one.
    pub fn has_entered(&self, guard: &OwnerGuard<'_>) -> PyResult<bool> {
        self.state.with_guard(guard, |state| !state.progress.entered.is_empty()).or_raise()
    }

    /// Takes the handles that nested steps left to the outermost one, where their contexts are free again.
    pub fn take_entered(&self) -> PyResult<()> {
        self.with(|state| {
            if state.progress.batch > 0 {
                state.progress.batch += state.progress.entered.len();
            }
            while let Some(handle) = state.progress.entered.pop() {
                state.ready.push_front(handle);
            }
        })
    }

    /// The poller of a loop that is not closed.
    ///
    /// # Errors
    /// RuntimeError once it is.
    pub fn open_poller(&self) -> PyResult<Arc<Poller>> {
        let poller = self.with(|state| state.poller.clone())?;
        poller.ok_or_else(|| self.check_closed().err().unwrap_or_else(closed_while_running))
    }

    /// Waits for events for as long as `limit`, or without one.
    ///
    /// # Errors
    /// OSError from the poller; what a signal handler raises.
    pub fn poll(slf: &Bound<'_, Self>, events: &mut Events, limit: Option<Duration>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let poller = this.open_poller()?;
        let may_sleep = limit != Some(Duration::ZERO) && this.injection_queue.park();
        if may_sleep {
            // The loop sleeps without the interpreter. No cell is open, so the collector of another thread waits for nothing of
            // this one; that the ownership is held makes it skip the loop's state.
            assert_nothing_open();
            let outcome = py.detach(|| poller.wait(events, limit));
            this.injection_queue.unpark();
            outcome
        } else {
            // Work is ready, or another thread has left some meanwhile.
            poller.wait(events, Some(Duration::ZERO))
        }
        .or_raise()?;
        // A signal may have ended the wait. Its Python handler runs here, where what it raises leaves `run_forever()` as it
        // leaves `select()` in asyncio, and not in whatever callback is next.
        py.check_signals()
    }

    /// Hands one event to its source; in debug mode one that takes longer than `loop.slow_callback_duration` is reported.
    fn run_dispatch(slf: &Bound<'_, Self>, dispatch: Dispatch, event: Event) -> PyResult<()> {
        if !slf.get().is_debug() {
            return dispatch.run(slf, event);
        }
        let py = slf.py();
        let source = dispatch.object(py);
        let start = clock::monotonic();
        dispatch.run(slf, event)?;
        let seconds = clock::seconds(clock::monotonic() - start);
        let limit: f64 = slf.getattr(intern!(py, "slow_callback_duration"))?.extract()?;
        match source {
            Some(source) if seconds >= limit => {
                slf.call_method1(intern!(py, "_report_slow_callback"), (source, seconds)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether the batch is to run further handles.
    fn has_more_of_batch(&self, guard: &OwnerGuard<'_>) -> PyResult<bool> {
        self.state.with_guard(guard, |state| state.progress.batch > 0).or_raise()
    }

    fn recycle(&self, guard: &OwnerGuard<'_>, recycled: &mut Vec<Py<Handle>>) -> PyResult<()> {
        self.state.with_guard(guard, |state| state.recycle(recycled)).or_raise()?;
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
                // SAFETY: it is registered, so `EventLoop::register` has argued the descriptor.
                let _closed = unsafe { poller.add(fd, token, interest) };
            }
            state.poller.replace(Arc::new(poller))
        })?;
        Ok(())
    }

    /// Has `io` flushed when the turn is over.
    pub fn flush_later(&self, io: IoHandle) -> PyResult<()> {
        self.with(|state| state.to_flush.push(io))
    }
}

/// Whether a budget has been given and is used up.
#[inline]
fn is_used_up(budget: Option<Budget>) -> bool {
    budget.is_some_and(|budget| budget.is_used_up(clock::monotonic()))
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
        Self::come_to_rest(slf);
        outcome
    }
}
