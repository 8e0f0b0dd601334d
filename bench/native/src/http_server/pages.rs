//! The responses of the server.

use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::de::IgnoredAny;

use super::request::{Page, Request};

/// Responses, head and body together, each made at its first request.
#[derive(Debug, Default)]
pub(super) struct Pages {
    made: HashMap<Page, Rc<[u8]>>,
}

impl Pages {
    /// The response to a request.
    pub(super) fn response(&mut self, request: &Request) -> Result<Rc<[u8]>> {
        match request.page {
            Page::Json => Ok(echo_json(&request.body)),
            Page::Sink => {
                Ok(response("200 OK", "text/plain", &[], request.received.to_string().as_bytes()).into())
            }
            Page::Echo => Ok(switch_protocols(request.accept_key.as_deref())),
            page => self.fixed(page),
        }
    }

    /// The response of a page that is the same for each request.
    pub(super) fn fixed(&mut self, page: Page) -> Result<Rc<[u8]>> {
        if let Some(made) = self.made.get(&page) {
            return Ok(Rc::clone(made));
        }
        let response: Rc<[u8]> = make(page)?.into();
        self.made.insert(page, Rc::clone(&response));
        Ok(response)
    }
}

fn make(page: Page) -> Result<Vec<u8>> {
    Ok(match page {
        Page::Bytes(size) => response("200 OK", "application/octet-stream", &[], &vec![b'x'; size]),
        Page::Close(size) => {
            response("200 OK", "application/octet-stream", &["Connection: close"], &vec![b'x'; size])
        }
        Page::Text(size) => response("200 OK", "text/html; charset=utf-8", &[], &html(size)),
        Page::Redirect(size) => {
            response("302 Found", "text/plain", &[&format!("Location: /bytes/{size}")], b"")
        }
        Page::Gzip(size) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&json_text(size))?;
            response("200 OK", "application/json", &["Content-Encoding: gzip"], &encoder.finish()?)
        }
        Page::Malformed => response("400 Bad Request", "text/plain", &["Connection: close"], b""),
        Page::Json
        | Page::Sink
        | Page::Echo
        | Page::Hold(_)
        | Page::Held(_)
        | Page::Release
        | Page::Unknown => response("404 Not Found", "text/plain", &[], b""),
    })
}

/// Reads the text as JSON, and sends it back.
fn echo_json(body: &[u8]) -> Rc<[u8]> {
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(IgnoredAny) => response("200 OK", "application/json", &[], body).into(),
        Err(error) => {
            response("422 Unprocessable Content", "text/plain", &[], error.to_string().as_bytes()).into()
        }
    }
}

/// Accepts a WebSocket's opening handshake, without extensions.
fn switch_protocols(accept_key: Option<&str>) -> Rc<[u8]> {
    match accept_key {
        Some(key) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {key}\r\n\r\n"
        )
        .into_bytes()
        .into(),
        None => response("400 Bad Request", "text/plain", &[], b"").into(),
    }
}

/// The fields are those of a usual server behind no proxy.
fn response(status: &str, content_type: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 {status}\r\nServer: whorl-bench\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for field in fields {
        response.extend_from_slice(field.as_bytes());
        response.extend_from_slice(b"\r\n");
    }
    response.extend_from_slice(b"\r\n");
    response.extend_from_slice(body);
    response
}

/// A page of exactly `size` bytes.
fn html(size: usize) -> Vec<u8> {
    let lines = b"<p>The quick brown fox jumps over the lazy dog.</p>\n";
    lines.iter().copied().cycle().take(size).collect()
}

/// JSON text of exactly `size` bytes: records as a service lists them, then spaces.
fn json_text(size: usize) -> Vec<u8> {
    const CLOSING: u8 = b']';
    let mut text = vec![b'['];
    // A fixed sequence of the usual linear congruential kind: the values vary, the text is the same every time.
    let mut state: u32 = 1;
    for id in 0.. {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let record = format!(
            "{}{{\"id\": {id}, \"name\": \"item {}\", \"price\": {}.{:02}, \"tags\": [\"a{}\", \"b{}\"], \"in_stock\": {}}}",
            if id == 0 { "" } else { ", " },
            state >> 12,
            state >> 24,
            state % 100,
            state >> 28,
            state >> 26,
            state & 0x0001_0000 == 0
        );
        if text.len() + record.len() >= size {
            break;
        }
        text.extend_from_slice(record.as_bytes());
    }
    text.push(CLOSING);
    text.resize(size, b' ');
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn body(response: &[u8]) -> &[u8] {
        let head = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        &response[head + 4..]
    }

    #[test]
    fn a_page_of_bytes_has_so_many() {
        let response = Pages::default().fixed(Page::Bytes(1024)).unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(body(&response).len(), 1024);
    }

    #[test]
    fn a_gzip_page_is_json_of_the_size_requested_and_compresses_as_such_text_does() {
        let response = Pages::default().fixed(Page::Gzip(100 * 1024)).unwrap();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(body(&response)).read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), 100 * 1024);
        let records: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        assert!(records.len() > 800, "{} records", records.len());
        assert!((4..10).contains(&(text.len() / body(&response).len())), "{} bytes", body(&response).len());
    }

    #[test]
    fn json_comes_back_as_it_was_and_other_text_does_not() {
        let response = |body: &[u8]| {
            let request = Request { page: Page::Json, body: body.to_vec(), ..Request::default() };
            Pages::default().response(&request).unwrap()
        };
        assert_eq!(body(&response(b"{\"a\": [1]}")), b"{\"a\": [1]}");
        assert!(response(b"{\"a\": ").starts_with(b"HTTP/1.1 422"));
    }

    #[test]
    fn a_text_has_so_many_bytes_and_a_redirect_names_its_target() {
        assert_eq!(body(&Pages::default().fixed(Page::Text(1000)).unwrap()).len(), 1000);
        let response = Pages::default().fixed(Page::Redirect(7)).unwrap();
        let head = String::from_utf8(response.to_vec()).unwrap();
        assert!(head.starts_with("HTTP/1.1 302 Found\r\n"));
        assert!(head.contains("\r\nLocation: /bytes/7\r\n"));
    }

    #[test]
    fn a_sink_says_how_much_it_received() {
        let request = Request { page: Page::Sink, received: 1234, ..Request::default() };
        assert_eq!(body(&Pages::default().response(&request).unwrap()), b"1234");
    }

    #[test]
    fn a_websocket_without_a_key_is_refused() {
        let request = Request { page: Page::Echo, ..Request::default() };
        assert!(Pages::default().response(&request).unwrap().starts_with(b"HTTP/1.1 400"));
    }
}
