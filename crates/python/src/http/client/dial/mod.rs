//! A connection that is made natively: by the first of a host's addresses that accepts, under TLS or not.
//!
//! The order of the attempts is the core's ([`whorl_core::client::race`]). Nothing here is a coroutine or a task: an attempt
//! is called when its socket is writable, TLS when its handshake is over.

mod attempt;
mod plan;
mod waiting;

pub use plan::{DialPlan, TlsPlan};

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pyo3::exceptions::{PyConnectionResetError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustix::io::Errno;
use whorl_core::client::race::{Race, RaceStep};
use whorl_core::sched::OwnerCell;

use crate::errors::OrRaise;
use crate::event_loop::EventLoop;
use crate::http::client::address::Candidate;
use crate::http::given;
use crate::http::guard::EndGuard;
use crate::http::h1::connection::HttpConnection;
use crate::interpreter::Collector;
use crate::transport::{
    Begun, ConnectAttempt, ConnectError, TlsClient, TlsProtocol, TlsTransport, connect, over_connected,
    set_result, start_client,
};

use attempt::AttemptError;

/// A connection, or the error for there being none.
pub type Dialled = Result<Py<HttpConnection>, Py<PyAny>>;

/// What belongs to the loop's thread.
#[derive(Debug)]
struct DialState {
    candidates: Vec<Candidate>,
    race: Race,
    attempts: Vec<(usize, Py<ConnectAttempt>)>,
    errors: Vec<AttemptError>,
    timer: Option<Py<PyAny>>,
    /// The address that is connected to, and TLS over it, while its handshake is under way.
    handshake: Option<(usize, Py<HttpConnection>, Py<TlsTransport>)>,
    outcome: Option<Dialled>,
    future: Option<Py<PyAny>>,
    /// What is over when it is: the deadlines of its request.
    guards: Vec<Box<dyn EndGuard>>,
}

/// A connection that is being made.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct Dial {
    event_loop: Py<EventLoop>,
    plan: DialPlan,
    state: OwnerCell<DialState>,
}

