//! What a NATS server and a proxy say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_delivery::{http, nats};

fuzz_target!(|bytes: &[u8]| {
    assert!(nats::words(bytes) <= bytes.len());
    if let Err(told) = http::tunnelled(bytes) {
        assert!(!told.chars().any(char::is_control));
    }
});
