//! How much of a message is taken before it is refused.

/// How long a start line or a field may be by default, in bytes: aiohttp's limit.
const LINE: usize = 8190;
/// How many fields there may be by default: aiohttp's limit.
const FIELDS: usize = 128;
/// So many fields of full length fit into a head of the derived size.
const FULL_FIELDS: usize = 32;

/// The bounds of one message. The memory of a parser never exceeds `head` by more than a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParserLimits {
    /// The start line without its CRLF, in bytes.
    pub line: usize,
    /// One field line without its line end (name, colon, white space, value), in bytes, with all the lines that
    /// continue it; trailers too.
    pub field: usize,
    /// The number of fields in a head, and again in the trailers.
    pub fields: usize,
    /// The whole head with all its line ends, in bytes, and again the trailers. 4 GiB is the most there can be.
    pub head: usize,
    /// The content without its framing, in bytes; `None` is no limit.
    pub body: Option<u64>,
}

impl ParserLimits {
    /// Limits with a head that fits the start line and 32 fields of full length, and no limit for the body.
    #[must_use]
    pub const fn new(line: usize, field: usize, fields: usize) -> Self {
        let full = if fields < FULL_FIELDS { fields } else { FULL_FIELDS };
        let lines = line.saturating_add(field.saturating_mul(full));
        Self { line, field, fields, head: lines.saturating_add(2 * (full + 2)), body: None }
    }

    /// These limits, with a head whose places fit into 32 bits.
    pub(super) fn within_reach(self) -> Self {
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX) - 1;
        Self { head: self.head.min(most), ..self }
    }
}

impl Default for ParserLimits {
    fn default() -> Self {
        Self::new(LINE, LINE, FIELDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_has_room_for_the_line_and_some_fields_of_full_length() {
        assert_eq!(ParserLimits::new(10, 20, 3).head, 12 + 3 * 22 + 2);
        assert_eq!(ParserLimits::new(10, 20, 1000).head, 12 + 32 * 22 + 2);
        assert_eq!(ParserLimits::default().head, ParserLimits::new(8190, 8190, 128).head);
    }

    #[test]
    fn limits_of_any_size_are_limits() {
        let limits = ParserLimits::new(usize::MAX, usize::MAX, usize::MAX).within_reach();
        assert!(u32::try_from(limits.head + 1).is_ok());
    }
}
