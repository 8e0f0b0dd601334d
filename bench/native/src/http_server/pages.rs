//! The responses of the server.

use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::de::IgnoredAny;

use super::request::Page;

/// Responses, head and body together, each made at its first request.
#[derive(Debug, Default)]
pub(super) struct Pages {
    made: HashMap<Page, Rc<[u8]>>,
}

impl Pages {
    /// The response for `page` to a request with this body.
    pub(super) fn response(&mut self, page: &Page, body: &[u8]) -> Result<Rc<[u8]>> {
        if *page == Page::Json {
            return Ok(echo_json(body));
        }
        if let Some(made) = self.made.get(page) {
            return Ok(Rc::clone(made));
        }
        let response: Rc<[u8]> = make(page)?.into();
        self.made.insert(*page, Rc::clone(&response));
        Ok(response)
    }
}

fn make(page: &Page) -> Result<Vec<u8>> {
    Ok(match page {
        Page::Bytes(size) => response("200 OK", "application/octet-stream", &[], &vec![b'x'; *size]),
        Page::Close(size) => {
            response("200 OK", "application/octet-stream", &["Connection: close"], &vec![b'x'; *size])
        }
        Page::Gzip(size) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&json_text(*size))?;
            response("200 OK", "application/json", &["Content-Encoding: gzip"], &encoder.finish()?)
        }
        Page::Malformed => response("400 Bad Request", "text/plain", &["Connection: close"], b""),
        Page::Json | Page::Hold(_) | Page::Held(_) | Page::Release | Page::Unknown => {
            response("404 Not Found", "text/plain", &[], b"")
        }
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
        let response = Pages::default().response(&Page::Bytes(1024), b"").unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(body(&response).len(), 1024);
    }

    #[test]
    fn a_gzip_page_is_json_of_the_size_requested_and_compresses_as_such_text_does() {
        let response = Pages::default().response(&Page::Gzip(100 * 1024), b"").unwrap();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(body(&response)).read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), 100 * 1024);
        let records: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        assert!(records.len() > 800, "{} records", records.len());
        assert!((4..10).contains(&(text.len() / body(&response).len())), "{} bytes", body(&response).len());
    }

    #[test]
    fn json_comes_back_as_it_was_and_other_text_does_not() {
        let mut pages = Pages::default();
        assert_eq!(body(&pages.response(&Page::Json, b"{\"a\": [1]}").unwrap()), b"{\"a\": [1]}");
        assert!(pages.response(&Page::Json, b"{\"a\": ").unwrap().starts_with(b"HTTP/1.1 422"));
    }
}
