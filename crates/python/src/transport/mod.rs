//! Transports: bytes between a descriptor and a protocol.
//!
//! A transport's life is a few enums side by side: its phase, how it reads, how it writes, and what its output waits for. Each
//! is changed by named steps. Only the phase is asked for on other threads, and is an atomic; it changes with the state open.
//!
//! At its end, by `close()`, an error or the peer's end, the descriptor leaves the poller before anything else,
//! `connection_lost()` is scheduled once, and the socket is closed after it.

mod address;
mod chunk;
mod common;
mod datagram;
mod destination;
mod ending;
mod extra_info;
mod listener;
mod native;
mod output;
mod pipe;
mod protocol;
mod socket;
mod states;
mod stream;
mod tls;

use pyo3::prelude::*;

use crate::interpreter::add_class;

pub use chunk::Chunk;
pub use common::set_result;
pub use datagram::DatagramTransport;
pub use listener::Listener;
pub use native::{NativeProtocol, Received, register};
pub use pipe::{ReadPipeTransport, WritePipeTransport};
pub use stream::StreamTransport;
pub use tls::{TlsProtocol, TlsTransport};

/// Adds the transports' classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<StreamTransport>(module)?;
    add_class::<DatagramTransport>(module)?;
    add_class::<ReadPipeTransport>(module)?;
    add_class::<WritePipeTransport>(module)?;
    add_class::<TlsProtocol>(module)?;
    register::<TlsProtocol>();
    add_class::<TlsTransport>(module)?;
    add_class::<Listener>(module)
}
