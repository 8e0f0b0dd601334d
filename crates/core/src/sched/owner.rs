//! One owner: state that belongs to the thread which runs the loop.
//!
//! A [`LoopOwner`] is shared by everything that belongs to one loop. While the loop runs, its thread holds the
//! [`OwnerGuard`] and every [`OwnerCell`] opens for that thread alone, at the cost of one load; another thread gets a
//! [`BorrowError`]. While it does not run, an access takes the ownership for its own length, and a second thread waits that
//! long.
//!
//! # What may run while a cell is open
//!
//! Another thread may wait for the end of an access, and it may wait with the interpreter's lock held (the collector does).
//! So an open section must end by itself: it runs no foreign code, waits for nothing, and does not detach from the
//! interpreter. The types hold this where they can:
//!
//! - A closure over open state is `Send`. What stands for "this thread is attached to the interpreter" (PyO3's `Python`,
//!   `Bound`, `Borrowed`) is not, so the closure has none of them and can neither call Python nor detach. clippy refuses to
//!   make one out of nothing (`Python::attach`) except where that is argued. An [`OwnerGuard`] is not `Send` either, nor is a
//!   [`KeptGuard`](super::KeptGuard), so no section can end the ownership that it relies on.
//! - What a section does need of the interpreter comes as an argument, a [`SectionToken`], whose methods are harmless.
//! - [`OwnerCell::visit`] is for the garbage collector: it gives a shared reference, so a visit changes nothing.
//!
//! What no type holds is that a section drops no last reference to an object of Python's: it takes such a value out
//! (`Option::take`, [`std::mem::replace`]) and returns it, to be dropped outside. A finaliser that runs all the same gets
//! an error where it uses the loop ([`BorrowError::Reentered`]), and where it waits for another thread the process may
//! stand still. Builds with debug assertions find it: the binding has the interpreter report every object that ends
//! (`reference_tracer.rs`), and [`assert_nothing_open`](super::assert_nothing_open) panics where foreign code is called and where the interpreter is
//! detached from.
//!
//! # One guard at a time
//!
//! [`LoopOwner::take`] fails while the calling thread has the ownership already, by a guard or by an access, and the
//! ownership of an access never leaves [`OwnerCell::with`]. So there is one thing that gives the ownership back, and it does
//! so once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fork::{self, ProcessCell};
use super::section::Section;
pub use super::sync::this_thread;
use super::sync::{AtomicUsize, Cell, UnsafeCell, yield_now};

/// No thread is the owner.
const NO_THREAD: usize = 0;

/// Set along with the thread that is the owner for one access only.
const ONE_ACCESS: usize = 1;

/// Which thread the state of one loop belongs to at the moment.
pub struct LoopOwner {
    thread: AtomicUsize,
    /// How often the guard was taken; changed by its holder.
    guards: AtomicUsize,
    /// Whose threads may be the owner.
    process: ProcessCell,
}

impl Default for LoopOwner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LoopOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopOwner")
            .field("is_here", &self.is_here())
            .field("is_held", &self.is_held())
            .finish()
    }
}

