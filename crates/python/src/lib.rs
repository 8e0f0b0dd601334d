//! whorl._core: what Python sees of the runtime.

mod buffer;
mod errors;
mod event_loop;
mod ffi;
mod http;
mod interpreter;
mod transport;

use pyo3::prelude::*;

/// The native half of whorl. Import from `whorl`; what is in here is not public.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    event_loop::add_to(module)?;
    transport::add_to(module)?;
    http::add_to(module)
}
