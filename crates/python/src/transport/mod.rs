//! Transports: bytes between a descriptor and a protocol.

mod address;
mod chunk;
mod listener;
mod protocol;
mod socket;
mod stream;
mod tls;

use pyo3::prelude::*;

pub use listener::Listener;
pub use stream::StreamTransport;
pub use tls::{TlsProtocol, TlsTransport};

/// Adds the transports' classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StreamTransport>()?;
    module.add_class::<TlsProtocol>()?;
    module.add_class::<TlsTransport>()?;
    module.add_class::<Listener>()
}
