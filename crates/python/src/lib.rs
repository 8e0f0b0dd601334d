//! whorl._core: what Python sees of the runtime.
//!
//! # Native classes and `isinstance()`
//!
//! `asyncio.Transport` and `asyncio.Handle` have `__slots__`, so their instances have a layout of their own and a native class
//! cannot derive from them. `isinstance(x, C)` also reads `x.__class__`; each native class has a getter of that name which
//! returns asyncio's class. So `isinstance(transport, asyncio.Transport)` is true, `type(transport)` is
//! `whorl._core.StreamTransport`, and `issubclass(type(transport), asyncio.Transport)` is false.

mod buffer;
mod errors;
mod event_loop;
mod fd;
mod ffi;
mod http;
mod interpreter;
#[cfg(all(debug_assertions, Py_3_13))]
mod reference_tracer;
mod transport;

use pyo3::prelude::*;

/// Many small objects live for one request each, and end in another order than they began: what glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of whorl. Import from `whorl`; what is in here is not public.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(all(debug_assertions, Py_3_13))]
    reference_tracer::install(module)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    event_loop::add_to(module)?;
    transport::add_to(module)?;
    http::add_to(module)
}
