//! Whether a request that failed may be sent again without asking (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1).

use super::redirect::Body;

/// The connection that a request went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Opened for it.
    New,
    /// Kept alive from a request before: the server may have closed it meanwhile, which shows only now.
    KeptAlive,
}

/// A request whose connection was lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its body.
    pub body: Body,
    /// What it went over.
    pub connection: Connection,
    /// Whether any byte of a response had come.
    pub has_response: bool,
    /// How often it has been sent again before.
    pub retries: usize,
}

/// Whether to send the request once more, over a new connection.
///
/// The server has most likely not seen it: the connection was an old one, and no byte of an answer came. Only what may be
/// done twice is repeated, and only once.
#[must_use]
pub fn may_retry(lost: &Lost<'_>) -> bool {
    lost.connection == Connection::KeptAlive
        && !lost.has_response
        && lost.retries == 0
        && lost.body != Body::Consumed
        && is_idempotent(lost.method)
}

/// Whether a method may be repeated with the same effect. Methods are told apart by case.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::{Body, Connection, Lost, may_retry};

    const LOST: Lost<'static> = Lost {
        method: "GET",
        body: Body::Empty,
        connection: Connection::KeptAlive,
        has_response: false,
        retries: 0,
    };

    #[test]
    fn what_may_be_done_twice_is_sent_again() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(may_retry(&Lost { method, ..LOST }), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", ""] {
            assert!(!may_retry(&Lost { method, ..LOST }), "{method}");
        }
        assert!(may_retry(&Lost { method: "PUT", body: Body::Replayable, ..LOST }));
        assert!(!may_retry(&Lost { method: "PUT", body: Body::Consumed, ..LOST }));
    }

    #[test]
    fn only_once_and_only_when_the_server_had_gone_before() {
        assert!(!may_retry(&Lost { connection: Connection::New, ..LOST }));
        assert!(!may_retry(&Lost { has_response: true, ..LOST }));
        assert!(!may_retry(&Lost { retries: 1, ..LOST }));
    }
}
