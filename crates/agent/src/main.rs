//! The program `tally-agent`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tally_agent::options::{Command, DoctorOptions, EnrolOptions, Options, StatusOptions};
use tally_agent::{desk, doctor, enrol, program};
use tally_proto::sentence::shown;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tally-agent: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Enrol(options) => enrol_host(&options)?,
        Command::Run(options) => program::run(&options, &["link"])?,
        Command::Doctor(options) => return examine(&options),
        Command::Status(options) => return status(&options),
        Command::Link(options) => program::link(&options)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Options::command(), "tally-agent", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(options: &StatusOptions) -> anyhow::Result<ExitCode> {
    let dir = enrol::agent_dir(&tally_agent::state_dir(options.state.as_deref()));
    let (json, report) = desk::ask(&dir)?;
    if options.json {
        print!("{json}");
    } else {
        print!("{report}");
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn examine(options: &DoctorOptions) -> anyhow::Result<ExitCode> {
    let findings = doctor::examine(options)?;
    if options.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print!("{findings}");
    }
    Ok(if findings.is_all_seen() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn enrol_host(options: &EnrolOptions) -> anyhow::Result<()> {
    let state = tally_agent::state_dir(options.state.as_deref());
    let token = match options.token.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?,
        token => token.to_owned(),
    };
    let name = options.name.clone().unwrap_or_else(enrol::host_name);
    let enrolled = enrol::enrol(&state, &options.manager, token.trim(), &name, options.replace)?;
    println!("enrolled as {} ({}); next: tally-agent run", shown(&enrolled.name), enrolled.agent);
    Ok(())
}
