//! A policy that a group of agents can be given: a text that was checked, with its digest.

use std::sync::Arc;

use tally_syscheck::Config;
use tally_types::Diagnostic;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupText {
    text: Arc<str>,
    digest: [u8; 32],
}

impl GroupText {
    /// Every fault of the text, or the text. `file` names it in the faults.
    pub fn check(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let (_, faults) = Config::parse_group(text, file);
        if faults.is_empty() { Ok(Self { text: text.into(), digest: Config::digest(text) }) } else { Err(faults) }
    }

    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
