//! Rules over the `Cargo.toml` files: layers, owners of heavy dependencies, one place for versions and lints.

use std::collections::BTreeSet;
use std::path::Path;

use toml::Table;

use super::house::{EMPTY_NAMES, OWNED, ROOMS, Room};
use super::{Fault, Tree};

const SECTIONS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];

/// A dependency as a manifest names it.
struct Named<'a> {
    name: &'a str,
    is_for_tests: bool,
    /// Taken from `[workspace.dependencies]`.
    is_inherited: bool,
}

pub fn check(tree: &Tree, faults: &mut Vec<Fault>) {
    let mut seen = BTreeSet::new();
    for (path, text) in tree.files_named("Cargo.toml") {
        let Some(crate_name) = crate_of(path) else { continue };
        seen.insert(crate_name.to_owned());
        let manifest = match text.parse::<Table>() {
            Ok(manifest) => manifest,
            Err(_) => continue, // Reported with its place by the rule over shipped files.
        };
        let fault = |word: &str, message: String| Fault::new(path, line_of(text, word), message);
        let Some(room) = ROOMS.iter().find(|room| room.name == crate_name) else {
            faults.push(fault(
                "name",
                format!("crate {crate_name} has no room: add it to crates/xtask/src/tidy/house.rs"),
            ));
            continue;
        };
        if manifest.get("lints").and_then(|l| l.get("workspace")?.as_bool()) != Some(true) {
            faults.push(fault(
                "package",
                "the workspace's lints are not taken over: add [lints] workspace = true".into(),
            ));
        }
        for named in dependencies(&manifest) {
            for message in check_dependency(room, &named) {
                faults.push(fault(named.name, message));
            }
        }
    }
    for room in ROOMS.iter().filter(|room| !seen.is_empty() && !seen.contains(room.name)) {
        faults.push(Fault::new(
            Path::new("crates/xtask/src/tidy/house.rs"),
            1,
            format!("the room {} has no crate under crates/", room.name),
        ));
    }
}

/// `crates/NAME/Cargo.toml` → `NAME`.
fn crate_of(path: &Path) -> Option<&str> {
    path.parent()?.strip_prefix("crates").ok()?.to_str().filter(|name| !name.contains('/') && !name.is_empty())
}

fn dependencies(manifest: &Table) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(|t| t.as_table()).into_iter().flat_map(|t| t.values());
    let tables = std::iter::once(manifest).chain(targets.filter_map(|t| t.as_table()));
    for table in tables {
        for section in SECTIONS {
            for (name, value) in table.get(section).and_then(|s| s.as_table()).into_iter().flatten() {
                let is_inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                found.push(Named { name, is_for_tests: section == "dev-dependencies", is_inherited });
            }
        }
    }
    found
}

fn check_dependency(room: &Room, named: &Named<'_>) -> Vec<String> {
    let mut messages = Vec::new();
    let name = named.name;
    if !named.is_inherited {
        messages.push(format!("{name}: versions stand in the root Cargo.toml: write {name}.workspace = true"));
    }
    match name.strip_prefix("tally-") {
        Some(other) => messages.extend(check_layer(room, other, named.is_for_tests)),
        None => messages.extend(check_owner(room, named)),
    }
    messages
}

fn check_layer(room: &Room, other_name: &str, is_for_tests: bool) -> Option<String> {
    let Some(other) = ROOMS.iter().find(|room| room.name == other_name) else {
        return Some(format!("{} uses tally-{other_name}, which has no room in the house", room.name));
    };
    if room.beside.contains(&other.name) || (is_for_tests && other.layer <= room.layer) {
        return None;
    }
    if other.layer >= room.layer {
        return Some(format!(
            "{} (layer {}) must not use {} (layer {}): only layers below its own",
            room.name, room.layer, other.name, other.layer
        ));
    }
    let breaks_purity = room.is_pure && !other.is_pure && !is_for_tests;
    breaks_purity.then(|| format!("{} is pure and must not use {}, which is not", room.name, other.name))
}

fn check_owner(room: &Room, named: &Named<'_>) -> Option<String> {
    let owned = OWNED.iter().find(|owned| owned.dependency == named.name)?;
    let is_allowed = named.is_for_tests || owned.owners.contains(&room.name);
    (!is_allowed).then(|| {
        format!("{} must not use {}: it belongs to {}", room.name, owned.dependency, owned.owners.join(" and "))
    })
}

/// Crates and modules are named for what they hold.
pub fn check_names(tree: &Tree, faults: &mut Vec<Fault>) {
    for (path, _) in tree.files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "rs")) {
        let empty = path.components().filter_map(|c| Path::new(c.as_os_str()).file_stem()?.to_str());
        for name in empty.filter(|name| EMPTY_NAMES.contains(name)) {
            faults.push(Fault::new(
                path,
                1,
                format!("\"{name}\" says nothing of what is inside: name it for its main type"),
            ));
        }
    }
}

/// The first line that begins with `word`; 1 if none does.
fn line_of(text: &str, word: &str) -> usize {
    let begins = |line: &str| line.trim_start().trim_start_matches('[').starts_with(word);
    text.lines().position(begins).map_or(1, |line| line + 1)
}
