//! The atomics and locks of the owner and the injection queue: the standard library's, or loom's under `--cfg loom`,
//! where `make loom` runs the models in which every interleaving of their threads is tried.

#[cfg(not(loom))]
pub use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, fence},
};

#[cfg(loom)]
pub use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, fence},
};
