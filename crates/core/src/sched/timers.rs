//! Timers: a heap by deadline in which every timer knows its place, so that a cancelled one is removed at once.

use slab::Slab;

/// Children of one node: a heap of four is half as deep as one of two, and its siblings share a cache line or two.
const ARITY: usize = 4;

/// The deadline of a timer that is never due: an infinite time, or one beyond the 584 years that the clock can show.
pub const NEVER: u64 = u64::MAX;

/// Names one timer of a [`Timers`]. After the timer was due or removed, the key names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    slot: u32,
    /// The low half of the timer's serial number, which distinguishes it from a timer that uses the slot later.
    generation: u32,
}

impl TimerKey {
    /// The key as a number, for an atomic.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.slot as u64) << 32 | self.generation as u64
    }

    /// The key that [`TimerKey::to_bits`] gave.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { slot: (bits >> 32) as u32, generation: bits as u32 }
    }
}

/// What the heap compares: no item is touched while it is put in order.
#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: u64,
    /// Timers with one deadline are due in the order in which they were made.
    serial: u64,
    slot: u32,
}

impl Node {
    const fn is_before(&self, other: &Self) -> bool {
        self.deadline < other.deadline || (self.deadline == other.deadline && self.serial < other.serial)
    }
}

#[derive(Debug)]
struct Entry<T> {
    /// Index of the entry's node in the heap.
    position: u32,
    generation: u32,
    item: T,
}

