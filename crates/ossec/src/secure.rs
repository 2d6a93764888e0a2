//! OSSEC's datagrams: what is on the wire, and the message inside.
//!
//! `[ "!" ID "!" ] ( ":" | "#AES:" ) CIPHERTEXT`; the plain text is `"!" × (1..8) + zlib(md5hex(body) + body)`, and the body is
//! `RANDOM(5) GLOBAL(10) ":" LOCAL(4) ":" PAYLOAD`. The MD5 is all that shows that a message is genuine: it is no
//! authentication, and whoever has a key can say anything of its agent. Before 2.0 the plain text was
//! `":" + md5hex(body) + body` without compression; such messages are still read.
//!
//! Source: the datagrams themselves (the project's conformance data) and descriptions of OSSEC 4.3. Blowfish: B. Schneier
//! 1993, with all 47 bytes of the key and a fixed IV. AES-256: FIPS 197, of whose key name and id are no part.

use aes::Aes256;
use blowfish::Blowfish;
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, InnerIvInit as _, KeyInit as _};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use md5::{Digest as _, Md5};

use crate::counter::{Count, LOCAL_MAX};

/// OSSEC's longest message, and so its longest datagram.
pub const MESSAGE_BYTES_MAX: usize = 6144;
/// Longer ids are none: OSSEC's have three digits, and seldom five.
pub const ID_DIGITS_MAX: usize = 8;

/// md5, random, global, colon, local, colon.
const HEADER_BYTES: usize = 32 + 5 + 10 + 1 + 4 + 1;
/// The longest payload of one message.
pub const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - HEADER_BYTES - 128;
const KEY_BYTES: usize = 47;
const AES_KEY_BYTES: usize = 32;
const AES_MARK: &[u8] = b"#AES:";
const BLOWFISH_BLOCK: usize = 8;
const BLOWFISH_IV: [u8; BLOWFISH_BLOCK] = [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];
pub const AES_IV_BYTES: usize = 16;
/// zlib's best, as OSSEC has it.
const LEVEL: Compression = Compression::new(9);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// Of every version; OSSEC before 4 has no other.
    Blowfish,
    Aes,
}

impl Cipher {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blowfish => "blowfish",
            Self::Aes => "aes",
        }
    }
}

/// Why bytes are not a message. The peer is at fault, or does not have the key.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq, Hash)]
pub enum SecureError {
    #[error("the datagram does not begin as one of OSSEC's")]
    Framing,
    #[error("the datagram has more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the cipher text is cut off")]
    Length,
    #[error("the key does not fit")]
    Key,
    #[error("the compressed text is damaged or cut off")]
    Compression,
    #[error("the text is longer than {MESSAGE_BYTES_MAX} bytes when it is unpacked")]
    Bomb,
    #[error("the checksum does not fit")]
    Checksum,
    #[error("the message has no numbers at its head")]
    Header,
}

/// A datagram, not yet opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'d> {
    /// Sent by agents whose address may change.
    pub id: Option<&'d str>,
    pub cipher: Cipher,
    sealed: &'d [u8],
}

impl<'d> Datagram<'d> {
    pub fn parse(bytes: &'d [u8]) -> Result<Self, SecureError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(SecureError::TooLong);
        }
        let (id, rest) = match bytes.strip_prefix(b"!") {
            None => (None, bytes),
            Some(rest) => {
                let digits = rest.iter().take(ID_DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
                let id = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
                let rest = rest[digits..].strip_prefix(b"!").filter(|_| (1..=ID_DIGITS_MAX).contains(&digits));
                (Some(id), rest.ok_or(SecureError::Framing)?)
            }
        };
        let (cipher, sealed) = match (rest.strip_prefix(b":"), rest.strip_prefix(AES_MARK)) {
            (Some(sealed), _) => (Cipher::Blowfish, sealed),
            (_, Some(sealed)) => (Cipher::Aes, sealed),
            _ => return Err(SecureError::Framing),
        };
        Ok(Self { id, cipher, sealed })
    }
}

/// One agent's key in the form that the ciphers take.
pub struct SecureKey {
    aes: Aes256,
    blowfish: Blowfish,
}

impl std::fmt::Debug for SecureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecureKey")
    }
}

impl SecureKey {
    /// From the three fields of a line of `client.keys`. It costs some 20 µs and 4 KiB, nearly all for Blowfish.
    pub fn derive(name: &str, id: &str, key: &str) -> Self {
        let text = derived_key(name, id, key);
        let aes = Aes256::new_from_slice(&text[..AES_KEY_BYTES]).expect("an AES-256 key has 32 bytes");
        let blowfish = Blowfish::new_from_slice(&text).expect("a Blowfish key has 4 to 56 bytes");
        Self { aes, blowfish }
    }

