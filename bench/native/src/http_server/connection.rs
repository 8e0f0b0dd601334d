//! One client's connection: bytes in, responses out, plain or inside TLS.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Result, bail};
use rustls::ServerConnection;

use super::echo::echo_frames;
use super::request::{Request, RequestReader};
use crate::poll::{Poller, Waiting};

/// Whether a connection continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum ConnectionState {
    Open,
    /// No more requests are read; it closes when the responses are out.
    Closing,
    Closed,
}

impl ConnectionState {
    pub(super) fn is_open(self) -> bool {
        self != Self::Closed
    }
}

/// What a connection speaks.
enum Protocol {
    Http(RequestReader),
    WebSocket,
}

/// A response and how much of it the socket has taken.
struct Outgoing {
    bytes: Rc<[u8]>,
    sent: usize,
}

pub(super) struct Connection {
    stream: TcpStream,
    session: Option<Box<ServerConnection>>,
    protocol: Protocol,
    input: Vec<u8>,
    output: VecDeque<Outgoing>,
    waiting: Waiting,
    state: ConnectionState,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, session: Option<ServerConnection>) -> Result<Self> {
        stream.set_nodelay(true)?;
        let session = session.map(|mut session| {
            session.set_buffer_limit(None);
            Box::new(session)
        });
        Ok(Self {
            stream,
            session,
            protocol: Protocol::Http(RequestReader::default()),
            input: Vec::new(),
            output: VecDeque::new(),
            waiting: Waiting::Read,
            state: ConnectionState::Open,
        })
    }

    pub(super) fn register(&self, poller: &Poller, token: usize) -> Result<()> {
        poller.add(self.stream.as_fd(), token, self.waiting.interest())
    }

    /// Reads what is there. An error ends the connection.
    pub(super) fn receive(&mut self, scratch: &mut [u8]) -> Result<()> {
        let Some(session) = &mut self.session else {
            match self.stream.read(scratch) {
                Ok(0) => bail!("the client closed the connection"),
                Ok(count) => self.input.extend_from_slice(scratch.get(..count).unwrap_or_default()),
                Err(error) if is_temporary(&error) => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        };
        match session.read_tls(&mut self.stream) {
            Ok(0) => bail!("the client closed the connection"),
            Ok(_) => {}
            Err(error) if is_temporary(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let state = session.process_new_packets()?;
        if state.plaintext_bytes_to_read() > 0 {
            session.reader().take(state.plaintext_bytes_to_read() as u64).read_to_end(&mut self.input)?;
        }
        if state.peer_has_closed() {
            bail!("the client ended the TLS session");
        }
        Ok(())
    }

    /// The next whole request, taken out of the input.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        match &mut self.protocol {
            Protocol::Http(reader) if self.state == ConnectionState::Open => {
                reader.next_request(&mut self.input)
            }
            Protocol::Http(_) | Protocol::WebSocket => None,
        }
    }

    /// What follows is frames.
    pub(super) fn switch_to_websocket(&mut self) {
        self.protocol = Protocol::WebSocket;
    }

    /// Answers the whole frames in the input of a WebSocket. An error ends the connection.
    pub(super) fn echo(&mut self) -> Result<()> {
        if let Protocol::WebSocket = self.protocol
            && self.state == ConnectionState::Open
        {
            let echoed = echo_frames(&mut self.input)?;
            if !echoed.frames.is_empty() {
                self.queue(echoed.frames.into());
            }
            if echoed.closed {
                self.close_after_response();
            }
        }
        Ok(())
    }

    pub(super) fn close_after_response(&mut self) {
        self.state = ConnectionState::Closing;
    }

    pub(super) fn queue(&mut self, bytes: Rc<[u8]>) {
        self.output.push_back(Outgoing { bytes, sent: 0 });
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, poller: &Poller, token: usize) -> Result<ConnectionState> {
        if let Some(session) = &mut self.session {
            for response in self.output.drain(..) {
                session.writer().write_all(&response.bytes)?;
                if self.state == ConnectionState::Closing {
                    session.send_close_notify();
                }
            }
            while session.wants_write() {
                match session.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(error) if is_temporary(&error) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            return self.settle(poller, token);
        }
        while let Some(response) = self.output.front_mut() {
            match self.stream.write(response.bytes.get(response.sent..).unwrap_or_default()) {
                Ok(count) => response.sent += count,
                Err(error) if is_temporary(&error) => break,
                Err(error) => return Err(error.into()),
            }
            if response.sent == response.bytes.len() {
                self.output.pop_front();
            }
        }
        self.settle(poller, token)
    }

    /// What is left to write decides what to wait for, and whether the end has come.
    fn settle(&mut self, poller: &Poller, token: usize) -> Result<ConnectionState> {
        let left = match &self.session {
            Some(session) => session.wants_write(),
            None => !self.output.is_empty(),
        };
        self.waiting.update(left, poller, self.stream.as_fd(), token)?;
        if self.state == ConnectionState::Closing && !left {
            self.state = ConnectionState::Closed;
        }
        Ok(self.state)
    }
}

fn is_temporary(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
