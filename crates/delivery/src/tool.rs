//! Where tests find tools that are not of this machine: below the target directory, by `cargo xtask test`.

use std::path::{Path, PathBuf};

/// The tool below the target directory; says so where it is not there.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        |dir| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir),
    );
    let path = target.join("tools").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {name} is not installed; cargo xtask test --step setup does it");
    None
}
