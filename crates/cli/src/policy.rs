//! `tally policy`: what the agents of a group watch.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tally_syscheck::Config;

use crate::Outcome;
use crate::ask::ask;
use crate::options::PolicyCommand;
use crate::render::Kind;

pub fn run(command: PolicyCommand) -> Result<Outcome> {
    let (options, kind, request) = match command {
        PolicyCommand::Check { file, own } => return check(&file, own),
        PolicyCommand::Set { ask, group, file } => {
            // The manager checks it too; here the faults can be told as findings.
            let text = read(&file)?;
            if let Outcome::Findings = faults(&text, &file, false) {
                return Ok(Outcome::Findings);
            }
            let file = file.display().to_string();
            (ask, Kind::Done, json!({"op": "policy.set", "group": group, "text": text, "file": file}))
        }
        PolicyCommand::Show { ask, group } => (ask, Kind::Policy, json!({"op": "policy.show", "group": group})),
        PolicyCommand::List(ask) => (ask, Kind::Policies, json!({"op": "policy.list"})),
        PolicyCommand::Remove { ask, group } => (ask, Kind::Done, json!({"op": "policy.remove", "group": group})),
    };
    ask(&options, kind, &request)?;
    Ok(Outcome::Fine)
}

fn check(file: &Path, own: bool) -> Result<Outcome> {
    let text = read(file)?;
    let outcome = faults(&text, file, own);
    if let Outcome::Fine = outcome {
        println!("{}: fine", file.display());
    }
    Ok(outcome)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// Prints every fault, as a compiler does.
fn faults(text: &str, file: &Path, own: bool) -> Outcome {
    let name = file.display().to_string();
    let (_, faults) = if own { Config::parse(text, &name) } else { Config::parse_group(text, &name) };
    for fault in &faults {
        eprintln!("{fault}");
    }
    Outcome::of_findings(faults.len() as u64)
}
