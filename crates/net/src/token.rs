//! The enrolment token: one word that a person carries from the manager to a host.
//!
//! `tt1_` and 70 characters of base 58 (Bitcoin's alphabet: no 0, O, I, l; nothing that ends a word when it is
//! double-clicked) of 16 bytes of secret, the 32 bytes of the authority's fingerprint, and 3 bytes of checksum. The
//! secret shows the manager that the host may enrol; the fingerprint shows the host that it talks to this manager and
//! no other, so that nothing is trusted on first use.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// 128 bits: not guessed in any number of tries that a manager answers.
pub const SECRET_BYTES: usize = 16;

const PREFIX: &str = "tt1_";
const FINGERPRINT_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 3;
const BYTES: usize = SECRET_BYTES + FINGERPRINT_BYTES + CHECKSUM_BYTES;
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// 51 bytes in base 58: ceil(51 · 8 / log2(58)).
const DIGITS: usize = 70;

/// What a host needs to enrol, besides the manager's address. `Debug` does not show the secret; `Display` does.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub secret: [u8; SECRET_BYTES],
    /// SHA-256 of the authority's certificate.
    pub ca_fingerprint: [u8; FINGERPRINT_BYTES],
}

/// What is wrong with a text that should be a token. The text itself is not repeated: it may be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("a token begins with \"{PREFIX}\"")]
    Prefix,
    #[error(
        "the token has {got} characters after \"{PREFIX}\", not {DIGITS}: it was cut or joined with something else"
    )]
    Length { got: usize },
    #[error("the token has a typo: character {position} is not one that tokens use")]
    Character { position: usize },
    #[error("the token has a typo: its checksum does not fit")]
    Checksum,
}

impl Token {
    /// A token with a new random secret; `None` if the system has no randomness to give.
    pub fn generate(ca_fingerprint: [u8; FINGERPRINT_BYTES]) -> Option<Self> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self { secret, ca_fingerprint })
    }

    /// The secret as the enrolment request carries it: hexadecimal. The manager keeps the SHA-256 of this text.
    pub fn secret_text(&self) -> String {
        self.secret.iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = digest(&SHA256, &[PREFIX.as_bytes(), payload].concat());
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash.as_ref()[..CHECKSUM_BYTES]);
    sum
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [self.secret.as_slice(), &self.ca_fingerprint].concat();
        bytes.extend(checksum(&bytes));
        let mut digits = [0_u8; DIGITS];
        for byte in bytes {
            let mut carry = u32::from(byte);
            for digit in digits.iter_mut().rev() {
                carry += u32::from(*digit) << 8;
                *digit = (carry % 58) as u8;
                carry /= 58;
            }
        }
        f.write_str(PREFIX)?;
        digits.iter().try_for_each(|d| write!(f, "{}", char::from(ALPHABET[usize::from(*d)])))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// White space around the token is no fault: it comes from copying.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let length = digits.chars().take(DIGITS * 4).count();
        if length != DIGITS {
            return Err(TokenError::Length { got: length });
        }
        let mut bytes = [0_u8; BYTES];
        for (i, c) in digits.chars().enumerate() {
            let value = ALPHABET.iter().position(|a| char::from(*a) == c);
            let mut carry = value.ok_or(TokenError::Character { position: PREFIX.len() + i + 1 })? as u32;
            for byte in bytes.iter_mut().rev() {
                carry += u32::from(*byte) * 58;
                *byte = carry as u8;
                carry >>= 8;
            }
            if carry != 0 {
                return Err(TokenError::Checksum);
            }
        }
        let (payload, sum) = bytes.split_at(SECRET_BYTES + FINGERPRINT_BYTES);
        if sum != checksum(payload) {
            return Err(TokenError::Checksum);
        }
        let mut token = Self { secret: [0; SECRET_BYTES], ca_fingerprint: [0; FINGERPRINT_BYTES] };
        token.secret.copy_from_slice(&payload[..SECRET_BYTES]);
        token.ca_fingerprint.copy_from_slice(&payload[SECRET_BYTES..]);
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_one_word_of_74_characters() {
        for fill in [0, 1, 0x7f, 0xff] {
            let token = Token { secret: [fill; SECRET_BYTES], ca_fingerprint: [fill; 32] };
            let text = token.to_string();
            assert_eq!(text.len(), 74, "{text}");
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            assert_eq!(format!(" {text}\n").parse(), Ok(token));
        }
    }

    #[test]
    fn says_what_is_wrong_without_repeating_the_secret() {
        let text = Token { secret: [7; SECRET_BYTES], ca_fingerprint: [9; 32] }.to_string();
        assert_eq!("hello".parse::<Token>(), Err(TokenError::Prefix));
        assert_eq!(text[..73].parse::<Token>(), Err(TokenError::Length { got: 69 }));
        assert_eq!(format!("{text}x").parse::<Token>(), Err(TokenError::Length { got: 71 }));
        assert_eq!(
            format!("{}0{}", &text[..10], &text[11..]).parse::<Token>(),
            Err(TokenError::Character { position: 11 })
        );
        assert_eq!(format!("tt1_{}", "z".repeat(70)).parse::<Token>(), Err(TokenError::Checksum));
        let debug = format!("{:?}", text.parse::<Token>().unwrap());
        assert_eq!(debug, "Token { .. }");
    }

    proptest! {
        #[test]
        fn reads_back(secret: [u8; SECRET_BYTES], ca_fingerprint: [u8; 32]) {
            let token = Token { secret, ca_fingerprint };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        /// One wrong character is always told as a typo (the checksum misses one in 16 million, and this is seeded).
        #[test]
        fn tells_a_typo(secret: [u8; SECRET_BYTES], at in 0..DIGITS, other in 0..58_usize) {
            let text = Token { secret, ca_fingerprint: [3; 32] }.to_string();
            let mut bytes = text.clone().into_bytes();
            bytes[PREFIX.len() + at] = ALPHABET[other];
            let typo = String::from_utf8(bytes).unwrap();
            prop_assume!(typo != text);
            prop_assert_eq!(typo.parse::<Token>(), Err(TokenError::Checksum));
        }

        #[test]
        fn never_panics(text in "\\PC*", tail in "[1-9A-Za-z]{0,90}") {
            let _ = text.parse::<Token>();
            let _ = format!("tt1_{tail}").parse::<Token>();
        }
    }
}
