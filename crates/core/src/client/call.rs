//! One call of a client: what it does next, from what has happened so far.
//!
//! The caller sends a request, which middlewares may do several times, and reports how it has ended ([`Outcome`]). [`Call`]
//! says what becomes of the call ([`Action`]): the request of a redirect follows, it is sent again, its response is delivered,
//! or the call fails. It keeps the policy of redirects, of the one silent retry and of credentials, [`Timeout`] that of
//! time; they know no socket, no clock and no header field.

use super::redirect::{self, NextRequest, Redirect, RedirectContext, RequestBody};
use super::retry;

/// A whole second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// What the user has chosen for a call.
#[derive(Clone, Copy, Debug)]
pub struct CallPolicy {
    /// Whether redirects are followed.
    pub follows: bool,
    /// The number of redirects that is too many; 0 is no limit.
    pub max_redirects: usize,
    /// Whether an idempotent request is sent again once when its connection is lost.
    pub retries: bool,
    /// Which statuses fail the call.
    pub raises_for_status: RaiseForStatus,
}

/// Which statuses fail a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaiseForStatus {
    /// None.
    Never,
    /// Those of 400 or more.
    Errors,
    /// Those for which the response itself raises: a user's code decides.
    Always,
}

/// A limit of time, and when it began: a call's, over all of its requests, or that of one until it has its connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    limit: Option<u64>,
    began: u64,
}

impl Timeout {
    /// Of what begins `now`, in nanoseconds of a clock that never goes back; no `limit`: it may take any time.
    #[must_use]
    pub const fn new(limit: Option<u64>, now: u64) -> Self {
        Self { limit, began: now }
    }

    /// Nanoseconds since it began.
    #[must_use]
    pub const fn elapsed(&self, now: u64) -> u64 {
        now.saturating_sub(self.began)
    }

    /// What is left, in nanoseconds: at least 1, and rounded up to a whole second or to a 64th of the limit, so that few
    /// distinct lengths are in use at a time.
    #[must_use]
    pub fn left(&self, now: u64) -> Option<u64> {
        let limit = self.limit?;
        let unit = (limit / 64).clamp(1, SECOND);
        Some(limit.saturating_sub(self.elapsed(now)).div_ceil(unit).max(1).saturating_mul(unit))
    }
}

/// Which timeout passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// The call's.
    Total,
    /// That of a request until it has its connection.
    Connect,
}

/// The timeout of a request without a connection that passes first, and what is left of it.
#[must_use]
pub fn first_to_pass(total: Timeout, connect: Timeout, now: u64) -> Option<(u64, Passing)> {
    let total = total.left(now).map(|left| (left, Passing::Total));
    let connect = connect.left(now).map(|left| (left, Passing::Connect));
    total.into_iter().chain(connect).min_by_key(|(left, _)| *left)
}

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its body.
    pub body: RequestBody,
    /// The head of its response, or why there is none.
    pub result: Result<Answer, Failure>,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Whether it says where to go.
    pub has_location: bool,
}

/// Why a request has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its connection was lost: a server may close one at any time (RFC 9112, section 9.3.1).
    ConnectionLost,
    /// Anything else: no connection could be made, a limit has passed, the message was malformed, a user's code has raised.
    Other,
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Make the next request of a redirect: resolve its target, check [`Call::credentials`], and begin again.
    Follow(NextRequest),
    /// Make the same request again.
    Retry,
    /// The response is the user's.
    Deliver,
    /// The response is the user's, unless it raises for its status.
    RaiseForStatus,
    /// There are too many redirects.
    TooManyRedirects,
    /// The redirect sends the body again, which has been read off its source.
    BodyConsumed,
    /// The call fails with the error of its request.
    Fail,
}

/// Whether the next request has the credentials that the call was given: those of a session are the session's to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Credentials {
    /// The same origin gets them again.
    Keep,
    /// Another origin does not get them.
    Drop,
}

/// The state of a call.
#[derive(Debug)]
pub struct Call {
    policy: CallPolicy,
    retries_left: bool,
    followed: usize,
}

