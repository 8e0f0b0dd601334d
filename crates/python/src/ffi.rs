//! The Python C API where PyO3 has no safe counterpart that is fast enough: fastcall methods with their arguments in
//! place, vector calls, and entering contexts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyType};
use whorl_core::output::{self, Output};
use whorl_core::sched::assert_nothing_open;

use crate::interpreter::{Attached, CloneWith};

/// How many arguments [`call`] takes, and a [`Call`] without memory of its own.
const FEW_ARGUMENTS: usize = 3;

/// A callable and its positional arguments, laid out for the vectorcall protocol: the callable sits in the slot before
/// the first argument, which a callee may borrow (`PY_VECTORCALL_ARGUMENTS_OFFSET`) to put `self` in.
#[derive(Debug)]
pub struct Call {
    slots: Slots,
}

/// Plain fields and no inline vector: they stay in registers until the handle is written.
#[derive(Debug)]
enum Slots {
    Few(FewSlots),
    Many(Vec<Py<PyAny>>),
}

/// The slots of a call with few arguments. `repr(C)`: the arguments follow the callable without a gap.
#[derive(Debug)]
#[repr(C)]
struct FewSlots {
    callable: Py<PyAny>,
    /// Those after the last argument are empty.
    args: [Option<Py<PyAny>>; FEW_ARGUMENTS],
}

impl CloneWith for Call {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self {
            slots: match &self.slots {
                Slots::Few(FewSlots { callable, args }) => Slots::Few(FewSlots {
                    callable: callable.clone_with(at),
                    args: args.each_ref().map(|arg| arg.clone_with(at)),
                }),
                Slots::Many(slots) => Slots::Many(slots.iter().map(|slot| slot.clone_with(at)).collect()),
            },
        }
    }
}

impl Call {
    /// The call `callable(*args)`.
    // Always: the parts of a call go from the caller's arguments into the handle by way of registers.
    #[inline(always)]
    pub fn new<'a, 'py>(
        callable: Borrowed<'_, 'py, PyAny>,
        args: impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>>,
    ) -> Self {
        let callable = callable.to_owned().unbind();
        let mut args = args.map(|arg| arg.to_owned().unbind());
        Self {
            slots: match args.len() {
                0..=FEW_ARGUMENTS => {
                    Slots::Few(FewSlots { callable, args: [args.next(), args.next(), args.next()] })
                }
                _ => Slots::Many(std::iter::once(callable).chain(args).collect()),
            },
        }
    }

    /// A call without arguments.
    pub const fn of(callable: Py<PyAny>) -> Self {
        Self { slots: Slots::Few(FewSlots { callable, args: [None, None, None] }) }
    }

    /// A call with one argument.
    pub const fn of1(callable: Py<PyAny>, arg: Py<PyAny>) -> Self {
        Self { slots: Slots::Few(FewSlots { callable, args: [Some(arg), None, None] }) }
    }

    /// The callable and its arguments, one after the other.
    pub fn parts(&self) -> impl Iterator<Item = &Py<PyAny>> {
        let (few, many) = match &self.slots {
            Slots::Few(few) => (Some(few), None),
            Slots::Many(slots) => (None, Some(slots)),
        };
        let few =
            few.into_iter().flat_map(|few| std::iter::once(&few.callable).chain(few.args.iter().flatten()));
        few.chain(many.into_iter().flatten())
    }

    /// Drops the references together; each alone would check whether this thread is attached.
    #[inline]
    pub fn release(self, py: Python<'_>) {
        match self.slots {
            Slots::Few(FewSlots { callable, args }) => {
                callable.drop_ref(py);
                args.into_iter().flatten().for_each(|arg| arg.drop_ref(py));
            }
            Slots::Many(slots) => slots.into_iter().for_each(|slot| slot.drop_ref(py)),
        }
    }

    /// Calls it, within `context`.
    #[inline]
    pub fn run<'py>(&mut self, py: Python<'py>, context: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        assert_nothing_open();
        let entered = Entered::new(py, context)?;
        let (slots, count) = match &mut self.slots {
            Slots::Few(few) => {
                let count = few.args.iter().take_while(|arg| arg.is_some()).count();
                (ptr::from_mut(few).cast::<*mut ffi::PyObject>(), count)
            }
            Slots::Many(slots) => (slots.as_mut_ptr().cast(), slots.len() - 1),
        };
        // SAFETY: `slots` holds a callable and `count` arguments, all kept alive by `self` for the length of the call. `Py<T>`
        // is one pointer to an object (`repr(transparent)`), with or without `Option`, and the slot before the arguments is
        // ours to lend.
        let result = unsafe {
            let nargs = count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
            let result = vectorcall(*slots, slots.add(1), nargs);
            Bound::from_owned_ptr_or_err(py, result)
        };
        entered.leave(result)
    }
}

