//! The agent without a network, against the real kernel and filesystem: what is done to files and what ends up in the
//! outbox.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_proto::{Position, event};
use tally_snapshot::NodeHash;
use tally_syscheck::journal::VerifyKey;
use tally_syscheck::{Algorithms, Glob, Limits, Mode, OldDir, Policy, Watch};
use tally_types::{
    AgentState, ByteRange, Change, ChangeKind, Confidence, DetectedBy, Epoch, EventBody, GapCause, Life, PathBytes,
};

use super::{Engine, Parts, Settings, now};
use crate::board::Board;
use crate::budget::Budget;
use crate::health::Health;
use crate::intake::Intake;
use crate::log::journal::Verifier;
use crate::notice::Notices;
use crate::responder::Responder;
use crate::sensor::who::Tier;
use crate::sensor::{self, Sensor, Source};
use crate::state::{Commit, OutboxReader, PathEdit, State, StateError};

mod aside;
mod container;
mod device;
pub(crate) mod disk;
mod filesystems;
pub(crate) mod journals;
mod kept;
mod logins;
mod orders;
mod overflow;
mod responses;
mod rotations;
mod texts;
mod who;

/// Long enough for the slowest machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    dir: tempfile::TempDir,
    watched: PathBuf,
    watches: Vec<(PathBytes, Option<Mode>)>,
    source: Source,
    who: Option<Tier>,
    interval: Duration,
    rotation_wait: Duration,
    direct_parts: u32,
    budget: tally_syscheck::Budget,
    /// Tell which lines of a text changed.
    diff: bool,
    digests: Algorithms,
    /// Of logs: where they are rotated to, and how long they are kept.
    olddir: Option<String>,
    keep_s: Option<u64>,
    responses: tally_syscheck::ResponseConfig,
    /// The verification key of journald's seals.
    journal_key: Option<String>,
    /// Where logrotate's configuration is.
    logrotate: Option<PathBuf>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let watched = dir.path().join("w");
        Self::watching(dir, watched)
    }

    /// Watches a new directory `w` on another filesystem; the agent's own state is not on it.
    fn on(place: &Path) -> Self {
        Self::watching(tempfile::tempdir().unwrap(), place.join("w"))
    }

    fn watching(dir: tempfile::TempDir, watched: PathBuf) -> Self {
        fs::create_dir(&watched).unwrap();
        let watches = vec![(path(&watched), None)];
        let budget = tally_syscheck::Budget::default();
        Self {
            dir,
            watched,
            watches,
            source: Source::Fanotify,
            who: None,
            interval: Duration::from_secs(3600),
            rotation_wait: Duration::from_secs(60),
            direct_parts: 0,
            budget,
            diff: false,
            digests: Algorithms::SHA256,
            olddir: None,
            keep_s: None,
            responses: tally_syscheck::ResponseConfig::default(),
            journal_key: None,
            logrotate: None,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.watched.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn start(&self) -> Running {
        self.start_in("state")
    }

    fn policy(&self) -> Policy {
        let watch = |(path, mode): &(PathBytes, Option<Mode>)| Watch {
            diff: self.diff,
            digests: if matches!(mode, None | Some(Mode::Static)) { self.digests } else { Algorithms::EMPTY },
            olddir: self.olddir.as_ref().map(|dir| OldDir::new(dir, &Glob::exactly(path)).unwrap()),
            keep_s: self.keep_s,
            ..Watch::new(Glob::exactly(path), mode.unwrap_or_default())
        };
        Policy::from_watches(self.watches.iter().map(watch).collect(), Vec::new())
    }

    fn start_in(&self, state: &str) -> Running {
        let dir = self.dir.path().join(state);
        let policy = Arc::new(self.policy());
        let intake = Arc::new(Intake::new(Limits::default(), None));
        let sensor = sensor::start(&policy, &intake, Some(self.source), self.who).unwrap();
        assert_eq!(sensor.source, self.source, "{:?}", sensor.coverage);
        let (opened, board) = std::sync::mpsc::channel();
        let (inbox, coverage, sensor_name) = (Arc::clone(&intake), sensor.coverage.clone(), sensor.source.name());
        let last_word = sensor.last_word();
        let (rotation_wait, direct_parts) = (self.rotation_wait, self.direct_parts);
        let (interval, budget) = (self.interval, Arc::new(Budget::new(self.budget)));
        let (watches, responses) = (self.watches.clone(), self.responses.clone());
        let journal_key = self.journal_key.clone();
        let logrotate: Vec<_> = self.logrotate.iter().map(|conf| path(conf)).collect();
        // The state belongs to the thread that opened it.
        let thread = std::thread::spawn(move || {
            let state = State::open(&dir, now()).unwrap();
            let health = Arc::new(Health::new(Arc::clone(&inbox)));
            let board = Arc::new(Board::new(crate::program::first_status(&state), Arc::clone(&budget), health));
            opened.send((Arc::clone(&board), state.path().to_owned())).unwrap();
            let standing =
                crate::policy::choose(&dir, crate::policy::own(None, &watches).unwrap(), None).unwrap().standing;
            let responder = Responder::start(responses, &dir, &inbox);
            let engine = Engine::new(Parts {
                responder,
                standing,
                state,
                policy,
                intake: inbox,
                board,
                notices: Arc::new(Notices::new(true)),
                coverage,
                sensor: sensor_name,
                last_word,
                settings: Settings { interval, rehash_parts: 1, direct_parts, threads: 2, rotation_wait },
                budget,
            });
            let mut engine = engine.unwrap();
            engine.rotated_by(logrotate);
            if let Some(key) = journal_key {
                let machine = fs::read_to_string("/etc/machine-id").unwrap();
                engine.verify_journals_by(Some(Ok(Verifier::with_key(VerifyKey::parse(&key).unwrap(), &machine))));
            }
            engine.run()
        });
        let (board, path) = board.recv().unwrap();
        let outbox = OutboxReader::open(&path).unwrap();
        let mut running = Running { intake, board, outbox, _sensor: sensor, thread: Some(thread), read: None };
        running.wait("the agent watches", |r| {
            let status = r.board.status();
            let past = r.outbox.after(None, usize::MAX).unwrap();
            // A start that goes on from a state compares everything first; its gap is told when that is done.
            let compared = past.iter().filter(|e| e.position.epoch == status.epoch).any(|e| {
                let body = event::decode(&e.bytes).unwrap().body;
                matches!(body, EventBody::Life(Life::Gap { .. } | Life::BaselineTaken { .. }))
            });
            (status.state == AgentState::Watching && compared).then_some(())
        });
        running
    }

    /// The root of what is there now, by a baseline taken afresh.
    fn root_now(&self) -> NodeHash {
        let name = format!("fresh-{}", fs::read_dir(self.dir.path()).unwrap().count());
        let host = Host {
            dir: tempfile::tempdir().unwrap(),
            watched: self.watched.clone(),
            watches: self.watches.clone(),
            source: Source::None,
            who: None,
            interval: self.interval,
            rotation_wait: self.rotation_wait,
            direct_parts: 0,
            budget: self.budget,
            diff: self.diff,
            digests: self.digests,
            olddir: self.olddir.clone(),
            keep_s: self.keep_s,
            responses: tally_syscheck::ResponseConfig::default(),
            journal_key: None,
            logrotate: None,
        };
        let mut running = host.start_in(&name);
        running.wait("all logs are sealed", |agent| agent.board.unsealed().is_empty().then_some(()));
        let root = running.board.status().root.unwrap();
        running.stop();
        NodeHash(root)
    }
}

fn path(path: &Path) -> PathBytes {
    PathBytes::new(path.as_os_str().as_encoded_bytes()).unwrap()
}

struct Running {
    intake: Arc<Intake>,
    board: Arc<Board>,
    outbox: OutboxReader,
    _sensor: Sensor,
    thread: Option<JoinHandle<Result<(), StateError>>>,
    read: Option<Position>,
}

impl Running {
    /// The events of this run since the last call.
    fn new_events(&mut self) -> Vec<EventBody> {
        let begin = Position { epoch: self.board.status().epoch, seq: 0 };
        let events = self.outbox.after(self.read.or(Some(begin)), usize::MAX).unwrap();
        self.read = events.last().map(|e| e.position).or(self.read);
        events.iter().map(|e| event::decode(&e.bytes).unwrap().body).collect()
    }

    fn wait<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    /// Changes as they come, until `enough` of them are there.
    fn changes(&mut self, enough: impl Fn(&[Change]) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !enough(&changes) {
            assert!(Instant::now() < deadline, "only {changes:#?}");
            for body in self.new_events() {
                if let EventBody::Change(change) = body {
                    changes.push(*change);
                }
            }
            std::thread::yield_now();
        }
        changes
    }

    fn one_change(&mut self, at: &Path) -> Change {
        let at = path(at);
        let changes = self.changes(|changes| changes.iter().any(|c| c.path == at));
        changes.into_iter().find(|c| c.path == at).unwrap()
    }

    fn stop(mut self) {
        self.intake.stop("the test ends");
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// As a kill would: nothing is drained, no farewell is stored.
    fn abandon(mut self) {
        self.intake.abandon();
        assert!(self.thread.take().unwrap().join().unwrap().is_err());
    }
}

fn fanotify_is_missing() -> bool {
    let missing = !tally_sys::caps::effective().unwrap().has(tally_sys::caps::Capability::SysAdmin);
    if missing {
        eprintln!("skipped: fanotify needs CAP_SYS_ADMIN");
    }
    missing
}

#[test]
fn a_write_is_one_change_with_its_actor() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    host.write("passwd", "root\n");
    let mut agent = host.start();
    let script = format!("echo mallory >> {}; exec sleep 5", host.at("passwd").display());
    let mut writer = Program::new("sh").args(["-c", &script]).spawn().unwrap();
    let change = agent.one_change(&host.at("passwd"));
    assert_eq!((change.kind, change.detected_by), (ChangeKind::Modified, DetectedBy::Realtime));
    let names: Vec<_> = change.attributes.iter().map(tally_types::Attribute::name).collect();
    assert_eq!(names, ["size", "content", "mtime"]);
    assert_eq!((change.before.unwrap().size, change.after.unwrap().size), (5, 13));
    let actor = &change.actors[0];
    assert_eq!(actor.pid, writer.id());
    assert!(matches!(actor.confidence, Confidence::Kernel | Confidence::Audit | Confidence::ProcLive), "{actor:?}");
    assert!(actor.uid.is_some() && actor.ppid == Some(std::process::id()));
    writer.kill().unwrap();
    writer.wait().unwrap();
    agent.stop();
}

#[test]
fn what_comes_goes_and_moves_is_told_as_such() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    host.write("a", "a");
    let mut agent = host.start();
    fs::rename(host.at("a"), host.at("b")).unwrap();
    let moved = agent.one_change(&host.at("b"));
    assert_eq!((moved.kind, moved.moved_from), (ChangeKind::Moved, Some(path(&host.at("a")))));
    fs::set_permissions(host.at("b"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mode = agent.one_change(&host.at("b"));
    assert_eq!((mode.kind, mode.after.unwrap().mode), (ChangeKind::Modified, 0o4755));
    fs::remove_file(host.at("b")).unwrap();
    assert_eq!(agent.one_change(&host.at("b")).kind, ChangeKind::Removed);
    fs::create_dir_all(host.at("d/e")).unwrap();
    host.write("d/e/f", "f");
    let file = agent.one_change(&host.at("d/e/f"));
    assert_eq!((file.kind, file.after.unwrap().size), (ChangeKind::Added, 1));
    fs::rename(host.at("d"), host.at("g")).unwrap();
    let moved = agent.one_change(&host.at("g/e/f"));
    assert_eq!((moved.kind, moved.moved_from), (ChangeKind::Moved, Some(path(&host.at("d/e/f")))));
    fs::remove_dir_all(host.at("g")).unwrap();
    let gone = agent.changes(|changes| changes.iter().filter(|c| c.kind == ChangeKind::Removed).count() >= 3);
    assert!(gone.iter().any(|c| c.path == path(&host.at("g/e/f"))), "{gone:#?}");
    agent.stop();
}

#[test]
fn a_link_in_a_directorys_place_removes_what_was_below() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    for dir in ["d", "other"] {
        fs::create_dir(host.at(dir)).unwrap();
        host.write(&format!("{dir}/file"), "same");
    }
    let mut running = host.start();
    fs::rename(host.at("d"), host.dir.path().join("was")).unwrap();
    std::os::unix::fs::symlink(host.at("other"), host.at("d")).unwrap();
    let changes = running.changes(|c| c.iter().any(|c| c.path == path(&host.at("d/file"))));
    let file = changes.iter().find(|c| c.path == path(&host.at("d/file"))).unwrap();
    assert_eq!((file.kind, &file.after), (ChangeKind::Removed, &None));
    assert_eq!(running.board.status().root.map(NodeHash), Some(host.root_now()));
    running.stop();
}

#[test]
fn what_is_done_just_before_an_orderly_end_is_told() {
    if fanotify_is_missing() {
        return;
    }
    for source in [Source::Fanotify, Source::Inotify] {
        let mut host = Host::new();
        host.source = source;
        for n in 0..8 {
            let mut agent = host.start();
            let name = format!("last-{n}");
            host.write(&name, "x");
            agent.intake.stop("the test ends");
            agent.thread.take().unwrap().join().unwrap().unwrap();
            let told = agent.new_events().into_iter().any(|body| {
                let EventBody::Change(change) = body else { return false };
                change.path == path(&host.at(&name)) && change.detected_by == DetectedBy::Realtime
            });
            assert!(told, "{name} by {}", source.name());
        }
    }
}

#[test]
fn a_replaced_file_is_one_change() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    host.write("conf", "old");
    let mut agent = host.start();
    host.write("conf.tmp", "newer");
    fs::rename(host.at("conf.tmp"), host.at("conf")).unwrap();
    let change = agent.one_change(&host.at("conf"));
    assert_eq!((change.kind, change.after.unwrap().size), (ChangeKind::Modified, 5));
    agent.stop();
}

