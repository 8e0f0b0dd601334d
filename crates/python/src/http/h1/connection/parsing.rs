//! What the bytes of a response are to a connection.

use pyo3::prelude::*;
use whorl_core::http1::MessageEvent;

use crate::http::failures::MessageError;
use crate::http::h1::exchange::{Actions, Exchange, ExchangePhase};
use crate::interpreter::{Attached, CloneWith};

use super::{ConnectionStage, ConnectionState, HttpConnection, KeepAlive};

/// The result of parsing, before anything is called.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) exchange: Option<Py<Exchange>>,
    pub(super) actions: Actions,
    pub(super) outcome: Outcome,
    /// Whether the peer's silence is timed: it begins anew, once the clock may be read.
    pub(super) breaks_silence: bool,
}

#[derive(Debug, Default)]
pub(super) enum Outcome {
    /// There is more to come.
    #[default]
    Open,
    /// The message has ended.
    Ended,
    /// The exchange has failed, in this part of the message.
    Failed(MessageError, MessagePart),
    /// Bytes outside of an exchange.
    Stray,
    /// Bytes of another protocol.
    Foreign(Vec<u8>),
}

/// The parts of a message, which fail as different exceptions.
#[derive(Debug)]
pub(super) enum MessagePart {
    Head,
    Body,
}

impl HttpConnection {
    /// Parses what the transport has received. Calls nothing foreign: the memory is the loop's.
    #[inline]
    pub(super) fn feed<'py>(&self, at: impl Into<Attached<'py>>, input: &[u8]) -> PyResult<Parsed> {
        let mut parsed = Parsed::default();
        self.with_attached(at, |state, at| state.feed(at, input, &mut parsed))??;
        Ok(parsed)
    }
}

impl ConnectionState {
    /// Parses `input`, which is all the bytes that have arrived.
    fn feed(&mut self, at: Attached<'_>, mut input: &[u8], parsed: &mut Parsed) -> PyResult<()> {
        let received = input;
        if let ConnectionStage::Upgraded(_) | ConnectionStage::Handed(_) = self.stage {
            parsed.outcome = Outcome::Foreign(input.to_vec());
            return Ok(());
        }
        parsed.breaks_silence = self.read_timeout.silent_since.is_some();
        let Some(exchange) = &self.exchange else {
            parsed.outcome = Outcome::Stray;
            return Ok(());
        };
        parsed.exchange = Some(exchange.clone_with(at));
        let parser = &mut self.parser;
        let (stage, keep_alive) = (&mut self.stage, &mut self.keep_alive);
        let actions = &mut parsed.actions;
        parsed.outcome = exchange.get().with_attached(at, |exchange, at| {
            loop {
                let step = parser.parse(input).map_err(MessageError::from).and_then(|(event, used)| {
                    input = input.get(used..).unwrap_or_default();
                    match event {
                        MessageEvent::NeedMore => return Ok(Some(Outcome::Open)),
                        MessageEvent::Informational(head) => {
                            if head.status == 100 {
                                exchange.take_continue(actions);
                            }
                        }
                        MessageEvent::Head(head, framing) => {
                            exchange.take_continue(actions);
                            exchange.take_head(head, framing, actions)?;
                            if exchange.ignores_body() {
                                *keep_alive = KeepAlive::Close;
                                exchange.take_end(actions)?;
                                return Ok(Some(Outcome::Ended));
                            }
                        }
                        MessageEvent::Data(data) => {
                            let place = data.as_ptr().addr() - received.as_ptr().addr();
                            exchange.take_data(at, data, place, actions);
                        }
                        MessageEvent::ChunkEnd => exchange.take_chunk_end(at, actions),
                        MessageEvent::Trailers(_) => {}
                        MessageEvent::End { keep_alive: offered } => {
                            // Bytes after the response belong to no request: the connection cannot be trusted with
                            // another.
                            if !offered || !input.is_empty() {
                                *keep_alive = KeepAlive::Close;
                            }
                            exchange.take_end(actions)?;
                            return Ok(Some(Outcome::Ended));
                        }
                        MessageEvent::Tunnel => {
                            *stage = ConnectionStage::Upgraded(Vec::new());
                            *keep_alive = KeepAlive::Close;
                            return Ok(Some(Outcome::Foreign(input.to_vec())));
                        }
                    }
                    Ok(None)
                });
                match step {
                    Ok(None) => {}
                    Ok(Some(outcome)) => return outcome,
                    Err(fault) => {
                        *keep_alive = KeepAlive::Close;
                        let part = match exchange.phase {
                            ExchangePhase::Waiting => MessagePart::Head,
                            _ => MessagePart::Body,
                        };
                        return Outcome::Failed(fault, part);
                    }
                }
            }
        })?;
        Ok(())
    }
}
