//! Whatever the header `Sec-WebSocket-Extensions` holds: no panic, and what a server accepts its client accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whorl_core::websocket::{DeflateParameters, DeflateOffer, WindowOffer, parse_extensions};

fuzz_target!(|header: &str| {
    match parse_extensions(header) {
        Ok(extensions) => assert!(extensions.iter().all(|extension| header.contains(extension.name))),
        Err(malformed) => assert!(malformed.at <= header.len()),
    }
    for offer in DeflateOffer::parse(header).unwrap_or_default() {
        assert_eq!(DeflateOffer::parse(&offer.to_string()), Ok(vec![offer]));
        if let Some(agreement) = offer.accept(DeflateParameters::default()) {
            let client_can = !matches!(offer.client_max_window_bits, WindowOffer::AtMost(8));
            assert_eq!(offer.accept_response(&agreement.response(&offer)).ok(), client_can.then_some(Some(agreement)));
        }
    }
    let offer = DeflateOffer { client_max_window_bits: WindowOffer::Any, ..DeflateOffer::default() };
    let _ = offer.accept_response(header);
});
