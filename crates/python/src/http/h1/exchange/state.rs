//! The state of an exchange, and its transitions as bytes come in: nothing in here calls foreign code.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefReference};
use whorl_core::client::coding::Decoder;
use whorl_core::client::stream::PieceSizes;
use whorl_core::http1::{Framing, ResponseHead};

use crate::http::body_source::Source;
use crate::http::failures::MessageError;
use crate::http::guard::EndGuard;
use crate::http::h1::body::ResponseBody;
use crate::http::h1::coding::{self, DecodedPieces};
use crate::http::stream_reader::{Span, StreamInput, StreamReaderBase};
use crate::interpreter::Attached;

/// The phase of a response.
#[derive(Debug)]
pub enum ExchangePhase {
    /// The head has not arrived.
    Waiting,
    /// The head is here, the body on its way.
    Receiving,
    /// All of it has arrived.
    Ended,
    /// It will not come; the exception says why.
    Failed(Py<PyAny>),
}

/// The receiver of the body.
#[derive(Debug)]
pub enum BodyDelivery {
    /// None so far: the body is kept, up to a limit.
    Unread,
    /// A waiter for the whole body.
    Whole,
    /// A `StreamReader` takes it as it comes. The reader and the response belong to the user. Where both are
    /// dropped the rest of the body is not wanted, and they are freed before its end has come.
    Reader(Py<PyWeakrefReference>),
    /// None: the body is dropped.
    Discarded,
}

/// A content coding being undone.
#[derive(Debug)]
pub struct Decoding {
    /// None while it is out, at work on a [`DecodeStep`].
    decoder: Option<Decoder>,
    /// Coded bytes that wait for space in the buffer, or for the decoder.
    pending: Pending,
    /// The decoder has more output than the buffer took.
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
        if data.is_empty() {
            return;
        }
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
        self.decoder.is_none() || self.more || !self.pending.rest().is_empty()
    }
}

/// A decoder and its input, taken out of the state: decoding detaches from the interpreter, and nothing does that while
/// state is open.
#[derive(Debug)]
pub struct DecodeStep {
    decoder: Decoder,
    pending: Pending,
    /// Whether no more input comes.
    is_all: bool,
    /// The most bytes of output.
    most: usize,
    /// In which pieces it is wanted.
    sizes: PieceSizes,
}

impl DecodeStep {
    /// Decodes up to that many bytes.
    ///
    /// # Errors
    /// MemoryError.
    pub fn run(&mut self, py: Python<'_>) -> PyResult<DecodedPieces> {
        let input = self.pending.rest();
        let decoded = coding::decode(py, &mut self.decoder, input, self.is_all, self.most, self.sizes)?;
        if let Ok(progress) = &decoded.outcome {
            self.pending.take(progress.consumed);
        }
        Ok(decoded)
    }
}

/// What the request says about its response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    /// Bytes that are kept unread before the peer is made to wait.
    pub buffer_size: usize,
    /// Whether content codings are undone.
    pub decompress: bool,
    /// Whether a body without a length is read until the connection ends.
    pub read_until_eof: bool,
}

/// The state, which belongs to the loop's thread.
#[derive(Debug)]
pub struct ExchangeState {
    pub source: Option<Source>,
    pub framing: Framing,
    pub phase: ExchangePhase,
    pub delivery: BodyDelivery,
    pub body: ResponseBody,
    pub decoding: Option<Box<Decoding>>,
    /// The connection has received all of it; with a coding, some of it may wait to be decoded.
    pub received: bool,
    pub paused: bool,
    pub head_waiter: Option<Py<PyAny>>,
    pub body_waiters: Vec<Py<PyAny>>,
    /// The reader, while a task waits in it: nothing else may refer to the waiter.
    pub awaited_reader: Option<Py<StreamReaderBase>>,
    /// Decoding continues in a later turn of the loop.
    pub deferred: bool,
    pub continue_waiter: Option<Py<PyAny>>,
    pub on_end: Vec<Py<PyAny>>,
    /// What is over when it ends: the deadline of its request.
    pub guard: Option<Box<dyn EndGuard>>,
    pub raw_bytes: u64,
    pub options: ResponseOptions,
}

