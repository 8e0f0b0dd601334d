//! What we use of the interpreter in addition to calls: futures and tasks, a value under its lock, objects with a dict.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
#[cfg(Py_GIL_DISABLED)]
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyClass, PyClassInitializer, PyVisit, intern};
use whorl_core::sched::{Section, SectionToken};

use crate::ffi::BytesWriter;

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

/// The global names of a module, which stay the same dict.
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

/// The keyword arguments `loop=event_loop`, for [`new_future`] and [`new_task`].
///
/// # Errors
/// MemoryError.
pub fn loop_keyword<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let keyword = PyDict::new(event_loop.py());
    keyword.set_item(intern!(event_loop.py(), "loop"), event_loop)?;
    Ok(keyword)
}

/// `asyncio.Future(loop=event_loop)`.
///
/// Both classes are heap types without a vectorcall of their own: what is called with a vector makes a dict of the keywords each
/// time.
///
/// # Errors
/// What the class raises.
#[inline]
pub fn new_future<'py>(loop_keyword: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    future_type(loop_keyword.py())?.call((), Some(loop_keyword))
}

/// Marks `future` as being awaited, as `Future.__await__()` does.
///
/// # Errors
/// The exception of the future.
pub fn await_future(future: Py<PyAny>, py: Python<'_>) -> PyResult<Py<PyAny>> {
    future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(future)
}

/// `asyncio.Task(coro, loop=event_loop)`.
///
/// # Errors
/// What the class raises.
#[inline]
pub fn new_task<'py>(
    loop_keyword: &Bound<'py, PyDict>,
    coro: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    task_type(loop_keyword.py())?.call((coro,), Some(loop_keyword))
}

/// `warnings.warn(message, ResourceWarning, source=source)`, without an import: finalisers call it, and while the interpreter ends
/// there is nothing to import from.
///
/// # Errors
/// The warning, where the filters make it an error.
pub fn warn_resource(py: Python<'_>, message: &str, source: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let message = PyString::new(py, message);
    let source = source.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: attached; `source` is null, which stands for none, or an object that the caller has; the format takes one object,
    // which `message` is.
    let outcome = unsafe { pyo3::ffi::PyErr_ResourceWarning(source, 1, c"%U".as_ptr(), message.as_ptr()) };
    if outcome < 0 { Err(PyErr::fetch(py)) } else { Ok(()) }
}

/// The exception that is set; type, value and traceback before Python 3.12.
struct RaisedException<'py> {
    _at: Python<'py>,
    #[cfg(Py_3_12)]
    value: *mut pyo3::ffi::PyObject,
    #[cfg(not(Py_3_12))]
    parts: [*mut pyo3::ffi::PyObject; 3],
}

impl<'py> RaisedException<'py> {
    /// Takes it from the thread, which has none set then.
    fn set_aside(py: Python<'py>) -> Self {
        #[cfg(Py_3_12)]
        // SAFETY: attached. What is returned is null or a reference that is ours.
        return Self { _at: py, value: unsafe { pyo3::ffi::PyErr_GetRaisedException() } };
        #[cfg(not(Py_3_12))]
        {
            let mut parts = [std::ptr::null_mut(); 3];
            let [kind, value, traceback] = &mut parts;
            // SAFETY: attached. Each of the three becomes null or a reference that is ours.
            unsafe { pyo3::ffi::PyErr_Fetch(kind, value, traceback) };
            Self { _at: py, parts }
        }
    }
}

impl Drop for RaisedException<'_> {
    fn drop(&mut self) {
        #[cfg(Py_3_12)]
        // SAFETY: attached. The reference, or null for no exception, is given back to the thread it was taken from.
        unsafe {
            pyo3::ffi::PyErr_SetRaisedException(self.value);
        }
        #[cfg(not(Py_3_12))]
        {
            let [kind, value, traceback] = self.parts;
            // SAFETY: as above.
            unsafe { pyo3::ffi::PyErr_Restore(kind, value, traceback) };
        }
    }
}

/// Runs `act` with no exception set, and sets the one again that was. A destructor may run while an exception is on its way up
/// the stack, in which state no Python may be called.
pub fn with_exception_aside<R>(py: Python<'_>, act: impl FnOnce() -> R) -> R {
    let _set_again = RaisedException::set_aside(py);
    act()
}

/// What a destructor does by way of Python: there is no caller for what `act` raises, which is reported with `object`.
pub fn in_destructor<T>(object: &Bound<'_, T>, act: impl FnOnce() -> PyResult<()>) {
    let py = object.py();
    with_exception_aside(py, || {
        if let Err(error) = act() {
            error.write_unraisable(py, Some(object.as_any()));
        }
    });
}

