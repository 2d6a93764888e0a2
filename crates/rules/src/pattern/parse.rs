//! Reads the language of PCRE2 into a [`Node`].
//!
//! What it does not know (recursion, conditions, verbs, Unicode properties) is told apart from what is wrong. Source: the
//! manual page pcre2pattern of PCRE2 10.42. Caseless from the start, as OSSEC compiles all patterns.

use super::node::{Assert, Mode, Node, SubKind};
use super::set::{Set, WIDE_LAST};

mod class;
mod escape;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// It is no pattern; with the place of the fault, in characters.
    Syntax(usize, &'static str),
    /// It may be one, of a kind that is not read here.
    Unknown(usize, &'static str),
}

#[derive(Debug)]
pub(super) struct Parsed {
    pub node: Node,
    pub groups: u32,
}

/// Brackets nested deeper are refused, as in PCRE2.
const NESTING_MAX: usize = 250;
/// Of a quantifier, as in PCRE2.
const REPEAT_MAX: u32 = 65_535;

#[derive(Clone, Copy)]
struct Flags {
    caseless: bool,
    multiline: bool,
    dot_all: bool,
    extended: bool,
}

pub(super) fn parse(pattern: &str, utf: bool) -> Result<Parsed, ParseError> {
    let chars = if utf { pattern.chars().map(u32::from).collect() } else { pattern.bytes().map(u32::from).collect() };
    let flags = Flags { caseless: true, multiline: false, dot_all: false, extended: false };
    let mut parser =
        Parser { chars, at: 0, utf, flags, groups: 0, names: Vec::new(), depth: 0, references: Vec::new() };
    if parser.sees("(*") {
        return Err(ParseError::Unknown(0, "a verb"));
    }
    let node = parser.alternatives()?;
    if parser.at < parser.chars.len() {
        return Err(parser.wrong("\")\" closes nothing"));
    }
    if let Some((at, _)) = parser.references.iter().find(|(_, group)| *group > parser.groups) {
        return Err(ParseError::Syntax(*at, "it refers to a group that is not there"));
    }
    Ok(Parsed { node, groups: parser.groups })
}

struct Parser {
    chars: Vec<u32>,
    at: usize,
    utf: bool,
    flags: Flags,
    groups: u32,
    names: Vec<(String, u32)>,
    depth: usize,
    references: Vec<(usize, u32)>,
}

type Read<T> = Result<T, ParseError>;

impl Parser {
    const fn wrong(&self, what: &'static str) -> ParseError {
        ParseError::Syntax(self.at, what)
    }

    fn peek(&self) -> Option<u32> {
        self.chars.get(self.at).copied()
    }

    fn sees(&self, text: &str) -> bool {
        let rest = self.chars.get(self.at..).unwrap_or_default();
        rest.len() >= text.len() && text.bytes().zip(rest).all(|(byte, c)| u32::from(byte) == *c)
    }

    fn takes(&mut self, text: &str) -> bool {
        let sees = self.sees(text);
        if sees {
            self.at += text.len();
        }
        sees
    }

    /// Up to a closing bracket or the end.
    fn alternatives(&mut self) -> Read<Node> {
        let mut alternatives = vec![self.sequence()?];
        while self.takes("|") {
            alternatives.push(self.sequence()?);
        }
        Ok(if alternatives.len() == 1 { alternatives.remove(0) } else { simple_alternate(alternatives) })
    }

    fn sequence(&mut self) -> Read<Node> {
        let mut nodes = Vec::new();
        loop {
            self.skip_extended();
            match self.peek() {
                None => break,
                Some(c) if c == u32::from('|') || c == u32::from(')') => break,
                Some(_) => {}
            }
            let Some(node) = self.atom()? else { continue };
            nodes.push(self.quantified(node)?);
        }
        Ok(match nodes.len() {
            0 => Node::Empty,
            1 => nodes.remove(0),
            _ => Node::Concat(nodes),
        })
    }

    /// With `(?x)`, blanks and comments mean nothing.
    fn skip_extended(&mut self) {
        while self.flags.extended {
            match self.peek().and_then(char::from_u32) {
                Some('#') => self.skip_to('\n'),
                Some(c) if c.is_ascii_whitespace() => self.at += 1,
                _ => return,
            }
        }
    }

    fn skip_to(&mut self, end: char) {
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == u32::from(end) {
                return;
            }
        }
    }

    /// `None` for what only sets flags or is a comment.
    fn atom(&mut self) -> Read<Option<Node>> {
        let Some(c) = self.peek() else { return Ok(None) };
        Ok(Some(match char::from_u32(c) {
            Some('(') => return self.group(),
            Some('[') => Node::Set(self.class()?),
            Some('\\') => return self.escape(),
            Some('.') => {
                self.at += 1;
                Node::Set(if self.flags.dot_all { self.all() } else { self.all_but_newline() })
            }
            Some('^') => {
                self.at += 1;
                Node::Assert(if self.flags.multiline { Assert::LineStart } else { Assert::Start })
            }
            Some('$') => {
                self.at += 1;
                Node::Assert(if self.flags.multiline { Assert::LineEnd } else { Assert::End })
            }
            Some('*' | '+' | '?') => return Err(self.wrong("a quantifier follows nothing")),
            _ if self.quantifier_at().is_some() => return Err(self.wrong("a quantifier follows nothing")),
            _ => {
                self.at += 1;
                self.literal(c)
            }
        }))
    }

    const fn literal(&self, c: u32) -> Node {
        Node::Char { c, caseless: self.flags.caseless }
    }

    fn all(&self) -> Set {
        let mut set = Set::default();
        set.add(0, WIDE_LAST, self.utf);
        set
    }

    fn all_but_newline(&self) -> Set {
        let mut set = Set::of_bytes([b'\n']);
        set.negate(self.utf);
        set
    }

    fn quantified(&mut self, mut node: Node) -> Read<Node> {
        self.skip_extended();
        let Some((min, max, length)) = self.quantifier_at() else { return Ok(node) };
        if matches!(node, Node::Assert(_)) {
            return Err(self.wrong("a quantifier follows an assertion"));
        }
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX) {
            return Err(self.wrong("a quantifier is too large"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("the numbers of a quantifier are out of order"));
        }
        self.at += length;
        let mode = match () {
            () if self.takes("?") => Mode::Lazy,
            () if self.takes("+") => Mode::Possessive,
            () => Mode::Greedy,
        };
        // As in PCRE2, a lookaround counts once or not at all.
        let (min, max) = match &node {
            Node::Sub(kind, _) if *kind != SubKind::Atomic => (min.min(1), Some(1)),
            _ => (min, max),
        };
        if (min, max) != (1, Some(1)) {
            node = Node::Repeat { node: Box::new(node), min, max, mode };
        }
        if self.quantifier_at().is_some() {
            return Err(self.wrong("a quantifier follows a quantifier"));
        }
        Ok(node)
    }

    /// The quantifier at this place: its numbers, and how long it is without a `?` or `+` behind.
    fn quantifier_at(&self) -> Option<(u32, Option<u32>, usize)> {
        match self.peek().and_then(char::from_u32)? {
            '*' => Some((0, None, 1)),
            '+' => Some((1, None, 1)),
            '?' => Some((0, Some(1), 1)),
            '{' => {
                let rest = &self.chars[self.at + 1..];
                let number = |from: usize| {
                    let digits = rest.get(from..).unwrap_or_default().iter().take_while(|c| (48..58).contains(*c));
                    digits.fold((0u32, from), |(value, end), c| {
                        (value.saturating_mul(10).saturating_add(c - 48), end + 1)
                    })
                };
                let is = |at: usize, c: char| rest.get(at) == Some(&u32::from(c));
                let (min, at) = number(0);
                match () {
                    () if at == 0 => None,
                    () if is(at, '}') => Some((min, Some(min), at + 2)),
                    () if is(at, ',') && is(at + 1, '}') => Some((min, None, at + 3)),
                    () if is(at, ',') => {
                        let (max, end) = number(at + 1);
                        (end > at + 1 && is(end, '}')).then_some((min, Some(max), end + 2))
                    }
                    () => None,
                }
            }
            _ => None,
        }
    }

    fn group(&mut self) -> Read<Option<Node>> {
        let start = self.at;
        if self.sees("(*") {
            return Err(ParseError::Unknown(start, "a verb"));
        }
        self.at += 1;
        if !self.takes("?") {
            return self.capture(None).map(Some);
        }
        let sub = |kind| move |node| Some(Node::Sub(kind, Box::new(node)));
        match () {
            () if self.takes("#") => {
                self.skip_to(')');
                if self.chars.get(self.at - 1) != Some(&u32::from(')')) {
                    return Err(self.wrong("the comment is not closed"));
                }
                Ok(None)
            }
            () if self.takes(":") => self.inside().map(Some),
            () if self.takes(">") => self.inside().map(sub(SubKind::Atomic)),
            () if self.takes("=") => self.inside().map(sub(SubKind::Ahead)),
            () if self.takes("!") => self.inside().map(sub(SubKind::NotAhead)),
            () if self.takes("<=") => self.behind(start, SubKind::Behind).map(Some),
            () if self.takes("<!") => self.behind(start, SubKind::NotBehind).map(Some),
            () if self.takes("P=") => self.named_reference(')').map(Some),
            () if self.takes("P<") || self.takes("<") => self.named_capture('>').map(Some),
            () if self.takes("'") => self.named_capture('\'').map(Some),
            () => self.set_flags(start),
        }
    }

    fn capture(&mut self, name: Option<String>) -> Read<Node> {
        self.groups += 1;
        let number = self.groups;
        if let Some(name) = name {
            if self.names.iter().any(|(known, _)| *known == name) {
                return Err(self.wrong("two groups have one name"));
            }
            self.names.push((name, number));
        }
        Ok(Node::Capture(number, Box::new(self.inside()?)))
    }

    fn named_capture(&mut self, end: char) -> Read<Node> {
        let name = self.name(end)?;
        self.capture(Some(name))
    }

    fn named_reference(&mut self, end: char) -> Read<Node> {
        let at = self.at;
        let name = self.name(end)?;
        let known = self.names.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        // It may be given a name further on.
        let group = known.ok_or(ParseError::Unknown(at, "a reference to a group that follows"))?;
        Ok(Node::BackReference { group, caseless: self.flags.caseless })
    }

    fn name(&mut self, end: char) -> Read<String> {
        let mut name = String::new();
        while let Some(c) = self.peek().and_then(char::from_u32) {
            self.at += 1;
            match c {
                _ if c == end && !name.is_empty() => return Ok(name),
                _ if (c.is_ascii_alphanumeric() || c == '_') && name.len() < 32 => name.push(c),
                _ => break,
            }
        }
        Err(self.wrong("a name is expected"))
    }

    /// Alternatives and their closing bracket. Flags that are set inside end with it.
    fn inside(&mut self) -> Read<Node> {
        if self.depth >= NESTING_MAX {
            return Err(self.wrong("brackets are nested too deeply"));
        }
        self.depth += 1;
        let flags = self.flags;
        let node = self.alternatives()?;
        self.flags = flags;
        self.depth -= 1;
        if self.takes(")") { Ok(node) } else { Err(self.wrong("\")\" is missing")) }
    }

    fn behind(&mut self, start: usize, kind: fn(u32) -> SubKind) -> Read<Node> {
        let node = self.inside()?;
        let width = node.width().ok_or(ParseError::Unknown(start, "a look behind of several widths"))?;
        Ok(Node::Sub(kind(width), Box::new(node)))
    }

    /// `(?i)`, `(?i:…)`.
    fn set_flags(&mut self, start: usize) -> Read<Option<Node>> {
        let before = self.flags;
        let mut on = true;
        loop {
            let Some(c) = self.peek().and_then(char::from_u32) else { return Err(self.wrong("\")\" is missing")) };
            self.at += 1;
            match c {
                '-' if on => on = false,
                'i' => self.flags.caseless = on,
                'm' => self.flags.multiline = on,
                's' => self.flags.dot_all = on,
                'x' => self.flags.extended = on,
                // Until the end of the group around it, other alternatives too.
                ')' => return Ok(None),
                ':' => {
                    let node = self.inside()?;
                    self.flags = before;
                    return Ok(Some(node));
                }
                _ => return Err(ParseError::Unknown(start, "a group of this kind")),
            }
        }
    }
}

/// Alternatives of one character each are a set.
fn simple_alternate(alternatives: Vec<Node>) -> Node {
    let mut joined = Set::default();
    for node in &alternatives {
        match node {
            Node::Set(set) => joined.join(set),
            Node::Char { c, caseless: false } if *c < 0x80 => joined.join(&Set::of_bytes([*c as u8])),
            // These have no third case outside of ASCII.
            Node::Char { c, .. } if *c < 0x80 && !matches!(*c as u8, b'k' | b'K' | b's' | b'S') => {
                let byte = *c as u8;
                joined.join(&Set::of_bytes([byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]));
            }
            _ => return Node::Alternate(alternatives),
        }
    }
    Node::Set(joined)
}
