//! Digests of a content that is read once, as many algorithms as are asked for.

use md5::Md5;
use md5::digest::Digest as _;
use ring::digest;
use tally_syscheck::Algorithms;
use tally_types::{Algorithm, Digest, Digests};

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest_bytes(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// All that is asked for, of a content that lies in memory whole.
pub fn whole(algorithms: Algorithms, content: &[u8]) -> Digests {
    if algorithms == Algorithms::SHA256 {
        return Digests::sha256(sha256(content));
    }
    let mut hasher = Hasher::new(algorithms);
    hasher.update(content);
    hasher.finish()
}

/// The digests of a content that comes in pieces.
pub struct Hasher {
    ring: Vec<(Algorithm, digest::Context)>,
    md5: Option<Md5>,
    blake3: Option<Box<blake3::Hasher>>,
}

impl Hasher {
    pub fn new(algorithms: Algorithms) -> Self {
        let by_ring = |algorithm| {
            Some(match algorithm {
                Algorithm::Sha256 => &digest::SHA256,
                Algorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                Algorithm::Sha512 => &digest::SHA512,
                Algorithm::Md5 | Algorithm::Blake3 => return None,
            })
        };
        let ring = algorithms.iter().filter_map(|a| by_ring(a).map(|by| (a, digest::Context::new(by)))).collect();
        Self {
            ring,
            md5: algorithms.contains(Algorithm::Md5).then(Md5::new),
            blake3: algorithms.contains(Algorithm::Blake3).then(Box::default),
        }
    }

    pub fn update(&mut self, piece: &[u8]) {
        for (_, context) in &mut self.ring {
            context.update(piece);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(piece);
        }
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(piece);
        }
    }

    pub fn finish(self) -> Digests {
        let mut digests = Digests::default();
        let mut add = |algorithm, bytes: &[u8]| {
            digests.insert(Digest::new(algorithm, bytes).expect("each algorithm gives as many bytes as it says"));
        };
        for (algorithm, context) in self.ring {
            add(algorithm, context.finish().as_ref());
        }
        if let Some(md5) = self.md5 {
            add(Algorithm::Md5, &md5.finalize());
        }
        if let Some(blake3) = self.blake3 {
            add(Algorithm::Blake3, blake3.finalize().as_bytes());
        }
        digests
    }
}

fn digest_bytes(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests of "abc": FIPS 180-4 examples, RFC 1321, and the BLAKE3 test vectors' tool.
    #[test]
    fn known_answers_in_one_piece_and_in_many() {
        let all = Algorithm::ALL.into_iter().fold(Algorithms::EMPTY, Algorithms::with);
        let whole = whole(all, b"abc");
        let mut hasher = Hasher::new(all);
        b"abc".iter().for_each(|byte| hasher.update(&[*byte]));
        assert_eq!(whole, hasher.finish());
        let start = |algorithm| {
            let (_, bytes) = whole.iter().find(|(a, _)| *a == algorithm).unwrap();
            bytes[..4].iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        let starts = Algorithm::ALL.map(start);
        assert_eq!(starts, ["ba7816bf", "a9993e36", "90015098", "ddaf35a1", "6437b3ac"]);
        assert_eq!(super::whole(Algorithms::SHA256, b"abc").sha256, whole.sha256);
        assert!(super::whole(Algorithms::EMPTY, b"abc").is_empty());
    }
}
