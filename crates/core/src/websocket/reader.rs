//! From bytes to messages.

use super::close;
use super::deflate::Inflater;
use super::error::ProtocolError;
use super::frame::{FrameHeader, LARGEST_CONTROL, LARGEST_HEADER, Opcode};
use super::negotiation::DeflateAgreement;
use super::{WebSocketRole, mask};

/// The memory that an empty buffer for messages keeps, in bytes.
const KEPT: usize = 64 * 1024;
/// Masked bytes that are inflated are copied in pieces of this size.
const PIECE: usize = 4096;

/// A whole message or a control frame. Its payload belongs to the input or to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketEvent<'a> {
    /// A text message: valid UTF-8.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be followed by a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes the connection: its code, if it gives one, and its reason. Whatever follows is dropped.
    Close(Option<u16>, &'a str),
}

/// Reads what a peer sends after the handshake.
///
/// No more than one message is kept, and of that only the bytes so far: memory follows the received or inflated bytes,
/// not a frame's declared length. The buffer is given back when a large message has been taken.
#[derive(Debug)]
pub struct MessageReader {
    role: WebSocketRole,
    limit: Option<usize>,
    inflater: Option<Inflater>,
    state: ReaderState,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// Its payload so far; between messages the last one's, until the next call.
    payload: Vec<u8>,
    /// The payload of the control frame that is being received, which may come within a message.
    control: Short<LARGEST_CONTROL>,
}

/// Where in the stream of frames the input stands.
#[derive(Debug)]
enum ReaderState {
    /// In a header, of which these bytes have come.
    Header(Short<LARGEST_HEADER>),
    /// In the payload of a frame.
    Payload(Partial),
    /// After a close frame.
    Closed,
    /// The peer has broken the protocol.
    Failed(ProtocolError),
}

/// A frame whose payload is being received.
#[derive(Clone, Copy, Debug)]
struct Partial {
    header: FrameHeader,
    /// Bytes of the payload that have come.
    received: u64,
}

/// A message that has begun.
#[derive(Clone, Copy, Debug)]
struct Message {
    kind: MessageKind,
    coding: Coding,
    /// Bytes of its finished frames.
    size: u64,
    /// Bytes of its payload that are known to be UTF-8.
    valid: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageKind {
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Uncompressed,
    Deflated,
}

/// A complete message or frame; separate from [`WebSocketEvent`], which borrows from the place where it lies.
enum Complete<'a> {
    /// A frame that came whole, in the input.
    Here(Opcode, &'a [u8]),
    /// A message in the reader's buffer.
    Message(MessageKind),
    /// A control frame in the reader's buffer.
    Control(Opcode),
}

impl MessageReader {
    /// A reader for the end `role`. A message may have at most `limit` bytes, if there is a limit, compressed or not;
    /// without `agreement` compressed messages are refused.
    #[must_use]
    pub fn new(role: WebSocketRole, limit: Option<usize>, agreement: Option<DeflateAgreement>) -> Self {
        Self {
            role,
            limit,
            inflater: agreement.map(|agreement| Inflater::new(agreement.sent_by(role.peer()))),
            state: ReaderState::Header(Short::default()),
            message: None,
            payload: Vec::new(),
            control: Short::default(),
        }
    }

    /// Reads `input` up to the first complete event, and returns it with the number of bytes that were used. With
    /// nothing complete all of it is used.
    ///
    /// # Errors
    /// The peer has broken the protocol. That is final: each further call returns the same.
    pub fn parse<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<(Option<WebSocketEvent<'a>>, usize), ProtocolError> {
        if self.message.is_none() {
            self.payload.clear();
            self.payload.shrink_to(KEPT);
        }
        let mut rest = input;
        let complete = match self.advance(&mut rest) {
            Ok(complete) => complete,
            Err(error) => {
                self.state = ReaderState::Failed(error);
                self.message = None;
                self.payload = Vec::new();
                return Err(error);
            }
        };
        let used = input.len() - rest.len();
        let Some(complete) = complete else { return Ok((None, used)) };
        let event = match complete {
            Complete::Message(MessageKind::Text) => WebSocketEvent::Text(&self.payload),
            Complete::Message(MessageKind::Binary) => WebSocketEvent::Binary(&self.payload),
            Complete::Here(opcode, payload) => Self::event(&mut self.state, opcode, payload)?,
            Complete::Control(opcode) => Self::event(&mut self.state, opcode, self.control.bytes())?,
        };
        Ok((Some(event), used))
    }

