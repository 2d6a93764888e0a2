//! What a leaf and a node hash to (RFC 6962, section 2.1).
//!
//! Leaves and nodes have different first bytes, so that no node can be passed off as a leaf.

use std::fmt;

use ring::digest::{Context, SHA256, digest};

/// A SHA-256 of the tree. Shown as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; Hash::LEN]);

impl Hash {
    pub const LEN: usize = 32;

    /// The hash that `bytes` are; `None` unless there are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const LEAF: u8 = 0;
const NODE: u8 = 1;

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    into_hash(context.finish())
}

fn into_hash(digest: ring::digest::Digest) -> Hash {
    Hash::from_slice(digest.as_ref()).expect("a SHA-256 has 32 bytes")
}

/// The root of the tree without leaves.
pub fn empty_root() -> Hash {
    into_hash(digest(&SHA256, b""))
}

/// The hash of the leaf that holds `entry`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[LEAF], entry])
}

/// The hash of the node above two hashes.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [NODE; 1 + 2 * Hash::LEN];
    bytes[1..=Hash::LEN].copy_from_slice(&left.0);
    bytes[1 + Hash::LEN..].copy_from_slice(&right.0);
    into_hash(digest(&SHA256, &bytes))
}

/// The root over `hashes`, each the hash of one complete subtree of one and the same size: a tile's own root.
pub fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// An independent, naive tree straight from the RFC's definition, for the tests of this crate.
#[cfg(test)]
pub(crate) mod naive {
    use super::*;

    pub fn root(leaves: &[Vec<u8>]) -> Hash {
        let raw = |bytes: Vec<u8>| into_hash(digest(&SHA256, &bytes));
        match leaves {
            [] => raw(Vec::new()),
            [one] => raw([&[0u8][..], one].concat()),
            more => {
                let mut k = 1;
                while 2 * k < more.len() {
                    k *= 2;
                }
                raw([&[1u8][..], &root(&more[..k]).0, &root(&more[k..]).0].concat())
            }
        }
    }

    pub fn leaves(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|i| format!("entry {i}").into_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_vectors_of_certificate_transparency() {
        // The reference log's own test data (certificate-transparency, merkletree/merkle_tree_test.cc).
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes = leaves.map(leaf_hash);
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(root_of(&hashes[..=size]).to_string(), *root);
        }
        assert_eq!(empty_root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn agrees_with_the_definition() {
        let leaves = naive::leaves(70);
        let hashes: Vec<_> = leaves.iter().map(|l| leaf_hash(l)).collect();
        for size in 0..=70 {
            assert_eq!(root_of(&hashes[..size]), naive::root(&leaves[..size]), "{size}");
        }
    }
}
