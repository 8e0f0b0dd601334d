//! What Python sees of the datagram transport.

use std::os::fd::RawFd;

use crossbeam_utils::atomic::AtomicCell;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::net::AddressFamily;
use whorl_core::net::{DatagramQueue, Flow, WaterMarks};
use whorl_core::sched::OwnerCell;

use super::{Arrival, DatagramTransport, Output, State, header};
use crate::event_loop::{EventLoop, IoHandle, Source};
use crate::ffi::copy_context;
use crate::interpreter::Collector;
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::extra_info::{ExtraInfo, HasExtraInfo};
use crate::transport::socket::Socket;
use crate::transport::states::{ReadState, TransportPhase};

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
        let info = ExtraInfo::of(&socket, extra)?;
        let address = address.map(|address| Ok::<_, PyErr>((address.is_truthy()?, address))).transpose()?;
        let native =
            matches!(info.family(), Some(AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX));
        // A peer without a name cannot be sent to by its name: asyncio takes that for not connected.
        let connected = info.has_named_peer();
        let state = State {
            socket,
            token: None,
            protocol: Some(protocol.clone().unbind()),
            receiver: None,
            reading: ReadState::NotStarted,
            arrival: Arrival::Single(0),
            output: Output::Idle,
            queue: DatagramQueue::new(header()),
            marks: WaterMarks::default(),
            flow: Flow::Open,
            peer: None,
            info,
            dropped: 0,
        };
        let transport = Self {
            event_loop: event_loop.clone().unbind(),
            context: copy_context(py)?,
            address: address.and_then(|(given, address)| given.then(|| address.unbind())),
            connected,
            native,
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
        let registration = this.with(|state| {
            state.reading.start();
            let phase = this.phase.load();
            (phase != TransportPhase::Lost).then(|| (state.socket.fd(), state.interest(phase)))
        })?;
        if let Some((fd, interest)) = registration {
            match event_loop.get().register(fd, interest, Source::Io(IoHandle::new(slf))) {
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
        let result = common::connection_lost(protocol.as_ref(), error);
        let (socket, _peer) = this.with(|state| (state.socket.take(), state.peer.take()))?;
        let closed = socket.close(py)?;
        this.with(|state| state.socket = closed)?;
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
        Self::send(slf, data, addr)
    }

    /// Return information about the endpoint: 'socket' (an asyncio.TransportSocket), 'sockname', 'peername'; `default` for
    /// any other name.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        slf.get().extra_info(slf.py(), name, default)
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
    fn is_closing(&self) -> bool {
        self.phase.load() != TransportPhase::Open
    }

    /// Close the transport: nothing more is received, what waits is sent, then `connection_lost(None)` is called.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        match this.with(|state| TransportPhase::transition_to_closing(&this.phase).then_some(state.output))? {
            None => Ok(()),
            Some(Output::Blocked) => this.update_interest(event_loop),
            Some(Output::Idle) => this.lose(slf, event_loop, None),
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
        self.with(|state| self.phase.load() == TransportPhase::Open && state.reading != ReadState::Paused)
    }

    /// Stop calling `datagram_received()` until `resume_reading()`. Does nothing while paused or closing.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if this.phase.load() == TransportPhase::Open {
                state.reading.pause();
            }
        })?;
        this.update_interest(this.loop_of(slf.py()))
    }

    /// Go on calling `datagram_received()`. Does nothing unless paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if this.phase.load() == TransportPhase::Open {
                state.reading.resume();
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
        let marks = common::water_marks(high, low, WaterMarks::default().high())?;
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

    /// Whether `pause_reading()` was called; some programs read it, as asyncio's class has it.
    #[getter]
    fn _paused(&self) -> PyResult<bool> {
        self.with(|state| state.reading == ReadState::Paused)
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
                format!(
                    "<DatagramTransport fd={} {} reading={:?} write_buffer={}>",
                    state.socket.fd(),
                    self.phase.load().describe(),
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
            .visit(Collector::of(&visit), |state, visit| {
                state.socket.visit(&visit)?;
                visit.call(&state.protocol)?;
                visit.call(&state.receiver)?;
                state.info.visit(&visit)?;
                if let Some(peer) = &state.peer {
                    visit.call(&peer.python)?;
                }
                state.queue.destinations().try_for_each(|destination| destination.visit(&visit))
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        let _protocol = self.state.with(|state| (state.protocol.take(), state.receiver.take()));
        let _info = self.state.with(|state| state.info.take_objects());
    }
}
