//! What the types promise beyond the messages themselves.

use whorl_core::http1::encode::{self, ChunkSize, EncodeError, MessagePart};
use whorl_core::http1::{
    Finish, Framing, HeaderFields, Incomplete, MessageEvent, ParseError, ParseErrorKind, ParserLimits,
    RequestHead, RequestKind, RequestParser, ResponseHead, ResponseParser, Tolerance, Version,
};

fn response(bytes: &[u8]) -> Result<ResponseHead, ParseError> {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    match parser.parse(bytes)? {
        (MessageEvent::Head(head, _), _) => Ok(head),
        (other, _) => panic!("{other:?}"),
    }
}

fn fields(lines: &str) -> HeaderFields {
    response(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes()).unwrap().fields
}

// ---------------------------------------------------------------------------------------------------------- heads

#[test]
fn fields_are_found_by_name_in_whatever_case() {
    let fields = fields("Set-Cookie: a=1\r\nX: y\r\nset-cookie: b=2\r\n");
    assert_eq!(fields.get("SET-COOKIE"), Some(&b"a=1"[..]));
    assert_eq!(fields.get_all("Set-Cookie").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
    assert_eq!(fields.get("Set"), None);
    assert_eq!((fields.len(), fields.is_empty()), (3, false));
    let names: Vec<&[u8]> = fields.iter().rev().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"set-cookie"[..], b"X", b"Set-Cookie"]);
}

#[test]
fn a_token_is_found_in_lists_over_several_fields() {
    let fields = fields("Connection: foo ,\tUPGRADE\r\nConnection: bar\r\nX: baz\r\n");
    for token in ["foo", "upgrade", "Bar"] {
        assert!(fields.contains_token("connection", token), "{token}");
    }
    for token in ["fo", "foo ", "baz", ""] {
        assert!(!fields.contains_token("connection", token), "{token}");
    }
}

#[test]
fn fields_are_equal_if_their_names_and_values_are() {
    let one = fields("A: b\r\n");
    assert_eq!(one, fields("A:   b \r\n"));
    assert_eq!(one, one.clone());
    assert_ne!(one, fields("a: b\r\n"));
    assert_ne!(one, fields("A: b\r\nC: d\r\n"));
    assert_eq!(format!("{one:?}"), r#"{"A": "b"}"#);
    assert!(HeaderFields::default().is_empty());
}

#[test]
fn the_fields_of_another_head_leave_no_reason_to_read() {
    let mut head = response(b"HTTP/1.1 200 Reason\r\n\r\n").unwrap();
    head.fields = HeaderFields::default();
    assert_eq!(head.reason(), b"");
}

#[test]
fn a_version_is_two_numbers_and_a_name() {
    assert_eq!((Version::Http10.numbers(), Version::Http11.numbers()), ((1, 0), (1, 1)));
    assert_eq!((Version::Http10.to_string(), Version::Http11.as_str()), ("HTTP/1.0".into(), "HTTP/1.1"));
    assert!(Version::Http10 < Version::Http11);
}

#[test]
fn more_fields_than_are_read_at_once_leave_the_content_where_it_is() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n".to_vec();
    for number in 0..60 {
        encode::field(&mut bytes, format!("X-{number}").as_bytes(), &[b'v'; 100]).unwrap();
    }
    encode::end_of_head(&mut bytes);
    let head = bytes.len();
    bytes.extend([b'c'; 100_000]);
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    let (MessageEvent::Head(found, Framing::Length(100_000)), used) = parser.parse(&bytes).unwrap() else {
        panic!("no head")
    };
    assert_eq!((found.fields.len(), used, parser.held()), (61, head, 0));
    let (MessageEvent::Data(data), used) = parser.parse(&bytes[head..]).unwrap() else {
        panic!("no content")
    };
    assert_eq!((data.len(), used), (100_000, 100_000));
    assert!(matches!(parser.parse(b""), Ok((MessageEvent::End { keep_alive: true }, 0))));
}

// -------------------------------------------------------------------------------------------------------- parsers