/// Timers by deadline, in nanoseconds of the caller's clock.
///
/// A timer that is made last mostly has the latest deadline, so making and removing it moves no other: both cost O(1)
/// in this case and O(log n) in any other. A removed timer leaves nothing behind.
#[derive(Debug)]
pub struct Timers<T> {
    heap: Vec<Node>,
    entries: Slab<Entry<T>>,
    next_serial: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), entries: Slab::new(), next_serial: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a timer that is due at `deadline`.
    pub fn push(&mut self, deadline: u64, item: T) -> TimerKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        let position = self.heap.len();
        let generation = serial as u32;
        // A heap of more than 2^32 timers needs more memory than any machine has.
        let slot = self.entries.insert(Entry { position: position as u32, generation, item }) as u32;
        self.heap.push(Node { deadline, serial, slot });
        self.sift_up(position);
        TimerKey { slot, generation }
    }

    /// The deadline of the timer that is due next; none if no timer is, or only timers for [`NEVER`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.heap.first().map(|node| node.deadline).filter(|deadline| *deadline != NEVER)
    }

    /// Removes the next timer if it is due at `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<T> {
        let first = self.heap.first().filter(|node| node.deadline <= now)?;
        let slot = first.slot;
        self.remove_node(0);
        self.entries.try_remove(slot as usize).map(|entry| entry.item)
    }

    /// Removes the timer of `key`; nothing if it was due or was removed before.
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.slot as usize).filter(|entry| entry.generation == key.generation)?;
        self.remove_node(entry.position as usize);
        self.entries.try_remove(key.slot as usize).map(|entry| entry.item)
    }

    /// The number of timers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// All items, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.item)
    }

    /// Removes all timers and returns their items, in no order.
    pub fn drain(&mut self) -> Vec<T> {
        self.heap.clear();
        self.entries.drain().map(|entry| entry.item).collect()
    }

    /// Takes the node at `position` out of the heap; its entry stays.
    fn remove_node(&mut self, position: usize) {
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            // The last node stands here now. It may belong further down or, from another branch, further up.
            self.note_position(position);
            self.sift_down(position);
            self.sift_up(position);
        }
    }

    fn sift_up(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !self.heap[position].is_before(&self.heap[parent]) {
                break;
            }
            self.swap(position, parent);
            position = parent;
        }
    }

    fn sift_down(&mut self, mut position: usize) {
        loop {
            let first = position * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(least) =
                children.reduce(
                    |least, child| {
                        if self.heap[child].is_before(&self.heap[least]) { child } else { least }
                    },
                )
            else {
                break;
            };
            if !self.heap[least].is_before(&self.heap[position]) {
                break;
            }
            self.swap(position, least);
            position = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note_position(a);
        self.note_position(b);
    }

    fn note_position(&mut self, position: usize) {
        let slot = self.heap[position].slot as usize;
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.position = position as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timer_for_never_is_no_deadline() {
        let mut timers = Timers::default();
        let key = timers.push(NEVER, "never");
        assert_eq!(timers.next_deadline(), None);
        timers.push(7, "once");
        assert_eq!(timers.next_deadline(), Some(7));
        assert_eq!(timers.pop_due(u64::MAX - 1), Some("once"));
        assert_eq!(timers.next_deadline(), None);
        assert_eq!(timers.remove(key), Some("never"));
    }

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
    fn a_removed_timer_leaves_nothing_behind() {
        let mut timers = Timers::default();
        for deadline in 0..1_000 {
            let key = timers.push(deadline, ());
            assert_eq!(timers.remove(key), Some(()));
        }
        assert!(timers.is_empty());
        assert!(timers.heap.capacity() <= 8 && timers.entries.capacity() <= 8, "one place is used again");
    }

    #[test]
    fn a_key_names_no_later_timer() {
        let mut timers = Timers::default();
        let due = timers.push(1, 'a');
        assert_eq!(timers.pop_due(1), Some('a'));
        let removed = timers.push(2, 'b');
        assert_eq!((timers.remove(due), timers.remove(removed)), (None, Some('b')));
        timers.push(3, 'c');
        assert_eq!((timers.remove(due), timers.remove(removed)), (None, None));
        let key = timers.push(4, 'd');
        assert_eq!(TimerKey::from_bits(key.to_bits()), key);
        assert_eq!(timers.drain().len(), 2);
        assert_eq!(timers.remove(key), None);
    }

    proptest! {
        #[test]
        fn timers_are_due_by_deadline_then_age(deadlines in prop::collection::vec(0_u64..50, 0..200)) {
            let mut timers = Timers::default();
            for (age, deadline) in deadlines.iter().enumerate() {
                timers.push(*deadline, (*deadline, age));
            }
            let mut expected: Vec<_> = deadlines.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(u64::MAX)).collect();
            prop_assert_eq!(order, expected);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Makes a timer that is due after this delay.
        Push(u64),
        /// Removes a timer, by its number modulo their count; it may be gone.
        Remove(usize),
        /// Moves the clock and removes the timers that are due.
        Advance(u64),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            400 => (0_u64..500).prop_map(Step::Push),
            300 => any::<usize>().prop_map(Step::Remove),
            20 => (0_u64..30).prop_map(Step::Advance),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..800)
    }

    proptest! {
        #[test]
        fn any_mixture_of_steps_agrees_with_a_sorted_map(steps in steps()) {
            let mut timers = Timers::default();
            // By deadline and age.
            let mut model = std::collections::BTreeSet::new();
            let mut made = Vec::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Push(delay) => {
                        let timer = (now + delay, made.len());
                        model.insert(timer);
                        made.push((timer, timers.push(now + delay, timer)));
                    }
                    Step::Remove(number) => {
                        let Some((timer, key)) = made.get(number % made.len().max(1)) else { continue };
                        let expected = model.remove(timer).then_some(*timer);
                        prop_assert_eq!(timers.remove(*key), expected);
                    }
                    Step::Advance(by) => {
                        now += by;
                        while let Some(timer) = timers.pop_due(now) {
                            prop_assert!(timer.0 <= now, "never early");
                            prop_assert_eq!(model.pop_first(), Some(timer));
                        }
                        prop_assert!(model.first().is_none_or(|(deadline, _)| *deadline > now), "never late");
                    }
                    Step::Drain => {
                        let mut drained = timers.drain();
                        drained.sort_unstable();
                        prop_assert!(drained.iter().eq(model.iter()));
                        model.clear();
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.iter().count(), model.len());
                prop_assert_eq!(timers.next_deadline(), model.first().map(|(deadline, _)| *deadline));
            }
        }
    }
}
