//! Scheduling: `call_soon()`, `call_later()`, `call_at()`, tasks and futures.

use std::ffi::CStr;

use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::{EventLoop, Scheduled, ThreadSafeHandle, TimerHandle};
use crate::ffi::{Args, Call, FastMethod, add_methods, copy_context, trampoline};
use crate::interpreter::{self, CloneWith};

macro_rules! fast_methods {
    ($($name:ident : $body:path = $doc:literal;)*) => {
        $(
            unsafe extern "C" fn $name(
                slf: *mut ffi::PyObject,
                args: *const *mut ffi::PyObject,
                nargs: ffi::Py_ssize_t,
                names: *mut ffi::PyObject,
            ) -> *mut ffi::PyObject {
                // SAFETY: the interpreter calls it as the fastcall method of `EventLoop` that `add_to` makes of it.
                unsafe { trampoline::<EventLoop>(slf, args, nargs, names, $body) }
            }
        )*

        /// Adds the methods to the type.
        pub fn add_to(ty: &Bound<'_, PyType>) -> PyResult<()> {
            add_methods(ty, &[$(FastMethod { name: c_name(concat!(stringify!($name), "\0")), doc: c_name(concat!($doc, "\0")), function: $name }),*])
        }
    };
}

/// A C string from one that ends in a NUL.
const fn c_name(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

fast_methods! {
    call_soon: soon =
        "call_soon($self, callback, /, *args, context=None)\n--\n\n\
         Arrange for callback(*args) to be called as soon as possible, in the next turn of the loop.\n\n\
         Callbacks are called in the order in which they are scheduled, in `context` (a contextvars.Context; default: a \
         copy of the current one). Returns a Handle. Raises RuntimeError if the loop is closed, and in debug mode \
         on another thread than the loop's: use call_soon_threadsafe() there. Source: asyncio.loop.call_soon.";
    call_soon_threadsafe: soon_threadsafe =
        "call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\n\
         Like call_soon(), from any thread or signal handler. Source: asyncio.loop.call_soon_threadsafe.";
    call_later: later =
        "call_later($self, delay, callback, /, *args, context=None)\n--\n\n\
         Arrange for callback(*args) to be called after `delay` seconds (int or float; no more than zero: in the next \
         turn). It is never called early. Returns a TimerHandle. Source: asyncio.loop.call_later.";
    call_at: at =
        "call_at($self, when, callback, /, *args, context=None)\n--\n\n\
         Like call_later(), at an absolute time in seconds on the clock of loop.time(). Source: asyncio.loop.call_at.";
    create_future: future =
        "create_future($self)\n--\n\n\
         Create an asyncio.Future attached to the loop.";
    create_task: task =
        "create_task($self, coro, /, **kwargs)\n--\n\n\
         Schedule a coroutine and return its asyncio.Task. Keywords (name, context and, from 3.14, eager_start) go to the \
         task, or to the task factory. Raises RuntimeError if the loop is closed. Source: asyncio.loop.create_task.";
}

impl EventLoop {
    /// The keyword arguments of a future or task of this loop: made once, until the loop is closed.
    #[inline]
    fn loop_keyword<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let place = &slf.get().loop_keyword;
        match place.peek(py, |keyword, at| keyword.as_ref().map(|keyword| keyword.clone_with(at))) {
            Some(keyword) => Ok(keyword.into_bound(py)),
            None => {
                let keyword = interpreter::loop_keyword(slf.as_any())?;
                if !slf.get().has_closed() {
                    let _other = place.replace(py, Some(keyword.clone().unbind()));
                }
                Ok(keyword)
            }
        }
    }

    /// `asyncio.Future(loop=self)`.
    ///
    /// # Errors
    /// What the class raises, if a tool has put another in its place.
    #[inline]
    pub fn new_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        interpreter::new_future(&Self::loop_keyword(slf)?)
    }
}

/// A future of any loop, ours or not.
///
/// # Errors
/// As [`EventLoop::new_future`].
pub fn new_future<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match event_loop.cast::<EventLoop>() {
        Ok(event_loop) => EventLoop::new_future(event_loop),
        Err(_) => interpreter::new_future(&interpreter::loop_keyword(event_loop)?),
    }
}

/// What the caller scheduled: after `skip` leading arguments the callback and its arguments, and the context.
// Always: see `Call::new`.
#[inline(always)]
fn scheduled<'py>(
    slf: &Bound<'py, EventLoop>,
    args: &Args<'_, 'py>,
    method: &str,
    skip: usize,
    parameters: &[&str],
) -> PyResult<(Scheduled, Option<Py<PyAny>>)> {
    let py = slf.py();
    let this = slf.get();
    this.check_closed()?;
    let context = args.keyword(method, "context", parameters)?;
    let mut rest = args.positional().skip(skip);
    let callback = match rest.next() {
        Some(callback) => callback,
        None => args.value_of("callback").ok_or_else(|| {
            PyTypeError::new_err(format!("{method}() missing 1 required positional argument: 'callback'"))
        })?,
    };
    let source_traceback = if this.is_debug() { Some(checked(slf, method, callback)?) } else { None };
    let context = match context {
        Some(context) if !context.is_none() => context.to_owned().unbind(),
        _ => copy_context(py)?,
    };
    Ok((Scheduled { call: Call::new(callback, rest), context }, source_traceback))
}

