//! The load client: many exchanges over one epoll in one thread.
//!
//! An [`Exchange`] is one connection that sends a request, waits for its answer and starts again. The client spins
//! on the poller by default: it never sleeps, so the server never pays for waking it, and the figure does not
//! depend on how dear a wake-up is on this machine.

mod churn;
mod echo;
mod hold;
mod http;
mod tls;

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::event::epoll;
use rustix::time::Timespec;

pub use churn::connect_and_close;
pub use echo::{fifo_echo, tcp_echo, udp_echo, unix_echo};
pub use hold::hold_connections;
pub use http::http_load;
pub use tls::{tls_echo, tls_handshakes};

use crate::meter::{Meter, Phase, Report};

/// Bytes read at once; the client's buffer starts on a page, as unaligned copies are slow on some CPUs.
const READ_BUFFER: usize = 256 * 1024;
const PAGE: usize = 4096;

/// What every load has in common.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Exchanges at once.
    pub connections: usize,
    /// Bytes in a message.
    pub size: usize,
    /// Poll without sleeping.
    pub spin: bool,
}

/// The poller, as an exchange sees it.
#[derive(Debug)]
struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")? })
    }

    fn add(&self, fd: BorrowedFd<'_>, token: usize, interest: epoll::EventFlags) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token as u64), interest)
            .context("epoll_ctl add")
    }

    fn modify(&self, fd: BorrowedFd<'_>, token: usize, interest: epoll::EventFlags) -> Result<()> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token as u64), interest)
            .context("epoll_ctl mod")
    }
}

/// One connection's conversation.
trait Exchange {
    /// Registers with the poller and sends the first request.
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()>;

    /// Makes progress after readiness; returns how many operations finished.
    fn advance(&mut self, poller: &Poller, token: usize, scratch: &mut [u8]) -> Result<u64>;
}

/// Whether an exchange waits to write as well as to read; keeps the poller told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Read,
    ReadAndWrite,
}

impl Waiting {
    fn interest(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::ReadAndWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }

    /// Moves to the other state if that is called for, and tells the poller.
    fn update(&mut self, output_left: bool, poller: &Poller, fd: BorrowedFd<'_>, token: usize) -> Result<()> {
        let wanted = if output_left { Self::ReadAndWrite } else { Self::Read };
        if *self != wanted {
            poller.modify(fd, token, wanted.interest())?;
            *self = wanted;
        }
        Ok(())
    }
}

/// Runs exchanges until the meter's window is over.
fn drive<E: Exchange>(mut exchanges: Vec<E>, spin: bool, meter: &mut Meter) -> Result<Report> {
    let poller = Poller::new()?;
    for (token, exchange) in exchanges.iter_mut().enumerate() {
        exchange.start(&poller, token)?;
    }
    let mut storage = vec![0_u8; READ_BUFFER + PAGE];
    let offset = storage.as_ptr().align_offset(PAGE);
    let scratch = storage.get_mut(offset..offset + READ_BUFFER).context("no page boundary in the buffer")?;
    // Not for ever, so that a stall is noticed.
    let timeout =
        if spin { Timespec { tv_sec: 0, tv_nsec: 0 } } else { Timespec { tv_sec: 0, tv_nsec: 100_000_000 } };
    let mut events: Vec<epoll::Event> = Vec::with_capacity(exchanges.len().max(1));
    loop {
        if meter.phase()? == Phase::Done {
            return meter.report();
        }
        events.clear();
        match epoll::wait(&poller.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            let token = usize::try_from(event.data.u64())?;
            if let Some(exchange) = exchanges.get_mut(token) {
                meter.add(exchange.advance(&poller, token, scratch)?);
            }
        }
    }
}

/// The bytes one connection sends: different at every position and for every connection, so that an answer that
/// is shifted, torn or meant for somebody else is noticed.
fn message(connection: usize, size: usize) -> Vec<u8> {
    (0..size)
        .map(|position| (position.wrapping_mul(31) ^ (position >> 8) ^ connection.wrapping_mul(97)) as u8)
        .collect()
}
