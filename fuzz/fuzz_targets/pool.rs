//! The pool does what its model does: no permit too many, none lost, no connection for two, first come first served.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whorl_core::client::pool::{Checkout, Drained, PoolKey, Permit, PoolLimits, Pool, Released, WaiterId};

/// The same as in the tests of the core.
#[path = "../../crates/core/src/client/pool/tests/model.rs"]
mod model;

fuzz_target!(|input: (u8, u8, Option<u8>, Vec<[u8; 3]>)| {
    let (total, per_host, keep_alive, operations) = input;
    let limits = PoolLimits {
        total: usize::from(total % 8),
        per_host: usize::from(per_host % 4),
        keep_alive: keep_alive.map(u64::from),
    };
    model::Pair::new(limits).run(operations.into_iter().map(model::Operation::decode));
});
