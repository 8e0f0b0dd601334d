//! Timers are due in the order of a sorted set, never early and each once, and a removed timer is gone.
#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whorl_core::sched::{NEVER, TimerKey, Timers};

#[derive(Arbitrary, Debug)]
enum Operation {
    /// Makes a timer that is due after this delay.
    Push(u16),
    /// Makes so many timers with one deadline.
    PushMany(u8, u8),
    /// Makes a timer for an absolute time, which may be the last there is.
    PushAt(u64),
    /// Removes a timer by its number modulo their count; it may be gone.
    Remove(u16),
    /// Removes every other timer.
    RemoveHalf,
    /// Moves the clock and removes timers that are due, up to so many.
    Advance(u16, u8),
    /// Closes the loop.
    Drain,
}

/// The timers, and a model of them: by deadline, then by age.
#[derive(Default)]
struct Pair {
    timers: Timers<u64>,
    model: BTreeSet<(u64, u64)>,
    made: Vec<(u64, TimerKey)>,
    now: u64,
}

impl Pair {
    fn push(&mut self, deadline: u64) {
        let age = self.made.len() as u64;
        self.model.insert((deadline, age));
        self.made.push((deadline, self.timers.push(deadline, age)));
    }

    fn remove(&mut self, age: u64) {
        let (deadline, key) = self.made[age as usize];
        let expected = self.model.remove(&(deadline, age)).then_some(age);
        assert_eq!(self.timers.remove(key), expected);
    }

    fn advance(&mut self, by: u64, most: usize) {
        self.now = self.now.saturating_add(by);
        for _ in 0..most {
            let due = self.model.first().copied().filter(|(deadline, _)| *deadline <= self.now);
            assert_eq!(self.timers.pop_due(self.now), due.map(|(_, age)| age));
            let Some(due) = due else { break };
            self.model.remove(&due);
        }
    }

    /// That of the first timer, unless it is one that is never due.
    fn next_deadline(&self) -> Option<u64> {
        self.model.first().map(|(deadline, _)| *deadline).filter(|deadline| *deadline != NEVER)
    }

    fn drain(&mut self) {
        let mut drained = self.timers.drain();
        drained.sort_unstable();
        let mut expected: Vec<u64> = self.model.iter().map(|(_, age)| *age).collect();
        expected.sort_unstable();
        assert_eq!(drained, expected);
        self.model.clear();
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut pair = Pair::default();
    for operation in operations {
        let all = pair.made.len() as u64;
        match operation {
            Operation::Push(delay) => pair.push(pair.now.saturating_add(u64::from(delay))),
            Operation::PushMany(count, delay) => {
                (0..count).for_each(|_| pair.push(pair.now.saturating_add(u64::from(delay))));
            }
            Operation::PushAt(deadline) => pair.push(deadline),
            Operation::Remove(number) if all > 0 => pair.remove(u64::from(number) % all),
            Operation::Remove(_) => {}
            Operation::RemoveHalf => (0..all).step_by(2).for_each(|age| pair.remove(age)),
            Operation::Advance(by, most) => pair.advance(u64::from(by), usize::from(most)),
            Operation::Drain => pair.drain(),
        }
        assert_eq!(pair.timers.len(), pair.model.len());
        assert_eq!(pair.timers.is_empty(), pair.model.is_empty());
        assert_eq!(pair.timers.next_deadline(), pair.next_deadline());
        assert_eq!(pair.timers.iter().count(), pair.model.len());
    }
    pair.advance(u64::MAX, usize::MAX);
    assert!(pair.timers.is_empty());
});
