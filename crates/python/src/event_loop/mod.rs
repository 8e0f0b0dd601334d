//! The event loop: asyncio's semantics over whorl-core's reactor and scheduler.
//!
//! Everything in [`LoopState`] belongs to the thread that runs the loop (see [`whorl_core::sched::LoopOwner`]); other threads
//! leave an [`Injected`] in the injection queue. A section over open state is a closure that can neither call Python nor detach;
//! a reference that may be the last one is returned from it and dropped outside.
//!
//! # Threads
//!
//! | access | answer |
//! |---|---|
//! | from another thread, while the loop runs | `RuntimeError`, in debug mode or not |
//! | `call_soon`, `call_later`, `call_at` from another thread, while the loop runs | handed over through the injection queue |
//! | `add_reader`, `add_writer` and their removal from another thread, while the loop runs | the same ([`watch`]) |
//! | from any thread, while no thread runs the loop | allowed: a loop may be prepared in one thread and run in another |
//! | a second time, further up the same stack | `BorrowError::Reentered`: a fault of ours |
//!
//! Scheduling is handed over because futures schedule their callbacks after their state has changed: an error there, on a
//! thread that set an `asyncio.Event`, would lose a wake-up for good. In debug mode asyncio's own check refuses it.
//!
//! Nothing relies on the GIL for loop state: the owner guards it on every build. Two things differ on free-threaded builds. A
//! `Handle` may be cancelled from any thread, so its stage is under a lock there ([`crate::interpreter::Guarded`]); and a
//! second thread that finds the state open for one access waits, which is short, as no foreign code runs in there.
//! Several loops in several threads share types that are looked up once, the count of forks, and the wake-up descriptor of
//! signals, which is the main thread's alone.
//!
//! # The garbage collector
//!
//! A loop, its transports and its protocols show what they hold (`__traverse__`). Handles but timers are untracked while the
//! loop runs, which saves the collector a visit of each; the loop visits what a handle holds on its behalf where it has the only
//! reference to it. Those that wait for a loop which does not run are tracked ([`rest`]). A handle refers to no loop. State that
//! is open further up the stack cannot be visited and is skipped, which only keeps objects alive.
//!
//! # Exceptions of callbacks
//!
//! What a callback raises goes to the loop's exception handler. `KeyboardInterrupt` and `SystemExit` leave `run_forever()`; the
//! rest of the batch stays at the front of the ready handles, for the next run.

pub mod clock;
mod guest;
mod handle;
mod io;
mod jump;
mod operation;
mod read_buffer;
mod rest;
mod run;
mod schedule;
mod sock;
mod source;
mod thread_safe_handle;
mod timer;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::net::{ReadBuffer, SpareBuffers};
use whorl_core::reactor::{Interest, InterestChange, Poller, Sources, Token};
use whorl_core::sched::{
    BorrowError, InjectionQueue, LoopOwner, OwnerCell, Pace, Process, TimerKey, Timers, Turn,
};

use clock::LoopClock;
pub use handle::{Handle, Scheduled, leaves_the_loop};
pub use io::{IoHandle, IoObject};
pub use read_buffer::LentReadBuffer;
pub use schedule::new_future;
pub use source::{Source, Watch, WatchSide};
pub use thread_safe_handle::ThreadSafeHandle;
pub use timer::{LoopTimers, TimerHandle};
use watch::{WatchChange, Watchers};

use crate::errors::OrRaise;
use crate::interpreter::{Attached, CloneWith, Collector, Guarded, add_class};

/// The most handles that are kept to be used again.
const MOST_RECYCLED: usize = 1024;

/// What another thread leaves for the loop.
#[derive(Debug)]
pub enum Injected {
    /// Run it in the next turn.
    Soon(Py<Handle>),
    /// Run it at its deadline.
    Timer(Py<TimerHandle>),
    /// Remove the timer, which was cancelled.
    CancelledTimer(TimerKey),
    /// Call back for a descriptor, or stop to.
    Watch(WatchChange),
}

impl Injected {
    /// The loop is closed and will not do it.
    fn abandon(self, py: Python<'_>) {
        match self {
            Self::Soon(handle) => Handle::transition_to_done(handle.bind(py)),
            Self::Timer(timer) => Handle::transition_to_done(timer.bind(py).as_super()),
            // It is among the timers, and its handle among the watchers, which the loop clears.
            Self::CancelledTimer(_) | Self::Watch(_) => {}
        }
    }

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Soon(handle) => Handle::visit(handle, visit),
            Self::Timer(timer) => TimerHandle::visit(timer, visit),
            Self::CancelledTimer(_) => Ok(()),
            Self::Watch(change) => change.visit(visit),
        }
    }
}