/// `PyObject_Vectorcall`, as a function that may unwind.
#[cfg(not(Py_3_14))]
type Vectorcall = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

// SAFETY: the same function; an ABI that may unwind allows more than the one it is declared with.
#[cfg(not(Py_3_14))]
static VECTORCALL: Vectorcall = unsafe {
    std::mem::transmute::<
        unsafe extern "C" fn(
            *mut ffi::PyObject,
            *const *mut ffi::PyObject,
            usize,
            *mut ffi::PyObject,
        ) -> *mut ffi::PyObject,
        Vectorcall,
    >(ffi::PyObject_Vectorcall)
};

/// Stops the thread for good when it is dropped.
#[cfg(not(Py_3_14))]
struct StopThread;

#[cfg(not(Py_3_14))]
impl Drop for StopThread {
    #[cold]
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls `callable` with positional arguments.
///
/// Before Python 3.14 an interpreter that ends has every other thread unwind its stack where it asks for the interpreter's lock,
/// which a callback does now and then. Rust's frames abort the process then. So the thread is stopped below them, as Python 3.14
/// stops it: it ends with the process.
///
/// # Safety
/// As `PyObject_Vectorcall`.
#[inline]
unsafe fn vectorcall(
    callable: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: usize,
) -> *mut ffi::PyObject {
    #[cfg(Py_3_14)]
    // SAFETY: by the caller.
    return unsafe { ffi::PyObject_Vectorcall(callable, args, nargs, ptr::null_mut()) };
    #[cfg(not(Py_3_14))]
    {
        let unwinds = StopThread;
        // SAFETY: a static. Volatile, as the compiler, which knows PyO3's declaration of the function, would take a call of a
        // constant for one that does not unwind.
        let function = unsafe { ptr::read_volatile(&raw const VECTORCALL) };
        // SAFETY: by the caller.
        let result = unsafe { function(callable, args, nargs, ptr::null_mut()) };
        std::mem::forget(unwinds);
        result
    }
}

/// A context that has been entered, to be left again.
struct Entered<'a, 'py> {
    context: &'a Py<PyAny>,
    py: Python<'py>,
}

impl<'a, 'py> Entered<'a, 'py> {
    #[inline]
    fn new(py: Python<'py>, context: &'a Py<PyAny>) -> PyResult<Self> {
        // SAFETY: attached; `PyContext_Enter` checks the type and raises for anything that is no context.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self { context, py })
    }

    /// Leaves the context, whatever `result` is, which goes through.
    #[inline]
    fn leave(self, result: PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: entered in `new` on this thread. An error of the call has been fetched into `result`, so none is set.
        if unsafe { ffi::PyContext_Exit(self.context.as_ptr()) } < 0 {
            return Err(PyErr::fetch(self.py));
        }
        result
    }
}

/// Calls `callable` with up to three arguments, within `context`.
#[inline]
pub fn call_in_context<'py, const N: usize>(
    py: Python<'py>,
    context: &Py<PyAny>,
    callable: &Py<PyAny>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let entered = Entered::new(py, context)?;
    let result = call(py, callable, args);
    entered.leave(result)
}

