//! A plain request that is ready to go: what it comes to, and how it is sent.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::connection::HttpConnection;
use super::deadlines::{RequestDeadlines, TimeLimits, Timed};
use super::exchange::Exchange;
use super::options::Options;
use super::outgoing::Outgoing;
use super::prepared::{Prepared, Sent};
use super::session::{Plain, SessionBase};
use crate::event_loop::clock;
use crate::transport::Chunk;

/// What the user asked for.
#[derive(Debug)]
pub struct Asked {
    /// Of which session.
    pub session: Py<SessionBase>,
    /// In capitals.
    pub method: Py<PyString>,
    /// As it was given.
    pub url: Py<PyAny>,
    /// Whether redirects are followed.
    pub allow_redirects: bool,
    /// The other keywords.
    pub options: Option<Py<PyDict>>,
}

/// A request that is ready to go.
#[derive(Debug)]
pub struct Planned {
    /// What it has in common with the session's others.
    pub plain: Arc<Plain>,
    /// Where it goes.
    pub prepared: Py<Prepared>,
    /// How long it may take.
    pub limits: TimeLimits,
    raise_for_status: bool,
    outgoing: Outgoing,
    /// When it was first awaited, in nanoseconds of the loop's clock.
    started: u64,
}

/// A request whose head is awaited.
#[derive(Debug)]
pub struct Awaited {
    /// What it has in common with the session's others.
    pub plain: Arc<Plain>,
    /// Its answer.
    pub exchange: Py<Exchange>,
    /// What a response tells of it.
    pub sent: Arc<Sent>,
    /// What went with it, in case it has to be sent again.
    pub body: Option<Py<PyBytes>>,
    /// Whether a status of 400 or more raises.
    pub raise_for_status: bool,
    /// As it was planned.
    started: u64,
}

impl Planned {
    /// What the user's request comes to; none if it is not for the native way.
    ///
    /// # Errors
    /// What serialising `json` raises; ValueError for a header field that cannot be sent.
    pub fn new(py: Python<'_>, asked: &Asked) -> PyResult<Option<Self>> {
        let Asked { session, method, url, options, .. } = asked;
        let session = session.bind(py);
        let Some(plain) = SessionBase::plain(session)? else { return Ok(None) };
        let options = options.as_ref().map(|options| options.bind(py));
        let Some(options) = Options::read(&plain, options)? else { return Ok(None) };
        let Some(prepared) = SessionBase::prepare(session, &plain, url.bind(py), &options)? else {
            return Ok(None);
        };
        let cookies = plain.cookies_for(prepared.get().url.bind(py))?;
        let method = method.bind(py).to_str()?;
        let Some(outgoing) = Outgoing::new(py, &plain, method, &options, cookies.as_ref())? else {
            return Ok(None);
        };
        let Options { limits, raise_for_status, .. } = options;
        let prepared = prepared.unbind();
        let started = clock::now_on(plain.event_loop.bind(py))?;
        Ok(Some(Self { plain, prepared, limits, raise_for_status, outgoing, started }))
    }

    /// Nanoseconds since it was first awaited.
    ///
    /// # Errors
    /// What a clock of the user's raises.
    pub fn elapsed(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(clock::now_on(self.plain.event_loop.bind(py))?.saturating_sub(self.started))
    }

    /// What is left of the total limit, in nanoseconds.
    ///
    /// # Errors
    /// What a clock of the user's raises.
    pub fn total_left(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.limits.total_after(self.elapsed(py)?))
    }

    /// Sends it on `connection`; returns what is awaited, and the future of it.
    ///
    /// # Errors
    /// ValueError for a method that is no token; ClientConnectionResetError once the connection is closed.
    pub fn send_on(
        &self,
        connection: &Bound<'_, HttpConnection>,
        method: &Bound<'_, PyString>,
    ) -> PyResult<(Awaited, Py<PyAny>)> {
        let py = connection.py();
        let Self { plain, prepared, limits, outgoing, .. } = self;
        let head = prepared.get().head(method.to_str()?, &outgoing.fields)?;
        let exchange = HttpConnection::begin_with(
            connection,
            method.to_str()?,
            plain.options,
            plain.limits,
            limits.read,
        )?;
        let head = PyBytes::new(py, &head);
        let body = outgoing.body.as_ref().map(|body| Chunk::of_bytes(body.bind(py)));
        connection.get().write_chunks(py, std::iter::once(Chunk::of_bytes(&head)).chain(body))?;
        HttpConnection::sent(connection)?;
        if let Some(total) = self.total_left(py)? {
            let timed = Timed::Exchange(exchange.clone_ref(py));
            let deadline = RequestDeadlines::enter(plain.deadlines.bind(py), timed, total)?;
            exchange.get().set_deadline(deadline)?;
        }
        let future = exchange.get().await_head(py)?;
        let sent =
            Sent { method: method.clone().unbind(), prepared: prepared.clone_ref(py), head: head.unbind() };
        let awaited = Awaited {
            plain: Arc::clone(plain),
            exchange,
            sent: Arc::new(sent),
            body: outgoing.body.as_ref().map(|body| body.clone_ref(py)),
            raise_for_status: self.raise_for_status,
            started: self.started,
        };
        Ok((awaited, future))
    }
}

impl Awaited {
    /// Seconds since it began.
    ///
    /// # Errors
    /// What a clock of the user's raises.
    pub fn elapsed(&self, py: Python<'_>) -> PyResult<f64> {
        let now = clock::now_on(self.plain.event_loop.bind(py))?;
        Ok(clock::seconds(now.saturating_sub(self.started)))
    }
}
