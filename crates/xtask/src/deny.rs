//! `cargo xtask deny`: what may come into the build, by licence, name, version and source, as deny.toml lists it.
//!
//! The list is in the form of cargo-deny 0.20, so that who has that tool gets the same answer from it. It is read here
//! because building cargo-deny costs each fresh machine 200 CPU seconds and this costs one. The part that only it has, the
//! advisories, needs a Git repository that a closed network does not reach: they are not checked here, and deny.toml says
//! so.
//! Source: SPDX Specification 2.3, annex D (licence expressions); cargo metadata format version 1.

mod licence;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use toml::Table;

use licence::Expression;

/// A package as `cargo metadata` tells it.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None` for our own.
    source: Option<String>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// What deny.toml says, as far as it is read here.
#[derive(Debug, Default)]
struct Lists {
    licences: BTreeSet<String>,
    /// Package name → licences that it alone may have.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    /// Package name → why not.
    banned: BTreeMap<String, String>,
    denies_duplicates: bool,
    /// Versions that may stand beside another one of the same package: `name` or `name@version`.
    skipped: BTreeSet<String>,
    registries: BTreeSet<String>,
    targets: Vec<String>,
}

pub fn run(root: &Path) -> anyhow::Result<()> {
    let path = root.join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lists = Lists::parse(&text).context("deny.toml")?;
    let packages = packages(root, &lists.targets)?;
    let faults = check(&lists, &packages);
    for fault in &faults {
        println!("deny.toml: {fault}");
    }
    ensure!(faults.is_empty(), "{} of {} packages must not be in the build", faults.len(), packages.len());
    println!("{} packages: licences, bans, versions and sources are as deny.toml lists them", packages.len());
    Ok(())
}

impl Lists {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let table: Table = text.parse()?;
        let list = |section: &str, key: &str| table.get(section).and_then(|s| s.get(key)).and_then(|v| v.as_array());
        let words = |section: &str, key: &str| -> BTreeSet<String> {
            list(section, key).into_iter().flatten().filter_map(|v| v.as_str()).map(str::to_owned).collect()
        };
        let mut lists = Self {
            licences: words("licenses", "allow"),
            registries: words("sources", "allow-registry"),
            targets: words("graph", "targets").into_iter().collect(),
            ..Self::default()
        };
        let bans = table.get("bans");
        lists.denies_duplicates =
            bans.and_then(|b| b.get("multiple-versions")).and_then(|v| v.as_str()).is_some_and(|v| v == "deny");
        for item in list("bans", "deny").into_iter().flatten() {
            lists.banned.insert(crate_of(item)?, reason_of(item));
        }
        for item in list("bans", "skip").into_iter().flatten() {
            lists.skipped.insert(crate_of(item)?);
        }
        for item in list("licenses", "exceptions").into_iter().flatten() {
            let allowed = item.get("allow").and_then(|a| a.as_array()).into_iter().flatten();
            let allowed = allowed.filter_map(|v| v.as_str()).map(str::to_owned).collect();
            lists.exceptions.insert(crate_of(item)?, allowed);
        }
        ensure!(!lists.licences.is_empty(), "[licenses] allow is empty");
        ensure!(!lists.registries.is_empty(), "[sources] allow-registry is empty");
        Ok(lists)
    }
}

/// `"name"` or `{ crate = "name", … }`.
fn crate_of(item: &toml::Value) -> anyhow::Result<String> {
    let name = item.as_str().or_else(|| item.get("crate")?.as_str());
    name.map(str::to_owned).with_context(|| format!("no crate is named in {item}"))
}

fn reason_of(item: &toml::Value) -> String {
    item.get("reason").and_then(|r| r.as_str()).unwrap_or("it is on the list").to_owned()
}

/// Every package that a build for `targets` resolves, ours included.
fn packages(root: &Path, targets: &[String]) -> anyhow::Result<Vec<Package>> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(root);
    for target in targets {
        command.args(["--filter-platform", target]);
    }
    let output = command.stderr(std::process::Stdio::inherit()).output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let resolved: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().into_iter().flatten().filter_map(|node| node["id"].as_str()).collect();
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let (Some(id), Some(name), Some(version)) = (text("id"), text("name"), text("version")) else {
            bail!("cargo metadata has a package without a name");
        };
        if resolved.contains(&*id) {
            packages.push(Package { name, version, licence: text("license"), source: text("source") });
        }
    }
    Ok(packages)
}

fn check(lists: &Lists, packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        faults.extend(check_licence(lists, package));
        if let Some(reason) = lists.banned.get(&package.name) {
            faults.push(format!("{package} is banned: {reason}"));
        }
        let registry = package.source.as_deref().map(|source| source.trim_start_matches("registry+"));
        if let Some(source) = registry.filter(|source| !lists.registries.contains(*source)) {
            faults.push(format!("{package} comes from {source}, which is no allowed registry"));
        }
    }
    if lists.denies_duplicates {
        faults.extend(duplicates(lists, packages));
    }
    faults
}

