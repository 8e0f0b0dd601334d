//! The heads of messages.

use std::fmt;

use super::fields::{HeaderFields, Span};
use super::start_line::{RequestLine, StatusLine};

/// The version of a message. The minor version is the highest that both sides know (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: a connection ends with its response unless both say otherwise; there is no `chunked`.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// Major and minor number.
    #[must_use]
    pub const fn numbers(self) -> (u8, u8) {
        match self {
            Self::Http10 => (1, 0),
            Self::Http11 => (1, 1),
        }
    }

    /// As it is written in a start line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The version in the status line.
    pub version: Version,
    /// The status, 100 to 999.
    pub status: u16,
    reason: Span,
    /// The header fields.
    pub fields: HeaderFields,
}

impl ResponseHead {
    pub(super) fn new(line: StatusLine, fields: HeaderFields) -> Self {
        Self { version: line.version, status: line.status, reason: line.reason, fields }
    }

    /// The reason phrase as it was received; empty if there is none.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.fields.part(self.reason)
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The version in the request line.
    pub version: Version,
    method: Span,
    target: Span,
    /// The header fields.
    pub fields: HeaderFields,
}

impl RequestHead {
    pub(super) fn new(line: RequestLine, fields: HeaderFields) -> Self {
        Self { version: line.version, method: line.method, target: line.target, fields }
    }

    /// The method, in the case in which it was received.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.fields.part(self.method)
    }

    /// The request target in one of the four forms of RFC 9112 section 3.2.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.fields.part(self.target)
    }
}
