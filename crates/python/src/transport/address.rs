//! Socket addresses, kept small and made into Python's form on request.

use std::mem::offset_of;
use std::net::{SocketAddrV4, SocketAddrV6};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

/// One end's address.
#[derive(Clone, Debug)]
pub enum Address {
    /// `(host, port)`
    V4(SocketAddrV4),
    /// `(host, port, flowinfo, scope_id)`
    V6(SocketAddrV6),
    /// A path.
    Path(Box<[u8]>),
    /// An abstract name (Linux), without its leading NUL.
    Abstract(Box<[u8]>),
    /// A Unix socket without a name.
    Unnamed,
    /// A family that is none of these: asked of the socket object itself.
    Other,
}

impl Address {
    /// From the kernel's.
    pub fn new(address: &SocketAddrAny) -> Self {
        match address.address_family() {
            AddressFamily::INET => SocketAddrV4::try_from(address.clone()).map_or(Self::Other, Self::V4),
            AddressFamily::INET6 => SocketAddrV6::try_from(address.clone()).map_or(Self::Other, Self::V6),
            AddressFamily::UNIX => Self::unix(address),
            _ => Self::Other,
        }
    }

    fn unix(address: &SocketAddrAny) -> Self {
        let length = address.addr_len() as usize;
        if length <= offset_of!(libc::sockaddr_un, sun_path) {
            // rustix makes an abstract name of no bytes of it, which is a name that a socket can have.
            return Self::Unnamed;
        }
        if length > size_of::<libc::sockaddr_un>() {
            // Linux reports the NUL behind a path that fills the whole field, which rustix panics at.
            return Self::Other;
        }
        let Ok(unix) = SocketAddrUnix::try_from(address.clone()) else { return Self::Other };
        if let Some(path) = unix.path_bytes() {
            // Where the NUL is the last byte of the field, rustix takes it for a part of the path.
            return Self::Path(path.split(|byte| *byte == 0).next().unwrap_or_default().into());
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = unix.abstract_name() {
            return Self::Abstract(name.into());
        }
        Self::Unnamed
    }

    /// The address family, where it is one of the usual ones.
    pub const fn family(&self) -> Option<AddressFamily> {
        match self {
            Self::V4(_) => Some(AddressFamily::INET),
            Self::V6(_) => Some(AddressFamily::INET6),
            Self::Path(_) | Self::Abstract(_) | Self::Unnamed => Some(AddressFamily::UNIX),
            Self::Other => None,
        }
    }

    /// As the `socket` module gives it; nothing for a family that it has to be asked about.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(match self {
            Self::V4(address) => (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any(),
            Self::V6(address) => {
                let flow = u32::from_be(address.flowinfo());
                (address.ip().to_string(), address.port(), flow, address.scope_id())
                    .into_pyobject(py)?
                    .into_any()
            }
            Self::Path(path) => os_string(py, path)?,
            Self::Abstract(name) => {
                let mut bytes = vec![0];
                bytes.extend_from_slice(name);
                PyBytes::new(py, &bytes).into_any()
            }
            Self::Unnamed => PyString::new(py, "").into_any(),
            Self::Other => return Ok(None),
        }))
    }
}

fn os_string<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    use std::os::unix::ffi::OsStrExt;
    Ok(std::ffi::OsStr::from_bytes(bytes).into_pyobject(py)?.into_any())
}
