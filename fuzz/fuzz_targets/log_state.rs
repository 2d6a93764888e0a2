//! Log states never panic, are canonical, and can be checked against any file.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tally_syscheck::append_log::{Depth, LogState, check};

fuzz_target!(|input: (&[u8], &[u8], bool, bool)| {
    let (bytes, content, full, replaced) = input;
    let Ok(state) = LogState::decode(bytes) else { return };
    assert_eq!(state.encode(), bytes);
    let depth = if full { Depth::Full } else { Depth::Tail };
    let (_, new) = check(&mut Cursor::new(content), &state, depth, replaced).expect("memory can be read");
    assert_eq!(LogState::decode(&new.encode()), Ok(new));
});
