//! A fleet in one process, for `cargo xtask bench manager`: many agents that speak the real protocol over the real network,
//! with snapshots of their own, and are cheap enough that it is the manager that is measured.
//!
//!     fleet ADDRESS TOKEN --agents N --files N --work changes|mixed|stamped [--rate EVENTS_A_SECOND] [--seconds N] [--events N]
//!
//! It says `ready` when all agents are let in and have told their first snapshot, and waits for a line. Then it tells
//! events, as fast as they are acknowledged or at a rate, until the time is over or so many are told; says in a JSON object
//! what came of it when the last one is acknowledged; tells the roots of its snapshots, in a second object too, and ends with
//! the next line.

mod member;
mod work;

use std::cell::RefCell;
use std::io::BufRead as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tally_net::{ManagerAddress, Token};
use tally_snapshot::MemoryStore;
use tokio::sync::watch;
use tokio::task::LocalSet;

use member::{Member, Report};
use work::{Image, Work};

/// An agent that has not come so far by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the agents do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They are let in and tell their first snapshot.
    Begin,
    /// They tell events, by a clock that began then.
    Tell(Instant),
    /// They say how their snapshots are.
    Settle,
    End,
}

/// How much is told, by each agent.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Events a second; none: as fast as they are acknowledged.
    pub rate: Option<f64>,
    pub time: Duration,
    pub events_max: u64,
}

struct Options {
    address: ManagerAddress,
    token: Token,
    agents: usize,
    files: u64,
    work: Work,
    measure: Measure,
}

impl Options {
    fn read() -> anyhow::Result<Self> {
        let mut words = std::env::args().skip(1);
        let mut next = |what: &str| words.next().with_context(|| format!("{what} is missing"));
        let (address, token) = (next("ADDRESS")?.parse()?, next("TOKEN")?.parse()?);
        let (mut agents, mut files, mut work) = (32, 10_000, Work::Changes);
        let (mut rate, mut seconds, mut events) = (0.0, 30, u64::MAX);
        while let Ok(word) = next("") {
            let value = next(&word)?;
            match &*word {
                "--agents" => agents = value.parse()?,
                "--files" => files = value.parse()?,
                "--work" => work = Work::named(&value).with_context(|| format!("no work is called {value}"))?,
                "--rate" => rate = value.parse()?,
                "--seconds" => seconds = value.parse()?,
                "--events" => events = value.parse()?,
                _ => bail!("{word} is not known"),
            }
        }
        ensure!(agents > 0, "a fleet without agents tells nothing");
        let each = agents as u64;
        let measure = Measure {
            rate: (rate > 0.0).then_some(rate / each as f64),
            time: Duration::from_secs(seconds),
            events_max: events.div_ceil(each),
        };
        Ok(Self { address, token, agents, files, work, measure })
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, fleet(options))
}

async fn fleet(options: Options) -> anyhow::Result<()> {
    let store = Rc::new(RefCell::new(MemoryStore::default()));
    let image = Rc::new(Image::build(&mut store.borrow_mut(), options.files)?);
    let (phase, seen) = watch::channel(Phase::Begin);
    let (told, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for number in 0..options.agents {
        let name = format!("fleet-{number}-{}", std::process::id());
        let identity = tally_net::enrol(&options.address, &options.token, &name).await?;
        let member = Member::new(identity, number as u64, store.clone(), image.clone(), options.work, options.measure);
        let run = member.run(options.address.clone(), seen.clone(), told.clone());
        tasks.push(tokio::task::spawn_local(run));
    }
    drop(told);
    gather(&mut reports, options.agents).await?;
    println!("ready");
    next_line().await?;
    let begun = Instant::now();
    phase.send_replace(Phase::Tell(begun));
    let all = gather(&mut reports, options.agents).await?;
    let took = begun.elapsed();
    println!("{}", summary(all, took, options.measure.rate.is_some()));
    phase.send_replace(Phase::Settle);
    let roots = gather(&mut reports, options.agents).await?.into_iter().filter_map(|report| report.root);
    let roots: serde_json::Map<_, _> = roots.map(|(name, root)| (name, root.to_string().into())).collect();
    println!("{}", serde_json::Value::Object(roots));
    next_line().await?;
    phase.send_replace(Phase::End);
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.context("an agent does not end")???;
    }
    Ok(())
}

/// What each of the agents reports next.
async fn gather(
    reports: &mut tokio::sync::mpsc::UnboundedReceiver<Report>,
    count: usize,
) -> anyhow::Result<Vec<Report>> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(reports.recv().await.context("an agent ended before its time")?);
    }
    Ok(all)
}

fn summary(reports: Vec<Report>, took: Duration, is_paced: bool) -> serde_json::Value {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (events, changes, lines) = (sum(|r| r.events), sum(|r| r.changes), sum(|r| r.lines));
    let mut waits_us: Vec<u32> = reports.into_iter().flat_map(|report| report.waits_us).collect();
    waits_us.sort_unstable();
    let wait_ms = |part: f64| {
        let at = (waits_us.len() as f64 * part) as usize;
        waits_us.get(at.min(waits_us.len().saturating_sub(1))).map(|us| f64::from(*us) / 1e3)
    };
    serde_json::json!({
        "events": events, "changes": changes, "lines": lines, "seconds": took.as_secs_f64(), "is_paced": is_paced,
        "ack_p50_ms": wait_ms(0.5), "ack_p99_ms": wait_ms(0.99), "ack_max_ms": wait_ms(1.0),
    })
}

/// The parent says when to go on.
async fn next_line() -> anyhow::Result<()> {
    let read = tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new()));
    ensure!(read.await?? > 0, "whoever started this fleet is gone");
    Ok(())
}
