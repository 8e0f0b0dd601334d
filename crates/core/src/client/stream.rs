//! A body that is read as a stream: the pieces that are buffered, where HTTP chunks end in it, and when its source waits.
//!
//! Positions are counted in bytes of the body, from its beginning. A piece is a part of any object; the caller, which knows the
//! content, says which part. Nothing is copied here: the caller learns which parts of which objects a read takes.
//!
//! The marks are those of `aiohttp.StreamReader`: the source waits above `2 * limit` bytes or `limit / 16` ends of chunks, and
//! continues below half of either.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use memchr::memmem;

/// When the source of a stream waits, and when it continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMarks {
    low: usize,
    high: usize,
    low_chunks: usize,
    high_chunks: usize,
}

impl StreamMarks {
    /// Marks for a stream that buffers about `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        // Tiny chunks cost more than their bytes, as a reader has to go past the end of each. The chunk that is being read
        // has one too: a mark below 2 would never be reached on the way down.
        let high_chunks = if limit / 16 > 4 { limit / 16 } else { 4 };
        Self { low: limit, high: limit.saturating_mul(2), low_chunks: high_chunks / 2, high_chunks }
    }

    /// The mark in bytes below which the source continues.
    #[must_use]
    pub const fn low(self) -> usize {
        self.low
    }

    /// The mark in bytes above which the source waits.
    #[must_use]
    pub const fn high(self) -> usize {
        self.high
    }

    /// The number of ends of chunks below which the source continues.
    #[must_use]
    pub const fn low_chunks(self) -> usize {
        self.low_chunks
    }

    /// The number of ends of chunks above which the source waits.
    #[must_use]
    pub const fn high_chunks(self) -> usize {
        self.high_chunks
    }

    /// Raises the marks in bytes, so that a caller that reads `count` bytes at a time gets as many.
    pub const fn raise_to(&mut self, count: usize) {
        if count > self.low {
            self.low = count;
            self.high = count.saturating_mul(2);
        }
    }
}

/// The source said that the body is chunked after some of it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataBeforeChunks;

impl fmt::Display for DataBeforeChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Called begin_http_chunk_receiving when some data was already fed")
    }
}

impl std::error::Error for DataBeforeChunks {}

/// A chunk has ended in a body that is not known to be chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotChunked;

impl fmt::Display for NotChunked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Called end_chunk_receiving without calling begin_chunk_receiving first")
    }
}

impl std::error::Error for NotChunked {}

/// An object, and the part of it that is unread.
#[derive(Debug)]
struct StreamPiece<P> {
    object: P,
    start: usize,
    end: usize,
    /// Whether that is all of the object.
    is_whole: bool,
}

/// The lengths that the next pieces of a stream are to have at most.
#[derive(Clone, Copy, Debug)]
pub struct PieceSizes {
    next: usize,
    then: usize,
}

impl PieceSizes {
    /// Pieces of any length.
    pub const ANY: Self = Self { next: usize::MAX, then: usize::MAX };

    /// The greatest length of the next piece, which is at least 1.
    #[must_use]
    pub const fn most(self) -> usize {
        self.next
    }

    /// A piece of `length` bytes was made.
    pub const fn made(&mut self, length: usize) {
        self.next = if length < self.next { self.next - length } else { self.then };
    }
}

/// The buffered part of a body, in pieces.
#[derive(Debug)]
pub struct StreamBuffer<P> {
    pieces: VecDeque<StreamPiece<P>>,
    size: usize,
    total: u64,
    /// The position of the next byte to be read; negative after the caller has put back what the body never had.
    cursor: i64,
    /// Positions, none before the cursor; none at all while the body is not known to be chunked.
    chunk_ends: Option<VecDeque<i64>>,
    marks: StreamMarks,
    /// How many bytes the caller reads at a time.
    read_size: Option<usize>,
}

impl<P> Default for StreamBuffer<P> {
    fn default() -> Self {
        Self::new(StreamMarks::default())
    }
}

impl<P> StreamBuffer<P> {
    /// Reads of fewer bytes are taken out of larger pieces: an object for each of them would cost more than the copy.
    const LEAST_PIECE: usize = 16 * 1024;

