//! How long a body is, and whether the connection outlives its message (RFC 9112 sections 6 and 9.3).

use super::error::{ParseError, ParseErrorKind};
use super::fields::HeaderFields;
use super::grammar;
use super::message::{RequestHead, ResponseHead, Version};
use super::tolerance::Tolerance;

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// It has so many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It lasts until the connection ends.
    UntilEof,
    /// The bytes after the head are no longer HTTP.
    Tunnel,
}

/// The part of a request that decides where its response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// HEAD: the response has no body, whatever it says.
    Head,
    /// CONNECT: 2xx begins a tunnel.
    Connect,
    /// Every other method.
    Other,
}

/// The framing that a head gives its message.
pub enum HeadVerdict {
    /// It is an interim response; another head follows.
    Informational,
    /// It begins a message.
    Message {
        /// How the message's body is framed.
        framing: Framing,
        /// Whether another message may follow.
        keep_alive: bool,
    },
}

/// The response to a request of this kind, which offered an upgrade or did not.
pub(super) fn of_response(
    head: &ResponseHead,
    kind: RequestKind,
    upgrade: bool,
    tolerance: Tolerance,
) -> Result<HeadVerdict, ParseError> {
    let no_body = match (head.status, kind) {
        // Without the field that names the protocol nothing is changed (RFC 9110 section 7.8): a response without a
        // body.
        (101, _) if upgrade && head.fields.get("upgrade").is_none() => true,
        (101, _) if upgrade => return Ok(tunnel()),
        (101, _) => {
            let why = "the response is 101, and the request offered no upgrade";
            return Err(ParseError::new(
                ParseErrorKind::BadUpgrade,
                why,
                "RFC 9110 section 15.2.2",
                head.reason(),
            ));
        }
        (100..=199, _) => return Ok(HeadVerdict::Informational),
        (200..=299, RequestKind::Connect) => return Ok(tunnel()),
        (204 | 304, _) | (_, RequestKind::Head) => true,
        _ => false,
    };
    let declared = Declared::read(&head.fields, head.version, tolerance)?;
    let framing = match (declared.coding, declared.length) {
        _ if no_body => Framing::Empty,
        (Some(TransferCoding::Chunked), _) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length),
        (Some(TransferCoding::Identity), _) | (None, None) => Framing::UntilEof,
    };
    Ok(HeadVerdict::Message { framing, keep_alive: declared.keep_alive })
}

/// A request.
pub(super) fn of_request(head: &RequestHead) -> Result<HeadVerdict, ParseError> {
    check_host(head)?;
    let declared = Declared::read(&head.fields, head.version, Tolerance::Strict)?;
    if head.method() == b"CONNECT" {
        let (why, section) = ("a CONNECT request has no content", "RFC 9110 section 9.3.6");
        return match declared {
            Declared { coding: Some(_), .. } => {
                Err(ParseError::new(ParseErrorKind::BadTransferEncoding, why, section, head.target()))
            }
            Declared { length: Some(1..), .. } => {
                Err(ParseError::new(ParseErrorKind::BadContentLength, why, section, head.target()))
            }
            Declared { .. } => Ok(tunnel()),
        };
    }
    let framing = match (declared.coding, declared.length) {
        (Some(TransferCoding::Chunked), _) => Framing::Chunked,
        (Some(TransferCoding::Identity), _) => {
            let why = "a request cannot last until its connection ends";
            return Err(ParseError::new(
                ParseErrorKind::BadTransferEncoding,
                why,
                "RFC 9112 section 6.3",
                b"identity",
            ));
        }
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::Empty,
    };
    Ok(HeadVerdict::Message { framing, keep_alive: declared.keep_alive })
}

/// Whether the field of this name says where a message ends.
pub(super) fn frames(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"Content-Length") || name.eq_ignore_ascii_case(b"Transfer-Encoding")
}

