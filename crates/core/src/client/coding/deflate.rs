//! gzip (RFC 1952), zlib (RFC 1950) and bare DEFLATE (RFC 1951), over flate2.

use flate2::{Decompress, FlushDecompress, Status};

use super::DecodeFault;
use crate::output::{Output, fill};

/// How every gzip member begins: its magic number, and the one method of compression there is.
const MEMBER_BEGINS: [u8; 3] = [0x1f, 0x8b, 8];
/// The largest window there is, 32 KiB, as its base-2 logarithm.
pub(super) const WINDOW_BITS: u8 = 15;

/// One call of the inflater: how much input it has taken, and whether its stream has ended.
fn inflate(
    inflater: &mut Decompress,
    input: &[u8],
    output: &mut Output<'_>,
) -> Result<(usize, bool), DecodeFault> {
    let (total_in, total_out) = (inflater.total_in(), inflater.total_out());
    let outcome = inflater.decompress_uninit(input, output.rest(), FlushDecompress::None);
    // Neither number is larger than the slice it counts.
    let consumed = (inflater.total_in() - total_in) as usize;
    let produced = (inflater.total_out() - total_out) as usize;
    // SAFETY: the library counts the bytes that it has written to the beginning of the rest. Its own `decompress_vec` sets the
    // length of a vector by that.
    unsafe { output.advance(produced) };
    let status = outcome.map_err(|error| {
        let detail = error.message().unwrap_or(match error.needs_dictionary() {
            Some(_) => "a preset dictionary is needed",
            None => "invalid compressed data",
        });
        DecodeFault::Corrupt(detail.to_owned().into())
    })?;
    Ok((consumed, status == Status::StreamEnd))
}

/// Members one after another.
#[derive(Debug)]
pub(super) struct Gzip {
    inflater: Decompress,
    place: GzipPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GzipPlace {
    Member,
    /// After a member; so many bytes of the next one's beginning have come.
    Between(usize),
    /// After something that begins no member.
    Beyond,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { inflater: Decompress::new_gzip(WINDOW_BITS), place: GzipPlace::Member }
    }

    pub(super) const fn is_complete(&self) -> bool {
        !matches!(self.place, GzipPlace::Member)
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<usize, DecodeFault> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            match self.place {
                GzipPlace::Member => {
                    let (taken, ended) = inflate(&mut self.inflater, rest, output)?;
                    consumed += taken;
                    if !ended {
                        return Ok(consumed);
                    }
                    self.place = GzipPlace::Between(0);
                }
                GzipPlace::Between(matched) => {
                    let Some(byte) = rest.first() else { return Ok(consumed) };
                    consumed += 1;
                    self.place = match matched {
                        // Padding of tape blocks, which gzip skips too.
                        0 if *byte == 0 => GzipPlace::Between(0),
                        2 if *byte == MEMBER_BEGINS[2] => self.next_member()?,
                        0 | 1 if *byte == MEMBER_BEGINS[matched] => GzipPlace::Between(matched + 1),
                        _ => GzipPlace::Beyond,
                    };
                }
                GzipPlace::Beyond => return Ok(input.len()),
            }
        }
    }

    /// The inflater for another member, whose beginning was taken from the input.
    fn next_member(&mut self) -> Result<GzipPlace, DecodeFault> {
        self.inflater.reset(true);
        let (_none, begun) = fill(&mut [], |none| inflate(&mut self.inflater, &MEMBER_BEGINS, none));
        let _ = begun?;
        Ok(GzipPlace::Member)
    }
}

/// The coding `deflate`: one zlib stream, or one bare DEFLATE stream.
#[derive(Debug)]
pub(super) enum Deflate {
    /// Nothing has come.
    Unknown,
    Stream(Decompress),
    Beyond,
}

impl Deflate {
    pub(super) const fn new() -> Self {
        Self::Unknown
    }

    pub(super) const fn is_complete(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<usize, DecodeFault> {
        if let (Self::Unknown, Some(first)) = (&*self, input.first()) {
            *self = Self::Stream(Decompress::new(begins_zlib(*first)));
        }
        let Self::Stream(inflater) = self else {
            return Ok(input.len());
        };
        let (consumed, ended) = inflate(inflater, input, output)?;
        if !ended {
            return Ok(consumed);
        }
        *self = Self::Beyond;
        Ok(input.len())
    }
}

/// Whether a stream with that first byte is zlib's (RFC 1950, section 2.2): the method is 8, the window no larger than
/// 32 KiB. A bare stream would begin so only with a stored block that has bits set in its padding, which no encoder
/// writes.
const fn begins_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}
