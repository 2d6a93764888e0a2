//! The three languages of patterns in rules and decoders: `OSMatch`, `OSRegex` and PCRE2.
//!
//! All three become one form and are matched by one engine (`run`), which finds what PCRE2 would find, in the order of its
//! ways, and gives up where it would run away; what it does not know of PCRE2 is left to PCRE2 itself (`foreign`). OSSEC converts its two older languages to PCRE2 too (`convert`), and so all
//! their oddities are here. Patterns are without regard to case. A text is bytes; `OSMatch` and `OSRegex` read it as UTF-8.
//! OSSEC's find nothing in a text that is none, unless the pattern is plain; so do `find` and `find_groups`. Lines and names
//! are searched by `find_in` and `find_groups_in`, for which such a byte is a character of its own.

use std::ops::Range;
use std::sync::Arc;

mod convert;
mod foreign;
mod index;
mod literal;
mod node;
mod parse;
mod program;
mod run;
mod set;
#[cfg(test)]
mod tests;

use foreign::Foreign;
pub(crate) use index::{Admitted, Guards};
pub use index::{Filter, Hits, Index, IndexBuilder, Verdict};
use literal::Literals;
use parse::ParseError;
use program::Program;
pub use run::{Exhausted, Scratch};

/// A compiled pattern. Clones share it.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    language: Language,
    source: Box<str>,
    matcher: Matcher,
    literals: Option<Literals>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    OsMatch,
    OsRegex,
    Pcre2,
}

#[derive(Debug)]
enum Matcher {
    /// An anchored text and nothing else: compared byte by byte, in small letters.
    Plain {
        start: bool,
        end: bool,
        text: Box<[u8]>,
    },
    Program(Box<Program>),
    /// What only PCRE2 itself knows.
    Foreign(Foreign),
}

/// Searches that were given up, each of which counted as no match.
#[derive(Clone, Debug, Default)]
pub struct GivenUp {
    pub times: u64,
    /// The pattern of the last one.
    pub pattern: Option<Pattern>,
}

impl GivenUp {
    pub(crate) fn note(&mut self, pattern: &Pattern) {
        self.times += 1;
        self.pattern = Some(pattern.clone());
    }

    /// Moves the others here.
    pub(crate) fn take(&mut self, others: &mut Self) {
        self.times += std::mem::take(&mut others.times);
        self.pattern = others.pattern.take().or_else(|| self.pattern.take());
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.language == other.0.language && self.0.source == other.0.source
    }
}

