//! Syslog to the real rsyslog: over UDP, TCP and TLS with certificates of both sides, also while it is killed and started
//! again. Every message is found by its id.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tally_delivery::{AgentFacts, AlertPart, Destination, Key, Keys, Kind, Message, Sent, Settings, Value};
use tally_types::{
    AgentId, Change, ChangeKind, DetectedBy, Epoch, Event, EventBody, EventId, Level, PathBytes, RuleId, RuleMatch,
    Timestamp, Verdict,
};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Rsyslog {
    dir: tempfile::TempDir,
    port: u16,
    config: String,
    child: Option<Child>,
}

impl Rsyslog {
    /// `None` where there is none.
    fn start(input: impl Fn(&Path, u16) -> String, port: u16) -> Option<Self> {
        if Command::new("rsyslogd").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("skipped: no rsyslog");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "global(workDirectory=\"{0}\" maxMessageSize=\"64k\")\n{1}\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             action(type=\"omfile\" file=\"{0}/out\" template=\"raw\" flushOnTXEnd=\"on\")\n",
            dir.path().display(),
            input(dir.path(), port)
        );
        let mut rsyslog = Self { dir, port, config, child: None };
        rsyslog.run();
        Some(rsyslog)
    }

    fn run(&mut self) {
        let file = self.dir.path().join("rsyslog.conf");
        std::fs::write(&file, &self.config).unwrap();
        let child = Command::new("rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(&file)
            .arg("-i")
            .arg(self.dir.path().join("pid"))
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("out")).unwrap_or_default()).into_owned()
    }

    /// The numbers of all ids that it has written.
    fn ids(&self) -> BTreeSet<u64> {
        let out = self.out();
        let ids = out.split("id=\"tally-test/").skip(1);
        ids.filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn destination(pairs: &[(&str, Value)]) -> Destination {
    let key = |(name, value): &(&str, Value)| Key { name: (*name).into(), at: 0, value_at: 0, value: value.clone() };
    let mut keys = Keys::new("[[delivery]]", 0, pairs.iter().map(key).collect());
    let settings = Settings::read(Kind::Syslog, &mut keys).unwrap();
    assert_eq!(keys.finish(), vec![]);
    Destination::new(&settings)
}

fn message(number: u64) -> Message {
    let path = PathBytes::new(format!("/etc/Ä {number}").into_bytes()).unwrap();
    let change = Change::new(path, ChangeKind::Modified, DetectedBy::Realtime);
    let rule = RuleMatch {
        id: RuleId(550),
        level: Level::new(7).unwrap(),
        description: "A watched file changed.".into(),
        groups: ["syscheck".into()].into(),
        pci_dss: [].into(),
    };
    let time = Timestamp(1_700_000_000_000_000);
    Message {
        id: format!("tally-test/{number}").into(),
        index: number,
        event_id: EventId { agent: AgentId(1), epoch: Epoch(1), seq: number },
        event_index: number,
        event: Arc::new(Event { epoch: Epoch(1), seq: number, time, body: EventBody::Change(Box::new(change)) }),
        alert: Some(AlertPart { rule, time }),
        agent: Arc::new(AgentFacts { id: AgentId(1), name: "web1".into(), ..AgentFacts::default() }),
        manager: "manager-1".into(),
        received: time,
        verdict: Verdict::Unexplained,
        is_over: false,
    }
}

fn messages(range: std::ops::Range<u64>) -> Vec<Message> {
    range.map(message).collect()
}

/// Sends until it is taken, as a delivery does.
async fn bring(destination: &mut Destination, batch: &[Message]) {
    let start = Instant::now();
    loop {
        match destination.send(batch).await {
            Sent::Done { refused } => return assert_eq!(refused, vec![]),
            Sent::Again { why, .. } => assert!(start.elapsed() < PATIENCE, "{why}"),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn wait_for_all(rsyslog: &Rsyslog, count: u64) {
    let start = Instant::now();
    let all: BTreeSet<_> = (0..count).collect();
    loop {
        let ids = rsyslog.ids();
        if ids == all {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "missing: {:?}", all.difference(&ids).take(9).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tcp(_: &Path, port: u16) -> String {
    format!("module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")")
}

#[tokio::test]
async fn over_tcp_with_either_frame() {
    for framing in ["octets", "newline"] {
        let Some(rsyslog) = Rsyslog::start(tcp, free_port()) else { return };
        let server = format!("127.0.0.1:{}", rsyslog.port);
        let mut destination =
            destination(&[("server", text(&server)), ("transport", text("tcp")), ("framing", text(framing))]);
        for from in (0..400).step_by(100) {
            bring(&mut destination, &messages(from..from + 100)).await;
        }
        wait_for_all(&rsyslog, 400);
        destination.close().await;
        let out = rsyslog.out();
        let line = out.lines().next().unwrap();
        let header = "<132>1 2023-11-14T22:13:20.000000Z web1 tallystick - 550 [tally@32473 id=\"tally-test/0\" rule=\"550\" \
                      level=\"7\" agent=\"web1\" manager=\"manager-1\"] {\"schema\":1,";
        assert!(line.starts_with(header) && line.contains("/etc/Ä 0"), "{line}");
    }
}

/// What rsyslog had not read when it was killed is gone with its kernel's buffer: it comes again.
#[tokio::test]
async fn a_receiver_that_is_killed_in_the_middle_misses_nothing() {
    let Some(mut rsyslog) = Rsyslog::start(tcp, free_port()) else { return };
    let server = format!("127.0.0.1:{}", rsyslog.port);
    let mut destination = destination(&[("server", text(&server)), ("transport", text("tcp"))]);
    for round in 0..10 {
        if round % 3 == 2 {
            rsyslog.kill();
            rsyslog.run();
        }
        bring(&mut destination, &messages(round * 100..(round + 1) * 100)).await;
    }
    wait_for_all(&rsyslog, 1000);
}

#[tokio::test]
async fn over_udp() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let input = |_: &Path, port: u16| {
        format!("module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")")
    };
    let Some(rsyslog) = Rsyslog::start(input, port) else { return };
    let server = format!("127.0.0.1:{port}");
    let mut destination = destination(&[("server", text(&server)), ("protocol", text("rfc5424"))]);
    // Until it listens, nobody notices but for the errors that come back.
    let start = Instant::now();
    while rsyslog.ids().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        let _ = destination.send(&messages(0..1)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for from in (1..201).step_by(20) {
        bring(&mut destination, &messages(from..from + 20)).await;
    }
    wait_for_all(&rsyslog, 201);
}

/// An authority, and what it has signed, as files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = dir.join(format!("{name}.crt"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    fn sign(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let (certificate, secret) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        (certificate, secret)
    }
}

#[tokio::test]
async fn over_tls_with_certificates_of_both_sides() {
    let files = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(files.path(), "own"), Authority::new(files.path(), "other"));
    let (server_cert, server_key) = own.sign(files.path(), "localhost");
    let (cert, key) = own.sign(files.path(), "manager");
    let (wrong_cert, wrong_key) = other.sign(files.path(), "stranger");
    let input = |_: &Path, port: u16| {
        format!(
            "global(defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{}\"\n\
             defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\")\n\
             module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")",
            own.file.display(),
            server_cert.display(),
            server_key.display()
        )
    };
    let Some(mut rsyslog) = Rsyslog::start(input, free_port()) else { return };
    let server = format!("localhost:{}", rsyslog.port);
    let path = |path: &Path| text(path.to_str().unwrap());
    let with = |ca: &Path, own: Option<(&Path, &Path)>| {
        let mut pairs = vec![("server", text(&server)), ("transport", text("tls")), ("ca", path(ca))];
        if let Some((cert, key)) = own {
            pairs.extend([("certificate", path(cert)), ("key", path(key))]);
        }
        destination(&pairs)
    };
    let mut good = with(&own.file, Some((&cert, &key)));
    for round in 0..6 {
        if round == 3 {
            rsyslog.kill();
            rsyslog.run();
        }
        bring(&mut good, &messages(round * 50..(round + 1) * 50)).await;
    }
    wait_for_all(&rsyslog, 300);
    let stranger = messages(900..901);
    let refused = async |mut destination: Destination, expected: &str| match destination.send(&stranger).await {
        Sent::Wrong { why } => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?}, not {expected}"),
    };
    refused(with(&other.file, Some((&cert, &key))), "name that authority's certificate by ca").await;
    refused(with(&own.file, None), "set certificate and key").await;
    refused(with(&own.file, Some((&wrong_cert, &wrong_key))), "does not accept our certificate").await;
    assert!(!rsyslog.ids().contains(&900));
}
