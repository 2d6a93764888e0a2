//! Lines that come by syslog, sent by the real `logger`, and over TLS by `openssl`: each that matches a rule is an alert, in the
//! ledger and in the files that OSSEC writes.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tally_manager::{Manager, ManagerConfig, Running};
use tempfile::TempDir;

const RULES: &str = r#"
<group name="syslog,">
  <rule id="100100" level="8">
    <match>valve opened</match>
    <description>A valve was opened.</description>
  </rule>
</group>
"#;

fn start(dir: &Path, allow: &str) -> Running {
    let rules = dir.join("local_rules.xml");
    std::fs::write(&rules, RULES).unwrap();
    let input = |transport: &str| {
        format!("[[syslog]]\nlisten = \"127.0.0.1:0\"\ntransport = \"{transport}\"\nallow = [\"{allow}\"]\n")
    };
    let text = format!(
        "listen = \"127.0.0.1:0\"\nconsole = \"127.0.0.1:0\"\nrules = [{rules:?}]\n[alerts_log]\ntext = true\njson = true\n{}{}{}",
        input("udp"),
        input("tcp"),
        input("tls")
    );
    let (config, faults) = ManagerConfig::parse(&text, "manager.toml", dir);
    assert!(faults.is_empty(), "{faults:?}");
    Manager::start(config).unwrap()
}

fn logger(to: SocketAddr, options: &[&str], text: &str) {
    let sent = Command::new("logger")
        .args(["--server", "127.0.0.1", "--port", &to.port().to_string(), "--tag", "plc"])
        .args(options)
        .arg(text)
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "logger is a part of every Debian");
}

#[test]
fn what_devices_send_is_analysed_whichever_way_it_comes() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let manager = start(dir.path(), "127.0.0.0/8");
    let [udp, tcp, tls] = *manager.syslog_addrs() else { panic!() };
    let mut alerts = manager.alerts();
    let mut next = || {
        let alert = alerts.next().unwrap();
        assert_eq!(
            (&alert["rule"]["id"], &alert["log"]["location"]),
            (&100_100.into(), &"127.0.0.1".into()),
            "{alert}"
        );
        alert["log"]["text"].as_str().unwrap().to_owned()
    };
    let sends: [(SocketAddr, &[&str]); 4] = [
        (udp, &["--udp", "--rfc5424"]),
        (udp, &["--udp", "--rfc3164"]),
        (tcp, &["--tcp", "--rfc5424", "--octet-count"]),
        (tcp, &["--tcp", "--rfc3164"]),
    ];
    for (n, (to, options)) in sends.into_iter().enumerate() {
        logger(to, options, &format!("valve opened {n}"));
        let text = next();
        assert!(text.contains("plc") && text.ends_with(&format!("valve opened {n}")), "{text}");
        assert!(!text.starts_with('<') && !text.starts_with("1 "), "{text}");
    }
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &tls.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"<13>Nov 24 15:00:00 plc1 plc: valve opened by tls\n").unwrap();
    assert_eq!(next(), "Nov 24 15:00:00 plc1 plc: valve opened by tls");
    drop(stdin);
    let _ = client.kill();
    client.wait().unwrap();
    manager.shutdown();
    let text = std::fs::read_to_string(dir.path().join("manager/logs/alerts/alerts.log")).unwrap();
    assert_eq!(text.matches("Rule: 100100 (level 8) -> 'A valve was opened.'").count(), 5, "{text}");
}

#[test]
fn who_is_not_allowed_is_not_heard() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let manager = start(dir.path(), "192.0.2.0/24");
    let [udp, tcp, _] = *manager.syslog_addrs() else { panic!() };
    logger(udp, &["--udp"], "valve opened");
    let mut stream = std::net::TcpStream::connect(tcp).unwrap();
    // It is closed without a word.
    let closed = std::io::Read::read(&mut stream, &mut [0; 1]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    manager.shutdown();
    let text = std::fs::read_to_string(dir.path().join("manager/logs/alerts/alerts.log")).unwrap_or_default();
    assert!(!text.contains("Rule: 100100 "), "{text}");
}
