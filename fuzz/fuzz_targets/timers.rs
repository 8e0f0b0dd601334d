//! Timers come up in the order of a sorted map, never early and each once, and cancelled ones do not pile up.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whorl_core::sched::Timers;

#[derive(Arbitrary, Debug)]
enum Operation {
    /// A timer so far from now.
    Push(u16),
    /// So many timers with one deadline.
    PushMany(u8, u8),
    /// A timer at an absolute time, the last there is among them.
    PushAt(u64),
    /// Cancels the timer of that place, counted round.
    Cancel(u16),
    /// Cancels every other timer.
    CancelHalf,
    /// Time goes by; what is due is taken out, up to so many.
    Advance(u16, u8),
    /// The loop is closed.
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Waiting,
    Cancelled,
}

/// The timers, and what has to be in them: by deadline, then by age.
#[derive(Default)]
struct Pair {
    timers: Timers<u64>,
    model: BTreeMap<(u64, u64), Life>,
    deadlines: Vec<u64>,
    /// How many of them are cancelled.
    cancelled: usize,
    now: u64,
}

impl Pair {
    fn push(&mut self, deadline: u64) {
        let age = self.deadlines.len() as u64;
        self.deadlines.push(deadline);
        self.model.insert((deadline, age), Life::Waiting);
        self.timers.push(deadline, age);
    }

    fn life(&self, age: u64) -> Option<Life> {
        self.model.get(&(*self.deadlines.get(age as usize)?, age)).copied()
    }

    fn cancel(&mut self, age: u64) {
        if self.life(age) != Some(Life::Waiting) {
            return;
        }
        self.model.insert((self.deadlines[age as usize], age), Life::Cancelled);
        self.cancelled += 1;
        self.timers.cancelled().note();
        let sweeps = self.timers.is_sweep_due();
        let expected = self.cancelled >= 64 && self.cancelled * 2 > self.model.len();
        assert_eq!(sweeps, expected, "{} cancelled of {}", self.cancelled, self.model.len());
        if sweeps {
            let mut cancelled = Vec::new();
            let (model, deadlines) = (&self.model, &self.deadlines);
            let is_cancelled_entry = |age: &u64| model.get(&(deadlines[*age as usize], *age)) == Some(&Life::Cancelled);
            self.timers.sweep(is_cancelled_entry, &mut cancelled);
            assert_eq!(cancelled.len(), self.cancelled, "a sweep takes every cancelled entry");
            self.cancelled = 0;
            for age in cancelled {
                let former = self.model.remove(&(self.deadlines[age as usize], age));
                assert_eq!(former, Some(Life::Cancelled), "a sweep takes nothing but cancelled");
            }
        }
    }

    fn advance(&mut self, by: u64, most: usize) {
        self.now = self.now.saturating_add(by);
        for _ in 0..most {
            let due = self.model.keys().next().copied().filter(|(deadline, _)| *deadline <= self.now);
            let taken = self.timers.pop_due(self.now);
            assert_eq!(taken, due.map(|(_, age)| age));
            match due.and_then(|due| self.model.remove(&due)) {
                Some(Life::Cancelled) => {
                    self.cancelled -= 1;
                    self.timers.forget_cancelled();
                }
                Some(Life::Waiting) => {}
                None => break,
            }
        }
    }

    fn drain(&mut self) {
        let mut drained = self.timers.drain();
        drained.sort_unstable();
        let mut expected: Vec<u64> = self.model.keys().map(|(_, age)| *age).collect();
        expected.sort_unstable();
        assert_eq!(drained, expected);
        self.model.clear();
        self.cancelled = 0;
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut pair = Pair::default();
    for operation in operations {
        match operation {
            Operation::Push(delay) => pair.push(pair.now.saturating_add(u64::from(delay))),
            Operation::PushMany(count, delay) => {
                (0..count).for_each(|_| pair.push(pair.now.saturating_add(u64::from(delay))));
            }
            Operation::PushAt(deadline) => pair.push(deadline),
            Operation::Cancel(place) => {
                let all = pair.deadlines.len() as u64;
                if all > 0 {
                    pair.cancel(u64::from(place) % all);
                }
            }
            Operation::CancelHalf => {
                (0..pair.deadlines.len() as u64).step_by(2).for_each(|age| pair.cancel(age))
            }
            Operation::Advance(by, most) => pair.advance(u64::from(by), usize::from(most)),
            Operation::Drain => pair.drain(),
        }
        assert_eq!(pair.timers.len(), pair.model.len());
        assert_eq!(pair.timers.is_empty(), pair.model.is_empty());
        assert_eq!(pair.timers.next_deadline(), pair.model.keys().next().map(|(deadline, _)| *deadline));
        assert_eq!(pair.timers.iter().count(), pair.model.len());
    }
    pair.advance(u64::MAX, usize::MAX);
    assert!(pair.timers.is_empty());
});
