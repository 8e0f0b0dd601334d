//! Writing: the first data of a turn goes out at once, what follows in one vectored write, in order.

use std::io::{self, IoSlice};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use whorl_core::net::{Flushed, WriteStep};
use whorl_core::sched::Turn;

use super::{Stream, StreamTransport, Writing};
use crate::errors::IntoPyErr;
use crate::event_loop::{EventLoop, IoHandle};
use crate::fd::lend;
use crate::interpreter::CloneWith;
use crate::transport::base::{Descriptor, Transport, TransportState};
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::ending::Ending;
use crate::transport::flow::Writes;
use crate::transport::output::FlushReport;
use crate::transport::socket::Socket;
use crate::transport::states::TransportPhase;

/// What became of written data.
enum Written {
    /// It is sent, and nothing waits for that.
    Sent,
    /// It waits for a flush that is to come.
    Queued,
    /// It waits for the end of the turn, for which the loop is to note it.
    Gathered,
    /// A flush has sent what it could, and has to be followed up.
    Flushed(FlushReport),
    /// The connection is lost: the data is dropped, as in asyncio.
    Dropped,
    /// A `sendfile` is in progress.
    InSendfile,
    /// `write_eof()` was called before.
    AfterEof,
}

const NEVER_BLOCK: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// One vectored write, which never blocks and raises no SIGPIPE: the process may have made that deadly again.
#[inline]
pub(super) fn send(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let sent = lend(socket.fd(), |fd| match slices {
        [only] => rustix::net::send(fd, only, NEVER_BLOCK),
        several => {
            rustix::net::sendmsg(fd, several, &mut rustix::net::SendAncillaryBuffer::default(), NEVER_BLOCK)
        }
    });
    Ok(sent?)
}

impl StreamTransport {
    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol's flow control.
    #[inline]
    pub fn flush(slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let this = slf.get();
        let report = this.with(|state| {
            let TransportState { descriptor, kind: Stream { output, .. }, .. } = state;
            (!this.is_lost()).then(|| output.flush(|slices| send(descriptor, slices)))
        })?;
        report.map_or(Ok(()), |report| this.after_flush(slf, event_loop, report))
    }

    /// Acts on what a flush has done.
    fn after_flush(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        report: FlushReport,
    ) -> PyResult<()> {
        match report.outcome {
            Ok(flushed) => {
                if report.interest_changed {
                    Self::update_registration(slf, event_loop)?;
                }
                self.resume_protocol(slf, event_loop)?;
                match flushed {
                    Flushed::All => self.drained(slf, event_loop),
                    Flushed::Blocked => Ok(()),
                }
            }
            Err(error) => {
                let message = "Fatal write error on socket transport";
                self.fatal(slf, event_loop, error.into_py_err(), message)
            }
        }
    }

    /// All is sent: wakes the waiter for that, then does what was put off until then.
    fn drained(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        // `resume_writing()` may have written more.
        let (waiter, phase, shut_down) = self.with_attached(py, |state, at| {
            if !state.kind.output.is_empty() {
                return (None, TransportPhase::Open, false);
            }
            let phase = self.phase();
            let shut_down = phase == TransportPhase::Open && state.kind.writing.transition_to_eof_sent();
            (state.kind.empty_waiter.as_ref().map(|waiter| waiter.clone_with(at)), phase, shut_down)
        })?;
        if let Some(waiter) = waiter {
            common::set_result(waiter.bind(py))?;
        }
        if shut_down {
            self.shut_down_writing(slf, event_loop)?;
        }
        if phase == TransportPhase::Closing { self.lose(slf, event_loop, None) } else { Ok(()) }
    }

    fn shut_down_writing(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        event_loop.get().disturb()?;
        let outcome =
            self.with(|state| lend(state.descriptor.fd(), |fd| rustix::net::shutdown(fd, Shutdown::Write)))?;
        match outcome {
            Ok(()) => Ok(()),
            // The peer has gone meanwhile: a read finds the cause. Or the transport has.
            Err(Errno::NOTCONN) => Ok(()),
            Err(Errno::BADF) if self.is_lost() => Ok(()),
            Err(error) => self.fatal(
                slf,
                event_loop,
                error.into_py_err(),
                "Fatal error: the write side cannot be shut down",
            ),
        }
    }

    /// Writes `data`, which needs no copy.
    ///
    /// # Errors
    /// As `write()`.
    pub fn write_owned(slf: &Bound<'_, Self>, data: Vec<u8>) -> PyResult<()> {
        Self::write_chunks(slf, std::iter::once(Chunk::owned(data)))
    }

    /// `write()` and `writelines()`
    ///
    /// # Errors
    /// RuntimeError after `write_eof()`, during a `sendfile`, and on the wrong thread.
    #[inline]
    pub fn write_chunks(slf: &Bound<'_, Self>, chunks: impl Iterator<Item = Chunk> + Send) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        match this.send_or_queue(chunks, event_loop.get().begin_write()?)? {
            Written::Sent => Ok(()),
            Written::Queued => this.pause_protocol(slf, event_loop),
            Written::Gathered => event_loop.get().flush_later(IoHandle::new(slf)),
            Written::Flushed(report) => {
                this.after_flush(slf, event_loop, report)?;
                this.pause_protocol(slf, event_loop)
            }
            Written::Dropped => Ok(()),
            Written::InSendfile => Err(PyRuntimeError::new_err("unable to write; sendfile is in progress")),
            Written::AfterEof => Err(PyRuntimeError::new_err("Cannot call write() after write_eof()")),
        }
    }

    /// Bytes that wait to be sent.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn write_buffer_size(&self) -> PyResult<usize> {
        self.with_output(|output| output.size())
    }

    #[inline]
    fn send_or_queue(&self, chunks: impl Iterator<Item = Chunk> + Send, turn: Turn) -> PyResult<Written> {
        // No turn will end while the loop does not run.
        let at_once = !self.has_turns();
        // Dropped outside: none of them runs foreign code, but it is cheap to be sure.
        let mut refused = Vec::new();
        self.with(|state| {
            let outcome = if state.kind.empty_waiter.is_some() {
                Written::InSendfile
            } else if state.kind.writing != Writing::Open {
                Written::AfterEof
            } else if self.is_lost() {
                // As long as `close()` waits for what was written before, more is taken (a TLS layer ends its stream
                // from `resume_writing()`); asyncio draws the line at the same place.
                Written::Dropped
            } else {
                Written::Queued
            };
            if !matches!(outcome, Written::Queued) {
                refused.extend(chunks);
                return outcome;
            }
            let TransportState { descriptor, kind: Stream { output, .. }, .. } = state;
            chunks.for_each(|chunk| output.push(chunk));
            match output.transition_on_write(turn, at_once) {
                WriteStep::Wait => Written::Queued,
                WriteStep::Schedule => Written::Gathered,
                WriteStep::Flush => {
                    let report = output.flush(|slices| send(descriptor, slices));
                    let waited_for = output.is_paused() || self.is_closing();
                    match report.outcome {
                        Ok(Flushed::All) if !waited_for => Written::Sent,
                        _ => Written::Flushed(report),
                    }
                }
            }
        })
    }
}
