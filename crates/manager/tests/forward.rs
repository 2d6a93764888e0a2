//! A whole manager whose `[[forward]]` leads to the real rsyslog, in OSSEC's forms, over a time in which there is none.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tally_manager::{Manager, ManagerConfig};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
<group name="syslog,plant,">
  <rule id="100100" level="8"><match>valve</match><description>A valve.</description></rule>
  <rule id="100101" level="5"><match>lamp</match><description>A lamp.</description></rule>
</group>
"#;

struct Rsyslog(Child);

impl Rsyslog {
    fn start(dir: &Path, port: u16) -> Self {
        let config = format!(
            "global(workDirectory=\"{0}\" maxMessageSize=\"64k\")\nmodule(load=\"imtcp\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             action(type=\"omfile\" file=\"{0}/out\" template=\"raw\" flushOnTXEnd=\"on\")\n",
            dir.display()
        );
        std::fs::write(dir.join("rsyslog.conf"), config).unwrap();
        let child = Command::new("rsyslogd")
            .args(["-n", "-f"])
            .arg(dir.join("rsyslog.conf"))
            .arg("-i")
            .arg(dir.join("pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("rsyslog", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self(child)
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn forwarded_alerts_reach_rsyslog_over_its_absence() {
    if Command::new("rsyslogd").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("skipped: no rsyslog");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(dir.path().join("rules.xml"), RULES).unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nconsole = \"off\"\nrules = [{:?}]\n\
         [[syslog]]\nlisten = \"127.0.0.1:0\"\ntransport = \"tcp\"\nallow = [\"127.0.0.0/8\"]\n\
         [[forward]]\nserver = \"127.0.0.1:{port}\"\ntransport = \"tcp\"\nformat = \"default\"\nlevel = 7\n\
         [[forward]]\nserver = \"127.0.0.1:{port}\"\ntransport = \"tcp\"\nformat = \"json\"\nrules = [100101]\n",
        dir.path().join("rules.xml")
    );
    let (config, faults) = ManagerConfig::parse(&text, "manager.toml", dir.path());
    assert!(faults.is_empty(), "{faults:?}");
    let manager = Manager::start(config).unwrap();
    let tell = |lines: &[&str]| {
        let mut stream = TcpStream::connect(manager.syslog_addrs()[0]).unwrap();
        for line in lines {
            stream.write_all(format!("<13>Nov 24 02:57:06 plc plc: {line}\n").as_bytes()).unwrap();
        }
    };
    // Nobody listens yet.
    tell(&["valve 1", "lamp 1"]);
    let out = || String::from_utf8_lossy(&std::fs::read(dir.path().join("out")).unwrap_or_default()).into_owned();
    let rsyslog = Rsyslog::start(dir.path(), port);
    wait_for("what was told before", || out().contains("valve 1") && out().contains("lamp 1"));
    drop(rsyslog);
    tell(&["valve 2", "lamp 2"]);
    let _rsyslog = Rsyslog::start(dir.path(), port);
    wait_for("what was told meanwhile", || out().contains("valve 2") && out().contains("lamp 2"));
    manager.shutdown();
    let told = out();
    let valve = told.lines().find(|line| line.contains("valve 1")).unwrap();
    // OSSEC's own header and words.
    assert!(
        valve.starts_with("<132>") && valve.contains(" ossec: Alert Level: 8; Rule: 100100 - A valve.;"),
        "{valve}"
    );
    let lamp = told.lines().find(|line| line.contains("lamp 1")).unwrap();
    assert!(lamp.contains("\"id\":100101") && lamp.contains("\"crit\":5"), "{lamp}");
    // Each by its own conditions alone: lamps are no valves.
    assert!(!told.lines().any(|line| line.contains("Alert Level: 5")), "{told}");
}
