//! What a parser says about some bytes, as a list of steps that is the same in whatever pieces the bytes come. The
//! tests of the corpus, the property tests and the fuzz targets all read messages by this.

use std::fmt;

use whorl_core::http1::{
    Finish, Framing, HeaderFields, MessageEvent, ParseError, Parser, ParserLimits, ParserRole, RequestHead,
    RequestKind, RequestParser, ResponseHead, ResponseParser, Tolerance,
};

/// Whose messages are read.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    /// One response; nothing is awaited after it.
    Response {
        kind: RequestKind,
        upgrade: bool,
    },
    /// Responses to any number of requests.
    Responses,
    /// Bytes while no response is awaited.
    Unawaited,
    Requests,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Informational(String),
    Head(String, Framing),
    HeaderFields(HeaderFields),
    Data(Vec<u8>),
    Trailers(HeaderFields),
    End { keep_alive: bool },
    Tunnel(Vec<u8>),
    Finish(Finish),
    ParseError(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, what: &str, fields: &HeaderFields| {
            fields.iter().enumerate().try_for_each(|(index, (name, value))| {
                let line_end = if index > 0 { "\n" } else { "" };
                write!(f, "{line_end}{what} {}: {}", name.escape_ascii(), value.escape_ascii())
            })
        };
        match self {
            Self::Informational(line) => write!(f, "informational {line}"),
            Self::Head(line, Framing::Length(length)) => write!(f, "head {line} length {length}"),
            Self::Head(line, Framing::UntilEof) => write!(f, "head {line} until-eof"),
            Self::Head(line, framing) => write!(f, "head {line} {}", format!("{framing:?}").to_lowercase()),
            Self::HeaderFields(fields) => list(f, "field", fields),
            Self::Trailers(fields) => list(f, "trailer", fields),
            Self::Data(data) => write!(f, "data \"{}\"", data.escape_ascii()),
            Self::End { keep_alive } => write!(f, "end {}", if *keep_alive { "keep-alive" } else { "close" }),
            Self::Tunnel(rest) => write!(f, "tunnel \"{}\"", rest.escape_ascii()),
            Self::Finish(finish) => write!(f, "finish {}", format!("{finish:?}").to_lowercase()),
            Self::ParseError(what) => write!(f, "error {what}"),
        }
    }
}

/// Gives the pieces to a new parser, and the end of the connection after them if `eof`. An error is the last step.
/// Requests are read alike with each tolerance.
pub fn read(
    reader: Reader,
    tolerance: Tolerance,
    limits: ParserLimits,
    pieces: &[&[u8]],
    eof: bool,
) -> Vec<Step> {
    let responses = || {
        let mut parser = ResponseParser::new(limits);
        parser.set_tolerance(tolerance);
        parser
    };
    let mut steps = Steps { steps: Vec::new(), describe: status_line, limits };
    match reader {
        Reader::Requests => {
            let mut steps = Steps { steps: Vec::new(), describe: request_line, limits };
            steps.read(&mut RequestParser::new(limits), |_| (), pieces, eof);
            return steps.steps;
        }
        Reader::Response { kind, upgrade } => {
            let mut parser = responses();
            parser.await_response(kind, upgrade);
            steps.read(&mut parser, |_| (), pieces, eof);
        }
        Reader::Responses => {
            let mut parser = responses();
            parser.await_response(RequestKind::Other, false);
            let next = |parser: &mut ResponseParser| parser.await_response(RequestKind::Other, false);
            steps.read(&mut parser, next, pieces, eof);
        }
        Reader::Unawaited => steps.read(&mut responses(), |_| (), pieces, eof),
    }
    steps.steps
}

/// Whether a user agent that took `tolerant` steps has read what the strict parser, whose steps are `strict`, has read:
/// tolerance continues where that one has an error, and changes nothing before.
pub fn only_continues(tolerant: &[Step], strict: &[Step]) -> bool {
    let Some((Step::ParseError(_), before)) = strict.split_last() else { return tolerant == strict };
    match before.split_last() {
        // Content that comes in one step may be longer.
        Some((Step::Data(data), before)) => {
            tolerant.starts_with(before)
                && matches!(tolerant.get(before.len()), Some(Step::Data(more)) if more.starts_with(data))
        }
        _ => tolerant.starts_with(before),
    }
}

