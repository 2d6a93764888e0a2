//! The agent's end, in the place of a real OSSEC agent, for tests. It speaks both ciphers and is checked against what the
//! real programs said (`tests/wire.rs` of this crate); it watches nothing and follows no file.

use crate::control::{Merged, Order};
use crate::counter::{Count, ReceiveCounter};
use crate::keys::ClientKey;
use crate::secure::{AES_IV_BYTES, Cipher, Datagram, Salt, SecureCodec, SecureKey};

/// An agent that says what it is told to.
#[derive(Debug)]
pub struct Standin {
    pub key: ClientKey,
    pub cipher: Cipher,
    /// The number of the last message sent. As with an agent it outlives a restart.
    pub sent: Count,
    received: ReceiveCounter,
    secure: SecureKey,
    codec: SecureCodec,
    shared: Option<Vec<u8>>,
    /// The MD5 of the shared files that it has.
    merged: Option<[u8; 32]>,
}

impl Standin {
    pub fn new(key: ClientKey, cipher: Cipher) -> Self {
        let secure = SecureKey::derive(&key.name, &key.id, &key.key);
        let (received, codec) = (ReceiveCounter::new(), SecureCodec::default());
        Self { key, cipher, sent: Count::default(), received, secure, codec, shared: None, merged: None }
    }

    /// The datagram of a payload.
    pub fn say(&mut self, payload: impl AsRef<[u8]>) -> Vec<u8> {
        self.sent = self.sent.next();
        let salt = Salt { random: self.sent.local, iv: [self.sent.local as u8; AES_IV_BYTES] };
        let sealed = self.codec.seal(&self.secure, self.cipher, salt, self.sent, payload.as_ref());
        match self.key.address.single() {
            Some(_) => sealed,
            None => [b"!", self.key.id.as_bytes(), b"!", &sealed].concat(),
        }
    }

    pub fn startup(&mut self) -> Vec<u8> {
        self.say("#!-agent startup ")
    }

    /// Said once after a start, behind the first ack.
    pub fn started(&mut self) -> Vec<u8> {
        self.say(format!("1:ossec:ossec: Agent started: '{}->{}'.", self.key.name, self.key.address_text))
    }

    pub fn keepalive(&mut self) -> Vec<u8> {
        let merged = self.merged.map_or_else(|| "x".to_owned(), |sum| String::from_utf8_lossy(&sum).into_owned());
        self.say(format!("#!-Linux standin 6.1 #1 SMP x86_64 - OSSEC HIDS v3.7.0\n{merged} merged.mg\n\nrandom"))
    }

    /// A regular file of root with these contents' digests, or any text in their place.
    pub fn file(&mut self, path: &str, size: u64, md5: &str, sha1: &str) -> Vec<u8> {
        self.say(format!("8:syscheck:{size}:33188:0:0:{md5}:{sha1} {path}"))
    }

    pub fn deleted(&mut self, path: &str) -> Vec<u8> {
        self.say(format!("8:syscheck:-1 {path}"))
    }

    pub fn scan_starts(&mut self) -> Vec<u8> {
        self.say("9:rootcheck:Starting syscheck scan.")
    }

    pub fn scan_ends(&mut self) -> [Vec<u8>; 2] {
        [self.say("9:rootcheck:Ending syscheck scan."), self.say("8:syscheck:syscheck-db-completed")]
    }

    /// Takes what the manager sent, as an agent does: a shared file that came whole is kept. `None`: it is not genuine, or
    /// was there before.
    pub fn hear(&mut self, bytes: &[u8]) -> Option<Order> {
        let datagram = Datagram::parse(bytes).ok()?;
        let opened = self.codec.open(&self.secure, &datagram).ok()?;
        self.received.take(opened.count).ok()?;
        let order = Order::parse(opened.payload);
        match &order {
            Order::FileBegins { .. } => self.shared = Some(Vec::new()),
            Order::FilePart(part) => {
                if let Some(shared) = &mut self.shared {
                    shared.extend_from_slice(part);
                }
            }
            Order::FileEnds => {
                let whole = self.shared.take().filter(|bytes| Merged::parse(bytes).is_ok());
                self.merged = whole.map(|bytes| crate::secure::md5_hex(&[&bytes]));
            }
            _ => {}
        }
        Some(order)
    }
}
