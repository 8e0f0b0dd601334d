//! Readiness of file descriptors: a thin poller over the kernel's own interface.
//!
//! [`Poller`] is epoll on Linux and kqueue on macOS and the BSDs, with the same methods. It is level-triggered, keeps
//! no table of its own (the caller's [`Token`] comes back with each event) and can be waited on from outside through
//! its own descriptor, so that another main loop may drive ours.
//!
//! # What the kernel makes necessary
//!
//! - **A source without interest is not registered.** epoll reports hang-ups and errors of every registered descriptor,
//!   wanted or not: a paused reader whose peer is gone would spin. [`Sources::set_interest`] says how the poller has to
//!   follow: add, modify, delete, or nothing.
//! - **A number names a slot and a generation.** The kernel gives a closed descriptor's number to the next that is
//!   opened, while events for the previous one may still be in the list being worked through ([`Sources`]).
//! - **A descriptor may be closed by other code.** A second registration of the same number replaces the first one, and
//!   its source is dropped. When a registered descriptor is closed while a duplicate of it is open, the kernel
//!   continues to report it and no number is left to remove it by (aiohttp #1412): after some waits in a row with such
//!   an event, the loop makes a new poller with every living registration in it.
//! - **Limits below a millisecond** need `epoll_pwait2` (Linux 5.11); before it a sleep is rounded up.

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "epoll.rs"]
mod sys;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "kqueue.rs"]
mod sys;

mod alarm;
mod sources;
mod waker;

pub use alarm::Alarm;
pub use sources::{InterestChange, Sources, Token};
pub use sys::{Events, Poller};
pub use waker::Waker;

/// The kinds of readiness that the owner of a descriptor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interest {
    /// Report when a read would not block (data, end of stream, an accepted peer).
    pub read: bool,
    /// Report when a write would not block.
    pub write: bool,
}

impl Interest {
    /// Neither direction: the source is kept, and its descriptor is not registered.
    pub const NONE: Self = Self { read: false, write: false };
    /// Reads only.
    pub const READ: Self = Self { read: true, write: false };
    /// Writes only.
    pub const WRITE: Self = Self { read: false, write: true };
    /// Both directions.
    pub const BOTH: Self = Self { read: true, write: true };

    /// Whether no direction is wanted.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.read && !self.write
    }
}

/// The kernel's report for one source.
///
/// A hang-up or an error makes both directions ready, as the next `read` or `write` returns the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// A read would not block.
    pub readable: bool,
    /// A write would not block.
    pub writable: bool,
    /// The peer is gone in both directions, or the descriptor has an error pending.
    pub hangup: bool,
}

/// One report of the poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The token that the source was registered with.
    pub token: Token,
    /// The directions that are ready.
    pub readiness: Readiness,
}
