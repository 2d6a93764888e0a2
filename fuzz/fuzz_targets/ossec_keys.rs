//! `client.keys`, an exported key, and an enrolment by authd's protocol.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ossec::authd::{Reply, Request, enrol, password_of};
use tally_ossec::keys::{ClientKey, ClientKeys};

fuzz_target!(|bytes: &[u8]| {
    let (mut keys, _) = ClientKeys::parse(bytes, "client.keys");
    if bytes.is_empty() || bytes.ends_with(b"\n") {
        assert_eq!(keys.to_bytes(), bytes);
    }
    let before = keys.len();
    let _ = Reply::parse(bytes);
    let _ = password_of(bytes);
    if let Ok(request) = Request::parse(bytes, None) {
        let answer = enrol(&mut keys, &request, [192, 0, 2, 1].into(), false, &[7; 32]);
        let _ = answer.text(&request);
        assert!(keys.len() <= before + 1);
    }
    if let Ok(key) = std::str::from_utf8(bytes).map_or(Err(()), |text| ClientKey::import(text).map_err(drop)) {
        assert_eq!(ClientKey::import(&key.export()), Ok(key));
    }
});
