//! The WebSocket that sends each message back (RFC 6455): frames in, frames out, without extensions.

use std::io::Cursor;

use anyhow::{Result, bail};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest frame that is held until it is whole.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What the frames of one read were answered by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Echoed {
    pub(super) frames: Vec<u8>,
    /// The client has closed the WebSocket, and its Close frame is answered.
    pub(super) closed: bool,
}

/// Takes the whole frames off the front of `input`, and answers them.
pub(super) fn echo_frames(input: &mut Vec<u8>) -> Result<Echoed> {
    let mut echoed = Echoed::default();
    let mut position = 0;
    while !echoed.closed {
        let mut rest = Cursor::new(input.get(position..).unwrap_or_default());
        let Some((header, length)) = FrameHeader::parse(&mut rest)? else { break };
        if length > LONGEST {
            bail!("a frame of {length} bytes");
        }
        let start = position + usize::try_from(rest.position())?;
        let end = start + usize::try_from(length)?;
        let Some(payload) = input.get(start..end) else { break };
        let Some(mask) = header.mask else { bail!("a frame without a mask") };
        let opcode = match header.opcode {
            OpCode::Control(Control::Ping) => OpCode::Control(Control::Pong),
            OpCode::Control(Control::Close) => {
                echoed.closed = true;
                header.opcode
            }
            OpCode::Data(Data::Text | Data::Binary | Data::Continue) => header.opcode,
            other => bail!("a frame of the kind {other}"),
        };
        FrameHeader { opcode, mask: None, ..header }.format(length, &mut echoed.frames)?;
        let sent = echoed.frames.len();
        echoed.frames.extend_from_slice(payload);
        unmask(echoed.frames.get_mut(sent..).unwrap_or_default(), mask);
        position = end;
    }
    input.drain(..position);
    Ok(echoed)
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for group in payload.chunks_mut(mask.len()) {
        for (byte, key) in group.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame, as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut masked = payload.to_vec();
        unmask(&mut masked, mask);
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap()];
        frame.extend_from_slice(&mask);
        frame.extend_from_slice(&masked);
        frame
    }

    fn echoed(frames: &[u8], closed: bool) -> Echoed {
        Echoed { frames: frames.to_vec(), closed }
    }

    #[test]
    fn a_message_comes_back_without_its_mask() {
        // The example of RFC 6455, section 5.7.
        let mut input = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(echo_frames(&mut input).unwrap(), echoed(b"\x81\x05Hello", false));
        assert!(input.is_empty());
    }

    #[test]
    fn a_frame_is_answered_once_it_is_whole() {
        let whole = frame(0x82, b"bytes");
        for cut in 0..whole.len() {
            let mut input = whole[..cut].to_vec();
            assert_eq!(echo_frames(&mut input).unwrap(), echoed(b"", false), "{cut} bytes");
            input.extend_from_slice(&whole[cut..]);
            assert_eq!(echo_frames(&mut input).unwrap(), echoed(b"\x82\x05bytes", false));
        }
    }

    #[test]
    fn a_ping_is_answered_by_a_pong_and_a_close_by_the_end() {
        let mut input = [frame(0x89, b"hi"), frame(0x88, b"\x03\xe8"), frame(0x82, b"late")].concat();
        assert_eq!(echo_frames(&mut input).unwrap(), echoed(b"\x8a\x02hi\x88\x02\x03\xe8", true));
    }

    #[test]
    fn a_frame_without_a_mask_or_of_an_absurd_length_is_an_error() {
        assert!(echo_frames(&mut b"\x82\x02hi".to_vec()).is_err());
        assert!(echo_frames(&mut b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff mask".to_vec()).is_err());
    }
}