#[test]
fn every_call_says_what_it_has_used() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    assert!(matches!(parser.parse(b""), Ok((MessageEvent::NeedMore, 0))));
    assert!(matches!(parser.parse(b"HTTP/1.1 200 OK\r\nTransfer-Enc"), Ok((MessageEvent::NeedMore, 29))));
    assert_eq!(parser.held(), 29);
    let (event, used) = parser.parse(b"oding: chunked\r\n\r\n3\r\nabc").unwrap();
    assert!(matches!(event, MessageEvent::Head(head, Framing::Chunked) if head.fields.len() == 1));
    assert_eq!((used, parser.held()), (18, 0));
    assert!(matches!(parser.parse(b"3\r\nabc"), Ok((MessageEvent::Data(b"abc"), 6))));
    assert!(matches!(parser.parse(b"\r\n0\r\nA: b\r\n"), Ok((MessageEvent::ChunkEnd, 2))));
    assert!(matches!(parser.parse(b"0\r\nA: b\r\n"), Ok((MessageEvent::NeedMore, 9))));
    assert_eq!(parser.held(), 6);
    assert!(
        matches!(parser.parse(b"\r\nrest"), Ok((MessageEvent::Trailers(fields), 2)) if fields.get("a") == Some(b"b"))
    );
    assert!(matches!(parser.parse(b"rest"), Ok((MessageEvent::End { keep_alive: true }, 0))));
    assert_eq!(parser.parse(b"rest").unwrap_err().kind(), ParseErrorKind::Unexpected);
}

#[test]
fn a_connection_that_is_closed_between_messages_is_idle_at_every_call() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    assert_eq!((parser.finish(), parser.finish()), (Ok(Finish::Idle), Ok(Finish::Idle)));
    parser.await_response(RequestKind::Other, false);
    let error = parser.finish().unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::Incomplete(Incomplete::Head { received: 0 }));
    assert_eq!(parser.finish(), Err(error));
}

#[test]
fn a_body_that_ends_with_the_connection_ends_once() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    assert!(matches!(
        parser.parse(b"HTTP/1.1 200 OK\r\n\r\n"),
        Ok((MessageEvent::Head(_, Framing::UntilEof), 19))
    ));
    assert_eq!((parser.finish(), parser.finish()), (Ok(Finish::End), Ok(Finish::Idle)));
}

#[test]
fn a_whole_body_whose_end_was_not_taken_has_ended() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    let message = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(parser.parse(message), Ok((MessageEvent::Head(..), 38))));
    assert_eq!(parser.finish(), Ok(Finish::End));
}

#[test]
fn the_next_response_may_be_announced_early() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Head, false);
    assert!(matches!(
        parser.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        Ok((MessageEvent::Head(_, Framing::Empty), 38))
    ));
    parser.await_response(RequestKind::Other, false);
    assert!(matches!(parser.parse(b"HTTP"), Ok((MessageEvent::End { keep_alive: true }, 0))));
    let message = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert!(matches!(parser.parse(message), Ok((MessageEvent::Head(_, Framing::Length(5)), 38))));
}

#[test]
fn a_tunnel_uses_nothing_of_what_it_is_shown() {
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Connect, false);
    let bytes = b"HTTP/1.1 200 OK\r\n\r\n\x16\x03";
    assert!(matches!(parser.parse(bytes), Ok((MessageEvent::Head(_, Framing::Tunnel), 19))));
    for rest in [&bytes[19..], b"", b"HTTP/1.1 200 OK\r\n\r\n"] {
        assert!(matches!(parser.parse(rest), Ok((MessageEvent::Tunnel, 0))));
    }
}

