//! Where a datagram goes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use rustix::net::{AddressFamily, SocketAddrAny};

/// The destination of one datagram.
#[derive(Debug)]
pub enum Destination {
    /// The peer that the socket is connected to.
    Connected,
    /// An address in digits.
    Native(SocketAddrAny),
    /// Anything else: the socket object reads it, resolves it, or refuses it.
    Python(Py<PyAny>),
}

impl Destination {
    /// What to hand to `sock.sendto`; nothing for the connected peer.
    pub fn to_python(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Python(address) => Some(address.clone_ref(py)),
            Self::Connected | Self::Native(_) => None,
        }
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Python(address) => visit.call(address),
            Self::Connected | Self::Native(_) => Ok(()),
        }
    }
}

/// Reads an address in digits, of a socket of `family`. What is not plainly one is left to the socket object.
pub fn parse(address: &Bound<'_, PyAny>, family: Option<AddressFamily>) -> Destination {
    let native = address.cast_exact::<PyTuple>().ok().and_then(|address| match family {
        Some(AddressFamily::INET) => parse_v4(address).map(SocketAddrAny::from),
        Some(AddressFamily::INET6) => parse_v6(address).map(SocketAddrAny::from),
        _ => None,
    });
    native.map_or_else(|| Destination::Python(address.clone().unbind()), Destination::Native)
}

fn host<T: std::str::FromStr>(address: &Bound<'_, PyTuple>) -> Option<T> {
    let host = address.get_item(0).ok()?;
    host.cast_exact::<PyString>().ok()?.to_str().ok()?.parse().ok()
}

fn number<'py, T: for<'a> FromPyObject<'a, 'py>>(address: &Bound<'py, PyTuple>, index: usize) -> Option<T> {
    let number = address.get_item(index).ok()?;
    number.cast_exact::<PyInt>().ok()?.extract().ok()
}

fn parse_v4(address: &Bound<'_, PyTuple>) -> Option<SocketAddrV4> {
    if address.len() != 2 {
        return None;
    }
    Some(SocketAddrV4::new(host::<Ipv4Addr>(address)?, number(address, 1)?))
}

fn parse_v6(address: &Bound<'_, PyTuple>) -> Option<SocketAddrV6> {
    let len = address.len();
    if !(2..=4).contains(&len) {
        return None;
    }
    let flow: u32 = if len > 2 { number(address, 2)? } else { 0 };
    let scope: u32 = if len > 3 { number(address, 3)? } else { 0 };
    if flow > 0xf_ffff {
        // The socket module refuses it by name.
        return None;
    }
    // The flow label is in network byte order in a sockaddr, as the socket module puts it there.
    Some(SocketAddrV6::new(host::<Ipv6Addr>(address)?, number(address, 1)?, flow.to_be(), scope))
}
