//! What every transport over a descriptor is made of: where its state lives, how it is watched, started and ended.
//!
//! A class is an [`IoTransport`] of its [`TransportKind`]. What it does as the others do is written once, in traits whose methods are
//! provided: [`Transport`], [`Ending`], [`Reads`](super::flow::Reads) and [`Writes`](super::flow::Writes).

use std::fmt;
use std::os::fd::RawFd;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, PyClassInitializer, PyTraverseError, PyVisit, intern};
use whorl_core::reactor::{Interest, Token};
use whorl_core::sched::{BorrowError, OwnerCell, assert_nothing_open};

use super::common;
use super::ending::Ending;
use super::protocol::HeldProtocol;
use super::states::{TransportPhase, WatchState};
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, IoHandle, IoObject, Source};
use crate::interpreter::{Attached, CloneWith, Collector, warn_resource, with_exception_aside};

/// What a transport reads from or writes to, and closes at its end.
pub trait Descriptor: fmt::Debug + Send + Sized {
    /// Its number, -1 once it is closed.
    fn fd(&self) -> RawFd;

    /// Takes it out, for it to be closed.
    #[must_use]
    fn take(&mut self) -> Self;

    /// Closes it, with `close()` where there is an object, and returns what is left.
    ///
    /// # Errors
    /// What `close()` raises.
    fn close(self, py: Python<'_>) -> PyResult<Self>;

    /// Closes the descriptor of a transport that was dropped, perhaps by the collector along with the object.
    ///
    /// # Errors
    /// As [`Descriptor::close`].
    fn close_collected(self, py: Python<'_>) -> PyResult<()> {
        self.close(py).map(drop)
    }

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// One kind of transport: the part of its state that the other kinds do not have.
pub trait TransportKind: fmt::Debug + Send + Sized + 'static {
    /// What it is over.
    type Descriptor: Descriptor;

    /// How it holds its protocol.
    type Protocol: HeldProtocol;

    /// What it has taken from its user and not sent.
    type Unsent: Send;

    /// The name of its class.
    const NAME: &'static str;

    /// What is reported when the poller refuses the descriptor.
    const NOT_WATCHED: &'static str;

    /// Whether it leaves the poller while it wants nothing. The kernel reports a hang-up even to a registration that asks for
    /// nothing, again and again.
    const LEAVES_WHILE_IDLE: bool = false;

    /// What the poller is asked for.
    fn interest(&self, phase: TransportPhase) -> Interest;

    /// Whether something waits to be sent.
    fn has_unsent(&self) -> bool;

    /// Drops what waits to be sent, and returns it for a place where dropping is allowed. What was gathered in this turn is
    /// offered to the descriptor first.
    #[must_use]
    fn take_unsent(state: &mut TransportState<Self>) -> Self::Unsent;

    /// Its part of the transport's repr.
    fn describe(&self) -> String;

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;

    /// Takes out the objects that may be part of a cycle, for a place where dropping is allowed.
    #[must_use]
    fn take_objects(&mut self) -> Vec<Py<PyAny>>;

    /// Whether an OSError is how such a transport ends in the ordinary course: for the debug log only.
    fn is_expected(_py: Python<'_>, _error: &PyErr) -> bool {
        true
    }
}

/// What belongs to the loop's thread.
#[derive(Debug)]
pub struct TransportState<K: TransportKind> {
    /// What the transport is over.
    pub descriptor: K::Descriptor,
    /// The protocol, until its `connection_lost()` has returned.
    pub protocol: Option<K::Protocol>,
    /// What only this kind has.
    pub kind: K,
    watch: WatchState,
    token: Option<Token>,
}

/// What the registration with the poller has to become.
enum Change {
    None,
    Register(RawFd, Interest),
    Modify(Token, Interest),
    Unregister(Token),
}

impl<K: TransportKind> TransportState<K> {
    fn change(&mut self, phase: TransportPhase) -> Change {
        let interest = self.kind.interest(phase);
        let registered = self.watch == WatchState::On
            && phase != TransportPhase::Lost
            && !(K::LEAVES_WHILE_IDLE && interest.is_none());
        match (self.token, registered) {
            (None, false) => Change::None,
            (None, true) => Change::Register(self.descriptor.fd(), interest),
            (Some(token), true) => Change::Modify(token, interest),
            (Some(token), false) => {
                self.token = None;
                Change::Unregister(token)
            }
        }
    }
}

/// The fields of every transport over a descriptor.
#[derive(Debug)]
pub struct IoTransport<K: TransportKind> {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    phase: AtomicCell<TransportPhase>,
    state: OwnerCell<TransportState<K>>,
}

impl<K: TransportKind> IoTransport<K> {
    /// A transport whose protocol is called in `context`, not yet watched.
    ///
    /// # Errors
    /// As [`HeldProtocol::new`].
    pub fn new(
        event_loop: &Bound<'_, EventLoop>,
        context: Py<PyAny>,
        descriptor: K::Descriptor,
        protocol: &Bound<'_, PyAny>,
        kind: K,
    ) -> PyResult<Self> {
        let protocol = Some(K::Protocol::new(protocol)?);
        let state = TransportState { descriptor, protocol, kind, watch: WatchState::NotStarted, token: None };
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            context,
            phase: AtomicCell::new(TransportPhase::Open),
            state: OwnerCell::new(std::sync::Arc::clone(event_loop.get().owner()), state),
        })
    }
}

