//! What an operator's day brings: full disks, a flooded port, mistyped configurations, a second manager, taken ports, and no
//! rights. Each must be told in words, and end without a loss.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::fleet::{Fleet, agent_command};
use support::program::{Program, run};
use support::site::Site;
use support::{Random, disk, is_root, number, text, wait_for, wait_until};

/// A small filesystem in memory; dropping it takes it away.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=755", "tally-test"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            _ => {
                println!("skipped: a small filesystem cannot be mounted here");
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = fs::File::options().append(true).create(true).open(self.filler()).unwrap();
        for size in [1 << 16, 1 << 12] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What still holds it is killed by its own handle, in whichever order they are dropped.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_of_an_agent_is_told_and_loses_nothing() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.host("web1");
    let Some(small) = Small::mount(&host.state) else { return };
    assert_eq!(fleet.try_enrol(&host, &fleet.token("1", "1h")).code, 0);
    let mut agent = host.run();
    fleet.site.settle("web1", &host.tree);
    small.fill();
    let mut written = 0;
    let is_told = |agent: &Program| agent.objects().iter().any(|o| text(o, "/notice") == "state-full");
    wait_until("the agent to say that its state is full", || {
        (written..written + 50).for_each(|n| drop(host.write(&format!("f{n}"), "x")));
        written += 50;
        if is_told(&agent) { Ok(()) } else { Err(format!("after {written} files")) }
    });
    host.write("when-full", "x");
    fs::remove_file(host.tree.join("f0")).unwrap();
    assert!(agent.is_running());
    small.free();
    fleet.site.settle("web1", &host.tree);
    let alert = wait_for("the alert about it", || {
        let alerts = fleet.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
        alerts.into_iter().find(|a| number(a, "/rule/id") == Some(200_119))
    });
    assert_eq!(text(&alert, "/event/name"), "state-full");
    let added = fleet.site.ask(0, &["change", "list", "--kind", "added", "--limit", "0"]).objects;
    assert!(added.len() >= written, "{} of {written} and one more", added.len());
    assert_eq!(agent.terminate(), 0);
}

#[test]
fn a_full_disk_of_the_manager_is_told_and_loses_nothing() {
    let mut fleet = Fleet::new();
    let Some(small) = Small::mount(&fleet.site.state()) else { return };
    fleet.configure("heartbeat_s = 1\n");
    let mut manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let mut agent = host.run();
    fleet.site.settle("web1", &host.tree);
    small.fill();
    let mut written = 0;
    let status = wait_for("the manager to say that it is full", || {
        (written..written + 50).for_each(|n| drop(host.write(&format!("f{n}"), "x")));
        written += 50;
        let status = fleet.site.try_ask(&["status"]).objects.pop()?;
        text(&status, "/problems/0").contains("stored nothing since").then_some(status)
    });
    assert!(text(&status, "/problems/0").contains("no space is left"), "{status:#}");
    host.write("when-full", "x");
    let refused = fleet.site.try_ask(&["token", "new"]);
    assert!(refused.code == 2 && refused.err.contains("space"), "{refused:?}");
    assert!(manager.is_running() && agent.is_running());
    small.free();
    fleet.site.settle("web1", &host.tree);
    wait_until("the manager to be healthy again", || {
        let status = fleet.site.try_ask(&["status"]);
        if status.code == 0 { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let added = fleet.site.ask(0, &["change", "list", "--kind", "added", "--limit", "0"]).objects;
    assert_eq!(added.len(), written + 1);
    assert_eq!(fleet.site.ask(0, &["ledger", "verify"]).one()["problems"], 0);
    assert_eq!((agent.terminate(), manager.terminate()), (0, 0));
}

#[test]
fn garbage_on_the_port_does_not_keep_an_agent_from_its_work() {
    let mut fleet = Fleet::new();
    let mut manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let _agent = host.run();
    fleet.site.settle("web1", &host.tree);
    let before = resident_mb(manager.pid());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", fleet.port())).unwrap();
    let mut random = Random(7);
    for n in 0..30_000u32 {
        let mut datagram = vec![0; 1 + random.below(1500) as usize];
        datagram.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]));
        // Some look like the first packet of a connection, some like an old agent's.
        match n % 4 {
            0 => datagram.splice(0..0, [0xc3, 0, 0, 0, 1, 8]).for_each(drop),
            1 => datagram.splice(0..0, *b"!001!:").for_each(drop),
            _ => {}
        }
        // A full buffer of the kernel is none of our concern.
        let _ = socket.send(&datagram);
        if n % 3000 == 0 {
            host.write(&format!("f{n}"), "x");
        }
    }
    fleet.site.settle("web1", &host.tree);
    assert!(manager.is_running());
    let after = resident_mb(manager.pid());
    assert!(after < before + 100, "{before} MB before the flood, {after} MB after it");
    let late = fleet.enrolled("web2");
    late.run();
}

