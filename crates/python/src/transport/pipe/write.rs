//! The writing end of a pipe.
//!
//! What is written goes out at once, as far as the pipe takes it; the rest waits. The reader's going away is noticed even
//! while nothing is written: the kernel reports an error on the writing end of a pipe, and an end of stream on a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use pyo3::exceptions::{PyBrokenPipeError, PyNotImplementedError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use whorl_core::net::{Flushed, WriteQueue};
use whorl_core::reactor::{Interest, Readiness};

use super::{FileKind, Pipe, PipeKind, io_on};
use crate::errors::IntoPyErr;
use crate::event_loop::{EventLoop, IoObject};
use crate::fd::lend;
use crate::transport::base::{Descriptor, IoTransport, Transport, TransportKind, TransportState};
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::flow::{WriteKind, Writes};
use crate::transport::output::{FlushReport, OutputSide};
use crate::transport::protocol::LateBound;
use crate::transport::states::TransportPhase;

/// What the writing end of a pipe has in its state.
#[derive(Debug)]
pub struct WritePipe {
    file: FileKind,
    output: OutputSide<WriteQueue<Chunk>>,
    extra: Option<Py<PyDict>>,
    /// Writes dropped as the transport was closed.
    dropped: usize,
}

impl TransportKind for WritePipe {
    type Descriptor = Pipe;
    type Protocol = LateBound;
    type Unsent = VecDeque<Chunk>;

    const NAME: &'static str = "WritePipeTransport";
    const NOT_WATCHED: &'static str = "The pipe cannot be watched";
    const LEAVES_WHILE_IDLE: bool = true;

    fn interest(&self, phase: TransportPhase) -> Interest {
        Interest {
            // The reader's end is closed; a device does not report that.
            read: self.file != FileKind::Device && phase != TransportPhase::Lost,
            write: self.output.is_blocked(),
        }
    }

    fn has_unsent(&self) -> bool {
        !self.output.is_empty()
    }

    fn take_unsent(state: &mut TransportState<Self>) -> VecDeque<Chunk> {
        state.kind.output.take()
    }

    fn describe(&self) -> String {
        format!("write_buffer={}", self.output.size())
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)
    }

    fn take_objects(&mut self) -> Vec<Py<PyAny>> {
        self.extra.take().map(Py::into_any).into_iter().collect()
    }
}

impl WriteKind for WritePipe {
    type Backlog = WriteQueue<Chunk>;

    fn output(&mut self) -> &mut OutputSide<WriteQueue<Chunk>> {
        &mut self.output
    }
}

impl PipeKind for WritePipe {
    const REFUSAL: &'static str = "Pipe transport is only for pipes, sockets and character devices";

    fn new(file: FileKind, extra: Py<PyDict>) -> Self {
        Self { file, output: OutputSide::default(), extra: Some(extra), dropped: 0 }
    }

    fn extra(&self) -> Option<&Py<PyDict>> {
        self.extra.as_ref()
    }
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

/// The writing end of a pipe, made by `connect_write_pipe()`. Source of the semantics: `asyncio.WriteTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct WritePipeTransport {
    io: IoTransport<WritePipe>,
}

impl Transport for WritePipeTransport {
    type Kind = WritePipe;

    #[inline]
    fn io(&self) -> &IoTransport<WritePipe> {
        &self.io
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
            let reader_gone = readiness.readable && state.kind.interest(this.phase()).read;
            (reader_gone, !state.kind.output.is_empty(), state.kind.output.is_blocked())
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
        let report = self.with(|state| {
            let TransportState { descriptor, kind: WritePipe { file, output, .. }, .. } = state;
            output.flush(|slices| write(*file, descriptor.fd(), slices))
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
                self.resume_protocol(slf, event_loop)?;
                // `resume_writing()` may have written more.
                let done = flushed == Flushed::All
                    && self.with(|state| {
                        state.kind.output.is_empty() && self.phase() == TransportPhase::Closing
                    })?;
                if done { self.lose(slf, event_loop, None) } else { Ok(()) }
            }
        }
    }

    /// `write()` and `writelines()`
    fn write_chunks(slf: &Bound<'_, Self>, chunks: impl Iterator<Item = Chunk> + Send) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        event_loop.get().disturb()?;
        let mut refused = Vec::new();
        let (written, pauses) = this.with(|state| {
            if this.is_closing() {
                refused.extend(chunks);
                if refused.iter().all(|chunk| chunk.as_ref().is_empty()) {
                    return (Written::Nothing, false);
                }
                state.kind.dropped += 1;
                return (Written::Dropped(state.kind.dropped - 1), false);
            }
            let TransportState { descriptor, kind: WritePipe { file, output, .. }, .. } = state;
            chunks.for_each(|chunk| output.push(chunk));
            if output.is_empty() || output.is_blocked() {
                return (Written::Nothing, output.transition_to_paused());
            }
            let report = output.flush(|slices| write(*file, descriptor.fd(), slices));
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
            this.call_flow_control(slf, event_loop, intern!(py, "pause_writing"))?;
        }
        Ok(())
    }
}

#[cold]
fn not_read() -> PyErr {
    PyNotImplementedError::new_err("this is the writing end of a pipe")
}

/// One vectored write; on a socket one that raises no SIGPIPE.
#[inline]
fn write(file: FileKind, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    if fd < 0 {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let written = lend(fd, |fd| match (file, slices) {
        (FileKind::Socket, slices) => {
            rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
        }
        (_, [only]) => rustix::io::write(fd, only),
        (_, several) => rustix::io::writev(fd, several),
    });
    Ok(written?)
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
        Self::make(event_loop, Self { io: io_on(event_loop, pipe, protocol, extra)? }, waiter)
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
        Self::close_in_order(slf)
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
}
