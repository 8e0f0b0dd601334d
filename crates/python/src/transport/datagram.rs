//! The datagram transport: UDP and Unix-domain datagram sockets.
//!
//! Reading: datagrams are taken one by one. While they come in bursts, a report of readiness is answered until the socket
//! is drained, up to a bound; while they come singly, one is taken and the poller is asked again, which saves the system
//! call that would only say that there is no second one.
//!
//! Sending: at once, as far as the kernel takes it; the rest waits in order. An error of the network belongs to one
//! datagram and goes to `error_received()`; it never ends the transport.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrAny};
use whorl_core::net::{DatagramQueue, Flow, WaterMarks};
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::Owned;

use super::address::Address;
use super::chunk::Chunk;
use super::common;
use super::destination::{self, Destination};
use super::socket::Socket;
use super::stream::{names_of, water_marks};
use crate::errors::{IntoPyErr, OrRaise};
use crate::event_loop::{EventLoop, Source};
use crate::ffi::{Call, call_in_context, copy_context};

/// Datagrams taken for one report of readiness: enough for a burst, few enough that others get their turn.
const RECEIVED_AT_ONCE: u32 = 32;

/// Reports in a row that brought one datagram, after which a second is tried once.
const PROBE: u32 = 8;

/// What asyncio counts for each datagram that waits beside its content, in bytes; nothing before Python 3.13.
const HEADER: usize = 8;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Nothing yet: `connection_made()` comes first.
    NotStarted,
    /// What arrives is handed to the protocol.
    On,
    /// `pause_reading()` was called.
    Paused,
}

/// Who will send what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Nobody: nothing waits.
    Idle,
    /// The next report that the socket takes more.
    Blocked,
}

/// The transport's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In use.
    Open,
    /// `close()` was called; what waits is sent first.
    Closing,
    /// `connection_lost()` is scheduled, or was called.
    Lost,
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
    phase: Phase,
    reading: Reading,
    arrival: Arrival,
    output: Output,
    queue: DatagramQueue<Chunk, Destination>,
    marks: WaterMarks,
    flow: Flow,
    peer: Option<Peer>,
    sockname: Address,
    peername: Option<Address>,
    extra: Option<Py<PyDict>>,
    transport_socket: Option<Py<PyAny>>,
    /// Datagrams dropped as the transport was gone.
    dropped: usize,
}

impl State {
    fn interest(&self) -> Interest {
        Interest {
            read: self.reading == Reading::On && self.phase == Phase::Open,
            write: self.output == Output::Blocked,
        }
    }
}

/// How far one send came.
enum Sent {
    /// The kernel has it.
    Yes,
    /// The socket takes no more at the moment.
    Blocked,
    /// The network refused it: for `error_received()`.
    Refused(PyErr),
    /// It cannot be sent at all, by its address.
    Impossible(PyErr),
}

/// A datagram socket, made by the loop. Source of the semantics: `asyncio.DatagramTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct DatagramTransport {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    /// The only address that may be sent to, if there is one.
    address: Option<Py<PyAny>>,
    /// Whether the kernel knows where to send to.
    connected: bool,
    /// Whether the address family is one that is read here; the others are left to the socket object.
    native: bool,
    state: Owned<State>,
}

