//! AIDE on the same tree, with the attributes that the comparison names: SHA-256, mode, owner, group, size, mtime.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Bench;
use super::measure::{Cost, cost};

/// AIDE's codes 1 to 7: new, removed and changed files, in any combination.
const FINDINGS: [i32; 7] = [1, 2, 3, 4, 5, 6, 7];

pub struct Aide {
    configuration: PathBuf,
    database: PathBuf,
}

impl Aide {
    /// Its database lies in memory, so that 200,000 small writes to a disk are not held against it.
    pub fn new(bench: &Bench, tree: &Path) -> anyhow::Result<Self> {
        let directory = bench.memory.path();
        let (configuration, database) = (directory.join("aide.conf"), directory.join("aide.db"));
        let text = format!(
            "database_in=file:{database}\ndatabase_out=file:{database}.new\ngzip_dbout=no\nreport_url=stdout\n\
             Measured = p+u+g+s+m+sha256\n{tree} Measured\n",
            database = database.display(),
            tree = tree.display(),
        );
        std::fs::write(&configuration, text).with_context(|| format!("write {}", configuration.display()))?;
        Ok(Self { configuration, database })
    }

    pub fn init(&self, bench: &Bench) -> anyhow::Result<Cost> {
        let cost = self.run(bench, "--init", &[])?;
        let mut made = self.database.clone().into_os_string();
        made.push(".new");
        std::fs::rename(&made, &self.database).context("take aide's new database")?;
        Ok(cost)
    }

    pub fn check(&self, bench: &Bench) -> anyhow::Result<Cost> {
        self.run(bench, "--check", &FINDINGS)
    }

    fn run(&self, bench: &Bench, act: &str, accepted: &[i32]) -> anyhow::Result<Cost> {
        let configuration = self.configuration.display().to_string();
        cost(bench.memory.path(), &["aide", "--config", &configuration, act], accepted)
    }
}
