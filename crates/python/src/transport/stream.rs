//! The stream transport: TCP and Unix-domain connections.
//!
//! Reading: one `recv` for each report of readiness, into the loop's buffer (or the protocol's own), handed to the protocol
//! from there. A short read means drained, so there is no second `recv` that would only say so.
//!
//! Writing: what is written during a turn of the loop goes out in one vectored write at its end, or at once when more than
//! the high-water mark waits, when the transport is closed, or while the loop does not run.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use whorl_core::net::{Flow, Flushed, WaterMarks, WriteQueue};
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::Owned;

use super::address::Address;
use super::chunk::Chunk;
use super::protocol::{self, LentBuffer, Protocol, Receiver};
use super::socket::Socket;
use super::tls::TlsProtocol;
use crate::errors::{IntoPyErr, OrRaise};
use crate::event_loop::{EventLoop, Handle, Scheduled, Source, leaves_the_loop};
use crate::ffi::{Call, call, copy_context};

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Nothing yet: `connection_made()` comes first.
    NotStarted,
    /// What arrives is handed to the protocol.
    On,
    /// `pause_reading()` was called.
    Paused,
    /// The peer has sent its last byte.
    Ended,
}

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

/// Who will send what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Nobody: nothing waits.
    Idle,
    /// The end of this turn.
    Scheduled,
    /// The next report that the socket takes more.
    Blocked,
}

/// The connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In use.
    Open,
    /// `close()` was called; what waits is sent first.
    Closing,
    /// `connection_lost()` is scheduled, or was called.
    Lost,
}

/// What belongs to the loop's thread.
#[derive(Debug)]
struct State {
    socket: Socket,
    token: Option<Token>,
    protocol: Option<Protocol>,
    phase: Phase,
    reading: Reading,
    writing: Writing,
    output: Output,
    queue: WriteQueue<Chunk>,
    marks: WaterMarks,
    flow: Flow,
    sockname: Address,
    peername: Option<Address>,
    extra: Option<Py<PyDict>>,
    transport_socket: Option<Py<PyAny>>,
    empty_waiter: Option<Py<PyAny>>,
    server: Option<Py<PyAny>>,
}

impl State {
    fn interest(&self) -> Interest {
        Interest {
            read: self.reading == Reading::On && self.phase == Phase::Open,
            write: self.output == Output::Blocked,
        }
    }

    fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }
}

/// What `write()` has to do after the data is queued.
enum Written {
    /// Nothing: somebody will send it.
    Queued,
    /// Ask the loop for a flush at the end of the turn.
    Schedule,
    /// Send at once.
    FlushNow,
    /// The connection is lost: the data is dropped, as in asyncio.
    Dropped,
    /// A `sendfile` is in progress.
    InSendfile,
    /// `write_eof()` was called before.
    AfterEof,
}

/// A connected stream socket, made by the loop. Source of the semantics: `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, module = "whorl._core")]
#[derive(Debug)]
pub struct StreamTransport {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    state: Owned<State>,
}

