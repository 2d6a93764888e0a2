//! Globs never panic, and agree with themselves on what lies within what.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_syscheck::Glob;
use tally_types::PathBytes;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, path) = input;
    let Ok(glob) = Glob::parse(text) else { return };
    let Ok(path) = PathBytes::new(path) else { return };
    assert!(!glob.matches(&path) || glob.covers(&path));
    assert!(!glob.covers(&path) || path.is_within(&glob.root()));
    if let Some(parent) = path.parent() {
        assert!(!glob.covers(&parent) || glob.covers(&path));
    }
});
