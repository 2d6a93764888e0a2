//! A signed note: text, an empty line, and lines of signatures, each with the name of its key (C2SP signed-note).
//!
//! Keys are Ed25519 and have the text forms of Go's `golang.org/x/mod/sumdb/note`: `NAME+ID+KEY` to verify,
//! `PRIVATE+KEY+NAME+ID+KEY` to sign. Signatures by keys that nobody asks for are kept and not looked at, so that
//! witnesses can add theirs.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// The most bytes of a note: a checkpoint has under 300, each further witness adds about 120.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// The most signatures of a note, as in Go's implementation.
const SIGNATURES_MAX: usize = 100;
const KEY_NAME_BYTES_MAX: usize = 256;
const KEY_ID_LEN: usize = 4;
/// The number of Ed25519 among the kinds of signature.
const ED25519_KIND: u8 = 1;
const SEED_LEN: usize = 32;
const PUBLIC_KEY_LEN: usize = 32;
/// What a line of a signature begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
const PRIVATE: &str = "PRIVATE+KEY+";

type KeyId = [u8; KEY_ID_LEN];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoteError {
    #[error("the note has more than {NOTE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the note is not UTF-8 text without control characters")]
    NotText,
    #[error("the note has no empty line before its signatures")]
    NoSignatures,
    #[error("the note's text does not end with a new line, or is empty")]
    Unfinished,
    #[error("signature line {0} of the note is malformed")]
    Signature(usize),
    #[error("the note is not signed by \"{0}\"")]
    NotSigned(String),
    #[error("the note's signature by \"{0}\" is wrong: text or signature was altered")]
    WrongSignature(String),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("a key's name is 1 to {KEY_NAME_BYTES_MAX} bytes of text without spaces and without \"+\"")]
    Name,
    #[error("the key does not have the form NAME+ID+KEY with an Ed25519 key in base64")]
    Form,
    #[error("the key's id does not belong to it: a part of it was altered")]
    Id,
}

/// A line of a signature: whose, and the bytes, which only that key understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub key_id: KeyId,
    pub bytes: Vec<u8>,
}

