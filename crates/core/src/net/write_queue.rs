//! The write queue of a stream.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Slices handed to one `writev`; the kernel takes up to 1024, few streams have more than a handful.
const SLICES: usize = 64;

/// Chunks in the order of their writing, sent with vectored writes and without copying.
#[derive(Debug)]
pub struct WriteQueue<C> {
    chunks: VecDeque<C>,
    /// How much of the first chunk is gone.
    sent: usize,
    /// Bytes that wait, over all chunks.
    size: usize,
}

impl<C> Default for WriteQueue<C> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), sent: 0, size: 0 }
    }
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flushed {
    /// All is sent.
    All,
    /// The stream takes no more at the moment.
    Blocked,
}

impl<C: AsRef<[u8]>> WriteQueue<C> {
    /// Appends `chunk`; an empty one is dropped.
    pub fn push(&mut self, chunk: C) {
        let size = chunk.as_ref().len();
        if size > 0 {
            self.size += size;
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// How many chunks wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Sends with `write` until all is gone or the stream blocks. `Interrupted` is tried again, `WouldBlock` ends the
    /// flush; bytes sent before an error are gone from the queue.
    ///
    /// # Errors
    /// Any other error of `write`.
    pub fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        while !self.is_empty() {
            if let (1, Some(only)) = (self.chunks.len(), self.chunks.front()) {
                // By far the most common case, without an array of slices to fill.
                let bytes = only.as_ref().get(self.sent..).unwrap_or_default();
                let offered = bytes.len();
                match self.sent_of(write(&[IoSlice::new(bytes)]), offered)? {
                    Some(flushed) => return Ok(flushed),
                    None => continue,
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            let mut offered = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                let bytes = chunk.as_ref();
                let bytes = if used == 0 { bytes.get(self.sent..).unwrap_or_default() } else { bytes };
                *slice = IoSlice::new(bytes);
                used += 1;
                offered += bytes.len();
            }
            if let Some(flushed) = self.sent_of(write(&slices[..used]), offered)? {
                return Ok(flushed);
            }
        }
        Ok(Flushed::All)
    }

    /// Takes the bytes that one write of `offered` bytes has sent off the front; returns the flush's end if this is it.
    fn sent_of(&mut self, outcome: io::Result<usize>, offered: usize) -> io::Result<Option<Flushed>> {
        match outcome {
            Ok(sent) => {
                self.advance(sent);
                // A short write: the socket's buffer is full, another try would block.
                Ok((sent < offered).then_some(Flushed::Blocked))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Flushed::Blocked)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes `sent` bytes off the front.
    pub fn advance(&mut self, sent: usize) {
        let mut gone = sent.min(self.size);
        self.size -= gone;
        gone += self.sent;
        while let Some(first) = self.chunks.front() {
            let size = first.as_ref().len();
            if gone < size {
                break;
            }
            gone -= size;
            self.chunks.pop_front();
        }
        self.sent = gone;
    }

    /// Drops all that waits, and returns it for a place where dropping is allowed.
    pub fn take(&mut self) -> VecDeque<C> {
        self.sent = 0;
        self.size = 0;
        std::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(chunks: &[&[u8]]) -> WriteQueue<Vec<u8>> {
        let mut queue = WriteQueue::default();
        chunks.iter().for_each(|chunk| queue.push(chunk.to_vec()));
        queue
    }

    #[test]
    fn sends_all_chunks_in_one_write() {
        let mut queue = queue(&[b"head", b"", b"body"]);
        let mut calls = 0;
        let flushed = queue.flush(|slices| {
            calls += 1;
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert!(matches!(flushed, Ok(Flushed::All)));
        assert_eq!((calls, queue.size(), queue.len()), (1, 0, 0));
    }

    #[test]
    fn an_error_keeps_unsent_bytes() {
        let mut queue = queue(&[b"abc", b"def"]);
        queue.advance(4);
        let failed = queue.flush(|_| Err(io::ErrorKind::ConnectionReset.into()));
        assert_eq!(failed.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
        assert_eq!(queue.size(), 2);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_sent_twice(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..100),
            steps in prop::collection::vec(0_usize..60, 1..50),
        ) {
            let mut queue = WriteQueue::default();
            for chunk in &chunks {
                queue.push(chunk.clone());
            }
            let mut received = Vec::new();
            let mut steps = steps.into_iter().cycle();
            let mut stalls = 0;
            while !queue.is_empty() && stalls < 10_000 {
                stalls += 1;
                let before = received.len();
                let size = queue.size();
                let flushed = queue.flush(|slices| {
                    let room = steps.next().unwrap_or(1);
                    if room == 0 {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                    let sent = room.min(all.len());
                    received.extend_from_slice(&all[..sent]);
                    Ok(sent)
                });
                prop_assert!(flushed.is_ok());
                prop_assert_eq!(size - queue.size(), received.len() - before);
            }
            // Steps of zero alone never send anything; any other mixture sends it all.
            if queue.is_empty() {
                prop_assert_eq!(received, chunks.concat());
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        /// A flush whose writes return so: at most a number of bytes taken, or an error.
        Flush(Vec<Result<usize, io::ErrorKind>>),
        Advance(usize),
        Take,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let result = prop_oneof![
            4 => (0_usize..80).prop_map(Ok),
            1 => Just(Err(io::ErrorKind::Interrupted)),
            1 => Just(Err(io::ErrorKind::WouldBlock)),
            1 => Just(Err(io::ErrorKind::ConnectionReset)),
        ];
        let step = prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Step::Push),
            4 => prop::collection::vec(result, 0..4).prop_map(Step::Flush),
            2 => (0_usize..40).prop_map(Step::Advance),
            1 => Just(Step::Take),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn any_mixture_of_steps_keeps_every_byte_once_and_in_order(steps in steps()) {
            let mut queue = WriteQueue::default();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(chunk) => {
                        model.extend(chunk.iter().copied());
                        queue.push(chunk);
                    }
                    Step::Flush(results) => {
                        let mut results = results.into_iter();
                        let mut last = None;
                        let flushed = queue.flush(|slices| {
                            assert!(
                                last.is_none_or(|(result, offered)| result == Ok(offered)
                                    || result == Err(io::ErrorKind::Interrupted)),
                                "a flush ends with a short write or an error"
                            );
                            let offered = slices.iter().flat_map(|slice| slice.iter().copied());
                            let offered: Vec<u8> = offered.collect();
                            assert!(offered.iter().eq(model.iter().take(offered.len())));
                            let result = results.next().unwrap_or(Err(io::ErrorKind::WouldBlock));
                            let result = result.map(|most| most.min(offered.len()));
                            last = Some((result, offered.len()));
                            model.drain(..result.unwrap_or(0));
                            Ok(result?)
                        });
                        let expected = match last {
                            None => Ok(Flushed::All),
                            Some((Ok(sent), offered)) if sent == offered => Ok(Flushed::All),
                            Some((Ok(_) | Err(io::ErrorKind::WouldBlock), _)) => Ok(Flushed::Blocked),
                            Some((Err(kind), _)) => Err(kind),
                        };
                        prop_assert_eq!(flushed.map_err(|error| error.kind()), expected);
                    }
                    Step::Advance(sent) => {
                        model.drain(..sent.min(model.len()));
                        queue.advance(sent);
                    }
                    Step::Take => {
                        let taken: Vec<u8> = queue.take().into_iter().flatten().collect();
                        // The first chunk comes whole, with its sent part.
                        prop_assert!(taken.ends_with(model.make_contiguous()));
                        model.clear();
                    }
                }
                prop_assert_eq!((queue.size(), queue.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(queue.len().min(1), model.len().min(1));
            }
        }
    }
}