/// What a section over open state may have of the interpreter: a reference more, a bytes object, a weak reference's
/// referent.
///
/// It stands in for `Python`, which a section must not have ([`whorl_core::sched::OwnerCell`]): with that it could call
/// Python, or detach. It hands out `Py` and never `Bound`, from which a `Python` could be had.
#[derive(Clone, Copy)]
pub struct Attached<'py>(Python<'py>);

// SAFETY: the field is private and no method hands it out. A reference more changes a count; that a section drops no last one is
// the section's promise (`whorl_core::sched::owner`), and a referent, which may have no other, comes as an `Outgoing`, which the
// section cannot drop. A bytes object is not tracked by the garbage collector, so making one starts no collection, and its end
// runs no finaliser. None of it detaches or waits.
unsafe impl SectionToken for Attached<'_> {}

impl<'py> From<Python<'py>> for Attached<'py> {
    #[inline]
    fn from(py: Python<'py>) -> Self {
        Self(py)
    }
}

impl<'py> Attached<'py> {
    /// A bytes object with a copy of `content`.
    #[inline]
    pub fn new_bytes(self, content: &[u8]) -> Py<PyBytes> {
        PyBytes::new(self.0, content).unbind()
    }

    /// A bytes object with the content of `parts`, one after the other, `length` bytes in all.
    ///
    /// # Errors
    /// MemoryError.
    pub fn join_bytes<'a>(
        self,
        length: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> PyResult<Py<PyBytes>> {
        let (joined, ()) = BytesWriter::new(self.0, length)?.fill(|output| {
            for part in parts {
                output.extend(part);
            }
        })?;
        Ok(joined.unbind())
    }

    /// The content of a bytes object.
    #[inline]
    pub fn bytes(self, bytes: &Py<PyBytes>) -> &[u8] {
        bytes.as_bytes(self.0)
    }

    /// What a weak reference refers to, if that is alive.
    #[must_use]
    pub fn upgrade(self, reference: &Py<PyWeakrefReference>) -> Option<Outgoing> {
        let referent = reference.bind(self.0).upgrade()?;
        Some(Outgoing(ManuallyDrop::new(referent.unbind())))
    }

    /// One reference more to what is held.
    pub fn outgoing(self, held: &Py<PyAny>) -> Outgoing {
        Outgoing(ManuallyDrop::new(held.clone_ref(self.0)))
    }
}

/// A reference on its way out of a section. It may be the last one to its object, so the section must not drop it: only what
/// the section returns it to, which has a `Python`, can take it. One that is never taken is leaked.
#[derive(Debug)]
#[must_use]
pub struct Outgoing(ManuallyDrop<Py<PyAny>>);

impl Outgoing {
    /// The reference.
    pub fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        ManuallyDrop::into_inner(self.0).into_bound(py)
    }
}

/// What is cloned by one reference more for each of its references.
pub trait CloneWith {
    /// The clone.
    #[must_use]
    fn clone_with(&self, at: Attached<'_>) -> Self;
}

impl<T> CloneWith for Py<T> {
    #[inline]
    fn clone_with(&self, at: Attached<'_>) -> Self {
        self.clone_ref(at.0)
    }
}

impl<T: CloneWith> CloneWith for Option<T> {
    #[inline]
    fn clone_with(&self, at: Attached<'_>) -> Self {
        self.as_ref().map(|held| held.clone_with(at))
    }
}

/// The garbage collector's visit, for a section that shows what the state holds.
#[derive(Clone, Copy)]
pub struct Collector<'a>(PyVisit<'a>);

// SAFETY: a visit calls the collector's own function, which counts references: it runs no finaliser and waits for nothing.
unsafe impl SectionToken for Collector<'_> {}

impl<'a> Collector<'a> {
    /// Of what `__traverse__` was given.
    pub const fn of(visit: &PyVisit<'a>) -> Self {
        Self(*visit)
    }
}

impl<'a> std::ops::Deref for Collector<'a> {
    type Target = PyVisit<'a>;

    fn deref(&self) -> &PyVisit<'a> {
        &self.0
    }
}

/// Which object it is, for a section that compares: a reference without its thread. The caller keeps the object alive.
#[derive(Clone, Copy, Debug)]
pub struct Identity(usize);

impl Identity {
    /// Of `object`.
    pub fn of<T>(object: &Bound<'_, T>) -> Self {
        Self(object.as_ptr().addr())
    }

    /// Whether `other` is the object.
    pub fn is<T>(self, other: &Py<T>) -> bool {
        other.as_ptr().addr() == self.0
    }
}

