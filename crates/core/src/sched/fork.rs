//! Forks: which process a loop was made in.
//!
//! A child of `fork` has a copy of its parent's loops, with the descriptors shared and the other threads gone. What only such
//! a child may do takes a [`ForkedChild`], and only the count of forks makes one.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often this process is the child of a `fork`, since the count began.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    forks: u32,
}

/// Proof that the calling process is a child of the one that something was made in.
#[derive(Clone, Copy, Debug)]
pub struct ForkedChild(());

extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

impl Process {
    /// The calling process.
    #[must_use]
    pub fn current() -> Self {
        static BEGIN: Once = Once::new();
        BEGIN.call_once(|| {
            // SAFETY: the handler runs in the child of a fork, where only what is async-signal-safe may be called: it adds to
            // an atomic. It stays where it is: whorl's library is never unloaded, as CPython unloads no extension.
            let _out_of_memory = unsafe { libc::pthread_atfork(None, None, Some(count)) };
        });
        Self { forks: FORKS.load(Ordering::Relaxed) }
    }

    /// The proof, if the calling process is a child of this one.
    #[must_use]
    #[inline]
    pub fn forked_child(self) -> Option<ForkedChild> {
        (self.forks != FORKS.load(Ordering::Relaxed)).then_some(ForkedChild(()))
    }
}

#[cfg(all(test, not(loom)))]
impl ForkedChild {
    /// A proof of nothing.
    pub(super) const fn for_tests() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_child_has_the_proof() {
        let process = Process::current();
        assert!(process.forked_child().is_none());
        // SAFETY: the child calls what is async-signal-safe: a load, and `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code =
                i32::from(process.forked_child().is_none() || Process::current().forked_child().is_some());
            // SAFETY: as above.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: a child of this process, and a status to be written.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert!(process.forked_child().is_none());
    }
}
