//! Addresses of hosts: as Python gives them, and as it shows them.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::net::{SocketAddrAny, SocketAddrUnix};

use crate::errors::OrRaise;

/// An address of a host, and its form in messages.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The address.
    pub address: SocketAddrAny,
    /// As the `socket` module has it.
    pub shown: String,
}

impl Candidate {
    /// From an address as [`address_of`] takes it.
    ///
    /// # Errors
    /// As [`address_of`].
    pub fn of(address: &Bound<'_, PyAny>) -> PyResult<Self> {
        let address = address_of(address)?;
        Ok(Self { shown: shown_address(&address), address })
    }
}

/// An address as the `socket` module has it.
pub fn shown_address(address: &SocketAddrAny) -> String {
    if let Ok(address) = SocketAddrV4::try_from(address.clone()) {
        return format!("('{}', {})", address.ip(), address.port());
    }
    match SocketAddrV6::try_from(address.clone()) {
        Ok(address) => format!(
            "('{}', {}, {}, {})",
            address.ip(),
            address.port(),
            u32::from_be(address.flowinfo()),
            address.scope_id()
        ),
        Err(_) => String::from("a Unix-domain socket"),
    }
}

/// An address as Python gives it: `(host, port)` or `(host, port, flow, scope)` with a numeric host, or the bytes of a path.
///
/// # Errors
/// ValueError for a host that is no address, OSError for a path that is too long.
pub fn address_of(address: &Bound<'_, PyAny>) -> PyResult<SocketAddrAny> {
    if let Ok(path) = address.cast::<PyBytes>() {
        let path = path.as_bytes();
        // A name that begins with a NUL is abstract (Linux).
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = path.strip_prefix(b"\0") {
            return Ok(SocketAddrUnix::new_abstract_name(name).or_raise()?.into());
        }
        return Ok(SocketAddrUnix::new(path).or_raise()?.into());
    }
    if let Ok((host, port, flow, scope)) = address.extract::<(String, u16, u32, u32)>() {
        let host = host.parse().map_err(|_| not_numeric(&host))?;
        return Ok(SocketAddrV6::new(host, port, flow.to_be(), scope).into());
    }
    let (host, port): (String, u16) = address.extract()?;
    let host: IpAddr = host.parse().map_err(|_| not_numeric(&host))?;
    Ok(SocketAddr::new(host, port).into())
}

fn not_numeric(host: &str) -> PyErr {
    PyValueError::new_err(format!("{host:?} is no address in numbers"))
}

/// The addresses with the families in turn: places in `families`, the family of each address. The first family comes `first`
/// times, then one of each (RFC 8305, section 4).
#[pyfunction]
pub fn interleaved(families: Vec<u16>, first: usize) -> Vec<usize> {
    whorl_core::client::race::interleaved(&families, first)
}
