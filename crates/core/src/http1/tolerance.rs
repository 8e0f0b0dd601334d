//! How much a parser accepts beyond what a sender may send.

use super::grammar;

/// How a parser of responses treats what a server should not have sent.
///
/// What could be read in two ways about where the message ends is an error in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tolerance {
    /// Nothing is accepted that RFC 9112 does not let a sender send. Requests are always read so.
    Strict,
    /// What leaves no doubt about where the message ends is accepted, as RFC 9112 allows to a user agent or requires of
    /// it.
    #[default]
    UserAgent,
}

impl Tolerance {
    /// Whether it is a user agent's.
    pub(super) fn is_user_agent(self) -> bool {
        self == Self::UserAgent
    }

    /// Where the first byte stands that neither a field value nor a reason may have. In a user agent only CR, LF and NUL
    /// are dangerous (RFC 9110 section 5.5), and the first two are never within a line.
    pub(super) fn outside_text(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Strict => grammar::outside_text(bytes),
            Self::UserAgent => memchr::memchr(0, bytes),
        }
    }
}

/// Whether other parties see the same lines in what has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// CRLF ended all of them.
    #[default]
    Agreed,
    /// A line feed alone ended a field or a head. A party that takes it for text finds the end of the head elsewhere.
    Doubtful,
}
