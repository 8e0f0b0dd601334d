//! Zstandard (RFC 8878), over the reference implementation.

use std::fmt;

use ::zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::{DecodeFault, DecodeStep};

/// The largest window that is accepted, as its base-2 logarithm: 8 MiB, which RFC 9659 sets for this content coding.
const WINDOW_LOG: u32 = 23;

/// Frames one after another.
pub(super) struct Zstd {
    context: DCtx<'static>,
    place: ZstdPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZstdPlace {
    /// Within a frame.
    Frame,
    /// Within a frame, with more output than the last step had space for.
    Full,
    /// Between frames.
    Between,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, DecodeFault> {
        let mut context = DCtx::try_create().ok_or(DecodeFault::OutOfMemory)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(fault)?;
        Ok(Self { context, place: ZstdPlace::Between })
    }

    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.place, ZstdPlace::Between)
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<DecodeStep, DecodeFault> {
        let mut done = DecodeStep::default();
        // A call that could do nothing is counted against the context, which fails after some of them.
        while done.consumed < input.len() || self.place == ZstdPlace::Full {
            let room = output.len() - done.produced;
            if room == 0 {
                break;
            }
            let mut from = InBuffer::around(&input[done.consumed..]);
            let mut to = OutBuffer::around(&mut output[done.produced..]);
            let hint = self.context.decompress_stream(&mut to, &mut from).map_err(fault)?;
            let produced = to.pos();
            done.consumed += from.pos();
            done.produced += produced;
            self.place = match hint {
                0 => ZstdPlace::Between,
                _ if produced == room => ZstdPlace::Full,
                _ => ZstdPlace::Frame,
            };
        }
        Ok(done)
    }
}

/// The fault of an error code of the library.
fn fault(code: usize) -> DecodeFault {
    DecodeFault::Corrupt(get_error_name(code).into())
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("place", &self.place).finish_non_exhaustive()
    }
}
