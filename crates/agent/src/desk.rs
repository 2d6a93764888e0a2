//! Where `tally-agent status` asks: a socket in the directory of the agent's state, which only its user may enter. Whoever
//! connects gets one report and the end. It costs nothing until somebody asks, and an agent that hangs does not answer.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_proto::json::SCHEMA;
use tally_proto::message;
use tally_syscheck::ResponseConfig;
use tally_types::{AgentState, PathBytes};

use crate::board::Board;
use crate::budget::Budget;
use crate::health::Health;
use crate::pulse::Pulse;
use crate::report::{self, Report};
use crate::responder;
use crate::state::OutboxReader;

const SOCKET: &str = "status.sock";
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// No report is longer.
const REPORT_BYTES_MAX: u64 = 4 << 20;

/// What a report is made of.
pub struct Desk {
    pub board: Arc<Board>,
    pub budget: Arc<Budget>,
    pub health: Arc<Health>,
    pub sensor: Option<Arc<Pulse>>,
    pub watches: Vec<PathBytes>,
    /// The agent's database.
    pub database: PathBuf,
    pub responses: ResponseConfig,
    pub began: Instant,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no agent runs with the state in {}", path.display())]
    NotRunning { path: PathBuf },
    #[error("the agent does not answer: it is stopped, or it hangs")]
    Silent,
    #[error("ask the agent in {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the agent's answer is not understood: {0}")]
    Malformed(serde_json::Error),
}

/// Asks the agent whose state lies in `dir`; its report as it stands on the wire, and read.
pub fn ask(dir: &Path) -> Result<(String, Report), AskError> {
    let path = dir.to_owned();
    let answered = (|| {
        let mut stream = UnixStream::connect(dir.join(SOCKET))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        (&mut stream).take(REPORT_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    })();
    match answered {
        Ok(text) => {
            let report = serde_json::from_str(&text).map_err(AskError::Malformed)?;
            Ok((text, report))
        }
        Err(source) => Err(match io::Error::kind(&source) {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning { path },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskError::Silent,
            _ => AskError::Io { path, source },
        }),
    }
}

impl Desk {
    /// Answers from now on, on a thread of its own, for as long as the process lives.
    pub fn open(self) -> io::Result<()> {
        let path = self.database.with_file_name(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        std::thread::Builder::new().name("desk".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if let Err(error) = stream.and_then(|stream| self.answer(stream)) {
                    tracing::debug!(%error, "a report was not taken");
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            }
        })?;
        Ok(())
    }

    fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut text = serde_json::to_vec(&self.report())?;
        text.push(b'\n');
        stream.write_all(&text)
    }

    fn report(&self) -> Report {
        let (status, limits) = (self.board.status(), self.budget.limits());
        let texts = |texts: &[Arc<str>]| texts.iter().map(|text| text.to_string()).collect();
        let paths = |paths: &[PathBytes]| paths.iter().map(ToString::to_string).collect();
        let (routine, urgent) = (limits.routine, limits.urgent);
        let mut report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            time: status.time.to_string(),
            state: status.state.name().to_owned(),
            entries: status.entries,
            watches: paths(&self.watches),
            source: status.source.to_string(),
            who: status.who.to_string(),
            tiers: texts(&status.tiers),
            can: texts(&status.can),
            cannot: texts(&status.cannot),
            blind: status.blind.iter().map(blind).collect(),
            lag_ms: status.lag_us as f64 / 1000.0,
            records: self.sensor.as_ref().map_or(0, |pulse| pulse.records()),
            dropped: status.dropped,
            last_scan: self.board.last_scan(),
            manager: self.board.manager(),
            responses: responder::standing(&self.responses),
            impaired: self.impaired(),
            budget: report::Budget {
                cpu: routine.cpu_percent,
                read: routine.bytes_per_s,
                start_cpu: urgent.cpu_percent,
                start_read: urgent.bytes_per_s,
                memory: limits.memory_bytes,
                yields_to: self.budget.yields_to().into_iter().map(str::to_owned).collect(),
            },
            usage: report::Usage {
                seconds: self.began.elapsed().as_secs_f64(),
                cpu_ms: status.usage.cpu_us / 1000,
                read_bytes: status.usage.read_bytes,
                rss_bytes: status.usage.rss_bytes,
                throttled_ms: status.usage.throttled_us / 1000,
            },
            ..Report::default()
        };
        match OutboxReader::open(&self.database).and_then(|outbox| outbox.depth()) {
            Ok((events, bytes)) => report.outbox = report::Outbox { events, bytes },
            Err(error) => report.problems.push(format!("the outbox cannot be read: {error}")),
        }
        report.problems.extend(problems(&report, status.state));
        let unsealed = self.board.unsealed().len();
        if unsealed > 0 {
            report
                .problems
                .push(format!("{unsealed} large logs are being read for the first time, and not sealed yet"));
        }
        report
    }

    fn impaired(&self) -> Vec<report::Impaired> {
        let faults = self.health.faults().into_iter();
        faults.map(|(part, detail)| report::Impaired { part: part.name().to_owned(), detail }).collect()
    }
}

