//! What is wrong with a file that people wrote for OSSEC, and where.
//!
//! OSSEC refuses a file for a word that it does not know. Here a file is refused for what cannot be understood, and a word
//! that means nothing is a warning: nothing is left out unsaid, and a site that moves over is not stopped by a word of a
//! newer version. Places are counted once for a file, so that a long one with many faults costs no more than its length.

use std::fmt;
use std::sync::Arc;

use tally_types::{Diagnostic, did_you_mean, shown};
use tally_xml::{Element, Fault};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What it stands at has no effect, and the rest is used.
    Warning,
    /// The file says something that cannot be done: it should not be used before it is mended.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub diagnostic: Diagnostic,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { file, line, column, message } = &self.diagnostic;
        let word = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{file}:{line}:{column}: {word}{message}")
    }
}

/// The findings of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| finding.severity == Severity::Error)
    }

    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }
}

/// Findings of one file beyond this number are counted, not told.
pub const FINDINGS_MAX: usize = 200;

/// Collects the findings of one text.
pub(crate) struct Notary<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Where each line but the first begins.
    lines: Vec<usize>,
    list: Vec<Finding>,
    more: usize,
}

impl<'t> Notary<'t> {
    pub fn new(file: &str, text: &'t str) -> Self {
        let lines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1).collect();
        Self { file: file.into(), text, lines, list: Vec::new(), more: 0 }
    }

    /// The line of a byte of the text, from 1.
    pub fn line(&self, at: usize) -> u32 {
        u32::try_from(self.lines.partition_point(|start| *start <= at) + 1).unwrap_or(u32::MAX)
    }

    /// The elements of the text.
    pub fn elements(&mut self) -> Vec<Element<'t>> {
        let (elements, faults) = tally_xml::parse(self.text);
        for Fault { at, is_warning, message } in faults {
            self.add(if is_warning { Severity::Warning } else { Severity::Error }, at, message);
        }
        elements
    }

    pub fn error(&mut self, at: usize, message: impl Into<String>) {
        self.add(Severity::Error, at, message.into());
    }

    pub fn warning(&mut self, at: usize, message: impl Into<String>) {
        self.add(Severity::Warning, at, message.into());
    }

    /// A name that means nothing, with the known one that is nearest.
    pub fn unknown<'n>(&mut self, at: usize, what: &str, name: &str, known: impl IntoIterator<Item = &'n str>) {
        let near = did_you_mean(name, known);
        self.warning(at, format!("unknown {what} \"{}\"{near}; it has no effect", shown(name)));
    }

    fn add(&mut self, severity: Severity, at: usize, message: String) {
        if self.list.len() >= FINDINGS_MAX {
            self.more += 1;
            return;
        }
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.line(at);
        let start = (line as usize).checked_sub(2).and_then(|before| self.lines.get(before)).copied().unwrap_or(0);
        let column = u32::try_from(self.text[start.min(at)..at].chars().count() + 1).unwrap_or(u32::MAX);
        let diagnostic = Diagnostic { file: self.file.clone(), line, column, message };
        self.list.push(Finding { severity, diagnostic });
    }

    pub fn finish(mut self) -> Findings {
        self.list.sort_by_key(|finding| (finding.diagnostic.line, finding.diagnostic.column));
        if self.more > 0 {
            let message = format!("{} more findings are not shown", self.more);
            let diagnostic = Diagnostic { file: self.file, line: 1, column: 1, message };
            self.list.push(Finding { severity: Severity::Error, diagnostic });
        }
        Findings(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_a_diagnostic() {
        let text = "é = 1\nzwei\n\nvier";
        let mut notary = Notary::new("a", text);
        for at in 0..=text.len() {
            notary.warning(at, "x");
        }
        let found: Vec<_> = notary.finish().0.into_iter().map(|f| f.diagnostic.to_string()).collect();
        let expected: Vec<_> =
            (0..=text.len()).map(|at| Diagnostic::at(&"a".into(), text, at, "x").to_string()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn too_many_findings_are_counted() {
        let mut notary = Notary::new("a", "x");
        (0..FINDINGS_MAX + 3).for_each(|_| notary.warning(0, "x"));
        let findings = notary.finish();
        assert_eq!(findings.0.len(), FINDINGS_MAX + 1);
        assert_eq!(findings.0[FINDINGS_MAX].to_string(), "a:1:1: 3 more findings are not shown");
    }
}
