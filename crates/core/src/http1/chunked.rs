//! The chunked coding (RFC 9112 section 7.1).

use super::body::BodyPiece;
use super::error::{Incomplete, ParseError, ParseErrorKind};
use super::grammar;
use super::limits::ParserLimits;
use super::section::SectionReader;
use super::tolerance::Tolerance;

/// The most digits of a chunk size: as many as 64 bits have, leading zeros included.
const DIGITS: u8 = 16;
/// The most that all chunk extensions of a message may come to, in bytes.
const EXTENSIONS: usize = 16 * 1024;

const SIZES: &str = "RFC 9112 section 7.1";
const EXTENDED: &str = "RFC 9112 section 7.1.1";
const LINE_ENDS: &str = "RFC 9112 section 2.2";

/// Takes a chunked body apart.
pub(super) struct ChunkedReader {
    state: ChunkedState,
    /// Bytes of content in all chunks that have been announced.
    announced: u64,
    /// Bytes of content handed on.
    received: u64,
    /// Bytes of chunk extensions.
    extensions: usize,
}

enum ChunkedState {
    /// In a chunk's size, or in the white space before it: its digits so far, and their value.
    Size {
        digits: u8,
        size: u64,
    },
    /// In the white space behind a size.
    White {
        size: u64,
    },
    /// In an extension, which is passed over.
    Extension {
        size: u64,
    },
    /// Before the line feed that ends the size's line.
    SizeEnd {
        size: u64,
    },
    /// In a chunk's data.
    Data {
        left: u64,
    },
    /// Before the CRLF that ends it.
    DataEnd,
    /// Before the line feed of that CRLF.
    DataLineFeed,
    /// In the section after the last chunk.
    Trailers(Box<SectionReader<()>>),
    Done,
}

impl ChunkedReader {
    pub(super) fn new() -> Self {
        let state = ChunkedState::Size { digits: 0, size: 0 };
        Self { state, announced: 0, received: 0, extensions: 0 }
    }

    /// The error if the connection ends here.
    pub(super) fn incomplete(&self) -> Incomplete {
        Incomplete::Chunk { received: self.received }
    }

    /// Bytes of trailers that are held.
    pub(super) fn held(&self) -> usize {
        if let ChunkedState::Trailers(reader) = &self.state { reader.held() } else { 0 }
    }

