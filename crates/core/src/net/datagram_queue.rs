//! The write queue of a datagram socket.

use std::collections::VecDeque;

/// Datagrams in the order of their sending, each with its destination.
///
/// The size counts `header` bytes for each datagram in addition to its content, so that empty datagrams count as well.
#[derive(Debug)]
pub struct DatagramQueue<C, D> {
    datagrams: VecDeque<(C, D)>,
    size: usize,
    header: usize,
}

impl<C: AsRef<[u8]>, D> DatagramQueue<C, D> {
    /// An empty queue that counts `header` bytes more for each datagram.
    #[must_use]
    pub const fn new(header: usize) -> Self {
        Self { datagrams: VecDeque::new(), size: 0, header }
    }

    /// Appends a datagram.
    pub fn push(&mut self, content: C, destination: D) {
        self.size += content.as_ref().len() + self.header;
        self.datagrams.push_back((content, destination));
    }

    /// Puts one that could not be sent back to the front.
    pub fn push_front(&mut self, content: C, destination: D) {
        self.size += content.as_ref().len() + self.header;
        self.datagrams.push_front((content, destination));
    }

    /// The one to be sent next.
    #[must_use]
    pub fn front(&self) -> Option<&(C, D)> {
        self.datagrams.front()
    }

    /// Takes the one at the front out, as it was sent or refused.
    pub fn pop(&mut self) -> Option<(C, D)> {
        let datagram = self.datagrams.pop_front()?;
        self.size -= datagram.0.as_ref().len() + self.header;
        Some(datagram)
    }

    /// Bytes that wait, headers included.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many datagrams wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// All destinations, in order.
    pub fn destinations(&self) -> impl Iterator<Item = &D> {
        self.datagrams.iter().map(|(_, destination)| destination)
    }

    /// Drops all that waits, and returns it for a place where dropping is allowed.
    pub fn take(&mut self) -> VecDeque<(C, D)> {
        self.size = 0;
        std::mem::take(&mut self.datagrams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_datagram_counts_its_header() {
        let mut queue = DatagramQueue::new(8);
        queue.push(b"".as_slice(), 1);
        queue.push(b"abc".as_slice(), 2);
        assert_eq!((queue.size(), queue.len()), (19, 2));
        assert_eq!(queue.pop(), Some((b"".as_slice(), 1)));
        assert_eq!((queue.size(), queue.is_empty()), (11, false));
        assert_eq!(queue.take().len(), 1);
        assert_eq!((queue.size(), queue.is_empty()), (0, true));
    }

    proptest! {
        #[test]
        fn the_size_counts_the_queue(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
            sent in 0_usize..60,
            header in 0_usize..10,
        ) {
            let mut queue = DatagramQueue::new(header);
            for (index, content) in contents.iter().enumerate() {
                queue.push(content.clone(), index);
            }
            for index in 0..sent {
                prop_assert_eq!(queue.pop().map(|datagram| datagram.1), (index < contents.len()).then_some(index));
            }
            let rest: usize = contents.iter().skip(sent).map(|content| content.len() + header).sum();
            prop_assert_eq!(queue.size(), rest);
            prop_assert!(queue.destinations().copied().eq(sent.min(contents.len())..contents.len()));
        }
    }
}