/// The pieces of `bytes` between these places, in whatever order they are; places beyond the end count from the start
/// again. Some pieces may be empty.
pub fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut start = 0;
    places.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

struct Steps<H> {
    steps: Vec<Step>,
    /// The start line, and the fields of a head.
    describe: fn(&H) -> (String, HeaderFields),
    limits: ParserLimits,
}

impl<H> Steps<H> {
    fn read<R: ParserRole<Head = H>>(
        &mut self,
        parser: &mut Parser<R>,
        mut ended: impl FnMut(&mut Parser<R>),
        pieces: &[&[u8]],
        eof: bool,
    ) {
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (event, used) = match parser.parse(rest) {
                    Ok(found) => found,
                    Err(error) => {
                        assert_eq!(parser.parse(b"more").map(|_| ()), Err(error.clone()), "an error lasts");
                        assert_eq!(parser.finish(), Err(error.clone()), "an error lasts");
                        return self.failed(&error);
                    }
                };
                if let MessageEvent::Data(data) = &event {
                    let (whole, part) = (rest.as_ptr_range(), data.as_ptr_range());
                    assert!(whole.start <= part.start && part.end <= whole.end, "content is not copied");
                }
                rest = &rest[used..];
                assert!(
                    parser.held() <= self.limits.head.saturating_add(1),
                    "more is held than a head may have"
                );
                match event {
                    MessageEvent::NeedMore => {
                        assert!(rest.is_empty(), "more is needed, and not all is used");
                        break;
                    }
                    MessageEvent::Informational(head) => {
                        let (line, fields) = (self.describe)(&head);
                        self.steps.extend([Step::Informational(line), Step::HeaderFields(fields)]);
                    }
                    MessageEvent::Head(head, framing) => {
                        let (line, fields) = (self.describe)(&head);
                        self.steps.extend([Step::Head(line, framing), Step::HeaderFields(fields)]);
                    }
                    MessageEvent::Data(data) => self.data(data),
                    // Where chunks end says nothing about the content.
                    MessageEvent::ChunkEnd => {}
                    MessageEvent::Trailers(fields) => self.steps.push(Step::Trailers(fields)),
                    MessageEvent::End { keep_alive } => {
                        self.steps.push(Step::End { keep_alive });
                        ended(parser);
                    }
                    MessageEvent::Tunnel => {
                        self.tunnel(rest);
                        break;
                    }
                }
            }
        }
        if eof {
            match parser.finish() {
                Ok(finish) => self.steps.push(Step::Finish(finish)),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &ParseError) {
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains(|c: char| c.is_control()), "{text}");
        assert!(text.ends_with(&format!("({})", error.section())), "{text}");
        self.steps.push(Step::ParseError(format!("{:?}, {}", error.kind(), error.section())));
    }

    fn data(&mut self, data: &[u8]) {
        assert!(!data.is_empty(), "a piece of content is empty");
        match self.steps.last_mut() {
            Some(Step::Data(before)) => before.extend_from_slice(data),
            _ => self.steps.push(Step::Data(data.to_vec())),
        }
    }

    fn tunnel(&mut self, rest: &[u8]) {
        match self.steps.last_mut() {
            Some(Step::Tunnel(before)) => before.extend_from_slice(rest),
            _ => self.steps.push(Step::Tunnel(rest.to_vec())),
        }
    }
}

fn status_line(head: &ResponseHead) -> (String, HeaderFields) {
    let line = format!("{} {} \"{}\"", head.version, head.status, head.reason().escape_ascii());
    (line, head.fields.clone())
}

fn request_line(head: &RequestHead) -> (String, HeaderFields) {
    let line = format!("{} {} {}", head.method().escape_ascii(), head.target().escape_ascii(), head.version);
    (line, head.fields.clone())
}
