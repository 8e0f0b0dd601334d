//! The response's native half: the work for a response whose body came with its head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use whorl_core::http1::ResponseHead;

use super::ready::Ready;
use super::target::RequestRecord;
use crate::http::h1::exchange::Exchange;
use whorl_core::sched::assert_nothing_open;

use crate::interpreter::{CloneWith, Collector, Guarded, in_destructor};

/// The native half of `whorl.http.ClientResponse`.
#[pyclass(frozen, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct ResponseBase {
    exchange: Guarded<Option<Py<Exchange>>>,
    sent: Guarded<Option<Arc<RequestRecord>>>,
    session: Guarded<Option<Py<PyAny>>>,
    body: Guarded<Option<Py<PyBytes>>>,
    /// Method and URL of the request of a response that a program has made.
    request: Guarded<Option<(Py<PyAny>, Py<PyAny>)>>,
    /// A status that a tool has set.
    own_status: Guarded<Option<Py<PyAny>>>,
    released: AtomicBool,
    /// Whether it is inside its `async with`.
    in_context: AtomicBool,
    /// Whether reading and releasing it take no code of Python's: nothing of its request is being sent, and nothing listens.
    is_simple: AtomicBool,
}

impl ResponseBase {
    /// A response of `class`, by its `__new__()`.
    ///
    /// # Errors
    /// The exception of making an instance of the class.
    pub fn make<'py>(
        class: &Bound<'py, PyAny>,
        new: &Py<PyAny>,
        exchange: Py<Exchange>,
        sent: Arc<RequestRecord>,
        session: Py<PyAny>,
        is_simple: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        // Without `__init__()`, which is for tools that make responses of their own.
        let response = crate::ffi::call(py, new, [class])?;
        let this = response.cast::<Self>()?.get();
        // The class may return an earlier instance: its previous references are dropped here, where finalisers may run.
        let _previous = (
            this.exchange.replace(py, Some(exchange)),
            this.sent.replace(py, Some(sent)),
            this.session.replace(py, Some(session)),
        );
        this.is_simple.store(is_simple, Ordering::Relaxed);
        Ok(response)
    }

    /// The head, if its request was sent by a session and the head has come.
    pub fn head(&self, py: Python<'_>) -> Option<Arc<ResponseHead>> {
        self.exchange(py).and_then(|exchange| exchange.get().head_if_any().cloned())
    }

    /// Releases it if only a mark is needed, as its exchange is over; true if it is done.
    pub fn release_ended(&self, py: Python<'_>) -> bool {
        let ended = self.exchange(py).is_some_and(|exchange| exchange.get().is_done());
        let done = ended && self.is_simple.load(Ordering::Relaxed);
        self.released.fetch_or(done, Ordering::Relaxed);
        done
    }

    /// Notes whether it is inside its `async with`.
    pub fn set_in_context(&self, in_context: bool) {
        self.in_context.store(in_context, Ordering::Relaxed);
    }

    fn exchange<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Exchange>> {
        self.exchange.peek(py, |exchange, at| exchange.clone_with(at)).map(|exchange| exchange.into_bound(py))
    }
}

