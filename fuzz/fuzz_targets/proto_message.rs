//! Messages of hostile peers, alone and in a conversation. The first byte says for whom.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_proto::message::{EnrolAnswer, EnrolRequest, ToAgent, ToManager};
use tally_proto::session::{ManagerIn, ManagerSession};

fuzz_target!(|bytes: &[u8]| {
    let Some((whom, bytes)) = bytes.split_first() else { return };
    match whom % 5 {
        0 => {
            if let Ok(message) = ToManager::decode(bytes) {
                // Compression has many forms, so it is the value that must come back.
                let again = message.encode().ok().map(|bytes| ToManager::decode(&bytes));
                assert_eq!(again, Some(Ok(message)));
            }
        }
        1 => {
            if let Ok(message) = ToAgent::decode(bytes) {
                assert_eq!(message.encode().as_deref(), Ok(bytes));
            }
        }
        2 => {
            if let Ok(request) = EnrolRequest::decode(bytes) {
                assert_eq!(request.encode(), bytes);
            }
        }
        3 => {
            if let Ok(answer) = EnrolAnswer::decode(bytes) {
                assert_eq!(answer.encode(), bytes);
            }
        }
        _ => converse(bytes),
    }
});

/// Frames with a length of two bytes before each.
fn converse(mut bytes: &[u8]) {
    let mut session = ManagerSession::new();
    let mut now_ms = 0;
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (frame, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        bytes = rest;
        now_ms += 1;
        session.input(now_ms, ManagerIn::Message(frame.to_vec()));
        while session.poll().is_some() {}
    }
}
