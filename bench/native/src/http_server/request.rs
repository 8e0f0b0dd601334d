//! Requests: where one ends, and which page it is for.

use std::num::ParseIntError;

/// Fields a request may have; a client that imitates a browser sends some 20.
const FIELDS: usize = 64;

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Page {
    /// `/bytes/N`: N bytes.
    Bytes(usize),
    /// `/close/N`: N bytes, and the server closes the connection.
    Close(usize),
    /// `/gzip/N`: N bytes of JSON text, compressed.
    Gzip(usize),
    /// `/json`: the JSON text that was sent.
    Json,
    /// `/hold/N`: N bytes, once `/release` is requested.
    Hold(usize),
    /// `/held/N`: nothing, once N requests are held.
    Held(usize),
    /// `/release`: sends the responses that are held.
    Release,
    /// Any other path.
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
            Some(("hold", size)) => Self::Hold(size.parse()?),
            Some(("held", count)) => Self::Held(count.parse()?),
            _ if path == "/json" => Self::Json,
            _ if path == "/release" => Self::Release,
            _ => Self::Unknown,
        })
    }
}

/// One request with its whole body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) page: Page,
    pub(super) body: Vec<u8>,
    /// The client wants the connection closed.
    pub(super) close: bool,
}

/// Takes a whole request off the front of `input`; None while there is none.
pub(super) fn next_request(input: &mut Vec<u8>) -> Option<Request> {
    match parse(input) {
        Ok(None) => None,
        Ok(Some((request, end))) => {
            input.drain(..end);
            Some(request)
        }
        Err(Malformed) => {
            input.clear();
            Some(Request { page: Page::Malformed, body: Vec::new(), close: true })
        }
    }
}

#[derive(Debug)]
struct Malformed;

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked,
}

fn parse(input: &[u8]) -> Result<Option<(Request, usize)>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let head_end = match head.parse(input).map_err(|_| Malformed)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    let page = Page::of(head.path.ok_or(Malformed)?);
    let (mut framing, mut close) = (Framing::Length(0), false);
    for field in head.headers.iter() {
        let value = || std::str::from_utf8(field.value).map(str::trim).map_err(|_| Malformed);
        if field.name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value()?.parse().map_err(|_| Malformed)?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if field.name.eq_ignore_ascii_case("connection") {
            close = value()?.eq_ignore_ascii_case("close");
        }
    }
    let rest = input.get(head_end..).unwrap_or_default();
    let body = match framing {
        Framing::Length(length) => rest.get(..length).map(|body| (body.to_vec(), length)),
        Framing::Chunked => dechunk(rest)?,
    };
    Ok(body.map(|(body, length)| (Request { page, body, close }, head_end + length)))
}

/// A chunked body without trailers and its length on the wire; None while it is not whole.
fn dechunk(wire: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let (mut body, mut position) = (Vec::new(), 0);
    loop {
        let rest = wire.get(position..).unwrap_or_default();
        let httparse::Status::Complete((start, size)) =
            httparse::parse_chunk_size(rest).map_err(|_| Malformed)?
        else {
            return Ok(None);
        };
        let size = usize::try_from(size).map_err(|_| Malformed)?;
        let Some(chunk) = rest.get(start..start + size + 2) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk.strip_suffix(b"\r\n").ok_or(Malformed)?);
        position += start + size + 2;
        if size == 0 {
            return Ok(Some((body, position)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, Request, next_request};

    fn request(page: Page, body: &[u8]) -> Option<Request> {
        Some(Request { page, body: body.to_vec(), close: false })
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
            for end in 0..whole.len() {
                let mut part = whole.as_bytes()[..end].to_vec();
                assert_eq!(next_request(&mut part), None, "{end} bytes of {whole:?}");
            }
            assert_eq!(next_request(&mut whole.as_bytes().to_vec()), request(Page::Json, b"null"));
        }
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
