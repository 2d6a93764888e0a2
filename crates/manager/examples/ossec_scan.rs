//! What an OSSEC agent's first scan of 50,000 files costs the manager, in CPU seconds of its own threads, and whether all of
//! it arrived. The agent is a stand-in that sends as fast as it is answered.
//!
//!     cargo run --release -p tally-manager --example ossec_scan [FILES] [blowfish]
//!
//! `cargo xtask bench ossec-scan` runs it. The result is one JSON object.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tally_manager::{Manager, ManagerConfig};
use tally_ossec::control::Order;
use tally_ossec::keys::ClientKey;
use tally_ossec::secure::Cipher;
use tally_ossec::standin::Standin;

const LINE: &str = "001 web any 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Sent between two answers: the kernel's smallest buffer takes as many.
const BURST: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let files: usize = arguments.next().map_or(Ok(50_000), |n| n.parse())?;
    let cipher = if arguments.next().as_deref() == Some("blowfish") { Cipher::Blowfish } else { Cipher::Aes };
    let dir = tempfile::tempdir()?;
    let config = ManagerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        console: None,
        ..ManagerConfig::new(dir.path())
    };
    std::fs::create_dir_all(&config.ossec.dir)?;
    std::fs::write(config.ossec.dir.join("client.keys"), format!("{LINE}\n"))?;
    let manager = Manager::start(config)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(manager.listen_addr())?;
    // On a busy machine an answer can take long. One that is asked for twice comes twice, and the second would be taken for the
    // answer to what is asked next: then two bursts are on their way, which the kernel's buffer need not take.
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut agent = Standin::new(ClientKey::parse(LINE)?, cipher);
    connect(&socket, &mut agent)?;
    let (before, start) = (cpu_seconds()?, Instant::now());
    socket.send(&agent.started())?;
    for n in 0..files {
        let (md5, sha1) = (format!("{n:032x}"), format!("{n:040x}"));
        let path = format!("/usr/share/package-{}/directory-{}/file-{n}.txt", n / 500, n / 50);
        let sum = format!("8:syscheck:{n}:33188:0:0:{md5}:{sha1}:{n:064x} {path}");
        socket.send(&agent.say(sum))?;
        if n % BURST == BURST - 1 {
            connect(&socket, &mut agent)?;
        }
    }
    for bytes in agent.scan_ends() {
        socket.send(&bytes)?;
    }
    let (mut entries, mut lost) = (0, 0);
    while start.elapsed() < PATIENCE {
        let status = manager.status()?;
        let agent = status.agents.first().context("the manager has no agent")?;
        (entries, lost) = (agent.entries, agent.dropped);
        // Its state is told when the scan ends, the number of its entries when they are stored, which is a moment later.
        if agent.state.name() == "watching" && entries + lost >= files as u64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (took, cpu) = (start.elapsed(), cpu_seconds()? - before);
    println!(
        "{{\"files\":{files},\"entries\":{entries},\"lost\":{lost},\"cipher\":\"{}\",\"seconds\":{:.2},\"cpu_s\":{cpu:.2},\"peak_kb\":{}}}",
        cipher.name(),
        took.as_secs_f64(),
        peak_kb()?,
    );
    manager.shutdown();
    ensure!(entries + lost >= files as u64, "files that arrived are missing");
    Ok(())
}

fn connect(socket: &UdpSocket, agent: &mut Standin) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut buffer = [0; 8192];
    // An answer to what was said before is none to this.
    socket.set_nonblocking(true)?;
    while socket.recv(&mut buffer).is_ok() {}
    socket.set_nonblocking(false)?;
    while start.elapsed() < PATIENCE {
        socket.send(&agent.startup())?;
        while let Ok(n) = socket.recv(&mut buffer) {
            if agent.hear(&buffer[..n]) == Some(Order::Ack) {
                return Ok(());
            }
        }
    }
    anyhow::bail!("the manager does not answer")
}

/// Of all threads of the manager, which are those with a name of their own.
fn cpu_seconds() -> anyhow::Result<f64> {
    /// USER_HZ of Linux, whatever the kernel's own rate.
    const TICKS: f64 = 100.0;
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        let (head, rest) = stat.rsplit_once(')').context("a stat file has a name")?;
        if head.contains("(tally-") {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        }
    }
    Ok(ticks as f64 / TICKS)
}

/// The largest resident set of manager and agent together.
fn peak_kb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("status has VmHWM")?;
    line.split_whitespace().next().context("VmHWM has a number")?.parse().context("VmHWM is a number")
}
