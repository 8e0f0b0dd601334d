//! Whatever comes, in whatever pieces, into however little room: the same text or the same verdict, never more output
//! than there is room for, and never a call that does nothing and wants another.
#![no_main]

use std::io::{self, Write};

use arbitrary::Arbitrary;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use whorl_core::client::coding::Decoder;

/// A bomb is followed no further than to here, in bytes.
const ENOUGH: usize = 1 << 20;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Name {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Name {
    const fn value(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Source {
    /// The body as it is.
    Noise,
    /// The body encoded, perhaps with one byte of that changed.
    Encoded { gzip: bool, level: u8, flush_after: u16, damage: Option<(u16, u8)> },
}

#[derive(Arbitrary, Debug)]
struct Input {
    names: Vec<Name>,
    source: Source,
    pieces: Vec<(u8, u16)>,
    most: u16,
    body: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Text,
    Cut,
    Corrupt,
    /// More than enough.
    Bomb,
}

/// Decodes `body` in pieces of the given sizes, in turn, each with its own bound on the output.
fn decode(value: &str, body: &[u8], pieces: &[(usize, usize)]) -> (Verdict, Vec<u8>) {
    let Ok(mut decoder) = Decoder::new(value) else { panic!("{value} is known") };
    let mut out = Vec::new();
    let (mut at, mut turn, mut more) = (0, 0, false);
    while at < body.len() || more {
        let (size, most) = pieces[turn % pieces.len()];
        turn += 1;
        let end = at.saturating_add(size).min(body.len());
        let before = out.len();
        let done = match decoder.decode(&body[at..end], &mut out, most) {
            Ok(done) => done,
            Err(error) => {
                assert!(!error.is_cut() && decoder.finish().is_err());
                return (Verdict::Corrupt, out);
            }
        };
        assert!(out.len() - before <= most, "more output than was allowed");
        assert!(done.more || at + done.consumed == end, "input left over, and no more to come");
        assert!(!done.more || done.consumed > 0 || out.len() > before, "nothing done, and more to come");
        at += done.consumed;
        more = done.more;
        if out.len() > ENOUGH {
            return (Verdict::Bomb, out);
        }
    }
    match decoder.finish() {
        Ok(()) => (Verdict::Text, out),
        Err(error) => {
            assert!(error.is_cut());
            (Verdict::Cut, out)
        }
    }
}

/// gzip or zlib data, flushed at a place.
fn encode(text: &[u8], gzip: bool, level: u32, flushed: usize) -> io::Result<Vec<u8>> {
    let (head, tail) = text.split_at(flushed);
    let level = Compression::new(level);
    if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(head)?;
        encoder.flush()?;
        encoder.write_all(tail)?;
        encoder.finish()
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(head)?;
        encoder.flush()?;
        encoder.write_all(tail)?;
        encoder.finish()
    }
}

fuzz_target!(|input: Input| {
    let Input { mut names, source, pieces, most, mut body } = input;
    names.truncate(Decoder::MOST_CODINGS);
    let mut text = None;
    if let Source::Encoded { gzip, level, flush_after, damage } = source {
        let at = usize::from(flush_after).min(body.len());
        let Ok(mut encoded) = encode(&body, gzip, u32::from(level % 10), at) else { return };
        names = vec![if gzip { Name::Gzip } else { Name::Deflate }];
        match damage {
            Some((place, with)) => {
                let place = usize::from(place) % encoded.len();
                encoded[place] ^= with;
            }
            None => text = Some(std::mem::take(&mut body)),
        }
        body = encoded;
    }
    let value = names.iter().map(|name| name.value()).collect::<Vec<_>>().join(", ");
    let mut pieces: Vec<(usize, usize)> =
        pieces.into_iter().map(|(size, most)| (usize::from(size), usize::from(most) + 1)).collect();
    pieces.push((usize::from(most) + 1, usize::from(most) + 1));

    let (whole, whole_out) = decode(&value, &body, &[(usize::MAX, 2 * ENOUGH)]);
    let (parts, parts_out) = decode(&value, &body, &pieces);
    match (&whole, &parts) {
        // A fault just beyond what is enough may be seen or not.
        (Verdict::Bomb, Verdict::Corrupt) | (Verdict::Corrupt, Verdict::Bomb) => return,
        _ => assert_eq!(whole, parts),
    }
    match whole {
        Verdict::Text | Verdict::Cut => assert!(whole_out == parts_out),
        Verdict::Bomb => assert!(whole_out[..ENOUGH] == parts_out[..ENOUGH]),
        Verdict::Corrupt => {}
    }
    if let Some(text) = text {
        assert!(whole == Verdict::Text && whole_out == text);
    }
});
