//! The decoder against the encoders of the same libraries, whole and in pieces.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::{Coding, DecodeError, Decoder, Undecodable};

/// "The quick brown fox jumps over the lazy dog. ", 40 times, by Brotli's own encoder.
const BROTLI_TEXT: &[u8] = &[
    0x1b, 0x07, 0x07, 0x88, 0x2c, 0x0e, 0x78, 0xd3, 0xd0, 0x95, 0x5d, 0x97, 0x10, 0xbb, 0x17, 0x2b, 0xa9,
    0xca, 0xd0, 0x92, 0xcc, 0x8c, 0xad, 0x41, 0x5c, 0xe6, 0xf2, 0x36, 0xc8, 0x19, 0x9e, 0x9e, 0x0a, 0x7b,
    0x83, 0x0d, 0x38, 0x70, 0x48, 0x20, 0x6f, 0x24, 0xbf, 0x41, 0xa7, 0x15, 0xce, 0x1c, 0x1e, 0x27, 0xaa,
    0x29, 0x38, 0xc2, 0xa9, 0x74, 0x9f, 0x06, 0x03,
];
/// Ten million zeros, by Brotli's own encoder.
const BROTLI_BOMB: &[u8] = &[
    0xcb, 0xff, 0xff, 0x3f, 0xf8, 0x27, 0x00, 0xe2, 0xb1, 0x40, 0x20, 0xf7, 0xfe, 0x2f, 0xff, 0x2c, 0x31,
    0xf0, 0x4f, 0x00, 0xc4, 0x61, 0x11, 0x80, 0x8e, 0x23, 0x06,
];

