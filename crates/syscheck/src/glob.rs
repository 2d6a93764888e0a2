//! Globs over path bytes: which paths a policy or an operator means.
//!
//! `*` is any run of bytes but `/`, `?` one of them, `[a-z]` and `[!a-z]` one of (or none of) a set, `{a,b}` either of
//! two, `\` takes the next byte as it is, and `**` as a whole component is any number of components. A glob that starts
//! with `/` means whole paths; any other means its tail: `*.swp` is every file of that ending, `.git/objects` that
//! directory wherever it is.
//!
//! Nearly all globs are compared component by component. What that cannot do runs as an automaton whose states are tried
//! side by side (Thompson 1968), so that the cost is bounded by the length of the path times the size of the glob, whatever
//! either holds: no backtracking, no recursion at matching.

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
    /// After `literal`, one component for each part.
    Parts(Box<[Part]>),
    /// After `literal`, any number of components, the last of which is the part: `/srv/**/cache`, `*.swp`.
    Below(Part),
    /// Of the whole glob: it begins with one state for each byte of `literal`.
    Automaton(Box<[Step]>),
}

/// One component of a glob.
#[derive(Clone, PartialEq, Eq)]
enum Part {
    Plain(Box<[u8]>),
    /// Begins so and ends so, with anything in between: `*`, `a*`, `*.x`, `a*.x`.
    Around(Box<[u8]>, Box<[u8]>),
    /// All else; `needs` is a byte that each match holds.
    Wild {
        needs: Option<u8>,
        steps: Box<[Step]>,
    },
}

impl Part {
    fn matches(&self, component: &[u8]) -> bool {
        match self {
            Self::Plain(plain) => component == &**plain,
            Self::Around(start, end) => {
                component.len() >= start.len() + end.len() && component.starts_with(start) && component.ends_with(end)
            }
            Self::Wild { needs, steps } => {
                needs.is_none_or(|byte| component.contains(&byte))
                    && automaton::run(steps, 0, component).longest == Some(component.len())
            }
        }
    }
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

    /// Whether it means one path, whatever its bytes, and no other.
    pub const fn is_plain(&self) -> bool {
        matches!(self.shape, Shape::Path)
    }

    pub(crate) fn literal(&self) -> &[u8] {
        &self.literal
    }

    /// `path` is in the form of `canonical`.
    pub(crate) fn pass(&self, path: &[u8]) -> Pass {
        let plain = self.literal.len();
        if path.len() <= plain {
            let leads = self.literal.starts_with(path) && matches!(self.literal.get(path.len()), None | Some(b'/'));
            let whole = leads && path.len() == plain;
            let is_path = matches!(self.shape, Shape::Path);
            return Pass { longest: (whole && is_path).then_some(plain), alive: leads && !(whole && is_path) };
        }
        if !path.starts_with(&self.literal) {
            return Pass::default();
        }
        let below = path[plain] == b'/';
        match &self.shape {
            Shape::Path => Pass { longest: below.then_some(plain), alive: false },
            Shape::Parts(_) | Shape::Below(_) if !below => Pass::default(),
            Shape::Parts(parts) => pass_parts(parts, plain, path),
            Shape::Below(part) => Pass { longest: last_match(part, plain, path), alive: true },
            Shape::Automaton(steps) => automaton::run(steps, plain, path),
        }
    }

    /// Whether the glob can mean something in `dir` that is not `dir` itself; if not it need not be asked there.
    fn concerns(&self, dir: &[u8]) -> bool {
        let shorter = dir.len().min(self.literal.len());
        self.literal[..shorter] == dir[..shorter]
    }
}

/// Many globs that are asked together: the components of a path are found once for all that mean names.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Globs {
    names: Vec<Part>,
    others: Vec<Glob>,
}

