//! Transports: bytes between a descriptor and a protocol.
//!
//! The four classes over a descriptor (stream, datagram, and the two ends of a pipe) are one struct, `IoTransport<K>`, of
//! which `K` is the kind: what only this one has. What they do alike is written once, as provided methods of a trait whose
//! bound says what a kind needs for it:
//!
//! | file | what is shared | by |
//! | --- | --- | --- |
//! | `base.rs` | state, registration with the poller, start, end, repr, the collector's visit | all |
//! | `ending.rs` | fatal errors, closing at once, `connection_lost()` | all |
//! | `flow.rs` | pausing the reading; water marks and the protocol's flow control | those that read; those that write |
//! | `delivery.rs` | the call of a method that is looked up late | datagram, pipes |
//! | `extra_info.rs`, `pipe/mod.rs` | `get_extra_info()` and the object below | sockets; pipes |
//! | `methods.rs` | the Python methods, given to each class by a macro | all |
//!
//! All of it is monomorphic: a transport is called through the loop's static table once for each event, and nothing after
//! that is looked up. The transport under TLS is no transport over a descriptor: it stands on a stream, and its state is its
//! protocol's.
//!
//! A transport's state is a few enums: its phase, whether it is watched, how it reads, how it writes, and what
//! its output waits for. Each is changed by named steps. Only the phase is asked for on other threads, and is an atomic; it
//! changes with the state open.
//!
//! At its end, by `close()`, an error or the peer's end, the descriptor leaves the poller before anything else,
//! `connection_lost()` is scheduled once, and the socket is closed after it.

mod address;
mod base;
mod chunk;
mod common;
mod connect;
mod datagram;
mod delivery;
mod destination;
mod ending;
mod extra_info;
mod flow;
mod listener;
mod methods;
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

pub use base::Transport;
pub use chunk::Chunk;
pub use common::{set_exception, set_result};
pub use connect::{Begun, ConnectAttempt, ConnectError, connect, over_connected};
pub use datagram::DatagramTransport;
pub use listener::Listener;
pub use native::{NativeProtocol, Received, register};
pub use pipe::{ReadPipeTransport, WritePipeTransport};
pub use stream::StreamTransport;
pub use tls::{TlsClient, TlsProtocol, TlsTransport, start_client};

/// Adds the transports' classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<StreamTransport>(module)?;
    add_class::<DatagramTransport>(module)?;
    add_class::<ReadPipeTransport>(module)?;
    add_class::<WritePipeTransport>(module)?;
    add_class::<TlsProtocol>(module)?;
    register::<TlsProtocol>();
    add_class::<TlsTransport>(module)?;
    add_class::<ConnectAttempt>(module)?;
    add_class::<Listener>(module)
}
