//! Globs over path bytes: which paths a policy or an operator means.
//!
//! `*` is any run of bytes but `/`, `?` one of them, `[a-z]` and `[!a-z]` one of (or none of) a set, `{a,b}` either of
//! two, `\` takes the next byte as it is, and `**` as a whole component is any number of components. A glob that starts
//! with `/` means whole paths; any other means its tail: `*.swp` is every file of that ending, `.git/objects` that
//! directory wherever it is.
//!
//! Compiled into an automaton whose states are tried side by side (Thompson 1968), so that the cost is bounded by the
//! length of the path times the size of the glob, whatever either holds: no backtracking, no recursion at matching.
//! Shapes that need no automaton (a plain path, a plain name, a name's ending) take none.

use std::fmt;

use tally_types::PathBytes;

mod automaton;
mod compile;

use automaton::Step;

/// A compiled glob. Shown as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    /// The part before the first component that is not plain, without a trailing `/`; empty for the root.
    literal: Box<[u8]>,
    /// The fewest plain bytes that a match has: the more, the more specific is the glob.
    literal_bytes: usize,
    shape: Shape,
}

#[derive(Clone, PartialEq, Eq)]
enum Shape {
    /// The whole glob is `literal`.
    Path,
    /// One component anywhere that is exactly this.
    Name(Box<[u8]>),
    /// One component anywhere that starts so.
    NameStart(Box<[u8]>),
    /// One component anywhere that ends so.
    NameEnd(Box<[u8]>),
    Automaton(Box<[Step]>),
}

/// Why a text is not a glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    #[error("glob is empty")]
    Empty,
    #[error("glob has {0} bytes, the limit is {max}", max = Glob::BYTES_MAX)]
    TooLong(usize),
    #[error("glob is too complex: it needs more than {max} states", max = Glob::STATES_MAX)]
    TooComplex,
    #[error("glob has an empty, \".\" or \"..\" component")]
    NotNormal,
    #[error("glob contains a NUL byte")]
    Nul,
    #[error("\"**\" must be a whole component, as in \"**/*.log\"")]
    StarsInName,
    #[error("\"[\" without its \"]\" in the same component")]
    OpenClass,
    #[error("\"[...]\" is empty or holds a range that ends before it starts")]
    BadClass,
    #[error("\"{{\" without its \"}}\" in the same component, or the reverse")]
    OpenBraces,
    #[error("braces are nested deeper than {max}", max = Glob::NESTING_MAX)]
    TooDeep,
    #[error("glob ends with a lone \"\\\"")]
    LoneEscape,
}

/// What one pass of a path through a glob says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The length of the longest prefix, ending at a component's end, that matches.
    pub longest: Option<usize>,
    /// Whether something below the path can match.
    pub alive: bool,
}

impl Glob {
    pub const BYTES_MAX: usize = 4096;
    pub const STATES_MAX: usize = 4096;
    pub const NESTING_MAX: usize = 8;

    pub fn parse(text: &str) -> Result<Self, GlobError> {
        compile::compile(text)
    }

    /// The glob that means `path` and nothing else, whatever bytes it has.
    pub fn exactly(path: &PathBytes) -> Self {
        let literal: Box<[u8]> = canonical(path).into();
        Self { text: path.to_string().into(), literal_bytes: literal.len(), literal, shape: Shape::Path }
    }

    /// Whether the glob means `path` itself.
    pub fn matches(&self, path: &PathBytes) -> bool {
        let path = canonical(path);
        self.pass(path).longest == Some(path.len())
    }

    /// Whether the glob means `path` or a directory above it.
    pub fn covers(&self, path: &PathBytes) -> bool {
        self.pass(canonical(path)).longest.is_some()
    }

    /// The fewest plain bytes that a match has.
    pub const fn literal_bytes(&self) -> usize {
        self.literal_bytes
    }

    /// The longest directory (or the path itself) that everything the glob means is within.
    pub fn root(&self) -> PathBytes {
        if self.literal.is_empty() {
            return PathBytes::root();
        }
        PathBytes::new(self.literal.clone()).unwrap_or_else(|_| PathBytes::root())
    }

    pub(crate) fn literal(&self) -> &[u8] {
        &self.literal
    }

    /// `path` is in the form of `canonical`.
    pub(crate) fn pass(&self, path: &[u8]) -> Pass {
        match &self.shape {
            Shape::Path => self.pass_plain(path),
            // A name can be met anywhere below, so such a glob is always alive.
            Shape::Name(_) | Shape::NameStart(_) | Shape::NameEnd(_) => {
                Pass { longest: self.last_name(path, 0), alive: true }
            }
            Shape::Automaton(steps) => {
                let plain = self.literal.len();
                if path.len() <= plain {
                    let alive =
                        self.literal.starts_with(path) && matches!(self.literal.get(path.len()), None | Some(b'/'));
                    return Pass { longest: None, alive };
                }
                if !path.starts_with(&self.literal) {
                    return Pass::default();
                }
                // The automaton begins with one state for each plain byte.
                automaton::run(steps, plain, path)
            }
        }
    }

    /// Whether a prefix of `path` matches that ends at a component's end behind the byte `plain`.
    pub(crate) fn covers_beyond(&self, path: &[u8], plain: usize) -> bool {
        let longest = match &self.shape {
            Shape::Path | Shape::Automaton(_) => self.pass(path).longest,
            Shape::Name(_) | Shape::NameStart(_) | Shape::NameEnd(_) => self.last_name(path, plain),
        };
        longest.is_some_and(|end| end > plain)
    }

    /// Where the last component that has the name ends, of those that end behind the byte `plain`.
    fn last_name(&self, path: &[u8], plain: usize) -> Option<usize> {
        let mut end = path.len();
        while end > plain {
            let slash = path[..end].iter().rposition(|&b| b == b'/')?;
            let component = &path[slash + 1..end];
            let met = match &self.shape {
                Shape::Name(name) => component == &**name,
                Shape::NameStart(start) => component.starts_with(start),
                Shape::NameEnd(ending) => component.ends_with(ending),
                Shape::Path | Shape::Automaton(_) => false,
            };
            if met {
                return Some(end);
            }
            end = slash;
        }
        None
    }

    fn pass_plain(&self, path: &[u8]) -> Pass {
        let plain = &self.literal;
        if path.len() >= plain.len() {
            let within = path.starts_with(plain) && matches!(path.get(plain.len()), None | Some(b'/'));
            return Pass { longest: within.then_some(plain.len()), alive: false };
        }
        Pass { longest: None, alive: plain.starts_with(path) && plain[path.len()] == b'/' }
    }
}

/// The bytes that globs see: the root is empty, so that every component has its `/` before it.
pub(crate) fn canonical(path: &PathBytes) -> &[u8] {
    match path.as_bytes() {
        b"/" => b"",
        bytes => bytes,
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.text)
    }
}
