//! A fault in a text that people write: where it is, and what to do about it.
//!
//! Policy files and rule files are read to the end and answer with all of their faults at once. The parsers live in
//! their own crates; what they report looks the same everywhere: `local_rules.xml:41:7: unknown decoder "sshdd" (did
//! you mean "sshd"?)`.

use std::fmt;
use std::sync::Arc;

/// One fault. Lines and columns count from 1; a column is a character, not a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
    /// Lower case, no full stop.
    pub message: String,
}

impl Diagnostic {
    /// A fault at the byte `offset` of `text`; an offset behind the end means the end.
    pub fn at(file: &Arc<str>, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { file: file.clone(), line: clamp(line), column: clamp(column), message: message.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Names longer than this are not compared: nobody misspells them, and the cost grows with the square.
const NAME_CHARS_MAX: usize = 64;

/// A word of a file as a message shows it: short, and on one line.
pub fn shown(word: &str) -> String {
    word.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// ` (did you mean "mode"?)` for the candidate that is nearest to `name`, or nothing where none is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let wanted: Vec<char> = name.chars().take(NAME_CHARS_MAX + 1).collect();
    if wanted.len() > NAME_CHARS_MAX {
        return String::new();
    }
    let near = 1.max(wanted.len() / 3);
    let scored = candidates.into_iter().map(|candidate| (distance(&wanted, candidate), candidate));
    match scored.min_by_key(|(distance, _)| *distance) {
        Some((distance, candidate)) if distance <= near => format!(" (did you mean \"{candidate}\"?)"),
        _ => String::new(),
    }
}

/// Damerau and Levenshtein's distance (two neighbours swapped count as one), without regard to case.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(NAME_CHARS_MAX).collect();
    let same = |i: usize, j: usize| a[i].eq_ignore_ascii_case(&b[j]);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut best = (last[j] + usize::from(!same(i, j))).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && same(i, j - 1) && same(i - 1, j) {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters() {
        let file: Arc<str> = "a.toml".into();
        let text = "é = 1\nzwei = 2\n";
        assert_eq!(Diagnostic::at(&file, text, 3, "x").to_string(), "a.toml:1:3: x");
        assert_eq!(Diagnostic::at(&file, text, 1, "x").to_string(), "a.toml:1:1: x");
        assert_eq!(Diagnostic::at(&file, text, 7, "x").to_string(), "a.toml:2:1: x");
        assert_eq!(Diagnostic::at(&file, text, 999, "x").to_string(), "a.toml:3:1: x");
    }

    #[test]
    fn proposes_only_what_is_near() {
        let names = ["path", "mode", "recursion"];
        assert_eq!(did_you_mean("mdoe", names), " (did you mean \"mode\"?)");
        assert_eq!(did_you_mean("mod", names), " (did you mean \"mode\"?)");
        assert_eq!(did_you_mean("Recursoin", names), " (did you mean \"recursion\"?)");
        assert_eq!(did_you_mean(&"x".repeat(1 << 20), names), "");
        assert_eq!(did_you_mean("size", names), "");
        assert_eq!(did_you_mean("x", []), "");
    }
}
