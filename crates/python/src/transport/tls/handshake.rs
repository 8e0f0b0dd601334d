//! From a connected stream to a connection that the application has.

use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::engine::{Engine, wants_more};
use super::protocol::TlsProtocol;
use super::state::{Notified, TlsPhase, TlsReading};
use crate::event_loop::leaves_the_loop;
use crate::interpreter::CloneWith;

impl TlsProtocol {
    pub(super) fn start_handshake(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let debug = self.loop_of(py).get().is_debug();
        if debug {
            self.log_debug(slf, "%r starts SSL handshake")?;
        }
        let began: Option<f64> =
            debug.then(|| self.loop_of(py).call_method0(intern!(py, "time"))?.extract()).transpose()?;
        self.with(|state| {
            self.phase.store(TlsPhase::Handshake);
            state.handshake_began = began;
        })?;
        let timer =
            self.call_later(slf, &self.options.handshake_timeout, intern!(py, "_check_handshake_timeout"))?;
        self.with(|state| state.handshake_timer = Some(timer))?;
        self.step_handshake(slf)
    }

    pub(super) fn handshake_timed_out(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.phase.load() != TlsPhase::Handshake {
            return Ok(());
        }
        let seconds = self.options.handshake_timeout.bind(slf.py());
        let error = PyConnectionAbortedError::new_err(format!(
            "SSL handshake is taking longer than {seconds} seconds: aborting the connection"
        ));
        self.fatal(slf, error, "Fatal error on transport")
    }

    /// As far as what has arrived carries the handshake.
    pub(super) fn step_handshake(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let outcome = {
            let engine = self.engine()?;
            engine.handshake(py)
        };
        if self.phase.load() != TlsPhase::Handshake {
            // What OpenSSL called has ended the connection.
            return Ok(());
        }
        match outcome {
            Ok(_) => self.handshake_done(slf),
            Err(error) if wants_more(py, &error)? => self.send_outgoing(slf),
            // An interrupt: the handshake continues when the loop runs again.
            Err(error) if leaves_the_loop(py, &error) => self.send_outgoing(slf).and(Err(error)),
            Err(error) => {
                // The alert with the reason for the peer.
                self.send_at_once(slf)?;
                self.handshake_failed(slf, error)
            }
        }
    }

    /// The stream ended before the handshake did.
    pub(super) fn handshake_cut(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        self.handshake_failed(slf, PyConnectionResetError::new_err(()))
    }

    fn handshake_failed(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let timer = self.with(|state| state.handshake_timer.take())?;
        Self::cancel(py, timer)?;
        // A certificate error is a ValueError as well (ssl.CertificateError).
        let message = if error.is_instance_of::<PyValueError>(py) {
            "SSL handshake failed on verifying the certificate"
        } else {
            "SSL handshake failed"
        };
        self.fatal(slf, error.clone_ref(py), message)?;
        self.wake(py, Err(&error))
    }

    /// What `get_extra_info()` knows from here on.
    fn learn<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ssl_object = self.ssl_object.bind(py);
        let extra = PyDict::new(py);
        for name in [intern!(py, "peercert"), intern!(py, "cipher"), intern!(py, "compression")] {
            let method = if name == "peercert" { intern!(py, "getpeercert") } else { name };
            extra.set_item(name, ssl_object.call_method0(method)?)?;
        }
        extra.set_item(intern!(py, "ssl_object"), ssl_object)?;
        Ok(extra)
    }

    fn handshake_done(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let extra = match self.learn(py) {
            Ok(extra) => extra.unbind(),
            Err(error) => return self.handshake_failed(slf, error),
        };
        let (timer, began, transport, is_new) = self.with_attached(py, |state, at| {
            self.phase.store(TlsPhase::Open);
            state.extra = Some(extra);
            let is_new = state.notified == Notified::Nothing;
            state.notified = Notified::Made;
            let transport = state.transport.as_ref().map(|transport| transport.clone_with(at));
            (state.handshake_timer.take(), state.handshake_began.take(), transport, is_new)
        })?;
        Self::cancel(py, timer)?;
        if let Some(began) = began {
            let now: f64 = self.loop_of(py).call_method0(intern!(py, "time"))?.extract()?;
            let line = format!("%r: SSL handshake took {:.1} ms", (now - began) * 1e3);
            self.log_debug(slf, &line)?;
        }
        self.send_outgoing(slf)?;
        let made = match transport {
            Some(transport) if is_new => {
                self.notify(py, intern!(py, "connection_made"), [transport.bind(py).as_any()]).map(drop)
            }
            _ => Ok(()),
        };
        match made {
            Ok(()) => self.begin(slf, !is_new),
            // The run of the loop ends, and the connection is in use when the loop runs again.
            Err(error) if leaves_the_loop(py, &error) => self.begin(slf, true).and(Err(error)),
            Err(error) => self.fatal(slf, error, "Fatal error: protocol.connection_made() call failed."),
        }
    }

    /// The application has the connection: wakes the waiter, and has what waits written and delivered; in the next turn if
    /// `later`.
    fn begin(&self, slf: &Bound<'_, Self>, later: bool) -> PyResult<()> {
        let py = slf.py();
        self.wake(py, Ok(()))?;
        self.write_backlog(slf)?;
        // The caller of `start_tls()` gets the new transport in the next turn. What the protocol answered before that would go to
        // the old one, in clear text.
        if later && self.read_later(slf)? {
            return Ok(());
        }
        if self.with(|state| state.reading == TlsReading::Paused && self.phase.load() == TlsPhase::Open)? {
            return self.pause_reading(slf);
        }
        self.read_waiting(slf)
    }
}
