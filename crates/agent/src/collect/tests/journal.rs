//! The journal that the real systemd-journald writes, read by a collector that is ended and begun anew.

use super::*;
use crate::engine::tests::journals::{DAEMON, Journald};

/// journald's daemon in a mount namespace, whose journal is the host's directory.
fn host(collect: &str) -> Option<(Host, Journald)> {
    if !Path::new(DAEMON).exists() {
        eprintln!("skipped: systemd-journald is not installed");
        return None;
    }
    let host = Host::new(collect);
    let journald = Journald::start(host.dir.path());
    Some((host, journald))
}

const DAEMONS: &str = "[[collect]]\njournal = \"daemon\"\ndirectory = \"DIR\"\n";

impl Host {
    /// The numbers of the lines of `say` that were collected.
    fn numbers(&self) -> Vec<usize> {
        let number = |line: &String| Some(line.rsplit_once("number ")?.1.parse().unwrap());
        self.lines.iter().filter_map(number).collect()
    }

    fn losses(&self) -> Vec<&String> {
        self.lines.iter().filter(|line| line.starts_with(OWN_WORDS)).collect()
    }
}

#[test]
fn entries_are_lines_of_syslog_and_none_is_told_twice() {
    let Some((mut host, mut journald)) = host(DAEMONS) else { return };
    journald.run("say 1 50");
    host.start();
    assert_eq!(host.collect(), [""; 0], "what was there before");
    journald.run("say 51 51; logger -u /run/systemd/journal/dev-log -t other no; journalctl --sync");
    let line = host.collect().pop().unwrap();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (stamp, rest) = line.split_at(16);
    let is_stamp = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        .iter()
        .any(|month| stamp.starts_with(month));
    assert!(is_stamp && stamp.as_bytes()[9] == b':' && stamp.ends_with(' '), "{line}");
    let (begin, end) = (format!("{} daemon[", hostname.trim()), "]: a line of a daemon that writes much, number 51");
    assert!(rest.starts_with(&begin) && rest.ends_with(end), "{line}");
    // The agent ends and begins; files are archived meanwhile, and the oldest removed.
    for round in 0..4 {
        let from = 52 + round * 300;
        journald.run(&format!("say {from} {}; journalctl --rotate; say {} {}", from + 99, from + 100, from + 199));
        if round % 2 == 0 {
            host.collect();
        }
        journald.run("journalctl --vacuum-files=5 2>/dev/null");
        host.restart();
        journald.run(&format!("say {} {}", from + 200, from + 299));
        host.collect();
    }
    assert_eq!(host.numbers(), (51..52 + 1200).collect::<Vec<_>>());
    assert_eq!(host.losses(), [""; 0]);
}

