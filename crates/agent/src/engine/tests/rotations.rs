//! Rotation by the real logrotate, every mode of it, and what an intruder does under its cover.

use std::io::Write;
use std::process::Stdio;

use super::*;

/// A watched log `app.log`, and logrotate with a configuration of its own.
pub(super) struct Scene {
    pub host: Host,
    pub agent: Running,
    pub changes: Vec<Change>,
    lines: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with_wait(Duration::from_secs(60))
    }

    fn with_wait(rotation_wait: Duration) -> Self {
        let mut host = Self::host();
        host.rotation_wait = rotation_wait;
        Self::of(host)
    }

    /// With the log, which is not watched yet.
    pub fn host() -> Host {
        let mut host = Host::new();
        host.watches = vec![(path(&host.at("app.log")), Some(Mode::Log))];
        host.write("app.log", &"a line of the first day\n".repeat(5000));
        host
    }

    pub fn of(host: Host) -> Self {
        Self { agent: host.start(), host, changes: Vec::new(), lines: 0 }
    }

    pub fn log_lines(&mut self) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.host.at("app.log")).unwrap();
        for _ in 0..2000 {
            self.lines += 1;
            writeln!(file, "line {} of a daemon that writes much", self.lines).unwrap();
        }
    }

    /// Waits until all logs are sealed.
    pub fn sealed(&mut self) {
        self.agent.wait("all logs are sealed", |agent| agent.board.unsealed().is_empty().then_some(()));
    }

    /// With another agent, on a host that has changed.
    pub fn restarted(self, change: impl FnOnce(&mut Host)) -> Self {
        let Self { mut host, agent, changes, lines } = self;
        agent.stop();
        change(&mut host);
        Self { agent: host.start(), host, changes, lines }
    }

    /// What is done while the agent is stopped.
    pub fn while_stopped(self, act: impl FnOnce(&Self)) -> Self {
        let Self { host, agent, changes, lines } = self;
        agent.stop();
        // Some agent has to be there; this one watches another place.
        let idle = Host::new();
        let scene = Self { agent: idle.start(), host, changes, lines };
        act(&scene);
        let Self { host, agent, changes, lines } = scene;
        agent.stop();
        Self { agent: host.start(), host, changes, lines }
    }

    pub fn run(&self, line: &str) {
        let done = Program::new("sh").args(["-ec", line]).current_dir(&self.host.watched).status().unwrap();
        assert!(done.success(), "{line}");
    }

    pub fn rotate(&self, directives: &str) {
        let run = self.rotating(directives).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    fn rotating(&self, directives: &str) -> Program {
        let (dir, log) = (self.host.dir.path(), self.host.at("app.log"));
        let config = dir.join("logrotate.conf");
        fs::write(&config, format!("{} {{\n{directives}\n}}\n", log.display())).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let state = dir.join("logrotate.state");
        let mut program = Program::new("logrotate");
        program.args(["--force", "--state"]).args([&state, &config]).stderr(Stdio::piped());
        program
    }

    /// Waits until what the agent has recorded is what is there.
    pub fn settle(&mut self) {
        let expected = self.host.root_now();
        let deadline = Instant::now() + PATIENCE;
        while self.agent.board.status().root != Some(expected.0) {
            self.take();
            assert!(Instant::now() < deadline, "the snapshot is not what is there; told: {:#?}", self.told());
            std::thread::yield_now();
        }
        self.take();
    }

    pub fn take(&mut self) {
        for body in self.agent.new_events() {
            if let EventBody::Change(change) = body {
                self.changes.push(*change);
            }
        }
    }

    /// What was told up to now but appends and rotations: names, kinds and notes.
    pub fn told(&self) -> Vec<String> {
        let quiet = |change: &&Change| !matches!(change.kind, ChangeKind::Appended | ChangeKind::Rotated);
        let line = |change: &Change| {
            let name = String::from_utf8_lossy(change.path.file_name()).into_owned();
            format!("{name} {} {:?} {:?}", change.kind.name(), change.bytes, change.notes)
        };
        self.changes.iter().filter(quiet).map(line).collect()
    }

    /// The first alert.
    pub fn alert(&mut self) -> Change {
        self.alert_of(|_| true)
    }

    /// The first alert of the file of this name.
    pub fn alert_at(&mut self, name: &str) -> Change {
        let at = path(&self.host.at(name));
        self.alert_of(|change| change.path == at)
    }

    fn alert_of(&mut self, is_meant: impl Fn(&Change) -> bool) -> Change {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take();
            let loud = |c: &&Change| !matches!(c.kind, ChangeKind::Appended | ChangeKind::Rotated) && is_meant(c);
            if let Some(change) = self.changes.iter().find(loud) {
                return change.clone();
            }
            assert!(Instant::now() < deadline, "nothing is told but {:#?}", self.changes);
            std::thread::yield_now();
        }
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.host.watched).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Whether the real parts are missing.
pub(super) fn is_missing() -> bool {
    let missing = Program::new("logrotate").arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: logrotate is not installed");
    }
    missing || fanotify_is_missing()
}

