//! The manager under a fleet: what it takes in, and how fast alerts leave it. `--work` picks parts: `changes`, `mixed`,
//! `paced`, `syslog`, `cloudwatch`, `mail`, `catch-up`.

mod alerts;
mod catch_up;
mod fleet;
mod ingest;
mod receiver;

use super::Bench;
use super::report::Report;
use crate::step::{command, run as run_command};

type Part = (&'static str, fn(&Bench, &mut Report) -> anyhow::Result<()>);

const PARTS: [Part; 7] = [
    ("changes", ingest::changes),
    ("mixed", ingest::mixed),
    ("paced", ingest::paced),
    ("syslog", alerts::syslog),
    ("cloudwatch", alerts::cloudwatch),
    ("mail", alerts::mail),
    ("catch-up", catch_up::run),
];

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    if bench.builds {
        let build = ["build", "--release", "--locked", "-p", "tally-manager", "--example", "fleet"];
        run_command(&mut command(&bench.root, "cargo", &build))?;
    }
    for (name, part) in PARTS {
        if bench.works.is_empty() || bench.works.iter().any(|work| name.contains(&**work)) {
            println!("-- {name}");
            part(bench, report)?;
        }
    }
    Ok(())
}
