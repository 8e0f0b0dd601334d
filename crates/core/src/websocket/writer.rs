//! From payloads to frames.

use std::borrow::Cow;

use super::deflate::{Deflater, MAX_WINDOW_BITS, MIN_WINDOW_BITS};
use super::error::Unsendable;
use super::frame::{FrameHeader, LARGEST_CONTROL, Opcode};
use super::negotiation::DeflateAgreement;
use super::{WebSocketRole, mask};

/// Whether a message is compressed. Control frames never are, nor is anything without an agreement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// If it was agreed on, as it was.
    #[default]
    Agreed,
    /// Not this message.
    Never,
    /// By itself, with a window of so many bits (9 to 15) or the agreed one, if that is smaller. Only for a message in
    /// one frame; a fragmented one is compressed as agreed.
    Alone(u8),
}

/// Makes the frames of one end of a connection.
#[derive(Debug)]
pub struct FrameWriter {
    role: WebSocketRole,
    deflater: Option<Deflater>,
    state: WriterState,
}

/// Whether a fragmented message has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriterState {
    Between,
    InUncompressed,
    InDeflated,
}

/// A frame to be sent: its payload is borrowed, unless it was compressed.
#[derive(Debug)]
#[must_use]
pub struct Frame<'a> {
    header: FrameHeader,
    payload: Cow<'a, [u8]>,
    is_masked: bool,
}

impl FrameWriter {
    /// A writer for the end `role`, which compresses messages if there is an agreement.
    #[must_use]
    pub fn new(role: WebSocketRole, agreement: Option<DeflateAgreement>) -> Self {
        let deflater = agreement.map(|agreement| Deflater::new(agreement.sent_by(role)));
        Self { role, deflater, state: WriterState::Between }
    }

    /// The frame of `opcode` with `payload`; `fin` unless more of the message follows, as continuation frames.
    /// `compress` applies to a message's first frame.
    ///
    /// The frame has to be sent: the compression of those after it counts on it.
    ///
    /// # Errors
    /// [`Unsendable`]; nothing has changed then.
    pub fn frame<'a>(
        &mut self,
        opcode: Opcode,
        payload: &'a [u8],
        fin: bool,
        compress: Compress,
    ) -> Result<Frame<'a>, Unsendable> {
        if let Compress::Alone(bits) = compress
            && !(MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&bits)
        {
            return Err(Unsendable::WindowBits(bits));
        }
        if opcode.is_control() {
            if !fin {
                return Err(Unsendable::FragmentedControl(opcode));
            }
            if payload.len() > LARGEST_CONTROL {
                return Err(Unsendable::LongControl { opcode, size: payload.len() });
            }
            return Ok(self.made(opcode, true, false, Cow::Borrowed(payload)));
        }
        match (opcode, self.state) {
            (Opcode::Continuation, WriterState::Between) => return Err(Unsendable::NothingToContinue),
            (Opcode::Continuation, _) | (_, WriterState::Between) => {}
            _ => return Err(Unsendable::Unfinished(opcode)),
        }
        let deflater = match (self.state, compress) {
            (WriterState::InUncompressed, _) | (WriterState::Between, Compress::Never) => None,
            _ => self.deflater.as_mut(),
        };
        let is_deflated = deflater.is_some();
        let payload = match (deflater, compress) {
            (None, _) => Cow::Borrowed(payload),
            (Some(deflater), Compress::Alone(bits)) if fin && self.state == WriterState::Between => {
                Cow::Owned(deflater.alone(payload, bits))
            }
            (Some(deflater), _) => Cow::Owned(deflater.push(payload, fin)),
        };
        self.state = match (fin, is_deflated) {
            (true, _) => WriterState::Between,
            (false, true) => WriterState::InDeflated,
            (false, false) => WriterState::InUncompressed,
        };
        // The bit is set on the first frame of a message alone.
        Ok(self.made(opcode, fin, is_deflated && opcode != Opcode::Continuation, payload))
    }

    fn made<'a>(&self, opcode: Opcode, fin: bool, rsv1: bool, payload: Cow<'a, [u8]>) -> Frame<'a> {
        let header = FrameHeader { fin, rsv1, opcode, length: payload.len() as u64, mask: None };
        Frame { header, payload, is_masked: self.role == WebSocketRole::Client }
    }
}

