//! What holds for any bytes, and for any message that the encoder writes.

use proptest::collection::vec;
use proptest::prelude::*;
use whorl_core::http1::{ParserLimits, RequestKind, Tolerance, encode};

use crate::transcript::{self, Reader, Step};

const RESPONSE: Reader = Reader::Response { kind: RequestKind::Other, upgrade: false };

/// Bytes that are near a message: parts of some, in any order, with any bytes between.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            &b"HTTP/1.1 200 OK\r\n"[..], b"HTTP/1.0 404 Not Found\r\n", b"HTTP/1.1 204\r\n", b"HTTP/1.1 100 \r\n",
            b"HTTP/1.1 101 Switching\r\n", b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
        ]),
        6 => prop::sample::select(vec![
            &b"Host: a\r\n"[..], b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X:\r\n", b"A: \t b \r\n", b"A:b\n", b" fold\r\n",
            b"\t\n", b"Content-Length: 5, 5\r\n", b"Content-Length:", b"Transfer-Encoding:", b"X: \x01\r\n",
        ]),
        6 => prop::sample::select(vec![
            &b"\r\n"[..], b"\n", b"\r", b"5\r\nhello\r\n", b"0\r\n\r\n", b"1;x\r\na\r\n", b"0\r\nT: x\r\n\r\n", b"hello",
            b" 5 \r\nhello\r\n", b"0\r\nT: x\r\n y\r\n\r\n",
        ]),
    ]
    .prop_map(<[u8]>::to_vec);
    let any = vec(any::<u8>(), 0..4);
    vec(prop_oneof![9 => part, 1 => any], 0..16).prop_map(|parts| parts.concat())
}

fn small_limits() -> impl Strategy<Value = ParserLimits> {
    let body = prop::option::of(0..20_u64);
    (10..40_usize, 10..40_usize, 0..6_usize, 30..200_usize, body)
        .prop_map(|(line, field, fields, head, body)| ParserLimits { line, field, fields, head, body })
}

fn limits() -> impl Strategy<Value = ParserLimits> {
    prop_oneof![3 => Just(ParserLimits::default()), 1 => small_limits()]
}

fn readers() -> impl Strategy<Value = Reader> {
    let kinds = prop::sample::select(vec![RequestKind::Other, RequestKind::Head, RequestKind::Connect]);
    prop_oneof![
        (kinds, any::<bool>()).prop_map(|(kind, upgrade)| Reader::Response { kind, upgrade }),
        Just(Reader::Responses),
        Just(Reader::Requests),
    ]
}

const TOLERANCES: [Tolerance; 2] = [Tolerance::Strict, Tolerance::UserAgent];

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,12}"
}