/// What belongs to the loop's thread.
#[derive(Debug, Default)]
pub struct LoopState {
    /// What runs in the next turn.
    pub ready: VecDeque<Py<Handle>>,
    /// Handles that have run and have no other reference, to be used again.
    pub recycled: Vec<Py<Handle>>,
    /// The source of each registered descriptor.
    pub sources: Sources<Source>,
    /// What other threads have left while the loop rested, apart from calls.
    pub for_next_run: Vec<Injected>,
    /// Transports that were written to in this turn.
    pub to_flush: Vec<IoHandle>,
    /// Whether `stop()` was called: the turn is finished, then `run_forever()` returns.
    pub stopping: bool,
    /// When to poll.
    pub pace: Pace,
    /// Which turn this is.
    pub turn: Turn,
    /// Where the turn is.
    pub progress: run::TurnProgress,
    /// The poller, until the loop is closed.
    pub poller: Option<Arc<Poller>>,
}

impl LoopState {
    /// The loop is closed and will not run what was scheduled: the handles drop what they hold, as a caller that still has
    /// one would keep its callback alive, unseen by the garbage collector. With the state closed, as finalisers may run.
    fn abandon(self, py: Python<'_>) {
        for handle in self.ready {
            Handle::transition_to_done(handle.bind(py));
        }
        for handle in self.progress.entered {
            Handle::transition_to_done(handle.bind(py));
        }
        for item in self.for_next_run {
            item.abandon(py);
        }
    }
}

/// The native half of `whorl.EventLoop`, which derives from it and from `asyncio.SelectorEventLoop`.
#[pyclass(frozen, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct EventLoop {
    owner: Arc<LoopOwner>,
    state: OwnerCell<LoopState>,
    read_buffer: OwnerCell<ReadBuffer>,
    spare_buffers: Arc<SpareBuffers>,
    injection_queue: Arc<InjectionQueue<Injected>>,
    watchers: Watchers,
    timers: Arc<LoopTimers>,
    closed: AtomicBool,
    debug: AtomicBool,
    task_factory: AtomicBool,
    clock: LoopClock,
    /// `{"loop": self}`, once a future was made and until the loop is closed.
    loop_keyword: Guarded<Option<Py<PyDict>>>,
    /// Whether a tool's function stands for `asyncio.Handle._run` in this run of the loop.
    handle_run_replaced: AtomicBool,
    process: Process,
}

