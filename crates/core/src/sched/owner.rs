//! One owner: state that belongs to the thread which runs the loop.
//!
//! An [`Owner`] is shared by everything that belongs to one loop. While the loop runs, its thread holds the [`Tenure`] and
//! every [`Owned`] value opens for that thread alone, at the cost of one load, and another thread is refused. While it does
//! not run, whoever comes takes the tenure for the length of one access, and a second thread waits that long.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No thread holds the tenure.
const NOBODY: usize = 0;

/// Set beside the thread that holds the tenure for one access only.
const BRIEFLY: usize = 1;

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
pub struct Owner {
    thread: AtomicUsize,
}

/// Why an [`Owned`] value did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another thread has the tenure.
    OtherThread,
    /// This thread has it open already, further up the stack.
    Reentered,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherThread => "the loop belongs to another thread at the moment",
            Self::Reentered => "the loop's state is in use further up this thread's stack",
        })
    }
}

impl std::error::Error for Refused {}

impl Owner {
    /// An owner that is nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the calling thread holds the tenure.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.thread.load(Ordering::Relaxed) & !BRIEFLY == this_thread()
    }

    /// Whether any thread holds the tenure for longer than one access.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let holder = self.thread.load(Ordering::Relaxed);
        holder != NOBODY && holder & BRIEFLY == 0
    }

    /// Takes the tenure for the calling thread, until the value returned is dropped.
    ///
    /// # Errors
    /// [`Refused::OtherThread`] while another thread holds it.
    pub fn take(&self) -> Result<Tenure<'_>, Refused> {
        self.take_as(this_thread(), 0)
    }

    /// Takes the tenure for one access.
    #[inline]
    fn take_briefly(&self) -> Result<Tenure<'_>, Refused> {
        self.take_as(this_thread(), BRIEFLY)
    }

    #[inline]
    fn take_as(&self, here: usize, brevity: usize) -> Result<Tenure<'_>, Refused> {
        if self.thread.load(Ordering::Relaxed) & !BRIEFLY == here {
            return Ok(Tenure { owner: self, outermost: false, on_this_thread: PhantomData });
        }
        loop {
            match self.thread.compare_exchange(NOBODY, here | brevity, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(Tenure { owner: self, outermost: true, on_this_thread: PhantomData }),
                // It ends by itself: no foreign code runs in there.
                Err(holder) if holder & BRIEFLY != 0 => std::thread::yield_now(),
                Err(_) => return Err(Refused::OtherThread),
            }
        }
    }

    /// Takes the tenure from a thread that does not exist any more: in the child of a `fork`, whose only thread is the
    /// caller.
    pub fn reset_after_fork(&self) {
        self.thread.store(NOBODY, Ordering::Relaxed);
    }
}

/// The calling thread's hold on an [`Owner`]; an inner one (the thread had it before) gives nothing back on drop.
#[derive(Debug)]
#[must_use]
pub struct Tenure<'owner> {
    owner: &'owner Owner,
    outermost: bool,
    /// It must not be sent: it is proof of the thread that it was made on.
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Tenure<'_> {
    fn drop(&mut self) {
        if self.outermost {
            self.owner.thread.store(NOBODY, Ordering::Release);
        }
    }
}

/// A value that only the owner's thread can open, and only once at a time.
///
/// [`Owned::with`] must not run foreign code (drop a reference to an object with a finaliser, allocate where a garbage
/// collector may run): such code could come back here and be refused. Take out what is needed, then act on it.
#[derive(Debug)]
pub struct Owned<T> {
    owner: Arc<Owner>,
    open: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: `value` and `open` are touched only under a `Tenure`, which one thread holds at a time; taking it is an acquire
// and giving it back a release, so the former holder's writes are seen. `T: Send` as it moves from holder to holder.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    /// Puts `value` under `owner`.
    pub const fn new(owner: Arc<Owner>, value: T) -> Self {
        Self { owner, open: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// The owner this value is under.
    #[must_use]
    pub const fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Opens the value for the length of `act`.
    ///
    /// # Errors
    /// [`Refused`] when another thread has the tenure, or this one has the value open already.
    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        let tenure = self.owner.take_briefly()?;
        self.with_tenure(&tenure, act)
    }

    /// The same for who holds the tenure already, and so need not ask which thread this is.
    ///
    /// # Errors
    /// [`Refused::Reentered`] when this thread has the value open already; [`Refused::OtherThread`] when the tenure is of
    /// another owner.
    #[inline]
    pub fn with_tenure<R>(&self, tenure: &Tenure<'_>, act: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        struct Close<'a>(&'a Cell<bool>);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if !std::ptr::eq(tenure.owner, &raw const *self.owner) {
            return Err(Refused::OtherThread);
        }
        if self.open.replace(true) {
            return Err(Refused::Reentered);
        }
        let close = Close(&self.open);
        // SAFETY: the tenure keeps other threads out and `open` keeps this one from opening it twice, so the reference is
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

    fn owned() -> Arc<Owned<u32>> {
        Arc::new(Owned::new(Arc::new(Owner::new()), 7))
    }

    #[test]
    fn opens_for_whoever_comes_while_nobody_owns_it() {
        let value = owned();
        assert_eq!(value.with(|v| *v), Ok(7));
        let other = Arc::clone(&value);
        let seen = std::thread::spawn(move || other.with(|v| std::mem::replace(v, 8))).join();
        assert_eq!(seen.ok(), Some(Ok(7)));
        assert_eq!(value.with(|v| *v), Ok(8));
    }

    #[test]
    fn refuses_other_threads_during_a_tenure() {
        let value = owned();
        let owner = Arc::clone(value.owner());
        let tenure = owner.take();
        assert!(tenure.is_ok() && owner.is_here());
        let other = Arc::clone(&value);
        let seen = std::thread::spawn(move || other.with(|v| *v)).join();
        assert_eq!(seen.ok(), Some(Err(Refused::OtherThread)));
        assert_eq!(value.with(|v| *v), Ok(7));
        assert!(owner.is_held(), "an access within the tenure does not end it");
        drop(tenure);
        assert!(!owner.is_held());
    }

    #[test]
    fn refuses_to_open_twice() {
        let value = owned();
        assert_eq!(value.with(|_| value.with(|v| *v)), Ok(Err(Refused::Reentered)));
        assert_eq!(value.with(|v| *v), Ok(7));
    }

    #[test]
    fn many_threads_wait_for_each_others_accesses() {
        let value = owned();
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
        let value = owned();
        let other = Arc::clone(&value);
        let accesses = std::thread::spawn(move || while other.with(|v| *v += 1).is_ok() {});
        let tenure = value.owner().take();
        assert!(tenure.is_ok() && value.owner().is_held());
        let seen = value.with(|v| *v);
        assert!(accesses.join().is_ok());
        assert_eq!(value.with(|v| *v), seen);
    }
}
