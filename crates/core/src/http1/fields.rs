//! Header fields, in the order and the case in which they were received.

use std::fmt;
use std::ops::Range;

use super::grammar;

/// Places within a block. 32 bits, as a head is never longer than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn of(range: Range<usize>) -> Self {
        // A block is bounded by `ParserLimits::within_reach`.
        Self { start: range.start as u32, end: range.end as u32 }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn within(self, block: &[u8]) -> &[u8] {
        block.get(self.range()).unwrap_or_default()
    }
}

/// Where one field's name and value are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldSpan {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// On the heap: heads are handed from one owner to the next, and that costs by their size.
pub(super) type FieldSpans = Vec<FieldSpan>;

/// The fields of a head or of trailers: one block of bytes as it was received, but for folded values, which are joined
/// in it, and where the fields are in it.
#[derive(Clone, Default)]
pub struct HeaderFields {
    block: Vec<u8>,
    spans: FieldSpans,
}

impl HeaderFields {
    pub(super) fn new(block: Vec<u8>, spans: FieldSpans) -> Self {
        Self { block, spans }
    }

    /// A part of the block; nothing if the span is another block's.
    pub(super) fn part(&self, span: Span) -> &[u8] {
        span.within(&self.block)
    }

    /// Each name and value, in order. Values are without white space at their ends.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + DoubleEndedIterator {
        self.spans.iter().map(|field| (self.part(field.name), self.part(field.value)))
    }

    /// How many fields there are; a repeated name counts each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of the first field of this name, in whatever case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The values of all fields of this name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Whether a comma-separated list, which may be spread over several fields of this name, has this element, in
    /// whatever case (RFC 9110 section 5.6.1).
    #[must_use]
    pub fn contains_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .any(|value| grammar::elements(value).any(|own| own.eq_ignore_ascii_case(token.as_bytes())))
    }
}

impl PartialEq for HeaderFields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for HeaderFields {}

impl fmt::Debug for HeaderFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(name, value)| (shown(name), shown(value)))).finish()
    }
}
