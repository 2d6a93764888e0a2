//! Forward Secure Sealing of the systemd journal: the keys by which journald's seals are made, from the verification key that
//! `journalctl --setup-keys` shows once.
//!
//! journald holds a state that it moves on with each interval and cannot move back; who has the verification key can make the
//! state of any interval. So entries that were sealed before somebody broke in cannot be sealed anew by him, unless he finds
//! the verification key: it belongs where he does not come.
//!
//! Source: G. A. Marson, B. Poettering, "Practical Secure Logging: Seekable Sequential Key Generators" (ESORICS 2013), and
//! what systemd 252 writes by it: numbers of 1,536 bits, SHA-256, all of them big-endian.

use std::fmt;

use num_bigint::BigUint;
use ring::digest::{Context, SHA256, digest};

/// Bits of the modulus.
const MODULUS_BITS: usize = 1536;
const SEED_BYTES: usize = 12;
const HASH_BYTES: usize = 32;
/// What a string of random bytes is made for.
const FOR_P: u32 = 1;
const FOR_Q: u32 = 2;
const FOR_START: u32 = 3;
const FOR_KEY: u32 = 0;
/// So many intervals are gone one by one; over more it is leapt.
const STEPS_MAX: u64 = 8;
/// No text is longer: a seed with a dash behind each of its digits, and two numbers.
const TEXT_BYTES_MAX: usize = 128;

/// The verification key of one host.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    seed: [u8; SEED_BYTES],
    /// When the first interval began, and how long each is.
    start_us: u64,
    interval_us: u64,
}

/// Why a text is no verification key. It never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no verification key of journald: it has the form 6a1b2c-3d4e5f-607182-93a4b5/1234ab-35a4e900, as journalctl --setup-keys shows it"
)]
pub struct KeyError;

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyKey")
    }
}

impl VerifyKey {
    /// Reads `SEED/START-INTERVAL`: 24 hexadecimal digits with dashes between them, then the number of intervals before the
    /// first one and the microseconds of one, hexadecimal too.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let (seed_text, times) = text.split_once('/').filter(|_| text.len() <= TEXT_BYTES_MAX).ok_or(KeyError)?;
        let digits: Vec<u8> = seed_text.bytes().filter(|byte| *byte != b'-').collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(KeyError);
        let mut seed = [0; SEED_BYTES];
        if digits.len() != 2 * SEED_BYTES {
            return Err(KeyError);
        }
        for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        let (start, interval) = times.split_once('-').ok_or(KeyError)?;
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| KeyError);
        let interval_us = number(interval)?;
        let start_us = number(start)?.checked_mul(interval_us).filter(|_| interval_us > 0).ok_or(KeyError)?;
        Ok(Self { seed, start_us, interval_us })
    }

    /// When sealing was set up.
    pub const fn start_us(&self) -> u64 {
        self.start_us
    }

    /// From when on nothing is sealed within the interval `epoch`.
    pub const fn end_us(&self, epoch: u64) -> u64 {
        self.start_us.saturating_add(epoch.saturating_add(1).saturating_mul(self.interval_us))
    }

    pub const fn interval_us(&self) -> u64 {
        self.interval_us
    }
}

/// Makes the key of any interval. Two primes are sought for it, which takes a tenth of a second.
#[derive(Clone)]
pub struct KeyMaker {
    p: BigUint,
    q: BigUint,
    n: BigUint,
    first: BigUint,
    /// The state of the last interval that was asked for.
    at: (u64, BigUint),
}

impl fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaker")
    }
}

impl KeyMaker {
    pub fn new(key: &VerifyKey) -> Self {
        let (p, q) = (prime(&key.seed, FOR_P), prime(&key.seed, FOR_Q));
        let n = &p * &q;
        let mut bytes = random(&key.seed, MODULUS_BITS / 8, FOR_START);
        bytes[0] &= 0x7f;
        let root = BigUint::from_bytes_be(&bytes);
        let first = &root * &root % &n;
        Self { p, q, n, at: (0, first.clone()), first }
    }

    /// The key by which what was written in this interval is sealed.
    pub fn key(&mut self, epoch: u64) -> [u8; HASH_BYTES] {
        match epoch.checked_sub(self.at.0).filter(|steps| *steps <= STEPS_MAX) {
            Some(steps) => (0..steps).for_each(|_| self.at.1 = &self.at.1 * &self.at.1 % &self.n),
            None => self.at.1 = self.leap(epoch),
        }
        self.at.0 = epoch;
        let mut state = padded(&self.n);
        state.extend(padded(&self.at.1));
        state.extend(epoch.to_be_bytes());
        random(&state, HASH_BYTES, FOR_KEY).try_into().unwrap_or([0; HASH_BYTES])
    }

