//! Chunked bodies. Any bytes: the same in whatever pieces they come. And what is encoded is read as it was, with
//! extensions that say nothing, leading zeros and trailers.
#![no_main]

mod messages;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use messages::transcript::{Reader, Step};
use messages::{Bounds, Bytes, read_in_all_ways};
use whorl_core::http1::{ParserLimits, RequestKind, encode};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const READER: Reader = Reader::Response { kind: RequestKind::Other, upgrade: false };

#[derive(Arbitrary, Debug)]
enum Input {
    Any { bounds: Bounds, places: [u16; 4], eof: bool, bytes: Bytes },
    Encoded { places: [u16; 4], chunks: Vec<Chunk>, trailer: Option<Vec<u8>> },
}

#[derive(Arbitrary, Debug)]
enum Chunk {
    Plain(Vec<u8>),
    Extended { data: Vec<u8>, zeros: u8, extension: u8 },
}

fuzz_target!(|input: Input| {
    match input {
        Input::Any { bounds, places, eof, bytes } => {
            let bytes = [HEAD, &bytes.0].concat();
            read_in_all_ways(READER, bounds.limits(), &bytes, &places, eof);
        }
        Input::Encoded { places, chunks, trailer } => round(&places, &chunks, trailer.as_deref()),
    }
});

fn round(places: &[u16], chunks: &[Chunk], trailer: Option<&[u8]>) {
    let mut bytes = HEAD.to_vec();
    let mut content = Vec::new();
    let mut extensions = 0;
    for chunk in chunks {
        match chunk {
            Chunk::Plain(data) => {
                encode::chunk(&mut bytes, data);
                content.extend(data);
            }
            Chunk::Extended { data, .. } if data.is_empty() => {}
            Chunk::Extended { data, zeros, extension } => {
                let (zeros, extension) = (usize::from(zeros % 8), usize::from(*extension));
                if extensions + 1 + extension > 16 * 1024 {
                    continue;
                }
                extensions += 1 + extension;
                let line = format!("{}{:X};{}\r\n", "0".repeat(zeros), data.len(), "x".repeat(extension));
                bytes.extend_from_slice(line.as_bytes());
                bytes.extend_from_slice(data);
                bytes.extend_from_slice(encode::CRLF);
                content.extend(data);
            }
        }
    }
    let before = bytes.len();
    let trailers = trailer.iter().map(|value| (&b"X-Trailer"[..], *value));
    let trailer = match encode::last_chunk(&mut bytes, trailers) {
        Ok(()) => trailer,
        Err(_) => {
            assert_eq!(bytes.len(), before, "a part of what cannot be sent is left");
            bytes.extend_from_slice(b"0\r\n\r\n");
            None
        }
    };
    let steps = read_in_all_ways(READER, ParserLimits::default(), &bytes, places, true);
    let mut steps = steps.into_iter().skip(2);
    if !content.is_empty() {
        assert_eq!(steps.next(), Some(Step::Data(content)));
    }
    if let Some(value) = trailer {
        let Some(Step::Trailers(fields)) = steps.next() else { panic!("the trailer is missing") };
        let white = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().position(|byte| !white(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !white(byte)).map_or(start, |last| last + 1);
        assert!(fields.iter().eq([(&b"X-Trailer"[..], &value[start..end])]));
    }
    assert_eq!(steps.next(), Some(Step::End { keep_alive: true }));
}
