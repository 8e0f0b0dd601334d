//! The HTTP client's native half: connections with the codec in them, their pool, what a request's answer is.

mod body;
mod coding;
mod connection;
mod deadlines;
mod encode;
mod exchange;
mod fault;
mod head;
mod link;
mod options;
mod origin;
mod outgoing;
mod planned;
mod policy;
mod pool;
mod prepared;
mod ready;
mod request;
mod response;
mod session;
mod websocket;

use pyo3::prelude::*;

pub use connection::HttpConnection;

/// Adds the client's classes to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HttpConnection>()?;
    module.add_class::<exchange::Exchange>()?;
    module.add_class::<pool::ConnectionPool>()?;
    module.add_class::<pool::PoolSlot>()?;
    module.add_class::<pool::PoolWaiter>()?;
    module.add_class::<deadlines::RequestDeadlines>()?;
    module.add_class::<prepared::Prepared>()?;
    module.add_class::<ready::Ready>()?;
    module.add_class::<request::RequestContext>()?;
    module.add_class::<response::ResponseBase>()?;
    module.add_class::<session::SessionBase>()?;
    module.add_function(wrap_pyfunction!(encode::encode_head, module)?)?;
    policy::add_to(module)?;
    websocket::add_to(module)
}
