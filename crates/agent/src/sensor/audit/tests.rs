//! The audit tier against the kernel that runs the test, alone and beside Debian's audit daemon. One test at a time
//! (.config/nextest.toml); each leaves auditing as it found it.

use std::fs;
use std::path::Path;
use std::process::Child;

use tally_sys::poll::Waiter;

use super::super::process::{BYTES_MAX, ProcessTable, Window};
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Whether audit can be had; the rights that a test needs.
fn control() -> Option<Control> {
    match Rules::prepare() {
        Ok(rules) if rules.status.mode != Mode::Locked => Control::open().ok(),
        Ok(_) => {
            eprintln!("skipped: the audit rules are locked until the next boot");
            None
        }
        Err(error) => {
            eprintln!("skipped: audit: {error}");
            None
        }
    }
}

/// Puts back what a test changed, however it ends.
pub(crate) struct Kept {
    pub(crate) control: Control,
    was_on: bool,
    added: Vec<Rule>,
}

impl Kept {
    pub(crate) fn new() -> Option<Self> {
        let control = control()?;
        let was_on = control.status().unwrap().mode == Mode::On;
        Some(Self { control, was_on, added: Vec::new() })
    }

    fn add(&mut self, rule: Rule) {
        self.control.add(&rule).unwrap();
        self.added.push(rule);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.added.iter().for_each(|rule| drop(self.control.delete(rule)));
        drop(self.control.set_on(self.was_on));
    }
}

