//! Watching descriptors: `add_reader()`, `add_writer()` and their removal, from any thread.
//!
//! [`Watchers`] says which callback is the current one for each descriptor and direction. It changes at once, on the thread
//! that calls, as the result of `remove_reader()` depends on it; a callback that is replaced or removed is cancelled there
//! and never runs again. The loop's sources and the poller follow on the loop's own thread: another thread leaves a
//! [`WatchChange`] in the injection queue. A change names its handle, so that one which comes late, when the number has a
//! new callback or a new owner, finds nothing to do.
//!
//! A watch holds a reference to the file object it was given, so that a collection does not close it. A descriptor that belongs
//! to a transport is refused.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::reactor::{Interest, Token};

use super::schedule::source_traceback;
use super::{EventLoop, Handle, Injected, Scheduled, Source, Watch, WatchSide, fileno, leaves_the_loop};
use crate::errors::OrRaise;
use crate::fd::check_open;
use crate::ffi::{Call, copy_context};
use crate::interpreter::Identity;

/// The direction that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// For reading.
    Read,
    /// For writing.
    Write,
}

impl Direction {
    /// The methods that add and remove a callback for it.
    const fn methods(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("add_reader", "remove_reader"),
            Self::Write => ("add_writer", "remove_writer"),
        }
    }
}

/// The current callback of one descriptor and direction.
#[derive(Debug)]
struct Watcher {
    handle: Py<Handle>,
    /// The file object that it was added for.
    file: Py<PyAny>,
}

/// The current callbacks of `add_reader()` and `add_writer()`, for every thread to see.
#[derive(Debug)]
pub struct Watchers {
    /// Its sections run no foreign code and never detach, so that every thread may wait for one, the collector's included.
    current: Mutex<CurrentWatchers>,
}

type CurrentWatchers = HashMap<(RawFd, Direction), Watcher>;

impl Watchers {
    /// No callback.
    pub fn new() -> Self {
        Self { current: Mutex::new(HashMap::new()) }
    }

    /// Opens the table. A watcher that leaves it is returned, as dropping it may run a finaliser.
    fn with<R>(&self, act: impl FnOnce(&mut CurrentWatchers) -> R + Send) -> R {
        act(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `handle` the current callback, and cancels the previous one.
    fn replace(&self, file: &Bound<'_, PyAny>, fd: RawFd, direction: Direction, handle: Py<Handle>) {
        let py = file.py();
        let watcher = Watcher { handle, file: file.clone().unbind() };
        let previous = self.with(|current| current.insert((fd, direction), watcher));
        if let Some(previous) = previous {
            Handle::cancel(previous.handle.bind(py));
        }
    }

    /// Takes the current callback out and cancels it.
    fn remove(&self, py: Python<'_>, fd: RawFd, direction: Direction) -> Option<Py<Handle>> {
        let previous = self.with(|current| current.remove(&(fd, direction)))?;
        Handle::cancel(previous.handle.bind(py));
        Some(previous.handle)
    }

    /// Takes `handle` out, if it still is the current callback.
    pub fn forget(&self, fd: RawFd, direction: Direction, handle: &Py<Handle>) {
        let _previous = self.with(|current| {
            let is_current = current.get(&(fd, direction)).is_some_and(|watcher| watcher.handle.is(handle));
            if is_current { current.remove(&(fd, direction)) } else { None }
        });
    }

    /// The descriptor that `file` had when it was added: a file object that is closed has no number any more.
    fn fd_of(&self, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        let wanted = Identity::of(file);
        self.with(|current| {
            current.iter().find_map(|((fd, _), watcher)| wanted.is(&watcher.file).then_some(*fd))
        })
    }

    /// Takes every callback out: the loop is closed.
    pub fn clear(&self, py: Python<'_>) {
        let previous = self.with(std::mem::take);
        for watcher in previous.into_values() {
            Handle::transition_to_done(watcher.handle.bind(py));
        }
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A visit counts references and runs no foreign code.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.values().try_for_each(|watcher| {
            visit.call(&watcher.handle)?;
            visit.call(&watcher.file)
        })
    }
}

/// What becomes of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It is called whenever the descriptor is ready. `checked`: not if a transport owns the descriptor.
    Add { checked: bool },
    /// It is not called any more.
    Remove,
}

/// A change of a descriptor's callback, for the loop's thread to make.
#[derive(Debug)]
pub struct WatchChange {
    fd: RawFd,
    /// Kept alive, so that its descriptor is not closed by the garbage collector meanwhile.
    file: Py<PyAny>,
    direction: Direction,
    handle: Py<Handle>,
    action: Action,
}

impl EventLoop {
    /// RuntimeError if a transport owns `fd`, as asyncio's `_ensure_fd_no_transport`.
    pub fn check_unowned(slf: &Bound<'_, Self>, fd: i32) -> PyResult<()> {
        let py = slf.py();
        let owner = slf.get().with_attached(py, |state, at| {
            let token = state.sources.token_of(fd)?;
            state.sources.get(token)?.transport(at)
        })?;
        if let Some(transport) = owner {
            let transport = transport.into_bound(py);
            if !transport.call_method0(intern!(py, "is_closing"))?.is_truthy()? {
                return Err(PyRuntimeError::new_err(format!(
                    "File descriptor {fd} is used by transport {}",
                    transport.repr()?
                )));
            }
        }
        Ok(())
    }

