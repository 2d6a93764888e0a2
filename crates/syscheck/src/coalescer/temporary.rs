//! Names that editors and package tools give to what they make for a moment: a new version before it takes the old one's
//! name, a backup until that is done.
//!
//! Such a file is looked at a little later than others, so that a replacement is one change. It is never left out: what keeps
//! such a name is looked at under it, and what was written under one and went is told.

/// Whether `name` is one of those.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    let ends = |suffix: &[u8]| name.len() > suffix.len() && name.ends_with(suffix);
    is_of_rpm(name)
        || is_of_sed(name)
        || is_of_vim(name)
        || [&b".dpkg-new"[..], b".dpkg-tmp", b"~"].into_iter().any(ends)
}

/// rpm 4: `NAME;5f3a9c01`, with the number of its transaction.
fn is_of_rpm(name: &[u8]) -> bool {
    let Some(at) = name.len().checked_sub(9).filter(|at| *at > 0) else { return false };
    name[at] == b';' && name[at + 1..].iter().all(u8::is_ascii_hexdigit)
}

/// GNU sed 4: `sed` and six letters or digits, by mkostemp.
fn is_of_sed(name: &[u8]) -> bool {
    name.len() == 9 && name.starts_with(b"sed") && name[3..].iter().all(u8::is_ascii_alphanumeric)
}

/// Vim tries whether it may make files in a directory: with `4913`, and so on in steps of 123 while the name is taken
/// (`buf_write` in src/bufwrite.c).
fn is_of_vim(name: &[u8]) -> bool {
    let number = std::str::from_utf8(name).ok().filter(|n| n.len() <= 5 && n.starts_with(|c| ('1'..='9').contains(&c)));
    number.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 4913 && (n - 4913) % 123 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_names_of_the_trade() {
        for name in ["passwd~", "f.dpkg-new", "f.dpkg-tmp", "ls;5f3a9c01", "sedAbC123", "4913", "5036"] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for name in ["~", ".dpkg-new", "passwd", "ls;5f3a9c0g", "sedation1x", "sed", "4914", "04913", "+4913", ""] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