#[test]
fn an_error_lasts() {
    let mut parser = RequestParser::new(ParserLimits::default());
    let error = parser.parse(b"GET / HTTP/1.1\n").unwrap_err();
    assert_eq!(parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").map(|_| ()), Err(error.clone()));
    assert_eq!(parser.finish(), Err(error));
}

#[test]
fn a_request_head_shows_its_line() {
    let mut parser = RequestParser::new(ParserLimits::default());
    let bytes = b"\r\nPATCH /a?b HTTP/1.1\r\nHost: a\r\n\r\n";
    let check = |head: &RequestHead| {
        assert_eq!(
            (head.method(), head.target(), head.version),
            (&b"PATCH"[..], &b"/a?b"[..], Version::Http11)
        );
    };
    let (MessageEvent::Head(head, Framing::Empty), used) = parser.parse(bytes).unwrap() else {
        panic!("no head")
    };
    assert_eq!(used, bytes.len());
    check(&head);
    assert!(matches!(parser.parse(b""), Ok((MessageEvent::End { .. }, 0))));
    // The same line, gathered.
    assert!(matches!(parser.parse(&bytes[..9]), Ok((MessageEvent::NeedMore, 9))));
    let (MessageEvent::Head(head, _), _) = parser.parse(&bytes[9..]).unwrap() else { panic!("no head") };
    check(&head);
}

#[test]
fn an_error_names_the_bytes_and_the_rule() {
    let text = |bytes: &[u8]| response(bytes).unwrap_err().to_string();
    assert_eq!(
        text(b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n"),
        "bad Content-Length: it is not a number in decimal digits: \"1_0\" (RFC 9110 section 8.6)"
    );
    assert_eq!(
        text(b"HTTP/1.1 200 OK\r\nServer : x\r\n\r\n"),
        "bad header field: white space stands before the colon: \"Server : x\" (RFC 9112 section 5.1)"
    );
    assert_eq!(
        text(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "conflicting lengths of the body: Transfer-Encoding stands next to Content-Length (RFC 9112 section 6.3)"
    );
    assert_eq!(
        text(b"HTTP/1.1 200 OK\r\r\n\r\n"),
        "bad status line: a carriage return without a line feed: \"HTTP/1.1 200 OK\\r\\r\\n\" (RFC 9112 section 2.2)"
    );
    assert_eq!(
        text(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5, 6\r\n\r\n"),
        "conflicting lengths of the body: Content-Length says different lengths: \"5, 6\" (RFC 9110 section 8.6)"
    );
    assert_eq!(
        text(b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
        "bad header field: the line continues a field that frames the message (obs-fold): \" chunked\" (RFC 9112 \
         section 5.2)"
    );
}

#[test]
fn a_response_is_read_strictly_where_that_is_set() {
    let message = b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n";
    let mut parser = ResponseParser::new(ParserLimits::default());
    parser.await_response(RequestKind::Other, false);
    assert!(matches!(parser.parse(message), Ok((MessageEvent::Head(..), 37))));
    assert!(matches!(parser.parse(b""), Ok((MessageEvent::End { keep_alive: false }, 0))));
    parser.set_tolerance(Tolerance::Strict);
    parser.await_response(RequestKind::Other, false);
    assert_eq!(
        parser.parse(message).unwrap_err().to_string(),
        "bad status line: a line feed without a carriage return: \"HTTP/1.1 200 OK\\n\" (RFC 9112 section 2.2)"
    );
    assert_eq!(Tolerance::default(), Tolerance::UserAgent);
}

#[test]
fn a_head_of_the_most_folds_is_read_in_linear_time() {
    // A field of full length whose lines are three bytes each: joined in place, each byte moves once.
    let limits = ParserLimits::new(100, 3_000_000, 1);
    let message = [b"HTTP/1.1 200 OK\r\nA:", "\n b".repeat(999_000).as_bytes(), b"\r\n\r\n"].concat();
    let mut parser = ResponseParser::new(limits);
    parser.await_response(RequestKind::Other, false);
    let (MessageEvent::Head(head, Framing::UntilEof), used) = parser.parse(&message).unwrap() else {
        panic!("no head")
    };
    assert_eq!((used, head.fields.len()), (message.len(), 1));
    assert_eq!(head.fields.get("a").unwrap(), "b ".repeat(999_000).trim_end().as_bytes());
}

// -------------------------------------------------------------------------------------------------------- encoder

fn refused<T>(encode: impl FnOnce(&mut Vec<u8>) -> Result<T, EncodeError>) -> (MessagePart, String) {
    let mut out = b"before".to_vec();
    let Err(error) = encode(&mut out) else { panic!("it was written: {}", out.escape_ascii()) };
    assert_eq!(out, b"before", "a part of what cannot be sent is left");
    (error.part().clone(), error.to_string())
}

#[test]
fn a_head_is_written_as_it_is_given() {
    let mut out = Vec::new();
    encode::request_line(&mut out, b"GET", b"/x?y", Version::Http11).unwrap();
    encode::field(&mut out, b"hOST", b"example.org").unwrap();
    encode::field(&mut out, b"Empty", b"").unwrap();
    encode::field(&mut out, b"Latin", b"caf\xe9\t!").unwrap();
    encode::end_of_head(&mut out);
    assert_eq!(out, b"GET /x?y HTTP/1.1\r\nhOST: example.org\r\nEmpty: \r\nLatin: caf\xe9\t!\r\n\r\n");

    let mut out = Vec::new();
    encode::status_line(&mut out, Version::Http10, 404, b"Not Found").unwrap();
    encode::status_line(&mut out, Version::Http11, 200, b"").unwrap();
    assert_eq!(out, b"HTTP/1.0 404 Not Found\r\nHTTP/1.1 200 \r\n");
}

#[test]
fn a_credential_that_cannot_be_sent_is_named_and_not_shown() {
    let error = encode::field(&mut Vec::new(), b"authorization", b"Bearer topsecret\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the value of the header field authorization has a line feed (0x0A) at index 16, which cannot be sent"
    );
}

#[test]
fn what_would_begin_another_field_is_refused_and_named() {
    let (part, text) = refused(|out| encode::field(out, b"X-Name", b"a\r\nHost: evil"));
    assert_eq!(part, MessagePart::FieldValue("X-Name".into()));
    assert_eq!(
        text,
        "the value of the header field X-Name has a carriage return (0x0D) at index 1, which cannot be sent: \
         \"a\\r\\nHost: evil\""
    );
    for byte in (0..0x20).filter(|byte| *byte != b'\t').chain([0x7f]) {
        let (part, text) = refused(|out| encode::field(out, b"X", &[b'a', byte]));
        assert_eq!(part, MessagePart::FieldValue("X".into()));
        assert!(text.contains(&format!("(0x{byte:02X}) at index 1")), "{text}");
    }
}

#[test]
fn every_part_is_checked() {
    let (part, text) = refused(|out| encode::field(out, b"", b"x"));
    assert_eq!((part, &*text), (MessagePart::FieldName, "the name of a header field is empty"));
    assert_eq!(refused(|out| encode::field(out, b"X Y", b"x")).0, MessagePart::FieldName);
    assert_eq!(refused(|out| encode::field(out, b"X:", b"x")).0, MessagePart::FieldName);
    assert_eq!(refused(|out| encode::field(out, b"X\xe9", b"x")).0, MessagePart::FieldName);
    let line = |method: &'static [u8], target: &'static [u8]| {
        refused(move |out| encode::request_line(out, method, target, Version::Http11)).0
    };
    assert_eq!(line(b"", b"/"), MessagePart::Method);
    assert_eq!(line(b"GET / HTTP/1.1\r\nX:", b"/"), MessagePart::Method);
    assert_eq!(line(b"GET", b""), MessagePart::Target);
    assert_eq!(line(b"GET", b"/a b"), MessagePart::Target);
    assert_eq!(line(b"GET", b"/\r\n"), MessagePart::Target);
    let status = |status, reason: &'static [u8]| {
        refused(move |out| encode::status_line(out, Version::Http11, status, reason))
    };
    assert_eq!(status(99, b""), (MessagePart::Status, "the status is 99, and not from 100 to 999".into()));
    assert_eq!(status(1000, b"").0, MessagePart::Status);
    assert_eq!(status(200, b"O\nK").0, MessagePart::Reason);
}

#[test]
fn chunks_are_written_or_lent() {
    let mut out = Vec::new();
    encode::chunk(&mut out, b"hello");
    encode::chunk(&mut out, b"");
    encode::chunk(&mut out, &[b'x'; 26]);
    encode::last_chunk(&mut out, [(&b"Digest"[..], &b"y"[..])]).unwrap();
    encode::last_chunk(&mut out, []).unwrap();
    let expected = format!("5\r\nhello\r\n1a\r\n{}\r\n0\r\nDigest: y\r\n\r\n0\r\n\r\n", "x".repeat(26));
    assert_eq!(out, expected.as_bytes());
    assert_eq!(ChunkSize::new(usize::MAX).unwrap().as_bytes(), format!("{:x}\r\n", usize::MAX).as_bytes());
    assert_eq!(ChunkSize::new(16).unwrap().as_bytes(), b"10\r\n");
    assert!(ChunkSize::new(0).is_none());
}

#[test]
fn trailers_that_belong_into_the_head_are_refused() {
    for name in [&b"Content-Length"[..], b"transfer-encoding", b"HOST", b"Set-Cookie"] {
        let (part, text) = refused(|out| encode::last_chunk(out, [(&b"Good"[..], &b"x"[..]), (name, b"5")]));
        assert_eq!(part, MessagePart::Trailer(String::from_utf8(name.into()).unwrap()));
        assert!(text.ends_with("cannot be a trailer: it has to be in the head"), "{text}");
    }
    assert_eq!(
        refused(|out| encode::last_chunk(out, [(&b"X"[..], &b"\n"[..])])).0,
        MessagePart::FieldValue("X".into())
    );
}
