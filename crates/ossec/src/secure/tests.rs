//! Datagrams that are genuine, faulty and hostile.

use proptest::prelude::*;

use super::*;

fn key() -> SecureKey {
    SecureKey::derive("web-1", "001", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
}

const SALT: Salt = Salt { random: 7, iv: [9; AES_IV_BYTES] };

fn sealed(cipher: Cipher, payload: &[u8]) -> Vec<u8> {
    SecureCodec::default().seal(&key(), cipher, SALT, Count::new(3, 42), payload)
}

/// The datagram of any text in the place of the compressed one.
fn with_plain(cipher: Cipher, packed: &[u8]) -> Vec<u8> {
    key().encrypt(cipher, SALT.iv, &padded(packed))
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(text.len() + 128);
    Compress::new(LEVEL, true).compress_vec(text, &mut packed, FlushCompress::Finish).unwrap();
    packed
}

fn open(bytes: &[u8]) -> Result<(Count, Vec<u8>), SecureError> {
    let mut codec = SecureCodec::default();
    let opened = codec.open(&key(), &Datagram::parse(bytes)?)?;
    Ok((opened.count, opened.payload.to_vec()))
}

const BOTH: [Cipher; 2] = [Cipher::Blowfish, Cipher::Aes];

#[test]
fn what_is_sealed_is_opened_again() {
    for cipher in BOTH {
        for payload in [&b""[..], b"x", b"#!-agent ack ", &[0xff; PAYLOAD_BYTES_MAX]] {
            let bytes = sealed(cipher, payload);
            assert_eq!(open(&bytes), Ok((Count::new(3, 42), payload.to_vec())), "{cipher:?}");
            let with_id = [b"!1024!", &bytes[..]].concat();
            assert_eq!(Datagram::parse(&with_id).unwrap().id, Some("1024"));
            assert_eq!(open(&with_id), open(&bytes));
        }
    }
}

#[test]
fn a_wrong_key_opens_nothing() {
    let other = SecureKey::derive("web-1", "001", "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    for cipher in BOTH {
        let bytes = sealed(cipher, b"1:/var/log/messages:hello");
        let mut codec = SecureCodec::default();
        let opened = codec.open(&other, &Datagram::parse(&bytes).unwrap());
        assert_eq!(opened, Err(SecureError::Key), "{cipher:?}");
    }
}

#[test]
fn each_fault_is_told_apart() {
    for bad in [&b""[..], b"x", b"!", b"!!", b"!:abc", b"!1:abc", b"!123456789!:", b"!1x!:", b"#AES", b"#"] {
        assert_eq!(Datagram::parse(bad), Err(SecureError::Framing), "{bad:?}");
    }
    assert_eq!(open(&[b':'; MESSAGE_BYTES_MAX + 1]), Err(SecureError::TooLong));
    assert_eq!(open(b":1234567"), Err(SecureError::Length));
    assert_eq!(open(b":"), Err(SecureError::Length));
    assert_eq!(open(b"#AES:0123456789abcdef"), Err(SecureError::Length));
    for cipher in BOTH {
        let whole = compressed(b"some text that is long enough to be cut somewhere");
        assert_eq!(open(&with_plain(cipher, &whole)), Err(SecureError::Checksum));
        assert_eq!(open(&with_plain(cipher, &whole[..whole.len() - 6])), Err(SecureError::Compression));
        let bomb = compressed(&vec![b'0'; 1 << 20]);
        assert!(bomb.len() < MESSAGE_BYTES_MAX);
        assert_eq!(open(&with_plain(cipher, &bomb)), Err(SecureError::Bomb));
        for body in ["", "00007", "000070000000003:0042x", "00007000000000x:0042:x", "000070000000003:0000:x"] {
            let text = [&md5_hex(&[body.as_bytes()])[..], body.as_bytes()].concat();
            assert_eq!(open(&with_plain(cipher, &compressed(&text))), Err(SecureError::Header), "{body}");
        }
    }
}

#[test]
fn the_form_before_2_0_is_read() {
    let body = "1700000000 00042something:1:/var/log/x:hello";
    let mut plain = [b":", &md5_hex(&[body.as_bytes()])[..], body.as_bytes()].concat();
    plain.resize(plain.len().next_multiple_of(8), 0);
    let bytes = key().encrypt(Cipher::Blowfish, SALT.iv, &plain);
    assert_eq!(open(&bytes), Ok((Count::new(1_700_000_000, 42), b"1:/var/log/x:hello".to_vec())));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200), mark in 0..3usize) {
        let bytes = [[&b":"[..], b"#AES:", b"!7!:"][mark], &bytes].concat();
        let _ = open(&bytes);
    }

    #[test]
    fn any_plain_text_is_refused_or_read(plain in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = open(&with_plain(Cipher::Blowfish, &plain));
        let _ = open(&with_plain(Cipher::Blowfish, &compressed(&plain)));
    }

    #[test]
    fn a_mutated_datagram_is_refused_or_the_same(at in 0usize..80, to in any::<u8>()) {
        for cipher in BOTH {
            let mut bytes = sealed(cipher, b"8:syscheck:-1 /etc/passwd");
            let at = at % bytes.len();
            bytes[at] = to;
            let opened = open(&bytes);
            prop_assert!(opened.is_err() || opened == Ok((Count::new(3, 42), b"8:syscheck:-1 /etc/passwd".to_vec())));
        }
    }
}