/// Calls `callable` with up to three arguments; more do not compile.
#[inline]
pub fn call<'py, const N: usize>(
    py: Python<'py>,
    callable: &Py<PyAny>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N <= FEW_ARGUMENTS, "there are slots for three arguments") };
    assert_nothing_open();
    let mut slots = [ptr::null_mut::<ffi::PyObject>(); FEW_ARGUMENTS + 1];
    for (slot, arg) in slots.iter_mut().skip(1).zip(args) {
        *slot = arg.as_ptr();
    }
    // SAFETY: the callable and the arguments are borrowed for the length of the call; there are slots for all N of them, and
    // the first slot is free to be lent.
    unsafe {
        let nargs = N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let result = vectorcall(callable.as_ptr(), slots.as_ptr().add(1), nargs);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Whether `object` is the one reference to its object, weak ones included, so that no other code can come to it.
///
/// On a free-threaded build also the thread that made the object has to be this one, and the interpreter has to have
/// a function that checks it (from 3.14 on); otherwise the result is false.
#[inline]
pub fn is_uniquely_referenced<T>(object: &Bound<'_, T>) -> bool {
    let object = object.as_ptr();
    // SAFETY: attached, and the caller has a reference, so the object is alive. A count of one is that reference; under the
    // GIL no other thread can raise it meanwhile.
    #[cfg(not(Py_GIL_DISABLED))]
    let alone = unsafe { ffi::Py_REFCNT(object) == 1 };
    // SAFETY: attached, and the caller has a reference. The interpreter's own question: true only if no other thread has,
    // or can make, a reference.
    #[cfg(all(Py_GIL_DISABLED, Py_3_14))]
    let alone = unsafe { ffi::PyUnstable_Object_IsUniquelyReferenced(object) == 1 };
    #[cfg(all(Py_GIL_DISABLED, not(Py_3_14)))]
    let alone = false;
    // SAFETY: there is no other strong reference, and a new weak one is made from a strong one: the list does not change. The
    // offset is the type's own; where it is positive, a pointer to the list (or null) is at that place.
    alone
        && unsafe {
            let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
            offset > 0 && object.byte_offset(offset).cast::<*mut ffi::PyObject>().read().is_null()
        }
}

/// The own attributes of an object, as `vars()` has them; none of a class without.
pub fn own_attributes<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    let py = object.py();
    // SAFETY: the interpreter is attached, and `object` is a live object; the result is a new reference or null with an exception.
    let attributes = unsafe {
        let attributes = ffi::PyObject_GenericGetDict(object.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, attributes)
    };
    attributes.ok()?.cast_into().ok()
}

/// A number that `class` loses when it, or a class that it is derived from, is given another attribute; 0 if it has none.
///
/// It is `tp_version_tag`, which the interpreter's own caches go by and no API promises. A class has none until an attribute of
/// it was looked up, and for good once the interpreter has run out of numbers: a caller takes 0 for "changed", which costs it
/// the check that the number saves.
#[inline]
pub fn class_version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: a class is a `PyTypeObject`, and the caller keeps it alive. The interpreter writes the number atomically where
    // another thread may read it.
    unsafe { AtomicU32::from_ptr(&raw mut (*class.as_type_ptr()).tp_version_tag).load(Ordering::Relaxed) }
}

/// Calls `callable` with up to three arguments, within `context`, or right here if the context cannot be entered because
/// a callback further up the stack is in it.
#[inline]
pub fn call_in_context_or_here<'py, const N: usize>(
    py: Python<'py>,
    context: &Py<PyAny>,
    callable: &Py<PyAny>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    match Entered::new(py, context) {
        Ok(entered) => {
            let result = call(py, callable, args);
            entered.leave(result)
        }
        Err(_entered_already) => call(py, callable, args),
    }
}

/// Whether `context` could be entered.
pub fn can_enter(py: Python<'_>, context: &Py<PyAny>) -> bool {
    Entered::new(py, context).is_ok_and(|entered| entered.leave(Ok(py.None().into_bound(py))).is_ok())
}

/// A copy of the context that the thread is in.
#[inline]
pub fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; a new reference or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// A copy of `context`.
#[inline]
pub fn copy_of_context(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; `PyContext_Copy` checks the type; a new reference or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind) }
}

/// The arguments of a fastcall method.
pub struct Args<'a, 'py> {
    positional: &'a [*mut ffi::PyObject],
    names: Option<Borrowed<'a, 'py, pyo3::types::PyTuple>>,
    keywords: &'a [*mut ffi::PyObject],
    py: Python<'py>,
}

