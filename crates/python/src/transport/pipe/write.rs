//! The writing end of a pipe.
//!
//! What is written goes out at once, as far as the pipe takes it; the rest waits. The reader's going away is noticed even
//! while nothing is written: the kernel reports an error on the writing end of a pipe, and an end of stream on a socket.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::exceptions::{PyBrokenPipeError, PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use whorl_core::net::{Flushed, WaterMarks};
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::OwnerCell;

use super::{Kind, Pipe, TransportPhase};
use crate::errors::{IntoPyErr, OrRaise};
use crate::event_loop::{EventLoop, IoHandle, IoObject, Source};
use crate::ffi::copy_context;
use crate::interpreter::{Attached, CloneWith, Collector};
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::output::{FlushReport, Output};

/// Whether the poller may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watching {
    /// Not yet: `connection_made()` comes first.
    NotStarted,
    /// Yes.
    On,
}

/// What belongs to the loop's thread.
#[derive(Debug)]
struct State {
    pipe: Pipe,
    token: Option<Token>,
    protocol: Option<Py<PyAny>>,
    watching: Watching,
    output: Output,
    extra: Option<Py<PyDict>>,
    /// Writes dropped as the transport was closed.
    dropped: usize,
}

/// What a write did.
enum Written {
    /// Nothing that would have to be followed up: all is gone, or waits behind what waited before.
    Nothing,
    /// It tried to send.
    Flushed(FlushReport),
    /// The transport is closed: the data is dropped, and so much was before.
    Dropped(usize),
}

/// What the registration with the poller has to become.
enum Change {
    None,
    Register(i32, Interest),
    Modify(Token, Interest),
    Unregister(Token),
}

/// The writing end of a pipe, made by `connect_write_pipe()`. Source of the semantics: `asyncio.WriteTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct WritePipeTransport {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    phase: AtomicCell<TransportPhase>,
    kind: Kind,
    state: OwnerCell<State>,
}

impl WritePipeTransport {
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

    fn interest(&self, state: &State) -> Interest {
        Interest {
            // The reader's going away; a device does not tell.
            read: self.kind != Kind::Device
                && state.watching == Watching::On
                && self.phase.load() != TransportPhase::Lost,
            write: state.output.is_blocked(),
        }
    }

    /// Makes the registration with the poller what the state says. Who wants nothing is not registered at all: the kernel
    /// reports hang-ups even to who asked for nothing, again and again.
    fn update_registration(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let this = slf.get();
        let change = this.with(|state| {
            let interest = this.interest(state);
            match (state.token, interest.is_none()) {
                (None, true) => Change::None,
                (None, false) => Change::Register(state.pipe.fd(), interest),
                (Some(token), false) => Change::Modify(token, interest),
                (Some(token), true) => {
                    state.token = None;
                    Change::Unregister(token)
                }
            }
        })?;
        match change {
            Change::None => Ok(()),
            Change::Modify(token, interest) => event_loop.get().set_interest(token, interest),
            Change::Unregister(token) => event_loop.get().unregister(token).map(drop),
            Change::Register(fd, interest) => {
                let source = Source::Io(IoHandle::new(slf));
                let token = event_loop.get().register(fd, interest, source)?;
                this.with(|state| state.token = Some(token))
            }
        }
    }
}

impl IoObject for WritePipeTransport {
    fn on_ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        readiness: Readiness,
    ) -> PyResult<()> {
        let this = slf.get();
        let (reader_gone, waits, blocked) = this.with(|state| {
            let reader_gone = readiness.readable && this.interest(state).read;
            (reader_gone, !state.output.is_empty(), state.output.is_blocked())
        })?;
        if reader_gone {
            let error = waits.then(|| PyBrokenPipeError::new_err(()));
            return this.force_close(slf, event_loop, error);
        }
        if readiness.writable && blocked { this.flush(slf, event_loop) } else { Ok(()) }
    }
}

impl WritePipeTransport {
    /// Writes what waits, as far as the pipe takes it.
    fn flush(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let kind = self.kind;
        let report = self.with(|state| {
            let State { pipe, output, .. } = state;
            output.flush(|slices| write(kind, pipe.borrow(), slices))
        })?;
        self.after_flush(slf, event_loop, report)
    }

    /// Acts on what a flush has done.
    fn after_flush(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        report: FlushReport,
    ) -> PyResult<()> {
        match report.outcome {
            Err(error) => {
                let message = "Fatal write error on pipe transport";
                self.fatal(slf, event_loop, error.into_py_err(), message)
            }
            Ok(flushed) => {
                if report.interest_changed {
                    Self::update_registration(slf, event_loop)?;
                }
                if self.with(|state| state.output.transition_to_open())? {
                    let py = slf.py();
                    common::control_flow(
                        event_loop,
                        &self.context,
                        slf,
                        self.protocol(py)?,
                        intern!(py, "resume_writing"),
                    )?;
                }
                // `resume_writing()` may have written more.
                let done = flushed == Flushed::All
                    && self.with(|state| {
                        state.output.is_empty() && self.phase.load() == TransportPhase::Closing
                    })?;
                if done { self.lose(slf, event_loop, None) } else { Ok(()) }
            }
        }
    }
}