#[pymethods]
impl ResponseBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            exchange: Guarded::new(None),
            sent: Guarded::new(None),
            session: Guarded::new(None),
            body: Guarded::new(None),
            request: Guarded::new(None),
            own_status: Guarded::new(None),
            released: AtomicBool::new(false),
            in_context: AtomicBool::new(false),
            is_simple: AtomicBool::new(false),
        }
    }

    /// The status code.
    #[getter]
    fn status(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(status) = self.own_status.peek(py, |status, at| status.clone_with(at)) {
            return Ok(status);
        }
        match self.head(py) {
            Some(head) => Ok(head.status.into_pyobject(py)?.into_any().unbind()),
            None => Err(PyRuntimeError::new_err(
                "The response has not started: there is no answer to look at yet",
            )),
        }
    }

    /// For a tool that makes responses of its own.
    #[setter(status)]
    fn set_status(&self, py: Python<'_>, status: Py<PyAny>) {
        let _previous = self.own_status.replace(py, Some(status));
    }

    #[getter]
    fn _exchange(&self, py: Python<'_>) -> Option<Py<Exchange>> {
        self.exchange(py).map(Bound::unbind)
    }

    #[setter(_exchange)]
    fn set_exchange(&self, py: Python<'_>, exchange: Option<Py<Exchange>>) {
        let _previous = self.exchange.replace(py, exchange);
    }

    /// The method, URL and head of its request, if a session has sent it.
    #[getter]
    fn _sent(&self, py: Python<'_>) -> Option<(Py<pyo3::types::PyString>, Py<PyAny>, Py<PyBytes>)> {
        let sent = self.sent.peek(py, |sent, _at| sent.clone())?;
        Some((sent.method.clone_ref(py), sent.url.clone_ref(py), sent.head.clone_ref(py)))
    }

    #[getter]
    fn _session(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.session.peek(py, |session, at| session.clone_with(at))
    }

    #[setter(_session)]
    fn set_session(&self, py: Python<'_>, session: Option<Py<PyAny>>) {
        let _previous = self.session.replace(py, session);
    }

    /// The whole body, once it was read.
    #[getter]
    fn _body(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.body.peek(py, |body, at| body.clone_with(at))
    }

    #[setter(_body)]
    fn set_body(&self, py: Python<'_>, body: Option<Py<PyBytes>>) {
        let _previous = self.body.replace(py, body);
    }

    /// Whether it was released.
    #[getter]
    fn _released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    #[setter(_released)]
    fn set_released(&self, released: bool) {
        self.released.store(released, Ordering::Relaxed);
    }

    /// Whether it is inside its `async with`, which releases it.
    #[getter]
    fn _in_context(&self) -> bool {
        self.in_context.load(Ordering::Relaxed)
    }

    #[setter(_in_context)]
    fn py_set_in_context(&self, in_context: bool) {
        self.set_in_context(in_context);
    }

    /// Note its request, for the warning about an unreleased response.
    fn _note(&self, py: Python<'_>, method: Py<PyAny>, url: Py<PyAny>) {
        let _previous = self.request.replace(py, Some((method, url)));
    }

    /// Read the whole body; it is kept, so that it can be returned again.
    ///
    /// Raises ClientPayloadError if it is not complete, and ClientConnectionError if the response was released before.
    fn read<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.is_simple.load(Ordering::Relaxed) && !this.released.load(Ordering::Relaxed) {
            let body = match (this.body.peek(py, |body, at| body.clone_with(at)), this.exchange(py)) {
                (Some(body), _) => Some(body),
                (None, Some(exchange)) => exchange.get().take_whole(py)?,
                (None, None) => None,
            };
            if let Some(body) = body {
                let kept = body.clone_ref(py);
                let _previous = this.body.replace(py, Some(kept));
                return Ok(Bound::new(py, Ready::new(body.into_any()))?.into_any());
            }
        }
        slf.as_any().call_method0(intern!(py, "_read"))
    }

    /// Release it if only a mark is needed: true if it is done.
    #[pyo3(name = "_release_ended")]
    fn py_release_ended(&self, py: Python<'_>) -> bool {
        self.release_ended(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit = Collector::of(&visit);
        self.exchange.visit(visit, |exchange, visit| visit.call(exchange))?;
        self.own_status.visit(visit, |status, visit| visit.call(status))?;
        self.session.visit(visit, |session, visit| visit.call(session))?;
        self.request.visit(visit, |request, visit| match request {
            Some((method, url)) => {
                visit.call(method)?;
                visit.call(url)
            }
            None => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // The exchange stays: it does not know the response, and `drop()` has to release it.
        let _session = self.session.replace(py, None);
    }
}

impl Drop for ResponseBase {
    /// Closes the connection of an unreleased response whose exchange is not over.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        Python::attach(|py| {
            let (sent, request) = (self.sent.get_mut().take(), self.request.get_mut().take());
            let exchange = self.exchange.get_mut().take();
            let Some(exchange) = exchange.filter(|_| !*self.released.get_mut()) else { return };
            let exchange = exchange.into_bound(py);
            if exchange.get().is_done() {
                return;
            }
            let request = match sent {
                Some(sent) => Some((sent.method.clone_ref(py).into_any(), sent.url.clone_ref(py))),
                None => request,
            };
            let (method, url) = request.unwrap_or_else(|| (py.None(), py.None()));
            in_destructor(&exchange, || {
                let args = PyTuple::new(py, [method, url])?;
                Exchange::finish(&exchange, intern!(py, "_abandon_unclosed"), &args)
            });
        });
    }
}
