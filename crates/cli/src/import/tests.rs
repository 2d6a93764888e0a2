//! An installation made from OSSEC's own files, as directory and as archive: what is taken, that nothing there changes, and
//! that a second run changes nothing either.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tally_manager::ManagerConfig;
use tally_syscheck::Config;

use super::*;

const KEYS: &str = "001 web1 10.0.0.1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n\
                    002 db1 any fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210\n\
                    003 #*#*#*#*#*#*#*#*#*#*#old 10.0.0.3 aa\n";

/// A manager's `/var/ossec`, of OSSEC's own files where they are there.
fn installation(root: &Path) -> bool {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    if !data.is_dir() {
        println!("skipped: no conformance data");
        return false;
    }
    let put = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let taken = |from: &str| fs::read(data.join(from)).unwrap();
    put("etc/ossec.conf", &taken("conf/ossec-server.conf"));
    put("etc/internal_options.conf", &taken("conf/internal_options.conf"));
    put("etc/local_internal_options.conf", b"remoted.verify_msg_id=0\n");
    put("etc/decoder.xml", &taken("decoder.xml"));
    put("etc/client.keys", KEYS.as_bytes());
    put("etc/authd.pass", b"secret\n");
    put("etc/shared/ar.conf", &taken("samples/ar.conf"));
    put("etc/shared/agent.conf", b"<agent_config os=\"Linux\"><syscheck><directories check_all=\"yes\">/srv</directories></syscheck></agent_config>");
    for rule in fs::read_dir(data.join("rules")).unwrap() {
        let rule = rule.unwrap();
        put(&format!("rules/{}", rule.file_name().to_str().unwrap()), &fs::read(rule.path()).unwrap());
    }
    put("queue/syscheck/(web1) 10.0.0.1->syscheck", &taken("samples/syscheck-db.txt"));
    put("queue/rids/001", b"5:42:");
    put("queue/fts/fts-queue", b"x\n");
    put("logs/alerts/alerts.log", &taken("samples/alerts.log"));
    std::os::unix::fs::symlink("/etc/passwd", root.join("etc/shared/linked")).unwrap();
    true
}

fn options(source: &Path, state: &Path) -> ImportOptions {
    ImportOptions { source: source.to_owned(), state: Some(state.to_owned()), dry_run: false, json: true }
}

/// Every file below a directory with what it holds, and when it was written.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_file() {
                found.insert(path.clone(), (fs::read(&path).unwrap(), meta.mtime_nsec() + meta.mtime()));
            }
        }
    }
    found
}

#[test]
fn an_installation_is_taken_over_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (old, state) = (dir.path().join("ossec"), dir.path().join("state"));
    if !installation(&old) {
        return;
    }
    let before = tree(&old);
    run(&ImportOptions { dry_run: true, ..options(&old, &state) }).unwrap();
    assert!(!state.exists(), "a dry run writes nothing");
    run(&options(&old, &state)).unwrap();
    assert_eq!(tree(&old), before, "the source is as it was");
    // Both configurations are usable as they are.
    let (path, ossec) = (state.join("manager/manager.toml"), state.join("manager/ossec"));
    let (manager, faults) = ManagerConfig::parse(&fs::read_to_string(&path).unwrap(), "manager.toml", &state);
    assert_eq!(faults, vec![]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&format!("[ossec]\ndir = \"{}\"\n", ossec.display())), "{text}");
    assert!(manager.analysis.rules.len() > 60 && manager.analysis.rules.iter().all(|rule| rule.is_file()));
    let (agent, faults) = Config::parse(&fs::read_to_string(state.join("agent.toml")).unwrap(), "agent.toml");
    assert_eq!(faults, vec![]);
    assert!(agent.policy.judge(&tally_types::PathBytes::new(b"/etc/passwd".as_slice()).unwrap()).is_some());
    assert_eq!(fs::read(ossec.join("etc/client.keys")).unwrap(), KEYS.as_bytes());
    assert_eq!(fs::metadata(ossec.join("etc/client.keys")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(ossec.join("queue/rids/001")).unwrap(), b"5:42:");
    assert!(ossec.join("policies/1.toml").is_file() && !ossec.join("etc/shared/linked").exists());
    // Again: nothing is written.
    let taken = tree(&state);
    run(&options(&old, &state)).unwrap();
    let mut again = tree(&state);
    let ledger = ossec.join("import.json");
    again.insert(ledger.clone(), taken[&ledger].clone());
    assert_eq!(again, taken);
    // What was edited since stays; what was not is renewed.
    fs::write(&path, "alert_level = 9\n").unwrap();
    fs::write(old.join("etc/client.keys"), "001 web1 any aa\n").unwrap();
    run(&options(&old, &state)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "alert_level = 9\n");
    assert!(state.join("manager/manager.toml.imported").is_file());
    assert_eq!(fs::read(ossec.join("etc/client.keys")).unwrap(), b"001 web1 any aa\n");
}

#[test]
fn an_archive_is_as_good_as_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (old, state) = (dir.path().join("ossec"), dir.path().join("state"));
    if !installation(&old) {
        return;
    }
    run(&options(&old, &state)).unwrap();
    for (name, compressed) in [("old.tar", false), ("old.tar.gz", true)] {
        let path = dir.path().join(name);
        let file = fs::File::create(&path).unwrap();
        let pack = |out: Box<dyn std::io::Write>| {
            let mut archive = tar::Builder::new(out);
            archive.follow_symlinks(false);
            archive.append_dir_all("var/ossec", &old).unwrap();
            std::io::Write::flush(&mut archive.into_inner().unwrap()).unwrap();
        };
        if compressed {
            pack(Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast())));
        } else {
            pack(Box::new(file));
        }
        let other = dir.path().join(format!("state-{name}"));
        run(&options(&path, &other)).unwrap();
        let of = |state: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
            let named =
                tree(&state.join("manager/ossec")).into_iter().filter(|(path, _)| !path.ends_with("import.json"));
            named.map(|(path, (bytes, _))| (path.strip_prefix(state).unwrap().to_owned(), bytes)).collect()
        };
        assert_eq!(of(&other), of(&state), "{name}");
    }
}

#[test]
fn what_is_no_installation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(run(&options(dir.path(), &state)).unwrap_err().to_string().contains("no OSSEC installation"));
    let broken = dir.path().join("x.tar.gz");
    fs::write(&broken, b"\x1f\x8b\x08\x00 not gzip").unwrap();
    run(&options(&broken, &state)).unwrap_err();
    // An archive whose names lead out of it.
    let path = dir.path().join("evil.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    let name = b"etc/../../escaped/etc/ossec.conf";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    archive.into_inner().unwrap();
    assert!(format!("{:#}", run(&options(&path, &state)).unwrap_err()).contains("no OSSEC installation"));
    assert!(!state.exists() && !dir.path().join("escaped").exists());
}
