//! One Rust source file as the house rules see it: its code without comments and literals, its comments, its tokens,
//! and which of its lines are tests.
//!
//! This is a scanner, not a parser: it knows just enough of the language's lexical rules (nested comments, raw strings,
//! character literals beside lifetimes) that no rule is fooled by what stands in a string. It relies on rustfmt's form
//! nowhere. Source: The Rust Reference, chapter "Lexical structure".

use std::path::{Path, PathBuf};

/// A word, `::`, or one other visible character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    /// From 1.
    pub line: usize,
}

#[derive(Debug)]
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: PathBuf,
    pub text: String,
    /// `text` with each byte of a comment or a literal replaced by a space; line breaks stay.
    code: String,
    /// Comments with the line on which each begins.
    pub comments: Vec<(usize, String)>,
    /// The file holds nothing but tests.
    pub is_test: bool,
}

/// What the scanner stands in; each arm of `Scanner::step` consumes one of them whole.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    code: Vec<u8>,
    comments: Vec<(usize, String)>,
}

impl Source {
    pub fn new(path: &Path, text: String) -> Self {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, line: 1, code: Vec::new(), comments: Vec::new() };
        while scanner.at < scanner.bytes.len() {
            scanner.step();
        }
        let code = String::from_utf8_lossy(&scanner.code).into_owned();
        let comments = scanner.comments;
        let is_test = path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "benches")
            || path.file_name().is_some_and(|name| name == "tests.rs");
        Self { path: path.to_owned(), text, code, comments, is_test }
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        for (number, line) in self.code.lines().enumerate() {
            let mut rest = line.trim_start();
            while let Some(first) = rest.chars().next() {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let len = match first {
                    c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
                    ':' if rest.starts_with("::") => 2,
                    c => c.len_utf8(),
                };
                tokens.push(Token { text: &rest[..len], line: number + 1 });
                rest = rest[len..].trim_start();
            }
        }
        tokens
    }

    /// The tokens outside `#[cfg(test)]` items, and the names of the modules that such an attribute stands before.
    pub fn without_tests<'a>(&self, tokens: &[Token<'a>]) -> Shipped<'a> {
        let mut shipped = Shipped::default();
        let mut at = 0;
        while at < tokens.len() {
            if !is_cfg_test(&tokens[at..]) {
                shipped.tokens.push(tokens[at]);
                at += 1;
                continue;
            }
            let item = item_after_attributes(tokens, at);
            let end = attributed_end(tokens, item);
            let module = tokens[item..end].iter().skip_while(|t| t.text != "mod").nth(1);
            if let (Some(module), Some(Token { text: ";", .. })) = (module, tokens.get(end - 1)) {
                shipped.test_modules.push(module.text.to_owned());
            }
            shipped.test_lines += tokens[end - 1].line - tokens[at].line + 1;
            at = end;
        }
        shipped
    }

    /// Where the module files that this file declares as `mod name;` lie.
    pub fn module_paths(&self, name: &str) -> [PathBuf; 2] {
        let dir = match self.path.file_name().and_then(|n| n.to_str()) {
            Some("lib.rs" | "main.rs" | "mod.rs") => self.path.parent().map(Path::to_path_buf).unwrap_or_default(),
            _ => self.path.with_extension(""),
        };
        [dir.join(format!("{name}.rs")), dir.join(name)]
    }
}

/// A file without its tests.
#[derive(Debug, Default)]
pub struct Shipped<'a> {
    pub tokens: Vec<Token<'a>>,
    pub test_modules: Vec<String>,
    pub test_lines: usize,
}

