//! A request on the fast path that is ready to be sent, and its sending.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::cached_target::{CachedTarget, RequestRecord};
use super::connection::HttpConnection;
use super::deadlines::{RequestDeadlines, RequestTimeouts, Timed};
use super::encoded_request::EncodedRequest;
use super::exchange::Exchange;
use super::options::RequestOptions;
use super::session::{FastPath, SessionBase};
use crate::event_loop::clock;
use crate::transport::Chunk;

/// The arguments of the user's call.
#[derive(Debug)]
pub struct RequestArgs {
    /// The session.
    pub session: Py<SessionBase>,
    /// The method, in capitals.
    pub method: Py<PyString>,
    /// The URL, as it was given.
    pub url: Py<PyAny>,
    /// Whether redirects are followed.
    pub allow_redirects: bool,
    /// The other keywords.
    pub options: Option<Py<PyDict>>,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub struct PreparedRequest {
    /// The options that it shares with the session's others.
    pub fast_path: Arc<FastPath>,
    /// The target.
    pub cached: Py<CachedTarget>,
    /// How long it may take.
    pub limits: RequestTimeouts,
    raise_for_status: bool,
    encoded: EncodedRequest,
    /// When it was first awaited, in nanoseconds of the loop's clock.
    started: u64,
}

/// A sent request whose response's head is awaited.
#[derive(Debug)]
pub struct InFlight {
    /// The options that it shares with the session's others.
    pub fast_path: Arc<FastPath>,
    /// Its exchange.
    pub exchange: Py<Exchange>,
    /// The record for its response.
    pub sent: Arc<RequestRecord>,
    /// Its body, in case it has to be sent again.
    pub body: Option<Py<PyBytes>>,
    /// Whether a status of 400 or more raises.
    pub raise_for_status: bool,
    /// As in [`PreparedRequest`].
    started: u64,
}

impl PreparedRequest {
    /// Prepares the user's request; none if it is not for the fast path.
    ///
    /// # Errors
    /// The exception of serialising `json` raises; ValueError for a header field that cannot be sent.
    pub fn new(py: Python<'_>, args: &RequestArgs) -> PyResult<Option<Self>> {
        let RequestArgs { session, method, url, options, .. } = args;
        let session = session.bind(py);
        let Some(fast_path) = SessionBase::fast_path(session)? else { return Ok(None) };
        let options = options.as_ref().map(|options| options.bind(py));
        let Some(options) = RequestOptions::read(&fast_path, options)? else { return Ok(None) };
        let Some(cached) = SessionBase::prepare(session, &fast_path, url.bind(py), &options)? else {
            return Ok(None);
        };
        let cookies = fast_path.cookies_for(cached.get().url.bind(py))?;
        let method = method.bind(py).to_str()?;
        let Some(encoded) = EncodedRequest::new(py, &fast_path, method, &options, cookies.as_ref())? else {
            return Ok(None);
        };
        let RequestOptions { limits, raise_for_status, .. } = options;
        let cached = cached.unbind();
        let started = clock::now_on(fast_path.event_loop.bind(py))?;
        Ok(Some(Self { fast_path, cached, limits, raise_for_status, encoded, started }))
    }

    /// Nanoseconds since it was first awaited.
    ///
    /// # Errors
    /// The exception of a user's clock.
    pub fn elapsed(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(clock::now_on(self.fast_path.event_loop.bind(py))?.saturating_sub(self.started))
    }

    /// The rest of the total timeout, in nanoseconds.
    ///
    /// # Errors
    /// The exception of a user's clock.
    pub fn total_left(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.limits.total_after(self.elapsed(py)?))
    }

    /// Sends it on `connection`; returns the request in flight, and the future of its head.
    ///
    /// # Errors
    /// ValueError for a method that is no token; ClientConnectionResetError once the connection is closed.
    pub fn send_on(
        &self,
        connection: &Bound<'_, HttpConnection>,
        method: &Bound<'_, PyString>,
    ) -> PyResult<(InFlight, Py<PyAny>)> {
        let py = connection.py();
        let Self { fast_path, cached, limits, encoded, .. } = self;
        let head = cached.get().head(method.to_str()?, &encoded.fields)?;
        let exchange = HttpConnection::begin_with(
            connection,
            method.to_str()?,
            fast_path.options,
            fast_path.limits,
            limits.read,
        )?;
        let head = PyBytes::new(py, &head);
        let body = encoded.body.as_ref().map(|body| Chunk::of_bytes(body.bind(py)));
        connection.get().write_chunks(py, std::iter::once(Chunk::of_bytes(&head)).chain(body))?;
        HttpConnection::sent(connection)?;
        if let Some(total) = self.total_left(py)? {
            let timed = Timed::Exchange(exchange.clone_ref(py));
            let deadline = RequestDeadlines::enter(fast_path.deadlines.bind(py), timed, total)?;
            exchange.get().set_deadline(deadline)?;
        }
        let future = exchange.get().await_head(py)?;
        let sent = RequestRecord {
            method: method.clone().unbind(),
            cached: cached.clone_ref(py),
            head: head.unbind(),
        };
        let in_flight = InFlight {
            fast_path: Arc::clone(fast_path),
            exchange,
            sent: Arc::new(sent),
            body: encoded.body.as_ref().map(|body| body.clone_ref(py)),
            raise_for_status: self.raise_for_status,
            started: self.started,
        };
        Ok((in_flight, future))
    }
}

impl InFlight {
    /// Seconds since it began.
    ///
    /// # Errors
    /// The exception of a user's clock.
    pub fn elapsed(&self, py: Python<'_>) -> PyResult<f64> {
        let now = clock::now_on(self.fast_path.event_loop.bind(py))?;
        Ok(clock::seconds(now.saturating_sub(self.started)))
    }
}
