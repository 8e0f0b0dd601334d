//! From bytes to events, one message after another.

use std::fmt;

use super::body::{BodyPiece, BodyReader};
use super::error::{Incomplete, ParseError, ParseErrorKind};
use super::fields::HeaderFields;
use super::framing::{self, Framing, HeadVerdict, RequestKind};
use super::limits::ParserLimits;
use super::message::{RequestHead, ResponseHead};
use super::section::SectionReader;
use super::start_line::{RequestLine, StartLine, StatusLine};
use super::tolerance::{LineEnds, Tolerance};

/// Reads the responses on one connection: the client's side. See [`Parser`].
pub type ResponseParser = Parser<Responses>;

/// Reads the requests on one connection: the server's side. See [`Parser`].
///
/// The head of a request that offers an upgrade is read like any other. If it is granted, the bytes after
/// [`MessageEvent::End`] are the new protocol's, and the parser is not called again.
pub type RequestParser = Parser<Requests>;

/// What [`Parser::parse`] has found.
#[derive(Debug)]
pub enum MessageEvent<'a, H> {
    /// All input is used up, without an event. More bytes are needed, or the end of the connection.
    NeedMore,
    /// The head of an interim response (1xx but 101). Any number may come before the response itself.
    Informational(H),
    /// The head of a message, and how its body is framed.
    Head(H, Framing),
    /// A piece of the content: a part of the input, not copied. It is never empty.
    Data(&'a [u8]),
    /// A chunk of the chunked coding has ended. It says nothing about the content (RFC 9112 section 7.1): it serves
    /// users who want the chunks as they were sent.
    ChunkEnd,
    /// The fields after a chunked body, if there are any. They are never a part of the head's.
    Trailers(HeaderFields),
    /// The message is complete. One that is [`Framing::UntilEof`] ends with [`Parser::finish`] instead, and its
    /// connection with it.
    End {
        /// Whether the connection may carry another one, for all that this side of it says (RFC 9112 section 9.3), and
        /// for what was read: after a line in a head that a line feed alone ended, it may not.
        keep_alive: bool,
    },
    /// The rest of the input, and all later input, is no longer HTTP. It is not used up.
    Tunnel,
}

/// The kind of the connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The end of a message that lasts until then.
    End,
    /// The end between two messages, or of a tunnel.
    Idle,
}

/// What differs between reading responses and reading requests; nothing else implements it.
pub trait ParserRole {
    /// The first line of a message.
    #[doc(hidden)]
    type Line: StartLine;
    /// The head of a message.
    type Head;

    /// What is accepted beyond the grammar.
    fn tolerance(&self) -> Tolerance;
    /// Whether a message may begin now.
    fn may_begin(&self) -> bool;
    /// Whether the connection may end before the first byte of a message.
    fn may_end(&self) -> bool;
    /// Puts a head together.
    fn head(line: Self::Line, fields: HeaderFields) -> Self::Head;
    /// Returns the event of a head, and notes the framing it announces.
    fn judge(&mut self, head: &Self::Head) -> Result<HeadVerdict, ParseError>;
}

/// The role of a [`ResponseParser`].
pub struct Responses {
    tolerance: Tolerance,
    expected: Option<(RequestKind, bool)>,
}

/// The role of a [`RequestParser`].
pub struct Requests {
    /// A request has said that it is the last.
    closing: bool,
}

impl ParserRole for Responses {
    type Line = StatusLine;
    type Head = ResponseHead;

    fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    fn may_begin(&self) -> bool {
        self.expected.is_some()
    }

    fn may_end(&self) -> bool {
        self.expected.is_none()
    }

    fn head(line: StatusLine, fields: HeaderFields) -> ResponseHead {
        ResponseHead::new(line, fields)
    }

    fn judge(&mut self, head: &ResponseHead) -> Result<HeadVerdict, ParseError> {
        let (kind, upgrade) = self.expected.unwrap_or((RequestKind::Other, false));
        let judged = framing::of_response(head, kind, upgrade, self.tolerance)?;
        if let HeadVerdict::Message { .. } = judged {
            self.expected = None;
        }
        Ok(judged)
    }
}

impl ParserRole for Requests {
    type Line = RequestLine;
    type Head = RequestHead;

    /// A server that reads what its proxy reads otherwise is the target of request smuggling.
    fn tolerance(&self) -> Tolerance {
        Tolerance::Strict
    }

    fn may_begin(&self) -> bool {
        !self.closing
    }

    fn may_end(&self) -> bool {
        true
    }

    fn head(line: RequestLine, fields: HeaderFields) -> RequestHead {
        RequestHead::new(line, fields)
    }

    fn judge(&mut self, head: &RequestHead) -> Result<HeadVerdict, ParseError> {
        let judged = framing::of_request(head)?;
        if let HeadVerdict::Message { keep_alive, .. } = judged {
            self.closing = !keep_alive;
        }
        Ok(judged)
    }
}

/// Reads the messages of one role on one connection.
///
/// The caller gives [`Parser::parse`] its input, drops the used bytes, and calls again until the event is
/// [`MessageEvent::NeedMore`]. In whatever pieces a message comes, the events are the same, except that content comes
/// in more of them. A head that lies whole in the input is read there; only one that does not is gathered in the
/// parser.
///
/// After an error every further call returns the same one.
pub struct Parser<R: ParserRole> {
    role: R,
    limits: ParserLimits,
    reader: SectionReader<R::Line>,
    state: ParserState,
}

enum ParserState {
    /// Before a head, or in it.
    Head,
    Body {
        body: BodyReader,
        keep_alive: bool,
    },
    Tunnel,
    Failed(ParseError),
}

