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

/// `doctor` about a directory, as this user or as nobody. One test at a time tries audit (.config/nextest.toml).
fn doctor(dir: &std::path::Path, uid: Option<u32>) -> (Option<i32>, serde_json::Value) {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally-agent"));
    command.args(["doctor", "--json", "--state"]).arg(dir).arg("--watch").arg(dir);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let ended = command.output().unwrap();
    let findings = serde_json::from_slice(&ended.stdout);
    (ended.status.code(), findings.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ended.stderr))))
}

#[test]
fn doctor_tries_each_source_and_leaves_audit_as_it_was() {
    let rules = || tally_sys::audit::Control::open().and_then(|control| Ok((control.rules()?, control.status()?.mode)));
    let before = rules().ok();
    let dir = tempfile::tempdir().unwrap();
    let (code, findings) = doctor(dir.path(), None);
    let all_live = findings["filesystems"].as_array().unwrap().iter().all(|fs| fs["live"] == true);
    let sees_all = findings["cannot"].as_array().unwrap().is_empty() && all_live;
    assert_eq!(code, Some(if sees_all && findings["state"]["problems"] == serde_json::json!([]) { 0 } else { 1 }));
    let names = |list: &str| -> Vec<String> {
        findings[list].as_array().unwrap().iter().map(|tried| tried["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("events"), ["fanotify", "inotify", "none"]);
    assert_eq!(names("processes"), ["bpf", "audit", "proc"]);
    assert!(
        findings["processes"].as_array().unwrap().iter().all(|tried| !tried["detail"].as_str().unwrap().is_empty())
    );
    assert_eq!(rules().ok(), before);
}

#[test]
fn doctor_without_rights_says_what_is_missing() {
    if tally_sys::spawn::effective_uid() != 0 {
        return eprintln!("skipped: only root can become nobody");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let (code, findings) = doctor(dir.path(), Some(65534));
    assert_eq!(code, Some(1), "{findings:#}");
    assert_eq!((&findings["source"], &findings["who"]), (&"inotify".into(), &"none".into()));
    let audit = &findings["processes"][1];
    assert_eq!((&audit["name"], &audit["works"]), (&"audit".into(), &false.into()));
    assert!(audit["detail"].as_str().unwrap().contains("CAP_AUDIT_CONTROL"), "{audit}");
    assert!(findings["capabilities"].as_array().unwrap().iter().all(|held| held["held"] == false));
}