    /// The event of one frame.
    fn event<'a>(
        state: &mut ReaderState,
        opcode: Opcode,
        payload: &'a [u8],
    ) -> Result<WebSocketEvent<'a>, ProtocolError> {
        Ok(match opcode {
            Opcode::Text => WebSocketEvent::Text(payload),
            Opcode::Binary | Opcode::Continuation => WebSocketEvent::Binary(payload),
            Opcode::Ping => WebSocketEvent::Ping(payload),
            Opcode::Pong => WebSocketEvent::Pong(payload),
            Opcode::Close => match close::parse(payload) {
                Ok((code, reason)) => {
                    *state = ReaderState::Closed;
                    WebSocketEvent::Close(code, reason)
                }
                Err(error) => {
                    *state = ReaderState::Failed(error);
                    return Err(error);
                }
            },
        })
    }

    fn advance<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Complete<'a>>, ProtocolError> {
        loop {
            match &mut self.state {
                ReaderState::Header(_) if rest.is_empty() => return Ok(None),
                ReaderState::Header(begun) => {
                    let Some(header) = begun.header(rest, self.role.peer(), self.inflater.is_some())? else {
                        return Ok(None);
                    };
                    self.begin(header)?;
                    if let Some(payload) = self.whole(header, rest) {
                        if header.opcode == Opcode::Text && str::from_utf8(payload).is_err() {
                            return Err(ProtocolError::NotUtf8);
                        }
                        self.state = ReaderState::Header(Short::default());
                        return Ok(Some(Complete::Here(header.opcode, payload)));
                    }
                    if !header.opcode.is_control() {
                        self.open(header);
                    }
                    self.state = ReaderState::Payload(Partial { header, received: 0 });
                }
                ReaderState::Payload(partial) => {
                    let Partial { header, received } = *partial;
                    let left = usize::try_from(header.length - received).unwrap_or(usize::MAX);
                    let (piece, after) = rest.split_at(left.min(rest.len()));
                    *rest = after;
                    partial.received += piece.len() as u64;
                    let is_whole = piece.len() == left;
                    let key = header.mask.map(|key| (key, (received % 4) as usize));
                    if header.opcode.is_control() {
                        self.control.extend(piece);
                        if is_whole {
                            if let Some(key) = header.mask {
                                mask::apply(key, 0, self.control.bytes_mut());
                            }
                            self.state = ReaderState::Header(Short::default());
                            return Ok(Some(Complete::Control(header.opcode)));
                        }
                        return Ok(None);
                    }
                    self.receive(piece, key)?;
                    if !is_whole {
                        return Ok(None);
                    }
                    self.state = ReaderState::Header(Short::default());
                    if let Some(kind) = self.end_frame(header)? {
                        return Ok(Some(Complete::Message(kind)));
                    }
                }
                ReaderState::Closed => {
                    *rest = &[];
                    return Ok(None);
                }
                ReaderState::Failed(error) => return Err(*error),
            }
        }
    }

    /// Checks that a frame with this header may come now, and is not too large.
    fn begin(&mut self, header: FrameHeader) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            // Its first reserved bit has no meaning where compression is agreed, and some peers set it: it is let pass.
            self.control = Short::default();
            return Ok(());
        }
        let (size, coding) = match (header.opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (Opcode::Continuation, Some(_)) if header.rsv1 => return Err(ProtocolError::ReservedBits),
            (Opcode::Continuation, Some(message)) => (message.size, message.coding),
            (opcode, Some(_)) => return Err(ProtocolError::Unfinished(opcode)),
            (_, None) => (0, Coding::of(header)),
        };
        let size = size.saturating_add(header.length);
        if let Some(limit) = self.limit
            && size > coding.most(limit)
        {
            return Err(ProtocolError::TooBig { size, limit });
        }
        Ok(())
    }

    /// The payload of a frame that is an event by itself and lies in `rest` as it is: it need not be copied.
    fn whole<'a>(&self, header: FrameHeader, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let is_event = header.opcode.is_control() || (self.message.is_none() && header.fin && !header.rsv1);
        if !is_event || header.mask.is_some() {
            return None;
        }
        let (payload, after) = rest.split_at_checked(usize::try_from(header.length).ok()?)?;
        *rest = after;
        Some(payload)
    }

    /// Opens the message that a first frame begins.
    fn open(&mut self, header: FrameHeader) {
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            _ => return,
        };
        self.message = Some(Message { kind, coding: Coding::of(header), size: 0, valid: 0 });
    }

    /// Takes the next bytes of a message; with the key, and the place in it, if they are masked.
    fn receive(&mut self, piece: &[u8], key: Option<([u8; 4], usize)>) -> Result<(), ProtocolError> {
        let Some(message) = &mut self.message else { return Ok(()) };
        let taken = match (message.coding, &mut self.inflater) {
            (Coding::Deflated, Some(inflater)) => match key {
                None => inflater.push(piece, &mut self.payload, self.limit),
                // A piece is a multiple of the key, so that the offset is the same for each.
                Some((key, offset)) => piece.chunks(PIECE).try_for_each(|masked| {
                    let mut clear = [0; PIECE];
                    let clear = &mut clear[..masked.len()];
                    clear.copy_from_slice(masked);
                    mask::apply(key, offset, clear);
                    inflater.push(clear, &mut self.payload, self.limit)
                }),
            },
            _ => {
                let begin = self.payload.len();
                self.payload.extend_from_slice(piece);
                if let (Some((key, offset)), Some(new)) = (key, self.payload.get_mut(begin..)) {
                    mask::apply(key, offset, new);
                }
                Ok(())
            }
        };
        message.check(&self.payload, self.limit, false)?;
        taken
    }

    /// Ends a frame; the message, if it was its last.
    fn end_frame(&mut self, header: FrameHeader) -> Result<Option<MessageKind>, ProtocolError> {
        let Some(message) = &mut self.message else { return Ok(None) };
        message.size += header.length;
        if !header.fin {
            return Ok(None);
        }
        let finished = match (message.coding, &mut self.inflater) {
            (Coding::Deflated, Some(inflater)) => inflater.finish(&mut self.payload, self.limit),
            _ => Ok(()),
        };
        message.check(&self.payload, self.limit, finished.is_ok())?;
        finished?;
        Ok(self.message.take().map(|message| message.kind))
    }
}

