//! OSSEC's policies and rootkit lists: `*_rcl.txt`, `system_audit_*.txt`, `rootkit_files.txt`, `rootkit_trojans.txt`.
//!
//! A policy is variables (`$name=value;`), then entries: `[Name] [any|all|any required|all required] [Reference]` and a check a
//! line, `t:value[ -> pattern];` with t one of f (files), d (directories), p (processes), r (registry). They are read as OSSEC
//! means them; its faults are not kept: a comma list of files is all of its files. Nothing here looks at a disk.

use crate::finding::{Findings, Notary};
use tally_types::shown;

/// A policy of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub entries: Vec<Entry>,
}

/// One thing that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub line: u32,
    pub name: String,
    /// Every check must hold; otherwise one is enough.
    pub all: bool,
    /// If it does not hold, the rest of the file is of no concern.
    pub required: bool,
    pub reference: String,
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub kind: CheckKind,
    /// `!` before the value: it must not hold.
    pub negated: bool,
    /// What stands before the first ` -> `, with its variables in their place.
    pub targets: Vec<String>,
    /// Of a directory, which of its files; of a registry key, which of its values.
    pub within: Option<Term>,
    pub pattern: Option<Pattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    File,
    Directory,
    Process,
    Registry,
}

/// `A && B`: all on the same line. If all of them are negated, it says that no line of the file fails it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub Vec<Term>);

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub negated: bool,
    pub comparison: Comparison,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The whole line, whatever its letters' case: `=:`, or nothing.
    Equal,
    /// OSRegex: `r:`.
    Regex,
    /// It sorts before the line: `<:`.
    Before,
    /// It sorts after the line: `>:`.
    After,
}

/// As in OSSEC.
const LINE_BYTES_MAX: usize = 1024;
const ENTRIES_MAX: usize = 10_000;
const VARIABLES_MAX: usize = 1024;

impl Policy {
    pub fn parse(text: &str, file: &str) -> (Self, Findings) {
        let mut notary = Notary::new(file, text);
        let mut reader = Reader { variables: Vec::new(), entries: Vec::new() };
        let mut at = 0;
        for raw in text.split_inclusive('\n') {
            let start = at + (raw.len() - raw.trim_start().len());
            at += raw.len();
            let line = raw.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() > LINE_BYTES_MAX {
                notary.error(start, format!("the line has more than {LINE_BYTES_MAX} bytes"));
                continue;
            }
            reader.line(line, start, &mut notary);
        }
        (Self { entries: reader.entries }, notary.finish())
    }
}

struct Reader {
    variables: Vec<(String, String)>,
    entries: Vec<Entry>,
}

impl Reader {
    fn line(&mut self, line: &str, at: usize, notary: &mut Notary<'_>) {
        if let Some(rest) = line.strip_prefix('$') {
            match rest.split_once('=').and_then(|(name, value)| Some((name.trim(), value.split_once(';')?.0.trim()))) {
                Some((name, value)) if self.variables.len() < VARIABLES_MAX => {
                    self.variables.push((name.to_owned(), value.to_owned()));
                }
                _ => notary.error(at, "a variable is written as $name=value;"),
            }
            return;
        }
        if line.starts_with('[') {
            match entry(line, notary.line(at)) {
                Some(entry) if self.entries.len() < ENTRIES_MAX => self.entries.push(entry),
                _ => notary.error(at, "an entry is written as [Name] [any|all|any required|all required] [Reference]"),
            }
            return;
        }
        let check = self.check(line);
        match (self.entries.last_mut(), check) {
            (Some(entry), Ok(check)) => entry.checks.push(check),
            (None, Ok(_)) => notary.error(at, "a check stands before the first [Name]"),
            (_, Err(why)) => notary.error(at, why),
        }
    }

