//! `tally manager`, and what both daemons of this program share: signals, logging, and alerts as lines.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tally_manager::{Manager, ManagerConfig, Running};

use crate::Outcome;
use crate::options::ManagerOptions;
use crate::render;

pub fn run(options: &ManagerOptions) -> Result<Outcome> {
    start_logging();
    let stop = Stop::on_signals()?;
    let state = tally_agent::state_dir(options.ask.state.as_deref());
    tally_agent::create_private_dir(&state)?;
    let mut config = match options.config.as_ref().or(options.ossec_conf.as_ref()) {
        Some(file) => ManagerConfig::load(file, &state)?,
        None => ManagerConfig::for_state(&state)?,
    };
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    if let Some(console) = options.console {
        config.console = Some(console);
    }
    let manager = Manager::start(config)?;
    if !options.ask.json {
        eprintln!("manager: agents reach it at UDP {}", manager.listen_addr());
        if let Some(authd) = manager.authd_addr() {
            eprintln!("manager: OSSEC's agents enrol at TCP {authd}");
        }
        if let Some(link) = manager.console_login_link() {
            eprintln!("console: {link}  (works once; `tally console` makes a new one)");
        }
        eprintln!("next: `tally token new` here, then on a host `tally-agent enrol --manager HOST --token T`");
    }
    let printer = print_alerts(&manager, options.ask.json);
    let hangups = reload_on_hangup(&manager)?;
    stop.wait_long();
    hangups.close();
    manager.shutdown();
    printer.join();
    Ok(Outcome::Fine)
}

/// SIGHUP has the rules read again, as `tally rules reload` does.
fn reload_on_hangup(manager: &Running) -> Result<Handle> {
    let mut signals = Signals::new([SIGHUP]).context("listen for SIGHUP")?;
    let handle = signals.handle();
    let reloader = manager.reloader();
    std::thread::Builder::new().name("hangups".to_owned()).spawn(move || {
        for _ in signals.forever() {
            match reloader.as_ref().map(|reloader| reloader.reload("SIGHUP")) {
                Some(Ok(message)) => tracing::info!(%message, "the rules were read again"),
                Some(Err(error)) => tracing::error!(%error, "the rules could not be read again"),
                None => return,
            }
        }
    })?;
    Ok(handle)
}

/// Warnings and errors of the daemons go to standard error, one a line.
pub fn start_logging() {
    tally_agent::start_logging();
}

/// The thread that prints alerts.
pub struct Printer(Option<JoinHandle<()>>);

impl Printer {
    /// Returns when the last alert is printed; the manager must have been shut down.
    pub fn join(self) {
        if self.0.is_some_and(|thread| thread.join().is_err()) {
            eprintln!("tally: the thread that prints alerts failed");
        }
    }
}

/// Prints one line for each alert until the manager ends.
pub fn print_alerts(manager: &Running, json: bool) -> Printer {
    let alerts = manager.alerts();
    let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(move || {
        for alert in alerts {
            let line = if json { alert.to_string() } else { render::alert_text(&alert) };
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
    match thread {
        Ok(thread) => Printer(Some(thread)),
        Err(error) => {
            tracing::error!(%error, "alerts are not printed: the thread could not be started");
            Printer(None)
        }
    }
}

/// The wish to stop, by SIGINT or SIGTERM. A second one ends the process at once.
#[derive(Clone)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn on_signals() -> Result<Self> {
        let stop = Self(Arc::new((Mutex::new(false), Condvar::new())));
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("listen for signals")?;
        let told = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if told.is_set() {
                    std::process::exit(128 + signal);
                }
                told.set();
            }
        })?;
        Ok(stop)
    }

    fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most so long; whether the stop came.
    pub fn wait(&self, at_most: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) =
            self.0.1.wait_timeout_while(guard, at_most, |set| !*set).unwrap_or_else(PoisonError::into_inner);
        *guard
    }

    pub fn wait_long(&self) {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(guard, |set| !*set).unwrap_or_else(PoisonError::into_inner));
    }
}
