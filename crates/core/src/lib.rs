//! whorl-core: what an event loop is made of, in pure Rust.
//!
//! Nothing here knows Python. [`reactor`] tells which file descriptors are ready, [`sched`] says what runs next and how
//! long the loop may sleep, and [`net`] holds the policy of a byte stream (write queue, water marks, read buffer).
//! None of the three knows a protocol.

pub mod net;
pub mod reactor;
pub mod sched;