impl Call {
    /// A call that has not begun.
    #[must_use]
    pub const fn new(policy: CallPolicy) -> Self {
        Self { policy, retries_left: policy.retries, followed: 0 }
    }

    /// What to do after a request.
    pub fn next(&mut self, outcome: &Outcome<'_>) -> Action {
        let Outcome { method, body, result } = *outcome;
        match result {
            Ok(answer) => self.after_head(answer, method, body),
            Err(failure) => {
                let again = self.retries_left
                    && failure == Failure::ConnectionLost
                    && body != RequestBody::Consumed
                    && retry::is_idempotent(method);
                if !again {
                    return Action::Fail;
                }
                self.retries_left = false;
                Action::Retry
            }
        }
    }

    fn after_head(&mut self, answer: Answer, method: &str, body: RequestBody) -> Action {
        let Answer { status, has_location } = answer;
        let Self { followed, policy: CallPolicy { follows, max_redirects, raises_for_status, .. }, .. } =
            *self;
        if follows {
            let context = RedirectContext { status, has_location, method, body, followed, max_redirects };
            match redirect::redirect(&context) {
                Redirect::No => {}
                Redirect::TooMany => return Action::TooManyRedirects,
                Redirect::BodyConsumed => return Action::BodyConsumed,
                Redirect::Follow(next) => {
                    self.followed += 1;
                    return Action::Follow(next);
                }
            }
        }
        let raises = match raises_for_status {
            RaiseForStatus::Never => false,
            RaiseForStatus::Errors => status >= 400,
            RaiseForStatus::Always => true,
        };
        if raises { Action::RaiseForStatus } else { Action::Deliver }
    }

    /// Whether the request of a redirect, to the same origin or another, has the credentials of the one before.
    pub const fn credentials(same_origin: bool) -> Credentials {
        if same_origin { Credentials::Keep } else { Credentials::Drop }
    }

    /// How many redirects it has followed.
    #[must_use]
    pub const fn followed(&self) -> usize {
        self.followed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Action, Answer, Call, CallPolicy, Credentials, Failure, NextRequest, Outcome, Passing,
        RaiseForStatus, RequestBody, SECOND, Timeout, first_to_pass,
    };

    const POLICY: CallPolicy = CallPolicy {
        follows: true,
        max_redirects: 10,
        retries: true,
        raises_for_status: RaiseForStatus::Never,
    };