impl StreamTransport {
    fn make<'py>(
        event_loop: &Bound<'py, EventLoop>,
        context: Py<PyAny>,
        socket: Socket,
        names: (Address, Option<Address>),
        protocol: Protocol,
        extra: Option<Py<PyDict>>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let owner = std::sync::Arc::clone(event_loop.get().owner());
        let state = State {
            socket,
            token: None,
            protocol: Some(protocol),
            phase: Phase::Open,
            reading: Reading::NotStarted,
            writing: Writing::Open,
            output: Output::Idle,
            queue: WriteQueue::default(),
            marks: WaterMarks::default(),
            flow: Flow::Open,
            sockname: names.0,
            peername: names.1,
            extra,
            transport_socket: None,
            empty_waiter: None,
            server,
        };
        let transport =
            Self { event_loop: event_loop.clone().unbind(), context, state: Owned::new(owner, state) };
        Bound::new(event_loop.py(), transport)
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
        let server = server.map(|server| server.clone().unbind());
        let transport =
            Self::make(event_loop, context, socket, names, Protocol::new(protocol)?, None, server)?;
        transport.get().attach(&transport)?;
        let result = protocol::call_method1(
            protocol,
            &transport.get().context,
            intern!(py, "connection_made"),
            transport.as_any(),
        );
        transport.get().after_connection_made(&transport, event_loop, result.map(drop))
    }

    fn attach(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let server = self.with(|state| state.server.as_ref().map(|server| server.clone_ref(py)))?;
        match server {
            Some(server) => server.bind(py).call_method1(intern!(py, "_attach"), (slf,)).map(drop),
            None => Ok(()),
        }
    }

    fn after_connection_made(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        result: PyResult<()>,
    ) -> PyResult<()> {
        if let Err(error) = result {
            self.report(slf, event_loop, "Exception in protocol.connection_made()", error)?;
        }
        if let Err(error) = self.start_reading(slf, event_loop) {
            self.fatal(slf, event_loop, error, "Fatal error: the connection cannot be watched")?;
        }
        Ok(())
    }

    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> PyResult<R> {
        self.state.with(act).or_raise()
    }

    fn start_reading(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let registration = self.with(|state| {
            if state.reading == Reading::NotStarted {
                state.reading = Reading::On;
            }
            let wanted = state.phase != Phase::Lost && state.token.is_none();
            wanted.then(|| (state.socket.fd(), state.interest()))
        })?;
        if let Some((fd, interest)) = registration {
            let token = event_loop.get().register(fd, interest, Source::Stream(slf.clone().unbind()))?;
            self.with(|state| state.token = Some(token))?;
        }
        Ok(())
    }

    /// Makes the poller's interest what the state says.
    fn update_interest(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let Some((token, interest)) = self.with(|state| Some((state.token?, state.interest())))? else {
            return Ok(());
        };
        event_loop.get().set_interest(token, interest)
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
        if readiness.writable && this.with(|state| state.output == Output::Blocked)? {
            Self::flush(slf, event_loop)?;
        }
        if readiness.readable { this.read(slf, event_loop) } else { Ok(()) }
    }

    fn read(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        let receiver = self.with(|state| {
            let protocol = state.protocol.as_ref().filter(|_| state.interest().read)?;
            Some((protocol.receiver.clone_ref(py), state.socket.fd()))
        })?;
        match receiver {
            None => Ok(()),
            Some((Receiver::Data(data_received), fd)) => self.read_data(slf, event_loop, &data_received, fd),
            Some((Receiver::Missing(protocol), fd)) => {
                match protocol.bind(py).getattr(intern!(py, "data_received")) {
                    Ok(data_received) => self.read_data(slf, event_loop, &data_received.unbind(), fd),
                    Err(error) => {
                        let message = "Fatal error: protocol.data_received() call failed.";
                        self.fatal(slf, event_loop, error, message)
                    }
                }
            }
            Some((Receiver::Buffered { get_buffer, buffer_updated }, fd)) => {
                self.read_buffered(slf, event_loop, &get_buffer, &buffer_updated, fd)
            }
            Some((Receiver::Tls(tls), fd)) => self.read_tls(slf, event_loop, tls.bind(py), fd),
        }
    }

    fn read_data(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        data_received: &Py<PyAny>,
        fd: RawFd,
    ) -> PyResult<()> {
        let py = slf.py();
        // A bytes object is not tracked by the garbage collector: nothing foreign runs while the buffer is open.
        let received = event_loop.get().read_buffer().with(|buffer| {
            receive(fd, buffer).map(|size| (size > 0).then(|| PyBytes::new(py, &buffer[..size])))
        });
        match received.or_raise()? {
            Ok(Some(data)) => match protocol::data_received(data_received, &self.context, &data) {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.fatal(slf, event_loop, error, "Fatal error: protocol.data_received() call failed.")
                }
            },
            Ok(None) => self.read_eof(slf, event_loop),
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    fn read_buffered(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        get_buffer: &Py<PyAny>,
        buffer_updated: &Py<PyAny>,
        fd: RawFd,
    ) -> PyResult<()> {
        let py = slf.py();
        let mut buffer = match LentBuffer::get(py, &self.context, get_buffer, -1) {
            Ok(buffer) => buffer,
            Err(error) => {
                return self.fatal(slf, event_loop, error, "Fatal error: protocol.get_buffer() call failed.");
            }
        };
        let received = receive(fd, buffer.bytes());
        drop(buffer);
        match received {
            Ok(0) => self.read_eof(slf, event_loop),
            Ok(size) => {
                let size = size.into_pyobject(py)?.into_any();
                match crate::ffi::call_in_context(py, &self.context, buffer_updated, [&size]) {
                    Ok(_) => Ok(()),
                    Err(error) => self.fatal(
                        slf,
                        event_loop,
                        error,
                        "Fatal error: protocol.buffer_updated() call failed.",
                    ),
                }
            }
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    fn read_tls(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        tls: &Bound<'_, TlsProtocol>,
        fd: RawFd,
    ) -> PyResult<()> {
        let py = slf.py();
        // It decrypts from the loop's buffer; should OpenSSL call Python meanwhile, that has no way to the buffer.
        let received = event_loop.get().read_buffer().with(|buffer| {
            receive(fd, buffer).map(|size| (size > 0).then(|| tls.get().take(py, &buffer[..size])))
        });
        match received.or_raise()? {
            Ok(Some(taken)) => TlsProtocol::on_data(tls, taken?),
            Ok(None) => self.read_eof(slf, event_loop),
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    fn read_failed(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Errno,
    ) -> PyResult<()> {
        match error {
            Errno::AGAIN | Errno::INTR => Ok(()),
            error => self.fatal(slf, event_loop, error.into_py_err(), "Fatal read error on socket transport"),
        }
    }

    fn read_eof(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = self.protocol(py)? else { return Ok(()) };
        let protocol = protocol.bind(py);
        let keep_open = match protocol.cast_exact::<TlsProtocol>() {
            // It enters the application's context itself.
            Ok(tls) => tls.get().on_stream_end(tls),
            Err(_) => protocol::call_method0(protocol, &self.context, intern!(py, "eof_received"))
                .and_then(|keep_open| keep_open.is_truthy()),
        };
        match keep_open {
            Ok(true) => {
                // The write side stays in use (RFC 9293, half-close).
                self.with(|state| state.reading = Reading::Ended)?;
                self.update_interest(event_loop)
            }
            Ok(false) => Self::close(slf),
            Err(error) => {
                self.fatal(slf, event_loop, error, "Fatal error: protocol.eof_received() call failed.")
            }
        }
    }

    fn protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with(|state| state.protocol.as_ref().map(|protocol| protocol.object.clone_ref(py)))
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol's flow control.
    pub fn flush(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let this = slf.get();
        let flushed = this.with(|state| {
            if state.phase == Phase::Lost {
                return None;
            }
            let was_blocked = state.output == Output::Blocked;
            state.output = Output::Idle;
            let State { socket, queue, .. } = state;
            let flushed = match socket.borrow() {
                Some(fd) => queue.flush(|slices| send(fd, slices)),
                None => Ok(Flushed::All),
            };
            if matches!(flushed, Ok(Flushed::Blocked)) {
                state.output = Output::Blocked;
            }
            Some((flushed, was_blocked))
        })?;
        let Some((outcome, was_blocked)) = flushed else { return Ok(()) };
        match outcome {
            Ok(flushed) => {
                let blocked = flushed == Flushed::Blocked;
                if blocked != was_blocked {
                    this.update_interest(event_loop)?;
                }
                this.resume_protocol(slf, event_loop)?;
                if blocked { Ok(()) } else { this.drained(slf, event_loop) }
            }
            Err(error) => {
                let message = "Fatal write error on socket transport";
                this.fatal(slf, event_loop, error.into_py_err(), message)
            }
        }
    }

    /// All is sent: wake who waits for that, then do what was put off until then.
    fn drained(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        // `resume_writing()` may have written more.
        let (waiter, phase, shut_down) = self.with(|state| {
            if !state.queue.is_empty() {
                return (None, Phase::Open, false);
            }
            let shut_down = state.phase == Phase::Open && state.writing == Writing::EofPending;
            if shut_down {
                state.writing = Writing::EofSent;
            }
            (state.empty_waiter.as_ref().map(|waiter| waiter.clone_ref(py)), state.phase, shut_down)
        })?;
        if let Some(waiter) = waiter {
            set_result(waiter.bind(py))?;
        }
        if shut_down {
            self.shut_down_writing(slf, event_loop)?;
        }
        if phase == Phase::Closing { self.lose(slf, event_loop, None) } else { Ok(()) }
    }

    fn shut_down_writing(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let outcome = self.with(|state| {
            state.socket.borrow().map_or(Ok(()), |fd| rustix::net::shutdown(fd, Shutdown::Write))
        })?;
        match outcome {
            // The peer has gone meanwhile: reading tells the cause.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => self.fatal(
                slf,
                event_loop,
                error.into_py_err(),
                "Fatal error: the write side cannot be shut down",
            ),
        }
    }

    fn resume_protocol(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        if self.with(|state| state.flow.transition_to_open(state.queue.size(), state.marks))? {
            self.control_flow(slf, event_loop, intern!(slf.py(), "resume_writing"))?;
        }
        Ok(())
    }

    fn pause_protocol(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        if self.with(|state| state.flow.transition_to_paused(state.queue.size(), state.marks))? {
            self.control_flow(slf, event_loop, intern!(slf.py(), "pause_writing"))?;
        }
        Ok(())
    }

    fn control_flow(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        method: &Bound<'_, pyo3::types::PyString>,
    ) -> PyResult<()> {
        let Some(protocol) = self.protocol(slf.py())? else { return Ok(()) };
        match protocol::call_flow_control(protocol.bind(slf.py()), &self.context, method) {
            Ok(_) => Ok(()),
            Err(error) => self.report(slf, event_loop, &format!("protocol.{method}() failed"), error),
        }
    }

    /// Tells the loop's exception handler.
    fn report(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        message: &str,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        let context = PyDict::new(py);
        context.set_item("message", message)?;
        context.set_item("exception", error.value(py))?;
        context.set_item("transport", slf)?;
        context.set_item("protocol", self.protocol(py)?)?;
        event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
    }

    /// An error that ends the connection: reported unless it is the network's doing, then handed to `connection_lost()`.
    fn fatal(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: PyErr,
        message: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        if error.is_instance_of::<PyOSError>(py) {
            if event_loop.get().is_debug() {
                event_loop
                    .call_method1(intern!(py, "_log_transport_error"), (slf, error.value(py), message))?;
            }
        } else {
            self.report(slf, event_loop, message, error.clone_ref(py))?;
        }
        self.force_close(slf, event_loop, Some(error))
    }

    /// Drops what waits and schedules `connection_lost(error)`.
    fn force_close(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        let (_dropped, lost) = self.with(|state| {
            let lost = state.phase == Phase::Lost;
            state.output = Output::Idle;
            (state.queue.take(), lost)
        })?;
        if lost { Ok(()) } else { self.lose(slf, event_loop, error) }
    }

    /// Stops watching and schedules `connection_lost(error)`; once.
    fn lose(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        let py = slf.py();
        let token = self.with(|state| {
            if state.phase == Phase::Lost {
                return Err(());
            }
            state.phase = Phase::Lost;
            Ok(state.token.take())
        })?;
        let Ok(token) = token else { return Ok(()) };
        if let Some(token) = token {
            drop(event_loop.get().unregister(token)?);
        }
        let error = match error {
            Some(error) => error.into_value(py).into_any(),
            None => py.None(),
        };
        let method = slf.getattr(intern!(py, "_call_connection_lost"))?.unbind();
        self.schedule(event_loop, Call::of1(method, error))
    }

    fn schedule(&self, event_loop: &Bound<'_, EventLoop>, call: Call) -> PyResult<()> {
        let py = event_loop.py();
        if event_loop.get().has_closed() {
            return Ok(());
        }
        let scheduled = Scheduled { call, context: self.context.clone_ref(py) };
        event_loop.get().push_ready(Py::new(py, Handle::new(scheduled, None))?)
    }

    /// Whether `connection_lost()` is scheduled, or was called.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn is_lost(&self) -> PyResult<bool> {
        self.with(|state| state.phase == Phase::Lost)
    }

    /// Sets the water marks; the protocol is asked to pause if that much waits already.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; SystemExit and KeyboardInterrupt from the protocol's flow control.
    pub fn set_marks(slf: &Bound<'_, Self>, marks: WaterMarks) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| state.marks = marks)?;
        this.pause_protocol(slf, this.loop_of(slf.py()))
    }

    /// Writes `data`, which needs no copy.
    ///
    /// # Errors
    /// As `write()`.
    pub fn write_owned(slf: &Bound<'_, Self>, data: Vec<u8>) -> PyResult<()> {
        let this = slf.get();
        let written = this.written(std::iter::once(Chunk::Copied(data)), this.state.owner().is_held())?;
        Self::after_write(slf, written)
    }

    /// Drops what waits and schedules `connection_lost(error)`, unless it is lost already.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    pub fn force_close_with(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), error)
    }

    fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.event_loop.bind(py)
    }

    fn written(&self, chunks: impl Iterator<Item = Chunk>, loop_runs: bool) -> PyResult<Written> {
        // Dropped outside: none of them runs foreign code, but it is cheap to be sure.
        let mut refused = Vec::new();
        self.with(|state| {
            let outcome = if state.empty_waiter.is_some() {
                Written::InSendfile
            } else if state.writing != Writing::Open {
                Written::AfterEof
            } else if state.phase == Phase::Lost {
                // As long as `close()` waits for what was written before, more is taken (a TLS layer ends its stream
                // from `resume_writing()`); asyncio draws the line at the same place.
                Written::Dropped
            } else {
                Written::Queued
            };
            if !matches!(outcome, Written::Queued) {
                refused.extend(chunks);
                return outcome;
            }
            chunks.for_each(|chunk| state.queue.push(chunk));
            if state.queue.is_empty() || state.output == Output::Blocked {
                Written::Queued
            } else if !loop_runs || state.queue.size() > state.marks.high() {
                Written::FlushNow
            } else if state.output == Output::Scheduled {
                Written::Queued
            } else {
                state.output = Output::Scheduled;
                Written::Schedule
            }
        })
    }

    fn after_write(slf: &Bound<'_, Self>, written: Written) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        match written {
            Written::Queued => this.pause_protocol(slf, event_loop),
            Written::Schedule => event_loop.get().flush_later(slf.clone().unbind()),
            Written::FlushNow => {
                Self::flush(slf, event_loop)?;
                this.pause_protocol(slf, event_loop)
            }
            Written::Dropped => Ok(()),
            Written::InSendfile => Err(PyRuntimeError::new_err("unable to write; sendfile is in progress")),
            Written::AfterEof => Err(PyRuntimeError::new_err("Cannot call write() after write_eof()")),
        }
    }

    fn address<'py>(&self, py: Python<'py>, of_peer: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let address =
            self.with(|state| if of_peer { state.peername.clone() } else { Some(state.sockname.clone()) })?;
        let Some(address) = address else { return Ok(None) };
        if let Some(address) = address.to_python(py)? {
            return Ok(Some(address));
        }
        let Some(socket) = self.with(|state| state.socket.object(py))?? else { return Ok(None) };
        let method = if of_peer { intern!(py, "getpeername") } else { intern!(py, "getsockname") };
        Ok(socket.bind(py).call_method0(method).ok())
    }

    fn transport_socket<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(known) =
            self.with(|state| state.transport_socket.as_ref().map(|socket| socket.clone_ref(py)))?
        {
            return Ok(Some(known.into_bound(py)));
        }
        let Some(socket) = self.socket_object(py)? else { return Ok(None) };
        let wrapped = py
            .import(intern!(py, "asyncio.trsock"))?
            .call_method1(intern!(py, "TransportSocket"), (socket,))?;
        let kept = wrapped.clone().unbind();
        self.with(|state| state.transport_socket = Some(kept))?;
        Ok(Some(wrapped))
    }

    /// The `socket.socket`, made if there was none: outside the state, as it runs Python.
    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut socket = self.with(|state| std::mem::replace(&mut state.socket, Socket::Closed))?;
        let object = socket.object(py);
        self.with(|state| state.socket = socket)?;
        object
    }
}

