//! TLS: a protocol over a stream transport, and the transport that the application sees.
//!
//! The engine is the interpreter's own OpenSSL, through a real `ssl.SSLObject` of the user's `ssl.SSLContext`: everything that a
//! context can be told (server names, ALPN, client certificates, key logging, ...) holds. Handshake and shutdown go through
//! the object's methods, so that their exceptions are the `ssl` module's. Data goes through an [`engine::Engine`].
//!
//! Who may touch what: [`TlsProtocol`]'s state belongs to the loop's thread, as that of every transport. OpenSSL may call
//! Python (a message callback, a key log), so nothing is asked of the engine while that state is open; what keeps other
//! threads away from the engine is the guard of the loop's owner, which every use of it takes.

mod engine;
mod handshake;
mod libssl;
mod native;
mod object;
mod pipe;
mod protocol;
mod reading;
mod shutdown;
mod transport;
mod writing;

pub use protocol::{HandshakeWaiter, Notified, TlsOptions, TlsProtocol, TlsSide};
pub use transport::TlsTransport;
