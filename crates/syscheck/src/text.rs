//! What became of a text: a unified diff, and sentences that say what the change means, both without secrets.
//!
//! The agent keeps the text of some files, so that of a change it can say more than that there was one. All that leaves this
//! module is masked (`mask`): there is no other way from a kept text to an event. Sentences and diffs hold words from the file,
//! so whoever prints them escapes them.

mod diff;
mod mask;
mod summary;

use std::sync::Arc;

use tally_types::{Change, Diff, PathBytes};

pub use mask::Masker;
pub use summary::Form;

/// A longer content is not kept, and has no diff.
pub const BYTES_MAX: usize = 256 * 1024;
/// A sentence is cut at so many bytes.
const SENTENCE_BYTES_MAX: usize = 512;

/// What is known of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'t> {
    /// There is no such file.
    Absent,
    /// In the form of `kept`.
    Text(&'t [u8]),
    /// It is there, but what it holds is not known; the reason in words.
    Unknown(&'t str),
}

/// What is told of a change of content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub diff: Option<Diff>,
    pub summary: Vec<Arc<str>>,
}

/// How a content is kept; `None` if it is not: it would never be shown.
pub fn kept(path: &PathBytes, content: &[u8]) -> Option<Vec<u8>> {
    match Form::of(path) {
        Some(form) => Some(form.kept(content)),
        None if is_private(path) || decode(content).is_none() => None,
        None => Some(content.to_vec()),
    }
}

/// Whether a content of this name is read for what it means, whatever the policy says of diffs.
pub fn has_form(path: &PathBytes) -> bool {
    Form::of(path).is_some()
}

/// What became of the content of `path`. `wants_diff` is the policy's word; files that hold secrets never have a diff.
pub fn tell(path: &PathBytes, before: Content<'_>, after: Content<'_>, wants_diff: bool) -> Told {
    let form = Form::of(path);
    let mut masker = Masker::default();
    let summary = match (form, before, after) {
        (Some(form), Content::Absent | Content::Text(_), Content::Absent | Content::Text(_)) => {
            let text = |content| match content {
                Content::Text(bytes) => decode(bytes).map_or_else(String::new, |text| text.text),
                _ => String::new(),
            };
            sentences(form.summary(path, &text(before), &text(after), &mut masker))
        }
        _ => Vec::new(),
    };
    let is_shown = wants_diff && !is_private(path) && !form.is_some_and(Form::is_secret);
    Told { diff: is_shown.then(|| diff(before, after, &mut masker)), summary }
}

fn diff(before: Content<'_>, after: Content<'_>, masker: &mut Masker) -> Diff {
    let none = |note: &str| Diff { text: "".into(), note: Some(note.into()) };
    let decoded = |content| match content {
        Content::Absent => Ok(Decoded::default()),
        Content::Text(bytes) => decode(bytes).ok_or("binary"),
        Content::Unknown(why) => Err(why),
    };
    match (decoded(before), decoded(after)) {
        (Ok(before), Ok(after)) => {
            let unified = diff::unified(&masker.mask(&before.text), &masker.mask(&after.text), Diff::BYTES_MAX);
            let mut notes = Vec::new();
            if unified.hunks_cut > 0 {
                notes.push(format!("longer than 64 KiB: {} of its parts are left out or cut", unified.hunks_cut));
            }
            if before.is_latin || after.is_latin {
                notes.push("not UTF-8: read as ISO 8859-1".to_owned());
            }
            let note = (!notes.is_empty()).then(|| notes.join("; ").into());
            Diff { text: unified.text.into(), note }
        }
        (Err(why), Err(_)) => none(why),
        (Err(why), Ok(_)) => none(&format!("before: {why}")),
        (Ok(_), Err(why)) => none(&format!("now: {why}")),
    }
}

#[derive(Debug, Default)]
struct Decoded {
    text: String,
    is_latin: bool,
}

/// The text of bytes; `None` of what is none. What is not UTF-8 is taken as ISO 8859-1 if it has no control characters.
fn decode(bytes: &[u8]) -> Option<Decoded> {
    if bytes.contains(&0) {
        return None;
    }
    if let Ok(text) = str::from_utf8(bytes) {
        return Some(Decoded { text: text.to_owned(), is_latin: false });
    }
    let is_control = |b: &u8| matches!(b, 0..=8 | 14..=26 | 28..=31 | 127..=159);
    let is_text = !bytes.iter().any(is_control);
    is_text.then(|| Decoded { text: bytes.iter().map(|b| char::from(*b)).collect(), is_latin: true })
}

