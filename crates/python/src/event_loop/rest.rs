//! A loop that no thread runs, and what the garbage collector sees of it.
//!
//! A loop that runs is alive. One that rests may be part of a cycle through a handle that the program has, so it shows all
//! that it holds: the handles in its queues are tracked, and the injection queue, which cannot be shown, is empty.

use std::sync::atomic::{Ordering, fence};

use pyo3::prelude::*;

use super::{EventLoop, Handle, LoopState};
use crate::errors::OrRaise;
use crate::interpreter::Attached;

impl LoopState {
    /// Has the collector see the handles that wait.
    fn track_handles(&self, at: Attached<'_>) {
        for handle in self.ready.iter().chain(&self.progress.entered) {
            // SAFETY: handles are tracked in a section over their loop's state alone, and this is one.
            unsafe { Handle::track(handle, at) };
        }
    }

    /// Puts `handle` behind what is ready; where the loop `rests`, the collector sees it.
    #[inline]
    pub(super) fn push(&mut self, at: Attached<'_>, handle: Py<Handle>, rests: bool) {
        if rests {
            // SAFETY: handles are tracked in a section over their loop's state alone, and this is one.
            unsafe { Handle::track(&handle, at) };
        }
        self.ready.push_back(handle);
    }
}

impl EventLoop {
    /// The calling thread has run the loop, or has left something for a thread that does not run it any more.
    ///
    /// # Errors
    /// KeyboardInterrupt and SystemExit raised by the exception handler; OSError from the poller.
    pub(super) fn come_to_rest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        loop {
            // If a thread runs the loop again, this is done at the end of that run.
            let Ok(guard) = this.owner.take() else { return Ok(()) };
            let taken = Self::take_injected(slf);
            let tracked =
                this.state.with_token(Attached::from(slf.py()), |state, at| state.track_handles(at));
            drop(guard);
            tracked.or_raise()?;
            taken?;
            // A thread that pushes looks for the guard afterwards (`inject`), with a fence in between as well: it finds that
            // the guard is gone, or its item is found here.
            fence(Ordering::SeqCst);
            if this.injection_queue.is_empty() {
                return Ok(());
            }
        }
    }
}