impl Ending for WritePipeTransport {
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
        let _dropped = self.with(|state| state.output.take())?;
        Ok(())
    }

    fn unwatch(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        Self::update_registration(slf, event_loop)
    }
}

#[cold]
fn not_read() -> PyErr {
    PyNotImplementedError::new_err("this is the writing end of a pipe")
}

/// One vectored write; on a socket one that raises no SIGPIPE.
#[inline]
fn write(kind: Kind, fd: Option<BorrowedFd<'_>>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let Some(fd) = fd else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let written = match (kind, slices) {
        (Kind::Socket, slices) => {
            rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
        }
        (_, [only]) => rustix::io::write(fd, only),
        (_, several) => rustix::io::writev(fd, several),
    };
    Ok(written?)
}

impl Drop for WritePipeTransport {
    /// A transport that nobody closed, and nobody holds: said as asyncio says it, and its file is closed.
    fn drop(&mut self) {
        let pipe = std::mem::replace(&mut self.state.get_mut().pipe, Pipe::Closed);
        if !matches!(pipe, Pipe::Closed) {
            Python::attach(|py| pipe.close_unclosed(py, "WritePipeTransport"));
        }
    }
}

#[pymethods]
impl WritePipeTransport {
    /// Make a transport over `pipe`, a file object; `connection_made()` is called in the next turn, then `waiter` gets its
    /// result. Raises ValueError for what is neither a pipe, a socket nor a character device.
    #[new]
    #[pyo3(signature = (event_loop, pipe, protocol, waiter=None, extra=None))]
    fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let refusal = "Pipe transport is only for pipes, sockets and character devices";
        let (taken, kind) = Pipe::new(pipe, refusal)?;
        let extra = extra.map_or_else(|| Ok(PyDict::new(py)), |extra| extra.copy())?;
        extra.set_item(intern!(py, "pipe"), pipe)?;
        let state = State {
            pipe: taken,
            token: None,
            protocol: Some(protocol.clone().unbind()),
            watching: Watching::NotStarted,
            output: Output::default(),
            extra: Some(extra.unbind()),
            dropped: 0,
        };
        let transport = Self {
            event_loop: event_loop.clone().unbind(),
            context: copy_context(py)?,
            kind,
            phase: AtomicCell::new(TransportPhase::Open),
            state: OwnerCell::new(std::sync::Arc::clone(event_loop.get().owner()), state),
        };
        let transport = crate::interpreter::new_with_dict(py, transport)?;
        common::schedule_start(event_loop, &transport.get().context, &transport, waiter)?;
        Ok(transport.unbind())
    }

    fn _start(slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        common::connection_made(event_loop, slf, this.protocol(py)?)?;
        this.with(|state| state.watching = Watching::On)?;
        if let Err(error) = Self::update_registration(slf, event_loop) {
            common::report(
                event_loop,
                slf,
                this.protocol(py)?,
                "The pipe cannot be watched",
                error.clone_ref(py),
            )?;
            this.force_close(slf, event_loop, Some(error))?;
        }
        if waiter.is_none() { Ok(()) } else { common::set_result(waiter) }
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.with(|state| state.protocol.take())?;
        let result = common::connection_lost(protocol.as_ref(), error);
        this.with(|state| std::mem::replace(&mut state.pipe, Pipe::Closed))?.close(py)?;
        result
    }

    /// Return information about the transport: 'pipe', the file object; `default` for any other name.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let extra = slf
            .get()
            .with_attached(py, |state, at| state.extra.as_ref().map(|extra| extra.clone_with(at)))?;
        let value = extra.map(|extra| extra.bind(py).get_item(name)).transpose()?.flatten();
        Ok(value.or(default))
    }

    /// Set a new protocol.
    fn set_protocol(&self, protocol: Py<PyAny>) -> PyResult<()> {
        let _former = self.with(|state| state.protocol.replace(protocol))?;
        Ok(())
    }

    /// Return the current protocol, or None once the transport is closed.
    fn get_protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.protocol(py)
    }

    /// Return True if the transport is closing or closed.
    fn is_closing(&self) -> bool {
        self.phase.load() != TransportPhase::Open
    }

    /// Write bytes-like `data`. It does not block: what the pipe does not take at once waits.
    ///
    /// A bytearray or memoryview may be changed as soon as this returns. On a closed transport the data is dropped. Raises
    /// TypeError for what is not bytes-like.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_chunks(slf, std::iter::once(Chunk::new(data)?))
    }

    /// Write an iterable of bytes-like objects, as `write()` would write them one after the other.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_chunks(slf, Chunk::all(list_of_data)?.into_iter())
    }

    /// Close the transport once what waits is written: the end of a pipe is its closing.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let drained =
            this.with(|state| TransportPhase::transition_to_closing(&this.phase) && state.output.is_empty())?;
        if drained { this.lose(slf, this.loop_of(slf.py()), None) } else { Ok(()) }
    }

    /// Raise NotImplementedError, as the base class of asyncio's does: nothing is read here.
    fn pause_reading(&self) -> PyResult<()> {
        Err(not_read())
    }

    /// Raise NotImplementedError.
    fn resume_reading(&self) -> PyResult<()> {
        Err(not_read())
    }

    /// Raise NotImplementedError.
    fn is_reading(&self) -> PyResult<bool> {
        Err(not_read())
    }

    /// Return True: closing a pipe is its end of file.
    const fn can_write_eof(&self) -> bool {
        true
    }

    /// Close the transport: what waits is written, then `connection_lost(None)` is called.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::write_eof(slf)
    }

    /// Close the transport at once: what waits is dropped, then `connection_lost(None)` is called.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), None)
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
        let this = slf.get();
        let marks = common::water_marks(high, low, WaterMarks::default().high())?;
        this.with(|state| state.output.set_marks(marks))?;
        Self::pause_protocol(slf)
    }

    /// Return the water marks `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.with(|state| (state.output.marks().low(), state.output.marks().high()))
    }

    /// Return how many bytes wait to be written.
    fn get_write_buffer_size(&self) -> PyResult<usize> {
        self.with(|state| state.output.size())
    }

    /// The file object, None once it is closed.
    #[getter]
    fn _pipe(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with_attached(py, |state, at| state.pipe.object(at))
    }

    /// Setting it to None leaves the closing of the file to whoever has it.
    #[setter(_pipe)]
    fn set_pipe(&self, pipe: Option<Py<PyAny>>) -> PyResult<()> {
        if pipe.is_some() {
            return Err(PyTypeError::new_err("the file of a pipe transport can only be set to None"));
        }
        let _former = self.with(|state| std::mem::replace(&mut state.pipe, Pipe::Closed))?;
        Ok(())
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
    fn _protocol_paused(&self) -> PyResult<bool> {
        self.with(|state| state.output.is_paused())
    }

    /// The class that `isinstance()` sees beside the true one, so that it is what asyncio's is: an `asyncio.Transport`.
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let class = CLASS.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
            Ok(py.import("asyncio.transports")?.getattr("_FlowControlMixin")?.unbind())
        })?;
        Ok(class.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        self.state
            .with(|state| {
                let (fd, phase) = (state.pipe.fd(), self.phase.load().describe());
                format!("<WritePipeTransport fd={fd} {phase} write_buffer={}>", state.output.size())
            })
            .unwrap_or_else(|refused| format!("<WritePipeTransport: {refused}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                state.pipe.visit(&visit)?;
                visit.call(&state.protocol)?;
                visit.call(&state.extra)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.state.with(|state| state.protocol.take());
        let _extra = self.state.with(|state| state.extra.take());
    }
}

impl WritePipeTransport {
    fn write_chunks(slf: &Bound<'_, Self>, chunks: impl Iterator<Item = Chunk> + Send) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let kind = this.kind;
        let event_loop = this.loop_of(py);
        event_loop.get().disturb()?;
        let mut refused = Vec::new();
        let (written, pauses) = this.with(|state| {
            if this.phase.load() != TransportPhase::Open {
                refused.extend(chunks);
                if refused.iter().all(|chunk| chunk.as_ref().is_empty()) {
                    return (Written::Nothing, false);
                }
                state.dropped += 1;
                return (Written::Dropped(state.dropped - 1), false);
            }
            let State { pipe, output, .. } = state;
            chunks.for_each(|chunk| output.push(chunk));
            if output.is_empty() || output.is_blocked() {
                return (Written::Nothing, output.transition_to_paused());
            }
            let report = output.flush(|slices| write(kind, pipe.borrow(), slices));
            let pauses = report.outcome.is_ok() && output.transition_to_paused();
            let all_sent = matches!(report.outcome, Ok(Flushed::All)) && !report.interest_changed;
            let done = all_sent && !output.is_paused();
            (if done { Written::Nothing } else { Written::Flushed(report) }, pauses)
        })?;
        match written {
            Written::Nothing => {}
            Written::Flushed(report) => this.after_flush(slf, event_loop, report)?,
            Written::Dropped(dropped) => {
                let message = "pipe closed by peer or os.write(pipe, data) raised exception.";
                common::note_dropped(py, dropped, message)?;
            }
        }
        if pauses {
            common::control_flow(
                event_loop,
                &this.context,
                slf,
                this.protocol(py)?,
                intern!(py, "pause_writing"),
            )?;
        }
        Ok(())
    }

    fn pause_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.with(|state| state.output.transition_to_paused())? {
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
}
