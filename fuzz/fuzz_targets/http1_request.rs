//! Any bytes as requests: the same in whatever pieces they come, no more in memory than a head may have, no panic.
#![no_main]

mod messages;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use messages::transcript::Reader;
use messages::{Bounds, Bytes, read_in_all_ways};

#[derive(Arbitrary, Debug)]
struct Input {
    bounds: Bounds,
    places: [u16; 4],
    eof: bool,
    bytes: Bytes,
}

fuzz_target!(|input: Input| {
    let limits = input.bounds.limits();
    read_in_all_ways(Reader::Requests, limits, &input.bytes.0, &input.places, input.eof);
});
