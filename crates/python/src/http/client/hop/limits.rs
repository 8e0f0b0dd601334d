//! How long a request may take until it has its connection.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::client::call::{Passing, Timeout, first_to_pass};

use crate::http::client::call_scope::CallScope;
use crate::http::client::deadlines::{Deadline, Late, Limit, RequestDeadlines};
use crate::http::client::step::Limited;
use crate::http::guard::EndWait;

use super::Hop;

/// The timeout of a request for its connection: of the wait for a permit, the look-up of the host, and the connecting.
#[derive(Debug)]
pub(super) struct ConnectTimeout {
    timeout: Timeout,
    /// Where the request goes, for the error.
    url: Py<PyAny>,
}

impl ConnectTimeout {
    pub(super) fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.url)
    }
}

/// What limits a step on the way to a connection: the call's total timeout, and the request's own.
pub(super) struct UntilConnected<'a> {
    scope: &'a CallScope,
    connect: Option<ConnectTimeout>,
}

impl Limited for UntilConnected<'_> {
    fn limit<'a>(&'a self, py: Python<'_>) -> PyResult<Option<(&'a Py<RequestDeadlines>, Limit)>> {
        let Some(ConnectTimeout { timeout, url }) = &self.connect else { return self.scope.limit(py) };
        let first = first_to_pass(self.scope.total, *timeout, self.scope.now(py)?);
        Ok(first.map(|(left, passing)| {
            let late = match passing {
                Passing::Total => Late::Call,
                Passing::Connect => Late::Connection(url.clone_ref(py)),
            };
            (&self.scope.config.deadlines, Limit { left, late })
        }))
    }
}

impl Hop {
    /// Its timeout for a connection begins, unless it has begun before.
    pub(super) fn begin_connect_timeout(&mut self, py: Python<'_>) -> PyResult<()> {
        let scope = self.scope.get();
        if self.connect.is_none() && scope.timeouts.connect.is_some() {
            let timeout = Timeout::new(scope.timeouts.connect, scope.now(py)?);
            self.connect = Some(ConnectTimeout { timeout, url: self.request.url(py)? });
        }
        Ok(())
    }

    /// What limits it until it has its connection.
    pub(super) fn until_connected<'a>(&self, py: Python<'_>, scope: &'a CallScope) -> UntilConnected<'a> {
        let connect = self
            .connect
            .as_ref()
            .map(|connect| ConnectTimeout { timeout: connect.timeout, url: connect.url.clone_ref(py) });
        UntilConnected { scope, connect }
    }

    /// A deadline for a wait on the way to its connection: that of `waiting`, which `end` ends.
    pub(super) fn deadline(&self, waiting: &Bound<'_, PyAny>, end: EndWait) -> PyResult<Option<Deadline>> {
        let py = waiting.py();
        match self.until_connected(py, self.scope.get()).limit(py)? {
            Some((deadlines, limit)) => {
                RequestDeadlines::enter(deadlines.bind(py), limit, waiting, end).map(Some)
            }
            None => Ok(None),
        }
    }
}
