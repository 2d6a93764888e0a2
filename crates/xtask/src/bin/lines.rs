//! How many log lines the analysis decides in a second of CPU time, with OSSEC's rules: what `cargo xtask bench rules` runs.
//!
//!     cargo run --release -p tally-xtask --bin tally-lines -- DATA [TURNS] [THREADS]
//!
//! DATA holds `decoder.xml`, `rules`, `conf/ossec-server.conf` and `bench-logs.txt`. The result is one JSON object.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use tally_rules::{Analysis, Decision, Lists, ReadLine, Reader, Sources};
use tally_types::Timestamp;

/// In microseconds.
const START: i64 = 1_795_000_000_000_000;
/// Between two lines.
const STEP: i64 = 1000;
/// So many lines are read before they are decided.
const PIECE: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().ok_or("usage: lines DATA [TURNS] [THREADS]")?;
    let turns: usize = arguments.next().map_or(Ok(10), |n| n.parse())?;
    let threads: usize = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let data = Path::new(&data);
    let decoders = std::fs::read_to_string(data.join("decoder.xml"))?;
    let rules = rules(data)?;
    let text = std::fs::read(data.join("bench-logs.txt"))?;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let sources = Sources {
        decoders: vec![("decoder.xml", &decoders)],
        rules: rules.iter().map(|(name, text)| (&**name, &**text)).collect(),
        yielding: 0..0,
        lists: Lists::default(),
    };
    let load = Instant::now();
    let mut analysis = Analysis::load(&sources, "bench").map_err(|faults| format!("{faults:?}"))?;
    let load_ms = load.elapsed().as_millis();
    let location: Arc<str> = "/var/log/bench".into();
    let (cpu, wall) = (on_cpu_s()?, Instant::now());
    let alerts = match threads {
        1 => one_by_one(&mut analysis, &lines, turns, &location),
        _ => in_turns(&mut analysis, &lines, turns, threads, &location),
    };
    let (cpu_s, wall_s) = (on_cpu_s()? - cpu, wall.elapsed().as_secs_f64());
    let done = (lines.len() * turns) as f64;
    println!(
        "{{\"lines\":{done},\"alerts\":{alerts},\"load_ms\":{load_ms},\"lines_a_cpu_second\":{:.0},\"lines_a_second\":{:.0},\"rss_kb\":{}}}",
        done / cpu_s,
        done / wall_s,
        status_kb("VmHWM:")?,
    );
    Ok(())
}

fn at(place: usize) -> Timestamp {
    Timestamp(START + i64::try_from(place).unwrap_or(0) * STEP)
}

fn one_by_one(analysis: &mut Analysis, lines: &[&[u8]], turns: usize, location: &Arc<str>) -> u64 {
    let mut alerts = 0;
    for place in 0..turns * lines.len() {
        let outcome = analysis.line(lines[place % lines.len()], location, at(place));
        alerts += u64::from(outcome.decision == Decision::Alert);
    }
    alerts
}

/// Each thread takes the next piece of lines, reads it, and decides it when all pieces before are decided.
fn in_turns(analysis: &mut Analysis, lines: &[&[u8]], turns: usize, threads: usize, location: &Arc<str>) -> u64 {
    let (next, total) = (AtomicUsize::new(0), turns * lines.len());
    let readers: Vec<Reader> = (0..threads).map(|_| analysis.reader()).collect();
    let deciding = (Mutex::new((analysis, 0usize, 0u64)), Condvar::new());
    std::thread::scope(|scope| {
        for mut reader in readers {
            let (next, deciding) = (&next, &deciding);
            scope.spawn(move || {
                let mut read = vec![ReadLine::default(); PIECE];
                loop {
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    let places = (piece * PIECE).min(total)..((piece + 1) * PIECE).min(total);
                    if places.is_empty() {
                        return;
                    }
                    for (place, line) in places.clone().zip(&mut read) {
                        reader.read(lines[place % lines.len()], location, at(place), line);
                    }
                    let lock = deciding.0.lock().expect("no thread has failed");
                    let mut lock = deciding.1.wait_while(lock, |lock| lock.1 != piece).expect("no thread has failed");
                    let (analysis, turn, alerts) = &mut *lock;
                    for line in &mut read[..places.len()] {
                        *alerts += u64::from(analysis.decide(line).decision == Decision::Alert);
                    }
                    *turn += 1;
                    deciding.1.notify_all();
                }
            });
        }
    });
    deciding.0.into_inner().expect("no thread has failed").2
}

/// As the configuration names them, in its order.
fn rules(data: &Path) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let configuration = std::fs::read_to_string(data.join("conf/ossec-server.conf"))?;
    let names =
        configuration.lines().filter_map(|line| line.trim().strip_prefix("<include>")?.strip_suffix("</include>"));
    names.map(|name| Ok((name.to_owned(), std::fs::read_to_string(data.join("rules").join(name))?))).collect()
}

/// User and system time of all threads, those that have ended too; to 10 ms.
fn on_cpu_s() -> Result<f64, Box<dyn std::error::Error>> {
    /// USER_HZ of Linux, whatever the kernel's own rate.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("stat has no name")?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

fn status_kb(key: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or("status is short")?;
    Ok(line.split_whitespace().next().ok_or("status is short")?.parse()?)
}
