//! The files of OSSEC's side, in the directory that has them: `client.keys`, `rids/`, `shared/`, `authd.pass`.
//!
//! Each is written under another name, synced and renamed. `client.keys` has two writers, the enrolment and the removal of
//! an agent, which take turns by a lock; OSSEC's own tools may write it as well, as long as they do not at the same moment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tally_ossec::authd;
use tally_ossec::control::{MERGED, Merged, SHARED_BYTES_MAX};
use tally_ossec::counter::Count;
use tally_ossec::keys::{ClientKeys, KeyError};
use tally_ossec::syscheck::FileState;
use tally_ossec::syscheck_db;
use tally_types::Timestamp;

const KEYS: &str = "client.keys";
const AR_CONF: &str = "ar.conf";
/// Of one agent: a million files and more.
const DATABASE_BYTES_MAX: u64 = 512 << 20;
const SENDER_COUNTER: &str = "rids/sender_counter";
const PASSWORD: &str = "authd.pass";
/// 100,000 agents fit.
const KEYS_BYTES_MAX: u64 = 32 << 20;
const SMALL_BYTES_MAX: u64 = 64 << 10;
const SHARED_FILES_MAX: usize = 1024;
/// As OSSEC has it: its group may read it, others not.
const KEYS_MODE: u32 = 0o640;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is larger than it can be")]
    TooLarge(PathBuf),
    #[error("{0}: {1}")]
    Shared(PathBuf, tally_ossec::control::MergedError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// By what a file is known to be another one than before.
type Mark = (u64, i64, i64, u64);

fn mark(path: &Path) -> Option<Mark> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// What was last looked at.
#[derive(Debug, Default)]
pub struct Seen {
    keys: Option<Mark>,
    shared: Option<Vec<(String, Mark)>>,
}

#[derive(Debug)]
pub struct KeyFile {
    dir: PathBuf,
    /// `ar.conf`, which is made of the configuration and goes among the shared files.
    ar_conf: Vec<u8>,
    /// Held while `client.keys` is read, altered and written.
    writing: Mutex<()>,
}

impl KeyFile {
    pub fn new(dir: PathBuf, ar_conf: Vec<u8>) -> Self {
        Self { dir, ar_conf, writing: Mutex::default() }
    }

    /// OSSEC keeps these in `etc/` and `queue/` below its own directory; here they lie together. Either is taken.
    fn path(&self, name: &str) -> PathBuf {
        let below = match name.split('/').next() {
            Some("rids") => "queue",
            _ => "etc",
        };
        let installed = self.dir.join(below).join(name);
        if installed.exists() { installed } else { self.dir.join(name) }
    }

    /// The lock guards nothing that a panic could leave half done.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `client.keys` is another one than when this was last asked.
    pub fn changed(&self, seen: &mut Seen) -> bool {
        let now = mark(&self.path(KEYS));
        std::mem::replace(&mut seen.keys, now) != now
    }

    /// The agents; faulty lines are logged, and none where there is no file.
    pub fn load(&self) -> Result<ClientKeys, FileError> {
        let path = self.path(KEYS);
        let (keys, faults) = ClientKeys::parse(&read(&path, KEYS_BYTES_MAX)?, &path.to_string_lossy());
        for fault in faults {
            tracing::warn!(%fault, "a line of client.keys is passed over");
        }
        Ok(keys)
    }

    /// Alters `client.keys`. Nothing is written where `alter` refuses.
    pub fn alter<T>(&self, alter: impl FnOnce(&mut ClientKeys) -> Result<T, KeyError>) -> Result<T, FileError> {
        let turn = self.turn();
        let path = self.path(KEYS);
        let (mut keys, _) = ClientKeys::parse(&read(&path, KEYS_BYTES_MAX)?, "");
        let altered = alter(&mut keys)?;
        write(&path, &keys.to_bytes(), KEYS_MODE)?;
        drop(turn);
        Ok(altered)
    }

    /// What a manager of OSSEC's knew of an agent's files; empty where it kept nothing.
    pub fn known_files(&self, name: &str, address: &str) -> Result<Vec<FileState>, FileError> {
        let path = self.dir.join("queue/syscheck").join(syscheck_db::file_name(name, address));
        Ok(syscheck_db::files(&read(&path, DATABASE_BYTES_MAX)?))
    }

    /// Takes an agent's key away; one that is not there is away already.
    pub fn remove(&self, id: &str) -> Result<(), FileError> {
        match self.alter(|keys| keys.remove(id)) {
            Ok(_) | Err(FileError::Key(KeyError::NoAgent(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What another manager has received of an agent.
    pub fn receive_counter(&self, id: &str) -> Option<Count> {
        counter(&self.path(&format!("rids/{id}")))
    }

    /// What was last reserved. Where nothing is known, it begins above what any manager can have sent: agents take no number
    /// twice, and an old manager's may be as large as its messages were many.
    pub fn sender_counter(&self, now: Timestamp) -> Count {
        let minutes = u32::try_from(now.micros() / 60_000_000).unwrap_or(0);
        counter(&self.path(SENDER_COUNTER)).unwrap_or(Count::new(minutes, 0))
    }

    pub fn reserve(&self, count: Count) -> Result<(), FileError> {
        write(&self.path(SENDER_COUNTER), count.to_string().as_bytes(), 0o600)
    }

    /// The shared files as one, if they are others than before.
    pub fn shared(&self, seen: &mut Seen) -> Result<Option<Merged>, FileError> {
        let dir = self.path("shared");
        let found = list(&dir)?;
        if seen.shared.as_ref() == Some(&found) {
            return Ok(None);
        }
        let mut files = Vec::with_capacity(found.len());
        for (name, _) in &found {
            if name != AR_CONF {
                files.push((name.as_str(), read(&dir.join(name), SHARED_BYTES_MAX as u64)?));
            }
        }
        let place = files.partition_point(|(name, _)| *name < AR_CONF);
        files.insert(place, (AR_CONF, self.ar_conf.clone()));
        let merged = Merged::new(files.iter().map(|(name, bytes)| (*name, &bytes[..])));
        let merged = merged.map_err(|error| FileError::Shared(dir, error))?;
        seen.shared = Some(found);
        Ok(Some(merged))
    }

    /// The password of the enrolment. `random` makes one where there is none; it is written, so that it can be looked up.
    pub fn password(&self, random: &[u8; 32]) -> Result<String, FileError> {
        let path = self.path(PASSWORD);
        if let Some(password) = authd::password_of(&read(&path, SMALL_BYTES_MAX)?) {
            return Ok(password);
        }
        let password = authd::random_password(random);
        write(&path, format!("{password}\n").as_bytes(), 0o600)?;
        tracing::info!(path = %path.display(), "a password for the enrolment of OSSEC's agents was made");
        Ok(password)
    }

    /// A certificate of the operator's own for the enrolment, as OSSEC has it.
    pub fn certificate(&self) -> Option<(PathBuf, PathBuf)> {
        let (certificate, key) = (self.path("sslmanager.cert"), self.path("sslmanager.key"));
        (certificate.exists() && key.exists()).then_some((certificate, key))
    }
}

fn counter(path: &Path) -> Option<Count> {
    let bytes = read(path, SMALL_BYTES_MAX).ok()?;
    Count::from_file(std::str::from_utf8(&bytes).ok()?)
}

/// The regular files of a directory by name.
fn list(dir: &Path) -> Result<Vec<(String, Mark)>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(FileError::Io { what: "read", path: dir.to_owned(), source }),
    };
    let mut found = Vec::new();
    for entry in entries.flatten().take(SHARED_FILES_MAX) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && !name.starts_with('.') && name != MERGED {
            found.extend(mark(&entry.path()).map(|mark| (name, mark)));
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of a file; none where it does not exist.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Io { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max { Err(FileError::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

/// Replaces or creates a file, whole or not at all, in a directory that is made if need be.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |what| move |source| FileError::Io { what, path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(failed("make the directory of"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.new"));
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // The error of the write is the one worth telling.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_added_removed_and_seen_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("ossec"), Vec::new());
        let mut seen = Seen::default();
        assert!(!file.changed(&mut seen) && file.load().unwrap().is_empty());
        let request = authd::Request::parse(b"OSSEC A:'web'", None).unwrap();
        let source = "192.0.2.1".parse().unwrap();
        let answer = file.alter(|keys| Ok(authd::enrol(keys, &request, source, false, &[1; 32]))).unwrap();
        assert!(matches!(answer, authd::Answer::Key(_)));
        assert!(file.changed(&mut seen) && !file.changed(&mut seen));
        assert_eq!(file.load().unwrap().len(), 1);
        file.remove("1024").unwrap();
        file.remove("1024").unwrap();
        assert!(file.changed(&mut seen) && file.load().unwrap().is_empty());
        let mode = fs::metadata(dir.path().join("ossec/client.keys")).unwrap().mode();
        assert_eq!(mode & 0o7777, KEYS_MODE);
    }

    #[test]
    fn an_installed_directory_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/shared")).unwrap();
        fs::create_dir_all(dir.path().join("queue/rids")).unwrap();
        fs::write(dir.path().join("etc/client.keys"), "001 web any 0123\n").unwrap();
        fs::write(dir.path().join("etc/shared/agent.conf"), "<agent_config/>").unwrap();
        fs::write(dir.path().join("queue/rids/001"), "3:7:").unwrap();
        fs::write(dir.path().join("queue/rids/sender_counter"), "0:42:").unwrap();
        let file = KeyFile::new(dir.path().to_owned(), b"x - y - 0\n".to_vec());
        assert_eq!(file.load().unwrap().len(), 1);
        assert_eq!(file.receive_counter("001"), Some(Count::new(3, 7)));
        assert_eq!(file.sender_counter(Timestamp(0)), Count::new(0, 42));
        file.reserve(Count::new(9, 0)).unwrap();
        assert_eq!(file.sender_counter(Timestamp(0)), Count::new(9, 0));
        let mut seen = Seen::default();
        assert!(!file.shared(&mut seen).unwrap().unwrap().is_empty());
        assert!(file.shared(&mut seen).unwrap().is_none());
        fs::write(dir.path().join("etc/shared/ar.conf"), "x").unwrap();
        assert!(file.shared(&mut seen).unwrap().is_some());
    }

    #[test]
    fn a_password_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().to_owned(), b"x - y - 0\n".to_vec());
        let made = file.password(&[1; 32]).unwrap();
        assert_eq!(file.password(&[2; 32]).unwrap(), made);
        assert_eq!(fs::metadata(dir.path().join("authd.pass")).unwrap().mode() & 0o777, 0o600);
    }
}
