//! The WebSocket protocol (RFC 6455) with per-message compression (RFC 7692), without I/O, for both roles.
//!
//! A [`MessageReader`] turns the bytes that follow the handshake into whole messages and control frames
//! ([`WebSocketEvent`]); it checks everything that a peer may get wrong, and its memory is bounded by the largest
//! message that is allowed, whatever the peer declares or compresses. A [`FrameWriter`] turns a payload into a frame.
//! Neither has a socket, a clock or a source of randomness: masking keys come from the caller. [`DeflateOffer`] and
//! [`DeflateAgreement`] are the negotiation of `permessage-deflate` in the header `Sec-WebSocket-Extensions`.
//!
//! ```
//! use whorl_core::websocket::{Compress, WebSocketEvent, Opcode, MessageReader, WebSocketRole, FrameWriter};
//!
//! let mut client = FrameWriter::new(WebSocketRole::Client, None);
//! let frame = client.frame(Opcode::Text, b"hello", true, Compress::Agreed).unwrap().to_vec([1, 2, 3, 4]);
//! let mut server = MessageReader::new(WebSocketRole::Server, Some(1024), None);
//! let (event, consumed) = server.parse(&frame).unwrap();
//! assert_eq!((event, consumed), (Some(WebSocketEvent::Text(b"hello")), frame.len()));
//! ```
//!
//! # Guarantees
//!
//! - *Memory follows the received bytes*, never a frame's declared length, and is bounded by the largest message. A
//!   length is refused with its header. Compressed frames are inflated as they come and not kept, so a bomb is refused
//!   (1009) as soon as it is beyond the limit; a message may have 1,024 deflate streams, as each is work without a byte
//!   of output.
//! - *The order of bytes alone counts*: of two faults in one message the first is reported, however the bytes are cut
//!   into reads. UTF-8 is checked as it comes, so an error is known with its byte.
//! - *An error is final*, and carries the close code for the peer (1002, 1007, 1009). After a close frame nothing is
//!   read.
//! - Stricter than aiohttp: a masked frame from a server, and close codes that must not be sent, are errors. As
//!   lenient: a length in more bytes than it needs, and the first reserved bit on a control frame where compression is
//!   negotiated. A message of exactly the largest size is accepted, where aiohttp refuses it uncompressed and accepts
//!   it compressed.
//!
//! A frame that is a message by itself, came in one piece and is not masked is lent from the input; every other message
//! is assembled in one buffer of the reader's. A frame borrows its payload and masks it while it is copied into its
//! place, eight bytes at a time. A message that is compressed by itself begins our window anew, as the peer's has that
//! message in it and ours has not. zlib cannot compress with a window of 8 bits: a server that requests it is refused,
//! and one that uses it is understood.

mod close;
mod deflate;
mod error;
mod extensions;
mod frame;
mod mask;
mod negotiation;
mod reader;
mod writer;

pub use close::may_be_sent;
pub use deflate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS};
pub use error::{ProtocolError, Unsendable};
pub use extensions::{Extension, MalformedExtensions, parse_extensions};
pub use frame::{LARGEST_CONTROL, LARGEST_HEADER, Opcode};
pub use negotiation::{DeflateAgreement, DeflateOffer, DeflateParameters, Unacceptable, WindowOffer};
pub use reader::{MessageReader, WebSocketEvent};
pub use writer::{Compress, Frame, FrameWriter};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketRole {
    /// Its frames are masked; those it receives are not.
    Client,
    /// Its frames are not masked; those it receives are.
    Server,
}

impl WebSocketRole {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
