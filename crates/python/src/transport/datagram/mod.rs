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

use std::os::fd::RawFd;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketAddrAny};
use whorl_core::net::{DatagramQueue, Flow, WaterMarks};
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::OwnerCell;

use crate::errors::{IntoPyErr, OrRaise};
use crate::event_loop::{EventLoop, IoObject};
use crate::ffi::{call_in_context, call_in_context_or_here};
use crate::interpreter::{Attached, CloneWith};
use crate::transport::address::Address;
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::destination::Destination;
use crate::transport::ending::Ending;
use crate::transport::extra_info::{ExtraInfo, HasExtraInfo};
use crate::transport::socket::Socket;
use crate::transport::states::{ReadState, TransportPhase};

/// Datagrams taken for one report of readiness: enough for a burst, few enough that others get their turn.
const RECEIVED_AT_ONCE: u32 = 32;

/// Reports in a row that brought one datagram, after which a second is tried once.
const PROBE: u32 = 8;

/// What asyncio counts for each datagram that waits beside its content, in bytes; nothing before Python 3.13.
const HEADER: usize = 8;

/// Who will send what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Nobody: nothing waits.
    Idle,
    /// The next report that the socket takes more.
    Blocked,
}

/// How datagrams have been coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// One to a report, so many times in a row.
    Single(u32),
    /// Several to a report.
    Burst,
}

/// The address that the last datagram came from, in both forms: most peers send more than one.
#[derive(Debug)]
struct Peer {
    native: Option<SocketAddrAny>,
    python: Py<PyAny>,
}

/// What belongs to the loop's thread.
#[derive(Debug)]
struct State {
    socket: Socket,
    token: Option<Token>,
    protocol: Option<Py<PyAny>>,
    /// `protocol.datagram_received`, once a datagram has come.
    receiver: Option<Py<PyAny>>,
    reading: ReadState,
    arrival: Arrival,
    output: Output,
    queue: DatagramQueue<Chunk, Destination>,
    marks: WaterMarks,
    flow: Flow,
    peer: Option<Peer>,
    info: ExtraInfo,
    /// Datagrams dropped as the transport was gone.
    dropped: usize,
}

impl State {
    fn interest(&self, phase: TransportPhase) -> Interest {
        Interest {
            read: self.reading == ReadState::On && phase == TransportPhase::Open,
            write: self.output == Output::Blocked,
        }
    }
}

/// A datagram socket, made by the loop. Source of the semantics: `asyncio.DatagramTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct DatagramTransport {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    phase: AtomicCell<TransportPhase>,
    /// The only address that may be sent to, if there is one.
    address: Option<Py<PyAny>>,
    /// Whether the kernel knows where to send to.
    connected: bool,
    /// Whether the address family is one that is read here; the others are left to the socket object.
    native: bool,
    state: OwnerCell<State>,
}

impl DatagramTransport {
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

    fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.event_loop.bind(py)
    }

    /// Makes the poller's interest what the state says.
    fn update_interest(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        match self.with(|state| Some((state.token?, state.interest(self.phase.load()))))? {
            Some((token, interest)) => event_loop.get().set_interest(token, interest),
            None => Ok(()),
        }
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
        if readiness.writable && this.with(|state| state.output == Output::Blocked)? {
            this.flush(slf, event_loop)?;
        }
        Ok(())
    }
}

