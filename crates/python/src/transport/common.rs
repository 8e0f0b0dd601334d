//! What every kind of transport does the same way: calling the exception handler, scheduling, and small look-ups.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use whorl_core::net::WaterMarks;

use super::protocol;
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, Handle, Scheduled, leaves_the_loop};
use crate::ffi::{Call, copy_context};

/// Writes to a transport that is gone which are dropped without a word, before each is logged; asyncio's.
const SILENT_DROPS: usize = 5;

/// Calls the loop's exception handler with `error`.
///
/// # Errors
/// SystemExit and KeyboardInterrupt, which end `run_forever()`, and what the handler raises.
pub fn report(
    event_loop: &Bound<'_, EventLoop>,
    transport: &Bound<'_, PyAny>,
    protocol: Option<Py<PyAny>>,
    message: &str,
    error: PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    if leaves_the_loop(py, &error) {
        return Err(error);
    }
    let context = PyDict::new(py);
    context.set_item("message", message)?;
    context.set_item("exception", error.value(py))?;
    context.set_item("transport", transport)?;
    context.set_item("protocol", protocol)?;
    event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
}

/// Runs `call` in `context` in the next turn; never, once the loop is closed.
pub fn schedule(event_loop: &Bound<'_, EventLoop>, context: &Py<PyAny>, call: Call) -> PyResult<()> {
    let py = event_loop.py();
    if event_loop.get().has_closed() {
        return Ok(());
    }
    let scheduled = Scheduled { call, context: context.clone_ref(py) };
    event_loop.get().push_ready(Handle::make(py, scheduled, None)?.unbind())
}

/// Has the loop's thread call `transport.method()`. The collector finds a `StreamWriter`, whose end closes its transport, on any
/// thread; so what ends a transport is handed over, in debug mode too.
///
/// # Errors
/// MemoryError, and OSError where the loop cannot be woken.
pub fn hand_over(
    event_loop: &Bound<'_, EventLoop>,
    transport: &Bound<'_, PyAny>,
    method: &Bound<'_, PyString>,
) -> PyResult<()> {
    let py = event_loop.py();
    // The class's own: what a program has put in its place on the object has been called already, on this thread.
    let function = transport.get_type().getattr(method)?.unbind();
    // Not the transport's context: the loop may be changing that one now.
    let scheduled =
        Scheduled { call: Call::of1(function, transport.clone().unbind()), context: copy_context(py)? };
    EventLoop::push_or_inject(event_loop, Handle::make(py, scheduled, None)?.unbind())
}

/// Schedules `transport._start(waiter)`, which starts a transport.
pub fn schedule_start(
    event_loop: &Bound<'_, EventLoop>,
    context: &Py<PyAny>,
    transport: &Bound<'_, PyAny>,
    waiter: Option<Py<PyAny>>,
) -> PyResult<()> {
    let py = event_loop.py();
    let method = transport.getattr(intern!(py, "_start"))?.unbind();
    schedule(event_loop, context, Call::of1(method, waiter.unwrap_or_else(|| py.None())))
}

/// Has the protocol pause or resume writing: `method` is called in `context`, or in the caller's if that is within it, and
/// what it raises is reported.
///
/// # Errors
/// As [`report`].
pub fn control_flow(
    event_loop: &Bound<'_, EventLoop>,
    context: &Py<PyAny>,
    transport: &Bound<'_, PyAny>,
    protocol: Option<Py<PyAny>>,
    method: &Bound<'_, PyString>,
) -> PyResult<()> {
    let py = event_loop.py();
    let Some(protocol) = protocol else { return Ok(()) };
    match protocol::call_flow_control(protocol.bind(py), context, method) {
        Ok(_) => Ok(()),
        Err(error) => {
            report(event_loop, transport, Some(protocol), &format!("protocol.{method}() failed"), error)
        }
    }
}

/// Calls `protocol.method(*args)` in the context that the thread is in, as the loop has entered the transport's.
pub fn call_protocol<const N: usize>(
    protocol: &Bound<'_, PyAny>,
    method: &Bound<'_, PyString>,
    args: [&Bound<'_, PyAny>; N],
) -> PyResult<()> {
    crate::ffi::call(protocol.py(), &protocol.getattr(method)?.unbind(), args).map(drop)
}

/// `protocol.connection_made(transport)`, in the context that the thread is in; what it raises is reported.
///
/// # Errors
/// As [`report`].
pub fn connection_made(
    event_loop: &Bound<'_, EventLoop>,
    transport: &Bound<'_, PyAny>,
    protocol: Option<Py<PyAny>>,
) -> PyResult<()> {
    let py = event_loop.py();
    let Some(protocol) = protocol else { return Ok(()) };
    match call_protocol(protocol.bind(py), intern!(py, "connection_made"), [transport]) {
        Ok(()) => Ok(()),
        Err(error) => {
            report(event_loop, transport, Some(protocol), "Exception in protocol.connection_made()", error)
        }
    }
}

/// `protocol.connection_lost(error)`, in the context that the thread is in.
///
/// # Errors
/// What the method raises.
pub fn connection_lost(protocol: Option<&Py<PyAny>>, error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = error.py();
    let Some(protocol) = protocol else { return Ok(()) };
    call_protocol(protocol.bind(py), intern!(py, "connection_lost"), [error])
}

/// `future.set_result(None)` unless it is done.
pub fn set_result(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// `future.set_exception(error)` unless it is done.
pub fn set_exception(future: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_exception"), (error,))?;
    }
    Ok(())
}

/// Notes a write to a transport that is gone: the sixth and later ones are logged, as in asyncio.
pub fn note_dropped(py: Python<'_>, dropped: usize, message: &str) -> PyResult<()> {
    if dropped < SILENT_DROPS {
        return Ok(());
    }
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logger = LOGGER.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("asyncio.log")?.getattr("logger")?.unbind())
    })?;
    logger.call_method1(py, intern!(py, "warning"), (message,)).map(drop)
}

/// `asyncio.constants._SendfileMode[name]`: how the loop's `sendfile()` sends through a transport.
pub fn sendfile_mode(py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
    Ok(py.import("asyncio.constants")?.getattr("_SendfileMode")?.getattr(name)?.unbind())
}

/// The marks that the user gave; `default_high` bytes is the high one if neither is given.
///
/// # Errors
/// ValueError unless high >= low >= 0.
pub fn water_marks(high: Option<isize>, low: Option<isize>, default_high: usize) -> PyResult<WaterMarks> {
    let refused = || {
        let shown = |mark: Option<isize>| mark.map_or_else(|| "default".to_owned(), |mark| mark.to_string());
        PyValueError::new_err(format!("high ({}) must be >= low ({}) must be >= 0", shown(high), shown(low)))
    };
    let size = |mark: Option<isize>| mark.map(usize::try_from).transpose().map_err(|_| refused());
    WaterMarks::new(size(low)?, size(high)?, default_high).or_raise()
}
