//! What the `ssl.SSLObject` of a native connection has in place of its `_ssl._SSLSocket`.
//!
//! The object is the user's as well (`get_extra_info("ssl_object")`), and each of its methods is one of `_ssl`'s below. Most only
//! ask, and keep the interpreter's lock meanwhile, as the native engine does. Five give it up while they are in OpenSSL, and could
//! be there at the same time as the engine, on the same `SSL`: those come by here, and take the engine into use like any other
//! user of it.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::sched::LoopOwner;

use super::engine::{InUse, in_use};
use super::libssl::{LibSsl, Ssl};
use crate::errors::OrRaise;

/// The `_sslobj` of an `ssl.SSLObject` whose data the native engine carries.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct GuardedSslSocket {
    libssl: &'static LibSsl,
    /// `_ssl._SSLSocket`: owns the `SSL`.
    inner: Py<PyAny>,
    ssl: NonNull<Ssl>,
    in_use: InUse,
    owner: Arc<LoopOwner>,
}

// SAFETY: the pointer is valid as long as `inner` is, on every thread; it is followed in `pending` alone, which says why it may.
unsafe impl Send for GuardedSslSocket {}
// SAFETY: as above.
unsafe impl Sync for GuardedSslSocket {}

impl GuardedSslSocket {
    /// In front of `inner`, which owns `ssl`.
    pub const fn new(
        libssl: &'static LibSsl,
        inner: Py<PyAny>,
        ssl: NonNull<Ssl>,
        in_use: InUse,
        owner: Arc<LoopOwner>,
    ) -> Self {
        Self { libssl, inner, ssl, in_use, owner }
    }

    /// A method that gives the interpreter's lock up: with the engine in use, and so on the loop's thread.
    fn call<'py>(
        &self,
        method: &Bound<'py, PyString>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _used = self.in_use.enter(&self.owner).or_raise()?.ok_or_else(in_use)?;
        self.inner.bind(method.py()).call_method1(method, args)
    }
}

#[pymethods]
impl GuardedSslSocket {
    #[pyo3(signature = (*args))]
    fn do_handshake<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.call(intern!(py, "do_handshake"), args)
    }

    #[pyo3(signature = (*args))]
    fn read<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.call(intern!(py, "read"), args)
    }

    #[pyo3(signature = (*args))]
    fn write<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.call(intern!(py, "write"), args)
    }

    #[pyo3(signature = (*args))]
    fn shutdown<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.call(intern!(py, "shutdown"), args)
    }

    /// Decrypted bytes that wait, on any thread: asked of OpenSSL here, as `_ssl` gives the lock up even for this. None while the
    /// engine is in use, which takes what there is.
    fn pending(&self, _py: Python<'_>) -> c_int {
        if self.in_use.is_set() {
            return 0;
        }
        // SAFETY: the `SSL` is alive, as `inner` is. Under the interpreter's lock, which this keeps, no other thread is in OpenSSL
        // with it: such a thread would have the engine in use.
        unsafe { (self.libssl.ssl_pending)(self.ssl.as_ptr()) }
    }

    /// Everything else is the inner object's.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(name.py()).getattr(name)
    }

    /// `context` and `session` may be set.
    fn __setattr__(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.bind(name.py()).setattr(name, value)
    }

    fn __dir__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.inner.bind(py).dir()?.into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.inner)
    }
}
