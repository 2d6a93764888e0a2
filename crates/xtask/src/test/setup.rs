//! What the tests need on the machine and cargo does not bring: installed if missing, checked by running it.

use std::path::Path;

use anyhow::ensure;

use crate::step::{answers, command, output, run};

/// A Debian package, and how to see that it works.
struct Needed {
    package: &'static str,
    program: &'static str,
    why: &'static str,
}

/// Not every program knows `--version`.
fn version_flag(program: &str) -> &'static str {
    match program {
        "mkfs.xfs" => "-V",
        "auditctl" => "-v",
        "/usr/sbin/sshd" | "ssh" => "-V",
        "busybox" => "--help",
        "openssl" => "version",
        "/usr/sbin/postconf" => "mail_version",
        "/usr/sbin/saslpasswd2" => "-v",
        "/usr/sbin/saslpluginviewer" => "-a",
        "rsyslogd" => "-v",
        _ => "--version",
    }
}

const NEEDED: [Needed; 33] = [
    Needed { package: "chromium", program: "chromium", why: "the console is tested in a browser" },
    Needed { package: "chromium-driver", program: "chromedriver", why: "the browser is driven by WebDriver" },
    Needed { package: "aide", program: "aide", why: "`tally check` is compared with it" },
    Needed { package: "xfsprogs", program: "mkfs.xfs", why: "the agent is tested on xfs" },
    Needed { package: "btrfs-progs", program: "btrfs", why: "the agent is tested on btrfs" },
    Needed { package: "acl", program: "setfacl", why: "a changed ACL is a change" },
    Needed { package: "auditd", program: "auditctl", why: "the agent is tested beside an audit daemon" },
    Needed { package: "openssh-server", program: "/usr/sbin/sshd", why: "sessions from afar come over it" },
    Needed { package: "openssh-client", program: "ssh", why: "sessions from afar come over it" },
    Needed { package: "podman", program: "podman", why: "containers are run by it" },
    Needed { package: "runc", program: "runc", why: "podman runs containers by it" },
    Needed { package: "busybox-static", program: "busybox", why: "it is what runs in containers" },
    Needed { package: "attr", program: "setfattr", why: "a changed attribute is a change" },
    Needed { package: "logrotate", program: "logrotate", why: "rotations of watched logs are made by it" },
    Needed { package: "systemd", program: "journalctl", why: "journals that are watched are written by its journald" },
    Needed {
        package: "systemd-journal-remote",
        program: "/lib/systemd/systemd-journal-remote",
        why: "journals that are verified are written by it too",
    },
    Needed { package: "bsdutils", program: "logger", why: "syslog is sent by it" },
    Needed { package: "rsyslog", program: "rsyslogd", why: "alerts are delivered to it" },
    Needed { package: "rsyslog-openssl", program: "rsyslogd", why: "it takes TLS by this" },
    Needed { package: "xz-utils", program: "xz", why: "logs are compressed by it" },
    Needed { package: "zstd", program: "zstd", why: "logs are compressed by it" },
    Needed { package: "bzip2", program: "bzip2", why: "logs are compressed by it" },
    Needed { package: "openssl", program: "openssl", why: "hosts enrol with it as OSSEC's agents do" },
    Needed { package: "postfix", program: "/usr/sbin/postconf", why: "mail is sent to it" },
    Needed { package: "sasl2-bin", program: "/usr/sbin/saslpasswd2", why: "the mail server asks for a password" },
    Needed {
        package: "libsasl2-modules",
        program: "/usr/sbin/saslpluginviewer",
        why: "it is how a password is asked for",
    },
    Needed { package: "libsasl2-modules-db", program: "/usr/sbin/saslpluginviewer", why: "it is where passwords are" },
    Needed { package: "tar", program: "tar", why: "a large unpacking is one of the loads" },
    Needed { package: "systemd", program: "systemd-analyze", why: "the units are checked by it" },
    Needed { package: "strace", program: "strace", why: "what the units forbid is compared with what the agent does" },
    Needed { package: "util-linux", program: "setpriv", why: "the agent is run with what its unit leaves it" },
    Needed { package: "clang-14", program: "clang-14", why: "the BPF object is compared with its source" },
    Needed { package: "llvm-14", program: "llvm-strip-14", why: "the BPF object is compared with its source" },
];

/// The version of cargo-nextest whose options and report are used here; any later one will do.
const NEXTEST: &str = "0.9.143";

pub fn install() -> anyhow::Result<()> {
    let missing: Vec<&Needed> =
        NEEDED.iter().filter(|needed| !answers(needed.program, &[version_flag(needed.program)])).collect();
    if !missing.is_empty() {
        apt_install(&missing.iter().map(|needed| needed.package).collect::<Vec<_>>())?;
    }
    if !answers("cargo", &["nextest", "--version"]) {
        run(&mut command(Path::new("."), "cargo", &["install", "cargo-nextest", "--locked", "--version", NEXTEST]))?;
    }
    for Needed { package, program, why } in &NEEDED {
        let version = output(&mut command(Path::new("."), program, &[version_flag(program)]))
            .map_err(|error| error.context(format!("{package} does not work ({why})")))?;
        println!("{package:<16} {}", version.lines().next().unwrap_or_default());
    }
    let nextest = output(&mut command(Path::new("."), "cargo", &["nextest", "--version"]))?;
    println!("{:<16} {}", "cargo-nextest", nextest.lines().next().unwrap_or_default());
    Ok(())
}

pub fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    ensure!(
        answers("apt-get", &["--version"]),
        "missing: {}; this is not Debian or Ubuntu, so install them by hand",
        packages.join(" ")
    );
    let is_root = rustix::process::geteuid().is_root();
    let prefix: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    apt(prefix, &["apt-get", "update", "-q"])?;
    let install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"];
    apt(prefix, &[&install[..], packages].concat())
}

fn apt(prefix: &[&str], words: &[&str]) -> anyhow::Result<()> {
    let line = [prefix, words].concat();
    run(command(Path::new("."), line[0], &line[1..]).env("DEBIAN_FRONTEND", "noninteractive"))
}
