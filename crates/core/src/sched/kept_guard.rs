//! A guard of a loop's owner that is kept between calls.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::owner::{BorrowError, LoopOwner, OwnerGuard};
use super::sync::Cell;

/// A guard that lasts from one call to the next: a guest of another main loop keeps it between its turns.
///
/// It is not `Send`, so no section comes by it:
/// ```compile_fail,E0277
/// use std::sync::Arc;
/// use whorl_core::sched::{KeptGuard, LoopOwner, OwnerCell};
/// let cell = OwnerCell::new(Arc::new(LoopOwner::new()), 7);
/// let kept = KeptGuard::take(cell.owner()).unwrap();
/// let _ = cell.with(move |_value| drop(kept));
/// ```
/// Nor a reference to it:
/// ```compile_fail,E0277
/// use std::sync::Arc;
/// use whorl_core::sched::{KeptGuard, LoopOwner, OwnerCell};
/// let cell = OwnerCell::new(Arc::new(LoopOwner::new()), 7);
/// let kept = KeptGuard::take(cell.owner()).unwrap();
/// let _ = cell.with(|_value| kept.release().is_ok());
/// ```
/// A Python object that holds one is bound to a thread: each use checks that this is the thread that took it.
#[derive(Debug)]
pub struct KeptGuard {
    owner: Arc<LoopOwner>,
    /// Which of the owner's guards it is: the same thread may take another later.
    guard: usize,
    /// How many calls have it.
    lent: Cell<usize>,
    on_this_thread: PhantomData<*const ()>,
}

impl KeptGuard {
    /// Takes the guard of `owner` for the calling thread.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] while another thread holds it, [`BorrowError::Reentered`] while this one does.
    pub fn take(owner: &Arc<LoopOwner>) -> Result<Self, BorrowError> {
        let guard = owner.take()?.keep();
        Ok(Self { owner: Arc::clone(owner), guard, lent: Cell::new(0), on_this_thread: PhantomData })
    }

    /// Whether the calling thread has it.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.owner.has_kept(self.guard)
    }

    /// Calls `act` with the guard.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] on another thread than the one that took it, and once it is released.
    pub fn with<R>(&self, act: impl FnOnce(&OwnerGuard<'_>) -> R) -> Result<R, BorrowError> {
        struct Lent<'a>(&'a Cell<usize>);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        if !self.is_here() {
            return Err(BorrowError::OtherThread);
        }
        self.lent.set(self.lent.get() + 1);
        let _lent = Lent(&self.lent);
        // The kept one is what gives it back.
        let guard = ManuallyDrop::new(self.owner.kept());
        Ok(act(&guard))
    }

    /// Drops the value on any thread, without giving the guard back.
    pub fn abandon(self) {
        // A lent guard is not released.
        self.lent.set(1);
    }

    /// Gives the guard back.
    ///
    /// # Errors
    /// [`BorrowError::Reentered`] within [`KeptGuard::with`]; otherwise as there.
    pub fn release(&self) -> Result<(), BorrowError> {
        if !self.is_here() {
            return Err(BorrowError::OtherThread);
        }
        if self.lent.get() > 0 {
            return Err(BorrowError::Reentered);
        }
        drop(self.owner.kept());
        Ok(())
    }
}

impl Drop for KeptGuard {
    fn drop(&mut self) {
        // An error where it was released already.
        let _released = self.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::OwnerCell;
    use super::*;

    fn cell() -> Arc<OwnerCell<u32>> {
        Arc::new(OwnerCell::new(Arc::new(LoopOwner::new()), 7))
    }

    #[test]
    fn a_kept_guard_holds_between_its_uses() -> Result<(), BorrowError> {
        let value = cell();
        let kept = KeptGuard::take(value.owner())?;
        assert!(matches!(KeptGuard::take(value.owner()), Err(BorrowError::Reentered)));
        assert_eq!(kept.with(|guard| value.with_guard(guard, |v| *v)), Ok(Ok(7)));
        assert!(value.owner().is_held());
        let other = Arc::clone(&value);
        let seen = std::thread::spawn(move || other.with(|v| *v)).join();
        assert_eq!(seen.ok(), Some(Err(BorrowError::OtherThread)));
        assert!(value.owner().is_held());
        drop(kept);
        assert!(!value.owner().is_held());
        Ok(())
    }

    #[test]
    fn a_kept_guard_is_released_once_and_not_while_it_is_lent() -> Result<(), BorrowError> {
        let value = cell();
        let kept = KeptGuard::take(value.owner())?;
        assert_eq!(kept.with(|_| kept.release()), Ok(Err(BorrowError::Reentered)));
        assert!(kept.is_here());
        assert_eq!(kept.release(), Ok(()));
        assert!(!value.owner().is_held());
        assert_eq!(kept.with(|_| ()), Err(BorrowError::OtherThread));
        let guard = value.owner().take()?;
        assert_eq!(kept.release(), Err(BorrowError::OtherThread), "the same thread has another guard");
        drop(kept);
        assert!(value.owner().is_held());
        drop(guard);
        Ok(())
    }
}
