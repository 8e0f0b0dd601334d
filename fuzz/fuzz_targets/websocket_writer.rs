//! Whatever is sent, in whatever fragments and however compressed, is what the other side reads; what cannot be sent is
//! refused and changes nothing.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whorl_core::websocket::{
    Compress, DeflateAgreement, DeflateParameters, FrameWriter, MessageReader, Opcode, WebSocketEvent,
    WebSocketRole,
};

#[derive(Arbitrary, Debug)]
struct Input {
    is_server: bool,
    compression: Option<(u8, bool)>,
    frames: Vec<SentFrame>,
}

#[derive(Arbitrary, Debug)]
struct SentFrame {
    opcode: u8,
    payload: Vec<u8>,
    /// The payload so many times over.
    times: u8,
    fin: bool,
    compress: Option<u8>,
    key: [u8; 4],
}

fuzz_target!(|input: Input| {
    let role = if input.is_server { WebSocketRole::Server } else { WebSocketRole::Client };
    let agreement = input.compression.map(|(window_bits, context_takeover)| {
        let direction = DeflateParameters { window_bits: 9 + window_bits % 7, context_takeover };
        DeflateAgreement { server: direction, client: direction }
    });
    let mut writer = FrameWriter::new(role, agreement);
    let mut reader = MessageReader::new(role.peer(), None, agreement);
    // The message that has been started, to compare with what is read.
    let mut message: Option<Vec<u8>> = None;
    for sent in input.frames {
        // Text is binary here: that it is UTF-8 is the sender's business.
        let opcode = match Opcode::new(sent.opcode % 11) {
            None | Some(Opcode::Text | Opcode::Close) => Opcode::Binary,
            Some(opcode) => opcode,
        };
        let payload = sent.payload.repeat(usize::from(sent.times));
        let compress = match sent.compress {
            None => Compress::Agreed,
            Some(0) => Compress::Never,
            Some(bits) => Compress::Alone(bits % 17),
        };
        let Ok(frame) = writer.frame(opcode, &payload, sent.fin, compress) else { continue };
        let bytes = frame.to_vec(sent.key);
        assert_eq!(bytes.len(), frame.size());
        let (event, used) = reader.parse(&bytes).expect("what was sent can be read");
        assert_eq!(used, bytes.len());
        match opcode {
            Opcode::Ping => assert_eq!(event, Some(WebSocketEvent::Ping(&payload))),
            Opcode::Pong => assert_eq!(event, Some(WebSocketEvent::Pong(&payload))),
            _ => {
                let mut whole = message.take().unwrap_or_default();
                whole.extend(payload);
                if sent.fin {
                    assert_eq!(event, Some(WebSocketEvent::Binary(&whole)));
                } else {
                    assert_eq!(event, None);
                    message = Some(whole);
                }
            }
        }
    }
});
