//! Bare watching with a reader that does nothing, the least that it costs: a fanotify mark on a filesystem, or inotify watches
//! on the directories of a tree.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use super::Bench;

/// It ends with its owner.
pub struct Mark(Child);

impl Mark {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn start(bench: &Bench, watched: &Path) -> anyhow::Result<Self> {
        Self::start_as(bench, "mark", watched)
    }

    pub fn inotify(bench: &Bench, watched: &Path) -> anyhow::Result<Self> {
        Self::start_as(bench, "inotify", watched)
    }

    /// The same mark with a reader that lets records come together, as the agent does in a storm; how many there were stands in
    /// the file `count`.
    pub fn gathering(bench: &Bench, watched: &Path, count: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(bench.program("tally-floor"));
        Self::spawn(command.arg("gather").args([watched, count]))
    }

    fn start_as(bench: &Bench, kind: &str, watched: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(bench.program("tally-floor"));
        Self::spawn(command.arg(kind).arg(watched))
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("start tally-floor")?;
        let said = child.stdout.take().and_then(|out| BufReader::new(out).lines().next());
        let mark = Self(child);
        ensure!(matches!(said, Some(Ok(line)) if line == "marked"), "the bare mark could not be had");
        Ok(mark)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
