//! A loop that no thread runs: what other threads leave for it, and what the garbage collector sees.
//!
//! A loop that runs is alive. One that rests may be part of a cycle through a handle that the program has, so it shows all
//! that it holds: the handles in its queues are tracked, and the injection queue, which cannot be shown, is empty. Whichever
//! thread finds the loop at rest empties it, in one section of the state: a run that begins or a `close()` waits for that
//! section and does not fail, and no thread's call overtakes an earlier one of its own.

use std::sync::atomic::{Ordering, fence};

use pyo3::prelude::*;

use super::{EventLoop, Handle, Injected, LoopState};
use crate::errors::OrRaise;
use crate::interpreter::Attached;
use whorl_core::sched::InjectionQueue;

impl LoopState {
    /// Takes what other threads have left while the loop rests: the calls are ready, what has to be done outside a section
    /// waits for the next run.
    fn take_at_rest(&mut self, at: Attached<'_>, injection_queue: &InjectionQueue<Injected>) {
        injection_queue.drain(|item| match item {
            Injected::Soon(handle) => self.push_tracked(at, handle),
            later => self.for_next_run.push(later),
        });
    }

    fn push_tracked(&mut self, at: Attached<'_>, handle: Py<Handle>) {
        // SAFETY: handles are tracked in a section over their loop's state alone, and this is one.
        unsafe { Handle::track(&handle, at) };
        self.ready.push_back(handle);
    }

    /// Puts `handle` behind the ready ones; `at_rest` is the injection queue of a loop that no thread runs, whose calls
    /// come first.
    #[inline]
    pub(super) fn push(
        &mut self,
        at: Attached<'_>,
        handle: Py<Handle>,
        at_rest: Option<&InjectionQueue<Injected>>,
    ) {
        if let Some(injection_queue) = at_rest {
            self.take_at_rest(at, injection_queue);
            self.push_tracked(at, handle);
        } else {
            self.ready.push_back(handle);
        }
    }
}

impl EventLoop {
    /// The injection queue, if no thread runs the loop.
    #[inline]
    pub(super) fn at_rest(&self) -> Option<&InjectionQueue<Injected>> {
        if self.owner.is_held() { None } else { Some(&*self.injection_queue) }
    }

    /// The calling thread has run the loop and has given up its guard.
    pub(super) fn come_to_rest(slf: &Bound<'_, Self>) {
        // A thread that pushes checks the guard afterwards (`inject`), with a fence in between as well: it finds that the
        // guard is gone, or its item is found here.
        fence(Ordering::SeqCst);
        // An error if a thread runs the loop again: then this is done at the end of that run.
        let _runs_again = slf.get().state.with_token(Attached::from(slf.py()), |state, at| {
            for handle in state.ready.iter().chain(&state.progress.entered) {
                // SAFETY: as in `push_tracked`.
                unsafe { Handle::track(handle, at) };
            }
        });
        Self::take_at_rest(slf);
    }

    /// Takes what the calling thread has left for a loop whose run has ended meanwhile.
    pub(super) fn take_at_rest(slf: &Bound<'_, Self>) {
        let this = slf.get();
        // An error if a thread runs the loop again, which takes it.
        let _runs_again = this.state.with_token(Attached::from(slf.py()), |state, at| {
            if let Some(injection_queue) = this.at_rest() {
                state.take_at_rest(at, injection_queue);
            }
        });
    }

    /// The calling thread begins to run the loop, and has the guard: what waited for that is injected again.
    ///
    /// # Errors
    /// RuntimeError with the state open further up.
    pub(super) fn leave_rest(&self) -> PyResult<()> {
        for item in self.state.with(|state| std::mem::take(&mut state.for_next_run)).or_raise()? {
            self.injection_queue.push(item).or_raise()?;
        }
        Ok(())
    }
}