fn check_licence(lists: &Lists, package: &Package) -> Option<String> {
    let Some(text) = package.licence.as_deref() else {
        return Some(format!("{package} states no licence"));
    };
    let exceptions = lists.exceptions.get(&package.name);
    let is_allowed =
        |licence: &str| lists.licences.contains(licence) || exceptions.is_some_and(|e| e.contains(licence));
    match Expression::parse(text) {
        Ok(expression) if expression.holds(&is_allowed) => None,
        Ok(_) => Some(format!("{package} has the licence {text}, which is not allowed")),
        Err(error) => Some(format!("{package} has the licence \"{text}\", which cannot be read: {error}")),
    }
}

/// A package in two versions is built twice and trusted twice. One version stays; all others must be in `skip`.
fn duplicates(lists: &Lists, packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let mut faults = Vec::new();
    for (name, versions) in versions {
        let is_skipped = |version: &&&str| {
            let begins = |entry: &str| entry == name || is_version_of(entry, name, version);
            !lists.skipped.iter().any(|entry| begins(entry))
        };
        let left: Vec<&str> = versions.iter().filter(is_skipped).copied().collect();
        if left.len() > 1 {
            faults.push(format!(
                "{name} is built in versions {}: settle on one, or say in [bans] skip why not",
                left.join(" and ")
            ));
        }
    }
    faults
}

/// `entry` is `name@version`, or `name@` with the version's first parts.
fn is_version_of(entry: &str, name: &str, version: &str) -> bool {
    let wanted = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix('@'));
    let rest = wanted.and_then(|wanted| version.strip_prefix(wanted));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: &str = r#"
[graph]
targets = ["x86_64-unknown-linux-gnu"]
[licenses]
allow = ["MIT", "Apache-2.0"]
exceptions = [{ crate = "uni", allow = ["Unicode-3.0"] }]
[bans]
multiple-versions = "deny"
deny = [{ crate = "openssl", reason = "we use ring" }]
skip = [{ crate = "syn@1" }]
[sources]
allow-registry = ["https://example.org/index"]
"#;

    fn package(name: &str, version: &str, licence: &str) -> Package {
        let source = Some("registry+https://example.org/index".to_owned());
        Package { name: name.into(), version: version.into(), licence: Some(licence.into()), source }
    }

    #[test]
    fn what_is_listed_passes() {
        let lists = Lists::parse(LISTS).unwrap();
        let packages = [
            package("a", "1.0.0", "MIT OR GPL-3.0"),
            package("uni", "1.0.0", "(MIT OR Apache-2.0) AND Unicode-3.0"),
            package("syn", "1.0.3", "MIT"),
            package("syn", "2.0.1", "MIT"),
        ];
        assert_eq!(check(&lists, &packages), [""; 0]);
        assert_eq!(lists.targets, ["x86_64-unknown-linux-gnu"]);
    }

    #[test]
    fn each_fault_is_named() {
        let lists = Lists::parse(LISTS).unwrap();
        let mut foreign = package("far", "1.0.0", "MIT");
        foreign.source = Some("git+https://example.org/far".into());
        let mut silent = package("silent", "1.0.0", "");
        silent.licence = None;
        let packages = [
            package("b", "1.0.0", "GPL-3.0"),
            package("c", "1.0.0", "MIT AND Unicode-3.0"),
            package("openssl", "0.10.0", "Apache-2.0"),
            package("d", "1.0.0", "MIT"),
            package("d", "2.0.0", "MIT"),
            foreign,
            silent,
        ];
        let faults = check(&lists, &packages);
        assert_eq!(
            faults,
            [
                "b 1.0.0 has the licence GPL-3.0, which is not allowed",
                "c 1.0.0 has the licence MIT AND Unicode-3.0, which is not allowed",
                "openssl 0.10.0 is banned: we use ring",
                "far 1.0.0 comes from git+https://example.org/far, which is no allowed registry",
                "silent 1.0.0 states no licence",
                "d is built in versions 1.0.0 and 2.0.0: settle on one, or say in [bans] skip why not",
            ]
        );
    }

    #[test]
    fn a_list_that_allows_nothing_is_a_mistake() {
        assert!(Lists::parse("[licenses]\nallow = []\n").is_err());
        assert!(Lists::parse("[licenses\n").is_err());
        assert!(Lists::parse(&LISTS.replace("crate = \"openssl\"", "krate = \"openssl\"")).is_err());
    }

    #[test]
    fn versions_are_matched_by_whole_parts() {
        assert!(is_version_of("syn@1", "syn", "1.0.3") && is_version_of("syn@1.0.3", "syn", "1.0.3"));
        assert!(!is_version_of("syn@1", "syn", "10.0.3") && !is_version_of("syn@1", "synstructure", "1.0.0"));
    }
}
