//! The injection queue: the only way into a loop from other threads.

use std::io;
use std::os::fd::RawFd;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crossbeam_queue::SegQueue;

use super::sync::{AtomicBool, Mutex, MutexGuard, fence};
use crate::reactor::Waker;

/// A queue that any thread may push to, without a lock.
pub trait ConcurrentQueue<T> {
    /// Appends `item`.
    fn push(&self, item: T);
    /// Removes the oldest item.
    fn pop(&self) -> Option<T>;
    /// The number of items.
    fn len(&self) -> usize;
    /// Whether there is no item.
    fn is_empty(&self) -> bool;
}

impl<T> ConcurrentQueue<T> for SegQueue<T> {
    #[inline]
    fn push(&self, item: T) {
        Self::push(self, item);
    }

    #[inline]
    fn pop(&self) -> Option<T> {
        Self::pop(self)
    }

    #[inline]
    fn len(&self) -> usize {
        Self::len(self)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// A way to end the wait of a loop that is parked.
pub trait Wake {
    /// Ends the wait, or the next one if the loop does not wait yet.
    ///
    /// # Errors
    /// The error of the system call.
    fn wake(&self) -> io::Result<()>;
    /// Takes back the wake-ups that have ended a wait.
    fn drain(&self);
}

impl Wake for Waker {
    #[inline]
    fn wake(&self) -> io::Result<()> {
        Self::wake(self)
    }

    #[inline]
    fn drain(&self) {
        Self::drain(self);
    }
}

/// A queue that any thread may push to and that the loop's thread drains. Only a parked loop is woken, once for any
/// number of items.
///
/// The loop sets `parked` and then checks the queue; a pushing thread pushes and then checks `parked`. Each has a
/// sequentially consistent fence between the two steps, so at least one of them sees the other: either the loop finds
/// the item and does not wait, or the pushing thread finds the loop parked and wakes it. The loom model in this file
/// tries every interleaving, with a queue that synchronises nothing by itself.
///
/// The queue and the waker are type parameters for the sake of that model. `parked` is changed by read-modify-write
/// operations only, as loom does not order a plain store with a swap that another thread makes at the same time; the
/// loop pays for one on each side of a system call.
#[derive(Debug)]
pub struct InjectionQueue<T, Q = SegQueue<T>, W = Waker> {
    queue: Q,
    /// Whether the loop waits, or is about to. The thread that resets it owes the wake-up.
    parked: AtomicBool,
    /// `None` once the loop is closed. The lock spans the wake-up, so that a late one never writes to a descriptor that
    /// was closed and opened again as another file. It is taken once a wait at most, for one system call that does not
    /// block, in which the thread neither runs Python nor detaches: a thread that waits for it waits for that call alone.
    /// The collector never takes it.
    waker: Mutex<Option<W>>,
    item: std::marker::PhantomData<fn(T) -> T>,
}

impl<T> InjectionQueue<T> {
    /// An empty injection queue with its own waker.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::from_parts(SegQueue::new(), Waker::new()?))
    }

    /// The descriptor that becomes readable on a wake-up, until the queue is closed.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.waker().as_ref().map(Waker::fd)
    }
}

impl<T, Q: ConcurrentQueue<T>, W: Wake> InjectionQueue<T, Q, W> {
    fn from_parts(queue: Q, waker: W) -> Self {
        Self {
            queue,
            parked: AtomicBool::new(false),
            waker: Mutex::new(Some(waker)),
            item: std::marker::PhantomData,
        }
    }

    /// Appends `item` and wakes the loop if it is parked. Every thread may call it.
    ///
    /// # Errors
    /// The error of the waker's write; none in practice.
    #[inline]
    pub fn push(&self, item: T) -> io::Result<()> {
        self.queue.push(item);
        fence(Ordering::SeqCst);
        self.wake_if_parked()
    }

    /// Appends `item` for whenever the loop is awake next. Every thread may call it.
    #[inline]
    pub fn push_without_waking(&self, item: T) {
        self.queue.push(item);
    }

