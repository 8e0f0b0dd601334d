//! The sections in which state is open, counted where debug assertions are on.

#[cfg(all(debug_assertions, not(loom)))]
use std::cell::Cell;

#[cfg(all(debug_assertions, not(loom)))]
thread_local! {
    static OPEN_SECTIONS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the open sections of this thread where debug assertions are on; otherwise nothing. Not in a model, whose threads
/// are one thread of the process.
#[must_use]
#[derive(Debug)]
pub struct Section(());

impl Section {
    /// A section begins, until the value is dropped: of a cell, or of whatever else foreign code must not meet open.
    #[inline]
    pub fn enter() -> Self {
        #[cfg(all(debug_assertions, not(loom)))]
        OPEN_SECTIONS.with(|count| count.set(count.get() + 1));
        Self(())
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        #[cfg(all(debug_assertions, not(loom)))]
        OPEN_SECTIONS.with(|count| count.set(count.get() - 1));
    }
}

/// Whether this thread has a cell open.
#[cfg(all(debug_assertions, not(loom)))]
#[must_use]
pub fn is_anything_open() -> bool {
    OPEN_SECTIONS.with(|count| count.get() > 0)
}

/// Panics if this thread has a cell open, where debug assertions are on: stands where foreign code is called or entered from.
#[inline]
pub fn assert_nothing_open() {
    #[cfg(all(debug_assertions, not(loom)))]
    assert!(!is_anything_open(), "foreign code meets open state of the loop");
}
