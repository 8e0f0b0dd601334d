//! A deadline as a descriptor, for a main loop that can watch descriptors and no more.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A descriptor that becomes readable at a set time: a timerfd on Linux, a kqueue of one timer elsewhere.
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    /// The descriptor to watch for reading.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Alarm {
    /// An alarm that is not set, closed on exec.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }

    /// The descriptor becomes readable after `delay`, or not at all; an earlier setting is dropped, and a descriptor
    /// that was readable is so no more.
    ///
    /// # Errors
    /// None in practice.
    pub fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A value of zero would switch it off.
        let delay = delay.map(|delay| delay.max(Duration::from_nanos(1)));
        let value = delay.map_or(none, |delay| Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(delay.subsec_nanos()) as _,
        });
        timerfd_settime(
            &self.fd,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: none, it_value: value },
        )?;
        Ok(())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Alarm {
    /// An alarm that is not set, closed on exec.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let fd = rustix::event::kqueue::kqueue()?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    /// The descriptor becomes readable after `delay`, or not at all; an earlier setting is dropped, and a descriptor
    /// that was readable is so no more.
    ///
    /// # Errors
    /// None in practice.
    pub fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        use rustix::event::kqueue::{Event, EventFilter, EventFlags, kevent};
        use rustix::io::Errno;
        let change = |timer, flags| {
            let filter = EventFilter::Timer { ident: 1, timer };
            let mut none: [Event; 0] = [];
            // SAFETY: the change names a timer, not a descriptor, and its data is null.
            unsafe {
                kevent(
                    &self.fd,
                    &[Event::new(filter, flags, std::ptr::null_mut())],
                    &mut none,
                    Some(Duration::ZERO),
                )
            }
        };
        match change(None, EventFlags::DELETE) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(delay) = delay {
            change(Some(delay.max(Duration::from_nanos(1))), EventFlags::ADD | EventFlags::ONESHOT)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Events, Interest, Poller, Token};

    #[test]
    fn a_poller_reports_it_until_it_is_set_again() -> io::Result<()> {
        let alarm = Alarm::new()?;
        let poller = Poller::new()?;
        // SAFETY: the alarm's own descriptor, and it outlives the poller's use.
        unsafe { poller.add(alarm.fd(), Token::from_raw(1), Interest::READ)? };
        let mut events = Events::with_capacity(4);
        poller.wait(&mut events, Some(Duration::ZERO))?;
        assert!(events.is_empty(), "it is not set");
        alarm.set(Some(Duration::ZERO))?;
        poller.wait(&mut events, None)?;
        assert_eq!(events.len(), 1);
        alarm.set(Some(Duration::from_secs(3600)))?;
        poller.wait(&mut events, Some(Duration::ZERO))?;
        assert!(events.is_empty(), "it is set to later");
        alarm.set(Some(Duration::from_nanos(1)))?;
        poller.wait(&mut events, None)?;
        assert_eq!(events.len(), 1);
        alarm.set(None)?;
        poller.wait(&mut events, Some(Duration::ZERO))?;
        assert!(events.is_empty(), "it is switched off");
        Ok(())
    }
}
