//! Doubly linked lists through the entries of a slab: a slot in the middle is left in O(1), and nothing is allocated.

use slab::Slab;

/// No entry.
const NONE: usize = usize::MAX;

/// An entry's neighbours in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    before: usize,
    after: usize,
}

impl Default for Links {
    fn default() -> Self {
        Self { before: NONE, after: NONE }
    }
}

/// An entry that can be in the list `L`; the type only distinguishes an entry's lists.
pub(super) trait Linked<L> {
    fn links(&mut self) -> &mut Links;
}

/// A list of entries that live in a slab. The slab has to be the same for every call, and a caller that removes an
/// entry from it unlinks it first.
#[derive(Debug)]
pub(super) struct List<L> {
    first: usize,
    last: usize,
    which: std::marker::PhantomData<L>,
}

impl<L> Default for List<L> {
    fn default() -> Self {
        Self { first: NONE, last: NONE, which: std::marker::PhantomData }
    }
}

impl<L> List<L> {
    /// The slot of the entry that has been in the list for longest.
    pub(super) fn first(&self) -> Option<usize> {
        (self.first != NONE).then_some(self.first)
    }

    /// The slot of the entry that came last.
    pub(super) fn last(&self) -> Option<usize> {
        (self.last != NONE).then_some(self.last)
    }

    pub(super) fn push<T: Linked<L>>(&mut self, slab: &mut Slab<T>, slot: usize) {
        *slab[slot].links() = Links { before: self.last, after: NONE };
        match self.last() {
            Some(last) => slab[last].links().after = slot,
            None => self.first = slot,
        }
        self.last = slot;
    }

    pub(super) fn unlink<T: Linked<L>>(&mut self, slab: &mut Slab<T>, slot: usize) {
        let Links { before, after } = std::mem::take(slab[slot].links());
        if before == NONE {
            self.first = after;
        } else {
            slab[before].links().after = after;
        }
        if after == NONE {
            self.last = before;
        } else {
            slab[after].links().before = before;
        }
    }
}