    fn check(&self, line: &str) -> Result<Check, String> {
        // A `!` before the letter has no effect in OSSEC.
        let line = line.strip_prefix('!').unwrap_or(line);
        let line = line.split_once(';').map_or(line, |(line, _)| line);
        let Some((kind, value)) = line.split_once(':') else {
            return Err(format!("a check is written as f:value -> pattern; not \"{}\"", shown(line)));
        };
        let kind = match kind.trim() {
            "f" => CheckKind::File,
            "d" => CheckKind::Directory,
            "p" => CheckKind::Process,
            "r" => CheckKind::Registry,
            other => return Err(format!("unknown check \"{}\": it is f, d, p or r", shown(other))),
        };
        let (negated, value) = value.strip_prefix('!').map_or((false, value), |rest| (true, rest));
        let mut parts = value.split(" -> ").map(str::trim);
        let first = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        if kind == CheckKind::Process {
            let pattern = (rest.is_empty()).then(|| Pattern::parse(first));
            return Ok(Check { kind, negated, targets: Vec::new(), within: None, pattern });
        }
        let targets = self.targets(first)?;
        let is_deep = matches!(kind, CheckKind::Directory | CheckKind::Registry);
        let (within, pattern) = match rest[..] {
            [] => (None, None),
            [pattern] if !is_deep => (None, Some(Pattern::parse(pattern))),
            [within] => (Some(Term::parse(within)), None),
            [within, pattern] if is_deep => (Some(Term::parse(within)), Some(Pattern::parse(pattern))),
            _ => return Err("too many \" -> \" in the check".into()),
        };
        Ok(Check { kind, negated, targets, within, pattern })
    }

    /// A comma list, in which the first may be a variable.
    fn targets(&self, text: &str) -> Result<Vec<String>, String> {
        let value = match text.strip_prefix('$') {
            None => text,
            Some(name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => value.as_str(),
                None => return Err(format!("unknown variable \"{}\"", shown(name))),
            },
        };
        Ok(value.split(',').map(|target| target.trim().to_owned()).filter(|target| !target.is_empty()).collect())
    }
}

/// `[Name] [any] [Reference]`; the name may hold brackets of its own.
fn entry(line: &str, number: u32) -> Option<Entry> {
    let inner = line.strip_prefix('[')?.trim_end().strip_suffix(']')?;
    let mut parts = inner.rsplitn(3, "] [");
    let (reference, condition, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (all, required) = match condition.trim() {
        "any" => (false, false),
        "all" => (true, false),
        "any required" => (false, true),
        "all required" => (true, true),
        _ => return None,
    };
    Some(Entry {
        line: number,
        name: name.to_owned(),
        all,
        required,
        reference: reference.to_owned(),
        checks: Vec::new(),
    })
}

impl Pattern {
    fn parse(text: &str) -> Self {
        Self(text.split(" && ").map(Term::parse).collect())
    }

    /// Whether it says that no line fails it.
    pub fn is_negated(&self) -> bool {
        self.0.iter().all(|term| term.negated)
    }
}

impl Term {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let signs = [
            ("=:", Comparison::Equal),
            ("r:", Comparison::Regex),
            ("<:", Comparison::Before),
            (">:", Comparison::After),
        ];
        let found = signs.into_iter().find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?)));
        let (comparison, text) = found.unwrap_or((Comparison::Equal, text));
        Self { negated, comparison, text: text.to_owned() }
    }
}

/// One line of `rootkit_files.txt`: `path ! Name ::link`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootkitFile {
    /// Below the root; of `*/name` the name, wherever it is.
    pub path: String,
    pub anywhere: bool,
    pub name: String,
}

/// One line of `rootkit_trojans.txt`: `program !signature!description`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trojan {
    /// Below `bin`, `sbin`, `usr/bin`, `usr/sbin`, or a whole path.
    pub program: String,
    /// A POSIX extended regular expression, in which case counts.
    pub signature: String,
    pub description: String,
}

/// Reads a `rootkit_files.txt`.
pub fn rootkit_files(text: &str, file: &str) -> (Vec<RootkitFile>, Findings) {
    listed(text, file, "a line is PATH ! NAME", |line| {
        let (path, rest) = line.split_once('!')?;
        let path = path.trim();
        let name = rest.split("::").next()?.trim();
        let (anywhere, path) = match path.strip_prefix('*') {
            Some(rest) => (true, rest.trim_start_matches('/')),
            None => (false, path.trim_start_matches('/')),
        };
        (!path.is_empty() && !name.is_empty()).then(|| RootkitFile {
            path: path.to_owned(),
            anywhere,
            name: name.to_owned(),
        })
    })
}

/// Reads a `rootkit_trojans.txt`.
pub fn trojans(text: &str, file: &str) -> (Vec<Trojan>, Findings) {
    listed(text, file, "a line is PROGRAM !SIGNATURE!DESCRIPTION", |line| {
        let (program, rest) = line.split_once('!')?;
        let (signature, description) = rest.split_once('!')?;
        let program = program.trim();
        (!program.is_empty() && !signature.is_empty()).then(|| Trojan {
            program: program.to_owned(),
            signature: signature.to_owned(),
            description: description.trim().to_owned(),
        })
    })
}