    /// An empty buffer.
    #[must_use]
    pub const fn new(marks: StreamMarks) -> Self {
        Self {
            pieces: VecDeque::new(),
            size: 0,
            total: 0,
            cursor: 0,
            chunk_ends: None,
            marks,
            read_size: None,
        }
    }

    /// How many bytes are buffered.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing is buffered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// How many bytes of the body have come.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The marks.
    #[must_use]
    pub const fn marks(&self) -> StreamMarks {
        self.marks
    }

    /// Sets the marks.
    pub const fn set_marks(&mut self, marks: StreamMarks) {
        self.marks = marks;
    }

    /// Says that the caller reads `count` bytes at a time: the marks allow for it, and pieces are made of that size.
    pub const fn set_read_size(&mut self, count: usize) {
        self.marks.raise_to(count);
        self.read_size = if count < Self::LEAST_PIECE { None } else { Some(count) };
    }

    /// The lengths that the next pieces are to have, so that a read of the usual size takes whole pieces.
    #[must_use]
    pub const fn piece_sizes(&self) -> PieceSizes {
        match self.read_size {
            Some(count) => PieceSizes { next: count - self.size % count, then: count },
            None => PieceSizes::ANY,
        }
    }

    /// Positions of the ends of chunks that were not read; none while the body is not known to be chunked.
    pub fn chunk_ends(&self) -> Option<impl Iterator<Item = i64>> {
        self.chunk_ends.as_ref().map(|ends| ends.iter().copied())
    }

    /// Appends an object of `length` bytes.
    pub fn push(&mut self, object: P, length: usize) {
        self.append(StreamPiece { object, start: 0, end: length, is_whole: true });
    }

    /// Appends a part of an object.
    pub fn push_part(&mut self, object: P, part: Range<usize>) {
        self.append(StreamPiece { object, start: part.start, end: part.end, is_whole: false });
    }

    fn append(&mut self, piece: StreamPiece<P>) {
        let length = piece.end.saturating_sub(piece.start);
        if length > 0 {
            self.pieces.push_back(piece);
            self.size += length;
            self.total += length as u64;
        }
    }

    /// Puts an object of `length` bytes back, to be read before everything else.
    pub fn put_back(&mut self, object: P, length: usize) {
        if length == 0 {
            return;
        }
        self.pieces.push_front(StreamPiece { object, start: 0, end: length, is_whole: true });
        self.size += length;
        self.cursor = self.cursor.saturating_sub(signed(length));
    }

    /// The body is chunked.
    ///
    /// # Errors
    /// [`DataBeforeChunks`] if some of it has come before that was known.
    pub fn begin_chunk(&mut self) -> Result<(), DataBeforeChunks> {
        if self.chunk_ends.is_none() {
            if self.total > 0 {
                return Err(DataBeforeChunks);
            }
            self.chunk_ends = Some(VecDeque::new());
        }
        Ok(())
    }

    /// A chunk ends after the bytes so far; false if it has added nothing, and does not count: one that is compressed
    /// may be too little to decompress.
    ///
    /// # Errors
    /// [`NotChunked`] before [`StreamBuffer::begin_chunk`].
    pub fn end_chunk(&mut self) -> Result<bool, NotChunked> {
        let ends = self.chunk_ends.as_mut().ok_or(NotChunked)?;
        let end = i64::try_from(self.total).unwrap_or(i64::MAX);
        if end == ends.back().copied().unwrap_or(0) {
            return Ok(false);
        }
        ends.push_back(end);
        Ok(true)
    }

    /// Forgets all ends of chunks but the last, which stands for all: for a read that does not need the chunks that its
    /// bytes come in.
    pub fn merge_chunks(&mut self) {
        if let Some(ends) = &mut self.chunk_ends {
            ends.drain(..ends.len().saturating_sub(1));
        }
    }

    /// Whether the end of a chunk is buffered.
    #[must_use]
    pub fn has_chunk_end(&self) -> bool {
        self.chunk_ends.as_ref().is_some_and(|ends| !ends.is_empty())
    }

