//! Blocks of PEM text (RFC 7468): how keys and certificates lie in our files.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// RFC 7468 §2: lines of 64 characters.
const LINE: usize = 64;

pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";

pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let base64 = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(LINE) {
        // Base 64 is ASCII, so every chunk of it is text, and writing to a String cannot fail.
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

/// All blocks, in order; `None` if one of them is damaged. The caller bounds `text`.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<Block>> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(text);
    blocks.map(|b| b.ok().map(|b| Block { label: b.label, bytes: b.contents })).collect()
}

/// The bytes of the first block with this label.
pub(crate) fn find(text: &[u8], label: &str) -> Option<Vec<u8>> {
    decode(text)?.into_iter().find(|b| b.label == label).map(|b| b.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_read_back_and_damage_is_told() {
        let text = encode("A KEY", &[1; 100]) + "words between\n" + &encode(CERTIFICATE, b"");
        let blocks = decode(text.as_bytes()).unwrap();
        assert_eq!((blocks.len(), blocks[0].label.as_str(), blocks[0].bytes.len()), (2, "A KEY", 100));
        assert_eq!(find(text.as_bytes(), CERTIFICATE), Some(vec![]));
        assert_eq!(find(text.as_bytes(), PRIVATE_KEY), None);
        assert!(text.lines().all(|l| l.len() <= LINE));
        assert!(decode(&text.as_bytes()[..80]).is_none());
        assert!(decode(b"no block at all").unwrap().is_empty());
    }
}
