//! The errors of messages.

use std::fmt;

use super::secret::without_secret;

/// The most of a message that an error shows, in bytes.
const SHOWN: usize = 64;

/// A message that breaks the rules or the limits, or ends early. The connection it came on is not to be used again.
///
/// It is displayed as one sentence with the bytes that are wrong and the section of the RFC that says so.
#[derive(Clone, PartialEq, Eq)]
pub struct ParseError(Box<Report>);

#[derive(Clone, PartialEq, Eq)]
struct Report {
    kind: ParseErrorKind,
    why: &'static str,
    section: &'static str,
    excerpt: Excerpt,
}

/// The kind of a [`ParseError`], by which callers choose the exception to raise or the status to respond with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// The start line is longer than [`ParserLimits::line`](super::ParserLimits::line).
    LineTooLong {
        /// In bytes.
        limit: usize,
    },
    /// A field line is longer than [`ParserLimits::field`](super::ParserLimits::field).
    FieldTooLong {
        /// In bytes.
        limit: usize,
    },
    /// There are more fields than [`ParserLimits::fields`](super::ParserLimits::fields).
    TooManyFields {
        /// How many there may be.
        limit: usize,
    },
    /// Head or trailers are longer than [`ParserLimits::head`](super::ParserLimits::head).
    HeadTooLong {
        /// In bytes.
        limit: usize,
    },
    /// The first line of a response is no status line.
    BadStatusLine,
    /// The first line of a request is no request line.
    BadRequestLine,
    /// A field line of head or trailers is malformed.
    BadField,
    /// A request has no `Host`, several, or one that is no host.
    BadHost,
    /// `Content-Length` is no number.
    BadContentLength,
    /// There is more than one length: `Content-Length` is repeated, or stands next to `Transfer-Encoding`.
    ConflictingLength,
    /// `Transfer-Encoding` is not `chunked`, or may not be there.
    BadTransferEncoding,
    /// A chunk's size, extension or end is malformed.
    BadChunk,
    /// The content is longer than [`ParserLimits::body`](super::ParserLimits::body).
    BodyTooLong {
        /// In bytes.
        limit: u64,
    },
    /// The peer closed the connection too early.
    Incomplete(Incomplete),
    /// Bytes came when nothing was to come.
    Unexpected,
    /// 101 to a request that did not offer an upgrade.
    BadUpgrade,
}

/// Where a message broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// Before the end of its head.
    Head {
        /// Bytes of this head that have arrived. With none, the peer has not begun to respond.
        received: usize,
    },
    /// Within a body of known length.
    Body {
        /// What `Content-Length` says.
        expected: u64,
        /// Bytes of content that have come.
        received: u64,
    },
    /// Within a chunked body, or before its last line.
    Chunk {
        /// Bytes of content that have come.
        received: u64,
    },
}

impl ParseError {
    /// An error at `position` of `bytes`. `why` ends the sentence that `kind` begins.
    #[cold]
    pub(super) fn at(
        kind: ParseErrorKind,
        why: &'static str,
        section: &'static str,
        bytes: &[u8],
        position: usize,
    ) -> Self {
        let is_field = matches!(
            kind,
            ParseErrorKind::BadField
                | ParseErrorKind::FieldTooLong { .. }
                | ParseErrorKind::TooManyFields { .. }
                | ParseErrorKind::HeadTooLong { .. }
        );
        let shown = if is_field { without_secret(bytes) } else { bytes };
        let mut excerpt = Excerpt::around(shown, position.min(shown.len()));
        excerpt.cut_after |= shown.len() < bytes.len();
        Self(Box::new(Report { kind, why, section, excerpt }))
    }

    /// An error that shows the beginning of `bytes`.
    #[cold]
    pub(super) fn new(kind: ParseErrorKind, why: &'static str, section: &'static str, bytes: &[u8]) -> Self {
        Self::at(kind, why, section, bytes, 0)
    }

    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> ParseErrorKind {
        self.0.kind
    }

