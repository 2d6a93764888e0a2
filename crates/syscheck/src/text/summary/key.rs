//! authorized_keys: AUTHORIZED_KEYS FILE FORMAT of sshd(8).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::digest;
use tally_types::PathBytes;

use super::{Masker, Records, records};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key<'t> {
    options: &'t str,
    kind: &'t str,
    comment: &'t str,
}

/// Whose keys a file holds, by the home that it lies in.
pub(super) fn owner(path: &PathBytes) -> Option<String> {
    let home = path.parent()?.parent()?;
    let name = home.file_name();
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

pub(super) fn keys(before: &str, after: &str, owner: Option<&str>, masker: &mut Masker) -> Vec<String> {
    let (old, new) = (parse(before), parse(after));
    let of = owner.map_or_else(|| "this file".to_owned(), |owner| format!("user {owner}"));
    let mut found = Vec::new();
    for ((blob, number), key) in &new {
        match old.get(&(*blob, *number)) {
            None => found.push(format!("a key was added for {of} ({})", described(blob, key, masker))),
            Some(was) if was.options != key.options => {
                let (from, to) = (masked(was.options, masker), masked(key.options, masker));
                let print = fingerprint(blob);
                found.push(format!("the options of the key {print} of {of} went from {from} to {to}"));
            }
            Some(was) if was.comment != key.comment => {
                let (from, to) = (masked(was.comment, masker), masked(key.comment, masker));
                found.push(format!("the comment of the key {} of {of} went from {from} to {to}", fingerprint(blob)));
            }
            Some(_) => {}
        }
    }
    for ((blob, _), key) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        found.push(format!("a key of {of} was removed ({})", described(blob, key, masker)));
    }
    found
}

fn described(blob: &str, key: &Key<'_>, masker: &mut Masker) -> String {
    let mut text = format!("{} {}", key.kind, fingerprint(blob));
    if !key.comment.is_empty() {
        text.push_str(&format!(", {}", masker.mask(key.comment)));
    }
    if !key.options.is_empty() {
        text.push_str(&format!(", options {}", masker.mask(key.options)));
    }
    text
}

fn masked(text: &str, masker: &mut Masker) -> String {
    if text.is_empty() { "none".to_owned() } else { masker.mask(text) }
}

/// As `ssh-keygen -l` shows it.
fn fingerprint(blob: &str) -> String {
    match STANDARD.decode(blob) {
        Ok(bytes) => format!("SHA256:{}", STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, &bytes))),
        Err(_) => "that cannot be read".to_owned(),
    }
}

fn parse(text: &str) -> Records<'_, Key<'_>> {
    records(text.lines().filter_map(|line| parse_line(line.trim())))
}

/// The key's bytes in Base64, and what is said of it.
fn parse_line(line: &str) -> Option<(&str, Key<'_>)> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (options, rest) = if is_kind(word(line).0) { ("", line) } else { after_options(line) };
    let (kind, rest) = word(rest);
    let (blob, comment) = word(rest);
    (is_kind(kind) && !blob.is_empty()).then_some((blob, Key { options, kind, comment }))
}

fn is_kind(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", "webauthn-", "rsa-sha2-"].iter().any(|kind| word.starts_with(kind))
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Options end at a space that is not within quotes.
fn after_options(line: &str) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return (&line[..at], line[at..].trim_start()),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    (line, "")
}
