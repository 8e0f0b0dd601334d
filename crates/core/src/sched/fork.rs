//! Forks: which process a loop was made in.
//!
//! A child of `fork` has a copy of its parent's loops, with the descriptors shared and the other threads gone.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::sync::this_thread;

/// How often this process is the child of a `fork`, since the count began.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The thread that has called the last `fork`, which is the first thread of the child.
static FORKER: AtomicUsize = AtomicUsize::new(0);

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    forks: u32,
}

extern "C" fn count() {
    FORKER.store(this_thread(), Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
}

impl Process {
    /// The calling process.
    #[must_use]
    pub fn current() -> Self {
        static BEGIN: Once = Once::new();
        BEGIN.call_once(|| {
            // SAFETY: the handler runs in the child of a fork, where only what is async-signal-safe may be called: it writes
            // two atomics. It stays where it is: whorl's library is never unloaded, as CPython unloads no extension.
            let _out_of_memory = unsafe { libc::pthread_atfork(None, None, Some(count)) };
        });
        Self { forks: FORKS.load(Ordering::Relaxed) }
    }

    /// Whether it is the calling process, and not one that has forked it.
    #[must_use]
    #[inline]
    pub fn is_current(self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }
}

/// The process that something belongs to, which may become the calling one.
#[derive(Debug)]
pub(super) struct ProcessCell(AtomicU32);

impl ProcessCell {
    /// The calling process.
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(Process::current().forks))
    }

    /// [`Process::is_current`].
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FORKS.load(Ordering::Relaxed)
    }

    /// Makes it the calling process; true for the one thread of the child that has done so.
    pub(super) fn renew(&self) -> bool {
        let current = FORKS.load(Ordering::Relaxed);
        self.0.swap(current, Ordering::Relaxed) != current
    }
}

/// Whether `thread` has called the last `fork`, and so exists in this process.
pub(super) fn has_forked(thread: usize) -> bool {
    FORKER.load(Ordering::Relaxed) == thread
}

/// Calls `act` in a child of a fork and returns whether it was true there.
#[cfg(all(test, not(loom)))]
pub(super) fn is_true_in_child(act: impl FnOnce() -> bool) -> bool {
    // SAFETY: what the callers do in the child is async-signal-safe: loads and stores, and `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(!act());
        // SAFETY: as above.
        unsafe { libc::_exit(code) };
    }
    let mut status = -1;
    // SAFETY: a child of this process, and a status to be written.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_child_is_another_process() {
        let process = Process::current();
        assert!(process.is_current());
        assert!(is_true_in_child(|| !process.is_current() && Process::current().is_current()));
        assert!(process.is_current());
    }
}
