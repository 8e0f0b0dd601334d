//! How a transport ends, whatever its kind.

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

use super::base::{Transport, TransportKind};
use super::common;
use crate::event_loop::{EventLoop, leaves_the_loop};
use crate::ffi::Call;

/// The ways in which a transport ends: by an error, at once, or in good order.
pub trait Ending: Transport {
    /// An error that ends the transport: reported unless it is expected, then handed to `connection_lost()`.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt, which end `run_forever()`, and what the handler raises.
    #[cold]
    fn fatal(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: PyErr,
        message: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        if !error.is_instance_of::<PyOSError>(py) || !Self::Kind::is_expected(py, &error) {
            common::report(event_loop, slf.as_any(), self.protocol(py)?, message, error.clone_ref(py))?;
        } else if event_loop.get().is_debug() {
            let record = (slf, error.value(py), message);
            event_loop.call_method1(intern!(py, "_log_transport_error"), record)?;
        }
        self.force_close(slf, event_loop, Some(error))
    }

    /// Drops what waits and schedules `connection_lost(error)`, unless it is lost already.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn force_close(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        let _unsent = self.with(Self::Kind::take_unsent)?;
        self.lose(slf, event_loop, error)
    }

    /// [`Ending::force_close`], for a caller that has no loop at hand.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn force_close_with(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let this = slf.get();
        this.force_close(slf, this.loop_of(slf.py()), error)
    }

    /// Stops watching and schedules `connection_lost(error)`; once.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn lose(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if !self.transition_to_lost()? {
            return Ok(());
        }
        // The peer sees the end one turn from now.
        event_loop.get().disturb()?;
        Self::update_registration(slf, event_loop)?;
        let py = slf.py();
        let method = slf.as_any().getattr(intern!(py, "_call_connection_lost"))?.unbind();
        let error = error.map_or_else(|| py.None(), |error| error.into_value(py).into_any());
        common::schedule(event_loop, self.context(), Call::of1(method, error))
    }
}

impl<T: Transport> Ending for T {}
