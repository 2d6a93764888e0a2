//! How a command gets its answer: from the running manager over its control socket, or, when none runs, from the same
//! handler in this process, which opens the state under its lock. Either way nothing here reads the databases.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tally_manager::control;

use crate::options::AskOptions;
use crate::render::{self, Kind};

/// A line of an answer is at most this long: an entry with every attribute at its limit is far below.
const LINE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{path}: {source}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("the manager's answer broke off: it was stopped, or failed; look at its log and ask again")]
    BrokeOff,
    #[error("the manager's answer is not understood: {0}")]
    Malformed(String),
    #[error("{0}")]
    Refused(String),
    #[error("{path}: no manager has ever run here: start one with `tally up` or `tally manager`, or name its --state")]
    NoState { path: PathBuf },
    #[error("write the answer: {0}")]
    Output(io::Error),
}

/// Asks `request`, prints every object, and returns how many findings the manager counted.
pub fn ask(options: &AskOptions, kind: Kind, request: &Value) -> Result<u64, AskError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let findings = ask_each(&manager_dir(options), request, |line, value| {
        let written = if options.json { writeln!(out, "{line}") } else { render::write(&mut out, kind, &value) };
        written.map_err(AskError::Output)
    })?;
    out.flush().map_err(AskError::Output)?;
    Ok(findings)
}

/// Asks `request` and hands each object over, as its line and parsed.
pub fn ask_each(
    manager_dir: &Path,
    request: &Value,
    each: impl FnMut(&str, Value) -> Result<(), AskError>,
) -> Result<u64, AskError> {
    let socket = manager_dir.join(control::SOCKET_NAME);
    match UnixStream::connect(&socket) {
        Ok(stream) => {
            let mut writer = &stream;
            writer
                .write_all(format!("{request}\n").as_bytes())
                .map_err(|source| AskError::Socket { path: socket, source })?;
            read_answer(BufReader::new(&stream), each)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            ask_in_process(manager_dir, request, each)
        }
        Err(source) => Err(AskError::Socket { path: socket, source }),
    }
}

/// No manager runs: its handler answers here. The answer goes through the same lines, so that both ways are one.
fn ask_in_process(
    manager_dir: &Path,
    request: &Value,
    each: impl FnMut(&str, Value) -> Result<(), AskError>,
) -> Result<u64, AskError> {
    if !manager_dir.is_dir() {
        return Err(AskError::NoState { path: manager_dir.to_owned() });
    }
    let (reader, writer) = io::pipe().map_err(AskError::Output)?;
    std::thread::scope(|scope| {
        let handler =
            scope.spawn(move || control::answer_offline(manager_dir, &request.to_string(), BufWriter::new(writer)));
        let findings = read_answer(BufReader::new(reader), each);
        match handler.join() {
            Ok(Ok(())) => findings,
            Ok(Err(error)) => findings.map_err(|_| AskError::Refused(error.to_string())),
            Err(_) => Err(AskError::BrokeOff),
        }
    })
}

fn read_answer(
    mut reader: impl BufRead,
    mut each: impl FnMut(&str, Value) -> Result<(), AskError>,
) -> Result<u64, AskError> {
    let mut line = String::new();
    let mut begun = false;
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, LINE_BYTES_MAX).read_line(&mut line).map_err(|_| AskError::BrokeOff)?;
        if read == 0 || !line.ends_with('\n') {
            return Err(AskError::BrokeOff);
        }
        let text = line.trim_end();
        let value: Value = serde_json::from_str(text).map_err(|error| AskError::Malformed(error.to_string()))?;
        if let Some(error) = value.get("error").and_then(Value::as_str) {
            return Err(AskError::Refused(error.to_owned()));
        }
        if !begun {
            begun = true;
            continue;
        }
        if value.get("end") == Some(&Value::Bool(true)) {
            return Ok(value.get("findings").and_then(Value::as_u64).unwrap_or(0));
        }
        each(text, value)?;
    }
}

/// Where the manager's part of the state is.
pub fn manager_dir(options: &AskOptions) -> PathBuf {
    tally_agent::state_dir(options.state.as_deref()).join("manager")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<(u64, usize), AskError> {
        let mut lines = 0;
        let findings = read_answer(answer.as_bytes(), |_, _| {
            lines += 1;
            Ok(())
        })?;
        Ok((findings, lines))
    }

    #[test]
    fn an_answer_counts_only_when_it_is_whole() {
        let whole = "{\"ok\":true}\n{\"path\":\"/a\"}\n{\"end\":true,\"findings\":1}\n";
        assert_eq!(read(whole).unwrap(), (1, 1));
        for cut in 0..whole.len() {
            assert!(matches!(read(&whole[..cut]), Err(AskError::BrokeOff | AskError::Malformed(_))), "{cut}");
        }
        assert!(matches!(read("{\"error\":\"no such agent\"}\n"), Err(AskError::Refused(_))));
    }
}
