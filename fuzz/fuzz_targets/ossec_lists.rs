//! OSSEC's smaller files: policies, lists of rootkits, responses, passwords, lists and their databases, logs of alerts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ossec::alerts_log::alerts;
use tally_ossec::report::{Field, Report};
use tally_ossec::{ar_conf, list, rcl};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    rcl::Policy::parse(&text, "f");
    rcl::rootkit_files(&text, "f");
    rcl::trojans(&text, "f");
    ar_conf::parse(&text, "f");
    ar_conf::passlist(&text, "f");
    let (records, _) = list::records(&text, "f");
    let database = list::database(&records).expect("so small a list has a place");
    for (key, _) in &records {
        assert!(list::look_up(&database, key.as_bytes()).is_some());
    }
    list::look_up(data, b"key");
    let (found, _) = alerts(&text);
    Report { relations: vec![(Field::User, Field::Rule)], shows_logs: true, ..Report::default() }.of(&found);
});
