//! What we ask of the interpreter beside calls: futures and tasks, a value under its lock, objects with a dict.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::UnsafeCell;
#[cfg(Py_GIL_DISABLED)]
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyClass, PyClassInitializer, ffi, intern};

/// `asyncio.futures.Future`, as it is now: the C type, or what a tool has put in its place (nest_asyncio does).
pub fn future_type(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static NAMES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    current(names_of(py, &NAMES, "asyncio.futures")?, intern!(py, "Future"))
}

/// `asyncio.tasks.Task`, as it is now.
pub fn task_type(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static NAMES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    current(names_of(py, &NAMES, "asyncio.tasks")?, intern!(py, "Task"))
}

/// The global names of a module, which it keeps for life.
fn names_of<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyDict>>,
    module: &str,
) -> PyResult<&'py Bound<'py, PyDict>> {
    Ok(cell.get_or_try_init(py, || py.import(module).map(|module| module.dict().unbind()))?.bind(py))
}

fn current<'py>(names: &Bound<'py, PyDict>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    names.get_item(name)?.ok_or_else(|| PyAttributeError::new_err(format!("asyncio has lost its {name}")))
}

/// `asyncio.Future(loop=event_loop)`.
pub fn new_future<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    call_for_loop(&future_type(event_loop.py())?, None, event_loop)
}

/// `asyncio.Task(coro, loop=event_loop)`.
pub fn new_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coro: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call_for_loop(&task_type(event_loop.py())?, Some(coro), event_loop)
}

/// `class(argument, loop=event_loop)`, or without the argument.
#[inline]
fn call_for_loop<'py>(
    class: &Bound<'py, PyAny>,
    argument: Option<Borrowed<'_, 'py, PyAny>>,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let py = class.py();
    let names = NAMES.get_or_try_init(py, || PyTuple::new(py, [intern!(py, "loop")]).map(Bound::unbind))?;
    let values = [argument.map_or(std::ptr::null_mut(), |argument| argument.as_ptr()), event_loop.as_ptr()];
    let (values, positional) = if argument.is_some() { (&values[..], 1) } else { (&values[1..], 0) };
    // SAFETY: attached; `positional` arguments and one keyword value for the one name, all borrowed for the call.
    unsafe {
        let made = ffi::PyObject_Vectorcall(class.as_ptr(), values.as_ptr(), positional, names.as_ptr());
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// A value that one thread opens at a time: under the GIL or, on a free-threaded interpreter, a lock.
///
/// Not under the object's critical section, which may let the thread be stopped while it waits for another: whoever has the
/// loop's state open must never be, as others wait for it (see [`whorl_core::sched::LoopOwner`]).
#[derive(Debug)]
pub struct Guarded<T> {
    #[cfg(Py_GIL_DISABLED)]
    value: Mutex<T>,
    #[cfg(not(Py_GIL_DISABLED))]
    value: UnsafeCell<T>,
}

// SAFETY: `value` is opened in `with` alone, under the GIL. What runs in there calls nothing foreign, so it does not come
// back, and nothing lets go of the GIL.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    /// A value to be guarded.
    pub const fn new(value: T) -> Self {
        #[cfg(Py_GIL_DISABLED)]
        return Self { value: Mutex::new(value) };
        #[cfg(not(Py_GIL_DISABLED))]
        Self { value: UnsafeCell::new(value) }
    }

    /// Opens the value for the length of `act`, which calls nothing foreign, drops no reference and makes no object: all
    /// three may run Python.
    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, act: impl FnOnce(&mut T) -> R) -> R {
        // What a poisoned lock protects is whole all the same: each stage is written at once.
        #[cfg(Py_GIL_DISABLED)]
        return act(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: see `Sync`.
        #[cfg(not(Py_GIL_DISABLED))]
        act(unsafe { &mut *self.value.get() })
    }
}

/// `Bound::new` for a class with an instance `__dict__`.
///
/// Before Python 3.12 the dict is made while the new object is known to the garbage collector already and its fields are not
/// written yet; a collection that this starts would look into them. There the collector rests meanwhile.
pub fn new_with_dict<T>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    #[cfg(Py_3_12)]
    return Bound::new(py, value);
    #[cfg(not(Py_3_12))]
    {
        // SAFETY: attached; a switch, which is put back below.
        let was_enabled = unsafe { ffi::PyGC_Disable() } == 1;
        let object = Bound::new(py, value);
        if was_enabled {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
        object
    }
}
