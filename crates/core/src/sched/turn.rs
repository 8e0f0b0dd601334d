//! The number of a turn of the loop.

/// Which turn of the loop this is. Two equal ones of the same loop are the same turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn(u64);

impl Turn {
    /// Begins the next turn.
    pub const fn advance(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }
}
