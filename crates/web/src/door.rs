//! Who may come in: login links that work once, and the sessions they open.
//!
//! A link is shown by whoever controls the manager (`tally up`, `tally console`). Following it shows a page with a button;
//! only pressing the button uses the link up. Chat programs, mail scanners and browsers follow links on their own to show
//! a preview of them, and would otherwise log themselves in and leave the person with a link that is spent.
//!
//! Links and sessions are 256 random bits. Only their SHA-256 is kept, in memory: a restart ends every session.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// A link that nobody has used for so long is spent.
pub const LINK_LIFE: Duration = Duration::from_secs(60 * 60);
/// A session ends after a working day, used or not.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Of unused links, the oldest goes.
const LINKS_MAX: usize = 16;
/// Of sessions, the oldest goes.
const SESSIONS_MAX: usize = 64;
/// 32 bytes in hexadecimal.
const SECRET_CHARS: usize = 64;

type Hash = [u8; 32];

#[derive(Debug, Default)]
pub struct Door {
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    links: VecDeque<Key>,
    sessions: VecDeque<Key>,
}

#[derive(Debug)]
struct Key {
    hash: Hash,
    ends: Instant,
}

/// Whether a session is open.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Open,
    Shut,
}

impl Door {
    /// A new link's secret; `None` if the system has no randomness to give.
    pub fn new_link(&self, now: Instant) -> Option<String> {
        let secret = random()?;
        add(&mut self.keys().links, LINKS_MAX, &secret, now, LINK_LIFE);
        Some(secret)
    }

    /// Whether this link would still open a session. Asking does not use it up.
    pub fn would_open(&self, link: &str, now: Instant) -> Entry {
        find(&mut self.keys().links, link, now).map_or(Entry::Shut, |_| Entry::Open)
    }

    /// Uses up a link, and opens a session for it.
    pub fn redeem(&self, link: &str, now: Instant) -> Option<String> {
        let session = random()?;
        let mut keys = self.keys();
        let at = find(&mut keys.links, link, now)?;
        keys.links.remove(at);
        add(&mut keys.sessions, SESSIONS_MAX, &session, now, SESSION_LIFE);
        Some(session)
    }

    pub fn check(&self, session: &str, now: Instant) -> Entry {
        find(&mut self.keys().sessions, session, now).map_or(Entry::Shut, |_| Entry::Open)
    }

    pub fn end(&self, session: &str, now: Instant) {
        let mut keys = self.keys();
        if let Some(at) = find(&mut keys.sessions, session, now) {
            keys.sessions.remove(at);
        }
    }

    /// Each key is added or removed in one step, so a panic elsewhere left nothing half done.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random() -> Option<String> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn add(keys: &mut VecDeque<Key>, most: usize, secret: &str, now: Instant, life: Duration) {
    while keys.len() >= most {
        keys.pop_front();
    }
    keys.push_back(Key { hash: hash(secret), ends: now + life });
}

/// Where `secret` is, looking at every key whatever is found. Keys whose time is over are removed on the way.
fn find(keys: &mut VecDeque<Key>, secret: &str, now: Instant) -> Option<usize> {
    keys.retain(|key| key.ends > now);
    if secret.len() != SECRET_CHARS {
        return None;
    }
    let sought = hash(secret);
    keys.iter().enumerate().fold(None, |found, (i, key)| if equal(&key.hash, &sought) { Some(i) } else { found })
}

fn hash(secret: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

/// Takes the same time wherever the difference is.
fn equal(a: &Hash, b: &Hash) -> bool {
    a.iter().zip(b).fold(0, |sum, (x, y)| black_box(sum | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_one_session_and_looking_at_it_opens_none() {
        let (door, now) = (Door::default(), Instant::now());
        let link = door.new_link(now).unwrap();
        assert_eq!(door.would_open(&link, now), Entry::Open);
        assert_eq!(door.would_open(&link, now), Entry::Open);
        assert_eq!(door.check(&link, now), Entry::Shut);
        let session = door.redeem(&link, now).unwrap();
        assert_eq!(door.redeem(&link, now), None);
        assert_eq!(door.check(&session, now), Entry::Open);
        assert_eq!(door.redeem(&session, now), None);
        door.end(&session, now);
        assert_eq!(door.check(&session, now), Entry::Shut);
    }

    #[test]
    fn links_and_sessions_end_by_time_and_by_number() {
        let (door, now) = (Door::default(), Instant::now());
        let old = door.new_link(now).unwrap();
        assert_eq!(door.redeem(&old, now + LINK_LIFE), None);
        let links: Vec<_> = (0..=LINKS_MAX).map(|_| door.new_link(now).unwrap()).collect();
        assert_eq!(door.would_open(&links[0], now), Entry::Shut);
        let session = door.redeem(&links[1], now).unwrap();
        assert_eq!(door.check(&session, now + SESSION_LIFE - Duration::from_secs(1)), Entry::Open);
        assert_eq!(door.check(&session, now + SESSION_LIFE), Entry::Shut);
        for bad in ["", "x", &"0".repeat(SECRET_CHARS), &"0".repeat(100_000)] {
            assert_eq!(door.check(bad, now), Entry::Shut);
        }
    }
}
