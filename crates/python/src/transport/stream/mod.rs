//! The stream transport: TCP and Unix-domain connections.
//!
//! Reading: one `recv` for each report of readiness, into the loop's buffer (or the protocol's own), handed to the protocol
//! from there. A short read means drained, so there is no second `recv` that would only say so.
//!
//! Writing: the first write of a turn of the loop is sent at once. What is written after it in the same turn goes out in one
//! vectored write at its end, or before: when more than the high-water mark waits, when `StreamWriter.drain()` asks, when the
//! transport is closed. While the loop does not run every write is sent at once.

mod methods;
mod reading;
mod writing;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::intern;
use pyo3::prelude::*;
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::OwnerCell;

use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, IoHandle, IoObject, Source};
use crate::interpreter::{Attached, CloneWith};
use crate::transport::address::Address;
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::extra_info::{ExtraInfo, HasExtraInfo};
use crate::transport::output::Output;
use crate::transport::protocol::{self, Protocol};
use crate::transport::socket::Socket;
use crate::transport::states::{ReadState, TransportPhase};

/// Whether more may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// Yes.
    Open,
    /// `write_eof()` was called; what waits is sent first.
    EofPending,
    /// The write side is shut down.
    EofSent,
}

impl Writing {
    /// `write_eof()`; true the first time.
    #[must_use]
    fn transition_to_eof_pending(&mut self) -> bool {
        let first = *self == Self::Open;
        if first {
            *self = Self::EofPending;
        }
        first
    }

    /// All is sent; true if the write side is to be shut down now.
    #[must_use]
    fn transition_to_eof_sent(&mut self) -> bool {
        let pending = *self == Self::EofPending;
        if pending {
            *self = Self::EofSent;
        }
        pending
    }
}

/// What belongs to the loop's thread.
#[derive(Debug)]
struct State {
    socket: Socket,
    token: Option<Token>,
    protocol: Option<Protocol>,
    reading: ReadState,
    writing: Writing,
    output: Output,
    info: ExtraInfo,
    empty_waiter: Option<Py<PyAny>>,
    server: Option<Py<PyAny>>,
}

impl State {
    fn interest(&self, phase: TransportPhase) -> Interest {
        Interest {
            read: self.reading == ReadState::On && phase == TransportPhase::Open,
            write: self.output.is_blocked(),
        }
    }
}

/// A connected stream socket, made by the loop. Source of the semantics: `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, module = "whorl._core")]
#[derive(Debug)]
pub struct StreamTransport {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    phase: AtomicCell<TransportPhase>,
    state: OwnerCell<State>,
}

impl StreamTransport {
    fn make<'py>(
        event_loop: &Bound<'py, EventLoop>,
        context: Py<PyAny>,
        socket: Socket,
        info: ExtraInfo,
        protocol: &Bound<'py, PyAny>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let state = State {
            socket,
            token: None,
            protocol: Some(Protocol::new(protocol)?),
            reading: ReadState::NotStarted,
            writing: Writing::Open,
            output: Output::default(),
            info,
            empty_waiter: None,
            server,
        };
        let transport = Self {
            event_loop: event_loop.clone().unbind(),
            context,
            phase: AtomicCell::new(TransportPhase::Open),
            state: OwnerCell::new(std::sync::Arc::clone(event_loop.get().owner()), state),
        };
        crate::interpreter::new_with_dict(event_loop.py(), transport)
    }

    /// The transport of an accepted connection, attached to its server; `connection_made()` has been called.
    ///
    /// # Errors
    /// What the server's `_attach()` raises, and SystemExit and KeyboardInterrupt from the protocol.
    pub fn accepted(
        event_loop: &Bound<'_, EventLoop>,
        context: Py<PyAny>,
        socket: Socket,
        names: (Address, Option<Address>),
        protocol: &Bound<'_, PyAny>,
        server: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let info = ExtraInfo::new(names.0, names.1);
        let server = server.map(|server| server.clone().unbind());
        let transport = Self::make(event_loop, context, socket, info, protocol, server)?;
        let this = transport.get();
        this.attach(&transport)?;
        let made =
            protocol::call_method1(protocol, &this.context, intern!(py, "connection_made"), &transport);
        this.after_connection_made(&transport, event_loop, made.map(drop))
    }

    fn attach(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let server =
            self.with_attached(py, |state, at| state.server.as_ref().map(|server| server.clone_with(at)))?;
        match server {
            Some(server) => server.bind(py).call_method1(intern!(py, "_attach"), (slf,)).map(drop),
            None => Ok(()),
        }
    }

    fn after_connection_made(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        made: PyResult<()>,
    ) -> PyResult<()> {
        if let Err(error) = made {
            let message = "Exception in protocol.connection_made()";
            common::report(event_loop, slf, self.protocol(slf.py())?, message, error)?;
        }
        if let Err(error) = self.start_reading(slf, event_loop) {
            self.fatal(slf, event_loop, error, "Fatal error: the connection cannot be watched")?;
        }
        Ok(())
    }

    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R + Send) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    /// The same with an [`Attached`], for what clones references or makes bytes objects.
    #[inline]
    fn with_attached<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut State, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.state.with_token(at.into(), act).or_raise()
    }

    #[inline]
    fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.event_loop.bind(py)
    }

    fn start_reading(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let registration = self.with(|state| {
            state.reading.start();
            let phase = self.phase.load();
            let wanted = phase != TransportPhase::Lost && state.token.is_none();
            wanted.then(|| (state.socket.fd(), state.interest(phase)))
        })?;
        if let Some((fd, interest)) = registration {
            let token = event_loop.get().register(fd, interest, Source::Io(IoHandle::new(slf)))?;
            self.with(|state| state.token = Some(token))?;
        }
        Ok(())
    }

    /// Makes the poller's interest what the state says.
    fn update_interest(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        match self.with(|state| Some((state.token?, state.interest(self.phase.load()))))? {
            Some((token, interest)) => event_loop.get().set_interest(token, interest),
            None => Ok(()),
        }
    }
}

