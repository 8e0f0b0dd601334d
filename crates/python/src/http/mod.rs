//! The HTTP client's native half: connections with the codec in them, their pool, requests and responses.
//!
//! # Python and Rust
//!
//! The classes that users call, subclass, replace or inspect are Python (`python/whorl/http`); the work for each byte
//! and each connection is Rust.
//!
//! | files | content |
//! |---|---|
//! | `client/` | calls of a session: options, requests, responses, timeouts |
//! | `pool/` | the pool over real connections; the key that requests must share |
//! | `h1/` | HTTP/1.1: a connection with its parser and read timeout, an exchange, heads and bodies |
//! | `stream_reader/` | a body that is read as a stream |
//! | `websocket.rs` | WebSocket messages for Python |
//! | `given.rs`, `failures.rs` | what Python gives; errors |
//! | `guard.rs`, `body_source.rs`, `poolable.rs` | what these are to each other, without their types |
//! | `finish.rs` | ends on the loop's thread |
//!
//! # Connection and exchange
//!
//! An `HttpConnection` has one `Exchange` at a time, and fills it independently of the user. When the connection has
//! received all of the response, the two part: the exchange keeps the received bytes, and the connection serves another
//! request. The phase of the response is one enum, the delivery of its body another. A `Connection` of Python's
//! (`connector.py`) knows for which of the connection's requests it was made, so that a late `close()` does not hit
//! another's.
//!
//! **Reuse.** A connection goes back to the pool only if the response ended as its framing says, no bytes followed it,
//! the request was sent in full, both sides keep it, and no line feed alone ended a line of a head: other parties may
//! see the end of that head elsewhere. Anything else closes it, unexpected bytes too. An idle connection that the server
//! closes leaves the pool at once.
//!
//! **Flow control.** A body that has no reader is kept up to twice `read_bufsize`; then the transport stops reading,
//! and the server waits. A reader pauses by marks of its own. `read()` of the whole lifts the bound. A decoder gives
//! `read_bufsize` bytes at a time, and continues when they are taken.
//!
//! **Which loop.** `HttpConnection` is an asyncio protocol by its methods, so it works on every asyncio loop. A
//! transport of ours is written to natively and hands its bytes over where they were received, under TLS as the
//! decrypted bytes object; any other is called by its methods, and pays for a bytes object and the calls. The
//! alternative was an error that names the solution; but programs that cannot choose their loop (notebooks, GUI
//! toolkits, test runners) would have lost the client for the sake of mere speed. On whorl's loop the state belongs to
//! the loop's owner; on another loop each connection and each pool has an owner of its own, which is taken for each
//! access.
//!
//! **Errors.** Every method that opens state raises RuntimeError on another thread than the loop's, in addition to the
//! errors that it names.

mod body_source;
mod client;
mod coroutine;
mod failures;
mod finish;
mod given;
mod guard;
mod h1;
mod pool;
mod poolable;
mod stream_reader;
mod websocket;

use pyo3::prelude::*;

use crate::interpreter::add_class;
use crate::transport;
use h1::connection::HttpConnection;

/// Adds the client's classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<HttpConnection>(module)?;
    transport::register::<HttpConnection>();
    add_class::<h1::exchange::Exchange>(module)?;
    add_class::<pool::ConnectionPool>(module)?;
    add_class::<pool::PoolSlot>(module)?;
    add_class::<pool::PoolWaiter>(module)?;
    module.add_function(wrap_pyfunction!(h1::encode::encode_head, module)?)?;
    module.add_function(wrap_pyfunction!(finish::finish_on, module)?)?;
    module.add("SECRET_FIELDS", whorl_core::http1::SECRET_FIELDS)?;
    stream_reader::add_to(module)?;
    client::add_to(module)?;
    given::add_to(module)?;
    websocket::add_to(module)
}
