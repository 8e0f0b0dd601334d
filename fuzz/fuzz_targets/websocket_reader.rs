//! Whatever bytes a peer sends, under any cuts: no panic, the same events and the same error however they are cut, texts that
//! are UTF-8, and no message larger than is allowed.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whorl_core::websocket::{DeflateAgreement, DeflateParameters, ProtocolError, WebSocketEvent, MessageReader, WebSocketRole, may_be_sent};

#[derive(Arbitrary, Debug)]
struct Input {
    is_server: bool,
    limit: Option<u16>,
    /// The window and the context takeover of the compression, if there is one.
    compression: Option<(u8, bool)>,
    /// Sizes of the pieces that the bytes come in, over and over.
    cuts: Vec<u8>,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl Input {
    fn reader(&self) -> MessageReader {
        let role = if self.is_server { WebSocketRole::Server } else { WebSocketRole::Client };
        let agreement = self.compression.map(|(window_bits, context_takeover)| {
            let direction = DeflateParameters { window_bits: 8 + window_bits % 8, context_takeover };
            DeflateAgreement { server: direction, client: direction }
        });
        MessageReader::new(role, self.limit.map(usize::from), agreement)
    }

    fn seen(&self, event: WebSocketEvent<'_>) -> Seen {
        let limit = self.limit.map_or(usize::MAX, usize::from);
        match event {
            WebSocketEvent::Text(text) => {
                assert!(text.len() <= limit);
                Seen::Text(String::from_utf8(text.to_vec()).expect("a text is UTF-8"))
            }
            WebSocketEvent::Binary(bytes) => {
                assert!(bytes.len() <= limit);
                Seen::Binary(bytes.to_vec())
            }
            WebSocketEvent::Ping(payload) => {
                assert!(payload.len() <= 125);
                Seen::Ping(payload.to_vec())
            }
            WebSocketEvent::Pong(payload) => {
                assert!(payload.len() <= 125);
                Seen::Pong(payload.to_vec())
            }
            WebSocketEvent::Close(code, reason) => {
                assert!(code.is_none_or(may_be_sent) && reason.len() <= 123);
                Seen::Close(code, reason.to_owned())
            }
        }
    }

    fn read<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<ProtocolError>) {
        let mut reader = self.reader();
        let mut seen = Vec::new();
        for mut piece in pieces {
            loop {
                match reader.parse(piece) {
                    Ok((Some(event), used)) => {
                        seen.push(self.seen(event));
                        piece = &piece[used..];
                    }
                    Ok((None, used)) => {
                        assert_eq!(used, piece.len(), "what is not complete is all used");
                        break;
                    }
                    Err(error) => {
                        assert!(matches!(error.close_code(), 1002 | 1007 | 1009));
                        assert_eq!(reader.parse(b"\x81\x00"), Err(error), "an error is final");
                        return (seen, Some(error));
                    }
                }
            }
        }
        (seen, None)
    }
}

fuzz_target!(|input: Input| {
    let at_once = input.read(std::iter::once(input.bytes.as_slice()));
    let mut rest = input.bytes.as_slice();
    let mut cuts = input.cuts.iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let cut = usize::from(*cuts.next().unwrap_or(&0)) + 1;
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(at_once, input.read(pieces));
});
