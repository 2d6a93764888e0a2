//! What rules remember of earlier events, in a file of the manager's own directory, so that neither a restart nor a crash
//! begins their windows anew.
//!
//! What came to be remembered is added behind each commit, and the whole is written anew, beside the old one, when that has
//! become long. A manager that is killed loses nothing that was added; a host that loses its power, what was added since the
//! file was last synced, some seconds. Without the file rules go on all the same, which is said.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tally_rules::Analysis;

/// More than all bounds of what is remembered come to, twice.
const BYTES_MAX: u64 = 512 * 1024 * 1024;
/// So much is added before the whole is written anew, and at least as much as the whole has.
const ADDED_BYTES_MIN: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub struct SeenFile {
    path: PathBuf,
    /// `None`: the whole is to be written.
    file: Option<File>,
    whole_bytes: u64,
    added_bytes: u64,
    is_synced: bool,
}

impl SeenFile {
    pub const fn new(path: PathBuf) -> Self {
        Self { path, file: None, whole_bytes: 0, added_bytes: 0, is_synced: true }
    }

    /// Takes over what the run before remembered, and begins to keep what this one does.
    pub fn resume(&mut self, analysis: &mut Analysis) {
        self.read(analysis);
        analysis.begin_journal();
        self.write_whole(analysis);
    }

    /// After a commit that failed: what was decided in it is decided again, so rules are to remember what they did before it.
    pub fn take_back(&mut self, analysis: &mut Analysis) {
        if analysis.take_journal().is_empty() || self.file.is_none() {
            return;
        }
        analysis.forget();
        self.read(analysis);
        drop(analysis.take_journal());
    }

    fn read(&self, analysis: &mut Analysis) {
        let shown = self.path.display();
        match read(&self.path) {
            Ok(bytes) if analysis.add_memory(&bytes) => {}
            Ok(_) => tracing::warn!(path = %shown, "what rules had seen before is not whole"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %shown, "what rules had seen before cannot be read"),
        }
    }

    /// After a commit: adds what came to be remembered in it.
    pub fn add(&mut self, analysis: &mut Analysis) {
        let new = analysis.take_journal();
        if new.is_empty() {
            return;
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(&new) {
            Ok(()) => {
                self.is_synced = false;
                self.added_bytes += new.len() as u64;
                if self.added_bytes > self.whole_bytes.max(ADDED_BYTES_MIN) {
                    self.write_whole(analysis);
                }
            }
            Err(error) => {
                self.complain(&error);
                self.file = None;
            }
        }
    }

    /// From time to time, and at the end: what was added is on the disk.
    pub fn sync(&mut self, analysis: &mut Analysis) {
        self.add(analysis);
        match &self.file {
            None => self.write_whole(analysis),
            Some(_) if self.is_synced => {}
            Some(file) => match file.sync_data() {
                Ok(()) => self.is_synced = true,
                Err(error) => self.complain(&error),
            },
        }
    }

    /// What was added is part of it.
    pub fn write_whole(&mut self, analysis: &mut Analysis) {
        drop(analysis.take_journal());
        let bytes = analysis.memory();
        self.file = match replace(&self.path, &bytes) {
            Ok(file) => Some(file),
            Err(error) => {
                self.complain(&error);
                None
            }
        };
        (self.whole_bytes, self.added_bytes, self.is_synced) = (bytes.len() as u64, 0, true);
    }

    fn complain(&self, error: &io::Error) {
        let path = self.path.display();
        tracing::warn!(%error, %path, "what rules have seen cannot be kept; it is tried again within a minute");
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all. The file is then open behind its end.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;

    use tally_rules::Sources;
    use tally_types::Timestamp;

    use super::*;

    const RULES: &str = r#"<group name="local,"><rule id="100" level="5"><match>pump</match><description>d</description></rule>
<rule id="101" level="10" frequency="0"><if_matched_sid>100</if_matched_sid><description>e</description></rule></group>"#;

    fn analysis() -> Analysis {
        Analysis::load(&Sources { rules: vec![("r", RULES)], ..Sources::default() }, "host").unwrap()
    }

    /// The rule of one more line: every second fires.
    fn rule(analysis: &mut Analysis) -> u32 {
        let outcome = analysis.line(b"pump", &Arc::from("x"), Timestamp::from_secs(1));
        analysis.engine.rule(&outcome).unwrap().id().0
    }

    fn started(path: &Path) -> (Analysis, SeenFile) {
        let (mut analysis, mut file) = (analysis(), SeenFile::new(path.to_owned()));
        file.resume(&mut analysis);
        (analysis, file)
    }

    #[test]
    fn what_was_added_is_there_after_a_crash_and_what_was_not_committed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        let (mut analysis, mut file) = started(&path);
        assert_eq!(rule(&mut analysis), 100);
        file.add(&mut analysis);
        // A commit fails, and its lines are decided again.
        assert_eq!(rule(&mut analysis), 101);
        file.take_back(&mut analysis);
        assert_eq!(rule(&mut analysis), 101);
        file.add(&mut analysis);
        assert_eq!(rule(&mut analysis), 100);

        let (mut analysis, mut file) = started(&path);
        assert_eq!(rule(&mut analysis), 100);
        file.add(&mut analysis);
        // The last record is torn off by a crash of the host.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (mut analysis, mut file) = started(&path);
        assert_eq!(rule(&mut analysis), 100);
        file.add(&mut analysis);
        assert_eq!(rule(&mut started(&path).0), 101);
    }

    #[test]
    fn is_written_anew_when_it_has_become_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        let (mut analysis, mut file) = started(&path);
        let long = [&b"pump "[..], &vec![b'x'; 60_000]].concat();
        let (mut files, mut last) = (1, std::fs::metadata(&path).unwrap().ino());
        for _ in 0..600 {
            analysis.line(&long, &Arc::from("x"), Timestamp::from_secs(1));
            file.add(&mut analysis);
            let now = std::fs::metadata(&path).unwrap();
            // The memory is bounded by 32 MiB, and so much is added at most.
            assert!(now.len() < 70 << 20);
            files += u32::from(now.ino() != last);
            last = now.ino();
        }
        assert!((2..6).contains(&files), "{files}");
        assert_eq!(started(&path).0.memory(), analysis.memory());
    }
}