/// Debug mode: right thread, a callback that can be called, and where it was scheduled.
#[cold]
fn checked(
    slf: &Bound<'_, EventLoop>,
    method: &str,
    callback: Borrowed<'_, '_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    if method != "call_soon_threadsafe" {
        slf.call_method0(intern!(py, "_check_thread"))?;
    }
    slf.call_method1(intern!(py, "_check_callback"), (callback, method))?;
    source_traceback(py)
}

/// The stack of the Python code that called.
pub fn source_traceback(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let frame = py.import(intern!(py, "sys"))?.call_method1(intern!(py, "_getframe"), (0,))?;
    Ok(py
        .import(intern!(py, "asyncio.format_helpers"))?
        .call_method1(intern!(py, "extract_stack"), (frame,))?
        .unbind())
}

fn soon(slf: &Bound<'_, EventLoop>, args: Args<'_, '_>) -> PyResult<Py<PyAny>> {
    let (scheduled, traceback) = scheduled(slf, &args, "call_soon", 0, &["callback"])?;
    EventLoop::push_call(slf, scheduled, traceback).map(Py::into_any)
}

fn soon_threadsafe(slf: &Bound<'_, EventLoop>, args: Args<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    let this = slf.get();
    let (scheduled, traceback) = scheduled(slf, &args, "call_soon_threadsafe", 0, &["callback"])?;
    if this.owner.is_here() {
        // This thread runs the loop, which is therefore not asleep, or a guest's host, which opening the state wakes.
        return EventLoop::push_call(slf, scheduled, traceback).map(Py::into_any);
    }
    let handle = ThreadSafeHandle::make(py, scheduled, traceback)?;
    EventLoop::push_or_inject(slf, handle.clone().unbind())?;
    Ok(handle.into_any().unbind())
}

fn later(slf: &Bound<'_, EventLoop>, args: Args<'_, '_>) -> PyResult<Py<PyAny>> {
    let delay = seconds(&args, "call_later", "delay")?;
    let now = EventLoop::now_in_seconds(slf)?;
    timer(slf, &args, "call_later", "delay", now + delay)
}

fn at(slf: &Bound<'_, EventLoop>, args: Args<'_, '_>) -> PyResult<Py<PyAny>> {
    let when = seconds(&args, "call_at", "when")?;
    timer(slf, &args, "call_at", "when", when)
}

/// The leading argument, in seconds.
fn seconds(args: &Args<'_, '_>, method: &str, name: &str) -> PyResult<f64> {
    let py = args.py();
    let value = match args.positional().next() {
        Some(value) => Some(value),
        None => args.value_of(name),
    };
    let Some(value) = value else {
        return Err(PyTypeError::new_err(format!(
            "{method}() missing 1 required positional argument: '{name}'"
        )));
    };
    if value.is_none() {
        return Err(PyTypeError::new_err(format!("{name} must not be None")));
    }
    let value: f64 = value.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(py) {
            return error;
        }
        PyTypeError::new_err(format!("{method}() needs {name} in seconds, a number, not {value:?}"))
    })?;
    if value.is_nan() {
        return Err(PyValueError::new_err(format!("{method}() needs {name} in seconds, not NaN")));
    }
    Ok(value)
}

fn timer(
    slf: &Bound<'_, EventLoop>,
    args: &Args<'_, '_>,
    method: &str,
    leading: &str,
    when: f64,
) -> PyResult<Py<PyAny>> {
    let (scheduled, traceback) = scheduled(slf, args, method, 1, &[leading, "callback"])?;
    let timer = TimerHandle::make(slf.py(), when, Arc::clone(slf.get().timers()), scheduled, traceback)?;
    EventLoop::push_timer(slf, &timer)?;
    Ok(timer.into_any().unbind())
}

fn future(slf: &Bound<'_, EventLoop>, args: Args<'_, '_>) -> PyResult<Py<PyAny>> {
    if args.len() > 0 || args.has_keywords() {
        return Err(PyTypeError::new_err("create_future() takes no arguments"));
    }
    Ok(EventLoop::new_future(slf)?.unbind())
}

fn task(slf: &Bound<'_, EventLoop>, args: Args<'_, '_>) -> PyResult<Py<PyAny>> {
    let this = slf.get();
    let mut positional = args.positional();
    let (Some(coro), None) = (positional.next(), positional.next()) else {
        return base_create_task(slf, &args);
    };
    if args.has_keywords() || this.is_debug() || this.task_factory.load(std::sync::atomic::Ordering::Relaxed)
    {
        return base_create_task(slf, &args);
    }
    this.check_closed()?;
    Ok(interpreter::new_task(&EventLoop::loop_keyword(slf)?, coro)?.unbind())
}

/// `asyncio.BaseEventLoop.create_task`: with keywords, a task factory, or in debug mode it follows each Python version.
fn base_create_task(slf: &Bound<'_, EventLoop>, args: &Args<'_, '_>) -> PyResult<Py<PyAny>> {
    static METHOD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = slf.py();
    let method = METHOD.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("asyncio")?.getattr("BaseEventLoop")?.getattr("create_task")?.unbind())
    })?;
    let positional = std::iter::once(slf.as_any().clone()).chain(args.positional().map(|arg| arg.to_owned()));
    let positional = PyTuple::new(py, positional.collect::<Vec<_>>())?;
    let keywords = PyDict::new(py);
    args.each_keyword(|name, value| keywords.set_item(name, value))?;
    method.call(py, positional, Some(&keywords))
}
