//! The core's rules for redirects and retries, for the session's coroutine.

use pyo3::prelude::*;
use whorl_core::client::redirect::{NextRequest, Redirect, RedirectContext, RequestBody};
use whorl_core::client::{redirect as rules, retry};

/// The redirect of a response with `status` to a request with `method` (RFC 9110, section 15.4): 'no', 'same' (the
/// method and the body again), 'get' (without the body), 'too many', or 'consumed' (the body would have to be sent
/// again, and cannot).
#[pyfunction]
#[pyo3(signature = (status, method, *, has_location, consumed, followed, max_redirects))]
pub fn redirect(
    status: u16,
    method: &str,
    has_location: bool,
    consumed: bool,
    followed: usize,
    max_redirects: usize,
) -> &'static str {
    let body = if consumed { RequestBody::Consumed } else { RequestBody::Replayable };
    match rules::redirect(&RedirectContext { status, has_location, method, body, followed, max_redirects }) {
        Redirect::No => "no",
        Redirect::Follow(NextRequest::Same) => "same",
        Redirect::Follow(NextRequest::Get) => "get",
        Redirect::TooMany => "too many",
        Redirect::BodyConsumed => "consumed",
    }
}

/// Whether a method may be repeated with the same effect (RFC 9110, section 9.2.2).
#[pyfunction]
pub fn is_idempotent(method: &str) -> bool {
    retry::is_idempotent(method)
}

/// Adds the rules to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(redirect, module)?)?;
    module.add_function(wrap_pyfunction!(is_idempotent, module)?)?;
    module.add("CONTENT_FIELDS", rules::CONTENT_FIELDS)?;
    module.add("CREDENTIAL_FIELDS", rules::CREDENTIAL_FIELDS)
}
