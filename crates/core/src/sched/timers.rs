//! Timers: a heap by deadline that forgets cancelled entries before they pile up.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};

/// Fewer cancelled entries than this are not worth a sweep.
const SWEEP_AT_LEAST: usize = 64;

#[derive(Debug)]
struct Entry<H> {
    deadline: u64,
    /// Ties are run in the order in which they were made.
    serial: u64,
    item: H,
}

impl<H> PartialEq for Entry<H> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<H> Eq for Entry<H> {}

impl<H> PartialOrd for Entry<H> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<H> Ord for Entry<H> {
    /// Reversed, as `BinaryHeap` gives its greatest and the next timer is the least.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.deadline, other.serial).cmp(&(self.deadline, self.serial))
    }
}

/// How many cancelled entries a heap of timers has: a timer that is cancelled notes itself, on whatever thread that is.
#[derive(Clone, Debug, Default)]
pub struct CancelledTimers(Arc<AtomicUsize>);

impl CancelledTimers {
    /// Notes one more.
    pub fn note(&self) {
        self.0.fetch_add(1, Memory::Relaxed);
    }

    fn forget_one(&self) {
        // None is left if a sweep has just counted it.
        let _none = self.0.fetch_update(Memory::Relaxed, Memory::Relaxed, |count| count.checked_sub(1));
    }

    fn forget_all(&self) {
        self.0.store(0, Memory::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Memory::Relaxed)
    }
}

/// Timers by deadline, in nanoseconds of the caller's clock.
///
/// A cancelled timer stays in the heap as a cancelled entry until it comes up or until cancelled entries are the greater part, when one sweep
/// drops them all: cancelling costs O(1), and a million timers made and cancelled hold no more than a few hundred cancelled entries.
#[derive(Debug)]
pub struct Timers<H> {
    heap: BinaryHeap<Entry<H>>,
    next_serial: u64,
    cancelled: CancelledTimers,
}

impl<H> Default for Timers<H> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next_serial: 0, cancelled: CancelledTimers::default() }
    }
}

impl<H> Timers<H> {
    /// Enters `item`, to come up at `deadline`.
    pub fn push(&mut self, deadline: u64, item: H) {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.heap.push(Entry { deadline, serial, item });
    }

