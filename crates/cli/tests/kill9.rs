//! Two hundred times SIGKILL, under load: the manager, the agent's sensor process or its link dies at a random point and is
//! started again, while files are created, changed, renamed and removed. In the end nothing may be lost: the manager's snapshot
//! is the disk, and the list of changes leads from the baseline to it.
//!
//! The course depends on a seed, which is printed; TALLY_TEST_SEED takes it up again.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::disk::{self, Facts, Picture};
use support::fleet::{Fleet, Host};
use support::program::{Program, signal, wait_gone};
use support::{Random, bytes_of, number, path_of, text};

const KILLS: u32 = 200;
/// Between two kills: long enough for some of them to meet a program at work, short enough for others to meet it starting.
const PAUSE_MS: std::ops::Range<u64> = 5..350;
/// Between two acts of the load.
const LOAD_PAUSE_US: u64 = 6_000;

#[test]
fn two_hundred_kills_lose_nothing() {
    let seed = std::env::var("TALLY_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 ^ u64::from(fastrand()));
    println!("TALLY_TEST_SEED={seed}");
    let mut fleet = Fleet::new();
    let manager = fleet.manager();
    let host = fleet.enrolled("web1");
    (0..40).for_each(|n| drop(host.write(&format!("f{n}"), &format!("at first {n}"))));
    (0..4).for_each(|n| fs::create_dir(host.tree.join(format!("d{n}"))).unwrap());
    let agent = host.run();
    fleet.site.settle("web1", &host.tree);
    let baseline = disk::picture(&host.tree);

    let stop = AtomicBool::new(false);
    let tree = host.tree.clone();
    let mut victims = Victims { fleet, host, manager, agent, random: Random(seed), killed: [0; 3] };
    let touched = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&tree, Random(!seed), &stop));
        let ended = Ended(&stop);
        while victims.killed.iter().sum::<u32>() < KILLS {
            let pause = PAUSE_MS.start + victims.random.below(PAUSE_MS.end - PAUSE_MS.start);
            std::thread::park_timeout(Duration::from_millis(pause));
            victims.kill_one();
        }
        drop(ended);
        load.join().unwrap()
    });
    let [managers, sensors, links] = victims.killed;
    println!("killed: {managers} managers, {sensors} sensors, {links} links; {} paths touched", touched.len());
    assert!(victims.killed.iter().all(|n| *n > KILLS / 8), "{:?}", victims.killed);

    let Victims { fleet, host, manager: _manager, agent: _agent, .. } = victims;
    fleet.site.settle("web1", &host.tree);
    let changes = fleet.site.ask(0, &["change", "list", "--limit", "0"]).objects;
    assert_the_changes_lead_from(&baseline, &disk::picture(&host.tree), &changes, &touched);
    let alerts = fleet.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
    for (rule, what) in [(200_120, "a false alarm about the ledger"), (200_121, "a false alarm about a copy")] {
        let false_alarm = alerts.iter().find(|a| number(a, "/rule/id") == Some(rule));
        assert_eq!(false_alarm, None, "{what}");
    }
    let missing = alerts.iter().find(|a| number(a, "/rule/id") == Some(200_122));
    assert_eq!(missing, None, "events that never came");
    let verified = fleet.site.ask(0, &["ledger", "verify"]).one();
    assert_eq!(verified["problems"], 0);
    println!("{} changes and {} alerts in {} records", changes.len(), alerts.len(), verified["records"]);
}

const COUNTING_RULES: &str = r#"<group name="local,">
<rule id="100101" level="5"><match>pump stopped</match><description>A pump stopped.</description></rule>
<rule id="100102" level="10" frequency="2" timeframe="600">
<if_matched_sid>100101</if_matched_sid><description>Pumps stop.</description></rule>
</group>"#;

/// A manager that is killed after each line counts what it counted before: every fourth fires, over all the kills.
#[test]
fn a_killed_manager_goes_on_counting() {
    let mut fleet = Fleet::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rules = fleet.site.path("counting_rules.xml");
    fs::write(&rules, COUNTING_RULES).unwrap();
    fleet.configure(&format!(
        "rules = [{rules:?}]\n[[syslog]]\nlisten = \"127.0.0.1:{port}\"\ntransport = \"udp\"\nallow = [\"127.0.0.0/8\"]\n"
    ));
    for nth in 1..=9 {
        let mut manager = fleet.manager();
        let line = format!("Nov 24 15:00:00 plc1 plc: pump stopped {nth}");
        socket.send_to(line.as_bytes(), ("127.0.0.1", port)).unwrap();
        let rule = support::wait_for("the alert", || {
            let alerts = fleet.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
            alerts.iter().find(|alert| text(alert, "/log/text") == line).and_then(|alert| number(alert, "/rule/id"))
        });
        assert_eq!(rule, if nth % 4 == 0 { 100_102 } else { 100_101 }, "line {nth}");
        // What the manager does after a commit is done when it does the next thing.
        fleet.token("1", "1h");
        manager.kill();
    }
}

/// Some number that differs from run to run.
fn fastrand() -> u32 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()
}