#[test]
fn what_happens_while_the_agent_is_down_is_found_with_its_window() {
    if fanotify_is_missing() {
        return;
    }
    for (stopped, cause) in [(true, GapCause::Stopped), (false, GapCause::Killed)] {
        let host = Host::new();
        host.write("keep", "k");
        host.write("change", "c");
        host.write("remove", "r");
        let agent = host.start();
        if stopped {
            agent.stop()
        } else {
            agent.abandon()
        }
        let down = now();
        host.write("change", "changed");
        host.write("dir/add", "a");
        fs::remove_file(host.at("remove")).unwrap();
        let mut agent = host.start();
        let events = agent.new_events();
        let gap = events.iter().find_map(|e| match e {
            EventBody::Life(Life::Gap { start, end, cause }) => Some((*start, *end, *cause)),
            _ => None,
        });
        let (start, end, found) = gap.unwrap();
        assert!(start <= down && down <= end && found == cause, "{gap:?}");
        let changes: Vec<_> = events
            .into_iter()
            .filter_map(|e| match e {
                EventBody::Change(change) => Some(*change),
                EventBody::Life(_) | EventBody::Log(_) => None,
            })
            .collect();
        let mut kinds: Vec<_> = changes.iter().map(|c| (c.path.file_name().to_vec(), c.kind)).collect();
        kinds.sort_by_key(|(name, _)| name.clone());
        let expected = [
            ("add", ChangeKind::Added),
            ("change", ChangeKind::Modified),
            ("dir", ChangeKind::Added),
            ("remove", ChangeKind::Removed),
        ];
        assert_eq!(kinds, expected.map(|(name, kind)| (name.as_bytes().to_vec(), kind)));
        for change in changes {
            let window = change.window.unwrap();
            assert_eq!(change.detected_by, DetectedBy::Startup);
            assert!(window.earliest <= down && down <= window.latest);
        }
        assert_eq!(agent.board.status().root.map(NodeHash), Some(host.root_now()));
        agent.stop();
    }
}

