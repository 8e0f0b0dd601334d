//! Zstandard (RFC 8878), over the reference implementation.

use std::fmt;

use ::zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::DecodeFault;
use crate::output::Output;

/// The largest window that is accepted, as its base-2 logarithm: 8 MiB, which RFC 9659 sets for this content coding.
const WINDOW_LOG: u32 = 23;

/// The output of one call in bytes, at most. It is far below 8 MiB, so that no frame is decoded at once whose window would be
/// refused if it came in pieces.
const MOST_OUTPUT: usize = 256 * 1024;

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

    pub(super) fn step(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<usize, DecodeFault> {
        let mut consumed = 0;
        // A call that could do nothing is counted against the context, which fails after some of them.
        while consumed < input.len() || self.place == ZstdPlace::Full {
            let room = output.room().min(MOST_OUTPUT);
            if room == 0 {
                break;
            }
            let mut from = InBuffer::around(&input[consumed..]);
            let mut hint = 0;
            let produced = output.write_zeroed(room, |output| {
                let mut to = OutBuffer::around(output);
                hint = self.context.decompress_stream(&mut to, &mut from).map_err(fault)?;
                Ok(to.pos())
            })?;
            consumed += from.pos();
            self.place = match hint {
                0 => ZstdPlace::Between,
                _ if produced == room => ZstdPlace::Full,
                _ => ZstdPlace::Frame,
            };
        }
        Ok(consumed)
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
