//! A manager and its agents as real processes on loopback, each with a state directory of its own.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Bench;
use crate::step::output;

/// Longer than any wait here should take; what is not there by then never comes.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A process that is ended with its owner.
#[derive(Debug)]
struct Process(Child);

#[derive(Debug)]
pub struct Manager {
    process: Option<Process>,
    tally: PathBuf,
    pub state: PathBuf,
    /// Its configuration, where it has one.
    config: Option<PathBuf>,
    port: u16,
    console: u16,
}

#[derive(Debug)]
pub struct Agent {
    process: Process,
    program: PathBuf,
    state: PathBuf,
    /// From the start of `tally-agent enrol` to its end.
    pub enrolled_in: Duration,
}

impl Manager {
    /// Its state lies in `scratch` under `name`.
    pub fn start(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        Self::start_with(bench, name, "")
    }

    /// The same with this text as its configuration.
    pub fn start_with(bench: &Bench, name: &str, config: &str) -> anyhow::Result<Self> {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let console = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (tally, state) = (bench.program("tally"), bench.scratch.path().join(name));
        std::fs::create_dir_all(&state)?;
        let file = (!config.is_empty()).then(|| state.join("manager.toml"));
        if let Some(file) = &file {
            std::fs::write(file, config)?;
        }
        let mut manager = Self { process: None, tally, state, config: file, port, console };
        manager.run()?;
        Ok(manager)
    }

    /// Starts it, again on the same ports and state if it was stopped.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let socket = self.state.join("manager/control.sock");
        // One that an earlier run left behind would make an operator's command open the state itself, in the manager's way.
        if socket.exists() {
            std::fs::remove_file(&socket)?;
        }
        let mut command = self.command(&["manager"]);
        let [port, console] = [self.port, self.console].map(|port| format!("127.0.0.1:{port}"));
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        // For deliveries to an emulator of AWS, which takes any.
        command.env("AWS_ACCESS_KEY_ID", "111111111111").env("AWS_SECRET_ACCESS_KEY", "test");
        self.process = Some(spawn(command.args(["--listen", &port, "--console", &console]), &self.state.join("log"))?);
        wait_for("the manager's control socket", || Ok(socket.exists().then_some(())))?;
        // The socket is there from the moment of its bind; the first answer says that it is served.
        wait_for("the manager's first answer", || Ok(self.status().ok()))?;
        Ok(())
    }

    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), Process::stop)
    }

    /// An operator's command on this manager's state.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.tally);
        command.args(words).arg("--state").arg(&self.state).stdin(Stdio::null());
        command
    }

    /// The answer of a command that prints JSON lines. Exit code 1 is an answer too: it says that there are findings.
    pub fn ask(&self, words: &[&str]) -> anyhow::Result<Vec<Value>> {
        let output = self.command(words).arg("--json").output().context("run tally")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 1)), "tally {}: {}: {error}", words.join(" "), output.status);
        let text = String::from_utf8(output.stdout).context("tally's output")?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("tally printed {line}"))).collect()
    }

    /// The same for an answer that is too long to be held whole.
    pub fn each(&self, words: &[&str], mut take: impl FnMut(&Value)) -> anyhow::Result<()> {
        let mut child = self.command(words).arg("--json").stdout(Stdio::piped()).spawn().context("run tally")?;
        for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            take(&serde_json::from_str(&line?)?);
        }
        let status = child.wait()?;
        ensure!(matches!(status.code(), Some(0 | 1)), "tally {}: {status}", words.join(" "));
        Ok(())
    }

    pub fn status(&self) -> anyhow::Result<Value> {
        self.ask(&["status"])?.pop().context("tally status printed nothing")
    }

    /// What `tally status` says of the agent with this name.
    pub fn agent(&self, name: &str) -> anyhow::Result<Value> {
        let status = self.status()?;
        let agents = status["agents"].as_array().into_iter().flatten();
        agents
            .into_iter()
            .find(|agent| agent["name"] == name)
            .cloned()
            .with_context(|| format!("agent {name} is not listed"))
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.process.as_ref().context("the manager does not run")?.0.id())
    }

    /// Where agents reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A token for so many hosts.
    pub fn token(&self, uses: usize) -> anyhow::Result<String> {
        let text = output(&mut self.command(&["token", "new", "--uses", &uses.to_string()]))?;
        let token = text.split_whitespace().find(|word| word.starts_with("tt1_"));
        token.map(str::to_owned).context("tally token new printed no token")
    }

    /// Enrols an agent and starts it on `watches`, with further words.
    pub fn add_agent(&self, bench: &Bench, name: &str, watches: &[&Path], words: &[&str]) -> anyhow::Result<Agent> {
        let program = bench.program("tally-agent");
        let state = bench.scratch.path().join(format!("{}-{name}", self.console));
        let (manager, token) = (self.address(), self.token(1)?);
        let started = Instant::now();
        output(
            Command::new(&program)
                .args(["enrol", "--manager", &manager, "--token", &token, "--name", name, "--state"])
                .arg(&state),
        )?;
        let enrolled_in = started.elapsed();
        let mut command = Command::new(&program);
        command.arg("run").args(words).arg("--state").arg(&state);
        for watch in watches {
            command.arg("--watch").arg(watch);
        }
        let process = spawn(&mut command, &bench.scratch.path().join(format!("{name}.log")))?;
        Ok(Agent { process, program, state, enrolled_in })
    }

    /// Lets all its processes stand still, or go on: in a fleet it is another machine's load.
    pub fn hold(&self, held: bool) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the manager does not run")?;
        signal(&process.0, if held { Signal::STOP } else { Signal::CONT })
    }

    /// Waits until the agent has its first snapshot.
    pub fn wait_until_watching(&self, name: &str) -> anyhow::Result<()> {
        wait_for("the agent's first snapshot", || Ok((self.agent(name)?["state"] == "watching").then_some(())))
    }

    /// Waits until the manager holds the agent's snapshot.
    pub fn wait_until_held(&self, name: &str) -> anyhow::Result<()> {
        wait_for("the manager's copy of the snapshot", || Ok(self.agent(name)?["root"].is_string().then_some(())))
    }
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// What `tally-agent status` says.
    pub fn report(&self) -> anyhow::Result<Value> {
        let output = Command::new(&self.program).args(["status", "--json", "--state"]).arg(&self.state).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Process {
    /// Asks it to end, and waits until it has.
    fn stop(mut self) -> anyhow::Result<()> {
        signal(&self.0, Signal::TERM)?;
        let child = &mut self.0;
        let status = wait_for("a daemon's end", || Ok(child.try_wait()?))?;
        ensure!(status.success(), "a daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its own processes end when they see it gone. An error here means that it has ended already.
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A process whose output goes into the file `log`.
fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Process> {
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    Ok(Process(child))
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
    kill_process(pid, signal).context("signal a daemon")
}

/// Looks again and again until there is something; an error of `look` only counts when patience is over.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        let looked = look();
        match looked {
            Ok(Some(found)) => return Ok(found),
            Err(error) if started.elapsed() > PATIENCE => return Err(error.context(format!("waiting for {what}"))),
            Ok(None) if started.elapsed() > PATIENCE => bail!("{what} did not come in {} s", PATIENCE.as_secs()),
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// The bytes of all files under a directory.
pub fn stored_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for item in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let item = item?;
        let metadata = item.metadata()?;
        bytes += if metadata.is_dir() { stored_bytes(&item.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
