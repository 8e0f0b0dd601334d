//! What can be registered with the poller.

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::reactor::{Event, Interest, Readiness};

use super::io::IoHandle;
use super::operation::Operation;
use super::watch::Direction;
use super::{EventLoop, Handle};
use crate::interpreter::{Attached, CloneWith, Identity, Outgoing};

/// What the readiness of a descriptor is handed to.
#[derive(Debug)]
pub enum Source {
    /// The injection queue's wake-up.
    Waker,
    /// `add_reader()` and `add_writer()`.
    Watch(Watch),
    /// A transport or a listener.
    Io(IoHandle),
}

/// What is done when a descriptor is ready in one direction.
#[derive(Debug, Default)]
pub enum WatchSide {
    /// Nothing, and there is no interest in the direction.
    #[default]
    Free,
    /// A callback of `add_reader()` or `add_writer()` is called.
    Callback(Py<Handle>),
    /// An operation of a `sock_*` method is tried again.
    Operation(Box<Operation>),
    /// The interest stays registered though the operation is done: the next one comes soon.
    Lingering {
        /// Whether the operation took all there was.
        drained: bool,
    },
}

impl WatchSide {
    /// What a side is after an operation in `direction`: a socket is nearly always writable, so only the interest in the
    /// other direction is worth keeping.
    pub const fn resting(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self::Lingering { drained: false },
            Direction::Write => Self::Free,
        }
    }

    /// Puts `next` in its place, and returns what was there, to be dropped with the state closed.
    pub const fn replace(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    const fn is_wanted(&self) -> bool {
        !matches!(self, Self::Free)
    }

    /// Whether neither side of it is in use.
    const fn is_idle(&self) -> bool {
        matches!(self, Self::Free | Self::Lingering { .. })
    }

    /// Whether it calls back by `handle`.
    pub fn is_callback(&self, handle: &Py<Handle>) -> bool {
        matches!(self, Self::Callback(callback) if callback.is(handle))
    }

    /// Cancels what was there; an operation's future is left alone, as in asyncio. True if it was a callback.
    pub fn cancel(self, py: Python<'_>) -> bool {
        match self {
            Self::Callback(handle) => {
                Handle::cancel(handle.bind(py));
                true
            }
            Self::Free | Self::Operation(_) | Self::Lingering { .. } => false,
        }
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Callback(handle) => visit.call(handle),
            Self::Operation(operation) => operation.visit(&visit),
            Self::Free | Self::Lingering { .. } => Ok(()),
        }
    }
}

/// What waits for one descriptor, and the object that the descriptor belongs to.
#[derive(Debug, Default)]
pub struct Watch {
    /// What is done when it is readable.
    pub reader: WatchSide,
    /// What is done when it is writable.
    pub writer: WatchSide,
    /// The file object that was given to `add_reader()` or `add_writer()`, kept so that its descriptor is not closed by the
    /// garbage collector.
    pub file: Option<Py<PyAny>>,
    /// The socket that operations are for: known, but not kept.
    pub socket: Option<Py<PyWeakrefReference>>,
}

impl Watch {
    /// Which directions are registered with the poller.
    pub const fn interest(&self) -> Interest {
        Interest { read: self.reader.is_wanted(), write: self.writer.is_wanted() }
    }

    /// One direction.
    pub const fn side(&mut self, direction: Direction) -> &mut WatchSide {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    /// Whether no operation waits.
    pub const fn is_idle(&self) -> bool {
        self.reader.is_idle() && self.writer.is_idle()
    }

    /// The socket that operations are for, if it is alive.
    pub fn live_socket(&self, at: Attached<'_>) -> Option<Outgoing> {
        self.socket.as_ref().and_then(|socket| at.upgrade(socket))
    }

    /// The object that the descriptor belongs to, if it still exists.
    pub fn owner(&self, at: Attached<'_>) -> Option<Outgoing> {
        match (&self.socket, &self.file) {
            (Some(socket), _) => at.upgrade(socket),
            (None, Some(file)) => Some(at.outgoing(file)),
            (None, None) => None,
        }
    }

    /// The side on which an operation for `future` waits.
    pub fn direction_of(&self, future: Identity) -> Option<Direction> {
        let is_it = |side: &WatchSide| matches!(side, WatchSide::Operation(operation) if future.is(&operation.future));
        match (is_it(&self.reader), is_it(&self.writer)) {
            (true, _) => Some(Direction::Read),
            (_, true) => Some(Direction::Write),
            _ => None,
        }
    }
}

/// What is to be done for an event; taken out of the state, so that it can be done with the state closed.
#[derive(Debug)]
pub enum Dispatch {
    /// Nothing: its callbacks are queued.
    Nothing,
    /// Take the wake-ups back; what woke the loop is in the injection queue.
    Waker,
    /// The source of the event is gone.
    Stale,
    /// Try the waiting operations on a socket again.
    Operations,
    /// Call a transport or a listener.
    Io(IoHandle),
}

impl Source {
    /// What is to be done for an event. Callbacks of watchers are pushed to `ready`, as they run with the turn's batch.
    pub fn dispatch(
        &self,
        at: Attached<'_>,
        readiness: Readiness,
        ready: &mut std::collections::VecDeque<Py<Handle>>,
    ) -> Dispatch {
        match self {
            Self::Waker => Dispatch::Waker,
            Self::Watch(watch) => {
                let sides = [(readiness.readable, &watch.reader), (readiness.writable, &watch.writer)];
                let mut dispatch = Dispatch::Nothing;
                for (is_ready, side) in sides {
                    match side {
                        WatchSide::Callback(handle) if is_ready => ready.push_back(handle.clone_with(at)),
                        WatchSide::Operation(_) | WatchSide::Lingering { .. } if is_ready => {
                            dispatch = Dispatch::Operations
                        }
                        _ => {}
                    }
                }
                dispatch
            }
            Self::Io(io) => Dispatch::Io(io.clone_with(at)),
        }
    }

    /// The transport that owns the descriptor, if one does.
    pub fn transport(&self, at: Attached<'_>) -> Option<Outgoing> {
        match self {
            Self::Io(io) if io.owns_descriptor() => Some(at.outgoing(io.object())),
            Self::Waker | Self::Watch(_) | Self::Io(_) => None,
        }
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Waker => Ok(()),
            Self::Watch(watch) => {
                watch.reader.visit(visit)?;
                watch.writer.visit(visit)?;
                visit.call(&watch.file)?;
                visit.call(&watch.socket)
            }
            Self::Io(io) => io.visit(visit),
        }
    }
}

impl Dispatch {
    /// The transport or listener, if it is one.
    pub fn object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Nothing | Self::Waker | Self::Stale | Self::Operations => None,
            Self::Io(io) => Some(io.object().clone_ref(py)),
        }
    }

    /// Shows the collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Nothing | Self::Waker | Self::Stale | Self::Operations => Ok(()),
            Self::Io(io) => io.visit(visit),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from protocols.
    pub fn run(self, event_loop: &Bound<'_, EventLoop>, event: Event) -> PyResult<()> {
        let readiness = event.readiness;
        match self {
            Self::Nothing | Self::Waker | Self::Stale => Ok(()),
            Self::Operations => EventLoop::on_socket_ready(event_loop, event.token, readiness),
            Self::Io(io) => io.on_ready(event_loop, readiness),
        }
    }
}
