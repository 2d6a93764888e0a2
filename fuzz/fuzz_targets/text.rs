//! Texts of any content can be told of: nothing panics, bounds hold, and a masked secret does not come through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_syscheck::text::{Content, kept, tell};
use tally_types::{Change, Diff, PathBytes};

const SECRET: &str = "hUnTeR2hUnTeR2";
const PATHS: [&str; 9] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/ssh/sshd_config",
    "/etc/crontab",
    "/root/.ssh/authorized_keys",
    "/etc/app.conf",
];

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (form, before, after) = input;
    let path = PathBytes::new(PATHS[usize::from(form) % PATHS.len()].as_bytes()).expect("a path");
    let planted = [after, b"\n\"password\": \"", SECRET.as_bytes(), b"\"\n"].concat();
    let (before, after) = (kept(&path, before), kept(&path, &planted));
    fn side(kept: Option<&[u8]>) -> Content<'_> {
        kept.map_or(Content::Unknown("binary"), Content::Text)
    }
    let told = tell(&path, side(before.as_deref()), side(after.as_deref()), true);
    assert!(told.summary.len() <= Change::SENTENCES_MAX && told.summary.iter().all(|s| s.len() <= 512));
    if let Some(diff) = told.diff {
        assert!(diff.text.len() <= Diff::BYTES_MAX && !diff.text.contains(SECRET));
    }
});
