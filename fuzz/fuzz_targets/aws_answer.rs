//! What AWS's services, instance metadata and the shared files of its tools say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_delivery::aws::{metadata, name::Name, profile::Profiles, settings::RoleArn, sts, xml};

fuzz_target!(|bytes: &[u8]| {
    let _ = xml::text(bytes, "Code");
    assert!(xml::members(bytes, "Failed").len() <= 1000);
    let _ = sts::parse_credentials(bytes);
    let _ = sts::parse_identity(bytes);
    let _ = metadata::parse_credentials(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Profiles::parse(text, text);
    let _ = RoleArn::parse(text);
    if let Ok(name) = Name::parse(text) {
        assert_eq!(name.to_string(), text);
    }
});
