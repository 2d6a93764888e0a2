//! A manager that is killed again and again while it delivers: every alert of its ledger arrives, and what arrives twice has
//! the same id. The receiver is of our own making: it has to count.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use support::fleet::Fleet;
use support::{Random, number, wait_for};

const KILLS: u32 = 25;
const PAUSE_MS: std::ops::Range<u64> = 20..300;

const RULES: &str = r#"
<group name="plant,">
  <rule id="100100" level="8"><match>valve</match><description>A valve.</description></rule>
</group>
"#;

/// By its number in the ledger: how often a message came, and what it is about.
type Taken = Arc<Mutex<BTreeMap<u64, (u32, Value)>>>;

fn receiver() -> (String, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let taken = Taken::default();
    let all = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let all = all.clone();
            std::thread::spawn(move || serve(&stream.unwrap(), &all));
        }
    });
    (url, taken)
}

/// Until the other end is gone, which it may be at any moment.
fn serve(stream: &TcpStream, taken: &Taken) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let all: Vec<Value> = serde_json::from_slice(&body).unwrap();
        for message in all {
            let id = message["delivery_id"].as_str().unwrap();
            let index = id.rsplit('/').next().unwrap().parse().unwrap();
            let mut taken = taken.lock().unwrap();
            let known = taken.entry(index).or_insert_with(|| (0, message.clone()));
            // The verdict of a change may have moved on; its alert is the same.
            assert_eq!((&known.1["id"], &known.1["delivery_id"]), (&message["id"], &message["delivery_id"]));
            known.0 += 1;
        }
        (&mut (&*stream)).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

#[test]
fn a_manager_that_is_killed_delivers_every_alert() {
    let (url, taken) = receiver();
    let mut fleet = Fleet::new();
    let rules = fleet.manager_dir().join("rules.xml");
    let input = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fleet.configure(&format!(
        "rules = [{rules:?}]\n[[syslog]]\nlisten = \"{input}\"\ntransport = \"tcp\"\nallow = [\"127.0.0.1\"]\n\
         [[delivery]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{url}\"\nbegin = \"start\"\nbatch_count = 7\n"
    ));
    std::fs::write(&rules, RULES).unwrap();
    let seed = u64::from(std::process::id()) << 20;
    let mut random = Random(seed);
    let mut line = 0;
    for _ in 0..KILLS {
        let mut manager = fleet.manager();
        let mut stream = TcpStream::connect(input).unwrap();
        for _ in 0..200 {
            line += 1;
            stream.write_all(format!("<13>Nov 24 02:57:06 plc plc: valve {line}\n").as_bytes()).unwrap();
        }
        // Sometimes before all is recorded, sometimes amid the deliveries, sometimes after.
        std::thread::park_timeout(Duration::from_millis(PAUSE_MS.start + random.below(PAUSE_MS.end - PAUSE_MS.start)));
        manager.kill();
    }
    let mut manager = fleet.manager();
    wait_for("all alerts", || {
        let listed = fleet.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
        let taken = taken.lock().unwrap();
        let missing =
            listed.iter().filter(|alert| !taken.contains_key(&number(alert, "/ledger_index").unwrap())).count();
        (missing == 0 && !listed.is_empty()).then_some(())
    });
    let taken = taken.lock().unwrap();
    let twice = taken.values().filter(|(times, _)| *times > 1).count();
    println!("{} alerts, of them {twice} more than once", taken.len());
    assert!(taken.len() > KILLS as usize, "{}", taken.len());
    assert_eq!(manager.interrupt(), 0);
}