impl Eq for Pattern {}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern has {0} bytes, the limit is {max}", max = Pattern::BYTES_MAX)]
    TooLong(usize),
    #[error("the pattern is empty")]
    Empty,
    #[error("in the pattern, \"\\\" is followed by nothing known at its character {at}")]
    Escape { at: usize },
    #[error("the pattern is wrong at its character {at}: {what}")]
    Syntax { at: usize, what: &'static str },
    #[error("the pattern holds {what} at its character {at}, which is not supported")]
    Unsupported { at: usize, what: &'static str },
    /// What PCRE2 says.
    #[error("the pattern is wrong at its character {at}: {what}")]
    Foreign { at: usize, what: String },
    #[error("the pattern is too large: its repetitions take too many steps")]
    TooLarge,
}

impl Pattern {
    pub const BYTES_MAX: usize = 2048;
    /// More groups are not delivered.
    pub const GROUPS_MAX: usize = 64;

    /// As `<match>` has it. An empty one matches everything.
    pub fn os_match(text: &str) -> Result<Self, PatternError> {
        check_length(text)?;
        let body = text.strip_prefix('^').unwrap_or(text);
        let body = body.strip_suffix('$').unwrap_or(body);
        let is_plain = body.len() < text.len() && !body.is_empty() && !body.contains(['^', '$', '|']);
        if is_plain {
            return Ok(Self::plain(Language::OsMatch, text, body));
        }
        Self::compile(Language::OsMatch, text, &convert::os_match(text))
    }

    /// As `<regex>`, `<prematch>` and `<field>` have it.
    pub fn os_regex(text: &str) -> Result<Self, PatternError> {
        check_length(text)?;
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(body) = plain_body(text) {
            return Ok(Self::plain(Language::OsRegex, text, body));
        }
        let converted = convert::os_regex(text).map_err(|at| PatternError::Escape { at: characters(text, at) })?;
        Self::compile(Language::OsRegex, text, &converted)
    }

    /// As `<pcre2>` and the elements whose names end in `_pcre2` have it.
    pub fn pcre2(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(body) = plain_body(text) {
            return Ok(Self::plain(Language::Pcre2, text, body));
        }
        match Self::compile(Language::Pcre2, text, text) {
            Err(PatternError::Unsupported { .. } | PatternError::TooLarge) => Self::foreign(text),
            compiled => compiled,
        }
    }

    /// Compiled by PCRE2 itself.
    fn foreign(text: &str) -> Result<Self, PatternError> {
        let foreign = Foreign::compile(text)
            .map_err(|fault| PatternError::Foreign { at: characters(text, fault.at), what: fault.what })?;
        let matcher = Matcher::Foreign(foreign);
        Ok(Self(Arc::new(Inner { language: Language::Pcre2, source: text.into(), matcher, literals: None })))
    }

    fn plain(language: Language, source: &str, body: &str) -> Self {
        let start = source.starts_with('^');
        let end = source.len() > body.len() + usize::from(start);
        let text: Box<[u8]> = body.to_ascii_lowercase().into_bytes().into();
        let fits = (literal::BYTES_MIN..=literal::BYTES_MAX).contains(&text.len());
        let literals = fits.then(|| Literals { any_of: vec![text.to_vec()], suffice: false });
        Self(Arc::new(Inner {
            language,
            source: source.into(),
            matcher: Matcher::Plain { start, end, text },
            literals,
        }))
    }

    fn compile(language: Language, source: &str, converted: &str) -> Result<Self, PatternError> {
        let utf = language != Language::Pcre2;
        let parsed = parse::parse(converted, utf).map_err(|error| match error {
            ParseError::Syntax(at, what) => PatternError::Syntax { at: at + 1, what },
            ParseError::Unknown(at, what) => PatternError::Unsupported { at: at + 1, what },
        })?;
        let program = program::compile(&parsed, utf).map_err(|program::TooLarge| PatternError::TooLarge)?;
        let literals = literal::of(&parsed.node, utf);
        let matcher = Matcher::Program(Box::new(program));
        Ok(Self(Arc::new(Inner { language, source: source.into(), matcher, literals })))
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    pub fn language(&self) -> Language {
        self.0.language
    }

    /// Whether it is one anchored text, which OSSEC compares without its engine: it can have no groups.
    pub fn is_plain(&self) -> bool {
        matches!(self.0.matcher, Matcher::Plain { .. })
    }

    /// How many groups it has.
    pub fn groups(&self) -> u32 {
        match &self.0.matcher {
            Matcher::Plain { .. } => 0,
            Matcher::Program(program) => program.groups,
            Matcher::Foreign(foreign) => foreign.groups(),
        }
    }

    fn literals(&self) -> Option<&Literals> {
        self.0.literals.as_ref()
    }

    fn is_utf(&self) -> bool {
        matches!(&self.0.matcher, Matcher::Program(program) if program.utf)
    }

    /// Whether it matches; one that runs away does not. See [`Self::find`].
    pub fn matches(&self, text: &[u8]) -> bool {
        self.find(text, &mut Scratch::default()).is_ok_and(|end| end.is_some())
    }

    /// Whether it matches a path or a name. See [`Self::find_in`].
    pub fn matches_name(&self, name: &[u8]) -> bool {
        self.find_in(name, &mut Scratch::default()).is_ok_and(|end| end.is_some())
    }

    /// The end of its first match.
    pub fn find(&self, text: &[u8], scratch: &mut Scratch) -> Result<Option<usize>, Exhausted> {
        if self.is_utf() && std::str::from_utf8(text).is_err() { Ok(None) } else { self.find_in(text, scratch) }
    }

    /// The end of its first match in a line or a name, which may be of any bytes: what is no UTF-8 in it is a character for
    /// each byte, so that no such byte can hide a file or a line.
    pub fn find_in(&self, text: &[u8], scratch: &mut Scratch) -> Result<Option<usize>, Exhausted> {
        match &self.0.matcher {
            Matcher::Plain { start, end, text: wanted } => Ok(plain_end(*start, *end, wanted, text)),
            Matcher::Program(program) => run::search(program, text, false, scratch),
            Matcher::Foreign(foreign) => foreign.find(text),
        }
    }

    /// The end of its first match; the groups that took part in it, in their order, are put into `groups`.
    pub fn find_groups(
        &self,
        text: &[u8],
        scratch: &mut Scratch,
        groups: &mut Vec<Range<usize>>,
    ) -> Result<Option<usize>, Exhausted> {
        groups.clear();
        let is_unreadable = self.is_utf() && std::str::from_utf8(text).is_err();
        if is_unreadable { Ok(None) } else { self.find_groups_in(text, scratch, groups) }
    }

    /// As [`Self::find_in`]; the groups that took part in the match, in their order, are put into `groups`.
    pub fn find_groups_in(
        &self,
        text: &[u8],
        scratch: &mut Scratch,
        groups: &mut Vec<Range<usize>>,
    ) -> Result<Option<usize>, Exhausted> {
        groups.clear();
        let program = match &self.0.matcher {
            Matcher::Program(program) => program,
            Matcher::Foreign(foreign) => return foreign.find_groups(text, groups, Self::GROUPS_MAX),
            Matcher::Plain { .. } => return self.find_in(text, scratch),
        };
        let end = run::search(program, text, true, scratch)?;
        if end.is_some() {
            groups.extend((1..=program.groups).filter_map(|group| scratch.group(group)).take(Self::GROUPS_MAX));
        }
        Ok(end)
    }
}

fn check_length(text: &str) -> Result<(), PatternError> {
    if text.len() > Pattern::BYTES_MAX { Err(PatternError::TooLong(text.len())) } else { Ok(()) }
}

/// Which character the byte is of, counted from 1.
fn characters(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at <= byte).count()
}

/// The text between the anchors, if it is anchored and holds no sign that could mean anything else.
fn plain_body(text: &str) -> Option<&str> {
    let body = text.strip_prefix('^').unwrap_or(text);
    let body = body.strip_suffix('$').unwrap_or(body);
    let is_itself = |b: u8| b.is_ascii_alphanumeric() || b" !\"#%&',/:;<=>@_`~-".contains(&b);
    (body.len() < text.len() && body.bytes().all(is_itself)).then_some(body)
}

fn plain_end(start: bool, end: bool, wanted: &[u8], text: &[u8]) -> Option<usize> {
    let last = text.len().checked_sub(wanted.len())?;
    let is_at = |place: usize| text[place..place + wanted.len()].eq_ignore_ascii_case(wanted);
    match (start, end) {
        (true, false) => is_at(0).then_some(wanted.len()),
        (true, true) => (last == 0 && is_at(0)).then_some(text.len()),
        (false, _) => is_at(last).then_some(text.len()),
    }
}
