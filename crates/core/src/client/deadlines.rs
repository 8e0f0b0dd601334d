//! Deadlines of thousands of requests that have a handful of distinct timeouts between them.
//!
//! A client's requests nearly all have the same few timeouts, so those with one timeout run out in the order in which
//! they began: a queue for each timeout takes the place of a heap, or of a timer for each request. One timer of the
//! event loop, at [`Deadlines::next_deadline`], serves them all.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use slab::Slab;

use super::list::{Linked, Links, List};

/// So many lanes stay when they are empty: their timeouts are likely to be used again. More lanes than these are
/// one-time timeouts.
const KEPT_LANES: usize = 16;

/// A deadline that has been set, until it is removed or has passed.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a deadline that is not removed passes"]
pub struct DeadlineId {
    slot: usize,
    serial: u64,
}

#[derive(Debug)]
struct Entry<T> {
    lane: usize,
    serial: u64,
    deadline: u64,
    item: T,
    links: Links,
}

/// The list of one lane.
#[derive(Debug)]
struct OfLane;

impl<T> Linked<OfLane> for Entry<T> {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// The deadlines of one timeout, the earliest first.
#[derive(Debug)]
struct Lane {
    timeout: u64,
    entries: List<OfLane>,
}

/// Deadlines, each with a value that is returned when it has passed. Times are nanoseconds of the caller's clock, and
/// `now` never goes back.
///
/// Setting and removing a deadline are O(1). [`Deadlines::next_deadline`] and [`Deadlines::expire`] check each
/// distinct timeout in use, and are meant to be called when a timer fires, not for each request: a caller that sets a
/// deadline earlier than the timer's moves the timer; a removed deadline leaves it alone, and the timer fires once for
/// nothing.
///
/// ```
/// use whorl_core::client::deadlines::Deadlines;
///
/// let mut deadlines = Deadlines::default();
/// let first = deadlines.insert(300, 0, "first");
/// let _second = deadlines.insert(100, 50, "second");
/// assert_eq!(deadlines.next_deadline(), Some(150));
/// assert_eq!(deadlines.remove(first), Some("first"));
/// let mut passed = Vec::new();
/// deadlines.expire(150, &mut passed);
/// assert_eq!(passed, ["second"]);
/// ```
#[derive(Debug)]
pub struct Deadlines<T> {
    entries: Slab<Entry<T>>,
    lanes: Slab<Lane>,
    /// The lane of each timeout.
    by_timeout: HashMap<u64, usize, BuildHasherDefault<Multiply>>,
    serial: u64,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self { entries: Slab::new(), lanes: Slab::new(), by_timeout: HashMap::default(), serial: 0 }
    }
}

impl<T> Deadlines<T> {
    /// Sets a deadline `timeout` nanoseconds from `now`.
    pub fn insert(&mut self, timeout: u64, now: u64, item: T) -> DeadlineId {
        let lanes = &mut self.lanes;
        let lane = *self
            .by_timeout
            .entry(timeout)
            .or_insert_with(|| lanes.insert(Lane { timeout, entries: List::default() }));
        let serial = self.serial;
        self.serial += 1;
        let deadline = now.saturating_add(timeout);
        let slot = self.entries.insert(Entry { lane, serial, deadline, item, links: Links::default() });
        self.lanes[lane].entries.push(&mut self.entries, slot);
        DeadlineId { slot, serial }
    }

    /// Takes a deadline back; `None` if it has passed.
    pub fn remove(&mut self, id: DeadlineId) -> Option<T> {
        self.entries.get(id.slot).filter(|entry| entry.serial == id.serial)?;
        Some(self.take(id.slot))
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.lanes
            .iter()
            .filter_map(|(_, lane)| lane.entries.first())
            .map(|slot| self.entries[slot].deadline)
            .min()
    }

    /// Takes out the values of deadlines due at `now`, into `out`: the earliest first, and of equals the one that was
    /// set first.
    pub fn expire(&mut self, now: u64, out: &mut Vec<T>) {
        while let Some((deadline, _, slot)) = self
            .lanes
            .iter()
            .filter_map(|(_, lane)| lane.entries.first())
            .map(|slot| (self.entries[slot].deadline, self.entries[slot].serial, slot))
            .min()
        {
            if deadline > now {
                break;
            }
            out.push(self.take(slot));
        }
    }

