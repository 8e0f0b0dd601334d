//! Flow control of the transports: reading that pauses, and output above and below its water marks.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use whorl_core::net::WaterMarks;

use super::base::{Transport, TransportKind};
use super::common;
use super::output::{Backlog, OutputSide};
use super::states::ReadState;
use crate::event_loop::EventLoop;

/// A kind of transport that is read.
pub trait ReadKind: TransportKind {
    /// How it reads.
    fn reading(&mut self) -> &mut ReadState;
}

/// A kind of transport that is written to.
pub trait WriteKind: TransportKind {
    /// What waits to be sent.
    type Backlog: Backlog;

    /// Its output side.
    fn output(&mut self) -> &mut OutputSide<Self::Backlog>;
}

/// What the transports that are read share.
pub trait Reads: Transport<Kind: ReadKind> {
    /// `is_reading()`
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn receives(&self) -> PyResult<bool> {
        self.with(|state| !self.is_closing() && *state.kind.reading() != ReadState::Paused)
    }

    /// Whether `pause_reading()` was called.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn is_paused(&self) -> PyResult<bool> {
        self.with(|state| *state.kind.reading() == ReadState::Paused)
    }

    /// `pause_reading()`
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::change_reading(slf, ReadState::pause)
    }

    /// `resume_reading()`
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::change_reading(slf, ReadState::resume)
    }

    /// Takes a step of [`ReadState`] unless the transport is closing.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn change_reading(slf: &Bound<'_, Self>, step: fn(&mut ReadState)) -> PyResult<()> {
        let this = slf.get();
        this.with(|state| {
            if !this.is_closing() {
                step(state.kind.reading());
            }
        })?;
        Self::update_registration(slf, this.loop_of(slf.py()))
    }
}

impl<T: Transport<Kind: ReadKind>> Reads for T {}

/// What the transports that are written to share.
pub trait Writes: Transport<Kind: WriteKind> {
    /// Opens the output side.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    fn with_output<R>(
        &self,
        act: impl FnOnce(&mut OutputSide<<Self::Kind as WriteKind>::Backlog>) -> R + Send,
    ) -> PyResult<R> {
        self.with(|state| act(state.kind.output()))
    }

    /// Sets the water marks; the protocol is asked to pause if that much waits already.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; SystemExit and KeyboardInterrupt from the protocol's flow control.
    fn set_marks(slf: &Bound<'_, Self>, marks: WaterMarks) -> PyResult<()> {
        let this = slf.get();
        this.with_output(|output| output.set_marks(marks))?;
        this.pause_protocol(slf, this.loop_of(slf.py()))
    }

    /// Calls `pause_writing()` if more than the high mark waits and that is new.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; SystemExit and KeyboardInterrupt from the protocol.
    #[inline]
    fn pause_protocol(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        if self.with_output(OutputSide::transition_to_paused)? {
            self.call_flow_control(slf, event_loop, intern!(slf.py(), "pause_writing"))?;
        }
        Ok(())
    }

    /// Calls `resume_writing()` if no more than the low mark waits and that is new.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; SystemExit and KeyboardInterrupt from the protocol.
    #[inline]
    fn resume_protocol(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        if self.with_output(OutputSide::transition_to_open)? {
            self.call_flow_control(slf, event_loop, intern!(slf.py(), "resume_writing"))?;
        }
        Ok(())
    }

    /// Calls a method of the protocol's flow control; what it raises is reported.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; SystemExit and KeyboardInterrupt from the protocol.
    fn call_flow_control(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        method: &Bound<'_, PyString>,
    ) -> PyResult<()> {
        common::control_flow(event_loop, self.context(), slf.as_any(), self.protocol(slf.py())?, method)
    }
}

impl<T: Transport<Kind: WriteKind>> Writes for T {}