impl<K: TransportKind> Drop for IoTransport<K> {
    /// Closes the descriptor of a transport that was dropped without `close()`, with asyncio's ResourceWarning.
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        let descriptor = self.state.get_mut().descriptor.take();
        let fd = descriptor.fd();
        if fd < 0 {
            return;
        }
        assert_nothing_open();
        Python::attach(|py| {
            with_exception_aside(py, || {
                let warned = warn_resource(py, &format!("unclosed transport <{} fd={fd}>", K::NAME), None);
                for outcome in [warned, descriptor.close_collected(py)] {
                    if let Err(error) = outcome {
                        // Warnings are errors, or closing failed, and a destructor has no caller to raise to.
                        error.write_unraisable(py, None);
                    }
                }
            });
        });
    }
}

/// A class of transports over a descriptor.
pub trait Transport: IoObject + PyClass<Frozen = True> + Sync {
    /// Which kind it is.
    type Kind: TransportKind;

    /// Its fields.
    fn io(&self) -> &IoTransport<Self::Kind>;

    /// Shows the garbage collector the fields that only this class has.
    fn visit_own(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }

    /// Sends what waits only for the end of the turn. Does nothing where the state cannot be opened: on another thread, and
    /// in a finaliser that runs in the middle of something.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol's flow control.
    fn send_gathered(_slf: &Bound<'_, Self>) -> PyResult<()> {
        Ok(())
    }

    /// The transport has ended by `error`, or None: `connection_lost()` was called and the descriptor is closed.
    ///
    /// # Errors
    /// What the transport's server raises.
    fn after_end(_slf: &Bound<'_, Self>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }

    /// The class of asyncio's that `isinstance()` sees.
    ///
    /// # Errors
    /// What importing asyncio raises.
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        py.import(intern!(py, "asyncio.transports"))?.getattr(intern!(py, "_FlowControlMixin"))
    }

