//! The result of `session.request()`: an awaitable that a task drives, and an asynchronous context manager.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::sched::assert_nothing_open;

use crate::http::client::hop::awaited_again;
use crate::http::client::options::check_names;
use crate::http::client::ready::Ready;
use crate::http::client::response::ResponseBase;
use crate::http::client::session::SessionBase;
use crate::http::client::step::{AwaitedStep, Poll, Unlimited, warn_never_awaited};
use crate::http::coroutine::{coroutine_methods, stop_iteration};
use crate::interpreter::{CloneWith, Collector, Guarded, in_destructor};

use crate::http::given;

use super::{ActiveCall, CallStage};

/// Where a call stands.
#[derive(Debug)]
enum CallState {
    /// It was not awaited.
    New(CallArgs),
    /// It is on its way.
    Active(Box<ActiveCall>),
    /// Its response is being entered, by a class of a user's.
    Entering(AwaitedStep),
    /// A step of it runs at the moment.
    Running,
    /// It is over.
    Over,
}

/// The arguments of the user's call.
#[derive(Debug)]
pub(super) struct CallArgs {
    pub session: Py<SessionBase>,
    /// In capitals.
    pub method: Py<PyString>,
    pub url: Py<PyAny>,
    pub follows: bool,
    pub keywords: Option<Py<PyDict>>,
}

/// The result of a request: to be awaited, or entered with `async with`.
#[pyclass(frozen, weakref, name = "_RequestContextManager", module = "whorl._core")]
#[derive(Debug)]
pub struct RequestContext {
    state: Guarded<CallState>,
    response: Guarded<Option<Py<PyAny>>>,
    /// Whether it is awaited by `async with`.
    is_entered: AtomicBool,
    /// Whether the response class overrides what ends the context.
    release_is_overridden: AtomicBool,
}

impl RequestContext {
    fn make(
        session: &Bound<'_, SessionBase>,
        method: &Bound<'_, PyAny>,
        url: Py<PyAny>,
        allow_redirects: Option<&Bound<'_, PyAny>>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let keywords = if options.is_empty() {
            None
        } else {
            check_names(options)?;
            Some(options.clone().unbind())
        };
        let follows = allow_redirects.is_none_or(|follows| follows.is_truthy().unwrap_or(true));
        let method = in_capitals(method)?;
        let args = CallArgs { session: session.clone().unbind(), method, url, follows, keywords };
        Ok(Self {
            state: Guarded::new(CallState::New(args)),
            response: Guarded::new(None),
            is_entered: AtomicBool::new(false),
            release_is_overridden: AtomicBool::new(false),
        })
    }

    fn resume(&self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Py<PyAny>> {
        let mut active = match self.state.replace(py, CallState::Running) {
            CallState::Active(active) => active,
            CallState::Entering(step) => return self.resume_entering(py, step, thrown),
            CallState::New(args) => {
                if let Some(error) = thrown {
                    let _running = self.state.replace(py, CallState::Over);
                    return Err(error);
                }
                match ActiveCall::begin(py, &args) {
                    Ok(active) => Box::new(active),
                    Err(error) => {
                        let _running = self.state.replace(py, CallState::Over);
                        return Err(error);
                    }
                }
            }
            CallState::Running => return Err(awaited_again()),
            CallState::Over => {
                let _running = self.state.replace(py, CallState::Over);
                return Err(PyRuntimeError::new_err("cannot reuse already awaited request"));
            }
        };
        match active.resume(py, thrown) {
            Ok(Poll::Pending(future)) => {
                let _running = self.state.replace(py, CallState::Active(active));
                Ok(future)
            }
            Ok(Poll::Early) => {
                let _running = self.state.replace(py, CallState::Active(active));
                Err(awaited_again())
            }
            Ok(Poll::Ready(response)) => {
                let overrides = active.scope.get().config.overrides;
                self.release_is_overridden.store(overrides.release, Ordering::Relaxed);
                let kept = response.clone_ref(py);
                let _previous = self.response.replace(py, Some(kept));
                if self.is_entered.load(Ordering::Relaxed) {
                    return self.enter(py, response, overrides.enter);
                }
                let _running = self.state.replace(py, CallState::Over);
                Err(stop_iteration(response))
            }
            Err(error) => {
                let _running = self.state.replace(py, CallState::Over);
                Err(error)
            }
        }
    }

    /// Enters the response, which `async with` releases.
    fn enter(&self, py: Python<'_>, response: Py<PyAny>, is_overridden: bool) -> PyResult<Py<PyAny>> {
        if !is_overridden && let Ok(base) = response.bind(py).cast::<ResponseBase>() {
            base.get().set_in_context(true);
            let _running = self.state.replace(py, CallState::Over);
            return Err(stop_iteration(response));
        }
        let step = response
            .call_method0(py, intern!(py, "__aenter__"))
            .and_then(|awaitable| AwaitedStep::new(awaitable.bind(py)));
        match step {
            Ok(step) => self.resume_entering(py, step, None),
            Err(error) => {
                let _running = self.state.replace(py, CallState::Over);
                Err(error)
            }
        }
    }

    fn resume_entering(
        &self,
        py: Python<'_>,
        mut step: AwaitedStep,
        thrown: Option<PyErr>,
    ) -> PyResult<Py<PyAny>> {
        let (state, outcome) = match step.resume(py, thrown, &Unlimited) {
            Ok(Poll::Pending(future)) => (CallState::Entering(step), Ok(future)),
            Ok(Poll::Early) => (CallState::Entering(step), Err(awaited_again())),
            Ok(Poll::Ready(entered)) => (CallState::Over, Err(stop_iteration(entered))),
            Err(error) => (CallState::Over, Err(error)),
        };
        let _running = self.state.replace(py, state);
        outcome
    }
}

