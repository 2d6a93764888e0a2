//! Commands whose output is collected. They are the one place where the agent runs another program: what the operator of this
//! host names in its own file, or has allowed the manager to name.
//!
//! A command runs in a process group of its own with an empty standard input, in /, with a short environment. What takes too
//! long is ended with all that it started.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use tally_syscheck::collect::{Clockwork, Collect, Framer, Message, Source};
use tally_types::LocalTime;

/// After this a command is ended.
const TIME_MAX: Duration = Duration::from_secs(60);
/// More of its output is not read.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Commands(Vec<Timed>);

struct Timed {
    collect: usize,
    framer: Framer,
    line: String,
    shown: String,
    every: Duration,
    next: Instant,
    /// What was missing of its last output.
    missing: Option<String>,
    running: Option<Receiver<Output>>,
}

/// What a command wrote, and why that is not all.
type Output = (Vec<u8>, Option<String>);

impl Commands {
    pub fn new(collects: &[Collect]) -> Self {
        let timed = |(nth, collect): (usize, &Collect)| {
            let Source::Command { line, every_s } = &collect.source else { return None };
            Some(Timed {
                collect: nth,
                framer: Framer::new(collect.format.clone()),
                line: line.to_string(),
                shown: collect.alias.as_deref().unwrap_or(line).to_owned(),
                every: Duration::from_secs(*every_s),
                next: Instant::now(),
                missing: None,
                running: None,
            })
        };
        Self(collects.iter().enumerate().filter_map(timed).collect())
    }

    /// Starts what is due, and tells the output of what has ended. What is missing of it goes into `losses`, once for each
    /// reason in a row.
    pub fn collected(&mut self, now: LocalTime, losses: &mut Vec<String>) -> Vec<(usize, Vec<Message>)> {
        let mut collected = Vec::new();
        for timed in &mut self.0 {
            if timed.running.is_none() && Instant::now() >= timed.next {
                timed.next = Instant::now() + timed.every;
                timed.running = start(&timed.line);
            }
            let (output, missing) = match timed.running.as_ref().map(Receiver::try_recv) {
                Some(Ok(output)) => output,
                Some(Err(TryRecvError::Disconnected)) => (Vec::new(), Some("it was not run".to_owned())),
                _ => continue,
            };
            timed.running = None;
            if let Some(why) = missing.iter().find(|why| Some(*why) != timed.missing.as_ref()) {
                losses.push(format!("the command \"{}\": {why}", timed.shown));
            }
            timed.missing = missing;
            let with = Clockwork { now, command: timed.shown.clone(), ..Clockwork::default() };
            let mut messages = Vec::new();
            timed.framer.output(&output, &with, &mut messages);
            collected.push((timed.collect, messages));
        }
        collected
    }
}

/// Runs a command on a thread of its own; what it wrote comes when it has ended.
fn start(line: &str) -> Option<Receiver<Output>> {
    let (told, output) = channel();
    let line = line.to_owned();
    let run = move || {
        // Nobody waits for it any more when the agent ends.
        let _ = told.send(run(&line).unwrap_or_else(|error| (Vec::new(), Some(format!("it cannot be run: {error}")))));
    };
    std::thread::Builder::new().name("command".to_owned()).spawn(run).ok()?;
    Some(output)
}

fn run(line: &str) -> std::io::Result<Output> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).current_dir("/").env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn()?;
    // Our ends of the pipe go with it: the end of the output is that of the last who writes.
    drop(command);
    let group = child.id();
    let (ended, end) = channel::<()>();
    let watch = std::thread::Builder::new().name("command-end".to_owned()).spawn(move || {
        let is_late = end.recv_timeout(TIME_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if is_late {
            let _ = tally_sys::spawn::kill_group(group);
        }
        is_late
    })?;
    let mut output = Vec::new();
    let read = reader.take(OUTPUT_BYTES_MAX).read_to_end(&mut output);
    drop(ended);
    let is_late = watch.join().unwrap_or(false);
    // Whoever it left behind has nobody to write to.
    let _ = tally_sys::spawn::kill_group(group);
    child.wait()?;
    read?;
    let missing = if is_late {
        Some(format!("it was ended after {} s", TIME_MAX.as_secs()))
    } else if output.len() as u64 == OUTPUT_BYTES_MAX {
        Some(format!("it wrote more than {OUTPUT_BYTES_MAX} bytes, and the rest is left out"))
    } else {
        None
    };
    Ok((output, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_writes_is_its_output() {
        assert_eq!(run("echo out; echo err >&2; exit 3").unwrap(), (b"out\nerr\n".to_vec(), None));
        assert_eq!(run("echo $HOME-$PWD").unwrap().0, b"-/\n");
    }

    #[test]
    fn endless_output_is_cut() {
        let (output, missing) = run("yes").unwrap();
        assert_eq!(output.len() as u64, OUTPUT_BYTES_MAX);
        assert!(missing.unwrap().contains("the rest is left out"));
    }
}
