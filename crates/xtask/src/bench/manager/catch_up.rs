//! Destinations that were away come back: how fast they get what they missed, and what that costs the manager in memory. A
//! bare sink, which reads and counts, shows the manager's own pace; rsyslog shows one that people have, against its pace for
//! the same bytes from a program that does nothing else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::super::Bench;
use super::super::daemon::Manager;
use super::super::measure::{cpu_s, family, resident_mb, resident_peak_mb};
use super::super::report::{Limit, Report};
use super::fleet::{Fleet, Orders};
use super::receiver::{Receiver, Waits, free_port};

/// What issue 5 asks for.
const ALERTS_A_SECOND: f64 = 20_000.0;
/// However many wait: a batch is bounded.
const ADDED_MB: Limit = Limit::AtMost(64.0);
/// Longer than a million of them should take.
const PATIENCE: Duration = Duration::from_secs(280);
const LOOK: Duration = Duration::from_millis(20);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (sink_port, rsyslog_port) = (free_port()?, free_port()?);
    let delivery = |name: &str, port: u16| {
        format!(
            "[[delivery]]\nname = \"{name}\"\nkind = \"syslog\"\nserver = \"127.0.0.1:{port}\"\ntransport = \"tcp\"\n\
             rules = [554]\n"
        )
    };
    let config = delivery("sink", sink_port) + &delivery("rsyslog", rsyslog_port);
    let mut manager = Manager::start_with(bench, "catch-up", &config)?;
    let orders = Orders { work: "stamped", rate: 0, seconds: 600, events_max: Some(bench.alerts) };
    let mut fleet = Fleet::start(bench, &manager, orders)?;
    let told = fleet.tell(&manager)?;
    fleet.settle(&manager)?;
    fleet.stop()?;
    report.add("alerts while destinations are away", told.events, "", Limit::None);
    report.add("taken in meanwhile", told.rate(), "/s", Limit::None);
    let pid = manager.pid()?;
    let memory_mb = resident_mb(&[pid]);
    report.add("the manager's memory before", memory_mb, "MB", Limit::None);

    // The peak from now on (proc(5), clear_refs).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let before = cpu_s(&family(pid))?;
    let sink = Sink::listen(sink_port)?;
    let sink_rate = caught_up(&manager, "sink", told.events as u64, || Ok(sink.count()))?;
    report.add("to a bare sink", sink_rate, "/s", Limit::AtLeast(ALERTS_A_SECOND));
    let cpu = (cpu_s(&family(pid))? - before) / told.events * 1e4;
    report.add("to a bare sink, manager's CPU for 10,000", cpu, "s", Limit::None);

    let dir = bench.scratch.path().join("catch-up-rsyslog");
    let mut rsyslog = Receiver::rsyslog(&dir, rsyslog_port)?;
    let (begun, cpu_before) = (Instant::now(), rsyslog.cpu_s()?);
    let rate = caught_up(&manager, "rsyslog", told.events as u64, || delivered(&manager, "rsyslog"))?;
    let busy = (rsyslog.cpu_s()? - cpu_before) / begun.elapsed().as_secs_f64();
    rsyslog.stop()?;
    report.add("what that adds to its memory, at most", resident_peak_mb(pid) - memory_mb, "MB", ADDED_MB);
    manager.stop()?;
    let own = own_pace(bench, &dir)?;
    report.add("rsyslog alone, the same bytes", own, "/s", Limit::None);
    // Or its own pace, where that is lower; a tenth is given for what it does beside.
    report.add("to rsyslog", rate, "/s", Limit::AtLeast(ALERTS_A_SECOND.min(own * 0.9)));
    report.add("rsyslog's CPU meanwhile", busy * 100.0, "%", Limit::None);
    let missing = told.events - Waits::of_rsyslog(&dir)?.stamps as f64;
    report.add("alerts that did not come to rsyslog", missing, "", Limit::AtMost(0.0));
    Ok(())
}

/// From the first that comes to the last: alerts a second.
fn caught_up(
    manager: &Manager,
    name: &str,
    count: u64,
    mut come: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<f64> {
    // It waits for up to a minute; whoever knows that the destination is back need not.
    manager.ask(&["delivery", "pause", name]).ok();
    manager.ask(&["delivery", "resume", name]).ok();
    let begun = Instant::now();
    let mut first = None;
    loop {
        let now = come()?;
        if now > 0 && first.is_none() {
            first = Some((Instant::now(), now));
        }
        if let Some((at, earlier)) = first.filter(|_| now >= count) {
            return Ok((now - earlier) as f64 / at.elapsed().as_secs_f64());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "of {count} alerts only {now} came to {name}");
        std::thread::sleep(LOOK);
    }
}

fn delivered(manager: &Manager, name: &str) -> anyhow::Result<u64> {
    let all = manager.ask(&["delivery", "list"])?;
    let one = all.iter().find(|one| one["name"] == name).context("a delivery that is listed")?;
    one["sent"].as_u64().context("how many were sent")
}

/// What rsyslog takes of what it got already, sent at once: messages a second.
fn own_pace(bench: &Bench, dir: &std::path::Path) -> anyhow::Result<f64> {
    let port = free_port()?;
    let fresh = bench.scratch.path().join("own-pace");
    let mut receiver = Receiver::rsyslog(&fresh, port)?;
    let text = std::fs::read(dir.join("out"))?;
    let mut frames = Vec::with_capacity(text.len());
    let mut count = 0u64;
    for line in text.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b' ') else { continue };
        let message = &line[at + 1..];
        write!(frames, "{} ", message.len())?;
        frames.extend_from_slice(message);
        count += 1;
    }
    let begun = Instant::now();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))?.write_all(&frames)?;
    // It ends when it has written all that it took.
    let written = || Ok::<_, anyhow::Error>(std::fs::metadata(fresh.join("out")).map_or(0, |file| file.len()));
    while written()? < text.len() as u64 && begun.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
        if written()? + 64 * 1024 >= text.len() as u64 {
            break;
        }
    }
    let took = begun.elapsed();
    receiver.stop()?;
    Ok(count as f64 / took.as_secs_f64())
}

/// Reads messages with counted octets (RFC 6587) and drops them.
struct Sink(Arc<AtomicU64>);

impl Sink {
    fn listen(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let count = Arc::new(AtomicU64::new(0));
        let counter = count.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that ends in the middle is one that the manager opens anew.
                let _ = swallow(BufReader::with_capacity(256 * 1024, stream), &counter);
            }
        });
        Ok(Self(count))
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn swallow(mut reader: BufReader<TcpStream>, count: &AtomicU64) -> anyhow::Result<()> {
    let mut length = Vec::new();
    loop {
        length.clear();
        if reader.read_until(b' ', &mut length)? == 0 {
            return Ok(());
        }
        let bytes: u64 = std::str::from_utf8(&length)?.trim().parse()?;
        std::io::copy(&mut reader.by_ref().take(bytes), &mut std::io::sink())?;
        count.fetch_add(1, Ordering::Relaxed);
    }
}
