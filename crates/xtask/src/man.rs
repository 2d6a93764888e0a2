//! `cargo xtask man DIR`: the man pages and shell completions that packages ship. They are made by the programs
//! themselves, from the same definitions as their `--help`, so that they cannot say anything else.

use std::path::Path;

use anyhow::Context as _;

use crate::step::{command, output, run};

/// Shell, and the name under which its completion file is installed.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "tally.bash"), ("zsh", "_tally"), ("fish", "tally.fish")];

pub fn write(root: &Path, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let tally = ["run", "--quiet", "--locked", "--package", "tally-cli", "--bin", "tally", "--"];
    run(command(root, "cargo", &tally).arg("man-pages").arg(dir))?;
    for (shell, file) in COMPLETIONS {
        let script = output(command(root, "cargo", &tally).args(["completions", shell]))?;
        let path = dir.join(file);
        std::fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    }
    println!("man pages and completions are in {}", dir.display());
    Ok(())
}
