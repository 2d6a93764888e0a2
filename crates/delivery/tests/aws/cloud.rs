//! An emulator of AWS as a child process, and a client of it that is not ours.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The account whose manager sends.
pub const APP: &str = "111111111111";
/// The account that gets what is sent.
pub const LOG: &str = "222222222222";
pub const REGION: &str = "eu-central-1";
/// An emulator on a busy machine takes its time.
const START_TIME_MAX: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ministack,
    Moto,
}

pub struct Cloud {
    child: Child,
    pub endpoint: String,
    python: PathBuf,
    /// It may keep files there.
    _dir: TempDir,
}

/// Where `cargo xtask test` puts the tools from PyPI.
fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    std::env::var_os("TALLY_TEST_PYTHON").map_or_else(|| target.join("tools/python/bin"), PathBuf::from)
}

impl Cloud {
    /// `None`, and a line that says why, where the emulator is not installed.
    pub fn start(kind: Kind) -> Option<Self> {
        let tools = tools();
        let (program, script) = match kind {
            Kind::Ministack => ("ministack", None),
            Kind::Moto => ("moto_server", Some("moto")),
        };
        if !tools.join(program).exists() {
            println!("skipped: no {} (cargo xtask test --step setup installs it)", script.unwrap_or(program));
            return None;
        }
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("its address").port();
        let dir = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        let mut command = Command::new(tools.join("python"));
        command.arg(tools.join(program)).current_dir(dir.path()).env("HOME", dir.path());
        match kind {
            Kind::Ministack => command
                .env("AUTH", "true")
                .env("BIND_HOST", "127.0.0.1")
                .env("GATEWAY_PORT", port.to_string())
                .env("MINISTACK_IMDS_V2_REQUIRED", "1")
                .env("S3_DATA_DIR", dir.path().join("s3")),
            Kind::Moto => command.env("MOTO_IAM_LOAD_MANAGED_POLICIES", "false").args([
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ]),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("the emulator starts");
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut cloud = Self { child, endpoint, python: tools.join("python"), _dir: dir };
        cloud.wait(port);
        Some(cloud)
    }

    fn wait(&mut self, port: u16) {
        let until = Instant::now() + START_TIME_MAX;
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "the emulator ended: {}", self.log());
            assert!(Instant::now() < until, "the emulator does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self._dir.path().join("log")).unwrap_or_default()
    }

    /// Calls by boto3, each with its result.
    pub fn ask(&self, calls: &[Value]) -> Vec<Value> {
        let mut child = Command::new(&self.python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../delivery/tests/aws/client.py"))
            .arg(&self.endpoint)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let text = Value::from(calls.to_vec()).to_string();
        child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "the client failed; the emulator said: {}", self.log());
        serde_json::from_slice(&output.stdout).expect("it writes JSON")
    }

    /// The same, and each has to succeed.
    pub fn tell(&self, calls: &[Value]) -> Vec<Value> {
        let results = self.ask(calls);
        for (call, result) in calls.iter().zip(&results) {
            assert!(result["error"].is_null(), "{call}: {result}");
        }
        results
    }

    /// A program of ours in Python.
    pub fn python(&self, script: &str, arguments: &[&Path]) -> Value {
        let output = Command::new(&self.python).arg("-c").arg(script).args(arguments).output().expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it writes JSON")
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
