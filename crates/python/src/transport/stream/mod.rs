//! The stream transport: TCP and Unix-domain connections.
//!
//! Reading: one `recv` for each report of readiness, into the loop's buffer (or the protocol's own, or an object that it
//! wants), handed to the protocol from there. A short read means drained, so there is no second `recv` that would only say so.
//! After a full one a protocol that is out of bytes may read on at once, up to a limit in each turn of the loop.
//!
//! Writing: the first write of a turn of the loop is sent at once. What is written after it in the same turn goes out in one
//! vectored write at its end, or before: when more than the high-water mark waits, when `StreamWriter.drain()` asks, when the
//! transport is closed. While the loop does not run every write is sent at once.

mod methods;
mod reading;
mod writing;

use std::collections::VecDeque;

use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::net::WriteQueue;
use whorl_core::reactor::{Interest, Readiness};
use whorl_core::sched::Turn;

use crate::event_loop::{EventLoop, IoObject};
use crate::transport::address::Address;
use crate::transport::base::{IoTransport, Transport, TransportKind, TransportState};
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::extra_info::{ExtraInfo, SocketKind};
use crate::transport::flow::{ReadKind, WriteKind};
use crate::transport::output::OutputSide;
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

/// What is known of bytes that have arrived and were not read.
#[derive(Debug, Default)]
struct Supply {
    /// Whether the last read filled its memory: there may be more.
    has_more: bool,
    /// The turn of the loop in which was last read, and how much was read in it.
    turn: Turn,
    read: usize,
}

impl Supply {
    /// The most that is read in one turn of the loop, in bytes: other connections and tasks have theirs.
    const IN_TURN: usize = 512 * 1024;

    /// Notes a read of `size` bytes into `space` bytes of memory.
    fn note(&mut self, turn: Turn, size: usize, space: usize) {
        if self.turn != turn {
            (self.turn, self.read) = (turn, 0);
        }
        self.read += size;
        self.has_more = size == space;
    }

    /// Whether more may be read in this turn.
    fn may_read_on(&self, turn: Turn) -> bool {
        self.has_more && (self.turn != turn || self.read < Self::IN_TURN)
    }
}

/// What a stream has in its state.
#[derive(Debug)]
pub struct Stream {
    reading: ReadState,
    supply: Supply,
    writing: Writing,
    output: OutputSide<WriteQueue<Chunk>>,
    info: ExtraInfo,
    empty_waiter: Option<Py<PyAny>>,
    server: Option<Py<PyAny>>,
}

impl TransportKind for Stream {
    type Descriptor = Socket;
    type Protocol = Protocol;
    type Unsent = VecDeque<Chunk>;

    const NAME: &'static str = "StreamTransport";
    const NOT_WATCHED: &'static str = "Fatal error: the connection cannot be watched";

    #[inline]
    fn interest(&self, phase: TransportPhase) -> Interest {
        Interest {
            read: self.reading == ReadState::On && phase == TransportPhase::Open,
            write: self.output.is_blocked(),
        }
    }

    fn has_unsent(&self) -> bool {
        !self.output.is_empty()
    }

    fn take_unsent(state: &mut TransportState<Self>) -> VecDeque<Chunk> {
        let TransportState { descriptor, kind: Self { output, .. }, .. } = state;
        if output.has_gathered() {
            // asyncio has sent it before now. What becomes of it does not matter to a connection that ends.
            let _report = output.flush(|slices| writing::send(descriptor, slices));
        }
        output.take()
    }

    fn describe(&self) -> String {
        format!("reading={:?} write_buffer={}", self.reading, self.output.size())
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.info.visit(visit)?;
        visit.call(&self.empty_waiter)?;
        visit.call(&self.server)
    }

    fn take_objects(&mut self) -> Vec<Py<PyAny>> {
        let mut taken = self.info.take_objects();
        taken.extend(self.server.take());
        taken
    }
}

impl ReadKind for Stream {
    fn reading(&mut self) -> &mut ReadState {
        &mut self.reading
    }
}

impl WriteKind for Stream {
    type Backlog = WriteQueue<Chunk>;

    #[inline]
    fn output(&mut self) -> &mut OutputSide<WriteQueue<Chunk>> {
        &mut self.output
    }
}

impl SocketKind for Stream {
    fn info(&mut self) -> &mut ExtraInfo {
        &mut self.info
    }
}

/// A connected stream socket, made by the loop. Source of the semantics: `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, module = "whorl._core")]
#[derive(Debug)]
pub struct StreamTransport {
    io: IoTransport<Stream>,
}

impl Transport for StreamTransport {
    type Kind = Stream;

    #[inline]
    fn io(&self) -> &IoTransport<Stream> {
        &self.io
    }

    fn send_gathered(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        match this.with(|state| state.kind.output.has_gathered()) {
            Ok(true) => Self::flush(slf, this.loop_of(slf.py())),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    fn after_end(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (server, waiter) =
            slf.get().with(|state| (state.kind.server.take(), state.kind.empty_waiter.take()))?;
        if let Some(waiter) = waiter {
            // What `sendfile()` waits for will never be sent. The words are asyncio's.
            let closed = PyConnectionError::new_err("Connection is closed by peer");
            let error = if error.is_none() { closed.value(py) } else { error };
            common::set_exception(waiter.bind(py), error)?;
        }
        let Some(server) = server else { return Ok(()) };
        server.bind(py).call_method1(intern!(py, "_detach"), (slf,)).map(drop)
    }
}

impl StreamTransport {
    /// A new transport, attached to its server.
    fn attached<'py>(
        event_loop: &Bound<'py, EventLoop>,
        context: Py<PyAny>,
        socket: Socket,
        info: ExtraInfo,
        protocol: &Bound<'py, PyAny>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let kept = server.as_ref().map(|server| server.clone_ref(py));
        let kind = Stream {
            reading: ReadState::On,
            supply: Supply::default(),
            writing: Writing::Open,
            output: OutputSide::default(),
            info,
            empty_waiter: None,
            server: kept,
        };
        let io = IoTransport::new(event_loop, context, socket, protocol, kind)?;
        let transport = crate::interpreter::new_with_dict(py, Self { io })?;
        if let Some(server) = server {
            server.bind(py).call_method1(intern!(py, "_attach"), (&transport,))?;
        }
        Ok(transport)
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
        let transport = Self::attached(event_loop, context, socket, info, protocol, server)?;
        let this = transport.get();
        let made =
            protocol::call_method1(protocol, this.context(), intern!(py, "connection_made"), &transport);
        let reported = match made {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = "Exception in protocol.connection_made()";
                common::report(event_loop, &transport, this.protocol(py)?, message, error)
            }
        };
        // Also where the error ends the loop's run: the connection is in use when the loop runs again.
        let watched = Self::start_watching(&transport, event_loop);
        reported.and(watched)
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
        if readiness.writable && this.with(|state| state.kind.output.is_blocked())? {
            Self::flush(slf, event_loop)?;
        }
        if readiness.readable { this.read(slf, event_loop) } else { Ok(()) }
    }

    fn on_turn_end(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let due = slf
            .get()
            .with(|state| state.kind.output.transition_on_turn_end() && !state.kind.output.is_empty())?;
        if due { Self::flush(slf, event_loop) } else { Ok(()) }
    }
}