/// A method in capitals.
fn in_capitals(method: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
    if let Ok(text) = method.cast_exact::<PyString>()
        && text.to_str()?.bytes().all(|byte| byte.is_ascii_uppercase())
    {
        return Ok(text.clone().unbind());
    }
    let upper = method.call_method0(intern!(method.py(), "upper"))?;
    Ok(upper.cast_into::<PyString>()?.unbind())
}

/// A request of `session`: what its methods return. Without `allow_redirects` redirects are followed.
///
/// Raises TypeError for a keyword that is no option.
#[pyfunction]
pub fn new_request<'py>(
    session: &Bound<'py, SessionBase>,
    method: &Bound<'py, PyAny>,
    url: Py<PyAny>,
    allow_redirects: Option<&Bound<'py, PyAny>>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = session.py();
    if SessionBase::is_request_replaced(session)? {
        // A tool responds itself.
        let step = given::step(py, intern!(py, "replaced_request"))?;
        return step.call1((session, method, url, allow_redirects, options));
    }
    Ok(Bound::new(py, RequestContext::make(session, method, url, allow_redirects, options)?)?.into_any())
}

/// The same, whatever `session._request` is: for the session's own.
#[pyfunction]
pub fn own_request(
    session: &Bound<'_, SessionBase>,
    method: &Bound<'_, PyAny>,
    url: Py<PyAny>,
    options: &Bound<'_, PyDict>,
) -> PyResult<RequestContext> {
    RequestContext::make(session, method, url, None, options)
}

coroutine_methods!(RequestContext);

#[pymethods]
impl RequestContext {
    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let on_its_way =
            slf.state.peek(slf.py(), |state, _at| !matches!(state, CallState::New(_) | CallState::Over));
        if on_its_way { Err(awaited_again()) } else { Ok(slf) }
    }

    fn __aenter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf.is_entered.store(true, Ordering::Relaxed);
        slf
    }

    /// The awaited coroutine: itself.
    #[getter]
    const fn _coro(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The response, once it was awaited.
    #[getter]
    fn _resp(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.response.peek(py, |response, at| response.clone_with(at))
    }

    /// Give it up: a coroutine's method.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.replace(py, CallState::Over) {
            CallState::Active(mut active) => active.give_up(py),
            CallState::Entering(step) => step.close(py),
            CallState::New(_) | CallState::Running | CallState::Over => Ok(()),
        }
    }

    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        exc_type: &Bound<'py, PyAny>,
        exc_value: &Bound<'py, PyAny>,
        exc_traceback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(response) = self.response.peek(py, |response, at| response.clone_with(at)) else {
            return Ok(Ready::nothing(py)?.as_any().clone());
        };
        let response = response.into_bound(py);
        if !self.release_is_overridden.load(Ordering::Relaxed)
            && let Ok(base) = response.cast::<ResponseBase>()
            && base.get().release_ended(py)
        {
            base.get().set_in_context(false);
            return Ok(Ready::nothing(py)?.as_any().clone());
        }
        response.call_method1(intern!(py, "__aexit__"), (exc_type, exc_value, exc_traceback))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit = Collector::of(&visit);
        self.response.visit(visit, |response, visit| visit.call(response))?;
        self.state.visit(visit, |state, visit| match state {
            CallState::New(args) => {
                visit.call(&args.session)?;
                visit.call(&args.url)?;
                visit.call(&args.keywords)
            }
            CallState::Active(active) => active.visit(*visit),
            CallState::Entering(step) => step.visit(*visit),
            CallState::Running | CallState::Over => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // A request on its way stays: `drop()` has to release what it holds.
        let _response = self.response.replace(py, None);
    }
}

impl Drop for RequestContext {
    /// A request whose task is gone: its response is abandoned. The collector runs on any thread.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        assert_nothing_open();
        match self.state.get_mut() {
            CallState::Active(active) => {
                if let Some(CallStage::Sending(hop)) = &mut active.stage {
                    Python::attach(|py| hop.drop_in_destructor(py));
                }
            }
            CallState::New(args) => Python::attach(|py| {
                let session = args.session.bind(py);
                in_destructor(session, || {
                    warn_never_awaited(py, c"coroutine 'ClientSession._request' was never awaited")
                });
            }),
            CallState::Entering(_) | CallState::Running | CallState::Over => {}
        }
    }
}
