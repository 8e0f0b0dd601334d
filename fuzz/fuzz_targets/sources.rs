//! The table of registrations against a plain map, and against what a poller that follows it would have registered.
//! The token of a previous registration finds nothing.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whorl_core::reactor::{Interest, InterestChange, Sources, Token};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Operation {
    /// Registers a descriptor, which may have a source already: it was closed by other code.
    Insert(u8, Wanted),
    /// Takes out the registration of that place, counted round; it may be gone.
    Remove(u8),
    /// Changes what is wanted of it.
    Watch(u8, Wanted),
    /// A token that was never given out.
    Forge(u64),
    /// The loop is closed.
    Drain,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Wanted {
    read: bool,
    write: bool,
}

impl From<Wanted> for Interest {
    fn from(wanted: Wanted) -> Self {
        Self { read: wanted.read, write: wanted.write }
    }
}

/// The table, and what has to be in it: registrations by number, each with its descriptor.
#[derive(Default)]
struct Pair {
    sources: Sources<usize>,
    model: BTreeMap<usize, (RawFd, Interest)>,
    tokens: Vec<Token>,
    /// What the poller has, by descriptor: followed by the changes that the table returns.
    poller: BTreeMap<RawFd, Interest>,
}

impl Pair {
    fn insert(&mut self, fd: RawFd, interest: Interest) {
        let number = self.tokens.len();
        let expected = self.model.iter().find(|(_, (other, _))| *other == fd).map(|(number, _)| *number);
        let (token, previous) = self.sources.insert(fd, interest, number);
        assert_eq!(previous, expected, "the previous source of the descriptor is given back");
        if let Some(previous) = previous {
            self.model.remove(&previous);
        }
        self.model.insert(number, (fd, interest));
        self.tokens.push(token);
        self.poller.remove(&fd);
        if !interest.is_none() {
            self.poller.insert(fd, interest);
        }
    }

    fn remove(&mut self, number: usize) {
        let expected = self.model.remove(&number);
        let removed = self.sources.remove(self.tokens[number]);
        assert_eq!(removed, expected.map(|(fd, _)| (fd, number)));
        if let Some((fd, interest)) = expected {
            assert_eq!(self.poller.remove(&fd).is_some(), !interest.is_none());
        }
    }

    fn set_interest(&mut self, number: usize, interest: Interest) {
        let change = self.sources.set_interest(self.tokens[number], interest);
        let Some(known) = self.model.get_mut(&number) else {
            assert_eq!(change, None, "the token of a previous registration changes nothing");
            return;
        };
        known.1 = interest;
        let fd = known.0;
        match change {
            None => {}
            Some((named, InterestChange::Add)) => {
                assert_eq!((named, self.poller.insert(fd, interest)), (fd, None));
            }
            Some((named, InterestChange::Modify)) => {
                assert_eq!((named, self.poller.insert(fd, interest).is_some()), (fd, true));
            }
            Some((named, InterestChange::Delete)) => {
                assert_eq!((named, self.poller.remove(&fd).is_some()), (fd, true));
            }
        }
    }

    fn forge(&mut self, raw: u64) {
        let token = Token::from_raw(raw);
        assert_eq!(token.into_raw(), raw);
        let found = self.sources.get(token).copied();
        let known = self.tokens.iter().rposition(|given| *given == token);
        assert_eq!(found, known.filter(|number| self.model.contains_key(number)));
    }

    fn drain(&mut self) {
        let drained: BTreeSet<usize> = self.sources.drain().into_iter().collect();
        assert!(drained.into_iter().eq(self.model.keys().copied()));
        self.model.clear();
        self.poller.clear();
    }

    fn check(&mut self) {
        assert_eq!((self.sources.len(), self.sources.is_empty()), (self.model.len(), self.model.is_empty()));
        for (number, token) in self.tokens.iter().enumerate() {
            let known = self.model.get(&number).copied();
            assert_eq!(self.sources.get(*token).copied(), known.map(|_| number));
            assert_eq!(self.sources.get_mut(*token).copied(), known.map(|_| number));
            assert_eq!(self.sources.interest(*token), known);
            assert_eq!(Token::from_raw(token.into_raw()), *token);
            if let Some((fd, _)) = known {
                assert_eq!(self.sources.token_of(fd), Some(*token));
            }
        }
        let all: BTreeSet<usize> = self.sources.iter().copied().collect();
        assert!(all.into_iter().eq(self.model.keys().copied()));
        // A poller made anew from the table has what the old one has.
        let renewed: BTreeMap<RawFd, Interest> = self
            .sources
            .registrations()
            .filter(|(_, _, interest)| !interest.is_none())
            .map(|(_, fd, interest)| (fd, interest))
            .collect();
        assert_eq!(renewed.len(), self.poller.len());
        assert!(renewed.iter().all(|(fd, interest)| self.poller.get(fd) == Some(interest)));
        assert!((0..=255).all(|fd| self.sources.token_of(fd).is_some() == self.has(fd)));
    }

    fn has(&self, fd: RawFd) -> bool {
        self.model.values().any(|(other, _)| *other == fd)
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut pair = Pair::default();
    for operation in operations.into_iter().take(200) {
        let place = |number: u8| {
            Some(usize::from(number) % pair.tokens.len().max(1)).filter(|_| !pair.tokens.is_empty())
        };
        match operation {
            // Few descriptors, so that their numbers are used again.
            Operation::Insert(fd, wanted) => pair.insert(RawFd::from(fd % 12), wanted.into()),
            Operation::Remove(number) => {
                if let Some(number) = place(number) {
                    pair.remove(number);
                }
            }
            Operation::Watch(number, wanted) => {
                if let Some(number) = place(number) {
                    pair.set_interest(number, wanted.into());
                }
            }
            Operation::Forge(raw) => pair.forge(raw),
            Operation::Drain => pair.drain(),
        }
        pair.check();
    }
});
