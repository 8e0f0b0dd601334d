//! The one door into a loop from other threads.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_queue::SegQueue;

use crate::reactor::Waker;

/// A queue that any thread may fill and the loop's thread empties, with a wake-up only for a loop that sleeps.
///
/// The loop says that it is about to sleep ([`InjectionQueue::park`]) and then looks at the queue; a writer fills the queue and then
/// looks whether the loop sleeps. Both have a fence between the two steps, so at least one of them sees the other.
#[derive(Debug)]
pub struct InjectionQueue<H> {
    queue: SegQueue<H>,
    /// Set while the loop sleeps; who takes it back writes the wake-up.
    asleep: AtomicBool,
    /// Until the loop is closed. Locked for one wake-up a sleep at the most, so that a late one does not write to a
    /// descriptor that has a new life.
    waker: Mutex<Option<Waker>>,
}

impl<H> InjectionQueue<H> {
    /// An empty injection queue with its own waker.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: SegQueue::new(),
            asleep: AtomicBool::new(false),
            waker: Mutex::new(Some(Waker::new()?)),
        })
    }

    /// Leaves `item` for the loop and wakes it if it sleeps.
    ///
    /// # Errors
    /// What the waker's write reports; none in practice.
    pub fn push(&self, item: H) -> io::Result<()> {
        self.queue.push(item);
        fence(Ordering::SeqCst);
        // The load is for the usual case, a loop that is busy: it leaves the flag's cache line shared.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            return self.waker().as_ref().map_or(Ok(()), Waker::wake);
        }
        Ok(())
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while it is held; what a poisoned lock protects is whole all the same.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Says that the loop is about to sleep until its descriptors, the waker's among them, wake it. False if something
    /// has come: then it must not sleep. On the loop's thread only.
    #[must_use]
    pub fn park(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.unpark();
        false
    }

    /// Says that the loop is awake.
    pub fn unpark(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Takes the wake-ups back, once the waker's descriptor has been reported readable.
    pub fn drain_waker(&self) {
        if let Some(waker) = self.waker().as_ref() {
            waker.drain();
        }
    }

    /// Takes what is there, oldest first. On the loop's thread only.
    pub fn drain(&self, mut each: impl FnMut(H)) {
        // No more than what is there now: threads that push without end do not hold up the turn.
        for _ in 0..self.queue.len() {
            match self.queue.pop() {
                Some(item) => each(item),
                None => break,
            }
        }
    }

    /// The descriptor that becomes readable on a wake-up, until the injection queue is closed.
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
    use crate::reactor::{Events, Interest, Poller, Token};
    use std::sync::Arc;

    #[test]
    fn keeps_the_order() -> io::Result<()> {
        let injection_queue = InjectionQueue::new()?;
        assert!(injection_queue.is_empty());
        for item in 0..3 {
            injection_queue.push(item)?;
        }
        assert!(!injection_queue.is_empty());
        assert!(!injection_queue.park(), "there is injected");
        let mut seen = Vec::new();
        injection_queue.drain(|item| seen.push(item));
        assert_eq!(seen, [0, 1, 2]);
        assert!(injection_queue.is_empty());
        assert!(injection_queue.park());
        Ok(())
    }

    #[test]
    fn loses_nothing_and_never_sleeps_over_mail() -> io::Result<()> {
        const EACH: usize = 10_000;
        let injection_queue = Arc::new(InjectionQueue::new()?);
        let poller = Poller::new()?;
        let Some(fd) = injection_queue.fd() else { return Err(io::ErrorKind::NotFound.into()) };
        poller.add(fd, Token::from_raw(1), Interest::READ)?;
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let injection_queue = Arc::clone(&injection_queue);
                std::thread::spawn(move || (0..EACH).try_for_each(|item| injection_queue.push(item)))
            })
            .collect();
        let mut events = Events::with_capacity(4);
        let mut seen = 0;
        while seen < 4 * EACH {
            if injection_queue.park() {
                // For ever: a lost wake-up hangs here, and the runner's time limit says so.
                poller.wait(&mut events, None)?;
                injection_queue.unpark();
                if !events.is_empty() {
                    injection_queue.drain_waker();
                }
            }
            injection_queue.drain(|_| seen += 1);
        }
        for writer in writers {
            assert!(matches!(writer.join(), Ok(Ok(()))));
        }
        Ok(())
    }
}
