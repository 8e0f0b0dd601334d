//! One owner: state that belongs to the thread which runs the loop.
//!
//! A [`LoopOwner`] is shared by everything that belongs to one loop. While the loop runs, its thread holds the [`OwnerGuard`] and
//! every [`OwnerCell`] value opens for that thread alone, at the cost of one load, and another thread is refused. While it does
//! not run, whoever comes takes the guard for the length of one access, and a second thread waits that long.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No thread holds the guard.
const NO_THREAD: usize = 0;

/// Set beside the thread that holds the guard for one access only.
const ONE_ACCESS: usize = 1;

/// A number that no other living thread of the process has, never zero and even (it is an address): a read of the thread
/// pointer, which is cheaper than the address of a thread-local of a shared library.
#[must_use]
#[inline]
pub fn this_thread() -> usize {
    // SAFETY: no precondition, and it cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// Which thread the state of one loop belongs to at the moment.
#[derive(Debug, Default)]
pub struct LoopOwner {
    thread: AtomicUsize,
}

/// Why an [`OwnerCell`] value did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BorrowError {
    /// Another thread has the guard.
    OtherThread,
    /// This thread has it open already, further up the stack.
    Reentered,
}

impl fmt::Display for BorrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherThread => "the loop belongs to another thread at the moment",
            Self::Reentered => "the loop's state is in use further up this thread's stack",
        })
    }
}

impl std::error::Error for BorrowError {}

impl LoopOwner {
    /// An owner that is nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the calling thread holds the guard.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.thread.load(Ordering::Relaxed) & !ONE_ACCESS == this_thread()
    }

    /// Whether any thread holds the guard for longer than one access.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let holder = self.thread.load(Ordering::Relaxed);
        holder != NO_THREAD && holder & ONE_ACCESS == 0
    }

    /// Takes the guard for the calling thread, until the value returned is dropped.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] while another thread holds it.
    pub fn take(&self) -> Result<OwnerGuard<'_>, BorrowError> {
        self.take_as(this_thread(), 0)
    }

    /// Takes the guard for one access.
    #[inline]
    fn take_for_one_access(&self) -> Result<OwnerGuard<'_>, BorrowError> {
        self.take_as(this_thread(), ONE_ACCESS)
    }

    #[inline]
    fn take_as(&self, here: usize, duration_flag: usize) -> Result<OwnerGuard<'_>, BorrowError> {
        if self.thread.load(Ordering::Relaxed) & !ONE_ACCESS == here {
            return Ok(OwnerGuard { owner: self, outermost: false, on_this_thread: PhantomData });
        }
        loop {
            match self.thread.compare_exchange(
                NO_THREAD,
                here | duration_flag,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(OwnerGuard { owner: self, outermost: true, on_this_thread: PhantomData }),
                // It ends by itself: no foreign code runs in there.
                Err(holder) if holder & ONE_ACCESS != 0 => std::thread::yield_now(),
                Err(_) => return Err(BorrowError::OtherThread),
            }
        }
    }

    /// Takes the guard from a thread that does not exist any more: in the child of a `fork`, whose only thread is the
    /// caller.
    pub fn reset_after_fork(&self) {
        self.thread.store(NO_THREAD, Ordering::Relaxed);
    }
}

/// The calling thread's hold on a [`LoopOwner`]; an inner one (the thread had it before) gives nothing back on drop.
#[derive(Debug)]
#[must_use]
pub struct OwnerGuard<'owner> {
    owner: &'owner LoopOwner,
    outermost: bool,
    /// It must not be sent: it is proof of the thread that it was made on.
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for OwnerGuard<'_> {
    fn drop(&mut self) {
        if self.outermost {
            self.owner.thread.store(NO_THREAD, Ordering::Release);
        }
    }
}

