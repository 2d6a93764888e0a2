//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, run by cargo-fuzz (libFuzzer). cargo-fuzz wants a nightly compiler
//! for `-Z sanitizer`; RUSTC_BOOTSTRAP=1 lets the stable one accept that flag, for these builds alone.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::step::{answers, command, run, target_dir};

/// The version that these manifests were tried with.
const CARGO_FUZZ: &str = "0.13.2";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which target; without one, they are listed
    name: Option<String>,
    /// Seconds to run it for
    #[arg(long, value_name = "S", default_value_t = 60)]
    time: u64,
    /// Build every target and run none
    #[arg(long, conflicts_with = "name")]
    build: bool,
}

pub fn start(root: &Path, options: &Options) -> anyhow::Result<()> {
    let targets = targets(root)?;
    match &options.name {
        _ if options.build => fuzz(root, &["build"]),
        None => {
            targets.iter().for_each(|target| println!("{target}"));
            Ok(())
        }
        Some(name) => {
            ensure!(targets.contains(name), "there is no target {name}; there are {}", targets.join(", "));
            fuzz(root, &["run", name, "--", &format!("-max_total_time={}", options.time)])
        }
    }
}

/// Compiles the targets without sanitizers, which needs no more than the stable compiler: a check that they still fit
/// the parsers they call. Their lock file may follow the crates', because nothing of this is shipped.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let target_dir = target_dir(root).join("fuzz");
    run(command(root, "cargo", &["check", "--manifest-path", "fuzz/Cargo.toml", "--all-targets"])
        .env("CARGO_TARGET_DIR", target_dir))
}

fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let dir = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for item in std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let path = item?.path();
        if path.extension().is_some_and(|e| e == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

fn fuzz(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    if !answers("cargo", &["fuzz", "--version"]) {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz --locked --version {CARGO_FUZZ}");
    }
    let mut command = command(root, "cargo", &["fuzz"]);
    run(command.args(arguments).env("RUSTC_BOOTSTRAP", "1"))
}
