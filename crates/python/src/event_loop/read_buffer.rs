//! The buffer that a loop's sockets are read into.

use std::sync::Arc;

use pyo3::prelude::*;
use whorl_core::net::{KeptBuffer, ReadBuffer};

use super::EventLoop;
use crate::errors::OrRaise;
use crate::interpreter::Attached;

/// The most that one `recv` can bring, in bytes; asyncio's and libuv's size.
const READ_SIZE: usize = 256 * 1024;

/// A buffer without data.
pub fn new_read_buffer() -> ReadBuffer {
    ReadBuffer::new(READ_SIZE)
}

/// The loop's read buffer, which goes back when this is dropped. A read meanwhile makes another.
#[derive(Debug)]
pub struct LentReadBuffer<'a> {
    event_loop: &'a EventLoop,
    buffer: ReadBuffer,
}

impl LentReadBuffer<'_> {
    /// Keeps it for the bytes in it: the loop uses another one meanwhile.
    pub fn keep(mut self) -> KeptBuffer {
        KeptBuffer::new(std::mem::take(&mut self.buffer), Arc::clone(&self.event_loop.spare_buffers))
    }
}

impl std::ops::Deref for LentReadBuffer<'_> {
    type Target = ReadBuffer;

    fn deref(&self) -> &ReadBuffer {
        &self.buffer
    }
}

impl std::ops::DerefMut for LentReadBuffer<'_> {
    fn deref_mut(&mut self) -> &mut ReadBuffer {
        &mut self.buffer
    }
}

impl Drop for LentReadBuffer<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() {
            return;
        }
        // Where it cannot go back, the next read makes another.
        let _refused = self.event_loop.read_buffer.with(|place| *place = buffer);
    }
}

impl EventLoop {
    /// Opens the buffer that sockets are read into.
    ///
    /// # Errors
    /// As [`EventLoop::with`].
    #[inline]
    pub fn with_read_buffer<'py, R>(
        &self,
        at: impl Into<Attached<'py>>,
        act: impl FnOnce(&mut ReadBuffer, Attached<'py>) -> R + Send,
    ) -> PyResult<R> {
        self.read_buffer
            .with_token(at.into(), |buffer, at| {
                if buffer.is_empty() {
                    // A [`LentReadBuffer`] is out, or was kept.
                    *buffer = self.spare_buffers.take().unwrap_or_else(new_read_buffer);
                }
                act(buffer, at)
            })
            .or_raise()
    }

    /// Takes the buffer out, for data that goes where Python may be called: to a TLS engine.
    ///
    /// # Errors
    /// As [`EventLoop::with`].
    pub fn lend_read_buffer(&self, py: Python<'_>) -> PyResult<LentReadBuffer<'_>> {
        let buffer = self.with_read_buffer(py, |buffer, _at| std::mem::take(buffer))?;
        Ok(LentReadBuffer { event_loop: self, buffer })
    }
}
