//! Where an import writes: a directory of its own, each file under a temporary name first.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The digests of the configurations that the last import wrote: what differs from them was edited since.
const WRITTEN: &str = "import.json";

pub struct Target {
    dir: PathBuf,
    dry_run: bool,
    written: BTreeMap<String, String>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    New,
    /// It was there, as it is.
    Same,
    Replaced,
    /// Somebody edited the one that was there; the new one stands beside it.
    Beside,
}

impl Put {
    pub fn words(self, path: &Path) -> String {
        match self {
            Self::New => format!("to {}", path.display()),
            Self::Same => format!("as it is in {} already", path.display()),
            Self::Replaced => format!("anew to {}", path.display()),
            Self::Beside => format!("to {}.imported, beside the one that was edited", path.display()),
        }
    }
}

impl Target {
    pub fn open(dir: PathBuf, dry_run: bool) -> Result<Self> {
        let path = dir.join(WRITTEN);
        let written = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self { dir, dry_run, written })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a file of the source stands.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file as it is.
    pub fn put(&self, name: &str, bytes: &[u8], mode: u32) -> Result<Put> {
        let path = self.path(name);
        let put = match std::fs::read(&path) {
            Ok(there) if there == bytes => Put::Same,
            Ok(_) => Put::Replaced,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Put::New,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if put != Put::Same {
            self.write(&path, bytes, mode)?;
        }
        Ok(put)
    }

    /// A configuration: one that somebody edited stays.
    pub fn put_config(&mut self, path: &Path, text: &str) -> Result<Put> {
        let key = path.display().to_string();
        let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let put = match std::fs::read(path) {
            Ok(there) if there == text.as_bytes() => Put::Same,
            Ok(there) if self.written.get(&key) == Some(&digest(&there)) => Put::Replaced,
            Ok(_) => Put::Beside,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Put::New,
            Err(error) => return Err(error).with_context(|| key.clone()),
        };
        match put {
            Put::Beside => {
                let mut beside = path.as_os_str().to_owned();
                beside.push(".imported");
                self.write(Path::new(&beside), text.as_bytes(), 0o600)?;
            }
            Put::New | Put::Replaced => {
                self.write(path, text.as_bytes(), 0o600)?;
                self.written.insert(key, digest(text.as_bytes()));
            }
            Put::Same => {
                self.written.insert(key, digest(text.as_bytes()));
            }
        }
        Ok(put)
    }

    /// Remembers what was written.
    pub fn close(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.written)?;
        self.write(&self.dir.join(WRITTEN), &text, 0o600)
    }

    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let context = || path.display().to_string();
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(context)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let options =
            || std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary);
        let mut file = options().with_context(context)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).with_context(context)?;
        std::fs::rename(&temporary, path).with_context(context)?;
        std::fs::File::open(parent).and_then(|dir| dir.sync_all()).with_context(context)
    }
}
