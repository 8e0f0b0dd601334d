//! Compression of messages (RFC 7692, section 7.2): deflate without a header, flushed at the end of each message.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::ProtocolError;
use super::negotiation::DeflateParameters;

/// The smallest window that the compressor has, in bits: zlib cannot compress with the 8 that RFC 7692 allows.
pub const MIN_WINDOW_BITS: u8 = 9;
/// The largest window there is, in bits.
pub const MAX_WINDOW_BITS: u8 = 15;

/// The end of a flush; the sender leaves it out, and the receiver puts it back.
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// The payload of an empty message: the header of an empty block, whose rest is the tail.
const EMPTY_BLOCK: u8 = 0x00;
/// Streams in one message. A sender has reason to end one at each of its flushes, which are few; each costs the
/// receiver a new start, and takes two bytes.
const MOST_STREAMS: u32 = 1024;
/// The least space that is reserved for output, in bytes.
const LEAST_ROOM: usize = 4096;
/// The most space for output that a buffer grows by at once, in bytes.
const MOST_ROOM: usize = 1 << 20;
/// About what zlib's own level 1 gives. That of zlib-rs has fixed codes: faster yet on short messages, and a third
/// larger on long ones.
const LEVEL: u32 = 2;

/// Whether the deflate stream continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Open,
    /// Its last block has come, and later input begins another.
    Ended,
}

/// Inflates the messages of one direction.
#[derive(Debug)]
pub struct Inflater {
    direction: DeflateParameters,
    /// Made for the first compressed message.
    inner: Option<Decompress>,
    stream: Stream,
    /// Streams that have ended in this message.
    streams: u32,
}

impl Inflater {
    /// For messages compressed as `direction` says.
    pub const fn new(direction: DeflateParameters) -> Self {
        Self { direction, inner: None, stream: Stream::Open, streams: 0 }
    }

    /// Inflates `input`, the next bytes of a message, to the end of `output`, which holds all of the message so far.
    /// The output beyond `limit` before the check is bounded by the space reserved at once.
    ///
    /// # Errors
    /// The message becomes larger than `limit`, or is not deflate data.
    pub fn push(
        &mut self,
        mut input: &[u8],
        output: &mut Vec<u8>,
        limit: Option<usize>,
    ) -> Result<(), ProtocolError> {
        let window = self.direction.window_bits.max(MIN_WINDOW_BITS);
        let inner = self.inner.get_or_insert_with(|| Decompress::new_with_window_bits(false, window));
        loop {
            if self.stream == Stream::Ended {
                if input.is_empty() {
                    return Ok(());
                }
                if self.streams == MOST_STREAMS {
                    return Err(ProtocolError::TooManyStreams { limit: MOST_STREAMS });
                }
                self.streams += 1;
                inner.reset(false);
                self.stream = Stream::Open;
            }
            if output.len() == output.capacity() {
                let room = output.len().clamp(LEAST_ROOM, MOST_ROOM);
                // One byte more than is allowed shows that there is more.
                let left = limit.map_or(room, |limit| (limit - output.len()).saturating_add(1));
                output.reserve(room.min(left));
            }
            let before = inner.total_in();
            let status = inner.decompress_vec(input, output, FlushDecompress::Sync);
            // Output from before an error comes before it.
            if let Some(limit) = limit
                && output.len() > limit
            {
                return Err(ProtocolError::InflatesTooBig { limit });
            }
            let status = status.map_err(|_not_deflate| ProtocolError::NotDeflate)?;
            let used = usize::try_from(inner.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(used..).unwrap_or_default();
            if status == Status::StreamEnd {
                self.stream = Stream::Ended;
            } else if output.len() < output.capacity() {
                // It had space and wrote no more: all input is used.
                return Ok(());
            }
        }
    }

    /// Ends the message: the rest of it goes to `output`.
    ///
    /// # Errors
    /// As [`Inflater::push`].
    pub fn finish(&mut self, output: &mut Vec<u8>, limit: Option<usize>) -> Result<(), ProtocolError> {
        // A stream that has ended needs no flush: the tail would be the beginning of another.
        if self.stream == Stream::Open {
            self.push(&FLUSH_TAIL, output, limit)?;
        }
        self.streams = 0;
        if !self.direction.context_takeover
            && let Some(inner) = &mut self.inner
        {
            inner.reset(false);
            self.stream = Stream::Open;
        }
        Ok(())
    }
}

/// Compresses the messages of one direction.
#[derive(Debug)]
pub struct Deflater {
    direction: DeflateParameters,
    /// Made for the first message, as it takes some 200 KiB.
    inner: Option<Compress>,
}

impl Deflater {
    /// For messages to be compressed as `direction` says.
    pub const fn new(direction: DeflateParameters) -> Self {
        Self { direction, inner: None }
    }