/// Why an [`OwnerCell`] value did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BorrowError {
    /// Another thread is the owner.
    OtherThread,
    /// This thread has it already, further up the stack.
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
    /// An owner that is no thread yet.
    #[must_use]
    pub fn new() -> Self {
        Self { thread: AtomicUsize::new(NO_THREAD), guards: AtomicUsize::new(0), process: ProcessCell::new() }
    }

    /// Whether the calling thread is the owner.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.thread.load(Ordering::Relaxed) & !ONE_ACCESS == this_thread()
    }

    /// Whether any thread holds the guard.
    #[must_use]
    pub fn is_held(&self) -> bool {
        is_guarded(self.thread.load(Ordering::Relaxed))
    }

    /// Takes the guard for the calling thread, until the value returned is dropped.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] while another thread holds it; [`BorrowError::Reentered`] while this thread does, or has
    /// a cell open.
    pub fn take(&self) -> Result<OwnerGuard<'_>, BorrowError> {
        self.follow_fork();
        self.acquire(this_thread(), 0)?;
        self.guards.store(self.guards.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        Ok(OwnerGuard { owner: self, on_this_thread: PhantomData })
    }

    /// Whether the calling thread has the guard that [`OwnerGuard::keep`] returned as `guard`.
    pub(super) fn has_kept(&self, guard: usize) -> bool {
        self.follow_fork();
        self.thread.load(Ordering::Relaxed) == this_thread() && self.guards.load(Ordering::Relaxed) == guard
    }

    /// The guard that the calling thread has kept, as [`LoopOwner::has_kept`] says.
    pub(super) const fn kept(&self) -> OwnerGuard<'_> {
        OwnerGuard { owner: self, on_this_thread: PhantomData }
    }

    /// Takes the guard unless the calling thread holds it already, and then returns nothing.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] while another thread holds it; [`BorrowError::Reentered`] while this thread has a cell
    /// open without holding the guard.
    pub fn take_unless_here(&self) -> Result<Option<OwnerGuard<'_>>, BorrowError> {
        self.follow_fork();
        if self.thread.load(Ordering::Relaxed) == this_thread() { Ok(None) } else { self.take().map(Some) }
    }

    /// Makes the calling thread the owner for one access, unless it is the owner.
    #[inline]
    fn take_for_one_access(&self) -> Result<OneAccess<'_>, BorrowError> {
        self.follow_fork();
        let here = this_thread();
        let holder = self.thread.load(Ordering::Relaxed);
        if holder & !ONE_ACCESS == here {
            return Ok(OneAccess { taken: None });
        }
        // Seen without an exchange, which would take the cache line from the thread that runs the loop.
        if is_guarded(holder) {
            return Err(BorrowError::OtherThread);
        }
        self.acquire(here, ONE_ACCESS)?;
        Ok(OneAccess { taken: Some(self) })
    }

    #[inline]
    fn acquire(&self, here: usize, duration_flag: usize) -> Result<(), BorrowError> {
        loop {
            match self.thread.compare_exchange(
                NO_THREAD,
                here | duration_flag,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(holder) if holder & !ONE_ACCESS == here => return Err(BorrowError::Reentered),
                // It ends by itself: see "What may run while a cell is open".
                Err(holder) if holder & ONE_ACCESS != 0 => yield_now(),
                Err(_) => return Err(BorrowError::OtherThread),
            }
        }
    }

    /// In the child of a fork, takes the ownership from a thread that is the parent's.
    ///
    /// It comes before everything that compares threads: a new thread of the child may have the number of a parent's.
    #[inline]
    fn follow_fork(&self) {
        if !self.process.is_current() {
            self.forget_thread_of_parent();
        }
    }

    /// If the thread that forked was the owner it stays that: its guard is further up the stack here as well.
    #[cold]
    fn forget_thread_of_parent(&self) {
        // No thread of this process is the owner before the process is renewed: each comes here first.
        let holder = self.thread.load(Ordering::Relaxed);
        if self.process.renew() && holder != NO_THREAD && !fork::has_forked(holder & !ONE_ACCESS) {
            // By exchange: the thread that forked may have given it back meanwhile, and another have taken it.
            let _changed =
                self.thread.compare_exchange(holder, NO_THREAD, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Whether `holder` has the guard, and not only one access.
const fn is_guarded(holder: usize) -> bool {
    holder != NO_THREAD && holder & ONE_ACCESS == 0
}

/// The calling thread's hold on a [`LoopOwner`]; there is one at a time.
#[derive(Debug)]
#[must_use]
pub struct OwnerGuard<'owner> {
    owner: &'owner LoopOwner,
    /// It must not be sent: it is proof of the thread that it was made on.
    on_this_thread: PhantomData<*const ()>,
}

impl OwnerGuard<'_> {
    /// Leaves the ownership with the thread, and returns which guard it was.
    pub(super) fn keep(self) -> usize {
        let guard = self.owner.guards.load(Ordering::Relaxed);
        std::mem::forget(self);
        guard
    }
}

impl Drop for OwnerGuard<'_> {
    fn drop(&mut self) {
        self.owner.thread.store(NO_THREAD, Ordering::Release);
    }
}

/// The ownership for one access; an access inside a guard or another access has taken nothing and gives nothing back.
struct OneAccess<'owner> {
    taken: Option<&'owner LoopOwner>,
}

impl Drop for OneAccess<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(owner) = self.taken {
            owner.thread.store(NO_THREAD, Ordering::Release);
        }
    }
}

/// What a closure over open state is handed in addition to the state.
///
/// It is an argument of the closure because it is not `Send` and cannot be captured.
///
/// # Safety
/// No method of the type, and nothing that safe code can get out of it, runs foreign code (a finaliser, a garbage
/// collection), waits for another thread, or detaches from the interpreter.
pub unsafe trait SectionToken {}

