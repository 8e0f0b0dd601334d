//! The limit of a peer's silence.

use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::clock;
use crate::http::failures;
use crate::interpreter::CloneWith;

use super::HttpConnection;

/// When to give up on a silent peer.
#[derive(Debug, Default)]
pub(super) struct ReadTimeout {
    /// Nanoseconds; none: never.
    pub(super) limit: Option<u64>,
    /// Since when no bytes have come; none while none are awaited.
    pub(super) silent_since: Option<u64>,
    /// Whether much of the request was still unsent when that was last seen: silence begins with the end of that.
    pub(super) unsent: bool,
    /// The timer, which checks when it is due whether bytes have come since it was set.
    pub(super) timer: Option<Py<PyAny>>,
}

impl ReadTimeout {
    #[must_use]
    pub(super) fn stop(&mut self) -> Option<Py<PyAny>> {
        self.silent_since = None;
        self.timer.take()
    }
}

impl HttpConnection {
    /// Counts the peer's silence from now on.
    pub(super) fn start_read_timeout(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.with(|state| state.read_timeout.limit.is_none())? {
            return Ok(());
        }
        let now = self.now(slf.py())?;
        let delay = self.with(|state| {
            let timeout = &mut state.read_timeout;
            let limit = timeout.limit?;
            timeout.silent_since = Some(now);
            timeout.unsent = state.writing_paused;
            timeout.timer.is_none().then_some(limit)
        })?;
        match delay {
            Some(delay) => self.set_read_timer(slf, delay),
            None => Ok(()),
        }
    }

    fn set_read_timer(&self, slf: &Bound<'_, Self>, delay: u64) -> PyResult<()> {
        let py = slf.py();
        let method = slf.getattr(intern!(py, "_check_read_timeout"))?;
        let timer = self
            .event_loop
            .bind(py)
            .call_method1(intern!(py, "call_later"), (clock::seconds(delay), method))?;
        let timer = timer.unbind();
        let _previous = self.with(|state| state.read_timeout.timer.replace(timer))?;
        Ok(())
    }

    /// Fails the exchange if the peer was silent for too long, else looks again when that may be.
    pub(super) fn check_read_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let now = this.now(py)?;
        let unsent = this.has_unsent(py)?;
        let (wait, exchange, _timer) = this.with_attached(py, |state, at| {
            let timeout = &mut state.read_timeout;
            let timer = timeout.timer.take();
            if std::mem::replace(&mut timeout.unsent, unsent) || unsent {
                // The server was reading meanwhile, until some time since the last check.
                timeout.silent_since = timeout.silent_since.map(|_| now);
            }
            let (Some(limit), Some(since)) = (timeout.limit, timeout.silent_since) else {
                return (None, None, timer);
            };
            let left = since.saturating_add(limit).saturating_sub(now);
            let exchange = state.exchange.as_ref().map(|exchange| exchange.clone_with(at));
            (Some(left), exchange, timer)
        })?;
        match (wait, exchange) {
            (Some(0), Some(exchange)) => {
                let error = failures::error(py, "SocketTimeoutError", "Timeout on reading data from socket")?;
                Self::give_up(slf)?;
                exchange.get().fail(exchange.bind(py), error)
            }
            (Some(left), Some(_)) => this.set_read_timer(slf, left),
            _ => Ok(()),
        }
    }
}
