//! `tally check` with nothing changed, against a bare parallel statx walk and against `aide --check`. CPU seconds on a warm
//! tree; rounds alternate between tally and the floor.

use super::Bench;
use super::aide::Aide;
use super::measure::{cost, median};
use super::report::{Limit, Report};

const OF_FLOOR: Limit = Limit::AtMost(1.4);
const AIDE_OF_TALLY: Limit = Limit::AtLeast(50.0);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tree = bench.tree()?.display().to_string();
    let [floor, tally] = ["tally-floor", "tally"].map(|name| bench.program(name).display().to_string());
    let file = bench.memory.path().join("check.tally").display().to_string();
    let scratch = bench.memory.path();
    cost(scratch, &[&tally, "init", &tree, "--out", &file], &[])?;
    let (mut floors, mut tallies) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        floors.push(cost(scratch, &[&floor, "stat", &tree], &[])?);
        // Exit code 1 would mean a change, and then the wrong thing would be measured.
        tallies.push(cost(scratch, &[&tally, "check", &file], &[])?);
    }
    let aide = Aide::new(bench, tree.as_ref())?;
    aide.init(bench)?;
    let aide = aide.check(bench)?;
    let of_floor = median(tallies.iter().zip(&floors).map(|(tally, floor)| tally.cpu_s / floor.cpu_s));
    let tally_s = median(tallies.iter().map(|cost| cost.cpu_s));
    report.add("CPU, bare statx walk", median(floors.iter().map(|c| c.cpu_s)), "s", Limit::None);
    report.add("CPU, tally check", tally_s, "s", Limit::None);
    report.add("CPU, aide --check", aide.cpu_s, "s", Limit::None);
    report.add("tally check, of the bare walk", of_floor, "x", OF_FLOOR);
    report.add("aide --check, of tally check", aide.cpu_s / tally_s, "x", AIDE_OF_TALLY);
    report.add("wall, tally check", median(tallies.iter().map(|c| c.wall_s)), "s", Limit::None);
    report.add("wall, aide --check", aide.wall_s, "s", Limit::None);
    Ok(())
}
