//! How much memory a manager needs for each idle connection: `cargo run --release -p tally-net --example idle_connections
//! -- 2000`. The clients are a process of their own; what is printed is the growth of this one's resident memory.
#![allow(clippy::unwrap_used, reason = "a measurement may stop by panicking")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tally_net::{Accepted, Authority, CloseCode, Identity, Limits, ManagerAddress, Server, Token, connect, enrol};
use tally_proto::message::{EnrolAnswer, EnrolReply, EnrolRequest};
use tally_types::{AgentId, Timestamp};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match args.get(1).map(String::as_str) {
        Some("clients") => runtime.block_on(clients(&args[2], &args[3], args[4].parse().unwrap())),
        count => runtime.block_on(manager(count.map_or(1000, |n| n.parse().unwrap()))),
    }
}

async fn manager(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    let limits = Limits { connections_per_agent_max: count + 1, ..Limits::default() };
    let mut server = Server::bind_with("127.0.0.1:0".parse().unwrap(), &authority, limits).unwrap();
    let token = Token::generate(authority.fingerprint()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["clients", &server.local_addr().to_string(), &token.to_string(), &count.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut held, mut before, begin) = (Vec::new(), 0, Instant::now());
    while held.len() < count {
        match server.accept().await.unwrap() {
            Accepted::Enrol { mut conn } => {
                let request = EnrolRequest::decode(&conn.recv().await.unwrap().unwrap()).unwrap();
                let cert_pem =
                    authority.issue(&request.csr_pem, AgentId(1), Timestamp::from_secs(4_000_000_000)).unwrap().into();
                let reply = EnrolReply { agent: AgentId(1), name: "x".into(), cert_pem, ledger_key: "x".into() };
                conn.send(&EnrolAnswer::Enrolled(reply).encode()).await.unwrap();
                conn.finish(CloseCode::Done, "").await;
                before = resident_kib();
            }
            Accepted::Agent { mut conn, .. } => {
                // As a session does: a message there and back.
                let hello = conn.recv().await.unwrap().unwrap();
                conn.send(&hello).await.unwrap();
                held.push(conn);
            }
        }
    }
    let opened = begin.elapsed();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = resident_kib().saturating_sub(before);
    println!("{count} connections in {opened:?}: {grown} KiB, {:.1} KiB each", grown as f64 / count as f64);
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    child.wait().unwrap();
}

async fn clients(address: &str, token: &str, count: usize) {
    let manager: ManagerAddress = address.parse().unwrap();
    let identity: Identity = enrol(&manager, &token.parse().unwrap(), "x").await.unwrap();
    let mut held = Vec::new();
    for _ in 0..count {
        let mut conn = connect(&manager, &identity).await.unwrap();
        conn.send(&[7; 500]).await.unwrap();
        conn.recv().await.unwrap().unwrap();
        held.push(conn);
    }
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]).unwrap()).await.unwrap();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
