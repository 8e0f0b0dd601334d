//! gzip (RFC 1952), zlib (RFC 1950) and bare DEFLATE (RFC 1951), over flate2.

use flate2::{Decompress, FlushDecompress, Status};

use super::{DecodeFault, DecodeStep};

/// How every gzip member begins: its magic number, and the one method of compression there is.
const MEMBER_BEGINS: [u8; 3] = [0x1f, 0x8b, 8];
/// The largest window there is, 32 KiB, as its base-2 logarithm.
pub(super) const WINDOW_BITS: u8 = 15;

/// One call of the inflater; true when its stream has ended.
fn inflate(
    inflater: &mut Decompress,
    input: &[u8],
    output: &mut [u8],
) -> Result<(DecodeStep, bool), DecodeFault> {
    let (total_in, total_out) = (inflater.total_in(), inflater.total_out());
    let status = inflater.decompress(input, output, FlushDecompress::None).map_err(|error| {
        let detail = error.message().unwrap_or(match error.needs_dictionary() {
            Some(_) => "a preset dictionary is needed",
            None => "invalid compressed data",
        });
        DecodeFault::Corrupt(detail.to_owned().into())
    })?;
    // Neither number is larger than the slice it counts.
    let consumed = (inflater.total_in() - total_in) as usize;
    let produced = (inflater.total_out() - total_out) as usize;
    Ok((DecodeStep { consumed, produced }, status == Status::StreamEnd))
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

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<DecodeStep, DecodeFault> {
        let mut done = DecodeStep::default();
        loop {
            let rest = &input[done.consumed..];
            match self.place {
                GzipPlace::Member => {
                    let (step, ended) = inflate(&mut self.inflater, rest, &mut output[done.produced..])?;
                    done.consumed += step.consumed;
                    done.produced += step.produced;
                    if !ended {
                        return Ok(done);
                    }
                    self.place = GzipPlace::Between(0);
                }
                GzipPlace::Between(matched) => {
                    let Some(byte) = rest.first() else { return Ok(done) };
                    done.consumed += 1;
                    self.place = match matched {
                        // Padding of tape blocks, which gzip skips too.
                        0 if *byte == 0 => GzipPlace::Between(0),
                        2 if *byte == MEMBER_BEGINS[2] => self.next_member()?,
                        0 | 1 if *byte == MEMBER_BEGINS[matched] => GzipPlace::Between(matched + 1),
                        _ => GzipPlace::Beyond,
                    };
                }
                GzipPlace::Beyond => {
                    done.consumed = input.len();
                    return Ok(done);
                }
            }
        }
    }

    /// The inflater for another member, whose beginning was taken from the input.
    fn next_member(&mut self) -> Result<GzipPlace, DecodeFault> {
        self.inflater.reset(true);
        inflate(&mut self.inflater, &MEMBER_BEGINS, &mut [])?;
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

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<DecodeStep, DecodeFault> {
        if let (Self::Unknown, Some(first)) = (&*self, input.first()) {
            *self = Self::Stream(Decompress::new(begins_zlib(*first)));
        }
        let Self::Stream(inflater) = self else {
            return Ok(DecodeStep { consumed: input.len(), produced: 0 });
        };
        let (step, ended) = inflate(inflater, input, output)?;
        if !ended {
            return Ok(step);
        }
        *self = Self::Beyond;
        Ok(DecodeStep { consumed: input.len(), ..step })
    }
}

/// Whether a stream with that first byte is zlib's (RFC 1950, section 2.2): the method is 8, the window no larger than
/// 32 KiB. A bare stream would begin so only with a stored block that has bits set in its padding, which no encoder
/// writes.
const fn begins_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}