/// A value that only the owner's thread can open, and only once at a time: see the module.
///
/// A closure that could call Python, or detach from it, does not compile. `Rc` stands here for PyO3's `Python`, which is not
/// `Send` either; this test fails when the bound is loosened.
/// ```compile_fail,E0277
/// use std::{rc::Rc, sync::Arc};
/// use whorl_core::sched::{LoopOwner, OwnerCell};
/// let cell = OwnerCell::new(Arc::new(LoopOwner::new()), 7);
/// let python = Rc::new(());
/// let _ = cell.with(|value| *value + Rc::strong_count(&python));
/// ```
/// The same holds with a guard:
/// ```compile_fail,E0277
/// use std::{rc::Rc, sync::Arc};
/// use whorl_core::sched::{LoopOwner, OwnerCell};
/// let owner = Arc::new(LoopOwner::new());
/// let cell = OwnerCell::new(Arc::clone(&owner), 7);
/// let python = Rc::new(());
/// let guard = owner.take().unwrap();
/// let _ = cell.with_guard(&guard, |value| *value + Rc::strong_count(&python));
/// ```
/// A section cannot end the ownership that it relies on:
/// ```compile_fail,E0277
/// use std::sync::Arc;
/// use whorl_core::sched::{LoopOwner, OwnerCell};
/// let owner = Arc::new(LoopOwner::new());
/// let cell = OwnerCell::new(Arc::clone(&owner), 7);
/// let guard = owner.take().unwrap();
/// let _ = cell.with(move |value| { drop(guard); *value });
/// ```
/// Only a type that promises to be harmless is handed to a section:
/// ```compile_fail,E0277
/// use std::sync::Arc;
/// use whorl_core::sched::{LoopOwner, OwnerCell};
/// let cell = OwnerCell::new(Arc::new(LoopOwner::new()), 7);
/// let _ = cell.with_token(std::rc::Rc::new(()), |value, _python| *value);
/// ```
/// And all of them compile without the line that is an error:
/// ```
/// use std::sync::Arc;
/// use whorl_core::sched::{LoopOwner, OwnerCell};
/// let owner = Arc::new(LoopOwner::new());
/// let cell = OwnerCell::new(Arc::clone(&owner), 7);
/// assert_eq!(cell.with(|value| *value), Ok(7));
/// let guard = owner.take().unwrap();
/// assert_eq!(cell.with_guard(&guard, |value| *value), Ok(7));
/// ```
pub struct OwnerCell<T> {
    owner: Arc<LoopOwner>,
    open: Cell<bool>,
    value: UnsafeCell<T>,
}

impl<T> fmt::Debug for OwnerCell<T> {
    /// Shows whose it is. The value and the flag belong to the owner's thread, which need not be this one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerCell").field("owner", &self.owner).finish_non_exhaustive()
    }
}

