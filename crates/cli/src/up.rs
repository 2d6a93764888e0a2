//! `tally up`: manager, agent and console of this machine in one process tree.
//!
//! The manager runs in this process; the agent is a child (it has the privileges, and the manager must not share its
//! memory), which in turn starts its link. Ctrl-C stops the agent first, so that its farewell and last events arrive,
//! then the manager.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tally_agent::notice::{self, Notice};
use tally_manager::{Manager, ManagerConfig, Running};

use crate::Outcome;
use crate::options::UpOptions;
use crate::serve::{self, Stop};

/// How long the agent may take to say farewell before it is ended.
const FAREWELL: Duration = Duration::from_secs(15);
/// An agent that ended by itself is started again after this long, doubled each time.
const RESTART_FIRST: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// An agent that ran this long is started again at once: its trouble was new.
const SETTLED: Duration = Duration::from_secs(60);

pub fn run(options: &UpOptions) -> Result<Outcome> {
    serve::start_logging();
    let stop = Stop::on_signals()?;
    let state = tally_agent::state_dir(options.ask.state.as_deref());
    tally_agent::create_private_dir(&state)?;
    let mut config = match &options.config {
        Some(file) => ManagerConfig::load(file, &state)?,
        None => ManagerConfig::for_state(&state)?,
    };
    if let Some(port) = options.port {
        config.listen.set_port(port);
    }
    config.console = options.console.or(config.console);
    let manager = Manager::start(config)?;
    enrol_this_host(&manager, &state)?;
    let printer = serve::print_alerts(&manager, options.ask.json);
    let outcome = tend_agent(options, &state, &manager, &stop);
    manager.shutdown();
    printer.join();
    outcome?;
    if !options.ask.json {
        eprintln!("stopped; the next start goes on from {}", state.display());
    }
    Ok(Outcome::Fine)
}

/// Where the agent of this machine finds its manager.
fn own_address(manager: &Running) -> SocketAddr {
    let listen = manager.listen_addr();
    let ip = if listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

/// The first time, this host gets its identity as any other would, with a token that is used up at once.
fn enrol_this_host(manager: &Running, state: &Path) -> Result<()> {
    if tally_agent::enrol::is_enrolled(state) {
        return Ok(());
    }
    let token = manager.mint_token("default", 1, Duration::from_secs(60))?;
    let name = tally_agent::enrol::host_name();
    tally_agent::enrol::enrol(state, &own_address(manager).to_string(), &token, &name, false)
        .context("enrol this host with its own manager")?;
    Ok(())
}

/// Keeps the agent running until the stop, then ends it in good order.
fn tend_agent(options: &UpOptions, state: &Path, manager: &Running, stop: &Stop) -> Result<()> {
    let mut pause = RESTART_FIRST;
    // The agent watched at some time: whatever ends it later, it is started again.
    let greeted = Arc::new(AtomicBool::new(false));
    loop {
        let started = Instant::now();
        let mut agent = start_agent(options, state, own_address(manager))?;
        let listener = listen(&mut agent, options.ask.json, manager, Arc::clone(&greeted))?;
        let status = wait_for(&mut agent, stop)?;
        listener.join().map_err(|_| anyhow::anyhow!("the thread that reads the agent's notices failed"))?;
        match status {
            None => return Ok(()),
            Some(status) if status.code() == Some(2) && !greeted.load(Ordering::Relaxed) => {
                bail!("the agent could not start; see above")
            }
            Some(status) => {
                if started.elapsed() > SETTLED {
                    pause = RESTART_FIRST;
                }
                eprintln!("tally: the agent ended ({status}); it starts again in {} ms", pause.as_millis());
                if stop.wait(pause) {
                    return Ok(());
                }
                pause = (pause * 2).min(RESTART_MAX);
            }
        }
    }
}

fn start_agent(options: &UpOptions, state: &Path, manager: SocketAddr) -> Result<Child> {
    let program = std::env::current_exe().context("find the program itself")?;
    let mut command = Command::new(program);
    command
        .arg("agent-run")
        .args(["--json", "--stop-with-stdin"])
        .arg("--state")
        .arg(state)
        .arg("--manager")
        .arg(manager.to_string());
    for watch in &options.watches {
        command.arg("--watch").arg(watch);
    }
    if let Some(file) = &options.agent_config {
        command.arg("--config").arg(file);
    }
    // Nothing is written there: its end tells the agent that this process is gone, even if it was killed.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().context("start the agent")
}

/// Waits until the agent ends by itself (its status) or the stop comes (`None`, the agent then being ended).
fn wait_for(agent: &mut Child, stop: &Stop) -> Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = agent.try_wait().context("wait for the agent")? {
            return Ok(if stop.is_set() { None } else { Some(status) });
        }
        if stop.wait(Duration::from_millis(200)) {
            end(agent)?;
            return Ok(None);
        }
    }
}

fn end(agent: &mut Child) -> Result<()> {
    tally_agent::ask_to_stop(agent.id()).context("ask the agent to stop")?;
    let deadline = Instant::now() + FAREWELL;
    while Instant::now() < deadline {
        if agent.try_wait().context("wait for the agent")?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("tally: the agent did not stop within {} s and is ended", FAREWELL.as_secs());
    agent.kill().context("end the agent")?;
    agent.wait().context("wait for the agent")?;
    Ok(())
}

/// Shows what the agent tells: a progress bar while it scans, a line for everything else.
fn listen(
    agent: &mut Child,
    json: bool,
    manager: &Running,
    greeted: Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>> {
    let out = agent.stdout.take().context("the agent's output is not piped")?;
    let link = manager.console_login_link();
    let listener = std::thread::Builder::new().name("notices".to_owned());
    let handle = listener.spawn(move || {
        let mut bar: Option<ProgressBar> = None;
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let Ok(told) = serde_json::from_str::<Notice>(&line) else { continue };
            if json {
                print_json(&line);
            } else {
                show(&told, &mut bar);
            }
            if matches!(told, Notice::Watching { .. }) && !greeted.swap(true, Ordering::Relaxed) {
                greet(link.as_deref(), json);
            }
        }
    })?;
    Ok(handle)
}

fn show(told: &Notice, bar: &mut Option<ProgressBar>) {
    if let Notice::Scanning { .. } = told {
        let bar = bar.get_or_insert_with(new_bar);
        bar.set_message(notice::sentence(told));
        return;
    }
    if let Some(bar) = bar.take() {
        bar.finish_and_clear();
    }
    eprintln!("{}", notice::sentence(told));
}

fn new_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn greet(link: Option<&str>, json: bool) {
    let Some(link) = link else { return };
    if json {
        print_json(&json!({"notice": "console", "link": link}).to_string());
    } else {
        eprintln!("console: {link}  (works once; `tally console` makes a new one)");
        eprintln!("alerts follow, one a line; Ctrl-C stops");
    }
}

/// A closed standard output is no reason to stop watching.
fn print_json(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        tracing::debug!("a notice could not be printed");
    }
}