/// `#[cfg(test)]` or `#[cfg(all(test, …))]` stands here.
fn is_cfg_test(tokens: &[Token<'_>]) -> bool {
    let texts: Vec<&str> = tokens.iter().take(7).map(|t| t.text).collect();
    texts.starts_with(&["#", "[", "cfg", "(", "test", ")"])
        || texts.starts_with(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// The index of the first token behind the attributes that begin at `at`.
fn item_after_attributes(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at + 1 < tokens.len() && tokens[at].text == "#" {
        at = matching(tokens, at + 1) + 1;
    }
    at.min(tokens.len() - 1)
}

/// What opens an item or a statement. Anything else behind an attribute is a field, a variant or an arm.
const OPENINGS: [&str; 18] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "for",
    "if",
    "impl",
    "let",
    "loop",
    "macro_rules",
    "match",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "use",
];

/// One past what an attribute stands before, from `at` on: an item or a statement as `item_end` has it; of a field, a
/// variant or an arm, behind its comma, or before the bracket that closes its list.
fn attributed_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut opening = at;
    if tokens[opening].text == "pub" && opening + 1 < tokens.len() {
        opening += 1;
        if tokens[opening].text == "(" {
            opening = (matching(tokens, opening) + 1).min(tokens.len() - 1);
        }
    }
    if OPENINGS.contains(&tokens[opening].text) {
        return item_end(tokens, opening);
    }
    let mut at = at;
    while at < tokens.len() {
        match tokens[at].text {
            "," | ";" => return at + 1,
            ")" | "]" | "}" => return at,
            "(" | "[" | "{" => at = matching(tokens, at),
            _ => {}
        }
        at += 1;
    }
    tokens.len()
}

/// One past the item that begins at `at`: behind its closing brace, or behind its semicolon.
pub fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "{" => return (matching(tokens, at) + 1).min(tokens.len()),
            "(" | "[" => at = matching(tokens, at),
            _ => {}
        }
        at += 1;
    }
    tokens.len()
}

/// The index of the bracket that closes the one at `open`; the last token where none does.
pub fn matching(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// Every path that is named: `std::fs::read` as written, and each leaf of a `use` tree in full.
pub fn paths(tokens: &[Token<'_>]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = if tokens[at].text == "use" {
            use_tree(tokens, at + 1, "", &mut found)
        } else if is_word(tokens[at].text) {
            plain_path(tokens, at, &mut found)
        } else {
            at
        };
        at = end.max(at + 1);
    }
    found
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads `a::b::c` from `at`; returns the index behind it.
fn plain_path(tokens: &[Token<'_>], mut at: usize, found: &mut Vec<(String, usize)>) -> usize {
    let line = tokens[at].line;
    let mut path = tokens[at].text.to_owned();
    at += 1;
    while at + 1 < tokens.len() && tokens[at].text == "::" && is_word(tokens[at + 1].text) {
        path.push_str("::");
        path.push_str(tokens[at + 1].text);
        at += 2;
    }
    found.push((path, line));
    at
}

/// Reads the use tree from `at`, up to `,`, `}` or `;`; returns the index of that. Renames (`as x`) are passed over.
fn use_tree(tokens: &[Token<'_>], mut at: usize, prefix: &str, found: &mut Vec<(String, usize)>) -> usize {
    let mut path = prefix.to_owned();
    while at < tokens.len() {
        let Token { text, line } = tokens[at];
        match text {
            "," | "}" | ";" => {
                found.push((path, line));
                return at;
            }
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    at = use_tree(tokens, at, &path, found);
                    if tokens.get(at).is_some_and(|t| t.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => at += 1,
            "::" if path.is_empty() => {}
            _ => path.push_str(text),
        }
        at += 1;
    }
    at
}

impl Scanner<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        match rest {
            [b'/', b'/', ..] => self.comment(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())),
            [b'/', b'*', ..] => self.comment(block_comment_len(rest)),
            [b'"', ..] => self.blank(string_len(rest)),
            [b'r', b'"' | b'#', ..] if !self.is_inside_word() => match raw_string_len(rest) {
                Some(len) => self.blank(len),
                None => self.keep(1),
            },
            [b'\'', ..] => match char_len(rest) {
                Some(len) => self.blank(len),
                None => self.keep(1),
            },
            _ => self.keep(1),
        }
    }

    /// The byte before belongs to a word, other than the `b` or `c` of a byte or C string.
    fn is_inside_word(&self) -> bool {
        let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
        match self.bytes[..self.at] {
            [.., before, b'b' | b'c'] => word(&before),
            [b'b' | b'c'] => false,
            [.., before] => word(&before),
            [] => false,
        }
    }

    fn comment(&mut self, len: usize) {
        let text = String::from_utf8_lossy(&self.bytes[self.at..self.at + len]).into_owned();
        self.comments.push((self.line, text));
        self.blank(len);
    }

    fn keep(&mut self, len: usize) {
        self.take(len, |b| b);
    }

    fn blank(&mut self, len: usize) {
        self.take(len, |b| if b == b'\n' { b } else { b' ' });
    }

    fn take(&mut self, len: usize, form: impl Fn(u8) -> u8) {
        for byte in &self.bytes[self.at..self.at + len] {
            self.line += usize::from(*byte == b'\n');
            self.code.push(form(*byte));
        }
        self.at += len;
    }
}

/// The length of the block comment at the start of `rest`; such comments nest.
fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `None` for a raw identifier such as `r#type`.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|w| w == end);
    Some(found.map_or(rest.len(), |at| body + at + end.len()))
}

