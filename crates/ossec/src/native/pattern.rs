//! From OSSEC's ways to name paths, the beginning of a path and OSMatch, to globs.
//!
//! OSMatch on a path is alternatives divided by `|`, each a literal that is anchored by `^` and `$` or may stand anywhere. What
//! may stand anywhere is a component that holds it, with everything below, and just that is what an exclude means: so nearly
//! every pattern has a glob that means the same. Two differences stay and are told in docs/configuration.md: here letters' case
//! counts, and what an exclude meets is left out with all that is below it.

/// A path as a glob that means it and nothing else, but for what is a sign in globs and in OSSEC alike.
pub(super) fn escaped(path: &str) -> String {
    escape(path, "\\*?[]{}")
}

/// What `<directories>` names: `*`, `?` and `[…]` are signs there too.
pub(super) fn directory(path: &str) -> String {
    let mut out = escape(path, "\\{}");
    while out.contains("**") {
        out = out.replace("**", "*");
    }
    out
}

fn escape(path: &str, signs: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        if signs.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// One alternative of an OSMatch pattern, as it looks at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alternative {
    /// This path.
    Exactly(String),
    /// Paths that begin so.
    Begins(String),
    /// Paths that end so.
    Ends(String),
    /// Paths that hold it.
    Holds(String),
}

/// The alternatives of a pattern, or why it cannot be said in globs.
pub(super) fn alternatives(pattern: &str) -> Result<Vec<Alternative>, String> {
    let mut list = Vec::new();
    for text in pattern.split('|') {
        let (begins, body) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (ends, body) = body.strip_suffix('$').map_or((false, body), |rest| (true, rest));
        if body.is_empty() || (body == "/" && !ends) {
            return Err(format!("\"{text}\" in it matches every path"));
        }
        // `a$b` and `ab^c` never match.
        if body.contains(['^', '$']) {
            continue;
        }
        if body.contains("//") || body.split('/').any(|part| part == "." || part == "..") || body.contains('\0') {
            return Err(format!("\"{text}\" in it can be no part of a path"));
        }
        let body = body.to_owned();
        list.push(match (begins, ends) {
            (true, true) => Alternative::Exactly(body),
            (true, false) => Alternative::Begins(body),
            (false, true) => Alternative::Ends(body),
            (false, false) => Alternative::Holds(body),
        });
    }
    if list.is_empty() { Err("it matches no path".into()) } else { Ok(list) }
}

impl Alternative {
    /// The glob of an exclude; `None` where no path matches.
    pub fn exclude(&self) -> Option<String> {
        match self {
            Self::Exactly(path) => path.starts_with('/').then(|| escaped(path)),
            Self::Begins(path) => path.starts_with('/').then(|| prefix(path)),
            Self::Ends(_) | Self::Holds(_) => self.tail(),
        }
    }

    /// The glob of what matches within the directory `dir`: the path of a watch. `None` where nothing can match.
    pub fn within(&self, dir: &str, is_recursive: bool) -> Option<String> {
        let base = directory(dir);
        let below = |tail: String| {
            let base = base.trim_end_matches('/');
            if is_recursive { format!("{base}/**/{tail}") } else { format!("{base}/{tail}") }
        };
        match self {
            Self::Exactly(path) => is_within(path, dir).then(|| escaped(path)),
            Self::Begins(path) if is_within(path, dir) => Some(prefix(path)),
            // The directory begins so itself, and with it all that it holds.
            Self::Begins(path) => dir.starts_with(path.as_str()).then_some(base),
            Self::Holds(part) if format!("{dir}/").contains(part.as_str()) => Some(base),
            Self::Ends(_) | Self::Holds(_) => self.tail().map(below),
        }
    }

    /// The last components of a path that matches.
    fn tail(&self) -> Option<String> {
        let (part, ends) = match self {
            Self::Ends(part) => (part, true),
            Self::Holds(part) => (part, false),
            Self::Exactly(_) | Self::Begins(_) => return None,
        };
        // No path ends with "/".
        if ends && part.ends_with('/') {
            return None;
        }
        let body = part.strip_prefix('/').map_or_else(|| format!("*{}", escaped(part)), escaped);
        Some(if ends { body } else { format!("{body}*") })
    }
}

/// All paths that begin with `path`.
pub(super) fn prefix(path: &str) -> String {
    format!("{}*", escaped(path))
}

/// Whether `path` lies in the directory `dir`.
pub(super) fn is_within(path: &str, dir: &str) -> bool {
    let dir = dir.trim_end_matches('/');
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_globs() {
        let cases: [(&str, &[&str]); 9] = [
            (".log$|.swp$", &["*.log", "*.swp"]),
            ("^/etc/x", &["/etc/x*"]),
            ("^/etc/x$", &["/etc/x"]),
            ("/.git/", &[".git/*"]),
            ("cache", &["*cache*"]),
            ("/cache/tmp", &["cache/tmp*"]),
            ("/a{b}$", &["a\\{b\\}"]),
            ("^x|y$", &["*y"]),
            ("a$b|c", &["*c*"]),
        ];
        for (pattern, expected) in cases {
            let globs: Vec<_> = alternatives(pattern).unwrap().iter().filter_map(Alternative::exclude).collect();
            assert_eq!(globs, expected, "{pattern}");
        }
        for pattern in ["", "a||b", "^", "/", "a|//", "x^y", "../x"] {
            assert!(alternatives(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn restrictions_stay_in_their_directory() {
        let cases = [
            (".conf$", "/etc", true, Some("/etc/**/*.conf")),
            (".conf$", "/etc", false, Some("/etc/*.conf")),
            ("^/etc/p", "/etc", true, Some("/etc/p*")),
            ("^/et", "/etc", true, Some("/etc")),
            ("^/usr", "/etc", true, None),
            ("/etc", "/etc", true, Some("/etc")),
            ("x", "/", true, Some("/**/*x*")),
            ("c/", "/etc", true, Some("/etc")),
        ];
        for (pattern, dir, recursive, expected) in cases {
            assert_eq!(
                alternatives(pattern).unwrap()[0].within(dir, recursive).as_deref(),
                expected,
                "{pattern} {dir}"
            );
        }
        assert_eq!(directory("/srv/**/x[ab]{c}"), "/srv/*/x[ab]\\{c\\}");
    }
}