/// A note as it was read: nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::NotText)?;
        if !is_text(note) {
            return Err(NoteError::NotText);
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let signatures = lines
            .split('\n')
            .enumerate()
            .map(|(at, line)| {
                let read = if at < SIGNATURES_MAX { Signature::parse(line) } else { None };
                read.ok_or(NoteError::Signature(at + 1))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// Signs `text`, which must end with a new line.
    pub fn sign(text: &str, signers: &[&Signer]) -> Result<Self, NoteError> {
        if !is_text(text) {
            return Err(NoteError::NotText);
        }
        if !text.ends_with('\n') {
            return Err(NoteError::Unfinished);
        }
        let signatures = signers.iter().map(|signer| signer.sign(text)).collect();
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// What is signed, with its last new line.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

/// No control characters but the new line.
fn is_text(text: &str) -> bool {
    text.bytes().all(|b| b >= b' ' || b == b'\n')
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| {
            let bytes = [&signature.key_id[..], &signature.bytes].concat();
            writeln!(f, "{DASH}{} {}", signature.name, STANDARD.encode(bytes))
        })
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (key_id, bytes) = bytes.split_first_chunk::<KEY_ID_LEN>()?;
        let whole = is_key_name(name) && !bytes.is_empty();
        whole.then(|| Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }
}

/// The public half of a key. Shown as `NAME+ID+KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; PUBLIC_KEY_LEN],
}

impl Verifier {
    /// Reads `NAME+ID+KEY`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, key) = parse_key::<PUBLIC_KEY_LEN>(text)?;
        let verifier = Self { name: name.to_owned(), key };
        if verifier.key_id() == id { Ok(verifier) } else { Err(KeyError::Id) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first bytes of the hash of name and key: tells apart keys of one name.
    pub fn key_id(&self) -> KeyId {
        let mut context = Context::new(&SHA256);
        for part in [self.name.as_bytes(), b"\n", &[ED25519_KIND], &self.key] {
            context.update(part);
        }
        let digest = context.finish();
        *digest.as_ref().first_chunk().expect("a SHA-256 has more than four bytes")
    }

    /// That this key has signed the note's text.
    pub fn verify(&self, note: &Note) -> Result<(), NoteError> {
        let id = self.key_id();
        let mine = note.signatures.iter().find(|s| s.name == self.name && s.key_id == id);
        let signature = mine.ok_or_else(|| NoteError::NotSigned(self.name.clone()))?;
        UnparsedPublicKey::new(&ED25519, self.key)
            .verify(note.text.as_bytes(), &signature.bytes)
            .map_err(|_| NoteError::WrongSignature(self.name.clone()))
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, self.key_id(), &self.key)
    }
}

/// The secret half of a key.
pub struct Signer {
    seed: [u8; SEED_LEN],
    pair: Ed25519KeyPair,
    verifier: Verifier,
}

impl Signer {
    /// The key that `seed` (32 random bytes) stands for.
    pub fn from_seed(name: &str, seed: &[u8; SEED_LEN]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Form)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Form)?;
        Ok(Self { seed: *seed, pair, verifier: Verifier { name: name.to_owned(), key } })
    }

    /// Reads `PRIVATE+KEY+NAME+ID+KEY`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, seed) = parse_key::<SEED_LEN>(text.strip_prefix(PRIVATE).ok_or(KeyError::Form)?)?;
        let signer = Self::from_seed(name, &seed)?;
        if signer.verifier.key_id() == id { Ok(signer) } else { Err(KeyError::Id) }
    }

    /// `PRIVATE+KEY+NAME+ID+KEY`: a secret.
    pub fn secret_text(&self) -> String {
        struct Secret<'a>(&'a Signer);
        impl fmt::Display for Secret<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PRIVATE)?;
                write_key(f, &self.0.verifier.name, self.0.verifier.key_id(), &self.0.seed)
            }
        }
        Secret(self).to_string()
    }

    /// The public half.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    fn sign(&self, text: &str) -> Signature {
        let bytes = self.pair.sign(text.as_bytes()).as_ref().to_vec();
        Signature { name: self.verifier.name.clone(), key_id: self.verifier.key_id(), bytes }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

fn is_key_name(name: &str) -> bool {
    let text = name.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '+');
    text && (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
}

fn write_key(f: &mut fmt::Formatter<'_>, name: &str, id: KeyId, key: &[u8]) -> fmt::Result {
    let typed = [&[ED25519_KIND], key].concat();
    write!(f, "{name}+{:08x}+{}", u32::from_be_bytes(id), STANDARD.encode(typed))
}

