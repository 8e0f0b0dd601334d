//! The limits, where they are too large for the corpus.

use whorl_core::http1::{
    Finish, MessageEvent, ParseError, ParseErrorKind, ParserLimits, RequestKind, ResponseHead,
    ResponseParser, Tolerance,
};

use crate::transcript::{self, Reader, Step};

const RESPONSE: Reader = Reader::Response { kind: RequestKind::Other, upgrade: false };

fn head_of(bytes: &[u8], limits: ParserLimits) -> Result<ResponseHead, ParseError> {
    let mut parser = ResponseParser::new(limits);
    parser.await_response(RequestKind::Other, false);
    match parser.parse(bytes)?.0 {
        MessageEvent::Head(head, _) => Ok(head),
        other => panic!("{other:?}"),
    }
}

#[test]
fn aiohttps_default_sizes_are_accepted_and_one_byte_more_is_not() {
    let line = |size: usize| format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(size - 13));
    assert_eq!(head_of(line(8190).as_bytes(), ParserLimits::default()).unwrap().reason().len(), 8177);
    let error = head_of(line(8191).as_bytes(), ParserLimits::default()).unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::LineTooLong { limit: 8190 });

    let field = |size: usize| format!("HTTP/1.1 200 OK\r\nCustom: {}\r\n\r\n", "x".repeat(size - 8));
    let head = head_of(field(8190).as_bytes(), ParserLimits::default()).unwrap();
    assert_eq!(head.fields.get("custom").unwrap().len(), 8182);
    let error = head_of(field(8191).as_bytes(), ParserLimits::default()).unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::FieldTooLong { limit: 8190 });

    let fields = |count: usize| {
        let lines: String = (0..count).map(|number| format!("X-{number}: y\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
    };
    let head = head_of(fields(128).as_bytes(), ParserLimits::default()).unwrap();
    assert_eq!((head.fields.len(), head.fields.get("X-127")), (128, Some(&b"y"[..])));
    let error = head_of(fields(129).as_bytes(), ParserLimits::default()).unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::TooManyFields { limit: 128 });
}

#[test]
fn limits_can_be_set_for_the_next_response() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    parser.set_limits(ParserLimits { field: 9000, ..ParserLimits::default() });
    let message = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(8900));
    assert!(matches!(parser.parse(message.as_bytes()), Ok((MessageEvent::Head(..), _))));
}

#[test]
fn an_endless_line_and_an_endless_head_are_refused_with_no_more_in_memory_than_the_limit() {
    let limits = ParserLimits { head: 20_000, ..ParserLimits::default() };
    let cases: [(&[u8], ParseErrorKind); 3] = [
        (b"HTTP/1.1 200 ", ParseErrorKind::LineTooLong { limit: 8190 }),
        (b"HTTP/1.1 200 OK\r\nX: ", ParseErrorKind::FieldTooLong { limit: 8190 }),
        (b"HTTP/1.1 200 OK\r\n", ParseErrorKind::HeadTooLong { limit: 20_000 }),
    ];
    for (start, kind) in cases {
        let more: &[u8] =
            if matches!(kind, ParseErrorKind::HeadTooLong { .. }) { b"A: bcdefgh\r\n" } else { b"xxxxxxx" };
        let limits = ParserLimits { fields: usize::MAX, ..limits };
        let mut parser = ResponseParser::new(limits);
        parser.await_response(RequestKind::Other, false);
        let mut input = start;
        let mut given = 0;
        let error = loop {
            match parser.parse(input) {
                Ok((event, used)) => assert!(matches!(event, MessageEvent::NeedMore) && used == input.len()),
                Err(error) => break error,
            }
            given += input.len();
            assert!(parser.held() == given && given <= limits.head + 1);
            input = more;
        };
        assert_eq!(error.kind(), kind);
        // The same in one piece, of which not everything is taken in.
        let whole = [start, more.repeat(10_000).as_slice()].concat();
        assert_eq!(head_of(&whole, limits).unwrap_err().kind(), kind);
    }
}

#[test]
fn all_chunk_extensions_together_are_bounded() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    // 16 chunks of one byte, with 1 KiB of extension each; the last has so many bytes more.
    let body = |more: usize| {
        let chunk = |extension| format!("1;{}\r\na\r\n", "x".repeat(extension - 1));
        [&head[..], chunk(1024).repeat(15).as_bytes(), chunk(1024 + more).as_bytes(), b"0\r\n\r\n"].concat()
    };
    let whole = transcript::read(RESPONSE, Tolerance::UserAgent, ParserLimits::default(), &[&body(0)], true);
    let end = [Step::Data(vec![b'a'; 16]), Step::End { keep_alive: true }, Step::Finish(Finish::Idle)];
    assert_eq!(whole[2..], end);
    let too_long = body(1);
    let whole = transcript::read(RESPONSE, Tolerance::UserAgent, ParserLimits::default(), &[&too_long], true);
    let error = Step::ParseError("BadChunk, RFC 9112 section 7.1.1".into());
    assert_eq!(whole[2..], [Step::Data(vec![b'a'; 15]), error]);
    let pieces: Vec<&[u8]> = too_long.chunks(1).collect();
    assert_eq!(
        transcript::read(RESPONSE, Tolerance::UserAgent, ParserLimits::default(), &pieces, true),
        whole
    );
}
