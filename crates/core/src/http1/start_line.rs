//! Status line and request line (RFC 9112 sections 3 and 4).

use super::error::{ParseError, ParseErrorKind};
use super::fields::Span;
use super::grammar;
use super::message::Version;
use super::tolerance::Tolerance;

/// The first line of a section: of a response, of a request, or none as in trailers.
pub trait StartLine: Sized {
    /// The general fault of such a line.
    const KIND: ParseErrorKind;
    /// Whether a user agent takes a line feed alone for the end of a line of the section.
    const LINE_FEED_ENDS_LINE: bool;

    /// How many empty lines are passed over before it.
    fn empty_lines(tolerance: Tolerance) -> usize;

    /// Checks the first bytes of a line, however many there are: an impossible line is refused at once, and not
    /// when its end comes, which may be never.
    fn begins(bytes: &[u8]) -> Result<(), ParseError>;

    /// Reads a line without its CRLF, which stands at `start` of its block.
    fn read(line: &[u8], start: usize, tolerance: Tolerance) -> Result<Self, ParseError>;
}

/// `version SP status [ SP reason ]`
#[derive(Clone, Copy, Debug)]
pub struct StatusLine {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) reason: Span,
}

/// `method SP target SP version`
#[derive(Clone, Copy, Debug)]
pub struct RequestLine {
    pub(super) version: Version,
    pub(super) method: Span,
    pub(super) target: Span,
}

impl StartLine for StatusLine {
    const KIND: ParseErrorKind = ParseErrorKind::BadStatusLine;
    /// RFC 9112 section 2.2 allows it for start lines and fields.
    const LINE_FEED_ENDS_LINE: bool = true;

    /// An empty line where a response should begin belongs to another response. One is harmless: some servers send a
    /// CRLF too many behind a body.
    fn empty_lines(tolerance: Tolerance) -> usize {
        match tolerance {
            Tolerance::Strict => 0,
            Tolerance::UserAgent => 1,
        }
    }

    fn begins(bytes: &[u8]) -> Result<(), ParseError> {
        if bytes.iter().zip(b"HTTP/1.").all(|(own, wanted)| own == wanted) {
            return Ok(());
        }
        Err(ParseError::new(Self::KIND, "it does not begin with HTTP/1.1", "RFC 9112 section 4", bytes))
    }

    fn read(line: &[u8], start: usize, tolerance: Tolerance) -> Result<Self, ParseError> {
        let bad = |why, position| ParseError::at(Self::KIND, why, "RFC 9112 section 4", line, position);
        if line.is_empty() {
            return Err(bad("an empty line stands before it", 0));
        }
        let Some((name, rest)) = line.split_at_checked(8) else {
            return Err(bad("it ends within the version", 0));
        };
        let version = version(name).ok_or_else(|| bad("the version is not HTTP/1.0 or HTTP/1.1", 0))?;
        let (code, reason) = match rest {
            [b' ', code @ ..] if code.len() == 3 => (code, &[][..]),
            [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c][..], reason),
            _ => return Err(bad("the status is not three digits between single spaces", 8)),
        };
        if !code.iter().all(u8::is_ascii_digit) || code[0] == b'0' {
            return Err(bad("the status is not a number from 100 to 999", 9));
        }
        let status = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if let Some(position) = tolerance.outside_text(reason) {
            return Err(bad("a control character in the reason", line.len() - reason.len() + position));
        }
        let end = start + line.len();
        Ok(Self { version, status, reason: Span::of(end - reason.len()..end) })
    }
}

impl StartLine for RequestLine {
    const KIND: ParseErrorKind = ParseErrorKind::BadRequestLine;
    const LINE_FEED_ENDS_LINE: bool = false;

    /// The RFC wants one at least, for clients that end a body with a CRLF too many.
    fn empty_lines(_tolerance: Tolerance) -> usize {
        4
    }

    fn begins(bytes: &[u8]) -> Result<(), ParseError> {
        match bytes.first() {
            // The carriage return may be an empty line's.
            None | Some(b'\r') => Ok(()),
            Some(byte) if grammar::outside_token(&[*byte]).is_none() => Ok(()),
            Some(_) => {
                let why = "it does not begin with a method";
                Err(ParseError::new(Self::KIND, why, "RFC 9112 section 3.1", bytes))
            }
        }
    }

    fn read(line: &[u8], start: usize, _tolerance: Tolerance) -> Result<Self, ParseError> {
        let bad = |why, section, position| ParseError::at(Self::KIND, why, section, line, position);
        let parts = "RFC 9112 section 3";
        if line.is_empty() {
            return Err(bad("more than four empty lines stand before it", "RFC 9112 section 2.2", 0));
        }
        let mut spaces = memchr::memchr_iter(b' ', line);
        let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
            return Err(bad("it is not method, target and version with single spaces between", parts, 0));
        };
        let (method, target) = (&line[..first], &line[first + 1..second]);
        if let Some(position) = grammar::outside_token(method) {
            return Err(bad(
                "the method has a character that no token has",
                "RFC 9112 section 3.1",
                position,
            ));
        }
        if let Some(position) = grammar::outside_target(target) {
            let why = "the target has a control character";
            return Err(bad(why, "RFC 9112 section 3.2", first + 1 + position));
        }
        if !is_target(method, target) {
            let why = "the target is neither a path nor a URL, nor the form that this method takes instead";
            return Err(bad(why, "RFC 9112 section 3.2", first + 1));
        }
        let version = version(&line[second + 1..]).ok_or_else(|| {
            bad("the version is not HTTP/1.0 or HTTP/1.1", "RFC 9112 section 2.3", second + 1)
        })?;
        let method = Span::of(start..start + first);
        Ok(Self { version, method, target: Span::of(start + first + 1..start + second) })
    }
}

/// Trailers have no first line.
impl StartLine for () {
    const KIND: ParseErrorKind = ParseErrorKind::BadField;
    /// The end of the section is the end of the message.
    const LINE_FEED_ENDS_LINE: bool = false;

    fn empty_lines(_tolerance: Tolerance) -> usize {
        0
    }

    fn begins(_bytes: &[u8]) -> Result<(), ParseError> {
        Ok(())
    }

    fn read(_line: &[u8], _start: usize, _tolerance: Tolerance) -> Result<Self, ParseError> {
        Ok(())
    }
}

/// Eight bytes, of which the last is the minor version. One that is too new for us is read as the newest we know.
fn version(name: &[u8]) -> Option<Version> {
    match name.strip_prefix(b"HTTP/1.")? {
        b"0" => Some(Version::Http10),
        [b'1'..=b'9'] => Some(Version::Http11),
        _ => None,
    }
}

/// Whether this is one of the four forms, and one that the method takes: `host:port` is CONNECT's, `*` is OPTIONS'.
fn is_target(method: &[u8], target: &[u8]) -> bool {
    if method == b"CONNECT" {
        let Some(colon) = memchr::memrchr(b':', target) else { return false };
        let (host, port) = (&target[..colon], &target[colon + 1..]);
        let port_is_number = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
        return !host.is_empty() && port_is_number && grammar::outside_host(host).is_none();
    }
    match target {
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => is_absolute(target),
    }
}

/// `scheme ":" …`
fn is_absolute(target: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', target) else { return false };
    let scheme = &target[..colon];
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}