impl EventLoop {
    /// Opens the loop's state.
    ///
    /// # Errors
    /// RuntimeError on a thread other than the one that runs the loop.
    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut LoopState) -> R + Send) -> PyResult<R> {
        self.woken(self.state.with(act)).or_raise()
    }

    /// What came of opening the loop's state. Between two turns of a guest the host is woken, as the change may be for the next
    /// turn.
    #[inline]
    fn woken<R>(&self, outcome: Result<R, BorrowError>) -> Result<R, BorrowError> {
        if outcome.is_ok() {
            // A waker that cannot be written to is one that has been closed, with the loop.
            let _closed = self.injection_queue.wake_if_parked();
        }
        outcome
    }

    /// Has the descriptors polled before each turn for a while: what was just done to one of them may be for another of
    /// this loop to see.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    pub fn disturb(&self) -> PyResult<()> {
        self.with(|state| state.pace.disturb())
    }

    /// The same for a write; returns the turn that it belongs to.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    pub fn begin_write(&self) -> PyResult<Turn> {
        self.with(|state| {
            state.pace.disturb();
            state.turn
        })
    }

    /// Which turn this is.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    pub fn turn(&self) -> PyResult<Turn> {
        self.state.with(|state| state.turn).or_raise()
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    #[inline]
    pub fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut LoopState, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.woken(self.state.with_token(at.into(), act)).or_raise()
    }

    /// Whose state this is.
    pub const fn owner(&self) -> &Arc<LoopOwner> {
        &self.owner
    }

    /// Whether `close()` was called.
    #[inline]
    pub fn has_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What is due later.
    pub const fn timers(&self) -> &Arc<LoopTimers> {
        &self.timers
    }

    /// Whether the loop is in debug mode.
    #[inline]
    pub fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// Whether handles are run through a tool's function.
    pub fn is_handle_run_replaced(&self) -> bool {
        self.handle_run_replaced.load(Ordering::Relaxed)
    }

    /// Whether a tool or debug mode watches what handles do.
    #[inline]
    pub fn is_observed(&self) -> bool {
        self.is_debug() || self.is_handle_run_replaced()
    }

    /// RuntimeError once the loop is closed.
    #[inline]
    pub fn check_closed(&self) -> PyResult<()> {
        if self.has_closed() { Err(PyRuntimeError::new_err("Event loop is closed")) } else { Ok(()) }
    }

    /// Whether this process is a child of the one that made the loop: its epoll is shared with the parent, and must not
    /// be touched.
    pub fn is_the_parents(&self) -> bool {
        !self.process.is_current()
    }

    /// RuntimeError in a child process.
    pub fn check_process(&self) -> PyResult<()> {
        if self.is_the_parents() {
            return Err(PyRuntimeError::new_err(
                "this event loop belongs to the parent process; make one of your own after os.fork(), \
                 with whorl.new_event_loop() or whorl.run()",
            ));
        }
        Ok(())
    }

    /// Starts watching `fd` for `source`. The source must not be a watcher's if the descriptor has one.
    ///
    /// # Errors
    /// OSError from the poller; RuntimeError on the wrong thread, in a child process, or once closed.
    pub fn register(&self, fd: i32, interest: Interest, source: Source) -> PyResult<Token> {
        self.check_closed()?;
        self.check_process()?;
        let (outcome, previous) = self.with(|state| {
            state.pace.disturb();
            let (token, previous) = state.sources.insert(fd, interest, source);
            let poller = state.poller.as_ref().filter(|_| !interest.is_none());
            let Some(poller) = poller else { return (Ok(token), previous) };
            // SAFETY: the caller says with its source whose the descriptor is: a transport's own socket or pipe, the loop's
            // waker, or a file object that the program has given to be watched. An event is taken for a hint: what follows it
            // is a call of the program, or an attempt that does not block.
            let added = match unsafe { poller.add(fd, token, interest) } {
                // The kernel still has the number's previous file, which a duplicate keeps open.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    // SAFETY: as above.
                    unsafe { poller.modify(fd, token, interest) }
                }
                added => added,
            };
            match added {
                Ok(()) => (Ok(token), previous),
                Err(error) => {
                    let failed = state.sources.remove(token).map(|(_, source)| source);
                    (Err(error), failed)
                }
            }
        })?;
        if let Some(Source::Watch(watch)) = &previous {
            self.forget_callbacks(fd, watch);
        }
        drop(previous);
        outcome.or_raise()
    }

    /// Changes what is wanted of a registered descriptor. A token that is gone is no error: nothing is left to change.
    pub fn set_interest(&self, token: Token, interest: Interest) -> PyResult<()> {
        self.check_process()?;
        self.with(|state| {
            let Some((fd, change)) = state.sources.set_interest(token, interest) else { return Ok(()) };
            state.pace.disturb();
            let Some(poller) = &state.poller else { return Ok(()) };
            match change {
                // SAFETY: `register` has argued the descriptor, which is the token's still.
                InterestChange::Add => unsafe { poller.add(fd, token, interest) },
                // SAFETY: as above.
                InterestChange::Modify => unsafe { poller.modify(fd, token, interest) },
                InterestChange::Delete => {
                    // Closed before by other code: the kernel has forgotten it by itself.
                    let _forgotten = poller.delete(fd);
                    Ok(())
                }
            }
        })?
        .or_raise()
    }

    /// Stops watching; the source comes back, to be dropped where that is allowed.
    pub fn unregister(&self, token: Token) -> PyResult<Option<Source>> {
        let touch = !self.is_the_parents();
        self.with(|state| {
            let registered = state.sources.interest(token).is_some_and(|(_, interest)| !interest.is_none());
            let (fd, source) = state.sources.remove(token)?;
            if let (true, Some(poller)) = (touch && registered, &state.poller) {
                // EBADF or ENOENT: it was closed before, and the kernel has forgotten it by itself.
                let _forgotten = poller.delete(fd);
            }
            Some(source)
        })
    }

    /// Makes a handle of `scheduled` and puts it behind the ready handles.
    ///
    /// On another thread than the loop's it goes through the injection queue. asyncio forbids the call there, but checks only in debug
    /// mode; futures call it after their state has changed, so that an error here would lose a wake-up for good.
    // Always: see `Call::new`.
    #[inline(always)]
    pub fn push_call(
        slf: &Bound<'_, Self>,
        scheduled: Scheduled,
        traceback: Option<Py<PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let py = slf.py();
        let this = slf.get();
        let mut scheduled = Some(scheduled);
        let reused = this.woken(this.state.with_token(Attached::from(py), |state, at| {
            let handle = state.recycled.pop_if(|_| traceback.is_none())?;
            handle.get().transition_to_pending(at, scheduled.take()?);
            state.push(at, handle.clone_with(at), this.at_rest());
            Some(handle)
        }));
        let Some(scheduled) = scheduled else {
            // It was taken, so the closure ran and a handle came back.
            return reused
                .or_raise()?
                .ok_or_else(|| PyRuntimeError::new_err("internal error of whorl: a lost handle"));
        };
        Self::push_new_handle(slf, scheduled, traceback)
    }

    #[inline(never)]
    fn push_new_handle(
        slf: &Bound<'_, Self>,
        scheduled: Scheduled,
        traceback: Option<Py<PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let handle = Handle::make(slf.py(), scheduled, traceback)?.unbind();
        Self::push_or_inject(slf, handle.clone_ref(slf.py()))?;
        Ok(handle)
    }

    /// Puts `handle` behind the ready handles; while another thread has the loop it goes through the injection queue.
    pub fn push_or_inject(slf: &Bound<'_, Self>, handle: Py<Handle>) -> PyResult<()> {
        let mut handle = Some(handle);
        let this = slf.get();
        let pushed = this.woken(this.state.with_token(Attached::from(slf.py()), |state, at| {
            if let Some(handle) = handle.take() {
                state.push(at, handle, this.at_rest());
            }
        }));
        match (pushed, handle) {
            (Err(BorrowError::OtherThread), Some(handle)) => Self::inject(slf, Injected::Soon(handle)),
            (outcome, _) => outcome.or_raise(),
        }
    }

    /// Leaves `injected` for the loop's thread.
    pub fn inject(slf: &Bound<'_, Self>, injected: Injected) -> PyResult<()> {
        let this = slf.get();
        this.injection_queue.push(injected).or_raise()?;
        if this.has_closed() {
            // Closed after the caller's check: `close()` may have emptied the queue before this came.
            this.abandon_injected(slf.py());
            this.watchers.clear(slf.py());
        } else if this.at_rest().is_some() {
            Self::take_at_rest(slf);
        }
        Ok(())
    }

    /// Empties the queue of a closed loop, on any thread.
    fn abandon_injected(&self, py: Python<'_>) {
        let mut injected = Vec::new();
        self.injection_queue.drain(|item| injected.push(item));
        for item in injected {
            item.abandon(py);
        }
    }

    /// Enters a timer, on another thread through the injection queue.
    pub fn push_timer(slf: &Bound<'_, Self>, timer: &Bound<'_, TimerHandle>) -> PyResult<()> {
        let this = slf.get();
        match this.woken(TimerHandle::enter(slf.py(), timer.as_unbound())) {
            Err(BorrowError::OtherThread) => Self::inject(slf, Injected::Timer(timer.clone().unbind())),
            outcome => outcome.or_raise(),
        }
    }

    /// The deadline of the timer that is due next.
    pub fn next_deadline(&self) -> PyResult<Option<u64>> {
        self.timers.with(|timers| timers.next_deadline()).or_raise()
    }

    /// The loop is closed: its timers drop what they hold, as its other handles do.
    fn abandon_timers(&self, py: Python<'_>) -> PyResult<()> {
        for timer in self.timers.with(Timers::drain).or_raise()? {
            Handle::transition_to_done(timer.bind(py).as_super());
        }
        Ok(())
    }

    /// Puts `handle` behind the ready handles.
    #[inline]
    pub fn push_ready(&self, handle: Py<Handle>) -> PyResult<()> {
        self.with(|state| state.ready.push_back(handle))
    }
}