#[test]
fn files_that_were_removed_unread_are_told_with_their_number() {
    let Some((mut host, mut journald)) = host(DAEMONS) else { return };
    journald.run("say 1 100");
    host.start();
    host.collect();
    journald.run("say 101 200");
    host.collect();
    journald.run("say 201 300; journalctl --rotate; say 301 400; journalctl --rotate; say 401 402");
    journald.run("rm /var/log/journal/*/system@*");
    host.restart();
    host.collect();
    let mut wanted: Vec<_> = (101..=200).collect();
    wanted.extend([401, 402]);
    assert_eq!(host.numbers(), wanted);
    let [loss] = host.losses()[..] else { panic!("{:?}", host.losses()) };
    let count: u64 = loss.split_once("up to ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
    // journald's own messages are entries too.
    assert!((200..260).contains(&count), "{loss}");
    host.restart();
    assert_eq!(host.collect(), [""; 0], "it is told once");
}

#[test]
fn what_is_removed_while_it_is_read_is_still_read() {
    let Some((mut host, mut journald)) = host(DAEMONS) else { return };
    journald.run("say 1 10");
    host.start();
    host.collect();
    journald.run("say 11 4000");
    let work = host.work.as_mut().unwrap();
    let Round { lines, is_more, .. } = work.round();
    assert!(is_more && lines.len() < 3990);
    host.lines.extend(lines.into_iter().map(|(_, line)| String::from_utf8_lossy(&line.text).into_owned()));
    journald.run("journalctl --rotate; rm /var/log/journal/*/system@*; say 4001 4010");
    host.collect();
    assert_eq!(host.numbers(), (11..=4010).collect::<Vec<_>>());
    assert_eq!(host.losses(), [""; 0]);
}

#[test]
fn a_daemon_that_is_killed_leaves_nothing_out() {
    let Some((mut host, mut journald)) = host(DAEMONS) else { return };
    host.start();
    host.collect();
    journald.run("say 1 100; kill -9 $daemon; wait $daemon || true");
    drop(journald);
    let mut journald = Journald::start(host.dir.path());
    journald.run("say 101 200");
    host.collect();
    host.restart();
    journald.run("say 201 210");
    host.collect();
    assert_eq!(host.numbers(), (1..=210).collect::<Vec<_>>());
    assert_eq!(host.losses(), [""; 0]);
}

#[test]
fn long_messages_are_unpacked_and_told_in_pieces() {
    for packing in ["ZSTD", "LZ4", "XZ"] {
        let Some((mut host, mut journald)) = host(DAEMONS) else { return };
        journald.run(&format!(
            "kill $daemon; wait $daemon || true; SYSTEMD_JOURNAL_COMPRESS={packing} {DAEMON} >/dev/null 2>&1 & daemon=$!; \
             until journalctl --sync 2>/dev/null; do kill -0 $daemon; done"
        ));
        host.start();
        host.collect();
        let long = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                    s.connect('/run/systemd/journal/socket'); \
                    [s.send(b'SYSLOG_IDENTIFIER=daemon\\nMESSAGE=' + b'0123456789' * n + b'\\n') for n in (200, 10000)]";
        journald.run(&format!("python3 -c \"{long}\"; journalctl --sync"));
        let lines = host.collect();
        let [short, pieces @ ..] = &lines[..] else { panic!("{packing}: {} lines", lines.len()) };
        assert!(short.ends_with(&format!("]: {}", "0123456789".repeat(200))), "{packing}: {short}");
        assert!(pieces.iter().all(|piece| piece.len() <= LogLine::TEXT_BYTES_MAX));
        assert!(pieces.concat().ends_with(&format!("]: {}", "0123456789".repeat(10_000))), "{packing}");
    }
}

#[test]
fn filters_choose_and_users_journals_are_read_unless_left_out() {
    let Some((mut all, mut journald)) = host("[[collect]]\njournal = [\"daemon\", \"user\"]\ndirectory = \"DIR\"\n")
    else {
        return;
    };
    let with = |words: &str| {
        let config = format!("[[collect]]\njournal = \"*\"\ndirectory = \"DIR\"\n{words}");
        let config = config.replace("DIR", all.dir.path().to_str().unwrap());
        Host { dir: tempfile::tempdir().unwrap(), config, marks: BTreeMap::new(), lines: Vec::new(), work: None }
    };
    let mut others = [with("users = false\npriority = \"warning\"\nalias = \"jour\"\n"), with("unit = \"none\"\n")];
    all.start();
    all.collect();
    for other in &mut others {
        other.start();
        other.collect();
    }
    journald.run(
        "say 1 3; setpriv --reuid 1234 --clear-groups logger -u /run/systemd/journal/dev-log -p user.crit -t user number 4; \
         logger -u /run/systemd/journal/dev-log -p auth.warning -t daemon number 5; journalctl --sync",
    );
    let made = fs::read_dir(fs::read_dir(all.dir.path()).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert!(made.flatten().any(|entry| entry.file_name() == "user-1234.journal"), "journald splits by users");
    // A new file is found when the directory is listed.
    all.collect_until(5);
    assert_eq!(all.numbers(), [1, 2, 3, 4, 5]);
    let [warnings, none] = &mut others;
    warnings.collect();
    none.collect();
    assert_eq!((warnings.numbers(), none.lines.len()), (vec![5], 0), "{:?}", warnings.lines);
}

/// journald writes to /run until it is told to go on in /var, and then copies what is there.
#[test]
fn what_is_copied_from_run_to_var_is_told_once() {
    let Some((host, mut journald)) = host("") else { return };
    let machine = fs::read_to_string("/etc/machine-id").unwrap().trim().to_owned();
    journald.run("kill $daemon; wait $daemon || true; rm /run/systemd/journal/flushed");
    journald.run(&format!(
        "{DAEMON} >/dev/null 2>&1 & daemon=$!; until journalctl --sync 2>/dev/null; do kill -0 $daemon; done"
    ));
    let run = journald.run("readlink -f /proc/$daemon/root; echo $daemon");
    let run = PathBuf::from(format!("/proc/{}/root/run/log/journal", run.lines().last().unwrap())).join(&machine);
    let group = Group::of(&tally_syscheck::collect::JournalSource::default());
    let directories = vec![(host.dir.path().join(&machine), false), (run, true)];
    let mut journals = Journals::new(group, &BTreeMap::new(), tally_sys::clock::boot_id().unwrap());
    journals.lie_in(directories.clone());
    let mut marks = BTreeMap::new();
    let mut told = Vec::new();
    let mut look = |journals: &mut Journals, marks: &mut BTreeMap<String, Mark>| {
        let mut each = |entry: &tally_syscheck::journal::Entry| {
            let line = journal_line(entry, &LocalTime::default()).unwrap_or_default();
            let number = String::from_utf8_lossy(&line).rsplit_once("number ").and_then(|(_, n)| n.parse::<u32>().ok());
            told.extend(number);
            line.len()
        };
        while journals.look(1000, &mut each).unwrap() {}
        let mut out = Vec::new();
        journals.marks(true, &mut out);
        marks.insert(journals.known().to_owned(), Mark::Known);
        for (name, mark) in out {
            match mark {
                Some(mark) => marks.insert(name, mark),
                None => marks.remove(&name),
            };
        }
        assert_eq!(journals.losses, [""; 0]);
        told.clone()
    };
    assert_eq!(look(&mut journals, &mut marks), [0; 0]);
    journald.run("say 1 20");
    assert_eq!(look(&mut journals, &mut marks), (1..=20).collect::<Vec<_>>());
    journald.run("say 21 30; journalctl --flush; say 31 40");
    let mut again = Journals::new(journals.group.clone(), &marks, tally_sys::clock::boot_id().unwrap());
    again.lie_in(directories);
    // One that saw it all, and one that was begun anew and finds /run empty.
    assert_eq!(look(&mut again, &mut marks.clone()), (1..=40).collect::<Vec<_>>());
    let both = look(&mut journals, &mut marks);
    assert_eq!(both[40..], (21..=40).collect::<Vec<_>>());
}
