//! One epoll, as the load client and the HTTP server use it.

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::event::epoll;
use rustix::time::Timespec;

/// Bytes read at once; the buffer starts on a page, as unaligned copies are slow on some CPUs.
const READ_BUFFER: usize = 256 * 1024;
const PAGE: usize = 4096;
/// How long to sleep where there is no core to spin on; bounded, so that a stall is noticed.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const NO_NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The poller.
#[derive(Debug)]
pub(crate) struct Poller {
    pub(crate) epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")? })
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: usize, interest: epoll::EventFlags) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token as u64), interest)
            .context("epoll_ctl add")
    }

    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, token: usize, interest: epoll::EventFlags) -> Result<()> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token as u64), interest)
            .context("epoll_ctl mod")
    }

    /// Replaces `events` with those that have come; returns without any where none has, after a nap unless `spin`.
    pub(crate) fn wait(&self, events: &mut Vec<epoll::Event>, spin: bool) -> Result<()> {
        events.clear();
        let timeout = if spin { NO_NAP } else { NAP };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }
}

/// Whether a connection waits to write as well as to read; updates the poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Read,
    ReadAndWrite,
}

impl Waiting {
    pub(crate) fn interest(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::ReadAndWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }

    /// Moves to the other state if that is called for, and updates the poller.
    pub(crate) fn update(
        &mut self,
        output_left: bool,
        poller: &Poller,
        fd: BorrowedFd<'_>,
        token: usize,
    ) -> Result<()> {
        let wanted = if output_left { Self::ReadAndWrite } else { Self::Read };
        if *self != wanted {
            poller.modify(fd, token, wanted.interest())?;
            *self = wanted;
        }
        Ok(())
    }
}

/// The buffer that every read goes through.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; READ_BUFFER + PAGE])
    }

    pub(crate) fn bytes(&mut self) -> Result<&mut [u8]> {
        let offset = self.0.as_ptr().align_offset(PAGE);
        self.0.get_mut(offset..offset + READ_BUFFER).context("no page boundary in the buffer")
    }
}
