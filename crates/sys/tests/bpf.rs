//! The process records of the real kernel.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tally_sys::bpf::{Record, StartError, Tracer};
use tally_sys::clock::boottime_ns;

fn tracer() -> Option<Tracer> {
    match Tracer::start() {
        Ok(tracer) => Some(tracer),
        Err(StartError::Refused { step, detail }) => panic!("{step}: {detail}"),
        Err(error) => {
            eprintln!("skipped: no BPF here: {error}");
            None
        }
    }
}

#[derive(Debug)]
struct Exec {
    pid: u32,
    start_ns: u64,
    exe: Option<Vec<u8>>,
    arguments: Vec<u8>,
}

#[derive(Debug, Default)]
struct Seen {
    forks: Vec<(u32, u32, u64)>,
    execs: Vec<Exec>,
    exits: Vec<(u32, u64)>,
}

impl Seen {
    fn by(tracer: &mut Tracer) -> Self {
        let mut seen = Self::default();
        tracer.drain(|record| match record.unwrap() {
            Record::Fork(fork) => seen.forks.push((fork.by, fork.pid, fork.start_ns)),
            Record::Exec(exec) => {
                assert_eq!(exec.cgroup.to_bytes().unwrap()[0], b'/');
                let (exe, arguments) = (exec.exe.to_bytes(), exec.arguments.to_vec());
                seen.execs.push(Exec { pid: exec.pid, start_ns: exec.start_ns, exe, arguments });
            }
            Record::Exit(exit) => seen.exits.push((exit.pid, exit.start_ns)),
        });
        assert_eq!(tracer.lost(), 0);
        seen
    }

    /// The program that the process was last.
    fn exec(&self, pid: u32) -> &Exec {
        self.execs.iter().rev().find(|exec| exec.pid == pid).unwrap()
    }

    fn exe(&self, pid: u32) -> String {
        String::from_utf8(self.exec(pid).exe.clone().unwrap()).unwrap()
    }
}

#[test]
fn a_process_is_told_from_fork_to_exit() {
    let Some(mut tracer) = tracer() else { return };
    let before = boottime_ns();
    let mut child = Command::new("/bin/sh").args(["-c", "exit 3", "two  words"]).spawn().unwrap();
    child.wait().unwrap();
    let seen = Seen::by(&mut tracer);
    let pid = child.id();
    let &(by, _, start_ns) = seen.forks.iter().find(|fork| fork.1 == pid).unwrap();
    assert_eq!(by, std::process::id());
    assert!(before <= start_ns && start_ns <= boottime_ns());
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(Path::new(&seen.exe(pid)), shell);
    let exec = seen.exec(pid);
    assert_eq!((exec.start_ns, &*exec.arguments), (start_ns, &b"/bin/sh\0-c\0exit 3\0two  words\0"[..]));
    assert!(seen.exits.contains(&(pid, start_ns)));
}

#[test]
fn threads_are_not_processes() {
    let Some(mut tracer) = tracer() else { return };
    std::thread::spawn(|| ()).join().unwrap();
    let seen = Seen::by(&mut tracer);
    let own = std::process::id();
    assert!(seen.forks.iter().all(|fork| fork.0 != own || fork.1 != own), "{seen:?}");
    assert!(seen.exits.iter().all(|exit| exit.0 != own), "{seen:?}");
}

#[test]
fn a_long_command_line_is_cut() {
    let Some(mut tracer) = tracer() else { return };
    let mut child = Command::new("/bin/true").arg("x".repeat(100_000)).spawn().unwrap();
    child.wait().unwrap();
    let seen = Seen::by(&mut tracer);
    let exec = seen.exec(child.id());
    assert_eq!((exec.arguments.len(), &exec.arguments[..11]), (1024, &b"/bin/true\0x"[..]));
}

#[test]
fn the_path_of_a_program_leads_across_mounts() {
    let Some(mut tracer) = tracer() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = fs::canonicalize(dir.path()).unwrap();
    let (outer, inner) = (dir.join("outer"), dir.join("outer/a/inner"));
    // In a mount namespace of its own, so that nothing stays behind.
    let script = format!(
        "set -e; mkdir -p {o}; mount -t tmpfs t {o}; mkdir -p {i}; mount -t tmpfs t {i}; mkdir {i}/b; \
         cp /bin/true {i}/b/program; exec {i}/b/program",
        o = outer.display(),
        i = inner.display()
    );
    let mut child = Command::new("unshare").args(["-m", "sh", "-c", &script]).spawn().unwrap();
    if !child.wait().unwrap().success() {
        eprintln!("skipped: mounting is not permitted here");
        return;
    }
    let seen = Seen::by(&mut tracer);
    assert_eq!(seen.exe(child.id()), inner.join("b/program").to_str().unwrap());
}

#[test]
fn a_path_too_long_for_the_record_is_told_as_such() {
    let Some(mut tracer) = tracer() else { return };
    let dir = tempfile::tempdir().unwrap();
    let deep = (0..12).fold(dir.path().to_owned(), |dir, n| dir.join(format!("{n}{}", "d".repeat(200))));
    fs::create_dir_all(&deep).unwrap();
    fs::copy("/bin/true", deep.join("program")).unwrap();
    fs::set_permissions(deep.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(deep.join("program")).spawn().unwrap();
    child.wait().unwrap();
    let seen = Seen::by(&mut tracer);
    let exec = seen.exec(child.id());
    assert_eq!(exec.exe, None);
    assert!(exec.arguments.starts_with(dir.path().as_os_str().as_encoded_bytes()));
}
