//! Keep-alive HTTP/1.1 load: one GET at a time on each connection.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::io::{Errno, read, write};

use super::churn::connect;
use super::{Exchange, Options, drive};
use crate::meter::{Meter, Report};
use crate::poll::{Poller, Waiting};

/// Sends `GET /` over keep-alive connections. A response must be a 200 with a `Content-Length`.
pub fn http_load(address: SocketAddr, options: Options, meter: &mut Meter) -> Result<Report> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nUser-Agent: whorl-bench\r\n\r\n"
    );
    let exchanges = (0..options.connections)
        .map(|_| {
            Ok(Http {
                stream: connect(address)?,
                request: request.clone().into_bytes(),
                response: Vec::new(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    drive(exchanges, options.spin, meter)
}

struct Http {
    stream: TcpStream,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Http {
    fn send(&mut self) -> Result<()> {
        // At most one small request is in flight, so the socket buffer always has room for it.
        let sent = write(&self.stream, &self.request).context("write")?;
        if sent != self.request.len() {
            bail!("a request of {} bytes was cut short", self.request.len());
        }
        Ok(())
    }
}

impl Exchange for Http {
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()> {
        poller.add(self.stream.as_fd(), token, Waiting::Read.interest())?;
        self.send()
    }

    fn advance(&mut self, _poller: &Poller, _token: usize, scratch: &mut [u8]) -> Result<u64> {
        match read(&self.stream, &mut *scratch) {
            Ok(0) => bail!("the server closed a keep-alive connection"),
            Ok(count) => self.response.extend_from_slice(scratch.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error).context("read"),
        }
        let Some(length) = response_length(&self.response)? else {
            return Ok(0);
        };
        match self.response.len() {
            have if have < length => Ok(0),
            have if have > length => bail!("{} bytes after the response", have - length),
            _ => {
                self.response.clear();
                self.send()?;
                Ok(1)
            }
        }
    }
}

/// How many bytes head and body take together, once the head is whole.
fn response_length(response: &[u8]) -> Result<Option<usize>> {
    let Some(head_end) = response.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(response.get(..head_end).unwrap_or_default())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        bail!("the server returned {status:?}");
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .with_context(|| format!("no Content-Length in the response {head:?}"))?
        .1
        .trim()
        .parse::<usize>()?;
    Ok(Some(head_end + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::response_length;

    #[test]
    fn a_response_is_as_long_as_its_head_and_body() -> anyhow::Result<()> {
        assert_eq!(response_length(b"HTTP/1.1 200 OK\r\nContent-Le")?, None);
        assert_eq!(response_length(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?, Some(40));
        Ok(())
    }

    #[test]
    fn an_error_status_or_an_unknown_length_is_an_error() {
        assert!(response_length(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(response_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
