//! Sending: at once where nothing waits, in order behind what waits otherwise.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{ConnectedPeer, DatagramTransport};
use crate::errors::{IntoPyErr, is_blocking};
use crate::event_loop::EventLoop;
use crate::fd::lend;
use crate::interpreter::Identity;
use crate::transport::base::{Descriptor, Transport};
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::destination::{self, Destination};
use crate::transport::ending::Ending;
use crate::transport::extra_info::SocketTransport;
use crate::transport::flow::Writes;
use crate::transport::socket::Socket;
use crate::transport::states::TransportPhase;

/// How far one send came. In a section over open state an error is the kernel's number yet: an exception is made by Python.
enum Sent<E = PyErr> {
    /// The kernel has it.
    Yes,
    /// The socket takes no more at the moment.
    Blocked,
    /// The network refused it: for `error_received()`.
    Failed(E),
    /// It cannot be sent at all, by its address.
    Impossible(E),
}

impl Sent<Errno> {
    /// The same, once the state is closed.
    fn raised(self) -> Sent {
        match self {
            Self::Yes => Sent::Yes,
            Self::Blocked => Sent::Blocked,
            Self::Failed(error) => Sent::Failed(error.into_py_err()),
            Self::Impossible(error) => Sent::Impossible(error.into_py_err()),
        }
    }
}

/// One send; nothing if the socket object has to do it.
#[inline]
fn send_natively(socket: &Socket, data: &[u8], destination: &Destination) -> Option<Sent<Errno>> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let fd = Some(socket.fd()).filter(|fd| *fd >= 0)?;
    let sent = match destination {
        Destination::Connected => lend(fd, |fd| rustix::net::send(fd, data, flags)),
        Destination::Native(address) => lend(fd, |fd| rustix::net::sendto(fd, data, flags, address)),
        Destination::Python(_) => return None,
    };
    Some(match sent {
        Ok(_) => Sent::Yes,
        Err(Errno::AGAIN | Errno::INTR) => Sent::Blocked,
        Err(error) => Sent::Failed(error),
    })
}

