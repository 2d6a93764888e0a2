//! The program `tally`: the operator's commands, the manager, and both daemons of one machine.
//!
//! It asks the manager and prints; it never reads the manager's databases itself. Exit codes: 0 fine, 1 findings, 2 error.

mod ask;
mod check;
mod config;
mod import;
mod logtest;
mod operate;
mod options;
mod pages;
mod policy;
mod render;
mod serve;
mod tools;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Options, RulesCommand};

/// How a command ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    Findings,
}

impl Outcome {
    /// Commands that look for something end with 1 if they found it.
    pub const fn of_findings(findings: u64) -> Self {
        if findings == 0 { Self::Fine } else { Self::Findings }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next().as_ref().and_then(tools::by_name) {
        let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
        return tools::run(name, &arguments);
    }
    let options = Options::parse();
    if let Command::OssecTools(command) = &options.command {
        return tools::command(command).unwrap_or_else(|error| {
            eprintln!("tally: {error:#}");
            ExitCode::from(2)
        });
    }
    match run(options) {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tally: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> anyhow::Result<Outcome> {
    match options.command {
        Command::Up(options) => up::run(&options),
        Command::Manager(options) => serve::run(&options),
        Command::Init(options) => check::init(&options),
        Command::Check(options) => check::check(&options),
        Command::Config(command) => config::run(&command),
        Command::Import(options) => import::run(&options),
        Command::Logtest(options) => logtest::run(&options),
        Command::Rules(RulesCommand::Test(options)) => logtest::cases::run(&options),
        Command::Rules(RulesCommand::Reload(options)) => operate::rules_reload(&options),
        Command::Completions { shell } => pages::completions(shell),
        Command::ManPages { dir } => pages::man_pages(&dir),
        Command::AgentRun(options) => {
            tally_agent::program::run(&options, &["link"])?;
            Ok(Outcome::Fine)
        }
        Command::Link(options) => {
            tally_agent::program::link(&options)?;
            Ok(Outcome::Fine)
        }
        asking => operate::run(asking),
    }
}

/// `tally change list | head` is no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}