#[test]
fn a_file_that_only_was_is_told() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    let mut agent = host.start();
    host.write("drop.sh", "x");
    fs::remove_file(host.at("drop.sh")).unwrap();
    let change = agent.one_change(&host.at("drop.sh"));
    // Where the look came in between it was an added file, and its removal follows.
    assert!(change.is_transient() || change.kind == ChangeKind::Added, "{change:?}");
    // However the looks fall between making and removing, none of many is missed.
    for n in 0..500 {
        host.write(&format!("t{n}"), "x");
        fs::remove_file(host.at(&format!("t{n}"))).unwrap();
    }
    let mut told = std::collections::BTreeSet::new();
    agent.wait("each of them is told", |agent| {
        for body in agent.new_events() {
            if let EventBody::Change(change) = body {
                told.insert(change.path.file_name().to_vec());
            }
        }
        (0..500).all(|n| told.contains(format!("t{n}").as_bytes())).then_some(())
    });
    agent.stop();
}

#[test]
fn a_log_may_grow_but_what_was_written_stays() {
    if fanotify_is_missing() {
        return;
    }
    let mut host = Host::new();
    host.watches = vec![(path(&host.at("log")), Some(Mode::Log))];
    host.write("log", &"line\n".repeat(40_000));
    let mut agent = host.start();
    let bytes = |start, end| Some(ByteRange { start, end });
    let open = || fs::OpenOptions::new().write(true).open(host.at("log")).unwrap();
    let append = |text: &str| {
        use std::io::Write;
        fs::OpenOptions::new().append(true).open(host.at("log")).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let script = |line: &str| {
        let done = Program::new("sh").args(["-ec", line]).current_dir(host.dir.path().join("w")).status();
        assert!(done.unwrap().success(), "{line}");
    };
    append("more\n");
    let change = agent.one_change(&host.at("log"));
    assert_eq!((change.kind, change.bytes), (ChangeKind::Appended, None));
    // In the tail, to the byte; before it, to the chunk.
    std::os::unix::fs::FileExt::write_at(&open(), b"X", 199_990).unwrap();
    let change = agent.one_change(&host.at("log"));
    assert_eq!((change.kind, change.bytes), (ChangeKind::Rewritten, bytes(199_990, 199_991)));
    script("fallocate --punch-hole --offset 8192 --length 4096 log");
    let change = agent.one_change(&host.at("log"));
    assert_eq!((change.kind, change.bytes), (ChangeKind::Rewritten, bytes(0, 65_536)));
    script("touch -d '2001-01-01' log");
    let change = agent.one_change(&host.at("log"));
    let names: Vec<_> = change.attributes.iter().map(tally_types::Attribute::name).collect();
    assert_eq!((change.kind, change.bytes, &names[..]), (ChangeKind::Modified, None, &["mtime"][..]));
    assert!(change.notes[0].contains("set back"), "{:?}", change.notes);
    open().set_len(100_000).unwrap();
    let change = agent.one_change(&host.at("log"));
    assert_eq!((change.kind, change.bytes), (ChangeKind::Truncated, bytes(100_000, 200_005)));
    // Cut and grown again behind what it was; a look may come in between.
    open().set_len(70_000).unwrap();
    append(&"x".repeat(90_000));
    let change = agent.one_change(&host.at("log"));
    assert!(matches!(change.kind, ChangeKind::Rewritten | ChangeKind::Truncated), "{change:?}");
    assert_eq!(change.bytes, bytes(70_000, 100_000));
    fs::remove_file(host.at("log")).unwrap();
    let change = agent.one_change(&host.at("log"));
    assert_eq!((change.kind, change.bytes), (ChangeKind::Removed, bytes(0, 160_000)));
    agent.stop();
}

#[test]
fn a_storm_ends_in_the_true_state() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    let agent = host.start();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let host = &host;
            scope.spawn(move || {
                for n in 0..3000 {
                    let name = format!("d{half}/{}/f{n}", n % 10);
                    host.write(&name, "one");
                    host.write(&name, "two!");
                    if n % 3 == 0 {
                        fs::remove_file(host.at(&name)).unwrap();
                    }
                }
            });
        }
    });
    let expected = host.root_now();
    let mut agent = agent;
    agent.wait("the snapshot is what is there", |a| (a.board.status().root == Some(expected.0)).then_some(()));
    assert_eq!(agent.board.status().dropped, 0);
    agent.stop();
}