    /// Whether another thread runs the loop: a change is left for that one.
    fn runs_elsewhere(&self) -> bool {
        self.owner.is_held() && !self.owner.is_here()
    }

    /// Calls `handle` whenever `file` is ready, in place of a previous callback of the same direction.
    fn watch(
        slf: &Bound<'_, Self>,
        file: &Bound<'_, PyAny>,
        direction: Direction,
        handle: &Py<Handle>,
        checked: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed()?;
        this.check_process()?;
        let fd = fileno(file)?;
        let change = WatchChange {
            fd,
            file: file.clone().unbind(),
            direction,
            handle: handle.clone_ref(py),
            action: Action::Add { checked },
        };
        if this.runs_elsewhere() {
            // What can be known here is raised here.
            check_open(fd).or_raise()?;
        } else {
            match Self::add_watch(slf, &change, true) {
                // A thread has begun to run the loop meanwhile.
                Err(_) if this.runs_elsewhere() => {}
                Err(error) => {
                    let _nothing_registered = Self::remove_watch(slf, &change);
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
        this.watchers.replace(file, fd, direction, handle.clone_ref(py));
        Self::inject(slf, Injected::Watch(change))
    }

    /// Registers the callback of `change` with the poller; a `new` one becomes the current one first.
    fn add_watch(slf: &Bound<'_, Self>, change: &WatchChange, new: bool) -> PyResult<()> {
        let py = slf.py();
        let &WatchChange { fd, direction, action, .. } = change;
        let file = change.file.bind(py);
        if matches!(action, Action::Add { checked: true }) {
            Self::check_unowned(slf, fd)?;
        }
        Self::unregister_previous_owner(slf, fd, file)?;
        if new {
            slf.get().watchers.replace(file, fd, direction, change.handle.clone_ref(py));
        }
        Self::register_watch(slf, change)
    }

    fn register_watch(slf: &Bound<'_, Self>, change: &WatchChange) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let &WatchChange { fd, direction, .. } = change;
        // A watch of this descriptor gets the second direction, or a new callback.
        let mut side = Some((change.handle.clone_ref(py), change.file.clone_ref(py)));
        let known = this.with(|state| {
            let token = state.sources.token_of(fd)?;
            let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return None };
            let (handle, file) = side.take()?;
            let previous = watch.side(direction).replace(WatchSide::Callback(handle));
            let previous_file = watch.file.replace(file);
            Some((token, watch.interest(), previous, previous_file))
        })?;
        if let Some((token, interest, previous, _previous_file)) = known {
            if !previous.is_callback(&change.handle) {
                previous.cancel(py);
            }
            return this.renew_interest(token, interest);
        }
        let Some((handle, file)) = side else { return Ok(()) };
        let mut watch = Watch { file: Some(file), ..Watch::default() };
        *watch.side(direction) = WatchSide::Callback(handle);
        let interest = watch.interest();
        this.register(fd, interest, Source::Watch(watch)).map(drop)
    }

    /// Takes back what [`Self::add_watch`] did for the same handle.
    fn remove_watch(slf: &Bound<'_, Self>, change: &WatchChange) -> PyResult<()> {
        let this = slf.get();
        let &WatchChange { fd, direction, .. } = change;
        this.watchers.forget(fd, direction, &change.handle);
        Self::free_side(slf, fd, direction, |side| side.is_callback(&change.handle)).map(drop)
    }

    /// Stops calling back for one direction; true if there was a callback.
    fn unwatch(
        slf: &Bound<'_, Self>,
        file: &Bound<'_, PyAny>,
        direction: Direction,
        checked: bool,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.has_closed() {
            return Ok(false);
        }
        let fd = match fileno(file) {
            Ok(fd) => {
                if checked && !this.runs_elsewhere() {
                    Self::check_unowned(slf, fd)?;
                }
                fd
            }
            // A file object closed before its removal has no number any more; it is still known by itself.
            Err(error) => this.watchers.fd_of(file).ok_or(error)?,
        };
        let removed = this.watchers.remove(py, fd, direction);
        if !this.runs_elsewhere() {
            match Self::free_side(slf, fd, direction, |_| true) {
                // A thread has begun to run the loop meanwhile.
                Err(_) if this.runs_elsewhere() => {}
                operation => return Ok(operation? || removed.is_some()),
            }
        }
        let Some(handle) = removed else { return Ok(false) };
        let file = file.clone().unbind();
        Self::inject(
            slf,
            Injected::Watch(WatchChange { fd, file, direction, handle, action: Action::Remove }),
        )?;
        Ok(true)
    }

    /// Frees the side of a watch that `is_it` says yes to; true if an operation was waiting there.
    fn free_side(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        direction: Direction,
        is_it: impl FnOnce(&WatchSide) -> bool + Send,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let found = this.with(|state| {
            let token = state.sources.token_of(fd)?;
            let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return None };
            if !is_it(watch.side(direction)) {
                return None;
            }
            let previous = watch.side(direction).replace(WatchSide::Free);
            let has_callback =
                [&watch.reader, &watch.writer].iter().any(|side| matches!(side, WatchSide::Callback(_)));
            let previous_file = if has_callback { None } else { watch.file.take() };
            Some((token, watch.interest(), previous, previous_file))
        })?;
        let Some((token, interest, previous, _previous_file)) = found else { return Ok(false) };
        let was_operation = matches!(previous, WatchSide::Operation(_));
        previous.cancel(py);
        if interest.is_none() {
            drop(this.unregister(token)?);
        } else if let Err(error) = this.set_interest(token, interest)
            && !is_gone(py, &error)
        {
            return Err(error);
        }
        Ok(was_operation)
    }

    /// Makes a change that another thread has left. What fails goes to the loop's exception handler.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt.
    pub fn make_change(slf: &Bound<'_, Self>, change: &WatchChange) -> PyResult<()> {
        let py = slf.py();
        let outcome = match change.action {
            // It was replaced or removed before the loop came to add it.
            Action::Add { .. } if Handle::is_cancelled(change.handle.bind(py)) => Ok(()),
            Action::Add { .. } => Self::add_watch(slf, change, false),
            Action::Remove => Self::remove_watch(slf, change),
        };
        match outcome {
            Err(error) if !leaves_the_loop(py, &error) => {
                let _nothing_registered = Self::remove_watch(slf, change);
                change.report(slf, &error)
            }
            outcome => outcome,
        }
    }

    /// `watch` is not a source of `fd` any more: its callbacks are no descriptor's current ones.
    pub fn forget_callbacks(&self, fd: RawFd, watch: &Watch) {
        for (direction, side) in [(Direction::Read, &watch.reader), (Direction::Write, &watch.writer)] {
            if let WatchSide::Callback(handle) = side {
                self.watchers.forget(fd, direction, handle);
            }
        }
    }

    /// Registers `interest` with the poller, changed or not: the number may have been closed and name a new file, which has
    /// to be added.
    fn renew_interest(&self, token: Token, interest: Interest) -> PyResult<()> {
        self.check_process()?;
        self.with(|state| {
            state.pace.disturb();
            let _unchanged = state.sources.set_interest(token, interest);
            let (Some((fd, _)), Some(poller)) = (state.sources.interest(token), &state.poller) else {
                return Ok(());
            };
            // SAFETY: the descriptor is that of the file object which the program has just given to be watched.
            match unsafe { poller.modify(fd, token, interest) } {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    // SAFETY: as above.
                    unsafe { poller.add(fd, token, interest) }
                }
                modified => modified,
            }
        })?
        .or_raise()
    }
}

impl WatchChange {
    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handle)?;
        visit.call(&self.file)
    }

    /// Has the loop's exception handler say what failed, for which descriptor.
    fn report(&self, event_loop: &Bound<'_, EventLoop>, error: &PyErr) -> PyResult<()> {
        let py = event_loop.py();
        let (add, remove) = self.direction.methods();
        let method = if self.action == Action::Remove { remove } else { add };
        let context = PyDict::new(py);
        let message = format!("{method}() from another thread failed for file descriptor {}", self.fd);
        context.set_item("message", message)?;
        context.set_item("exception", error.value(py))?;
        context.set_item("handle", &self.handle)?;
        if let Some(traceback) = self.handle.get().source_traceback(py) {
            context.set_item("source_traceback", traceback)?;
        }
        event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }
}

