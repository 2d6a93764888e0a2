//! `tally-floor`: the least that the measured work can cost, and loads for it. Each subcommand does one bare thing, with
//! nothing kept, compared or reported, so that a benchmark can say "so many times the floor" within one run.
//!
//! The walk shares no code with the scanner that it is compared with: it is openat, getdents64 and statx by rustix.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, OsStr};
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use tally_sys::poll;

#[derive(Debug, Parser)]
enum Options {
    /// Walk a tree and ask for every entry's state
    Stat(Tree),
    /// The same, and read and hash every file with SHA-256
    Hash(Tree),
    /// Mark the filesystem of a directory and read the records away, until killed
    Mark { dir: PathBuf },
    /// The same with a reader that waits before it reads; how many records there were is written into a file
    Gather { dir: PathBuf, count: PathBuf },
    /// Watch every directory of a tree by inotify and read the records away, until killed
    Inotify { dir: PathBuf },
    /// Create, change and remove files as fast as this process can; two of three are removed again
    Storm { dir: PathBuf, prefix: String, files: u64 },
    /// The same until the time is over; prints how many there were
    Fury { dir: PathBuf, prefix: String, seconds: u64 },
    /// Create a file, write 4 KiB, close and remove it, again and again
    Loop { dir: PathBuf, files: u64 },
    /// Keep one core busy
    Burn { seconds: u64 },
}

#[derive(Debug, clap::Args)]
struct Tree {
    root: PathBuf,
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    match Options::parse() {
        Options::Stat(tree) => Walk::run(&tree, false),
        Options::Hash(tree) => Walk::run(&tree, true),
        Options::Mark { dir } => mark(&dir, None),
        Options::Gather { dir, count } => mark(&dir, Some(&count)),
        Options::Inotify { dir } => inotify(&dir),
        Options::Storm { dir, prefix, files } => storm(&dir, &prefix, 0..files).map(drop),
        Options::Fury { dir, prefix, seconds } => fury(&dir, &prefix, Duration::from_secs(seconds)),
        Options::Loop { dir, files } => create_and_remove(&dir, files),
        Options::Burn { seconds } => {
            burn(Duration::from_secs(seconds));
            Ok(())
        }
    }
}

/// Large enough that a directory of a hundred files is one call.
const DIRECTORY_BUFFER_BYTES: usize = 64 * 1024;

/// Large enough that most files are one call: a short read is the end of a regular file.
const FILE_BUFFER_BYTES: usize = 256 * 1024;

/// A walk of several threads over one queue of directories.
struct Walk {
    hashes: bool,
    queue: Mutex<Queue>,
    more: Condvar,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Of all digests together, so that none can be left out.
    sum: AtomicU64,
}

#[derive(Default)]
struct Queue {
    directories: VecDeque<CString>,
    /// Threads that may still find directories.
    busy: usize,
}

