//! Proofs that an entry is in the log, and that the log of today continues that of yesterday.
//!
//! Made as in RFC 6962, sections 2.1.1 and 2.1.2, from whatever can read the hash of a complete subtree; verified as in
//! RFC 9162, sections 2.1.3.2 and 2.1.4.2. A proof comes from a peer: verifying takes at most as many steps as the tree has
//! levels, whatever was sent.

use crate::hash::{Hash, empty_root, node_hash};

/// Where hashes come from: the tiles of a log.
pub trait HashReader {
    type Error;

    /// The hash of the complete subtree of 2^`level` leaves that has `index` such subtrees to its left.
    fn read(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProveError<E> {
    #[error("entry {index} is not among the {size} of the log")]
    NoSuchEntry { index: u64, size: u64 },
    #[error("a log of {old} entries is not the past of one of {new}")]
    NotThePast { old: u64, new: u64 },
    #[error(transparent)]
    Read(#[from] E),
}

/// What a proof fails to prove.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProofError {
    #[error("entry {index} cannot be in a log of {size}")]
    NoSuchEntry { index: u64, size: u64 },
    #[error("a log of {new} entries cannot continue one of {old}")]
    Shrunk { old: u64, new: u64 },
    #[error("the proof has {0} hashes, which is not the number for these sizes")]
    Length(usize),
    #[error("the proof does not lead to the old root")]
    OldRoot,
    #[error("the proof does not lead to the root")]
    Root,
}

/// The path from entry `index` to the root of the first `size` entries, lowest first.
pub fn prove_inclusion<R: HashReader>(reader: &R, index: u64, size: u64) -> Result<Vec<Hash>, ProveError<R::Error>> {
    if index >= size {
        return Err(ProveError::NoSuchEntry { index, size });
    }
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = split(low, high);
        if index < middle {
            path.push(range_root(reader, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(reader, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the first `new` entries begin with the first `old`, lowest hash first. Empty if `old` is 0 or `new`.
pub fn prove_consistency<R: HashReader>(reader: &R, old: u64, new: u64) -> Result<Vec<Hash>, ProveError<R::Error>> {
    if old > new {
        return Err(ProveError::NotThePast { old, new });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut low, mut high) = (0, new);
    let mut proof = Vec::new();
    while old < high {
        let middle = split(low, high);
        if old <= middle {
            proof.push(range_root(reader, middle, high)?);
            high = middle;
        } else {
            proof.push(range_root(reader, low, middle)?);
            low = middle;
        }
    }
    // What is left ends with the old log. Where it is all of it, the verifier has its root already.
    if low > 0 {
        proof.push(range_root(reader, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Where the tree over `low..high` parts: after the largest power of two of leaves that leaves some for the right.
const fn split(low: u64, high: u64) -> u64 {
    low + (1 << (high - low - 1).ilog2())
}

/// The root over `low..high`, whose start is one of the places where the tree parts.
fn range_root<R: HashReader>(reader: &R, low: u64, high: u64) -> Result<Hash, R::Error> {
    let count = high - low;
    if count.is_power_of_two() {
        let level = count.ilog2() as u8;
        return reader.read(level, low >> level);
    }
    let middle = split(low, high);
    Ok(node_hash(&range_root(reader, low, middle)?, &range_root(reader, middle, high)?))
}

/// That the entry with the hash `leaf` has the number `index` among the `size` entries under `root`.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::NoSuchEntry { index, size });
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A right edge has no sibling on the levels where it is alone.
            let alone = node.trailing_zeros();
            node >>= alone;
            last >>= alone;
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// That the `new` entries under `new_root` begin with the `old` entries under `old_root`.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 || old == new {
        let known = if old == 0 { empty_root() } else { *new_root };
        return match proof.len() {
            0 if *old_root != known => Err(ProofError::OldRoot),
            // The root of an empty log is not a matter of proofs either.
            0 if new == 0 && *new_root != known => Err(ProofError::Root),
            0 => Ok(()),
            len => Err(ProofError::Length(len)),
        };
    }
    // The subtree that ends with the old log; where it is all of the old log, its root is not sent.
    let (mut node, mut last) = (old - 1, new - 1);
    let alone = node.trailing_ones();
    node >>= alone;
    last >>= alone;
    let (first, rest) =
        if old.is_power_of_two() { (old_root, proof) } else { proof.split_first().ok_or(ProofError::Length(0))? };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            let alone = node.trailing_zeros();
            node >>= alone;
            last >>= alone;
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    if old_hash != *old_root {
        return Err(ProofError::OldRoot);
    }
    if new_hash == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

/// A log's tiles in memory, for the tests of this crate.
#[cfg(test)]
pub(crate) mod memory {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::frontier::Frontier;
    use crate::hash::{leaf_hash, root_of};
    use crate::tile::Span;

    /// The row of each level.
    pub struct Tiles(pub BTreeMap<u8, Vec<Hash>>);

    impl Tiles {
        pub fn over(leaves: &[Vec<u8>]) -> Self {
            let mut rows = BTreeMap::<u8, Vec<Hash>>::new();
            let mut frontier = Frontier::new();
            for leaf in leaves {
                frontier.append(leaf_hash(leaf), |t| rows.entry(t.level).or_default().push(t.hash));
            }
            Self(rows)
        }
    }

    impl HashReader for Tiles {
        type Error = Infallible;

        fn read(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
            let span = Span::of(level, index);
            let first = span.index as usize * 256 + usize::from(span.first);
            Ok(root_of(&self.0[&span.level][first..first + usize::from(span.count)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::memory::Tiles;
    use super::*;
    use crate::hash::{leaf_hash, naive};

    /// PATH of RFC 6962, section 2.1.1, word for word.
    fn naive_path(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
        if d.len() == 1 {
            return Vec::new();
        }
        let k = d.len().next_power_of_two() / 2;
        let (mut path, other) = if m < k {
            (naive_path(m, &d[..k]), naive::root(&d[k..]))
        } else {
            (naive_path(m - k, &d[k..]), naive::root(&d[..k]))
        };
        path.push(other);
        path
    }

    /// SUBPROOF of RFC 6962, section 2.1.2, word for word.
    fn naive_subproof(m: usize, d: &[Vec<u8>], whole: bool) -> Vec<Hash> {
        if m == d.len() {
            return if whole { Vec::new() } else { vec![naive::root(d)] };
        }
        let k = d.len().next_power_of_two() / 2;
        let (mut proof, other) = if m <= k {
            (naive_subproof(m, &d[..k], whole), naive::root(&d[k..]))
        } else {
            (naive_subproof(m - k, &d[k..], false), naive::root(&d[..k]))
        };
        proof.push(other);
        proof
    }

    #[test]
    fn proofs_of_every_small_log_are_those_of_the_rfc_and_verify() {
        let leaves = naive::leaves(40);
        let tiles = Tiles::over(&leaves);
        let roots: Vec<_> = (0..=40).map(|n| naive::root(&leaves[..n])).collect();
        for size in 1..=40 {
            for index in 0..size {
                let proof = prove_inclusion(&tiles, index as u64, size as u64).unwrap();
                assert_eq!(proof, naive_path(index, &leaves[..size]), "{index} of {size}");
                let leaf = leaf_hash(&leaves[index]);
                assert_eq!(verify_inclusion(&leaf, index as u64, size as u64, &roots[size], &proof), Ok(()));
            }
            for old in 0..=size {
                let proof = prove_consistency(&tiles, old as u64, size as u64).unwrap();
                let expected = if old == 0 { Vec::new() } else { naive_subproof(old, &leaves[..size], true) };
                assert_eq!(proof, expected, "{old} of {size}");
                let verified = verify_consistency(old as u64, &roots[old], size as u64, &roots[size], &proof);
                assert_eq!(verified, Ok(()), "{old} of {size}");
            }
        }
    }

    #[test]
    fn no_other_place_root_or_proof_verifies() {
        let leaves = naive::leaves(20);
        let tiles = Tiles::over(&leaves);
        let roots: Vec<_> = (0..=20).map(|n| naive::root(&leaves[..n])).collect();
        let other = leaf_hash(b"other");
        for size in 1..=20u64 {
            let root = &roots[size as usize];
            for index in 0..size {
                let leaf = leaf_hash(&leaves[index as usize]);
                let proof = prove_inclusion(&tiles, index, size).unwrap();
                for wrong in (0..20).filter(|wrong| *wrong != index) {
                    assert!(verify_inclusion(&leaf, wrong, size, root, &proof).is_err(), "{wrong} {index} {size}");
                }
                assert!(verify_inclusion(&other, index, size, root, &proof).is_err());
                for damaged in damaged(&proof, other) {
                    assert!(verify_inclusion(&leaf, index, size, root, &damaged).is_err());
                }
            }
            for old in 1..=size {
                let old_root = &roots[old as usize];
                let proof = prove_consistency(&tiles, old, size).unwrap();
                assert!(verify_consistency(old, &other, size, root, &proof).is_err());
                if old != size {
                    assert!(verify_consistency(old, old_root, size, &other, &proof).is_err());
                }
                for damaged in damaged(&proof, other) {
                    assert!(verify_consistency(old, old_root, size, root, &damaged).is_err());
                }
            }
        }
    }

    fn damaged(proof: &[Hash], other: Hash) -> Vec<Vec<Hash>> {
        let mut all: Vec<Vec<Hash>> =
            (0..proof.len()).map(|i| [&proof[..i], &[other], &proof[i + 1..]].concat()).collect();
        all.push([proof, &[other]].concat());
        all.extend((0..proof.len()).map(|i| [&proof[..i], &proof[i + 1..]].concat()));
        all
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let tiles = Tiles::over(&naive::leaves(3));
        assert_eq!(prove_inclusion(&tiles, 3, 3), Err(ProveError::NoSuchEntry { index: 3, size: 3 }));
        assert_eq!(prove_consistency(&tiles, 4, 3), Err(ProveError::NotThePast { old: 4, new: 3 }));
        let (a, e) = (leaf_hash(b"a"), empty_root());
        assert_eq!(verify_consistency(4, &a, 3, &a, &[]), Err(ProofError::Shrunk { old: 4, new: 3 }));
        assert_eq!(verify_consistency(0, &a, 3, &a, &[]), Err(ProofError::OldRoot));
        assert_eq!(verify_consistency(0, &e, 0, &a, &[]), Err(ProofError::Root));
        assert_eq!(verify_consistency(0, &e, 3, &a, &[]), Ok(()));
        assert_eq!(verify_inclusion(&a, 0, 0, &a, &[]), Err(ProofError::NoSuchEntry { index: 0, size: 0 }));
    }

    proptest! {
        #[test]
        fn random_proofs_neither_panic_nor_pass(
            index: u64, size: u64, old: u64,
            proof in proptest::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..140),
        ) {
            let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
            prop_assert!(verify_inclusion(&a, index, size, &b, &proof).is_err());
            prop_assert!(old == 0 || verify_consistency(old, &a, size, &b, &proof).is_err());
        }
    }
}
