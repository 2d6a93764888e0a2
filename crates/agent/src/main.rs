//! The program `tally-agent`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tally_agent::options::{Command, EnrolOptions, Options};
use tally_agent::{enrol, program};
use tally_proto::sentence::shown;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tally-agent: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    match options.command {
        Command::Enrol(options) => enrol_host(&options),
        Command::Run(options) => program::run(&options, &["link"]),
        Command::Link(options) => program::link(&options),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Options::command(), "tally-agent", &mut std::io::stdout());
            Ok(())
        }
    }
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
