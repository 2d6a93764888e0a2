//! What a scan costs beside the least that it could: processor seconds of bare loops and of the scanner, on one tree.
//!
//! `cargo run --release -p tally-agent --example scan_cost -- TREE [RUNS] [THREADS]`. The tree must be in the page cache and
//! older than two seconds. Each measure is the least of RUNS, taken in turns so that a noisy moment meets all of them.

// A measuring program may end at the first thing that is wrong.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tally_agent::scan::{self, Base, Control, Found, Hint, Known, Nothing, Options, Want};
use tally_sys::dirent::{self, Buffer};
use tally_sys::open::{self, Access, AccessTime};
use tally_sys::{stat, usage};
use tally_types::{FileKind, PathBytes};

fn main() {
    let mut args = std::env::args().skip(1);
    let tree = args.next().unwrap_or_else(|| "/tmp/tree200k".to_owned());
    let runs = args.next().map_or(5, |n| n.parse().unwrap());
    let threads = args.next().map_or(2, |n| n.parse().unwrap());

    let root = PathBytes::new(tree.clone().into_bytes()).unwrap();
    let base = Base::host().unwrap();
    let options = Options { threads, ..Options::default() };
    let mut known = Vec::new();
    let summary =
        scan::scan(&base, std::slice::from_ref(&root), &Want::ALL, Nothing, &options, &Control::default(), |seen| {
            if let Found::Entry(_, hint) = seen.found {
                known.push((seen.path.tree_key(), hint));
            }
            ControlFlow::Continue(())
        });
    println!("{tree}: {summary:?}");

    let mut measures = [
        Measure::new("bare walk, open, read, SHA-256"),
        Measure::new("bare walk, statx, open, read, SHA-256"),
        Measure::new("scan, nothing known"),
        Measure::new("bare walk, statx"),
        Measure::new("scan, all known and unchanged"),
    ];
    for _ in 0..runs {
        measures[0].run(|| bare(&tree, threads, Depth { stat: false, read: true }));
        measures[1].run(|| bare(&tree, threads, Depth { stat: true, read: true }));
        measures[2].run(|| {
            let sink = |seen| {
                std::hint::black_box(&seen);
                ControlFlow::Continue(())
            };
            let roots = std::slice::from_ref(&root);
            scan::scan(&base, roots, &Want::ALL, Nothing, &options, &Control::default(), sink).unwrap().entries
        });
        measures[3].run(|| bare(&tree, threads, Depth { stat: true, read: false }));
        measures[4].run(|| {
            let sink = |seen| panic!("not unchanged: {seen:?}");
            let list = Slice { rest: &known, at: 0 };
            let roots = std::slice::from_ref(&root);
            scan::scan(&base, roots, &Want::ALL, list, &options, &Control::default(), sink).unwrap().unchanged
        });
    }
    for measure in &measures {
        println!("{measure}");
    }
    println!(
        "full scan to bare walk and hash: {:.2}, with statx: {:.2}",
        measures[2].over(&measures[0]),
        measures[2].over(&measures[1])
    );
    println!("unchanged scan to bare walk and statx: {:.2}", measures[4].over(&measures[3]));
    println!("resident: {:.1} MB", usage::resident_bytes().unwrap() as f64 / 1e6);
}

struct Measure {
    name: &'static str,
    cpu: Duration,
    user: Duration,
    wall: Duration,
    items: u64,
}

impl Measure {
    fn new(name: &'static str) -> Self {
        Self { name, cpu: Duration::MAX, user: Duration::MAX, wall: Duration::MAX, items: 0 }
    }

    fn run(&mut self, work: impl FnOnce() -> u64) {
        let (before, start) = (usage::cpu().unwrap(), Instant::now());
        self.items = work();
        self.wall = self.wall.min(start.elapsed());
        let after = usage::cpu().unwrap();
        if after.total() - before.total() < self.cpu {
            (self.cpu, self.user) = (after.total() - before.total(), after.user - before.user);
        }
    }

    fn over(&self, floor: &Self) -> f64 {
        self.cpu.as_secs_f64() / floor.cpu.as_secs_f64()
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cpu, user, wall) = (self.cpu.as_secs_f64(), self.user.as_secs_f64(), self.wall.as_secs_f64());
        write!(f, "{:40} {cpu:.3} CPU s ({user:.3} user), {wall:.3} s, {} items", self.name, self.items)
    }
}

/// Known paths without the cost of a database.
struct Slice<'a> {
    rest: &'a [(Vec<u8>, Hint)],
    at: usize,
}

impl Known for Slice<'_> {
    type Tag = ();
    type Error = Infallible;

    fn advance(&mut self) -> Result<bool, Infallible> {
        self.at += 1;
        Ok(self.at <= self.rest.len())
    }

    fn key(&self) -> &[u8] {
        &self.rest[self.at - 1].0
    }

    fn hint(&self) -> Option<Hint> {
        Some(self.rest[self.at - 1].1)
    }

    fn take(&mut self) {}
}

#[derive(Clone, Copy)]
struct Depth {
    stat: bool,
    read: bool,
}

/// The least that a parallel walk can do: no order, no memory of anything, no care.
fn bare(tree: &str, threads: usize, depth: Depth) -> u64 {
    let root =
        open::child(open::base(b"/").unwrap().as_fd(), &std::ffi::CString::new(tree).unwrap(), Access::List).unwrap();
    let queue = Mutex::new((vec![root], 0usize));
    let total = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut buffer, mut content) = (Buffer::default(), vec![0; 128 * 1024]);
                let mut items = 0;
                loop {
                    let (dir, busy) = {
                        let mut queue = queue.lock().unwrap();
                        let dir = queue.0.pop();
                        queue.1 += usize::from(dir.is_some());
                        (dir, queue.1)
                    };
                    let Some(dir) = dir else {
                        if busy == 0 {
                            break;
                        }
                        std::thread::yield_now();
                        continue;
                    };
                    let below = bare_directory(&dir, &mut buffer, &mut content, depth, &mut items);
                    let mut queue = queue.lock().unwrap();
                    queue.0.extend(below);
                    queue.1 -= 1;
                }
                total.fetch_add(items, std::sync::atomic::Ordering::Relaxed);
            });
        }
    });
    assert!(Path::new(tree).exists());
    total.into_inner()
}

fn bare_directory(
    dir: &OwnedFd,
    buffer: &mut Buffer,
    content: &mut [u8],
    depth: Depth,
    items: &mut u64,
) -> Vec<OwnedFd> {
    let mut below = Vec::new();
    dirent::each(dir.as_fd(), buffer, |dirent| {
        *items += 1;
        if depth.stat {
            std::hint::black_box(stat::at(dir.as_fd(), dirent.name).unwrap());
        }
        match dirent.kind {
            Some(FileKind::Directory) => below.push(open::child(dir.as_fd(), dirent.name, Access::List).unwrap()),
            Some(FileKind::File) if depth.read => {
                let file = open::child_file(dir.as_fd(), dirent.name, AccessTime::Keep).unwrap();
                let mut context = ring::digest::Context::new(&ring::digest::SHA256);
                loop {
                    let read = open::read(file.as_fd(), content).unwrap();
                    context.update(&content[..read]);
                    // A short read is the end of a regular file.
                    if read < content.len() {
                        break;
                    }
                }
                std::hint::black_box(context.finish());
            }
            _ => {}
        }
    })
    .unwrap();
    below
}
