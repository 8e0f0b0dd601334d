//! No byte is lost, sent twice or sent out of order, whatever is pushed, however short the writes are, whatever fails.
#![no_main]

use std::collections::VecDeque;
use std::io;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whorl_core::net::{Flushed, WriteQueue};

#[derive(Arbitrary, Debug)]
enum Operation {
    /// One chunk.
    Push(u16),
    /// So many chunks of the same size: more than one vectored write takes.
    PushMany(u8, u8),
    /// A flush, with the results of its writes; the stream blocks when there are no more results.
    Flush(Vec<WriteResult>),
    /// Bytes that went out by another way, as with `sendfile`.
    Advance(u16),
    /// The connection is lost.
    Take,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum WriteResult {
    /// No more than so many bytes are taken.
    Sends(u16),
    /// All that is offered is taken.
    SendsAll,
    /// `EAGAIN`
    Blocks,
    /// `EINTR`
    Interrupts,
    /// `ECONNRESET`
    Fails,
}

/// The queue, and what has to be in it.
#[derive(Default)]
struct Pair {
    queue: WriteQueue<Vec<u8>>,
    model: VecDeque<u8>,
    /// Bytes pushed so far: each byte shows its place, so that an exchange shows.
    pushed: usize,
}

impl Pair {
    fn push(&mut self, size: usize) {
        let chunk: Vec<u8> =
            (self.pushed..self.pushed + size).map(|place| (place ^ (place >> 8)) as u8).collect();
        self.pushed += size;
        self.model.extend(&chunk);
        self.queue.push(chunk);
    }

    fn flush(&mut self, results: Vec<WriteResult>) {
        let mut results = results.into_iter();
        let mut failed = false;
        let mut blocked = false;
        let model = &mut self.model;
        let flushed = self.queue.flush(|slices| {
            assert!(!failed && !blocked, "a flush continues after its stream has blocked or failed");
            assert!(!slices.is_empty() && slices.iter().all(|slice| !slice.is_empty()), "nothing is offered");
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            assert!(offered.iter().eq(model.iter().take(offered.len())), "other bytes than were pushed");
            let sent = match results.next().unwrap_or(WriteResult::Blocks) {
                WriteResult::Sends(most) => offered.len().min(usize::from(most)),
                WriteResult::SendsAll => offered.len(),
                WriteResult::Blocks => {
                    blocked = true;
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                WriteResult::Interrupts => return Err(io::ErrorKind::Interrupted.into()),
                WriteResult::Fails => {
                    failed = true;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            };
            blocked = sent < offered.len();
            model.drain(..sent);
            Ok(sent)
        });
        match flushed {
            Ok(Flushed::All) => assert!(!failed && !blocked && self.model.is_empty()),
            Ok(Flushed::Blocked) => assert!(blocked && !self.model.is_empty()),
            Err(error) => assert!(failed && error.kind() == io::ErrorKind::ConnectionReset),
        }
    }

    fn advance(&mut self, sent: usize) {
        self.model.drain(..sent.min(self.model.len()));
        self.queue.advance(sent);
    }

    fn take(&mut self) {
        let waited = self.model.len();
        let taken: Vec<u8> = self.queue.take().into_iter().flatten().collect();
        // The first chunk comes whole, with what was sent of it.
        assert!(taken.iter().skip(taken.len() - waited).eq(self.model.iter()));
        self.model.clear();
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut pair = Pair::default();
    for operation in operations {
        match operation {
            Operation::Push(size) => pair.push(usize::from(size) % 5000),
            Operation::PushMany(count, size) => (0..count).for_each(|_| pair.push(usize::from(size))),
            Operation::Flush(results) => pair.flush(results),
            Operation::Advance(sent) => pair.advance(usize::from(sent)),
            Operation::Take => pair.take(),
        }
        assert_eq!(pair.queue.size(), pair.model.len());
        assert_eq!(pair.queue.is_empty(), pair.model.is_empty());
        assert_eq!(pair.queue.len() == 0, pair.model.is_empty());
    }
    pair.flush(vec![WriteResult::SendsAll; pair.queue.len() + 1]);
    assert!(pair.model.is_empty());
});
