//! Private keys in armour.
//!
//! Sources: RFC 7468 (PEM), RFC 9580 section 6 (PGP), PuTTY's appendix C (PPK files), age's README (identities).

use super::{Kind, Places, lines};

/// Lines after the beginning of a key at which its end is no longer awaited. A key of 16,384 bits has 200.
const KEY_LINES_MAX: usize = 400;
/// A run of so many characters of Base64 is key material, whatever stands around it.
const RUN_MIN: usize = 16;

/// Between its lines BEGIN and END everything that looks like a key is masked; what does not stays, so that nobody hides
/// other lines of a file behind the beginning of a key.
pub(super) fn find(text: &str, places: &mut Places) {
    let mut inside: Option<usize> = None;
    let mut is_first = true;
    for (start, line) in lines(text) {
        let mut from = 0;
        if let Some(left) = inside {
            let end = line.find("-----END ");
            let body = end.unwrap_or(line.len());
            mask_body(start, &line[..body], &mut is_first, places);
            from = body;
            inside = if end.is_some() { None } else { left.checked_sub(1) };
        }
        while let Some(body) = begins(line, from) {
            let end = line[body..].find("-----END ").map(|at| body + at);
            // All of a key in one line, as JSON has it.
            places.add(start + body..start + end.unwrap_or(line.len()), Kind::PrivateKey);
            is_first = body == line.len();
            match end {
                Some(end) => from = end,
                None => {
                    inside = Some(KEY_LINES_MAX);
                    break;
                }
            }
        }
        if inside.is_none() {
            inside = putty(start, line, places).inspect(|_| is_first = true);
        }
    }
    prefixed(text, places);
}

/// Where the body of a key begins in `line`, behind `from`.
fn begins(line: &str, mut from: usize) -> Option<usize> {
    while let Some(at) = line[from..].find("-----BEGIN ") {
        let label = from + at + "-----BEGIN ".len();
        let end = line[label..].find("-----").map(|at| label + at);
        let label_text = &line[label..end.unwrap_or(line.len())];
        if label_text.contains("PRIVATE KEY") {
            return Some(end.map_or(line.len(), |end| end + 5));
        }
        from = label;
    }
    None
}

fn mask_body(start: usize, line: &str, is_first: &mut bool, places: &mut Places) {
    let trimmed = line.trim_matches(|c: char| c.is_whitespace() || "\"'`#*>|,;\\+/".contains(c));
    if trimmed.is_empty() {
        return;
    }
    let kind = if *is_first { Kind::PrivateKey } else { Kind::PrivateKeyLine };
    let is_header = ["Proc-Type:", "DEK-Info:", "Comment:", "Version:", "Hash:", "Charset:"]
        .iter()
        .any(|header| trimmed.starts_with(header));
    if !is_header && trimmed.bytes().all(|b| is_base64(b) || b == b'\\') {
        let at = start + line.find(trimmed).unwrap_or(0);
        // What was trimmed may be of the key too: `/` and `+` are signs of Base64.
        let lead = line[..at - start].bytes().rev().take_while(|b| is_base64(*b)).count();
        let trail = line[at - start + trimmed.len()..].bytes().take_while(|b| is_base64(*b)).count();
        places.add(at - lead..at + trimmed.len() + trail, kind);
        *is_first = false;
        return;
    }
    for run in runs(line, is_base64) {
        if run.len() >= RUN_MIN {
            places.add(start + run.start..start + run.end, kind);
            *is_first = false;
        }
    }
}

/// Of a PuTTY file: the private lines that follow, or the code that is computed with the passphrase.
fn putty(start: usize, line: &str, places: &mut Places) -> Option<usize> {
    if let Some(mac) = line.strip_prefix("Private-MAC:") {
        places.add(start + line.len() - mac.trim_start().len()..start + line.len(), Kind::Secret);
    }
    let count = line.strip_prefix("Private-Lines:")?.trim().parse::<usize>().ok()?;
    count.min(KEY_LINES_MAX).checked_sub(1)
}

/// Keys that have a word before them and no armour.
fn prefixed(text: &str, places: &mut Places) {
    for word in ["AGE-SECRET-KEY-", "age-secret-key-", "AGE-PLUGIN-"] {
        for (at, _) in text.match_indices(word) {
            let rest = &text[at + word.len()..];
            let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-').count();
            places.add(at + word.len()..at + word.len() + len, Kind::PrivateKey);
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
}

/// The longest runs of bytes that `is` lets through.
pub(super) fn runs(text: &str, is: impl Fn(u8) -> bool + Copy) -> impl Iterator<Item = std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|b| is(*b))?;
        let end = bytes[start..].iter().position(|b| !is(*b)).map_or(bytes.len(), |len| start + len);
        at = end;
        Some(start..end)
    })
}
