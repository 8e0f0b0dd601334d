//! TLS: a protocol over a stream transport, and the transport that the application sees.
//!
//! The engine is the interpreter's own OpenSSL, through a real `ssl.SSLObject` of the user's `ssl.SSLContext`: everything that a
//! context can be set to (server names, ALPN, client certificates, key logging, ...) holds. Handshake and shutdown are methods of
//! that module's, so that their exceptions are its own. Data goes through an [`engine::Engine`].
//!
//! Threads: [`TlsProtocol`]'s state belongs to the loop's thread, as that of every transport. OpenSSL may call
//! Python (a message callback, a server name callback), so nothing is asked of the engine while that state is open; what keeps
//! other threads away from the engine is the guard of the loop's owner, which every use of it takes. What OpenSSL calls may
//! write on the connection, or close it: the engine is for one use at a time ([`engine::EngineCell`]), and what would be a second
//! one is done in the next turn. The user has the `ssl.SSLObject` too: what it does with the native engine's connection takes
//! the same way ([`guarded`]).
//!
//! | engine | how | when |
//! |---|---|---|
//! | [`native`] | `SSL_read_ex` and `SSL_write_ex` on the object's own `SSL *`, with a BIO of ours ([`pipe`]) | the default |
//! | [`object`] | the object's `read` and `write`, over two `ssl.MemoryBIO` | wherever the other cannot be had, or `WHORL_TLS_ENGINE=object` |
//!
//! The native engine depends on CPython's layout, which is checked for every connection: the version is one whose layout was
//! read (3.11 to 3.14); the object is an `ssl.SSLObject`, and no subclass with methods of its own, over `_ssl`'s types; both are
//! large enough; and the pointers at the two known places agree, as OpenSSL's own `SSL_get_SSL_CTX` of the connection's equals
//! the context's. Where a check fails, the connection gets the other engine.
//!
//! TLS within TLS, and `start_tls()` on a transport that is not a plain stream, is asyncio's own `sslproto`.

mod client;
mod engine;
mod guarded;
mod handshake;
mod libssl;
mod methods;
mod native;
mod object;
mod pipe;
mod protocol;
mod reading;
mod shutdown;
mod state;
mod transport;
mod writing;

pub use client::{TlsClient, start_client};
pub use protocol::TlsProtocol;
pub use state::{HandshakeWaiter, Notified, TlsOptions, TlsSide};
pub use transport::TlsTransport;