    /// Where the rule stands that was broken, such as `RFC 9112 section 5.1`.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.0.section
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            ParseErrorKind::LineTooLong { limit } => {
                write!(f, "the start line is longer than the limit of {limit} bytes")?;
            }
            ParseErrorKind::FieldTooLong { limit } => {
                write!(f, "a header field is longer than the limit of {limit} bytes")?;
            }
            ParseErrorKind::TooManyFields { limit } => {
                write!(f, "there are more header fields than the limit of {limit}")?;
            }
            ParseErrorKind::HeadTooLong { limit } => {
                write!(f, "the header fields are longer than the limit of {limit} bytes in all")?;
            }
            ParseErrorKind::BadStatusLine => f.write_str("bad status line")?,
            ParseErrorKind::BadRequestLine => f.write_str("bad request line")?,
            ParseErrorKind::BadField => f.write_str("bad header field")?,
            ParseErrorKind::BadHost => f.write_str("bad Host")?,
            ParseErrorKind::BadContentLength => f.write_str("bad Content-Length")?,
            ParseErrorKind::ConflictingLength => f.write_str("conflicting lengths of the body")?,
            ParseErrorKind::BadTransferEncoding => f.write_str("bad Transfer-Encoding")?,
            ParseErrorKind::BadChunk => f.write_str("bad chunked body")?,
            ParseErrorKind::BodyTooLong { limit } => {
                write!(f, "the body is longer than the limit of {limit} bytes")?;
            }
            ParseErrorKind::Incomplete(incomplete) => incomplete.fmt(f)?,
            ParseErrorKind::Unexpected => f.write_str("unexpected data")?,
            ParseErrorKind::BadUpgrade => f.write_str("bad upgrade")?,
        }
        if !self.0.why.is_empty() {
            write!(f, ": {}", self.0.why)?;
        }
        write!(f, "{} ({})", self.0.excerpt, self.0.section)
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head { received: 0 } => f.write_str("the peer closed the connection before it sent a head"),
            Self::Head { received } => {
                write!(f, "the peer closed the connection within the head, after {received} bytes of it")
            }
            Self::Body { expected, received } => {
                write!(f, "the peer closed the connection after {received} of {expected} bytes of the body")
            }
            Self::Chunk { received } => {
                write!(
                    f,
                    "the peer closed the connection before the end of a chunked body, after {received} bytes"
                )
            }
        }
    }
}

impl fmt::Debug for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParseError({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for ParseError {}

/// Some bytes of a message as they are shown: escaped and shortened, after a colon. No bytes are shown as nothing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    bytes: Box<[u8]>,
    cut_before: bool,
    cut_after: bool,
}

impl Excerpt {
    /// The bytes before and after `position`.
    pub(super) fn around(bytes: &[u8], position: usize) -> Self {
        let start =
            if bytes.len() <= SHOWN { 0 } else { position.saturating_sub(SHOWN * 3 / 4).min(bytes.len()) };
        let end = bytes.len().min(start + SHOWN);
        Self { bytes: bytes[start..end].into(), cut_before: start > 0, cut_after: end < bytes.len() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let (before, after) = (if self.cut_before { "…" } else { "" }, if self.cut_after { "…" } else { "" });
        write!(f, ": \"{before}{}{after}\"", self.bytes.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_bytes_around_the_place_escaped_and_shortened() {
        let mut line = vec![b'a'; 500];
        line[300] = 0;
        let text = ParseError::at(
            ParseErrorKind::BadField,
            "a control character",
            "RFC 9110 section 5.5",
            &line,
            300,
        )
        .to_string();
        assert!(text.starts_with("bad header field: a control character: \"…aaa"), "{text}");
        assert!(text.contains("aa\\x00aa") && text.ends_with("aaa…\" (RFC 9110 section 5.5)"), "{text}");
        assert!(text.len() < 200);
    }

    #[test]
    fn no_error_shows_the_value_of_a_credential() {
        let line = b"Set-Cookie: session=topsecret\0; Path=/";
        let (why, section) = ("the value has a control character", "RFC 9110 section 5.5");
        let bad = ParseError::at(ParseErrorKind::BadField, why, section, line, 30);
        assert_eq!(
            bad.to_string(),
            "bad header field: the value has a control character: \"Set-Cookie:…\" (RFC 9110 section 5.5)"
        );
        let long =
            ParseError::new(ParseErrorKind::FieldTooLong { limit: 8 }, "", "", b"aUTHORIZATION : topsecret");
        assert!(!long.to_string().contains("topsecret"), "{long}");
    }

    #[test]
    fn an_error_without_bytes_is_a_sentence_too() {
        let kind = ParseErrorKind::Incomplete(Incomplete::Body { expected: 10, received: 3 });
        assert_eq!(
            ParseError::new(kind, "", "RFC 9112 section 8", b"").to_string(),
            "the peer closed the connection after 3 of 10 bytes of the body (RFC 9112 section 8)"
        );
    }
}
