//! Requests: where one ends, and which page it is for.

use std::num::ParseIntError;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Fields a request may have; a client that imitates a browser sends some 20.
const FIELDS: usize = 64;

/// What a path stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Page {
    /// `/bytes/N`: N bytes.
    Bytes(usize),
    /// `/close/N`: N bytes, and the server closes the connection.
    Close(usize),
    /// `/gzip/N`: N bytes of JSON text, compressed.
    Gzip(usize),
    /// `/text/N`: N bytes of HTML.
    Text(usize),
    /// `/redirect/N`: a 302 to `/bytes/N`.
    Redirect(usize),
    /// `/json`: the JSON text that was sent.
    Json,
    /// `/sink`: the number of bytes that the body has, which is discarded.
    Sink,
    /// `/echo`: a WebSocket that sends its messages back.
    Echo,
    /// `/hold/N`: N bytes, once `/release` is requested.
    Hold(usize),
    /// `/held/N`: nothing, once N requests are held.
    Held(usize),
    /// `/release`: sends the responses that are held.
    Release,
    /// Any other path.
    #[default]
    Unknown,
    /// Not a request: the client gets an error, and the connection is closed.
    Malformed,
}

impl Page {
    fn of(path: &str) -> Self {
        Self::parse(path).unwrap_or(Self::Unknown)
    }

    fn parse(path: &str) -> Result<Self, ParseIntError> {
        Ok(match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
            Some(("bytes", size)) => Self::Bytes(size.parse()?),
            Some(("close", size)) => Self::Close(size.parse()?),
            Some(("gzip", size)) => Self::Gzip(size.parse()?),
            Some(("text", size)) => Self::Text(size.parse()?),
            Some(("redirect", size)) => Self::Redirect(size.parse()?),
            Some(("hold", size)) => Self::Hold(size.parse()?),
            Some(("held", count)) => Self::Held(count.parse()?),
            _ if path == "/json" => Self::Json,
            _ if path == "/sink" => Self::Sink,
            _ if path == "/echo" => Self::Echo,
            _ if path == "/release" => Self::Release,
            _ => Self::Unknown,
        })
    }
}

/// One request whose body has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) page: Page,
    /// The body; empty where the page discards it.
    pub(super) body: Vec<u8>,
    /// How many bytes the body had.
    pub(super) received: usize,
    /// The client wants the connection closed.
    pub(super) close: bool,
    /// Of a WebSocket's opening handshake: what the response accepts it by.
    pub(super) accept_key: Option<String>,
}

/// Takes requests off the front of what a connection has received, a body as it comes: one that is discarded is
/// never held.
#[derive(Debug, Default)]
pub(super) struct RequestReader(Reading);

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Head,
    Body(Request, Framing),
}

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    /// A chunk's size comes next.
    ChunkSize,
    /// So many bytes of a chunk are left, the line end behind it included.
    Chunk(usize),
    Done,
}

/// The line end behind a chunk.
const LINE_END: usize = 2;

impl RequestReader {
    /// The next whole request, taken out of `input`; None while there is none.
    pub(super) fn next_request(&mut self, input: &mut Vec<u8>) -> Option<Request> {
        let mut position = 0;
        let found = self.advance(input, &mut position).unwrap_or_else(|Malformed| {
            position = input.len();
            self.0 = Reading::Head;
            Some(Request { page: Page::Malformed, close: true, ..Request::default() })
        });
        input.drain(..position);
        found
    }

    fn advance(&mut self, input: &[u8], position: &mut usize) -> Result<Option<Request>, Malformed> {
        if let Reading::Head = self.0 {
            let Some((request, framing, end)) = parse_head(input)? else { return Ok(None) };
            self.0 = Reading::Body(request, framing);
            *position = end;
        }
        let Reading::Body(request, framing) = &mut self.0 else { return Ok(None) };
        while *framing != Framing::Done {
            let rest = input.get(*position..).unwrap_or_default();
            let Some(taken) = framing.take(rest, request)? else { return Ok(None) };
            *position += taken;
        }
        let request = std::mem::take(request);
        self.0 = Reading::Head;
        Ok(Some(request))
    }
}

impl Framing {
    /// Takes the next part of a body off `input` and returns how long that was; None while it is not there.
    fn take(&mut self, input: &[u8], request: &mut Request) -> Result<Option<usize>, Malformed> {
        match self {
            Self::Length(0) => *self = Self::Done,
            _ if input.is_empty() => return Ok(None),
            Self::Length(left) => {
                let data = input.get(..*left).unwrap_or(input);
                *left -= data.len();
                request.add(data);
                return Ok(Some(data.len()));
            }
            Self::ChunkSize => {
                let httparse::Status::Complete((start, size)) =
                    httparse::parse_chunk_size(input).map_err(|_| Malformed)?
                else {
                    return Ok(None);
                };
                let size = usize::try_from(size).map_err(|_| Malformed)?;
                if size > 0 {
                    *self = Self::Chunk(size.checked_add(LINE_END).ok_or(Malformed)?);
                    return Ok(Some(start));
                }
                // Trailers are none of a benchmark's: the line end has to follow.
                let Some(end) = input.get(start..start + LINE_END) else { return Ok(None) };
                if end != b"\r\n" {
                    return Err(Malformed);
                }
                *self = Self::Done;
                return Ok(Some(start + LINE_END));
            }
            Self::Chunk(left) if *left > LINE_END => {
                let data = input.get(..*left - LINE_END).unwrap_or(input);
                *left -= data.len();
                request.add(data);
                return Ok(Some(data.len()));
            }
            Self::Chunk(left) => {
                let Some(end) = input.get(..*left) else { return Ok(None) };
                if end != b"\r\n" {
                    return Err(Malformed);
                }
                *self = Self::ChunkSize;
                return Ok(Some(LINE_END));
            }
            Self::Done => {}
        }
        Ok(Some(0))
    }
}

