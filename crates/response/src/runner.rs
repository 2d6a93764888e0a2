//! The thread that runs programs: others wait for them, it alone decides what is next.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tally_types::{AgentId, Timestamp};

use crate::book::{Book, Start, Wish};
use crate::program::execute;

/// What is taken back at the end has so long.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// What runs when the process only begins anew is waited for so long.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(3);
/// The wall clock is looked at so often, since it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Told what comes of responses: about whom, the response's name, and the words.
pub type Tell = Box<dyn Fn(AgentId, Arc<str>, String) + Send>;

/// How the runner ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// For good: all that lasts is taken back.
    TakeBack,
    /// The process begins anew: what lasts goes on.
    Leave,
}

enum Job {
    Wish,
    Ended { start: Start, outcome: String },
    Stop(Ending),
}

/// The way to the thread.
#[derive(Clone)]
pub struct Runner {
    book: Arc<Mutex<Book>>,
    jobs: Sender<Job>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    /// Goes on with what an earlier process left in `file`.
    pub fn start(file: &Path, tell: Tell) -> io::Result<(Self, JoinHandle<()>)> {
        let book = Book::open(file, now()).map_err(|error| io::Error::new(error.kind(), shown(file, &error)))?;
        let (jobs, taken) = channel();
        let runner = Self { book: Arc::new(Mutex::new(book)), jobs };
        let worker = Worker { runner: runner.clone(), tell };
        let thread =
            std::thread::Builder::new().name("tally-responses".to_owned()).spawn(move || worker.run(&taken))?;
        Ok((runner, thread))
    }

    /// Has a response run, or says that it is not. When this returns, a kill makes nothing of it be forgotten.
    pub fn run(&self, wish: Wish) {
        self.book().wish(now(), wish);
        // Its end is told before the process ends.
        let _ = self.jobs.send(Job::Wish);
    }

    /// The marks of what waits, runs or lasts.
    pub fn marks(&self) -> Vec<u64> {
        self.book().marks()
    }

    pub fn stop(&self, ending: Ending) {
        // If it is gone, so is what it did.
        let _ = self.jobs.send(Job::Stop(ending));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    runner: Runner,
    tell: Tell,
}

impl Worker {
    fn run(self, jobs: &Receiver<Job>) {
        loop {
            self.runner.book().take_back(now());
            self.begin_next();
            self.tell_all();
            let due = self.runner.book().next_due();
            let wait = due.map_or(LOOK_EVERY, |due| until(due).min(LOOK_EVERY));
            match jobs.recv_timeout(wait) {
                Ok(Job::Ended { start, outcome }) => self.runner.book().ended(now(), &start, &outcome),
                Ok(Job::Stop(ending)) => return self.end(jobs, ending),
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Job::Wish) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn tell_all(&self) {
        let told = self.runner.book().take_told();
        for told in told {
            tracing::info!(response = &*told.name, about = %told.about, detail = told.detail, "a response");
            (self.tell)(told.about, told.name, told.detail);
        }
    }

    /// Starts what there is room for.
    fn begin_next(&self) {
        loop {
            let Some(start) = self.runner.book().next() else { return };
            let jobs = self.runner.jobs.clone();
            let again = start.clone();
            let work = move || {
                let outcome = execute(&start.key.0, &start.words);
                let _ = jobs.send(Job::Ended { start, outcome });
            };
            if let Err(error) = std::thread::Builder::new().name("tally-response".to_owned()).spawn(work) {
                self.runner.book().ended(now(), &again, &format!("not run: start a thread: {error}"));
            }
        }
    }

    /// What still runs is waited for, and what lasts is taken back if that is meant, as far as the time allows. The rest stands
    /// in the file, and the next start does it.
    fn end(self, jobs: &Receiver<Job>, ending: Ending) {
        let time = if ending == Ending::TakeBack { END_TIME_MAX } else { LEAVE_TIME_MAX };
        let end = Instant::now() + time;
        if ending == Ending::TakeBack {
            self.runner.book().end();
        }
        loop {
            if ending == Ending::TakeBack {
                self.runner.book().take_back_all();
                self.begin_next();
            }
            self.tell_all();
            if self.runner.book().running() == 0 {
                break;
            }
            match jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Job::Ended { start, outcome }) => self.runner.book().ended(now(), &start, &outcome),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if ending == Ending::TakeBack {
            self.runner.book().left("this process ended; its next start does it");
            self.tell_all();
        }
    }
}

fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        Err(_) => Timestamp(0),
    }
}

fn until(time: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(time.since(now())).unwrap_or(0))
}

fn shown(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
