//! Chunks are looked at by several threads at once and told in order.
//!
//! The calling thread walks, tells, and between that works like the others. It stops walking while too many chunks or
//! directories are open, so that one slow file holds up memory no more than that.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tally_sys::limit;

use super::chunk::{Chunk, Task, Worker};
use super::walk::Walk;
use super::{Known, Plan, ScanError, Seen, Summary};

/// Names in a chunk: enough that handing it over costs nothing beside the work on it.
const CHUNK_ITEMS_MAX: usize = 128;
/// And so many bytes of content, as far as the chunks before can tell, so that threads end at the same time.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;
/// Chunks under way for each thread: while one waits for its turn to be told, the others go on.
const CHUNKS_PER_THREAD: usize = 4;
/// Directories open at once.
const DIRECTORIES_MAX: usize = 384;

/// Chunks between the threads.
struct Pool<T> {
    state: Mutex<State<T>>,
    work: Condvar,
    /// The next chunk to tell is done, or a worker has failed.
    done: Condvar,
}

struct State<T> {
    waiting: VecDeque<(u64, Chunk<T>)>,
    /// Chunks under way, by number from `first`; those that are done are there.
    under_way: VecDeque<Option<Chunk<T>>>,
    first: u64,
    closed: bool,
    failed: bool,
}

/// Runs `walk` and the workers to the end.
pub fn run<P: Plan, K: Known>(
    walk: Walk<'_, P, K>,
    task: &Task<'_, P>,
    sink: impl FnMut(Seen<K::Tag>) -> ControlFlow<()>,
) -> Result<Summary, ScanError<K::Error>> {
    let state = State { waiting: VecDeque::new(), under_way: VecDeque::new(), first: 0, closed: false, failed: false };
    let pool = Pool { state: Mutex::new(state), work: Condvar::new(), done: Condvar::new() };
    thread::scope(|scope| {
        let _closer = Closer(&pool);
        for number in 1..task.options.threads {
            let name = format!("scan-{number}");
            let work = || {
                if task.options.steps_back
                    && let Err(error) = limit::yield_to_others()
                {
                    tracing::debug!(%error, "a scan's thread keeps its priority");
                }
                pool.work(Worker::new(task));
            };
            thread::Builder::new().name(name).spawn_scoped(scope, work).map_err(ScanError::Threads)?;
        }
        Conductor { pool: &pool, task, walk, worker: Worker::new(task), sink, spare: Vec::new(), mean_bytes: 0 }.run()
    })
}

/// The calling thread's part.
struct Conductor<'a, 'p, P, K: Known, S> {
    pool: &'p Pool<K::Tag>,
    task: &'p Task<'a, P>,
    walk: Walk<'a, P, K>,
    worker: Worker<'p, P>,
    sink: S,
    /// Chunks whose memory can be used again.
    spare: Vec<Chunk<K::Tag>>,
    /// Bytes of content for each name, over the last chunks.
    mean_bytes: u64,
}

impl<P: Plan, K: Known, S: FnMut(Seen<K::Tag>) -> ControlFlow<()>> Conductor<'_, '_, P, K, S> {
    fn run(mut self) -> Result<Summary, ScanError<K::Error>> {
        let mut summary = Summary::default();
        let mut walking = true;
        let chunks_max = self.task.options.threads.max(1) * CHUNKS_PER_THREAD;
        loop {
            while let Some(chunk) = self.pool.take_first() {
                self.tell(chunk, &mut summary);
            }
            if self.task.ends() {
                summary.cancelled = true;
                break;
            }
            let under_way = self.pool.under_way();
            let room = under_way < chunks_max && self.walk.open_directories() < DIRECTORIES_MAX;
            if walking && (room || under_way == 0) {
                let mut chunk = self.spare.pop().unwrap_or_default();
                let items_max = (CHUNK_BYTES / self.mean_bytes.max(1)).clamp(4, CHUNK_ITEMS_MAX as u64) as usize;
                walking = self.walk.fill(&mut chunk, items_max).map_err(ScanError::Known)?;
                self.pool.add(chunk);
            } else if under_way == 0 {
                break;
            } else if let Some((number, mut chunk)) = self.pool.take_waiting() {
                self.worker.work(&mut chunk);
                self.pool.finish(number, chunk);
            } else if !self.pool.wait_first() {
                // The panic of the worker goes on when its thread is joined, at the end of the scope.
                break;
            }
        }
        summary.blind = std::mem::take(&mut self.walk.summary.blind);
        summary.blind_more = self.walk.summary.blind_more;
        Ok(summary)
    }

    fn tell(&mut self, mut chunk: Chunk<K::Tag>, summary: &mut Summary) {
        for seen in chunk.out.drain(..) {
            if (self.sink)(seen).is_break() {
                self.task.stopped.store(true, Ordering::Relaxed);
                break;
            }
        }
        let part = &chunk.summary;
        summary.entries += part.entries;
        summary.unchanged += part.unchanged;
        summary.bytes += part.bytes;
        summary.gone += part.gone;
        summary.unseen += part.unseen;
        summary.cached_only.extend(&part.cached_only);
        summary.cancelled |= part.cancelled;
        self.mean_bytes = (self.mean_bytes * 3 + part.bytes / chunk.len().max(1) as u64) / 4;
        chunk.clear();
        self.spare.push(chunk);
    }
}

impl<T> Pool<T> {
    /// A panic elsewhere leaves the state whole: it is only locked for moves.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, chunk: Chunk<T>) {
        let mut state = self.lock();
        let number = state.first + state.under_way.len() as u64;
        state.under_way.push_back(None);
        state.waiting.push_back((number, chunk));
        drop(state);
        self.work.notify_one();
    }

    fn under_way(&self) -> usize {
        self.lock().under_way.len()
    }

    fn take_waiting(&self) -> Option<(u64, Chunk<T>)> {
        self.lock().waiting.pop_front()
    }

    fn finish(&self, number: u64, chunk: Chunk<T>) {
        let mut state = self.lock();
        let place = usize::try_from(number - state.first).expect("few chunks are under way");
        state.under_way[place] = Some(chunk);
        drop(state);
        if place == 0 {
            self.done.notify_one();
        }
    }

    /// The next chunk in order, if it is done.
    fn take_first(&self) -> Option<Chunk<T>> {
        let mut state = self.lock();
        if !matches!(state.under_way.front(), Some(Some(_))) {
            return None;
        }
        state.first += 1;
        state.under_way.pop_front().flatten()
    }

    /// Waits until the next chunk in order is done; false if it will never be.
    fn wait_first(&self) -> bool {
        let waits = |state: &mut State<T>| !state.failed && matches!(state.under_way.front(), Some(None));
        let state = self.done.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        !state.failed
    }

    /// A worker's life.
    fn work<P: Plan>(&self, mut worker: Worker<'_, P>) {
        let _alarm = Alarm(self);
        loop {
            let idle = |state: &mut State<T>| state.waiting.is_empty() && !state.closed;
            let mut state = self.work.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return;
            }
            let Some((number, mut chunk)) = state.waiting.pop_front() else { continue };
            drop(state);
            worker.work(&mut chunk);
            self.finish(number, chunk);
        }
    }
}

/// Sends the workers home when the conductor ends, however it ends.
struct Closer<'p, T>(&'p Pool<T>);

impl<T> Drop for Closer<'_, T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_all();
    }
}

/// Wakes the conductor if a worker panics, which would otherwise wait for it for ever.
struct Alarm<'p, T>(&'p Pool<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().failed = true;
            self.0.done.notify_all();
        }
    }
}
