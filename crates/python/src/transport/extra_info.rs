//! What `get_extra_info()` returns for a transport over a socket.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::net::AddressFamily;

use super::address::Address;
use super::base::{Descriptor, Transport, TransportKind};
use super::socket::{Socket, SocketObject};
use crate::fd::lend;
use crate::interpreter::CloneWith;

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Ours.
    Own,
    /// The other one.
    Peer,
}

/// What is known of a socket, made into Python's form on request.
#[derive(Debug)]
pub struct ExtraInfo {
    sockname: Address,
    /// None if there is no peer, or it was gone before it could be asked.
    peername: Option<Address>,
    /// What the loop added.
    added: Option<Py<PyDict>>,
    /// The `asyncio.TransportSocket`, once it has been asked for.
    wrapped: Option<Py<PyAny>>,
}

impl ExtraInfo {
    /// Of a socket whose addresses are known already.
    pub const fn new(sockname: Address, peername: Option<Address>) -> Self {
        Self { sockname, peername, added: None, wrapped: None }
    }

    /// Of `socket`, which is asked for its addresses; `added` comes first.
    ///
    /// # Errors
    /// What copying `added` raises.
    pub fn of(socket: &Socket, added: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let added = added.map(|added| added.copy().map(Bound::unbind)).transpose()?;
        let sockname = lend(socket.fd(), |fd| rustix::net::getsockname(fd))
            .map_or(Address::Other, |address| Address::new(&address));
        let peername = match lend(socket.fd(), |fd| rustix::net::getpeername(fd)) {
            Ok(Some(address)) => Some(Address::new(&address)),
            Ok(None) => Some(Address::Unnamed),
            Err(_) => None,
        };
        Ok(Self { added, ..Self::new(sockname, peername) })
    }

    /// The address family, where it is one of the usual ones.
    pub const fn family(&self) -> Option<AddressFamily> {
        self.sockname.family()
    }

    /// Whether there is a peer, and it has a name.
    pub const fn has_named_peer(&self) -> bool {
        !matches!(self.peername, None | Some(Address::Unnamed))
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.added)?;
        visit.call(&self.wrapped)
    }

    /// Drops the objects, which are returned for a place where dropping is allowed.
    #[must_use]
    pub fn take_objects(&mut self) -> Vec<Py<PyAny>> {
        self.added.take().map(Py::into_any).into_iter().chain(self.wrapped.take()).collect()
    }
}

/// A kind of transport over a socket.
pub trait SocketKind: TransportKind<Descriptor = Socket> {
    /// What is known of the socket.
    fn info(&mut self) -> &mut ExtraInfo;
}

/// What the transports over a socket share.
pub trait SocketTransport: Transport<Kind: SocketKind> {
    /// The `socket.socket`, None once it is closed. Made if there was none: with the state closed and the descriptor in its
    /// place, as that runs Python.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; what making the object raises.
    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let unmade = match self.with_attached(py, |state, at| state.descriptor.object(at))? {
            SocketObject::Known(object) => return Ok(object),
            SocketObject::Unmade(unmade) => unmade,
        };
        let made = unmade.make(py)?;
        let mut given = Some(made.clone().unbind());
        match self.with(|state| state.descriptor.transition_to_python(unmade, &mut given)) {
            Ok(true) => Ok(Some(made.unbind())),
            // What ran meanwhile has made another one, or closed the transport.
            Ok(false) => {
                unmade.disown(&made);
                match self.with_attached(py, |state, at| state.descriptor.object(at))? {
                    SocketObject::Known(object) => Ok(object),
                    SocketObject::Unmade(_) => Ok(None),
                }
            }
            Err(error) => {
                unmade.disown(&made);
                Err(error)
            }
        }
    }

    /// `get_extra_info()`: what the loop added, then 'socket', 'sockname' and 'peername'; `default` for any other name.
    ///
    /// # Errors
    /// As [`SocketTransport::socket_object`].
    fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let added = self.with_attached(py, |state, at| {
            state.kind.info().added.as_ref().map(|added| added.clone_with(at))
        })?;
        if let Some(value) = added.map(|added| added.bind(py).get_item(name)).transpose()?.flatten() {
            return Ok(Some(value));
        }
        match name {
            "socket" => transport_socket(self, py),
            "sockname" => address(self, py, End::Own),
            // asyncio has the key and its value is None when the peer was gone before it could be asked.
            "peername" => address(self, py, End::Peer),
            _ => Ok(default),
        }
    }
}

impl<T: Transport<Kind: SocketKind>> SocketTransport for T {}

fn address<'py, T: SocketTransport>(
    transport: &T,
    py: Python<'py>,
    end: End,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let address = transport.with(|state| match end {
        End::Own => Some(state.kind.info().sockname.clone()),
        End::Peer => state.kind.info().peername.clone(),
    })?;
    let Some(address) = address else { return Ok(None) };
    if let Some(address) = address.to_python(py)? {
        return Ok(Some(address));
    }
    let Some(socket) = transport.socket_object(py)? else { return Ok(None) };
    let method = match end {
        End::Own => intern!(py, "getsockname"),
        End::Peer => intern!(py, "getpeername"),
    };
    Ok(socket.bind(py).call_method0(method).ok())
}

fn transport_socket<'py, T: SocketTransport>(
    transport: &T,
    py: Python<'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let known = transport.with_attached(py, |state, at| {
        state.kind.info().wrapped.as_ref().map(|wrapped| wrapped.clone_with(at))
    })?;
    if let Some(known) = known {
        return Ok(Some(known.into_bound(py)));
    }
    let Some(socket) = transport.socket_object(py)? else { return Ok(None) };
    let wrapped =
        py.import(intern!(py, "asyncio.trsock"))?.call_method1(intern!(py, "TransportSocket"), (socket,))?;
    let kept = wrapped.clone().unbind();
    // Making it ran Python, which may have asked as well.
    let _previous = transport.with(|state| state.kind.info().wrapped.replace(kept))?;
    Ok(Some(wrapped))
}