impl<R: ParserRole> fmt::Debug for Parser<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl Parser<Responses> {
    /// A parser for a new connection, on which no response is awaited yet. It reads as a user agent.
    #[must_use]
    pub fn new(limits: ParserLimits) -> Self {
        Self::with_role(Responses { tolerance: Tolerance::default(), expected: None }, limits)
    }

    /// Sets what is accepted of later responses.
    pub fn set_tolerance(&mut self, tolerance: Tolerance) {
        self.role.tolerance = tolerance;
    }

    /// A request of this kind has been sent, so a response may come. `upgrade`: it has offered to change the protocol,
    /// so 101 may come.
    ///
    /// This is said once for each request, after the [`MessageEvent::End`] of the response before. Bytes that come
    /// while no response is awaited are [`ParseErrorKind::Unexpected`].
    pub fn await_response(&mut self, kind: RequestKind, upgrade: bool) {
        self.role.expected = Some((kind, upgrade));
    }
}

impl Parser<Requests> {
    /// A parser for a new connection.
    #[must_use]
    pub fn new(limits: ParserLimits) -> Self {
        Self::with_role(Requests { closing: false }, limits)
    }
}

impl<R: ParserRole> Parser<R> {
    fn with_role(role: R, limits: ParserLimits) -> Self {
        Self { role, limits: limits.within_reach(), reader: SectionReader::new(), state: ParserState::Head }
    }

    /// Sets the limits for later messages.
    pub fn set_limits(&mut self, limits: ParserLimits) {
        self.limits = limits.within_reach();
    }

    /// How many bytes of the input the parser keeps: a head or trailers that are not whole yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.reader.held() + if let ParserState::Body { body, .. } = &self.state { body.held() } else { 0 }
    }

    /// How many of the next bytes are content of a body, whatever they are; none outside of one, or where framing is between.
    #[must_use]
    pub const fn content_left(&self) -> Option<u64> {
        match &self.state {
            ParserState::Body { body, .. } => body.left(),
            _ => None,
        }
    }

    /// The next event in `input`, and how many bytes of it are used up; the rest is to be given again.
    ///
    /// # Errors
    ///
    /// An [`ParseError`] if the message breaks a rule or a limit.
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Result<(MessageEvent<'a, R::Head>, usize), ParseError> {
        let tolerance = self.role.tolerance();
        let step = match &mut self.state {
            ParserState::Head => self.parse_head(input),
            ParserState::Body { body, keep_alive } => {
                let keep_alive = *keep_alive;
                body.parse(input, &self.limits, tolerance).map(|(piece, used)| match piece {
                    BodyPiece::NeedMore => (MessageEvent::NeedMore, used),
                    BodyPiece::Data(data) => (MessageEvent::Data(data), used),
                    BodyPiece::ChunkEnd => (MessageEvent::ChunkEnd, used),
                    BodyPiece::Trailers(fields) => (MessageEvent::Trailers(fields), used),
                    BodyPiece::End => {
                        self.state = ParserState::Head;
                        (MessageEvent::End { keep_alive }, used)
                    }
                })
            }
            ParserState::Tunnel => Ok((MessageEvent::Tunnel, 0)),
            ParserState::Failed(error) => return Err(error.clone()),
        };
        step.inspect_err(|error| self.state = ParserState::Failed(error.clone()))
    }

    fn parse_head<'a>(&mut self, input: &'a [u8]) -> Result<(MessageEvent<'a, R::Head>, usize), ParseError> {
        if input.is_empty() {
            return Ok((MessageEvent::NeedMore, 0));
        }
        if !self.role.may_begin() {
            let why = "bytes came after the last message that was to come";
            return Err(ParseError::new(ParseErrorKind::Unexpected, why, "RFC 9112 section 9.2", input));
        }
        let (section, used) = self.reader.read(input, &self.limits, self.role.tolerance())?;
        let Some((line, fields)) = section else { return Ok((MessageEvent::NeedMore, used)) };
        let head = R::head(line, fields);
        let (framing, keep_alive) = match self.role.judge(&head)? {
            HeadVerdict::Informational => return Ok((MessageEvent::Informational(head), used)),
            HeadVerdict::Message { framing, keep_alive } => {
                // Behind a head whose end is in doubt another party may see the next message elsewhere. A connection
                // that serves no other request has no next one.
                (framing, keep_alive && self.reader.line_ends() == LineEnds::Agreed)
            }
        };
        self.state = match framing {
            Framing::Tunnel => ParserState::Tunnel,
            _ => ParserState::Body { body: BodyReader::new(framing, &self.limits)?, keep_alive },
        };
        Ok((MessageEvent::Head(head, framing), used))
    }

    /// The peer has closed the connection: it will send no more.
    ///
    /// # Errors
    ///
    /// [`ParseErrorKind::Incomplete`] if a message, or its first byte, was still to come; or the error that was met
    /// before.
    pub fn finish(&mut self) -> Result<Finish, ParseError> {
        let finish = match &self.state {
            ParserState::Failed(error) => return Err(error.clone()),
            ParserState::Tunnel => Ok(Finish::Idle),
            ParserState::Body { body, .. } => body.finish().map(|()| Finish::End),
            ParserState::Head => match self.reader.received() {
                0 if self.role.may_end() => Ok(Finish::Idle),
                received => {
                    let kind = ParseErrorKind::Incomplete(Incomplete::Head { received });
                    Err(ParseError::new(kind, "", "RFC 9112 section 8", b""))
                }
            },
        };
        self.state = match &finish {
            Ok(Finish::End) => ParserState::Head,
            Ok(Finish::Idle) => return finish,
            Err(error) => ParserState::Failed(error.clone()),
        };
        finish
    }
}