#[test]
fn inotify_and_scans_see_changes_too() {
    let mut host = Host::new();
    host.source = Source::Inotify;
    host.write("a/x", "x");
    let mut agent = host.start();
    host.write("a/x", "xx");
    assert_eq!(agent.one_change(&host.at("a/x")).kind, ChangeKind::Modified);
    host.write("b/c/d", "new");
    assert_eq!(agent.one_change(&host.at("b/c/d")).kind, ChangeKind::Added);
    host.write("b/c/e", "newer");
    let change = agent.one_change(&host.at("b/c/e"));
    assert_eq!((change.kind, change.actors.len()), (ChangeKind::Added, 0));
    agent.stop();

    host.source = Source::None;
    host.interval = Duration::from_millis(50);
    let mut agent = host.start();
    host.write("a/x", "by scan alone");
    let change = agent.one_change(&host.at("a/x"));
    assert_eq!((change.kind, change.detected_by), (ChangeKind::Modified, DetectedBy::Scan));
    agent.stop();
}

#[test]
fn a_new_policy_takes_in_what_it_covers_anew_without_a_change() {
    if fanotify_is_missing() {
        return;
    }
    let mut host = Host::new();
    host.write("a/x", "x");
    host.write("b/y", "y");
    host.watches = vec![(path(&host.at("a")), None)];
    host.start().stop();
    host.write("a/x", "changed while down");
    host.write("a/new/deep/file", "made while down, in directories that are new too");
    host.watches = vec![(path(&host.dir.path().join("w")), None)];
    let mut agent = host.start();
    let events = agent.new_events();
    let changes: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            EventBody::Change(change) => Some((change.path.clone(), change.kind)),
            EventBody::Life(_) | EventBody::Log(_) => None,
        })
        .collect();
    let mut changes = changes;
    changes.sort();
    let added = ["a/new", "a/new/deep", "a/new/deep/file"].map(|name| (path(&host.at(name)), ChangeKind::Added));
    let changed = [(path(&host.at("a/x")), ChangeKind::Modified)];
    assert_eq!(changes, added.into_iter().chain(changed).collect::<Vec<_>>());
    assert!(events.iter().any(|e| matches!(e, EventBody::Life(Life::BaselineTaken { .. }))));
    assert_eq!(agent.board.status().root.map(NodeHash), Some(host.root_now()));
    agent.stop();
}