    /// Compresses `input`, the next bytes of a message; `fin` if they are its last.
    pub fn push(&mut self, input: &[u8], fin: bool) -> Vec<u8> {
        let bits = self.direction.window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        let inner = self.inner.get_or_insert_with(|| compressor(bits));
        let output = compress(inner, input, fin);
        if fin && !self.direction.context_takeover {
            inner.reset();
        }
        output
    }

    /// Compresses a whole message by itself, with a window of `bits` or the negotiated one, if that is smaller.
    ///
    /// The window of later messages begins anew: the peer's has this message in it, and ours has not.
    pub fn alone(&mut self, input: &[u8], bits: u8) -> Vec<u8> {
        let bits = bits.min(self.direction.window_bits).clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        if let Some(inner) = &mut self.inner {
            inner.reset();
        }
        compress(&mut compressor(bits), input, true)
    }
}

fn compressor(bits: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(LEVEL), false, bits)
}

fn compress(inner: &mut Compress, mut input: &[u8], fin: bool) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len() / 2 + 64);
    loop {
        let before = inner.total_in();
        // It ends early only when it is out of space, and more is reserved below.
        let status = inner.compress_vec(input, &mut output, FlushCompress::Sync);
        let used = usize::try_from(inner.total_in() - before).unwrap_or(usize::MAX);
        input = input.get(used..).unwrap_or_default();
        if output.len() < output.capacity() || !matches!(status, Ok(Status::Ok)) {
            break;
        }
        output.reserve((input.len() / 2).max(64));
    }
    if fin {
        if output.ends_with(&FLUSH_TAIL) {
            output.truncate(output.len() - FLUSH_TAIL.len());
        }
        // A second flush in a row gives nothing at all.
        if output.is_empty() {
            output.push(EMPTY_BLOCK);
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAKEOVER: DeflateParameters = DeflateParameters { window_bits: 15, context_takeover: true };

    fn inflated(
        inflater: &mut Inflater,
        input: &[u8],
        limit: Option<usize>,
    ) -> Result<Vec<u8>, ProtocolError> {
        let mut output = Vec::new();
        inflater.push(input, &mut output, limit)?;
        inflater.finish(&mut output, limit)?;
        Ok(output)
    }

    /// The examples of RFC 7692, section 7.2.3.
    #[test]
    fn the_examples_of_the_specification() {
        let mut inflater = Inflater::new(TAKEOVER);
        let mut hello = |input: &[u8]| assert_eq!(inflated(&mut inflater, input, None).unwrap(), b"Hello");
        hello(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        // With a reference to the message before.
        hello(b"\xf2\x00\x11\x00\x00");
        // Without compression.
        hello(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00");
        // In a final block, with the empty block after it and without.
        hello(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
        hello(b"\xf3\x48\xcd\xc9\xc9\x07\x00");
        // In two blocks.
        hello(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00");
    }

    #[test]
    fn the_window_is_kept_only_if_agreed() {
        let message = b"the same words, the same words";
        let mut sizes = Vec::new();
        for context_takeover in [true, false] {
            let mut deflater = Deflater::new(DeflateParameters { window_bits: 15, context_takeover });
            let first = deflater.push(message, true);
            let second = deflater.push(message, true);
            sizes.push((first.len(), second.len()));
        }
        assert!(sizes[0].1 < sizes[0].0 / 2, "{sizes:?}");
        assert_eq!(sizes[1].0, sizes[1].1);
    }

    #[test]
    fn an_empty_message_is_an_empty_block_each_time() {
        for context_takeover in [true, false] {
            let mut deflater = Deflater::new(DeflateParameters { window_bits: 15, context_takeover });
            let mut inflater = Inflater::new(TAKEOVER);
            for _ in 0..3 {
                let empty = deflater.push(b"", true);
                assert!(!empty.is_empty());
                assert_eq!(inflated(&mut inflater, &empty, None).unwrap(), b"");
            }
            let after = deflater.push(b"after", true);
            assert_eq!(inflated(&mut inflater, &after, None).unwrap(), b"after");
        }
    }

    #[test]
    fn a_bomb_is_refused_while_it_inflates() {
        let bomb = Deflater::new(TAKEOVER).push(&vec![0; 64 << 20], true);
        assert!(bomb.len() < 1 << 20);
        let mut output = Vec::new();
        let limit = 100_000;
        let error = Inflater::new(TAKEOVER).push(&bomb, &mut output, Some(limit)).unwrap_err();
        assert_eq!(error, ProtocolError::InflatesTooBig { limit });
        assert_eq!(error.close_code(), 1009);
        assert!(output.capacity() <= 2 * limit, "{}", output.capacity());
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let message = vec![b'x'; 5000];
        let compressed = Deflater::new(TAKEOVER).push(&message, true);
        assert_eq!(inflated(&mut Inflater::new(TAKEOVER), &compressed, Some(5000)).unwrap(), message);
        let error = inflated(&mut Inflater::new(TAKEOVER), &compressed, Some(4999)).unwrap_err();
        assert_eq!(error, ProtocolError::InflatesTooBig { limit: 4999 });
    }

    #[test]
    fn streams_without_end_are_refused() {
        // Each an empty final block.
        let error = inflated(&mut Inflater::new(TAKEOVER), &b"\x03\x00".repeat(2000), None).unwrap_err();
        assert_eq!(error, ProtocolError::TooManyStreams { limit: MOST_STREAMS });
        // A thousand of them in each message are not.
        let mut inflater = Inflater::new(TAKEOVER);
        for _ in 0..3 {
            assert_eq!(inflated(&mut inflater, &b"\x03\x00".repeat(1000), None).unwrap(), b"");
        }
    }

    #[test]
    fn other_bytes_than_deflate_are_refused() {
        let error = inflated(&mut Inflater::new(TAKEOVER), b"\xff\xff\xff\xff", None).unwrap_err();
        assert_eq!((error, error.close_code()), (ProtocolError::NotDeflate, 1007));
        // A reference to before the beginning.
        assert_eq!(
            inflated(&mut Inflater::new(TAKEOVER), b"\xf2\x00\x11\x00\x00", None),
            Err(ProtocolError::NotDeflate)
        );
    }

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let random = prop::collection::vec(any::<u8>(), 0..3000);
        let regular = (prop::collection::vec(any::<u8>(), 1..20), 0_usize..3000)
            .prop_map(|(words, times)| words.repeat(times));
        prop::collection::vec(prop_oneof![random, regular], 1..8)
    }

    proptest! {
        #[test]
        fn messages_come_back_under_all_parameters(
            messages in messages(),
            window_bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS,
            context_takeover: bool,
            cut in 1_usize..500,
            alone in prop::collection::vec(prop::option::weighted(0.2, MIN_WINDOW_BITS..=MAX_WINDOW_BITS), 8),
        ) {
            let direction = DeflateParameters { window_bits, context_takeover };
            let mut deflater = Deflater::new(direction);
            let mut inflater = Inflater::new(direction);
            for (message, alone) in messages.iter().zip(alone) {
                let compressed = match alone {
                    Some(bits) => deflater.alone(message, bits),
                    None => {
                        // In two fragments.
                        let (first, second) = message.split_at(message.len() / 2);
                        [deflater.push(first, false), deflater.push(second, true)].concat()
                    }
                };
                let mut output = Vec::new();
                for piece in compressed.chunks(cut) {
                    inflater.push(piece, &mut output, Some(message.len())).unwrap();
                }
                inflater.finish(&mut output, Some(message.len())).unwrap();
                prop_assert_eq!(&output, message);
            }
        }
    }
}