/// A value that only the owner's thread can open, and only once at a time.
///
/// [`OwnerCell::with`] must not run foreign code (drop a reference to an object with a finaliser, allocate where a garbage
/// collector may run): such code could come back here and be refused. Take out what is needed, then act on it.
#[derive(Debug)]
pub struct OwnerCell<T> {
    owner: Arc<LoopOwner>,
    open: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: `value` and `open` are touched only under an `OwnerGuard`, which one thread holds at a time; taking it is an acquire
// and giving it back a release, so the former holder's writes are seen. `T: Send` as it moves from holder to holder.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> OwnerCell<T> {
    /// Puts `value` under `owner`.
    pub const fn new(owner: Arc<LoopOwner>, value: T) -> Self {
        Self { owner, open: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// The owner this value is under.
    #[must_use]
    pub const fn owner(&self) -> &Arc<LoopOwner> {
        &self.owner
    }

    /// Opens the value for the length of `act`.
    ///
    /// # Errors
    /// [`BorrowError`] when another thread has the guard, or this one has the value open already.
    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> Result<R, BorrowError> {
        let guard = self.owner.take_for_one_access()?;
        self.with_guard(&guard, act)
    }

    /// The same for who holds the guard already, and so need not ask which thread this is.
    ///
    /// # Errors
    /// [`BorrowError::Reentered`] when this thread has the value open already; [`BorrowError::OtherThread`] when the guard is of
    /// another owner.
    #[inline]
    pub fn with_guard<R>(
        &self,
        guard: &OwnerGuard<'_>,
        act: impl FnOnce(&mut T) -> R,
    ) -> Result<R, BorrowError> {
        struct Close<'a>(&'a Cell<bool>);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if !std::ptr::eq(guard.owner, &raw const *self.owner) {
            return Err(BorrowError::OtherThread);
        }
        if self.open.replace(true) {
            return Err(BorrowError::Reentered);
        }
        let close = Close(&self.open);
        // SAFETY: the guard keeps other threads out and `open` keeps this one from opening it twice, so the reference is
        // the only one until `close` is dropped.
        let result = act(unsafe { &mut *self.value.get() });
        drop(close);
        Ok(result)
    }

    /// The value, for who has the only reference.
    pub const fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> Arc<OwnerCell<u32>> {
        Arc::new(OwnerCell::new(Arc::new(LoopOwner::new()), 7))
    }

    #[test]
    fn opens_for_whoever_comes_while_nobody_owns_it() {
        let value = cell();
        assert_eq!(value.with(|v| *v), Ok(7));
        let other = Arc::clone(&value);
        let seen = std::thread::spawn(move || other.with(|v| std::mem::replace(v, 8))).join();
        assert_eq!(seen.ok(), Some(Ok(7)));
        assert_eq!(value.with(|v| *v), Ok(8));
    }

    #[test]
    fn refuses_other_threads_during_a_tenure() {
        let value = cell();
        let owner = Arc::clone(value.owner());
        let guard = owner.take();
        assert!(guard.is_ok() && owner.is_here());
        let other = Arc::clone(&value);
        let seen = std::thread::spawn(move || other.with(|v| *v)).join();
        assert_eq!(seen.ok(), Some(Err(BorrowError::OtherThread)));
        assert_eq!(value.with(|v| *v), Ok(7));
        assert!(owner.is_held(), "an access within the guard does not end it");
        drop(guard);
        assert!(!owner.is_held());
    }

    #[test]
    fn refuses_to_open_twice() {
        let value = cell();
        assert_eq!(value.with(|_| value.with(|v| *v)), Ok(Err(BorrowError::Reentered)));
        assert_eq!(value.with(|v| *v), Ok(7));
    }

    #[test]
    fn many_threads_wait_for_each_others_accesses() {
        let value = cell();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let value = Arc::clone(&value);
                std::thread::spawn(move || (0..20_000).all(|_| value.with(|v| *v += 1).is_ok()))
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().is_ok_and(|opened| opened)));
        assert_eq!(value.with(|v| *v), Ok(80_007));
    }

    #[test]
    fn who_takes_the_tenure_waits_for_accesses_and_refuses_from_then_on() {
        let value = cell();
        let other = Arc::clone(&value);
        let accesses = std::thread::spawn(move || while other.with(|v| *v += 1).is_ok() {});
        let guard = value.owner().take();
        assert!(guard.is_ok() && value.owner().is_held());
        let seen = value.with(|v| *v);
        assert!(accesses.join().is_ok());
        assert_eq!(value.with(|v| *v), seen);
    }
}