    /// Takes the first end of a chunk: how many bytes come before it.
    pub fn take_chunk_end(&mut self) -> Option<usize> {
        let end = self.chunk_ends.as_mut()?.pop_front()?;
        Some(usize::try_from(end.saturating_sub(self.cursor)).unwrap_or(0))
    }

    /// Whether the source is to wait.
    #[must_use]
    pub fn is_above_high_mark(&self) -> bool {
        let chunks = self.chunk_ends.as_ref().map_or(0, VecDeque::len);
        self.size > self.marks.high || chunks > self.marks.high_chunks
    }

    /// Whether a source that waits may continue.
    #[must_use]
    pub fn is_below_low_mark(&self) -> bool {
        let chunks = self.chunk_ends.as_ref().map(VecDeque::len);
        self.size < self.marks.low && chunks.is_none_or(|chunks| chunks < self.marks.low_chunks)
    }

    /// The first object and its unread part.
    #[must_use]
    pub fn first(&self) -> Option<(&P, Range<usize>)> {
        self.pieces.front().map(|first| (&first.object, first.start..first.end))
    }

    /// The parts of objects that the first `count` bytes are in.
    pub fn parts(&self, count: usize) -> impl Iterator<Item = (&P, Range<usize>)> {
        let mut left = count;
        self.pieces.iter().map_while(move |piece| {
            let taken = left.min(piece.end - piece.start);
            left -= taken;
            (taken > 0).then(|| (&piece.object, piece.start..piece.start + taken))
        })
    }

    /// Takes the first object out, if it is `count` bytes long and all of it is unread.
    pub fn take_whole(&mut self, count: usize) -> Option<P> {
        let _ = self.pieces.front().filter(|first| first.is_whole && first.end == count)?;
        let first = self.pieces.pop_front()?;
        self.pass(count);
        Some(first.object)
    }

    /// Drops the first `count` bytes, or all if there are not so many: they were read.
    pub fn advance(&mut self, count: usize) {
        let mut left = count.min(self.size);
        self.pass(left);
        while left > 0
            && let Some(first) = self.pieces.front_mut()
        {
            let unread = first.end - first.start;
            if left < unread {
                first.start += left;
                first.is_whole = false;
                return;
            }
            left -= unread;
            self.pieces.pop_front();
        }
    }

    /// Counts `count` bytes as read. The ends of chunks before the next byte are passed; the one just there is not.
    fn pass(&mut self, count: usize) {
        self.size -= count;
        self.cursor = self.cursor.saturating_add(signed(count));
        if let Some(ends) = &mut self.chunk_ends {
            while ends.front().is_some_and(|end| *end < self.cursor) {
                ends.pop_front();
            }
        }
    }
}

/// A length as a distance.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A line that is put together from several pieces.
#[derive(Debug, Default)]
pub struct LongLine {
    bytes: Vec<u8>,
}

impl LongLine {
    /// Adds `part` up to the end of `separator`, or all of it; returns how many bytes were added, and whether the separator
    /// has come. It may have begun in an earlier part.
    pub fn push(&mut self, part: &[u8], separator: &[u8]) -> (usize, bool) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(part);
        let from = before.saturating_sub(separator.len().saturating_sub(1));
        let found = self.bytes.get(from..).and_then(|rest| memmem::find(rest, separator));
        if let Some(at) = found {
            self.bytes.truncate(from + at + separator.len());
        }
        (self.bytes.len().saturating_sub(before), found.is_some())
    }

    /// The bytes so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where the first `separator` in `part` ends.
