//! The HTTP/1.1 server that measured clients talk to.
//!
//! One thread over one epoll, which it polls without sleeping: no client pays for waking it. Every response is made
//! once and then only copied to the socket.

mod connection;
mod echo;
mod pages;
mod request;

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, listen};
use rustls::{ServerConfig, ServerConnection};
use slab::Slab;

use crate::poll::{Poller, Scratch, Waiting};
use connection::Connection;
use pages::Pages;
use request::{Page, Request};

/// Connections that may wait to be accepted: a client opens thousands at once.
const BACKLOG: i32 = 4096;
const EVENTS: usize = 1024;
const LISTENER: usize = usize::MAX;

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// TLS on every connection.
    pub tls: Option<Arc<ServerConfig>>,
    /// Poll without sleeping.
    pub spin: bool,
}

/// Serves until the process is ended. Returns only with an error.
pub fn serve(listener: &TcpListener, options: Options) -> Result<()> {
    listener.set_nonblocking(true)?;
    listen(listener, BACKLOG).context("listen")?;
    let mut server = Server {
        poller: Poller::new()?,
        connections: Slab::new(),
        pages: Pages::default(),
        held: Vec::new(),
        watch: None,
        options,
    };
    server.poller.add(listener.as_fd(), LISTENER, Waiting::Read.interest())?;
    let mut scratch = Scratch::new();
    let scratch = scratch.bytes()?;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
    loop {
        server.poller.wait(&mut events, server.options.spin)?;
        for event in &events {
            match usize::try_from(event.data.u64())? {
                LISTENER => server.accept(listener)?,
                token => server.advance(token, scratch)?,
            }
        }
    }
}

/// A client that waits until so many requests are held.
#[derive(Clone, Copy, Debug)]
struct Watch {
    token: usize,
    count: usize,
}

struct Server {
    poller: Poller,
    connections: Slab<Connection>,
    pages: Pages,
    /// Requests whose response waits for [`Page::Release`]: the connection and the response.
    held: Vec<(usize, Rc<[u8]>)>,
    watch: Option<Watch>,
    options: Options,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            let stream = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(stream) => stream,
                Err(Errno::AGAIN) => return Ok(()),
                // The client gave up before we came to it.
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error).context("accept"),
            };
            let session = self.options.tls.clone().map(ServerConnection::new).transpose()?;
            let entry = self.connections.vacant_entry();
            let token = entry.key();
            let connection = entry.insert(Connection::new(stream.into(), session)?);
            connection.register(&self.poller, token)?;
        }
    }

    /// Reads what a connection has, and answers the requests in it.
    fn advance(&mut self, token: usize, scratch: &mut [u8]) -> Result<()> {
        let Some(connection) = self.connections.get_mut(token) else {
            return Ok(());
        };
        // A connection that breaks is the client's affair; it reports what it missed.
        if connection.receive(scratch).is_err() {
            self.connections.remove(token);
            return Ok(());
        }
        while let Some(request) = self.connections.get_mut(token).and_then(Connection::next_request) {
            self.respond(token, &request)?;
        }
        if self.connections.get_mut(token).is_some_and(|connection| connection.echo().is_err()) {
            self.connections.remove(token);
        }
        self.flush(token);
        Ok(())
    }

    fn respond(&mut self, token: usize, request: &Request) -> Result<()> {
        if request.close
            && let Some(connection) = self.connections.get_mut(token)
        {
            connection.close_after_response();
        }
        match request.page {
            Page::Hold(size) => {
                self.held.push((token, self.pages.fixed(Page::Bytes(size))?));
                self.notify_watcher()
            }
            Page::Held(count) => {
                self.watch = Some(Watch { token, count });
                self.notify_watcher()
            }
            Page::Release => {
                for (held, response) in std::mem::take(&mut self.held) {
                    self.send(held, response);
                }
                let response = self.pages.fixed(Page::Bytes(0))?;
                self.send(token, response);
                Ok(())
            }
            page => {
                let response = self.pages.response(request)?;
                if let Some(connection) = self.connections.get_mut(token) {
                    match page {
                        Page::Close(_) => connection.close_after_response(),
                        Page::Echo if request.accept_key.is_some() => connection.switch_to_websocket(),
                        _ => {}
                    }
                }
                self.send(token, response);
                Ok(())
            }
        }
    }

    fn notify_watcher(&mut self) -> Result<()> {
        if let Some(Watch { token, count }) = self.watch
            && self.held.len() >= count
        {
            self.watch = None;
            let response = self.pages.fixed(Page::Bytes(0))?;
            self.send(token, response);
        }
        Ok(())
    }

    fn send(&mut self, token: usize, response: Rc<[u8]>) {
        if let Some(connection) = self.connections.get_mut(token) {
            connection.queue(response);
            self.flush(token);
        }
    }

    /// Writes what a socket takes, and closes the connection when its last response is out or it has broken.
    fn flush(&mut self, token: usize) {
        if let Some(connection) = self.connections.get_mut(token)
            && !connection.flush(&self.poller, token).is_ok_and(|state| state.is_open())
        {
            // Dropping the stream closes it, which also takes it off the poller.
            self.connections.remove(token);
        }
    }
}
