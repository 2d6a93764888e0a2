//! Rules over data: what is shipped, and what documents give as an example, must be read without a fault by the very
//! parsers that a user's file meets.

use std::path::Path;

use tally_rules::{Analysis, Lists, Sources, shipped};
use tally_syscheck::Config;
use tally_types::Diagnostic;

use super::{Fault, Tree};

/// Profiles of what to watch.
const PROFILES: &str = "crates/syscheck/profiles";

/// Rule files.
const RULESETS: &str = "rulesets";

/// Documents whose examples in TOML are configurations of the agent. (Those of a manager begin "```toml manager.toml", and are
/// read by its tests.)
const AGENT_EXAMPLES: [&str; 2] = ["README.md", "docs/policy.md"];

pub fn check(tree: &Tree, faults: &mut Vec<Fault>) {
    check_rules(tree, faults);
    for (path, text) in &tree.files {
        match path.extension().and_then(|e| e.to_str()) {
            Some("toml") if path.starts_with(PROFILES) => check_agent(path, 0, text, faults),
            Some("toml") => check_toml(path, text, faults),
            Some("json") => check_json(path, text, faults),
            Some("md") if AGENT_EXAMPLES.iter().any(|document| path == Path::new(document)) => {
                for (line, example) in examples(text) {
                    check_agent(path, line, &example, faults);
                }
            }
            _ => {}
        }
    }
}

/// A configuration of the agent that begins after the line `before` of its file.
fn check_agent(path: &Path, before: usize, text: &str, faults: &mut Vec<Fault>) {
    let (_, diagnostics) = Config::parse(text, &path.to_string_lossy());
    faults.extend(diagnostics.iter().map(|fault| place(path, before, fault)));
}

/// All of them together, as they are used. Each file of the directory must be one that is shipped.
fn check_rules(tree: &Tree, faults: &mut Vec<Fault>) {
    let shipped = || shipped::RULES.iter().chain(&shipped::DECODERS).map(|(name, _)| *name);
    for (path, _) in tree.files.iter().filter(|(path, _)| path.starts_with(RULESETS)) {
        let name = path.file_name().unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "xml") && !shipped().any(|known| name == known) {
            faults.push(Fault::new(
                path,
                1,
                "the file is not among those that are shipped (crates/rules/src/shipped.rs)".to_owned(),
            ));
        }
    }
    let sources = Sources::with_shipped(Vec::new(), Vec::new(), Vec::new(), Lists::default());
    let told = match Analysis::load(&sources, "host") {
        Ok(analysis) => analysis.engine.rules().warnings().to_vec(),
        Err(diagnostics) => diagnostics,
    };
    for fault in &told {
        let line = usize::try_from(fault.line).unwrap_or(usize::MAX);
        faults.push(Fault::new(&Path::new(RULESETS).join(&*fault.file), line, fault.message.clone()));
    }
}

fn place(path: &Path, before: usize, fault: &Diagnostic) -> Fault {
    let line = usize::try_from(fault.line).unwrap_or(usize::MAX);
    Fault::new(path, before.saturating_add(line), fault.message.clone())
}

/// The fenced blocks of TOML in a document, each with the line of its fence.
fn examples(text: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```toml") => open = Some((number + 1, String::new())),
            (Some(_), "```") => examples.extend(open.take()),
            (Some((_, example)), _) => {
                example.push_str(line);
                example.push('\n');
            }
            (None, _) => {}
        }
    }
    examples
}

fn check_toml(path: &Path, text: &str, faults: &mut Vec<Fault>) {
    if let Err(error) = text.parse::<toml::Table>() {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        faults.push(Fault::new(path, line, error.message().to_owned()));
    }
}

fn check_json(path: &Path, text: &str, faults: &mut Vec<Fault>) {
    let values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    for error in values.filter_map(Result::err) {
        faults.push(Fault::new(path, error.line(), error.to_string()));
    }
}
