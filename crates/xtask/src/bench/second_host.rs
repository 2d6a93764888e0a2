//! What the second host of one image costs the manager: bytes of its state directory after the first agent's snapshot is
//! held, and after a second agent's of the same tree. The manager is stopped before each look, so that nothing is in flight.

use super::Bench;
use super::daemon::{Manager, stored_bytes};
use super::report::{Limit, Report};

const SECOND_PERCENT: Limit = Limit::AtMost(5.0);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tree = bench.tree()?;
    let mut manager = Manager::start(bench, "second-state")?;
    manager.stop()?;
    let mut sizes = vec![stored_bytes(&manager.state)?];
    for name in ["a", "b"] {
        manager.run()?;
        let agent = manager.add_agent(bench, name, &[&tree], &[])?;
        manager.wait_until_watching(name)?;
        manager.wait_until_held(name)?;
        agent.stop()?;
        manager.stop()?;
        sizes.push(stored_bytes(&manager.state)?);
    }
    let [first, second] = [1, 2].map(|at| sizes[at].saturating_sub(sizes[at - 1]) as f64);
    report.add("stored for the first host", first / 1e6, "MB", Limit::None);
    report.add("stored for the first host, an entry", first / bench.files as f64, "B", Limit::None);
    report.add("stored for the second host", second / 1e6, "MB", Limit::None);
    report.add("second host, of the first", second / first * 100.0, "%", SECOND_PERCENT);
    Ok(())
}
