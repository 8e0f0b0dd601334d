//! A listening socket: accepts what waits, and makes a transport and a protocol of each.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, sockopt};
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::OwnerCell;

use super::address::Address;
use super::base::Descriptor;
use super::socket::Socket;
use super::stream::StreamTransport;
use super::tls::{HandshakeWaiter, Notified, TlsOptions, TlsProtocol, TlsSide};
use crate::errors::{IntoPyErr, OrRaise};
use crate::event_loop::{EventLoop, IoHandle, IoObject, Source, leaves_the_loop};
use crate::fd::lend;
use crate::ffi::{call_in_context, copy_context, copy_of_context};

/// Seconds without accepting after the process ran out of descriptors or memory; asyncio's.
const RETRY_SECONDS: f64 = 1.0;

/// Connections accepted for one report of readiness: enough for a burst, few enough that others get their turn.
const ACCEPTED_AT_ONCE: usize = 64;

/// Where a listener accepts connections.
#[derive(Debug)]
enum ListenerState {
    /// Watched by the poller.
    Listening(Token),
    /// Out of descriptors; a timer starts it again.
    BackedOff,
    /// Closed.
    Closed,
}

/// One listening socket of a `Server`.
#[pyclass(frozen, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct Listener {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    socket: Py<PyAny>,
    fd: RawFd,
    protocol_factory: Py<PyAny>,
    server: Option<Py<PyAny>>,
    /// For connections under TLS.
    tls: Option<TlsOptions>,
    state: OwnerCell<ListenerState>,
}

impl IoObject for Listener {
    /// asyncio's listening socket is the user's to watch.
    const OWNS_DESCRIPTOR: bool = false;

    fn on_ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        _readiness: Readiness,
    ) -> PyResult<()> {
        let this = slf.get();
        for _ in 0..ACCEPTED_AT_ONCE {
            if !this.state.with(|state| matches!(state, ListenerState::Listening(_))).or_raise()? {
                break;
            }
            match lend(this.fd, accept) {
                Ok((socket, peer)) => this.accepted(event_loop, socket, peer)?,
                Err(Errno::AGAIN) => break,
                // The peer gave up before it was accepted (accept(2)); the next one may be well.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return this.back_off(slf, event_loop, error);
                }
                Err(error) => {
                    let message = "Accept failed on a socket";
                    return this.report(slf, event_loop, message, error.into_py_err());
                }
            }
        }
        Ok(())
    }
}

impl Listener {
    fn accepted(
        &self,
        event_loop: &Bound<'_, EventLoop>,
        socket: Socket,
        peer: Option<Address>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let outcome = self.connect(event_loop, socket, peer);
        match outcome {
            Err(error) if leaves_the_loop(py, &error) => Err(error),
            Err(error) => {
                let context = PyDict::new(py);
                context.set_item("message", "Error on transport creation for incoming connection")?;
                context.set_item("exception", error.value(py))?;
                event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
            }
            Ok(()) => Ok(()),
        }
    }

    fn connect(
        &self,
        event_loop: &Bound<'_, EventLoop>,
        socket: Socket,
        peer: Option<Address>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        // Each connection has a context of its own, a copy of the server's (uvloop #305).
        let context = copy_of_context(py, &self.context)?;
        let protocol = call_in_context(py, &context, &self.protocol_factory, [])?;
        let sockname = lend(socket.fd(), |fd| rustix::net::getsockname(fd))
            .map_or(Address::Other, |address| Address::new(&address));
        let server = self.server.as_ref().map(|server| server.bind(py));
        match &self.tls {
            None => {
                StreamTransport::accepted(event_loop, context, socket, (sockname, peer), &protocol, server)
            }
            Some(options) => {
                // A context cannot be entered twice, and the stream calls the TLS protocol within its own.
                let inner = copy_of_context(py, &context)?;
                let options = options.clone_ref(py);
                let tls = TlsProtocol::make(
                    event_loop,
                    inner,
                    &protocol,
                    options,
                    &TlsSide::Server,
                    HandshakeWaiter::Server,
                    Notified::Nothing,
                )?;
                StreamTransport::accepted(event_loop, context, socket, (sockname, peer), tls.as_any(), server)
            }
        }
    }