    /// Wakes the loop if it is parked: for work that the loop's own thread schedules while a guest waits for its next turn.
    ///
    /// # Errors
    /// The error of the waker's write; none in practice.
    #[inline]
    pub fn wake_if_parked(&self) -> io::Result<()> {
        // The load serves the usual case, a loop that is busy: it leaves the flag's cache line shared.
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            return self.wake();
        }
        Ok(())
    }

    /// Makes the waker's descriptor readable.
    ///
    /// # Errors
    /// The error of the waker's write; none in practice.
    #[cold]
    pub fn wake(&self) -> io::Result<()> {
        self.waker().as_ref().map_or(Ok(()), W::wake)
    }

    fn waker(&self) -> MutexGuard<'_, Option<W>> {
        // Nothing panics while the lock is held, and its value is whole in any case.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the queue has no item.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Announces a wait; false if an item has arrived, and then the loop must not wait. The wait ends when a descriptor
    /// of the poller is ready, the waker's among them. On the loop's thread only.
    #[must_use]
    pub fn park(&self) -> bool {
        self.parked.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.unpark();
        false
    }

    /// Announces the end of a wait.
    pub fn unpark(&self) {
        self.parked.swap(false, Ordering::Relaxed);
    }

    /// Takes back the wake-ups, once the waker's descriptor has been reported readable.
    pub fn drain_waker(&self) {
        if let Some(waker) = self.waker().as_ref() {
            waker.drain();
        }
    }

    /// Removes the items that are in the queue now, oldest first. Two threads at once would each get a part of them.
    pub fn drain(&self, mut each: impl FnMut(T)) {
        // Items that arrive meanwhile wait for the next turn: threads that push without end do not hold up this one.
        for _ in 0..self.queue.len() {
            match self.queue.pop() {
                Some(item) => each(item),
                None => break,
            }
        }
    }

    /// Closes the waker's descriptor. Items that are pushed from now on stay in the queue.
    pub fn close(&self) {
        self.waker().take();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::reactor::{Events, Interest, Poller, Token};
    use std::sync::Arc;

    #[test]
    fn keeps_the_order() -> io::Result<()> {
        let queue = InjectionQueue::new()?;
        assert!(queue.is_empty());
        for item in 0..3 {
            queue.push(item)?;
        }
        assert!(!queue.is_empty());
        assert!(!queue.park(), "the queue has items");
        let mut seen = Vec::new();
        queue.drain(|item| seen.push(item));
        assert_eq!(seen, [0, 1, 2]);
        assert!(queue.is_empty());
        assert!(queue.park());
        Ok(())
    }

    #[test]
    fn one_wake_up_for_all_that_comes_while_it_is_parked() -> io::Result<()> {
        let queue = InjectionQueue::<()>::new()?;
        let poller = Poller::new()?;
        let Some(fd) = queue.fd() else { return Err(io::ErrorKind::NotFound.into()) };
        // SAFETY: the descriptor of the queue's waker, which lives as long as the test.
        unsafe { poller.add(fd, Token::from_raw(1), Interest::READ)? };
        let mut events = Events::with_capacity(4);
        let mut is_woken = || {
            poller.wait(&mut events, Some(std::time::Duration::ZERO))?;
            queue.drain_waker();
            io::Result::Ok(!events.is_empty())
        };
        queue.wake_if_parked()?;
        assert!(!is_woken()?, "it is awake");
        assert!(queue.park());
        queue.wake_if_parked()?;
        assert!(is_woken()?);
        queue.wake_if_parked()?;
        assert!(!is_woken()?, "the first one has taken the flag");
        Ok(())
    }

    #[test]
    fn loses_no_item_and_no_wake_up() -> io::Result<()> {
        const EACH: usize = 10_000;
        let queue = Arc::new(InjectionQueue::new()?);
        let poller = Poller::new()?;
        let Some(fd) = queue.fd() else { return Err(io::ErrorKind::NotFound.into()) };
        // SAFETY: the descriptor of the queue's waker, which lives as long as the test.
        unsafe { poller.add(fd, Token::from_raw(1), Interest::READ)? };
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || (0..EACH).try_for_each(|item| queue.push(item)))
            })
            .collect();
        let mut events = Events::with_capacity(4);
        let mut seen = 0;
        while seen < 4 * EACH {
            if queue.park() {
                // No timeout: a lost wake-up hangs here, and the test runner's limit reports it.
                poller.wait(&mut events, None)?;
                queue.unpark();
                if !events.is_empty() {
                    queue.drain_waker();
                }
            }
            queue.drain(|_| seen += 1);
        }
        for thread in threads {
            assert!(matches!(thread.join(), Ok(Ok(()))));
        }
        Ok(())
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use super::*;

    const PREEMPTIONS: usize = 3;

    /// Items without a value, and no order of memory but the one that the injection queue brings.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl ConcurrentQueue<()> for Count {
        fn push(&self, (): ()) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn pop(&self) -> Option<()> {
            let less = |count: usize| count.checked_sub(1);
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok().map(drop)
        }

        fn len(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    /// The waker's descriptor, and the poller that waits for nothing else.
    #[derive(Default)]
    struct Event {
        is_readable: Mutex<bool>,
        changed: Condvar,
    }

    impl Event {
        fn set(&self, readable: bool) {
            *self.is_readable.lock().unwrap_or_else(PoisonError::into_inner) = readable;
            self.changed.notify_one();
        }

        /// Blocks until the descriptor is readable. A lost wake-up is a deadlock here, which loom reports.
        fn poll(&self) {
            let mut readable = self.is_readable.lock().unwrap_or_else(PoisonError::into_inner);
            while !*readable {
                readable = self.changed.wait(readable).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    impl Wake for Arc<Event> {
        fn wake(&self) -> io::Result<()> {
            self.set(true);
            Ok(())
        }

        fn drain(&self) {
            self.set(false);
        }
    }

    type Model = InjectionQueue<(), Count, Arc<Event>>;

    fn run(pushes: &'static [usize], close: bool) {
        let mut model = loom::model::Builder::new();
        // With more switches away from a thread that could continue, two pushing threads take hours.
        model.preemption_bound = Some(PREEMPTIONS);
        model.check(move || {
            let event = Arc::new(Event::default());
            let queue = Arc::new(Model::from_parts(Count::default(), Arc::clone(&event)));
            let threads: Vec<_> = pushes
                .iter()
                .map(|count| {
                    let queue = Arc::clone(&queue);
                    thread::spawn(move || {
                        for _ in 0..*count {
                            assert!(queue.push(()).is_ok());
                        }
                    })
                })
                .collect();
            let mut missing: usize = pushes.iter().sum();
            while missing > 0 {
                if queue.park() {
                    event.poll();
                    queue.unpark();
                    queue.drain_waker();
                }
                queue.drain(|()| missing -= 1);
                if close {
                    queue.close();
                    break;
                }
            }
            for thread in threads {
                assert!(thread.join().is_ok());
            }
        });
    }

    #[test]
    fn one_thread_pushes_twice() {
        run(&[2], false);
    }

    #[test]
    fn two_threads_push() {
        run(&[1, 1], false);
    }

    #[test]
    fn a_push_meets_the_end_of_the_loop() {
        run(&[2], true);
    }
}
