//! Who made a change, against the real kernel: short lives in storms, workers that never exec, numbers given out again,
//! processes older than the agent; each source of it by itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tally_types::{Actor, Change, Confidence, EventBody, RemoteFrom};

use super::{Host, Running, fanotify_is_missing, path};
use crate::sensor::audit::tests as audit;
use crate::sensor::who::Tier;

/// A host whose source of processes is this one; `None` if it is not to be had here.
fn start(tier: Tier) -> Option<(Host, Running)> {
    if fanotify_is_missing() {
        return None;
    }
    let host = Host { who: Some(tier), ..Host::new() };
    let agent = host.start();
    let status = agent.board.status();
    if &*status.who != tier.name() {
        eprintln!("skipped: {}", status.tiers.join("; "));
        return None;
    }
    Some((host, agent))
}

fn cmdline(actor: &Actor) -> String {
    String::from_utf8_lossy(actor.cmdline.as_deref().unwrap_or_default()).into_owned()
}

fn exe_name(actor: &Actor) -> String {
    let exe = String::from_utf8_lossy(actor.exe.as_deref().unwrap_or_default()).into_owned();
    exe.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The changes of each of these files, once there is one of each.
fn changes_of(agent: &mut Running, wanted: &[PathBuf]) -> BTreeMap<PathBuf, Vec<Change>> {
    let mut changes: BTreeMap<PathBuf, Vec<Change>> = wanted.iter().map(|path| (path.clone(), Vec::new())).collect();
    let mut waits = wanted.len();
    agent.wait("each file's change is told", |agent| {
        for body in agent.new_events() {
            let EventBody::Change(change) = body else { continue };
            let at = PathBuf::from(String::from_utf8(change.path.as_bytes().to_vec()).unwrap());
            let Some(of_path) = changes.get_mut(&at) else { continue };
            waits -= usize::from(of_path.is_empty());
            of_path.push(*change);
        }
        (waits == 0).then_some(())
    });
    changes
}

fn build_writer(dir: &Path) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/tests/writer.c");
    let program = dir.join("writer");
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no C compiler with a static library");
        return None;
    }
    Some(program)
}

/// Runs the command that `make` gives for each of the files, one after another.
fn storm(files: &[PathBuf], make: impl Fn(&Path) -> Command) {
    for file in files {
        assert!(make(file).stdin(Stdio::null()).status().unwrap().success());
    }
}

const STORM: usize = 3000;

#[test]
fn each_of_thousands_of_short_lives_is_named_rightly() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    let Some(writer) = build_writer(host.dir.path()) else { return };
    let files = |kind: &str| -> Vec<PathBuf> { (0..STORM).map(|n| host.at(&format!("{kind}-{n:05}"))).collect() };
    let (by_writer, by_shell) = (files("w"), files("s"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            storm(&by_writer, |file| {
                let mut command = Command::new(&writer);
                command.arg(file);
                command
            });
        });
        scope.spawn(|| {
            storm(&by_shell, |file| {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("echo x>{}", file.display())]);
                command
            });
        });
    });
    let own = std::process::id();
    let all: Vec<PathBuf> = by_writer.iter().chain(&by_shell).cloned().collect();
    for (file, changes) in changes_of(&mut agent, &all) {
        for change in changes {
            assert_eq!(change.actors.len(), 1, "{file:?} {:#?}", change.actors);
            let actor = &change.actors[0];
            assert_eq!(actor.confidence, Confidence::Kernel, "{actor:?}");
            assert!(cmdline(actor).ends_with(file.to_str().unwrap()), "{file:?} is not of {actor:?}");
            assert_eq!((actor.ppid, actor.pid != own), (Some(own), true));
            assert!(actor.exe.is_some() && actor.uid.is_some() && actor.parent_exe.is_some() && actor.cgroup.is_some());
            assert!(!actor.ancestors.is_empty());
        }
    }
    agent.stop();
}

