//! From OSSEC's configuration to Tallystick's: the text of an `agent.toml` and of a `manager.toml`, and what became of each
//! element.
//!
//! The result is text, not a third form of configuration: it is read by the same readers as a file that somebody wrote, it can
//! be kept and edited, and an agent can tell its manager by which text it watches. Every element of the file has a note, so
//! that nothing is left out unsaid. What is watched is at least what OSSEC watched.

use core::fmt;

pub use agent::agent;
pub use manager::manager;

mod agent;
mod manager;
mod pattern;
#[cfg(test)]
mod tests;
mod toml;
mod watch;

/// What became of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it stands, from 1.
    pub line: u32,
    /// Such as `syscheck/ignore`.
    pub element: String,
    pub fate: Fate,
    /// What it is now, or why it is not.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stands in the translated text.
    Translated,
    /// It is so here without being said.
    Given,
    /// It has no counterpart.
    Left,
    /// It is for the other of the two programs, agent or manager.
    Elsewhere,
}

impl Fate {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Given => "given",
            Self::Left => "left",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: <{}> {}: {}", self.line, self.element, self.fate.name(), self.text)
    }
}

/// A translated file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// TOML.
    pub text: String,
    /// In the order of the file.
    pub notes: Vec<Note>,
}

/// OSSEC's directory, in which the files that a configuration names are looked for.
#[derive(Clone, Copy)]
pub struct Home<'h> {
    /// Such as `/var/ossec`.
    pub dir: &'h str,
    /// Whether there is a file of this name in it. OSSEC reads some only where they are.
    pub is_there: &'h dyn Fn(&str) -> bool,
}

/// OSSEC's directory, by where its `etc/ossec.conf` stands.
pub fn root_of(file: &str) -> &str {
    let dir = file.rsplit_once("/etc/").filter(|(_, name)| !name.contains('/')).map_or("", |(dir, _)| dir);
    if dir.is_empty() { ROOT } else { dir }
}

/// Where OSSEC is installed unless somebody chose otherwise.
const ROOT: &str = "/var/ossec";

/// Collects text and notes.
#[derive(Default)]
struct Scribe {
    toml: toml::Writer,
    notes: Vec<Note>,
}

impl Scribe {
    fn note(&mut self, line: u32, element: &str, fate: Fate, text: impl Into<String>) {
        self.notes.push(Note { line, element: element.to_owned(), fate, text: text.into() });
    }

    fn translated(&mut self, line: u32, element: &str, text: impl Into<String>) {
        self.note(line, element, Fate::Translated, text);
    }

    fn given(&mut self, line: u32, element: &str, text: impl Into<String>) {
        self.note(line, element, Fate::Given, text);
    }

    fn left(&mut self, line: u32, element: &str, text: impl Into<String>) {
        self.note(line, element, Fate::Left, text);
    }

    fn finish(mut self, file: &str) -> Translation {
        self.notes.sort_by_key(|note| note.line);
        let shown: String = file.chars().filter(|c| !c.is_control()).collect();
        let text = format!(
            "# Translated from {shown}; docs/configuration.md says how each element was read.\n{}",
            self.toml.finish()
        );
        Translation { text, notes: self.notes }
    }
}
