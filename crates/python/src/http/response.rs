//! The response's native half: what there is to do for a response whose body came with its head.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::exchange::Exchange;
use super::prepared::{Prepared, Sent};
use super::ready::Ready;
use crate::interpreter::{CloneWith, Collector, Guarded};

/// The native half of `whorl.http.ClientResponse`.
#[pyclass(frozen, subclass, module = "whorl._core")]
#[derive(Debug)]
pub struct ResponseBase {
    state: Guarded<State>,
}

#[derive(Debug, Default)]
struct State {
    exchange: Option<Py<Exchange>>,
    sent: Option<Arc<Sent>>,
    session: Option<Py<PyAny>>,
    body: Option<Py<PyBytes>>,
    /// Method and URL of a request that was not a plain one.
    asked: Option<(Py<PyAny>, Py<PyAny>)>,
    released: bool,
}

impl ResponseBase {
    /// A response of `class` to a plain request.
    ///
    /// # Errors
    /// What making an instance of the class raises.
    pub fn make<'py>(
        class: &Bound<'py, PyType>,
        exchange: Py<Exchange>,
        sent: Arc<Sent>,
        session: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        // Without `__init__()`, which is for tools that make responses of their own.
        let response = class.call_method1(intern!(py, "__new__"), (class,))?;
        let this = response.cast::<Self>()?;
        this.get().state.with(py, |state| {
            state.exchange = Some(exchange);
            state.sent = Some(sent);
            state.session = Some(session);
        });
        Ok(response)
    }

    /// Lets go of it where that takes no more than a mark, as its answer is over; true if it is done.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn release_ended(&self, py: Python<'_>) -> PyResult<bool> {
        let ended = match self.exchange(py) {
            Some(exchange) => exchange.get().is_done()?,
            None => false,
        };
        Ok(self.state.with(py, |state| {
            let done = ended && state.sent.is_some();
            state.released |= done;
            done
        }))
    }

    fn exchange<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Exchange>> {
        let exchange = self
            .state
            .with_attached(py, |state, at| state.exchange.as_ref().map(|exchange| exchange.clone_with(at)));
        exchange.map(|exchange| exchange.into_bound(py))
    }
}

#[pymethods]
impl ResponseBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { state: Guarded::new(State::default()) }
    }

    #[getter]
    fn _exchange(&self, py: Python<'_>) -> Option<Py<Exchange>> {
        self.exchange(py).map(Bound::unbind)
    }

    #[setter(_exchange)]
    fn set_exchange(&self, py: Python<'_>, exchange: Option<Py<Exchange>>) {
        let _former = self.state.with(py, |state| std::mem::replace(&mut state.exchange, exchange));
    }

    /// The method, URL and head of a plain request that this answers.
    #[getter]
    fn _sent(&self, py: Python<'_>) -> Option<(Py<pyo3::types::PyString>, Py<Prepared>, Py<PyBytes>)> {
        let sent = self.state.with(py, |state| state.sent.clone())?;
        Some((sent.method.clone_ref(py), sent.prepared.clone_ref(py), sent.head.clone_ref(py)))
    }

    #[getter]
    fn _session(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with_attached(py, |state, at| state.session.as_ref().map(|session| session.clone_with(at)))
    }

    #[setter(_session)]
    fn set_session(&self, py: Python<'_>, session: Option<Py<PyAny>>) {
        let _former = self.state.with(py, |state| std::mem::replace(&mut state.session, session));
    }

    /// The whole body, once it was read.
    #[getter]
    fn _body(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.state.with_attached(py, |state, at| state.body.as_ref().map(|body| body.clone_with(at)))
    }

    #[setter(_body)]
    fn set_body(&self, py: Python<'_>, body: Option<Py<PyBytes>>) {
        let _former = self.state.with(py, |state| std::mem::replace(&mut state.body, body));
    }

    /// Whether it was let go of.
    #[getter]
    fn _released(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.released)
    }

    #[setter(_released)]
    fn set_released(&self, py: Python<'_>, released: bool) {
        self.state.with(py, |state| state.released = released);
    }

    /// Note what it answers, for what is said if nobody releases it.
    fn _note(&self, py: Python<'_>, method: Py<PyAny>, url: Py<PyAny>) {
        let _former = self.state.with(py, |state| state.asked.replace((method, url)));
    }

    /// Read the whole body; it is kept, so that it can be had again.
    ///
    /// Raises ClientPayloadError if it does not come whole, and ClientConnectionError if the response was released before.
    fn read<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        // A plain request's response, whose body nobody has asked for, or had.
        let (plain, body) = this.state.with_attached(py, |state, at| {
            let plain = state.sent.is_some() && !state.released;
            (plain, state.body.as_ref().map(|body| body.clone_with(at)))
        });
        if plain {
            let body = match (body, this.exchange(py)) {
                (Some(body), _) => Some(body),
                (None, Some(exchange)) => exchange.get().take_whole(py)?,
                (None, None) => None,
            };
            if let Some(body) = body {
                let kept = body.clone_ref(py);
                let _former = this.state.with(py, |state| state.body.replace(kept));
                return Ok(Bound::new(py, Ready::new(body.into_any()))?.into_any());
            }
        }
        slf.as_any().call_method0(intern!(py, "_read"))
    }

    /// Let go of it where that takes no more than a mark: true if it is done.
    #[pyo3(name = "_release_ended")]
    fn py_release_ended(&self, py: Python<'_>) -> PyResult<bool> {
        self.release_ended(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.visit(Collector::of(&visit), |state, visit| {
            visit.call(&state.exchange)?;
            visit.call(&state.session)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // The exchange stays: it does not know the response, and `drop()` has to let go of it.
        let _session = self.state.with(py, |state| state.session.take());
    }
}

impl Drop for ResponseBase {
    /// A response that nobody released: its connection is closed if the answer is not over.
    fn drop(&mut self) {
        Python::attach(|py| {
            let (exchange, sent, asked) = self.state.with(py, |state| {
                (state.exchange.take().filter(|_| !state.released), state.sent.take(), state.asked.take())
            });
            let Some(exchange) = exchange else { return };
            let exchange = exchange.into_bound(py);
            let here = match exchange.get().is_done() {
                Ok(true) => return,
                Ok(false) => true,
                // The collector runs on any thread.
                Err(_) => false,
            };
            let asked = match sent {
                Some(sent) => {
                    Some((sent.method.clone_ref(py).into_any(), sent.prepared.get().url.clone_ref(py)))
                }
                None => asked,
            };
            let (method, url) = asked.unwrap_or_else(|| (py.None(), py.None()));
            let told = exchange.getattr(intern!(py, "_abandon_unclosed")).and_then(|abandon| {
                if here {
                    abandon.call1((method, url))
                } else {
                    exchange.get().call_soon(py, (abandon, method, url))
                }
            });
            if let Err(error) = told {
                error.write_unraisable(py, Some(&exchange));
            }
        });
    }
}
