//! The file in which it stands what is to be run, what lasts, and how often somebody was responded to. Lines are only added;
//! the last one about somebody counts. At each start, and when most lines are of the past, it is written anew.
//!
//! A line has words with blanks between, in which every other byte than plain ones is `%` and two digits. A kill leaves at most
//! the last line torn, which is then none.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A longer file was not written here.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The first line; what begins in another way is of another version.
const HEAD: &str = "tallystick-responses 1";
/// Lines of the past that may stand before the file is written anew.
const PAST_MAX: usize = 4096;

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// Lines in the file.
    lines: usize,
}

impl Journal {
    /// The lines that are there, each as its words, and the journal to add to. A file that cannot be read stops the start:
    /// nobody would take back what lasts.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Vec<String>>)> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => drop(file.take(FILE_BYTES_MAX).read_to_end(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let lines = read(&text).ok_or_else(|| io::Error::other("the file is of another version, or damaged"))?;
        Ok((Self { path: path.to_owned(), file: None, lines: lines.len() }, lines))
    }

    /// Adds a line; when this returns it is on the disk.
    pub fn add(&mut self, words: &[String]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().append(true).open(&self.path)?),
        };
        file.write_all(line(words).as_bytes())?;
        self.lines += 1;
        file.sync_data()
    }

    /// Whether most of it is of the past, when so many lines count.
    pub const fn is_long(&self, live: usize) -> bool {
        self.lines > live * 2 + PAST_MAX
    }

    /// Has only these lines.
    pub fn write_anew(&mut self, lines: &[Vec<String>]) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let text: String = lines.iter().map(|words| line(words)).collect();
        file.write_all(format!("{HEAD}\n{text}").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        File::open(dir)?.sync_all()?;
        self.lines = lines.len();
        self.file = None;
        Ok(())
    }
}

fn line(words: &[String]) -> String {
    let mut line: String = words.iter().map(|word| escaped(word)).collect::<Vec<_>>().join(" ");
    line.push('\n');
    line
}

/// Nothing is one `%`, so that each word has a place.
fn escaped(word: &str) -> String {
    if word.is_empty() {
        return "%".to_owned();
    }
    let mut out = String::with_capacity(word.len());
    for byte in word.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

fn unescaped(word: &str) -> Option<String> {
    if word == "%" {
        return Some(String::new());
    }
    let (mut out, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            out.push(u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

/// The words of each whole line, none of one that is damaged; `None`: it is another file.
fn read(text: &[u8]) -> Option<Vec<Vec<String>>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let whole = &text[..text.iter().rposition(|byte| *byte == b'\n')? + 1];
    let mut lines = whole[..whole.len() - 1].split(|byte| *byte == b'\n');
    if lines.next() != Some(HEAD.as_bytes()) {
        return None;
    }
    // What a power cut made of one line is no reason to forget the others.
    let words = |line| core::str::from_utf8(line).ok()?.split(' ').map(unescaped).collect::<Option<Vec<String>>>();
    Some(lines.map(|line| words(line).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_was_added_is_there_again_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("responses");
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert_eq!(lines, Vec::<Vec<String>>::new());
        journal.write_anew(&[words(&["a", "", "b c%\n\u{fc}"])]).unwrap();
        journal.add(&words(&["second"])).unwrap();
        let written = std::fs::read(&path).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, [words(&["a", "", "b c%\n\u{fc}"]), words(&["second"])]);
        for cut in 1..=b"second\n".len() {
            std::fs::write(&path, &written[..written.len() - cut]).unwrap();
            assert_eq!(Journal::open(&path).unwrap().1.len(), 1, "{cut}");
        }
        std::fs::write(&path, [&written[..], b"\xff\0%z\n", b"third\n"].concat()).unwrap();
        let lines = Journal::open(&path).unwrap().1;
        assert_eq!((lines.len(), &lines[2], &lines[3]), (4, &Vec::new(), &words(&["third"])));
        std::fs::write(&path, "something else\n").unwrap();
        assert!(Journal::open(&path).is_err());
    }

    proptest! {
        #[test]
        fn words_come_back_and_no_bytes_panic(words in prop::collection::vec("\\PC{0,20}", 1..6), bytes: Vec<u8>) {
            let text = format!("{HEAD}\n{}", line(&words));
            prop_assert_eq!(read(text.as_bytes()), Some(vec![words]));
            let _ = read(&bytes);
            let _ = read(&[HEAD.as_bytes(), b"\n", &bytes].concat());
        }
    }
}
