//! The states that every kind of transport goes through.

use crossbeam_utils::atomic::AtomicCell;

/// A transport's phase. It changes only with the transport's state open, on the loop's thread, but every thread may ask for it:
/// a `StreamWriter` asks `is_closing()` when it is collected, wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportPhase {
    /// In use.
    Open,
    /// Closed for its user; what waits is sent first.
    Closing,
    /// `connection_lost()` is scheduled, or was called.
    Lost,
}

impl TransportPhase {
    /// The word for it in a transport's repr.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Lost => "closed",
        }
    }

    /// The user closes the transport; true if it was open.
    #[must_use]
    pub fn transition_to_closing(phase: &AtomicCell<Self>) -> bool {
        phase.compare_exchange(Self::Open, Self::Closing).is_ok()
    }

    /// The transport ends; true if that is new: `connection_lost()` is to be scheduled.
    #[must_use]
    pub fn transition_to_lost(phase: &AtomicCell<Self>) -> bool {
        phase.swap(Self::Lost) != Self::Lost
    }
}

/// Whether the poller may have the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// Not yet: `connection_made()` comes first.
    NotStarted,
    /// Yes.
    On,
    /// Not now: `sendfile()` watches it in its own way.
    Lent,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// What arrives is handed to the protocol.
    On,
    /// `pause_reading()` was called.
    Paused,
    /// The peer has sent its last byte, which only a stream's can do without closing.
    Ended,
}

impl ReadState {
    /// `pause_reading()`; nothing after the end.
    pub fn pause(&mut self) {
        if *self != Self::Ended {
            *self = Self::Paused;
        }
    }

    /// `resume_reading()`; nothing unless paused.
    pub fn resume(&mut self) {
        if *self == Self::Paused {
            *self = Self::On;
        }
    }
}
