//! The decoder: one coding after another, each bounded.

use smallvec::SmallVec;

use super::brotli::Brotli;
use super::deflate::{Deflate, Gzip};
use super::zstd::Zstd;
use super::{Coding, DecodeError, DecodeFault, DecodeStep, Undecodable};

/// The most bytes that are buffered between two codings.
const BETWEEN: usize = 16 * 1024;
/// The output space of one step of a coding, in bytes: at least, and at most. The most is far below 8 MiB, which keeps
/// zstd from decoding a frame at once whose window would be refused if it came in pieces.
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
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = run(&mut self.steps, input, out, max_out);
        if let Err(error) = &done {
            self.failed = Some(error.clone());
        }
        done
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

/// Takes `input` through all `steps`, until it is used up or `out` has grown by `most`.
fn run(
    steps: &mut [CodingStep],
    input: &[u8],
    out: &mut Vec<u8>,
    most: usize,
) -> Result<DecodeProgress, DecodeError> {
    let Some((last, before)) = steps.split_last_mut() else {
        let consumed = input.len().min(most);
        out.extend_from_slice(&input[..consumed]);
        return Ok(DecodeProgress { consumed, more: consumed < input.len() });
    };
    if before.is_empty() {
        return last.decode(input, out, most);
    }
    let start = out.len();
    let mut consumed = 0;
    loop {
        if last.decode_waiting(out, most - (out.len() - start))? {
            return Ok(DecodeProgress { consumed, more: true });
        }
        let given = run(before, &input[consumed..], &mut last.waiting, BETWEEN)?;
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

    fn decode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        most: usize,
    ) -> Result<DecodeProgress, DecodeError> {
        self.steps(input, out, most).map_err(|fault| DecodeError { coding: self.coding, fault })
    }

    /// Decodes buffered input, and says whether there may be more output than `most` allowed.
    fn decode_waiting(&mut self, out: &mut Vec<u8>, most: usize) -> Result<bool, DecodeError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let done = self.decode(&waiting[self.taken..], out, most)?;
        self.taken += done.consumed;
        if !done.more {
            waiting.clear();
            self.taken = 0;
        }
        self.waiting = waiting;
        Ok(done.more)
    }

    fn steps(&mut self, input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<DecodeProgress, DecodeFault> {
        let (mut consumed, mut produced) = (0, 0);
        let mut room = input.len().saturating_mul(4).clamp(*ROOM.start(), *ROOM.end());
        while (consumed < input.len() || self.full) && produced < most {
            let stage = match &mut self.stage {
                Some(stage) => stage,
                None => self.stage.insert(DecoderStage::new(self.coding)?),
            };
            let start = out.len();
            let given = room.min(most - produced);
            // Zeroed, as the libraries' safe interfaces require; next to decoding it costs nothing.
            out.resize(start + given, 0);
            let piece = &input[consumed..][..(input.len() - consumed).min(MOST_INPUT)];
            let step = stage.step(piece, &mut out[start..]);
            out.truncate(start + step.as_ref().map_or(0, |step| step.produced));
            let step = step?;
            if step.consumed + step.produced == 0 && !piece.is_empty() {
                return Err(DecodeFault::Corrupt("decoding does not continue".into()));
            }
            consumed += step.consumed;
            produced += step.produced;
            self.full = step.produced == given && !stage.is_complete();
            room = room.saturating_mul(2).min(*ROOM.end());
        }
        Ok(DecodeProgress { consumed, more: self.full || consumed < input.len() })
    }
}

/// The state of one coding.
///
/// A step takes all of its input or fills its output; then the caller has to bring more input, or more output space.
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

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<DecodeStep, DecodeFault> {
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
