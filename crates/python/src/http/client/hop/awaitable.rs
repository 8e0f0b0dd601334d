//! A request that is awaited by itself, and the innermost handler of middlewares, which gives one.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::sched::assert_nothing_open;

use crate::http::client::call_scope::CallScope;
use crate::http::client::handle::RequestHandle;
use crate::http::client::request::RequestBase;
use crate::http::client::step::{Poll, warn_never_awaited};
use crate::http::coroutine::{coroutine_methods, stop_iteration};
use crate::interpreter::{Collector, Guarded, in_destructor};

use super::{Hop, awaited_again};

/// A request that is awaited by itself: by a middleware, or by `ClientRequest.send()`.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct HopAwaitable {
    hop: Guarded<Option<Box<Hop>>>,
}

impl HopAwaitable {
    /// An awaitable for the response of `hop`.
    pub fn new(hop: Hop) -> Self {
        Self { hop: Guarded::new(Some(Box::new(hop))) }
    }

    fn resume(&self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Py<PyAny>> {
        let Some(mut hop) = self.hop.replace(py, None) else { return Err(awaited_again()) };
        match hop.resume(py, thrown)? {
            Poll::Pending(future) => {
                let _none = self.hop.replace(py, Some(hop));
                Ok(future)
            }
            Poll::Early => {
                let _none = self.hop.replace(py, Some(hop));
                Err(awaited_again())
            }
            Poll::Ready(response) => Err(stop_iteration(response)),
        }
    }
}

coroutine_methods!(HopAwaitable);

#[pymethods]
impl HopAwaitable {
    const fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Give it up: a coroutine's method.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.hop.replace(py, None) {
            Some(mut hop) => hop.give_up(py),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.hop.visit(Collector::of(&visit), |hop, visit| match hop {
            Some(hop) => hop.visit(*visit),
            None => Ok(()),
        })
    }

    /// A request on its way stays: `drop()` has to release what it holds.
    const fn __clear__(&self) {}
}

impl Drop for HopAwaitable {
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        if let Some(mut hop) = self.hop.get_mut().take() {
            Python::attach(|py| {
                if hop.is_new() {
                    let warn = || warn_never_awaited(py, c"coroutine 'handler' was never awaited");
                    in_destructor(hop.scope.bind(py), warn);
                }
                hop.drop_in_destructor(py);
            });
        }
    }
}

/// The innermost handler of a call's middlewares: it sends a request.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct RequestHandler {
    scope: Py<CallScope>,
}

impl RequestHandler {
    /// Of a call.
    pub const fn new(scope: Py<CallScope>) -> Self {
        Self { scope }
    }
}

#[pymethods]
impl RequestHandler {
    fn __call__(&self, request: &Bound<'_, RequestBase>) -> HopAwaitable {
        let py = request.py();
        if request.get().scope_if_any(py).is_none() {
            // A request that a middleware has made.
            request.get().set_scope(py, self.scope.clone_ref(py));
        }
        HopAwaitable::new(Hop::new(self.scope.clone_ref(py), RequestHandle::Object(request.clone().unbind())))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scope)
    }
}
