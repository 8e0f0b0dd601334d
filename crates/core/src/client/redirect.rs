//! Where a response leads: redirects (RFC 9110, section 15.4), as aiohttp follows them.
//!
//! A caller calls [`redirect`] first; then it resolves the address of the field `Location` against that of the request,
//! and checks by [`Origin`] whether credentials may go there.

/// Header fields of a request that are dropped when a redirect leads to another origin; so are credentials that were
/// given to the request in other ways, and its cookies. Those of a session that has no origin are for every request.
pub const CREDENTIAL_FIELDS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Header fields of a request that say something of its body, and go when the body does (RFC 9110, section 15.4).
pub const CONTENT_FIELDS: [&str; 9] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "digest",
    "expect",
    "last-modified",
    "transfer-encoding",
];

/// The body of a request, as far as sending it again goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// It can be sent from its beginning once more.
    Replayable,
    /// It has been read off its source, and the source does not go back.
    Consumed,
}

/// A response, and its request.
#[derive(Clone, Copy, Debug)]
pub struct RedirectContext<'a> {
    /// The status code of the response.
    pub status: u16,
    /// Whether the response says where to go.
    pub has_location: bool,
    /// The method of the request.
    pub method: &'a str,
    /// The body of the request.
    pub body: RequestBody,
    /// How many redirects were followed before.
    pub followed: usize,
    /// With so many redirects the chain has too many of them; 0 is no limit.
    pub max_redirects: usize,
}

/// What to do about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Redirect {
    /// No redirect: the response is final.
    No,
    /// Follow it, with [`NextRequest`].
    Follow(NextRequest),
    /// The limit of redirects is reached.
    TooMany,
    /// The body would have to be sent again, and cannot be.
    BodyConsumed,
}

/// How the next request differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRequest {
    /// The same method and the same body.
    Same,
    /// `GET`, without the body and without [`CONTENT_FIELDS`].
    Get,
}

/// The redirect that a response requires, when redirects are to be followed.
///
/// 303 turns every method but `HEAD` into `GET`, 301 and 302 turn `POST`; everything else is repeated as it was. A
/// redirect without a `Location` is the final response. As in aiohttp, `max_redirects` is the number that is refused,
/// so one less is followed.
pub fn redirect(context: &RedirectContext<'_>) -> Redirect {
    if !matches!(context.status, 301 | 302 | 303 | 307 | 308) || !context.has_location {
        return Redirect::No;
    }
    if context.max_redirects != 0 && context.followed + 1 >= context.max_redirects {
        return Redirect::TooMany;
    }
    let becomes_get = match context.status {
        303 => context.method != "HEAD",
        301 | 302 => context.method == "POST",
        _ => false,
    };
    match context.body {
        _ if becomes_get => Redirect::Follow(NextRequest::Get),
        RequestBody::Consumed => Redirect::BodyConsumed,
        RequestBody::Empty | RequestBody::Replayable => Redirect::Follow(NextRequest::Same),
    }
}

/// Scheme, host and port (RFC 6454). The credentials of a request belong to one origin: a redirect from `http` to `https`
/// leaves it, and so does one to another port.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// The origin of an address; without a port, it is the scheme's. An IPv6 address may be in brackets.
    #[must_use]
    pub fn new(scheme: &'a str, host: &'a str, port: Option<u16>) -> Self {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self { scheme, host, port: port.or_else(|| default_port(scheme)) }
    }

    /// The port, if one was given or the scheme has one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port
            && self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
    }
}

impl Eq for Origin<'_> {}

