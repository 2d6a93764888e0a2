//! Rules over documents: which must be there, and that what a text names exists.

use std::path::{Component, Path, PathBuf};

use super::code::promise;
use super::{Fault, Tree};

/// What a repository of ours must have.
const REQUIRED: [&str; 10] = [
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE",
    "deny.toml",
    ".ci/run",
    "docs/ARCHITECTURE.md",
    "docs/threat-model.md",
    "docs/performance.md",
    "docs/json.md",
];

/// A path in a text that begins with one of these is meant as a path of this repository.
const ROOTS: [&str; 6] = ["crates", "docs", "fuzz", "rulesets", ".ci", ".config"];

pub fn check(tree: &Tree, faults: &mut Vec<Fault>) {
    for required in REQUIRED.iter().filter(|path| tree.text(Path::new(path)).is_none()) {
        faults.push(Fault::new(Path::new(required), 1, "is missing".into()));
    }
    if let Some(text) = tree.text(Path::new("CHANGELOG.md"))
        && !text.lines().any(|line| line.starts_with("## Unreleased"))
    {
        faults.push(Fault::new(Path::new("CHANGELOG.md"), 1, "has no section \"## Unreleased\"".into()));
    }
    for (path, text) in &tree.files {
        match path.extension().and_then(|e| e.to_str()) {
            Some("md") => check_document(tree, path, text, faults),
            Some("rs") => check_doc_comments(tree, path, text, faults),
            _ => {}
        }
    }
    check_fuzz_targets(tree, faults);
}

fn check_document(tree: &Tree, path: &Path, text: &str, faults: &mut Vec<Fault>) {
    let mut is_fenced = false;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if let Some(word) = promise(line) {
            faults.push(Fault::new(path, number, format!("{word} in a document: do it, or file it in the tracker")));
        }
        if is_fenced {
            continue;
        }
        let spans = line.split('`').skip(1).step_by(2);
        for named in spans.filter_map(repository_path).filter(|named| !tree.has(named)) {
            faults.push(Fault::new(path, number, format!("names `{}`, which does not exist", named.display())));
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        for target in links(line).filter(|target| !tree.has(&joined(directory, target))) {
            faults.push(Fault::new(path, number, format!("links to {target}, which does not exist")));
        }
    }
}

/// The document that a comment sends the reader to must be there.
fn check_doc_comments(tree: &Tree, path: &Path, text: &str, faults: &mut Vec<Fault>) {
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
        let words = comment.split(|c: char| c.is_whitespace() || "`()[],;\"".contains(c));
        let documents =
            words.map(|w| w.trim_end_matches(['.', ':'])).filter(|w| w.starts_with("docs/") && w.ends_with(".md"));
        for document in documents.filter(|document| !tree.has(Path::new(document))) {
            faults.push(Fault::new(path, number + 1, format!("names {document}, which does not exist")));
        }
    }
}

/// `span` as a path of the repository, if it looks like one: without `:line`, without `::item`.
fn repository_path(span: &str) -> Option<PathBuf> {
    let path = span.split(':').next()?;
    let is_path = path.contains('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
    let root = path.split('/').next()?;
    (is_path && ROOTS.contains(&root)).then(|| PathBuf::from(path.trim_end_matches('/')))
}

/// Targets of Markdown links that lie in this repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let bare = targets.filter_map(|target| target.split('#').next());
    bare.filter(|target| !target.is_empty() && !target.contains(':'))
}

fn joined(directory: &Path, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in directory.join(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// A fuzz target that no manifest names is never built, and a name without a file does not build.
fn check_fuzz_targets(tree: &Tree, faults: &mut Vec<Fault>) {
    let manifest = Path::new("fuzz/Cargo.toml");
    let text = tree.text(manifest).unwrap_or_default();
    let named = |file: &str| text.contains(&format!("path = \"fuzz_targets/{file}\""));
    for (path, _) in tree.files.iter().filter(|(path, _)| path.starts_with("fuzz/fuzz_targets")) {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !named(file) {
            faults.push(Fault::new(path, 1, "has no [[bin]] in fuzz/Cargo.toml".into()));
        }
    }
    for (number, line) in text.lines().enumerate() {
        let target = line.trim().strip_prefix("path = \"fuzz_targets/").and_then(|rest| rest.strip_suffix('"'));
        if let Some(target) = target.filter(|target| !tree.has(&Path::new("fuzz/fuzz_targets").join(target))) {
            faults.push(Fault::new(manifest, number + 1, format!("names fuzz_targets/{target}, which does not exist")));
        }
    }
}
