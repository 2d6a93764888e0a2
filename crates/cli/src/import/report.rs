//! What an import did, one item at a time: for people as lines, for programs as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};
use tally_proto::sentence::shown;

/// One thing of the source, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The file of the source.
    pub source: String,
    pub line: Option<u32>,
    /// Such as `syscheck/ignore`.
    pub element: Option<String>,
    /// `taken`, or the name of a `Fate`.
    pub fate: &'static str,
    pub text: String,
}

const TAKEN: &str = "taken";
const LEFT: &str = "left";

impl Item {
    pub fn new(source: impl Into<String>, fate: &'static str, text: impl Into<String>) -> Self {
        Self { source: source.into(), line: None, element: None, fate, text: text.into() }
    }

    pub fn taken(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(source, TAKEN, text)
    }

    pub fn left(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(source, LEFT, text)
    }

    fn json(&self) -> Value {
        let mut value = json!({ "schema": 1, "source": self.source, "fate": self.fate, "text": self.text });
        if let Some(line) = self.line {
            value["line"] = line.into();
        }
        if let Some(element) = &self.element {
            value["element"] = element.as_str().into();
        }
        value
    }
}

/// Items in the order in which they came; for people, what was left comes last, where it is read.
pub struct Report {
    json: bool,
    items: Vec<Item>,
}

impl Report {
    pub const fn new(json: bool) -> Self {
        Self { json, items: Vec::new() }
    }

    pub fn add(&mut self, item: Item) {
        self.items.push(item);
    }

    pub fn finish(self, dry_run: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for item in &self.items {
            *counts.entry(item.fate).or_default() += 1;
        }
        if self.json {
            for item in &self.items {
                writeln!(out, "{}", item.json())?;
            }
            return writeln!(out, "{}", json!({ "schema": 1, "summary": counts, "dry_run": dry_run }));
        }
        let (left, rest): (Vec<_>, Vec<_>) = self.items.iter().partition(|item| item.fate == LEFT);
        for item in rest.into_iter().chain(left) {
            let line = item.line.map_or_else(String::new, |line| format!(":{line}"));
            let element = item.element.as_ref().map_or_else(String::new, |element| format!(" <{element}>"));
            writeln!(out, "{:10} {}{line}{element}: {}", item.fate, shown(&item.source), shown(&item.text))?;
        }
        let counts: Vec<_> = counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
        let doing = if dry_run { "nothing was written (--dry-run)" } else { "nothing in the source was changed" };
        writeln!(out, "{}; {doing}", counts.join(", "))
    }
}
