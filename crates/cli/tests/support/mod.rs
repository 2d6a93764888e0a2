//! What the end-to-end tests share: real programs on free ports, a state and watched trees in a directory of the test's own,
//! waiting for what must come, and what is really on the disk.
//!
//! Nothing here sleeps for a fixed time in the hope that something has happened, and nothing outlives its test: each
//! program is the leader of a process group, which is killed as a whole when its handle is dropped.

// Each test file is a crate of its own and uses only a part of this.
#![allow(dead_code)]
// A failed step of the set-up is a failed test; clippy knows that of test functions, not of what they call.
#![allow(clippy::unwrap_used)]

pub mod browser;
pub mod disk;
pub mod fleet;
pub mod program;
pub mod receiver;
pub mod site;

use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for what must come. It is no measure of speed: a loaded machine may need most of it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` finds something, and fails with `what` if it never does.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// As `wait_for`, where the last failure is worth knowing.
pub fn wait_until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = look() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}: {why}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// The text at a JSON pointer, empty where there is none.
pub fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// The names of an object's keys, in their order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// The path of an object, as its bytes.
pub fn path_of(value: &Value) -> Vec<u8> {
    bytes_of(value, "path").unwrap_or_else(|| panic!("no path in {value}"))
}

/// Bytes that stand as text, or as Base64 beside it where they are not UTF-8.
pub fn bytes_of(value: &Value, name: &str) -> Option<Vec<u8>> {
    match value.get(format!("{name}_b64")).and_then(Value::as_str) {
        Some(encoded) => Some(base64(encoded)),
        None => value.get(name).and_then(Value::as_str).map(|text| text.as_bytes().to_vec()),
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let padding = group.iter().filter(|c| **c == b'=').count();
        let number = group.iter().fold(0, |n, c| n << 6 | if *c == b'=' { 0 } else { digit(*c) });
        bytes.extend_from_slice(&number.to_be_bytes()[1..4 - padding]);
    }
    bytes
}

/// A moment as the programs write it, for comparisons as text and as an argument.
pub fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let date = now.date();
    let (hour, minute, second, micro) = now.time().as_hms_micro();
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

/// Whether this test runs as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A small generator (splitmix64): the same seed gives the same course of a test.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
