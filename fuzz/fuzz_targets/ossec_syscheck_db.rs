//! OSSEC's database of files, which held what agents sent: no line of it is too much, and each is counted once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ossec::syscheck_db::{Tally, files};

fuzz_target!(|data: &[u8]| {
    let tally = Tally::of(data);
    let lines = data.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count() as u64;
    assert!(files(data).len() as u64 <= tally.files);
    assert_eq!(tally.files + tally.removed + tally.replaced + tally.broken, lines);
});
