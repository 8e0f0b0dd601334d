//! Connections that are opened and then do nothing, for counting what an idle one costs the server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Connections from one source address before the next is taken, well under the range of ephemeral ports.
const PER_SOURCE: usize = 4_000;

/// Opens `count` connections to `address`, waits for the server's one-byte greeting on each (so that the server is
/// never more than one behind), says `held` on standard output, and holds them until standard input ends.
pub fn hold_connections(address: SocketAddr, count: usize) -> Result<()> {
    let mut held = Vec::with_capacity(count);
    for index in 0..count {
        let source = Ipv4Addr::new(127, 0, 0, u8::try_from(2 + index / PER_SOURCE)?);
        let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("socket")?;
        // They end by a reset: a port that was bound and is in TIME_WAIT is refused to every other bind and connect, and
        // thousands of them leave none to the next sample.
        set_socket_linger(&fd, Some(Duration::ZERO)).context("SO_LINGER")?;
        bind(&fd, &SocketAddrV4::new(source, 0)).with_context(|| format!("cannot bind to {source}"))?;
        connect(&fd, &address).with_context(|| format!("connection {index} to {address}"))?;
        let mut stream = TcpStream::from(fd);
        if stream.read(&mut [0])? != 1 {
            bail!("connection {index} was closed by the server");
        }
        held.push(stream);
    }
    let mut output = std::io::stdout();
    writeln!(output, "{{\"held\": {}}}", held.len())?;
    output.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("waiting for standard input to end")?;
    Ok(())
}
