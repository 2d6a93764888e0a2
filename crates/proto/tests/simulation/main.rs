//! Both ends of the protocol in one thread and virtual time, over a transport that loses, repeats, reorders and delays,
//! with crashes of either side between any two steps, an agent that loses its last writes, one that is set back to an old
//! copy of its state, and a manager that is restored from an old one.
//!
//! Whatever happens, at the end: every event that the agent still knows of is stored exactly once and in order, or is
//! reported as missing (which only a restored manager may do); nothing is stored that was not given; the roots are equal.
//!
//! `SIMULATION_SEED=n` runs one seed and tells its story, `SIMULATION_SEEDS=n` runs more of them.

// A test's assertions.
#![allow(clippy::unwrap_used)]

mod agent;
mod manager;
mod model;
mod world;

use std::env;

use world::{Faults, World};

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(usual),
    }
}

fn run_all(usual: u64, faults: impl Fn(u64) -> Faults) {
    let tells = env::var_os("SIMULATION_SEED").is_some();
    let mut events = 0;
    for seed in seeds(usual) {
        let mut world = World::new(seed, faults(seed), tells);
        world.run();
        events += world.check();
    }
    assert!(events > 0, "nothing happened");
}

#[test]
fn nothing_is_lost_by_a_transport_that_breaks() {
    run_all(300, |_| Faults { breaks: true, ..Faults::default() });
}

#[test]
fn nothing_is_lost_by_a_transport_that_loses_repeats_and_reorders() {
    run_all(300, |_| Faults { loss: true, breaks: true, ..Faults::default() });
}

#[test]
fn nothing_is_lost_by_crashes() {
    run_all(500, |_| Faults { breaks: true, crashes: true, ..Faults::default() });
}

#[test]
fn what_old_copies_lose_is_reported_and_the_roots_are_equal() {
    run_all(500, |seed| Faults { crashes: true, breaks: true, loss: seed % 2 == 0, old_copies: true });
}
