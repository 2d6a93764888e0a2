//! What a change of a file of a known form means, in sentences: `user deploy was added to group wheel`.
//!
//! Forms are told by the path, below whatever root it stands, so that a container's `/etc/passwd` is read as well. Lines that
//! do not have the form are left aside here; the diff has them.
//! Sources: passwd(5), group(5), shadow(5), gshadow(5), sudoers(5), sshd_config(5), crontab(5), sshd(8).

mod account;
mod job;
mod key;
mod setting;
mod shadow;

use std::collections::BTreeMap;

use tally_types::PathBytes;

use super::Masker;

/// A form that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Passwd,
    Group,
    Shadow,
    Gshadow,
    Sudoers,
    SshdConfig,
    /// A user's own table: without a column for the user.
    Crontab,
    SystemCrontab,
    AuthorizedKeys,
}

impl Form {
    /// The form of the file at `path`, by its name.
    pub fn of(path: &PathBytes) -> Option<Self> {
        let path = path.as_bytes();
        let (directory, name) = split(path);
        let (above, parent) = split(directory);
        let grandparent = split(above).1;
        let is_hidden = name.starts_with(b".") || name.ends_with(b"~");
        match (parent, name) {
            (b"etc", b"passwd" | b"passwd-") => Some(Self::Passwd),
            (b"etc", b"group" | b"group-") => Some(Self::Group),
            (b"etc", b"shadow" | b"shadow-") => Some(Self::Shadow),
            (b"etc", b"gshadow" | b"gshadow-") => Some(Self::Gshadow),
            (b"etc", b"sudoers") => Some(Self::Sudoers),
            (b"etc", b"crontab") => Some(Self::SystemCrontab),
            (b"sudoers.d", _) if !is_hidden => Some(Self::Sudoers),
            (b"cron.d", _) if !is_hidden => Some(Self::SystemCrontab),
            (b"ssh", b"sshd_config") => Some(Self::SshdConfig),
            (b"sshd_config.d", _) if name.ends_with(b".conf") => Some(Self::SshdConfig),
            (b"crontabs", _) if grandparent == b"spool" || split(split(above).0).1 == b"spool" => Some(Self::Crontab),
            (b"cron", _) if grandparent == b"var" || split(above).1 == b"spool" => Some(Self::Crontab),
            (b".ssh", b"authorized_keys" | b"authorized_keys2") => Some(Self::AuthorizedKeys),
            _ => None,
        }
    }

    /// Whether the file holds secrets: then nothing but sentences is told of it.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Shadow | Self::Gshadow)
    }

    /// What is kept of a content: all of it, but of passwords only whether they are others than before.
    pub fn kept(self, content: &[u8]) -> Vec<u8> {
        if self.is_secret() { shadow::kept(content) } else { content.to_vec() }
    }

    /// What became of a text, both sides in the form of `kept`.
    pub(super) fn summary(self, path: &PathBytes, before: &str, after: &str, masker: &mut Masker) -> Vec<String> {
        match self {
            Self::Passwd => account::users(before, after),
            Self::Group => account::groups(before, after),
            Self::Shadow => shadow::users(before, after),
            Self::Gshadow => shadow::groups(before, after),
            // What commands and settings hold may be a secret.
            Self::Sudoers => setting::sudoers(&masker.mask(before), &masker.mask(after)),
            Self::SshdConfig => setting::sshd(&masker.mask(before), &masker.mask(after)),
            Self::Crontab => {
                let user = String::from_utf8_lossy(path.file_name());
                job::jobs(&masker.mask(before), &masker.mask(after), Some(&user))
            }
            Self::SystemCrontab => job::jobs(&masker.mask(before), &masker.mask(after), None),
            Self::AuthorizedKeys => key::keys(before, after, key::owner(path).as_deref(), masker),
        }
    }
}

/// The directory and the name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    (&path[..at], path.get(at + 1..).unwrap_or_default())
}

/// Lines by a key; of one that stands there more than once each with its number, from 0.
type Records<'t, V> = BTreeMap<(&'t str, usize), V>;

fn records<'t, V>(lines: impl Iterator<Item = (&'t str, V)>) -> Records<'t, V> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let mut records = Records::new();
    for (key, value) in lines {
        let number = count.entry(key).or_default();
        records.insert((key, *number), value);
        *number += 1;
    }
    records
}

/// What of two lists is in one only: removed, added. Equal lines are counted.
fn difference<'t, T: Ord + Copy>(before: &'t [T], after: &'t [T]) -> (Vec<T>, Vec<T>) {
    let mut count: BTreeMap<T, i64> = BTreeMap::new();
    before.iter().for_each(|item| *count.entry(*item).or_default() -= 1);
    after.iter().for_each(|item| *count.entry(*item).or_default() += 1);
    let mut take = |items: &[T], sign: i64| {
        let mut taken = Vec::new();
        for item in items {
            let left = count.entry(*item).or_default();
            if left.signum() == sign {
                *left -= sign;
                taken.push(*item);
            }
        }
        taken
    };
    let removed = take(before, -1);
    (removed, take(after, 1))
}

#[cfg(test)]
mod tests;