#[test]
fn workers_that_never_exec_are_the_program_that_forked_them() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    let script = "import os, sys\n\
        for name in sys.argv[1:]:\n\
        \x20   if os.fork() == 0:\n\
        \x20       if os.fork() == 0:\n\
        \x20           os.setsid()\n\
        \x20           open(name, 'w').write('x')\n\
        \x20       os._exit(0)\n\
        \x20   os.wait()\n";
    let files: Vec<PathBuf> = (0..200).map(|n| host.at(&format!("p{n}"))).collect();
    let Ok(status) = Command::new("python3").args(["-c", script]).args(&files).status() else {
        eprintln!("skipped: no python3");
        return;
    };
    assert!(status.success());
    for (file, changes) in changes_of(&mut agent, &files) {
        let actor = &changes[0].actors[0];
        assert_eq!(actor.confidence, Confidence::Kernel, "{file:?} {actor:?}");
        assert!(exe_name(actor).starts_with("python"), "{actor:?}");
        // Its parent had ended; who that was is known all the same, and who that one's was.
        let chain: Vec<_> = actor.ancestors.iter().filter(|a| a.exe == actor.exe).collect();
        assert!(actor.parent_exe == actor.exe && chain.len() == 1, "{actor:?}");
    }
    agent.stop();
}

#[test]
fn a_process_older_than_the_agent_is_known() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    let script = format!("read line; echo $line > {}", host.at("old").display());
    let mut older = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut agent = host.start();
    older.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    older.wait().unwrap();
    let change = agent.one_change(&host.at("old"));
    assert_eq!((change.actors[0].pid, change.actors.len()), (older.id(), 1));
    if &*agent.board.status().who == "bpf" {
        assert_eq!(
            (cmdline(&change.actors[0]), change.actors[0].ppid),
            (format!("sh -c {script}"), Some(std::process::id()))
        );
    }
    agent.stop();
}

#[test]
fn all_who_had_a_part_in_a_change_are_named() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    let file = host.at("shared");
    let script = format!(
        "echo a >> {f}; (echo b; exec /bin/echo c) | tee -a {f} > /dev/null; \
         echo d | dd of={f} oflag=append conv=notrunc status=none; echo e >> {f}",
        f = file.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let mut names = Vec::new();
    // They act within some milliseconds, but a busy machine may take two looks.
    agent.wait("all three are named", |agent| {
        for body in agent.new_events() {
            if let EventBody::Change(change) = body
                && change.path == path(&file)
            {
                names.extend(change.actors.iter().map(exe_name));
            }
        }
        let is_there = |name: &str| names.iter().any(|known| known == name);
        ((is_there("dash") || is_there("sh") || is_there("bash")) && is_there("tee") && is_there("dd")).then_some(())
    });
    agent.stop();
}

#[test]
fn who_became_another_program_at_once_is_named_as_what_it_was_too() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    for n in 0..20 {
        let file = host.at(&format!("hidden{n}"));
        let script = format!("echo evil > {}; exec true innocent", file.display());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let change = agent.one_change(&file);
        assert!(change.actors.iter().any(|actor| cmdline(actor).contains("evil")), "{:#?}", change.actors);
        assert!(change.actors.iter().all(|actor| actor.pid == change.actors[0].pid));
    }
    agent.stop();
}

/// Has the next process of the machine get this number, if nobody comes first.
fn next_pid(pid: u32) -> bool {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_ok()
}

#[test]
fn a_number_given_out_again_is_not_taken_for_the_one_before() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    let run = |file: &Path| {
        let script = format!("echo x > {}", file.display());
        let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    };
    let mut again = 0;
    for n in 0..200 {
        let (first, second) = (host.at(&format!("first{n}")), host.at(&format!("second{n}")));
        let pid = run(&first);
        if !next_pid(pid) {
            eprintln!("skipped: the next process number cannot be set here");
            return;
        }
        again += usize::from(run(&second) == pid);
        for (file, changes) in changes_of(&mut agent, &[first, second]) {
            // Within one reading it may be either, and then both are named.
            let named = changes[0].actors.iter().any(|actor| cmdline(actor).ends_with(file.to_str().unwrap()));
            assert!(named, "{file:?} {:#?}", changes[0].actors);
        }
        if again == 3 {
            break;
        }
    }
    assert!(again > 0, "no number came again");
    agent.stop();
}

