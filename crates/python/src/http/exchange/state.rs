//! What becomes of an exchange's state as bytes come in: nothing in here calls anything foreign.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefReference};
use whorl_core::client::coding::Decoder;
use whorl_core::http1::{Framing, ResponseHead};

use crate::http::body::{Body, Piece};
use crate::http::coding;
use crate::http::connection::HttpConnection;
use crate::http::deadlines::Deadline;
use crate::http::fault::Fault;

/// How far the answer has come.
#[derive(Debug)]
pub enum Phase {
    /// The head has not arrived.
    Waiting,
    /// The head is here, the body on its way.
    Receiving,
    /// All of it has arrived.
    Ended,
    /// It will not come; the exception says why.
    Failed(Py<PyAny>),
}

/// Who gets the body.
#[derive(Debug)]
pub enum Delivery {
    /// Nobody has asked: kept, up to a limit.
    Unread,
    /// Somebody waits for the whole.
    Whole,
    /// A `StreamReader` takes it as it comes. It is its user's, and so is the response: a user who lets go of both wants
    /// no more, and must not have to wait for the end of the body to be rid of them.
    Reader(Py<PyWeakrefReference>),
    /// Nobody will ask.
    Discarded,
}

/// A content coding being undone.
#[derive(Debug)]
pub struct Decoding {
    decoder: Decoder,
    /// Coded bytes that wait for room.
    pending: Pending,
    /// The decoder has more output than there was room for.
    more: bool,
}

/// Bytes that are taken from the front, a few at a time.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// So many of them are taken: moving the rest each time would take longer than decoding it.
    taken: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn push(&mut self, data: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(data);
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }
}

impl Decoding {
    fn waits(&self) -> bool {
        self.more || !self.pending.rest().is_empty()
    }
}

/// What the request asks of the answer's delivery.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    /// Bytes kept for a user who does not read before the peer is made to wait.
    pub buffer_size: usize,
    /// Whether content codings are undone.
    pub decompress: bool,
    /// Whether a body without a length is read until the connection ends.
    pub read_until_eof: bool,
}

/// The state, which belongs to the loop's thread.
#[derive(Debug)]
pub struct State {
    pub connection: Option<Py<HttpConnection>>,
    pub head: Option<Arc<ResponseHead>>,
    pub framing: Framing,
    pub phase: Phase,
    pub delivery: Delivery,
    pub body: Body,
    pub decoding: Option<Box<Decoding>>,
    /// The connection has given all there is; with a coding, some of it may wait to be decoded.
    pub received: bool,
    pub paused: bool,
    pub head_waiter: Option<Py<PyAny>>,
    pub body_waiters: Vec<Py<PyAny>>,
    /// The reader, while somebody waits in it: nothing else may know of who waits.
    pub awaited_reader: Option<Py<PyAny>>,
    /// Decoding goes on in a later turn of the loop.
    pub deferred: bool,
    pub continue_waiter: Option<Py<PyAny>>,
    pub on_end: Vec<Py<PyAny>>,
    pub deadline: Option<Deadline>,
    pub raw_bytes: u64,
    pub options: ResponseOptions,
}

/// What is to be done once the state is closed: all of it runs foreign code.
#[derive(Debug, Default)]
pub struct Actions {
    pub pieces: Vec<Piece>,
    pub wake: Vec<Py<PyAny>>,
    pub ended: bool,
    /// More may be decoded after the pieces are fed.
    pub pump: bool,
    /// The connection, which the exchange has nothing to do with any more.
    pub parted: Option<Py<HttpConnection>>,
    pub pause: bool,
}

impl State {
    /// The head has arrived.
    pub fn take_head(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        actions: &mut Actions,
    ) -> Result<(), Fault> {
        if self.options.decompress {
            self.decoding = decoder_for(&head)
                .map(|decoder| Box::new(Decoding { decoder, pending: Pending::default(), more: false }));
        }
        self.framing = framing;
        self.head = Some(Arc::new(head));
        self.phase = Phase::Receiving;
        actions.wake.extend(self.head_waiter.take());
        Ok(())
    }

    /// Whether a body that ends with the connection is not wanted.
    pub fn ignores_body(&self) -> bool {
        !self.options.read_until_eof && matches!(self.framing, Framing::UntilEof)
    }

    /// 100 Continue: the body may be sent.
    pub fn take_continue(&mut self, actions: &mut Actions) {
        actions.wake.extend(self.continue_waiter.take());
    }

    /// A piece of the body has arrived.
    pub fn take_data(&mut self, py: Python<'_>, data: &[u8], actions: &mut Actions) -> Result<(), Fault> {
        self.raw_bytes += data.len() as u64;
        if matches!(self.delivery, Delivery::Discarded) {
            return Ok(());
        }
        match &mut self.decoding {
            None => {
                self.deliver(py, data, actions);
                Ok(())
            }
            Some(decoding) => {
                if decoding.waits() {
                    decoding.pending.push(data);
                    actions.pause |= self.is_over_limit(py);
                    return Ok(());
                }
                let used = self.decode(py, data, actions)?;
                if let (Some(decoding), Some(rest)) = (&mut self.decoding, data.get(used..)) {
                    decoding.pending.push(rest);
                }
                Ok(())
            }
        }
    }