fn blind(mount: &message::Blind) -> report::Blind {
    report::Blind { path: mount.point.to_string(), why: mount.why.to_string(), scanned: mount.scanned }
}

/// What is not as it should be, the gravest first.
fn problems(report: &Report, state: AgentState) -> Vec<String> {
    let mut problems: Vec<String> =
        report.impaired.iter().map(|impaired| format!("{}: {}", impaired.part, impaired.detail)).collect();
    if report.source == "none" {
        problems.push("changes are only found by scans".to_owned());
    }
    if !report.manager.connected {
        problems.push(format!("no connection to the manager: {}", report.manager.detail));
    }
    if state == AgentState::Baselining {
        problems.push("the first snapshot is not complete".to_owned());
    }
    if report.usage.rss_bytes > report.budget.memory {
        problems.push("it holds more memory than its budget".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use tally_proto::message::Status;
    use tally_syscheck::Limits;

    use super::*;
    use crate::intake::Intake;
    use crate::state::State;

    #[test]
    fn who_asks_is_answered_and_without_an_agent_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("agent");
        assert!(matches!(ask(&dir), Err(AskError::NotRunning { .. })));
        let state = State::open(&dir, crate::engine::now()).unwrap();
        let budget = Arc::new(Budget::new(tally_syscheck::Budget::default()));
        let health = Arc::new(Health::new(Arc::new(Intake::new(Limits::default(), None))));
        let status = Status { entries: 7, state: AgentState::Watching, source: "fanotify".into(), ..Status::default() };
        let board = Arc::new(Board::new(status, Arc::clone(&budget), Arc::clone(&health)));
        board.connected("web1");
        let (watches, database, began) = (vec![PathBytes::root()], state.path().to_owned(), Instant::now());
        let responses = ResponseConfig::default();
        Desk { board, budget, health: Arc::clone(&health), sensor: None, watches, database, responses, began }
            .open()
            .unwrap();
        let (text, report) = ask(&dir).unwrap();
        assert!(text.ends_with("}\n"));
        assert_eq!((report.entries, &*report.watches, report.problems.len()), (7, &["/".to_owned()][..], 0));
        health.tell(crate::health::Part::State, Some("gone".to_owned()));
        assert_eq!(ask(&dir).unwrap().1.problems, ["state: gone"]);
    }

    #[test]
    fn an_agent_that_hangs_is_told_from_one_that_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        // It takes connections, as the kernel does for a stopped process, and never answers.
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        assert!(matches!(ask(dir.path()), Err(AskError::Silent)));
        drop(listener);
        assert!(matches!(ask(dir.path()), Err(AskError::NotRunning { .. })));
    }
}
