//! The decoding of response bodies, along with other threads.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use whorl_core::client::coding::{DecodeError, DecodeProgress, Decoder};
use whorl_core::client::stream::PieceSizes;
use whorl_core::sched::assert_nothing_open;

use crate::ffi::BytesWriter;

/// Input or output of so many bytes is worth detaching for.
const WORTH_DETACHING: usize = 64 * 1024;

/// The space that output is given at once, in bytes: at least, and at most. Most codings give a few times their input.
const ROOM: std::ops::RangeInclusive<usize> = 4 * 1024..=256 * 1024;

/// Bytes of a body that were decoded, in pieces.
#[derive(Debug)]
pub struct DecodedPieces {
    /// The pieces.
    pub pieces: Vec<Py<PyBytes>>,
    /// How far the decoder has come, or the fault of the body.
    pub outcome: Result<DecodeProgress, DecodeError>,
}

/// Decodes `input` to at most `most` bytes, in pieces of those sizes; detached if that takes long, as other threads may have
/// work. `is_all`: no more input comes.
///
/// # Errors
/// MemoryError.
pub fn decode(
    py: Python<'_>,
    decoder: &mut Decoder,
    input: &[u8],
    is_all: bool,
    most: usize,
    mut sizes: PieceSizes,
) -> PyResult<DecodedPieces> {
    // The decoder was taken out of its exchange for this call: no other thread waits for it.
    assert_nothing_open();
    let mut decoded =
        DecodedPieces { pieces: Vec::new(), outcome: Ok(DecodeProgress { consumed: 0, more: true }) };
    let announced = if is_all { decoder.size_hint(input) } else { None };
    let mut room = match announced {
        Some(size @ 1..) => size.min(*ROOM.end()),
        _ => input.len().saturating_mul(4).clamp(*ROOM.start(), *ROOM.end()),
    };
    let (mut consumed, mut produced) = (0, 0);
    loop {
        let rest = &input[consumed..];
        let space = room.min(most - produced).min(sizes.most());
        let detaches = rest.len().max(space).max(produced) > WORTH_DETACHING;
        let (piece, outcome) = BytesWriter::new(py, space)?.fill(|output| {
            if detaches {
                py.detach(|| decoder.decode_into(rest, output))
            } else {
                decoder.decode_into(rest, output)
            }
        })?;
        let length = piece.as_bytes().len();
        if length > 0 {
            decoded.pieces.push(piece.unbind());
            sizes.made(length);
            produced += length;
        }
        match outcome {
            Ok(progress) => {
                consumed += progress.consumed;
                decoded.outcome = Ok(DecodeProgress { consumed, more: progress.more });
                if !progress.more || produced == most {
                    return Ok(decoded);
                }
            }
            Err(fault) => {
                decoded.outcome = Err(fault);
                return Ok(decoded);
            }
        }
        room = room.saturating_mul(2).min(*ROOM.end());
    }
}
