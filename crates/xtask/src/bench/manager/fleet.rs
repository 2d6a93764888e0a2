//! The fleet's process (`crates/manager/examples/fleet`) and what it says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::super::Bench;
use super::super::daemon::{Manager, wait_for};
use super::super::measure::{cpu_s, family};

/// Hosts of the fleet, and files on each.
pub const AGENTS: usize = 32;
const FILES: u64 = 10_000;

/// What a fleet tells.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    pub work: &'static str,
    /// Events a second; 0: as fast as they are acknowledged.
    pub rate: u64,
    pub seconds: u64,
    pub events_max: Option<u64>,
}

pub struct Fleet {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What came of what a fleet told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub events: f64,
    pub changes: f64,
    pub seconds: f64,
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    /// CPU of the manager's processes and of the fleet's meanwhile.
    pub manager_s: f64,
    pub fleet_s: f64,
}

impl Told {
    pub fn rate(&self) -> f64 {
        self.events / self.seconds
    }

    pub fn cpu_of_10_000(&self) -> f64 {
        self.manager_s / self.events * 1e4
    }
}

impl Fleet {
    /// Returns when all its agents are let in and the manager holds their snapshots.
    pub fn start(bench: &Bench, manager: &Manager, orders: Orders) -> anyhow::Result<Self> {
        let mut command = Command::new(bench.program("examples/fleet"));
        command.arg(manager.address()).arg(manager.token(AGENTS)?);
        command.args(["--agents", &AGENTS.to_string(), "--files", &FILES.to_string(), "--work", orders.work]);
        command.args(["--rate", &orders.rate.to_string(), "--seconds", &orders.seconds.to_string()]);
        if let Some(events) = orders.events_max {
            command.args(["--events", &events.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the fleet")?;
        let stdin = child.stdin.take().context("its input")?;
        let stdout = BufReader::new(child.stdout.take().context("its output")?);
        let mut fleet = Self { child, stdin, stdout };
        let line = fleet.line()?;
        ensure!(line == "ready", "the fleet said {line:?}");
        fleet.wait_until_held(manager)?;
        Ok(fleet)
    }

    /// Waits until the manager has a snapshot of each.
    fn wait_until_held(&self, manager: &Manager) -> anyhow::Result<()> {
        wait_for("the manager's copies of all snapshots", || {
            let status = manager.status()?;
            let agents = status["agents"].as_array().into_iter().flatten();
            Ok((agents.filter(|agent| agent["root"].is_string()).count() >= AGENTS).then_some(()))
        })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the fleet ended before its time");
        Ok(line.trim_end().to_owned())
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        Ok(self.stdin.write_all(b"\n")?)
    }

    /// Lets it tell its events; returns when the last one is acknowledged.
    pub fn tell(&mut self, manager: &Manager) -> anyhow::Result<Told> {
        let pid = manager.pid()?;
        let cpu = |fleet: u32| Ok::<_, anyhow::Error>((cpu_s(&family(pid))?, cpu_s(&[fleet])?));
        let before = cpu(self.child.id())?;
        self.go_on()?;
        let line = self.line()?;
        let after = cpu(self.child.id())?;
        let value: Value = serde_json::from_str(&line).with_context(|| format!("the fleet said {line:?}"))?;
        let of = |key: &str| value[key].as_f64().unwrap_or(f64::NAN);
        Ok(Told {
            events: of("events"),
            changes: of("changes"),
            seconds: of("seconds"),
            ack_p50_ms: of("ack_p50_ms"),
            ack_p99_ms: of("ack_p99_ms"),
            manager_s: after.0 - before.0,
            fleet_s: after.1 - before.1,
        })
    }

    /// Waits until the manager's snapshots are those of the hosts.
    pub fn settle(&mut self, manager: &Manager) -> anyhow::Result<()> {
        let roots: Value = serde_json::from_str(&self.line()?)?;
        wait_for("snapshots that are those of the hosts", || {
            let status = manager.status()?;
            let agents = status["agents"].as_array().into_iter().flatten();
            let equal = agents.filter(|agent| {
                agent["name"].as_str().is_some_and(|name| roots[name].is_string() && roots[name] == agent["root"])
            });
            Ok((equal.count() >= AGENTS).then_some(()))
        })
    }

    /// Ends it.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.go_on()?;
        let status = wait_for("the fleet's end", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the fleet ended with {status}");
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
