//! `tally config`: what is wrong with a configuration file, and what it means, whichever form it has.
//!
//! No manager is asked: a file is judged by the same readers that the daemons use.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tally_manager::ManagerConfig;
use tally_ossec::conf::{self, OssecConf};
use tally_ossec::internal_options::InternalOptions;
use tally_ossec::native::{self, Fate, Home, Translation};
use tally_syscheck::Config;

use crate::Outcome;
use crate::options::ConfigCommand;

mod effective;

/// A larger file is none of these.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub fn run(command: &ConfigCommand) -> Result<Outcome> {
    match command {
        ConfigCommand::Check { files } => {
            let mut findings = 0;
            for file in files {
                findings += check(file)?;
            }
            Ok(Outcome::of_findings(findings))
        }
        ConfigCommand::Show { file, state, effective, json, part } => {
            let state = tally_agent::state_dir(state.as_deref());
            show(file.as_deref(), &state, *effective, *json, part.as_deref())
        }
    }
}

/// Whose file a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OssecConf,
    AgentConf,
    InternalOptions,
    Agent,
    Manager,
}

impl Kind {
    fn of(text: &str, file: &str, state: &Path) -> Self {
        match conf::kind(text) {
            Some(conf::Kind::OssecConf) => return Self::OssecConf,
            Some(conf::Kind::AgentConf) => return Self::AgentConf,
            None => {}
        }
        if InternalOptions::is_one(text) {
            return Self::InternalOptions;
        }
        match (Config::has_key(text), ManagerConfig::has_key(text)) {
            (true, false) => return Self::Agent,
            (false, true) => return Self::Manager,
            _ => {}
        }
        // The reader that understands more of it; an empty file is fine for both.
        let agent = Config::parse(text, file).1.len();
        let manager = ManagerConfig::parse(text, file, state).1.len();
        if agent <= manager { Self::Agent } else { Self::Manager }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::OssecConf => "an ossec.conf",
            Self::AgentConf => "an agent.conf",
            Self::InternalOptions => "internal options of OSSEC",
            Self::Agent => "an agent's configuration",
            Self::Manager => "a manager's configuration",
        }
    }
}

fn read(file: &Path) -> Result<String> {
    let name = || file.display().to_string();
    let size = std::fs::metadata(file).with_context(name)?.len();
    if size > FILE_BYTES_MAX {
        bail!("{}: a configuration file has at most {FILE_BYTES_MAX} bytes", name());
    }
    // OSSEC's files may be of any character set: their comments are not worth a refusal.
    Ok(String::from_utf8_lossy(&std::fs::read(file).with_context(name)?).into_owned())
}

/// Tells what is wrong with a file; how many things that is.
fn check(file: &Path) -> Result<u64> {
    let (text, name) = (read(file)?, file.display().to_string());
    let kind = Kind::of(&text, &name, Path::new("/"));
    let mut told: Vec<String> = Vec::new();
    match kind {
        Kind::OssecConf => {
            let (conf, findings) = OssecConf::parse(&text, &name);
            told.extend(findings.0.iter().map(ToString::to_string));
            for translation in both(&conf, &name) {
                let left = translation.notes.iter().filter(|note| note.fate == Fate::Left);
                left.for_each(|note| eprintln!("{name}:{note}"));
            }
        }
        Kind::AgentConf => {
            let (_, findings) = conf::AgentConfig::parse(&text, &name);
            told.extend(findings.0.iter().map(ToString::to_string));
        }
        Kind::InternalOptions => {
            let (_, findings) = InternalOptions::parse(&text, &name);
            told.extend(findings.0.iter().map(ToString::to_string));
        }
        Kind::Agent => told.extend(Config::parse(&text, &name).1.iter().map(ToString::to_string)),
        Kind::Manager => {
            let (config, faults) = ManagerConfig::parse(&text, &name, Path::new("/"));
            told.extend(faults.iter().map(ToString::to_string));
            // These are no faults of the file.
            config.warnings.iter().for_each(|warning| eprintln!("{warning}"));
        }
    }
    told.iter().for_each(|fault| eprintln!("{fault}"));
    if told.is_empty() {
        println!("{name}: fine ({})", kind.name());
    }
    Ok(told.len() as u64)
}

fn both(conf: &OssecConf, name: &str) -> [Translation; 2] {
    let dir = native::root_of(name);
    let is_there = |name: &str| Path::new(dir).join(name).exists();
    [native::agent(conf, name), native::manager(conf, &Home { dir, is_there: &is_there }, name)]
}

fn show(file: Option<&Path>, state: &Path, effective: bool, json: bool, part: Option<&str>) -> Result<Outcome> {
    let own = || state.join("manager").join("manager.toml");
    let path = file.map_or_else(own, PathBuf::from);
    let name = path.display().to_string();
    // A manager without a file has the defaults.
    let text = if file.is_none() && !path.exists() { String::new() } else { read(&path)? };
    let kind = if file.is_none() { Kind::Manager } else { Kind::of(&text, &name, state) };
    let texts: Vec<(Kind, String)> = match kind {
        Kind::OssecConf => {
            let (conf, findings) = OssecConf::parse(&text, &name);
            findings.0.iter().for_each(|finding| eprintln!("{finding}"));
            let [agent, manager] = both(&conf, &name);
            let parts = [(Kind::Agent, "agent", agent.text), (Kind::Manager, "manager", manager.text)];
            let asked = parts.into_iter().filter(|(_, name, _)| part.is_none_or(|part| part == *name));
            asked.map(|(kind, _, text)| (kind, text)).collect()
        }
        Kind::Agent | Kind::Manager => vec![(kind, text)],
        other => bail!("{name} is {}: tally config check reads it, and only tally import translates it", other.name()),
    };
    let mut faults = 0;
    for (kind, text) in texts {
        if !effective {
            print!("{text}");
            continue;
        }
        let (value, told) = if kind == Kind::Agent {
            let (config, told) = Config::parse(&text, &name);
            (json!({ "agent": effective::agent(&config) }), told)
        } else {
            let (config, told) = ManagerConfig::parse(&text, &name, state);
            (json!({ "manager": config.effective() }), told)
        };
        told.iter().for_each(|fault| eprintln!("{fault}"));
        faults += told.len() as u64;
        print_value(&value, json)?;
    }
    Ok(Outcome::of_findings(faults))
}

fn print_value(value: &Value, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(value)?);
    } else if let Some(inner) = value.get("agent").or_else(|| value.get("manager")) {
        print!("{}", effective::toml(inner));
    }
    Ok(())
}