impl Dial {
    /// Begins to connect to one of `candidates`, in that order.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn begin<'py>(
        event_loop: &Bound<'py, EventLoop>,
        plan: DialPlan,
        candidates: Vec<Candidate>,
    ) -> PyResult<Bound<'py, Self>> {
        let dial = Self::make(event_loop, plan, candidates)?;
        let step = dial.get().with(|state| state.race.begin())?;
        Self::act(&dial, step)?;
        Ok(dial)
    }

    /// Begins TLS with the host at the other end of a tunnel.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn begin_in_tunnel<'py>(
        event_loop: &Bound<'py, EventLoop>,
        plan: DialPlan,
        tunnel: &Bound<'py, HttpConnection>,
    ) -> PyResult<Bound<'py, Self>> {
        let dial = Self::make(event_loop, plan, Vec::new())?;
        if let Err(error) = Self::upgrade(&dial, tunnel) {
            HttpConnection::give_up(tunnel)?;
            let _handshake = dial.get().with(|state| state.handshake.take())?;
            Self::failed(&dial, 0, &error)?;
        }
        Ok(dial)
    }

    fn make<'py>(
        event_loop: &Bound<'py, EventLoop>,
        plan: DialPlan,
        candidates: Vec<Candidate>,
    ) -> PyResult<Bound<'py, Self>> {
        let state = DialState {
            race: Race::new(candidates.len(), plan.delay.is_some()),
            candidates,
            attempts: Vec::new(),
            errors: Vec::new(),
            timer: None,
            handshake: None,
            outcome: None,
            future: None,
            guards: Vec::new(),
        };
        let owner = Arc::clone(event_loop.get().owner());
        let dial =
            Self { event_loop: event_loop.clone().unbind(), plan, state: OwnerCell::new(owner, state) };
        Bound::new(event_loop.py(), dial)
    }

    fn with<R>(&self, act: impl FnOnce(&mut DialState) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// Does what the race says, until there is something to wait for. An error of the loop's ends it.
    fn act(slf: &Bound<'_, Self>, step: RaceStep) -> PyResult<()> {
        match Self::attempt(slf, step) {
            Ok(()) => Ok(()),
            Err(error) => {
                slf.get().stop_attempts(slf.py())?;
                Self::fail(slf, &error)
            }
        }
    }

    /// Begins attempts until one of them has to be waited for.
    fn attempt(slf: &Bound<'_, Self>, mut step: RaceStep) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.event_loop.bind(py);
        loop {
            let RaceStep::Start { address, timed } = step else {
                return if step == RaceStep::Lost { Self::lost(slf) } else { Ok(()) };
            };
            let candidate = this.with(|state| state.candidates.get(address).cloned())?;
            let Some(candidate) = candidate else { return Self::lost(slf) };
            let begun = connect(
                event_loop,
                &candidate.address,
                &this.plan.local,
                slf.as_any(),
                address,
                Self::attempt_finished,
            )?;
            match begun {
                Ok(Begun::Connected(socket)) => return Self::connected(slf, address, socket),
                Ok(Begun::Pending(attempt)) => {
                    this.with(|state| state.attempts.push((address, attempt)))?;
                    return if timed { Self::set_timer(slf) } else { Ok(()) };
                }
                Err(error) => {
                    let error = AttemptError::of(&candidate, &this.plan.local, error);
                    step = this.with(|state| {
                        state.errors.push(error);
                        state.race.failed()
                    })?;
                }
            }
        }
    }

    fn set_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(delay) = this.plan.delay else { return Ok(()) };
        let next = slf.getattr(intern!(py, "_next_attempt"))?;
        let timer = this.event_loop.bind(py).call_method1(intern!(py, "call_later"), (delay, next))?;
        let timer = timer.unbind();
        let previous = this.with(|state| state.timer.replace(timer))?;
        cancel(py, previous)
    }

    /// An attempt that waited has ended.
    fn attempt_finished(slf: &Bound<'_, PyAny>, address: usize, outcome: Result<(), Errno>) -> PyResult<()> {
        let py = slf.py();
        let slf = slf.cast::<Self>()?;
        let this = slf.get();
        let (attempt, candidate) = this.with(|state| {
            let place = state.attempts.iter().position(|(number, _)| *number == address);
            (place.map(|place| state.attempts.swap_remove(place).1), state.candidates.get(address).cloned())
        })?;
        let (Some(attempt), Some(candidate)) = (attempt, candidate) else { return Ok(()) };
        let socket = attempt.get().take()?;
        match (outcome, socket) {
            (Ok(()), Some(socket)) => Self::connected(slf, address, socket),
            (Ok(()), None) => Ok(()),
            (Err(errno), _) => {
                let error = AttemptError::of(&candidate, &this.plan.local, ConnectError::Connect(errno));
                let (step, timer) = this.with(|state| {
                    state.errors.push(error);
                    (state.race.failed(), state.timer.take())
                })?;
                cancel(py, timer)?;
                Self::act(slf, step)
            }
        }
    }

    /// Drops the attempts that are pending.
    fn stop_attempts(&self, py: Python<'_>) -> PyResult<()> {
        let (attempts, timer) =
            self.with(|state| (std::mem::take(&mut state.attempts), state.timer.take()))?;
        cancel(py, timer)?;
        for (_, attempt) in attempts {
            drop(attempt.get().take()?);
        }
        Ok(())
    }

    /// An attempt has won: its socket gets a transport, under TLS if that is wanted.
    fn connected(slf: &Bound<'_, Self>, address: usize, socket: OwnedFd) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.stop_attempts(py)?;
        if this.with(|state| state.outcome.is_some())? {
            return Ok(());
        }
        match Self::make_transport(slf, address, socket) {
            Ok(None) => Ok(()),
            Ok(Some(connection)) => this.finish(py, Ok(connection)),
            Err(error) => Self::failed(slf, address, &error),
        }
    }

    /// The connection, unless a handshake is to come.
    fn make_transport(
        slf: &Bound<'_, Self>,
        address: usize,
        socket: OwnedFd,
    ) -> PyResult<Option<Py<HttpConnection>>> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.event_loop.bind(py);
        let Some(candidate) = this.with(|state| state.candidates.get(address).cloned())? else {
            return Ok(None);
        };
        let connection = this.plan.factory.bind(py).call0()?.cast_into::<HttpConnection>()?;
        let Some(tls) = &this.plan.tls else {
            over_connected(event_loop, socket, &candidate.address, connection.as_any())?;
            return Ok(Some(connection.unbind()));
        };
        let protocol = Self::start_tls(slf, tls, address, connection)?;
        over_connected(event_loop, socket, &candidate.address, protocol.as_any())?;
        Ok(None)
    }

    /// The protocol for a stream under TLS; its handshake begins when it is connected.
    fn start_tls<'py>(
        slf: &Bound<'py, Self>,
        tls: &TlsPlan,
        address: usize,
        connection: Bound<'py, HttpConnection>,
    ) -> PyResult<Bound<'py, TlsProtocol>> {
        let py = slf.py();
        let this = slf.get();
        let client = TlsClient {
            context: tls.context.bind(py).clone(),
            hostname: tls.hostname.as_ref().map(|name| name.bind(py)),
            resumption: tls.resumption.as_ref().map(|resumption| resumption.bind(py)),
            shutdown_timeout: tls.shutdown_timeout.as_ref().map(|seconds| seconds.bind(py).clone()),
            waiter: (slf.as_any().clone().unbind(), Self::handshake_done),
        };
        let (protocol, transport) = start_client(this.event_loop.bind(py), connection.as_any(), client)?;
        let connection = connection.unbind();
        let _previous = this.with(|state| state.handshake.replace((address, connection, transport)))?;
        Ok(protocol)
    }

    /// Has TLS take over the stream that a tunnel goes through.
    fn upgrade(slf: &Bound<'_, Self>, tunnel: &Bound<'_, HttpConnection>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (Some(tls), Some(stream)) = (&this.plan.tls, tunnel.get().transport(py)?) else {
            return Err(PyConnectionResetError::new_err("the proxy has closed the tunnel"));
        };
        let connection = this.plan.factory.bind(py).call0()?.cast_into::<HttpConnection>()?;
        let protocol = Self::start_tls(slf, tls, 0, connection)?;
        stream.call_method1(intern!(py, "set_protocol"), (&protocol,))?;
        protocol.call_method1(intern!(py, "connection_made"), (stream,)).map(drop)
    }

    /// The handshake is over.
    fn handshake_done(slf: &Bound<'_, PyAny>, outcome: Result<(), &PyErr>) -> PyResult<()> {
        let py = slf.py();
        let slf = slf.cast::<Self>()?;
        let this = slf.get();
        let Some((address, connection, transport)) = this.with(|state| state.handshake.take())? else {
            return Ok(());
        };
        if let Err(error) = outcome {
            return Self::failed(slf, address, error);
        }
        let checked = this.plan.tls.as_ref().map_or(Ok(()), |tls| tls.check(transport.bind(py).as_any()));
        match checked {
            Ok(()) => this.finish(py, Ok(connection)),
            Err(error) => {
                HttpConnection::give_up(connection.bind(py))?;
                Self::try_another(slf, address, &error)
            }
        }
    }

    /// A connection could not be used. Another address may do better after an error of the system's or of TLS, that of a
    /// certificate included; what a program's code has raised ends it.
    fn failed(slf: &Bound<'_, Self>, address: usize, error: &PyErr) -> PyResult<()> {
        if error.is_instance_of::<PyOSError>(slf.py()) {
            Self::try_another(slf, address, error)
        } else {
            Self::fail(slf, error)
        }
    }

    fn fail(slf: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let step = given::step(py, intern!(py, "connector_error"))?;
        let error = step.call1((&this.plan.key, error.value(py)))?;
        this.finish(py, Err(error.unbind()))
    }

    /// Begins again without an address, whose `error` it is if there is no other.
    fn try_another(slf: &Bound<'_, Self>, address: usize, error: &PyErr) -> PyResult<()> {
        let this = slf.get();
        let step = this.with(|state| {
            if address < state.candidates.len() {
                state.candidates.remove(address);
            }
            if state.candidates.is_empty() {
                return None;
            }
            state.errors.clear();
            state.race = Race::new(state.candidates.len(), state.race.is_staggered());
            Some(state.race.begin())
        })?;
        match step {
            Some(step) => Self::act(slf, step),
            None => Self::fail(slf, error),
        }
    }

    /// No address accepts.
    fn lost(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let errors = this.with(|state| std::mem::take(&mut state.errors))?;
        let errors: Vec<_> =
            errors.into_iter().map(|error| (error.errno.raw_os_error(), error.text)).collect();
        let step = given::step(py, intern!(py, "connect_failed"))?;
        let error = step.call1((&this.plan.key, errors))?;
        this.finish(py, Err(error.unbind()))
    }

    /// It has its outcome, if it had none.
    fn finish(&self, py: Python<'_>, outcome: Dialled) -> PyResult<()> {
        let (future, guards, _unused) = self.with(|state| {
            let unused = if state.outcome.is_none() { state.outcome.replace(outcome) } else { Some(outcome) };
            (state.future.take(), std::mem::take(&mut state.guards), unused)
        })?;
        for guard in guards {
            guard.end(py)?;
        }
        match future {
            Some(future) => set_result(future.bind(py)),
            None => Ok(()),
        }
    }
}

