//! The one door into a loop from other threads.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_queue::SegQueue;

use crate::reactor::Waker;

/// A queue that any thread may fill and the loop's thread empties, with one wake-up for any number of entries.
#[derive(Debug)]
pub struct Inbox<H> {
    queue: SegQueue<H>,
    /// Set by the first entry after the loop looked; who sets it writes the wake-up.
    announced: AtomicBool,
    /// Until the loop is closed. Locked for one wake-up in a turn at the most, so that a late one does not write to a
    /// descriptor that has a new life.
    waker: Mutex<Option<Waker>>,
}

impl<H> Inbox<H> {
    /// An empty inbox with its own waker.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: SegQueue::new(),
            announced: AtomicBool::new(false),
            waker: Mutex::new(Some(Waker::new()?)),
        })
    }

    /// Leaves `item` for the loop and wakes it, unless it has been woken for an earlier one already.
    ///
    /// # Errors
    /// What the waker's write reports; none in practice.
    pub fn push(&self, item: H) -> io::Result<()> {
        self.queue.push(item);
        self.announce()
    }

    /// Wakes the loop without leaving anything.
    ///
    /// # Errors
    /// What the waker's write reports; none in practice.
    pub fn announce(&self) -> io::Result<()> {
        // Release pairs with the acquire of `has_mail`: who sees the flag sees the entry.
        if self.announced.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.waker().as_ref().map_or(Ok(()), Waker::wake)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while it is held; what a poisoned lock protects is whole all the same.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was announced since [`Inbox::drain`]. One load; asked once a turn.
    #[must_use]
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Takes what is there, oldest first. On the loop's thread only.
    pub fn drain(&self, mut each: impl FnMut(H)) {
        // The wake-up is taken back before the flag falls and the flag falls before the queue is emptied: an entry that
        // comes in between writes a new wake-up, so none is ever left behind unannounced.
        if let Some(waker) = self.waker().as_ref() {
            waker.drain();
        }
        self.announced.store(false, Ordering::SeqCst);
        // No more than what is there now: threads that push without end do not hold up the turn.
        for _ in 0..self.queue.len() {
            match self.queue.pop() {
                Some(item) => each(item),
                None => break,
            }
        }
    }

    /// The descriptor that becomes readable on a wake-up, until the inbox is closed.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.waker().as_ref().map(Waker::fd)
    }

    /// Closes the waker's descriptor. What is pushed from now on stays where it is.
    pub fn close(&self) {
        self.waker().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn keeps_the_order_and_coalesces_the_wake_up() -> io::Result<()> {
        let inbox = Inbox::new()?;
        assert!(!inbox.has_mail());
        for item in 0..3 {
            inbox.push(item)?;
        }
        assert!(inbox.has_mail());
        let mut seen = Vec::new();
        inbox.drain(|item| seen.push(item));
        assert_eq!(seen, [0, 1, 2]);
        assert!(!inbox.has_mail());
        Ok(())
    }

    #[test]
    fn loses_nothing_under_many_writers() -> io::Result<()> {
        const EACH: usize = 10_000;
        let inbox = Arc::new(Inbox::new()?);
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let inbox = Arc::clone(&inbox);
                std::thread::spawn(move || (0..EACH).try_for_each(|item| inbox.push(item)))
            })
            .collect();
        let mut seen = 0;
        while seen < 4 * EACH {
            if inbox.has_mail() {
                inbox.drain(|_| seen += 1);
            } else {
                std::thread::yield_now();
            }
        }
        for writer in writers {
            assert!(matches!(writer.join(), Ok(Ok(()))));
        }
        assert_eq!(seen, 4 * EACH);
        Ok(())
    }
}
