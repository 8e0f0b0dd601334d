//! Connections that live for one message: connect, send, read the reply up to the server's close, connect again.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::io::{Errno, read, write};

use super::{Exchange, Options, drive, message};
use crate::meter::{Meter, Report};
use crate::poll::{Poller, Waiting};

/// Opens connections to `address` as fast as the server closes them. The server answers with as many bytes as it
/// was sent and closes first, so that no port of ours stays behind in TIME_WAIT.
pub fn connect_and_close(address: SocketAddr, options: Options, meter: &mut Meter) -> Result<Report> {
    let exchanges = (0..options.connections)
        .map(|connection| {
            let stream = connect(address)?;
            Ok(Churn { address, stream, request: message(connection, options.size), received: 0 })
        })
        .collect::<Result<Vec<_>>>()?;
    drive(exchanges, options.spin, meter)
}

/// Connects and hands back a non-blocking stream. On loopback, with room in the backlog, this does not wait.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

struct Churn {
    address: SocketAddr,
    stream: TcpStream,
    request: Vec<u8>,
    received: usize,
}

impl Exchange for Churn {
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()> {
        poller.add(self.stream.as_fd(), token, Waiting::Read.interest())?;
        // A fresh socket's buffer takes a request of this size whole.
        let sent = write(&self.stream, &self.request).context("write")?;
        if sent != self.request.len() {
            bail!("the request does not fit a socket buffer; use a smaller size");
        }
        self.received = 0;
        Ok(())
    }

    fn advance(&mut self, poller: &Poller, token: usize, scratch: &mut [u8]) -> Result<u64> {
        match read(&self.stream, &mut *scratch) {
            Ok(0) if self.received == self.request.len() => {
                // Dropping the old stream closes it, which also takes it off the poller.
                self.stream = connect(self.address)?;
                self.start(poller, token)?;
                Ok(1)
            }
            Ok(0) => bail!("the server closed after {} of {} bytes", self.received, self.request.len()),
            Ok(count) => {
                self.received += count;
                Ok(0)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error).context("read"),
        }
    }
}
