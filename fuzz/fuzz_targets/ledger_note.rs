//! Signed notes, checkpoints, keys and tile paths never panic, and what is accepted is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ledger::{Checkpoint, Note, Signer, Tile, Verifier};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(note) = Note::parse(bytes) {
        let again = Note::parse(note.to_string().as_bytes()).expect("a note that was written can be read");
        assert_eq!(again, note);
        let _ = Checkpoint::parse(note.text());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Checkpoint::parse(text);
    let _ = Signer::parse(text);
    if let Ok(verifier) = Verifier::parse(text) {
        assert_eq!(Verifier::parse(&verifier.to_string()), Ok(verifier));
    }
    if let Ok(tile) = text.parse::<Tile>() {
        assert_eq!(tile.to_string(), text);
    }
});
