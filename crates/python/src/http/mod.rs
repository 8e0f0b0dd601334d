//! The HTTP client's native half: connections with the codec in them, their pool, what a request's answer is.
//!
//! # Python and Rust
//!
//! What users call, subclass, replace or look at is Python (`python/whorl/http`); what happens for each byte and for each
//! connection is Rust.
//!
//! | files | what is in them |
//! |---|---|
//! | `request.rs`, `planned.rs`, `session.rs`, `options.rs`, `prepared.rs`, `outgoing.rs`, `response.rs`, `ready.rs` | requests that need no coroutine: the awaitable; one that is ready to be sent; what a session's have in common; the keywords; a URL; fields and body; the response; an awaitable that is done |
//! | `deadlines.rs`, `policy.rs` | the deadlines of those requests; the core's rules for `call.py` |
//! | `connection/`, `link.rs` | a connection: protocol, parser, read timeout; the transport under it |
//! | `exchange/`, `body.rs`, `head.rs`, `encode.rs`, `fault.rs` | a response; its bytes and fields for Python; a request's head; errors |
//! | `pool.rs`, `origin.rs` | the pool over real connections; what requests must have in common |
//! | `coding.rs`, `websocket.rs` | the decoding of long bodies, detached; WebSocket messages for Python |
//!
//! # Connection and exchange
//!
//! An `HttpConnection` has one `Exchange` at a time, and fills it whatever the user does meanwhile. When the connection has given all
//! there is, the two part: the exchange keeps what has come, and the connection serves another request. How far the response is,
//! is one enum, who gets the body another. A `Connection` of Python's (`connector.py`) knows for which of the connection's
//! requests it was made, so that a late `close()` does not hit another's.
//!
//! **Reuse.** A connection goes back to the pool only if the response ended as its framing says, nothing came behind it, the
//! request was sent in full and both sides keep it. Anything else closes it, unexpected bytes too. An idle connection that the
//! server closes leaves the pool at once.
//!
//! **Flow control.** A body that has no reader is kept up to twice `read_bufsize`; then the transport stops reading, and the server
//! waits. A reader pauses by marks of its own. `read()` of the whole lifts the bound. A decoder gives `read_bufsize` bytes at a
//! time, and continues when they are taken.
//!
//! **Which loop.** `HttpConnection` is an asyncio protocol by its methods, so it works on every asyncio loop. A transport of ours is
//! written to natively and hands its bytes over where they were received, under TLS as the decrypted bytes object; any other
//! is called by its methods, and pays for a bytes object and the calls. The alternative was an error that names the way out; but
//! programs that cannot choose their loop (notebooks, GUI toolkits, test runners) would have lost the client for the sake of
//! what only makes it slower. On whorl's loop the state belongs to the loop's owner; on another loop each connection and each
//! pool has an owner of its own, which is taken for each access.

mod body;
mod coding;
mod connection;
mod deadlines;
mod encode;
mod exchange;
mod fault;
mod given;
mod head;
mod link;
mod options;
mod origin;
mod outgoing;
mod planned;
mod policy;
mod pool;
mod prepared;
mod ready;
mod request;
mod response;
mod session;
mod websocket;

use pyo3::prelude::*;

use crate::interpreter::add_class;
use crate::transport;

pub use connection::HttpConnection;

/// Adds the client's classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<HttpConnection>(module)?;
    transport::register::<HttpConnection>();
    add_class::<exchange::Exchange>(module)?;
    add_class::<pool::ConnectionPool>(module)?;
    add_class::<pool::PoolSlot>(module)?;
    add_class::<pool::PoolWaiter>(module)?;
    add_class::<deadlines::RequestDeadlines>(module)?;
    add_class::<prepared::Prepared>(module)?;
    add_class::<ready::Ready>(module)?;
    add_class::<request::RequestContext>(module)?;
    add_class::<response::ResponseBase>(module)?;
    add_class::<session::SessionBase>(module)?;
    module.add_function(wrap_pyfunction!(encode::encode_head, module)?)?;
    given::add_to(module)?;
    policy::add_to(module)?;
    websocket::add_to(module)
}
