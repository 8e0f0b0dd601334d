//! Watching descriptors: `add_reader()`, `add_writer()` and their removal.
//!
//! A watch holds a reference to the file object it was given, so that a collection does not close it. A descriptor that belongs
//! to a transport is refused.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use whorl_core::reactor::{Interest, Token};

use super::schedule::source_traceback;
use super::{EventLoop, Handle, Scheduled, Side, Source, Watch, fileno};
use crate::errors::OrRaise;
use crate::ffi::{Call, copy_context};

/// The direction that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// For reading.
    Read,
    /// For writing.
    Write,
}

impl EventLoop {
    /// RuntimeError if a transport owns `fd`, as asyncio's `_ensure_fd_no_transport`.
    pub fn check_unowned(slf: &Bound<'_, Self>, fd: i32) -> PyResult<()> {
        let py = slf.py();
        let owner = slf.get().with(|state| {
            let token = state.sources.token_of(fd)?;
            state.sources.get(token)?.transport(py)
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

    /// Calls `handle` whenever `file` is ready, in place of a former callback of the same direction.
    pub fn watch(
        slf: &Bound<'_, Self>,
        file: &Bound<'_, PyAny>,
        direction: Direction,
        handle: Py<Handle>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed()?;
        let fd = fileno(file)?;
        Self::end_former_life(slf, fd, file)?;
        // A watch of this descriptor gets the second direction, or a new callback.
        let mut handle = Some(handle);
        let known = this.with(|state| {
            let token = state.sources.token_of(fd)?;
            let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return None };
            let former = watch.side(direction).replace(Side::Callback(handle.take()?));
            let former_file = watch.file.replace(file.clone().unbind());
            Some((token, watch.interest(), former, former_file))
        })?;
        if let Some((token, interest, former, _former_file)) = known {
            former.cancel(py);
            return this.renew_interest(token, interest);
        }
        let Some(handle) = handle else { return Ok(()) };
        let mut watch = Watch { file: Some(file.clone().unbind()), ..Watch::default() };
        *watch.side(direction) = Side::Callback(handle);
        let interest = watch.interest();
        this.register(fd, interest, Source::Watch(watch)).map(drop)
    }

    /// Stops calling back for one direction; true if there was a callback.
    pub fn unwatch(slf: &Bound<'_, Self>, file: &Bound<'_, PyAny>, direction: Direction) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.has_closed() {
            return Ok(false);
        }
        let fd = match fileno(file) {
            Ok(fd) => Some(fd),
            // A file object closed before its removal has no number any more; it is still known by itself.
            Err(error) => match this.fd_of_watched(file)? {
                Some(fd) => Some(fd),
                None => return Err(error),
            },
        };
        let found = this.with(|state| {
            let token = state.sources.token_of(fd?)?;
            let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return None };
            let former = watch.side(direction).replace(Side::Free);
            let has_callback =
                [&watch.reader, &watch.writer].iter().any(|side| matches!(side, Side::Callback(_)));
            let former_file = if has_callback { None } else { watch.file.take() };
            Some((token, watch.interest(), former, former_file))
        })?;
        let Some((token, interest, former, _former_file)) = found else { return Ok(false) };
        let was_wanted = matches!(former, Side::Callback(_) | Side::Operation(_));
        former.cancel(py);
        if interest.is_none() {
            drop(this.unregister(token)?);
        } else if let Err(error) = this.set_interest(token, interest)
            && !is_gone(py, &error)
        {
            return Err(error);
        }
        Ok(was_wanted)
    }

    /// Tells the poller, changed or not: the number may have been closed and have a new life, which has to be added.
    fn renew_interest(&self, token: Token, interest: Interest) -> PyResult<()> {
        self.check_process()?;
        self.with(|state| {
            let _unchanged = state.sources.set_interest(token, interest);
            let (Some((fd, _)), Some(poller)) = (state.sources.interest(token), &state.poller) else {
                return Ok(());
            };
            match poller.modify(fd, token, interest) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => poller.add(fd, token, interest),
                modified => modified,
            }
        })?
        .or_raise()
    }

    fn fd_of_watched(&self, file: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
        self.with(|state| {
            state.sources.registrations().find_map(|(token, fd, _)| match state.sources.get(token) {
                Some(Source::Watch(watch)) if watch.file.as_ref().is_some_and(|known| known.is(file)) => {
                    Some(fd)
                }
                _ => None,
            })
        })
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
    /// ValueError for what is no descriptor, OSError for what cannot be watched. Source: `asyncio.loop.add_reader`.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::check_unowned(slf, fileno(fd)?)?;
        Self::watch(slf, fd, Direction::Read, repeating_handle(slf, callback, args)?)
    }

    /// Stop calling back when `fd` is ready for reading. Returns True if there was a callback.
    fn remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(fd) = fileno(fd) {
            Self::check_unowned(slf, fd)?;
        }
        Self::unwatch(slf, fd, Direction::Read)
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
        Self::check_unowned(slf, fileno(fd)?)?;
        Self::watch(slf, fd, Direction::Write, repeating_handle(slf, callback, args)?)
    }

    /// Stop calling back when `fd` is ready for writing. Returns True if there was a callback.
    fn remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(fd) = fileno(fd) {
            Self::check_unowned(slf, fd)?;
        }
        Self::unwatch(slf, fd, Direction::Write)
    }

    /// RuntimeError if a transport uses `fd`, as asyncio's method of the same name.
    fn _ensure_fd_no_transport(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::check_unowned(slf, fileno(fd)?)
    }

    /// As `add_reader()`, without looking whether a transport uses the descriptor; returns the Handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let handle = repeating_handle(slf, callback, args)?;
        Self::watch(slf, fd, Direction::Read, handle.clone_ref(slf.py()))?;
        Ok(handle)
    }

    /// As `remove_reader()`, for `_add_reader()`.
    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Read)
    }

    /// As `add_writer()`, without looking whether a transport uses the descriptor; returns the Handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let handle = repeating_handle(slf, callback, args)?;
        Self::watch(slf, fd, Direction::Write, handle.clone_ref(slf.py()))?;
        Ok(handle)
    }

    /// As `remove_writer()`, for `_add_writer()`.
    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Write)
    }
}
