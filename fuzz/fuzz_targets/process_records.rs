//! Fuzzes the parser of the process records that our BPF programs write: no input may panic or be read out of bounds.
#![no_main]

use tally_sys::bpf::{Record, parse};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(Record::Exec(exec)) = parse(data) {
        for path in [exec.exe, exec.cgroup] {
            assert!(path.to_bytes().is_none_or(|path| path.len() <= data.len()));
        }
        assert!(exec.arguments.len() + exec.tty.len() <= data.len());
    }
});