/// `-a never,task`, as every process of a host has it that was set up not to audit.
fn never_task() -> Rule {
    let mut bytes = Rule::starts(ABIS[0], "").as_bytes().to_vec();
    for (at, value) in [(0, 1u32), (4, 0), (8, 0)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    (12..268).for_each(|at| bytes[at] = 0);
    (268..bytes.len()).for_each(|at| bytes[at] = 0);
    Rule::decode(&bytes).unwrap()
}

/// Starts `count` shells and waits until the table knows every one.
fn all_are_told(source: &mut AuditSource, count: usize) {
    let mut table = ProcessTable::new(BYTES_MAX);
    let began = clock::boottime_ns();
    let mut pids = Vec::new();
    for n in 0..count {
        let mut child = Command::new("sh").args(["-c", &format!("exit {}", n % 100)]).spawn().unwrap();
        pids.push((child.id(), n));
        child.wait().unwrap();
    }
    let until = clock::boottime_ns();
    let deadline = Instant::now() + PATIENCE;
    while !pids.is_empty() {
        assert!(Instant::now() < deadline, "{} of {count} starts were not told", pids.len());
        let drained = source.drain(|event| table.apply(event)).unwrap();
        assert!(!drained.has_gap, "{drained:?}");
        pids.retain(|(pid, n)| {
            let found = table.find(*pid, Window { since_ns: began, until_ns: until });
            let cmdline = found.first().and_then(|f| f.program.cmdline.as_deref().map(<[u8]>::to_vec));
            assert!(found.iter().all(|f| f.program.source == Confidence::Audit));
            cmdline != Some(format!("sh -c exit {}", n % 100).into_bytes())
        });
        drop(poll::wait(&mut [Waiter::new(source.as_fd(), Interest::Read)], Some(Duration::from_millis(100))));
    }
}

#[test]
fn every_start_of_a_program_is_told_and_auditing_is_left_as_it_was() {
    let Some(kept) = Kept::new() else { return };
    let (rules, status) = (kept.control.rules().unwrap(), kept.control.status().unwrap());
    let (mut source, words) = AuditSource::start().unwrap();
    assert!(words.can.starts_with("who made a change, from the audit records"), "{words:?}");
    assert_eq!(kept.control.rules().unwrap().len(), rules.len() + ABIS.len());
    all_are_told(&mut source, 300);
    drop(source);
    assert_eq!(kept.control.rules().unwrap(), rules);
    let after = kept.control.status().unwrap();
    assert_eq!(
        (after.mode, after.daemon_pid, after.backlog_limit),
        (status.mode, status.daemon_pid, status.backlog_limit)
    );
}

#[test]
fn what_a_killed_agent_left_is_removed_and_a_living_ones_is_not() {
    let Some(mut kept) = Kept::new() else { return };
    if kept.was_on {
        return eprintln!("skipped: auditing is on here, so that nobody can have turned it on");
    }
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let start = process::read(child.id()).unwrap().start_ticks.unwrap();
    let alive = Rule::starts(ABIS[0], &format!("tallystick-{}-{start}", child.id()));
    kept.control.set_on(true).unwrap();
    kept.add(alive.clone());
    // The number is taken, but not by that process.
    kept.add(Rule::starts(ABIS[0], &format!("tallystick-on-{}-{}", child.id(), start + 1)));
    let (source, _) = AuditSource::start().unwrap();
    let keys: Vec<_> = kept.control.rules().unwrap().iter().filter_map(|r| r.key().map(<[u8]>::to_vec)).collect();
    assert_eq!(keys.len(), 1 + ABIS.len(), "{keys:?}");
    assert!(keys.contains(&alive.key().unwrap().to_vec()));
    drop(source);
    assert_eq!(kept.control.rules().unwrap(), std::slice::from_ref(&alive));
    // The other agent still needs it.
    assert_eq!(kept.control.status().unwrap().mode, Mode::On);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_agent_that_follows_a_killed_one_turns_auditing_off_for_it() {
    let Some(mut kept) = Kept::new() else { return };
    if kept.was_on {
        return eprintln!("skipped: auditing is on here, so that nobody can have turned it on");
    }
    kept.control.set_on(true).unwrap();
    kept.add(Rule::starts(ABIS[0], "tallystick-on-8388608-1"));
    drop(AuditSource::start().unwrap());
    assert_eq!(kept.control.rules().unwrap(), []);
    assert_eq!(kept.control.status().unwrap().mode, Mode::Off);
}

#[test]
fn a_rule_that_silences_every_process_is_told_in_words() {
    let Some(mut kept) = Kept::new() else { return };
    kept.add(never_task());
    let refused = AuditSource::start().map(drop).unwrap_err();
    assert!(matches!(refused, Refused::Silenced), "{refused}");
    assert!(refused.to_string().contains("-a never,task"), "{refused}");
}

#[test]
fn rules_that_somebody_removes_are_added_again_and_that_is_told() {
    let Some(kept) = Kept::new() else { return };
    let (mut source, _) = AuditSource::start().unwrap();
    source.drain(drop).unwrap();
    let own = source.rules.own[0].clone();
    kept.control.delete(&own).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline);
        let drained = source.drain(drop).unwrap();
        if let [news] = &drained.news[..] {
            assert!(drained.has_gap && news.contains("were removed by somebody else, and added again"), "{news}");
            break;
        }
    }
    all_are_told(&mut source, 3);
}

/// Debian's audit daemon, with its files in a directory of the test.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start(control: &Control) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("audit.log");
        let config = format!(
            "local_events = yes\nwrite_logs = yes\nlog_file = {}\nlog_group = root\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\nfreq = 50\n\
             max_log_file = 64\nnum_logs = 2\nspace_left = 2\nspace_left_action = ignore\nadmin_space_left = 1\n\
             admin_space_left_action = ignore\ndisk_full_action = ignore\ndisk_error_action = ignore\n",
            log.display()
        );
        fs::write(dir.path().join("auditd.conf"), config).unwrap();
        // Its plugins are looked for below its directory.
        fs::create_dir(dir.path().join("plugins.d")).unwrap();
        let spawned = Command::new("auditd").args(["-n", "-c"]).arg(dir.path()).stdout(Stdio::null()).spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                eprintln!("skipped: no auditd here: {error}");
                return None;
            }
        };
        let daemon = Self { child, dir };
        let deadline = Instant::now() + PATIENCE;
        while control.status().unwrap().daemon_pid != daemon.child.id() {
            assert!(Instant::now() < deadline, "auditd did not register");
            std::thread::yield_now();
        }
        Some(daemon)
    }

    /// Whether its log has `text` by the end of our patience.
    fn logs(&self, text: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let log = self.dir.path().join("audit.log");
        while Instant::now() < deadline {
            if contains(&log, text) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // In good order, so that it gives the audit pid back.
        drop(tally_sys::spawn::terminate(self.child.id()));
        drop(self.child.wait());
    }
}

