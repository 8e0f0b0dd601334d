//! Close frames (RFC 6455, sections 5.5.1 and 7.4).

use super::error::ProtocolError;

/// Whether `code` may stand in a close frame: what RFC 6455 and its registry define, but for the codes that only
/// say locally what happened (1004 to 1006, 1015), and the ranges of libraries and applications (3000 to 4999).
#[must_use]
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code and the reason in a close frame's payload; no code if it is empty.
pub fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), ProtocolError> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(ProtocolError::CloseCode(code));
            }
            let reason = str::from_utf8(reason).map_err(|_| ProtocolError::ReasonNotUtf8)?;
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_by_range() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|code| may_be_sent(*code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn payloads() {
        assert_eq!(parse(b""), Ok((None, "")));
        assert_eq!(parse(b"\x03\xe8"), Ok((Some(1000), "")));
        assert_eq!(parse(b"\x0f\xa0bye \xc3\xa9"), Ok((Some(4000), "bye é")));
        assert_eq!(parse(b"\x03"), Err(ProtocolError::CloseTooShort));
        assert_eq!(parse(b"\x03\xee"), Err(ProtocolError::CloseCode(1006)));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(ProtocolError::ReasonNotUtf8));
    }
}
