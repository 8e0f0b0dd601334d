//! The buffer that sockets are read into, and what becomes of one whose bytes are not handed on at once.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// A `recv` to the start of a page is up to three times faster than one to an odd address on some processors (AMD Zen 3
/// copies at a third of its speed when source and destination are a little apart within their pages).
const PAGE: usize = 4096;

/// A page-aligned block of zeroed memory: one per loop, as read bytes are handed on before the next read. By default it
/// has no memory.
#[derive(Default)]
pub struct ReadBuffer {
    memory: Box<[Page]>,
}

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

impl ReadBuffer {
    /// A buffer of `size` bytes, rounded up to whole pages.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { memory: vec![Page([0; PAGE]); size.div_ceil(PAGE).max(1)].into_boxed_slice() }
    }
}

impl Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a `Page` is PAGE bytes without padding, all initialised, and pages lie side by side in the box.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.memory.len() * PAGE) }
    }
}

impl DerefMut for ReadBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the box is borrowed mutably, so this is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.memory.len() * PAGE) }
    }
}

impl std::fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadBuffer").field("len", &self.len()).finish()
    }
}

/// Buffers that were kept and are free again: new memory would have to be zeroed, and its pages made by the kernel, at each read.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    /// The one that was used last is taken first, as it may be in the processor's cache.
    buffers: Mutex<Vec<ReadBuffer>>,
}

impl SpareBuffers {
    /// The most buffers that are spared: what a stream that is read slowly holds, and one more.
    const MOST: usize = 4;

    /// Takes a buffer, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<ReadBuffer> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, buffer: ReadBuffer) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < Self::MOST {
            buffers.push(buffer);
        }
    }
}

/// A read buffer that is kept for the bytes in it. It is spared when this is dropped, on whichever thread.
#[derive(Debug)]
pub struct KeptBuffer {
    buffer: ReadBuffer,
    spare: Arc<SpareBuffers>,
}

impl KeptBuffer {
    /// Keeps `buffer`, which is one of `spare`'s then.
    #[must_use]
    pub const fn new(buffer: ReadBuffer, spare: Arc<SpareBuffers>) -> Self {
        Self { buffer, spare }
    }
}

impl Deref for KeptBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for KeptBuffer {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_buffers_are_used_again() {
        let spare = Arc::new(SpareBuffers::default());
        assert!(spare.take().is_none());
        let kept: Vec<KeptBuffer> = (0..SpareBuffers::MOST + 1)
            .map(|number| {
                let mut buffer = ReadBuffer::new(PAGE);
                buffer[0] = u8::try_from(number).unwrap();
                KeptBuffer::new(buffer, Arc::clone(&spare))
            })
            .collect();
        assert_eq!(kept[1][0], 1);
        drop(kept);
        let again: Vec<u8> = std::iter::from_fn(|| spare.take()).map(|buffer| buffer[0]).collect();
        assert_eq!(again, [3, 2, 1, 0], "the last first, and one was not spared");
    }

    #[test]
    fn starts_on_a_page_and_has_the_requested_size() {
        let mut buffer = ReadBuffer::new(PAGE + 1);
        assert_eq!(buffer.len(), 2 * PAGE);
        assert_eq!(buffer.as_ptr().addr() % PAGE, 0);
        buffer[2 * PAGE - 1] = 1;
        assert_eq!(buffer.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 1);
    }
}
