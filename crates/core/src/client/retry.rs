//! Which requests may be sent again once, automatically, if their connection is lost (RFC 9110, section 9.2.2).
//!
//! A server closes a connection that it has kept alive at any time, also while a request is on its way (RFC 9112,
//! section 9.3.1). As in aiohttp it makes no difference whether the connection had served a request before.

/// Whether a method may be repeated with the same effect. Methods are case-sensitive.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::is_idempotent;

    #[test]
    fn idempotent_methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", ""] {
            assert!(!is_idempotent(method), "{method}");
        }
    }
}