/// Whether the kernel says that the descriptor is closed or not registered.
pub fn is_gone(py: Python<'_>, error: &PyErr) -> bool {
    let errno = error.value(py).getattr(intern!(py, "errno")).and_then(|errno| errno.extract::<i32>());
    errno.is_ok_and(|errno| errno == libc::EBADF || errno == libc::ENOENT)
}

fn repeating_handle<'py>(
    slf: &Bound<'py, EventLoop>,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Py<Handle>> {
    let py = slf.py();
    let call = Call::new(callback.as_borrowed(), args.iter_borrowed());
    let traceback = if slf.get().is_debug() { Some(source_traceback(py)?) } else { None };
    Handle::repeating(py, Scheduled { call, context: copy_context(py)? }, traceback).map(Bound::unbind)
}

#[pymethods]
impl EventLoop {
    /// Call `callback(*args)` whenever `fd` (an int, or an object with `fileno()`) is ready for reading.
    ///
    /// A callback registered before for reading is replaced. Raises RuntimeError if a transport uses the descriptor,
    /// ValueError for what is no descriptor, OSError for what cannot be watched. From another thread while the loop runs the
    /// change is left for the loop, and its exception handler is called if the descriptor cannot be watched or a transport
    /// uses it. Source: `asyncio.loop.add_reader`.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::watch(slf, fd, Direction::Read, &repeating_handle(slf, callback, args)?, true)
    }

    /// Stop calling back when `fd` is ready for reading. Returns True if there was a callback, which is not called again,
    /// whichever thread calls.
    fn remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Read, true)
    }

    /// Call `callback(*args)` whenever `fd` (an int, or an object with `fileno()`) is ready for writing.
    ///
    /// The same as `add_reader()` for the other direction. Source: `asyncio.loop.add_writer`.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::watch(slf, fd, Direction::Write, &repeating_handle(slf, callback, args)?, true)
    }

    /// Stop calling back when `fd` is ready for writing. Returns True if there was a callback, as `remove_reader()` does.
    fn remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Write, true)
    }

    /// RuntimeError if a transport uses `fd`, as asyncio's method of the same name.
    fn _ensure_fd_no_transport(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::check_unowned(slf, fileno(fd)?)
    }

    /// As `add_reader()`, without a check whether a transport uses the descriptor; returns the Handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let handle = repeating_handle(slf, callback, args)?;
        Self::watch(slf, fd, Direction::Read, &handle, false)?;
        Ok(handle)
    }

    /// As `remove_reader()`, for `_add_reader()`.
    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Read, false)
    }

    /// As `add_writer()`, without a check whether a transport uses the descriptor; returns the Handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let handle = repeating_handle(slf, callback, args)?;
        Self::watch(slf, fd, Direction::Write, &handle, false)?;
        Ok(handle)
    }

    /// As `remove_writer()`, for `_add_writer()`.
    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Write, false)
    }
}
