//! The decoder: one coding after another, each bounded.

use smallvec::SmallVec;

use super::brotli::Brotli;
use super::deflate::{Deflate, Gzip};
use super::zstd::Zstd;
use super::{Coding, DecodeError, DecodeFault, Undecodable};
use crate::output::{Output, fill_vec};

/// The most bytes that are buffered between two codings.
const BETWEEN: usize = 16 * 1024;
/// The space that a vector is given for output at once, in bytes: at least, and at most.
const ROOM: std::ops::RangeInclusive<usize> = 4 * 1024..=256 * 1024;
/// The input that one step is given at most, in bytes: the libraries count in 32 bits.
const MOST_INPUT: usize = 1 << 30;

/// The outcome of one call of [`Decoder::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct DecodeProgress {
    /// How many bytes of the input have been taken. The others come first in the next call.
    pub consumed: usize,
    /// Whether the output was stopped by its bound: there may be more, so call again, with new input or without. When
    /// it is false all input has been taken.
    pub more: bool,
}

/// Decodes the body of a message, whatever pieces it comes in.
///
/// The bytes after the end of the compressed data are treated by coding. Another gzip member, zlib stream or zstd frame
/// is decoded; anything else is ignored after gzip, deflate and brotli, as browsers and gzip do (aiohttp fails), and is
/// an error after zstd. A body of no bytes is valid in every coding: responses to HEAD have one.
///
/// ```
/// use whorl_core::client::coding::Decoder;
///
/// let body = [0x4b, 0x04, 0x00]; // "a" as a bare DEFLATE stream
/// let mut decoder = Decoder::new("deflate").unwrap();
/// let mut text = Vec::new();
/// let progress = decoder.decode(&body, &mut text, 64 * 1024).unwrap();
/// assert_eq!((progress.consumed, progress.more, text.as_slice()), (3, false, b"a".as_slice()));
/// assert!(decoder.finish().is_ok());
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    /// In the order of decoding: the first takes the bytes from the network.
    steps: SmallVec<[CodingStep; 1]>,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// How many codings may have been applied to a body, `identity` not counted.
    pub const MOST_CODINGS: usize = 5;

    /// A decoder for the value of a `Content-Encoding` field: names in the order in which the codings were applied,
    /// parted by commas. Without any, or with `identity` alone, it is the identity.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] if a coding is not known or there are too many.
    pub fn new(content_encoding: &str) -> Result<Self, Undecodable> {
        let mut steps = SmallVec::new();
        let mut count = 0;
        for name in content_encoding.rsplit(',').map(|name| name.trim_matches([' ', '\t'])) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            count += 1;
            let coding = Coding::from_name(name).ok_or_else(|| Undecodable::Unknown(name.to_owned()))?;
            if count <= Self::MOST_CODINGS {
                steps.push(CodingStep::new(coding));
            }
        }
        if count > Self::MOST_CODINGS {
            return Err(Undecodable::TooMany(count));
        }
        Ok(Self { steps, failed: None })
    }

    /// Whether decoding leaves the body as it is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.steps.is_empty()
    }

    /// The codings in the order of decoding.
    pub fn codings(&self) -> impl Iterator<Item = Coding> {
        self.steps.iter().map(|step| step.coding)
    }

    /// Decodes from `input` and appends to `out`, no more than `max_out` bytes (at least 1).
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the input does not follow the coding, for this call and every later one. Output from
    /// before the fault may have been appended.
    pub fn decode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        max_out: usize,
    ) -> Result<DecodeProgress, DecodeError> {
        in_rounds(input, out, max_out, |input, output| self.decode_into(input, output))
    }

    /// [`Decoder::decode`] into memory of the caller's, which has space for at least 1 byte.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn decode_into(
        &mut self,
        input: &[u8],
        output: &mut Output<'_>,
    ) -> Result<DecodeProgress, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = run(&mut self.steps, input, output);
        if let Err(error) = &done {
            self.failed = Some(error.clone());
        }
        done
    }

    /// The length of the text in bytes as far as the coding says it, if `input` is all of the body and none of it was decoded.
    /// It is the peer's word, and a body may have further members: a caller reserves so much at most, and is ready for more.
    #[must_use]
    pub fn size_hint(&self, input: &[u8]) -> Option<usize> {
        match self.steps.as_slice() {
            [CodingStep { coding: Coding::Gzip, stage: None, .. }] => {
                // RFC 1952, section 2.3.1: ISIZE, the last field.
                let size = input.last_chunk().map(|size| u32::from_le_bytes(*size))?;
                usize::try_from(size).ok()
            }
            _ => None,
        }
    }

    /// Says that there is no more input, after [`DecodeProgress::more`] was false.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], with [`DecodeError::is_cut`], if the compressed data has not come to its end; or the error of
    /// before.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.steps.iter().find(|step| !step.is_complete()) {
            Some(step) => Err(DecodeError { coding: step.coding, fault: DecodeFault::Cut }),
            None => Ok(()),
        }
    }
}