impl Message {
    /// Checks the part of a text that has arrived since the last check: an error shows as soon as it is certain.
    ///
    /// This comes before an error of inflating is reported, and checks no further than the limit: of two faults of
    /// a message the first one is always found, however its bytes are cut.
    fn check(&mut self, payload: &[u8], limit: Option<usize>, is_all: bool) -> Result<(), ProtocolError> {
        if self.kind == MessageKind::Binary {
            return Ok(());
        }
        let payload = payload.get(..limit.unwrap_or(usize::MAX)).unwrap_or(payload);
        match str::from_utf8(payload.get(self.valid..).unwrap_or_default()) {
            Ok(_) => self.valid = payload.len(),
            // A character that is cut off: the rest may come.
            Err(error) if error.error_len().is_none() && !is_all => self.valid += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::NotUtf8),
        }
        Ok(())
    }
}

impl Coding {
    /// The coding of the message that a frame begins.
    const fn of(header: FrameHeader) -> Self {
        if header.rsv1 { Self::Deflated } else { Self::Uncompressed }
    }

    /// Bytes that a message in this coding may take on the wire, if it may have `limit`. What cannot be compressed
    /// becomes a little larger: five bytes for each block that is stored, and the end of a flush.
    const fn most(self, limit: usize) -> u64 {
        let limit = limit as u64;
        match self {
            Self::Uncompressed => limit,
            Self::Deflated => limit.saturating_add(limit / 1024).saturating_add(64),
        }
    }
}

/// At most `N` bytes.
#[derive(Clone, Copy, Debug)]
struct Short<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Short<N> {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }

    /// Takes as much of `more` as fits.
    fn extend(&mut self, more: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.length);
        self.length += room.zip(more).map(|(to, byte)| *to = *byte).count();
    }
}

impl Short<LARGEST_HEADER> {
    /// The header that begins with these bytes and continues in `rest`, from which it is taken; if it is not complete
    /// there, all of `rest` is taken.
    fn header(
        &mut self,
        rest: &mut &[u8],
        sender: WebSocketRole,
        rsv1: bool,
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        let before = self.length;
        if before == 0
            && let Some((header, size)) = FrameHeader::parse(rest, sender, rsv1)?
        {
            *rest = rest.get(size..).unwrap_or_default();
            return Ok(Some(header));
        }
        self.extend(rest);
        let header = FrameHeader::parse(self.bytes(), sender, rsv1)?;
        let taken = header.map_or(rest.len(), |(_, size)| size - before);
        *rest = rest.get(taken..).unwrap_or_default();
        Ok(header.map(|(header, _)| header))
    }
}

#[cfg(test)]
mod tests;
