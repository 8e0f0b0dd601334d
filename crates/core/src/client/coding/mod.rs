//! Content codings (RFC 9110, section 8.4): the decoding of response bodies.
//!
//! Decoding is incremental and bounded: a caller says how many bytes it takes at most, and continues later, so that a
//! small body which decodes to gigabytes never occupies more memory than was requested.

mod brotli;
mod decoder;
mod deflate;
#[cfg(test)]
mod tests;
mod zstd;

use std::borrow::Cow;
use std::fmt;

pub use decoder::{DecodeProgress, Decoder};

/// A content coding that changes a body; `identity` changes nothing and has no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `gzip` and `x-gzip`: RFC 1952.
    Gzip,
    /// `deflate`: the zlib format (RFC 1950), or a bare DEFLATE stream (RFC 1951) from servers that mistake the name.
    Deflate,
    /// `br`: RFC 7932.
    Brotli,
    /// `zstd`: RFC 8878, with the window of RFC 9659.
    Zstd,
}

impl Coding {
    /// The coding's registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else if is("br") {
            Some(Self::Brotli)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the value of a `Content-Encoding` field cannot be decoded. aiohttp hands such bodies on as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// A coding of that name is not known here.
    Unknown(String),
    /// So many codings one upon another; no honest server applies more than [`Decoder::MOST_CODINGS`].
    TooMany(usize),
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "unknown content coding {name:?}; known are gzip, deflate, br, zstd and identity")
            }
            Self::TooMany(count) => {
                write!(f, "{count} content codings; at most {} are decoded", Decoder::MOST_CODINGS)
            }
        }
    }
}

impl std::error::Error for Undecodable {}

/// A body that does not follow its coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    coding: Coding,
    fault: DecodeFault,
}

impl DecodeError {
    /// The coding at fault.
    #[must_use]
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Whether the body ends before its coding does.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        matches!(self.fault, DecodeFault::Cut)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.coding, self.fault)
    }
}

impl std::error::Error for DecodeError {}

/// A fault in the input of one coding.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DecodeFault {
    /// The input breaks the format; the text is the library's.
    Corrupt(Cow<'static, str>),
    /// The input has ended within the stream.
    Cut,
    /// There is no memory for the state of the decoder.
    OutOfMemory,
}

impl fmt::Display for DecodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(detail) => f.write_str(detail),
            Self::Cut => f.write_str("the body ends within the compressed data"),
            Self::OutOfMemory => f.write_str("no memory for the decoder"),
        }
    }
}
