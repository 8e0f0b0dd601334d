//! The corpus: each message with what is to be read from it.
//!
//! A case is a title (`#`), the kind of parser (`response`, `response to HEAD`, `responses`, `request`, …), limits if it
//! needs other ones, the bytes (`>`, with escapes, line ends too: what a line shows is all there is), `eof` if the
//! connection ends after them, and the steps that are expected: of every parser, or, where a user agent tolerates what
//! the strict parser refuses, of `strict` and of `user agent`. Fields are compared if the steps show any.
//!
//! `tests/http/peers.py` reads the same files and has other clients read the responses to a GET; what they make of each is
//! in `tests/http/peers.json`.

use std::fmt::Write as _;

use whorl_core::http1::{ParserLimits, RequestKind, Tolerance};

use crate::transcript::{self, Reader, Step};

#[derive(Debug)]
struct Case {
    title: String,
    reader: Reader,
    limits: ParserLimits,
    bytes: Vec<u8>,
    eof: bool,
    /// What is expected of a parser with this tolerance; none: of each.
    expected: Vec<(Option<Tolerance>, Vec<String>)>,
}

impl Case {
    fn steps(&self, tolerance: Tolerance) -> &[String] {
        let found = self.expected.iter().find(|(of, _)| of.is_none_or(|of| of == tolerance));
        found.map_or(&[], |(_, steps)| steps)
    }

    fn check(&self, tolerance: Tolerance, pieces: &[&[u8]], how: &str) -> Vec<Step> {
        let mut text = String::new();
        let expected = self.steps(tolerance);
        let fields = expected.iter().any(|step| step.starts_with("field "));
        let steps = transcript::read(self.reader, tolerance, self.limits, pieces, self.eof);
        for step in &steps {
            if fields || !matches!(step, Step::HeaderFields(_)) {
                writeln!(text, "{step}").unwrap();
            }
        }
        let found: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(found, expected, "{} ({tolerance:?}, {how})", self.title);
        steps
    }

    fn check_in_all_pieces(&self) {
        let bytes = &self.bytes[..];
        let [strict, tolerant] = [Tolerance::Strict, Tolerance::UserAgent].map(|tolerance| {
            self.check(tolerance, &bytes.chunks(1).collect::<Vec<_>>(), "byte by byte");
            for place in 0..=bytes.len() {
                let how = format!("in two pieces, at {place}");
                self.check(tolerance, &[&bytes[..place], &bytes[place..]], &how);
            }
            self.check(tolerance, &[bytes], "whole")
        });
        assert!(transcript::only_continues(&tolerant, &strict), "{}", self.title);
    }
}

fn reader(name: &str) -> Option<Reader> {
    let to = |kind, upgrade| Some(Reader::Response { kind, upgrade });
    match name {
        "response" => to(RequestKind::Other, false),
        "response to HEAD" => to(RequestKind::Head, false),
        "response to CONNECT" => to(RequestKind::Connect, false),
        "response to an upgrade" => to(RequestKind::Other, true),
        "responses" => Some(Reader::Responses),
        "nothing awaited" => Some(Reader::Unawaited),
        "request" => Some(Reader::Requests),
        _ => None,
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, used) = match rest {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', digits @ ..] => {
                let digits = std::str::from_utf8(&digits[..2]).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 3)
            }
            _ => panic!("no such escape: {text}"),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    bytes
}

fn limits(text: &str) -> ParserLimits {
    let mut limits = ParserLimits::default();
    for pair in text.split_whitespace() {
        let (name, value) = pair.split_once('=').unwrap();
        let value: usize = value.parse().unwrap();
        match name {
            "line" => limits.line = value,
            "field" => limits.field = value,
            "fields" => limits.fields = value,
            "head" => limits.head = value,
            "body" => limits.body = Some(value as u64),
            _ => panic!("no such limit: {name}"),
        }
    }
    limits
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("//")) {
        if let Some(title) = line.strip_prefix("# ") {
            cases.push(Case {
                title: title.into(),
                reader: Reader::Unawaited,
                limits: ParserLimits::default(),
                bytes: Vec::new(),
                eof: false,
                expected: Vec::new(),
            });
            continue;
        }
        let case = cases.last_mut().unwrap();
        if let Some(bytes) = line.strip_prefix("> ") {
            case.bytes.extend(unescape(bytes));
        } else if let Some(text) = line.strip_prefix("limits ") {
            case.limits = limits(text);
        } else if let Some(reader) = reader(line) {
            case.reader = reader;
        } else if line == "eof" {
            case.eof = true;
        } else if let Some(tolerance) = tolerance(line) {
            case.expected.push((Some(tolerance), Vec::new()));
        } else {
            if case.expected.is_empty() {
                case.expected.push((None, Vec::new()));
            }
            case.expected.last_mut().unwrap().1.push(line.into());
        }
    }
    cases
}

fn tolerance(line: &str) -> Option<Tolerance> {
    match line {
        "strict" => Some(Tolerance::Strict),
        "user agent" => Some(Tolerance::UserAgent),
        _ => None,
    }
}

fn check(text: &str, at_least: usize) {
    let cases = cases(text);
    assert!(cases.len() >= at_least, "cases are missing: {}", cases.len());
    for case in &cases {
        for tolerance in [Tolerance::Strict, Tolerance::UserAgent] {
            assert!(!case.steps(tolerance).is_empty(), "{} expects nothing", case.title);
        }
        case.check_in_all_pieces();
    }
}

#[test]
fn valid_responses() {
    check(include_str!("responses-valid.txt"), 30);
}

#[test]
fn invalid_responses() {
    check(include_str!("responses-invalid.txt"), 60);
}

#[test]
fn valid_requests() {
    check(include_str!("requests-valid.txt"), 15);
}

#[test]
fn invalid_requests() {
    check(include_str!("requests-invalid.txt"), 30);
}

#[test]
fn tolerated_responses() {
    check(include_str!("tolerance.txt"), 80);
}

#[test]
fn chunked_bodies() {
    check(include_str!("chunked.txt"), 30);
}
