//! Where alerts go in the benchmark: a real rsyslog, an emulator of CloudWatch Logs, a real mail server. Each notes by the
//! machine's clock when what arrived; what arrives tells in a path when it happened.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Bench;
use super::super::daemon::wait_for;
use super::super::measure::cpu_s;
use crate::step::{output, target_dir};

const SCRIPT: &str = "crates/xtask/src/bench/manager/receiver.py";

pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A process that listens on a port.
pub struct Receiver {
    child: Option<Child>,
    pub port: u16,
}

impl Receiver {
    fn spawn(command: &mut Command, port: u16) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
        let receiver = Self { child: Some(child), port };
        wait_for("a receiver", || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()))?;
        Ok(receiver)
    }

    /// rsyslog that writes into `dir`/out each message behind the time at which it came.
    pub fn rsyslog(dir: &Path, port: u16) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let place = dir.display();
        let config = format!(
            "global(workDirectory=\"{place}\" maxMessageSize=\"64k\")\nmodule(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"raw\" type=\"string\" string=\"%timegenerated:::date-rfc3339% %rawmsg%\\n\")\n\
             action(type=\"omfile\" file=\"{place}/out\" template=\"raw\")\n"
        );
        let file = dir.join("rsyslog.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(&file).arg("-i").arg(dir.join("pid"));
        Self::spawn(&mut command, port)
    }

    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.child.as_ref().map_or(Ok(0.0), |child| cpu_s(&[child.id()]))
    }

    /// Asks it to write what it has, and end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        output(Command::new("kill").arg(child.id().to_string()))?;
        wait_for("a receiver's end", || Ok(child.try_wait()?))?;
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Programs of PyPI that the tests use too.
pub struct Python<'b> {
    bench: &'b Bench,
    bin: PathBuf,
}

impl<'b> Python<'b> {
    /// `None` where the test's tools are not installed.
    pub fn find(bench: &'b Bench) -> Option<Self> {
        let bin = target_dir(&bench.root).join("tools/python/bin");
        if !bin.join("python").exists() {
            println!("skipped: the tools of PyPI are not there; cargo xtask test --step setup installs them");
            return None;
        }
        Some(Self { bench, bin })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("python"));
        command.args(["-W", "ignore"]).arg(self.bench.root.join(SCRIPT)).args(words);
        command
    }

    /// What a command of the script prints.
    pub fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        output(self.command(words).stdin(Stdio::null()))
    }

    pub fn number(&self, words: &[&str]) -> anyhow::Result<f64> {
        Ok(self.ask(words)?.trim().parse()?)
    }

    /// A mail server that notes in `file` when which stamps came.
    pub fn smtp(&self, file: &Path) -> anyhow::Result<Receiver> {
        let port = free_port()?;
        Receiver::spawn(&mut self.command(&["smtp", &port.to_string(), &file.display().to_string()]), port)
    }

    /// An emulator of AWS with the log group.
    pub fn cloud(&self) -> anyhow::Result<(Receiver, String)> {
        let port = free_port()?;
        let dir = self.bench.scratch.path().join("ministack");
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new(self.bin.join("python"));
        command.arg(self.bin.join("ministack")).current_dir(&dir).env("HOME", &dir);
        command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        let receiver = Receiver::spawn(&mut command, port)?;
        let url = format!("http://127.0.0.1:{port}");
        self.ask(&["logs-make", &url])?;
        Ok((receiver, url))
    }
}

/// From when each stamped thing happened to its arrival, in ms.
#[derive(Debug, Default)]
pub struct Waits {
    pub ms: Vec<f64>,
    /// Stamps that came; those that came again count once.
    pub stamps: usize,
}

impl Waits {
    /// Of pairs of arrival and stamp, both in microseconds.
    fn of(pairs: impl IntoIterator<Item = (i64, String)>) -> anyhow::Result<Self> {
        let mut first = std::collections::HashMap::new();
        for (arrived_us, stamp) in pairs {
            let at = first.entry(stamp).or_insert(arrived_us);
            *at = (*at).min(arrived_us);
        }
        let stamps = first.len();
        let ms = first.into_iter().map(|(stamp, arrived_us)| {
            let happened_us: i64 = stamp.split('-').next().unwrap_or_default().parse()?;
            Ok((arrived_us - happened_us) as f64 / 1e3)
        });
        Ok(Self { ms: ms.collect::<anyhow::Result<_>>()?, stamps })
    }

    /// What rsyslog wrote.
    pub fn of_rsyslog(dir: &Path) -> anyhow::Result<Self> {
        let text = String::from_utf8_lossy(&std::fs::read(dir.join("out"))?).into_owned();
        let pairs = text.lines().filter_map(|line| {
            let (time, message) = line.split_once(' ')?;
            let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
            let stamp: String = message.split("stamp-").nth(1)?.split('"').next()?.to_owned();
            Some(((time.unix_timestamp_nanos() / 1000) as i64, stamp))
        });
        Self::of(pairs)
    }

    /// Lines of the script: a time and stamps.
    pub fn of_lines(text: &str) -> anyhow::Result<Self> {
        let pairs = text.lines().flat_map(|line| {
            let mut words = line.split(' ');
            let time: Option<i64> = words.next().and_then(|word| word.parse().ok());
            words.filter_map(move |stamp| Some((time?, stamp.to_owned())))
        });
        let waits = Self::of(pairs)?;
        ensure!(waits.stamps > 0, "nothing came");
        Ok(waits)
    }
}
