//! The reading end of a pipe.

use crossbeam_utils::atomic::AtomicCell;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use whorl_core::reactor::{Interest, Readiness, Token};
use whorl_core::sched::OwnerCell;

use super::{Pipe, TransportPhase};
use crate::errors::{IntoPyErr, OrRaise};
use crate::event_loop::{EventLoop, IoHandle, IoObject, Source};
use crate::ffi::{Call, call_in_context, copy_context};
use crate::interpreter::{Attached, CloneWith, Collector};
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::states::ReadState;

/// What belongs to the loop's thread.
#[derive(Debug)]
struct State {
    pipe: Pipe,
    token: Option<Token>,
    protocol: Option<Py<PyAny>>,
    /// `protocol.data_received`, once data has come.
    receiver: Option<Py<PyAny>>,
    reading: ReadState,
    extra: Option<Py<PyDict>>,
}

/// What the registration with the poller has to become.
enum Change {
    None,
    Register(i32),
    Unregister(Token),
}

/// The reading end of a pipe, made by `connect_read_pipe()`. Source of the semantics: `asyncio.ReadTransport`.
#[pyclass(frozen, dict, weakref, module = "whorl._core")]
#[derive(Debug)]
pub struct ReadPipeTransport {
    event_loop: Py<EventLoop>,
    context: Py<PyAny>,
    phase: AtomicCell<TransportPhase>,
    state: OwnerCell<State>,
}

impl ReadPipeTransport {
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

    fn wants(&self, state: &State) -> bool {
        state.reading == ReadState::On && self.phase.load() == TransportPhase::Open
    }

    fn loop_of<'py>(&self, py: Python<'py>) -> &Bound<'py, EventLoop> {
        self.event_loop.bind(py)
    }

    /// Registers with the poller while data is wanted. A paused pipe is not registered at all: the kernel reports a writer
    /// that has gone even to who asked for nothing, again and again.
    fn update_registration(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let this = slf.get();
        let change = this.with(|state| match (this.wants(state), state.token) {
            (true, None) => Change::Register(state.pipe.fd()),
            (false, Some(token)) => {
                state.token = None;
                Change::Unregister(token)
            }
            _ => Change::None,
        })?;
        match change {
            Change::None => Ok(()),
            Change::Unregister(token) => event_loop.get().unregister(token).map(drop),
            Change::Register(fd) => {
                let source = Source::Io(IoHandle::new(slf));
                let token = event_loop.get().register(fd, Interest::READ, source)?;
                this.with(|state| state.token = Some(token))
            }
        }
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
                let fd = state.pipe.borrow().filter(|_| this.wants(state))?;
                Some(rustix::io::read(fd, &mut buffer[..]).map(|size| {
                    let data = (size > 0).then(|| at.new_bytes(buffer.get(..size).unwrap_or_default()));
                    data.map(|data| (data, state.receiver.as_ref().map(|receiver| receiver.clone_with(at))))
                }))
            })
        });
        match received?? {
            None | Some(Err(Errno::AGAIN | Errno::INTR)) => Ok(()),
            Some(Ok(Some((data, receiver)))) => {
                let receiver = receiver.map_or_else(|| this.receiver(py), |receiver| Ok(Some(receiver)));
                let handed = receiver.and_then(|receiver| match receiver {
                    Some(receiver) => {
                        call_in_context(py, &this.context, &receiver, [data.bind(py).as_any()]).map(drop)
                    }
                    None => Ok(()),
                });
                match handed {
                    Ok(()) => Ok(()),
                    // asyncio's transport lives on, too.
                    Err(error) => {
                        let message = "Exception in protocol.data_received()";
                        common::report(event_loop, slf, this.protocol(py)?, message, error)
                    }
                }
            }
            Some(Ok(None)) => this.read_eof(slf, event_loop),
            Some(Err(error)) => {
                this.fatal(slf, event_loop, error.into_py_err(), "Fatal read error on pipe transport")
            }
        }
    }
}

impl ReadPipeTransport {
    /// Looks `protocol.data_received` up, for this time and the next ones.
    fn receiver(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(protocol) = self.protocol(py)? else { return Ok(None) };
        let receiver = protocol.bind(py).getattr(intern!(py, "data_received"))?.unbind();
        let kept = receiver.clone_ref(py);
        let _former = self.with(|state| state.receiver.replace(kept))?;
        Ok(Some(receiver))
    }