impl<'a, 'py> Args<'a, 'py> {
    /// The interpreter.
    pub const fn py(&self) -> Python<'py> {
        self.py
    }

    /// The positional arguments.
    pub fn positional(&self) -> impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>> + use<'a, 'py> {
        let py = self.py;
        // SAFETY: as in `borrow`.
        self.positional.iter().map(move |arg| unsafe { Borrowed::from_ptr(py, *arg) })
    }

    /// How many arguments are positional.
    pub const fn len(&self) -> usize {
        self.positional.len()
    }

    /// Whether any argument is a keyword.
    pub const fn has_keywords(&self) -> bool {
        !self.keywords.is_empty()
    }

    /// Hands every keyword and its value to `take`.
    pub fn each_keyword(
        &self,
        mut take: impl FnMut(&Bound<'py, PyAny>, Borrowed<'a, 'py, PyAny>) -> PyResult<()>,
    ) -> PyResult<()> {
        let Some(names) = &self.names else { return Ok(()) };
        for (name, value) in names.iter().zip(self.keywords) {
            take(&name, self.borrow(*value))?;
        }
        Ok(())
    }

    /// The value of keyword `name`, whatever the others are.
    pub fn value_of(&self, name: &str) -> Option<Borrowed<'a, 'py, PyAny>> {
        let names = self.names.as_ref()?;
        let index = names.iter_borrowed().position(|key| is_text(key, name))?;
        self.keywords.get(index).map(|value| self.borrow(*value))
    }

    /// The value of keyword `name`. `parameters` are the names of the leading positional arguments.
    ///
    /// # Errors
    /// TypeError for any other keyword, and for a parameter that is given by position as well.
    pub fn keyword(
        &self,
        method: &str,
        name: &str,
        parameters: &[&str],
    ) -> PyResult<Option<Borrowed<'a, 'py, PyAny>>> {
        let Some(names) = &self.names else { return Ok(None) };
        let mut found = None;
        for (key, value) in names.iter_borrowed().zip(self.keywords) {
            if is_text(key, name) {
                found = Some(self.borrow(*value));
                continue;
            }
            let fault = match parameters.iter().position(|parameter| is_text(key, parameter)) {
                Some(place) if place >= self.len() => continue,
                Some(_) => "multiple values for argument",
                None => "an unexpected keyword argument",
            };
            return Err(PyTypeError::new_err(format!("{method}() got {fault} '{}'", key.str()?)));
        }
        Ok(found)
    }

    fn borrow(&self, arg: *mut ffi::PyObject) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: the caller of the method keeps its arguments alive for the length of the call, which is `'a`.
        unsafe { Borrowed::from_ptr(self.py, arg) }
    }
}

/// Whether a keyword's name is `text`. Not by identity first: the interpreter's C code passes names that are not interned.
#[inline]
fn is_text(key: Borrowed<'_, '_, PyAny>, text: &str) -> bool {
    key.cast::<PyString>().is_ok_and(|key| key.to_str().is_ok_and(|key| key == text))
}

/// What a fastcall method is in Rust.
pub type MethodBody<T> = for<'a, 'py> fn(&Bound<'py, T>, Args<'a, 'py>) -> PyResult<Py<PyAny>>;

/// Runs `body` as the C function of a fastcall method: catches panics, hands its error to Python.
///
/// # Safety
/// To be called by the interpreter as a `METH_FASTCALL | METH_KEYWORDS` method of a type that is `T` or derives from it.
#[inline]
#[expect(clippy::disallowed_methods, reason = "the interpreter calls it, and gives no token")]
pub unsafe fn trampoline<T: PyTypeInfo>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: MethodBody<T>,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls methods on threads that are attached to it. PyO3's own count of attachments is not
    // raised by this: a `Py` that is dropped here, outside of a run of the loop, keeps its object until the thread is next in a
    // method of PyO3's. So a body drops references as `Bound` (`test_fast_methods_keep_nothing`).
    let py = unsafe { Python::assume_attached() };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        assert_nothing_open();
        // SAFETY: the method descriptor has checked that `slf` is an instance of `T`, and the interpreter passes
        // `nargs` positional values followed by one for each of `names`, all alive for the length of the call.
        unsafe {
            let slf = Borrowed::from_ptr(py, slf);
            let slf = slf.cast_unchecked::<T>();
            let nargs = usize::try_from(nargs).unwrap_or(0);
            let count = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
            let count = usize::try_from(count).unwrap_or(0);
            let positional = if nargs == 0 { &[] } else { std::slice::from_raw_parts(args, nargs) };
            let keywords = if count == 0 { &[] } else { std::slice::from_raw_parts(args.add(nargs), count) };
            let names = (count > 0).then(|| Borrowed::from_ptr(py, names).cast_unchecked());
            body(&slf, Args { positional, names, keywords, py })
        }
    }));
    match outcome {
        Ok(Ok(value)) => value.into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(_) => {
            PyRuntimeError::new_err("internal error of whorl: a Rust panic was caught").restore(py);
            ptr::null_mut()
        }
    }
}

/// A fastcall method: its name, documentation and C function.
pub struct FastMethod {
    /// The name in Python, NUL-terminated.
    pub name: &'static std::ffi::CStr,
    /// Signature and docstring, NUL-terminated.
    pub doc: &'static std::ffi::CStr,
    /// What the interpreter calls.
    pub function: ffi::PyCFunctionFastWithKeywords,
}