/// Five rotations in a mode, with a log that goes on: nothing is told, and everything is recorded.
fn is_silent(directives: &str, names: &[&str]) {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.log_lines();
        scene.settle();
        scene.rotate(directives);
        scene.settle();
    }
    assert_eq!(scene.told(), Vec::<String>::new(), "{directives}");
    if !names.is_empty() {
        assert_eq!(scene.names(), names, "{directives}");
    }
    let rotated = scene.changes.iter().filter(|change| change.kind == ChangeKind::Rotated).count();
    assert!(rotated >= 10, "{rotated} {directives}");
    scene.agent.stop();
}

#[test]
fn renaming_and_making_anew_is_silent() {
    if is_missing() {
        return;
    }
    is_silent("rotate 3\ncreate", &["app.log", "app.log.1", "app.log.2", "app.log.3"]);
    is_silent("rotate 2\ncreate\nextension .log", &["app.1.log", "app.2.log", "app.log"]);
}

#[test]
fn copying_and_cutting_is_silent() {
    if is_missing() {
        return;
    }
    is_silent("rotate 3\ncopytruncate", &["app.log", "app.log.1", "app.log.2", "app.log.3"]);
    is_silent("rotate 2\ncopytruncate\ncompress", &["app.log", "app.log.1.gz", "app.log.2.gz"]);
}

#[test]
fn compression_of_every_kind_is_silent() {
    if is_missing() {
        return;
    }
    for (program, suffix) in [("gzip", ".gz"), ("xz", ".xz"), ("zstd", ".zst"), ("bzip2", ".bz2")] {
        let which = format!("/usr/bin/{program}");
        let found = [which.as_str(), &which[4..]].into_iter().find(|place| Path::new(place).exists());
        let Some(place) = found else {
            eprintln!("skipped: {program} is not installed");
            continue;
        };
        let directives =
            format!("rotate 2\ncreate\ncompress\ncompresscmd {place}\ncompressext {suffix}\ncompressoptions -1");
        is_silent(&directives, &["app.log", &format!("app.log.1{suffix}"), &format!("app.log.2{suffix}")]);
    }
}

#[test]
fn delayed_compression_is_silent() {
    if is_missing() {
        return;
    }
    is_silent("rotate 3\ncreate\ncompress\ndelaycompress", &["app.log", "app.log.1", "app.log.2.gz", "app.log.3.gz"]);
}

