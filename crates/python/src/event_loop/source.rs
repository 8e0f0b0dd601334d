//! What can be registered with the poller.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::reactor::{Interest, Readiness};

use super::{EventLoop, Handle};
use crate::transport::{Listener, StreamTransport};

/// Who is told when a descriptor is ready.
#[derive(Debug)]
pub enum Source {
    /// The inbox's wake-up.
    Waker,
    /// `add_reader()` and `add_writer()`.
    Watch(Watch),
    /// A connected stream.
    Stream(Py<StreamTransport>),
    /// A listening socket.
    Listener(Py<Listener>),
}

/// The callbacks of one descriptor, and the object that stands for it.
#[derive(Debug)]
pub struct Watch {
    /// Called when it is readable.
    pub reader: Option<Py<Handle>>,
    /// Called when it is writable.
    pub writer: Option<Py<Handle>>,
    /// The file object that was given, kept so that its descriptor is not closed by the garbage collector.
    pub file: Py<PyAny>,
}

impl Watch {
    /// Which directions have a callback.
    pub const fn interest(&self) -> Interest {
        Interest { read: self.reader.is_some(), write: self.writer.is_some() }
    }
}

/// What is to be done for an event; taken out of the state, so that it can be done with the state closed.
pub enum Dispatch {
    /// Nothing: its callbacks are queued.
    Nothing,
    /// Take the wake-ups back; what woke the loop is in the inbox.
    Waker,
    /// The source is gone: the event belongs to its former life.
    Stale,
    /// Tell a stream.
    Stream(Py<StreamTransport>),
    /// Tell a listener.
    Listener(Py<Listener>),
}

impl Source {
    /// What an event asks for. Callbacks of watchers are pushed to `ready`, as they run with the turn's batch.
    pub fn dispatch(
        &self,
        py: Python<'_>,
        readiness: Readiness,
        ready: &mut std::collections::VecDeque<Py<Handle>>,
    ) -> Dispatch {
        match self {
            Self::Waker => Dispatch::Waker,
            Self::Watch(watch) => {
                let sides = [(readiness.readable, &watch.reader), (readiness.writable, &watch.writer)];
                for (is_ready, handle) in sides {
                    if let (true, Some(handle)) = (is_ready, handle) {
                        ready.push_back(handle.clone_ref(py));
                    }
                }
                Dispatch::Nothing
            }
            Self::Stream(transport) => Dispatch::Stream(transport.clone_ref(py)),
            Self::Listener(listener) => Dispatch::Listener(listener.clone_ref(py)),
        }
    }

    /// The transport that owns the descriptor, if one does.
    pub fn transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Stream(transport) => Some(transport.clone_ref(py).into_any()),
            Self::Waker | Self::Watch(_) | Self::Listener(_) => None,
        }
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Waker => Ok(()),
            Self::Watch(watch) => {
                for handle in [&watch.reader, &watch.writer].into_iter().flatten() {
                    Handle::visit(handle, visit)?;
                }
                visit.call(&watch.file)
            }
            Self::Stream(transport) => visit.call(transport),
            Self::Listener(listener) => visit.call(listener),
        }
    }
}

impl Dispatch {
    /// Does it.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from protocols.
    pub fn perform(self, event_loop: &Bound<'_, EventLoop>, readiness: Readiness) -> PyResult<()> {
        let py = event_loop.py();
        match self {
            Self::Nothing | Self::Waker | Self::Stale => Ok(()),
            Self::Stream(transport) => StreamTransport::on_ready(transport.bind(py), event_loop, readiness),
            Self::Listener(listener) => Listener::on_ready(listener.bind(py), event_loop),
        }
    }
}
