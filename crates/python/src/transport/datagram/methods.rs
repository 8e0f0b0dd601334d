//! What Python sees of the datagram transport alone.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::net::AddressFamily;
use whorl_core::net::DatagramQueue;

use super::{Arrival, ConnectedPeer, Datagram, DatagramTransport, header};
use crate::event_loop::EventLoop;
use crate::fd::lend;
use crate::ffi::copy_context;
use crate::transport::base::{Descriptor, IoTransport, Transport};
use crate::transport::extra_info::ExtraInfo;
use crate::transport::output::OutputSide;
use crate::transport::socket::Socket;
use crate::transport::states::ReadState;

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
        let socket = Socket::from_python(sock)?;
        let info = ExtraInfo::of(&socket, extra)?;
        let address = address.map(|address| Ok::<_, PyErr>((address.is_truthy()?, address))).transpose()?;
        let native =
            matches!(info.family(), Some(AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX));
        let peer = if info.has_named_peer() {
            ConnectedPeer::Named
        } else if lend(socket.fd(), |fd| rustix::net::getpeername(fd)).is_ok() {
            ConnectedPeer::Unnamed
        } else {
            ConnectedPeer::None
        };
        let kind = Datagram {
            reading: ReadState::On,
            arrival: Arrival::Single(0),
            output: OutputSide::new(DatagramQueue::new(header())),
            peer: None,
            info,
            dropped: 0,
        };
        let transport = Self {
            io: IoTransport::new(event_loop, copy_context(event_loop.py())?, socket, protocol, kind)?,
            address: address.and_then(|(given, address)| given.then(|| address.unbind())),
            connected_peer: peer,
            native,
        };
        Self::make(event_loop, transport, waiter)
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

    #[getter]
    fn _address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }
}
