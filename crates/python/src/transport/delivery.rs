//! Handing what arrived to a protocol whose method is looked up when that first happens.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::base::{Transport, TransportKind};
use super::common;
use super::protocol::LateBound;
use crate::event_loop::EventLoop;
use crate::ffi::call_in_context;

/// What the transports that hold their protocol as a [`LateBound`] share.
pub trait Delivers: Transport<Kind: TransportKind<Protocol = LateBound>> {
    /// Calls `receiver`, or the protocol's `method` where that was not looked up before. What it raises is reported, and the
    /// transport stays in use, as asyncio's does.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol, and what the exception handler raises.
    fn deliver<const N: usize>(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        receiver: Option<Py<PyAny>>,
        method: &Bound<'_, PyString>,
        args: [&Bound<'_, PyAny>; N],
    ) -> PyResult<()> {
        let py = slf.py();
        let receiver = receiver.map_or_else(|| self.look_up(py, method), |receiver| Ok(Some(receiver)));
        let handed = receiver.and_then(|receiver| match receiver {
            Some(receiver) => call_in_context(py, self.context(), &receiver, args).map(drop),
            None => Ok(()),
        });
        let Err(error) = handed else { return Ok(()) };
        let message = format!("Exception in protocol.{method}()");
        common::report(event_loop, slf.as_any(), self.protocol(py)?, &message, error)
    }

    /// Looks the method for what arrives up, for this time and the next ones.
    ///
    /// # Errors
    /// AttributeError if the protocol has no such method; RuntimeError on the wrong thread.
    fn look_up(&self, py: Python<'_>, method: &Bound<'_, PyString>) -> PyResult<Option<Py<PyAny>>> {
        let Some(protocol) = self.protocol(py)? else { return Ok(None) };
        let receiver = protocol.bind(py).getattr(method)?.unbind();
        let kept = receiver.clone_ref(py);
        let _replaced = self.with(|state| match &mut state.protocol {
            Some(protocol) => protocol.receiver.replace(kept),
            None => Some(kept),
        })?;
        Ok(Some(receiver))
    }
}

impl<T: Transport<Kind: TransportKind<Protocol = LateBound>>> Delivers for T {}