/// One `recv`, which never blocks: somebody may have made the socket blocking behind our back, through a duplicate.
#[inline]
fn receive(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1, and the transport keeps its socket open while it is registered; a number closed by foreign code is
    // answered with EBADF.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT).map(|(size, _)| size)
}

const NEVER_BLOCK: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// One vectored write, which never blocks and raises no SIGPIPE: the process may have made that deadly again.
#[inline]
fn send(fd: std::os::fd::BorrowedFd<'_>, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
    let sent = match slices {
        [only] => rustix::net::send(fd, only, NEVER_BLOCK),
        several => {
            rustix::net::sendmsg(fd, several, &mut rustix::net::SendAncillaryBuffer::default(), NEVER_BLOCK)
        }
    };
    Ok(sent?)
}

/// `future.set_result(None)` unless it is done.
fn set_result(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// `asyncio.constants._SendfileMode.TRY_NATIVE`
fn sendfile_mode(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static MODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    MODE.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        let modes = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        Ok(modes.getattr("TRY_NATIVE")?.unbind())
    })
    .map(|mode| mode.clone_ref(py))
}

impl Drop for StreamTransport {
    /// A transport that nobody closed, and nobody holds: said as asyncio says it, and its socket is closed.
    fn drop(&mut self) {
        let socket = std::mem::replace(&mut self.state.get_mut().socket, Socket::Closed);
        if !matches!(socket, Socket::Closed) {
            Python::attach(|py| socket.close_unclosed(py, "StreamTransport"));
        }
    }
}