/// `None` for a lifetime.
fn char_len(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|b| *b == b'\'')?;
        return Some(end + 4);
    }
    // A character of UTF-8 has at most four bytes.
    let end = rest.iter().skip(2).take(4).position(|b| *b == b'\'')? + 3;
    let one = std::str::from_utf8(&rest[1..end - 1]).is_ok_and(|text| text.chars().count() == 1);
    one.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(Path::new("crates/x/src/a.rs"), text.to_owned())
    }

    fn texts<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
        tokens.iter().map(|t| t.text).collect()
    }

    #[test]
    fn literals_and_comments_are_no_code() {
        let text = r####"
let a = "unsafe \" {"; // unsafe {
let b = r#"unsafe " {"#; /* unsafe /* { */ unsafe */
let c = ['{', '\'', '\u{7b}', b'}', 'ä'];
fn d<'a>(r#type: &'a str, br: u8) {}
let e = br##"}"# }"##;
"####;
        let source = source(text);
        let tokens = source.tokens();
        assert!(!texts(&tokens).contains(&"unsafe"));
        assert_eq!(texts(&tokens).iter().filter(|t| **t == "{").count(), 1);
        assert_eq!(texts(&tokens).iter().filter(|t| **t == "}").count(), 1);
        assert_eq!(source.comments.len(), 2);
        assert_eq!(source.comments[1], (3, "/* unsafe /* { */ unsafe */".to_owned()));
        assert_eq!(tokens.last().map(|t| t.line), Some(6));
    }

    #[test]
    fn a_literal_over_several_lines_keeps_the_count() {
        let source = source("a(\"x\ny\\\"\nz\"); b");
        assert_eq!(source.tokens().last(), Some(&Token { text: "b", line: 3 }));
    }

    #[test]
    fn tests_are_cut_out() {
        let text =
            "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod far;\n";
        let source = source(text);
        let tokens = source.tokens();
        let shipped = source.without_tests(&tokens);
        assert!(texts(&shipped.tokens).contains(&"c") && !texts(&shipped.tokens).contains(&"b"));
        assert_eq!((shipped.test_modules, shipped.test_lines), (vec!["far".to_owned()], 7));
    }

    #[test]
    fn a_field_for_tests_ends_with_its_comma() {
        let text = "struct A {\n  #[cfg(test)]\n  a: u8,\n  b: u8,\n}\nfn c() {\n  A {\n    #[cfg(test)]\n    a: f(1, 2)\n  }\n}\nfn d() {}\n";
        let source = source(text);
        let tokens = source.tokens();
        let shipped = source.without_tests(&tokens);
        assert_eq!(texts(&shipped.tokens).join(" "), "struct A { b : u8 , } fn c ( ) { A { } } fn d ( ) { }");
        assert_eq!(shipped.test_lines, 4);
    }

    #[test]
    fn use_trees_are_expanded() {
        let source =
            source("use std::{fs, io::{self, Read as R}, time::*};\npub use ::a::b;\nlet x = std::net::IpAddr::V4(c);");
        let paths: Vec<String> = paths(&source.tokens()).into_iter().map(|(p, _)| p).collect();
        for path in ["std::fs", "std::io::self", "std::io::Read", "std::time::*", "a::b", "std::net::IpAddr::V4"] {
            assert!(paths.iter().any(|p| p == path), "{path} in {paths:?}");
        }
    }

    #[test]
    fn odd_ends_do_not_panic() {
        let text = "fn a() { r#\"x\"# '\\'' \"\\\" /* /* */ #[cfg(test)] mod é { 'a: loop {} ]";
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            for start in (0..cut).filter(|start| text.is_char_boundary(*start)) {
                let source = source(&text[start..cut]);
                let tokens = source.tokens();
                source.without_tests(&tokens);
                paths(&tokens);
            }
        }
    }
}