    /// When the next timer comes up; a cancelled entry counts, it only makes the loop look once too often.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.deadline)
    }

    /// Takes out the next timer if it is due at `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<H> {
        let entry = self.heap.peek_mut()?;
        if entry.deadline > now {
            return None;
        }
        Some(std::collections::binary_heap::PeekMut::pop(entry).item)
    }

    /// Where an entry notes that it is cancelled.
    #[must_use]
    pub const fn cancelled(&self) -> &CancelledTimers {
        &self.cancelled
    }

    /// Whether a [`Timers::sweep`] is due.
    #[must_use]
    pub fn is_sweep_due(&self) -> bool {
        let cancelled = self.cancelled.count();
        cancelled >= SWEEP_AT_LEAST && cancelled * 2 > self.heap.len()
    }

    /// Notes that a cancelled entry came up by itself.
    pub fn forget_cancelled(&self) {
        self.cancelled.forget_one();
    }

    /// Takes out every entry that `is_cancelled_entry`, into `cancelled`, to be dropped where dropping is allowed.
    pub fn sweep(&mut self, mut is_cancelled_entry: impl FnMut(&H) -> bool, cancelled: &mut Vec<H>) {
        let entries = std::mem::take(&mut self.heap).into_vec();
        let count = self.cancelled.count().min(entries.len());
        let mut kept = Vec::with_capacity(entries.len() - count);
        cancelled.reserve(count);
        for entry in entries {
            if is_cancelled_entry(&entry.item) {
                cancelled.push(entry.item);
            } else {
                kept.push(entry);
            }
        }
        self.heap = BinaryHeap::from(kept);
        self.cancelled.forget_all();
    }

    /// How many entries there are, cancelled ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &H> {
        self.heap.iter().map(|entry| &entry.item)
    }

    /// Takes every entry out, in no order.
    pub fn drain(&mut self) -> Vec<H> {
        self.cancelled.forget_all();
        std::mem::take(&mut self.heap).into_vec().into_iter().map(|entry| entry.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_keep_their_order() {
        let mut timers = Timers::default();
        for item in 0..100 {
            timers.push(5, item);
        }
        let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(5)).collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_timer_is_never_early() {
        let mut timers = Timers::default();
        timers.push(10, ());
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(10), Some(()));
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let mut timers = Timers::default();
        let mut cancelled = Vec::new();
        let mut most = 0;
        for deadline in 0..100_000 {
            timers.push(deadline, true);
            timers.cancelled().note();
            if timers.is_sweep_due() {
                timers.sweep(|cancelled| *cancelled, &mut cancelled);
                cancelled.clear();
            }
            most = most.max(timers.len());
        }
        assert!(most <= 2 * SWEEP_AT_LEAST, "{most}");
    }

    proptest! {
        #[test]
        fn comes_out_sorted_by_deadline_then_age(deadlines in prop::collection::vec(0_u64..50, 0..200)) {
            let mut timers = Timers::default();
            for (age, deadline) in deadlines.iter().enumerate() {
                timers.push(*deadline, (*deadline, age));
            }
            let mut expected: Vec<_> = deadlines.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(u64::MAX)).collect();
            prop_assert_eq!(order, expected);
        }

        #[test]
        fn a_sweep_takes_the_cancelled_and_no_other(items in prop::collection::vec((0_u64..50, any::<bool>()), 0..200)) {
            let mut timers = Timers::default();
            for item in &items {
                timers.push(item.0, *item);
            }
            let mut cancelled = Vec::new();
            timers.sweep(|item| item.1, &mut cancelled);
            prop_assert!(cancelled.iter().all(|item| item.1));
            prop_assert_eq!(cancelled.len() + timers.len(), items.len());
            let kept: Vec<_> = std::iter::from_fn(|| timers.pop_due(u64::MAX)).collect();
            prop_assert!(kept.iter().all(|item| !item.1));
            prop_assert!(kept.is_sorted_by_key(|item| item.0));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A timer so far from now.
        Push(u64),
        /// Cancels a timer, by its number counted round.
        Cancel(usize),
        /// Time goes by, and what is due is taken out.
        Advance(u64),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            400 => (0_u64..500).prop_map(Step::Push),
            600 => any::<usize>().prop_map(Step::Cancel),
            20 => (0_u64..30).prop_map(Step::Advance),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..800)
    }

    proptest! {
        #[test]
        fn any_mixture_of_steps_agrees_with_a_sorted_map(steps in steps()) {
            let mut timers = Timers::default();
            // By deadline and age: whether it is cancelled.
            let mut model = std::collections::BTreeMap::new();
            let mut deadlines = Vec::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Push(delay) => {
                        let age = deadlines.len();
                        deadlines.push(now + delay);
                        model.insert((now + delay, age), false);
                        timers.push(now + delay, (now + delay, age));
                    }
                    Step::Cancel(number) => {
                        let age = number % deadlines.len().max(1);
                        let key = deadlines.get(age).map(|deadline| (*deadline, age));
                        let Some(cancelled) = key.and_then(|key| model.get_mut(&key)) else { continue };
                        if std::mem::replace(cancelled, true) {
                            continue;
                        }
                        let cancelled = model.values().filter(|cancelled| **cancelled).count();
                        timers.cancelled().note();
                        let sweeps = timers.is_sweep_due();
                        prop_assert_eq!(sweeps, cancelled >= SWEEP_AT_LEAST && 2 * cancelled > model.len());
                        if sweeps {
                            let mut swept = Vec::new();
                            timers.sweep(|key| model.get(key) == Some(&true), &mut swept);
                            prop_assert_eq!(swept.len(), cancelled);
                            for entry in swept {
                                prop_assert_eq!(model.remove(&entry), Some(true));
                            }
                        }
                    }
                    Step::Advance(by) => {
                        now += by;
                        while let Some(key) = timers.pop_due(now) {
                            prop_assert!(key.0 <= now, "never early");
                            let first = model.pop_first();
                            prop_assert_eq!(first.map(|(first, _)| first), Some(key));
                            if first.is_some_and(|(_, cancelled)| cancelled) {
                                timers.forget_cancelled();
                            }
                        }
                        let next = model.keys().next();
                        prop_assert!(next.is_none_or(|(deadline, _)| *deadline > now), "never late");
                    }
                    Step::Drain => {
                        let mut drained = timers.drain();
                        drained.sort_unstable();
                        prop_assert!(drained.iter().eq(model.keys()));
                        model.clear();
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next_deadline(), model.keys().next().map(|(deadline, _)| *deadline));
            }
        }
    }
}
