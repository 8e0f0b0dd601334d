//! How a transport ends, whatever its kind.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, intern};

use super::common;
use crate::event_loop::{EventLoop, leaves_the_loop};
use crate::ffi::Call;

/// A transport that ends: by an error, at once, or in good order.
pub trait Ending: PyClass<Frozen = True> + Sync {
    /// The protocol, until `connection_lost()` was called.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>>;

    /// The context that the protocol is called in.
    fn context(&self) -> &Py<PyAny>;

    /// To Lost; true if that is new.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn transition_to_lost(&self) -> PyResult<bool>;

    /// Lets go of what waits to be sent; what was gathered in this turn is offered to the socket first.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn drop_unsent(&self) -> PyResult<()>;

    /// Takes the registration with the poller back.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn unwatch(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()>;

    /// Whether an OSError is how such a transport ends in the ordinary course: for the debug log only.
    fn is_expected(_py: Python<'_>, _error: &PyErr) -> bool {
        true
    }

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
        if !error.is_instance_of::<PyOSError>(py) || !Self::is_expected(py, &error) {
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
        self.drop_unsent()?;
        self.lose(slf, event_loop, error)
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
        Self::unwatch(slf, event_loop)?;
        let py = slf.py();
        let method = slf.as_any().getattr(intern!(py, "_call_connection_lost"))?.unbind();
        let error = error.map_or_else(|| py.None(), |error| error.into_value(py).into_any());
        common::schedule(event_loop, self.context(), Call::of1(method, error))
    }
}
