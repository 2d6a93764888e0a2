//! A whole manager whose `[mail]` leads to a real mail server: aiosmtpd, which files what it takes.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tally_manager::{Manager, ManagerConfig, Running, control};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
<group name="syslog,plant,">
  <rule id="100100" level="8"><match>valve</match><description>A valve.</description></rule>
  <rule id="100101" level="12"><match>boiler</match><description>A boiler.</description></rule>
  <rule id="100102" level="5"><match>lamp</match><description>A lamp.</description></rule>
</group>
"#;

struct Server {
    child: Child,
    port: u16,
    mails: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Option<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            |dir| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir),
        );
        let python = target.join("tools/python/bin/python");
        if !python.exists() {
            println!("skipped: aiosmtpd is not installed; cargo xtask test --step setup does it");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mails = dir.join("mails");
        let child = Command::new(python)
            .args(["-W", "ignore", "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Mailbox"])
            .args(["-l", &format!("127.0.0.1:{port}")])
            .arg(&mails)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, mails };
        wait_for("the mail server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(server)
    }

    /// The mails that it took whose envelope names somebody.
    fn mails(&self, who: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.mails.join("new")) else { return Vec::new() };
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
        texts.filter(|text| text.lines().any(|line| line == format!("X-RcptTo: {who}"))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(dir: &Path, mail: &str) -> Running {
    let rules = dir.join("rules.xml");
    std::fs::write(&rules, RULES).unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nconsole = \"off\"\nrules = [{rules:?}]\n\
         [[syslog]]\nlisten = \"127.0.0.1:0\"\ntransport = \"tcp\"\nallow = [\"127.0.0.0/8\"]\n{mail}"
    );
    let (config, faults) = ManagerConfig::parse(&text, "manager.toml", dir);
    assert!(faults.is_empty(), "{faults:?}");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    Manager::start(config).unwrap()
}

/// Has lines come in by syslog: each is an alert.
fn tell(manager: &Running, lines: &[&str]) {
    let mut stream = TcpStream::connect(manager.syslog_addrs()[0]).unwrap();
    for line in lines {
        stream.write_all(format!("<13>Nov 24 02:57:06 plc plc: {line}\n").as_bytes()).unwrap();
    }
}

/// How the delivery is.
fn list(dir: &Path) -> Value {
    ask(dir, "{\"op\":\"delivery.list\"}\n").into_iter().find(|value| value.get("name").is_some()).unwrap()
}

fn ask(dir: &Path, request: &str) -> Vec<Value> {
    let stream = UnixStream::connect(dir.join("manager").join(control::SOCKET_NAME)).unwrap();
    (&stream).write_all(request.as_bytes()).unwrap();
    let lines = BufReader::new(&stream).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut values = Vec::new();
    for value in lines {
        let is_end = value.get("end").is_some() || value.get("error").is_some();
        values.push(value);
        if is_end {
            break;
        }
    }
    values
}

#[test]
fn alerts_are_mailed_once_to_those_who_are_to_get_them() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(dir.path()) else { return };
    let mail = format!(
        "[mail]\nto = [\"ops@example.com\"]\nfrom = \"fim@example.com\"\nserver = \"127.0.0.1\"\nport = {}\nlevel = 7\n\
         ids_name = \"shop\"\n\
         [[mail_route]]\nto = [\"boss@example.com\"]\nlevel = 12\ngroup = \"plant\"\nlocation = \"!^(web\"\nalone = true\n\
         [[mail_route]]\nto = [\"pager@example.com\"]\nrules = [100101]\nform = \"sms\"\n",
        server.port
    );
    let manager = start(dir.path(), &mail);
    tell(&manager, &["lamp 1", "valve 1", "valve 2"]);
    wait_for("the mail of two valves", || server.mails("ops@example.com").len() == 1);
    // What is alone does not wait, and takes what was gathered with it.
    tell(&manager, &["boiler 1"]);
    wait_for("the boiler", || server.mails("boss@example.com").len() == 1);
    wait_for("the pager", || server.mails("pager@example.com").len() == 1);
    wait_for("the boiler for all", || server.mails("ops@example.com").len() == 2);
    // After a restart nothing comes twice.
    manager.shutdown();
    let manager = start(dir.path(), &mail);
    tell(&manager, &["boiler 2"]);
    wait_for("the second boiler", || server.mails("boss@example.com").len() == 2);
    manager.shutdown();
    let all = server.mails("ops@example.com");
    let about = |what: &str| all.iter().filter(|text| text.contains(what)).count();
    assert_eq!((about("A valve."), about("A lamp.")), (1, 0), "{all:#?}");
    assert!(all.iter().all(|text| text.contains("X-IDS-OSSEC: shop") && text.contains("From: fim@example.com")));
    let first = all.iter().find(|text| text.contains("A valve.")).unwrap();
    assert!(first.contains("Subject: Level 8 on "), "{first}");
}

