//! What a change of a text says: its lines without secrets, and what they mean.

use tally_types::Algorithm;

use super::*;

fn told(change: &Change) -> (&str, Option<&str>, Vec<&str>) {
    let diff = change.diff.as_ref().unwrap();
    (&diff.text, diff.note.as_deref(), change.summary.iter().map(|sentence| &**sentence).collect())
}

#[test]
fn lines_and_their_meaning_are_told_and_secrets_are_not() {
    if fanotify_is_missing() {
        return;
    }
    let mut host = Host::new();
    host.diff = true;
    host.write("etc/group", "wheel:x:10:root\n");
    host.write("app.ini", "port = 1\npassword = hunter2\n");
    host.write("etc/shadow", "root:$6$salt$oldoldold:1::::::\n");
    let mut agent = host.start();
    host.write("etc/group", "wheel:x:10:root,deploy\n");
    let change = agent.one_change(&host.at("etc/group"));
    let lines = "@@ -1 +1 @@\n-wheel:x:10:root\n+wheel:x:10:root,deploy\n";
    assert_eq!(told(&change), (lines, None, vec!["user deploy was added to group wheel"]));
    host.write("app.ini", "port = 2\npassword = correct horse\n");
    let change = agent.one_change(&host.at("app.ini"));
    let lines = "@@ -1,2 +1,2 @@\n-port = 1\n-password = [secret 1]\n+port = 2\n+password = [secret 2]\n";
    assert_eq!(told(&change), (lines, None, vec![]));
    host.write("etc/shadow", "root:$6$salt$newnewnew:1::::::\n");
    let change = agent.one_change(&host.at("etc/shadow"));
    assert_eq!((&change.diff, change.summary.len()), (&None, 1));
    // What is kept outlives a restart, and a file that goes takes its text along.
    agent.stop();
    host.write("app.ini", "port = 3\n");
    let mut agent = host.start();
    let change = agent.one_change(&host.at("app.ini"));
    assert!(told(&change).0.contains("-password = [secret 1]"), "{change:?}");
    // Why there are no lines is said.
    host.write("app.ini", "port\0\n");
    assert_eq!(told(&agent.one_change(&host.at("app.ini"))), ("", Some("now: binary"), vec![]));
    host.write("app.ini", &"port = 3\n".repeat(40_000));
    assert_eq!(told(&agent.one_change(&host.at("app.ini"))).1, Some("its text before was not kept"));
    host.write("app.ini", "port = 3\n");
    agent.one_change(&host.at("app.ini"));
    fs::remove_file(host.at("app.ini")).unwrap();
    let change = agent.one_change(&host.at("app.ini"));
    assert_eq!(told(&change).0, "@@ -1 +0,0 @@\n-port = 3\n");
    agent.stop();
}

#[test]
fn without_a_diff_only_known_files_are_summed_up() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    host.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    host.write("a", "a\n");
    let mut agent = host.start();
    host.write("a", "b\n");
    let change = agent.one_change(&host.at("a"));
    assert_eq!((&change.diff, &change.summary[..]), (&None, &[][..]));
    host.write("etc/passwd", "root:x:0:0::/root:/bin/sh\neve:x:0:0::/:/bin/sh\n");
    let change = agent.one_change(&host.at("etc/passwd"));
    assert_eq!(change.diff, None);
    assert_eq!(&*change.summary[0], "user eve was added with uid 0, gid 0, home / and shell /bin/sh");
    agent.stop();
}

#[test]
fn lines_are_told_whichever_digests_the_policy_asks_for() {
    if fanotify_is_missing() {
        return;
    }
    let of = |all: &[Algorithm]| all.iter().fold(Algorithms::EMPTY, |set, algorithm| set.with(*algorithm));
    for digests in [of(&[Algorithm::Blake3]), of(&[Algorithm::Md5, Algorithm::Sha512])] {
        let mut host = Host::new();
        (host.diff, host.digests) = (true, digests);
        host.write("app.ini", "port = 1\n");
        let mut agent = host.start();
        host.write("app.ini", "port = 2\n");
        let change = agent.one_change(&host.at("app.ini"));
        assert_eq!(change.after.as_ref().and_then(|entry| entry.digests.sha256), None);
        assert_eq!(told(&change), ("@@ -1 +1 @@\n-port = 1\n+port = 2\n", None, vec![]));
        agent.stop();
    }
}
