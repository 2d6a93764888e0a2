//! `cargo xtask man DIR`: the man pages and shell completions that packages ship. They are made by the programs
//! themselves, from the same definitions as their `--help`, so that they cannot say anything else.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::step::{command, output, run};

/// Package and program.
const PROGRAMS: [(&str, &str); 2] = [("tally-cli", "tally"), ("tally-agent", "tally-agent")];

/// Shell, and what stands before and behind the program's name in the name of its completion file.
const COMPLETIONS: [(&str, &str, &str); 3] = [("bash", "", ".bash"), ("zsh", "_", ""), ("fish", "", ".fish")];

pub fn write(root: &Path, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    run(program(root, "tally-cli", "tally").arg("man-pages").arg(dir))?;
    for (package, name) in PROGRAMS {
        for (shell, before, behind) in COMPLETIONS {
            let script = output(program(root, package, name).args(["completions", shell]))?;
            let path = dir.join(format!("{before}{name}{behind}"));
            std::fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
        }
    }
    println!("man pages and completions are in {}", dir.display());
    Ok(())
}

fn program(root: &Path, package: &str, name: &str) -> Command {
    command(root, "cargo", &["run", "--quiet", "--locked", "--package", package, "--bin", name, "--"])
}
