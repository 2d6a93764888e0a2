//! Secrets of a text, replaced by marks before anything of it leaves the host.
//!
//! A mark is `[secret 3]`: equal secrets have equal numbers within one change, so that a changed secret shows as changed,
//! and nothing that could be tried out against a guess leaves the host, not even a digest. Every finder looks at the text
//! as it is and names places; places that overlap are masked as one. So no finder can be led astray by what another one
//! took, and a line that is odd enough to confuse one is at worst masked too far.
//!
//! What is masked: private keys (PEM, OpenSSH, PGP, PuTTY, age), values after names such as `password` (`mask/named.rs`),
//! hashes of passwords, tokens of known forms, passwords in URLs (`mask/token.rs`), and card numbers (`mask/card.rs`).
//! A secret without a name and without a form of its own cannot be told from a word: docs/threat-model.md says so.

mod card;
mod key;
mod named;
mod token;

use std::collections::HashMap;
use std::ops::Range;

/// What a mark says was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    PrivateKey,
    /// A further line of one.
    PrivateKeyLine,
    Hash,
    Card,
}

/// Places that are to be masked, as they are found.
#[derive(Debug, Default)]
struct Places(Vec<(Range<usize>, Kind)>);

impl Places {
    fn add(&mut self, range: Range<usize>, kind: Kind) {
        if !range.is_empty() {
            self.0.push((range, kind));
        }
    }
}

/// Numbers the secrets of all texts that it masks.
#[derive(Debug, Default)]
pub struct Masker {
    numbers: HashMap<String, usize>,
}

impl Masker {
    /// `text` with marks in place of secrets. It has as many lines as before.
    pub fn mask(&mut self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for (range, kind) in merged(find(text)) {
            masked.push_str(&text[at..range.start]);
            self.mark(&mut masked, &text[range.clone()], kind);
            at = range.end;
        }
        masked.push_str(&text[at..]);
        masked
    }

    fn mark(&mut self, masked: &mut String, secret: &str, kind: Kind) {
        if kind == Kind::PrivateKeyLine {
            return masked.push_str("[private key]");
        }
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(secret.to_owned()).or_insert(next);
        let mark = match kind {
            Kind::Secret => format!("[secret {number}]"),
            Kind::Hash => format!("[password hash {number}]"),
            Kind::PrivateKey | Kind::PrivateKeyLine => format!("[private key {number}]"),
            Kind::Card => {
                let digits: Vec<char> = secret.chars().filter(char::is_ascii_digit).collect();
                let last: String = digits[digits.len().saturating_sub(4)..].iter().collect();
                format!("[card {number} ending in {last}]")
            }
        };
        masked.push_str(&mark);
    }
}

fn find(text: &str) -> Places {
    let mut places = Places::default();
    key::find(text, &mut places);
    named::find(text, &mut places);
    token::find(text, &mut places);
    card::find(text, &mut places);
    places
}

/// The places in order, those that meet as one. One that holds a card and more is not told by its last digits.
fn merged(places: Places) -> Vec<(Range<usize>, Kind)> {
    let mut places = places.0;
    places.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let mut merged: Vec<(Range<usize>, Kind)> = Vec::with_capacity(places.len());
    for (range, kind) in places {
        match merged.last_mut() {
            Some((last, last_kind)) if range.start < last.end => {
                if range.end > last.end || (*last_kind == Kind::Card && kind != Kind::Card) {
                    *last_kind = Kind::Secret;
                }
                last.end = last.end.max(range.end);
            }
            _ => merged.push((range, kind)),
        }
    }
    merged
}

/// Each line of a text with where it begins, without its end.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.trim_end_matches(['\n', '\r']))
    })
}

#[cfg(test)]
mod tests;
