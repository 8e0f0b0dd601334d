//! The bodies of messages: content out of their framing.

use super::chunked::Chunked;
use super::error::{Error, ErrorKind, Incomplete};
use super::fields::Fields;
use super::framing::Framing;
use super::limits::Limits;

/// A body that is being received.
pub(super) enum Body {
    Length { expected: u64, received: u64 },
    Chunked(Chunked),
    UntilEof { received: u64 },
}

/// The next of a body.
pub(super) enum Piece<'a> {
    NeedMore,
    Data(&'a [u8]),
    ChunkEnd,
    Trailers(Fields),
    End,
}

impl Body {
    /// The body that a head announces. A tunnel has none.
    pub(super) fn new(framing: Framing, limits: &Limits) -> Result<Self, Error> {
        match framing {
            Framing::Empty | Framing::Tunnel => Ok(Self::Length { expected: 0, received: 0 }),
            Framing::Length(expected) => match limits.body {
                Some(limit) if expected > limit => Err(too_long(limit)),
                _ => Ok(Self::Length { expected, received: 0 }),
            },
            Framing::Chunked => Ok(Self::Chunked(Chunked::new())),
            Framing::UntilEof => Ok(Self::UntilEof { received: 0 }),
        }
    }

    pub(super) fn parse<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
    ) -> Result<(Piece<'a>, usize), Error> {
        match self {
            Self::Length { expected, received } if expected == received => Ok((Piece::End, 0)),
            Self::Length { expected, received } => Ok(data(input, *expected - *received, received)),
            Self::UntilEof { received } => {
                let left = limits.body.map_or(u64::MAX, |limit| limit.saturating_sub(*received));
                match limits.body {
                    Some(limit) if left == 0 && !input.is_empty() => Err(too_long(limit)),
                    _ => Ok(data(input, left, received)),
                }
            }
            Self::Chunked(chunked) => chunked.parse(input, limits),
        }
    }

    /// The connection has ended: whether the body has, too.
    pub(super) fn finish(&self) -> Result<(), Error> {
        let incomplete = match self {
            Self::UntilEof { .. } => return Ok(()),
            Self::Length { expected, received } if expected == received => return Ok(()),
            Self::Length { expected, received } => {
                Incomplete::Body { expected: *expected, received: *received }
            }
            Self::Chunked(chunked) => chunked.incomplete(),
        };
        Err(Error::new(ErrorKind::Incomplete(incomplete), "", "RFC 9112 section 8", b""))
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        if let Self::Chunked(chunked) = self { chunked.held() } else { 0 }
    }
}

/// What there is of the input, `left` bytes at the most.
fn data<'a>(input: &'a [u8], left: u64, received: &mut u64) -> (Piece<'a>, usize) {
    let size = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    if size == 0 {
        return (Piece::NeedMore, 0);
    }
    *received += size as u64;
    (Piece::Data(&input[..size]), size)
}

fn too_long(limit: u64) -> Error {
    Error::new(ErrorKind::BodyTooLong { limit }, "", "RFC 9110 section 15.5.14", b"")
}