#[test]
fn nodes_of_earlier_trees_are_deleted_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path(), now()).unwrap();
    let base = crate::scan::Base::host().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "x").unwrap();
    let (entry, hint) = crate::scan::observe(&base, &path(&file), &crate::scan::Want::ALL).unwrap().unwrap();
    let built: Result<_, ()> = state
        .replace_snapshot(now(), |nodes| {
            let root = tally_snapshot::Builder::new(nodes).finish().unwrap();
            Ok(crate::state::Rebuilt { root, hints: root, logs: Vec::new() })
        })
        .unwrap();
    built.unwrap();
    let rounds = |state: &mut State, from: i64| {
        for round in from..from + 300 {
            let edit = PathEdit::Put { entry: tally_types::Entry { uid: round as u32, ..entry.clone() }, hint };
            let commit = Commit { edits: vec![(path(&file), edit)], ..Default::default() };
            state.commit(&commit, now().plus_micros(round * 60_000_000)).unwrap();
        }
        state.nodes_stored().unwrap()
    };
    assert!(rounds(&mut state, 0) > 300, "while a scan may read them they stay");
    state.keep_nodes(false);
    assert!(rounds(&mut state, 300) < 20);
}

#[test]
fn numbers_that_the_manager_has_already_are_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path(), now()).unwrap();
    let started = || EventBody::Life(Life::Stopped { reason: "x".into() });
    let commit = Commit { events: vec![(now(), started()), (now(), started())], ..Default::default() };
    let first = state.commit(&commit, now()).unwrap();
    let taken = Epoch(first.epoch.0 + 1000);
    state.renumber_above(taken).unwrap();
    let outbox = OutboxReader::open(state.path()).unwrap();
    let positions: Vec<_> = outbox.after(None, usize::MAX).unwrap().iter().map(|e| e.position).collect();
    assert_eq!(positions, [Position::new(taken.0 + 1, 1), Position::new(taken.0 + 1, 2)]);
    assert_eq!(state.commit(&commit, now()).unwrap().seq, 4);
    drop(state);
    let state = State::open(dir.path(), now()).unwrap();
    assert!(state.position().epoch > Epoch(taken.0 + 1));
    assert_eq!(outbox.ended().unwrap(), [Position::new(taken.0 + 1, 4)]);
}

