//! Two entries side by side, attribute by attribute.

use std::collections::BTreeSet;

use tally_types::{Algorithm, Attribute, Change, Entry, Undigested, Xattr};

use super::word;

/// One attribute before and after; `None` where the entry has none of it.
#[derive(Debug, PartialEq, Eq)]
pub struct AttributeRow {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
    pub differs: bool,
}

/// An extended attribute's value is shown this far.
const XATTR_BYTES_SHOWN: usize = 256;

/// What differs, and what does not, each in a fixed order.
#[derive(Debug, Default)]
pub struct Comparison {
    pub differing: Vec<AttributeRow>,
    pub equal: Vec<AttributeRow>,
}

impl Comparison {
    pub fn new(change: &Change) -> Self {
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        let mut comparison = Self::default();
        let mut add = |name: String, of: &dyn Fn(&Entry) -> Option<String>| {
            let (before, after) = (before.and_then(of), after.and_then(of));
            if before.is_none() && after.is_none() {
                return;
            }
            let differs = before != after;
            let rows = if differs { &mut comparison.differing } else { &mut comparison.equal };
            rows.push(AttributeRow { name, before, after, differs });
        };
        add("Type".into(), &|e| Some(e.kind.name().into()));
        add("Size".into(), &|e| Some(word::size(e.size)));
        add("Mode".into(), &|e| Some(word::mode(e.mode)));
        add("Owner".into(), &|e| Some(word::account(e.user.as_deref(), e.uid)));
        add("Group".into(), &|e| Some(word::account(e.group.as_deref(), e.gid)));
        for algorithm in Algorithm::ALL {
            add(digest_name(algorithm).into(), &|e| digest(e, algorithm));
        }
        add("Not hashed".into(), &|e| e.undigested.map(|why| undigested(why).into()));
        add("Modified at".into(), &|e| Some(e.mtime.to_string().replace('T', " ").replace('Z', " UTC")));
        add("Link target".into(), &|e| e.target.as_deref().map(word::text));
        add("Device".into(), &|e| e.device.map(|d| format!("{}, {}", d.major, d.minor)));
        add("Flags".into(), &flags);
        for name in xattr_names(before, after) {
            let label = xattr_label(name);
            add(label, &|e| e.xattrs.iter().find(|x| &*x.name == name).map(xattr));
        }
        comparison
    }
}

fn digest_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha1 => "SHA-1",
        Algorithm::Md5 => "MD5",
        Algorithm::Sha512 => "SHA-512",
        Algorithm::Blake3 => "BLAKE3",
    }
}

fn digest(entry: &Entry, algorithm: Algorithm) -> Option<String> {
    entry.digests.iter().find(|(a, _)| *a == algorithm).map(|(_, bytes)| word::hex(bytes))
}

const fn undigested(why: Undigested) -> &'static str {
    match why {
        Undigested::Denied => "the agent may not read it",
        Undigested::Changing => "it changed at every attempt to read it",
        Undigested::TooLarge => "it is larger than the policy's limit, or almost all of it is holes",
        Undigested::ReadError => "the device gave an error",
        Undigested::NotAsked => "the policy watches its attributes only",
    }
}

fn flags(entry: &Entry) -> Option<String> {
    let names = [(entry.flags.immutable, "immutable"), (entry.flags.append_only, "append-only")];
    let set: Vec<_> = names.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    if set.is_empty() { None } else { Some(set.join(", ")) }
}

fn xattr_names<'e>(before: Option<&'e Entry>, after: Option<&'e Entry>) -> BTreeSet<&'e [u8]> {
    let both = before.into_iter().chain(after);
    both.flat_map(|entry| &entry.xattrs).map(|xattr| &*xattr.name).collect()
}

fn xattr_label(name: &[u8]) -> String {
    match name {
        b"system.posix_acl_access" => "Access list".into(),
        b"system.posix_acl_default" => "Default access list".into(),
        b"security.capability" => "Capabilities".into(),
        b"security.selinux" => "SELinux label".into(),
        other => format!("Attribute {}", word::text(other)),
    }
}

/// Text as text (with the NUL that SELinux ends its labels with), everything else as hexadecimal.
fn xattr(xattr: &Xattr) -> String {
    if xattr.hashed {
        return format!("SHA-256 {}", word::hex(&xattr.value));
    }
    let value = xattr.value.strip_suffix(b"\0").unwrap_or(&xattr.value);
    let is_text = std::str::from_utf8(value).is_ok_and(|text| !text.chars().any(char::is_control));
    let shown = &value[..value.len().min(XATTR_BYTES_SHOWN)];
    let more = if shown.len() < value.len() { "…" } else { "" };
    if is_text { format!("{}{more}", word::text(shown)) } else { format!("{}{more}", word::hex(&xattr.value)) }
}

/// Of a change's attributes, the names in one line: `content, mtime`.
pub fn attributes(change: &Change) -> String {
    change.attributes.iter().map(Attribute::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use tally_types::{ChangeKind, DetectedBy, Digests, FileFlags, FileKind, FileTime, PathBytes};

    use super::*;

    fn entry() -> Entry {
        Entry {
            kind: FileKind::File,
            size: 5,
            mode: 0o644,
            uid: 0,
            user: Some("root".into()),
            gid: 0,
            group: None,
            mtime: FileTime { secs: 1, nanos: 2 },
            digests: Digests::sha256([1; 32]),
            undigested: None,
            target: None,
            device: None,
            flags: FileFlags::default(),
            xattrs: vec![],
        }
    }

    fn change(before: Option<Entry>, after: Option<Entry>) -> Change {
        Change {
            before,
            after,
            ..Change::new(PathBytes::new(*b"/etc/x").unwrap(), ChangeKind::Modified, DetectedBy::Scan)
        }
    }

    #[test]
    fn what_differs_comes_first_and_nothing_is_left_out() {
        let mut after = entry();
        after.mode = 0o4755;
        after.flags.immutable = true;
        after.xattrs =
            vec![Xattr { name: Box::from(&b"security.selinux"[..]), value: Box::from(&b"etc_t\0"[..]), hashed: false }];
        let comparison = Comparison::new(&change(Some(entry()), Some(after)));
        let names = |rows: &[AttributeRow]| rows.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&comparison.differing), ["Mode", "Flags", "SELinux label"]);
        assert_eq!(names(&comparison.equal), ["Type", "Size", "Owner", "Group", "SHA-256", "Modified at"]);
        assert_eq!(comparison.differing[2].after.as_deref(), Some("etc_t"));
        assert_eq!(comparison.equal[5].before.as_deref(), Some("1970-01-01 00:00:01.000000002 UTC"));
        let added = Comparison::new(&change(None, Some(entry())));
        assert!(added.equal.is_empty() && added.differing.iter().all(|row| row.before.is_none()));
        assert!(Comparison::new(&change(None, None)).differing.is_empty());
    }

    #[test]
    fn values_of_a_hostile_host_are_bounded_and_escaped() {
        let value =
            |value: &[u8]| xattr(&Xattr { name: Box::from(&b"user.x"[..]), value: value.into(), hashed: false });
        assert_eq!(value(b"\x01\x02"), "0102");
        assert_eq!(value("\u{202e}x".as_bytes()), r"\u{202e}x");
        assert!(value(&[b'a'; 5000]).len() < 300);
        assert_eq!(xattr_label(b"user.\x1b[0m"), r"Attribute user.\u{1b}[0m");
    }
}
