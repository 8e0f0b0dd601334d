//! The policy of an HTTP client, without I/O: which connection serves a request, where a redirect leads, what a content
//! coding stands for.

pub mod coding;
mod list;
pub mod pool;