#[test]
fn a_session_over_ssh_is_told_by_its_servers_socket() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    // What serves here is no sshd but holds its connection and starts a shell as one, under its name.
    let server = host.dir.path().join("sshd");
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let Some(python) = python.ok().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()) else {
        eprintln!("skipped: no python3");
        return;
    };
    fs::copy(fs::canonicalize(python).unwrap(), &server).unwrap();
    let script = "import socket, subprocess, sys\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True)\n\
        c, _ = s.accept(); other = socket.create_connection(s.getsockname())\n\
        subprocess.run(['sh', '-c', 'echo x > ' + sys.argv[1]]); c.recv(1)\n";
    let file = host.at("from-afar");
    let prefix = Command::new("python3").args(["-c", "import sys; print(sys.base_prefix)"]).output().unwrap();
    let home = String::from_utf8_lossy(&prefix.stdout).trim().to_owned();
    let mut child = Command::new(&server)
        .args(["-c", script])
        .arg(&file)
        .env("PYTHONHOME", home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let client = std::net::TcpStream::connect(format!("127.0.0.1:{}", line.trim())).unwrap();
    let change = agent.one_change(&file);
    let remote = change.actors[0].remote.clone().unwrap();
    assert_eq!((&*remote.address, remote.from), (&*client.local_addr().unwrap().to_string(), RemoteFrom::Socket));
    assert!(change.actors[0].parent_exe.as_deref().unwrap().ends_with(b"/sshd"));
    drop(client);
    child.wait().unwrap();
    agent.stop();
}

#[test]
fn each_source_does_what_it_says() {
    for tier in [Tier::Proc, Tier::None] {
        let Some((host, mut agent)) = start(tier) else { return };
        let status = agent.board.status();
        assert!(status.cannot.iter().any(|text| text.starts_with("who made a change")), "{:?}", status.cannot);
        let script = format!("echo x > {}; read line", host.at("f").display());
        let mut writer = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let change = agent.one_change(&host.at("f"));
        let actor = &change.actors[0];
        match tier {
            Tier::Proc => {
                assert_eq!((actor.pid, actor.confidence), (writer.id(), Confidence::ProcLive));
                assert_eq!((cmdline(actor), actor.ppid), (format!("sh -c {script}"), Some(std::process::id())));
            }
            _ => {
                assert_eq!((actor.pid, actor.confidence, &actor.exe), (writer.id(), Confidence::None, &None));
                assert!(!actor.unknown.is_empty());
            }
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        agent.stop();
    }
}

/// Every way of a short life, named by audit records.
fn short_lives_are_told_by_audit(host: &Host, agent: &mut Running) {
    let status = agent.board.status();
    assert!(status.can.iter().any(|text| text.contains("from the audit records of programs' starts")), "{status:?}");
    let Some(writer) = build_writer(host.dir.path()) else { return };
    let script = format!("read line; echo $line > {}", host.at("old").display());
    let files = |kind: &str| -> Vec<PathBuf> { (0..150).map(|n| host.at(&format!("{kind}-{n:05}"))).collect() };
    let (by_writer, by_shell) = (files("w"), files("s"));
    storm(&by_writer, |file| {
        let mut command = Command::new(&writer);
        command.arg(file);
        command
    });
    storm(&by_shell, |file| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo x>{}", file.display())]);
        command
    });
    let all: Vec<PathBuf> = by_writer.iter().chain(&by_shell).cloned().collect();
    for (file, changes) in changes_of(agent, &all) {
        let actor = &changes[0].actors[0];
        assert_eq!(actor.confidence, Confidence::Audit, "{file:?} {actor:?}");
        assert!(cmdline(actor).ends_with(file.to_str().unwrap()), "{file:?} is not of {actor:?}");
        assert_eq!((actor.ppid, actor.uid), (Some(std::process::id()), Some(0)));
        assert!(actor.exe.is_some() && actor.parent_exe.is_some(), "{actor:?}");
    }
    let mut writer = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    writer.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    writer.wait().unwrap();
    let change = agent.one_change(&host.at("old"));
    assert_eq!((cmdline(&change.actors[0]), change.actors[0].pid), (format!("sh -c {script}"), writer.id()));
}

