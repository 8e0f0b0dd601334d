//! Any bytes as responses, strictly and as a user agent: the same in whatever pieces they come, no more in memory than a
//! head may have, no panic; and what the strict parser reads the user agent reads alike.
#![no_main]

mod messages;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use messages::transcript::Reader;
use messages::{Bounds, Bytes, read_in_all_ways};
use whorl_core::http1::RequestKind;

#[derive(Arbitrary, Debug)]
struct Input {
    to: To,
    bounds: Bounds,
    places: [u16; 4],
    eof: bool,
    bytes: Bytes,
}

#[derive(Arbitrary, Debug)]
enum To {
    Head,
    Connect,
    Upgrade,
    Get,
    Several,
    Nothing,
}

fuzz_target!(|input: Input| {
    let one = |kind, upgrade| Reader::Response { kind, upgrade };
    let reader = match input.to {
        To::Head => one(RequestKind::Head, false),
        To::Connect => one(RequestKind::Connect, false),
        To::Upgrade => one(RequestKind::Other, true),
        To::Get => one(RequestKind::Other, false),
        To::Several => Reader::Responses,
        To::Nothing => Reader::Unawaited,
    };
    read_in_all_ways(reader, input.bounds.limits(), &input.bytes.0, &input.places, input.eof);
});
