//! Whole managers with a webhook that behaves as a test says. The receiver is of our own making: no real one misbehaves on
//! demand. What leaves by syslog goes to a real receiver in `crates/delivery/tests`.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

#[path = "support/http.rs"]
mod http;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tally_manager::{Manager, ManagerConfig, Running, control};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
<group name="syslog,plant,">
  <rule id="100100" level="8"><match>valve</match><description>A valve.</description></rule>
  <rule id="100101" level="5"><match>lamp</match><description>A lamp.</description></rule>
</group>
"#;

/// What it answers to a body.
type Answers = Arc<Mutex<Box<dyn Fn(&str) -> u16 + Send>>>;

struct Receiver {
    url: String,
    answers: Answers,
    /// By their ids: how often each was taken, and the line it is about.
    taken: Arc<Mutex<BTreeMap<String, (u32, String)>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answers: Answers = Arc::new(Mutex::new(Box::new(|_| 200)));
        let receiver = Self { url, answers, taken: Arc::default() };
        let (answers, taken) = (receiver.answers.clone(), receiver.taken.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, taken) = (answers.clone(), taken.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &answers, &taken));
            }
        });
        receiver
    }

    fn answer(&self, answers: impl Fn(&str) -> u16 + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    /// The lines that were taken, in the order of the ledger.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .taken
            .lock()
            .unwrap()
            .iter()
            .filter(|(_, (_, line))| !line.is_empty())
            .map(|(id, (_, line))| (id.rsplit('/').next().unwrap().parse::<u64>().unwrap_or(0), line.clone()))
            .collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn times(&self, line: &str) -> u32 {
        self.taken.lock().unwrap().values().filter(|(_, own)| own == line).map(|(times, _)| times).sum()
    }
}

fn serve(stream: &TcpStream, answers: &Answers, taken: &Mutex<BTreeMap<String, (u32, String)>>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = http::body(&mut reader) {
        let body = String::from_utf8(body).unwrap();
        let status = answers.lock().unwrap()(&body);
        if status == 200 {
            let all: Value = serde_json::from_str(&body).unwrap();
            let mut taken = taken.lock().unwrap();
            for message in all.as_array().unwrap() {
                let id = message["delivery_id"].as_str().unwrap().to_owned();
                let line = message["log"]["text"].as_str().unwrap_or_default().to_owned();
                let known = taken.entry(id).or_insert((0, line.clone()));
                assert_eq!(known.1, line, "one id means one message");
                known.0 += 1;
            }
        }
        let mut out = stream;
        let later = if status == 429 { "Retry-After: 86400\r\n" } else { "" };
        let answered =
            write!(out, "HTTP/1.1 {status} X\r\n{later}Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
        if answered.is_err() {
            return;
        }
    }
}

struct Site {
    dir: tempfile::TempDir,
    manager: Option<Running>,
    delivery: String,
}

impl Site {
    fn new(delivery: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rules.xml"), RULES).unwrap();
        let mut site = Self { dir, manager: None, delivery: delivery.to_owned() };
        site.start();
        site
    }

    fn start(&mut self) {
        let rules = self.dir.path().join("rules.xml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nconsole = \"off\"\nrules = [{rules:?}]\n\
             [[syslog]]\nlisten = \"127.0.0.1:0\"\ntransport = \"tcp\"\nallow = [\"127.0.0.0/8\"]\n{}",
            self.delivery
        );
        let (config, faults) = ManagerConfig::parse(&text, "manager.toml", self.dir.path());
        assert!(faults.is_empty(), "{faults:?}");
        self.manager = Some(Manager::start(config).unwrap());
    }

    fn stop(&mut self) {
        self.manager.take().unwrap().shutdown();
    }

    fn input(&self) -> SocketAddr {
        self.manager.as_ref().unwrap().syslog_addrs()[0]
    }

    /// Has lines come in by syslog: each is an alert.
    fn tell(&self, lines: impl IntoIterator<Item = String>) {
        let mut stream = TcpStream::connect(self.input()).unwrap();
        for line in lines {
            stream.write_all(format!("<13>Nov 24 02:57:06 plc plc: {line}\n").as_bytes()).unwrap();
        }
    }

    fn ask(&self, request: &Value) -> Result<Vec<Value>, String> {
        let stream = UnixStream::connect(self.dir.path().join("manager").join(control::SOCKET_NAME)).unwrap();
        (&stream).write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut objects = Vec::new();
        for line in BufReader::new(&stream).lines() {
            let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if let Some(error) = value.get("error") {
                return Err(error.as_str().unwrap().to_owned());
            }
            if value.get("end").is_none() && value != json!({"ok": true}) {
                objects.push(value);
            }
        }
        Ok(objects)
    }

    fn delivery(&self) -> Value {
        self.ask(&json!({"op": "delivery.list"})).unwrap()[0].clone()
    }

    /// How often a rule has raised an alert.
    fn alerts_of(&self, rule: u32) -> usize {
        let all = self.ask(&json!({"op": "alert.list", "limit": 0})).unwrap();
        all.iter().filter(|alert| alert["rule"]["id"] == rule).count()
    }
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn webhook(receiver: &Receiver, more: &str) -> String {
    format!("[[delivery]]\nname = \"hook\"\nkind = \"webhook\"\nurl = {:?}\nbatch_count = 16\n{more}\n", receiver.url)
}

fn valves(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|n| format!("valve {n}"))
}

/// The part of a line that the test wrote.
fn ends(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.rsplit("plc: ").next().unwrap()).collect()
}

