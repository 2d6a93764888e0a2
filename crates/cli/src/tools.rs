//! OSSEC's tools under their own names, for scripts that call them: this program behaves as the tool by whose name it is
//! started, `tally ossec-tools install DIR` makes the links, and `tally ossec-tools run NAME …` starts one without a link.
//!
//! Options and output are those of OSSEC 4.3, as far as a tool is here; what one cannot do it says and ends with 1. The state
//! directory is that of `tally`; TALLYSTICK_STATE names another.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tally_types::Timestamp;

use crate::Outcome;
use crate::options::{AskOptions, OssecToolsCommand};

mod agent_auth;
mod agents;
mod keys;
mod lists;
mod logtest;
mod menu;
mod orders;
mod own_key;
mod patterns;
mod report;
mod rootcheck;
mod service;
mod syscheck;
mod verify;

/// How a tool ended: its exit code, where it is none of an error.
type Ended = Result<u8>;

/// A tool: its name, and what it does with its arguments.
struct Tool {
    name: &'static str,
    run: fn(&[String], &mut dyn Write) -> Ended,
}

const TOOLS: [Tool; 12] = [
    Tool { name: "agent-auth", run: agent_auth::agent_auth },
    Tool { name: "agent_control", run: agents::agent_control },
    Tool { name: "list_agents", run: agents::list_agents },
    Tool { name: "manage_agents", run: keys::manage_agents },
    Tool { name: "ossec-logtest", run: logtest::logtest },
    Tool { name: "ossec-makelists", run: lists::makelists },
    Tool { name: "ossec-regex", run: patterns::regex },
    Tool { name: "ossec-reportd", run: report::reportd },
    Tool { name: "rootcheck_control", run: rootcheck::rootcheck_control },
    Tool { name: "syscheck_control", run: syscheck::syscheck_control },
    Tool { name: "verify-agent-conf", run: verify::agent_conf },
    Tool { name: "ossec-control", run: service::ossec_control },
];

/// The tool by whose name this program was started, if any.
pub fn by_name(argument: &OsString) -> Option<&'static str> {
    let name = Path::new(argument).file_name()?.to_str()?;
    TOOLS.iter().find(|tool| tool.name == name).map(|tool| tool.name)
}

/// Runs a tool with its arguments, without its own name.
pub fn run(name: &str, arguments: &[String]) -> ExitCode {
    let Some(tool) = TOOLS.iter().find(|tool| tool.name == name) else {
        eprintln!("tally: there is no tool {name}");
        return ExitCode::from(2);
    };
    let mut out = io::stdout().lock();
    let ended = (tool.run)(arguments, &mut out).and_then(|code| Ok(out.flush().map(|()| code)?));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) if crate::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: ERROR: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// `tally ossec-tools …`.
pub fn command(command: &OssecToolsCommand) -> Result<ExitCode> {
    match command {
        OssecToolsCommand::Install { dir } => install(dir).map(|_| ExitCode::SUCCESS),
        OssecToolsCommand::Run { name, arguments } => Ok(run(name, arguments)),
    }
}

/// Makes a link for each tool. What is there under its name and is no link of ours stays.
fn install(dir: &Path) -> Result<Outcome> {
    let program = std::env::current_exe().context("find this program's own file")?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut held = Vec::new();
    for tool in &TOOLS {
        let link = dir.join(tool.name);
        match std::fs::read_link(&link) {
            Ok(to) if to == program => continue,
            Ok(_) => std::fs::remove_file(&link).with_context(|| link.display().to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                held.push(link.display().to_string());
                continue;
            }
        }
        std::os::unix::fs::symlink(&program, &link).with_context(|| link.display().to_string())?;
    }
    println!("{} tools in {}", TOOLS.len() - held.len(), dir.display());
    if !held.is_empty() {
        bail!("these are files, and stay as they are: {}", held.join(", "));
    }
    Ok(Outcome::Fine)
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// `2026/11/24 03:17:26`, as OSSEC's programs begin a line of their log.
fn stamp(at: Timestamp) -> String {
    let at = tally_sys::clock::local(at.micros().div_euclid(1_000_000));
    let (year, month, day) = (at.year, at.month, at.day);
    format!("{year}/{month:02}/{day:02} {:02}:{:02}:{:02}", at.hour, at.minute, at.second)
}

/// Where the state is.
fn ask_options() -> AskOptions {
    AskOptions { state: std::env::var_os("TALLYSTICK_STATE").map(PathBuf::from), json: false }
}

/// Options as OSSEC's tools have them: letters after a `-`, some of which take the next argument.
struct Letters {
    given: Vec<(char, Option<String>)>,
}

impl Letters {
    /// `valued` are the letters that take a value.
    fn parse(arguments: &[String], valued: &str) -> Result<Self> {
        let mut given = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                bail!("\"{argument}\" is no option");
            };
            for (at, letter) in letters.char_indices() {
                if !valued.contains(letter) {
                    given.push((letter, None));
                    continue;
                }
                let rest = &letters[at + letter.len_utf8()..];
                let value = if rest.is_empty() { arguments.next().cloned() } else { Some(rest.to_owned()) };
                let Some(value) = value else { bail!("-{letter} needs a value") };
                given.push((letter, Some(value)));
                break;
            }
        }
        Ok(Self { given })
    }

    fn has(&self, letter: char) -> bool {
        self.given.iter().any(|(given, _)| *given == letter)
    }

    fn value(&self, letter: char) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == letter).and_then(|(_, value)| value.as_deref())
    }

    /// The first that is not among `known`.
    fn unknown(&self, known: &str) -> Option<char> {
        self.given.iter().map(|(letter, _)| *letter).find(|letter| !known.contains(*letter))
    }
}

#[cfg(test)]
mod tests;
