//! What the HTTP/1.1 targets share: bytes that come near to messages, and a comparison of all ways to read them.

use arbitrary::{Arbitrary, Unstructured};
use whorl_core::http1::{ParserLimits, Tolerance};

#[allow(dead_code, reason = "each target reads for some of the readers only")]
#[path = "../../../crates/core/tests/http1/transcript.rs"]
pub mod transcript;

use transcript::{Reader, Step};

/// What messages are made of. The fuzzer finds most of it by itself, but a whole head only by luck.
const PARTS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404 Not Found\r\n",
    b"HTTP/1.1 204\r\n",
    b"HTTP/1.1 100 \r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.1\r\n",
    b"POST /x HTTP/1.0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"content-length:0\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: ",
    b"chunked",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"X-Header: \t value \r\n",
    b"5\r\nhello\r\n",
    b"5;name=value\r\nhello\r\n",
    b"1",
    b"0\r\n\r\n",
    b"0\r\nX-Trailer: x\r\n\r\n",
    b"hello",
    b" folded\r\n",
    b"Content-Length: 5, 5\r\n",
    b"X-Line-Feed: y\n",
    b" 5 \r\nhello\r\n",
];

#[derive(Debug)]
pub struct Bytes(pub Vec<u8>);

impl<'a> Arbitrary<'a> for Bytes {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut bytes = Vec::new();
        while !input.is_empty() {
            match usize::from(u8::arbitrary(input)?) {
                part if part < PARTS.len() => bytes.extend_from_slice(PARTS[part]),
                other => bytes.push(other as u8),
            }
        }
        Ok(Self(bytes))
    }
}

/// ParserLimits that are met soon, or the default ones.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Bounds {
    Default,
    Small { line: u8, field: u8, fields: u8, head: u8, body: Option<u8> },
}

impl Bounds {
    pub fn limits(self) -> ParserLimits {
        match self {
            Self::Default => ParserLimits::default(),
            Self::Small { line, field, fields, head, body } => ParserLimits {
                line: line.into(),
                field: field.into(),
                fields: fields.into(),
                head: head.into(),
                body: body.map(u64::from),
            },
        }
    }
}

/// Reads the bytes whole, byte by byte, and in these pieces, strictly and as a user agent; says what the strict parser
/// has read, which the user agent reads alike.
pub fn read_in_all_ways(
    reader: Reader,
    limits: ParserLimits,
    bytes: &[u8],
    places: &[u16],
    eof: bool,
) -> Vec<Step> {
    let places: Vec<usize> = places.iter().map(|place| usize::from(*place)).collect();
    let [strict, tolerant] = [Tolerance::Strict, Tolerance::UserAgent].map(|tolerance| {
        let read = |pieces: &[&[u8]]| transcript::read(reader, tolerance, limits, pieces, eof);
        let whole = read(&[bytes]);
        assert_eq!(read(&transcript::cut(bytes, &places)), whole, "in pieces, {tolerance:?}");
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte, {tolerance:?}");
        whole
    });
    assert!(transcript::only_continues(&tolerant, &strict), "{tolerant:?}, and not {strict:?}");
    strict
}