    fn decrypt<'b>(&self, datagram: &Datagram<'_>, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], SecureError> {
        buffer.clear();
        match datagram.cipher {
            Cipher::Blowfish => {
                if datagram.sealed.is_empty() || !datagram.sealed.len().is_multiple_of(BLOWFISH_BLOCK) {
                    return Err(SecureError::Length);
                }
                buffer.extend_from_slice(datagram.sealed);
                let cbc = cbc::Decryptor::inner_iv_init(&self.blowfish, &BLOWFISH_IV.into());
                cbc.decrypt_padded::<NoPadding>(buffer).map_err(|_| SecureError::Length)
            }
            Cipher::Aes => {
                let (iv, sealed) = datagram.sealed.split_first_chunk::<AES_IV_BYTES>().ok_or(SecureError::Length)?;
                if sealed.is_empty() || !sealed.len().is_multiple_of(AES_IV_BYTES) {
                    return Err(SecureError::Length);
                }
                buffer.extend_from_slice(sealed);
                let cbc = cbc::Decryptor::inner_iv_init(&self.aes, iv.into());
                cbc.decrypt_padded::<Pkcs7>(buffer).map_err(|_| SecureError::Key)
            }
        }
    }

    /// Encrypts `plain`, whose length is a multiple of 8, with all that stands before it on the wire.
    pub fn encrypt(&self, cipher: Cipher, iv: [u8; AES_IV_BYTES], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(AES_MARK.len() + AES_IV_BYTES + plain.len() + AES_IV_BYTES);
        match cipher {
            Cipher::Blowfish => {
                out.push(b':');
                let start = out.len();
                out.extend_from_slice(plain);
                let cbc = cbc::Encryptor::inner_iv_init(&self.blowfish, &BLOWFISH_IV.into());
                let done = cbc.encrypt_padded::<NoPadding>(&mut out[start..], plain.len());
                done.expect("the plain text is whole blocks");
            }
            Cipher::Aes => {
                out.extend_from_slice(AES_MARK);
                out.extend_from_slice(&iv);
                let start = out.len();
                out.extend_from_slice(plain);
                out.resize(start + (plain.len() / AES_IV_BYTES + 1) * AES_IV_BYTES, 0);
                let cbc = cbc::Encryptor::inner_iv_init(&self.aes, &iv.into());
                let done = cbc.encrypt_padded::<Pkcs7>(&mut out[start..], plain.len());
                done.expect("there is room for the padding");
            }
        }
        out
    }
}

/// `md5hex(key) + md5hex(md5hex(name) + md5hex(id))`, of the latter 15 characters.
fn derived_key(name: &str, id: &str, key: &str) -> [u8; KEY_BYTES] {
    let of_both = md5_hex(&[&md5_hex(&[name.as_bytes()]), &md5_hex(&[id.as_bytes()])]);
    let mut text = [0; KEY_BYTES];
    text[..32].copy_from_slice(&md5_hex(&[key.as_bytes()]));
    text[32..].copy_from_slice(&of_both[..KEY_BYTES - 32]);
    text
}

/// The MD5 of `parts` in a row, in hexadecimal.
pub(crate) fn md5_hex(parts: &[&[u8]]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(md5.finalize()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    hex
}

/// What was in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'b> {
    pub count: Count,
    pub payload: &'b [u8],
}

/// Packs and unpacks messages. It holds what that needs, so that a message costs no allocation to read.
pub struct SecureCodec {
    inflate: Decompress,
    deflate: Compress,
    plain: Vec<u8>,
    text: Vec<u8>,
}

impl std::fmt::Debug for SecureCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecureCodec")
    }
}

impl Default for SecureCodec {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(true),
            deflate: Compress::new(LEVEL, true),
            plain: Vec::with_capacity(MESSAGE_BYTES_MAX),
            text: Vec::with_capacity(MESSAGE_BYTES_MAX),
        }
    }
}