    /// The first state squared `epoch` times: by each prime on its own, and put together.
    fn leap(&self, epoch: u64) -> BigUint {
        let (one, two) = (BigUint::from(1u8), BigUint::from(2u8));
        let power = |prime: &BigUint| {
            let exponent = two.modpow(&BigUint::from(epoch), &(prime - &one));
            (&self.first % prime).modpow(&exponent, prime)
        };
        let (by_p, by_q) = (power(&self.p), power(&self.q));
        // A prime has an inverse of what it does not divide: its power to two less than the other prime.
        let inverse = self.p.modpow(&(&self.q - &two), &self.q);
        let difference = (&by_q + &self.q - &by_p % &self.q) % &self.q;
        by_p + &self.p * (difference * inverse % &self.q)
    }
}

/// Big-endian, as long as the modulus.
fn padded(number: &BigUint) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    let mut all = vec![0; (MODULUS_BITS / 8).saturating_sub(bytes.len())];
    all.extend(bytes);
    all
}

/// So many bytes that follow from a seed and what they are for.
fn random(seed: &[u8], bytes: usize, what_for: u32) -> Vec<u8> {
    let blocks = (0..bytes.div_ceil(HASH_BYTES) as u32).map(|block| {
        let mut context = Context::new(&SHA256);
        context.update(seed);
        context.update(&what_for.to_be_bytes());
        context.update(&block.to_be_bytes());
        context.finish()
    });
    let mut all: Vec<u8> = blocks.flat_map(|block| block.as_ref().to_vec()).collect();
    all.truncate(bytes);
    all
}

/// The first prime that leaves 3 when divided by 4, from the number on that follows from the seed.
fn prime(seed: &[u8], what_for: u32) -> BigUint {
    let mut bytes = random(seed, MODULUS_BITS / 16, what_for);
    bytes[0] |= 0xc0;
    if let Some(last) = bytes.last_mut() {
        *last |= 3;
    }
    let mut number = BigUint::from_bytes_be(&bytes);
    while !is_prime(&number) {
        number += 4u8;
    }
    number
}

/// By Miller and Rabin, of an odd number that leaves 3 when divided by 4. Its bases follow from the number: nobody who chose a
/// seed could have chosen them too.
fn is_prime(number: &BigUint) -> bool {
    const SMALL: [u32; 30] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127,
    ];
    const ROUNDS: u32 = 20;
    if SMALL.iter().any(|small| number % *small == BigUint::ZERO) {
        return false;
    }
    let one = BigUint::from(1u8);
    let less = number - &one;
    // Half of a number that leaves 2 when divided by 4 is odd: one power decides.
    let half = &less >> 1u8;
    let bytes = number.to_bytes_be();
    (0..ROUNDS).all(|round| {
        let base = match round {
            0 => BigUint::from(2u8),
            _ => BigUint::from_bytes_be(&random(digest(&SHA256, &bytes).as_ref(), bytes.len() - 1, round)) + 2u8,
        };
        let power = base.modpow(&half, number);
        power == one || power == less
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "0a1b2c-3d4e5f-607182-93a4b5/1234ab-35a4e900";

    #[test]
    fn a_key_is_read_as_journalctl_shows_it() {
        let key = VerifyKey::parse(&format!("{TEXT}\n")).unwrap();
        assert_eq!((key.seed[0], key.seed[11], key.interval_us), (0x0a, 0xb5, 900_000_000));
        assert_eq!((key.start_us(), key.end_us(1)), (0x1234ab * 900_000_000, (0x1234ab + 2) * 900_000_000));
        assert_eq!(format!("{key:?}"), "VerifyKey");
        for text in ["", "/", "0a1b/1-1", "0a1b2c-3d4e5f-607182-93a4b5/1", "0a1b2c-3d4e5f-607182-93a4b5/1-0", "x/y-z"] {
            assert_eq!(VerifyKey::parse(text), Err(KeyError), "{text}");
        }
    }

    #[test]
    fn going_and_leaping_come_to_the_same_keys() {
        let key = VerifyKey::parse(TEXT).unwrap();
        let mut walking = KeyMaker::new(&key);
        for prime in [&walking.p, &walking.q] {
            assert_eq!((prime.bits(), prime % 4u8), (768, BigUint::from(3u8)));
        }
        let walked: Vec<_> = (0..30).map(|epoch| walking.key(epoch)).collect();
        for epoch in [29, 0, 12, 3, 13] {
            assert_eq!(KeyMaker::new(&key).key(epoch), walked[epoch as usize], "{epoch}");
            assert_eq!(walking.key(epoch), walked[epoch as usize], "{epoch}");
        }
        assert_ne!(walking.key(u64::MAX), walked[0]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}", place in 0..TEXT.len(), byte in any::<char>()) {
            drop(VerifyKey::parse(&text));
            let mutated: String = TEXT.char_indices().map(|(at, c)| if at == place { byte } else { c }).collect();
            drop(VerifyKey::parse(&mutated));
        }
    }
}
