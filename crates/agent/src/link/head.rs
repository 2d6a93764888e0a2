//! The newest head of the manager's ledger that this agent verified: the half of the tally stick that the manager cannot
//! alter. A new checkpoint is kept only if it is signed by the manager's key and continues the one held.

use tally_ledger::{Checkpoint, CheckpointError, Hash, KeyError, Verifier, verify_consistency};
use tally_proto::message::Checkpoint as Offered;

pub struct Head {
    verifier: Verifier,
    held: Option<Checkpoint>,
    /// A mismatch is told once; the manager would repeat it with every heartbeat.
    mismatch_told: bool,
}

/// What becomes of an offered checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It continues the one held: keep its note.
    Keep(String),
    /// It says nothing new, or starts from another checkpoint than the one held: the next one will do.
    Ignore,
    /// It does not continue the one held, and why.
    Mismatch(String),
}

impl Head {
    /// `note` is the last one that was kept.
    pub fn new(ledger_key: &str, note: Option<&str>) -> Result<Self, KeyError> {
        let verifier = Verifier::parse(ledger_key)?;
        // A note that does not verify any more is of no use: the next one starts anew.
        let held = note.and_then(|note| Checkpoint::open(note.as_bytes(), &verifier).ok());
        Ok(Self { verifier, held, mismatch_told: false })
    }

    pub fn held(&self) -> Option<&Checkpoint> {
        self.held.as_ref()
    }

    pub fn judge(&mut self, offered: &Offered) -> Judgement {
        match self.check(offered) {
            Ok(Some(checkpoint)) => {
                self.held = Some(checkpoint);
                Judgement::Keep(offered.note.to_string())
            }
            Ok(None) => Judgement::Ignore,
            Err(_) if self.mismatch_told => Judgement::Ignore,
            Err(why) => {
                self.mismatch_told = true;
                Judgement::Mismatch(why)
            }
        }
    }

    fn check(&self, offered: &Offered) -> Result<Option<Checkpoint>, String> {
        let new = Checkpoint::open(offered.note.as_bytes(), &self.verifier)
            .map_err(|error: CheckpointError| format!("the manager's checkpoint cannot be trusted: {error}"))?;
        let Some(held) = &self.held else { return Ok(Some(new)) };
        if new.size < held.size {
            let (had, has) = (held.size, new.size);
            return Err(format!("the manager's ledger had {had} records and now has {has}: records were removed"));
        }
        if new.size == held.size {
            let same = new.root == held.root;
            let size = new.size;
            return if same {
                Ok(None)
            } else {
                Err(format!("the ledger's first {size} records are not what they were"))
            };
        }
        if offered.old_size != held.size {
            return Ok(None);
        }
        let proof: Vec<Hash> = offered.proof.iter().map(|hash| Hash(*hash)).collect();
        match verify_consistency(held.size, &held.root, new.size, &new.root, &proof) {
            Ok(()) => Ok(Some(new)),
            Err(error) => Err(format!("the ledger does not continue its first {} records: {error}", held.size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_ledger::{Signer, leaf_hash, node_hash};

    fn offered(signer: &Signer, size: u64, root: Hash, old_size: u64, proof: &[Hash]) -> Offered {
        let checkpoint = Checkpoint { origin: "m".to_owned(), size, root };
        let note = checkpoint.sign(signer).unwrap().into();
        Offered { note, old_size, proof: proof.iter().map(|h| h.0).collect() }
    }

    #[test]
    fn only_what_continues_is_kept() {
        let signer = Signer::from_seed("m", &[7; 32]).unwrap();
        let key = signer.verifier().to_string();
        let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
        let two = node_hash(&a, &b);
        let mut head = Head::new(&key, None).unwrap();
        let first = offered(&signer, 1, a, 0, &[]);
        assert_eq!(head.judge(&first), Judgement::Keep(first.note.to_string()));
        assert_eq!(head.judge(&first), Judgement::Ignore);
        let second = offered(&signer, 2, two, 1, &[b]);
        assert!(matches!(head.judge(&second), Judgement::Keep(_)));
        // Kept over a restart.
        let mut head = Head::new(&key, Some(&second.note)).unwrap();
        let Judgement::Mismatch(why) = head.judge(&first) else { panic!("a shorter ledger") };
        assert!(why.contains("had 2 records and now has 1"), "{why}");
        assert_eq!(head.judge(&first), Judgement::Ignore, "told once");
        let mut head = Head::new(&key, Some(&first.note)).unwrap();
        assert!(matches!(head.judge(&offered(&signer, 1, b, 0, &[])), Judgement::Mismatch(_)));
        let other = Signer::from_seed("m", &[8; 32]).unwrap();
        let mut head = Head::new(&key, Some(&first.note)).unwrap();
        assert!(matches!(head.judge(&offered(&other, 2, two, 1, &[b])), Judgement::Mismatch(_)));
    }
}
