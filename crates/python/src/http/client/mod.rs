//! Calls of a session: from `session.get(url)` to the response, without a coroutine.
//!
//! | file | content |
//! |---|---|
//! | `call.rs`, `hop.rs`, `step.rs` | a call; one request of it; an awaited coroutine of the program's |
//! | `session.rs`, `options.rs`, `call_scope.rs` | the session's options; the call's; what its requests share |
//! | `request_data.rs`, `request.rs`, `handle.rs` | a request; as a program sees it; either of the two |
//! | `target.rs`, `fields.rs`, `outgoing_body.rs` | its URL, header fields and body |
//! | `response.rs`, `ready.rs` | the response; an awaitable that is done |
//! | `dial.rs`, `address.rs` | a connection that is made; addresses of hosts |
//! | `environment.rs` | variables of the environment, compared with what they were |
//! | `deadlines.rs` | timeouts |

mod address;
mod call;
mod call_scope;
mod deadlines;
mod dial;
mod environment;
mod fields;
mod handle;
mod hop;
mod options;
mod outgoing_body;
mod ready;
mod request;
mod request_data;
mod response;
mod session;
mod step;
mod target;

use pyo3::prelude::*;

use crate::interpreter::add_class;

/// Adds the classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<call::RequestContext>(module)?;
    add_class::<call_scope::CallScope>(module)?;
    add_class::<deadlines::RequestDeadlines>(module)?;
    add_class::<dial::Dial>(module)?;
    add_class::<environment::EnvironmentSnapshot>(module)?;
    add_class::<hop::HopAwaitable>(module)?;
    add_class::<hop::RequestHandler>(module)?;
    add_class::<ready::Ready>(module)?;
    add_class::<request::RequestBase>(module)?;
    add_class::<response::ResponseBase>(module)?;
    add_class::<session::SessionBase>(module)?;
    add_class::<step::TimedTask>(module)?;
    add_class::<target::RequestTarget>(module)?;
    module.add_function(wrap_pyfunction!(address::interleaved, module)?)?;
    module.add_function(wrap_pyfunction!(session::class_versions, module)?)?;
    module.add_function(wrap_pyfunction!(call::new_request, module)?)?;
    module.add_function(wrap_pyfunction!(call::own_request, module)?)?;
    module.add_function(wrap_pyfunction!(hop::fill_slot, module)?)
}
