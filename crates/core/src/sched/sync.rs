//! What the owner and the injection queue take from the standard library to share state between threads; loom's under
//! `--cfg loom`, where `make loom` runs the models in which every interleaving of their threads is tried.

#[cfg(not(loom))]
pub use self::native::{UnsafeCell, this_thread};
#[cfg(not(loom))]
pub use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, fence},
    },
    thread::yield_now,
};

#[cfg(loom)]
pub use self::modelled::this_thread;
#[cfg(loom)]
pub use loom::{
    cell::{Cell, UnsafeCell},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, fence},
    },
    thread::yield_now,
};

#[cfg(not(loom))]
mod native {
    /// [`std::cell::UnsafeCell`] with the way in of loom's, which sees where an access begins and ends.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        /// Puts `value` in.
        pub const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Calls `act` with a pointer to the value.
        #[inline]
        pub fn with_mut<R>(&self, act: impl FnOnce(*mut T) -> R) -> R {
            act(self.0.get())
        }
    }

    /// A number that no other living thread of the process has, never zero and even (it is an address): a read of the
    /// thread pointer, which is cheaper than the address of a thread-local of a shared library.
    #[cfg(not(miri))]
    #[must_use]
    #[inline]
    pub fn this_thread() -> usize {
        // SAFETY: no precondition, and it cannot fail.
        unsafe { libc::pthread_self() as usize }
    }

    /// The same under miri, whose thread pointers are small numbers: the address of a thread-local.
    #[cfg(miri)]
    pub fn this_thread() -> usize {
        thread_local! {
            static HERE: u64 = const { 0 };
        }
        HERE.with(|here| std::ptr::from_ref(here).addr())
    }
}

#[cfg(loom)]
mod modelled {
    loom::thread_local! {
        static HERE: u64 = 0;
    }

    /// A number that no other living thread of the model has: the threads of a model share one of the process, so it is
    /// the address of a thread-local of loom's.
    pub fn this_thread() -> usize {
        HERE.with(|here| std::ptr::from_ref(here).addr())
    }
}
