//! A section of lines that ends with an empty one: a head, or the trailers of a chunked body.

use std::ops::Range;

use super::error::{ParseError, ParseErrorKind};
use super::fields::{FieldSpan, FieldSpans, HeaderFields, Span};
use super::framing;
use super::grammar;
use super::limits::ParserLimits;
use super::start_line::StartLine;
use super::tolerance::{LineEnds, Tolerance};

const CRLF: &[u8] = b"\r\n";
const LINE_ENDS: &str = "RFC 9112 section 2.2";
const CONTROL_IN_VALUE: &str = "the value has a control character";

/// How many fields `at_once` takes. Their array is made anew for each head, so it is not for the longest ones.
const FIELDS_AT_ONCE: usize = 32;

/// How much is gathered at a time, in bytes: the end of the section may come soon, and a long body after it.
const STRIDE: usize = 4096;

/// Reads one section after another.
///
/// There are two ways, which accept the same input. [`at_once`] is for the section that lies in the input from its
/// first line to its last and is sound, as nearly all are: httparse goes over it, and it is copied once. Everything
/// else is gathered in `block` and read line by line; that way finds the first fault, in whatever pieces the section
/// comes, and reads each byte once. It alone knows of tolerance: what needs any is not sound.
pub(super) struct SectionReader<L> {
    block: Vec<u8>,
    /// Where the line starts that is being read.
    line: usize,
    /// Up to where no line feed has been found in it.
    searched: usize,
    empty_lines: usize,
    /// Where the last empty line before the section ends.
    begin: usize,
    start: Option<L>,
    spans: FieldSpans,
    /// Of all sections so far.
    line_ends: LineEnds,
}

/// A section, if it is there to its end, and how many bytes of the input were used.
pub(super) type Read<L> = (Option<(L, HeaderFields)>, usize);

impl<L: StartLine> SectionReader<L> {
    /// A reader of sections that begin with a line of their own.
    pub(super) fn new() -> Self {
        Self {
            block: Vec::new(),
            line: 0,
            searched: 0,
            empty_lines: 0,
            begin: 0,
            start: None,
            spans: FieldSpans::new(),
            line_ends: LineEnds::Agreed,
        }
    }

    /// How many bytes are held, empty lines before the section included.
    pub(super) fn held(&self) -> usize {
        self.block.len()
    }

    /// How many bytes of a section that is not whole have come.
    pub(super) fn received(&self) -> usize {
        self.block.len() - self.begin
    }

    /// Whether other parties see the same lines in the sections that were read.
    pub(super) fn line_ends(&self) -> LineEnds {
        self.line_ends
    }

