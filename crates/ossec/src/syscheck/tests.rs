//! Sums and paths as agents of all versions send them.

use proptest::prelude::*;
use tally_types::Attribute;

use super::*;

const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";
const SHA1: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str) -> SyscheckMessage {
    SyscheckMessage::parse(b"syscheck", text.as_bytes())
}

fn file(text: &str) -> FileState {
    match parse(text) {
        SyscheckMessage::File(file) => *file,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn six_and_seven_fields_make_an_entry() {
    let new = file(&format!("9:33188:1:2:{MD5}:{SHA1}:{SHA256} /etc/a b"));
    assert_eq!((new.path.to_string().as_str(), new.has_sha256_field), ("/etc/a b", true));
    let Entry { kind, size, mode, uid, gid, digests, undigested, .. } = new.entry;
    assert_eq!((kind, size, mode, uid, gid, undigested), (FileKind::File, 9, 0o644, 1, 2, None));
    let names: Vec<_> = digests.iter().map(|(algorithm, _)| algorithm.name()).collect();
    assert_eq!(names, ["sha256", "sha1", "md5"]);
    let old = file(&format!("9:33188:1:2:{MD5}:{SHA1} /etc/a"));
    assert_eq!((old.entry.digests.sha256, old.has_sha256_field), (None, false));
    let unread = file("0:0:0:0:xxx:xxx:xxx /etc/a");
    assert_eq!((unread.entry.undigested, unread.entry.kind), (Some(Undigested::Denied), FileKind::File));
}

#[test]
fn the_end_of_a_file_of_a_scan_and_a_diff_are_read() {
    assert_eq!(parse("syscheck-db-completed"), SyscheckMessage::Completed);
    assert!(matches!(parse("-1 /x"), SyscheckMessage::Deleted(path) if path.to_string() == "/x"));
    let changed = file(&format!("9:33188:1:2:{MD5}:{SHA1} /etc/a\n1a2\n> new line\n"));
    assert_eq!((&*changed.diff.unwrap().text, changed.path.to_string().as_str()), ("1a2\n> new line", "/etc/a"));
}

#[test]
fn paths_get_the_form_of_all_paths() {
    let path = |text: &str| file(&format!("1:33188:0:0:{MD5}:{SHA1} {text}")).path.to_string();
    assert_eq!(path("//etc/./a/"), "/etc/a");
    assert_eq!(path(r"C:\Windows\System32\x.dll"), "/C:/Windows/System32/x.dll");
    assert_eq!(path("C:/Windows\\x"), "/C:/Windows/x");
    let key = SyscheckMessage::parse(
        b"syscheck-registry",
        format!("0:0:0:0:{MD5}:{SHA1} HKEY_LOCAL_MACHINE\\Software").as_bytes(),
    );
    assert!(matches!(key, SyscheckMessage::File(file) if file.path.to_string() == "/HKEY_LOCAL_MACHINE/Software"));
    let sid = file(&format!("1:33188:S-1-5-18:0:{MD5}:{SHA1} C:\\x"));
    assert_eq!(sid.entry.user.as_deref(), Some("S-1-5-18"));
    assert!(path(r"/a\b") != "/a/b");
}

#[test]
fn what_is_no_sum_is_left_to_the_rules() {
    for text in [
        "",
        "x",
        "-1",
        "-1 ",
        "-1 relative",
        "-1 /a/../b",
        "1:2:3 /x",
        "1:2:3:4:5:6 /x",
        ":::::: /x",
        &format!("-5:33188:0:0:{MD5}:{SHA1} /x"),
        &format!("1:33188:0:0:{MD5}:{SHA1}:{SHA256}:1 /x"),
        &format!("1:33188:0:0:{SHA1}:{MD5} /x"),
        &format!("1:33188:0:0:{}:{SHA1} /x", "g".repeat(32)),
    ] {
        assert_eq!(parse(text), SyscheckMessage::Unclear, "{text}");
    }
}

#[test]
fn a_digest_that_only_one_side_has_is_no_change() {
    let made = |sum: String| entry(&sum).unwrap().0;
    let six = made(format!("9:33188:0:0:{MD5}:{SHA1}"));
    let seven = made(format!("9:33188:0:0:{MD5}:{SHA1}:{SHA256}"));
    let unread = made("9:33188:0:0:xxx:xxx:xxx".to_owned());
    for (before, after) in [(&six, &seven), (&seven, &six), (&unread, &seven), (&seven, &unread)] {
        assert!(differing(before, after).is_empty(), "{before:?} {after:?}");
    }
    let other = made(format!("9:33261:0:0:{}:{SHA1}", "0".repeat(32)));
    let names: Vec<_> = differing(&seven, &other).iter().collect();
    assert_eq!(names, [Attribute::Mode, Attribute::Content]);
}

proptest! {
    #[test]
    fn any_text_is_read(text in "([0-9a-fx]{0,9}:){0,8}[0-9a-fx]{0,64} ?[-/\\\\A-Za-z:.\n ]{0,40}") {
        let _ = SyscheckMessage::parse(b"syscheck", text.as_bytes());
        let _ = SyscheckMessage::parse(b"syscheck-registry", text.as_bytes());
    }
}
