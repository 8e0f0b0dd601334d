//! The poller on macOS and the BSDs: kqueue, level-triggered. It compiles with the same methods as epoll's; it has
//! not been run under load yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::kqueue::{self, Event as KEvent, EventFilter, EventFlags};
use rustix::io::Errno;

use super::{Event, Interest, Readiness, Token};

/// A kqueue. See `kqueue(2)`.
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

/// The events of one wait; reused from one wait to the next.
pub struct Events {
    list: Vec<KEvent>,
}

// SAFETY: the pointer in an event is only ever the integer of a `Token`; it is never followed.
unsafe impl Send for Events {}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("len", &self.list.len()).finish()
    }
}

impl Events {
    /// A buffer for `capacity` events: more wait in the kernel until the next call.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { list: Vec::with_capacity(capacity) }
    }

    /// How many events the last wait brought.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the last wait brought nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The event at `index`, or nothing past the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Event> {
        self.list.get(index).map(|event| {
            let write = matches!(event.filter(), EventFilter::Write(_));
            let hangup = event.flags().contains(EventFlags::ERROR);
            Event {
                token: Token::from_raw(event.udata() as usize as u64),
                readiness: Readiness { readable: hangup || !write, writable: hangup || write, hangup },
            }
        })
    }
}

impl Poller {
    /// A new kqueue, closed on exec.
    ///
    /// # Errors
    /// What `kqueue` reports, `EMFILE` above all.
    pub fn new() -> io::Result<Self> {
        let fd = kqueue::kqueue()?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    fn change(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        if fd < 0 {
            return Err(Errno::BADF.into());
        }
        let data = token.into_raw() as usize as *mut std::ffi::c_void;
        for (wanted, filter) in
            [(interest.read, EventFilter::Read(fd)), (interest.write, EventFilter::Write(fd))]
        {
            let flags = if wanted { EventFlags::ADD } else { EventFlags::DELETE };
            let mut none: [KEvent; 0] = [];
            // SAFETY: the kernel checks the number, and the data is an integer. The descriptor is the caller's to watch (the
            // contract of `add` and `modify`); what `delete` takes away was added under that contract.
            let done = unsafe {
                kqueue::kevent(&self.fd, &[KEvent::new(filter, flags, data)], &mut none, Some(Duration::ZERO))
            };
            match done {
                Ok(_) => {}
                Err(Errno::NOENT) if !wanted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Starts watching `fd`.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor.
    ///
    /// # Safety
    /// `fd` is the caller's to watch: the caller owns the descriptor, or its owner has given it to be watched. The owner may
    /// close it all the same, and the number may come to name another file: a report under `token` is no proof that the
    /// descriptor is still the one that was meant.
    pub unsafe fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.change(fd, token, interest)
    }

    /// Changes the interest of a watched `fd`.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor.
    ///
    /// # Safety
    /// That of [`Poller::add`]: what was not registered is.
    pub unsafe fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.change(fd, token, interest)
    }

    /// Stops watching `fd`: only what was added to this poller is affected, whatever the number names.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.change(fd, Token::from_raw(0), Interest::NONE)
    }

    /// Waits until a descriptor is ready, for at most `timeout` (`None`: without limit; zero: not at all).
    ///
    /// A signal ends the wait with no event.
    ///
    /// # Errors
    /// The errors of `kevent`, except `EINTR`.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        // SAFETY: no change is requested, so no descriptor is named.
        let done = unsafe {
            kqueue::kevent(&self.fd, &[], rustix::buffer::spare_capacity(&mut events.list), timeout)
        };
        match done {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
