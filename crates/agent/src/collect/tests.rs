//! Logs on a real disk, rotated by the real logrotate, read by a collector that is ended and begun anew.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command as Program, Stdio};

use tally_syscheck::{Config, Limits};
use tempfile::TempDir;

use super::*;
use crate::engine::tests::disk::Disk;

/// A host with a directory of logs, and what its collector handed over.
struct Host {
    dir: TempDir,
    config: String,
    marks: BTreeMap<String, Mark>,
    lines: Vec<String>,
    work: Option<Work>,
}

impl Host {
    fn new(collect: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), collect)
    }

    fn on(dir: TempDir, collect: &str) -> Self {
        let config = collect.replace("DIR", dir.path().to_str().unwrap());
        Self { dir, config, marks: BTreeMap::new(), lines: Vec::new(), work: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.at(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn start(&mut self) {
        let (config, faults) = Config::parse(&self.config, "agent.toml");
        assert_eq!(faults, []);
        let intake = Arc::new(Intake::new(Limits::default(), None));
        self.work = Some(Work::new(config.collect, self.marks.clone().into_iter().collect(), intake));
    }

    /// Nothing is held open any more.
    fn stop(&mut self) {
        self.work = None;
    }

    /// As after a kill: what was not handed over is forgotten.
    fn restart(&mut self) {
        self.start();
    }

    /// Collects until nothing is new, as the thread does; what is handed over is stored.
    fn collect(&mut self) -> Vec<String> {
        let before = self.lines.len();
        let mut quiet = 0;
        while quiet < 3 {
            let work = self.work.as_mut().unwrap();
            work.expanded = None;
            let Round { lines, marks, is_more } = work.round();
            quiet = if is_more || !lines.is_empty() { 0 } else { quiet + 1 };
            self.lines.extend(lines.into_iter().map(|(_, line)| String::from_utf8_lossy(&line.text).into_owned()));
            for (name, mark) in marks {
                let work = self.work.as_mut().unwrap();
                match mark {
                    Some(mark) => {
                        self.marks.insert(name.clone(), mark.clone());
                        work.marks.insert(name, mark);
                    }
                    None => {
                        self.marks.remove(&name);
                        work.marks.remove(&name);
                    }
                }
            }
        }
        self.lines[before..].to_vec()
    }

    /// Collects as often as it takes until there are so many lines.
    fn collect_until(&mut self, count: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.lines.len() < count && Instant::now() < end {
            self.collect();
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Runs logrotate with this configuration of `app.log`; `false` where it is not installed.
    fn logrotate(&self, options: &str) -> bool {
        let config = self.at("logrotate.conf");
        fs::write(&config, format!("{} {{\n{options}\n}}\n", self.at("app.log").display())).unwrap();
        fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let mut command = Program::new("logrotate");
        command.arg("--force").arg("--state").arg(self.at("logrotate.state")).arg(&config);
        match command.stderr(Stdio::inherit()).status() {
            Ok(status) => {
                assert!(status.success());
                true
            }
            Err(_) => {
                eprintln!("skipped: logrotate is not installed");
                false
            }
        }
    }
}

const APP: &str = "[[collect]]\npath = \"DIR/app.log\"\nfrom = \"start\"\n";

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("line {n}\n")).collect()
}

fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

#[test]
fn what_is_there_at_first_is_passed_over_and_what_comes_is_collected() {
    let mut host = Host::new("[[collect]]\npath = \"DIR/*.log\"\n");
    host.append("app.log", "old\n");
    host.start();
    assert_eq!(host.collect(), [""; 0]);
    host.append("app.log", "new\nwithout an end");
    host.append("other.log", "from its start\n");
    assert_eq!(host.collect(), ["new", "from its start"]);
    host.append("app.log", " yet\n");
    assert_eq!(host.collect(), ["without an end yet"]);
}

#[test]
fn after_a_kill_nothing_is_missing_and_nothing_is_told_twice() {
    let mut host = Host::new(APP);
    host.append("app.log", &numbered(0..10));
    host.start();
    host.collect();
    host.append("app.log", &numbered(10..20));
    host.restart();
    host.append("app.log", "line 20");
    host.collect();
    host.restart();
    host.append("app.log", "\n");
    host.collect();
    assert_eq!(host.lines, expected(0..21));
}

#[test]
fn a_file_that_appears_while_the_agent_is_down_is_read_from_its_start() {
    let mut host = Host::new("[[collect]]\npath = \"DIR/app-*.log\"\n");
    host.append("app-1.log", "old\n");
    host.start();
    host.collect();
    host.append("app-2.log", "new\n");
    host.restart();
    assert_eq!(host.collect(), ["new"]);
}

/// Every mode of logrotate, with the agent running and with it stopped meanwhile.
#[test]
fn rotations_lose_no_line_and_repeat_none() {
    let modes = [
        "rotate 9\ncreate",
        "rotate 9\ncopytruncate",
        "rotate 9\ndateext\ncreate",
        "rotate 9\ncompress\ncreate",
        "rotate 9\ncompress\ncompresscmd /usr/bin/xz\ncompressext .xz\ncreate",
        "rotate 9\ncompress\ncompresscmd /usr/bin/zstd\ncompressoptions -q --rm\ncompressext .zst\ncreate",
        "rotate 9\ncompress\ndelaycompress\ncreate",
        "rotate 9\ncompress\ncopytruncate",
    ];
    for mode in modes {
        for is_down in [false, true] {
            let mut host = Host::new(APP);
            host.append("app.log", &numbered(0..100));
            host.start();
            host.collect_until(100);
            let mut next = 100;
            // Two of one day would have one name.
            let rounds = if mode.contains("dateext") { 1 } else { 3 };
            for _ in 0..rounds {
                host.append("app.log", &numbered(next..next + 50));
                if !is_down {
                    host.collect_until(next + 50);
                }
                if !host.logrotate(mode) {
                    return;
                }
                host.append("app.log", &numbered(next + 50..next + 100));
                next += 100;
                if !is_down {
                    host.collect_until(next);
                }
            }
            host.restart();
            host.collect_until(next);
            host.collect();
            assert_eq!(host.lines, expected(0..next), "{mode}, down: {is_down}");
        }
    }
}

#[test]
fn who_goes_on_writing_to_the_renamed_file_is_heard() {
    let mut host = Host::new(APP);
    host.append("app.log", "one\n");
    host.start();
    host.collect();
    let mut daemon = fs::OpenOptions::new().append(true).open(host.at("app.log")).unwrap();
    fs::rename(host.at("app.log"), host.at("app.log.1")).unwrap();
    host.append("app.log", "new file\n");
    daemon.write_all(b"two\n").unwrap();
    host.collect_until(3);
    daemon.write_all(b"three\n").unwrap();
    host.collect_until(4);
    host.restart();
    host.collect();
    daemon.write_all(b"four\n").unwrap();
    host.append("app.log", "more\n");
    host.collect_until(6);
    let mut lines = host.lines.clone();
    lines.sort();
    assert_eq!(lines, ["four", "more", "new file", "one", "three", "two"]);
}

#[test]
fn a_message_of_several_lines_is_whole_over_a_restart() {
    let mut host =
        Host::new("[[collect]]\npath = \"DIR/app.log\"\nfrom = \"start\"\nformat = \"multi-line\"\nlines = 3\n");
    host.append("app.log", "a\nb\nc\nd\n");
    host.start();
    let work = host.work.as_mut().unwrap();
    let Round { lines, marks, .. } = work.round();
    assert_eq!(lines.len(), 1);
    host.marks.extend(marks.into_iter().filter_map(|(name, mark)| Some((name, mark?))));
    host.append("app.log", "e\nf\n");
    host.restart();
    assert_eq!(host.collect(), ["d e f"]);
}

#[test]
fn a_link_in_place_of_a_log_is_not_followed() {
    let mut host = Host::new(APP);
    host.append("secret", "secret\n");
    std::os::unix::fs::symlink(host.at("secret"), host.at("app.log")).unwrap();
    host.start();
    let lines = host.collect();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.starts_with(OWN_WORDS) && line.contains("app.log: it cannot be opened: "), "{line}");
}

/// What is told instead of the lines that are missing.
#[test]
fn a_place_that_is_not_found_again_is_told_once() {
    for is_down in [false, true] {
        let mut host = Host::new(APP);
        host.append("app.log", &numbered(0..10));
        host.start();
        host.collect();
        if is_down {
            fs::remove_file(host.at("app.log")).unwrap();
        }
        fs::write(host.at("app.log"), "another\n").unwrap();
        if is_down {
            host.restart();
        }
        let lines = host.collect();
        assert_eq!(lines.iter().filter(|line| *line == "another").count(), 1, "{lines:?}");
        let told: Vec<_> = lines.iter().filter(|line| line.starts_with(OWN_WORDS)).collect();
        assert_eq!(told.len(), 1, "{lines:?}");
        assert!(told[0].contains("app.log does not find where it ended: behind the "), "{told:?}");
        host.restart();
        assert_eq!(host.collect(), [""; 0]);
    }
}

#[test]
fn a_file_that_got_the_number_of_another_is_read_from_its_start() {
    // One with a journal gives a number that is free to the next file.
    let Some(disk) = Disk::new("ext4") else { return };
    let dir = tempfile::tempdir_in(disk.point()).unwrap();
    let mut host = Host::on(dir, "[[collect]]\npath = \"DIR/*.log\"\nfrom = \"start\"\n");
    let ino = |host: &Host, name: &str| host.at(name).metadata().unwrap().ino();
    host.append("a.log", &numbered(0..10));
    host.start();
    host.collect();
    host.stop();
    let before = ino(&host, "a.log");
    host.append("a.log", &numbered(10..12));
    fs::copy(host.at("a.log"), host.at("a.log.1")).unwrap();
    fs::remove_file(host.at("a.log")).unwrap();
    host.append("a.log", &format!("a line that is no continuation, {}\n", "x".repeat(200)));
    assert_eq!(ino(&host, "a.log"), before);
    host.start();
    host.collect_until(13);
    let lines: Vec<_> =
        host.lines.iter().map(|line| line.split_once(", ").map_or(&line[..], |(text, _)| text)).collect();
    assert_eq!(lines[..12], expected(0..12));
    assert_eq!(lines[12..], ["a line that is no continuation"]);
}

#[test]
fn of_logs_that_begin_alike_the_file_itself_is_gone_on_with() {
    let mut host = Host::new(APP);
    let header = "# a header that each file of this program begins with\n".repeat(40);
    host.append("app.log", &header);
    host.start();
    host.collect();
    host.append("app.log", "the last line of the old file\n");
    fs::rename(host.at("app.log"), host.at("app.log.1")).unwrap();
    host.append("app.log", &format!("{header}the first of the new one\n"));
    host.restart();
    host.collect_until(2 * 40 + 2);
    let tail: Vec<_> = host.lines.iter().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(tail, ["the last line of the old file", "the first of the new one"]);
    assert_eq!(host.lines.len(), 2 * 40 + 2);
}

#[test]
fn a_rotated_file_that_cannot_be_unpacked_does_not_keep_the_log_from_being_read() {
    let mut host = Host::new(APP);
    host.append("app.log", &numbered(0..10));
    host.start();
    host.collect();
    host.append("app.log", &(0..20_000).map(|n| format!("line {n} {}\n", n * 7919)).collect::<String>());
    if !host.logrotate("rotate 9\ncompress\ncreate") {
        return;
    }
    host.append("app.log", "new\n");
    let packed = fs::read(host.at("app.log.1.gz")).unwrap();
    fs::write(host.at("app.log.1.gz"), &packed[..packed.len() / 2]).unwrap();
    host.restart();
    let lines = host.collect();
    assert_eq!(lines.iter().filter(|line| *line == "new").count(), 1);
    let told: Vec<_> = lines.iter().filter(|line| line.starts_with(OWN_WORDS)).collect();
    assert!(told.len() == 1 && told[0].contains("cannot read a rotated file beyond its first "), "{told:?}");
    assert!(lines.len() > 1000, "what can be unpacked is collected");
}

#[test]
fn a_commands_output_is_collected() {
    let mut host =
        Host::new("[[collect]]\ncommand = \"printf 'a\\\\nb\\\\n'\"\nformat = \"full-command\"\nalias = \"ab\"\n");
    host.start();
    host.collect_until(1);
    assert_eq!(host.lines, ["ossec: output: 'ab':\na\nb"]);
}

#[test]
fn the_names_of_today_are_followed() {
    let mut host = Host::new("[[collect]]\npath = \"DIR/app-%Y.log\"\nfrom = \"start\"\n");
    let name = dated("app-%Y.log", &local_now());
    host.append(&name, "x\n");
    host.start();
    assert_eq!(host.collect(), ["x"]);
    assert!(Path::new(&host.at(&name)).exists());
}

mod journal;
