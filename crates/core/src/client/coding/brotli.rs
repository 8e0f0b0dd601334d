//! Brotli (RFC 7932), over `brotli-decompressor`.

use std::fmt;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::DecodeFault;
use crate::output::Output;

/// One stream; its window, of at most 16 MiB, grows with the decoded output.
pub(super) struct Brotli {
    /// On the heap, as it is some KiB large.
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    place: BrotliPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrotliPlace {
    Stream,
    Beyond,
}

impl Brotli {
    pub(super) fn new() -> Self {
        // Strict: without the windows of up to 1 GiB that are no part of RFC 7932.
        let state = BrotliState::new_strict(StandardAlloc {}, StandardAlloc {}, StandardAlloc {});
        Self { state: Box::new(state), place: BrotliPlace::Stream }
    }

    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.place, BrotliPlace::Beyond)
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<usize, DecodeFault> {
        if self.place == BrotliPlace::Beyond {
            return Ok(input.len());
        }
        let (mut left, mut consumed) = (input.len(), 0);
        let mut result = BrotliResult::NeedsMoreInput;
        let state = &mut self.state;
        output.write_zeroed(usize::MAX, |output| {
            let (mut room, mut produced) = (output.len(), 0);
            let mut total = 0;
            result = BrotliDecompressStream(
                &mut left,
                &mut consumed,
                input,
                &mut room,
                &mut produced,
                output,
                &mut total,
                state,
            );
            Ok(produced)
        })?;
        match result {
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(consumed),
            BrotliResult::ResultSuccess => {
                self.place = BrotliPlace::Beyond;
                Ok(input.len())
            }
            BrotliResult::ResultFailure => Err(DecodeFault::Corrupt(
                format!("invalid compressed data ({:?})", self.state.error_code).into(),
            )),
        }
    }
}

impl fmt::Debug for Brotli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brotli").field("place", &self.place).finish_non_exhaustive()
    }
}
