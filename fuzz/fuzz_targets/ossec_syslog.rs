//! Syslog of strangers: however a stream is cut, its messages are the same, and none is longer than its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ossec::syslog::{MESSAGE_BYTES_MAX, Splitter, text};

fuzz_target!(|data: &[u8]| {
    let split = |cut: usize| {
        let (mut splitter, mut messages) = (Splitter::default(), Vec::new());
        for part in data.chunks(cut) {
            splitter.take(part, |message| messages.push(text(message).into_owned()));
        }
        splitter.end(|message| messages.push(text(message).into_owned()));
        messages
    };
    let whole = split(data.len().max(1));
    assert!(whole.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX + 64));
    assert_eq!(split(7), whole);
});
