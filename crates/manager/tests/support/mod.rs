//! A manager in this process, operators on its socket, and agents that speak the real protocol over the real network from
//! a script.

pub mod agent;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tally_manager::{Manager, ManagerConfig, Running, control};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use agent::ScriptedAgent;

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Site {
    // Before the network of its agents goes.
    pub manager: Option<Running>,
    pub runtime: Runtime,
    listen: SocketAddr,
    dir: TempDir,
    adjust: fn(&mut ManagerConfig),
}

impl Site {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// One whose configuration is adjusted at each start.
    pub fn with(adjust: fn(&mut ManagerConfig)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut site = Self { runtime, manager: None, listen: "127.0.0.1:0".parse().unwrap(), dir, adjust };
        site.start();
        site
    }

    /// Starts the manager, at its old address if it had one.
    pub fn start(&mut self) {
        let mut config = ManagerConfig {
            listen: self.listen,
            console: Some("127.0.0.1:0".parse().unwrap()),
            heartbeat_ms: 200,
            ..ManagerConfig::new(self.dir.path())
        };
        (self.adjust)(&mut config);
        let manager = Manager::start(config).unwrap();
        self.listen = manager.listen_addr();
        self.manager = Some(manager);
    }

    pub fn stop(&mut self) {
        self.manager.take().unwrap().shutdown();
    }

    pub fn manager(&self) -> &Running {
        self.manager.as_ref().unwrap()
    }

    pub fn manager_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("manager")
    }

    pub fn address(&self) -> String {
        self.listen.to_string()
    }

    pub fn token(&self, uses: u32) -> String {
        self.manager().mint_token("web", uses, Duration::from_secs(60)).unwrap()
    }

    /// A new agent with an identity, not yet connected.
    pub fn agent(&self, name: &str) -> ScriptedAgent {
        let token = self.token(1).parse().unwrap();
        let address = self.address().parse().unwrap();
        let identity = self.runtime.block_on(tally_net::enrol(&address, &token, name)).unwrap();
        ScriptedAgent::new(address, identity)
    }

    pub fn connect(&self, agent: &mut ScriptedAgent) {
        self.runtime.block_on(agent.connect()).unwrap();
    }

    pub fn pump(&self, agent: &mut ScriptedAgent, what: &str, until: impl Fn(&ScriptedAgent) -> bool) {
        self.runtime.block_on(agent.pump(what, until));
    }

    /// Everything told is acknowledged.
    pub fn settle(&self, agent: &mut ScriptedAgent) {
        self.pump(agent, "every ack", |agent| agent.acked == agent.last());
    }

    pub fn ask(&self, request: &Value) -> Vec<Value> {
        ask(&self.manager_dir(), request).unwrap_or_else(|error| panic!("{request}: {error}")).0
    }

    pub fn findings(&self, request: &Value) -> u64 {
        ask(&self.manager_dir(), request).unwrap().1
    }

    pub fn refusal(&self, request: &Value) -> String {
        ask(&self.manager_dir(), request).unwrap_err()
    }

    pub fn changes(&self) -> Vec<Value> {
        self.ask(&json!({"op": "change.list", "limit": 0}))
    }

    /// Asks again and again until the answer is as wanted, which the agent's heartbeats or the manager bring about.
    pub fn wait_for(&self, agent: &mut ScriptedAgent, what: &str, is_there: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_there(self) {
            assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
            self.runtime.block_on(agent.pump_briefly());
        }
    }
}

/// The objects of an answer and the number of findings, or the error.
pub fn ask(dir: &Path, request: &Value) -> Result<(Vec<Value>, u64), String> {
    let stream = UnixStream::connect(dir.join(control::SOCKET_NAME)).map_err(|error| error.to_string())?;
    (&stream).write_all(format!("{request}\n").as_bytes()).map_err(|error| error.to_string())?;
    read_answer(BufReader::new(stream))
}

pub fn read_answer(reader: impl BufRead) -> Result<(Vec<Value>, u64), String> {
    let mut objects = Vec::new();
    for line in reader.lines() {
        let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if let Some(error) = value.get("error") {
            return Err(error.as_str().unwrap().to_owned());
        }
        if value.get("end").is_some() {
            return Ok((objects, value["findings"].as_u64().unwrap()));
        }
        if value != json!({"ok": true}) {
            objects.push(value);
        }
    }
    Err("the answer has no end".to_owned())
}