/// Adds `methods` to type `T`.
pub fn add_methods(ty: &Bound<'_, PyType>, methods: &[FastMethod]) -> PyResult<()> {
    let py = ty.py();
    for method in methods {
        // A definition has to outlive its descriptor, which lives as long as the type: until the process ends.
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: method.name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method.function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: method.doc.as_ptr(),
        }));
        // SAFETY: attached; the type is a type and the definition is never freed.
        let descriptor = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(ty.as_type_ptr(), definition))?
        };
        ty.setattr(
            method.name.to_str().map_err(|error| PyRuntimeError::new_err(error.to_string()))?,
            descriptor,
        )?;
    }
    Ok(())
}

unsafe extern "C" {
    // Documented C API (Doc/c-api/bytes) that pyo3-ffi leaves out.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A bytes object that is being written by the holder of its only reference.
pub struct BytesWriter<'py> {
    /// Null once it is finished.
    object: *mut ffi::PyObject,
    capacity: usize,
    py: Python<'py>,
}

impl<'py> BytesWriter<'py> {
    /// Room for `capacity` bytes, not initialised.
    ///
    /// # Errors
    /// MemoryError.
    pub fn new(py: Python<'py>, capacity: usize) -> PyResult<Self> {
        let size = ffi::Py_ssize_t::try_from(capacity).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: attached; a null pointer makes an object whose bytes are the caller's to write.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), size) };
        if object.is_null() { Err(PyErr::fetch(py)) } else { Ok(Self { object, capacity, py }) }
    }

    /// Where to write.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: a bytes object with no other reference.
        unsafe { ffi::PyBytes_AsString(self.object).cast() }
    }

    /// Has `act` write it: the object with what was written, and what `act` returns.
    ///
    /// # Errors
    /// MemoryError.
    pub fn fill<R>(mut self, act: impl FnOnce(&mut Output<'_>) -> R) -> PyResult<(Bound<'py, PyBytes>, R)> {
        // SAFETY: the object has so many bytes, which nothing else refers to until it is finished; they need not be initialised.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.capacity) };
        let (written, result) = output::fill(memory, act);
        // SAFETY: so many are initialised, as `output::fill` says.
        Ok((unsafe { self.finish(written)? }, result))
    }

    /// The object, with the first `size` bytes: all of them, where `size` is the capacity or more.
    ///
    /// # Errors
    /// MemoryError.
    ///
    /// # Safety
    /// These bytes are written: the object's readers take them for initialised.
    pub unsafe fn finish(mut self, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        if size < self.capacity {
            let size = ffi::Py_ssize_t::try_from(size).unwrap_or(0);
            // SAFETY: the only reference, not hashed; on failure it is freed and the pointer made null.
            if unsafe { _PyBytes_Resize(&raw mut self.object, size) } < 0 {
                return Err(PyErr::fetch(self.py));
            }
        }
        let object = std::mem::replace(&mut self.object, ptr::null_mut());
        // SAFETY: a new reference to a bytes object, given away.
        unsafe { Ok(Bound::from_owned_ptr_or_err(self.py, object)?.cast_into_unchecked()) }
    }
}

impl Drop for BytesWriter<'_> {
    fn drop(&mut self) {
        // SAFETY: null, or the only reference; a bytes object's end runs no foreign code.
        unsafe { ffi::Py_XDECREF(self.object) };
    }
}

/// What an iterator of an awaitable gives when it is continued.
#[derive(Debug)]
pub enum Sent<'py> {
    /// It waits for this.
    Yielded(Bound<'py, PyAny>),
    /// It is over, with this result.
    Returned(Bound<'py, PyAny>),
}

/// `iterator.send(None)`, without an exception for its result.
///
/// # Errors
/// What it raises.
pub fn send_none<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
    let py = iterator.py();
    assert_nothing_open();
    let mut result = ptr::null_mut();
    // SAFETY: attached; the iterator is borrowed for the length of the call, None is immortal or counted by the callee, and
    // `result` becomes a new reference unless the outcome is an error.
    unsafe {
        match ffi::PyIter_Send(iterator.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Bound::from_owned_ptr_or_err(py, result).map(Sent::Yielded),
            ffi::PySendResult::PYGEN_RETURN => Bound::from_owned_ptr_or_err(py, result).map(Sent::Returned),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// Whether it is a coroutine of an `async def`, which can be continued as it is.
pub fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; the type of a living object is compared.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}