#[must_use]
pub fn end_of_line(part: &[u8], separator: &[u8]) -> Option<usize> {
    memmem::find(part, separator).map(|at| at + separator.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Buffer = StreamBuffer<Vec<u8>>;

    fn buffer(pieces: &[&[u8]]) -> Buffer {
        let mut buffer = Buffer::new(StreamMarks::new(100));
        for piece in pieces {
            buffer.push(piece.to_vec(), piece.len());
        }
        buffer
    }

    /// Reads as a caller does.
    fn read(buffer: &mut Buffer, count: usize) -> Vec<u8> {
        if let Some(piece) = buffer.take_whole(count) {
            return piece;
        }
        let read = buffer.parts(count).flat_map(|(piece, range)| piece[range].to_vec()).collect();
        buffer.advance(count);
        read
    }

    fn ends(buffer: &Buffer) -> Vec<i64> {
        buffer.chunk_ends().map(Iterator::collect).unwrap_or_default()
    }

    #[test]
    fn whole_objects_are_moved_out() {
        let mut buffer = buffer(&[b"abc", b"de"]);
        assert_eq!(buffer.take_whole(2), None);
        assert_eq!(buffer.take_whole(3), Some(b"abc".to_vec()));
        buffer.advance(1);
        assert_eq!(buffer.take_whole(1), None);
        assert_eq!(buffer.first(), Some((&b"de".to_vec(), 1..2)));
        buffer.advance(9);
        assert_eq!((buffer.first(), buffer.size(), buffer.total()), (None, 0, 5));
    }

    #[test]
    fn parts_of_objects_are_read_as_they_stand() {
        let mut buffer = Buffer::new(StreamMarks::new(100));
        buffer.push_part(b"[abc]".to_vec(), 1..4);
        buffer.push_part(b"[]".to_vec(), 1..1);
        buffer.push_part(b"de]".to_vec(), 0..2);
        assert_eq!((buffer.size(), buffer.take_whole(3)), (5, None));
        assert_eq!(read(&mut buffer, 4), b"abcd");
        assert_eq!(buffer.take_whole(1), None);
        assert_eq!(read(&mut buffer, 4), b"e");
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let mut buffer = buffer(&[b"abc"]);
        buffer.advance(2);
        buffer.put_back(b"b".to_vec(), 1);
        assert_eq!(read(&mut buffer, 9), b"bc");
        assert_eq!(buffer.total(), 3);
    }

    #[test]
    fn chunks_end_where_they_ended() {
        let mut buffer = Buffer::new(StreamMarks::new(100));
        assert_eq!(buffer.end_chunk(), Err(NotChunked));
        buffer.begin_chunk().unwrap();
        assert_eq!(buffer.end_chunk(), Ok(false), "nothing has come");
        buffer.push(b"abc".to_vec(), 3);
        assert_eq!(buffer.end_chunk(), Ok(true));
        assert_eq!(buffer.end_chunk(), Ok(false), "nothing was added");
        buffer.push(b"de".to_vec(), 2);
        assert_eq!(buffer.end_chunk(), Ok(true));
        assert_eq!(buffer.begin_chunk(), Ok(()));
        buffer.advance(1);
        assert_eq!(ends(&buffer), [3, 5]);
        assert_eq!(buffer.take_chunk_end(), Some(2));
        buffer.advance(2);
        // At the end of a chunk: it is still to be reported.
        buffer.advance(2);
        assert_eq!(ends(&buffer), [5]);
        assert_eq!(buffer.take_chunk_end(), Some(0));
        assert_eq!(buffer.take_chunk_end(), None);
    }

    #[test]
    fn ends_that_were_passed_are_forgotten() {
        let mut buffer = Buffer::new(StreamMarks::new(100));
        buffer.begin_chunk().unwrap();
        for _ in 0..4 {
            buffer.push(b"x".to_vec(), 1);
            assert_eq!(buffer.end_chunk(), Ok(true));
        }
        buffer.advance(2);
        assert_eq!(ends(&buffer), [2, 3, 4]);
        buffer.merge_chunks();
        assert_eq!(ends(&buffer), [4]);
    }

    #[test]
    fn chunks_are_known_before_data() {
        let mut buffer = buffer(&[b"x"]);
        assert_eq!(buffer.begin_chunk(), Err(DataBeforeChunks));
        buffer.merge_chunks();
        assert!(!buffer.has_chunk_end());
    }

    #[test]
    fn marks_are_by_bytes_and_by_chunks() {
        let marks = StreamMarks::new(160);
        assert_eq!((marks.low(), marks.high(), marks.low_chunks(), marks.high_chunks()), (160, 320, 5, 10));
        assert_eq!(StreamMarks::new(0).high_chunks(), 4);
        assert_eq!(StreamMarks::new(usize::MAX).high(), usize::MAX);
        let mut buffer = Buffer::new(marks);
        buffer.push(vec![0; 320], 320);
        assert!(!buffer.is_above_high_mark());
        buffer.push(vec![0; 1], 1);
        assert!(buffer.is_above_high_mark());
        buffer.advance(161);
        assert!(!buffer.is_below_low_mark());
        buffer.advance(1);
        assert!(buffer.is_below_low_mark());
        buffer.set_read_size(1000);
        assert_eq!((buffer.marks().low(), buffer.marks().high()), (1000, 2000));
        buffer.set_read_size(10);
        assert_eq!(buffer.marks().low(), 1000);
        let mut buffer = Buffer::new(marks);
        buffer.begin_chunk().unwrap();
        for _ in 0..11 {
            buffer.push(vec![0], 1);
            buffer.end_chunk().unwrap();
        }
        assert!(buffer.is_above_high_mark());
        buffer.advance(7);
        assert!(!buffer.is_below_low_mark(), "five ends are left");
        buffer.advance(1);
        assert!(buffer.is_below_low_mark());
    }

    #[test]
    fn pieces_are_made_for_the_reads() {
        let mut buffer = Buffer::new(StreamMarks::new(100));
        assert_eq!(buffer.piece_sizes().most(), usize::MAX);
        buffer.set_read_size(100);
        assert_eq!(buffer.piece_sizes().most(), usize::MAX, "small reads are cut out of large pieces");
        buffer.set_read_size(65_536);
        assert_eq!(buffer.piece_sizes().most(), 65_536);
        buffer.push(vec![0; 5], 5);
        let mut sizes = buffer.piece_sizes();
        assert_eq!(sizes.most(), 65_531);
        sizes.made(31);
        assert_eq!(sizes.most(), 65_500);
        sizes.made(65_500);
        assert_eq!(sizes.most(), 65_536);
    }

    proptest! {
        #[test]
        fn reads_give_the_bytes_in_order(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20),
            counts in prop::collection::vec(1_usize..60, 0..60),
            put_back in 0_usize..5,
        ) {
            let body = pieces.concat();
            let mut buffer = Buffer::new(StreamMarks::new(64));
            let mut pieces = pieces.into_iter();
            let mut received = Vec::new();
            for count in counts {
                if let Some(piece) = pieces.next() {
                    let length = piece.len();
                    buffer.push(piece, length);
                }
                let mut data = read(&mut buffer, count);
                prop_assert!(data.len() <= count);
                prop_assert!(data.len() == count || buffer.is_empty());
                if put_back < data.len() {
                    let kept = data.split_off(put_back);
                    let length = kept.len();
                    buffer.put_back(kept, length);
                }
                received.extend(data);
                let size: usize = buffer.parts(usize::MAX).map(|(_, range)| range.len()).sum();
                prop_assert_eq!(buffer.size(), size);
            }
            for piece in pieces {
                let length = piece.len();
                buffer.push(piece, length);
            }
            received.extend(read(&mut buffer, usize::MAX));
            prop_assert_eq!(received, body);
        }

        #[test]
        fn a_line_ends_with_its_separator_however_it_is_cut(
            line in prop::collection::vec(b'a'..=b'c', 0..30),
            separator in prop::collection::vec(b'a'..=b'c', 1..4),
            cut in 1_usize..8,
        ) {
            let mut long = LongLine::default();
            let mut taken = 0;
            let mut ended = false;
            for part in line.chunks(cut) {
                let (count, found) = long.push(part, &separator);
                taken += count;
                if found {
                    ended = true;
                    break;
                }
                prop_assert_eq!(count, part.len());
            }
            let expected = end_of_line(&line, &separator);
            prop_assert_eq!(ended.then_some(taken), expected);
            prop_assert_eq!(long.bytes(), &line[..expected.unwrap_or(line.len())]);
        }
    }
}