/// What of a process is in memory.
fn resident_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_watched_filesystem_can_be_unmounted_and_comes_back() {
    let site = Site::new();
    let mount = site.in_tree("volume");
    let image = site.path("disk.img");
    fs::create_dir(&mount).unwrap();
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
    let mounted = || {
        let output = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount).output();
        output.is_ok_and(|o| o.status.success())
    };
    if !made.is_ok_and(|status| status.success()) || !mounted() {
        println!("skipped: a filesystem image cannot be mounted here");
        return;
    }
    let mounted_here = Small(mount.clone());
    fs::write(mount.join("kept"), "x").unwrap();
    let up = site.up();
    let name = site.own_name();
    site.settle(&name, &site.tree());
    fs::write(mount.join("first"), "x").unwrap();
    site.settle(&name, &site.tree());

    // The agent must not hold it; whoever looks at all mounts may, for a moment.
    wait_until("the filesystem to be unmounted", || {
        let output = Command::new("umount").arg(&mount).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    site.settle(&name, &site.tree());
    let gone = up.object("what went with it", |o| support::site::is_alert(o, 553, &mount.join("kept")));
    assert_eq!(text(&gone, "/change/detected_by"), "scan");
    assert!(mounted());
    site.settle(&name, &site.tree());
    let second = mount.join("second");
    fs::write(&second, "x").unwrap();
    let seen = up.object("a change on it", |o| support::site::is_alert(o, 554, &second));
    assert_eq!(text(&seen, "/change/detected_by"), "realtime");
    drop(up);
    drop(mounted_here);
}

#[test]
fn a_mistyped_configuration_is_told_with_its_place() {
    let fleet = Fleet::new();
    fleet.configure("# ours\nheartbeat_s = 0\nlistn = \"127.0.0.1:1\"\n");
    let ran = run(fleet.manager_command());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("manager.toml:2:15: heartbeat_s is a whole number from 1 to 600"), "{ran:?}");
    assert!(ran.err.contains("manager.toml:3:1: unknown key \"listn\" (did you mean \"listen\"?)"), "{ran:?}");

    let host = fleet.host("web1");
    let config = fleet.site.path("agent.toml");
    fs::write(&config, "[agent]\nscan_intervall = \"1h\"\n\n[[watch]]\npath = \"/etc\"\nmode = \"statc\"\n").unwrap();
    let mut command = agent_command(&["run", "--config"]);
    command.arg(&config).arg("--state").arg(&host.state);
    let ran = run(command);
    assert_eq!(ran.code, 2, "{ran:?}");
    let place = |line: u32, column: u32| format!("{}:{line}:{column}: ", config.display());
    assert!(ran.err.contains(&place(2, 1)) && ran.err.contains("did you mean \"scan_interval\"?"), "{ran:?}");
    assert!(ran.err.contains(&place(6, 8)) && ran.err.contains("did you mean \"static\"?"), "{ran:?}");
}

#[test]
fn a_configuration_of_an_agent_is_followed() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let config = fleet.site.path("agent.toml");
    let text = format!(
        "[agent]\nmanager = \"{}\"\ndigests = [\"sha256\", \"md5\"]\n[[watch]]\npath = \"{}\"\nexclude = [\"*.tmp\"]\n",
        fleet.address(),
        host.tree.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = agent_command(&["run", "--json", "--config"]);
    command.arg(&config).arg("--state").arg(&host.state);
    let _agent = Program::start("tally-agent", command);
    wait_until("the first snapshot", || {
        let held = fleet.site.try_ask(&["snapshot", "list", "web1"]);
        if disk::listed(&held.objects).len() == 1 { Ok(()) } else { Err(held.err) }
    });
    host.write("left.tmp", "x");
    let kept = host.write("kept", "x");
    wait_for("the kept file", || {
        let held = fleet.site.ask(0, &["snapshot", "list", "web1"]).objects;
        let entry = held.iter().find(|e| text_of_path(e) == kept.to_str().unwrap())?.clone();
        assert_eq!(disk::listed(&held).len(), 2);
        (entry["md5"] == "9dd4e461268c8034f5c8564e155c67a6").then_some(())
    });
}