impl SecureCodec {
    /// Opens a datagram. Whether its number is new is not looked at here.
    pub fn open(&mut self, key: &SecureKey, datagram: &Datagram<'_>) -> Result<Opened<'_>, SecureError> {
        let plain = key.decrypt(datagram, &mut self.plain)?;
        match plain.first() {
            Some(b'!') => {}
            Some(b':') => return open_old(&plain[1..]),
            _ => return Err(SecureError::Key),
        }
        let packed = &plain[plain.iter().take_while(|b| **b == b'!').count()..];
        self.inflate.reset(true);
        self.text.clear();
        let unpacked = self.inflate.decompress_vec(packed, &mut self.text, FlushDecompress::Finish);
        match unpacked {
            Ok(Status::StreamEnd) => read_body(&self.text),
            // It wanted more room than there is.
            Ok(_) if self.text.len() == self.text.capacity() => Err(SecureError::Bomb),
            // A wrong Blowfish key shows here, unless the padding was not even one.
            Ok(_) | Err(_) => Err(SecureError::Compression),
        }
    }

    /// Makes the datagram of a message. `random` and `iv` are to be unpredictable. A payload above `PAYLOAD_BYTES_MAX` is cut.
    pub fn seal(&mut self, key: &SecureKey, cipher: Cipher, salt: Salt, count: Count, payload: &[u8]) -> Vec<u8> {
        let payload = &payload[..payload.len().min(PAYLOAD_BYTES_MAX)];
        let head = format!("{:05}{:010}:{:04}:", salt.random, count.global, count.local);
        let sum = md5_hex(&[head.as_bytes(), payload]);
        self.text.clear();
        self.text.extend_from_slice(&sum);
        self.text.extend_from_slice(head.as_bytes());
        self.text.extend_from_slice(payload);
        let mut packed = Vec::with_capacity(self.text.len() + 128);
        self.deflate.reset();
        let done = self.deflate.compress_vec(&self.text, &mut packed, FlushCompress::Finish);
        debug_assert!(matches!(done, Ok(Status::StreamEnd)), "zlib adds less than 128 bytes to 6 KiB");
        key.encrypt(cipher, salt.iv, &padded(&packed))
    }
}

/// What is random in a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Salt {
    pub random: u16,
    pub iv: [u8; AES_IV_BYTES],
}

/// One to eight `!`, so that the whole is a multiple of eight.
fn padded(packed: &[u8]) -> Vec<u8> {
    let marks = BLOWFISH_BLOCK - packed.len() % BLOWFISH_BLOCK;
    let mut plain = vec![b'!'; marks];
    plain.extend_from_slice(packed);
    plain
}

fn read_body(text: &[u8]) -> Result<Opened<'_>, SecureError> {
    let (sum, body) = text.split_first_chunk::<32>().ok_or(SecureError::Header)?;
    if md5_hex(&[body]) != *sum {
        return Err(SecureError::Checksum);
    }
    let head = body.get(..HEADER_BYTES - 32).ok_or(SecureError::Header)?;
    if head[15] != b':' || head[20] != b':' {
        return Err(SecureError::Header);
    }
    let global = number(&head[5..15]).ok_or(SecureError::Header)?;
    let local = number(&head[16..20]).ok_or(SecureError::Header)?;
    opened(global, local, &body[HEADER_BYTES - 32..])
}

/// The form before 2.0: a time and a count in the place of the two numbers, then anything up to a colon.
fn open_old(text: &[u8]) -> Result<Opened<'_>, SecureError> {
    let text = &text[..text.iter().position(|b| *b == 0).unwrap_or(text.len())];
    let (sum, body) = text.split_first_chunk::<32>().ok_or(SecureError::Key)?;
    if md5_hex(&[body]) != *sum {
        return Err(SecureError::Checksum);
    }
    let global = leading_number(body.get(..11).ok_or(SecureError::Header)?).ok_or(SecureError::Header)?;
    let local = leading_number(body.get(11..16).ok_or(SecureError::Header)?).ok_or(SecureError::Header)?;
    let rest = &body[16..];
    let colon = rest.iter().position(|b| *b == b':').ok_or(SecureError::Header)?;
    opened(global, local, &rest[colon + 1..])
}

fn opened(global: u64, local: u64, payload: &[u8]) -> Result<Opened<'_>, SecureError> {
    let global = u32::try_from(global).map_err(|_| SecureError::Header)?;
    let local = u16::try_from(local).ok().filter(|n| (1..=LOCAL_MAX).contains(n)).ok_or(SecureError::Header)?;
    Ok(Opened { count: Count { global, local }, payload })
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn leading_number(text: &[u8]) -> Option<u64> {
    number(&text[..text.iter().take_while(|b| b.is_ascii_digit()).count()])
}

#[cfg(test)]
mod tests;
