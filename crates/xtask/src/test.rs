//! `cargo xtask test`: all that must hold before a change lands. CI runs this very command. Every step is tried, also
//! after one has failed, so that one run tells everything; the last line is the count that test runners print.

mod report;
pub mod setup;
mod tool;

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};

use crate::step::{Outcome, command, run, step};
use crate::{bpf, deny, fuzz, tidy};
use report::{Count, Skip};

/// Where nextest is told (in .config/nextest.toml) to leave its report, wherever the target directory is.
const REPORT: &str = "target/nextest/default/junit.xml";

/// Whole programs against a real kernel: nextest runs them after everything else.
const END_TO_END: &str = "kind(test) & (package(tally-cli) | package(tally-agent) | package(tally-manager))";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only these steps (repeatable); `--list` names them
    #[arg(long, value_name = "NAME")]
    step: Vec<String>,
    /// Name the steps
    #[arg(long)]
    list: bool,
}

/// What the steps leave behind for the last line.
#[derive(Debug, Default)]
struct Totals {
    count: Count,
    skips: Vec<Skip>,
}

type Work = fn(&Path, &mut Totals) -> anyhow::Result<()>;

const STEPS: [(&str, Work); 10] = [
    ("setup", |root, _| setup::install().and_then(|()| tool::install(root))),
    ("format", |root, _| cargo(root, &["fmt", "--all", "--", "--check"])),
    ("tidy", |root, _| tidy::run(root)),
    ("deny", |root, _| deny::run(root)),
    ("bpf", |root, _| bpf::check(root)),
    ("lints", |root, _| cargo(root, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
    ("tests", |root, totals| nextest(root, &format!("not ({END_TO_END})"), totals)),
    ("doc-tests", doc_tests),
    ("fuzz-check", |root, _| fuzz::check(root)),
    ("end-to-end", |root, totals| nextest(root, END_TO_END, totals)),
];

pub fn start(root: &Path, options: &Options) -> anyhow::Result<()> {
    if options.list {
        STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    for wanted in &options.step {
        ensure!(STEPS.iter().any(|(name, _)| name == wanted), "there is no step {wanted}; see --list");
    }
    let mut totals = Totals::default();
    let mut outcomes = Vec::new();
    for (name, work) in STEPS {
        if options.step.is_empty() || options.step.iter().any(|wanted| wanted == name) {
            outcomes.push(step(name, || work(root, &mut totals)));
        }
    }
    conclude(&outcomes, &totals)
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    run(&mut command(root, "cargo", arguments))
}

fn nextest(root: &Path, filter: &str, totals: &mut Totals) -> anyhow::Result<()> {
    let report = root.join(REPORT);
    // A report of an earlier run must not be taken for this one's.
    if report.exists() {
        std::fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
    }
    let arguments = ["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--no-tests", "pass", "-E", filter];
    let ran = cargo(root, &arguments);
    match std::fs::read_to_string(&report) {
        Ok(text) => {
            totals.count.add(&Count::of_junit(&text));
            totals.skips.extend(report::skips(&text));
            ran
        }
        // Without a report nothing tells which tests ran, and that is no success.
        Err(error) => ran.and(Err(error).with_context(|| format!("read {}", report.display()))),
    }
}

fn doc_tests(root: &Path, totals: &mut Totals) -> anyhow::Result<()> {
    let mut command = command(root, "cargo", &["test", "--workspace", "--locked", "--doc"]);
    println!("$ cargo test --workspace --locked --doc");
    let output = command.stderr(Stdio::inherit()).output().context("run cargo test --doc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Of a crate without doc tests there is nothing to show.
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && *line != "running 0 tests" && !line.contains("0 passed; 0 failed"));
    lines.for_each(|line| println!("{line}"));
    totals.count.add(&Count::of_libtest(&text));
    ensure!(output.status.success(), "cargo test --doc: {}", output.status);
    Ok(())
}

/// Durations, skips with their reasons, and the closing line.
fn conclude(outcomes: &[Outcome], totals: &Totals) -> anyhow::Result<()> {
    println!("\n=== steps");
    for outcome in outcomes {
        let result = if outcome.error.is_none() { "ok" } else { "FAILED" };
        println!("{:<12} {:>8.1} s  {result}", outcome.name, outcome.took.as_secs_f64());
    }
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let unlisted = report::print_skips(&totals.skips);
    let failed: Vec<&str> = outcomes.iter().filter(|o| o.error.is_some()).map(|o| &*o.name).collect();
    for outcome in outcomes {
        if let Some(error) = &outcome.error {
            println!("{}: {error}", outcome.name);
        }
    }
    // A step that failed without a failed test (a format, a lint) counts as one, and so does a skip that CI must not have.
    let skip_fails = usize::from(is_ci && unlisted > 0);
    let failures = totals.count.failed.max(failed.len()) + skip_fails;
    let skipped = totals.skips.len();
    println!(
        "\n{} passed, {failures} failed, {skipped} skipped",
        totals.count.passed - skipped.min(totals.count.passed)
    );
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    ensure!(
        skip_fails == 0,
        "{unlisted} tests were skipped for a reason that is not listed in crates/xtask/src/test/report.rs"
    );
    Ok(())
}
