//! Log states never panic, are canonical, and can be checked against any file.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tally_syscheck::append_log::{Depth, LogState, Seal, check};

fuzz_target!(|input: (&[u8], &[u8], &[u8], Option<(u8, u8)>)| {
    let (bytes, tail, content, window) = input;
    let Ok(state) = LogState::decode(bytes) else { return };
    assert_eq!(state.encode(), bytes);
    let seal = Seal::new(state, tail.into());
    let depth = window.map_or(Depth::Full, |(from, chunks)| Depth::Window { from: from.into(), chunks: chunks.into() });
    let (_, new) = check(&mut Cursor::new(content), content.len() as u64, &seal, depth).expect("memory can be read");
    assert_eq!(LogState::decode(&new.state.encode()), Ok(new.state));
});