#[test]
fn by_audit_alone_short_lives_are_named() {
    let Some((host, mut agent)) = start(Tier::Audit) else { return };
    short_lives_are_told_by_audit(&host, &mut agent);
    agent.stop();
}

#[test]
fn by_audit_beside_a_running_daemon_short_lives_are_named() {
    let Some(kept) = audit::Kept::new() else { return };
    let Some(_daemon) = audit::Daemon::start(&kept.control) else { return };
    let Some((host, mut agent)) = start(Tier::Audit) else { return };
    short_lives_are_told_by_audit(&host, &mut agent);
    agent.stop();
}

/// An sshd of Debian's with keys of its own, for the length of a test.
struct SshServer {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl SshServer {
    fn start(dir: PathBuf) -> Option<Self> {
        fs::create_dir(&dir).unwrap();
        for name in ["host", "key"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name)).status();
            if !made.is_ok_and(|status| status.success()) {
                eprintln!("skipped: no ssh-keygen");
                return None;
            }
        }
        // Where it goes with what it trusts least.
        fs::create_dir_all("/run/sshd").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/key.pub\n\
             StrictModes no\nUsePAM yes\nPidFile none\nPermitRootLogin yes\n"
        );
        fs::write(dir.join("config"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let spawned =
            Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(dir.join("config")).stderr(log).spawn();
        let Ok(child) = spawned else {
            eprintln!("skipped: no sshd");
            return None;
        };
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "{}", fs::read_to_string(dir.join("log")).unwrap());
            std::thread::yield_now();
        }
        Some(Self { child, dir, port })
    }

    /// What `script` says, run in a session of root.
    fn run(&self, script: &str) -> String {
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"];
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string(), "-i"]).arg(self.dir.join("key"));
        command.args(options.iter().flat_map(|option| ["-o", option])).args(["root@127.0.0.1", script]);
        let done = command.output().unwrap();
        let log = fs::read_to_string(self.dir.join("log")).unwrap();
        assert!(done.status.success(), "{}{log}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_real_session_over_ssh_has_its_far_end_and_its_login() {
    let Some((host, mut agent)) = start(Tier::Bpf) else { return };
    let Some(server) = SshServer::start(host.dir.path().join("ssh")) else { return };
    let file = host.at("from-afar");
    // A program that is gone before anybody can look, and what the session itself knows.
    let said = server.run(&format!(
        "sh -c 'echo x > {}'; echo $SSH_CONNECTION; cat /proc/self/loginuid; echo; cat /proc/self/sessionid; echo",
        file.display()
    ));
    let said: Vec<&str> = said.lines().collect();
    let far: Vec<&str> = said[0].split(' ').collect();
    let change = agent.one_change(&file);
    let actor = &change.actors[0];
    let remote = actor.remote.clone().unwrap_or_else(|| panic!("{actor:#?}"));
    assert_eq!((&*remote.address, remote.from), (&*format!("{}:{}", far[0], far[1]), RemoteFrom::Socket));
    let set = |text: &str| text.trim().parse::<u32>().ok().filter(|&number| number != u32::MAX);
    assert_eq!((actor.login_uid, actor.session), (set(said[1]), set(said[2])));
    if actor.login_uid.is_some() {
        assert_eq!(actor.login_user.as_deref(), Some("root"));
    }
    let chain = actor.ancestors.iter().filter_map(|a| a.exe.as_deref());
    assert!(chain.chain(actor.parent_exe.as_deref()).any(|exe| exe.ends_with(b"/sshd")), "{actor:#?}");
    agent.stop();
}

#[test]
fn what_the_kernel_tells_is_said_to_be_seen() {
    let Some((_host, agent)) = start(Tier::Bpf) else { return };
    let status = agent.board.status();
    assert!(status.can.iter().any(|text| &**text == "who made a change, told by the kernel"), "{:?}", status.can);
    assert!(status.cannot.iter().all(|text| !text.contains("who made")), "{:?}", status.cannot);
    assert_eq!(status.tiers.iter().map(|text| &**text).collect::<Vec<_>>(), ["bpf: in use"]);
    agent.stop();
}