fn contains(file: &Path, text: &str) -> bool {
    let content = fs::read(file).unwrap_or_default();
    content.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn an_audit_daemon_goes_on_and_its_rules_stay() {
    let Some(mut kept) = Kept::new() else { return };
    if kept.control.status().unwrap().daemon_pid != 0 {
        return eprintln!("skipped: an audit daemon of this machine is running");
    }
    let Some(daemon) = Daemon::start(&kept.control) else { return };
    kept.control.set_on(true).unwrap();
    // Its own rule of the same calls comes first: the records carry its key, and are ours too.
    kept.add(Rule::starts(ABIS[0], "their-rule"));
    let (rules, status) = (kept.control.rules().unwrap(), kept.control.status().unwrap());
    let (mut source, words) = AuditSource::start().unwrap();
    assert!(words.can.contains(&format!("beside the audit daemon, process {}", daemon.child.id())), "{words:?}");
    all_are_told(&mut source, 200);
    Command::new("sh").args(["-c", ": last-of-the-storm"]).status().unwrap();
    // `sh -c ': last-of-the-storm'`, as the daemon's raw log has it.
    let last: String = ": last-of-the-storm".bytes().map(|b| format!("{b:02X}")).collect();
    assert!(daemon.logs(&last), "the daemon has the last start");
    for n in 0..100 {
        let word: String = format!("exit {n}").bytes().map(|b| format!("{b:02X}")).collect();
        assert!(daemon.logs(&word), "the daemon has {n}");
    }
    assert!(daemon.logs("key=\"their-rule\""));
    drop(source);
    assert_eq!(kept.control.rules().unwrap(), rules);
    let after = kept.control.status().unwrap();
    assert_eq!((after.mode, after.daemon_pid), (status.mode, daemon.child.id()));
    assert_eq!((after.backlog_limit, after.lost), (status.backlog_limit, status.lost));
}

/// For a machine that is booted for tests (`cargo xtask test-kernels`).
#[test]
fn rules_locked_until_the_next_boot_are_used_if_they_tell_of_starts() {
    if std::env::var_os("TALLY_TEST_BOOT").is_none() {
        return eprintln!("skipped: it would change this kernel until its next boot");
    }
    let Some(kept) = Kept::new() else { return };
    kept.control.set_on(true).unwrap();
    ABIS.iter().for_each(|abi| kept.control.add(&Rule::starts(*abi, "their-rule")).unwrap());
    let locked = Command::new("auditctl").args(["-e", "2"]).stdout(Stdio::null()).status().unwrap();
    assert!(locked.success());
    let rules = kept.control.rules().unwrap();
    let (mut source, words) = AuditSource::start().unwrap();
    assert!(words.can.contains("by rules of others, which are locked"), "{words:?}");
    all_are_told(&mut source, 20);
    drop(source);
    assert_eq!(kept.control.rules().unwrap(), rules);
    assert_eq!(kept.control.status().unwrap().mode, Mode::Locked);
}

#[test]
fn keys_name_their_owner() {
    let owner = Owner { pid: 7, start_ticks: 99, turned_on: false };
    assert_eq!(Owner::of_key(b"tallystick-7-99"), Some(owner));
    assert_eq!(Owner::of_key(b"tallystick-on-7-99"), Some(Owner { turned_on: true, ..owner }));
    for foreign in [&b"tallystick"[..], b"tallystick-", b"tallystick-x-1", b"tallystick-7", b"their-7-99", b"\xff"] {
        assert_eq!(Owner::of_key(foreign), None);
    }
    assert!(!owner.lives());
}