/// A field that frames nothing.
fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let value =
        vec(prop_oneof![4 => 0x21..=0x7e_u8, 1 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80..=0xff_u8], 0..30);
    (token(), value).prop_map(|(name, value)| (format!("X-{name}").into_bytes(), value.trim_ascii().to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_pieces_give_the_same_as_the_whole(
        reader in readers(),
        bytes in nearly_messages(),
        places in vec(any::<usize>(), 0..6),
        limits in limits(),
        eof in any::<bool>(),
    ) {
        for tolerance in TOLERANCES {
            let read = |pieces: &[&[u8]]| transcript::read(reader, tolerance, limits, pieces, eof);
            let whole = read(&[&bytes]);
            prop_assert_eq!(&read(&transcript::cut(&bytes, &places)), &whole);
            prop_assert_eq!(&read(&bytes.chunks(1).collect::<Vec<_>>()), &whole);
        }
    }

    #[test]
    fn a_user_agent_reads_what_is_strictly_right_alike(
        reader in readers(),
        bytes in nearly_messages(),
        limits in limits(),
        eof in any::<bool>(),
    ) {
        let [strict, tolerant] =
            TOLERANCES.map(|tolerance| transcript::read(reader, tolerance, limits, &[&bytes], eof));
        prop_assert!(transcript::only_continues(&tolerant, &strict), "{:?}, and not {:?}", tolerant, strict);
        if let Reader::Requests = reader {
            prop_assert_eq!(tolerant, strict);
        }
    }
}

proptest! {
    #[test]
    fn an_encoded_response_is_read_unchanged(
        status in prop_oneof![200..=203_u16, 205..=303_u16, 305..=999_u16],
        reason in "[ -~]{0,20}",
        fields in vec(field(), 0..40),
        pieces in vec(vec(any::<u8>(), 0..50), 0..6),
        trailers in vec(field(), 0..4),
        places in vec(any::<usize>(), 0..6),
        tolerance in prop::sample::select(TOLERANCES.to_vec()),
    ) {
        let mut bytes = Vec::new();
        encode::status_line(&mut bytes, whorl_core::http1::Version::Http11, status, reason.as_bytes()).unwrap();
        for (name, value) in &fields {
            encode::field(&mut bytes, name, value).unwrap();
        }
        encode::field(&mut bytes, b"Transfer-Encoding", b"chunked").unwrap();
        encode::end_of_head(&mut bytes);
        for piece in &pieces {
            encode::chunk(&mut bytes, piece);
        }
        let pairs = trailers.iter().map(|(name, value)| (&name[..], &value[..]));
        encode::last_chunk(&mut bytes, pairs).unwrap();

        let steps = transcript::read(RESPONSE, tolerance, ParserLimits::default(), &transcript::cut(&bytes, &places), false);
        let mut steps = steps.into_iter();
        let line = format!("head HTTP/1.1 {status} \"{}\" chunked", reason.as_bytes().escape_ascii());
        prop_assert_eq!(steps.next().map(|step| step.to_string()), Some(line));
        let Some(Step::HeaderFields(found)) = steps.next() else { panic!("a head has fields") };
        let expected = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        prop_assert!(found.iter().take(fields.len()).eq(expected));
        prop_assert_eq!(found.len(), fields.len() + 1);
        let content = pieces.concat();
        if !content.is_empty() {
            prop_assert_eq!(steps.next(), Some(Step::Data(content)));
        }
        if !trailers.is_empty() {
            let Some(Step::Trailers(found)) = steps.next() else { panic!("the trailers are missing") };
            prop_assert!(found.iter().eq(trailers.iter().map(|(name, value)| (&name[..], &value[..]))));
        }
        prop_assert_eq!(steps.next(), Some(Step::End { keep_alive: true }));
        prop_assert_eq!(steps.next(), None);
    }

    #[test]
    fn an_encoded_request_is_read_unchanged(
        method in token().prop_filter("CONNECT takes another target", |method| method != "CONNECT"),
        target in "/[!-~]{0,20}",
        fields in vec(field(), 0..20),
        content in vec(any::<u8>(), 0..60),
        places in vec(any::<usize>(), 0..6),
    ) {
        let mut bytes = Vec::new();
        let version = whorl_core::http1::Version::Http11;
        encode::request_line(&mut bytes, method.as_bytes(), target.as_bytes(), version).unwrap();
        encode::field(&mut bytes, b"Host", b"example.org").unwrap();
        for (name, value) in &fields {
            encode::field(&mut bytes, name, value).unwrap();
        }
        encode::field(&mut bytes, b"Content-Length", content.len().to_string().as_bytes()).unwrap();
        encode::end_of_head(&mut bytes);
        bytes.extend_from_slice(&content);

        let steps = transcript::read(Reader::Requests, Tolerance::Strict, ParserLimits::default(), &transcript::cut(&bytes, &places), true);
        let shown: Vec<String> =
            steps.iter().filter(|step| !matches!(step, Step::HeaderFields(_))).map(Step::to_string).collect();
        let target = target.as_bytes().escape_ascii();
        let mut expected = vec![format!("head {} {target} HTTP/1.1 length {}", method.as_bytes().escape_ascii(), content.len())];
        expected.extend((!content.is_empty()).then(|| format!("data \"{}\"", content.escape_ascii())));
        expected.extend(["end keep-alive".into(), "finish idle".into()]);
        prop_assert_eq!(shown, expected);
    }

    #[test]
    fn encoder_and_strict_parser_accept_the_same_values(value in vec(any::<u8>(), 0..6)) {
        let mut bytes = b"HTTP/1.1 204 No Content\r\n".to_vec();
        let before = bytes.clone();
        let encoded = encode::field(&mut bytes, b"X", &value);
        if encoded.is_err() {
            prop_assert_eq!(&bytes, &before);
            bytes.extend([b"X: ", &value[..], b"\r\n"].concat());
        }
        encode::end_of_head(&mut bytes);
        let steps = transcript::read(RESPONSE, Tolerance::Strict, ParserLimits::default(), &[&bytes], false);
        let ends_well = steps.last() == Some(&Step::End { keep_alive: true });
        prop_assert_eq!(ends_well, encoded.is_ok());
    }
}
