//! `<rules>`: which rules, decoders and lists are read.

use super::read::{push, text, unknown, unknown_attributes};
use crate::finding::Notary;
use tally_xml::Element;

/// One element, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// `include` or `rule`: a file, in `rules/` if it has no `/`.
    Rule(String),
    /// `rule_dir` with its pattern (OSRegex on `dir/file`).
    RuleDir(String, Option<String>),
    Decoder(String),
    DecoderDir(String, Option<String>),
    /// The text file of a CDB list.
    List(String),
}

/// `<rules>`, each source with its line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub sources: Vec<super::At<RuleSource>>,
}

pub(super) const RULES: [&str; 6] = ["include", "rule", "rule_dir", "decoder", "decoder_dir", "list"];

impl Rules {
    pub(super) fn read(&mut self, section: &Element<'_>, n: &mut Notary<'_>) {
        for e in &section.children {
            if !RULES.contains(&e.name) {
                unknown(e, "rules", &RULES, n);
                continue;
            }
            let is_dir = e.name.ends_with("_dir");
            unknown_attributes(e, if is_dir { &["pattern"] } else { &[] }, n);
            let Some(name) = text(e, n) else { continue };
            let pattern = e.attributes.iter().find(|a| a.name == "pattern").map(|a| a.value.clone());
            let value = match e.name {
                "include" | "rule" => RuleSource::Rule(name.value),
                "rule_dir" => RuleSource::RuleDir(name.value, pattern),
                "decoder" => RuleSource::Decoder(name.value),
                "decoder_dir" => RuleSource::DecoderDir(name.value, pattern),
                _ => RuleSource::List(name.value),
            };
            push(&mut self.sources, super::At { value, line: name.line }, e, n);
        }
    }
}
