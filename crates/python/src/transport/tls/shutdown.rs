//! The orderly end: what waits is sent, then close_notify, and the peer's is waited for.

use pyo3::exceptions::PyTimeoutError;
use pyo3::intern;
use pyo3::prelude::*;

use super::engine::{Engine, Stop, wants_more};
use super::protocol::TlsProtocol;
use super::state::{Deferred, TlsPhase, TlsReading};
use crate::interpreter::CloneWith;
use crate::transport::StreamTransport;
use crate::transport::base::Transport;
use crate::transport::flow::Reads;

impl TlsProtocol {
    /// Begins the end. Does nothing once it has begun.
    pub(super) fn start_shutdown(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let phase = self.with(|_state| {
            let phase = self.phase.load();
            if matches!(phase, TlsPhase::Open | TlsPhase::Draining) {
                self.phase.store(TlsPhase::ShuttingDown);
            }
            phase
        })?;
        match phase {
            TlsPhase::New | TlsPhase::Handshake => return self.abort(slf, None),
            TlsPhase::ShuttingDown | TlsPhase::Closed => return Ok(()),
            TlsPhase::Open | TlsPhase::Draining => {}
        }
        if self.is_in_engine() { self.defer(slf, Deferred::Shutdown) } else { self.continue_shutdown(slf) }
    }

    /// The end has begun: what waits is sent, then close_notify.
    pub(super) fn continue_shutdown(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if self.phase.load() != TlsPhase::ShuttingDown {
            return Ok(());
        }
        self.write_backlog(slf)?;
        self.step_shutdown(slf)?;
        let Some(stream) = self.stream(py)? else { return Ok(()) };
        if stream.get().is_lost() {
            return Ok(());
        }
        // The peer's close_notify is waited for, or for the peer to take what waits: both have a timeout.
        let timer =
            self.call_later(slf, &self.options.shutdown_timeout, intern!(py, "_check_shutdown_timeout"))?;
        self.with(|state| state.shutdown_timer = Some(timer))?;
        if self
            .with(|state| state.reading != TlsReading::On && self.phase.load() == TlsPhase::ShuttingDown)?
        {
            StreamTransport::resume(&stream)?;
        }
        Ok(())
    }

    pub(super) fn shutdown_timed_out(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let _timer = self.with(|state| state.shutdown_timer.take())?;
        self.abort(slf, Some(PyTimeoutError::new_err("SSL shutdown timed out")))
    }

    /// As far as what has arrived carries the shutdown.
    pub(super) fn step_shutdown(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if self.with(|state| state.stream_ended)? {
            // There is no peer to answer.
            let notified = self.notify_eof(slf);
            return self.close_stream(slf).and(notified);
        }
        if let Err(error) = self.discard_late_data(py)? {
            return self.fatal(slf, error, "Fatal error on transport");
        }
        let outcome = {
            let engine = self.engine()?;
            engine.shutdown(py)
        };
        self.send_outgoing(slf)?;
        match outcome {
            Ok(_) => {
                let notified = self.notify_eof(slf);
                self.close_stream(slf).and(notified)
            }
            Err(error) if wants_more(py, &error)? => Ok(()),
            Err(error) => self.fatal(slf, error, "Fatal error on transport"),
        }
    }

    /// Reads data that came after our end to nowhere: it is no error of the peer's, which may not have seen our
    /// close_notify yet.
    fn discard_late_data(&self, py: Python<'_>) -> PyResult<Result<(), PyErr>> {
        let engine = self.engine()?;
        while engine.pending(py)? > 0 {
            match engine.decrypt(py, &[])?.stop {
                Stop::Full => {}
                Stop::Empty | Stop::Closed => break,
                Stop::Failed(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Has the stream send what waits and close.
    fn close_stream(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let stream = self.with_attached(py, |state, at| {
            if self.phase.load() == TlsPhase::ShuttingDown {
                self.phase.store(TlsPhase::Closed);
            }
            state.stream.as_ref().map(|stream| stream.clone_with(at))
        })?;
        match stream {
            Some(stream) => StreamTransport::close_in_order(stream.bind(py)),
            None => Ok(()),
        }
    }
}
