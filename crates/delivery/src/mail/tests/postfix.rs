//! A real Postfix, with STARTTLS and a password asked for: its own directory, its own port, on loopback.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

pub(super) struct Postfix {
    dir: tempfile::TempDir,
    pub port: u16,
}

const USER: &str = "tally-test";
pub(super) const PASSWORD: &str = "correct horse";

impl Postfix {
    /// `None` where it cannot be run, which is said.
    pub fn start() -> Option<Self> {
        let is_root = nobody().is_some()
            && fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        if !is_root || !Path::new("/usr/sbin/postfix").exists() || !Path::new("/usr/sbin/saslpasswd2").exists() {
            println!("skipped: postfix is not installed, or this is not root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postfix = Self { dir, port };
        postfix.configure();
        run(Command::new("postfix").arg("-c").arg(postfix.conf()).arg("check"));
        run(Command::new("postfix").arg("-c").arg(postfix.conf()).arg("start"));
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(postfix);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("postfix does not listen: {}", fs::read_to_string(postfix.dir.path().join("log")).unwrap_or_default());
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("conf")
    }

    pub fn ca(&self) -> PathBuf {
        self.conf().join("cert.pem")
    }

    fn configure(&self) {
        let (dir, conf) = (self.dir.path(), self.conf());
        for name in ["conf", "sasl", "spool", "data", "mail"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let (uid, gid) = nobody().unwrap();
        chown(dir.join("mail"), Some(uid), Some(gid)).unwrap();
        let postfix = id_of("postfix").unwrap();
        chown(dir.join("data"), Some(postfix.0), None).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(conf.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(conf.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::write(
            dir.join("sasl/smtpd.conf"),
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n",
        )
        .unwrap();
        let mut passwd = Command::new("sh");
        passwd.args(["-c", "printf '%s' \"$PASSWORD\" | saslpasswd2 -p -c -u localhost tally-test && chgrp postfix /etc/sasldb2 && chmod 640 /etc/sasldb2"]);
        run(passwd.env("PASSWORD", PASSWORD));
        fs::write(conf.join("main.cf"), main_cf(dir, &conf, uid, gid)).unwrap();
        fs::write(conf.join("master.cf"), master_cf(self.port)).unwrap();
    }

    /// The mails of somebody, as they lie there; waits until there are so many.
    pub fn mails(&self, who: &str, count: usize) -> Vec<String> {
        let read = || -> Vec<String> {
            let found = fs::read_dir(self.dir.path().join("mail").join(who).join("new"));
            found
                .map(|files| files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect())
                .unwrap_or_default()
        };
        for _ in 0..300 {
            if read().len() >= count {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        read()
    }

    pub fn settings(&self, password: &Path) -> Settings {
        Settings {
            security: Security::StartTls,
            tls: TlsSettings { ca: Some(self.ca()), ..TlsSettings::default() },
            user: Some(format!("{USER}@localhost")),
            password: Some(Secret::File(password.to_owned())),
            ..settings(self.port)
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = Command::new("postfix").arg("-c").arg(self.conf()).arg("stop").output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn id_of(user: &str) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<_> = passwd.lines().find(|row| row.starts_with(&format!("{user}:")))?.split(':').collect();
    Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
}

fn nobody() -> Option<(u32, u32)> {
    id_of("nobody")
}

fn main_cf(dir: &Path, conf: &Path, uid: u32, gid: u32) -> String {
    let (dir, conf) = (dir.display(), conf.display());
    format!(
        "compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = localhost
mydestination =
mynetworks =
alias_maps =
virtual_mailbox_domains = example.com
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = inline:{{ ops@example.com=ops/ boss@example.com=boss/ }}
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {conf}/cert.pem
smtpd_tls_key_file = {conf}/key.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
cyrus_sasl_config_path = {dir}/sasl
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = reject_unlisted_recipient, permit_sasl_authenticated, reject
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
"
    )
}

fn master_cf(port: u16) -> String {
    let mut out = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    for (name, kind, private, wakeup, max, command) in [
        ("pickup", "unix", "n", "60", "1", "pickup"),
        ("cleanup", "unix", "n", "-", "0", "cleanup"),
        ("qmgr", "unix", "n", "300", "1", "qmgr"),
        ("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr"),
        ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "-", "0", "bounce"),
        ("defer", "unix", "-", "-", "0", "bounce"),
        ("trace", "unix", "-", "-", "0", "bounce"),
        ("verify", "unix", "-", "-", "1", "verify"),
        ("flush", "unix", "n", "1000?", "0", "flush"),
        ("proxymap", "unix", "-", "-", "-", "proxymap"),
        ("error", "unix", "-", "-", "-", "error"),
        ("retry", "unix", "-", "-", "-", "error"),
        ("discard", "unix", "-", "-", "-", "discard"),
        ("virtual", "unix", "-", "-", "-", "virtual"),
        ("anvil", "unix", "-", "-", "1", "anvil"),
        ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ] {
        let unprivileged = if name == "virtual" { "n" } else { "-" };
        out.push_str(&format!("{name} {kind} {private} {unprivileged} n {wakeup} {max} {command}\n"));
    }
    out
}
