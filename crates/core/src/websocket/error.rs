//! The protocol errors of a peer, and of messages that cannot be sent.

use std::fmt;

use super::frame::{LARGEST_CONTROL, Opcode};

/// The peer broke the protocol, or sent more than is allowed: the connection fails with [`ProtocolError::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A reserved bit that no negotiated extension gives a meaning to.
    ReservedBits,
    /// An opcode that the protocol does not define.
    UnknownOpcode(u8),
    /// A control frame that is not final.
    FragmentedControl(Opcode),
    /// A control frame with a payload of more than 125 bytes.
    LongControl(Opcode),
    /// A masked frame from a server.
    Masked,
    /// A frame without a mask from a client.
    NotMasked,
    /// A length with its most significant bit set.
    ImpossibleLength(u64),
    /// A continuation frame, and no message to be continued.
    NothingToContinue,
    /// A new message before the last one was finished.
    Unfinished(Opcode),
    /// A message larger than is allowed.
    TooBig {
        /// Bytes of the message as far as it is declared.
        size: u64,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A compressed message that becomes larger than is allowed.
    InflatesTooBig {
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A compressed message of so many deflate streams that it is an attack.
    TooManyStreams {
        /// Streams that are allowed in a message.
        limit: u32,
    },
    /// A compressed message that is not deflate data.
    NotDeflate,
    /// A text message that is not UTF-8.
    NotUtf8,
    /// A close frame whose payload is a single byte.
    CloseTooShort,
    /// A close code that must not be sent.
    CloseCode(u16),
    /// A close frame whose reason is not UTF-8.
    ReasonNotUtf8,
}

impl ProtocolError {
    /// The code of the close frame for the peer: 1002 (protocol error), 1007 (invalid payload) or 1009 (too big).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::ReasonNotUtf8 | Self::NotDeflate => 1007,
            Self::TooBig { .. } | Self::InflatesTooBig { .. } | Self::TooManyStreams { .. } => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // This one is word for word aiohttp's, whose users compare it.
            Self::ReservedBits => f.write_str("Received frame with non-zero reserved bits"),
            Self::UnknownOpcode(opcode) => write!(f, "Received frame with unknown opcode {opcode:#x}"),
            Self::FragmentedControl(opcode) => write!(f, "Received fragmented {opcode} frame"),
            Self::LongControl(opcode) => {
                write!(f, "Received {opcode} frame with more than {LARGEST_CONTROL} bytes")
            }
            Self::Masked => f.write_str("Received masked frame from the server"),
            Self::NotMasked => f.write_str("Received frame without mask from the client"),
            Self::ImpossibleLength(length) => {
                write!(f, "Received frame with impossible length {length:#x}: its highest bit is set")
            }
            Self::NothingToContinue => f.write_str("Received continuation frame, but no message was started"),
            Self::Unfinished(opcode) => {
                write!(f, "Received {opcode} frame before the last message was finished")
            }
            Self::TooBig { size, limit } => {
                write!(f, "Message size {size} exceeds limit {limit}: raise max_msg_size, or 0 for no limit")
            }
            Self::InflatesTooBig { limit } => {
                write!(
                    f,
                    "Decompressed message exceeds size limit {limit}: raise max_msg_size, or 0 for no limit"
                )
            }
            Self::TooManyStreams { limit } => {
                write!(f, "Compressed message consists of more than {limit} deflate streams")
            }
            Self::NotDeflate => f.write_str("Compressed message is not valid deflate data"),
            Self::NotUtf8 => f.write_str("Text message is not valid UTF-8"),
            Self::CloseTooShort => {
                f.write_str("Received close frame of 1 byte: a close code takes 2, or there is none")
            }
            Self::CloseCode(code) => write!(f, "Received close frame with invalid code {code}"),
            Self::ReasonNotUtf8 => f.write_str("Reason in close frame is not valid UTF-8"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// A frame that must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// A control frame with a payload of more than 125 bytes.
    LongControl {
        /// Its opcode.
        opcode: Opcode,
        /// Bytes of its payload.
        size: usize,
    },
    /// A control frame that is not final.
    FragmentedControl(Opcode),
    /// A continuation frame, and no message to be continued.
    NothingToContinue,
    /// A new message before the last one was finished.
    Unfinished(Opcode),
    /// A window that the compressor does not have.
    WindowBits(u8),
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongControl { opcode: Opcode::Close, size } => {
                let most = LARGEST_CONTROL - 2;
                write!(f, "the reason of a close frame takes at most {most} bytes, not {}", size - 2)
            }
            Self::LongControl { opcode, size } => {
                write!(f, "a {opcode} frame takes at most {LARGEST_CONTROL} bytes, not {size}")
            }
            Self::FragmentedControl(opcode) => write!(f, "a {opcode} frame cannot be fragmented"),
            Self::NothingToContinue => f.write_str(
                "a continuation frame continues a message, and none was started: send it as text or binary",
            ),
            Self::Unfinished(opcode) => {
                write!(f, "a {opcode} frame starts a new message, and the last one is not finished")
            }
            Self::WindowBits(bits) => {
                write!(f, "compress takes 9 to 15 (the bits of the window), not {bits}")
            }
        }
    }
}

impl std::error::Error for Unsendable {}
