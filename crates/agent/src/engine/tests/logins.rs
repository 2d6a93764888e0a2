//! The records of logins (wtmp, btmp, lastlog) as the programs write them: login, sshd, last, logrotate by the distribution's own
//! configuration, and utmpdump as who would rather not have been there.

use std::process::Stdio;

use super::rotations::Scene;
use super::*;

/// One record of a login, `struct utmp` of utmp(5).
const RECORD: u64 = 384;

/// A shell line in a mount namespace in which the watched directory is /var/log, and /run is empty.
fn inside(scene: &Scene, line: &str) {
    let begin = "set -e; mount --bind \"$1\" /var/log; mount -t tmpfs tmpfs /run; touch /run/utmp; mkdir /run/sshd; ";
    let mut command = Program::new("unshare");
    command.args(["-m", "bash", "-c"]).arg(format!("{begin}{line}")).arg("login").arg(&scene.host.watched);
    let done = command.arg(scene.host.dir.path()).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

fn scene() -> Option<Scene> {
    let programs = ["/usr/bin/login", "/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/utmpdump", "/usr/sbin/logrotate"];
    if let Some(missing) = programs.into_iter().find(|program| !Path::new(program).exists()) {
        eprintln!("skipped: {missing} is not installed");
        return None;
    }
    if fanotify_is_missing() {
        return None;
    }
    let mut host = Host::new();
    for (name, mode) in [("wtmp", 0o664), ("btmp", 0o660), ("lastlog", 0o664)] {
        host.write(name, "");
        fs::set_permissions(host.at(name), fs::Permissions::from_mode(mode)).unwrap();
        assert!(Program::new("chgrp").arg("utmp").arg(host.at(name)).status().unwrap().success());
    }
    // As the built-in profile has them.
    let policy = Policy::defaults(|_| true);
    let mode =
        |name: &str| policy.judge(&PathBytes::new(format!("/var/log/{name}").into_bytes()).unwrap()).unwrap().mode;
    host.watches = ["wtmp", "btmp", "lastlog"].map(|name| (path(&host.at(name)), Some(mode(name)))).to_vec();
    Some(Scene::of(host))
}

const LOGIN: &str = "echo exit | script -qec 'login -f root' /dev/null > /dev/null 2>&1 || true";
/// A name that nobody has, and a password that is nobody's.
const FAILED: &str = "printf 'nobody\\nwrong\\n' | script -qec login /dev/null > /dev/null 2>&1 & \
    until test -s /var/log/btmp; do sleep 0.1; done; kill $(jobs -p) || true";
const SSHD: &str = "D=$2/ssh; test -d $D || { mkdir $D; ssh-keygen -qt ed25519 -N '' -f $D/host; ssh-keygen -qt ed25519 -N '' -f $D/key; }; \
    printf 'HostKey %s/host\\nAuthorizedKeysFile %s/key.pub\\nPermitRootLogin yes\\nStrictModes no\\nUsePAM no\\nPidFile none\\n' $D $D > $D/config; \
    ssh -tt -i $D/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o ProxyCommand=\"/usr/sbin/sshd -i -f $D/config\" root@localhost exit > /dev/null 2>&1";

#[test]
fn logins_are_silent_and_their_rotation_too_and_a_login_that_is_taken_out_is_told() {
    let Some(mut scene) = scene() else { return };
    let size = |scene: &Scene, name: &str| fs::metadata(scene.host.at(name)).unwrap().len();
    for _ in 0..2 {
        inside(&scene, LOGIN);
        inside(&scene, SSHD);
        scene.settle();
    }
    inside(&scene, FAILED);
    // Reading them is nothing.
    inside(&scene, "last -f /var/log/wtmp > /dev/null; lastb -f /var/log/btmp > /dev/null; lastlog > /dev/null");
    scene.settle();
    assert!(
        size(&scene, "wtmp") >= 4 * RECORD && size(&scene, "wtmp").is_multiple_of(RECORD),
        "{}",
        size(&scene, "wtmp")
    );
    assert!(size(&scene, "btmp") >= RECORD && size(&scene, "lastlog") > 0);
    assert_eq!(scene.told(), Vec::<String>::new());

    // The distribution's own rotation, with the agent running and stopped.
    const ROTATE: &str = "logrotate --force --state $2/rotate.state /etc/logrotate.d/wtmp /etc/logrotate.d/btmp";
    inside(&scene, ROTATE);
    scene.settle();
    let mut scene = scene.while_stopped(|scene| {
        inside(scene, LOGIN);
        inside(scene, ROTATE);
        inside(scene, LOGIN);
        inside(scene, LOGIN);
    });
    inside(&scene, SSHD);
    scene.settle();
    assert_eq!(scene.told(), Vec::<String>::new());

    // The second record is not to have been.
    inside(
        &scene,
        "cd /var/log; utmpdump wtmp 2> /dev/null | sed 2d | utmpdump -r > $2/new 2> /dev/null; cat $2/new > wtmp",
    );
    let change = scene.alert();
    assert_eq!(change.path, path(&scene.host.at("wtmp")));
    assert!(matches!(change.kind, ChangeKind::Rewritten | ChangeKind::Truncated), "{change:?}");
    // To the byte, as they lie in the tail: utmpdump does not write even the first record as it was.
    let bytes = change.bytes.unwrap();
    assert!(bytes.start < 2 * RECORD && bytes.end > 2 * RECORD && bytes.end <= 8 * RECORD, "{bytes:?}");
    assert!(change.actors.iter().any(|actor| actor.exe.as_ref().is_some_and(|exe| exe.ends_with(b"/cat"))));
    scene.agent.stop();
}

#[test]
fn a_login_that_is_written_over_in_place_is_told_with_its_bytes() {
    let Some(mut scene) = scene() else { return };
    for _ in 0..3 {
        inside(&scene, LOGIN);
    }
    scene.settle();
    // The name, as those tools do that put zeros over it (utmp(5): `ut_user` is at 44).
    scene.run("dd if=/dev/zero of=wtmp bs=1 seek=44 count=32 conv=notrunc status=none");
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&scene.host.at("wtmp")), ChangeKind::Rewritten));
    assert_eq!(change.bytes.map(|bytes| (bytes.start, bytes.end)), Some((44, 48)), "the four letters of root");
    scene.agent.stop();
}
