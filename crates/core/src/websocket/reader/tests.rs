//! Each rule of the protocol by an example; then any messages, in any fragments, under any cuts.

use proptest::prelude::*;

use super::super::negotiation::DeflateParameters;
use super::super::writer::{Compress, FrameWriter};
use super::*;

/// An event with memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<WebSocketEvent<'_>> for Seen {
    fn from(event: WebSocketEvent<'_>) -> Self {
        match event {
            WebSocketEvent::Text(text) => Self::Text(text.to_vec()),
            WebSocketEvent::Binary(bytes) => Self::Binary(bytes.to_vec()),
            WebSocketEvent::Ping(payload) => Self::Ping(payload.to_vec()),
            WebSocketEvent::Pong(payload) => Self::Pong(payload.to_vec()),
            WebSocketEvent::Close(code, reason) => Self::Close(code, reason.to_owned()),
        }
    }
}

/// All events of `input`, given in pieces of `cut` bytes, and the error at the end if there is one.
fn events(reader: &mut MessageReader, input: &[u8], cut: usize) -> (Vec<Seen>, Option<ProtocolError>) {
    let mut seen = Vec::new();
    for mut piece in input.chunks(cut) {
        loop {
            match reader.parse(piece) {
                Ok((event, used)) => {
                    assert!(event.is_some() || used == piece.len(), "an incomplete piece is used up");
                    piece = &piece[used..];
                    match event {
                        Some(event) => seen.push(event.into()),
                        None => break,
                    }
                }
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fn client() -> MessageReader {
    MessageReader::new(WebSocketRole::Client, Some(1000), Some(DeflateAgreement::default()))
}

/// The events of a client for `input`, whether it comes at once or byte by byte.
fn seen_and_error(input: &[u8]) -> (Vec<Seen>, Option<ProtocolError>) {
    let at_once = events(&mut client(), input, input.len().max(1));
    assert_eq!(at_once, events(&mut client(), input, 1));
    at_once
}

fn error(input: &[u8]) -> ProtocolError {
    seen_and_error(input).1.unwrap()
}

fn text(text: &str) -> Seen {
    Seen::Text(text.as_bytes().to_vec())
}

#[test]
fn messages_and_control_frames_between_their_fragments() {
    let (seen, error) = seen_and_error(b"\x01\x03Hel\x89\x01?\x00\x00\x8a\x00\x80\x02lo\x82\x00\x81\x01x");
    let expected =
        [Seen::Ping(b"?".to_vec()), Seen::Pong(vec![]), text("Hello"), Seen::Binary(vec![]), text("x")];
    assert_eq!((seen.as_slice(), error), (&expected[..], None));
}

#[test]
fn an_unfragmented_frame_is_not_copied() {
    let mut reader = client();
    let input = b"\x82\x03abc\x89\x01p".to_vec();
    let (event, used) = reader.parse(&input).unwrap();
    assert!(
        matches!(event, Some(WebSocketEvent::Binary(payload)) if payload.as_ptr() == input[2..].as_ptr())
    );
    let (event, _) = reader.parse(&input[used..]).unwrap();
    assert!(matches!(event, Some(WebSocketEvent::Ping(payload)) if payload.as_ptr() == input[7..].as_ptr()));
}

#[test]
fn after_a_close_frame_nothing_is_read() {
    let (seen, error) = seen_and_error(b"\x88\x05\x03\xe8bye\x81\x01x\xff\xff");
    assert_eq!((seen, error), (vec![Seen::Close(Some(1000), "bye".to_owned())], None));
    assert_eq!(seen_and_error(b"\x88\x00"), (vec![Seen::Close(None, String::new())], None));
}

#[test]
fn an_error_is_final() {
    let mut reader = client();
    assert_eq!(reader.parse(b"\x83\x00"), Err(ProtocolError::UnknownOpcode(3)));
    assert_eq!(reader.parse(b"\x81\x01x"), Err(ProtocolError::UnknownOpcode(3)));
    assert_eq!(reader.parse(b""), Err(ProtocolError::UnknownOpcode(3)));
    // Earlier events are returned first.
    assert_eq!(seen_and_error(b"\x81\x01x\xf1\x00"), (vec![text("x")], Some(ProtocolError::ReservedBits)));
}

#[test]
fn the_order_of_fragments() {
    assert_eq!(error(b"\x80\x00"), ProtocolError::NothingToContinue);
    assert_eq!(error(b"\x00\x00"), ProtocolError::NothingToContinue);
    assert_eq!(error(b"\x81\x00\x80\x00"), ProtocolError::NothingToContinue);
    assert_eq!(error(b"\x01\x00\x81\x00"), ProtocolError::Unfinished(Opcode::Text));
    assert_eq!(error(b"\x01\x00\x02\x00"), ProtocolError::Unfinished(Opcode::Binary));
    // An empty first fragment begins a message like any other.
    assert_eq!(seen_and_error(b"\x01\x00\x80\x01x").0, [text("x")]);
}

#[test]
fn reserved_bits() {
    let error_of =
        |input: &[u8]| events(&mut MessageReader::new(WebSocketRole::Client, None, None), input, 100).1;
    assert_eq!(error_of(b"\xc1\x01\x00"), Some(ProtocolError::ReservedBits));
    assert_eq!(ProtocolError::ReservedBits.close_code(), 1002);
    assert_eq!(seen_and_error(b"\xc1\x01\x00"), (vec![text("")], None));
    // Not on a continuation; on a control frame it is let pass.
    assert_eq!(error(b"\x41\x01\x00\xc0\x01\x00"), ProtocolError::ReservedBits);
    assert_eq!(seen_and_error(b"\xc9\x01?"), (vec![Seen::Ping(b"?".to_vec())], None));
}

#[test]
fn close_frames() {
    assert_eq!(error(b"\x88\x01\x03"), ProtocolError::CloseTooShort);
    assert_eq!(error(b"\x88\x02\x03\xed"), ProtocolError::CloseCode(1005));
    assert_eq!(error(b"\x88\x02\xff\xff").to_string(), "Received close frame with invalid code 65535");
    assert_eq!(error(b"\x88\x03\x03\xe8\xff"), ProtocolError::ReasonNotUtf8);
    assert_eq!(ProtocolError::ReasonNotUtf8.close_code(), 1007);
}

#[test]
fn text_is_utf8_across_fragments_and_an_error_shows_at_once() {
    assert_eq!(seen_and_error("\u{1}\u{1}\u{0}\u{0}".as_bytes()).1, None);
    let split = [b"\x01\x01\xe2".as_slice(), b"\x00\x01\x82", b"\x80\x01\xac"].concat();
    assert_eq!(seen_and_error(&split), (vec![text("€")], None));
    // Cut off at the end of the message.
    assert_eq!(error(b"\x81\x02\xe2\x82"), ProtocolError::NotUtf8);
    assert_eq!(error(b"\x01\x02\xe2\x82\x80\x00"), ProtocolError::NotUtf8);
    // A surrogate, known with its second byte, long before the end of the message.
    assert_eq!(error(b"\x01\x7e\x01\x00\xed\xa0"), ProtocolError::NotUtf8);
    assert_eq!(ProtocolError::NotUtf8.close_code(), 1007);
    // Binary messages are not text.
    assert_eq!(seen_and_error(b"\x82\x02\xe2\x82").0, [Seen::Binary(b"\xe2\x82".to_vec())]);
}

#[test]
fn the_limit_holds_for_what_is_declared() {
    let too_big = |size| ProtocolError::TooBig { size, limit: 1000 };
    // 1000 bytes are allowed, 1001 are not, whether in one frame or in several; the payload is not waited for.
    let frame = |first: u8, size: u16| [&[first, 126][..], &size.to_be_bytes()].concat();
    assert_eq!(seen_and_error(&frame(0x82, 1000)).1, None);
    assert_eq!(error(&frame(0x82, 1001)), too_big(1001));
    assert_eq!(too_big(1001).close_code(), 1009);
    let mut fragments = [frame(0x02, 999), vec![0; 999]].concat();
    assert_eq!(seen_and_error(&[&fragments[..], b"\x80\x01x"].concat()).1, None);
    fragments.extend(b"\x80\x02");
    assert_eq!(error(&fragments), too_big(1001));
    assert_eq!(error(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), too_big(u64::MAX >> 1));
    assert_eq!(
        too_big(1001).to_string(),
        "Message size 1001 exceeds limit 1000: raise max_msg_size, or 0 for no limit"
    );
}

#[test]
fn the_limit_holds_while_a_message_inflates() {
    let bomb = FrameWriter::new(WebSocketRole::Server, Some(DeflateAgreement::default()))
        .frame(Opcode::Binary, &vec![0; 1 << 20], true, Compress::Agreed)
        .unwrap()
        .to_vec([0; 4]);
    let limit = 10_000;
    let mut reader =
        MessageReader::new(WebSocketRole::Client, Some(limit), Some(DeflateAgreement::default()));
    // It is refused before its end has come.
    let (seen, error) = events(&mut reader, &bomb[..bomb.len() / 2], 16);
    assert_eq!((seen, error), (vec![], Some(ProtocolError::InflatesTooBig { limit })));
    assert!(reader.payload.capacity() == 0, "inflated memory is given back");
}

#[test]
fn of_two_faults_the_first_is_reported() {
    // Found by the fuzzer: text that is not UTF-8, and then bytes that are not deflate.
    assert_eq!(error(b"\x41\x55\xfa\x55\x55\x05\xff\xc4"), ProtocolError::NotUtf8);
    // Likewise: a message that is too large, and then is not deflate.
    for cut in [1, 100] {
        let mut reader =
            MessageReader::new(WebSocketRole::Client, Some(0), Some(DeflateAgreement::default()));
        let wire = b"\x42\x40\x02\x4c\xff\xff\xfd\xf5\xfd\xfd\xfd\x43\xf3\x3b";
        assert_eq!(
            events(&mut reader, wire, cut),
            (vec![], Some(ProtocolError::InflatesTooBig { limit: 0 }))
        );
    }
}

#[test]
fn memory_follows_what_came_and_not_what_was_declared() {
    let mut reader = MessageReader::new(WebSocketRole::Client, None, None);
    assert_eq!(reader.parse(b"\x82\x7f\x7f\0\0\0\0\0\0\0abc"), Ok((None, 13)));
    assert!(reader.payload.capacity() < 1000);
    // A large message's memory is given back once it has been taken.
    let mut reader = MessageReader::new(WebSocketRole::Client, None, None);
    let size = 1_u32 << 20;
    let large = [&b"\x82\x7f\0\0\0\0"[..], &size.to_be_bytes(), &vec![1; size as usize]].concat();
    assert_eq!(events(&mut reader, &large, 100_000).0.len(), 1);
    assert!(reader.payload.capacity() <= KEPT);
}

#[test]
fn each_role_reads_only_the_other() {
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let mut server = MessageReader::new(WebSocketRole::Server, None, None);
    assert_eq!(events(&mut server, masked, 3).0, [text("Hello")]);
    assert_eq!(events(&mut client(), masked, 3).1, Some(ProtocolError::Masked));
    assert_eq!(server.parse(b"\x81\x00"), Err(ProtocolError::NotMasked));
}

/// One message: its payload, whether it is text, and where it is cut into fragments.
#[derive(Clone, Debug)]
struct SentMessage {
    payload: Vec<u8>,
    is_text: bool,
    cuts: Vec<usize>,
    compress: Compress,
    ping: bool,
}

fn sent() -> impl Strategy<Value = SentMessage> {
    let payload = prop_oneof![
        any::<String>().prop_map(|text| (text.into_bytes(), true)),
        ("[ab]{0,5}", 0_usize..400).prop_map(|(text, times)| (text.repeat(times).into_bytes(), true)),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| (bytes, false)),
    ];
    let compress = prop_oneof![
        4 => Just(Compress::Agreed),
        1 => Just(Compress::Never),
        1 => (9_u8..=15).prop_map(Compress::Alone),
    ];
    (payload, prop::collection::vec(0_usize..400, 0..4), compress, any::<bool>()).prop_map(
        |((payload, is_text), mut cuts, compress, ping)| {
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(payload.len()));
            cuts.sort_unstable();
            SentMessage { payload, is_text, cuts, compress, ping }
        },
    )
}

proptest! {
    #[test]
    fn any_messages_in_any_fragments_come_whole_under_any_cuts(
        messages in prop::collection::vec(sent(), 0..8),
        role in prop_oneof![Just(WebSocketRole::Client), Just(WebSocketRole::Server)],
        agreement in prop::option::of((9_u8..=15, any::<bool>())),
        key: [u8; 4],
        cut in prop_oneof![1_usize..20, 1_usize..3000],
    ) {
        let agreement = agreement.map(|(window_bits, context_takeover)| {
            let direction = DeflateParameters { window_bits, context_takeover };
            DeflateAgreement { server: direction, client: direction }
        });
        let mut writer = FrameWriter::new(role, agreement);
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        let mut largest = 0;
        for message in &messages {
            let mut begin = 0;
            let mut opcode = if message.is_text { Opcode::Text } else { Opcode::Binary };
            for end in &message.cuts {
                wire.extend(writer.frame(opcode, &message.payload[begin..*end], false, message.compress).unwrap().to_vec(key));
                opcode = Opcode::Continuation;
                begin = *end;
                if message.ping {
                    wire.extend(writer.frame(Opcode::Ping, b"ping", true, message.compress).unwrap().to_vec(key));
                    expected.push(Seen::Ping(b"ping".to_vec()));
                }
            }
            wire.extend(writer.frame(opcode, &message.payload[begin..], true, message.compress).unwrap().to_vec(key));
            let payload = message.payload.clone();
            largest = largest.max(payload.len());
            expected.push(if message.is_text { Seen::Text(payload) } else { Seen::Binary(payload) });
        }
        let mut reader = MessageReader::new(role.peer(), Some(largest + 64), agreement);
        prop_assert_eq!(events(&mut reader, &wire, cut), (expected, None));
    }

    #[test]
    fn any_bytes_mean_the_same_under_any_cuts(
        input in prop::collection::vec(prop_oneof![Just(0x81_u8), Just(0x01), Just(0x80), Just(0xC1), 0_u8..6, any::<u8>()], 0..80),
        cut in 1_usize..10,
    ) {
        let at_once = events(&mut client(), &input, input.len().max(1));
        prop_assert_eq!(at_once, events(&mut client(), &input, cut));
    }
}
