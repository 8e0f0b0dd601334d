//! The reading end of a pipe.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use whorl_core::reactor::{Interest, Readiness};

use super::{FileKind, Pipe, PipeKind, io_on};
use crate::errors::IntoPyErr;
use crate::event_loop::{EventLoop, IoObject};
use crate::fd::lend;
use crate::ffi::Call;
use crate::interpreter::CloneWith;
use crate::transport::base::{Descriptor, IoTransport, Transport, TransportKind, TransportState};
use crate::transport::common;
use crate::transport::delivery::Delivers;
use crate::transport::ending::Ending;
use crate::transport::flow::ReadKind;
use crate::transport::protocol::LateBound;
use crate::transport::states::{ReadState, TransportPhase};

/// What the reading end of a pipe has in its state.
#[derive(Debug)]
pub struct ReadPipe {
    reading: ReadState,
    extra: Option<Py<PyDict>>,
}

impl TransportKind for ReadPipe {
    type Descriptor = Pipe;
    type Protocol = LateBound;
    type Unsent = ();

    const NAME: &'static str = "ReadPipeTransport";
    const NOT_WATCHED: &'static str = "The pipe cannot be watched";
    const LEAVES_WHILE_IDLE: bool = true;

    fn interest(&self, phase: TransportPhase) -> Interest {
        Interest { read: self.reading == ReadState::On && phase == TransportPhase::Open, write: false }
    }

    fn has_unsent(&self) -> bool {
        false
    }

    fn take_unsent(_state: &mut TransportState<Self>) {}

    fn describe(&self) -> String {
        format!("reading={:?}", self.reading)
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)
    }

    fn take_objects(&mut self) -> Vec<Py<PyAny>> {
        self.extra.take().map(Py::into_any).into_iter().collect()
    }

    /// EIO: how a terminal's other end goes away.
    fn is_expected(py: Python<'_>, error: &PyErr) -> bool {
        let errno = error.value(py).getattr(intern!(py, "errno"));
        errno.and_then(|errno| errno.extract::<i32>()).is_ok_and(|errno| errno == libc::EIO)
    }
}

impl ReadKind for ReadPipe {
    fn reading(&mut self) -> &mut ReadState {
        &mut self.reading
    }
}

impl PipeKind for ReadPipe {
    const REFUSAL: &'static str = "Pipe transport is for pipes/sockets only.";

    fn new(_file: FileKind, extra: Py<PyDict>) -> Self {
        Self { reading: ReadState::On, extra: Some(extra) }
    }

    fn extra(&self) -> Option<&Py<PyDict>> {
        self.extra.as_ref()
    }
}

/// The reading end of a pipe, made by `connect_read_pipe()`. Source of the semantics: `asyncio.ReadTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct ReadPipeTransport {
    io: IoTransport<ReadPipe>,
}

impl Transport for ReadPipeTransport {
    type Kind = ReadPipe;

    #[inline]
    fn io(&self) -> &IoTransport<ReadPipe> {
        &self.io
    }

    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        py.import(intern!(py, "asyncio.transports"))?.getattr(intern!(py, "ReadTransport"))
    }
}

impl IoObject for ReadPipeTransport {
    fn on_ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        _readiness: Readiness,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // A bytes object is not tracked by the garbage collector: nothing foreign runs while the buffer is open.
        let received = event_loop.get().with_read_buffer(py, |buffer, at| {
            this.with_attached(at, |state, at| {
                let fd = Some(state.descriptor.fd()).filter(|fd| *fd >= 0)?;
                if !state.kind.interest(this.phase()).read {
                    return None;
                }
                Some(lend(fd, |fd| rustix::io::read(fd, &mut buffer[..])).map(|size| {
                    let data = (size > 0).then(|| at.new_bytes(buffer.get(..size).unwrap_or_default()));
                    let receiver = state.protocol.as_ref().and_then(|protocol| protocol.receiver.as_ref());
                    data.map(|data| (data, receiver.map(|receiver| receiver.clone_with(at))))
                }))
            })
        });
        match received?? {
            None | Some(Err(Errno::AGAIN | Errno::INTR)) => Ok(()),
            Some(Ok(Some((data, receiver)))) => {
                let method = intern!(py, "data_received");
                this.deliver(slf, event_loop, receiver, method, [data.bind(py).as_any()])
            }
            Some(Ok(None)) => this.read_eof(slf, event_loop),
            Some(Err(error)) => {
                this.fatal(slf, event_loop, error.into_py_err(), "Fatal read error on pipe transport")
            }
        }
    }
}

impl ReadPipeTransport {
    fn read_eof(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        if let Some(protocol) = self.protocol(py)? {
            match protocol.bind(py).getattr(intern!(py, "eof_received")) {
                Ok(method) => common::schedule(event_loop, self.context(), Call::of(method.unbind()))?,
                Err(error) => {
                    let message = "Exception in protocol.eof_received()";
                    common::report(event_loop, slf, Some(protocol), message, error)?;
                }
            }
        }
        self.lose(slf, event_loop, None)
    }
}

#[pymethods]
impl ReadPipeTransport {
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
}
