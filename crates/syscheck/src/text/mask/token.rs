//! Secrets that are known by their form, whatever stands around them.

use std::ops::Range;

use super::super::head;
use super::{Kind, Places, key};

/// What tokens of well-known makers begin with, and how many more characters they have at least.
const PREFIXES: &[(&str, usize)] = &[
    // AWS: identifiers of long-term and temporary keys.
    ("AKIA", 16),
    ("ASIA", 16),
    ("ABIA", 16),
    ("ACCA", 16),
    // GitHub, GitLab.
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 30),
    ("glpat-", 16),
    // Slack, Stripe, OpenAI and others that copied it, Google, npm, PyPI, DigitalOcean, Hugging Face, SendGrid, Vault.
    ("xoxa-", 10),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xapp-", 10),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("sk-", 20),
    ("AIza", 30),
    ("ya29.", 20),
    ("npm_", 30),
    ("pypi-", 30),
    ("dop_v1_", 30),
    ("hf_", 30),
    ("SG.", 30),
    ("hvs.", 20),
];
/// What a hash of a password begins with behind its first `$`, as crypt(5) and others write it.
const CRYPT: &[&str] = &[
    "1",
    "2",
    "2a",
    "2b",
    "2x",
    "2y",
    "3",
    "5",
    "6",
    "7",
    "8",
    "y",
    "gy",
    "md5",
    "sha1",
    "apr1",
    "P",
    "H",
    "S",
    "scrypt",
    "argon2i",
    "argon2d",
    "argon2id",
    "pbkdf2",
    "pbkdf2-sha256",
    "pbkdf2-sha512",
    "bcrypt",
    "bcrypt-sha256",
];
/// Schemes of RFC 2307 and of Dovecot, in braces.
const SCHEMES: &[&str] =
    &["crypt", "sha", "ssha", "md5", "smd5", "sha256", "ssha256", "sha512", "ssha512", "pbkdf2", "plain"];

pub(super) fn find(text: &str, places: &mut Places) {
    prefixed(text, places);
    web_tokens(text, places);
    hashes(text, places);
    urls(text, places);
    after_word(text, places);
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn prefixed(text: &str, places: &mut Places) {
    for run in key::runs(text, |b| is_token(b) || b == b'.') {
        let token = &text[run.clone()];
        for (prefix, more) in PREFIXES {
            for (at, _) in token.match_indices(prefix) {
                let rest = token.len() - at - prefix.len();
                if rest >= *more {
                    places.add(run.start + at..run.end, Kind::Secret);
                    break;
                }
            }
        }
    }
}

/// JSON web tokens: three parts of Base64, of which the first is an object (`eyJ`).
fn web_tokens(text: &str, places: &mut Places) {
    for run in key::runs(text, |b| is_token(b) || b == b'.' || b == b'=') {
        let word = &text[run.clone()];
        let Some(at) = word.find("eyJ") else { continue };
        let mut parts = word[at..].split('.');
        if parts.next().is_some_and(|head| head.len() >= 12) && parts.next().is_some_and(|body| body.len() >= 4) {
            places.add(run.start + at..run.end, Kind::Secret);
        }
    }
}

fn hashes(text: &str, places: &mut Places) {
    let is_hash =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b':' | b'"' | b'\'' | b'`' | b';' | b'<' | b'>' | b'|' | b'&');
    for run in key::runs(text, is_hash) {
        let word = &text[run.clone()];
        if let Some(at) = word.match_indices('$').map(|(at, _)| at).find(|at| is_crypt(&word[*at..])) {
            // `pbkdf2_sha256$…` of Django begins before its first `$`.
            let start = if word[..at].starts_with("pbkdf2") { 0 } else { at };
            places.add(run.start + start..run.end, Kind::Hash);
        } else if word.starts_with("pbkdf2_") || word.starts_with("scrypt$") || word.starts_with("bcrypt_") {
            places.add(run.clone(), Kind::Hash);
        }
        if let Some((open, close)) = word.find('{').zip(word.find('}')) {
            let scheme = word.get(open + 1..close).unwrap_or_default();
            let scheme = scheme.split('.').next().unwrap_or_default();
            if SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
                places.add(run.start + close + 1..run.end, Kind::Hash);
            }
        }
    }
}

/// `$id$salt$hash`.
fn is_crypt(word: &str) -> bool {
    let mut parts = word[1..].split('$');
    let id = parts.next().unwrap_or_default();
    CRYPT.contains(&id) && parts.next().is_some_and(|part| !part.is_empty()) && word.len() > 12
}

/// How far behind its scheme the user of a URL is looked for.
const URL_BYTES_MAX: usize = 512;

/// `scheme://user:password@host`.
fn urls(text: &str, places: &mut Places) {
    for (at, _) in text.match_indices("://") {
        let from = at + 3;
        let is_part = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '`' | '<' | '>');
        let near = head(&text[from..], URL_BYTES_MAX);
        let rest = &near[..near.find(|c| !is_part(c)).unwrap_or(near.len())];
        let Some(end) = rest.rfind('@') else { continue };
        let user = &rest[..end];
        match user.split_once(':') {
            // `host:80/path@x` has a port there.
            Some((_, secret)) if is_port(secret) => {}
            Some((name, _)) => places.add(from + name.len() + 1..from + end, Kind::Secret),
            None if user.len() >= 20 && !user.contains('/') => places.add(from..from + end, Kind::Secret),
            None => {}
        }
    }
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=5).contains(&digits) && text.as_bytes().get(digits) == Some(&b'/')
}

/// `Bearer …`, and `-u user:…` of curl and its like.
fn after_word(text: &str, places: &mut Places) {
    let lower = text.to_ascii_lowercase();
    let mut done = 0;
    for (at, word) in lower.match_indices("bearer") {
        if at < done {
            continue;
        }
        let value = skip(text, at + word.len());
        if value.len() >= 8 && value.start > at + word.len() {
            done = value.end;
            places.add(value, Kind::Secret);
        }
    }
    for flag in [" -u", " --user", " --proxy-user", " -U"] {
        let mut done = 0;
        for (at, _) in text.match_indices(flag) {
            if at < done {
                continue;
            }
            let value = skip(text, at + flag.len());
            done = value.end;
            if let Some(colon) = text[value.clone()].find(':') {
                places.add(value.start + colon + 1..value.end, Kind::Secret);
            }
        }
    }
}

/// The word that follows `from`, behind spaces, `=`, `:` and an opening quote.
fn skip(text: &str, from: usize) -> Range<usize> {
    let rest = &text[from..];
    let start = from + rest.len() - rest.trim_start_matches([' ', '\t', '=', ':', '"', '\'']).len();
    let len = text[start..].find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(text.len() - start);
    start..start + len
}
