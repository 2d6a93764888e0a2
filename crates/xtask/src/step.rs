//! One command of a task: shown before it runs, timed, its failure told with its name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// What a step took and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub took: Duration,
    /// The error, if it failed.
    pub error: Option<String>,
}

/// Runs `work` under a heading.
pub fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> Outcome {
    println!("\n=== {name}");
    let started = Instant::now();
    let error = work().err().map(|error| format!("{error:#}"));
    let took = started.elapsed();
    match &error {
        None => println!("=== {name}: ok in {:.1} s", took.as_secs_f64()),
        Some(error) => println!("=== {name}: FAILED in {:.1} s: {error}", took.as_secs_f64()),
    }
    Outcome { name: name.to_owned(), took, error }
}

/// A command in the repository that reads nothing from the terminal.
pub fn command(root: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

/// Runs it with its output shown; an error tells the command and its exit status.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("run {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// Runs it and returns its standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("run {line}"))?;
    ensure!(output.status.success(), "{line}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the program is there and says its version.
pub fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Where cargo builds.
pub fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