    /// How many deadlines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The items that have a deadline, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.item)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, slot: usize) -> T {
        let lane = self.entries[slot].lane;
        let entries = &mut self.lanes[lane].entries;
        entries.unlink(&mut self.entries, slot);
        if entries.first().is_none() && self.lanes.len() > KEPT_LANES {
            let Lane { timeout, .. } = self.lanes.remove(lane);
            self.by_timeout.remove(&timeout);
        }
        self.entries.remove(slot).item
    }
}

/// Hashes a timeout by one multiplication (Fibonacci hashing): timeouts are the program's own, not a stranger's.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes its bits from both ends.
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{DeadlineId, Deadlines, KEPT_LANES};

    #[test]
    fn they_pass_in_order_across_timeouts() {
        let mut deadlines = Deadlines::default();
        let _late = deadlines.insert(300, 0, "late");
        let _early = deadlines.insert(10, 5, "early");
        let _middle = deadlines.insert(300, 1, "middle");
        let _same = deadlines.insert(301, 0, "same");
        assert_eq!(deadlines.next_deadline(), Some(15));
        let mut out = Vec::new();
        deadlines.expire(14, &mut out);
        assert!(out.is_empty());
        deadlines.expire(1000, &mut out);
        assert_eq!(out, ["early", "late", "middle", "same"]);
        assert_eq!((deadlines.len(), deadlines.next_deadline()), (0, None));
    }

    #[test]
    fn a_slot_that_has_passed_removes_nothing_else() {
        let mut deadlines = Deadlines::default();
        let gone = deadlines.insert(10, 0, 1);
        deadlines.expire(10, &mut Vec::new());
        let id = deadlines.insert(10, 10, 2);
        assert_eq!(deadlines.remove(gone), None);
        assert_eq!(deadlines.remove(id), Some(2));
    }

    #[test]
    fn the_end_of_time_is_a_deadline_too() {
        let mut deadlines = Deadlines::default();
        let _slot = deadlines.insert(u64::MAX, 5, 1);
        assert_eq!(deadlines.next_deadline(), Some(u64::MAX));
    }

    #[test]
    fn timeouts_that_are_not_repeated_are_forgotten() {
        let mut deadlines = Deadlines::default();
        for timeout in 1..10_000 {
            let id = deadlines.insert(timeout, 0, timeout);
            assert_eq!(deadlines.remove(id), Some(timeout));
        }
        assert!(deadlines.lanes.len() <= KEPT_LANES && deadlines.by_timeout.len() <= KEPT_LANES);
    }

    #[derive(Clone, Copy, Debug)]
    enum Operation {
        Insert(u64),
        Remove(usize),
        Advance(u64),
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let timeout = prop_oneof![prop::sample::select(vec![5, 30, 300]), 0..400u64];
        prop::collection::vec(
            prop_oneof![
                3 => timeout.prop_map(Operation::Insert),
                2 => any::<usize>().prop_map(Operation::Remove),
                1 => (0..100u64).prop_map(Operation::Advance),
            ],
            0..200,
        )
    }

    proptest! {
        #[test]
        fn they_are_a_sorted_map(operations in operations()) {
            let mut deadlines = Deadlines::default();
            // By deadline, then by age.
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut slots: Vec<(DeadlineId, u64, u64)> = Vec::new();
            let (mut now, mut age) = (0, 0);
            for operation in operations {
                match operation {
                    Operation::Insert(timeout) => {
                        age += 1;
                        slots.push((deadlines.insert(timeout, now, age), now + timeout, age));
                        model.insert((now + timeout, age), age);
                    }
                    Operation::Remove(slot) => {
                        if !slots.is_empty() {
                            let (id, deadline, age) = slots.swap_remove(slot % slots.len());
                            prop_assert_eq!(deadlines.remove(id), model.remove(&(deadline, age)));
                        }
                    }
                    Operation::Advance(by) => {
                        now += by;
                        let later = model.split_off(&(now + 1, 0));
                        let due: Vec<u64> = std::mem::replace(&mut model, later).into_values().collect();
                        let mut out = Vec::new();
                        deadlines.expire(now, &mut out);
                        prop_assert_eq!(out, due);
                    }
                }
                prop_assert_eq!(deadlines.len(), model.len());
                prop_assert_eq!(deadlines.is_empty(), model.is_empty());
                prop_assert_eq!(deadlines.next_deadline(), model.keys().next().map(|(deadline, _)| *deadline));
                let used = deadlines.lanes.iter().filter(|(_, lane)| lane.entries.first().is_some()).count();
                prop_assert!(deadlines.lanes.len() <= used.max(KEPT_LANES + 1) + KEPT_LANES);
                prop_assert_eq!(deadlines.lanes.len(), deadlines.by_timeout.len());
            }
        }
    }
}