    /// Opens the state.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut TransportState<Self::Kind>) -> R + Send) -> PyResult<R> {
        self.io().state.with(act).or_raise()
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut TransportState<Self::Kind>, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.io().state.with_token(at.into(), act).or_raise()
    }

    /// The loop.
    #[inline]
    fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.io().event_loop.bind(py)
    }

    /// Whether the loop runs on another thread, so that the state does not open here.
    fn is_elsewhere(&self) -> bool {
        self.io().state.with(|_state| ()) == Err(BorrowError::OtherThread)
    }

    /// Whether the loop runs, or is stepped, on any thread.
    #[inline]
    fn has_turns(&self) -> bool {
        self.io().state.owner().is_held()
    }

    /// The context that the protocol is called in.
    #[inline]
    fn context(&self) -> &Py<PyAny> {
        &self.io().context
    }

    /// Its phase, on any thread.
    #[inline]
    fn phase(&self) -> TransportPhase {
        self.io().phase.load()
    }

    /// Whether it is closed for its user; on any thread.
    #[inline]
    fn is_closing(&self) -> bool {
        self.phase() != TransportPhase::Open
    }

    /// Whether `connection_lost()` is scheduled, or was called; on any thread.
    #[inline]
    fn is_lost(&self) -> bool {
        self.phase() == TransportPhase::Lost
    }

    /// To Lost, with the state open; true if that is new.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn transition_to_lost(&self) -> PyResult<bool> {
        self.with(|_state| TransportPhase::transition_to_lost(&self.io().phase))
    }

    /// The protocol, until its `connection_lost()` has returned.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| {
            state.protocol.as_ref().map(|protocol| protocol.object().clone_with(at))
        })
    }

    /// Makes the object of a new transport, which starts in the next turn; `waiter` gets its result then.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn make(
        event_loop: &Bound<'_, EventLoop>,
        transport: Self,
        waiter: Option<Py<PyAny>>,
    ) -> PyResult<Py<Self>>
    where
        Self: Into<PyClassInitializer<Self>>,
    {
        let transport = crate::interpreter::new_with_dict(event_loop.py(), transport)?;
        common::schedule_start(event_loop, transport.get().context(), transport.as_any(), waiter)?;
        Ok(transport.unbind())
    }

    /// `_start()`: calls `connection_made()`, then watches the descriptor and gives `waiter` its result. It does so where an error
    /// ends the loop's run as well: the transport is in use when the loop runs again.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol, and what the exception handler raises.
    fn start(slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        let made = common::connection_made(event_loop, slf.as_any(), this.protocol(py)?);
        let watched = Self::start_watching(slf, event_loop);
        let woken = if waiter.is_none() { Ok(()) } else { common::set_result(waiter) };
        made.and(watched).and(woken)
    }

    /// Has the descriptor watched from now on. Where the poller refuses it the transport ends.
    ///
    /// # Errors
    /// What the exception handler raises.
    fn start_watching(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let this = slf.get();
        let Err(error) = Self::set_watch(slf, event_loop, WatchState::On) else { return Ok(()) };
        let py = slf.py();
        let message = Self::Kind::NOT_WATCHED;
        common::report(event_loop, slf.as_any(), this.protocol(py)?, message, error.clone_ref(py))?;
        this.force_close(slf, event_loop, Some(error))
    }

    /// Changes whether the poller may have the descriptor.
    ///
    /// # Errors
    /// As [`Transport::update_registration`].
    fn set_watch(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        watch: WatchState,
    ) -> PyResult<()> {
        slf.get().with(|state| state.watch = watch)?;
        Self::update_registration(slf, event_loop)
    }

    /// Makes the registration with the poller what the state says.
    ///
    /// # Errors
    /// OSError for what cannot be watched; RuntimeError on the wrong thread.
    fn update_registration(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let this = slf.get();
        match this.with(|state| state.change(this.phase()))? {
            Change::None => Ok(()),
            Change::Modify(token, interest) => event_loop.get().set_interest(token, interest),
            Change::Unregister(token) => event_loop.get().unregister(token).map(drop),
            Change::Register(fd, interest) => {
                let token = event_loop.get().register(fd, interest, Source::Io(IoHandle::new(slf)))?;
                this.with(|state| state.token = Some(token))
            }
        }
    }

    /// `set_protocol()`
    ///
    /// # Errors
    /// As [`HeldProtocol::new`].
    fn replace_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = HeldProtocol::new(protocol)?;
        let _replaced = self.with(|state| state.protocol.replace(protocol))?;
        Ok(())
    }

    /// `close()`: what waits is sent, then `connection_lost(None)` is called.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn close_in_order(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        // What was gathered in this turn goes out now, as the loop may be stopped before the turn is over.
        Self::send_gathered(slf)?;
        let waits = this.with(|state| {
            TransportPhase::transition_to_closing(&this.io().phase).then(|| state.kind.has_unsent())
        })?;
        match waits {
            None => Ok(()),
            Some(true) => Self::update_registration(slf, event_loop),
            Some(false) => this.lose(slf, event_loop, None),
        }
    }

    /// `_call_connection_lost()`: the end, in a callback of the loop.
    ///
    /// # Errors
    /// What `connection_lost()`, closing the descriptor and [`Transport::after_end`] raise.
    fn end(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let result = common::connection_lost(this.protocol(py)?.as_ref(), error);
        let (descriptor, _protocol) = this.with(|state| {
            this.io().phase.store(TransportPhase::Lost);
            (state.descriptor.take(), state.protocol.take())
        })?;
        let closed = descriptor.close(py)?;
        this.with(|state| state.descriptor = closed)?;
        Self::after_end(slf, error)?;
        result
    }

    /// `__repr__()`, on any thread.
    fn show(&self) -> String {
        let name = Self::Kind::NAME;
        self.io()
            .state
            .with(|state| {
                let (fd, phase) = (state.descriptor.fd(), self.phase().describe());
                format!("<{name} fd={fd} {phase} {}>", state.kind.describe())
            })
            .unwrap_or_else(|refused| format!("<{name}: {refused}>"))
    }

    /// `__traverse__()`
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.io().event_loop)?;
        visit.call(&self.io().context)?;
        self.visit_own(&visit)?;
        self.io()
            .state
            .visit(Collector::of(&visit), |state, visit| {
                state.descriptor.visit(&visit)?;
                if let Some(protocol) = &state.protocol {
                    protocol.visit(&visit)?;
                }
                state.kind.visit(&visit)
            })
            .unwrap_or(Ok(()))
    }

    /// `__clear__()`
    fn clear(&self) {
        let _protocol = self.io().state.with(|state| state.protocol.take());
        let _objects = self.io().state.with(|state| state.kind.take_objects());
    }
}