    fn read_eof(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        if let Some(protocol) = self.protocol(py)? {
            match protocol.bind(py).getattr(intern!(py, "eof_received")) {
                Ok(method) => common::schedule(event_loop, &self.context, Call::of(method.unbind()))?,
                Err(error) => {
                    let message = "Exception in protocol.eof_received()";
                    common::report(event_loop, slf, Some(protocol), message, error)?;
                }
            }
        }
        self.lose(slf, event_loop, None)
    }
}

impl Ending for ReadPipeTransport {
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
        Ok(())
    }

    fn unwatch(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        Self::update_registration(slf, event_loop)
    }

    /// EIO: how a terminal's other end goes away.
    fn is_expected(py: Python<'_>, error: &PyErr) -> bool {
        let errno = error.value(py).getattr(intern!(py, "errno"));
        errno.and_then(|errno| errno.extract::<i32>()).is_ok_and(|errno| errno == libc::EIO)
    }
}

impl Drop for ReadPipeTransport {
    /// A transport that nobody closed, and nobody holds: said as asyncio says it, and its file is closed.
    fn drop(&mut self) {
        let pipe = std::mem::replace(&mut self.state.get_mut().pipe, Pipe::Closed);
        if !matches!(pipe, Pipe::Closed) {
            Python::attach(|py| pipe.close_unclosed(py, "ReadPipeTransport"));
        }
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
        let py = event_loop.py();
        let (taken, _) = Pipe::new(pipe, "Pipe transport is for pipes/sockets only.")?;
        let extra = extra.map_or_else(|| Ok(PyDict::new(py)), |extra| extra.copy())?;
        extra.set_item(intern!(py, "pipe"), pipe)?;
        let state = State {
            pipe: taken,
            token: None,
            protocol: Some(protocol.clone().unbind()),
            receiver: None,
            reading: ReadState::NotStarted,
            extra: Some(extra.unbind()),
        };
        let transport = Self {
            event_loop: event_loop.clone().unbind(),
            context: copy_context(py)?,
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
        this.with(|state| state.reading.start())?;
        if let Err(error) = Self::update_registration(slf, event_loop) {
            common::report(
                event_loop,
                slf,
                this.protocol(py)?,
                "The pipe cannot be watched",
                error.clone_ref(py),
            )?;
            this.lose(slf, event_loop, Some(error))?;
        }
        if waiter.is_none() { Ok(()) } else { common::set_result(waiter) }
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (protocol, _receiver) = this.with(|state| (state.protocol.take(), state.receiver.take()))?;
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

    /// Set a new protocol; data goes to it from now on.
    fn set_protocol(&self, protocol: Py<PyAny>) -> PyResult<()> {
        let _former = self.with(|state| (state.protocol.replace(protocol), state.receiver.take()))?;
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

    /// Close the transport: nothing more is read, then `connection_lost(None)` is called.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.lose(slf, this.loop_of(slf.py()), None)
    }

    /// Return True if data is being received.
    fn is_reading(&self) -> PyResult<bool> {
        self.with(|state| self.phase.load() == TransportPhase::Open && state.reading != ReadState::Paused)
    }

    /// Stop calling `data_received()` until `resume_reading()`. Does nothing while paused or closing.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if this.phase.load() == TransportPhase::Open {
                state.reading.pause();
            }
        })?;
        Self::update_registration(slf, this.loop_of(slf.py()))
    }

    /// Go on calling `data_received()`. Does nothing unless paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if this.phase.load() == TransportPhase::Open {
                state.reading.resume();
            }
        })?;
        Self::update_registration(slf, this.loop_of(slf.py()))
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

    /// Whether `pause_reading()` was called; some programs read it, as asyncio's class has it.
    #[getter]
    fn _paused(&self) -> PyResult<bool> {
        self.with(|state| state.reading == ReadState::Paused)
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.protocol(py)
    }

    /// The class that `isinstance()` sees beside the true one, so that it is an `asyncio.ReadTransport` as well.
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let class = CLASS.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
            Ok(py.import("asyncio")?.getattr("ReadTransport")?.unbind())
        })?;
        Ok(class.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        self.state
            .with(|state| {
                let (fd, phase) = (state.pipe.fd(), self.phase.load().describe());
                format!("<ReadPipeTransport fd={fd} {phase} reading={:?}>", state.reading)
            })
            .unwrap_or_else(|refused| format!("<ReadPipeTransport: {refused}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        self.state
            .visit(Collector::of(&visit), |state, visit| {
                state.pipe.visit(&visit)?;
                visit.call(&state.protocol)?;
                visit.call(&state.receiver)?;
                visit.call(&state.extra)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.state.with(|state| (state.protocol.take(), state.receiver.take()));
        let _extra = self.state.with(|state| state.extra.take());
    }
}
