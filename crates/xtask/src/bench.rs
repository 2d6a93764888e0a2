//! Benchmarks, under construction.
use std::path::Path;
#[derive(Debug, clap::Args)]
pub struct Options {}
pub fn run(_root: &Path, _options: &Options) -> anyhow::Result<()> {
    Ok(())
}
