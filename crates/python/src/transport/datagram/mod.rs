//! The datagram transport: UDP and Unix-domain datagram sockets.
//!
//! Reading: datagrams are taken one by one. While they come in bursts, a report of readiness is answered until the socket
//! is drained, up to a bound; while they come singly, one is taken and the poller is asked again, which saves the system
//! call that would only say that there is no second one.
//!
//! Sending: at once, as far as the kernel takes it; the rest waits in order. An error of the network belongs to one
//! datagram and goes to `error_received()`; it never ends the transport.

mod methods;
mod sending;

use std::collections::VecDeque;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyBlockingIOError, PyOSError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketAddrAny};
use whorl_core::net::DatagramQueue;
use whorl_core::reactor::{Interest, Readiness};

use crate::errors::{IntoPyErr, is_blocking};
use crate::event_loop::{EventLoop, IoObject};
use crate::fd::lend;
use crate::ffi::call_in_context_or_here;
use crate::interpreter::CloneWith;
use crate::transport::address::Address;
use crate::transport::base::{Descriptor, IoTransport, Transport, TransportKind, TransportState};
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::delivery::Delivers;
use crate::transport::destination::Destination;
use crate::transport::ending::Ending;
use crate::transport::extra_info::{ExtraInfo, SocketKind, SocketTransport};
use crate::transport::flow::{ReadKind, WriteKind};
use crate::transport::output::OutputSide;
use crate::transport::protocol::LateBound;
use crate::transport::socket::Socket;
use crate::transport::states::{ReadState, TransportPhase};

/// Datagrams taken for one report of readiness: enough for a burst, few enough that others get their turn.
const RECEIVED_AT_ONCE: u32 = 32;

/// Reports in a row that brought one datagram, after which a second is tried once.
const PROBE: u32 = 8;

/// What asyncio counts for each datagram that waits, in addition to its content, in bytes; nothing before Python 3.13.
const HEADER: usize = 8;

/// How datagrams have been coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// One to a report, so many times in a row.
    Single(u32),
    /// Several to a report.
    Burst,
}

/// The peer that the socket is connected to: the kernel knows where to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectedPeer {
    /// It is not connected.
    None,
    /// A peer with a name: all datagrams go to it, as in asyncio.
    Named,
    /// A peer without a name, as the other end of a `socketpair()`: a datagram without an address goes to it. asyncio takes the
    /// socket for one that is not connected, so that a datagram needs an address, and goes there.
    Unnamed,
}

/// The address that the last datagram came from, in both forms: most peers send more than one.
#[derive(Debug)]
struct Peer {
    native: Option<SocketAddrAny>,
    python: Py<PyAny>,
}

/// Datagrams that wait.
type Queue = DatagramQueue<Chunk, Destination>;

/// What a datagram socket has in its state.
#[derive(Debug)]
pub struct Datagram {
    reading: ReadState,
    arrival: Arrival,
    output: OutputSide<Queue>,
    peer: Option<Peer>,
    info: ExtraInfo,
    /// Datagrams dropped as the transport was gone.
    dropped: usize,
}

impl TransportKind for Datagram {
    type Descriptor = Socket;
    type Protocol = LateBound;
    type Unsent = VecDeque<(Chunk, Destination)>;

    const NAME: &'static str = "DatagramTransport";
    const NOT_WATCHED: &'static str = "Fatal error: the socket cannot be watched";

    fn interest(&self, phase: TransportPhase) -> Interest {
        Interest {
            read: self.reading == ReadState::On && phase == TransportPhase::Open,
            write: self.output.is_blocked(),
        }
    }

    fn has_unsent(&self) -> bool {
        self.output.is_blocked()
    }

    fn take_unsent(state: &mut TransportState<Self>) -> VecDeque<(Chunk, Destination)> {
        state.kind.output.take()
    }

    fn describe(&self) -> String {
        format!("reading={:?} write_buffer={}", self.reading, self.output.size())
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.info.visit(visit)?;
        if let Some(peer) = &self.peer {
            visit.call(&peer.python)?;
        }
        self.output.queue.destinations().try_for_each(|destination| destination.visit(visit))
    }

    fn take_objects(&mut self) -> Vec<Py<PyAny>> {
        self.info.take_objects()
    }
}

impl ReadKind for Datagram {
    fn reading(&mut self) -> &mut ReadState {
        &mut self.reading
    }
}

impl WriteKind for Datagram {
    type Backlog = Queue;

    fn output(&mut self) -> &mut OutputSide<Queue> {
        &mut self.output
    }
}

impl SocketKind for Datagram {
    fn info(&mut self) -> &mut ExtraInfo {
        &mut self.info
    }
}

/// A datagram socket, made by the loop. Source of the semantics: `asyncio.DatagramTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct DatagramTransport {
    io: IoTransport<Datagram>,
    /// The only address that may be sent to, if there is one.
    address: Option<Py<PyAny>>,
    connected_peer: ConnectedPeer,
    /// Whether the address family is one that is read here; the others are left to the socket object.
    native: bool,
}

impl Transport for DatagramTransport {
    type Kind = Datagram;

    #[inline]
    fn io(&self) -> &IoTransport<Datagram> {
        &self.io
    }

    fn visit_own(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.address)
    }

    /// Before 3.12 asyncio's own is no DatagramTransport but a Transport: it is either here.
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CLASS.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
            let transports = py.import("asyncio.transports")?;
            let bases = (transports.getattr("_FlowControlMixin")?, transports.getattr("DatagramTransport")?);
            let new_type = py.import("builtins")?.getattr("type")?;
            Ok(new_type.call1(("DatagramTransport", bases, PyDict::new(py)))?.unbind())
        })?;
        Ok(class.bind(py).clone())
    }
}

