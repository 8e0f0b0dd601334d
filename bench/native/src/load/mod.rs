//! The load client: many exchanges over one epoll in one thread.
//!
//! An [`Exchange`] is one connection that sends a request, waits for its response and starts again. The client spins
//! on the poller by default: it never sleeps, so the server never pays for waking it, and the figure does not
//! depend on how dear a wake-up is on this machine.

pub(crate) mod churn;
mod echo;
mod hold;
mod http;
mod tls;

use anyhow::Result;
use rustix::event::epoll;

pub use churn::connect_and_close;
pub use echo::{fifo_echo, tcp_echo, udp_echo, unix_echo};
pub use hold::hold_connections;
pub use http::http_load;
pub use tls::{tls_echo, tls_handshakes};

use crate::meter::{Meter, Report, RunPhase};
use crate::poll::{Poller, Scratch};

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

/// One connection's conversation.
pub(crate) trait Exchange {
    /// Registers with the poller and sends the first request.
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()>;

    /// Makes progress after readiness; returns how many operations finished.
    fn advance(&mut self, poller: &Poller, token: usize, scratch: &mut [u8]) -> Result<u64>;
}

/// Runs exchanges until the meter's window is over.
pub(crate) fn drive<E: Exchange>(mut exchanges: Vec<E>, spin: bool, meter: &mut Meter) -> Result<Report> {
    let poller = Poller::new()?;
    for (token, exchange) in exchanges.iter_mut().enumerate() {
        exchange.start(&poller, token)?;
    }
    let mut scratch = Scratch::new();
    let scratch = scratch.bytes()?;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(exchanges.len().max(1));
    loop {
        if meter.phase()? == RunPhase::Done {
            return meter.report();
        }
        poller.wait(&mut events, spin)?;
        for event in &events {
            let token = usize::try_from(event.data.u64())?;
            if let Some(exchange) = exchanges.get_mut(token) {
                meter.add(exchange.advance(&poller, token, scratch)?);
            }
        }
    }
}

/// The bytes one connection sends: different at every position and for every connection, so that a response that
/// is shifted, torn or meant for another connection is noticed.
pub(crate) fn message(connection: usize, size: usize) -> Vec<u8> {
    (0..size)
        .map(|position| (position.wrapping_mul(31) ^ (position >> 8) ^ connection.wrapping_mul(97)) as u8)
        .collect()
}
