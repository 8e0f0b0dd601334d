//! The policy of an HTTP client, without I/O: which connection serves a request ([`pool`]), how long it may take
//! ([`deadlines`]), whether it is sent again ([`retry`]), where its response leads ([`redirect`]), and what the body decodes
//! to ([`coding`]).

pub mod coding;
pub mod deadlines;
mod list;
pub mod pool;
pub mod redirect;
pub mod retry;
