//! Ending a wait from another thread.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// A descriptor that becomes readable when [`Waker::wake`] is called, from any thread: an eventfd on Linux, a pipe
/// elsewhere.
#[derive(Debug)]
pub struct Waker {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    event: OwnedFd,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pipe: (OwnedFd, OwnedFd),
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Waker {
    /// A new waker, non-blocking and closed on exec.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self { event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    fn ends(&self) -> (&OwnedFd, &OwnedFd) {
        (&self.event, &self.event)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Waker {
    /// A new waker, non-blocking and closed on exec.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let pipe = rustix::pipe::pipe()?;
        for end in [&pipe.0, &pipe.1] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self { pipe })
    }

    fn ends(&self) -> (&OwnedFd, &OwnedFd) {
        (&self.pipe.0, &self.pipe.1)
    }
}

impl Waker {
    /// Makes the descriptor readable.
    ///
    /// # Errors
    /// None in practice: a full counter or pipe means that a wake-up is pending already, which is success.
    pub fn wake(&self) -> io::Result<()> {
        match rustix::io::write(self.ends().1, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes all pending wake-ups back.
    pub fn drain(&self) {
        let mut bytes = [0_u8; 256];
        while let Ok(read) = rustix::io::read(self.ends().0, &mut bytes) {
            // An eventfd gives its whole counter in one read of 8 bytes.
            if read < bytes.len() {
                break;
            }
        }
    }

    /// The descriptor to watch for reading.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.ends().0.as_raw_fd()
    }
}
