//! The decoding of response bodies, along with other threads.

use pyo3::prelude::*;
use whorl_core::client::coding::{DecodeError, DecodeProgress, Decoder};
use whorl_core::sched::assert_nothing_open;

/// Input of so many bytes is worth detaching for.
const WORTH_DETACHING: usize = 64 * 1024;

/// Decodes `input` to at most so many bytes; detached if that takes long, as other threads may have work.
///
/// # Errors
/// The fault of the body.
pub fn decode(
    py: Python<'_>,
    decoder: &mut Decoder,
    input: &[u8],
    out: &mut Vec<u8>,
    most: usize,
) -> Result<DecodeProgress, DecodeError> {
    // The decoder was taken out of its exchange for this call: no other thread waits for it.
    assert_nothing_open();
    if input.len() >= WORTH_DETACHING {
        return py.detach(|| decoder.decode(input, out, most));
    }
    // Little input may give much output.
    let here = most.min(WORTH_DETACHING);
    let begun = decoder.decode(input, out, here)?;
    if !begun.more || here == most {
        return Ok(begun);
    }
    let rest = &input[begun.consumed..];
    let DecodeProgress { consumed, more } = py.detach(|| decoder.decode(rest, out, most - here))?;
    Ok(DecodeProgress { consumed: begun.consumed + consumed, more })
}
