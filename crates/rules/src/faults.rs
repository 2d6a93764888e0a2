//! What is wrong with a file of rules or decoders, and where.

use std::sync::Arc;

use tally_types::Diagnostic;
use tally_xml::{Element, Fault};

/// Faults beyond this number are not told; neither are warnings.
pub(crate) const FAULTS_MAX: usize = 100;

/// The faults of one file, and what is worth a word without being one.
pub(crate) struct Faults<'t> {
    file: Arc<str>,
    text: &'t str,
    list: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'t> Faults<'t> {
    pub fn new(file: &str, text: &'t str) -> Self {
        Self { file: file.into(), text, list: Vec::new(), warnings: Vec::new() }
    }

    /// The elements of the file.
    pub fn elements(&mut self) -> Vec<Element<'t>> {
        let (elements, faults) = tally_xml::parse(self.text);
        for Fault { at, is_warning, message } in faults {
            if is_warning { self.warn(at, message) } else { self.add(at, message) }
        }
        elements
    }

    pub fn add(&mut self, at: usize, message: impl Into<String>) {
        if self.list.len() < FAULTS_MAX {
            self.list.push(Diagnostic::at(&self.file, self.text, at, message));
        }
    }

    pub fn warn(&mut self, at: usize, message: impl Into<String>) {
        if self.warnings.len() < FAULTS_MAX {
            self.warnings.push(Diagnostic::at(&self.file, self.text, at, message));
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Where `at` is, without a message.
    pub fn place(&self, at: usize) -> Diagnostic {
        Diagnostic::at(&self.file, self.text, at, "")
    }

    /// The warnings so far, which are then forgotten.
    pub fn take_warnings(&mut self) -> Vec<Diagnostic> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_by_key(|warning| (warning.line, warning.column));
        warnings
    }

    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|fault| (fault.line, fault.column));
        self.list
    }
}
