//! Values that a name gives away: `password = …`, `"api_key": "…"`, `<secret>…</secret>`, `--token …`, `password …` of netrc,
//! `define('DB_PASSWORD', '…')`, and what is indented below `password:`.
//!
//! Each word of a line is looked at for itself, whatever the words before it took, and a value without quotes goes to the end
//! of its line: rather too much is masked than too little. Words that only look like such names (`PasswordAuthentication`,
//! `NOPASSWD:`, `proxy_pass`, the lines of PAM and nsswitch) are told apart by lists, which are short on purpose.

use super::super::{head, tail};
use super::{Kind, Places, key, lines};

/// How far the end of a quoted value is looked for; beyond, the value goes to the end of the line.
const QUOTED_BYTES_MAX: usize = 1024;
/// Lines between a `name:` and the `value:` that belongs to it.
const VALUE_LINES: u32 = 3;

/// Of a name, without its `_`, `-` and `.` and in lower case: anywhere in it.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "kennwort",
    "motdepasse",
    "contrasena",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "sharedkey",
    "accountkey",
    "storagekey",
    "presharedkey",
    "credential",
    "authorization",
    "connectionstring",
    "requirepass",
    "masterauth",
];
/// At its end.
const SECRET_ENDS: &[&str] = &["pass", "pwd", "psk", "salt", "noncekey", "loggedinkey"];
/// The whole of it.
const SECRET_NAMES: &[&str] = &["auth", "pin", "pw", "community", "rocommunity", "rwcommunity"];
/// Anywhere in it: a value that looks drawn at random is a secret.
const RANDOM: &[&str] =
    &["key", "auth", "cookie", "session", "signature", "seed", "hash", "webhook", "dsn", "salt", "cred"];
/// Names that look like the above and are not.
const PLAIN_NAMES: &[&str] = &[
    "nopasswd",
    "bypass",
    "compass",
    "proxypass",
    "fastcgipass",
    "uwsgipass",
    "scgipass",
    "grpcpass",
    "memcachedpass",
    "authorizedkeysfile",
    "servertokens",
];
const PLAIN_ENDS: &[&str] = &[
    "authentication",
    "policy",
    "length",
    "minlen",
    "maxlen",
    "days",
    "expiry",
    "expires",
    "expiration",
    "ttl",
    "timeout",
    "lifetime",
    "tries",
    "attempts",
    "retries",
    "type",
    "algorithm",
    "algorithms",
    "required",
    "enabled",
    "allowed",
    "prompt",
    "message",
];
/// Ends of names whose value is a place of a secret.
const PLACE_ENDS: &[&str] = &["file", "path", "dir", "filename", "location", "command"];
/// Values that are no secrets, whatever their name.
const PLAIN_VALUES: &[&str] = &[
    "yes", "no", "true", "false", "on", "off", "null", "none", "nil", "~", "enabled", "disabled", "required",
    "optional",
];
/// Names that a value may follow without a sign between them.
const BEFORE_SPACE: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "pwd",
    "secret",
    "token",
    "psk",
    "passphrase",
    "requirepass",
    "masterauth",
    "apikey",
    "community",
    "rocommunity",
    "rwcommunity",
    "authtoken",
];
/// What a line of PAM has behind its type.
const PAM_CONTROLS: &[&str] = &["required", "requisite", "sufficient", "optional", "include", "substack"];
/// Where nsswitch looks.
const NSS_SOURCES: &[&str] = &[
    "files",
    "compat",
    "systemd",
    "sss",
    "ldap",
    "nis",
    "nisplus",
    "db",
    "dns",
    "winbind",
    "cache",
    "extrausers",
    "altfiles",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Secret,
    Random,
}

/// Lines that belong to a name above them.
#[derive(Clone, Copy, Debug)]
enum Below {
    /// All that are indented deeper than this.
    Indented(usize),
    /// The next one.
    Continued,
}

#[derive(Clone, Copy)]
struct Word<'t> {
    line: &'t str,
    start: usize,
    end: usize,
}

impl<'t> Word<'t> {
    fn text(self) -> &'t str {
        &self.line[self.start..self.end]
    }

    fn before(self) -> &'t str {
        &self.line[..self.start]
    }

    fn after(self) -> &'t str {
        &self.line[self.end..]
    }
}

/// What follows a name.
enum Value {
    None,
    /// Nothing yet: it stands below.
    Below(Below),
    /// From here on in the line.
    At {
        from: usize,
        in_element: bool,
    },
}