fn quick_brown_fox() -> Vec<u8> {
    b"The quick brown fox jumps over the lazy dog. ".repeat(40)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(text: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(text, 3).unwrap()
}

/// Brotli without compression (RFC 7932, section 9.2): a window of 64 KiB, blocks of up to 64 KiB as they are.
fn stored_brotli(text: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut first = true;
    for block in text.chunks(1 << 16) {
        // From the low bit: [the window: 0], not the last: 0, four nibbles: 00, the length less one, as it is: 1.
        let header = ((block.len() as u32 - 1) << 3) | (1 << 19);
        let header = if first { header << 1 } else { header };
        first = false;
        body.extend_from_slice(&header.to_le_bytes()[..3]);
        body.extend_from_slice(block);
    }
    // The last block, and empty: 11.
    body.push(if first { 0b110 } else { 0b11 });
    body
}

/// Encodes by the codings of a field's value, in the order in which they stand there.
fn encode(content_encoding: &str, text: &[u8]) -> Vec<u8> {
    content_encoding.split(", ").fold(text.to_vec(), |text, name| match name {
        "gzip" => gzip(&text),
        "deflate" => zlib(&text),
        "br" => stored_brotli(&text),
        "zstd" => zstandard(&text),
        other => panic!("{other}"),
    })
}

/// Decodes `body` in pieces that end at `cuts`, with no more than `most` bytes of output a call.
fn decode_in_pieces(
    encoding: &str,
    body: &[u8],
    cuts: &[usize],
    most: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(encoding).unwrap();
    let mut out = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    ends.push(body.len());
    ends.sort_unstable();
    let mut at = 0;
    for end in ends {
        loop {
            let before = out.len();
            let done = decoder.decode(&body[at..end], &mut out, most)?;
            at += done.consumed;
            assert!(out.len() - before <= most, "{} of {most}", out.len() - before);
            if !done.more {
                assert_eq!(at, end, "input is left and no more is said to come");
                break;
            }
            assert!(done.consumed > 0 || out.len() > before, "a call that does nothing says there is more");
        }
    }
    decoder.finish()?;
    Ok(out)
}

fn decode(encoding: &str, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decode_in_pieces(encoding, body, &[], usize::MAX)
}

/// Byte by byte, with the least output space possible.
fn decode_bytewise(encoding: &str, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let cuts: Vec<usize> = (0..body.len()).collect();
    decode_in_pieces(encoding, body, &cuts, 1)
}

#[track_caller]
fn decodes_to(encoding: &str, body: &[u8], text: &[u8]) {
    assert_eq!(decode(encoding, body).as_deref(), Ok(text));
    assert_eq!(decode_bytewise(encoding, body).as_deref(), Ok(text));
}

#[track_caller]
fn fails(encoding: &str, body: &[u8]) -> DecodeError {
    let error = decode(encoding, body).unwrap_err();
    assert_eq!(decode_bytewise(encoding, body).unwrap_err().is_cut(), error.is_cut());
    error
}

#[test]
fn names_of_codings() {
    let codings = |value: &str| Decoder::new(value).map(|decoder| decoder.codings().collect::<Vec<_>>());
    assert_eq!(codings("gzip"), Ok(vec![Coding::Gzip]));
    assert_eq!(codings("X-GZip"), Ok(vec![Coding::Gzip]));
    assert_eq!(codings("Deflate"), Ok(vec![Coding::Deflate]));
    assert_eq!(codings("\tbr "), Ok(vec![Coding::Brotli]));
    assert_eq!(codings("zstd"), Ok(vec![Coding::Zstd]));
    // Applied in the order in which they stand, so taken off from the end.
    assert_eq!(codings("gzip ,, identity,br"), Ok(vec![Coding::Brotli, Coding::Gzip]));
    for identity in ["", "identity", " , Identity,"] {
        assert!(Decoder::new(identity).unwrap().is_identity());
    }
    assert_eq!(codings("compress"), Err(Undecodable::Unknown("compress".into())));
    assert_eq!(codings("gzip, sdch"), Err(Undecodable::Unknown("sdch".into())));
    // A letter that becomes ASCII when its case is folded is another letter.
    assert!(matches!(codings("\u{212a}zip"), Err(Undecodable::Unknown(_))));
    assert_eq!(codings(&["gzip"; 5].join(",")).map(|codings| codings.len()), Ok(5));
    assert_eq!(codings(&["gzip"; 6].join(",")), Err(Undecodable::TooMany(6)));
    let message = Undecodable::Unknown("sdch".into()).to_string();
    assert!(message.contains("\"sdch\"") && message.contains("zstd"), "{message}");
}

#[test]
fn one_coding() {
    let text = quick_brown_fox();
    decodes_to("gzip", &gzip(&text), &text);
    decodes_to("deflate", &zlib(&text), &text);
    decodes_to("deflate", &bare_deflate(&text), &text);
    decodes_to("br", BROTLI_TEXT, &text);
    decodes_to("br", &stored_brotli(&text), &text);
    decodes_to("zstd", &zstandard(&text), &text);
    decodes_to("", &text, &text);
}

#[test]
fn encodings_of_nothing_and_no_encoding_at_all() {
    decodes_to("gzip", &gzip(b""), b"");
    decodes_to("deflate", &zlib(b""), b"");
    decodes_to("deflate", &bare_deflate(b""), b"");
    decodes_to("br", &stored_brotli(b""), b"");
    decodes_to("zstd", &zstandard(b""), b"");
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, br", "identity"] {
        decodes_to(encoding, b"", b"");
    }
}

#[test]
fn codings_upon_codings() {
    let text = quick_brown_fox();
    for encoding in ["gzip, br", "br, gzip", "zstd, deflate, gzip", "gzip, gzip, gzip, gzip, gzip"] {
        decodes_to(encoding, &encode(encoding, &text), &text);
    }
}

#[test]
fn members_and_frames_in_a_row() {
    decodes_to("gzip", &[gzip(b"one "), gzip(b""), gzip(b"two")].concat(), b"one two");
    decodes_to("gzip", &[gzip(b"one "), vec![0; 500], gzip(b"two"), vec![0; 9]].concat(), b"one two");
    decodes_to("zstd", &[zstandard(b"one "), zstandard(b""), zstandard(b"two")].concat(), b"one two");
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    decodes_to("zstd", &[&skippable[..], &zstandard(b"text"), &skippable[..]].concat(), b"text");
}

#[test]
fn gzip_with_all_of_its_header_fields() {
    let mut builder = flate2::GzBuilder::new()
        .filename("a name")
        .comment("a comment")
        .extra("extra")
        .write(Vec::new(), Compression::default());
    builder.write_all(b"text").unwrap();
    decodes_to("gzip", &builder.finish().unwrap(), b"text");
}

