//! The program `tally-agent` before it has an identity: what it prints and how it ends. What it does with one is tested from
//! the manager's side, in crates/cli/tests, which need the program built; this test has cargo build it.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::process::{Command, Output};

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tally-agent")).args(words).output().unwrap()
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(text.contains("enrol") && text.contains("Exit codes:"), "{text}");
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("tally-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_cannot_be_done_ends_with_code_2_and_says_why() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    for (words, why) in [
        (&["run", "--state", state][..], "has no identity yet"),
        (&["enrol", "--manager", "localhost", "--token", "x", "--state", state], "token"),
        (&["enrol", "--manager", "a b", "--token", "x", "--state", state], "a b"),
        (&["run", "--stat", state], "--state"),
        (&["link"], "start `tally-agent run` instead"),
    ] {
        let ended = run(words);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
    }
}