    fn head(status: u16) -> Outcome<'static> {
        Outcome { method: "GET", body: RequestBody::Empty, result: Ok(Answer { status, has_location: true }) }
    }

    fn lost(method: &'static str, body: RequestBody) -> Outcome<'static> {
        Outcome { method, body, result: Err(Failure::ConnectionLost) }
    }

    #[test]
    fn a_response_is_delivered() {
        assert_eq!(Call::new(POLICY).next(&head(200)), Action::Deliver);
    }

    #[test]
    fn redirects_are_counted() {
        let mut call = Call::new(CallPolicy { max_redirects: 3, ..POLICY });
        assert_eq!(call.next(&head(302)), Action::Follow(NextRequest::Same));
        assert_eq!(call.next(&head(307)), Action::Follow(NextRequest::Same));
        assert_eq!(call.followed(), 2);
        assert_eq!(call.next(&head(301)), Action::TooManyRedirects);
    }

    #[test]
    fn a_redirect_that_is_not_followed_is_the_response() {
        let mut call = Call::new(CallPolicy { follows: false, ..POLICY });
        assert_eq!(call.next(&head(302)), Action::Deliver);
    }

    #[test]
    fn a_redirect_with_a_body_that_is_gone() {
        let mut call = Call::new(POLICY);
        let outcome = Outcome { method: "POST", body: RequestBody::Consumed, ..head(307) };
        assert_eq!(call.next(&outcome), Action::BodyConsumed);
    }

    #[test]
    fn statuses_that_fail_the_call() {
        for (raises_for_status, status, expected) in [
            (RaiseForStatus::Never, 500, Action::Deliver),
            (RaiseForStatus::Errors, 399, Action::Deliver),
            (RaiseForStatus::Errors, 400, Action::RaiseForStatus),
            (RaiseForStatus::Errors, 302, Action::Follow(NextRequest::Same)),
            (RaiseForStatus::Always, 200, Action::RaiseForStatus),
            (RaiseForStatus::Always, 302, Action::Follow(NextRequest::Same)),
        ] {
            let mut call = Call::new(CallPolicy { raises_for_status, ..POLICY });
            assert_eq!(call.next(&head(status)), expected, "{raises_for_status:?} {status}");
        }
    }

    #[test]
    fn a_lost_connection_is_forgiven_once() {
        let mut call = Call::new(POLICY);
        assert_eq!(call.next(&lost("GET", RequestBody::Empty)), Action::Retry);
        assert_eq!(call.next(&lost("GET", RequestBody::Empty)), Action::Fail);
        // A redirect does not renew it.
        let mut call = Call::new(POLICY);
        assert_eq!(call.next(&lost("GET", RequestBody::Empty)), Action::Retry);
        assert_eq!(call.next(&head(302)), Action::Follow(NextRequest::Same));
        assert_eq!(call.next(&lost("GET", RequestBody::Empty)), Action::Fail);
    }

    #[test]
    fn failures_that_are_not_forgiven() {
        let failed = Outcome { result: Err(Failure::Other), ..head(200) };
        for outcome in [lost("POST", RequestBody::Empty), lost("PUT", RequestBody::Consumed), failed] {
            assert_eq!(Call::new(POLICY).next(&outcome), Action::Fail, "{outcome:?}");
        }
        let mut call = Call::new(CallPolicy { retries: false, ..POLICY });
        assert_eq!(call.next(&lost("GET", RequestBody::Empty)), Action::Fail);
        assert_eq!(Call::new(POLICY).next(&lost("PUT", RequestBody::Replayable)), Action::Retry);
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        assert_eq!(Call::credentials(true), Credentials::Keep);
        assert_eq!(Call::credentials(false), Credentials::Drop);
    }

    #[test]
    fn what_is_left_of_the_total_timeout() {
        let left = |limit, now| Timeout::new(limit, 0).left(now);
        assert_eq!(left(None, SECOND), None);
        assert_eq!(left(Some(300 * SECOND), 0), Some(300 * SECOND));
        assert_eq!(left(Some(300 * SECOND), 1), Some(300 * SECOND));
        assert_eq!(left(Some(300 * SECOND), 2 * SECOND), Some(298 * SECOND));
        assert_eq!(left(Some(64), 60), Some(4));
        assert_eq!(left(Some(64), 65), Some(1));
        assert_eq!(left(Some(1), 10), Some(1));
        assert_eq!(Timeout::new(None, 5).elapsed(7), 2);
    }

    #[test]
    fn the_timeout_that_passes_first() {
        let first =
            |total, connect, now| first_to_pass(Timeout::new(total, 0), Timeout::new(connect, 40), now);
        assert_eq!(first(None, None, 50), None);
        assert_eq!(first(Some(60), None, 50), Some((10, Passing::Total)));
        assert_eq!(first(None, Some(30), 50), Some((20, Passing::Connect)));
        assert_eq!(first(Some(60), Some(30), 50), Some((10, Passing::Total)));
        assert_eq!(first(Some(60), Some(13), 50), Some((3, Passing::Connect)));
        assert_eq!(
            first(Some(60), Some(20), 50),
            Some((10, Passing::Total)),
            "the call's, of two that pass at once"
        );
    }

    proptest! {
        /// Whatever the server does, a call ends: it follows and repeats a bounded number of times.
        #[test]
        fn a_call_ends(
            facts in prop::collection::vec((100..600u16, any::<bool>(), any::<bool>()), 100),
            max_redirects in 1..20usize,
        ) {
            let mut call = Call::new(CallPolicy { max_redirects, ..POLICY });
            let mut requests = 1;
            for (status, has_location, is_lost) in facts {
                let answered = Outcome { result: Ok(Answer { status, has_location }), ..head(status) };
                match call.next(&if is_lost { lost("GET", RequestBody::Empty) } else { answered }) {
                    Action::Follow(_) | Action::Retry => requests += 1,
                    _ => break,
                }
            }
            prop_assert!(requests <= max_redirects + 1);
        }
    }
}
