//! One program: whether it may be run, and its run to the end.
//!
//! It gets its words as they are, a short environment, and `/` as its directory. It has to belong to root or to this process's
//! own user, and so has every directory above it, and nobody else may write to any of them.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// After this a program is ended, with all that it started.
pub const PROGRAM_TIME_MAX: Duration = Duration::from_secs(60);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program to its end, and says how it ended.
pub fn execute(program: &Path, words: &[String]) -> String {
    let program = match trusted(program) {
        Ok(program) => program,
        Err(why) => return format!("not run: {why}"),
    };
    let mut command = Command::new(&program);
    command.args(words).current_dir("/").env_clear().env("PATH", PATH).env("LC_ALL", "C").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("not run: {}: {error}", program.display()),
    };
    let group = child.id();
    let (ended, end) = channel::<()>();
    let watch = std::thread::Builder::new().name("tally-response-end".to_owned()).spawn(move || {
        let is_late = end.recv_timeout(PROGRAM_TIME_MAX) == Err(RecvTimeoutError::Timeout);
        if is_late {
            let _ = tally_sys::spawn::kill_group(group);
        }
        is_late
    });
    let status = child.wait();
    drop(ended);
    let is_late = watch.is_ok_and(|watch| watch.join().unwrap_or(false));
    match status {
        _ if is_late => format!("was ended after {} s", PROGRAM_TIME_MAX.as_secs()),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "ended with 0".to_owned(),
            (Some(code), _) => format!("failed with {code}"),
            (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
        },
        Err(error) => format!("its end is not known: {error}"),
    }
}

/// The program itself, without links, where nobody but root and this user can have put it there.
pub fn trusted(path: &Path) -> Result<PathBuf, String> {
    let shown = |path: &Path, why: &str| format!("{}: {why}", path.display());
    if !path.is_absolute() {
        return Err(shown(path, "a program is named by its whole path"));
    }
    let real = path.canonicalize().map_err(|error| shown(path, &error.to_string()))?;
    let us = tally_sys::spawn::effective_uid();
    for part in real.ancestors() {
        let meta = std::fs::symlink_metadata(part).map_err(|error| shown(part, &error.to_string()))?;
        let (uid, mode) = (meta.uid(), meta.mode());
        if uid != 0 && uid != us {
            return Err(shown(part, "belongs to another user, who could change what is run"));
        }
        // In a directory such as /tmp nobody can replace what is another's.
        let is_sticky = meta.is_dir() && mode & 0o1000 != 0;
        if mode & 0o022 != 0 && !is_sticky {
            return Err(shown(part, "others than its owner may write to it, and so change what is run"));
        }
        if part == real && !(meta.is_file() && mode & 0o111 != 0) {
            return Err(shown(part, "is no program"));
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests;
