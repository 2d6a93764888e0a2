//! Man pages and shell completions, made from the one definition of the command line.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::Outcome;
use crate::options::Options;

/// Writes `tally.1`, one page for each subcommand, and `tally-agent.1` into `dir`.
pub fn man_pages(dir: &Path) -> Result<Outcome> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    clap_mangen::generate_to(Options::command(), dir).with_context(|| format!("write into {}", dir.display()))?;
    clap_mangen::generate_to(tally_agent::options::Options::command(), dir)
        .with_context(|| format!("write into {}", dir.display()))?;
    Ok(Outcome::Fine)
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
        assert!(dir.path().join("tally-change-list.1").exists() && dir.path().join("tally-agent.1").exists());
    }
}
