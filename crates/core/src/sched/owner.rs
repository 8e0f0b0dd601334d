//! One owner: state that belongs to the thread which runs the loop.
//!
//! An [`Owner`] is shared by everything that belongs to one loop. While the loop runs, its thread holds the [`Tenure`] and
//! every [`Owned`] value opens for that thread alone, at the cost of one load. While it does not run, whoever comes takes
//! the tenure for the length of one access. In both cases a second thread is refused; it never races.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No thread holds the tenure.
const NOBODY: usize = 0;

/// A number that no other living thread of the process has, and never zero: a read of the thread pointer, which is
/// cheaper than the address of a thread-local of a shared library.
#[inline]
fn this_thread() -> usize {
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
    /// The state belongs to another thread at the moment.
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
        self.thread.load(Ordering::Relaxed) == this_thread()
    }

    /// Whether any thread holds the tenure.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.thread.load(Ordering::Relaxed) != NOBODY
    }

    /// Takes the tenure for the calling thread, until the value returned is dropped.
    ///
    /// # Errors
    /// [`Refused::OtherThread`] while another thread holds it.
    pub fn take(&self) -> Result<Tenure<'_>, Refused> {
        let here = this_thread();
        if self.thread.load(Ordering::Relaxed) == here {
            return Ok(Tenure { owner: self, outermost: false, on_this_thread: PhantomData });
        }
        match self.thread.compare_exchange(NOBODY, here, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Tenure { owner: self, outermost: true, on_this_thread: PhantomData }),
            Err(_) => Err(Refused::OtherThread),
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
        let tenure = self.owner.take()?;
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

    /// Opens the value whoever has the tenure.
    ///
    /// # Errors
    /// [`Refused::Reentered`] when it is open already.
    ///
    /// # Safety
    /// No other thread can be inside `with`, `with_tenure` or this function for the length of the call, by a lock that is
    /// held whenever one of them is called.
    pub unsafe fn with_exclusion<R>(&self, act: impl FnOnce(&T) -> R) -> Result<R, Refused> {
        if self.open.get() {
            return Err(Refused::Reentered);
        }
        // SAFETY: by the caller no other thread has the value open, and this one has not either; it is only read.
        Ok(act(unsafe { &*self.value.get() }))
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
    fn opens_to_a_reader_who_excludes_all_others() {
        let value = owned();
        let tenure = value.owner().take();
        assert!(tenure.is_ok());
        let other = Arc::clone(&value);
        // SAFETY: this thread only waits for the other.
        let seen = std::thread::spawn(move || unsafe { other.with_exclusion(|v| *v) }).join();
        assert_eq!(seen.ok(), Some(Ok(7)));
        // SAFETY: there is one thread.
        assert_eq!(value.with(|_| unsafe { value.with_exclusion(|v| *v) }), Ok(Err(Refused::Reentered)));
    }

    #[test]
    fn many_threads_never_hold_it_together() {
        let value = owned();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let value = Arc::clone(&value);
                std::thread::spawn(move || (0..20_000).filter(|_| value.with(|v| *v += 1).is_ok()).count())
            })
            .collect();
        let done: usize = threads.into_iter().filter_map(|thread| thread.join().ok()).sum();
        assert_eq!(value.with(|v| *v as usize), Ok(7 + done));
    }
}