/// Whether a file holds secrets by its name: its content is never kept nor shown.
fn is_private(path: &PathBytes) -> bool {
    const NAMES: &[&[u8]] = &[
        b"shadow",
        b"shadow-",
        b"gshadow",
        b"gshadow-",
        b"opasswd",
        b".netrc",
        b".pgpass",
        b".git-credentials",
        b".htpasswd",
        b"chap-secrets",
        b"pap-secrets",
        b"krb5.keytab",
        b"sasldb2",
        b"id_rsa",
        b"id_dsa",
        b"id_ecdsa",
        b"id_ed25519",
        b"id_ecdsa_sk",
        b"id_ed25519_sk",
        b"identity",
        b".my.cnf",
        b".vault-token",
        b"token",
        b"credentials",
        b"user-data.txt",
        b"vendor-data.txt",
    ];
    const ENDS: &[&[u8]] = &[
        b".key",
        b".pem",
        b".p12",
        b".pfx",
        b".jks",
        b".keystore",
        b".ppk",
        b".kdbx",
        b".keytab",
        b".gpg",
        b"_key",
        b".secret",
        b".nmconnection",
        b".psk",
    ];
    let name = path.file_name();
    let within = |part: &[u8]| path.as_bytes().windows(part.len()).any(|window| window == part);
    NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end)) || within(b"/private/") || within(b"/identity/")
}

/// Not more and not longer than a change holds; the last one counts those that are left out.
fn sentences(mut found: Vec<String>) -> Vec<Arc<str>> {
    let more = (found.len() + 1).saturating_sub(Change::SENTENCES_MAX);
    if found.len() > Change::SENTENCES_MAX {
        found.truncate(Change::SENTENCES_MAX - 1);
        found.push(format!("and {more} more"));
    }
    found.into_iter().map(|sentence| cut(&sentence).into()).collect()
}

fn cut(sentence: &str) -> String {
    if sentence.len() <= SENTENCE_BYTES_MAX {
        return sentence.to_owned();
    }
    format!("{}…", head(sentence, SENTENCE_BYTES_MAX - '…'.len_utf8()))
}

/// At most the first `bytes` of a text, in whole characters.
fn head(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// At most the last `bytes` of a text, in whole characters.
fn tail(text: &str, bytes: usize) -> &str {
    let start = (text.len().saturating_sub(bytes)..text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathBytes {
        PathBytes::new(text.as_bytes()).unwrap()
    }

    fn told(at: &str, before: &str, after: &str) -> Told {
        tell(&path(at), Content::Text(before.as_bytes()), Content::Text(after.as_bytes()), true)
    }

    #[test]
    fn a_diff_has_no_secret_and_shows_that_one_changed() {
        let diff = told("/etc/app.ini", "user = a\npassword = one\n", "user = b\npassword = two\n").diff.unwrap();
        assert_eq!(
            &*diff.text,
            "@@ -1,2 +1,2 @@\n-user = a\n-password = [secret 1]\n+user = b\n+password = [secret 2]\n"
        );
        assert_eq!(diff.note, None);
    }

    #[test]
    fn what_cannot_be_shown_says_so() {
        let note = |before, after| tell(&path("/etc/x"), before, after, true).diff.unwrap().note.unwrap().to_string();
        assert_eq!(note(Content::Text(b"a\0"), Content::Text(b"b")), "before: binary");
        assert_eq!(note(Content::Text(b"\x01\xff"), Content::Text(b"\x02\xff")), "binary");
        assert_eq!(note(Content::Unknown("not kept"), Content::Absent), "before: not kept");
        assert_eq!(note(Content::Text(b"caf\xe9\n"), Content::Absent), "not UTF-8: read as ISO 8859-1");
        let long = |byte: &str| format!("{byte}\n").repeat(60_000);
        let diff = told("/etc/x", &long("a"), &long("b")).diff.unwrap();
        assert!(diff.text.len() <= Diff::BYTES_MAX && diff.note.unwrap().starts_with("longer than 64 KiB"));
    }

    #[test]
    fn files_of_secrets_have_no_diff_and_are_not_kept() {
        for at in
            ["/etc/ssh/ssh_host_rsa_key", "/etc/ssl/private/a", "/root/.netrc", "/root/.ssh/id_ed25519", "/x/tls.key"]
        {
            assert_eq!((told(at, "a", "b").diff, kept(&path(at), b"a")), (None, None), "{at}");
        }
        let shadow = kept(&path("/etc/shadow"), b"root:$6$salt$hash:1::::::\n").unwrap();
        assert!(!String::from_utf8(shadow).unwrap().contains("hash"));
        assert_eq!(told("/etc/shadow", "a:x:1", "a:y:1").diff, None);
    }

    #[test]
    fn sentences_are_few_and_short() {
        let many: Vec<_> = (0..40).map(|n| format!("{n} {}", "é".repeat(400))).collect();
        let kept = sentences(many);
        assert_eq!((kept.len(), &*kept[15]), (Change::SENTENCES_MAX, "and 25 more"));
        assert!(kept[0].len() <= SENTENCE_BYTES_MAX && kept[0].ends_with('…'));
    }
}