    fn back_off(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Errno,
    ) -> PyResult<()> {
        let py = slf.py();
        self.stop_listening(ListenerState::BackedOff)?;
        let resume = slf.getattr(intern!(py, "_resume"))?;
        event_loop.call_method1(intern!(py, "call_later"), (RETRY_SECONDS, resume))?;
        self.report(slf, event_loop, "socket.accept() out of system resource", error.into_py_err())
    }

    fn stop_listening(&self, next: ListenerState) -> PyResult<()> {
        let py_loop = &self.event_loop;
        let previous = self.state.with(|state| std::mem::replace(state, next)).or_raise()?;
        if let ListenerState::Listening(token) = previous {
            drop(py_loop.get().unregister(token)?);
        }
        Ok(())
    }

    fn report(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        message: &str,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        let context = PyDict::new(py);
        context.set_item("message", message)?;
        context.set_item("exception", error.value(py))?;
        let socket = py
            .import(intern!(py, "asyncio.trsock"))?
            .call_method1(intern!(py, "TransportSocket"), (&self.socket,))?;
        context.set_item("socket", socket)?;
        event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }

    fn listen(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let source = Source::Io(IoHandle::new(slf));
        let token = this.event_loop.get().register(this.fd, Interest::READ, source)?;
        let _previous =
            this.state.with(|state| std::mem::replace(state, ListenerState::Listening(token))).or_raise()?;
        Ok(())
    }
}

/// One `accept4`, non-blocking and closed on exec, with TCP_NODELAY as asyncio sets it.
fn accept(fd: BorrowedFd<'_>) -> Result<(Socket, Option<Address>), Errno> {
    let (socket, peer) = rustix::net::acceptfrom_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let family = peer.as_ref().map_or(AddressFamily::UNIX, |peer| peer.address_family());
    if matches!(family, AddressFamily::INET | AddressFamily::INET6) {
        // Not TCP, or closed already: a read finds out.
        let _refused = sockopt::set_tcp_nodelay(&socket, true);
    }
    let address = peer.map_or(Address::Unnamed, |peer| Address::new(&peer));
    Ok((Socket::Native(socket, i32::from(family.as_raw())), Some(address)))
}

#[pymethods]
impl Listener {
    /// Accept connections on `sock`, a listening socket, until `close()`.
    #[new]
    ///
    /// Under TLS if `sslcontext` is given; the timeouts are in seconds.
    #[pyo3(signature = (event_loop, sock, protocol_factory, server=None, sslcontext=None,
                        ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    fn new(
        event_loop: &Bound<'_, EventLoop>,
        sock: &Bound<'_, PyAny>,
        protocol_factory: Py<PyAny>,
        server: Option<Py<PyAny>>,
        sslcontext: Option<Bound<'_, PyAny>>,
        ssl_handshake_timeout: Option<Bound<'_, PyAny>>,
        ssl_shutdown_timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let tls = sslcontext
            .map(|context| TlsOptions::new(context, ssl_handshake_timeout, ssl_shutdown_timeout))
            .transpose()?;
        let listener = Self {
            event_loop: event_loop.clone().unbind(),
            context: copy_context(py)?,
            socket: sock.clone().unbind(),
            fd: crate::event_loop::fileno(sock)?,
            protocol_factory,
            server,
            tls,
            state: OwnerCell::new(std::sync::Arc::clone(event_loop.get().owner()), ListenerState::BackedOff),
        };
        let listener = Bound::new(py, listener)?;
        Self::listen(&listener)?;
        Ok(listener.unbind())
    }

    fn _resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.state.with(|state| matches!(state, ListenerState::BackedOff)).or_raise()? {
            Self::listen(slf)?;
        }
        Ok(())
    }

    /// Stop accepting. The socket is its owner's to close.
    fn close(&self) -> PyResult<()> {
        if self.state.with(|state| matches!(state, ListenerState::Closed)).or_raise()? {
            return Ok(());
        }
        self.stop_listening(ListenerState::Closed)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        visit.call(&self.socket)?;
        visit.call(&self.protocol_factory)?;
        visit.call(&self.server)?;
        self.tls.as_ref().map_or(Ok(()), |options| {
            visit.call(&options.sslcontext)?;
            visit.call(&options.handshake_timeout)?;
            visit.call(&options.shutdown_timeout)
        })
    }
}
