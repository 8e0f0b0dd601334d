//! The table of the poller's registrations.
//!
//! A descriptor number is reused by the kernel as soon as it is closed, and events of its previous use may still be in
//! the list being worked through (uvloop #645 sent responses to the wrong request that way). A [`Token`] therefore
//! names a slot *and* its generation: an event for a slot that has been given away since finds nothing.

use std::collections::HashMap;
use std::os::fd::RawFd;

use slab::Slab;

use super::Interest;

/// Names one registration, for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// The token as the kernel carries it.
    #[must_use]
    pub const fn into_raw(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }

    /// The token that [`Token::into_raw`] made.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self { slot: raw as u32, generation: (raw >> 32) as u32 }
    }
}

/// How the poller follows a change of interest.
///
/// A source without interest is not registered at all: the kernel reports a hang-up or an error of each
/// registered descriptor, wanted or not, and a paused reader whose peer is gone would keep the loop spinning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterestChange {
    /// Register the descriptor.
    Add,
    /// Change its registration.
    Modify,
    /// Take its registration out.
    Delete,
}

#[derive(Debug)]
struct Entry<S> {
    fd: RawFd,
    generation: u32,
    interest: Interest,
    source: S,
}

/// Every registered source, by token and by descriptor.
#[derive(Debug)]
pub struct Sources<S> {
    entries: Slab<Entry<S>>,
    by_fd: HashMap<RawFd, u32>,
    next_generation: u32,
}

impl<S> Default for Sources<S> {
    fn default() -> Self {
        Self { entries: Slab::new(), by_fd: HashMap::new(), next_generation: 0 }
    }
}

impl<S> Sources<S> {
    /// Enters `source` for `fd`. A previous source of the same descriptor is given back: its descriptor was closed by
    /// other code and the number is in use again.
    pub fn insert(&mut self, fd: RawFd, interest: Interest, source: S) -> (Token, Option<S>) {
        let previous = self.remove_fd(fd);
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let key = self.entries.insert(Entry { fd, generation, interest, source });
        // A slot number past u32 would need 2^32 open descriptors; the kernel allows 2^30 at most.
        let slot = key as u32;
        self.by_fd.insert(fd, slot);
        (Token { slot, generation }, previous)
    }

    fn entry(&self, token: Token) -> Option<&Entry<S>> {
        self.entries.get(token.slot as usize).filter(|entry| entry.generation == token.generation)
    }

    fn entry_mut(&mut self, token: Token) -> Option<&mut Entry<S>> {
        self.entries.get_mut(token.slot as usize).filter(|entry| entry.generation == token.generation)
    }

    /// The source that `token` names, if it is still registered.
    #[must_use]
    pub fn get(&self, token: Token) -> Option<&S> {
        self.entry(token).map(|entry| &entry.source)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        self.entry_mut(token).map(|entry| &mut entry.source)
    }

    /// The descriptor of `token`'s registration, and its interest.
    #[must_use]
    pub fn interest(&self, token: Token) -> Option<(RawFd, Interest)> {
        self.entry(token).map(|entry| (entry.fd, entry.interest))
    }

    /// Notes a new interest and returns how the poller has to follow, or nothing when there is no change to make.
    #[must_use]
    pub fn set_interest(&mut self, token: Token, interest: Interest) -> Option<(RawFd, InterestChange)> {
        let entry = self.entry_mut(token)?;
        let previous = std::mem::replace(&mut entry.interest, interest);
        let change = match (previous.is_none(), interest.is_none()) {
            _ if previous == interest => return None,
            (true, _) => InterestChange::Add,
            (_, true) => InterestChange::Delete,
            (false, false) => InterestChange::Modify,
        };
        Some((entry.fd, change))
    }

    /// The token registered for `fd`.
    #[must_use]
    pub fn token_of(&self, fd: RawFd) -> Option<Token> {
        let slot = *self.by_fd.get(&fd)?;
        self.entries.get(slot as usize).map(|entry| Token { slot, generation: entry.generation })
    }

    /// Takes a registration out.
    pub fn remove(&mut self, token: Token) -> Option<(RawFd, S)> {
        self.entry(token)?;
        let entry = self.entries.try_remove(token.slot as usize)?;
        if self.by_fd.get(&entry.fd) == Some(&token.slot) {
            self.by_fd.remove(&entry.fd);
        }
        Some((entry.fd, entry.source))
    }

    fn remove_fd(&mut self, fd: RawFd) -> Option<S> {
        let token = self.token_of(fd)?;
        self.remove(token).map(|(_, source)| source)
    }

