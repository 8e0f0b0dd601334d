//! The pool with numbers for connections.

mod model;

use std::sync::Arc;

use proptest::prelude::*;

use self::model::{Operation, Pair};
use super::{Checkout, Drained, Permit, Pool, PoolKey, PoolLimits, Released, WaiterId};

const SECOND: u64 = 1_000_000_000;

fn pool(total: usize, per_host: usize) -> Pool<&'static str, u32> {
    Pool::new(PoolLimits { total, per_host, keep_alive: Some(15 * SECOND) })
}

#[track_caller]
fn opens(checkout: Checkout<u32>) -> Permit {
    let Checkout::Open(permit) = checkout else { panic!("{checkout:?}") };
    permit
}

#[track_caller]
fn reuses(checkout: Checkout<u32>, connection: u32) -> Permit {
    let Checkout::Reuse(permit, other) = checkout else { panic!("{checkout:?}") };
    assert_eq!(other, connection);
    permit
}

#[track_caller]
fn waits(checkout: Checkout<u32>) -> WaiterId {
    let Checkout::Wait(waiter) = checkout else { panic!("{checkout:?}") };
    waiter
}

#[test]
fn the_connection_that_was_used_last_is_used_first() {
    let mut pool = pool(0, 0);
    let key = PoolKey::new("a");
    let permits = [(); 3].map(|()| opens(pool.checkout(&key, 0)));
    for (permit, connection) in permits.into_iter().zip(1..) {
        assert_eq!(pool.release(permit, Some(connection), u64::from(connection)), Released::Free);
    }
    let _permit = reuses(pool.checkout(&key, 9), 3);
    let _permit = reuses(pool.checkout(&key, 9), 2);
    let _permit = reuses(pool.checkout(&PoolKey::new("a"), 9), 1);
    let _permit = opens(pool.checkout(&key, 9));
}

#[test]
fn a_connection_serves_only_its_own_key() {
    let mut pool = pool(0, 0);
    let permit = opens(pool.checkout(&PoolKey::new("a"), 0));
    assert_eq!(pool.release(permit, Some(1), 0), Released::Free);
    let permit = opens(pool.checkout(&PoolKey::new("b"), 0));
    assert_eq!(**pool.key(&permit), "b");
}