#[test]
fn dates_in_names_are_silent() {
    if is_missing() {
        return;
    }
    for directives in
        ["rotate 3\ncreate\ndateext\ndateformat -%Y%m%d-%s", "rotate 2\ncompress\ndateext\ndateformat .%s"]
    {
        let mut scene = Scene::new();
        for _ in 0..4 {
            scene.log_lines();
            scene.settle();
            let second = now().micros() / 1_000_000;
            scene.rotate(directives);
            scene.settle();
            // The next name has to be another one.
            scene.agent.wait("the next second", |_| (now().micros() / 1_000_000 > second).then_some(()));
        }
        assert_eq!(scene.told(), Vec::<String>::new(), "{directives}");
        scene.agent.stop();
    }
}

#[test]
fn a_daemon_that_writes_on_in_the_renamed_file_is_silent() {
    if is_missing() {
        return;
    }
    let mut scene = Scene::new();
    let mut daemon = fs::OpenOptions::new().append(true).open(scene.host.at("app.log")).unwrap();
    scene.rotate("rotate 3\nnocreate");
    for _ in 0..3 {
        daemon.write_all(&[b'd'; 3000]).unwrap();
        scene.settle();
    }
    // And now it opens its log again, and the next rotation comes.
    scene.log_lines();
    scene.settle();
    scene.rotate("rotate 3\nnocreate\ncompress\ndelaycompress");
    scene.settle();
    assert_eq!(scene.told(), Vec::<String>::new());
    scene.agent.stop();
}

#[test]
fn rotations_while_the_agent_is_down_are_silent() {
    if is_missing() {
        return;
    }
    let Scene { host, agent, lines, .. } = Scene::new();
    agent.stop();
    let mut scene = Scene { agent: host.start(), host, changes: Vec::new(), lines };
    scene.log_lines();
    scene.settle();
    let Scene { host, agent, changes, lines } = scene;
    agent.abandon();
    let idle = Host::new();
    let scene = Scene { agent: idle.start(), host, changes, lines };
    scene.rotate("rotate 3\ncreate\ncompress");
    let Scene { host, changes, lines, .. } = scene;
    let mut scene = Scene { agent: host.start(), host, changes, lines };
    scene.settle();
    assert_eq!(scene.told(), Vec::<String>::new());
    scene.agent.stop();
}

/// The agent stops while logrotate is held in the midst of its work, which goes on after the agent has started again, or
/// before.
fn is_silent_over_a_stop_within(directives: &str) {
    for goes_on_before in [true, false] {
        let mut scene = Scene::new();
        scene.log_lines();
        scene.settle();
        scene.rotate("rotate 3\ncreate\ncompress\ndelaycompress");
        scene.log_lines();
        scene.settle();
        let dir = scene.host.dir.path().to_owned();
        let (is_there, may_go) = (dir.join("is-there"), dir.join("may-go"));
        let packer = dir.join("packer");
        let hold = format!("touch {}; until [ -e {} ]; do sleep 0.02; done", is_there.display(), may_go.display());
        fs::write(&packer, format!("#!/bin/sh\ngzip -1 -c | {{ head -c 2000; {hold}; cat; }}\n")).unwrap();
        fs::set_permissions(&packer, fs::Permissions::from_mode(0o755)).unwrap();
        let directives = directives.replace("PACKER", packer.to_str().unwrap()).replace("HOLD", &hold);
        let mut logrotate = scene.rotating(&directives).spawn().unwrap();
        scene.agent.wait("logrotate is held", |_| is_there.exists().then_some(()));
        let mut scene = if goes_on_before {
            scene.while_stopped(|_| {
                fs::write(&may_go, "").unwrap();
                assert!(logrotate.wait().unwrap().success());
            })
        } else {
            let scene = scene.restarted(|_| ());
            fs::write(&may_go, "").unwrap();
            assert!(logrotate.wait().unwrap().success());
            scene
        };
        scene.log_lines();
        scene.settle();
        assert_eq!(scene.told(), Vec::<String>::new(), "{directives} {goes_on_before}");
        // What was rotated is sealed: it is compared from now on.
        scene.run("for name in app.log.1*; do printf X | dd of=$name bs=1 seek=400 conv=notrunc status=none; done");
        assert_eq!(scene.alert().kind, ChangeKind::Rewritten);
        scene.agent.stop();
    }
}

