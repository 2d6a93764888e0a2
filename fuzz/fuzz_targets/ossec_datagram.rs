//! OSSEC's datagrams: as they come, and with any plain text under the right key, so that what lies behind the ciphers is
//! reached.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tally_ossec::secure::{AES_IV_BYTES, Cipher, Datagram, SecureCodec, SecureKey};

static KEY: LazyLock<SecureKey> = LazyLock::new(|| SecureKey::derive("web", "001", "0123456789abcdef"));

fn open(bytes: &[u8]) {
    if let Ok(datagram) = Datagram::parse(bytes) {
        let _ = SecureCodec::default().open(&KEY, &datagram);
    }
}

fuzz_target!(|bytes: &[u8]| {
    open(bytes);
    let mut plain = b"!!!!!!!!"[..8 - bytes.len() % 8].to_vec();
    plain.extend_from_slice(bytes);
    open(&KEY.encrypt(Cipher::Blowfish, [0; AES_IV_BYTES], &plain));
    open(&KEY.encrypt(Cipher::Aes, [0; AES_IV_BYTES], &plain));
});
