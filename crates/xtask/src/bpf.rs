//! `cargo xtask bpf`: compiles the BPF programs of crates/sys/bpf. The objects are committed, so that building Tallystick
//! needs no clang; `cargo xtask test` compiles them again and compares, so that each is what its source says.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{answers, command, run};

const DIR: &str = "crates/sys/bpf";
const SOURCE: &str = "process.bpf.c";
const OBJECT: &str = "process.bpf.o";
/// Another version gives other bytes.
const CLANG: &str = "clang-14";
const STRIP: &str = "llvm-strip-14";

/// Compiles the programs into the objects that are committed.
pub fn build(root: &Path) -> anyhow::Result<()> {
    compile(root, &root.join(DIR).join(OBJECT))
}

/// Compiles the programs elsewhere and compares.
pub fn check(root: &Path) -> anyhow::Result<()> {
    if !answers(CLANG, &["--version"]) || !answers(STRIP, &["--version"]) {
        println!("skipped: {CLANG} and {STRIP} are not installed");
        return Ok(());
    }
    let fresh: PathBuf = crate::step::target_dir(root).join(OBJECT);
    compile(root, &fresh)?;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let committed = root.join(DIR).join(OBJECT);
    let same = read(&fresh)? == read(&committed)?;
    ensure!(same, "{DIR}/{OBJECT} is not what {SOURCE} gives; run `cargo xtask bpf` and commit it");
    println!("{DIR}/{OBJECT} is what {SOURCE} gives");
    Ok(())
}

fn compile(root: &Path, object: &Path) -> anyhow::Result<()> {
    let dir = root.join(DIR);
    // The directory is part of the type information: it must not be this machine's.
    let options = ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-ffile-compilation-dir=.", "-c", SOURCE, "-o"];
    let mut clang: Command = command(&dir, CLANG, &options);
    run(clang.arg(object))?;
    run(command(&dir, STRIP, &["-g"]).arg(object))
}