impl Globs {
    /// Those of `globs` that can mean something below `dir`.
    pub fn new<'a>(globs: impl Iterator<Item = &'a Glob>, dir: &[u8]) -> Self {
        let mut these = Self::default();
        for glob in globs.filter(|glob| glob.concerns(dir)) {
            match &glob.shape {
                Shape::Below(part) if glob.literal.is_empty() => these.names.push(part.clone()),
                _ => these.others.push(glob.clone()),
            }
        }
        these
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.others.is_empty()
    }

    /// Whether one of them matches a prefix of `path` that ends at a component's end behind the byte `plain`.
    pub fn covers_beyond(&self, path: &[u8], plain: usize) -> bool {
        let mut components = path[plain..].split(|b| *b == b'/').skip(1);
        components.any(|component| self.names.iter().any(|name| name.matches(component)))
            || self.others.iter().any(|glob| glob.pass(path).longest.is_some_and(|end| end > plain))
    }
}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Globs({} names, {:?})", self.names.len(), self.others)
    }
}

fn pass_parts(parts: &[Part], plain: usize, path: &[u8]) -> Pass {
    let mut start = plain;
    for part in parts {
        // `start` is at a `/`, or at the end.
        let Some(rest) = path.get(start + 1..) else { return Pass { longest: None, alive: true } };
        let length = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        if !part.matches(&rest[..length]) {
            return Pass::default();
        }
        start += 1 + length;
    }
    Pass { longest: Some(start), alive: false }
}

