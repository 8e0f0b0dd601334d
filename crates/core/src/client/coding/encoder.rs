//! The encoder of request bodies.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::Coding;
use super::deflate::WINDOW_BITS;

/// Room that one step of the compressor is given at least, in bytes.
const ROOM: usize = 1024;

/// How hard the encoder tries: 0 (not at all) to 9 (longest); 6 by default, as in zlib.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// The level of that number; `None` above 9.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self(6)
    }
}

/// Something was given to an [`Encoder`] after its stream had been ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished;

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the encoder is finished; make a new one for each body")
    }
}

impl std::error::Error for Finished {}

/// Encodes a body piece by piece, as gzip or as deflate (in the zlib format). Its output is at most a little larger than its
/// input.
///
/// ```
/// use whorl_core::client::coding::{Coding, Encoder, Level};
///
/// let mut encoder = Encoder::new(Coding::Gzip, Level::default()).unwrap();
/// let mut body = Vec::new();
/// encoder.encode(b"some text", &mut body).unwrap();
/// encoder.finish(&mut body).unwrap();
/// assert_eq!(body[..2], [0x1f, 0x8b]);
/// ```
#[derive(Debug)]
pub struct Encoder {
    compressor: Compress,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Finished,
}

impl Encoder {
    /// An encoder for `gzip` or `deflate`; `None` for codings that are only decoded.
    #[must_use]
    pub fn new(coding: Coding, level: Level) -> Option<Self> {
        let level = Compression::new(u32::from(level.0));
        let compressor = match coding {
            Coding::Gzip => Compress::new_gzip(level, WINDOW_BITS),
            Coding::Deflate => Compress::new(level, true),
            Coding::Brotli | Coding::Zstd => return None,
        };
        Some(Self { compressor, phase: Phase::Open })
    }

    /// Encodes `input` and appends what comes of it to `out`; most is kept back until there is enough for a block.
    ///
    /// # Errors
    ///
    /// [`Finished`] after [`Encoder::finish`].
    pub fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Finished> {
        self.run(input, out, FlushCompress::None)
    }

    /// Appends everything that was kept back, so that the receiver can decode all input so far.
    ///
    /// # Errors
    ///
    /// [`Finished`] after [`Encoder::finish`].
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Finished> {
        self.run(&[], out, FlushCompress::Sync)
    }

    /// Appends the rest and the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Finished`] if that has been done.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Finished> {
        self.run(&[], out, FlushCompress::Finish)
    }

    fn run(&mut self, input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Result<(), Finished> {
        let mut consumed = 0;
        while self.phase == Phase::Open {
            // Half the input is about what text comes to.
            out.reserve(((input.len() - consumed) / 2).max(ROOM));
            let total_in = self.compressor.total_in();
            // The compressor refuses nothing but calls after its end, and those do not come to here.
            let status =
                self.compressor.compress_vec(&input[consumed..], out, flush).map_err(|_| Finished)?;
            consumed += (self.compressor.total_in() - total_in) as usize;
            let is_full = out.len() == out.capacity();
            if status == Status::StreamEnd {
                self.phase = Phase::Finished;
                return Ok(());
            }
            if consumed == input.len() && !is_full {
                return Ok(());
            }
        }
        Err(Finished)
    }
}
