//! Entry bundles never panic, and what is read whole is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ledger::{append_entry, entries};

fuzz_target!(|bytes: &[u8]| {
    let read: Result<Vec<&[u8]>, _> = entries(bytes).collect();
    if let Ok(read) = read {
        let mut again = Vec::new();
        read.iter().for_each(|entry| append_entry(&mut again, entry).expect("a length that was read fits"));
        assert_eq!(again, bytes);
    }
});
