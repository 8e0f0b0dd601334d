//! Encodes heads and chunks into a buffer.
//!
//! Each function checks its input, and leaves the buffer as it was if a part must not be sent:
//! a line end in a value would let its author add fields, or a whole message (RFC 9110 section 5.5).

use std::fmt;

use super::Version;
use super::error::Excerpt;
use super::grammar;
use super::secret::is_secret;

/// The end of a chunk's data, and of a head.
pub const CRLF: &[u8] = b"\r\n";

/// Fields that say how a message is framed, routed or to be understood, and come too late in trailers (RFC 9110 section
/// 6.5.1).
const NO_TRAILERS: [&str; 12] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "host",
    "keep-alive",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
];

/// Something that must not be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodeError {
    part: MessagePart,
    fault: EncodeFault,
    excerpt: Excerpt,
}

/// The part of a message that an [`EncodeError`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessagePart {
    /// The method of a request.
    Method,
    /// The target of a request.
    Target,
    /// The status of a response.
    Status,
    /// The reason of a response.
    Reason,
    /// The name of a field.
    FieldName,
    /// The value of a field, by its name.
    FieldValue(String),
    /// A field, by its name, among the trailers.
    Trailer(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EncodeFault {
    Empty,
    Byte { byte: u8, position: usize },
    OutOfRange(u16),
    TooLate,
}

impl EncodeError {
    #[cold]
    fn new(part: MessagePart, fault: EncodeFault, bytes: &[u8]) -> Self {
        let position = if let EncodeFault::Byte { position, .. } = fault { position } else { 0 };
        Self { part, fault, excerpt: Excerpt::around(bytes, position) }
    }

    /// The error about a value of the field `name`, which does not show a credential.
    fn without_secret(self, name: &[u8]) -> Self {
        if is_secret(name) { Self { excerpt: Excerpt::around(b"", 0), ..self } } else { self }
    }

    /// The kind of error.
    #[must_use]
    pub fn part(&self) -> &MessagePart {
        &self.part
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            MessagePart::Method => f.write_str("the method")?,
            MessagePart::Target => f.write_str("the request target")?,
            MessagePart::Status => f.write_str("the status")?,
            MessagePart::Reason => f.write_str("the reason")?,
            MessagePart::FieldName => f.write_str("the name of a header field")?,
            MessagePart::FieldValue(name) => write!(f, "the value of the header field {name}")?,
            MessagePart::Trailer(name) => write!(f, "the header field {name}")?,
        }
        match self.fault {
            EncodeFault::Empty => f.write_str(" is empty"),
            EncodeFault::OutOfRange(status) => write!(f, " is {status}, and not from 100 to 999"),
            EncodeFault::TooLate => f.write_str(" cannot be a trailer: it has to be in the head"),
            EncodeFault::Byte { byte, position } => {
                let name = match byte {
                    0 => "a NUL",
                    b'\r' => "a carriage return",
                    b'\n' => "a line feed",
                    b' ' => "a space",
                    0..0x20 | 0x7f => "a control character",
                    0x80.. => "a byte that is not ASCII",
                    _ => "a character",
                };
                write!(
                    f,
                    " has {name} (0x{byte:02X}) at index {position}, which cannot be sent{}",
                    self.excerpt
                )
            }
        }
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodeError({self})")
    }
}

impl std::error::Error for EncodeError {}

/// Writes `method target version CRLF`. The target is sent as it is; it has to be encoded already.
///
/// # Errors
///
/// If the method is no token, or the target is empty or has white space or a control character.
pub fn request_line(
    out: &mut Vec<u8>,
    method: &[u8],
    target: &[u8],
    version: Version,
) -> Result<(), EncodeError> {
    check(method, grammar::outside_token, || MessagePart::Method)?;
    check(target, grammar::outside_target, || MessagePart::Target)?;
    write(out, &[method, b" ", target, b" ", version.as_str().as_bytes(), CRLF]);
    Ok(())
}

/// Writes `version status reason CRLF`. The reason may be empty.
///
/// # Errors
///
/// If the status is not from 100 to 999, or the reason has a control character other than a tab.
pub fn status_line(
    out: &mut Vec<u8>,
    version: Version,
    status: u16,
    reason: &[u8],
) -> Result<(), EncodeError> {
    if !(100..=999).contains(&status) {
        return Err(EncodeError::new(MessagePart::Status, EncodeFault::OutOfRange(status), b""));
    }
    if !reason.is_empty() {
        check(reason, grammar::outside_text, || MessagePart::Reason)?;
    }
    let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    write(out, &[version.as_str().as_bytes(), b" ", &digits, b" ", reason, CRLF]);
    Ok(())
}

/// Writes `name: value CRLF`.
///
/// # Errors
///
/// If the name is no token, or the value has a control character other than a tab.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
    check(name, grammar::outside_token, || MessagePart::FieldName)?;
    if !value.is_empty() {
        let part = || MessagePart::FieldValue(name.escape_ascii().to_string());
        check(value, grammar::outside_text, part).map_err(|error| error.without_secret(name))?;
    }
    write(out, &[name, b": ", value, CRLF]);
    Ok(())
}

/// Writes the empty line that ends a head.
pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(CRLF);
}

/// The line with a chunk's size, for a caller that sends the data from where it is: the line, the data, [`CRLF`].
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    line: [u8; 18],
    start: usize,
}

impl ChunkSize {
    /// The size line for this many bytes of data. 0 would be the last chunk, and gives `None`: no data is no chunk.
    #[must_use]
    pub fn new(size: usize) -> Option<Self> {
        if size == 0 {
            return None;
        }
        let mut line = *b"0000000000000000\r\n";
        let mut start = line.len() - CRLF.len();
        let mut left = size;
        while left > 0 {
            start -= 1;
            line[start] = b"0123456789abcdef"[left % 16];
            left /= 16;
        }
        Some(Self { line, start })
    }

    /// The line with its CRLF.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.line[self.start..]
    }
}

/// Writes one chunk; nothing if there is no data.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if let Some(size) = ChunkSize::new(data.len()) {
        write(out, &[size.as_bytes(), data, CRLF]);
    }
}

/// Writes the last chunk, the trailers and the end of the body.
///
/// # Errors
///
/// As for [`field`]; and if a field has to be in the head (RFC 9110 section 6.5.1).
pub fn last_chunk<'a>(
    out: &mut Vec<u8>,
    trailers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), EncodeError> {
    let before = out.len();
    out.extend_from_slice(b"0\r\n");
    let written = trailers.into_iter().try_for_each(|(name, value)| {
        if NO_TRAILERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes())) {
            let part = MessagePart::Trailer(name.escape_ascii().to_string());
            return Err(EncodeError::new(part, EncodeFault::TooLate, b""));
        }
        field(out, name, value)
    });
    if written.is_err() {
        out.truncate(before);
    } else {
        end_of_head(out);
    }
    written
}

fn check(
    bytes: &[u8],
    outside: impl Fn(&[u8]) -> Option<usize>,
    part: impl Fn() -> MessagePart,
) -> Result<(), EncodeError> {
    match outside(bytes) {
        None if bytes.is_empty() => Err(EncodeError::new(part(), EncodeFault::Empty, bytes)),
        None => Ok(()),
        Some(position) => {
            Err(EncodeError::new(part(), EncodeFault::Byte { byte: bytes[position], position }, bytes))
        }
    }
}

fn write(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}