impl DatagramTransport {
    fn read(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let limit = self.with(|state| match &mut state.arrival {
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
            (2.., 2..) => self.with(|state| state.arrival = Arrival::Burst),
            (2.., _) => self.with(|state| state.arrival = Arrival::Single(0)),
            _ => Ok(()),
        }
    }

    /// Takes one datagram and hands it on; false when there is none, or nobody wants it.
    fn receive(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<bool> {
        let py = slf.py();
        let Some((fd, receiver)) = self.with_attached(py, |state, at| {
            let receiver = state.receiver.as_ref().map(|receiver| receiver.clone_with(at));
            state.interest(self.phase.load()).read.then(|| (state.socket.fd(), receiver))
        })?
        else {
            return Ok(false);
        };
        let received = if self.native { self.receive_natively(event_loop, fd)? } else { self.ask_socket(py) };
        match received {
            Ok((data, address)) => {
                let receiver = receiver.map_or_else(|| self.receiver(py), |receiver| Ok(Some(receiver)));
                let handed = receiver.and_then(|receiver| match receiver {
                    Some(receiver) => {
                        call_in_context(py, &self.context, &receiver, [&data, &address]).map(drop)
                    }
                    None => Ok(()),
                });
                if let Err(error) = handed {
                    // asyncio's transport lives on, too.
                    let message = "Exception in protocol.datagram_received()";
                    common::report(event_loop, slf, self.protocol(py)?, message, error)?;
                }
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
            state.peer.as_ref().filter(|peer| peer.native == from).map(|peer| peer.python.clone_with(at))
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
        let _former = self.with(|state| state.peer.replace(peer))?;
        Ok(address)
    }

    /// `sock.recvfrom(size)`: an address family that is known to the socket object alone.
    fn ask_socket<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        const SIZE: usize = 256 * 1024;
        let Some(socket) = self.socket_object(py)? else { return Err(PyBlockingIOError::new_err(())) };
        socket.bind(py).call_method1(intern!(py, "recvfrom"), (SIZE,))?.extract()
    }

    /// Looks `protocol.datagram_received` up, for this time and the next ones.
    fn receiver(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(protocol) = self.protocol(py)? else { return Ok(None) };
        let receiver = protocol.bind(py).getattr(intern!(py, "datagram_received"))?.unbind();
        let kept = receiver.clone_ref(py);
        let _former = self.with(|state| state.receiver.replace(kept))?;
        Ok(Some(receiver))
    }

    /// Tells the protocol of an error of the network; it may be the protocol that is sending.
    fn error_received(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let Some(protocol) = self.protocol(py)? else { return Ok(()) };
        let method = protocol.bind(py).getattr(intern!(py, "error_received"))?.unbind();
        call_in_context_or_here(py, &self.context, &method, [error.value(py).as_any()]).map(drop)
    }
}

impl Ending for DatagramTransport {
    fn protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| state.protocol.as_ref().map(|protocol| protocol.clone_with(at)))
    }

    fn context(&self) -> &Py<PyAny> {
        &self.context
    }

    fn transition_to_lost(&self) -> PyResult<bool> {
        self.with(|_state| TransportPhase::transition_to_lost(&self.phase))
    }

    fn drop_unsent(&self) -> PyResult<()> {
        let _dropped = self.with(|state| {
            state.output = Output::Idle;
            state.queue.take()
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

/// One `recvfrom`.
#[inline]
fn receive_from(fd: RawFd, buffer: &mut [u8]) -> Result<(usize, Option<SocketAddrAny>), Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1, and the transport keeps its socket open while it is registered. Foreign code may close it all the same:
    // the kernel answers EBADF or, where the number was given away again, uses that file, as the same mistake does in Python.
    // No memory is at stake.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    rustix::net::recvfrom(fd, buffer, RecvFlags::DONTWAIT).map(|(size, _, from)| (size, from))
}

/// Whether `error` says to try again later.
fn is_blocking(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

/// What a datagram counts beside its content on this interpreter, in bytes.
const fn header() -> usize {
    if cfg!(Py_3_13) { HEADER } else { 0 }
}

impl HasExtraInfo for DatagramTransport {
    fn with_extra_info<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut ExtraInfo, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.with_attached(at, |state, at| act(&mut state.info, at))
    }

    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| match &state.socket {
            Socket::Python(socket, _) => Some(socket.clone_with(at)),
            Socket::Closed(socket) => socket.as_ref().map(|socket| socket.clone_with(at)),
            Socket::Native(..) => None,
        })
    }
}

impl Drop for DatagramTransport {
    /// A transport that nobody closed, and nobody holds: said as asyncio says it, and its socket is closed.
    fn drop(&mut self) {
        let socket = self.state.get_mut().socket.take();
        if !matches!(socket, Socket::Closed(_)) {
            Python::attach(|py| socket.close_unclosed(py, "DatagramTransport"));
        }
    }
}