pub(super) fn find(text: &str, places: &mut Places) {
    let mut below: Option<Below> = None;
    let mut value_in: u32 = 0;
    for (start, line) in lines(text) {
        let indent = line.len() - line.trim_start().len();
        let add = |range: std::ops::Range<usize>, places: &mut Places| {
            places.add(start + range.start..start + range.end, Kind::Secret);
        };
        if let Some(under) = below.filter(|_| !line.trim().is_empty()) {
            let is_item = |deeper: usize| indent == deeper && line.trim_start().starts_with("- ");
            let belongs = match under {
                Below::Indented(deeper) => indent > deeper || is_item(deeper),
                Below::Continued => true,
            };
            if belongs {
                add(indented(line), places);
            }
            if !belongs || matches!(under, Below::Continued) {
                below = None;
            }
        }
        value_in = value_in.saturating_sub(1);
        for word in words(line) {
            let name = normal(word.text());
            if value_in > 0 && matches!(name.as_str(), "value" | "val" | "default" | "defaultvalue") {
                if let Value::At { from, in_element } = value_of(word, &name) {
                    add(extent(line, from, in_element), places);
                }
                continue;
            }
            let Some(kind) = classify(&name) else { continue };
            match value_of(word, &name) {
                Value::At { from, in_element } => {
                    let range = extent(line, from, in_element);
                    if !is_plain(&line[range.clone()], word, &name, kind) {
                        add(range, places);
                    }
                }
                Value::Below(under) if kind == Name::Secret => below = Some(under),
                Value::None if kind == Name::Secret && is_named(word) => {
                    let rest = word.after();
                    if rest.bytes().any(|b| b.is_ascii_alphanumeric()) {
                        add(word.end..line.len(), places);
                    } else {
                        value_in = VALUE_LINES + 1;
                    }
                }
                Value::Below(_) | Value::None => {}
            }
        }
        identified_by(line, |range| add(range, places));
    }
}

fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    let is = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    key::runs(line, is).map(move |run| Word { line, start: run.start, end: run.end })
}

/// Without what joins its parts, and in lower case; the end of it, if it is long: a name is at the end.
fn normal(word: &str) -> String {
    let kept = &word[word.len().saturating_sub(256)..];
    kept.chars().filter(|c| !matches!(c, '_' | '-' | '.')).map(|c| c.to_ascii_lowercase()).collect()
}

fn classify(name: &str) -> Option<Name> {
    if name.len() < 2 || PLAIN_NAMES.contains(&name) || PLAIN_ENDS.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    let is_secret = SECRET_NAMES.contains(&name)
        || SECRET.iter().any(|part| name.contains(part))
        || SECRET_ENDS.iter().any(|end| name.ends_with(end));
    if is_secret {
        return Some(Name::Secret);
    }
    RANDOM.iter().any(|part| name.contains(part)).then_some(Name::Random)
}

/// Where the value of a name is.
fn value_of(word: Word<'_>, name: &str) -> Value {
    let line = word.line;
    let rest = word.after();
    let closed = rest.trim_start_matches(['"', '\'', '`', ']', '\\']);
    let is_quoted = closed.len() < rest.len();
    let spaced = closed.trim_start_matches([' ', '\t']);
    let at = |rest: &str| line.len() - rest.len();
    let signs = ["=>", ":=", "?=", "+=", "==", "||=", "=", ":"];
    if let Some(value) = signs.iter().find_map(|sign| spaced.strip_prefix(sign)) {
        return opened(word, at(value.trim_start()), false);
    }
    let near = tail(word.before(), 32);
    let is_element = near.ends_with('<') || near.rsplit_once('<').is_some_and(|(_, ns)| is_namespace(ns));
    if is_element && let Some(end) = rest.bytes().take(QUOTED_BYTES_MAX).position(|b| b == b'>') {
        return opened(word, word.end + end + 1, true);
    }
    let is_string = |rest: &str| rest.trim_start().starts_with(['"', '\'', '`']);
    if let Some(value) = spaced.strip_prefix(',').filter(|value| is_quoted && is_string(value)) {
        return opened(word, at(value.trim_start()), false);
    }
    if let Some(value) = spaced.strip_prefix('(').filter(|value| is_string(value)) {
        return opened(word, at(value.trim_start()), false);
    }
    let is_spaced = spaced.len() < closed.len() && !is_quoted && !spaced.is_empty();
    if is_spaced && (is_string(spaced) || takes_space(word, name)) {
        return opened(word, at(spaced), false);
    }
    Value::None
}