/// Where the last component that `part` matches ends, of those that end behind the byte `plain`.
fn last_match(part: &Part, plain: usize, path: &[u8]) -> Option<usize> {
    let mut end = path.len();
    while end > plain {
        let slash = path[..end].iter().rposition(|&b| b == b'/')?;
        if part.matches(&path[slash + 1..end]) {
            return Some(end);
        }
        end = slash;
    }
    None
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> PathBytes {
        PathBytes::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn means_what_its_signs_say() {
        for (glob, hits, misses) in [
            ("/etc", &["/etc"][..], &["/", "/etcx", "/etc/a", "/a/etc"][..]),
            ("/etc/", &["/etc"], &["/etc/a"]),
            ("/", &["/"], &["/a"]),
            ("/**", &["/a", "/a/b"], &["/"]),
            ("/*", &["/a", "/.a"], &["/", "/a/b"]),
            ("/var/log/*.log", &["/var/log/a.log", "/var/log/.log"], &["/var/log/a.log.1", "/var/log/a/b.log"]),
            ("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z"], &["/a", "/az", "/a/bz", "/a/z/b"]),
            ("/a/**", &["/a/b", "/a/b/c"], &["/a", "/ab"]),
            ("/a/**/**/b*", &["/a/b", "/a/x/bc"], &["/a"]),
            ("*.swp", &["/a.swp", "/x/y/.a.swp"], &["/a.swp/x", "/a.swpx"]),
            ("core*", &["/core", "/x/core.1"], &["/score"]),
            (".git", &["/.git", "/a/.git"], &["/a/.git/x", "/a.git"]),
            (".git/objects", &["/.git/objects", "/a/.git/objects"], &["/objects", "/a/x.git/objects"]),
            ("/a?c", &["/abc"], &["/ac", "/a/c", "/abbc"]),
            ("/a[0-9_]", &["/a0", "/a_"], &["/aa", "/a"]),
            ("/a[!0-9]", &["/ax"], &["/a0", "/a/", "/a"]),
            ("/a[]-]", &["/a]", "/a-"], &["/aa"]),
            ("/{a,bc*,}x", &["/ax", "/bcx", "/bcccx", "/x"], &["/bx", "/a"]),
            ("/{a,{b,c}d}", &["/a", "/bd", "/cd"], &["/b", "/ad"]),
            (r"/\*\{", &["/*{"], &["/a{"]),
            ("/a,b", &["/a,b"], &["/a"]),
        ] {
            let glob = Glob::parse(glob).unwrap();
            for hit in hits {
                assert!(glob.matches(&path(hit)), "{glob} {hit}");
            }
            for miss in misses.iter().filter(|m| !m.ends_with('/') || m.len() == 1) {
                assert!(!glob.matches(&path(miss)), "{glob} {miss}");
            }
        }
    }

    #[test]
    fn covers_what_is_below_and_knows_where_to_descend() {
        let glob = Glob::parse("/home/*/.ssh").unwrap();
        assert!(glob.covers(&path("/home/a/.ssh/id")) && !glob.covers(&path("/home/a/.sshx/id")));
        let alive = |p: &str| glob.pass(canonical(&path(p))).alive;
        assert!(alive("/") && alive("/home") && alive("/home/a"));
        assert!(!alive("/hom") && !alive("/etc") && !alive("/home/a/b") && !alive("/home/a/.ssh"));
        assert_eq!((glob.root(), glob.literal_bytes()), (path("/home"), 11));
        assert_eq!(Glob::parse("*.x").unwrap().root(), path("/"));
        assert_eq!(Glob::parse("/{ab,c}/d").unwrap().literal_bytes(), 4);
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, error) in [
            ("", GlobError::Empty),
            ("/a//b", GlobError::NotNormal),
            ("/a/../b", GlobError::NotNormal),
            (r"/a/\.\.", GlobError::NotNormal),
            ("/a/**.log", GlobError::StarsInName),
            ("/[a", GlobError::OpenClass),
            ("/[z-a]", GlobError::BadClass),
            ("/{a,b", GlobError::OpenBraces),
            ("/a}", GlobError::OpenBraces),
            ("/{a/b}", GlobError::OpenBraces),
            ("/a\\", GlobError::LoneEscape),
            ("/a\0", GlobError::Nul),
            ("/{{{{{{{{{a}}}}}}}}}", GlobError::TooDeep),
        ] {
            assert_eq!(Glob::parse(text).err(), Some(error), "{text}");
        }
        assert_eq!(Glob::parse(&"a".repeat(4097)), Err(GlobError::TooLong(4097)));
        assert_eq!(Glob::parse(&format!("/{}", "*a".repeat(2000))), Err(GlobError::TooComplex));
    }

    /// What a backtracking matcher would need ages for.
    #[test]
    fn costs_no_more_for_a_hostile_pair() {
        let glob = Glob::parse(&format!("/{}b", "a*".repeat(600))).unwrap();
        assert!(!glob.matches(&path(&format!("/{}", "a".repeat(4000)))));
    }

    /// The meaning, told once more without an automaton.
    fn naive(glob: &[u8], path: &[u8]) -> bool {
        match glob {
            [] => path.is_empty(),
            [b'/', b'*', b'*', ..] if !matches!(path.first(), None | Some(b'/')) => false,
            [b'/', b'*', b'*'] => path.len() > 1,
            [b'/', b'*', b'*', rest @ ..] => {
                (0..=path.len()).any(|i| matches!(path.get(i), None | Some(b'/')) && naive(rest, &path[i..]))
            }
            [b'*', rest @ ..] => {
                let end = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
                (0..=end).any(|i| naive(rest, &path[i..]))
            }
            [b'?', rest @ ..] => path.first().is_some_and(|b| *b != b'/') && naive(rest, &path[1..]),
            [byte, rest @ ..] => path.first() == Some(byte) && naive(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_meaning(
            glob in "(/(\\*\\*|[ab*?]{1,4})){1,4}",
            paths in prop::collection::vec("(/[ab]{1,3}){1,5}", 1..6),
        ) {
            let Ok(compiled) = Glob::parse(&glob) else { return Ok(()) };
            // Runs of `**` are one, and only the last may stand for nothing but itself.
            let mut glob = glob;
            while glob.contains("/**/**") {
                glob = glob.replace("/**/**", "/**");
            }
            for p in paths {
                prop_assert_eq!(compiled.matches(&path(&p)), naive(glob.as_bytes(), p.as_bytes()), "{} {}", glob, p);
            }
        }

        #[test]
        fn random_text_neither_panics_nor_disagrees_with_itself(text in "[/a*?{},!\\[\\]\\\\-]{0,40}", p in "(/[a*{}\\]-]{1,4}){1,6}") {
            let Ok(glob) = Glob::parse(&text) else { return Ok(()) };
            let p = path(&p);
            prop_assert!(!glob.matches(&p) || glob.covers(&p));
            prop_assert!(!glob.covers(&p) || p.is_within(&glob.root()));
            let mut above = p.parent();
            while let Some(dir) = above {
                prop_assert!(!glob.matches(&p) || glob.pass(canonical(&dir)).alive, "{} {:?}", glob, dir);
                prop_assert!(!glob.covers(&dir) || glob.covers(&p));
                above = dir.parent();
            }
        }
    }
}
