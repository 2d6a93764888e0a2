//! A checkpoint: the log's name, size and root as text that is then signed (C2SP tlog-checkpoint).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::Hash;
use crate::note::{Note, NoteError, Signer, Verifier};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is also that of its key.
    pub origin: String,
    /// How many entries there are.
    pub size: u64,
    pub root: Hash,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckpointError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("the checkpoint has no line for its {0}")]
    Missing(&'static str),
    #[error("the checkpoint's size is not a decimal number")]
    Size,
    #[error("the checkpoint's root is not the base64 of 32 bytes")]
    Root,
    #[error("the checkpoint is of the log \"{got}\", not of \"{expected}\"")]
    Origin { expected: String, got: String },
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads the signed text. Extension lines are accepted and have no meaning here.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split_terminator('\n');
        let mut line = |what| lines.next().filter(|l| !l.is_empty()).ok_or(CheckpointError::Missing(what));
        let origin = line("origin")?.to_owned();
        let size = decimal(line("size")?).ok_or(CheckpointError::Size)?;
        let root = STANDARD.decode(line("root")?).ok();
        let root = root.and_then(|bytes| Hash::from_slice(&bytes)).ok_or(CheckpointError::Root)?;
        Ok(Self { origin, size, root })
    }

    /// The signed note.
    pub fn sign(&self, signer: &Signer) -> Result<String, NoteError> {
        Ok(Note::sign(&self.text(), &[signer])?.to_string())
    }

    /// The checkpoint of a signed note, if `verifier` has signed it and it is of the log of that name.
    pub fn open(note: &[u8], verifier: &Verifier) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        verifier.verify(&note)?;
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin == verifier.name() {
            return Ok(checkpoint);
        }
        Err(CheckpointError::Origin { expected: verifier.name().to_owned(), got: checkpoint.origin })
    }
}

/// A number without sign and without leading zeroes.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::empty_root;

    #[test]
    fn has_the_form_of_the_specification() {
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 20_852_163, root: empty_root() };
        let text = "example.com/log\n20852163\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert_eq!(checkpoint.text(), text);
        assert_eq!(Checkpoint::parse(text), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{text}extension\n")), Ok(checkpoint));
    }

    #[test]
    fn says_what_is_wrong() {
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Checkpoint::parse(""), Err(CheckpointError::Missing("origin")));
        assert_eq!(Checkpoint::parse("o\n"), Err(CheckpointError::Missing("size")));
        for size in ["-1", "+1", "01", "1 ", "18446744073709551616", "x"] {
            assert_eq!(Checkpoint::parse(&format!("o\n{size}\n{root}\n")), Err(CheckpointError::Size), "{size}");
        }
        assert_eq!(Checkpoint::parse("o\n1\nAAAA\n"), Err(CheckpointError::Root));
        assert_eq!(Checkpoint::parse("o\n1\n"), Err(CheckpointError::Missing("root")));
    }

    #[test]
    fn is_opened_only_with_its_own_key_and_name() {
        let signer = Signer::from_seed("log", &[1; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "log".into(), size: 3, root: empty_root() };
        let note = checkpoint.sign(&signer).unwrap();
        assert_eq!(Checkpoint::open(note.as_bytes(), signer.verifier()), Ok(checkpoint.clone()));
        let stranger = Signer::from_seed("log", &[2; 32]).unwrap();
        assert!(Checkpoint::open(note.as_bytes(), stranger.verifier()).is_err());
        let changed = note.replacen("\n3\n", "\n4\n", 1);
        assert_eq!(
            Checkpoint::open(changed.as_bytes(), signer.verifier()),
            Err(CheckpointError::Note(NoteError::WrongSignature("log".into())))
        );
        let foreign = Checkpoint { origin: "other".into(), ..checkpoint }.sign(&signer).unwrap();
        assert_eq!(
            Checkpoint::open(foreign.as_bytes(), signer.verifier()),
            Err(CheckpointError::Origin { expected: "log".into(), got: "other".into() })
        );
    }

    proptest! {
        #[test]
        fn text_reads_back(origin in "[!-~]{1,30}", size: u64, root: [u8; 32]) {
            let checkpoint = Checkpoint { origin, size, root: Hash(root) };
            prop_assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
        }

        #[test]
        fn random_text_never_panics(text in "(\\PC|\n){0,80}") {
            let _ = Checkpoint::parse(&text);
        }
    }
}
