//! How many lines decoders and rules decide: OSSEC's own rules over its own log lines (`crates/xtask/src/bin/lines.rs`). And
//! what the first scan of one of its agents costs the manager (`crates/manager/examples/ossec_scan.rs`).

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::Bench;
use super::measure::median;
use super::report::{Limit, Report};
use crate::step::{command, output, run as run_command};

/// How often all lines are gone through, so that a run takes a good second.
const TURNS: &str = "40";
/// What the real program decided in a CPU second on a machine of this class.
const REAL_LINES: f64 = 53_000.0;
const SCANNED: &str = "50000";

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let data = bench.root.join("../shared/ossec");
    if !data.is_dir() {
        println!("skipped: no conformance data");
        return Ok(());
    }
    let program = bench.program("tally-lines");
    let data = data.display().to_string();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        one.push(ask(&program, &[&data, TURNS, "1"])?);
        two.push(ask(&program, &[&data, TURNS, "2"])?);
    }
    let of = |results: &[Value], key: &str| median(results.iter().filter_map(|result| result[key].as_f64()));
    let lines = of(&one, "lines_a_cpu_second");
    let scaling = one
        .iter()
        .zip(&two)
        .filter_map(|(one, two)| Some(two["lines_a_second"].as_f64()? / one["lines_a_second"].as_f64()?));
    report.add("lines a CPU second, one thread", lines, "/s", Limit::AtLeast(400_000.0));
    report.add("of the real program's 53,000", lines / REAL_LINES, "x", Limit::None);
    report.add("lines a CPU second, two threads", of(&two, "lines_a_cpu_second"), "/s", Limit::None);
    report.add("lines a second, two threads", of(&two, "lines_a_second"), "/s", Limit::None);
    report.add("two threads, of the speed of one", median(scaling), "x", Limit::AtLeast(1.5));
    report.add("resident, two threads", of(&two, "rss_kb") * 1024.0 / 1e6, "MB", Limit::AtMost(100.0));
    report.add("loading decoders and rules", of(&one, "load_ms"), "ms", Limit::None);
    let alerts = |results: &[Value]| results.first().and_then(|result| result["alerts"].as_u64());
    let differ = u8::from(alerts(&one) != alerts(&two));
    report.add("runs that alert otherwise with two threads", differ.into(), "", Limit::AtMost(0.0));
    Ok(())
}

pub fn scan(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let build = ["build", "--release", "--locked", "-p", "tally-manager", "--example", "ossec_scan"];
    run_command(&mut command(&bench.root, "cargo", &build))?;
    let program = bench.program("examples/ossec_scan");
    let rounds: Vec<Value> = (0..bench.rounds).map(|_| ask(&program, &[SCANNED])).collect::<anyhow::Result<_>>()?;
    let of = |key: &str| median(rounds.iter().filter_map(|round| round[key].as_f64()));
    report.add("CPU of the manager's threads", of("cpu_s"), "s", Limit::AtMost(5.0));
    report.add("until all is in the snapshot", of("seconds"), "s", Limit::None);
    report.add("lost before the manager", of("lost"), "", Limit::AtMost(0.0));
    report.add("resident, manager and stand-in", of("peak_kb") * 1024.0 / 1e6, "MB", Limit::None);
    Ok(())
}

fn ask(program: &Path, words: &[&str]) -> anyhow::Result<Value> {
    let text = output(Command::new(program).args(words))?;
    serde_json::from_str(text.trim()).with_context(|| format!("{} printed {text:?}", program.display()))
}