    pub(super) fn parse<'a>(
        &mut self,
        input: &'a [u8],
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<(BodyPiece<'a>, usize), ParseError> {
        let mut at = 0;
        loop {
            match &mut self.state {
                ChunkedState::Data { left: 0 } => self.state = ChunkedState::DataEnd,
                ChunkedState::Data { left } if at < input.len() => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let data = &input[at..input.len().min(at.saturating_add(most))];
                    *left -= data.len() as u64;
                    self.received += data.len() as u64;
                    return Ok((BodyPiece::Data(data), at + data.len()));
                }
                ChunkedState::Trailers(reader) => {
                    let (section, used) = reader.read(&input[at..], limits, tolerance)?;
                    let Some(((), fields)) = section else { return Ok((BodyPiece::NeedMore, at + used)) };
                    self.state = ChunkedState::Done;
                    if !fields.is_empty() {
                        return Ok((BodyPiece::Trailers(fields), at + used));
                    }
                    at += used;
                }
                ChunkedState::Done => return Ok((BodyPiece::End, at)),
                _ => {
                    let Some(&byte) = input.get(at) else { return Ok((BodyPiece::NeedMore, at)) };
                    let ends_chunk = matches!(self.state, ChunkedState::DataLineFeed);
                    self.step(byte, limits, tolerance)
                        .map_err(|(kind, why, section)| ParseError::at(kind, why, section, input, at))?;
                    at += 1;
                    if ends_chunk {
                        return Ok((BodyPiece::ChunkEnd, at));
                    }
                }
            }
        }
    }

    /// Takes one byte between the data of two chunks.
    fn step(
        &mut self,
        byte: u8,
        limits: &ParserLimits,
        tolerance: Tolerance,
    ) -> Result<(), (ParseErrorKind, &'static str, &'static str)> {
        let bad = |why, section| Err((ParseErrorKind::BadChunk, why, section));
        // Some servers pad the digits to a fixed width.
        let pads = tolerance.is_user_agent();
        self.state = match self.state {
            ChunkedState::Size { digits: 0, .. } if pads && grammar::is_white(byte) => {
                self.extensions += 1;
                ChunkedState::Size { digits: 0, size: 0 }
            }
            ChunkedState::Size { digits, size } => match (hexadecimal(byte), byte) {
                (Some(_), _) if digits == DIGITS => return bad("the size has more than 16 digits", SIZES),
                (Some(digit), _) => ChunkedState::Size { digits: digits + 1, size: size << 4 | digit },
                (None, _) if digits == 0 => return bad("the size does not begin with a digit", SIZES),
                (None, b'\r') => ChunkedState::SizeEnd { size },
                (None, b';') => ChunkedState::Extension { size },
                (None, b' ' | b'\t') => ChunkedState::White { size },
                (None, b'\n') => return bad("a line feed without a carriage return", LINE_ENDS),
                (None, _) => return bad("the size is not a hexadecimal number", SIZES),
            },
            ChunkedState::White { size } => match byte {
                b' ' | b'\t' => ChunkedState::White { size },
                b';' => ChunkedState::Extension { size },
                b'\r' if pads => ChunkedState::SizeEnd { size },
                _ if pads => return bad("the size is not a hexadecimal number", SIZES),
                _ => return bad("white space after the size", SIZES),
            },
            ChunkedState::Extension { size } => match byte {
                b'\r' => ChunkedState::SizeEnd { size },
                b'\n' => return bad("a line feed without a carriage return", LINE_ENDS),
                _ if grammar::is_text(byte) => ChunkedState::Extension { size },
                _ => return bad("a control character in a chunk extension", EXTENDED),
            },
            ChunkedState::SizeEnd { size } => match byte {
                b'\n' => return self.begin_chunk(size, limits),
                _ => return bad("a carriage return without a line feed", LINE_ENDS),
            },
            ChunkedState::DataEnd => match byte {
                b'\r' => ChunkedState::DataLineFeed,
                _ => return bad("a chunk's data is not followed by CRLF", SIZES),
            },
            ChunkedState::DataLineFeed => match byte {
                b'\n' => ChunkedState::Size { digits: 0, size: 0 },
                _ => return bad("a carriage return without a line feed", LINE_ENDS),
            },
            // Not taken byte by byte.
            ChunkedState::Data { .. } | ChunkedState::Trailers(_) | ChunkedState::Done => return Ok(()),
        };
        self.extensions +=
            usize::from(matches!(self.state, ChunkedState::White { .. } | ChunkedState::Extension { .. }));
        if self.extensions > EXTENSIONS {
            return bad("the chunk extensions come to more than 16 KiB", EXTENDED);
        }
        Ok(())
    }

    /// Continues after the line of a size.
    fn begin_chunk(
        &mut self,
        size: u64,
        limits: &ParserLimits,
    ) -> Result<(), (ParseErrorKind, &'static str, &'static str)> {
        if size == 0 {
            self.state = ChunkedState::Trailers(Box::new(SectionReader::trailers()));
            return Ok(());
        }
        let Some(announced) = self.announced.checked_add(size) else {
            return Err((ParseErrorKind::BadChunk, "the sizes come to more than any length", SIZES));
        };
        if let Some(limit) = limits.body.filter(|limit| announced > *limit) {
            return Err((ParseErrorKind::BodyTooLong { limit }, "", "RFC 9110 section 15.5.14"));
        }
        self.announced = announced;
        self.state = ChunkedState::Data { left: size };
        Ok(())
    }
}

fn hexadecimal(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
