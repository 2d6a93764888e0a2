//! Fuzzes the parsers of what the audit subsystem yields: records, their assembly, and rules.
#![no_main]

use tally_sys::audit::exec::Assembler;
use tally_sys::audit::record::{self, kind};
use tally_sys::audit::rule::{ABIS, Rule};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut assembler = Assembler::default();
    for line in data.split(|byte| *byte == b'\n') {
        for kind in [kind::SYSCALL, kind::EXECVE, kind::END] {
            if let Ok(record) = record::parse(kind, line)
                && let Some(exec) = assembler.take(&record)
            {
                assert!(exec.cmdline.is_none_or(|text| text.len() <= tally_types::Actor::CMDLINE_BYTES_MAX));
            }
        }
    }
    if let (Some(rule), [abi, ..]) = (Rule::decode(data), ABIS) {
        let _ = (rule.key(), rule.effect(abi));
    }
});