    /// Decodes as much of `data` as there is room for; says how much was used.
    fn decode(&mut self, py: Python<'_>, data: &[u8], actions: &mut Actions) -> Result<usize, Fault> {
        let Some(decoding) = &mut self.decoding else { return Ok(0) };
        let mut out = Vec::new();
        let most = self.options.buffer_size.max(1);
        let progress =
            coding::decode(py, &mut decoding.decoder, data, &mut out, most).map_err(Fault::Coding)?;
        decoding.more = progress.more;
        actions.pump |= progress.more || progress.consumed < data.len();
        match &self.delivery {
            _ if out.is_empty() => {}
            Delivery::Unread | Delivery::Whole => {
                self.body.push_owned(py, out);
                actions.pause |= self.is_over_limit(py);
            }
            Delivery::Reader(_) | Delivery::Discarded => self.deliver(py, &out, actions),
        }
        Ok(progress.consumed)
    }

    fn deliver(&mut self, py: Python<'_>, data: &[u8], actions: &mut Actions) {
        match &self.delivery {
            Delivery::Reader(_) => actions.pieces.push(Piece::Data(PyBytes::new(py, data).unbind())),
            Delivery::Discarded => {}
            Delivery::Unread | Delivery::Whole => {
                let expected = match &self.framing {
                    Framing::Length(size) => usize::try_from(*size).ok(),
                    _ => None,
                };
                self.body.push(py, data, expected);
                actions.pause |= self.is_over_limit(py);
            }
        }
    }

    /// Whether the peer is to be made to wait, as nobody reads.
    fn is_over_limit(&self, py: Python<'_>) -> bool {
        matches!(self.delivery, Delivery::Unread) && self.body.len(py) > 2 * self.options.buffer_size
    }

    /// A chunk of the chunked coding has ended.
    pub fn take_chunk_end(&mut self, py: Python<'_>, actions: &mut Actions) {
        if self.decoding.is_some() {
            // Its bytes may wait to be decoded: chunks mean nothing there, and aiohttp's marks are by decoded bytes.
            return;
        }
        match &self.delivery {
            Delivery::Reader(_) => actions.pieces.push(Piece::ChunkEnd),
            Delivery::Unread => self.body.end_chunk(py),
            Delivery::Whole | Delivery::Discarded => {}
        }
    }

    /// The connection has given all there is.
    pub fn take_end(&mut self, actions: &mut Actions) -> Result<(), Fault> {
        self.received = true;
        actions.parted = self.connection.take();
        self.end_if_drained(actions)
    }

    fn end_if_drained(&mut self, actions: &mut Actions) -> Result<(), Fault> {
        if !self.received || !matches!(self.phase, Phase::Receiving) {
            return Ok(());
        }
        if let Some(decoding) = &mut self.decoding {
            if decoding.waits() {
                actions.pump = true;
                return Ok(());
            }
            if self.raw_bytes > 0 && !matches!(self.delivery, Delivery::Discarded) {
                decoding.decoder.finish().map_err(Fault::Coding)?;
            }
        }
        self.phase = Phase::Ended;
        actions.ended = true;
        actions.wake.append(&mut self.body_waiters);
        Ok(())
    }

    /// Decodes more of what waits, if there is room.
    pub fn pump(&mut self, py: Python<'_>, actions: &mut Actions) -> Result<(), Fault> {
        let blocked = self.paused || self.deferred || self.is_over_limit(py);
        if blocked || !matches!(self.phase, Phase::Receiving) {
            return Ok(());
        }
        let Some(decoding) = &mut self.decoding else { return Ok(()) };
        if decoding.waits() {
            let mut pending = std::mem::take(&mut decoding.pending);
            pending.take(self.decode(py, pending.rest(), actions)?);
            if let Some(decoding) = &mut self.decoding {
                decoding.pending = pending;
            }
        }
        self.end_if_drained(actions)
    }

    /// It will not come; false if it is over already.
    #[must_use]
    pub fn transition_to_failed(&mut self, error: Py<PyAny>, actions: &mut Actions) -> bool {
        if matches!(self.phase, Phase::Ended | Phase::Failed(_)) {
            return false;
        }
        self.phase = Phase::Failed(error);
        self.decoding = None;
        actions.wake.extend(self.head_waiter.take());
        actions.wake.append(&mut self.body_waiters);
        actions.wake.extend(self.continue_waiter.take());
        actions.ended = true;
        true
    }
}

/// A decoder for the codings that the head names; a body in one that is not known is handed on as it comes.
fn decoder_for(head: &ResponseHead) -> Option<Decoder> {
    // Several fields are one list (RFC 9110, section 5.3).
    let values: Option<Vec<_>> =
        head.fields.get_all("content-encoding").map(|value| std::str::from_utf8(value).ok()).collect();
    Decoder::new(&values.filter(|values| !values.is_empty())?.join(","))
        .ok()
        .filter(|decoder| !decoder.is_identity())
}
