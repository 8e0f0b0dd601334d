//! What runs next, and how long the loop may sleep: plain data, generic over what is scheduled.
//!
//! One turn of a loop is: take what other threads left in the [`InjectionQueue`], poll when [`Pace`] says that it is due,
//! move due timers out of [`Timers`], then run what was ready when the turn began. The loop that owns the I/O performs
//! these steps; nothing here blocks or reads a clock.

mod fork;
mod injection_queue;
mod owner;
mod pace;
mod step;
mod sync;
mod timers;
mod turn;

pub use fork::Process;
pub use injection_queue::InjectionQueue;
#[cfg(all(debug_assertions, not(loom)))]
pub use owner::is_anything_open;
pub use owner::{
    BorrowError, KeptGuard, LoopOwner, OwnerCell, OwnerGuard, Section, SectionToken, assert_nothing_open,
    this_thread,
};
pub use pace::Pace;
pub use step::{Budget, Outlook, Sleep, StalePolls};
pub use timers::{TimerKey, Timers};
pub use turn::Turn;