fn is_namespace(text: &str) -> bool {
    text.strip_suffix(':').is_some_and(|ns| !ns.is_empty() && ns.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether a value begins at `from`, or below the line.
fn opened(word: Word<'_>, from: usize, in_element: bool) -> Value {
    let line = word.line;
    let indent = line.len() - line.trim_start().len();
    match line[from..].trim() {
        "\\" => Value::Below(Below::Continued),
        "" | "|" | ">" | "|-" | ">-" | "|+" | ">+" | "[" | "{" | "(" => Value::Below(Below::Indented(indent)),
        tag if tag.starts_with('!') && tag.ends_with(['|', '>']) => Value::Below(Below::Indented(indent)),
        _ => Value::At { from, in_element },
    }
}

/// Whether a name has its value after mere space: an option of a command, the first word of a line, or as netrc has it.
fn takes_space(word: Word<'_>, name: &str) -> bool {
    if word.text().starts_with('-') {
        return true;
    }
    if !BEFORE_SPACE.contains(&name) {
        return false;
    }
    let before = tail(word.before(), 256).trim();
    let mut following = word.after().split_whitespace();
    if before.is_empty() {
        let control = following.next().unwrap_or_default();
        return !(name == "password" && (control.starts_with('[') || PAM_CONTROLS.contains(&control)));
    }
    if before.trim_matches(['#', ';', '/', ' ', '-']).is_empty() {
        return following.next().is_some() && following.next().is_none();
    }
    let logins = ["login", "machine", "user", "username", "account", "default", "set", "export", "enable", "with"];
    before.split_whitespace().any(|part| logins.contains(&part.to_ascii_lowercase().as_str()))
}

/// Whether a word is the value of a `name`: then what it names has its value elsewhere.
fn is_named(word: Word<'_>) -> bool {
    let before = word.before().trim_end_matches(['"', '\'', ' ', '\t']);
    let Some(before) = before.strip_suffix(['=', ':']) else { return false };
    let before = before.trim_end_matches(['"', '\'', ' ', '\t']);
    let start = before.rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
    matches!(
        before.get(start..).unwrap_or_default().to_ascii_lowercase().as_str(),
        "name" | "key" | "id" | "property" | "variable" | "parameter" | "option"
    )
}

/// How far the value goes that begins at `from`.
fn extent(line: &str, from: usize, in_element: bool) -> std::ops::Range<usize> {
    let bytes = line.as_bytes();
    if in_element {
        return from..line[from..].find('<').map_or(line.len(), |at| from + at);
    }
    let Some(quote @ (b'"' | b'\'' | b'`')) = bytes.get(from).copied() else { return from..line.trim_end().len() };
    let mut at = from + 1;
    while at < bytes.len() && at - from < QUOTED_BYTES_MAX {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) && at > from + 1 => at += 1,
            byte if byte == quote => {
                let ends = bytes.get(at + 1).is_none_or(|next| b" \t,;)]}>&|#/\\?\r".contains(next));
                return if ends { from + 1..at } else { from..line.len() };
            }
            _ => {}
        }
        at += 1;
    }
    from..line.len()
}

/// What is masked of a line that belongs to a name above it: its value, or all of it.
fn indented(line: &str) -> std::ops::Range<usize> {
    let from = line.len() - line.trim_start().trim_start_matches("- ").len();
    let separator =
        [": ", "=", "\":"].iter().filter_map(|sign| line[from..].find(sign).map(|at| from + at + sign.len())).min();
    let value = separator.map_or(from, |at| line.len() - line[at..].trim_start().len());
    let range = extent(line, value.min(line.len()), false);
    let content = line[range.clone()].trim_matches(['"', '\'', ',', ' ']);
    let is_punctuation = !content.bytes().any(|b| b.is_ascii_alphanumeric() || !b.is_ascii() || b == b'$');
    if is_punctuation || PLAIN_VALUES.contains(&content.to_ascii_lowercase().as_str()) { 0..0 } else { range }
}

/// Whether a value is no secret after all.
fn is_plain(value: &str, word: Word<'_>, name: &str, kind: Name) -> bool {
    let value = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';'));
    if value.is_empty() || PLAIN_VALUES.iter().any(|plain| value.eq_ignore_ascii_case(plain)) {
        return true;
    }
    if PLACE_ENDS.iter().any(|end| name.ends_with(end)) && value.starts_with(['/', '~', '.']) {
        return true;
    }
    if matches!(name, "passwd" | "shadow" | "gshadow") {
        let is_nss = value.split_whitespace().all(|part| part.starts_with('[') || NSS_SOURCES.contains(&part));
        let is_sudo = word.text() == "PASSWD" && (value.starts_with("ALL") || value.starts_with('/'));
        // A message about the file.
        if is_nss || is_sudo || word.before().ends_with("/etc/") {
            return true;
        }
    }
    match kind {
        // `max_tokens = 5`.
        Name::Secret => name.contains("token") && value.len() < 7 && value.bytes().all(|b| b.is_ascii_digit()),
        Name::Random => !looks_random(value),
    }
}

/// A long piece with letters and digits that is no path and no public key.
fn looks_random(value: &str) -> bool {
    let is = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b';' | b'"' | b'\'');
    let value = head(value, QUOTED_BYTES_MAX);
    key::runs(value, is).any(|run| {
        let piece = &value.as_bytes()[run];
        let mixed = piece.iter().any(u8::is_ascii_digit) && piece.iter().any(u8::is_ascii_alphabetic);
        piece.len() >= 20 && mixed && !matches!(piece[0], b'/' | b'.' | b'~') && !piece.starts_with(b"AAAA")
    })
}

/// SQL: `IDENTIFIED BY 'secret'`, `IDENTIFIED WITH plugin BY 'secret'`.
fn identified_by(line: &str, mut add: impl FnMut(std::ops::Range<usize>)) {
    let lower = line.to_ascii_lowercase();
    let Some(at) = lower.find("identified ") else { return };
    let mut from = at;
    while let Some(by) = lower[from..].find(" by ").or_else(|| lower[from..].find(" as ")) {
        let value = from + by + 4;
        add(extent(line, line.len() - line[value..].trim_start().len(), false));
        from = value;
    }
}
