//! HTTP/1.1 (RFC 9112) without I/O, for both roles.
//!
//! [`ResponseParser`] and [`RequestParser`] are given bytes as they come and return [`MessageEvent`]s; [`encode`]
//! writes messages. Neither knows a socket or a clock.
//!
//! ```
//! use whorl_core::http1::{MessageEvent, ParserLimits, RequestKind, ResponseParser};
//!
//! let mut parser = ResponseParser::new(ParserLimits::default());
//! parser.await_response(RequestKind::Other, false);
//! let mut input: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
//! let mut body = Vec::new();
//! loop {
//!     let (event, used) = parser.parse(input)?;
//!     input = &input[used..];
//!     match event {
//!         MessageEvent::Head(head, _) => assert_eq!((head.status, head.reason()), (200, &b"OK"[..])),
//!         MessageEvent::Data(data) => body.extend_from_slice(data),
//!         MessageEvent::End { keep_alive } => break assert!(keep_alive),
//!         MessageEvent::NeedMore => unreachable!("the message is whole"),
//!         MessageEvent::ChunkEnd | MessageEvent::Informational(_) | MessageEvent::Trailers(_) | MessageEvent::Tunnel => {}
//!     }
//! }
//! assert_eq!(body, b"hello");
//! # Ok::<(), whorl_core::http1::ParseError>(())
//! ```
//!
//! # What is accepted
//!
//! Two parties that disagree about where a message ends can be played against each other (request smuggling, RFC 9112
//! section 11.2). Any doubt about it is a [`ParseError`], in responses as in requests:
//!
//! - A bare CR and NUL are errors everywhere; so is white space before the colon or the first field. Bytes from 0x80
//!   pass in values, reasons and request targets, and mean nothing here.
//! - `Content-Length` is one number in digits.
//! - `Transfer-Encoding` next to `Content-Length`, or in HTTP/1.0, is an error. The only coding is `chunked`, once;
//!   we never request another one, and coded bytes must not be handed on as content. In a response `identity`
//!   alone is taken for what it once meant: the body lasts until the connection ends.
//! - Framing fields of a response that has no body (HEAD, 204, 304) have to be sound, and are then ignored. Those of
//!   1xx, and of 2xx to CONNECT, are ignored altogether (RFC 9110 section 9.3.6).
//! - `HTTP/1.2` to `1.9` are read as 1.1 (RFC 9110 section 2.5). Other major versions are errors.
//! - A status is three digits, from 100; a reason may be missing, with or without the space before it.
//! - A chunk size has at most 16 hexadecimal digits. Extensions are skipped, up to 16 KiB in one message.
//! - Trailers are kept apart; nothing in them changes how the message is read.
//! - Up to four empty lines are skipped before a request line (RFC 9112 section 2.2).
//! - A request has one `Host` (RFC 9112 section 3.2), which only HTTP/1.0 may leave out. One with CONNECT has no
//!   content.
//!
//! # What a user agent tolerates
//!
//! Servers send more than they may, and a client that refuses it cannot use them. [`Tolerance`] says whether a parser of
//! responses accepts what leaves no doubt; one of requests never does, as a proxy before it may read the same bytes
//! otherwise.
//!
//! | in a response | strict | user agent |
//! |---|---|---|
//! | a line feed alone ends a line of a head (RFC 9112 section 2.2) | error | accepted; as others may see the head's end elsewhere, the connection serves no other request |
//! | obs-fold in a head or trailers (section 5.2) | error | joined by a space, but for fields that frame the message: error |
//! | control characters but CR, LF and NUL in values and reasons (RFC 9110 section 5.5) | error | kept |
//! | one empty line before the status line | error: it is out of step with its request | skipped |
//! | equal lengths, in several `Content-Length` or as a list (RFC 9110 section 8.6) | error | one length |
//! | spaces and tabs before and behind a chunk's size | error | skipped, as extensions are |
//! | a line feed alone ends a line of the chunked coding, trailers included | error | error: section 2.2 is about start lines and fields, and parsers differ |
//!
//! The corpus in `tests/http1/tolerance.txt` has a case for each, and for what is near and stays an error.
//!
//! # How it is built
//!
//! | file | what |
//! |---|---|
//! | `parser.rs` | from bytes to events, one message after another, for both roles |
//! | `section.rs` | a head, or trailers: a section of lines up to an empty one |
//! | `start_line.rs`, `grammar.rs` | status line and request line; character classes |
//! | `tolerance.rs` | what is accepted beyond the grammar |
//! | `framing.rs` | where a message ends, and whether the connection outlives it |
//! | `body.rs`, `chunked.rs` | content out of its framing |
//! | `encode.rs` | heads and chunks as they are sent; refuses text that would begin another field or message |
//! | `error.rs`, `secret.rs` | errors with the bytes that are wrong; fields whose values they do not show |
//!
//! A head that lies whole in the input, as nearly all do, is read at once: httparse goes over it, anything httparse is
//! lenient about (a bare LF) is checked, and the block is copied once; fields are that block and places in it. Where
//! that finds a fault, or no end, a reader of our own reads line by line, gathers the bytes and finds the *first*
//! fault; it alone knows of tolerance. So an error, like every event, is the same in whatever pieces a message comes:
//! the fuzz targets hold the two ways against each other. Content is never copied: [`MessageEvent::Data`] is a part of
//! the input.

pub mod encode;

mod body;
mod chunked;
mod error;
mod fields;
mod framing;
mod grammar;
mod limits;
mod message;
mod parser;
mod secret;
mod section;
mod start_line;
mod tolerance;

pub use error::{Incomplete, ParseError, ParseErrorKind};
pub use fields::HeaderFields;
pub use framing::{Framing, RequestKind};
pub use limits::ParserLimits;
pub use message::{RequestHead, ResponseHead, Version};
pub use parser::{Finish, MessageEvent, Parser, ParserRole, RequestParser, ResponseParser};
pub use secret::SECRET_FIELDS;
pub use tolerance::Tolerance;