// SAFETY: `value` and `open` are touched only by the thread that `owner` names, which is one at a time: `OwnerCell::open` is
// private, and its callers have a `OneAccess` or a borrowed `OwnerGuard` until it returns. Both are made by an acquire and end
// by a release, so the writes of the owner before are seen. `T: Send` as it moves from owner to owner.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> OwnerCell<T> {
    /// Puts `value` under `owner`.
    pub fn new(owner: Arc<LoopOwner>, value: T) -> Self {
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
    /// [`BorrowError`] when another thread is the owner, or this one has the value open already.
    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R + Send) -> Result<R, BorrowError> {
        let _access = self.owner.take_for_one_access()?;
        self.open(act)
    }

    /// [`OwnerCell::with`] a token.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn with_token<A: SectionToken, R>(
        &self,
        token: A,
        act: impl FnOnce(&mut T, A) -> R + Send,
    ) -> Result<R, BorrowError> {
        let _access = self.owner.take_for_one_access()?;
        self.open(|value| act(value, token))
    }

    /// Opens the value to read it, for the garbage collector.
    ///
    /// # Errors
    /// As [`OwnerCell::with`].
    pub fn visit<A: SectionToken, R>(
        &self,
        token: A,
        act: impl FnOnce(&T, A) -> R + Send,
    ) -> Result<R, BorrowError> {
        let _access = self.owner.take_for_one_access()?;
        self.open(|value| act(value, token))
    }

    /// [`OwnerCell::with`] for a caller that holds the guard, and so need not check which thread this is: the guard stays
    /// on the thread that took it.
    ///
    /// # Errors
    /// [`BorrowError::Reentered`] when this thread has the value open already; [`BorrowError::OtherThread`] when the guard is of
    /// another owner.
    #[inline]
    pub fn with_guard<R>(
        &self,
        guard: &OwnerGuard<'_>,
        act: impl FnOnce(&mut T) -> R + Send,
    ) -> Result<R, BorrowError> {
        if !std::ptr::eq(guard.owner, &raw const *self.owner) {
            return Err(BorrowError::OtherThread);
        }
        self.open(act)
    }

    /// Opens the value on the owner's thread, which the caller has made sure of.
    #[inline]
    fn open<R>(&self, act: impl FnOnce(&mut T) -> R) -> Result<R, BorrowError> {
        struct Close<'a>(&'a Cell<bool>);
        impl Drop for Close<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if self.open.replace(true) {
            return Err(BorrowError::Reentered);
        }
        let close = Close(&self.open);
        let section = Section::enter();
        // SAFETY: this thread is the owner until `open` returns and `self.open` keeps it from opening the value twice, so the
        // reference is the only one until `close` is dropped.
        let result = self.value.with_mut(|value| act(unsafe { &mut *value }));
        drop((section, close));
        Ok(result)
    }

    /// The value, by the only reference to it.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: the reference to the cell is the only one, and it is lent for as long as the result.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::fork::is_true_in_child;
    use super::super::{KeptGuard, assert_nothing_open};
    use super::*;

    fn cell() -> Arc<OwnerCell<u32>> {
        Arc::new(OwnerCell::new(Arc::new(LoopOwner::new()), 7))
    }

    #[test]
    fn opens_for_any_thread_while_none_is_the_owner() {
        let value = cell();
        assert_eq!(value.with(|v| *v), Ok(7));
        let other = Arc::clone(&value);
        let seen = std::thread::spawn(move || other.with(|v| std::mem::replace(v, 8))).join();
        assert_eq!(seen.ok(), Some(Ok(7)));
        assert_eq!(value.with(|v| *v), Ok(8));
    }

    #[test]
    fn other_threads_get_an_error_while_one_has_the_guard() {
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
    fn a_cell_that_is_open_does_not_open_again() {
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
    fn taking_the_guard_waits_for_accesses_which_fail_from_then_on() {
        let value = cell();
        let other = Arc::clone(&value);
        let accesses = std::thread::spawn(move || while other.with(|v| *v += 1).is_ok() {});
        let guard = value.owner().take();
        assert!(guard.is_ok() && value.owner().is_held());
        let seen = value.with(|v| *v);
        assert!(accesses.join().is_ok());
        assert_eq!(value.with(|v| *v), seen);
    }

    #[test]
    fn there_is_one_guard_at_a_time() {
        let owner = LoopOwner::new();
        let guard = owner.take();
        assert!(guard.is_ok());
        assert!(matches!(owner.take(), Err(BorrowError::Reentered)));
        assert!(matches!(owner.take_unless_here(), Ok(None)));
        assert!(owner.is_held(), "a guard that was not taken releases nothing");
        drop(guard);
        assert!(!owner.is_held());
        assert!(matches!(owner.take_unless_here(), Ok(Some(_))));
    }

    #[test]
    fn no_guard_comes_out_of_an_access() {
        let value = cell();
        let owner = Arc::clone(value.owner());
        assert_eq!(value.with(|_| owner.take().map(drop)), Ok(Err(BorrowError::Reentered)));
        assert_eq!(value.with(|_| owner.take_unless_here().map(drop)), Ok(Err(BorrowError::Reentered)));
        assert!(!owner.is_here(), "the access is over");
    }

    #[test]
    fn a_guard_opens_the_cells_of_its_owner_only() {
        let (value, other) = (cell(), cell());
        let guard = value.owner().take().unwrap();
        assert_eq!(value.with_guard(&guard, |v| *v), Ok(7));
        assert_eq!(other.with_guard(&guard, |v| *v), Err(BorrowError::OtherThread));
    }

    #[test]
    fn debug_does_not_open_it() {
        let value = cell();
        let shown = value.with(|_| format!("{value:?}")).unwrap();
        assert!(shown.contains("OwnerCell") && !shown.contains('7'), "{shown}");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "foreign code meets open state")]
    fn foreign_code_in_a_section_is_found_in_debug_builds() {
        let _ = cell().with(|_| assert_nothing_open());
    }

    #[test]
    fn only_the_child_forgets_a_thread_that_the_fork_left_behind() {
        let value = cell();
        let owner = Arc::clone(value.owner());
        let (taken, take) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let parents = Arc::clone(&owner);
        let thread = std::thread::spawn(move || {
            let guard = parents.take();
            let _ = taken.send(guard.is_ok());
            let _ = ended.recv();
        });
        assert_eq!(take.recv(), Ok(true));
        assert!(is_true_in_child(|| value.with(|v| *v) == Ok(7) && owner.take().is_ok()));
        assert_eq!(value.with(|v| *v), Err(BorrowError::OtherThread));
        drop(end);
        assert!(thread.join().is_ok());
        assert_eq!(value.with(|v| *v), Ok(7));
    }

    #[test]
    fn only_the_child_that_has_forked_keeps_its_guard() -> Result<(), BorrowError> {
        let value = cell();
        let guard = value.owner().take()?;
        let is_kept = |value: &OwnerCell<u32>| {
            value.with(|v| *v) == Ok(7) && matches!(value.owner().take(), Err(BorrowError::Reentered))
        };
        assert!(is_true_in_child(|| is_kept(&value)));
        drop(guard);
        let kept = KeptGuard::take(value.owner())?;
        assert!(is_true_in_child(|| is_kept(&value) && kept.is_here() && kept.release().is_ok()));
        assert!(kept.is_here());
        Ok(())
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread;

    use super::super::KeptGuard;
    use super::*;

    /// Runs `model` under every interleaving, with a cell that its threads share. loom reports two threads that have the
    /// value or the flag of the cell at once, and an access that need not see the writes of the one before.
    fn check(model: impl Fn(Arc<OwnerCell<u32>>) + Send + Sync + 'static) {
        loom::model(move || model(Arc::new(OwnerCell::new(Arc::new(LoopOwner::new()), 0))));
    }

    fn spawn(
        cell: &Arc<OwnerCell<u32>>,
        act: impl FnOnce(&OwnerCell<u32>) + 'static,
    ) -> thread::JoinHandle<()> {
        let cell = Arc::clone(cell);
        thread::spawn(move || act(&cell))
    }

    fn join(thread: thread::JoinHandle<()>) {
        assert!(thread.join().is_ok());
    }

    /// An access that is made again until no other thread has the guard.
    fn insist(cell: &OwnerCell<u32>, act: impl Fn(&mut u32) + Send + Copy) {
        while let Err(error) = cell.with(act) {
            assert_eq!(error, BorrowError::OtherThread);
            yield_now();
        }
    }

    #[test]
    fn accesses_wait_for_each_other() {
        check(|cell| {
            let other = spawn(&cell, |cell| assert_eq!(cell.with(|value| *value += 1), Ok(())));
            assert_eq!(cell.with(|value| *value += 1), Ok(()));
            assert_eq!(cell.with(|value| *value += 1), Ok(()));
            join(other);
            assert_eq!(cell.with(|value| *value), Ok(3));
        });
    }

    #[test]
    fn the_guard_waits_for_an_access_and_later_ones_fail() {
        check(|cell| {
            let other = spawn(&cell, |cell| match cell.with(|value| *value += 1) {
                Ok(()) | Err(BorrowError::OtherThread) => {}
                Err(error) => unreachable!("{error}"),
            });
            let guard = cell.owner().take().unwrap();
            let before = cell.with_guard(&guard, |value| *value);
            assert_eq!(cell.with(|value| *value), before);
            drop(guard);
            join(other);
            assert!(!cell.owner().is_held());
        });
    }

    #[test]
    fn what_is_written_under_the_guard_is_seen_after_it() {
        check(|cell| {
            let other = spawn(&cell, |cell| insist(cell, |value| *value *= 2));
            let guard = cell.owner().take().unwrap();
            assert_eq!(cell.with_guard(&guard, |value| *value += 1), Ok(()));
            drop(guard);
            join(other);
            assert!(matches!(cell.with(|value| *value), Ok(1 | 2)));
        });
    }

    #[test]
    fn one_of_two_threads_has_the_guard() {
        check(|cell| {
            let run = |cell: &OwnerCell<u32>| match cell.owner().take() {
                Ok(guard) => assert_eq!(cell.with_guard(&guard, |value| *value += 1), Ok(())),
                Err(error) => assert_eq!(error, BorrowError::OtherThread),
            };
            let other = spawn(&cell, run);
            run(&cell);
            join(other);
            assert!(matches!(cell.with(|value| *value), Ok(1 | 2)));
        });
    }

    #[test]
    fn a_kept_guard_holds_between_its_uses() {
        check(|cell| {
            let kept = KeptGuard::take(cell.owner()).unwrap();
            let failing = spawn(&cell, |cell| {
                assert_eq!(cell.with(|value| *value), Err(BorrowError::OtherThread));
            });
            for _ in 0..2 {
                let used = kept.with(|guard| cell.with_guard(guard, |value| *value += 1));
                assert_eq!(used, Ok(Ok(())));
            }
            join(failing);
            let other = spawn(&cell, |cell| insist(cell, |value| *value *= 2));
            let used = kept.with(|guard| cell.with_guard(guard, |value| *value += 1));
            assert_eq!(used, Ok(Ok(())));
            drop(kept);
            join(other);
            assert_eq!(cell.with(|value| *value), Ok(6));
        });
    }
}
