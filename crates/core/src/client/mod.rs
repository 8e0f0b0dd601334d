//! The policy of an HTTP client, without I/O: what a call does next ([`call`]), which connection serves a request ([`pool`]),
//! how its address is chosen ([`race`]), how long it may take ([`deadlines`]), whether it is sent again ([`retry`]), where its
//! response leads ([`redirect`]), how its body is decoded ([`coding`]), and how much of that is buffered ([`stream`]).
//!
//! The policy decides and does nothing: no socket, no clock, no Python. Its tests use numbers for connections.
//!
//! - **The pool** counts permits, not connections. A permit cannot be copied, and its release consumes it, so it is
//!   given back once, and finds its host without hashing. A permit that becomes free is granted at once, to the longest
//!   waiter that may use it: hosts below their own limit stand in an ordered set by their first waiter's number, and
//!   the set is empty while a permit is free. The grant stays in the pool until the waiter claims it; a waiter that is
//!   cancelled between the two leaves it to the next. Idle connections are in two lists through one slab: by host,
//!   where the one used last is taken first, and by age, for expiry. A key is hashed when it is made.
//! - **Redirects and retries** are functions from facts to an enum. Idempotent methods are sent again, once.
//! - **A decoder** takes a bound on its output and says whether there may be more, so a body that decodes to gigabytes
//!   takes as much memory as the caller allows at a time; between two codings no more than 16 KiB wait. zstd's
//!   window is limited to 8 MiB (RFC 9659), Brotli's to its own 16 MiB. After the end of a gzip, deflate or Brotli
//!   stream anything that is not another gzip member is ignored, as in browsers. `deflate` is zlib or bare DEFLATE, by
//!   its first byte. A decoder is made when the first byte comes, as many responses have a coding and no body.

pub mod call;
pub mod coding;
pub mod deadlines;
mod list;
pub mod pool;
pub mod race;
pub mod redirect;
pub mod retry;
pub mod stream;