impl IoObject for StreamTransport {
    #[inline]
    fn on_ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        readiness: Readiness,
    ) -> PyResult<()> {
        let this = slf.get();
        if readiness.writable && this.with(|state| state.output.is_blocked())? {
            Self::flush(slf, event_loop)?;
        }
        if readiness.readable { this.read(slf, event_loop) } else { Ok(()) }
    }

    fn on_turn_end(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let due =
            slf.get().with(|state| state.output.transition_on_turn_end() && !state.output.is_empty())?;
        if due { Self::flush(slf, event_loop) } else { Ok(()) }
    }
}

impl StreamTransport {
    /// Drops what waits and schedules `connection_lost(error)`, unless it is lost already.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn force_close_with(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), error)
    }

    /// Whether it is closed for its user.
    pub fn is_closing(&self) -> bool {
        self.phase.load() != TransportPhase::Open
    }

    /// Whether `connection_lost()` is scheduled, or was called.
    pub fn is_lost(&self) -> bool {
        self.phase.load() == TransportPhase::Lost
    }
}

impl Ending for StreamTransport {
    fn protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| {
            state.protocol.as_ref().map(|protocol| protocol.object.clone_with(at))
        })
    }

    fn context(&self) -> &Py<PyAny> {
        &self.context
    }

    fn transition_to_lost(&self) -> PyResult<bool> {
        self.with(|_state| TransportPhase::transition_to_lost(&self.phase))
    }

    fn drop_unsent(&self) -> PyResult<()> {
        let _dropped = self.with(|state| {
            let State { socket, output, .. } = state;
            if output.has_gathered() {
                // asyncio has sent it before now. What becomes of it does not matter to a connection that ends.
                let _report = output.flush(|slices| writing::send(socket, slices));
            }
            output.take()
        })?;
        Ok(())
    }

    fn unwatch(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        match slf.get().with(|state| state.token.take())? {
            Some(token) => event_loop.get().unregister(token).map(drop),
            None => Ok(()),
        }
    }
}

impl HasExtraInfo for StreamTransport {
    fn with_extra_info<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut ExtraInfo, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.with_attached(at, |state, at| act(&mut state.info, at))
    }

    /// Made if there was none: outside the state, as it runs Python.
    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut socket = self.with(|state| state.socket.take())?;
        let object = socket.object(py);
        self.with(|state| state.socket = socket)?;
        object
    }
}

impl Drop for StreamTransport {
    /// A transport that nobody closed, and nobody holds: said as asyncio says it, and its socket is closed.
    fn drop(&mut self) {
        let socket = self.state.get_mut().socket.take();
        if !matches!(socket, Socket::Closed(_)) {
            Python::attach(|py| socket.close_unclosed(py, "StreamTransport"));
        }
    }
}
