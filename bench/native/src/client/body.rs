//! The bodies of requests: bytes in memory, or a multipart form around a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

/// Bytes of a file that are read at once.
const PIECE: usize = 64 * 1024;
const BOUNDARY: &str = "whorl-bench-boundary";

/// What a request sends.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// One piece; empty for a request without a body.
    Whole(Bytes),
    Multipart(Multipart),
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl From<&'static [u8]> for Outgoing {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Whole(Bytes::from_static(bytes))
    }
}

/// A form of one file, which is read while it is sent. The file is in the page cache, and reading it does not wait.
#[derive(Debug)]
pub(super) struct Multipart {
    opening: Bytes,
    file: File,
    /// Bytes of the file that have not been read.
    left: u64,
    closing: Bytes,
}

impl Multipart {
    pub(super) fn of_file(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let opening = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"upload.bin\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let closing = format!("\r\n--{BOUNDARY}--\r\n");
        Ok(Self { opening: opening.into(), file, left, closing: closing.into() })
    }

    pub(super) fn content_type() -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }

    fn len(&self) -> u64 {
        self.opening.len() as u64 + self.left + self.closing.len() as u64
    }

    fn next_piece(&mut self) -> std::io::Result<Option<Bytes>> {
        if !self.opening.is_empty() {
            return Ok(Some(std::mem::take(&mut self.opening)));
        }
        if self.left > 0 {
            let mut piece = BytesMut::zeroed(PIECE.min(usize::try_from(self.left).unwrap_or(PIECE)));
            self.file.read_exact(&mut piece)?;
            self.left -= piece.len() as u64;
            return Ok(Some(piece.freeze()));
        }
        let closing = std::mem::take(&mut self.closing);
        Ok((!closing.is_empty()).then_some(closing))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) => Ok((!bytes.is_empty()).then(|| std::mem::take(bytes))),
            Self::Multipart(form) => form.next_piece(),
        };
        Poll::Ready(piece.transpose().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Multipart(form) => form.len() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Multipart(form) => form.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_form_has_the_length_that_it_says_and_the_file_in_it() {
        let path = std::env::temp_dir().join(format!("whorl-bench-form-{}", std::process::id()));
        std::fs::write(&path, vec![b'x'; PIECE + 1]).unwrap();
        let form = Outgoing::Multipart(Multipart::of_file(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let said = form.size_hint().exact().unwrap();
        let bytes = form.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, said);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("--whorl-bench-boundary\r\nContent-Disposition: form-data; name=\"file\""));
        assert_eq!(rest, "x".repeat(PIECE + 1) + "\r\n--whorl-bench-boundary--\r\n");
    }
}