    pub(super) fn read(
        &mut self,
        input: &[u8],
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<Read<L>, ParseError> {
        if self.block.is_empty()
            && self.start.is_none()
            && let Some((start, fields, used)) = at_once(input, limits)
        {
            return Ok((Some((start, fields)), used));
        }
        let before = self.block.len();
        loop {
            let rest = &input[self.block.len() - before..];
            let room = (limits.head + 1).saturating_sub(self.block.len()).min(STRIDE);
            self.block.extend_from_slice(&rest[..rest.len().min(room)]);
            if let Some(end) = self.read_lines(limits, tolerance)? {
                self.block.truncate(end);
                let next = Self { line_ends: self.line_ends, ..Self::new() };
                let done = std::mem::replace(self, next);
                let fields = HeaderFields::new(done.block, done.spans);
                return Ok((done.start.map(|start| (start, fields)), end - before));
            }
            // At its limit a head is too long, so this ends.
            if rest.len() <= room {
                return Ok((None, input.len()));
            }
        }
    }

    /// Goes over the lines that are whole; returns where the section ends.
    fn read_lines(
        &mut self,
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<Option<usize>, ParseError> {
        while let Some(offset) = memchr::memchr(b'\n', &self.block[self.searched..]) {
            let (start, end) = (self.line, self.searched + offset + 1);
            (self.line, self.searched) = (end, end);
            if self.take_line(start..end, limits, tolerance)? {
                return Ok(Some(end));
            }
        }
        self.searched = self.block.len();
        let rest = self.line..self.block.len();
        // The byte more may be the carriage return.
        let long = rest.len().saturating_sub(1);
        self.check_size(rest, long, self.block.len(), limits, tolerance)?;
        Ok(None)
    }

    /// Reads a line with its end; whether it was the last.
    fn take_line(
        &mut self,
        place: Range<usize>,
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<bool, ParseError> {
        let Range { start, end } = place;
        let with_end = &self.block[place];
        let whole = &with_end[..with_end.len() - 1];
        let before_crlf = whole.strip_suffix(b"\r");
        let line = before_crlf.unwrap_or(whole);
        self.check_size(start..end - 1, line.len(), end, limits, tolerance)?;
        let continues = self.continued(line, tolerance).is_some();
        let kind = if self.start.is_none() { L::KIND } else { ParseErrorKind::BadField };
        let is_end = before_crlf == Some(b"") || (line.is_empty() && accepts_line_feed::<L>(tolerance));
        if self.start.is_some() && !is_end && !continues && self.spans.len() >= limits.fields {
            let kind = ParseErrorKind::TooManyFields { limit: limits.fields };
            return Err(ParseError::new(kind, "", "RFC 9110 section 5.4", whole));
        }
        if before_crlf.is_none() && !accepts_line_feed::<L>(tolerance) {
            let why = "a line feed without a carriage return";
            return Err(ParseError::at(kind, why, LINE_ENDS, with_end, whole.len()));
        }
        if let Some(position) = memchr::memchr(b'\r', line) {
            return Err(ParseError::at(
                kind,
                "a carriage return without a line feed",
                LINE_ENDS,
                with_end,
                position,
            ));
        }
        // A line feed within a folded value ends the field for no party.
        let begins_after_crlf = start == 0 || self.block[..start].ends_with(CRLF);
        let ends_head_without_crlf = line.is_empty() && before_crlf.is_none();
        if !continues && (!begins_after_crlf || ends_head_without_crlf) {
            self.line_ends = LineEnds::Doubtful;
        }
        match (&self.start, line) {
            (Some(_), b"") => return Ok(true),
            (Some(_), _) if continues => {
                let line = start..start + line.len();
                self.fold(line, tolerance)?;
            }
            (Some(_), _) => self.spans.push(read_field(line, start, self.spans.is_empty(), tolerance)?),
            (None, b"") if self.empty_lines < L::empty_lines(tolerance) => {
                self.empty_lines += 1;
                self.begin = end;
            }
            (None, _) => self.start = Some(L::read(line, start, tolerance)?),
        }
        Ok(false)
    }

    /// Where the field begins that a line continues, if it continues one (obs-fold).
    fn continued(&self, line: &[u8], tolerance: Tolerance) -> Option<usize> {
        let folded = tolerance.is_user_agent() && line.first().is_some_and(|&byte| grammar::is_white(byte));
        self.spans.last().filter(|_| folded).map(|field| field.name.range().start)
    }

    /// Adds a line to the field before, with a space between, as a user agent has to (RFC 9112 section 5.2).
    ///
    /// The text moves to where the value ended: there is room, as a line end and white space stood between.
    fn fold(&mut self, line: Range<usize>, tolerance: Tolerance) -> Result<(), ParseError> {
        let bytes = &self.block[line.clone()];
        let bad = |why, section, position| {
            Err(ParseError::at(ParseErrorKind::BadField, why, section, bytes, position))
        };
        let Some(FieldSpan { name, value }) = self.spans.last().copied() else { return Ok(()) };
        if framing::frames(&self.block[name.range()]) {
            // Parsers differ here: some join the lines, and some read the first one alone.
            let why = "the line continues a field that frames the message (obs-fold)";
            return bad(why, "RFC 9112 section 5.2", 0);
        }
        if let Some(position) = tolerance.outside_text(bytes) {
            return bad(CONTROL_IN_VALUE, "RFC 9110 section 5.5", position);
        }
        let text = grammar::trim_range(bytes);
        if text.is_empty() {
            return Ok(());
        }
        let Range { start, end } = value.range();
        let to = if start == end { end } else { end + 1 };
        self.block[end..to].fill(b' ');
        self.block.copy_within(line.start + text.start..line.start + text.end, to);
        if let Some(field) = self.spans.last_mut() {
            field.value = Span::of(start..to + text.len());
        }
        Ok(())
    }

    /// Checks what needs no whole line: how it begins, that it is `long` at least, and the section up to `end`.
    fn check_size(
        &self,
        place: Range<usize>,
        long: usize,
        end: usize,
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<(), ParseError> {
        let start = place.start;
        let line = &self.block[place];
        // A field with all its lines is as long as one that is not folded.
        let long = self.continued(line, tolerance).map_or(long, |field| start - field + long);
        let (limit, kind, section) = if self.start.is_none() {
            let may_be_empty = matches!(line, b"" | b"\r") && self.empty_lines < L::empty_lines(tolerance);
            if !may_be_empty {
                L::begins(line)?;
            }
            (limits.line, ParseErrorKind::LineTooLong { limit: limits.line }, "RFC 9112 section 3")
        } else {
            (limits.field, ParseErrorKind::FieldTooLong { limit: limits.field }, "RFC 9110 section 5.4")
        };
        if long > limit {
            return Err(ParseError::new(kind, "", section, line));
        }
        if end > limits.head {
            let kind = ParseErrorKind::HeadTooLong { limit: limits.head };
            return Err(ParseError::new(kind, "", "RFC 9110 section 5.4", line));
        }
        Ok(())
    }
}

impl SectionReader<()> {
    /// A reader of a section that begins with its fields.
    pub(super) fn trailers() -> Self {
        Self { start: Some(()), ..Self::new() }
    }
}

/// Whether a line feed alone ends a line.
fn accepts_line_feed<L: StartLine>(tolerance: Tolerance) -> bool {
    L::LINE_FEED_ENDS_LINE && tolerance.is_user_agent()
}

/// Reads a field line without its line end that stands at `start` of its block (RFC 9112 section 5).
fn read_field(line: &[u8], start: usize, first: bool, tolerance: Tolerance) -> Result<FieldSpan, ParseError> {
    let bad = |why, section, position| ParseError::at(ParseErrorKind::BadField, why, section, line, position);
    if grammar::is_white(line[0]) {
        return Err(if first {
            bad("white space stands before the first field", LINE_ENDS, 0)
        } else {
            bad("the line continues the one before (obs-fold)", "RFC 9112 section 5.2", 0)
        });
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(bad("there is no colon", "RFC 9112 section 5", 0));
    };
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    match grammar::outside_token(name) {
        None if name.is_empty() => return Err(bad("there is no name", "RFC 9112 section 5", 0)),
        None => {}
        Some(position) if grammar::trim(&name[position..]).is_empty() => {
            return Err(bad("white space stands before the colon", "RFC 9112 section 5.1", position));
        }
        Some(position) => {
            return Err(bad("the name has a character that no token has", "RFC 9110 section 5.1", position));
        }
    }
    if let Some(position) = tolerance.outside_text(rest) {
        return Err(bad(CONTROL_IN_VALUE, "RFC 9110 section 5.5", colon + 1 + position));
    }
    let value = grammar::trim_range(rest);
    let rest = start + colon + 1;
    Ok(FieldSpan {
        name: Span::of(start..start + colon),
        value: Span::of(rest + value.start..rest + value.end),
    })
}

/// A section at the beginning of the input, if it is whole, sound and not unusually long.
fn at_once<L: StartLine>(input: &[u8], limits: &ParserLimits) -> Option<(L, HeaderFields, usize)> {
    let input = &input[..input.len().min(limits.head)];
    let mut section = input;
    for _ in 0..L::empty_lines(Tolerance::Strict) {
        section = section.strip_prefix(CRLF).unwrap_or(section);
    }
    let skipped = input.len() - section.len();
    let line_end = memchr::memchr(b'\n', section)?;
    let line = section[..line_end].strip_suffix(b"\r").filter(|line| line.len() <= limits.line)?;
    L::begins(line).ok()?;
    let start = L::read(line, 0, Tolerance::Strict).ok()?;

    let mut room = [httparse::EMPTY_HEADER; FIELDS_AT_ONCE];
    let httparse::Status::Complete((size, parsed)) =
        httparse::parse_headers(&section[line_end + 1..], &mut room).ok()?
    else {
        return None;
    };
    let section = &section[..line_end + 1 + size];
    // httparse takes a line feed alone for a line end.
    if !section.ends_with(b"\r\n\r\n") || parsed.len() > limits.fields {
        return None;
    }
    let place = |part: &[u8]| part.as_ptr().addr() - section.as_ptr().addr();
    let mut spans = FieldSpans::with_capacity(parsed.len());
    let mut lines = parsed.iter().map(|field| place(field.name.as_bytes())).skip(1);
    for field in parsed {
        let name = place(field.name.as_bytes());
        let value = place(field.value);
        let end = lines.next().unwrap_or(section.len() - CRLF.len()) - CRLF.len();
        if end - name > limits.field || &section[end..end + CRLF.len()] != CRLF {
            return None;
        }
        spans.push(FieldSpan {
            name: Span::of(name..name + field.name.len()),
            value: Span::of(value..value + field.value.len()),
        });
    }
    Some((start, HeaderFields::new(section.to_vec(), spans), skipped + section.len()))
}