#[test]
fn what_follows_the_end() {
    for garbage in
        [&b"garbage"[..], b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x07", b"\x1f\x1f\x8b\x08", b"\0\0x\x1f\x8b\x08"]
    {
        decodes_to("gzip", &[&gzip(b"text"), garbage].concat(), b"text");
        decodes_to("deflate", &[&zlib(b"text"), garbage].concat(), b"text");
        decodes_to("deflate", &[&bare_deflate(b"text"), garbage].concat(), b"text");
        decodes_to("br", &[&stored_brotli(b"text"), garbage].concat(), b"text");
    }
    assert!(!fails("zstd", &[&zstandard(b"text")[..], b"garbage"].concat()).is_cut());
    // What begins as a member has to be one.
    assert!(fails("gzip", &[&gzip(b"text")[..], &gzip(b"more")[..12]].concat()).is_cut());
}

#[test]
fn bodies_that_are_cut() {
    let text = quick_brown_fox();
    for (encoding, body) in [
        ("gzip", gzip(&text)),
        ("deflate", zlib(&text)),
        ("deflate", bare_deflate(&text)),
        ("br", BROTLI_TEXT.to_vec()),
        ("zstd", zstandard(&text)),
        ("gzip, zstd", encode("gzip, zstd", &text)),
        ("zstd, gzip", encode("zstd, gzip", &text)),
    ] {
        for end in 1..body.len() {
            let error = decode(encoding, &body[..end]).unwrap_err();
            assert!(error.is_cut(), "{encoding}, {end} of {}: {error}", body.len());
        }
    }
    // The inner coding is cut, the outer is whole.
    let half = gzip(&text);
    let error = fails("gzip, zstd", &zstandard(&half[..half.len() / 2]));
    assert_eq!((error.is_cut(), error.coding()), (true, Coding::Gzip));
}

#[test]
fn bodies_that_are_something_else() {
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let error = fails(encoding, b"<!DOCTYPE html><html><body>not compressed at all</body></html>");
        assert_eq!((error.is_cut(), error.coding().name()), (false, encoding));
        assert!(error.to_string().starts_with(&format!("{encoding}: ")), "{error}");
    }
    let mut wrong_sum = gzip(b"text");
    let place = wrong_sum.len() - 8;
    wrong_sum[place] ^= 1;
    assert!(!fails("gzip", &wrong_sum).is_cut());
    let mut wrong_sum = zlib(b"text");
    let place = wrong_sum.len() - 1;
    wrong_sum[place] ^= 1;
    assert!(!fails("deflate", &wrong_sum).is_cut());
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new("gzip").unwrap();
    let mut out = Vec::new();
    let error = decoder.decode(b"garbage", &mut out, 100).unwrap_err();
    assert_eq!(decoder.decode(&gzip(b"text"), &mut out, 100), Err(error.clone()));
    assert_eq!(decoder.finish(), Err(error));
    assert!(out.is_empty());
}

