//! The poller on Linux: epoll, level-triggered, with timeouts in nanoseconds where the kernel has `epoll_pwait2` (5.11).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::{Event, Interest, Readiness, Token};

/// An epoll instance. See [`epoll(7)`](https://man7.org/linux/man-pages/man7/epoll.7.html).
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

/// The events of one wait; reused from one wait to the next.
pub struct Events {
    list: Vec<epoll::Event>,
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
            let flags = event.flags;
            let hangup = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            Event {
                token: Token::from_raw(event.data.u64()),
                readiness: Readiness {
                    readable: hangup
                        || flags.intersects(EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP),
                    writable: hangup || flags.contains(EventFlags::OUT),
                    hangup,
                },
            }
        })
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    if interest.read {
        flags |= EventFlags::IN;
    }
    if interest.write {
        flags |= EventFlags::OUT;
    }
    flags
}

impl Poller {
    /// A new epoll instance, closed on exec.
    ///
    /// # Errors
    /// What `epoll_create1` reports, `EMFILE` above all.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Starts watching `fd`.
    ///
    /// # Errors
    /// `EEXIST` when it is registered already, `EPERM` for a regular file, `EBADF` for a closed one.
    ///
    /// # Safety
    /// `fd` is the caller's to watch: the caller owns the descriptor, or its owner has given it to be watched. The owner may
    /// close it all the same, and the number may come to name another file: a report under `token` is no proof that the
    /// descriptor is still the one that was meant.
    pub unsafe fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes the interest of a watched `fd`.
    ///
    /// # Errors
    /// `ENOENT` when it is not registered, `EBADF` when it is closed.
    ///
    /// # Safety
    /// That of [`Poller::add`]: a kqueue registers what was not registered.
    pub unsafe fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Stops watching `fd`: only what was added to this poller is affected, whatever the number names.
    ///
    /// # Errors
    /// `ENOENT` when it is not registered, `EBADF` when it was closed before (the kernel has forgotten it by itself
    /// then, unless a duplicate is open).
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, Token::from_raw(0), Interest::NONE)
    }

    /// One `epoll_ctl`. Not rustix's: that takes a `BorrowedFd`, which promises a descriptor that is open, and a descriptor
    /// which a program has given to the loop may have been closed by the program.
    fn control(&self, operation: libc::c_int, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags(interest).bits(), u64: token.into_raw() };
        // SAFETY: the kernel reads the event during the call; it checks both numbers, and fails with EBADF for one that
        // names no file.
        let done = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until a descriptor is ready, for at most `timeout` (`None`: without limit; zero: not at all).
    ///
    /// A signal ends the wait with no event.
    ///
    /// # Errors
    /// The errors of `epoll_wait`, except `EINTR`.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        let outcome = match timeout {
            Some(limit) if limit.subsec_nanos() % 1_000_000 != 0 => self.wait_precisely(events, limit),
            timeout => {
                let timeout = timeout.map(timespec);
                epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut events.list), timeout.as_ref())
                    .map(drop)
            }
        };
        match outcome {
            Ok(()) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits with a limit of less than a millisecond's granularity, by `epoll_pwait2`; rounded up to milliseconds on
    /// kernels before 5.11, and where a filter of system calls does not know it.
    fn wait_precisely(&self, events: &mut Events, limit: Duration) -> Result<(), Errno> {
        static MISSING: AtomicBool = AtomicBool::new(false);
        if !MISSING.load(Ordering::Relaxed) {
            let spare = events.list.spare_capacity_mut();
            let limit = timespec(limit);
            // SAFETY: the kernel writes at most `spare.len()` events to `spare`, which holds that many and whose
            // elements have the kernel's layout (rustix passes them on as they are); the limit is read only; there is
            // no mask.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.fd.as_raw_fd(),
                    spare.as_mut_ptr(),
                    spare.len(),
                    &raw const limit,
                    std::ptr::null::<libc::sigset_t>(),
                    0_usize,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                // SAFETY: the kernel has written the first `count` elements, which the capacity covers.
                unsafe { events.list.set_len(count) };
                return Ok(());
            }
            match Errno::from_io_error(&io::Error::last_os_error()) {
                Some(Errno::NOSYS | Errno::PERM) => MISSING.store(true, Ordering::Relaxed),
                Some(error) => return Err(error),
                None => return Err(Errno::INVAL),
            }
        }
        let rounded =
            timespec(Duration::from_millis(1 + u64::try_from(limit.as_millis()).unwrap_or(u64::MAX - 1)));
        epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut events.list), Some(&rounded)).map(drop)
    }
}

fn timespec(limit: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()) as _,
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
