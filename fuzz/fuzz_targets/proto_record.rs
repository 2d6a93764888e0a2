//! Records and events from a damaged ledger or outbox: read back as they were, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_proto::{Record, event, json, sentence};
use tally_types::{EventBody, Verdict};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = event::decode(bytes) {
        assert_eq!(event::encode(&event), bytes);
    }
    let Ok(record) = Record::decode(bytes) else { return };
    assert_eq!(record.encode(), bytes);
    if let Record::Event { id, about, event, .. } = &record {
        let origin = json::Origin { id: *id, about: *about, agent_name: "host", ledger_index: None };
        assert!(!json::event(origin, event, Verdict::Unexplained).to_string().contains('\n'));
        if let EventBody::Life(life) = &event.body {
            assert!(!sentence::life(life).contains(char::is_control));
        }
    }
});
