//! An entry that is accepted is in its only form: a peer cannot give one entry two roots.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = tally_proto::entry::decode(bytes) {
        assert_eq!(tally_proto::entry::encode(&entry), bytes);
    }
});