/// Ten million zeros in 27 bytes of Brotli, in gzip a thousandth; both come in pieces of the requested size.
#[test]
fn a_bomb_goes_off_slowly() {
    let zeros = vec![0; 10_000_000];
    for (encoding, body) in [
        ("br", BROTLI_BOMB.to_vec()),
        ("gzip", gzip(&zeros)),
        ("deflate", zlib(&zeros)),
        ("zstd", zstandard(&zeros)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
        ("br, zstd", zstandard(BROTLI_BOMB)),
    ] {
        let mut decoder = Decoder::new(encoding).unwrap();
        let (mut at, mut total) = (0, 0);
        let mut out = Vec::new();
        loop {
            out.clear();
            let done = decoder.decode(&body[at..], &mut out, 65_536).unwrap();
            assert!(out.len() <= 65_536 && out.iter().all(|byte| *byte == 0));
            assert!(out.capacity() <= 2 * 65_536, "{}", out.capacity());
            at += done.consumed;
            total += out.len();
            if !done.more {
                break;
            }
        }
        assert_eq!((total, at), (10_000_000, body.len()), "{encoding}");
        assert!(decoder.finish().is_ok());
    }
}

#[test]
fn a_zstd_window_of_more_than_8_mib_is_refused() {
    let frame = |window_log: u32| {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(b"text").unwrap();
        encoder.finish().unwrap()
    };
    decodes_to("zstd", &frame(23), b"text");
    assert!(!fails("zstd", &frame(24)).is_cut());
}

#[test]
fn calls_without_need_do_no_harm() {
    for (encoding, body) in
        [("zstd", zstandard(b"text")), ("gzip", gzip(b"text")), ("br", stored_brotli(b"text"))]
    {
        let mut decoder = Decoder::new(encoding).unwrap();
        let mut out = Vec::new();
        for piece in [&body[..6], &body[6..]] {
            let done = decoder.decode(piece, &mut out, 100).unwrap();
            assert!(!done.more);
            for _ in 0..100 {
                assert!(!decoder.decode(b"", &mut out, 100).unwrap().more);
            }
        }
        assert_eq!((out.as_slice(), decoder.finish()), (b"text".as_slice(), Ok(())));
    }
}

#[test]
fn what_is_flushed_can_be_decoded() {
    let text = quick_brown_fox();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut decoder = Decoder::new("gzip").unwrap();
    for _ in 0..3 {
        encoder.write_all(&text).unwrap();
        encoder.flush().unwrap();
        let body = std::mem::take(encoder.get_mut());
        let mut out = Vec::new();
        let done = decoder.decode(&body, &mut out, usize::MAX).unwrap();
        assert_eq!((done.consumed, &out), (body.len(), &text));
    }
    let _done = decoder.decode(&encoder.finish().unwrap(), &mut Vec::new(), usize::MAX).unwrap();
    assert!(decoder.finish().is_ok());
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        (prop::collection::vec(any::<u8>(), 1..20), 0..5000usize).prop_map(|(word, count)| word
            .iter()
            .copied()
            .cycle()
            .take(word.len() * count)
            .collect()),
    ]
}

const ENCODINGS: [&str; 7] =
    ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "deflate, zstd, gzip"];

proptest! {
    #[test]
    fn any_split_and_any_bound_give_the_same(
        text in texts(),
        encoding in prop::sample::select(&ENCODINGS[..]),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        most in prop_oneof![1..100usize, 1000..100_000usize],
    ) {
        let body = encode(encoding, &text);
        prop_assert_eq!(decode_in_pieces(encoding, &body, &cuts, most), Ok(text));
    }

    #[test]
    fn a_body_encoded_in_pieces_is_decoded(
        pieces in prop::collection::vec((texts(), any::<bool>()), 0..5),
        level in 0..=9u32,
    ) {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
        let mut text = Vec::new();
        for (piece, flushed) in pieces {
            encoder.write_all(&piece).unwrap();
            if flushed {
                encoder.flush().unwrap();
            }
            text.extend(piece);
        }
        prop_assert_eq!(decode("deflate", &encoder.finish().unwrap()), Ok(text));
    }

    /// Noise never panics, never hangs, and is judged the same whole and in pieces.
    #[test]
    fn noise_is_judged_the_same_in_pieces(
        mut body in prop::collection::vec(any::<u8>(), 1..200),
        text in texts(),
        encoding in prop::sample::select(&ENCODINGS[..]),
        damage in prop::option::of(any::<usize>()),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        most in 1..5000usize,
    ) {
        if let Some(place) = damage {
            let mut damaged = encode(encoding, &text);
            let place = place % damaged.len();
            damaged[place] ^= body[0];
            body = damaged;
        }
        let whole = decode(encoding, &body);
        let pieces = decode_in_pieces(encoding, &body, &cuts, most);
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
            (Err(whole), Err(pieces)) => prop_assert_eq!(whole.is_cut(), pieces.is_cut()),
            // libzstd compares the size in the header of a frame that ends with an empty block with what it has decoded
            // only where it decodes the frame in one pass.
            (Err(whole), Ok(_)) | (Ok(_), Err(whole)) if encoding.contains("zstd") => {
                prop_assert!(!whole.is_cut(), "{whole:?}");
            }
            (whole, pieces) => prop_assert!(false, "{:?} and {:?}", whole, pieces),
        }
    }
}