impl Frame<'_> {
    /// Bytes that the frame takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let key = if self.is_masked { 4 } else { 0 };
        self.header.encode().as_ref().len() + key + self.payload.len()
    }

    /// Whether a key is needed: this is a client's.
    #[must_use]
    pub const fn is_masked(&self) -> bool {
        self.is_masked
    }

    /// Writes the frame to `to`, which has [`Frame::size`] bytes. It is masked with `key` if it is a client's: a key
    /// that cannot be predicted, and another for each frame (RFC 6455, section 5.3).
    pub fn write_to(&self, key: [u8; 4], to: &mut [u8]) {
        let header = FrameHeader { mask: self.is_masked.then_some(key), ..self.header }.encode();
        let header = header.as_ref();
        let Some((front, back)) = to.split_at_mut_checked(header.len()) else { return };
        front.copy_from_slice(header);
        if self.is_masked {
            mask::copy(key, &self.payload, back);
        } else {
            let size = back.len().min(self.payload.len());
            back[..size].copy_from_slice(&self.payload[..size]);
        }
    }

    /// The frame in memory of its own; see [`Frame::write_to`].
    #[must_use]
    pub fn to_vec(&self, key: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0; self.size()];
        self.write_to(key, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(agreement: Option<DeflateAgreement>) -> FrameWriter {
        FrameWriter::new(WebSocketRole::Server, agreement)
    }

    fn bytes(frame: Result<Frame<'_>, Unsendable>) -> Vec<u8> {
        frame.unwrap().to_vec([0; 4])
    }

    /// The examples of RFC 6455, section 5.7.
    #[test]
    fn the_examples_of_the_specification() {
        let mut server = server(None);
        let agreed = Compress::Agreed;
        assert_eq!(bytes(server.frame(Opcode::Text, b"Hello", true, agreed)), b"\x81\x05Hello");
        assert_eq!(bytes(server.frame(Opcode::Text, b"Hel", false, agreed)), b"\x01\x03Hel");
        assert_eq!(bytes(server.frame(Opcode::Ping, b"Hello", true, agreed)), b"\x89\x05Hello");
        assert_eq!(bytes(server.frame(Opcode::Continuation, b"lo", true, agreed)), b"\x80\x02lo");
        let large = bytes(server.frame(Opcode::Binary, &[0; 256], true, agreed));
        assert_eq!((&large[..4], large.len()), (&b"\x82\x7e\x01\x00"[..], 4 + 256));
        let larger = bytes(server.frame(Opcode::Binary, &[0; 65536], true, agreed));
        assert_eq!((&larger[..10], larger.len()), (&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], 10 + 65536));

        let mut client = FrameWriter::new(WebSocketRole::Client, None);
        let hello = client.frame(Opcode::Text, b"Hello", true, agreed).unwrap();
        assert!(hello.is_masked());
        assert_eq!(hello.to_vec([0x37, 0xfa, 0x21, 0x3d]), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn an_unsendable_frame_is_an_error_and_changes_nothing() {
        let mut server = server(Some(DeflateAgreement::default()));
        let mut error_text = |opcode, size: usize, fin, compress| {
            server.frame(opcode, &vec![0; size], fin, compress).unwrap_err().to_string()
        };
        let agreed = Compress::Agreed;
        assert_eq!(
            error_text(Opcode::Ping, 126, true, agreed),
            "a ping frame takes at most 125 bytes, not 126"
        );
        assert_eq!(
            error_text(Opcode::Close, 126, true, agreed),
            "the reason of a close frame takes at most 123 bytes, not 124"
        );
        assert_eq!(error_text(Opcode::Pong, 1, false, agreed), "a pong frame cannot be fragmented");
        assert_eq!(
            error_text(Opcode::Continuation, 1, true, agreed),
            "a continuation frame continues a message, and none was started: send it as text or binary"
        );
        assert_eq!(
            error_text(Opcode::Text, 1, true, Compress::Alone(8)),
            "compress takes 9 to 15 (the bits of the window), not 8"
        );
        bytes(server.frame(Opcode::Text, b"a", false, agreed));
        let error = server.frame(Opcode::Binary, b"b", true, agreed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a binary frame starts a new message, and the last one is not finished"
        );
        bytes(server.frame(Opcode::Continuation, b"c", true, agreed));
        bytes(server.frame(Opcode::Binary, b"d", true, agreed));
    }

    #[test]
    fn compressed_messages_have_the_bit_on_their_first_frame() {
        let mut server = server(Some(DeflateAgreement::default()));
        let agreed = Compress::Agreed;
        assert_eq!(bytes(server.frame(Opcode::Text, b"", true, agreed)), b"\xc1\x01\x00");
        let first = bytes(server.frame(Opcode::Text, b"one", false, agreed));
        let ping = bytes(server.frame(Opcode::Ping, b"", true, agreed));
        // The option is ignored for a continuation frame: it follows the first.
        let last = bytes(server.frame(Opcode::Continuation, b"two", true, Compress::Never));
        assert_eq!((first[0], ping[0], last[0]), (0x41, 0x89, 0x80));
        assert_ne!(&last[2..], b"two");
        let uncompressed = bytes(server.frame(Opcode::Text, b"one", true, Compress::Never));
        assert_eq!(uncompressed, b"\x81\x03one");
        // Without an agreement nothing is compressed, whatever the option.
        let mut server = FrameWriter::new(WebSocketRole::Server, None);
        assert_eq!(bytes(server.frame(Opcode::Text, b"one", true, Compress::Alone(15))), b"\x81\x03one");
    }
}
