//! Fields whose values are credentials, which no error shows.

/// The names, in lower case: those of RFC 9110 and RFC 6265, and common ones of services.
pub const SECRET_FIELDS: [&str; 9] = [
    "api-key",
    "authorization",
    "cookie",
    "private-token",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
];

/// Whether the value of a field of this name is a credential.
pub(super) fn is_secret(name: &[u8]) -> bool {
    SECRET_FIELDS.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

/// The part of a field line that an error may show: all of it, or the name with its colon.
pub(super) fn without_secret(line: &[u8]) -> &[u8] {
    match memchr::memchr(b':', line) {
        Some(colon) if is_secret(line[..colon].trim_ascii()) => &line[..=colon],
        _ => line,
    }
}