#[test]
fn idle_connections_expire() {
    let mut pool = pool(0, 0);
    let (a, b) = (PoolKey::new("a"), PoolKey::new("b"));
    assert_eq!(pool.next_expiry(), None);
    for (key, connection, now) in [(&a, 1, 10), (&b, 2, 20), (&b, 3, 30)] {
        let permit = match pool.checkout(key, now) {
            Checkout::Open(permit) => permit,
            Checkout::Reuse(permit, taken) => {
                // 2 is in use while 3 is opened.
                let other = opens(pool.checkout(key, now));
                assert_eq!(pool.release(permit, Some(taken), now), Released::Free);
                other
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(pool.release(permit, Some(connection), now), Released::Free);
    }
    assert_eq!(pool.next_expiry(), Some(15 * SECOND + 10));
    let mut out = Vec::new();
    pool.expire(15 * SECOND + 9, &mut out);
    assert!(out.is_empty());
    // An expired one is not handed out, whether it has been taken out or not.
    let permit = opens(pool.checkout(&a, 15 * SECOND + 10));
    assert_eq!(pool.release(permit, None, 15 * SECOND + 10), Released::Free);
    pool.expire(15 * SECOND + 30, &mut out);
    assert_eq!(out, [1, 2, 3]);
    assert_eq!((pool.next_expiry(), pool.idle().count()), (None, 0));
}

#[test]
fn connections_may_be_kept_without_limit() {
    let mut pool = Pool::new(PoolLimits { keep_alive: None, ..PoolLimits::default() });
    let key = PoolKey::new("a");
    let permit = opens(pool.checkout(&key, 0));
    assert_eq!(pool.release(permit, Some(1), 0), Released::Free);
    assert_eq!(pool.next_expiry(), None);
    let mut out = Vec::new();
    pool.expire(u64::MAX, &mut out);
    assert!(out.is_empty());
    let _permit = reuses(pool.checkout(&key, u64::MAX), 1);
}

#[test]
fn the_next_in_the_queue_has_the_connection() {
    let mut pool = pool(1, 0);
    let key = PoolKey::new("a");
    let permit = opens(pool.checkout(&key, 0));
    let first = waits(pool.checkout(&key, 0));
    let second = waits(pool.checkout(&key, 0));
    assert_eq!(pool.claim(first), None);
    assert_eq!(pool.release(permit, Some(1), 0), Released::Woken(first));
    // No waiter overtakes while the woken one has not claimed its grant.
    let third = waits(pool.checkout(&key, 0));
    let claimed = pool.claim(first);
    let permit = reuses(claimed.unwrap(), 1);
    assert_eq!(pool.claim(first), None);
    // A closed connection: the next opens its own.
    assert_eq!(pool.release(permit, None, 0), Released::Woken(second));
    let permit = opens(pool.claim(second).unwrap());
    assert_eq!(pool.release(permit, Some(2), 0), Released::Woken(third));
}

#[test]
fn a_slot_goes_to_another_host_and_the_connection_stays() {
    let mut pool = pool(1, 0);
    let (a, b) = (PoolKey::new("a"), PoolKey::new("b"));
    let permit = opens(pool.checkout(&a, 0));
    let for_b = waits(pool.checkout(&b, 0));
    let for_a = waits(pool.checkout(&a, 0));
    assert_eq!(pool.release(permit, Some(1), 0), Released::Woken(for_b));
    let permit = opens(pool.claim(for_b).unwrap());
    assert_eq!(pool.release(permit, Some(2), 0), Released::Woken(for_a));
    let permit = reuses(pool.claim(for_a).unwrap(), 1);
    assert_eq!((pool.acquired(), pool.acquired_of(&a), pool.acquired_of(&b)), (1, 1, 0));
    assert_eq!(pool.release(permit, Some(1), 0), Released::Free);
    assert_eq!(pool.idle().count(), 2);
}

#[test]
fn a_waiter_for_a_full_host_holds_no_other_up() {
    let mut pool = pool(3, 2);
    let (a, b) = (PoolKey::new("a"), PoolKey::new("b"));
    let of_a = [(); 2].map(|()| opens(pool.checkout(&a, 0)));
    let behind = [(); 5].map(|()| waits(pool.checkout(&a, 0)));
    let of_b = opens(pool.checkout(&b, 0));
    let for_b = waits(pool.checkout(&b, 0));
    // `b` has waited for less long, but host a is full whatever b gives back.
    assert_eq!(pool.release(of_b, None, 0), Released::Woken(for_b));
    let of_b = opens(pool.claim(for_b).unwrap());
    // Now a permit of host a: its first waiter, before any later waiter.
    let for_b = waits(pool.checkout(&b, 0));
    let [one, _other] = of_a;
    assert_eq!(pool.release(one, None, 0), Released::Woken(behind[0]));
    assert_eq!(pool.release(of_b, None, 0), Released::Woken(for_b));
}

#[test]
fn a_cancelled_waiter_leaves_what_it_had_to_the_next() {
    let mut pool = pool(1, 0);
    let key = PoolKey::new("a");
    let permit = opens(pool.checkout(&key, 0));
    let waiter_ids = [(); 4].map(|()| waits(pool.checkout(&key, 0)));
    assert_eq!(pool.cancel(waiter_ids[1], 0), Released::Free);
    assert_eq!(pool.release(permit, Some(1), 0), Released::Woken(waiter_ids[0]));
    assert_eq!(pool.cancel(waiter_ids[0], 0), Released::Woken(waiter_ids[2]));
    assert_eq!(pool.cancel(waiter_ids[0], 0), Released::Free);
    let permit = reuses(pool.claim(waiter_ids[2]).unwrap(), 1);
    assert_eq!(pool.cancel(waiter_ids[2], 0), Released::Free);
    assert_eq!(pool.acquired(), 1);
    assert_eq!(pool.release(permit, None, 0), Released::Woken(waiter_ids[3]));
    assert_eq!(pool.cancel(waiter_ids[3], 0), Released::Free);
    assert_eq!((pool.acquired(), pool.waiting()), (0, 0));
}

#[test]
fn a_peer_closes_an_idle_connection() {
    let mut pool = pool(0, 0);
    let key = PoolKey::new("a");
    let permits = [(); 3].map(|()| opens(pool.checkout(&key, 0)));
    for (permit, connection) in permits.into_iter().zip(1..) {
        assert_eq!(pool.release(permit, Some(connection), 0), Released::Free);
    }
    assert_eq!(pool.remove_idle(|connection| *connection == 2), Some(2));
    assert_eq!(pool.remove_idle(|connection| *connection == 2), None);
    let _permit = reuses(pool.checkout(&key, 0), 3);
    let _permit = reuses(pool.checkout(&key, 0), 1);
}

#[test]
fn a_closed_pool_keeps_nothing() {
    let mut pool = pool(2, 0);
    let (a, b) = (PoolKey::new("a"), PoolKey::new("b"));
    let of_a = opens(pool.checkout(&a, 0));
    let other = opens(pool.checkout(&b, 0));
    let waiter_ids = [(); 2].map(|()| waits(pool.checkout(&a, 0)));
    assert_eq!(pool.release(other, Some(2), 0), Released::Woken(waiter_ids[0]));
    assert_eq!(pool.close(), Drained { connections: vec![2], waiters: vec![waiter_ids[1]] });
    assert!(pool.is_closed());
    assert_eq!(pool.claim(waiter_ids[0]), None);
    assert_eq!(pool.cancel(waiter_ids[1], 0), Released::Free);
    assert_eq!(pool.checkout(&a, 0), Checkout::Closed);
    assert_eq!(pool.release(of_a, Some(1), 0), Released::Close(1));
    assert_eq!(pool.acquired(), 0);
}

#[test]
fn unused_keys_wait_for_the_caller() {
    let mut pool = Pool::new(PoolLimits { keep_alive: Some(10), ..PoolLimits::default() });
    let open = |pool: &mut Pool<Arc<&str>, u32>, object: &Arc<&'static str>| {
        opens(pool.checkout(&PoolKey::new(Arc::clone(object)), 0))
    };
    let (expired, released, closed) = (Arc::new("a"), Arc::new("b"), Arc::new("c"));
    let (first, second) = (open(&mut pool, &expired), open(&mut pool, &released));
    let third = open(&mut pool, &closed);

    assert_eq!(pool.release(first, Some(1), 0), Released::Free);
    pool.expire(10, &mut Vec::new());
    assert_eq!(pool.release(second, None, 10), Released::Free);
    assert_eq!(pool.release(third, Some(3), 10), Released::Free);
    assert_eq!(pool.close().connections, [3]);

    let objects = [&expired, &released, &closed];
    assert_eq!(objects.map(Arc::strong_count), [2; 3]);
    assert_eq!(pool.take_unused_keys().len(), 3);
    assert_eq!(objects.map(Arc::strong_count), [1; 3]);
}

#[test]
fn hosts_that_are_done_with_are_forgotten() {
    let mut pool: Pool<u32, u32> = Pool::new(PoolLimits::default());
    for host in 0..1000 {
        let key = PoolKey::new(host);
        let permit = opens(pool.checkout(&key, 0));
        assert_eq!(pool.release(permit, (host % 2 == 0).then_some(host), 0), Released::Free);
    }
    pool.expire(u64::MAX, &mut Vec::new());
    assert_eq!((pool.hosts.len(), pool.by_key.len()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn it_agrees_with_the_model(
        total in 0..5usize,
        per_host in 0..4usize,
        keep_alive in prop::option::of(1..1000u64),
        operations in prop::collection::vec(any::<[u8; 3]>().prop_map(Operation::decode), 0..120),
    ) {
        Pair::new(PoolLimits { total, per_host, keep_alive }).run(operations);
    }
}