fn text_of_path(entry: &serde_json::Value) -> &str {
    text(entry, "/path")
}

#[test]
fn a_second_manager_and_a_taken_port_are_told() {
    let mut fleet = Fleet::new();
    let manager = fleet.manager();
    let ran = run(fleet.manager_command());
    assert!(ran.code == 2 && ran.err.contains(&format!("process {}", manager.pid())), "{ran:?}");

    let other = Site::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap();
    let refused = |words: &[&str], part: &str| {
        let ran = other.run(&[&["manager"][..], words].concat());
        assert!(ran.code == 2 && ran.err.contains(part) && ran.err.contains("in use"), "{ran:?}");
    };
    refused(&["--listen", &taken.to_string(), "--console", "127.0.0.1:0"], &taken.port().to_string());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = listener.local_addr().unwrap().to_string();
    refused(&["--listen", "127.0.0.1:0", "--console", &held], &held);
}

#[test]
fn a_second_agent_on_one_state_is_told() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let _agent = host.run();
    let second = host.start();
    second.err_line("another agent uses this state directory");
}

#[test]
fn without_root_it_watches_and_says_what_it_cannot_see() {
    let site = Site::new();
    site.write("readable", "x");
    let secret = site.write("secret", "x");
    let state = site.path("own");
    fs::create_dir(&state).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally"));
    if is_root() {
        for owned in [&state, &site.tree()] {
            assert!(Command::new("chown").arg("-R").arg("65534:65534").arg(owned).status().unwrap().success());
        }
        assert!(Command::new("chown").arg("0:0").arg(&secret).status().unwrap().success());
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_tally")]);
    }
    assert!(Command::new("chmod").arg("000").arg(&secret).status().unwrap().success());
    command.args(["up", "--port", "0", "--console", "127.0.0.1:0", "--json", "--state"]).arg(&state);
    command.arg("--watch").arg(site.tree());
    let mut up = Program::start("tally up", command);
    let watching = up.object("watching", |o| text(o, "/notice") == "watching");
    assert_eq!(text(&watching, "/sensor"), "inotify");
    assert!(watching["entries"].as_u64() > Some(3), "what is watched, and its own parts: {watching}");
    let cannot = up.object("what it cannot see", |o| text(o, "/notice") == "cannot");
    assert!(text(&cannot, "/text").contains("who made a change"), "{cannot}");
    fs::create_dir(site.in_tree("sub")).unwrap();
    site.write("sub/new", "x");
    fs::write(site.in_tree("readable"), "changed").unwrap();
    for (rule, name) in [(554, "sub"), (554, "sub/new"), (550, "readable")] {
        let path = site.in_tree(name);
        let alert = up.object(name, |o| support::site::is_alert(o, rule, &path));
        assert!(alert["change"]["actor"].is_null(), "{alert:#}");
    }
    let mut ask = Command::new(env!("CARGO_BIN_EXE_tally"));
    ask.args(["snapshot", "list", "--json", "--state"]).arg(&state);
    let ran = run(ask);
    let entries: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let entry = support::site::only(&entries, "the secret", |e| text(e, "/path").ends_with("/secret"));
    assert_eq!((text(entry, "/undigested"), text(entry, "/sha256")), ("denied", ""));
    let listed = disk::listed(&entries);
    assert_eq!(listed.len(), 5);
    assert_eq!(up.interrupt(), 0);
}

#[test]
fn a_state_that_is_not_there_or_not_ours_is_told() {
    let site = Site::new();
    let ran = site.run(&["status"]);
    assert!(ran.code == 2 && ran.err.contains("no manager has ever run here"), "{ran:?}");
    if !is_root() {
        return;
    }
    drop(site.up());
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        env!("CARGO_BIN_EXE_tally"),
        "status",
        "--state",
    ]);
    let ran = run({
        command.arg(site.state());
        command
    });
    assert!(ran.code == 2 && ran.err.to_lowercase().contains("permission denied"), "{ran:?}");
}