#[test]
fn a_rotation_during_which_the_agent_stops_is_proved_by_the_next_one() {
    if is_missing() {
        return;
    }
    is_silent_over_a_stop_within("rotate 3\nnocreate\npostrotate\nHOLD\nendscript");
    is_silent_over_a_stop_within("rotate 3\ncreate\nlastaction\nHOLD\nendscript");
    is_silent_over_a_stop_within("rotate 3\ncreate\ncompress\ncompresscmd PACKER\ncompressext .gz");
    is_silent_over_a_stop_within("rotate 3\ncopytruncate\ncompress\ncompresscmd PACKER\ncompressext .gz");
}

#[test]
fn what_was_altered_just_before_a_rotation_is_told_with_its_bytes() {
    if is_missing() {
        return;
    }
    for directives in ["rotate 3\ncreate", "rotate 3\ncopytruncate", "rotate 3\ncreate\ncompress"] {
        let mut scene = Scene::new();
        std::os::unix::fs::FileExt::write_at(
            &fs::OpenOptions::new().write(true).open(scene.host.at("app.log")).unwrap(),
            b"X",
            70_000,
        )
        .unwrap();
        scene.rotate(directives);
        let change = scene.alert();
        assert_eq!((change.path.clone(), change.kind), (path(&scene.host.at("app.log")), ChangeKind::Rewritten));
        let bytes = change.bytes.unwrap();
        assert!(bytes.start <= 70_000 && bytes.end > 70_000 && bytes.end - bytes.start <= 65_536, "{change:?}");
        scene.settle();
        scene.agent.stop();
    }
}

#[test]
fn what_a_script_of_the_rotation_alters_before_it_is_compressed_is_told() {
    if is_missing() {
        return;
    }
    let mut scene = Scene::new();
    let edit = "rotate 3\ncreate\ncompress\npostrotate\nsed -i 's/first/fIrst/' app.log.1\nendscript";
    let edit = edit.replace("app.log.1", &scene.host.at("app.log.1").display().to_string());
    scene.rotate(&edit);
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&scene.host.at("app.log")), ChangeKind::Rewritten));
    assert!(change.notes[0].contains("app.log.1.gz"), "{:?}", change.notes);
    scene.agent.stop();
}

#[test]
fn a_compressed_log_that_is_altered_later_is_told() {
    if is_missing() {
        return;
    }
    let mut scene = Scene::new();
    scene.rotate("rotate 3\ncreate\ncompress");
    scene.settle();
    scene.run("zcat app.log.1.gz | sed 's/first/fIrst/' | gzip > ../forged && cat ../forged > app.log.1.gz");
    let change = scene.alert();
    assert_eq!(change.path, path(&scene.host.at("app.log.1.gz")));
    assert!(matches!(change.kind, ChangeKind::Rewritten | ChangeKind::Truncated), "{change:?}");
    scene.agent.stop();
}

#[test]
fn a_copy_that_is_not_one_is_told_before_its_log_is_forgotten() {
    if is_missing() {
        return;
    }
    let mut scene = Scene::new();
    scene.run("sed '100s/first/fIrst/' app.log > app.log.1; : > app.log");
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&scene.host.at("app.log")), ChangeKind::Rewritten));
    assert_eq!(change.bytes, Some(ByteRange { start: 0, end: 65_536 }));
    assert!(change.notes[0].contains("app.log.1"), "{:?}", change.notes);
    scene.agent.stop();
}

