//! Rules over Rust code: where `unsafe` may stand, what pure crates may name, lengths, openings, and words that
//! promise work instead of doing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::house::{FILE_LINES_MAX, FUNCTION_LINES_MAX, IMPURE, ROOMS, UNSAFE_CRATE};
use super::source::{Shipped, Source, Token, item_end, paths};
use super::{Fault, Tree};

/// In comments of code and in documents: work that nobody owns.
const PROMISES: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// Macros that have no place in what is committed.
const UNFINISHED_MACROS: [&str; 3] = ["dbg", "todo", "unimplemented"];

pub fn check(tree: &Tree, faults: &mut Vec<Fault>) {
    let sources: Vec<Source> = tree
        .files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "rs"))
        .map(|(path, text)| Source::new(path, text.clone()))
        .collect();
    let test_modules = test_modules(&sources);
    for source in &sources {
        let is_test = source.is_test || test_modules.iter().any(|module| source.path.starts_with(module));
        check_file(source, is_test, faults);
    }
}

/// Files and directories that are declared as `#[cfg(test)] mod name;`.
fn test_modules(sources: &[Source]) -> BTreeSet<PathBuf> {
    let mut modules = BTreeSet::new();
    for source in sources {
        let tokens = source.tokens();
        for name in source.without_tests(&tokens).test_modules {
            modules.extend(source.module_paths(&name));
        }
    }
    modules
}

fn check_file(source: &Source, is_test: bool, faults: &mut Vec<Fault>) {
    let tokens = source.tokens();
    check_opening(source, faults);
    check_words(source, &tokens, faults);
    let crate_name = crate_of(&source.path);
    if crate_name != Some(UNSAFE_CRATE) {
        check_unsafe(source, &tokens, faults);
    }
    if is_test {
        return;
    }
    let shipped = source.without_tests(&tokens);
    check_lengths(source, &shipped, faults);
    if ROOMS.iter().any(|room| room.is_pure && Some(room.name) == crate_name) {
        check_purity(source, &shipped, faults);
    }
}

/// `crates/NAME/…` → `NAME`.
fn crate_of(path: &Path) -> Option<&str> {
    path.strip_prefix("crates").ok()?.components().next()?.as_os_str().to_str()
}

fn check_opening(source: &Source, faults: &mut Vec<Fault>) {
    let opening = source.text.lines().next().unwrap_or_default();
    let says = opening.strip_prefix("//!").map(str::trim);
    if says.is_none_or(|text| text.is_empty()) {
        faults.push(Fault::new(&source.path, 1, "a file opens with //!: what it is and why it exists".into()));
    } else if says.is_some_and(|text| text.starts_with("Placeholder")) {
        faults.push(Fault::new(&source.path, 1, "a placeholder is not finished work".into()));
    }
}

fn check_words(source: &Source, tokens: &[Token<'_>], faults: &mut Vec<Fault>) {
    for (first_line, comment) in &source.comments {
        for (offset, line) in comment.lines().enumerate() {
            if let Some(word) = promise(line) {
                let message = format!("{word} in a comment: do it, or file it in the tracker");
                faults.push(Fault::new(&source.path, first_line + offset, message));
            }
        }
    }
    for pair in tokens.windows(2) {
        if UNFINISHED_MACROS.contains(&pair[0].text) && pair[1].text == "!" {
            faults.push(Fault::new(&source.path, pair[0].line, format!("{}! is left in the code", pair[0].text)));
        }
    }
    for window in tokens.windows(3).filter(|w| w[0].text == "#" && w[1].text == "[" && w[2].text == "ignore") {
        let message = "an ignored test is never seen: print \"skipped: why\" and return".into();
        faults.push(Fault::new(&source.path, window[0].line, message));
    }
}

/// The first word of `line` that promises work.
pub fn promise(line: &str) -> Option<&'static str> {
    let words: BTreeSet<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    PROMISES.into_iter().find(|promise| words.contains(promise))
}

fn check_unsafe(source: &Source, tokens: &[Token<'_>], faults: &mut Vec<Fault>) {
    for token in tokens.iter().filter(|token| token.text == "unsafe") {
        let message = format!("unsafe stands only in crates/{UNSAFE_CRATE}: add a safe function there");
        faults.push(Fault::new(&source.path, token.line, message));
    }
}

fn check_lengths(source: &Source, shipped: &Shipped<'_>, faults: &mut Vec<Fault>) {
    let lines = source.text.lines().count().saturating_sub(shipped.test_lines);
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines without tests; {FILE_LINES_MAX} is the limit: split it by its types");
        faults.push(Fault::new(&source.path, 1, message));
    }
    let tokens = &shipped.tokens;
    for at in 0..tokens.len().saturating_sub(1) {
        // A type such as `fn(u8)` has no name.
        let name = tokens[at + 1].text;
        if tokens[at].text != "fn" || name == "(" {
            continue;
        }
        let end = item_end(tokens, at);
        let length = tokens[end - 1].line - tokens[at].line + 1;
        if length > FUNCTION_LINES_MAX {
            let message = format!("fn {name} has {length} lines; {FUNCTION_LINES_MAX} is the limit");
            faults.push(Fault::new(&source.path, tokens[at].line, message));
        }
    }
}

fn check_purity(source: &Source, shipped: &Shipped<'_>, faults: &mut Vec<Fault>) {
    for (path, line) in paths(&shipped.tokens) {
        let named =
            |banned: &str| path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        if let Some((banned, instead)) = IMPURE.iter().find(|(banned, _)| named(banned)) {
            faults.push(Fault::new(&source.path, line, format!("{banned} in a pure crate: {instead}")));
        }
    }
}
