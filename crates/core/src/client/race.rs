//! Happy Eyeballs (RFC 8305): which of a host's addresses is connected to when.
//!
//! The caller connects and keeps the time; [`Race`] says which attempt begins after what has happened. Addresses are numbers.

/// The addresses with the families in turn (RFC 8305, section 4): `first` of the first family, then one of each.
///
/// `families` has the family of each address; what is returned are places in it.
#[must_use]
pub fn interleaved(families: &[u16], first: usize) -> Vec<usize> {
    let mut groups: Vec<(u16, Vec<usize>)> = Vec::new();
    for (place, family) in families.iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| known == family) {
            Some((_, places)) => places.push(place),
            None => groups.push((*family, vec![place])),
        }
    }
    let Some((_, leading)) = groups.first_mut() else { return Vec::new() };
    let mut order: Vec<usize> = leading.drain(..first.saturating_sub(1).min(leading.len())).collect();
    let longest = groups.iter().map(|(_, places)| places.len()).max().unwrap_or_default();
    for row in 0..longest {
        order.extend(groups.iter().filter_map(|(_, places)| places.get(row)));
    }
    order
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum RaceStep {
    /// Connect to the address of this number. If `timed`, report after the delay that it has passed.
    Start {
        /// The number of the address.
        address: usize,
        /// Whether another one may begin while this one is pending.
        timed: bool,
    },
    /// Wait for the attempts that are pending.
    Wait,
    /// No address accepts.
    Lost,
}

/// A race of attempts to connect: it is won by the first that succeeds, at which the caller drops it.
#[derive(Debug)]
pub struct Race {
    addresses: usize,
    next: usize,
    pending: usize,
    staggered: bool,
}

impl Race {
    /// A race between so many addresses. `staggered`: an attempt begins while the ones before it are pending, after a delay;
    /// otherwise only after they have failed.
    #[must_use]
    pub const fn new(addresses: usize, staggered: bool) -> Self {
        Self { addresses, next: 0, pending: 0, staggered }
    }

    /// Begins it.
    pub const fn begin(&mut self) -> RaceStep {
        self.next_attempt()
    }

    /// An attempt has failed.
    pub const fn failed(&mut self) -> RaceStep {
        self.pending = self.pending.saturating_sub(1);
        self.next_attempt()
    }

    /// The delay of the last attempt that began has passed.
    pub const fn delay_passed(&mut self) -> RaceStep {
        self.next_attempt()
    }

    /// Whether an attempt begins while the ones before it are pending.
    #[must_use]
    pub const fn is_staggered(&self) -> bool {
        self.staggered
    }

    const fn next_attempt(&mut self) -> RaceStep {
        if self.next < self.addresses {
            let address = self.next;
            self.next += 1;
            self.pending += 1;
            return RaceStep::Start { address, timed: self.staggered && self.next < self.addresses };
        }
        if self.pending > 0 { RaceStep::Wait } else { RaceStep::Lost }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Race, RaceStep, interleaved};

    const fn start(address: usize, timed: bool) -> RaceStep {
        RaceStep::Start { address, timed }
    }

    #[test]
    fn one_address() {
        let mut race = Race::new(1, true);
        assert_eq!(race.begin(), start(0, false));
        assert_eq!(race.failed(), RaceStep::Lost);
        assert_eq!(Race::new(0, true).begin(), RaceStep::Lost);
    }

    #[test]
    fn attempts_that_are_staggered() {
        let mut race = Race::new(3, true);
        assert_eq!(race.begin(), start(0, true));
        assert_eq!(race.delay_passed(), start(1, true));
        assert_eq!(race.failed(), start(2, false));
        assert_eq!(race.failed(), RaceStep::Wait);
        assert_eq!(race.failed(), RaceStep::Lost);
    }

    #[test]
    fn one_after_the_other() {
        let mut race = Race::new(2, false);
        assert_eq!(race.begin(), start(0, false));
        assert_eq!(race.failed(), start(1, false));
        assert_eq!(race.failed(), RaceStep::Lost);
    }

    #[test]
    fn families_in_turn() {
        let families = [6, 6, 6, 4, 4];
        assert_eq!(interleaved(&families, 1), [0, 3, 1, 4, 2]);
        assert_eq!(interleaved(&families, 2), [0, 1, 3, 2, 4]);
        assert_eq!(interleaved(&families, 9), [0, 1, 2, 3, 4]);
        assert_eq!(interleaved(&[], 1), [0_usize; 0]);
    }

    proptest! {
        /// Each address is tried once, whatever happens in between.
        #[test]
        fn every_address_has_its_attempt(
            addresses in 0..8usize,
            staggered: bool,
            delays in prop::collection::vec(any::<bool>(), 64),
        ) {
            let mut race = Race::new(addresses, staggered);
            let mut step = race.begin();
            let (mut seen, mut pending) = (Vec::new(), 0);
            for delay in delays {
                let timed = match step {
                    RaceStep::Start { address, timed } => {
                        seen.push(address);
                        pending += 1;
                        timed
                    }
                    RaceStep::Wait => false,
                    RaceStep::Lost => break,
                };
                prop_assert!(pending > 0);
                step = if timed && delay {
                    race.delay_passed()
                } else {
                    pending -= 1;
                    race.failed()
                };
            }
            prop_assert_eq!(step, RaceStep::Lost);
            prop_assert_eq!(seen, (0..addresses).collect::<Vec<_>>());
        }

        /// Interleaving loses no address.
        #[test]
        fn a_permutation(families in prop::collection::vec(0..3u16, 0..10), first in 0..4usize) {
            let mut order = interleaved(&families, first);
            order.sort_unstable();
            prop_assert_eq!(order, (0..families.len()).collect::<Vec<_>>());
        }
    }
}
