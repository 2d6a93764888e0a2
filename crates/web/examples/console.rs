//! The console with made-up data: `cargo run -p tally-web --example console -- 127.0.0.1:7001`. A change is made up every
//! few seconds. With `--calm`, nothing needs attention; with `--empty`, nothing has happened.
#![allow(clippy::unwrap_used, reason = "an example may stop by panicking")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::time::{Duration, SystemTime};

use fleet::{Fleet, modified, rule};
use tally_types::{AgentId, AgentState, Level, Timestamp};
use tally_web::{Console, Live, bind, serve};
use tokio::sync::broadcast;

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64)
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let address = args.get(1).map_or("127.0.0.1:7001", String::as_str);
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::new(dir.path(), now());
    match args.get(2).map(String::as_str) {
        Some("--empty") => {}
        Some("--calm") => {
            let id = fleet.enrol("laptop", "", fleet::HOUR);
            fleet.report(id, AgentState::Watching, fleet::SECOND, 12_345, 0, (&["every change as it happens"], &[]));
            fleet.changed(id, 60 * fleet::SECOND, modified("/etc/hosts", 1), None);
        }
        _ => fleet.live(),
    }
    let (live, _) = broadcast::channel(1024);
    let console = Console::new(fleet.store.reader(), live.clone());
    let listener = bind(address.parse().unwrap()).await.unwrap();
    for _ in 0..8 {
        println!("{}", console.login_link(&format!("http://{}", listener.local_addr().unwrap())));
    }
    if args.get(2).is_none() {
        tokio::task::spawn_blocking(move || {
            for i in 0..200 {
                std::thread::sleep(Duration::from_secs(7));
                fleet.now = now();
                let level = [3, 7, 10][i % 3];
                fleet.changed(
                    AgentId(1),
                    0,
                    modified(&format!("/etc/live-{i}.conf"), i as u8),
                    Some(rule(550, level, "A change.")),
                );
                let _ = live.send(Live::Alert { about: AgentId(1), level: Level::new(level).unwrap() });
            }
        });
    }
    let stop = async { tokio::time::sleep(Duration::from_secs(3600)).await };
    serve(listener, console, stop).await.unwrap();
}