/// The port of a scheme.
#[must_use]
pub fn default_port(scheme: &str) -> Option<u16> {
    let is = |other: &str| scheme.eq_ignore_ascii_case(other);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NextRequest, Origin, Redirect, RedirectContext, RequestBody, redirect};

    const CONTEXT: RedirectContext<'static> = RedirectContext {
        status: 302,
        has_location: true,
        method: "GET",
        body: RequestBody::Empty,
        followed: 0,
        max_redirects: 10,
    };

    fn next(status: u16, method: &str, body: RequestBody) -> Redirect {
        redirect(&RedirectContext { status, method, body, ..CONTEXT })
    }

    #[test]
    fn methods_by_status() {
        let (same, get) = (Redirect::Follow(NextRequest::Same), Redirect::Follow(NextRequest::Get));
        for (status, method, expected) in [
            (301, "GET", same),
            (301, "HEAD", same),
            (301, "POST", get),
            (301, "PUT", same),
            (302, "GET", same),
            (302, "POST", get),
            (302, "DELETE", same),
            (303, "GET", get),
            (303, "HEAD", same),
            (303, "POST", get),
            (303, "PUT", get),
            (307, "POST", same),
            (307, "PUT", same),
            (308, "POST", same),
            (308, "GET", same),
        ] {
            assert_eq!(next(status, method, RequestBody::Replayable), expected, "{status} {method}");
        }
    }

    #[test]
    fn other_responses_are_final() {
        for status in [200, 201, 204, 300, 304, 305, 306, 309, 399, 404, 500] {
            assert_eq!(next(status, "GET", RequestBody::Empty), Redirect::No, "{status}");
        }
        // Whatever else there is to say against it.
        let nowhere =
            RedirectContext { has_location: false, body: RequestBody::Consumed, followed: 9, ..CONTEXT };
        assert_eq!(redirect(&nowhere), Redirect::No);
    }

    #[test]
    fn a_consumed_body_matters_only_where_it_is_sent_again() {
        assert_eq!(next(307, "POST", RequestBody::Consumed), Redirect::BodyConsumed);
        assert_eq!(next(308, "PUT", RequestBody::Consumed), Redirect::BodyConsumed);
        assert_eq!(next(302, "PUT", RequestBody::Consumed), Redirect::BodyConsumed);
        assert_eq!(next(302, "POST", RequestBody::Consumed), Redirect::Follow(NextRequest::Get));
        assert_eq!(next(303, "PUT", RequestBody::Consumed), Redirect::Follow(NextRequest::Get));
    }

    #[test]
    fn how_many() {
        let after =
            |followed, max_redirects| redirect(&RedirectContext { followed, max_redirects, ..CONTEXT });
        assert_eq!(after(8, 10), Redirect::Follow(NextRequest::Same));
        assert_eq!(after(9, 10), Redirect::TooMany);
        assert_eq!(after(0, 1), Redirect::TooMany);
        assert_eq!(after(1_000_000, 0), Redirect::Follow(NextRequest::Same));
    }

    #[test]
    fn origins() {
        let origin = |scheme, host, port| Origin::new(scheme, host, port);
        let home = origin("http", "example.org", None);
        assert_eq!(home, origin("HTTP", "Example.ORG", Some(80)));
        assert_eq!(origin("https", "example.org", Some(443)), origin("https", "example.org", None));
        assert_eq!(origin("http", "[::1]", Some(8080)), origin("http", "::1", Some(8080)));
        for other in [
            origin("https", "example.org", None),
            origin("https", "example.org", Some(80)),
            origin("http", "example.org", Some(8080)),
            origin("http", "www.example.org", None),
            origin("http", "example.org.", None),
            origin("ws", "example.org", None),
        ] {
            assert_ne!(home, other);
        }
        assert_eq!((origin("wss", "a", None).port(), origin("gopher", "a", None).port()), (Some(443), None));
    }

    proptest! {
        /// A chain always ends, and a request that is repeated can be.
        #[test]
        fn whatever_comes(
            status in 100..600u16,
            method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "QUERY"]),
            body in prop::sample::select(vec![RequestBody::Empty, RequestBody::Replayable, RequestBody::Consumed]),
            max_redirects in 1..20usize,
        ) {
            let mut followed = 0;
            while let Redirect::Follow(next) =
                redirect(&RedirectContext { status, has_location: true, method, body, followed, max_redirects })
            {
                prop_assert!(next == NextRequest::Get || body != RequestBody::Consumed);
                followed += 1;
                prop_assert!(followed < max_redirects);
            }
        }
    }
}