impl IoObject for DatagramTransport {
    fn on_ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        readiness: Readiness,
    ) -> PyResult<()> {
        let this = slf.get();
        if readiness.readable {
            this.read(slf, event_loop)?;
        }
        if readiness.writable && this.with(|state| state.kind.output.is_blocked())? {
            this.flush(slf, event_loop)?;
        }
        Ok(())
    }
}

impl DatagramTransport {
    fn read(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let limit = self.with(|state| match &mut state.kind.arrival {
            Arrival::Burst => RECEIVED_AT_ONCE,
            Arrival::Single(reports) if *reports >= PROBE => {
                *reports = 0;
                2
            }
            Arrival::Single(reports) => {
                *reports += 1;
                1
            }
        })?;
        let mut taken = 0;
        while taken < limit && self.receive(slf, event_loop)? {
            taken += 1;
        }
        match (limit, taken) {
            (2.., 2..) => self.with(|state| state.kind.arrival = Arrival::Burst),
            (2.., _) => self.with(|state| state.kind.arrival = Arrival::Single(0)),
            _ => Ok(()),
        }
    }

    /// Takes one datagram and hands it on; false when there is none, or the protocol does not want it.
    fn receive(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<bool> {
        let py = slf.py();
        let Some((fd, receiver)) = self.with_attached(py, |state, at| {
            let receiver = state.protocol.as_ref().and_then(|protocol| protocol.receiver.as_ref());
            let receiver = receiver.map(|receiver| receiver.clone_with(at));
            state.kind.interest(self.phase()).read.then(|| (state.descriptor.fd(), receiver))
        })?
        else {
            return Ok(false);
        };
        let received = if self.native { self.receive_natively(event_loop, fd)? } else { self.ask_socket(py) };
        match received {
            Ok((data, address)) => {
                let method = intern!(py, "datagram_received");
                self.deliver(slf, event_loop, receiver, method, [&data, &address])?;
                Ok(true)
            }
            Err(error) if is_blocking(py, &error) => Ok(false),
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                if let Err(error) = self.error_received(py, error) {
                    let message = "Exception in protocol.error_received()";
                    common::report(event_loop, slf, self.protocol(py)?, message, error)?;
                }
                Ok(true)
            }
            Err(error) => {
                self.fatal(slf, event_loop, error, "Fatal read error on datagram transport")?;
                Ok(false)
            }
        }
    }

    fn receive_natively<'py>(
        &self,
        event_loop: &Bound<'py, EventLoop>,
        fd: RawFd,
    ) -> PyResult<PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let py = event_loop.py();
        // A bytes object is not tracked by the garbage collector: nothing foreign runs while the buffer is open.
        let received = event_loop.get().with_read_buffer(py, |buffer, at| {
            receive_from(fd, buffer)
                .map(|(size, from)| (at.new_bytes(buffer.get(..size).unwrap_or_default()), from))
        });
        Ok(match received? {
            Ok((data, from)) => self.peer(py, from).map(|address| (data.into_bound(py).into_any(), address)),
            Err(Errno::AGAIN | Errno::INTR) => Err(PyBlockingIOError::new_err(())),
            Err(error) => Err(error.into_py_err()),
        })
    }

    /// `from` as Python sees it: the same object again while the same peer sends.
    fn peer<'py>(&self, py: Python<'py>, from: Option<SocketAddrAny>) -> PyResult<Bound<'py, PyAny>> {
        let known = self.with_attached(py, |state, at| {
            state.kind.peer.as_ref().filter(|peer| peer.native == from).map(|peer| peer.python.clone_with(at))
        })?;
        if let Some(known) = known {
            return Ok(known.into_bound(py));
        }
        let address = match &from {
            Some(address) => Address::new(address).to_python(py)?,
            None => None,
        };
        let address = address.unwrap_or_else(|| py.None().into_bound(py));
        let peer = Peer { native: from, python: address.clone().unbind() };
        let _previous = self.with(|state| state.kind.peer.replace(peer))?;
        Ok(address)
    }

    /// `sock.recvfrom(size)`: an address family that is known to the socket object alone.
    fn ask_socket<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        const SIZE: usize = 256 * 1024;
        let Some(socket) = self.socket_object(py)? else { return Err(PyBlockingIOError::new_err(())) };
        socket.bind(py).call_method1(intern!(py, "recvfrom"), (SIZE,))?.extract()
    }

    /// Gives the protocol an error of the network; the protocol may be sending.
    fn error_received(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let Some(protocol) = self.protocol(py)? else { return Ok(()) };
        let method = protocol.bind(py).getattr(intern!(py, "error_received"))?.unbind();
        call_in_context_or_here(py, self.context(), &method, [error.value(py).as_any()]).map(drop)
    }
}

/// One `recvfrom`.
#[inline]
fn receive_from(fd: RawFd, buffer: &mut [u8]) -> Result<(usize, Option<SocketAddrAny>), Errno> {
    lend(fd, |fd| rustix::net::recvfrom(fd, buffer, RecvFlags::DONTWAIT)).map(|(size, _, from)| (size, from))
}

/// What a datagram counts in addition to its content on this interpreter, in bytes.
const fn header() -> usize {
    if cfg!(Py_3_13) { HEADER } else { 0 }
}