#[pymethods]
impl EventLoop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let owner = Arc::new(LoopOwner::new());
        let injection_queue = Arc::new(InjectionQueue::new().or_raise()?);
        let poller = Poller::new().or_raise()?;
        let mut state = LoopState::default();
        if let Some(fd) = injection_queue.fd() {
            let (token, _) = state.sources.insert(fd, Interest::READ, Source::Waker);
            // SAFETY: the waker's own descriptor, which is closed along with the poller.
            unsafe { poller.add(fd, token, Interest::READ) }.or_raise()?;
        }
        state.poller = Some(Arc::new(poller));
        Ok(Self {
            timers: Arc::new(LoopTimers::new(Arc::clone(&owner), Arc::clone(&injection_queue))),
            state: OwnerCell::new(Arc::clone(&owner), state),
            read_buffer: OwnerCell::new(Arc::clone(&owner), read_buffer::new_read_buffer()),
            spare_buffers: Arc::default(),
            owner,
            injection_queue,
            watchers: Watchers::new(),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            task_factory: AtomicBool::new(false),
            clock: LoopClock::default(),
            loop_keyword: Guarded::new(None),
            handle_run_replaced: AtomicBool::new(false),
            process: Process::current(),
        })
    }

    /// Return the loop's clock in seconds: CLOCK_MONOTONIC, as `time.monotonic()`.
    fn time(&self) -> f64 {
        clock::seconds(self.clock.own_now())
    }

    /// Stop running the event loop: callbacks that are ready are called, then `run_forever()` returns.
    fn stop(&self) -> PyResult<()> {
        self.with(|state| state.stopping = true)
    }

    /// Return True if the event loop was closed.
    fn is_closed(&self) -> bool {
        self.has_closed()
    }

    fn _set_native_debug(&self, enabled: bool) {
        self.debug.store(enabled, Ordering::Relaxed);
    }

    fn _set_native_handle_run_replaced(&self, replaced: bool) {
        self.handle_run_replaced.store(replaced, Ordering::Relaxed);
    }

    fn _set_clock_replaced(&self, replaced: bool) {
        self.clock.set_replaced(replaced);
    }

    fn _set_native_task_factory(&self, set: bool) {
        self.task_factory.store(set, Ordering::Relaxed);
    }

    fn _belongs_to_parent(&self) -> bool {
        self.is_the_parents()
    }

    /// Drops everything that is scheduled or registered, and the poller.
    fn _close_native(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.with(std::mem::take)?.abandon(py);
        self.abandon_timers(py)?;
        self.watchers.clear(py);
        self.abandon_injected(py);
        let _keyword = self.loop_keyword.replace(py, None);
        self.injection_queue.close();
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.watchers.visit(visit)?;
        self.loop_keyword.visit(Collector::of(&visit), |keyword, visit| visit.call(keyword))?;
        // A loop that runs is alive anyway, and one that is open further up cannot be visited: both are skipped,
        // which only keeps what they hold.
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                for handle in &state.ready {
                    Handle::visit(handle, *visit)?;
                }
                state.for_next_run.iter().try_for_each(|item| item.visit(*visit))?;
                state.sources.iter().try_for_each(|source| source.visit(*visit))?;
                state.progress.visit(*visit)?;
                state.to_flush.iter().try_for_each(|io| io.visit(*visit))
            })
            .unwrap_or(Ok(()))?;
        self.timers
            .visit(Collector::of(&visit), |timers, visit| {
                timers.iter().try_for_each(|timer| TimerHandle::visit(timer, *visit))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if let Ok(state) = this.state.with(std::mem::take) {
            state.abandon(slf.py());
        }
        let _refused = this.abandon_timers(slf.py());
        this.watchers.clear(slf.py());
        this.abandon_injected(slf.py());
        let _keyword = this.loop_keyword.replace(slf.py(), None);
    }
}

