//! The bodies of messages: content out of their framing.

use super::chunked::ChunkedReader;
use super::error::{Incomplete, ParseError, ParseErrorKind};
use super::fields::HeaderFields;
use super::framing::Framing;
use super::limits::ParserLimits;
use super::tolerance::Tolerance;

/// A body that is being received.
pub(super) enum BodyReader {
    Length { expected: u64, received: u64 },
    Chunked(ChunkedReader),
    UntilEof { received: u64 },
}

/// The next of a body.
pub(super) enum BodyPiece<'a> {
    NeedMore,
    Data(&'a [u8]),
    ChunkEnd,
    Trailers(HeaderFields),
    End,
}

impl BodyReader {
    /// The body that a head announces. A tunnel has none.
    pub(super) fn new(framing: Framing, limits: &ParserLimits) -> Result<Self, ParseError> {
        match framing {
            Framing::Empty | Framing::Tunnel => Ok(Self::Length { expected: 0, received: 0 }),
            Framing::Length(expected) => match limits.body {
                Some(limit) if expected > limit => Err(too_long(limit)),
                _ => Ok(Self::Length { expected, received: 0 }),
            },
            Framing::Chunked => Ok(Self::Chunked(ChunkedReader::new())),
            Framing::UntilEof => Ok(Self::UntilEof { received: 0 }),
        }
    }

    pub(super) fn parse<'a>(
        &mut self,
        input: &'a [u8],
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<(BodyPiece<'a>, usize), ParseError> {
        match self {
            Self::Length { expected, received } if expected == received => Ok((BodyPiece::End, 0)),
            Self::Length { expected, received } => Ok(data(input, *expected - *received, received)),
            Self::UntilEof { received } => {
                let left = limits.body.map_or(u64::MAX, |limit| limit.saturating_sub(*received));
                match limits.body {
                    Some(limit) if left == 0 && !input.is_empty() => Err(too_long(limit)),
                    _ => Ok(data(input, left, received)),
                }
            }
            Self::Chunked(chunked) => chunked.parse(input, limits, tolerance),
        }
    }

    /// The connection has ended: whether the body has, too.
    pub(super) fn finish(&self) -> Result<(), ParseError> {
        let incomplete = match self {
            Self::UntilEof { .. } => return Ok(()),
            Self::Length { expected, received } if expected == received => return Ok(()),
            Self::Length { expected, received } => {
                Incomplete::Body { expected: *expected, received: *received }
            }
            Self::Chunked(chunked) => chunked.incomplete(),
        };
        Err(ParseError::new(ParseErrorKind::Incomplete(incomplete), "", "RFC 9112 section 8", b""))
    }

    /// How many of the next bytes are content, whatever they are; none where framing is between.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length { expected, received } => Some(*expected - *received),
            Self::UntilEof { .. } => Some(u64::MAX),
            Self::Chunked(_) => None,
        }
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        if let Self::Chunked(chunked) = self { chunked.held() } else { 0 }
    }
}

/// The input, at most `left` bytes of it.
fn data<'a>(input: &'a [u8], left: u64, received: &mut u64) -> (BodyPiece<'a>, usize) {
    let size = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    if size == 0 {
        return (BodyPiece::NeedMore, 0);
    }
    *received += size as u64;
    (BodyPiece::Data(&input[..size]), size)
}

fn too_long(limit: u64) -> ParseError {
    ParseError::new(ParseErrorKind::BodyTooLong { limit }, "", "RFC 9110 section 15.5.14", b"")
}