fn cancel(py: Python<'_>, timer: Option<Py<PyAny>>) -> PyResult<()> {
    match timer {
        Some(timer) => timer.call_method0(py, intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}

#[pymethods]
impl Dial {
    /// The delay of an attempt has passed.
    fn _next_attempt(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (step, _timer) = slf
            .get()
            .with(|state| (state.outcome.is_none().then(|| state.race.delay_passed()), state.timer.take()))?;
        match step {
            Some(step @ RaceStep::Start { .. }) => Self::act(slf, step),
            _ => Ok(()),
        }
    }

    /// Give it up.
    #[pyo3(name = "give_up")]
    fn py_give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.plan.visit(&visit)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                state.attempts.iter().try_for_each(|(_, attempt)| visit.call(attempt))?;
                visit.call(&state.timer)?;
                if let Some((_, connection, transport)) = &state.handshake {
                    visit.call(connection)?;
                    visit.call(transport)?;
                }
                match &state.outcome {
                    Some(Ok(connection)) => visit.call(connection)?,
                    Some(Err(error)) => visit.call(error)?,
                    None => {}
                }
                state.guards.iter().try_for_each(|guard| guard.visit(*visit))?;
                visit.call(&state.future)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _attempts = self.state.with(|state| std::mem::take(&mut state.attempts));
        let _handshake = self.state.with(|state| (state.handshake.take(), state.timer.take()));
        let _guards = self.state.with(|state| (std::mem::take(&mut state.guards), state.future.take()));
    }
}