#[test]
fn every_alert_that_is_meant_comes_in_order_and_goes_on_after_a_restart() {
    let receiver = Receiver::start();
    let mut site = Site::new(&webhook(&receiver, "min_level = 6\ngroups = [\"plant\"]"));
    site.tell(valves(0..100).chain(["lamp".to_owned()]).chain(valves(100..120)));
    wait_for("all alerts", || receiver.lines().len() == 120);
    let lines = receiver.lines();
    assert_eq!(ends(&lines), valves(0..120).collect::<Vec<_>>());
    site.stop();
    receiver.answer(|_| 503);
    site.start();
    site.tell(valves(120..150));
    wait_for("a failure", || site.delivery()["state"] == "failing" && site.delivery()["waiting"].as_u64() >= Some(30));
    site.stop();
    receiver.answer(|_| 200);
    site.start();
    wait_for("what waited", || receiver.lines().len() == 150);
    let lines = receiver.lines();
    assert_eq!(ends(&lines), valves(0..150).collect::<Vec<_>>());
}

#[test]
fn a_message_that_is_refused_blocks_nothing_and_is_kept() {
    let receiver = Receiver::start();
    let site = Site::new(&webhook(&receiver, "groups = [\"plant\"]"));
    receiver.answer(|body| if body.contains("valve 7\"") { 422 } else { 200 });
    site.tell(valves(0..20));
    wait_for("the others", || receiver.lines().len() == 19);
    wait_for("the dead letter", || site.delivery()["dead"] == 1);
    let dead = site.ask(&json!({"op": "delivery.replay", "name": "hook", "dead": true})).unwrap();
    assert!(dead[0]["reason"].as_str().unwrap().contains("422"), "{dead:?}");
    wait_for("the alert of it", || site.alerts_of(200_132) == 1);
    receiver.answer(|_| 200);
    site.ask(&json!({"op": "delivery.replay", "name": "hook", "dead": true, "retry": true})).unwrap();
    wait_for("it after all", || receiver.lines().len() == 20 && site.delivery()["dead"] == 0);
}

/// A destination that answers 500 whenever it meets one message would wait for it for ever.
#[test]
fn a_message_that_its_destination_always_fails_on_blocks_nothing() {
    let receiver = Receiver::start();
    let more = "groups = [\"plant\"]\nretry_first = \"10ms\"";
    let site = Site::new(&webhook(&receiver, more));
    receiver.answer(|body| if body.contains("valve 3\"") { 500 } else { 200 });
    site.tell(valves(0..20));
    wait_for("the others", || receiver.lines().len() == 19);
    let dead = site.ask(&json!({"op": "delivery.replay", "name": "hook", "dead": true})).unwrap();
    assert!(dead[0]["reason"].as_str().unwrap().contains("takes the next"), "{dead:?}");
}

#[test]
fn a_failure_that_lasts_is_told_once_and_so_is_its_end() {
    let receiver = Receiver::start();
    let site = Site::new(&webhook(&receiver, "groups = [\"plant\"]\nfailing_max = \"100ms\"\nretry_first = \"10ms\""));
    receiver.answer(|_| 500);
    site.tell(valves(0..3));
    wait_for("the alert", || site.alerts_of(200_131) == 1);
    let status = site.ask(&json!({"op": "status"})).unwrap();
    assert!(status[0]["problems"][0].as_str().unwrap().starts_with("Delivery hook fails since "), "{}", status[0]);
    assert_eq!(status[0]["deliveries"][0]["state"], "failing");
    assert!(status[0]["deliveries"][0]["waiting"].as_u64() >= Some(4), "{}", status[0]);
    receiver.answer(|_| 200);
    wait_for("its end", || site.alerts_of(200_133) == 1);
    assert_eq!((site.alerts_of(200_131), site.delivery()["state"].clone()), (1, json!("working")));
    // A place that points elsewhere is a fault of the settings, told at once and not followed.
    receiver.answer(|_| 302);
    site.tell(valves(3..4));
    wait_for("the second alert", || site.alerts_of(200_131) == 2);
    assert!(site.delivery()["last_error"].as_str().unwrap().contains("not followed"));
}

