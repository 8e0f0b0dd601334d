//! Connecting a stream socket: an attempt that waits until its descriptor is writable, and the transport over it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, sockopt};
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::OwnerCell;

use super::address::Address;
use super::socket::Socket;
use super::stream::StreamTransport;
use crate::errors::OrRaise;
use crate::event_loop::{EventLoop, IoHandle, IoObject, Source};
use crate::ffi::copy_context;

/// Called with the object that an attempt belongs to, its number, and how it has ended.
pub type Finished = fn(&Bound<'_, PyAny>, usize, Result<(), Errno>) -> PyResult<()>;

/// What an attempt has come to at once.
#[derive(Debug)]
pub enum Begun {
    /// It is connected.
    Connected(OwnedFd),
    /// It waits.
    Pending(Py<ConnectAttempt>),
}

/// Why an attempt has failed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No socket could be made, or the address does not accept.
    Connect(Errno),
    /// The socket could not be bound to the local address of this number.
    Bind(usize, Errno),
    /// No local address is of the family.
    NoLocalAddress,
}

/// The descriptor of an attempt, while it waits.
#[derive(Debug)]
struct AttemptState {
    socket: Option<OwnedFd>,
    token: Option<Token>,
}

/// An attempt to connect that waits for its socket to be writable.
#[pyclass(frozen, module = "whorl._core")]
#[derive(Debug)]
pub struct ConnectAttempt {
    event_loop: Py<EventLoop>,
    owner: Py<PyAny>,
    number: usize,
    finished: Finished,
    state: OwnerCell<AttemptState>,
}

/// Begins to connect to `address`; from one of the addresses `local` of its family, if there are any. `finished` is called
/// with `owner` and `number` when an attempt that waits has ended.
///
/// # Errors
/// Inside, why it has failed at once; outside, RuntimeError on another thread than the loop's.
pub fn connect(
    event_loop: &Bound<'_, EventLoop>,
    address: &SocketAddrAny,
    local: &[SocketAddrAny],
    owner: &Bound<'_, PyAny>,
    number: usize,
    finished: Finished,
) -> PyResult<Result<Begun, ConnectError>> {
    let (socket, waits) = match begin(address, local) {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(error)),
    };
    if !waits {
        return Ok(Ok(Begun::Connected(socket)));
    }
    let fd = socket.as_raw_fd();
    let state = AttemptState { socket: Some(socket), token: None };
    let attempt = ConnectAttempt {
        event_loop: event_loop.clone().unbind(),
        owner: owner.clone().unbind(),
        number,
        finished,
        state: OwnerCell::new(Arc::clone(event_loop.get().owner()), state),
    };
    let attempt = Bound::new(event_loop.py(), attempt)?;
    let source = Source::Io(IoHandle::new(&attempt));
    let token = event_loop.get().register(fd, Interest::WRITE, source)?;
    attempt.get().state.with(|state| state.token = Some(token)).or_raise()?;
    Ok(Ok(Begun::Pending(attempt.unbind())))
}

/// A socket that is connected, or connecting: then the second is true.
fn begin(address: &SocketAddrAny, local: &[SocketAddrAny]) -> Result<(OwnedFd, bool), ConnectError> {
    let family = address.address_family();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(ConnectError::Connect)?;
    if family != AddressFamily::UNIX {
        bind(&socket, family, local)?;
        // As asyncio does for TCP.
        let _refused = sockopt::set_tcp_nodelay(&socket, true);
    }
    match rustix::net::connect(&socket, address) {
        Ok(()) => Ok((socket, false)),
        // A Unix-domain socket whose queue is full says EAGAIN, which does not wait.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, true)),
        Err(error) => Err(ConnectError::Connect(error)),
    }
}

/// Binds `socket` to the first of the addresses that can be bound to.
fn bind(socket: &OwnedFd, family: AddressFamily, local: &[SocketAddrAny]) -> Result<(), ConnectError> {
    let mut problem = None;
    for (number, address) in local.iter().enumerate() {
        if address.address_family() != family {
            continue;
        }
        match rustix::net::bind(socket, address) {
            Ok(()) => return Ok(()),
            Err(error) => problem = Some(ConnectError::Bind(number, error)),
        }
    }
    match problem {
        Some(problem) => Err(problem),
        None if local.is_empty() => Ok(()),
        None => Err(ConnectError::NoLocalAddress),
    }
}

impl ConnectAttempt {
    /// Takes the socket, which the loop does not watch any more; none if it was taken before.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn take(&self) -> PyResult<Option<OwnedFd>> {
        let (socket, token) =
            self.state.with(|state| (state.socket.take(), state.token.take())).or_raise()?;
        if let Some(token) = token {
            drop(self.event_loop.get().unregister(token)?);
        }
        Ok(socket)
    }
}

impl IoObject for ConnectAttempt {
    fn on_ready(
        slf: &Bound<'_, Self>,
        _event_loop: &Bound<'_, EventLoop>,
        _readiness: Readiness,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let token = this.state.with(|state| state.token.take()).or_raise()?;
        if let Some(token) = token {
            drop(this.event_loop.get().unregister(token)?);
        }
        let outcome = this
            .state
            .with(|state| match &state.socket {
                Some(socket) => sockopt::socket_error(socket.as_fd()).and_then(|outcome| outcome),
                None => Err(Errno::BADF),
            })
            .or_raise()?;
        (this.finished)(this.owner.bind(py), this.number, outcome)
    }
}

#[pymethods]
impl ConnectAttempt {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.owner)
    }

    fn __clear__(&self) {
        let _socket = self.state.with(|state| state.socket.take());
    }
}

/// A transport over a connected socket; the protocol's `connection_made()` has been called.
///
/// # Errors
/// SystemExit and KeyboardInterrupt from the protocol.
pub fn over_connected(
    event_loop: &Bound<'_, EventLoop>,
    socket: OwnedFd,
    peer: &SocketAddrAny,
    protocol: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let family = i32::from(peer.address_family().as_raw());
    let peer = Address::new(peer);
    let context = copy_context(event_loop.py())?;
    // Its own address is asked for when a program wants to know it.
    let names = (Address::Other, Some(peer));
    StreamTransport::accepted(event_loop, context, Socket::Native(socket, family), names, protocol, None)
}