/// At its bound for the hour mail waits, and does not fail.
#[test]
fn mail_beyond_the_bound_of_an_hour_waits_and_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(dir.path()) else { return };
    let mail = format!(
        "[mail]\nfrom = \"fim@example.com\"\nserver = \"127.0.0.1\"\nport = {}\nper_hour_max = 1\n\
         [[mail_route]]\nto = [\"boss@example.com\"]\nalone = true\n",
        server.port
    );
    let manager = start(dir.path(), &mail);
    tell(&manager, &["valve 1"]);
    wait_for("the first", || server.mails("boss@example.com").len() == 1);
    tell(&manager, &["valve 2"]);
    // Unless an hour of the clock ends here, in which case it may go.
    wait_for("what waits", || list(dir.path())["state"] == "held" || server.mails("boss@example.com").len() == 2);
    // A restart does not begin the count anew.
    let hour = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 3600;
    let began = hour();
    manager.shutdown();
    let manager = start(dir.path(), &mail);
    wait_for("what waits still", || list(dir.path())["state"] == "held" || hour() != began);
    assert!(server.mails("boss@example.com").len() == 1 || hour() != began);
    let now = list(dir.path());
    assert!(now["failing_since"].is_null() && now["last_error"].is_null(), "{now}");
    manager.shutdown();
}

/// The second of the day by the host's clock, as `digest_at` has it.
fn in_seconds(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let at = tally_sys::clock::local(i64::try_from(now).unwrap() + seconds);
    format!("{:02}:{:02}:{:02}", at.hour, at.minute, at.second)
}

fn with_review(server: &Server, at: &str) -> String {
    format!(
        "[[delivery]]\nname = \"review\"\nkind = \"mail\"\nserver = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\n\
         from = \"fim@example.com\"\nwindow = \"500ms\"\ndigest_at = \"{at}\"\ndigest_to = [\"audit@example.com\"]\n",
        server.port
    )
}

#[test]
fn a_day_is_reviewed_once_over_restarts_and_after_a_day_off() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(dir.path()) else { return };
    let reviews = || server.mails("audit@example.com");
    let then = |seconds: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        i64::try_from((now - seconds) * 1_000_000).unwrap()
    };
    let reviewed = |until: i64| {
        let mut book = tally_store::DeliveryBook::open(&dir.path().join("manager")).unwrap();
        book.set_marks("review", &[("reviewed_until", until)]).unwrap();
    };
    // A new delivery does not go back to days before it.
    let manager = start(dir.path(), &with_review(&server, &in_seconds(-3600)));
    tell(&manager, &["valve 1", "valve 2", "boiler 1", "lamp 1"]);
    wait_for("the alerts", || list(dir.path())["sent"].as_u64() >= Some(4));
    manager.shutdown();
    assert_eq!(reviews().len(), 0);
    reviewed(then(3600));
    let at = in_seconds(2);
    let manager = start(dir.path(), &with_review(&server, &at));
    wait_for("the review", || reviews().len() == 1);
    manager.shutdown();
    // It is not sent again, though the time of day is over.
    let manager = start(dir.path(), &with_review(&server, &at));
    let sent = || list(dir.path())["sent"].as_u64().unwrap();
    let before = sent();
    tell(&manager, &["valve 3"]);
    wait_for("the alert", || sent() > before);
    manager.shutdown();
    assert_eq!(reviews().len(), 1);
    let first = reviews().remove(0);
    assert!(first.contains("other alerts") && first.contains("A boiler.") && first.contains("2 times"), "{first}");
    // Alerts of the same delivery go to nobody: it only reviews.
    assert!(first.contains("X-Tallystick-Review: needed"), "{first}");
    // The manager was away for two days: what was missed comes at once, in one mail, with nothing in it and saying so.
    reviewed(then(9 * 86_400));
    let manager = start(dir.path(), &with_review(&server, &in_seconds(-2 * 3600)));
    wait_for("what was missed", || reviews().len() == 2);
    manager.shutdown();
    let empty = reviews().into_iter().find(|text| text.contains("X-Tallystick-Review: nothing"));
    assert!(empty.is_some_and(|text| text.contains("Nothing to review.")), "{:?}", reviews());
}

/// As many as 600 hosts with 20 files each: one mail with a count, whatever was read at once before.
#[test]
fn a_night_of_patches_is_one_mail() {
    const LINES: usize = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(dir.path()) else { return };
    let mail = format!(
        "[mail]\nto = [\"ops@example.com\"]\nfrom = \"fim@example.com\"\nserver = \"127.0.0.1\"\nport = {}\n",
        server.port
    );
    let manager = start(dir.path(), &mail);
    ask(dir.path(), "{\"op\":\"delivery.pause\",\"name\":\"mail\"}\n");
    let lines: Vec<_> = (0..LINES).map(|n| format!("valve {n}")).collect();
    let lines: Vec<_> = lines.iter().map(|line| &**line).collect();
    tell(&manager, &lines);
    wait_for("all alerts", || list(dir.path())["waiting"].as_u64() >= Some(LINES as u64));
    ask(dir.path(), "{\"op\":\"delivery.resume\",\"name\":\"mail\"}\n");
    wait_for("the mail", || list(dir.path())["waiting"] == 0);
    manager.shutdown();
    let mails = server.mails("ops@example.com");
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains(&format!("{LINES} alerts of one cause")), "{}", &mails[0][..2000]);
}
