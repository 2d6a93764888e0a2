//! Writes TOML: keys and tables in the order in which they are given, every string escaped.

use core::fmt::Write;

/// A text under construction. Keys at the top come before the first table.
#[derive(Debug, Default)]
pub(super) struct Writer(String);

impl Writer {
    /// `[name]`
    pub fn table(&mut self, name: &str) {
        let _ = write!(self.0, "\n[{name}]\n");
    }

    /// `[[name]]`
    pub fn item(&mut self, name: &str) {
        let _ = write!(self.0, "\n[[{name}]]\n");
    }

    pub fn string(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {}", quoted(value));
    }

    pub fn strings<S: AsRef<str>>(&mut self, key: &str, values: impl IntoIterator<Item = S>) {
        let values: Vec<String> = values.into_iter().map(|value| quoted(value.as_ref())).collect();
        let on_one_line = values.join(", ");
        let _ = if on_one_line.len() <= LINE_BYTES {
            writeln!(self.0, "{key} = [{on_one_line}]")
        } else {
            writeln!(self.0, "{key} = [\n  {},\n]", values.join(",\n  "))
        };
    }

    pub fn number(&mut self, key: &str, value: u32) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    pub fn numbers(&mut self, key: &str, values: &[u32]) {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        let _ = writeln!(self.0, "{key} = [{}]", values.join(", "));
    }

    pub fn truth(&mut self, key: &str, value: bool) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// Longer lists have a line for each value.
const LINE_BYTES: usize = 96;

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