#[pymethods]
impl StreamTransport {
    /// Make a transport over `sock`; `connection_made()` is called in the next turn, then `waiter` gets its result.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, waiter=None, extra=None, server=None))]
    fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let socket = Socket::from_python(sock)?;
        let names = names_of(&socket);
        let extra = extra.map(|extra| extra.copy().map(Bound::unbind)).transpose()?;
        let transport = Self::make(
            event_loop,
            copy_context(py)?,
            socket,
            names,
            Protocol::new(protocol)?,
            extra,
            server,
        )?;
        let this = transport.get();
        this.attach(&transport)?;
        let start = transport.getattr(intern!(py, "_start"))?.unbind();
        this.schedule(event_loop, Call::of1(start, waiter.unwrap_or_else(|| py.None())))?;
        Ok(transport.unbind())
    }

    fn _start(slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        if let Some(protocol) = this.protocol(py)? {
            // In the transport's context already, as a callback of the loop.
            let made = protocol
                .bind(py)
                .getattr(intern!(py, "connection_made"))
                .and_then(|method| call(py, &method.unbind(), [slf.as_any()]))
                .map(drop);
            this.after_connection_made(slf, event_loop, made)?;
        }
        if waiter.is_none() { Ok(()) } else { set_result(waiter) }
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (protocol, server) = this.with(|state| (state.protocol.take(), state.server.take()))?;
        let result = match &protocol {
            Some(protocol) => protocol
                .object
                .bind(py)
                .getattr(intern!(py, "connection_lost"))
                .and_then(|method| call(py, &method.unbind(), [error]))
                .map(drop),
            None => Ok(()),
        };
        let (socket, _extra) = this.with(|state| {
            state.phase = Phase::Lost;
            (std::mem::replace(&mut state.socket, Socket::Closed), state.empty_waiter.take())
        })?;
        if let Socket::Python(socket, _) = &socket {
            socket.bind(py).call_method0(intern!(py, "close"))?;
        }
        drop(socket);
        if let Some(server) = server {
            server.bind(py).call_method1(intern!(py, "_detach"), (slf,))?;
        }
        result
    }

    /// Return information about the connection: 'socket' (an asyncio.TransportSocket), 'sockname', 'peername' and what
    /// the loop added; `default` for any other name.
    #[pyo3(signature = (name, default=None))]
    pub fn get_extra_info<'py>(
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
        let value = match name {
            "socket" => this.transport_socket(py)?,
            "sockname" => this.address(py, false)?,
            "peername" => this.address(py, true)?,
            _ => return Ok(default),
        };
        // asyncio has the key and its value is None when the peer was gone before it could be asked.
        Ok(value)
    }

    /// Set a new protocol; data goes to it from now on.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = Protocol::new(protocol)?;
        let _former = slf.get().with(|state| state.protocol.replace(protocol))?;
        Ok(())
    }

    /// Return the current protocol, or None once the connection is lost.
    fn get_protocol(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        slf.get().protocol(slf.py())
    }

    /// Return True if the transport is closing or closed.
    pub fn is_closing(&self) -> PyResult<bool> {
        self.with(|state| state.is_closing())
    }

    /// Close the transport: nothing more is read, what waits is sent, then `connection_lost(None)` is called.
    pub fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        let first = this.with(|state| {
            let first = state.phase == Phase::Open;
            if first {
                state.phase = Phase::Closing;
            }
            (first, state.output)
        })?;
        match first {
            (false, _) => Ok(()),
            // What was written in this turn goes out now, as the loop may be stopped before the turn is over.
            (true, Output::Scheduled) => {
                Self::flush(slf, event_loop)?;
                this.update_interest(event_loop)
            }
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

    /// Return True if data is being received.
    fn is_reading(&self) -> PyResult<bool> {
        self.with(|state| !state.is_closing() && state.reading != Reading::Paused)
    }

    /// Stop calling `data_received()` until `resume_reading()`. Does nothing while paused or closing.
    pub fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if !state.is_closing() && state.reading != Reading::Ended {
                state.reading = Reading::Paused;
            }
        })?;
        this.update_interest(this.loop_of(slf.py()))
    }

    /// Go on calling `data_received()`. Does nothing unless paused.
    pub fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if !state.is_closing() && state.reading == Reading::Paused {
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
        Self::set_marks(slf, water_marks(high, low, WaterMarks::default().high())?)
    }

    /// Return the water marks `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.with(|state| (state.marks.low(), state.marks.high()))
    }

    /// Return how many bytes wait to be sent.
    pub fn get_write_buffer_size(&self) -> PyResult<usize> {
        self.with(|state| state.queue.size())
    }

    /// Write bytes-like `data`. It does not block: the data is sent when the turn ends, or as the socket takes it.
    ///
    /// A bytearray or memoryview may be changed as soon as this returns. On a closing transport the data is dropped.
    /// Raises TypeError for what is not bytes-like, RuntimeError after `write_eof()` or during `sendfile()`.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let chunk = Chunk::new(data)?;
        let written = this.written(std::iter::once(chunk), this.state.owner().is_held())?;
        Self::after_write(slf, written)
    }

    /// Write an iterable of bytes-like objects, as `write()` would write them one after the other.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let chunks: Vec<Chunk> =
            list_of_data.try_iter()?.map(|data| Chunk::new(&data?)).collect::<PyResult<_>>()?;
        let written = this.written(chunks.into_iter(), this.state.owner().is_held())?;
        Self::after_write(slf, written)
    }

    /// Close the write side once what waits is sent; the transport may still receive.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        let output = this.with(|state| {
            let first = state.phase == Phase::Open && state.writing == Writing::Open;
            if first {
                state.writing = Writing::EofPending;
            }
            first.then_some(state.output)
        })?;
        match output {
            None | Some(Output::Blocked) => Ok(()),
            Some(Output::Idle | Output::Scheduled) => Self::flush(slf, event_loop),
        }
    }

    /// Return True: a stream socket can be half-closed.
    const fn can_write_eof(&self) -> bool {
        true
    }

    fn _make_empty_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        if this.with(|state| state.empty_waiter.is_some())? {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = crate::interpreter::new_future(event_loop.as_any())?;
        let kept = waiter.clone().unbind();
        let empty = this.with(|state| {
            state.empty_waiter = Some(kept);
            state.queue.is_empty()
        })?;
        if empty {
            set_result(&waiter)?;
        }
        Ok(waiter)
    }

    fn _reset_empty_waiter(&self) -> PyResult<()> {
        let _waiter = self.with(|state| state.empty_waiter.take())?;
        Ok(())
    }

    /// Stops being watched, so that `sendfile()` may watch the descriptor in its own way.
    fn _leave_poller(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if let Some(token) = this.with(|state| state.token.take())? {
            drop(this.loop_of(slf.py()).get().unregister(token)?);
        }
        Ok(())
    }

    /// Is watched again after `_leave_poller()`.
    fn _enter_poller(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.start_reading(slf, this.loop_of(slf.py()))
    }

    #[classattr]
    #[pyo3(name = "_start_tls_compatible")]
    const START_TLS_COMPATIBLE: bool = true;

    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        sendfile_mode(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        slf.get().protocol(slf.py())
    }

    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        self.with(|state| state.flow == Flow::Paused)
    }

    #[getter]
    fn _sock(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        slf.get().socket_object(slf.py())
    }

    #[getter]
    fn _sock_fd(&self) -> PyResult<RawFd> {
        self.with(|state| state.socket.fd())
    }

    /// The class that `isinstance()` sees beside the true one, so that it is an `asyncio.Transport` as well.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import(intern!(slf.py(), "asyncio.transports"))?
            .getattr(intern!(slf.py(), "_FlowControlMixin"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        Ok(this
            .state
            .with(|state| {
                let phase = match state.phase {
                    Phase::Open => "open",
                    Phase::Closing => "closing",
                    Phase::Lost => "closed",
                };
                format!(
                    "<StreamTransport fd={} {phase} reading={:?} write_buffer={}>",
                    state.socket.fd(),
                    state.reading,
                    state.queue.size()
                )
            })
            .unwrap_or_else(|refused| format!("<StreamTransport: {refused}>")))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        self.state
            .with(|state| {
                if let Socket::Python(socket, _) = &state.socket {
                    visit.call(socket)?;
                }
                if let Some(protocol) = &state.protocol {
                    protocol.visit(visit)?;
                }
                visit.call(&state.extra)?;
                visit.call(&state.transport_socket)?;
                visit.call(&state.empty_waiter)?;
                visit.call(&state.server)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.state.with(|state| state.protocol.take());
        let _server = self.state.with(|state| state.server.take());
        let _extra = self.state.with(|state| state.extra.take());
    }
}

/// The addresses of both ends.
pub fn names_of(socket: &Socket) -> (Address, Option<Address>) {
    let Some(fd) = socket.borrow() else { return (Address::Other, None) };
    let sockname = rustix::net::getsockname(fd).map_or(Address::Other, |address| Address::new(&address));
    let peername = match rustix::net::getpeername(fd) {
        Ok(Some(address)) => Some(Address::new(&address)),
        Ok(None) => Some(Address::Unnamed),
        Err(_) => None,
    };
    (sockname, peername)
}

/// The marks that the user gave; `default_high` bytes is the high one if neither is given.
///
/// # Errors
/// ValueError unless high >= low >= 0.
pub fn water_marks(high: Option<isize>, low: Option<isize>, default_high: usize) -> PyResult<WaterMarks> {
    let refused = || {
        let shown = |mark: Option<isize>| mark.map_or_else(|| "default".to_owned(), |mark| mark.to_string());
        pyo3::exceptions::PyValueError::new_err(format!(
            "high ({}) must be >= low ({}) must be >= 0",
            shown(high),
            shown(low)
        ))
    };
    let size = |mark: Option<isize>| mark.map(usize::try_from).transpose().map_err(|_| refused());
    WaterMarks::new(size(low)?, size(high)?, default_high).or_raise()
}
