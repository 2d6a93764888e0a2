//! The policy from its text to its answers.

use proptest::prelude::*;
use tally_types::{Attribute, PathBytes};

use super::*;
use crate::AgentConfig;

fn path(text: &str) -> PathBytes {
    PathBytes::new(text.as_bytes()).unwrap()
}

fn policy(text: &str) -> Policy {
    let (policy, faults) = Policy::parse(text, "policy.toml");
    assert_eq!(faults, []);
    policy
}

fn modes(policy: &Policy, paths: &[&str]) -> Vec<Option<&'static str>> {
    paths.iter().map(|p| policy.judge(&path(p)).map(|w| w.mode.name())).collect()
}

#[test]
fn the_built_in_profile_has_no_fault_and_covers_what_it_says() {
    let (_, faults) = Policy::parse(parse::LINUX_BASE, "linux-base");
    assert_eq!(faults, []);
    let policy = Policy::defaults(|_| true);
    for (expected, paths) in [
        (
            Some("static"),
            &[
                "/usr/bin/ls",
                "/bin",
                "/usr/lib/x86_64-linux-gnu/security/pam_unix.so",
                "/usr/lib/modules/6.1/kernel/fs/x.ko",
                "/opt/app/bin/x",
                "/boot/vmlinuz",
                "/etc/shadow",
                "/etc/ld.so.preload",
                "/root/.ssh/authorized_keys",
                "/home/a/.ssh/authorized_keys",
                "/home/a/.bashrc",
                "/var/spool/cron/crontabs/root",
                "/etc/systemd/system/x.service",
                "/var/www/html/index.php",
                "/var/lib/dpkg/info/x.list",
                "/var/lib/tallystick/agent/identity/key.pem",
                "/etc/tallystick/agent.toml",
            ][..],
        ),
        (
            Some("log"),
            &[
                "/var/log/auth.log",
                "/var/log/audit/audit.log",
                "/var/log/nginx/access.log",
                "/var/log/wtmp",
                "/var/log/cloud-init-output.log",
            ],
        ),
        (Some("journal"), &["/var/log/journal/abc/system.journal"]),
        (Some("directory"), &["/tmp/x", "/dev/shm/x", "/var/log/lastlog", "/var/www/a/uploads/b.png"]),
        (
            None,
            &[
                "/etc/mtab",
                "/etc/resolv.conf",
                "/etc/adjtime",
                "/etc/x/.y.swp",
                "/proc/1/maps",
                "/dev/null",
                "/run/x",
                "/home/a/secret",
                "/opt/app/data",
                "/var/lib/tallystick/agent/agent.db",
            ],
        ),
    ] {
        for p in paths {
            assert_eq!(policy.judge(&path(p)).map(|w| w.mode.name()), expected, "{p}");
        }
    }
    assert!(policy.watches().iter().all(|w| w.why.is_some() && !w.tags.is_empty()));
}
