//! What runs next, and how long the loop may sleep: plain data, generic over what is scheduled.
//!
//! One turn of a loop is: take what other threads left in the [`InjectionQueue`], poll when [`Pace`] says that it is due,
//! move due timers out of [`Timers`], then run what was ready when the turn began. The loop that owns the I/O performs
//! these steps; nothing here blocks or reads a clock.

mod fork;
mod injection_queue;
mod kept_guard;
mod owner;
mod pace;
mod section;
mod step;
mod sync;
mod timers;
mod turn;

pub use fork::Process;
pub use injection_queue::InjectionQueue;
pub use kept_guard::KeptGuard;
pub use owner::{BorrowError, LoopOwner, OwnerCell, OwnerGuard, SectionToken, this_thread};
pub use pace::Pace;
#[cfg(all(debug_assertions, not(loom)))]
pub use section::is_anything_open;
pub use section::{Section, assert_nothing_open};
pub use step::{Budget, Outlook, Sleep, StalePolls};
pub use timers::{NEVER, TimerKey, Timers};
pub use turn::Turn;
