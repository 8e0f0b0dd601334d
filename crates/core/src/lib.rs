//! whorl-core: the parts of an event loop and its protocols, in pure Rust.
//!
//! Nothing here knows Python. [`reactor`] reports which file descriptors are ready, [`sched`] says what runs next and
//! how long the loop may sleep, and [`net`] holds the policy of a byte stream (write queue, water marks, read buffer).
//! None of the three knows a protocol. [`http1`] and [`websocket`] are protocols: bytes in, events and bytes out, with
//! no socket and no clock. [`client`] is the policy of an HTTP client over them. [`output`] is memory that is being filled.

pub mod client;
pub mod http1;
pub mod net;
pub mod output;
pub mod reactor;
pub mod sched;
pub mod websocket;