fn tunnel() -> HeadVerdict {
    HeadVerdict::Message { framing: Framing::Tunnel, keep_alive: false }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TransferCoding {
    Chunked,
    /// What HTTP/1.1 had until 2014 for no coding at all.
    Identity,
}

/// The values of the fields that frame a message.
struct Declared {
    length: Option<u64>,
    coding: Option<TransferCoding>,
    keep_alive: bool,
}

impl Declared {
    fn read(fields: &HeaderFields, version: Version, tolerance: Tolerance) -> Result<Self, ParseError> {
        let mut length = None;
        let mut coding = None;
        let (mut close, mut keep_alive) = (false, false);
        for (name, value) in fields.iter() {
            // Most names differ in their length already.
            match name.len() {
                10 if name.eq_ignore_ascii_case(b"Connection") => {
                    for option in grammar::elements(value) {
                        close |= option.eq_ignore_ascii_case(b"close");
                        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case(b"Content-Length") => {
                    length = Some(content_length(value, length, tolerance)?);
                }
                17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => {
                    for element in grammar::elements(value) {
                        coding = Some(transfer_coding(element, coding)?);
                    }
                }
                _ => {}
            }
        }
        if coding.is_some() && version == Version::Http10 {
            let why = "it is not for HTTP/1.0";
            return Err(ParseError::new(
                ParseErrorKind::BadTransferEncoding,
                why,
                "RFC 9112 section 6.1",
                b"",
            ));
        }
        if coding.is_some() && length.is_some() {
            let why = "Transfer-Encoding stands next to Content-Length";
            return Err(ParseError::new(ParseErrorKind::ConflictingLength, why, "RFC 9112 section 6.3", b""));
        }
        let keep_alive = !close && (keep_alive || version == Version::Http11);
        Ok(Self { length, coding, keep_alive })
    }
}

/// The length that a `Content-Length` says, after the one before.
fn content_length(value: &[u8], before: Option<u64>, tolerance: Tolerance) -> Result<u64, ParseError> {
    match before {
        None if memchr::memchr(b',', value).is_none() => decimal(value),
        _ => repeated_length(value, before, tolerance),
    }
}

/// A length that is said more than once: proxies repeat the field, or join its copies to a list. A user agent takes equal
/// ones for one (RFC 9110 section 8.6).
#[cold]
fn repeated_length(value: &[u8], before: Option<u64>, tolerance: Tolerance) -> Result<u64, ParseError> {
    let conflict =
        |why| Err(ParseError::new(ParseErrorKind::ConflictingLength, why, "RFC 9110 section 8.6", value));
    if tolerance == Tolerance::Strict {
        return conflict(match before {
            Some(_) => "Content-Length is there more than once",
            None => "Content-Length is a list",
        });
    }
    let mut elements = grammar::elements(value);
    let length = match before {
        Some(length) => length,
        None => decimal(elements.next().unwrap_or_default())?,
    };
    for element in elements {
        if decimal(element)? != length {
            return conflict("Content-Length says different lengths");
        }
    }
    Ok(length)
}

/// `1*DIGIT`, and nothing that some parsers take for one: no sign, no separator, no white space.
fn decimal(value: &[u8]) -> Result<u64, ParseError> {
    let bad =
        |why| Err(ParseError::new(ParseErrorKind::BadContentLength, why, "RFC 9110 section 8.6", value));
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return bad("it is not a number in decimal digits");
    }
    let sum = value.iter().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10).and_then(|sum| sum.checked_add(u64::from(digit - b'0')))
    });
    match sum {
        Some(length) => Ok(length),
        None => bad("the number is larger than any length"),
    }
}

/// One element of `Transfer-Encoding`, after the one before.
fn transfer_coding(element: &[u8], before: Option<TransferCoding>) -> Result<TransferCoding, ParseError> {
    let bad = |why, section| Err(ParseError::new(ParseErrorKind::BadTransferEncoding, why, section, element));
    let coding = if element.eq_ignore_ascii_case(b"chunked") {
        TransferCoding::Chunked
    } else if element.eq_ignore_ascii_case(b"identity") {
        TransferCoding::Identity
    } else if element.is_empty() {
        return bad("it has an empty element", "RFC 9112 section 6.1");
    } else {
        return bad("the coding is not chunked, and no other one was requested", "RFC 9112 section 7");
    };
    match before {
        None => Ok(coding),
        Some(TransferCoding::Chunked) if coding == TransferCoding::Chunked => {
            bad("chunked is there more than once", "RFC 9112 section 6.1")
        }
        Some(_) => bad("there is more than one coding", "RFC 9112 section 6.1"),
    }
}

fn check_host(head: &RequestHead) -> Result<(), ParseError> {
    let bad =
        |why, shown: &[u8]| Err(ParseError::new(ParseErrorKind::BadHost, why, "RFC 9112 section 3.2", shown));
    let mut hosts = head.fields.get_all("host");
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(second)) => bad("it is there more than once", second),
        (Some(host), None) if grammar::outside_host(host).is_some() => {
            bad("it has a character that no host has", host)
        }
        (None, _) if head.version == Version::Http11 => bad("there is none", head.target()),
        _ => Ok(()),
    }
}