impl DatagramTransport {
    /// `sendto()`
    pub(super) fn send(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        event_loop.get().disturb()?;
        let content = Chunk::new(data)?;
        let destination = this.destination(py, addr)?;
        let mut unsent = Some((content, destination));
        let (lost, sent) = this.with(|state| {
            // As in asyncio: an endpoint without a peer of its own sends until its socket is closed.
            let gone = matches!(state.descriptor, Socket::Closed(_));
            if gone || (this.is_lost() && this.address.is_some()) {
                let dropped = state.kind.dropped;
                state.kind.dropped += 1;
                return (Some(dropped), None);
            }
            if !state.kind.output.queue.is_empty() {
                return (None, Some(Sent::Blocked));
            }
            let sent = unsent.as_ref().and_then(|(content, destination)| {
                send_natively(&state.descriptor, content.as_ref(), destination)
            });
            (None, sent)
        })?;
        if let Some(dropped) = lost {
            return common::note_dropped(py, dropped, "socket.send() raised exception.");
        }
        let sent = match (sent, &unsent) {
            (None, Some((content, destination))) => this.send_by_object(py, content.as_ref(), destination)?,
            (sent, _) => sent.map_or(Sent::Yes, Sent::raised),
        };
        match sent {
            Sent::Yes => Ok(()),
            Sent::Failed(error) => this.error_received(py, error),
            Sent::Impossible(error) => {
                this.fatal(slf, event_loop, error, "Fatal write error on datagram transport")
            }
            Sent::Blocked => {
                let pauses = this.with(|state| {
                    if this.is_lost() {
                        // No transport is going to send it.
                        return false;
                    }
                    if let Some((content, destination)) = unsent.take() {
                        state.kind.output.queue.push(content, destination);
                    }
                    let _changed = state.kind.output.transition_on_flush(true);
                    state.kind.output.transition_to_paused()
                })?;
                Self::update_registration(slf, event_loop)?;
                if pauses {
                    this.call_flow_control(slf, event_loop, intern!(py, "pause_writing"))?;
                }
                Ok(())
            }
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        // Bounded by what waits now: `error_received()` may send more.
        for _ in 0..self.with(|state| state.kind.output.queue.len())? {
            let (sent, _datagram) = self.send_front(py)?;
            match sent {
                Sent::Yes => {}
                Sent::Blocked => break,
                Sent::Failed(error) => {
                    if let Err(error) = self.error_received(py, error) {
                        let message = "Exception in protocol.error_received()";
                        common::report(event_loop, slf, self.protocol(py)?, message, error)?;
                    }
                }
                Sent::Impossible(error) => {
                    return self.fatal(slf, event_loop, error, "Fatal write error on datagram transport");
                }
            }
        }
        self.resume_protocol(slf, event_loop)?;
        // `resume_writing()` may have sent more, or closed.
        let done = self.with(|state| {
            let done = state.kind.output.is_empty();
            let changed = done && state.kind.output.transition_on_flush(false);
            (changed, done && self.phase() == TransportPhase::Closing)
        })?;
        match done {
            (_, true) => self.lose(slf, event_loop, None),
            (true, false) => Self::update_registration(slf, event_loop),
            (false, false) => Ok(()),
        }
    }

    /// Sends the datagram at the front and takes it out, unless the socket is full. What was taken out is returned, to be
    /// dropped with the state closed.
    fn send_front(&self, py: Python<'_>) -> PyResult<(Sent, Option<(Chunk, Destination)>)> {
        let outcome = self.with(|state| {
            let (content, destination) = state.kind.output.queue.front()?;
            match send_natively(&state.descriptor, content.as_ref(), destination) {
                Some(Sent::Blocked) => Some((Some(Sent::Blocked), None)),
                Some(sent) => Some((Some(sent), state.kind.output.queue.pop())),
                // The socket object has to send this one: taken out for the time being.
                None => Some((None, state.kind.output.queue.pop())),
            }
        })?;
        match outcome {
            None => Ok((Sent::Yes, None)),
            Some((Some(sent), gone)) => Ok((sent.raised(), gone)),
            Some((None, None)) => Ok((Sent::Yes, None)),
            Some((None, Some((content, destination)))) => {
                let sent = self.send_by_object(py, content.as_ref(), &destination)?;
                if matches!(sent, Sent::Blocked) {
                    self.with(|state| state.kind.output.queue.push_front(content, destination))?;
                    return Ok((sent, None));
                }
                Ok((sent, Some((content, destination))))
            }
        }
    }

    /// `sock.sendto(data, address)`: the socket object knows every family, and words the errors.
    fn send_by_object(&self, py: Python<'_>, data: &[u8], destination: &Destination) -> PyResult<Sent> {
        let Some(socket) = self.socket_object(py)? else { return Ok(Sent::Yes) };
        let data = PyBytes::new(py, data);
        let address = destination.to_python(py);
        let outcome = match address {
            Some(address) => socket.call_method1(py, intern!(py, "sendto"), (data, address)),
            None => socket.call_method1(py, intern!(py, "send"), (data,)),
        };
        Ok(match outcome {
            Ok(_) => Sent::Yes,
            Err(error) if is_blocking(py, &error) => Sent::Blocked,
            Err(error) if error.is_instance_of::<PyOSError>(py) => Sent::Failed(error),
            Err(error) => Sent::Impossible(error),
        })
    }

    /// Where `addr`, given to `sendto()`, leads.
    ///
    /// # Errors
    /// ValueError for another address than the one that the transport is bound to.
    fn destination(&self, py: Python<'_>, addr: Option<&Bound<'_, PyAny>>) -> PyResult<Destination> {
        let addr = addr.filter(|addr| !addr.is_none());
        let addr = match (&self.address, addr) {
            (Some(only), Some(addr)) => {
                let only = only.bind(py);
                if !addr.is(only) && !addr.eq(only)? {
                    return Err(PyValueError::new_err(format!(
                        "Invalid address: must be None or {}",
                        only.str()?
                    )));
                }
                Some(only.as_any())
            }
            (Some(only), None) => Some(only.bind(py).as_any()),
            (None, addr) => addr,
        };
        let addr = match (self.connected_peer, addr) {
            (ConnectedPeer::Named, _) | (ConnectedPeer::Unnamed, None) => return Ok(Destination::Connected),
            (ConnectedPeer::None, None) => return Ok(Destination::Python(py.None())),
            (ConnectedPeer::None | ConnectedPeer::Unnamed, Some(addr)) => addr,
        };
        let identity = Identity::of(addr);
        let known = self.with(|state| {
            let peer = state.kind.peer.as_ref().filter(|peer| identity.is(&peer.python))?;
            peer.native.clone()
        })?;
        match known {
            Some(native) => Ok(Destination::Native(native)),
            None => {
                let family = self.with(|state| state.kind.info.family())?;
                Ok(destination::parse(addr, family))
            }
        }
    }
}