/// The actions for when the state is closed: all of them run foreign code.
#[derive(Debug, Default)]
pub struct Actions {
    /// The head, which has come.
    pub head: Option<Arc<ResponseHead>>,
    /// What was found in received bytes that is not copied.
    pub spans: Vec<Span>,
    /// The same with the memory that it is in.
    pub input: Option<StreamInput>,
    /// What was decoded for the reader.
    pub decoded: Vec<Py<PyBytes>>,
    pub wake: Vec<Py<PyAny>>,
    pub ended: bool,
    /// More may be decoded after the pieces are fed.
    pub pump: bool,
    /// The connection, from which the exchange has parted.
    pub parted: Option<Source>,
    pub pause: bool,
}

impl ExchangeState {
    /// The head has arrived.
    pub fn take_head(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        actions: &mut Actions,
    ) -> Result<(), MessageError> {
        if self.options.decompress {
            self.decoding = decoder_for(&head).map(|decoder| {
                Box::new(Decoding { decoder: Some(decoder), pending: Pending::default(), more: false })
            });
        }
        self.framing = framing;
        actions.head = Some(Arc::new(head));
        self.phase = ExchangePhase::Receiving;
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

    /// A piece of the body has arrived. One in a coding waits until the state is closed.
    /// `place` is where it stands in what was received.
    pub fn take_data(&mut self, at: Attached<'_>, data: &[u8], place: usize, actions: &mut Actions) {
        self.raw_bytes += data.len() as u64;
        if matches!(self.delivery, BodyDelivery::Discarded) {
            return;
        }
        match &mut self.decoding {
            None => self.deliver(at, data, place, actions),
            Some(decoding) => {
                decoding.pending.push(data);
                actions.pump = true;
                actions.pause |= self.is_over_limit(at);
            }
        }
    }

    fn deliver(&mut self, at: Attached<'_>, data: &[u8], place: usize, actions: &mut Actions) {
        match &self.delivery {
            BodyDelivery::Reader(_) => actions.spans.push(Span::Data(place..place + data.len())),
            BodyDelivery::Discarded => {}
            BodyDelivery::Unread | BodyDelivery::Whole => {
                let expected = self.expected();
                if expected.is_some_and(|size| size > data.len()) && self.body.keeps(data.len()) {
                    actions.spans.push(Span::Data(place..place + data.len()));
                    return;
                }
                self.body.push(at, data, expected);
                actions.pause |= self.is_over_limit(at);
            }
        }
    }

    /// How many bytes the body has in all, as far as that is known.
    pub fn expected(&self) -> Option<usize> {
        match &self.framing {
            Framing::Length(size) => usize::try_from(*size).ok(),
            _ => None,
        }
    }

    /// Adds to the body what was kept of received bytes for it; whether the peer is to be made to wait.
    pub fn keep_input(&mut self, at: Attached<'_>, input: StreamInput) -> bool {
        self.body.push_input(at, input, self.expected());
        self.is_over_limit(at)
    }

    /// Whether the peer is to be made to wait, as the body is not read.
    pub fn is_over_limit(&self, at: Attached<'_>) -> bool {
        matches!(self.delivery, BodyDelivery::Unread) && self.body.len(at) > 2 * self.options.buffer_size
    }

    /// A chunk of the chunked coding has ended.
    pub fn take_chunk_end(&mut self, at: Attached<'_>, actions: &mut Actions) {
        if self.decoding.is_some() {
            // Its bytes may wait to be decoded: chunks mean nothing there, and aiohttp's marks are by decoded bytes.
            return;
        }
        match &self.delivery {
            BodyDelivery::Reader(_) => actions.spans.push(Span::ChunkEnd),
            BodyDelivery::Unread => self.body.end_chunk(at),
            BodyDelivery::Whole | BodyDelivery::Discarded => {}
        }
    }

    /// The connection has received all of the response.
    pub fn take_end(&mut self, actions: &mut Actions) -> Result<(), MessageError> {
        self.received = true;
        actions.parted = self.source.take();
        self.end_if_drained(actions)
    }

    fn end_if_drained(&mut self, actions: &mut Actions) -> Result<(), MessageError> {
        if !self.received || !matches!(self.phase, ExchangePhase::Receiving) {
            return Ok(());
        }
        if let Some(decoding) = &mut self.decoding {
            if decoding.waits() {
                actions.pump = true;
                return Ok(());
            }
            if self.raw_bytes > 0
                && !matches!(self.delivery, BodyDelivery::Discarded)
                && let Some(decoder) = &mut decoding.decoder
            {
                decoder.finish().map_err(MessageError::Coding)?;
            }
        }
        self.phase = ExchangePhase::Ended;
        actions.ended = true;
        actions.wake.append(&mut self.body_waiters);
        Ok(())
    }

    /// Takes the decoder out with the pending bytes, if the buffer allows it: to decode to pieces of `sizes`. Nothing is taken
    /// while a step is out already: its owner continues with the bytes that arrived meanwhile.
    pub fn begin_decoding(
        &mut self,
        at: Attached<'_>,
        sizes: PieceSizes,
        actions: &mut Actions,
    ) -> Result<Option<DecodeStep>, MessageError> {
        let blocked = self.paused || self.deferred || self.is_over_limit(at);
        if blocked || !matches!(self.phase, ExchangePhase::Receiving) {
            return Ok(None);
        }
        let Some(decoding) = &mut self.decoding else { return Ok(None) };
        if !decoding.waits() {
            self.end_if_drained(actions)?;
            return Ok(None);
        }
        let Some(decoder) = decoding.decoder.take() else { return Ok(None) };
        let pending = std::mem::take(&mut decoding.pending);
        let most = self.options.buffer_size.max(1);
        Ok(Some(DecodeStep { decoder, pending, is_all: self.received, most, sizes }))
    }

    /// Puts the decoder back and delivers the step's output. The exchange may be over by then.
    pub fn end_decoding(
        &mut self,
        at: Attached<'_>,
        step: DecodeStep,
        decoded: DecodedPieces,
        actions: &mut Actions,
    ) -> Result<(), MessageError> {
        let DecodeStep { decoder, mut pending, .. } = step;
        let DecodedPieces { pieces, outcome } = decoded;
        let Some(decoding) = &mut self.decoding else { return Ok(()) };
        pending.push(decoding.pending.rest());
        decoding.pending = pending;
        decoding.decoder = Some(decoder);
        decoding.more = outcome.map_err(MessageError::Coding)?.more;
        actions.pump |= decoding.waits();
        match &self.delivery {
            _ if pieces.is_empty() => {}
            BodyDelivery::Discarded => {}
            BodyDelivery::Unread | BodyDelivery::Whole => {
                for piece in pieces {
                    self.body.push_piece(at, piece);
                }
                actions.pause |= self.is_over_limit(at);
            }
            BodyDelivery::Reader(_) => actions.decoded = pieces,
        }
        self.end_if_drained(actions)
    }

    /// It will not come.
    ///
    /// # Errors
    /// `error`, if it is over already.
    pub fn transition_to_failed(&mut self, error: Py<PyAny>, actions: &mut Actions) -> Result<(), Py<PyAny>> {
        if matches!(self.phase, ExchangePhase::Ended | ExchangePhase::Failed(_)) {
            return Err(error);
        }
        self.phase = ExchangePhase::Failed(error);
        self.decoding = None;
        actions.wake.extend(self.head_waiter.take());
        actions.wake.append(&mut self.body_waiters);
        actions.wake.extend(self.continue_waiter.take());
        actions.ended = true;
        Ok(())
    }
}

/// A decoder for the codings that the head names; a body in one that is not known is handed on unchanged.
fn decoder_for(head: &ResponseHead) -> Option<Decoder> {
    // Several fields are one list (RFC 9110, section 5.3).
    let values: Option<Vec<_>> =
        head.fields.get_all("content-encoding").map(|value| std::str::from_utf8(value).ok()).collect();
    Decoder::new(&values.filter(|values| !values.is_empty())?.join(","))
        .ok()
        .filter(|decoder| !decoder.is_identity())
}
