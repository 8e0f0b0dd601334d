//! Ping-pong of one message per connection: TCP, Unix-domain, UDP and a pair of FIFOs.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, read, write};

use super::{Exchange, Options, drive, message};
use crate::meter::{Meter, Report};
use crate::poll::{Poller, Waiting};

/// Echo over TCP connections to `address`.
pub fn tcp_echo(address: SocketAddr, options: Options, meter: &mut Meter) -> Result<Report> {
    run(options, meter, |_| {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        both_ways(stream.into())
    })
}

/// Echo over Unix-domain stream connections to `path`.
pub fn unix_echo(path: &Path, options: Options, meter: &mut Meter) -> Result<Report> {
    run(options, meter, |_| {
        let stream =
            UnixStream::connect(path).with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_nonblocking(true)?;
        both_ways(stream.into())
    })
}

/// Echo of datagrams to `address`. A lost datagram stops its exchange; on loopback, with one in flight per socket,
/// none is.
pub fn udp_echo(address: SocketAddr, options: Options, meter: &mut Meter) -> Result<Report> {
    run(options, meter, |_| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        both_ways(socket.into())
    })
}

/// Echo through pairs of FIFOs in `directory`: the client writes `request-N` and reads `answer-N`.
pub fn fifo_echo(directory: &Path, options: Options, meter: &mut Meter) -> Result<Report> {
    run(options, meter, |connection| {
        let open = |name: &str, mode: OFlags| {
            let path = directory.join(format!("{name}-{connection}"));
            rustix::fs::open(&path, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
                .with_context(|| format!("cannot open {}", path.display()))
        };
        Ok((open("answer", OFlags::RDONLY)?, open("request", OFlags::WRONLY)?))
    })
}

fn both_ways(fd: OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let other = fd.try_clone()?;
    Ok((fd, other))
}

fn run(
    options: Options,
    meter: &mut Meter,
    mut open: impl FnMut(usize) -> Result<(OwnedFd, OwnedFd)>,
) -> Result<Report> {
    let exchanges = (0..options.connections)
        .map(|connection| {
            let (reads, writes) = open(connection)?;
            let expected = message(connection, options.size);
            Ok(Echo { reads, writes, expected, sent: 0, received: 0, waiting_to_write: false })
        })
        .collect::<Result<Vec<_>>>()?;
    drive(exchanges, options.spin, meter)
}

struct Echo {
    reads: OwnedFd,
    writes: OwnedFd,
    expected: Vec<u8>,
    sent: usize,
    received: usize,
    /// `writes` is a file of its own to the poller (a dup or a FIFO), registered only while it is full.
    waiting_to_write: bool,
}

impl Echo {
    fn send(&mut self, poller: &Poller, token: usize) -> Result<()> {
        while self.sent < self.expected.len() {
            match write(&self.writes, self.expected.get(self.sent..).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("write"),
            }
        }
        let full = self.sent < self.expected.len();
        if full != self.waiting_to_write {
            if full {
                poller.add(self.writes.as_fd(), token, EventFlags::OUT)?;
            } else {
                rustix::event::epoll::delete(&poller.epoll, &self.writes).context("epoll_ctl del")?;
            }
            self.waiting_to_write = full;
        }
        Ok(())
    }
}

impl Exchange for Echo {
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()> {
        poller.add(self.reads.as_fd(), token, Waiting::Read.interest())?;
        self.send(poller, token)
    }

    fn advance(&mut self, poller: &Poller, token: usize, scratch: &mut [u8]) -> Result<u64> {
        if self.sent < self.expected.len() {
            self.send(poller, token)?;
        }
        let count = match read(&self.reads, &mut *scratch) {
            Ok(0) => bail!("the server closed the connection after {} bytes", self.received),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error).context("read"),
        };
        let end = self.received + count;
        if self.expected.get(self.received..end) != scratch.get(..count) {
            bail!(
                "connection {token}: the echo differs from what was sent, between bytes {} and {end}",
                self.received
            );
        }
        self.received = end;
        if end < self.expected.len() {
            return Ok(0);
        }
        self.received = 0;
        self.sent = 0;
        self.send(poller, token)?;
        Ok(1)
    }
}
