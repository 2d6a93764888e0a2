//! The journal by the real systemd-journald, with sealing on: what it does to its files, and what an intruder does to them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use tally_syscheck::journal::What;

use super::rotations::Scene;
use super::*;

/// systemd-journald in a mount namespace of its own, in which the watched directory is /var/log/journal. A shell beside it
/// does what it is told, line by line.
pub(crate) struct Journald {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

pub(crate) const DAEMON: &str = "/lib/systemd/systemd-journald";
const BEGIN: &str = r#"
    mount -t tmpfs tmpfs /run
    mkdir -p /var/log/journal /run/systemd/journal
    mount --bind "$1" /var/log/journal
    mkdir -p "/var/log/journal/$(cat /etc/machine-id)"
    touch /run/systemd/journal/flushed
    [ -e /var/log/journal/*/fss ] || journalctl --setup-keys --interval=1s >"$1.key" 2>/dev/null
    /lib/systemd/systemd-journald >/dev/null 2>&1 &
    daemon=$!
    until [ -S /run/systemd/journal/dev-log ] && journalctl --sync 2>/dev/null; do kill -0 $daemon; done
    say() { seq "$1" "$2" | sed 's/^/a line of a daemon that writes much, number /' > /run/lines
        logger -u /run/systemd/journal/dev-log -t daemon -f /run/lines; journalctl --sync; }
    echo done
    while read -r line; do eval "$line"; echo done; done
    kill $daemon
    wait $daemon || true
"#;

impl Journald {
    pub(crate) fn start(journal: &Path) -> Self {
        let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
        let shell = ["-m", "bash", "-ec", BEGIN, "journald"];
        let mut child = Program::new("unshare").args(shell).arg(journal).stdin(stdin).stdout(stdout).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut journald = Self { child, stdin, stdout };
        journald.wait();
        journald
    }

    pub(crate) fn run(&mut self, line: &str) -> String {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.wait()
    }

    fn wait(&mut self) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the shell beside journald has ended: {said}");
            if line == "done\n" {
                return said;
            }
            said.push_str(&line);
        }
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

fn is_missing() -> bool {
    let missing = !Path::new(DAEMON).exists();
    if missing {
        eprintln!("skipped: systemd-journald is not installed");
    }
    missing || fanotify_is_missing()
}

/// A journal with some thousand entries in three archived files and the one that is written.
fn scene() -> (Scene, Journald) {
    scene_with(Duration::from_secs(3600))
}

fn scene_with(interval: Duration) -> (Scene, Journald) {
    let mut host = Host::new();
    host.interval = interval;
    host.watches = vec![(path(&host.watched), Some(Mode::Journal))];
    let mut journald = Journald::start(&host.watched);
    for _ in 0..3 {
        journald.run("say 1 800; journalctl --rotate");
    }
    journald.run("say 1 800");
    (Scene::of(host), journald)
}

/// Waits until what the agent has recorded is what is there. That journald is done with an archived file it says in a mapping,
/// which a scan sees.
fn settle(scene: &mut Scene) {
    let deadline = Instant::now() + PATIENCE;
    while scene.agent.board.status().root != Some(scene.host.root_now().0) {
        assert!(Instant::now() < deadline, "the snapshot is not what is there; told: {:#?}", scene.told());
    }
    scene.take();
}

/// The files of the system's journal: the one that is written, and the archived ones, the oldest first.
fn files(scene: &Scene) -> (PathBuf, Vec<PathBuf>) {
    let dir = fs::read_dir(&scene.host.watched).unwrap().next().unwrap().unwrap().path();
    let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut archived: Vec<_> = names.filter(|path| path.to_string_lossy().contains("system@")).collect();
    archived.sort();
    (dir.join("system.journal"), archived)
}

/// Where `text` is in a file.
fn place(file: &Path, text: &str) -> u64 {
    let bytes = fs::read(file).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
}

fn overwrite(file: &Path, at: u64, text: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, text, at).unwrap();
}

#[test]
fn what_journald_does_is_silent() {
    if is_missing() {
        return;
    }
    let (mut scene, mut journald) = scene_with(Duration::from_secs(1));
    for _ in 0..2 {
        journald.run("say 1 500");
        settle(&mut scene);
        journald.run("say 1 500; journalctl --rotate; say 1 10");
        settle(&mut scene);
    }
    // The oldest are taken away, by the daemon's own tool.
    let before = files(&scene).1;
    journald.run("journalctl --vacuum-files=3 2>/dev/null");
    settle(&mut scene);
    assert_eq!(scene.told(), Vec::<String>::new());
    let after = files(&scene).1;
    assert!(before.len() == 5 && after.len() < before.len() && before.ends_with(&after), "{before:?} {after:?}");
    let vacuumed = scene.changes.iter().filter(|c| c.kind == ChangeKind::Rotated && c.after.is_none());
    assert!(vacuumed.count() >= 2);
    // A daemon that is killed leaves a file that is not closed; the next one puts it aside.
    journald.run("say 1 100; kill -9 $daemon; wait $daemon || true");
    drop(journald);
    let mut journald = Journald::start(&scene.host.watched);
    journald.run("say 1 100");
    settle(&mut scene);
    assert_eq!(scene.told(), Vec::<String>::new());
    let names: Vec<_> = scene.changes.iter().map(|change| change.path.to_string()).collect();
    assert!(names.iter().any(|name| name.ends_with(".journal~")), "{names:#?}");
    scene.agent.stop();
}

#[test]
fn an_entry_that_is_altered_is_told_with_its_bytes() {
    if is_missing() {
        return;
    }
    for archived in [true, false] {
        let (mut scene, _journald) = scene();
        settle(&mut scene);
        let (active, old) = files(&scene);
        let file = if archived { &old[1] } else { &active };
        let at = place(file, "MESSAGE=a line of a daemon that writes much, number 400");
        overwrite(file, at + 20, b"X");
        let change = scene.alert();
        assert_eq!((change.path.clone(), change.kind), (path(file), ChangeKind::Rewritten));
        let bytes = change.bytes.unwrap();
        assert!((bytes.start..bytes.end).contains(&(at + 20)) && bytes.end - bytes.start <= 65_536, "{change:?}");
        scene.agent.stop();
    }
}

#[test]
fn an_alteration_by_a_mapping_among_appends_is_told() {
    if is_missing() {
        return;
    }
    let (mut scene, mut journald) = scene_with(Duration::from_secs(1));
    let (active, _) = files(&scene);
    let at = place(&active, "MESSAGE=a line of a daemon that writes much, number 100");
    // As journald itself writes: the kernel tells of the opening and the closing only.
    let edit = "import mmap,os; f=os.open(\"FILE\",os.O_RDWR); m=mmap.mmap(f,0); m[AT:AT+1]=b\"X\"; m.close()";
    let edit = edit.replace("FILE", &active.display().to_string()).replace("AT", &(at + 20).to_string());
    journald.run(&format!("python3 -c '{edit}'; say 1 9"));
    let change = scene.alert();
    assert_eq!(change.path, path(&active));
    // A check of the journal's form that comes between the store and the closing tells it in its own way.
    let is_told =
        change.kind == ChangeKind::Rewritten || change.notes.iter().any(|note| note.contains("does not verify"));
    assert!(is_told, "{change:?}");
    scene.agent.stop();
}

#[test]
fn what_is_cut_or_removed_is_told() {
    if is_missing() {
        return;
    }
    let cut = |file: &Path| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(300_000).unwrap();
    let remove = |file: &Path| fs::remove_file(file).unwrap();
    let empty = |file: &Path| fs::write(file, "").unwrap();
    type Act<'a> = &'a dyn Fn(&Path);
    let acts: [(bool, Act<'_>, ChangeKind); 5] = [
        (true, &cut, ChangeKind::Truncated),
        (false, &cut, ChangeKind::Truncated),
        // Not the oldest, and the one that is written.
        (true, &remove, ChangeKind::Removed),
        (false, &remove, ChangeKind::Removed),
        (true, &empty, ChangeKind::Truncated),
    ];
    for (n, (archived, act, kind)) in acts.into_iter().enumerate() {
        let (mut scene, _journald) = scene();
        let (active, old) = files(&scene);
        let file = if archived { &old[1] } else { &active };
        act(file);
        let change = scene.alert();
        assert_eq!((change.path.clone(), change.kind), (path(file), kind), "{n} {change:?}");
        assert!(change.bytes.is_some_and(|bytes| bytes.end > 0), "{change:?}");
        scene.agent.stop();
    }
}

#[test]
fn the_oldest_archived_file_may_go_by_journald_and_by_nobody_else() {
    if is_missing() {
        return;
    }
    let (mut scene, mut journald) = scene();
    settle(&mut scene);
    let (_, old) = files(&scene);
    journald.run("journalctl --vacuum-files=3 2>/dev/null");
    settle(&mut scene);
    assert!(!old[0].exists() && old[1].exists(), "{old:?}");
    assert_eq!(scene.told(), Vec::<String>::new());
    scene.run(&format!("rm {}", old[1].display()));
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&old[1]), ChangeKind::Removed));
    assert!(
        change.actors.iter().any(|actor| actor.exe.as_ref().is_some_and(|exe| exe.ends_with(b"/rm"))),
        "{change:?}"
    );
    scene.agent.stop();
}

#[test]
fn archived_files_that_go_all_at_once_are_told() {
    if is_missing() {
        return;
    }
    let (mut scene, mut journald) = scene();
    journald.run("journalctl --rotate --vacuum-time=1us 2>/dev/null");
    // What was written last was rotated and removed before anybody could look.
    let change = scene.alert();
    assert_eq!((change.path, change.kind), (path(&files(&scene).0), ChangeKind::Rewritten));
    let is_removed = |c: &Change| c.kind == ChangeKind::Removed && c.path.to_string().contains("system@");
    let deadline = Instant::now() + PATIENCE;
    while scene.changes.iter().filter(|change| is_removed(change)).count() < 3 {
        scene.take();
        assert!(Instant::now() < deadline, "{:#?}", scene.told());
        std::thread::yield_now();
    }
    scene.agent.stop();
}

#[test]
fn an_entry_that_is_hidden_from_readers_is_found_by_a_scan() {
    if is_missing() {
        return;
    }
    let (mut scene, _journald) = scene_with(Duration::from_secs(1));
    let (_, old) = files(&scene);
    // The list of all entries leads past the fifth: its place holds the number of the fourth. No entry is touched.
    let bytes = fs::read(&old[1]).unwrap();
    let number = |at: u64| u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let is_compact = bytes[12] & 16 != 0;
    let array = number(176);
    let next = number(array + 16);
    let item = next + 24;
    let (bytes_each, other) = if is_compact { (4, item + 4) } else { (8, item + 8) };
    let hidden = bytes[other as usize..][..bytes_each].to_vec();
    overwrite(&old[1], item, &hidden);
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&old[1]), ChangeKind::Modified));
    assert!(change.notes[0].contains("does not verify: an entry that the list"), "{change:?}");
    scene.agent.stop();
}

/// Archived files whose entries were written and sealed in several intervals, the verification key, and who wrote them.
fn sealed() -> (Host, Journald, String, Vec<PathBuf>) {
    let mut host = Host::new();
    host.interval = Duration::from_secs(1);
    host.watches = vec![(path(&host.watched), Some(Mode::Journal))];
    let mut journald = Journald::start(&host.watched);
    for _ in 0..3 {
        // journald's own interval is a second here.
        journald.run("say 1 300; sleep 1.2; say 1 300; sleep 2.3; say 1 9; journalctl --rotate");
    }
    let key = fs::read_to_string(host.watched.with_extension("key")).unwrap();
    let dir = fs::read_dir(&host.watched).unwrap().next().unwrap().unwrap().path();
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut archived: Vec<_> = names.filter(|path| path.to_string_lossy().contains("system@")).collect();
    archived.sort();
    (host, journald, key.trim().to_owned(), archived)
}

/// The time of the entry that has a text: no hash is over it, and no reader can know that it was another one.
fn time_of(file: &Path, text: &str) -> u64 {
    let bytes = fs::read(file).unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let payload = place(file, text) as usize;
    let data = payload - if bytes[12] & 16 != 0 { 72 } else { 64 };
    // The entry that has the field first.
    number(data + 40) + 24
}

#[test]
fn seals_of_journald_are_verified_by_its_key_as_journalctl_does() {
    if is_missing() {
        return;
    }
    let (_host, mut journald, key, archived) = sealed();
    let mut verify = |file: &Path| {
        let ours = |key: Option<&str>| {
            let key = key.map(|key| VerifyKey::parse(key).unwrap());
            let key = key.as_ref().map(|key| (key, tally_syscheck::journal::KeyMaker::new(key)));
            let file = fs::File::open(file).unwrap();
            let verified = tally_syscheck::journal::verify_with(file, &mut crate::log::journal::unpacked, key).unwrap();
            assert!(verified.is_sealed);
            verified.faults.iter().map(|fault| fault.what).collect::<Vec<_>>()
        };
        let theirs = journald.run(&format!(
            "journalctl --verify --verify-key={key} --file={} >/dev/null 2>&1 && echo ok || echo bad",
            file.display()
        ));
        (ours(None), ours(Some(&key)), theirs.trim().to_owned())
    };
    for file in &archived {
        assert_eq!(verify(file), (vec![], vec![], "ok".to_owned()));
    }
    let at = time_of(&archived[1], "MESSAGE=a line of a daemon that writes much, number 200");
    let byte = fs::read(&archived[1]).unwrap()[at as usize];
    overwrite(&archived[1], at, &[byte ^ 1]);
    assert_eq!(verify(&archived[1]), (vec![], vec![What::SealForged], "bad".to_owned()));
    overwrite(&archived[1], at, &[byte]);
    // By the key of another host no seal is true.
    let (first, rest) = key.split_at(1);
    let other = format!("{}{rest}", if first == "0" { "1" } else { "0" });
    let key = VerifyKey::parse(&other).unwrap();
    let maker = tally_syscheck::journal::KeyMaker::new(&key);
    let file = fs::File::open(&archived[1]).unwrap();
    let by_other =
        tally_syscheck::journal::verify_with(file, &mut crate::log::journal::unpacked, Some((&key, maker))).unwrap();
    assert_eq!(by_other.faults.iter().map(|fault| fault.what).collect::<Vec<_>>(), [What::SealForged]);
}

#[test]
fn a_sealed_journal_that_was_altered_before_the_agent_came_is_told() {
    if is_missing() {
        return;
    }
    let (mut host, _journald, key, archived) = sealed();
    let at = time_of(&archived[0], "MESSAGE=a line of a daemon that writes much, number 200");
    let byte = fs::read(&archived[0]).unwrap()[at as usize];
    overwrite(&archived[0], at, &[byte ^ 1]);
    host.journal_key = Some(key);
    let mut scene = Scene::of(host);
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&archived[0]), ChangeKind::Modified));
    assert!(change.notes[0].contains("a seal that is not of what it seals"), "{change:?}");
    settle(&mut scene);
    assert_eq!(scene.told().len(), 1, "{:?}", scene.told());
    scene.agent.stop();
}
