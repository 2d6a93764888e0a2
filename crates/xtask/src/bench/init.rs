//! `tally init` of the tree, against a bare walk that reads and hashes the same files, and against `aide --init`. CPU
//! seconds, user and system together; the tree is in the page cache. Rounds alternate between tally and the floor.

use super::Bench;
use super::aide::Aide;
use super::measure::{cost, median};
use super::report::{Limit, Report};

const OF_FLOOR: Limit = Limit::AtMost(1.3);
const AIDE_OF_TALLY: Limit = Limit::AtLeast(5.0);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tree = bench.tree()?.display().to_string();
    let [floor, tally] = ["tally-floor", "tally"].map(|name| bench.program(name).display().to_string());
    let out = bench.memory.path().join("init.tally").display().to_string();
    // Once for the page cache.
    let scratch = bench.memory.path();
    cost(scratch, &[&floor, "hash", &tree], &[])?;
    let (mut floors, mut tallies) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        floors.push(cost(scratch, &[&floor, "hash", &tree], &[])?);
        tallies.push(cost(scratch, &[&tally, "init", &tree, "--out", &out], &[])?);
    }
    // It costs several times as much as all the rest; its spread is far below the factor that is asked for.
    let aide = Aide::new(bench, tree.as_ref())?.init(bench)?;
    let of_floor = median(tallies.iter().zip(&floors).map(|(tally, floor)| tally.cpu_s / floor.cpu_s));
    let tally_s = median(tallies.iter().map(|cost| cost.cpu_s));
    report.add("CPU, bare walk with SHA-256", median(floors.iter().map(|c| c.cpu_s)), "s", Limit::None);
    report.add("CPU, tally init", tally_s, "s", Limit::None);
    report.add("CPU, aide --init", aide.cpu_s, "s", Limit::None);
    report.add("tally init, of the bare walk", of_floor, "x", OF_FLOOR);
    report.add("aide --init, of tally init", aide.cpu_s / tally_s, "x", AIDE_OF_TALLY);
    report.add("wall, tally init", median(tallies.iter().map(|c| c.wall_s)), "s", Limit::None);
    report.add("wall, aide --init", aide.wall_s, "s", Limit::None);
    Ok(())
}