    /// How many sources are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All sources, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.entries.iter().map(|(_, entry)| &entry.source)
    }

    /// Every registration, for a poller made anew.
    pub fn registrations(&self) -> impl Iterator<Item = (Token, RawFd, Interest)> {
        self.entries.iter().map(|(key, entry)| {
            let token = Token { slot: key as u32, generation: entry.generation };
            (token, entry.fd, entry.interest)
        })
    }

    /// Takes every registration out.
    pub fn drain(&mut self) -> Vec<S> {
        self.by_fd.clear();
        self.entries.drain().map(|entry| entry.source).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_of_a_previous_use_finds_nothing() {
        let mut sources = Sources::default();
        let (first, _) = sources.insert(5, Interest::READ, "first");
        assert_eq!(sources.remove(first), Some((5, "first")));
        let (second, previous) = sources.insert(5, Interest::READ, "second");
        assert_eq!(previous, None);
        assert_eq!(sources.get(first), None);
        assert_eq!(sources.remove(first), None);
        assert_eq!(sources.get(second), Some(&"second"));
    }

    #[test]
    fn a_descriptor_closed_by_other_code_gives_its_source_back() {
        let mut sources = Sources::default();
        let (first, _) = sources.insert(5, Interest::READ, "first");
        let (second, previous) = sources.insert(5, Interest::WRITE, "second");
        assert_eq!(previous, Some("first"));
        assert_eq!(sources.get(first), None);
        assert_eq!(sources.token_of(5), Some(second));
        assert_eq!(sources.len(), 1);
    }

    #[test]
    fn an_unchanged_interest_costs_no_system_call() {
        let mut sources = Sources::default();
        let (token, _) = sources.insert(9, Interest::READ, ());
        assert_eq!(sources.set_interest(token, Interest::READ), None);
        assert_eq!(sources.set_interest(token, Interest::BOTH), Some((9, InterestChange::Modify)));
        assert_eq!(sources.interest(token), Some((9, Interest::BOTH)));
    }

    #[test]
    fn a_source_without_interest_is_not_registered() {
        let mut sources = Sources::default();
        let (token, _) = sources.insert(9, Interest::READ, ());
        assert_eq!(sources.set_interest(token, Interest::NONE), Some((9, InterestChange::Delete)));
        assert_eq!(sources.set_interest(token, Interest::WRITE), Some((9, InterestChange::Add)));
    }

    #[test]
    fn tokens_survive_the_kernel() {
        let mut sources = Sources::default();
        let (token, _) = sources.insert(1, Interest::NONE, ());
        assert_eq!(Token::from_raw(token.into_raw()), token);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(RawFd, Interest),
        /// By the number of a registration, counted round; it may be gone.
        Remove(usize),
        SetInterest(usize, Interest),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let interest = || (any::<bool>(), any::<bool>()).prop_map(|(read, write)| Interest { read, write });
        let step = prop_oneof![
            // Few descriptors, so that their numbers are used again.
            10 => (0..8, interest()).prop_map(|(fd, interest)| Step::Insert(fd, interest)),
            8 => any::<usize>().prop_map(Step::Remove),
            10 => (any::<usize>(), interest()).prop_map(|(number, interest)| Step::SetInterest(number, interest)),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..150)
    }

    proptest! {
        #[test]
        fn any_mixture_of_steps_agrees_with_a_map_and_with_the_poller(steps in steps()) {
            let mut sources = Sources::default();
            let mut tokens: Vec<Token> = Vec::new();
            // By number: descriptor and interest. And the registrations of a poller that follows, by descriptor.
            let mut model: HashMap<usize, (RawFd, Interest)> = HashMap::new();
            let mut poller: HashMap<RawFd, Interest> = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert(fd, interest) => {
                        let number = tokens.len();
                        let expected = model.iter().find(|(_, (other, _))| *other == fd);
                        let expected = expected.map(|(number, _)| *number);
                        let (token, previous) = sources.insert(fd, interest, number);
                        prop_assert_eq!(previous, expected);
                        previous.and_then(|previous| model.remove(&previous));
                        model.insert(number, (fd, interest));
                        tokens.push(token);
                        poller.remove(&fd);
                        if !interest.is_none() {
                            poller.insert(fd, interest);
                        }
                    }
                    Step::Remove(number) => {
                        let number = number % tokens.len().max(1);
                        let Some(token) = tokens.get(number) else { continue };
                        let expected = model.remove(&number);
                        prop_assert_eq!(sources.remove(*token), expected.map(|(fd, _)| (fd, number)));
                        expected.and_then(|(fd, _)| poller.remove(&fd));
                    }
                    Step::SetInterest(number, interest) => {
                        let number = number % tokens.len().max(1);
                        let Some(token) = tokens.get(number) else { continue };
                        let change = sources.set_interest(*token, interest);
                        let Some((fd, known)) = model.get_mut(&number) else {
                            prop_assert_eq!(change, None);
                            continue;
                        };
                        *known = interest;
                        let Some((named, change)) = change else { continue };
                        prop_assert_eq!(named, *fd);
                        match change {
                            InterestChange::Add => prop_assert!(poller.insert(*fd, interest).is_none()),
                            InterestChange::Modify => prop_assert!(poller.insert(*fd, interest).is_some()),
                            InterestChange::Delete => prop_assert!(poller.remove(fd).is_some()),
                        }
                    }
                    Step::Drain => {
                        prop_assert_eq!(sources.drain().len(), model.len());
                        model.clear();
                        poller.clear();
                    }
                }
                prop_assert_eq!(sources.len(), model.len());
                for (number, token) in tokens.iter().enumerate() {
                    let known = model.get(&number).copied();
                    // A token of a previous use finds nothing.
                    prop_assert_eq!(sources.get(*token).copied(), known.map(|_| number));
                    prop_assert_eq!(sources.interest(*token), known);
                    prop_assert!(known.is_none_or(|(fd, _)| sources.token_of(fd) == Some(*token)));
                }
                let wanted = sources.registrations().filter(|(_, _, interest)| !interest.is_none());
                let renewed: HashMap<_, _> = wanted.map(|(_, fd, interest)| (fd, interest)).collect();
                prop_assert_eq!(&renewed, &poller);
            }
        }
    }
}
