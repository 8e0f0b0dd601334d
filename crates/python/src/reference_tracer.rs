//! What a build with debug assertions checks of every object that ends: that no section over open state ended it.
//!
//! The end of an object may run a finaliser, which is foreign code, and no type says whether a reference was the last one.
//! The interpreter does: from Python 3.13 on it calls a function for each object that it destroys. Bytes objects are
//! excepted, as nothing but their memory ends.

use std::backtrace::Backtrace;
use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use whorl_core::sched::{LoopOwner, OwnerCell, is_anything_open};

type Tracer = extern "C" fn(*mut ffi::PyObject, c_int, *mut c_void) -> c_int;

// Not in PyO3.
unsafe extern "C" {
    fn PyRefTracer_SetTracer(tracer: Option<Tracer>, data: *mut c_void) -> c_int;
}

/// `PyRefTracer_DESTROY`
const DESTROY: c_int = 1;

extern "C" fn trace(object: *mut ffi::PyObject, event: c_int, _data: *mut c_void) -> c_int {
    if event == DESTROY && is_anything_open() {
        // SAFETY: the object is about to be destroyed: it has its type yet, whose name is a C string.
        let (is_bytes, name) = unsafe {
            (ffi::PyBytes_CheckExact(object) == 1, CStr::from_ptr((*ffi::Py_TYPE(object)).tp_name))
        };
        if !is_bytes {
            let name = name.to_string_lossy();
            eprintln!("whorl: the last reference to a {name} was dropped in a section");
            eprintln!("{}", Backtrace::force_capture());
            std::process::abort();
        }
    }
    0
}

/// Drop what `make()` returns in a section, for the test of this module.
#[pyfunction]
fn _end_in_section(make: &Bound<'_, PyAny>) -> PyResult<()> {
    let cell = OwnerCell::new(Arc::new(LoopOwner::new()), Some(make.call0()?.unbind()));
    let _open = cell.with(|made| drop(made.take()));
    Ok(())
}

/// Begins to check.
///
/// # Errors
/// What the interpreter raises.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Without a place in `__all__`.
    module.setattr("_end_in_section", wrap_pyfunction!(_end_in_section, module)?)?;
    // SAFETY: attached; the function stays, as CPython unloads no extension.
    match unsafe { PyRefTracer_SetTracer(Some(trace), std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(module.py())),
    }
}