/// Has `decode` append to `out`, no more than `most` bytes, a part of the space at a time: most input gives less than is
/// allowed.
fn in_rounds(
    input: &[u8],
    out: &mut Vec<u8>,
    most: usize,
    mut decode: impl FnMut(&[u8], &mut Output<'_>) -> Result<DecodeProgress, DecodeError>,
) -> Result<DecodeProgress, DecodeError> {
    let start = out.len();
    let mut consumed = 0;
    let mut room = input.len().saturating_mul(4).clamp(*ROOM.start(), *ROOM.end());
    loop {
        let given = room.min(most - (out.len() - start));
        let done = fill_vec(out, given, |output| decode(&input[consumed..], output))?;
        consumed += done.consumed;
        if !done.more || out.len() - start == most {
            return Ok(DecodeProgress { consumed, more: done.more });
        }
        room = room.saturating_mul(2).min(*ROOM.end());
    }
}

/// Takes `input` through all `steps`, until it is used up or `output` is full.
fn run(
    steps: &mut [CodingStep],
    input: &[u8],
    output: &mut Output<'_>,
) -> Result<DecodeProgress, DecodeError> {
    let Some((last, before)) = steps.split_last_mut() else {
        let consumed = output.extend(input);
        return Ok(DecodeProgress { consumed, more: consumed < input.len() });
    };
    if before.is_empty() {
        return last.decode(input, output);
    }
    let mut consumed = 0;
    loop {
        if last.decode_waiting(output)? {
            return Ok(DecodeProgress { consumed, more: true });
        }
        let mut waiting = std::mem::take(&mut last.waiting);
        let given =
            in_rounds(&input[consumed..], &mut waiting, BETWEEN, |input, output| run(before, input, output));
        last.waiting = waiting;
        let given = given?;
        consumed += given.consumed;
        if last.waiting.is_empty() && !given.more {
            return Ok(DecodeProgress { consumed, more: false });
        }
    }
}

/// One coding, and its buffered input.
#[derive(Debug)]
struct CodingStep {
    coding: Coding,
    /// Made when the first byte comes: many responses have a coding and no body.
    stage: Option<DecoderStage>,
    /// Whether the last step filled its output space, so that there may be more without further input.
    full: bool,
    /// The output of the coding before this one, taken up to `taken`.
    waiting: Vec<u8>,
    taken: usize,
}

impl CodingStep {
    const fn new(coding: Coding) -> Self {
        Self { coding, stage: None, full: false, waiting: Vec::new(), taken: 0 }
    }

    fn is_complete(&self) -> bool {
        self.waiting.is_empty() && !self.full && self.stage.as_ref().is_none_or(DecoderStage::is_complete)
    }

    fn decode(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<DecodeProgress, DecodeError> {
        self.steps(input, output).map_err(|fault| DecodeError { coding: self.coding, fault })
    }

    /// Decodes buffered input, and says whether there may be more output than there was space for.
    fn decode_waiting(&mut self, output: &mut Output<'_>) -> Result<bool, DecodeError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let done = self.decode(&waiting[self.taken..], output)?;
        self.taken += done.consumed;
        if !done.more {
            waiting.clear();
            self.taken = 0;
        }
        self.waiting = waiting;
        Ok(done.more)
    }

    fn steps(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<DecodeProgress, DecodeFault> {
        let mut consumed = 0;
        while (consumed < input.len() || self.full) && output.room() > 0 {
            let stage = match &mut self.stage {
                Some(stage) => stage,
                None => self.stage.insert(DecoderStage::new(self.coding)?),
            };
            let before = output.written();
            let piece = &input[consumed..][..(input.len() - consumed).min(MOST_INPUT)];
            let taken = stage.step(piece, output)?;
            if taken + (output.written() - before) == 0 && !piece.is_empty() {
                return Err(DecodeFault::Corrupt("decoding does not continue".into()));
            }
            consumed += taken;
            self.full = output.room() == 0 && !stage.is_complete();
        }
        Ok(DecodeProgress { consumed, more: self.full || consumed < input.len() })
    }
}

/// The state of one coding.
///
/// A step takes all of its input or fills its output, and returns how much input it has taken; then the caller has to bring more
/// input, or more output space.
#[derive(Debug)]
enum DecoderStage {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Brotli),
    Zstd(Zstd),
}

impl DecoderStage {
    fn new(coding: Coding) -> Result<Self, DecodeFault> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Gzip::new()),
            Coding::Deflate => Self::Deflate(Deflate::new()),
            Coding::Brotli => Self::Brotli(Brotli::new()),
            Coding::Zstd => Self::Zstd(Zstd::new()?),
        })
    }

    fn step(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<usize, DecodeFault> {
        match self {
            Self::Gzip(stage) => stage.step(input, output),
            Self::Deflate(stage) => stage.step(input, output),
            Self::Brotli(stage) => stage.step(input, output),
            Self::Zstd(stage) => stage.step(input, output),
        }
    }

    /// Whether the input may end here, with all output handed over.
    const fn is_complete(&self) -> bool {
        match self {
            Self::Gzip(stage) => stage.is_complete(),
            Self::Deflate(stage) => stage.is_complete(),
            Self::Brotli(stage) => stage.is_complete(),
            Self::Zstd(stage) => stage.is_complete(),
        }
    }
}