impl DatagramTransport {
    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.event_loop.bind(py)
    }

    fn protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with(|state| state.protocol.as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    /// Makes the poller's interest what the state says.
    fn update_interest(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        match self.with(|state| Some((state.token?, state.interest())))? {
            Some((token, interest)) => event_loop.get().set_interest(token, interest),
            None => Ok(()),
        }
    }

    /// The poller's report.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol.
    pub fn on_ready(
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
        let Some((fd, receiver)) = self.with(|state| {
            let receiver = state.receiver.as_ref().map(|receiver| receiver.clone_ref(py));
            state.interest().read.then(|| (state.socket.fd(), receiver))
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
        let received = event_loop.get().read_buffer().with(|buffer| {
            receive_from(fd, buffer)
                .map(|(size, from)| (PyBytes::new(py, buffer.get(..size).unwrap_or_default()), from))
        });
        Ok(match received.or_raise()? {
            Ok((data, from)) => self.peer(py, from).map(|address| (data.into_any(), address)),
            Err(Errno::AGAIN | Errno::INTR) => Err(PyBlockingIOError::new_err(())),
            Err(error) => Err(error.into_py_err()),
        })
    }

    /// `from` as Python sees it: the same object again while the same peer sends.
    fn peer<'py>(&self, py: Python<'py>, from: Option<SocketAddrAny>) -> PyResult<Bound<'py, PyAny>> {
        let known = self.with(|state| {
            state.peer.as_ref().filter(|peer| peer.native == from).map(|peer| peer.python.clone_ref(py))
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

    /// Tells the protocol of an error of the network.
    fn error_received(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let Some(protocol) = self.protocol(py)? else { return Ok(()) };
        let method = protocol.bind(py).getattr(intern!(py, "error_received"))?.unbind();
        call_in_context(py, &self.context, &method, [error.value(py).as_any()]).map(drop)
    }

    /// Sends what waits, as far as the socket takes it.
    fn flush(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        // Bounded by what waits now: `error_received()` may send more.
        for _ in 0..self.with(|state| state.queue.len())? {
            let (sent, _datagram) = self.send_front(py)?;
            match sent {
                Sent::Yes => {}
                Sent::Blocked => break,
                Sent::Refused(error) => {
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
        if self.with(|state| state.flow.transition_to_open(state.queue.size(), state.marks))? {
            let method = intern!(py, "resume_writing");
            common::control_flow(event_loop, &self.context, slf, self.protocol(py)?, method)?;
        }
        // `resume_writing()` may have sent more, or closed.
        let done = self.with(|state| {
            let done = state.queue.is_empty();
            if done {
                state.output = Output::Idle;
            }
            (done, done && state.phase == Phase::Closing)
        })?;
        match done {
            (_, true) => self.lose(slf, event_loop, None),
            (true, false) => self.update_interest(event_loop),
            (false, false) => Ok(()),
        }
    }

    /// Sends the datagram at the front and takes it out, unless the socket is full. What was taken out is returned, to be
    /// dropped with the state closed.
    fn send_front(&self, py: Python<'_>) -> PyResult<(Sent, Option<(Chunk, Destination)>)> {
        let outcome = self.with(|state| {
            let (content, destination) = state.queue.front()?;
            match send_natively(&state.socket, content.as_ref(), destination) {
                Some(Sent::Blocked) => Some((Some(Sent::Blocked), None)),
                Some(sent) => Some((Some(sent), state.queue.pop())),
                // The socket object has to send this one: taken out for the time being.
                None => Some((None, state.queue.pop())),
            }
        })?;
        match outcome {
            None => Ok((Sent::Yes, None)),
            Some((Some(sent), gone)) => Ok((sent, gone)),
            Some((None, None)) => Ok((Sent::Yes, None)),
            Some((None, Some((content, destination)))) => {
                let sent = self.send_by_object(py, content.as_ref(), &destination)?;
                if matches!(sent, Sent::Blocked) {
                    self.with(|state| state.queue.push_front(content, destination))?;
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
            Err(error) if error.is_instance_of::<PyOSError>(py) => Sent::Refused(error),
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
        if self.connected {
            return Ok(Destination::Connected);
        }
        let Some(addr) = addr else { return Ok(Destination::Python(py.None())) };
        let known = self.with(|state| {
            let peer = state.peer.as_ref().filter(|peer| peer.python.is(addr))?;
            peer.native.clone()
        })?;
        match known {
            Some(native) => Ok(Destination::Native(native)),
            None => {
                let family = self.with(|state| state.sockname.family())?;
                Ok(destination::parse(addr, family))
            }
        }
    }

    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with(|state| match &state.socket {
            Socket::Python(socket, _) => Some(socket.clone_ref(py)),
            Socket::Native(..) | Socket::Closed => None,
        })
    }

    fn fatal(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: PyErr,
        message: &str,
    ) -> PyResult<()> {
        common::report_fatal(event_loop, slf, self.protocol(slf.py())?, message, &error, |_| true)?;
        self.force_close(slf, event_loop, Some(error))
    }

    /// Drops what waits and schedules `connection_lost(error)`.
    fn force_close(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        let _dropped = self.with(|state| {
            state.output = Output::Idle;
            state.queue.take()
        })?;
        self.lose(slf, event_loop, error)
    }

    /// Stops watching and schedules `connection_lost(error)`; once.
    fn lose(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        let first = self.with(|state| {
            let first = state.phase != Phase::Lost;
            state.phase = Phase::Lost;
            first.then(|| state.token.take())
        })?;
        let Some(token) = first else { return Ok(()) };
        if let Some(token) = token {
            drop(event_loop.get().unregister(token)?);
        }
        common::schedule_lost(event_loop, &self.context, slf, error)
    }

    fn address_of<'py>(&self, py: Python<'py>, of_peer: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let address =
            self.with(|state| if of_peer { state.peername.clone() } else { Some(state.sockname.clone()) })?;
        let Some(address) = address else { return Ok(None) };
        if let Some(address) = address.to_python(py)? {
            return Ok(Some(address));
        }
        let Some(socket) = self.socket_object(py)? else { return Ok(None) };
        let method = if of_peer { intern!(py, "getpeername") } else { intern!(py, "getsockname") };
        Ok(socket.bind(py).call_method0(method).ok())
    }
}

/// One `recvfrom`.
#[inline]
fn receive_from(fd: RawFd, buffer: &mut [u8]) -> Result<(usize, Option<SocketAddrAny>), Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1, and the transport keeps its socket open while it is registered; a number closed by foreign code is
    // answered with EBADF.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    rustix::net::recvfrom(fd, buffer, RecvFlags::DONTWAIT).map(|(size, _, from)| (size, from))
}

/// One send; nothing if the socket object has to do it.
#[inline]
fn send_natively(socket: &Socket, data: &[u8], destination: &Destination) -> Option<Sent> {
    let fd = socket.borrow()?;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = match destination {
        Destination::Connected => rustix::net::send(fd, data, flags),
        Destination::Native(address) => rustix::net::sendto(fd, data, flags, address),
        Destination::Python(_) => return None,
    };
    Some(match sent {
        Ok(_) => Sent::Yes,
        Err(Errno::AGAIN | Errno::INTR) => Sent::Blocked,
        Err(error) => Sent::Refused(error.into_py_err()),
    })
}

/// Whether `error` says to try again later.
fn is_blocking(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

/// What a datagram counts beside its content on this interpreter, in bytes.
fn header(py: Python<'_>) -> usize {
    if py.version_info() >= (3, 13) { HEADER } else { 0 }
}

impl Drop for DatagramTransport {
    /// A transport that nobody closed, and nobody holds: said as asyncio says it, and its socket is closed.
    fn drop(&mut self) {
        let socket = std::mem::replace(&mut self.state.get_mut().socket, Socket::Closed);
        if !matches!(socket, Socket::Closed) {
            Python::attach(|py| socket.close_unclosed(py, "DatagramTransport"));
        }
    }
}

#[pymethods]
impl DatagramTransport {
    /// Make a transport over `sock`; `connection_made()` is called in the next turn, then `waiter` gets its result.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, address=None, waiter=None, extra=None))]
    fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Py<PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let socket = Socket::from_python(sock)?;
        let (sockname, peername) = names_of(&socket);
        let extra = extra.map(|extra| extra.copy().map(Bound::unbind)).transpose()?;
        let address = address.map(|address| Ok::<_, PyErr>((address.is_truthy()?, address))).transpose()?;
        let native = matches!(
            sockname.family(),
            Some(AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX)
        );
        // A peer without a name cannot be sent to by its name: asyncio takes that for not connected.
        let connected = !matches!(peername, None | Some(Address::Unnamed));
        let state = State {
            socket,
            token: None,
            protocol: Some(protocol.clone().unbind()),
            receiver: None,
            phase: Phase::Open,
            reading: Reading::NotStarted,
            arrival: Arrival::Single(0),
            output: Output::Idle,
            queue: DatagramQueue::new(header(py)),
            marks: WaterMarks::default(),
            flow: Flow::Open,
            peer: None,
            sockname,
            peername,
            extra,
            transport_socket: None,
            dropped: 0,
        };
        let transport = Self {
            event_loop: event_loop.clone().unbind(),
            context: copy_context(py)?,
            address: address.and_then(|(given, address)| given.then(|| address.unbind())),
            connected,
            native,
            state: Owned::new(std::sync::Arc::clone(event_loop.get().owner()), state),
        };
        let transport = Bound::new(py, transport)?;
        let start = transport.getattr(intern!(py, "_start"))?.unbind();
        let call = Call::of1(start, waiter.unwrap_or_else(|| py.None()));
        common::schedule(event_loop, &transport.get().context, call)?;
        Ok(transport.unbind())
    }

    fn _start(slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        if let Some(protocol) = this.protocol(py)? {
            // In the transport's context already, as a callback of the loop.
            let made =
                common::call_protocol(protocol.bind(py), intern!(py, "connection_made"), [slf.as_any()]);
            if let Err(error) = made {
                let message = "Exception in protocol.connection_made()";
                common::report(event_loop, slf, Some(protocol), message, error)?;
            }
        }
        let registration = this.with(|state| {
            if state.reading == Reading::NotStarted {
                state.reading = Reading::On;
            }
            (state.phase != Phase::Lost).then(|| (state.socket.fd(), state.interest()))
        })?;
        if let Some((fd, interest)) = registration {
            match event_loop.get().register(fd, interest, Source::Datagram(slf.clone().unbind())) {
                Ok(token) => this.with(|state| state.token = Some(token))?,
                Err(error) => {
                    this.fatal(slf, event_loop, error, "Fatal error: the socket cannot be watched")?;
                }
            }
        }
        if waiter.is_none() { Ok(()) } else { common::set_result(waiter) }
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (protocol, _receiver) = this.with(|state| (state.protocol.take(), state.receiver.take()))?;
        let result = match &protocol {
            Some(protocol) => {
                common::call_protocol(protocol.bind(py), intern!(py, "connection_lost"), [error])
            }
            None => Ok(()),
        };
        let (socket, _peer) =
            this.with(|state| (std::mem::replace(&mut state.socket, Socket::Closed), state.peer.take()))?;
        if let Socket::Python(socket, _) = &socket {
            socket.bind(py).call_method0(intern!(py, "close"))?;
        }
        result
    }

    /// Send bytes-like `data` to `addr`, or to the peer that the endpoint was made for.
    ///
    /// It does not block: what the socket does not take at once waits in order. An empty datagram is sent as such. Errors
    /// of the network go to `protocol.error_received()`. On a closed transport the datagram is dropped. Raises TypeError
    /// for what is not bytes-like, ValueError for another address than the endpoint's own.
    #[pyo3(signature = (data, addr=None))]
    fn sendto(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let content = Chunk::new(data)?;
        let destination = this.destination(py, addr)?;
        let mut unsent = Some((content, destination));
        let (lost, sent) = this.with(|state| {
            if state.phase == Phase::Lost {
                let dropped = state.dropped;
                state.dropped += 1;
                return (Some(dropped), None);
            }
            if !state.queue.is_empty() {
                return (None, Some(Sent::Blocked));
            }
            let sent = unsent.as_ref().and_then(|(content, destination)| {
                send_natively(&state.socket, content.as_ref(), destination)
            });
            (None, sent)
        })?;
        if let Some(dropped) = lost {
            return common::note_dropped(py, dropped, "socket.send() raised exception.");
        }
        let sent = match (sent, &unsent) {
            (None, Some((content, destination))) => this.send_by_object(py, content.as_ref(), destination)?,
            (sent, _) => sent.unwrap_or(Sent::Yes),
        };
        let event_loop = this.loop_of(py);
        match sent {
            Sent::Yes => Ok(()),
            Sent::Refused(error) => this.error_received(py, error),
            Sent::Impossible(error) => {
                this.fatal(slf, event_loop, error, "Fatal write error on datagram transport")
            }
            Sent::Blocked => {
                let pauses = this.with(|state| {
                    if let Some((content, destination)) = unsent.take() {
                        state.queue.push(content, destination);
                    }
                    state.output = Output::Blocked;
                    state.flow.transition_to_paused(state.queue.size(), state.marks)
                })?;
                this.update_interest(event_loop)?;
                if pauses {
                    let method = intern!(py, "pause_writing");
                    common::control_flow(event_loop, &this.context, slf, this.protocol(py)?, method)?;
                }
                Ok(())
            }
        }
    }

    /// Return information about the endpoint: 'socket' (an asyncio.TransportSocket), 'sockname', 'peername'; `default` for
    /// any other name.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let extra = this.with(|state| state.extra.as_ref().map(|extra| extra.clone_ref(py)))?;
        if let Some(value) = extra.map(|extra| extra.bind(py).get_item(name)).transpose()?.flatten() {
            return Ok(Some(value));
        }
        match name {
            "socket" => {
                let known =
                    |state: &mut State| state.transport_socket.as_ref().map(|socket| socket.clone_ref(py));
                if let Some(known) = this.with(known)? {
                    return Ok(Some(known.into_bound(py)));
                }
                let Some(socket) = this.socket_object(py)? else { return Ok(None) };
                let wrapped = py
                    .import(intern!(py, "asyncio.trsock"))?
                    .call_method1(intern!(py, "TransportSocket"), (socket,))?;
                let kept = wrapped.clone().unbind();
                this.with(|state| state.transport_socket = Some(kept))?;
                Ok(Some(wrapped))
            }
            "sockname" => this.address_of(py, false),
            "peername" => this.address_of(py, true),
            _ => Ok(default),
        }
    }

    /// Set a new protocol; datagrams go to it from now on.
    fn set_protocol(&self, protocol: Py<PyAny>) -> PyResult<()> {
        let _former = self.with(|state| (state.protocol.replace(protocol), state.receiver.take()))?;
        Ok(())
    }

    /// Return the current protocol, or None once the transport is closed.
    fn get_protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.protocol(py)
    }

    /// Return True if the transport is closing or closed.
    fn is_closing(&self) -> PyResult<bool> {
        self.with(|state| state.phase != Phase::Open)
    }

    /// Close the transport: nothing more is received, what waits is sent, then `connection_lost(None)` is called.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        let (first, output) = this.with(|state| {
            let first = state.phase == Phase::Open;
            if first {
                state.phase = Phase::Closing;
            }
            (first, state.output)
        })?;
        match (first, output) {
            (false, _) => Ok(()),
            (true, Output::Blocked) => this.update_interest(event_loop),
            (true, Output::Idle) => this.lose(slf, event_loop, None),
        }
    }

    /// Close the transport at once: what waits is dropped, then `connection_lost(None)` is called.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), None)
    }

    fn _force_close(slf: &Bound<'_, Self>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), error.map(PyErr::from_value))
    }

    #[pyo3(signature = (exc, message="Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        let this = slf.get();
        this.fatal(slf, this.loop_of(slf.py()), PyErr::from_value(exc), message)
    }

    /// Return True if datagrams are being received.
    fn is_reading(&self) -> PyResult<bool> {
        self.with(|state| state.phase == Phase::Open && state.reading != Reading::Paused)
    }

    /// Stop calling `datagram_received()` until `resume_reading()`. Does nothing while paused or closing.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if state.phase == Phase::Open {
                state.reading = Reading::Paused;
            }
        })?;
        this.update_interest(this.loop_of(slf.py()))
    }

    /// Go on calling `datagram_received()`. Does nothing unless paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if state.phase == Phase::Open && state.reading == Reading::Paused {
                state.reading = Reading::On;
            }
        })?;
        this.update_interest(this.loop_of(slf.py()))
    }

    /// Set the water marks in bytes: above `high` the protocol is asked to pause writing, at `low` to go on.
    ///
    /// Defaults are 64 KiB and a quarter of `high`. Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let marks = water_marks(high, low, WaterMarks::default().high())?;
        let pauses = this.with(|state| {
            state.marks = marks;
            state.flow.transition_to_paused(state.queue.size(), marks)
        })?;
        if pauses {
            common::control_flow(
                this.loop_of(py),
                &this.context,
                slf,
                this.protocol(py)?,
                intern!(py, "pause_writing"),
            )?;
        }
        Ok(())
    }

    /// Return the water marks `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.with(|state| (state.marks.low(), state.marks.high()))
    }

    /// Return how many bytes wait to be sent; from Python 3.13 each datagram counts 8 more for its header.
    fn get_write_buffer_size(&self) -> PyResult<usize> {
        self.with(|state| state.queue.size())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.protocol(py)
    }

    #[getter]
    fn _address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }

    #[getter]
    fn _sock(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.socket_object(py)
    }

    #[getter]
    fn _sock_fd(&self) -> PyResult<RawFd> {
        self.with(|state| state.socket.fd())
    }

    /// The class that `isinstance()` sees beside the true one, so that it is an `asyncio.DatagramTransport` as well.
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let class = CLASS.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
            // Before 3.12 asyncio's own is no DatagramTransport but a Transport: it is either here.
            let transports = py.import("asyncio.transports")?;
            let bases = (transports.getattr("_FlowControlMixin")?, transports.getattr("DatagramTransport")?);
            Ok(py
                .import("builtins")?
                .getattr("type")?
                .call1(("DatagramTransport", bases, PyDict::new(py)))?
                .unbind())
        })?;
        Ok(class.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        self.state
            .with(|state| {
                let phase = match state.phase {
                    Phase::Open => "open",
                    Phase::Closing => "closing",
                    Phase::Lost => "closed",
                };
                format!(
                    "<DatagramTransport fd={} {phase} reading={:?} write_buffer={}>",
                    state.socket.fd(),
                    state.reading,
                    state.queue.size()
                )
            })
            .unwrap_or_else(|refused| format!("<DatagramTransport: {refused}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        visit.call(&self.address)?;
        self.state
            .with(|state| {
                if let Socket::Python(socket, _) = &state.socket {
                    visit.call(socket)?;
                }
                visit.call(&state.protocol)?;
                visit.call(&state.receiver)?;
                visit.call(&state.extra)?;
                visit.call(&state.transport_socket)?;
                if let Some(peer) = &state.peer {
                    visit.call(&peer.python)?;
                }
                state.queue.destinations().try_for_each(|destination| destination.visit(&visit))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.state.with(|state| (state.protocol.take(), state.receiver.take()));
        let _extra = self.state.with(|state| (state.extra.take(), state.transport_socket.take()));
    }
}
