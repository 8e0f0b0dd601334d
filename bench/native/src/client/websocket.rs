//! The reference of a WebSocket client: tokio-tungstenite, which a Rust program would take.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::Uri;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::load::message;

/// An open WebSocket, and what it sends.
pub(super) struct Echo {
    stream: WebSocketStream<TcpStream>,
    message: Bytes,
}

impl Echo {
    /// Opens a WebSocket for messages of `size` bytes, which differ for each `connection`.
    pub(super) async fn open(url: &Uri, connection: usize, size: usize) -> Result<Self> {
        let address = url.authority().context("a URL without a host")?.as_str();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let path = url.path();
        let (stream, _) = client_async(format!("ws://{address}{path}"), stream).await?;
        Ok(Self { stream, message: message(connection, size).into() })
    }

    /// Sends the message and waits until it is back.
    pub(super) async fn round_trip(&mut self) -> Result<()> {
        self.stream.send(Message::Binary(self.message.clone())).await?;
        match self.stream.next().await.context("the server closed the WebSocket")?? {
            Message::Binary(received) if received == self.message => Ok(()),
            other => bail!("the echo differs from what was sent: {} bytes", other.len()),
        }
    }
}
