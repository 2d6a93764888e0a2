//! Man pages and shell completions, made from the one definition of the command line.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::Outcome;
use crate::options::Options;

/// Writes `tally.1` and one page for each subcommand, and `tally-agent.8` with its own: `tally agent` is another page than
/// the daemon `tally-agent`.
pub fn man_pages(dir: &Path) -> Result<Outcome> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for (command, section) in [(Options::command(), "1"), (tally_agent::options::Options::command(), "8")] {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        write_pages(command, section, dir).with_context(|| format!("write into {}", dir.display()))?;
    }
    Ok(Outcome::Fine)
}

fn write_pages(command: clap::Command, section: &str, dir: &Path) -> std::io::Result<()> {
    for subcommand in command.get_subcommands().filter(|s| !s.is_hide_set()).cloned() {
        write_pages(subcommand, section, dir)?;
    }
    clap_mangen::Man::new(command).section(section).generate_to(dir).map(drop)
}

pub fn completions(shell: clap_complete::Shell) -> Result<Outcome> {
    clap_complete::generate(shell, &mut Options::command(), "tally", &mut std::io::stdout());
    Ok(Outcome::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_man_pages_state_the_exit_codes() {
        Options::command().debug_assert();
        tally_agent::options::Options::command().debug_assert();
        let dir = tempfile::tempdir().unwrap();
        man_pages(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("tally.1")).unwrap();
        assert!(page.contains("Exit codes") && page.contains("findings"));
        for page in ["tally-change-list.1", "tally-agent.1", "tally-agent.8", "tally-agent-run.8"] {
            assert!(dir.path().join(page).exists(), "{page}");
        }
    }
}