#[test]
fn a_log_that_is_cut_or_replaced_or_removed_is_told() {
    if is_missing() {
        return;
    }
    let size = Some(ByteRange { start: 0, end: 120_000 });
    for (line, kind, bytes) in [
        (": > app.log", ChangeKind::Truncated, size),
        ("rm app.log", ChangeKind::Removed, size),
        ("mv app.log ..", ChangeKind::Removed, size),
        ("sed -i 1d app.log", ChangeKind::Rewritten, size),
        (
            "cp app.log ../x; printf X | dd of=../x bs=1 seek=70000 conv=notrunc status=none; mv ../x app.log",
            ChangeKind::Rewritten,
            Some(ByteRange { start: 65_536, end: 120_000 }),
        ),
    ] {
        let mut scene = Scene::new();
        scene.run(line);
        let change = scene.alert();
        assert_eq!((change.path.clone(), change.kind), (path(&scene.host.at("app.log")), kind), "{line}");
        let told = change.bytes.unwrap();
        let wanted = bytes.unwrap();
        assert!(told.start >= wanted.start && told.end <= wanted.end, "{line}: {change:?}");
        assert!(!change.actors.is_empty(), "{line}");
        scene.agent.stop();
    }
}

#[test]
fn a_hole_is_told_as_one() {
    if is_missing() {
        return;
    }
    let mut scene = Scene::new();
    scene.run("fallocate --punch-hole --offset 0 --length 65536 app.log");
    let change = scene.alert();
    assert_eq!((change.kind, change.bytes), (ChangeKind::Rewritten, Some(ByteRange { start: 0, end: 65_536 })));
    assert!(change.notes.iter().any(|note| note.contains("a hole was made in it: 65536 bytes")), "{change:?}");
    scene.agent.stop();
}

#[test]
fn rotated_logs_are_removed_in_their_turn_or_it_is_told() {
    if is_missing() {
        return;
    }
    let rotated = |wait| {
        let mut scene = Scene::with_wait(wait);
        for _ in 0..3 {
            scene.log_lines();
            scene.settle();
            scene.rotate("rotate 5\ncreate");
            scene.settle();
        }
        assert_eq!(scene.told(), Vec::<String>::new());
        scene
    };
    // Not the oldest.
    let mut scene = rotated(Duration::from_secs(60));
    scene.run("rm app.log.1");
    let change = scene.alert();
    assert_eq!((change.path, change.kind), (path(&scene.host.at("app.log.1")), ChangeKind::Removed));
    scene.agent.stop();
    // More than rotations account for. Three of the last minutes have no removal of theirs yet, so the fourth is told.
    let mut scene = rotated(Duration::from_secs(1));
    scene.rotate("rotate 5\ncreate");
    scene.run("rm app.log.1 app.log.2 app.log.3 app.log.4; rm app.log");
    let change = scene.alert();
    assert_eq!(change.kind, ChangeKind::Removed);
    scene.agent.stop();
}

#[test]
fn the_oldest_that_goes_without_a_rotation_is_told_though_late_or_at_the_end() {
    if is_missing() {
        return;
    }
    for waits in [true, false] {
        let mut scene = Scene::new();
        for _ in 0..2 {
            scene.log_lines();
            scene.settle();
            scene.rotate("rotate 5\ncreate");
            scene.settle();
        }
        // A new agent knows of no rotation that would account for a removal.
        let Scene { mut host, agent, changes, lines } = scene;
        agent.stop();
        host.rotation_wait = Duration::from_secs(if waits { 1 } else { 3600 });
        let mut scene = Scene { agent: host.start(), host, changes, lines };
        scene.run("rm app.log.2");
        if !waits {
            // The agent ends while it waits; then it is told at once.
            // The kernel tells in order: the sensor that tells of what came later has told of this.
            scene.log_lines();
            scene.agent.one_change(&scene.host.at("app.log"));
            scene.agent.intake.stop("the test ends");
        }
        let change = scene.alert();
        assert_eq!((change.path, change.kind), (path(&scene.host.at("app.log.2")), ChangeKind::Removed));
        scene.agent.stop();
    }
}