#[test]
fn operators_pause_test_and_replay() {
    let receiver = Receiver::start();
    let site = Site::new(&webhook(&receiver, "groups = [\"plant\"]"));
    let told = site.ask(&json!({"op": "delivery.test", "name": "hook"})).unwrap();
    assert!(told[0]["message"].as_str().unwrap().contains(&receiver.url), "{told:?}");
    assert!(receiver.taken.lock().unwrap().keys().any(|id| id.contains("/test-")));
    receiver.answer(|_| 403);
    assert!(site.ask(&json!({"op": "delivery.test", "name": "hook"})).unwrap_err().contains("403"));
    receiver.answer(|_| 200);
    let error = site.ask(&json!({"op": "delivery.pause", "name": "hok"})).unwrap_err();
    assert!(error.contains("did you mean \"hook\"?"), "{error}");
    site.tell(valves(0..2));
    wait_for("two", || receiver.lines().len() == 2);
    site.ask(&json!({"op": "delivery.pause", "name": "hook"})).unwrap();
    wait_for("the pause", || site.delivery()["state"] == "paused");
    site.tell(valves(2..5));
    wait_for("what waits", || site.delivery()["waiting"].as_u64() >= Some(3));
    assert_eq!(receiver.lines().len(), 2);
    site.ask(&json!({"op": "delivery.resume", "name": "hook"})).unwrap();
    wait_for("all", || receiver.lines().len() == 5);
    site.ask(&json!({"op": "delivery.replay", "name": "hook", "since": "1h"})).unwrap();
    wait_for("all twice", || receiver.times(&receiver.lines()[4]) == 2 && receiver.times(&receiver.lines()[0]) == 2);
    assert_eq!(receiver.lines().len(), 5);
}

#[test]
fn faults_of_the_configuration_have_their_places() {
    let text = "[[delivery]]\nname = \"a b\"\nkind = \"webhok\"\n[[delivery]]\nname = \"c\"\nkind = \"webhook\"\n\
                url = \"https://x/\"\ntoken = \"geheim\"\nmin_levl = 3\n[[delivery]]\nkind = \"webhook\"\nwhat = \"events\"\nrules = [550]\n";
    let (_, faults) = ManagerConfig::parse(text, "m.toml", Path::new("/s"));
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    for expected in [
        "m.toml:2:8: name is a word",
        "m.toml:3:8: unknown kind \"webhok\" (did you mean \"webhook\"?)",
        "m.toml:8:9: token is a secret",
        "m.toml:9:1: unknown key \"min_levl\" in [[delivery]] \"c\" (did you mean \"min_level\"?)",
        "m.toml:10:1: [[delivery]] needs name",
        "m.toml:13:9: rules is of a rule",
    ] {
        assert!(told.iter().any(|told| told.starts_with(expected)), "{expected}: {told:#?}");
    }
    assert!(told.iter().all(|told| !told.contains("geheim")));
}

/// A destination that asks for a day gets it, but somebody is told when its limit is over.
#[test]
fn a_destination_that_asks_for_a_day_does_not_hide_that_it_fails() {
    let receiver = Receiver::start();
    receiver.answer(|_| 429);
    let mut site = Site::new(&webhook(&receiver, "failing_max = \"1s\""));
    site.tell(valves(0..1));
    wait_for("the alert", || site.alerts_of(200_131) == 1);
    assert_eq!(site.delivery()["state"], "failing");
    site.stop();
}

/// A small disk for the book of deliveries alone.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("skipped: no tmpfs can be mounted here");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Takes all room that there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_book_that_cannot_be_written_loses_nothing() {
    let receiver = Receiver::start();
    let times = |n: u32| {
        let taken = receiver.taken.lock().unwrap();
        let of = |line: &str| line.rsplit("plc: ").next() == Some(&*format!("valve {n}"));
        taken.values().filter(|(_, line)| of(line)).map(|(times, _)| times).sum::<u32>()
    };
    let mut site = Site::new(&format!(
        "[[delivery]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\nretry_first = \"20ms\"\n",
        receiver.url
    ));
    site.tell(["valve 1".to_owned()]);
    wait_for("the first", || times(1) == 1);
    site.stop();
    let Some(disk) = Disk::mount(&site.dir.path().join("small")) else { return };
    let book = site.dir.path().join("manager/deliveries.db");
    std::fs::rename(&book, disk.0.join("book"))
        .or_else(|_| std::fs::copy(&book, disk.0.join("book")).and_then(|_| std::fs::remove_file(&book)))
        .unwrap();
    std::os::unix::fs::symlink(disk.0.join("book"), &book).unwrap();
    site.start();
    disk.fill();
    site.tell(valves(2..40));
    wait_for("what cannot be noted", || {
        let state = site.delivery();
        state["state"] == "failing"
            && state["last_error"].as_str().is_some_and(|why| why.contains("cannot be read or noted"))
    });
    disk.make_room();
    let seen = Instant::now();
    while !(2..40).all(|n| times(n) >= 1) {
        assert!(seen.elapsed() < PATIENCE, "{} {:?}", site.delivery(), (2..40).map(&times).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_for("what can be noted again", || site.delivery()["state"] == "working" && site.delivery()["waiting"] == 0);
    // What came twice came with the same id (the receiver sees to that), and after a restart nothing comes again.
    let before = (2..40).map(&times).sum::<u32>();
    site.stop();
    site.start();
    site.tell(["valve 40".to_owned()]);
    wait_for("the next", || times(40) == 1);
    assert_eq!((2..40).map(&times).sum::<u32>(), before);
    // Not the same again and again.
    assert!((2..40).all(|n| times(n) <= 3), "{before}");
    site.stop();
    drop(disk);
}