#[test]
fn a_scan_that_its_budget_makes_late_is_told_and_can_be_stopped() {
    let mut host = Host::new();
    host.source = Source::None;
    host.interval = Duration::from_millis(100);
    host.budget.routine.bytes_per_s = tally_syscheck::Budget::BYTES_PER_S_MIN;
    fs::File::create(host.at("large")).unwrap().set_len(64 << 20).unwrap();
    let mut agent = host.start();
    let is_late = |text: &str| text.starts_with("everything by a scan within each");
    agent.wait("it says that it is late", |r| r.board.status().cannot.iter().any(|text| is_late(text)).then_some(()));
    let told = |body: &EventBody| matches!(body, EventBody::Life(Life::CoverageChanged { cannot }) if cannot.iter().any(|text| is_late(text)));
    agent.wait("there is an event", |r| r.new_events().iter().any(told).then_some(()));
    agent.stop();
}

/// Anybody can make a directory whose path is longer than a path may be. What happens in it concerns nobody, and must not
/// cause a comparison of everything.
#[test]
fn a_directory_too_deep_to_have_a_path_is_no_gap() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    let mut agent = host.start();
    let deep = tempfile::tempdir().unwrap();
    let script =
        "d=$(printf 'd%.0s' $(seq 200)); for n in $(seq 25); do mkdir $d && cd -P $d || exit 1; done; echo x > file";
    let made = Program::new("bash").args(["-c", script]).current_dir(deep.path()).status().unwrap();
    assert!(made.success());
    host.write("after", "x");
    let after = host.at("after");
    let mut lost = Vec::new();
    agent.wait("the change after it", |r| {
        let events = r.new_events();
        lost.extend(events.iter().filter(|body| matches!(body, EventBody::Life(Life::Overflow { .. }))).cloned());
        events.iter().any(|body| matches!(body, EventBody::Change(change) if change.path == path(&after))).then_some(())
    });
    assert_eq!(lost, []);
    agent.stop();
}