impl Request {
    fn add(&mut self, data: &[u8]) {
        self.received += data.len();
        if self.page != Page::Sink {
            self.body.extend_from_slice(data);
        }
    }
}

#[derive(Debug)]
struct Malformed;

/// A request without its body, how that is framed, and how long the head is; None while it is not whole.
fn parse_head(input: &[u8]) -> Result<Option<(Request, Framing, usize)>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let end = match head.parse(input).map_err(|_| Malformed)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    let mut request = Request { page: Page::of(head.path.ok_or(Malformed)?), ..Request::default() };
    let mut framing = Framing::Length(0);
    for field in head.headers.iter() {
        let value = || std::str::from_utf8(field.value).map(str::trim).map_err(|_| Malformed);
        if field.name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value()?.parse().map_err(|_| Malformed)?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::ChunkSize;
        } else if field.name.eq_ignore_ascii_case("connection") {
            request.close = value()?.eq_ignore_ascii_case("close");
        } else if field.name.eq_ignore_ascii_case("sec-websocket-key") {
            request.accept_key = Some(derive_accept_key(value()?.as_bytes()));
        }
    }
    Ok(Some((request, framing, end)))
}

#[cfg(test)]
mod tests {
    use super::{Page, Request, RequestReader};

    fn next_request(input: &mut Vec<u8>) -> Option<Request> {
        RequestReader::default().next_request(input)
    }

    fn request(page: Page, body: &[u8]) -> Option<Request> {
        Some(Request { page, body: body.to_vec(), received: body.len(), ..Request::default() })
    }

    #[test]
    fn requests_are_taken_one_after_another() {
        let mut input =
            b"GET /bytes/7 HTTP/1.1\r\nHost: x\r\n\r\nPOST /json HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
                .to_vec();
        assert_eq!(next_request(&mut input), request(Page::Bytes(7), b""));
        assert_eq!(next_request(&mut input), request(Page::Json, b"{}"));
        assert_eq!(next_request(&mut input), None);
        assert!(input.is_empty());
    }

    #[test]
    fn a_request_is_whole_only_with_its_last_byte() {
        for whole in [
            "POST /json HTTP/1.1\r\ncontent-length: 4\r\n\r\nnull",
            "POST /json HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nnul\r\n1\r\nl\r\n0\r\n\r\n",
        ] {
            for cut in 0..whole.len() {
                let (first, second) = whole.as_bytes().split_at(cut);
                let (mut reader, mut input) = (RequestReader::default(), first.to_vec());
                assert_eq!(reader.next_request(&mut input), None, "{cut} bytes of {whole:?}");
                input.extend_from_slice(second);
                assert_eq!(
                    reader.next_request(&mut input),
                    request(Page::Json, b"null"),
                    "{cut} of {whole:?}"
                );
                assert!(input.is_empty());
            }
        }
    }

    #[test]
    fn a_sink_counts_the_bytes_of_a_body_and_keeps_none() {
        for (length, body) in
            [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            let mut input = format!("POST /sink HTTP/1.1\r\n{length}\r\n\r\n{body}").into_bytes();
            let expected = Request { page: Page::Sink, received: 5, ..Request::default() };
            assert_eq!(next_request(&mut input), Some(expected), "{length}");
        }
        let (mut reader, mut input) =
            (RequestReader::default(), b"POST /sink HTTP/1.1\r\ncontent-length: 9\r\n\r\npart".to_vec());
        assert_eq!(reader.next_request(&mut input), None);
        assert!(input.is_empty(), "what has come of the body is not held");
    }

    #[test]
    fn a_chunk_without_its_line_end_is_malformed() {
        let mut input = b"POST /sink HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n".to_vec();
        assert_eq!(next_request(&mut input).map(|request| request.page), Some(Page::Malformed));
    }

    #[test]
    fn the_key_of_a_websocket_is_accepted() {
        // The example of RFC 6455, section 1.3.
        let mut input = b"GET /echo HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec();
        let found = next_request(&mut input).unwrap();
        assert_eq!(found.page, Page::Echo);
        assert_eq!(found.accept_key.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn a_client_may_request_the_end_of_the_connection() {
        let mut input = b"GET /held/3 HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec();
        assert_eq!(next_request(&mut input).map(|request| request.close), Some(true));
    }

    #[test]
    fn what_is_no_request_is_malformed_and_what_is_no_page_unknown() {
        assert_eq!(
            next_request(&mut b"\x16\x03\x01 TLS?\r\n\r\n".to_vec()).map(|request| request.page),
            Some(Page::Malformed)
        );
        for path in ["/", "/bytes", "/bytes/many", "/json/1", "x"] {
            let mut input = format!("GET {path} HTTP/1.1\r\n\r\n").into_bytes();
            assert_eq!(next_request(&mut input), request(Page::Unknown, b""), "{path}");
        }
    }
}
