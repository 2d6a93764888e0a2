//! Lists that rules look up in, as texts and as databases, never panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_rules::List;

fuzz_target!(|bytes: &[u8]| {
    for list in [List::from_text(bytes), List::from_cdb(bytes)].into_iter().flatten() {
        assert!(list.len() <= bytes.len());
        list.value(bytes);
    }
});