fn listed<T>(text: &str, file: &str, form: &str, read: impl Fn(&str) -> Option<T>) -> (Vec<T>, Findings) {
    let mut notary = Notary::new(file, text);
    let mut list = Vec::new();
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let start = at;
        at += raw.len();
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read(line).filter(|_| line.len() <= LINE_BYTES_MAX && list.len() < ENTRIES_MAX) {
            Some(item) => list.push(item),
            None => notary.error(start, format!("{form}, not \"{}\"", shown(line))),
        }
    }
    (list, notary.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read() {
        let text = "# x\n$php.ini=/etc/php.ini,/var/www/php.ini;\n\n[PHP - Globals [1] are on {PCI: 1}] [any] [http://x]\n\
                    f:$php.ini -> r:^register_globals = On && !r:^#;\nd:/etc,/opt -> r:\\.conf$ -> !=:x;\n\
                    p:r:^telnetd;\nf:!/etc/shadow;\n[B] [all required] []\n";
        let (policy, findings) = Policy::parse(text, "f");
        assert_eq!(findings.0.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        let [first, second] = &policy.entries[..] else { panic!("{policy:?}") };
        assert_eq!(
            (first.name.as_str(), first.all, first.reference.as_str()),
            ("PHP - Globals [1] are on {PCI: 1}", false, "http://x")
        );
        assert_eq!(first.checks[0].targets, ["/etc/php.ini", "/var/www/php.ini"]);
        let pattern = first.checks[0].pattern.as_ref().unwrap();
        assert_eq!(
            (pattern.0[0].comparison, pattern.0[1].negated, pattern.is_negated()),
            (Comparison::Regex, true, false)
        );
        assert_eq!(first.checks[1].within.as_ref().unwrap().text, "\\.conf$");
        assert!(first.checks[1].pattern.as_ref().unwrap().is_negated());
        assert_eq!(first.checks[2].kind, CheckKind::Process);
        assert!(first.checks[3].negated && first.checks[3].pattern.is_none());
        assert!(second.all && second.required && second.checks.is_empty());
    }

    #[test]
    fn faults_have_their_place() {
        let cases = [
            ("f:/a;\n", "f:1:1: a check stands before the first [Name]"),
            ("[A] [some] []\n", "f:1:1: an entry is written as [Name] [any|all|any required|all required] [Reference]"),
            ("[A] [any] []\nx:/a;\n", "f:2:1: unknown check \"x\": it is f, d, p or r"),
            ("[A] [any] []\n  f:$b;\n", "f:2:3: unknown variable \"b\""),
        ];
        for (text, expected) in cases {
            let (_, findings) = Policy::parse(text, "f");
            assert_eq!(findings.0.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected], "{text}");
        }
    }

    #[test]
    fn the_lists_of_rootkits_are_read() {
        let (files, _) = rootkit_files("tmp/mcliZokhb   ! Bash door ::/rootkits/x.php\n*/.tmp ! Any\n", "f");
        assert_eq!(files[0], RootkitFile { path: "tmp/mcliZokhb".into(), anywhere: false, name: "Bash door".into() });
        assert!(files[1].anywhere && files[1].path == ".tmp");
        let (found, findings) = trojans("ls !bash|^/bin/sh|dev/[^clu]!\nx\n", "f");
        assert_eq!((found[0].signature.as_str(), found[0].description.as_str()), ("bash|^/bin/sh|dev/[^clu]", ""));
        assert_eq!(findings.0.len(), 1);
    }

    /// Of every file that OSSEC ships, what is not understood is nothing, or a line that OSSEC itself refuses.
    #[test]
    fn shipped_files_are_read() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/rootcheck");
        let Ok(files) = std::fs::read_dir(dir) else {
            println!("skipped: no conformance data");
            return;
        };
        let (mut checks, mut told) = (0, Vec::new());
        for file in files {
            let path = file.expect("the data is there").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("the data is there")).into_owned();
            let findings = match name.as_str() {
                "rootkit_files.txt" => rootkit_files(&text, &name).1,
                "rootkit_trojans.txt" => trojans(&text, &name).1,
                _ => {
                    let (policy, findings) = Policy::parse(&text, &name);
                    checks += policy.entries.iter().map(|entry| entry.checks.len()).sum::<usize>();
                    findings
                }
            };
            told.extend(findings.0.iter().map(ToString::to_string));
        }
        assert!(checks > 1000, "{checks}");
        assert!(told.len() < 20, "{} {told:#?}", told.len());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[\\[\\]$=;:!>& a-frdp,\\n-]{0,200}") {
            Policy::parse(&text, "f");
            rootkit_files(&text, "f");
            trojans(&text, "f");
        }
    }
}
