//! HTTP/1.1 on a connection: the protocol, the exchange of a request and its response, heads and bodies for Python.

mod body;
mod coding;
pub mod connection;
pub mod encode;
pub mod exchange;
pub mod head;
mod transport_handle;
