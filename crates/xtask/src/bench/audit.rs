//! An audit watch, as `auditctl -w` sets it, with the audit daemon that takes its records: the host's own, or one that is
//! started for the measurement and stopped after it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::daemon::wait_for;
use crate::step::{answers, output};

/// It goes with its owner, and so does its daemon, if it is not the host's.
pub struct Audit {
    dir: String,
    daemon: Option<Child>,
    /// Whether the subsystem was at work before.
    was_enabled: bool,
}

impl Audit {
    /// Whether rules can be changed, and there is a daemon.
    pub fn is_there() -> bool {
        let enabled = status("enabled ");
        (status("pid ").is_some_and(|pid| pid > 0) || Path::new("/sbin/auditd").exists())
            && enabled.is_some_and(|enabled| enabled < 2)
    }

    pub fn watch(bench: &Bench, dir: &Path) -> anyhow::Result<Self> {
        let was_enabled = status("enabled ") == Some(1);
        let is_host = status("pid ").is_some_and(|pid| pid > 0);
        let daemon = if is_host { None } else { Some(daemon(bench)?) };
        let audit = Self { dir: dir.display().to_string(), daemon, was_enabled };
        wait_for("the audit daemon", || Ok(status("pid ").filter(|pid| *pid > 0)))?;
        if !was_enabled {
            audit.tell(&["-e", "1"])?;
        }
        audit.tell(&["-w", &audit.dir, "-p", "wa", "-k", "tally-bench"])?;
        Ok(audit)
    }

    fn tell(&self, words: &[&str]) -> anyhow::Result<()> {
        let status = Command::new("auditctl").args(words).stdout(Stdio::null()).status().context("run auditctl")?;
        ensure!(status.success(), "auditctl {}: {status}", words.join(" "));
        Ok(())
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // An error means that it is not there any more.
        let _ = self.tell(&["-W", &self.dir, "-p", "wa", "-k", "tally-bench"]);
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if !self.was_enabled {
            let _ = self.tell(&["-e", "0"]);
        }
    }
}

/// One that writes its log into memory.
fn daemon(bench: &Bench) -> anyhow::Result<Child> {
    let dir = bench.memory.path().join("audit");
    std::fs::create_dir_all(dir.join("plugins.d"))?;
    let text = format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {dir}/audit.log\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\n\
         freq = 50\nmax_log_file = 8\nnum_logs = 5\nmax_log_file_action = ROTATE\nname_format = NONE\n\
         plugin_dir = {dir}/plugins.d\nspace_left = 20\nadmin_space_left = 10\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("auditd.conf"), text)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
    let mut command = Command::new("auditd");
    command.args(["-n", "-s", "nochange", "-c"]).arg(&dir).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().context("start auditd")
}

/// A number of `auditctl -s`.
fn status(key: &str) -> Option<i64> {
    if !answers("auditctl", &["-v"]) {
        return None;
    }
    let status = output(Command::new("auditctl").arg("-s")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}
