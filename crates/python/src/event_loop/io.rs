//! Objects that wait on a descriptor: the loop calls them through a static table of functions, so that it knows no
//! transport. The layers above implement [`IoObject`] and register an [`IoHandle`].

use pyo3::prelude::*;
use pyo3::{PyClass, PyTraverseError, PyVisit};
use whorl_core::reactor::Readiness;

use super::EventLoop;
use crate::interpreter::{Attached, CloneWith};

/// An object that the loop calls when its descriptor is ready: a transport or a listener.
pub trait IoObject: PyClass {
    /// Whether the descriptor is the object's own, so that `add_reader()` and `sock_recv()` refuse it.
    const OWNS_DESCRIPTOR: bool = true;

    /// The descriptor is ready.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol, which end `run_forever()`.
    fn on_ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        readiness: Readiness,
    ) -> PyResult<()>;

    /// The turn in which [`EventLoop::flush_later`] was called is over: sends the gathered data.
    ///
    /// # Errors
    /// As [`IoObject::on_ready`].
    fn on_turn_end(_slf: &Bound<'_, Self>, _event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        Ok(())
    }
}

/// The functions of one class of objects.
#[derive(Debug)]
struct IoTable {
    owns_descriptor: bool,
    on_ready: OnReady,
    on_turn_end: OnTurnEnd,
}

type OnReady = for<'py> unsafe fn(&Bound<'py, PyAny>, &Bound<'py, EventLoop>, Readiness) -> PyResult<()>;
type OnTurnEnd = for<'py> unsafe fn(&Bound<'py, PyAny>, &Bound<'py, EventLoop>) -> PyResult<()>;

impl IoTable {
    const fn of<T: IoObject>() -> Self {
        Self { owns_descriptor: T::OWNS_DESCRIPTOR, on_ready: on_ready::<T>, on_turn_end: on_turn_end::<T> }
    }
}

/// # Safety
/// `object` is a `T`.
unsafe fn on_ready<T: IoObject>(
    object: &Bound<'_, PyAny>,
    event_loop: &Bound<'_, EventLoop>,
    readiness: Readiness,
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    T::on_ready(unsafe { object.cast_unchecked() }, event_loop, readiness)
}

/// # Safety
/// `object` is a `T`.
unsafe fn on_turn_end<T: IoObject>(
    object: &Bound<'_, PyAny>,
    event_loop: &Bound<'_, EventLoop>,
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    T::on_turn_end(unsafe { object.cast_unchecked() }, event_loop)
}

/// A reference to an [`IoObject`] of any class, with the functions of its class.
#[derive(Debug)]
pub struct IoHandle {
    /// Of the class of `table`: [`IoHandle::new`] is the only place that puts the two together.
    object: Py<PyAny>,
    table: &'static IoTable,
}

impl IoHandle {
    /// A reference to `object`.
    pub fn new<T: IoObject>(object: &Bound<'_, T>) -> Self {
        Self { object: object.as_any().clone().unbind(), table: const { &IoTable::of::<T>() } }
    }

    /// The object.
    pub const fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    /// Whether the descriptor is the object's own.
    pub const fn owns_descriptor(&self) -> bool {
        self.table.owns_descriptor
    }

    /// Calls [`IoObject::on_ready`].
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol.
    #[inline]
    pub fn on_ready(&self, event_loop: &Bound<'_, EventLoop>, readiness: Readiness) -> PyResult<()> {
        // SAFETY: the object is of the class of its table.
        unsafe { (self.table.on_ready)(self.object.bind(event_loop.py()), event_loop, readiness) }
    }

    /// Calls [`IoObject::on_turn_end`].
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol.
    #[inline]
    pub fn on_turn_end(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        // SAFETY: the object is of the class of its table.
        unsafe { (self.table.on_turn_end)(self.object.bind(event_loop.py()), event_loop) }
    }

    /// Shows the object to the collector.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }
}

impl CloneWith for IoHandle {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self { object: self.object.clone_with(at), table: self.table }
    }
}