impl Drop for EventLoop {
    /// Ends the circles of timers that refer to the timers and, through them, to the queue.
    fn drop(&mut self) {
        let _timers = self.timers.with(Timers::drain);
        let mut injected = Vec::new();
        self.injection_queue.drain(|item| injected.push(item));
    }
}

/// Adds the loop's classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<EventLoop>(module)?;
    add_class::<Handle>(module)?;
    add_class::<TimerHandle>(module)?;
    add_class::<ThreadSafeHandle>(module)?;
    add_class::<guest::GuestTurns>(module)?;
    schedule::add_to(&PyType::new::<EventLoop>(module.py()))
}

/// The descriptor that `file` stands for: an int, or an object with `fileno()`.
///
/// # Errors
/// ValueError as `selectors` raises it, naming the object.
pub fn fileno(file: &Bound<'_, PyAny>) -> PyResult<i32> {
    let fd = match file.extract::<i32>() {
        Ok(fd) => fd,
        Err(_) => file
            .call_method0("fileno")
            .and_then(|fd| fd.extract::<i32>())
            .map_err(|_| invalid_file(file, "Invalid file object"))?,
    };
    if fd < 0 { Err(invalid_file(file, "Invalid file descriptor")) } else { Ok(fd) }
}

fn invalid_file(file: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let shown = file.repr().map(|repr| repr.to_string()).unwrap_or_default();
    PyValueError::new_err(format!("{what}: {shown}"))
}
