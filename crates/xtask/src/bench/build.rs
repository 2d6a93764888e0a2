//! A cold build of README's first command: `cargo build --release` of the default members into an empty target
//! directory. Downloads are in cargo's cache already, for a network's speed is not ours.

use std::time::Instant;

use super::Bench;
use super::report::{Limit, Report};
use crate::step::{command, run as run_command};

const COLD_S: Limit = Limit::AtMost(480.0);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let target = bench.scratch.path().join("cold");
    let mut build = command(&bench.root, "cargo", &["build", "--release", "--locked", "--offline"]);
    let started = Instant::now();
    run_command(build.env("CARGO_TARGET_DIR", &target))?;
    report.add("wall, cold release build", started.elapsed().as_secs_f64(), "s", COLD_S);
    Ok(())
}