impl Walk {
    fn run(tree: &Tree, hashes: bool) -> anyhow::Result<()> {
        let root = CString::new(tree.root.as_os_str().as_encoded_bytes()).context("the root has a NUL byte")?;
        let queue = Mutex::new(Queue { directories: VecDeque::from([root]), busy: 0 });
        let (entries, bytes, sum) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let walk = Self { hashes, queue, more: Condvar::new(), entries, bytes, sum };
        let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..tree.threads).map(|_| scope.spawn(|| walk.work())).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))).collect()
        });
        results.into_iter().collect::<anyhow::Result<()>>()?;
        let [entries, bytes, sum] = [&walk.entries, &walk.bytes, &walk.sum].map(|n| n.load(Ordering::Relaxed));
        println!("{entries} entries, {bytes} bytes, sum {sum:016x}");
        Ok(())
    }

    fn work(&self) -> anyhow::Result<()> {
        let mut buffers = (vec![MaybeUninit::uninit(); DIRECTORY_BUFFER_BYTES], vec![0; FILE_BUFFER_BYTES]);
        while let Some(directory) = self.next() {
            let walked = self.directory(&directory, &mut buffers);
            self.lock().busy -= 1;
            self.more.notify_all();
            walked.with_context(|| directory.to_string_lossy().into_owned())?;
        }
        Ok(())
    }

    /// The next directory; `None` when all are done.
    fn next(&self) -> Option<CString> {
        let mut queue = self.lock();
        loop {
            if let Some(directory) = queue.directories.pop_back() {
                queue.busy += 1;
                return Some(directory);
            }
            if queue.busy == 0 {
                self.more.notify_all();
                return None;
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn directory(&self, path: &CStr, buffers: &mut (Vec<MaybeUninit<u8>>, Vec<u8>)) -> anyhow::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        let mut items = RawDir::new(&dir, &mut buffers.0);
        while let Some(item) = items.next() {
            let item = item?;
            let name = item.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
            let stat = statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
            self.entries.fetch_add(1, Ordering::Relaxed);
            match FileType::from_raw_mode(stat.stx_mode.into()) {
                FileType::Directory => {
                    let child = [path.to_bytes(), b"/", name.to_bytes()].concat();
                    self.lock().directories.push_back(CString::new(child)?);
                    self.more.notify_one();
                }
                FileType::RegularFile if self.hashes => self.file(&dir, name, &mut buffers.1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&self, dir: &OwnedFd, name: &CStr, buffer: &mut [u8]) -> anyhow::Result<()> {
        let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        loop {
            let read = rustix::io::read(&file, &mut *buffer)?;
            hash.update(&buffer[..read]);
            self.bytes.fetch_add(read as u64, Ordering::Relaxed);
            if read < buffer.len() {
                break;
            }
        }
        let digest = hash.finish();
        let first = digest.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.sum.fetch_xor(first, Ordering::Relaxed);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader that gathers waits so long.
const GATHER: Duration = Duration::from_millis(24);

/// The least that watching a filesystem costs: one mark, and a reader that does nothing with what it reads. One that gathers
/// counts the records.
fn mark(dir: &Path, count: Option<&Path>) -> anyhow::Result<()> {
    use tally_sys::fanotify;
    let dir = std::fs::File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    let group = fanotify::Group::new().context("fanotify_init")?;
    group.mark_filesystem(dir.as_fd()).context("fanotify_mark")?;
    println!("marked");
    std::io::stdout().flush()?;
    let mut buffer = vec![0; fanotify::BUFFER_BYTES];
    let mut records = 0;
    loop {
        poll::wait(&mut [poll::Waiter::new(group.as_fd(), poll::Interest::Read)], None)?;
        let Some(count) = count else {
            while !group.read(&mut buffer)?.is_empty() {}
            continue;
        };
        std::thread::sleep(GATHER);
        loop {
            let read = fanotify::parse(group.read(&mut buffer)?).count();
            if read == 0 {
                break;
            }
            records += read;
        }
        std::fs::write(count, records.to_string())?;
    }
}

/// What the oldest way of watching costs: a watch for each directory that is there, or comes later.
fn inotify(dir: &Path) -> anyhow::Result<()> {
    use tally_sys::inotify::{self, Instance, Mask};
    let instance = Instance::new().context("inotify_init1")?;
    let mut watched = HashMap::new();
    watch_tree(&instance, dir, &mut watched)?;
    println!("marked");
    std::io::stdout().flush()?;
    let mut buffer = vec![0; inotify::BUFFER_BYTES];
    loop {
        poll::wait(&mut [poll::Waiter::new(instance.as_fd(), poll::Interest::Read)], None)?;
        for record in inotify::parse(instance.read(&mut buffer)?).flatten() {
            let is_new_directory = record.mask.has(Mask::CREATE) && record.mask.has(Mask::ON_DIRECTORY);
            let new = watched.get(&record.watch).filter(|_| is_new_directory);
            let new: Option<PathBuf> = new.map(|above| above.join(OsStr::from_bytes(record.name)));
            if let Some(new) = new {
                // It may be gone again.
                let _ = watch_tree(&instance, &new, &mut watched);
            }
        }
    }
}

fn watch_tree(
    instance: &tally_sys::inotify::Instance,
    dir: &Path,
    watched: &mut HashMap<tally_sys::inotify::WatchId, PathBuf>,
) -> anyhow::Result<()> {
    let open = std::fs::File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    watched.insert(instance.add(open.as_fd())?, dir.to_owned());
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            watch_tree(instance, &item.path(), watched)?;
        }
    }
    Ok(())
}

fn storm(dir: &Path, prefix: &str, numbers: std::ops::Range<u64>) -> anyhow::Result<u64> {
    let end = numbers.end;
    for number in numbers {
        let path = dir.join(format!("{prefix}-{number:06}"));
        std::fs::write(&path, number.to_le_bytes())?;
        std::fs::OpenOptions::new().append(true).open(&path)?.write_all(prefix.as_bytes())?;
        if number % 3 != 0 {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(end)
}

fn fury(dir: &Path, prefix: &str, time: Duration) -> anyhow::Result<()> {
    const BETWEEN_LOOKS: u64 = 64;
    let (began, mut files) = (Instant::now(), 0);
    while began.elapsed() < time {
        files = storm(dir, prefix, files..files + BETWEEN_LOOKS)?;
    }
    println!("{files}");
    Ok(())
}

fn create_and_remove(dir: &Path, files: u64) -> anyhow::Result<()> {
    let content = [b'x'; 4096];
    for number in 0..files {
        let path = dir.join(format!("loop-{number:06}"));
        std::fs::write(&path, content)?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

fn burn(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::black_box((0..10_000u64).fold(0, |sum, n| sum ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
}