/// Ends the load also when the test fails.
struct Ended<'s>(&'s AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Victims {
    fleet: Fleet,
    host: Host,
    manager: Program,
    agent: Program,
    random: Random,
    /// Managers, sensors, links.
    killed: [u32; 3],
}

impl Victims {
    fn kill_one(&mut self) {
        assert_sound(&mut self.manager);
        assert_sound(&mut self.agent);
        match self.random.below(3) {
            0 => {
                self.manager.kill();
                self.manager = self.fleet.manager();
                self.killed[0] += 1;
            }
            1 => {
                self.agent.kill();
                self.agent = self.host.start();
                self.killed[1] += 1;
            }
            // It may just be about to be started again.
            _ => {
                let Some(link) = self.agent.descendants().pop_first() else { return };
                signal("KILL", link.into());
                wait_gone(link);
                self.killed[2] += 1;
            }
        }
    }
}

/// A program that ended by itself, or that panicked, is a fault whatever comes after.
fn assert_sound(program: &mut Program) {
    assert!(program.is_running(), "a program ended by itself");
    let said = program.err_text();
    assert!(!said.contains("panicked"), "{said}");
}

/// What the newest change of each path says must be what is there, and what differs from the baseline must be told.
fn assert_the_changes_lead_from(baseline: &Picture, disk: &Picture, changes: &[Value], touched: &BTreeSet<PathBuf>) {
    let mut ids = BTreeSet::new();
    let mut last: BTreeMap<Vec<u8>, (u64, Option<Facts>)> = BTreeMap::new();
    for change in changes {
        assert!(ids.insert(text(change, "/id").to_owned()), "twice: {change}");
        let index = number(change, "/ledger_index").unwrap();
        let after = change.get("after").filter(|a| a.is_object()).map(|after| {
            let mut entry = after.clone();
            entry["path"] = "".into();
            disk::listed(&[entry]).into_values().next().unwrap()
        });
        let left = bytes_of(change, "moved_from").map(|from| (from, None));
        for (path, state) in [(path_of(change), after)].into_iter().chain(left) {
            let known = last.entry(path).or_insert((index, state.clone()));
            if known.0 < index {
                *known = (index, state);
            }
        }
    }
    for (path, (index, state)) in &last {
        let shown = String::from_utf8_lossy(path);
        assert_eq!(state.as_ref(), disk.get(path), "{shown}: the newest change (record {index}) against the disk");
    }
    let all: BTreeSet<_> = baseline.keys().chain(disk.keys()).collect();
    let differing: Vec<_> = all.into_iter().filter(|path| baseline.get(*path) != disk.get(*path)).collect();
    for path in &differing {
        let shown = String::from_utf8_lossy(path);
        assert!(last.contains_key(*path), "{shown} differs from the baseline, and no change tells of it");
        assert!(touched.contains(Path::new(std::ffi::OsStr::from_bytes(path))), "{shown} was not touched by the load");
    }
    assert!(differing.len() > 20, "the load did its work: {}", differing.len());
}

/// Works on the tree until `stop`; the paths that it did something to.
fn load(tree: &Path, mut random: Random, stop: &AtomicBool) -> BTreeSet<PathBuf> {
    let mut touched = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) {
        let path = some_path(tree, &mut random);
        match random.below(10) {
            0..=3 => {
                let content = vec![b'a' + (random.below(26) as u8); random.below(3000) as usize];
                // Its directory may be gone at the moment.
                let _ = fs::write(&path, content);
            }
            4 => {
                use std::io::Write;
                if let Ok(mut file) = fs::File::options().append(true).open(&path) {
                    file.write_all(b"and more").unwrap();
                }
            }
            5 | 6 => drop(fs::remove_file(&path)),
            7 => {
                let to = some_path(tree, &mut random);
                if fs::rename(&path, &to).is_ok() {
                    touched.insert(to);
                }
            }
            8 => {
                let mode = [0o600, 0o644, 0o755][random.below(3) as usize];
                let _ = fs::set_permissions(&path, fs::Permissions::from_mode(mode));
            }
            _ => touched.extend(move_directory(tree, &mut random)),
        }
        touched.insert(path);
        std::thread::park_timeout(Duration::from_micros(random.below(2 * LOAD_PAUSE_US)));
    }
    touched
}

/// One of two hundred names, most of them in directories that come and go.
fn some_path(tree: &Path, random: &mut Random) -> PathBuf {
    let name = format!("f{}", random.below(40));
    match random.below(5) {
        0 => tree.join(name),
        n => tree.join(format!("d{}", n - 1)).join(name),
    }
}

/// Renames a directory with all that is in it, or makes a missing one anew.
fn move_directory(tree: &Path, random: &mut Random) -> Vec<PathBuf> {
    let directory = |n: u64| tree.join(format!("d{n}"));
    let (from, to) = (directory(random.below(4)), directory(random.below(4)));
    let all = |dir: &Path| (0..40).map(|n| dir.join(format!("f{n}"))).chain([dir.to_owned()]).collect::<Vec<_>>();
    if !from.is_dir() {
        fs::create_dir(&from).unwrap();
        return vec![from];
    }
    if !to.exists() && fs::rename(&from, &to).is_ok() {
        return [all(&from), all(&to)].concat();
    }
    Vec::new()
}