/// A value that one thread at a time reads or replaces: under the GIL or, on a free-threaded interpreter, a lock.
///
/// No access can reenter. [`Guarded::peek`] takes a closure that is `Send`, so it calls no Python, and
/// `Copy`, so it holds nothing whose end could run a finaliser, and gives it a shared reference. Everything else moves a whole
/// value in and the one before out, to be dropped by the caller, outside.
///
/// Not under the object's critical section, which may let the thread be stopped while it waits for another: the holder of the
/// loop's state open must never be, as others wait for it (see [`whorl_core::sched::LoopOwner`]). The lock of a free-threaded
/// interpreter is not one that detaches: its holder runs a few loads and stores, so a thread that waits for it, the
/// collector's included, waits for that long.
pub struct Guarded<T> {
    #[cfg(Py_GIL_DISABLED)]
    value: Mutex<T>,
    #[cfg(not(Py_GIL_DISABLED))]
    value: UnsafeCell<T>,
}

// SAFETY: `value` is touched in `open` alone, on an attached thread and so under the GIL, which nothing in there releases.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> std::fmt::Debug for Guarded<T> {
    /// Shows that there is one: the value may be another thread's at the moment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

impl<T> Guarded<T> {
    /// A value to be guarded.
    pub const fn new(value: T) -> Self {
        #[cfg(Py_GIL_DISABLED)]
        return Self { value: Mutex::new(value) };
        #[cfg(not(Py_GIL_DISABLED))]
        Self { value: UnsafeCell::new(value) }
    }

    /// What `read` returns for the value.
    #[inline]
    pub fn peek<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        read: impl FnOnce(&T, Attached<'py>) -> R + Send + Copy,
    ) -> R {
        let at = at.into();
        self.open(|value| read(value, at))
    }

    /// Puts `next` in, and gives the value before.
    #[inline]
    #[must_use]
    pub fn replace<'py>(&self, _at: impl Into<Attached<'py>>, next: T) -> T {
        self.open(|value| std::mem::replace(value, next))
    }

    /// [`Guarded::replace`] where `from` holds of the value, in one step.
    ///
    /// # Errors
    /// `next`, where it does not.
    #[inline]
    pub fn replace_if<'py>(
        &self,
        _at: impl Into<Attached<'py>>,
        next: T,
        from: impl FnOnce(&T) -> bool + Send + Copy,
    ) -> Result<T, T> {
        self.open(|value| if from(value) { Ok(std::mem::replace(value, next)) } else { Err(next) })
    }

    /// Shows the value to the garbage collector, which runs on an attached thread.
    pub fn visit<'a, R>(&self, visit: Collector<'a>, show: impl FnOnce(&T, Collector<'a>) -> R + Send) -> R {
        self.open(|value| show(value, visit))
    }

    /// The value, by the only reference to it.
    pub fn get_mut(&mut self) -> &mut T {
        #[cfg(Py_GIL_DISABLED)]
        return self.value.get_mut().unwrap_or_else(PoisonError::into_inner);
        #[cfg(not(Py_GIL_DISABLED))]
        self.value.get_mut()
    }

    /// Opens the value for one of the methods above, on an attached thread.
    #[inline]
    fn open<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let _section = Section::enter();
        // What a poisoned lock protects is whole all the same: each value is written at once.
        #[cfg(Py_GIL_DISABLED)]
        return act(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: other threads wait for the GIL. This one does not come back: `open` is called by the methods above only, and
        // none of them runs foreign code or drops a value that was in here. A closure of theirs has no token to call Python with,
        // and clippy refuses to make one (`disallowed_methods`).
        #[cfg(not(Py_GIL_DISABLED))]
        act(unsafe { &mut *self.value.get() })
    }
}

/// The alignment of every object: the interpreter's own allocator gives no more.
const OBJECT_ALIGNMENT: usize = 2 * size_of::<usize>();

/// `module.add_class::<T>()` for a class whose instances the interpreter can allocate: a field that asks for a greater
/// alignment is boxed.
pub fn add_class<T: PyClass>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    const { assert!(align_of::<T>() <= OBJECT_ALIGNMENT) };
    module.add_class::<T>()
}

/// `Bound::new` for a class with an instance `__dict__`.
///
/// Before Python 3.12 the dict is made while the new object is known to the garbage collector already and its fields are not
/// written yet; a collection that this starts would visit them. In those versions the collector is off meanwhile.
pub fn new_with_dict<T>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    #[cfg(Py_3_12)]
    return Bound::new(py, value);
    #[cfg(not(Py_3_12))]
    {
        // SAFETY: attached; a switch, which is put back below.
        let was_enabled = unsafe { pyo3::ffi::PyGC_Disable() } == 1;
        let object = Bound::new(py, value);
        if was_enabled {
            // SAFETY: as above.
            unsafe { pyo3::ffi::PyGC_Enable() };
        }
        object
    }
}