/// Name, id and key of the text form; the key may itself hold a `+`.
fn parse_key<const LEN: usize>(text: &str) -> Result<(&str, KeyId, [u8; LEN]), KeyError> {
    let (name, rest) = text.split_once('+').ok_or(KeyError::Form)?;
    let (id, key) = rest.split_once('+').ok_or(KeyError::Form)?;
    if !is_key_name(name) {
        return Err(KeyError::Name);
    }
    let hexadecimal = id.len() == 2 * KEY_ID_LEN && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| hexadecimal).ok_or(KeyError::Form)?;
    let typed = STANDARD.decode(key).map_err(|_| KeyError::Form)?;
    let key = typed.strip_prefix(&[ED25519_KIND]).and_then(|key| key.try_into().ok()).ok_or(KeyError::Form)?;
    Ok((name, id.to_be_bytes(), key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // From the documentation of golang.org/x/mod/sumdb/note.
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem \
        is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn agrees_with_the_notes_and_keys_of_go() {
        let verifier = Verifier::parse(VKEY).unwrap();
        let signer = Signer::parse(SKEY).unwrap();
        assert_eq!(signer.verifier(), &verifier);
        assert_eq!((verifier.to_string(), signer.secret_text()), (VKEY.to_owned(), SKEY.to_owned()));
        assert_eq!(Note::sign(TEXT, &[&signer]).unwrap().to_string(), NOTE);
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!((note.text(), verifier.verify(&note)), (TEXT, Ok(())));
        assert!(!format!("{signer:?}").contains("AYEK"));
    }

    #[test]
    fn alteration_and_absence_are_told_apart() {
        let verifier = Verifier::parse(VKEY).unwrap();
        let altered = Note::parse(NOTE.replace("problem is", "problem was").as_bytes()).unwrap();
        assert_eq!(verifier.verify(&altered), Err(NoteError::WrongSignature("PeterNeumann".into())));
        let other = Signer::from_seed("PeterNeumann", &[9; 32]).unwrap();
        let unsigned = Note::sign(TEXT, &[&other]).unwrap();
        assert_eq!(verifier.verify(&unsigned), Err(NoteError::NotSigned("PeterNeumann".into())));
        let both = Note::sign(TEXT, &[&other, &Signer::parse(SKEY).unwrap()]).unwrap().to_string();
        let both = Note::parse(both.as_bytes()).unwrap();
        assert_eq!((verifier.verify(&both), other.verifier().verify(&both)), (Ok(()), Ok(())));
    }

    #[test]
    fn malformed_notes_are_refused_by_their_fault() {
        let refused = |note: &str| Note::parse(note.as_bytes()).unwrap_err();
        assert_eq!(refused(""), NoteError::NoSignatures);
        assert_eq!(refused("text\n"), NoteError::NoSignatures);
        assert_eq!(refused("text\n\n"), NoteError::NoSignatures);
        assert_eq!(refused("text\n\n\u{2014} n AAAAAAA="), NoteError::NoSignatures);
        assert_eq!(refused("text\r\n\n\u{2014} n AAAAAAA=\n"), NoteError::NotText);
        for line in
            ["- n AAAAAAA=", "\u{2014} n", "\u{2014} n AAAAAA==", "\u{2014} n+ AAAAAAA=", "\u{2014} n AAAAAAA= x"]
        {
            assert_eq!(refused(&format!("text\n\n{line}\n")), NoteError::Signature(1), "{line}");
        }
        assert_eq!(Note::parse(&[0xff]), Err(NoteError::NotText));
        assert_eq!(Note::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(NoteError::TooLong));
        let many = format!("text\n\n{}", "\u{2014} n AAAAAAA=\n".repeat(SIGNATURES_MAX + 1));
        assert_eq!(refused(&many), NoteError::Signature(SIGNATURES_MAX + 1));
        assert_eq!(Note::sign("no new line", &[]).unwrap_err(), NoteError::Unfinished);
    }

    #[test]
    fn damaged_keys_are_refused() {
        assert_eq!(Verifier::parse(&VKEY.replace("c74f20a3", "c74f20a4")), Err(KeyError::Id));
        assert_eq!(Verifier::parse(&VKEY.replace("c74f20a3", "+74f20a3")), Err(KeyError::Form));
        assert_eq!(Verifier::parse(&VKEY.replace("+ARpc", "+AxPc")), Err(KeyError::Form));
        assert_eq!(Verifier::parse("a b+c74f20a3+AAAA"), Err(KeyError::Name));
        assert_eq!(Verifier::parse(""), Err(KeyError::Form));
        assert!(Signer::parse(VKEY).is_err());
        assert_eq!(Signer::from_seed("", &[0; 32]).unwrap_err(), KeyError::Name);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = Note::parse(&bytes);
            let _ = Note::parse(text.as_bytes());
            let _ = Verifier::parse(&text);
            let _ = Signer::parse(&text);
        }

        #[test]
        fn no_altered_byte_passes(at in 0..NOTE.len(), bit in 0u32..8) {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let passed = Note::parse(&bytes).is_ok_and(|note| Verifier::parse(VKEY).unwrap().verify(&note).is_ok());
            prop_assert!(!passed);
        }
    }
}
