//! Frame headers (RFC 6455, section 5.2).

use std::fmt;

use super::WebSocketRole;
use super::error::ProtocolError;

/// The most bytes of a control frame's payload.
pub const LARGEST_CONTROL: usize = 125;
/// The most bytes of a header: two, a length of eight, a key of four.
pub const LARGEST_HEADER: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASK: u8 = 0x80;
/// Lengths up to 125 stand for themselves.
const LENGTH_OF_16_BITS: u8 = 126;
const LENGTH_OF_64_BITS: u8 = 127;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that was started.
    Continuation = 0x0,
    /// A text message, or its beginning.
    Text = 0x1,
    /// A binary message, or its beginning.
    Binary = 0x2,
    /// The peer closes the connection.
    Close = 0x8,
    /// Requests a pong.
    Ping = 0x9,
    /// The response to a ping.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode with this number, if there is one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        Some(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is a control frame, which may come between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= 0x8
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        })
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// The first reserved bit: a compressed message begins.
    pub rsv1: bool,
    /// Its opcode.
    pub opcode: Opcode,
    /// Bytes of the payload.
    pub length: u64,
    /// The key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
}

impl FrameHeader {
    /// The header at the front of `bytes`, as sent by `sender`, and its length in bytes; nothing if it is not complete.
    /// `rsv1` is whether an extension gives the first reserved bit a meaning.
    ///
    /// A length in more bytes than it needs is accepted, as by most implementations: some small servers write nothing
    /// else.
    pub fn parse(
        bytes: &[u8],
        sender: WebSocketRole,
        rsv1: bool,
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & RSV2_AND_3 != 0 || (first & RSV1 != 0 && !rsv1) {
            return Err(ProtocolError::ReservedBits);
        }
        let Some(opcode) = Opcode::new(first & 0x0F) else {
            return Err(ProtocolError::UnknownOpcode(first & 0x0F));
        };
        let fin = first & FIN != 0;
        let length = second & !MASK;
        if opcode.is_control() {
            if !fin {
                return Err(ProtocolError::FragmentedControl(opcode));
            }
            if usize::from(length) > LARGEST_CONTROL {
                return Err(ProtocolError::LongControl(opcode));
            }
        }
        let masked = second & MASK != 0;
        match sender {
            WebSocketRole::Server if masked => return Err(ProtocolError::Masked),
            WebSocketRole::Client if !masked => return Err(ProtocolError::NotMasked),
            _ => {}
        }
        let (length, rest) = match length {
            LENGTH_OF_16_BITS => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            LENGTH_OF_64_BITS => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (u64::from(length), rest),
        };
        if length >> 63 != 0 {
            return Err(ProtocolError::ImpossibleLength(length));
        }
        let (mask, rest) = if masked {
            match rest.split_first_chunk() {
                Some((key, rest)) => (Some(*key), rest),
                None => return Ok(None),
            }
        } else {
            (None, rest)
        };
        let header = Self { fin, rsv1: first & RSV1 != 0, opcode, length, mask };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// The header as it is sent.
    pub fn encode(&self) -> EncodedHeader {
        let mut encoded = EncodedHeader { bytes: [0; LARGEST_HEADER], length: 0 };
        let fin = if self.fin { FIN } else { 0 };
        let rsv1 = if self.rsv1 { RSV1 } else { 0 };
        let mask = if self.mask.is_some() { MASK } else { 0 };
        encoded.push(&[fin | rsv1 | self.opcode as u8]);
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(length), _) if length < LENGTH_OF_16_BITS => encoded.push(&[mask | length]),
            (_, Ok(length)) => {
                encoded.push(&[mask | LENGTH_OF_16_BITS]);
                encoded.push(&length.to_be_bytes());
            }
            _ => {
                encoded.push(&[mask | LENGTH_OF_64_BITS]);
                encoded.push(&self.length.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            encoded.push(&key);
        }
        encoded
    }
}

/// The bytes of a header.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; LARGEST_HEADER],
    length: usize,
}

impl EncodedHeader {
    fn push(&mut self, bytes: &[u8]) {
        for (to, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *to = *byte;
        }
        self.length += bytes.len();
    }
}

impl AsRef<[u8]> for EncodedHeader {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = FrameHeader> {
        let length = prop_oneof![0_u64..300, 65_000_u64..66_000, 0_u64..1 << 63];
        (any::<bool>(), any::<bool>(), 0_usize..6, length, any::<Option<[u8; 4]>>()).prop_map(
            |(fin, rsv1, opcode, length, mask)| {
                let all = [
                    Opcode::Text,
                    Opcode::Binary,
                    Opcode::Continuation,
                    Opcode::Close,
                    Opcode::Ping,
                    Opcode::Pong,
                ];
                let opcode = all[opcode];
                if opcode.is_control() {
                    return FrameHeader { fin: true, rsv1, opcode, length: length % 126, mask };
                }
                FrameHeader { fin, rsv1, opcode, length, mask }
            },
        )
    }

    proptest! {
        #[test]
        fn an_encoded_header_is_parsed_once_it_is_complete(header in header(), after in 0_usize..3) {
            let sender = if header.mask.is_some() { WebSocketRole::Client } else { WebSocketRole::Server };
            let mut bytes = header.encode().as_ref().to_vec();
            let size = bytes.len();
            for cut in 0..size {
                prop_assert_eq!(FrameHeader::parse(&bytes[..cut], sender, true), Ok(None));
            }
            bytes.resize(size + after, 0xFF);
            prop_assert_eq!(FrameHeader::parse(&bytes, sender, true), Ok(Some((header, size))));
            // The other role may not send it.
            let wrong = if header.mask.is_some() { ProtocolError::Masked } else { ProtocolError::NotMasked };
            prop_assert_eq!(FrameHeader::parse(&bytes, sender.peer(), true), Err(wrong));
        }
    }

    #[test]
    fn lengths_are_written_in_as_few_bytes_as_they_need() {
        for (length, size) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 62, 10)] {
            let header = FrameHeader { fin: true, rsv1: false, opcode: Opcode::Binary, length, mask: None };
            assert_eq!(header.encode().as_ref().len(), size, "{length}");
        }
    }

    #[test]
    fn refused_frames() {
        let refused =
            |bytes: &[u8], rsv1| FrameHeader::parse(bytes, WebSocketRole::Server, rsv1).unwrap_err();
        assert_eq!(refused(b"\xc1\x00", false), ProtocolError::ReservedBits);
        assert_eq!(refused(b"\xa1\x00", true), ProtocolError::ReservedBits);
        assert_eq!(refused(b"\x91\x00", true), ProtocolError::ReservedBits);
        for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            assert_eq!(refused(&[0x80 | opcode, 0], false), ProtocolError::UnknownOpcode(opcode));
        }
        assert_eq!(refused(b"\x09\x00", false), ProtocolError::FragmentedControl(Opcode::Ping));
        assert_eq!(refused(b"\x88\x7e", false), ProtocolError::LongControl(Opcode::Close));
        assert_eq!(refused(b"\x81\x80", false), ProtocolError::Masked);
        assert_eq!(
            refused(b"\x82\x7f\x80\0\0\0\0\0\0\x01", false),
            ProtocolError::ImpossibleLength((1 << 63) + 1)
        );
    }

    #[test]
    fn a_length_in_too_many_bytes_is_accepted() {
        let (header, size) =
            FrameHeader::parse(b"\x82\x7f\0\0\0\0\0\0\0\x05", WebSocketRole::Server, false).unwrap().unwrap();
        assert_eq!((header.length, size), (5, 10));
    }
}
