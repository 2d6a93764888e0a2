//! A program under test: its output as lines, its end, and that of everything it started.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{LOOK_EVERY, PATIENCE, wait_for};

/// Lines of output shown when a test fails.
const SHOWN: usize = 60;

pub struct Program {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// Lines of the output up to here were taken.
    taken: usize,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// 128 and the signal if one ended it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn run(command: Command) -> Ran {
    let mut program = Program::start("command", command);
    let status = program.wait();
    program.join_readers();
    let join = |lines: &Mutex<Vec<String>>| lines.lock().unwrap().iter().map(|l| format!("{l}\n")).collect();
    Ran { code: code(status), out: join(&program.out), err: join(&program.err) }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap()
}

impl Program {
    /// Starts it in a process group of its own.
    pub fn start(name: &str, mut command: Command) -> Self {
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![gather(child.stdout.take().unwrap(), &out), gather(child.stderr.take().unwrap(), &err)];
        Self { name: name.to_owned(), child, status: None, out, err, readers, taken: 0 }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status.is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < deadline, "{} (pid {}) does not end", self.name, self.pid());
            std::thread::park_timeout(LOOK_EVERY / 4);
        }
        self.status.unwrap()
    }

    /// Asks it to stop as Ctrl-C does (the whole group hears it), and returns its exit code.
    pub fn interrupt(&mut self) -> i32 {
        signal("INT", -i64::from(self.pid()));
        code(self.wait())
    }

    /// Asks it alone to stop.
    pub fn terminate(&mut self) -> i32 {
        signal("TERM", i64::from(self.pid()));
        code(self.wait())
    }

    /// Kills it alone with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Sends a signal to it and everything it started.
    pub fn signal_all(&self, name: &str) {
        signal(name, -i64::from(self.pid()));
    }

    /// The processes it started, and those started by them, that are still there.
    pub fn descendants(&self) -> BTreeSet<u32> {
        descendants(self.pid())
    }

    pub fn out_lines(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    pub fn err_text(&self) -> String {
        self.err.lock().unwrap().join("\n")
    }

    /// The next line of the output that is an object for which `wanted` holds; lines before it are passed over.
    pub fn next_object(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (out, pid) = (Arc::clone(&self.out), self.pid());
        let taken = &mut self.taken;
        wait_for(what, || {
            let ended = !is_alive(pid);
            let lines = out.lock().unwrap();
            while let Some(line) = lines.get(*taken) {
                *taken += 1;
                let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
                if wanted(&object) {
                    return Some(object);
                }
            }
            assert!(!ended, "the program ended without {what}");
            None
        })
    }

    /// An object anywhere in the output for which `wanted` holds, now or later.
    pub fn object(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let ended = self.has_ended();
            let found = self.objects().into_iter().find(|object| wanted(object));
            assert!(found.is_some() || !ended, "the program ended without {what}");
            found
        })
    }

    /// Everything it has printed so far.
    pub fn objects(&self) -> Vec<Value> {
        let lines = self.out.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }

    /// A line of standard error with `part` in it.
    pub fn err_line(&self, part: &str) -> String {
        wait_for(part, || {
            let ended = self.has_ended();
            let found = self.err.lock().unwrap().iter().find(|line| line.contains(part)).cloned();
            assert!(found.is_some() || !ended, "the program ended without saying {part:?}");
            found
        })
    }

    /// Whether it has ended, and all that it printed was read.
    fn has_ended(&self) -> bool {
        !is_alive(self.pid()) && self.readers.iter().all(JoinHandle::is_finished)
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Also those that outlived the leader. A group that is gone already is none to complain about.
        signal("KILL", -i64::from(self.pid()));
        if self.status.is_none() {
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            show(&self.name, "stdout", &self.out);
            show(&self.name, "stderr", &self.err);
        }
    }
}

fn show(name: &str, stream: &str, lines: &Mutex<Vec<String>>) {
    let Ok(lines) = lines.lock() else { return };
    eprintln!("--- {name}: the end of its {stream} ({} lines)", lines.len());
    lines.iter().skip(lines.len().saturating_sub(SHOWN)).for_each(|line| eprintln!("{line}"));
}

/// Reads lines until the stream ends; what is not UTF-8 is replaced.
fn gather(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            lines.lock().unwrap().push(text);
            line.clear();
        }
    })
}

/// Sends a signal to a process, or to a group if the number is negative.
pub fn signal(name: &str, pid: i64) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).arg("--").arg(pid.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    kill.status().unwrap();
}

/// A running process and its parent, from /proc.
fn processes() -> Vec<(u32, u32)> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let is_dead = fields.next() == Some("Z");
        let parent = fields.next()?.parse().ok()?;
        (!is_dead).then_some((pid, parent))
    };
    pids.filter_map(parent).collect()
}

pub fn descendants(pid: u32) -> BTreeSet<u32> {
    let processes = processes();
    let mut found = BTreeSet::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        for (child, _) in processes.iter().filter(|(_, p)| *p == parent) {
            if found.insert(*child) {
                next.push(*child);
            }
        }
    }
    found
}

/// Whether a process is there and not only waits to be buried.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits until a process is gone.
pub fn wait_gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::park_timeout(LOOK_EVERY / 4);
    }
}
