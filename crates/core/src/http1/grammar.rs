//! The character classes of RFC 9110 section 5.6, as tables.

use std::ops::Range;

type Class = [bool; 256];

/// Letters, digits and `others`.
const fn alphanumeric_or(others: &[u8]) -> Class {
    let mut class = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        class[others[index] as usize] = true;
        index += 1;
    }
    class
}

const TOKEN: Class = alphanumeric_or(b"!#$%&'*+-.^_`|~");

/// HTAB, SP, VCHAR and obs-text: the characters of a field value or a reason.
const TEXT: Class = {
    let mut class = [false; 256];
    let mut byte = 0x20;
    while byte < 256 {
        class[byte] = byte != 0x7f;
        byte += 1;
    }
    class[b'\t' as usize] = true;
    class
};

/// VCHAR and obs-text: the characters accepted in a request target. obs-text is not in the grammar of a URI, but some
/// clients send UTF-8 as it is, and it does no harm to the framing.
const TARGET: Class = {
    let mut class = TEXT;
    class[b'\t' as usize] = false;
    class[b' ' as usize] = false;
    class
};

/// `uri-host [ ":" port ]`: unreserved, sub-delims, percent-encoding, and what IP literals are written with.
const HOST: Class = alphanumeric_or(b"-._~!$&'()*+,;=%:[]");

fn outside(class: &Class, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| !class[usize::from(byte)])
}

/// Where the first byte stands that no token may have.
pub(super) fn outside_token(bytes: &[u8]) -> Option<usize> {
    outside(&TOKEN, bytes)
}

/// Where the first byte stands that neither a field value nor a reason may have.
pub(super) fn outside_text(bytes: &[u8]) -> Option<usize> {
    outside(&TEXT, bytes)
}

/// Where the first byte stands that no request target may have.
pub(super) fn outside_target(bytes: &[u8]) -> Option<usize> {
    outside(&TARGET, bytes)
}

/// Where the first byte stands that no host may have.
pub(super) fn outside_host(bytes: &[u8]) -> Option<usize> {
    outside(&HOST, bytes)
}

pub(super) fn is_text(byte: u8) -> bool {
    TEXT[usize::from(byte)]
}

/// Optional white space: a space or a tab.
pub(super) fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The text without white space at both ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    &bytes[trim_range(bytes)]
}

/// Where the text is without white space at both ends; if it is all white space, at its end.
pub(super) fn trim_range(bytes: &[u8]) -> Range<usize> {
    let start = bytes.iter().position(|&byte| !is_white(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&byte| !is_white(byte)).map_or(start, |last| last + 1);
    start..end
}

/// The elements of a comma-separated list, without white space around them; empty ones too.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_those_of_the_rfc() {
        for byte in 0..=u8::MAX {
            let token = byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(outside_token(&[byte]).is_none(), token, "{byte:#x}");
            let text = byte == b'\t' || byte == b' ' || byte.is_ascii_graphic() || byte >= 0x80;
            assert_eq!(outside_text(&[byte]).is_none(), text, "{byte:#x}");
            assert_eq!(is_text(byte), text, "{byte:#x}");
            assert_eq!(outside_target(&[byte]).is_none(), text && !is_white(byte), "{byte:#x}");
            let host = byte.is_ascii_graphic() && !b"\"#/<>?@\\^`{|}".contains(&byte);
            assert_eq!(outside_host(&[byte]).is_none(), host, "{byte:#x}");
        }
    }

    #[test]
    fn white_space_is_trimmed_at_both_ends_only() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!((trim_range(b" \t "), trim_range(b" a\t")), (3..3, 1..2));
        assert_eq!(trim(b"\x0ba\x0c"), b"\x0ba\x0c");
        assert_eq!(elements(b"a, ,b ").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
    }
}
