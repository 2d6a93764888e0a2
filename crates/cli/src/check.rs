//! `tally init` and `tally check`: the state of some trees in a file, without a daemon, for cron and CI.

mod file;
mod report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tally_agent::observer::PolicyPlan;
use tally_agent::scan::{Base, Control, Found, Hint, Known, Nothing, Options, Rehash, ScanError, Seen, Summary, scan};
use tally_proto::entry as entry_codec;
use tally_syscheck::{Algorithms, Glob, Mode, Policy, Watch, compare, normalise};
use tally_types::{Algorithm, Change, DetectedBy, Entry, PathBytes};

use self::file::{EntryAt, FileError, Header, Recorded, Records, Writer, Written};
use self::report::Report;
use crate::Outcome;
use crate::options::{CheckOptions, InitOptions};

pub fn init(options: &InitOptions) -> Result<Outcome> {
    let header = Header {
        created: report::now().to_string(),
        host: tally_agent::enrol::host_name(),
        paths: paths(options)?.iter().map(|p| p.as_bytes().to_vec()).collect(),
        exclude: options.exclude.clone(),
        digests: options.digests.clone(),
    };
    let policy = policy(&header, &own_files(&options.out)?)?;
    let base = base(options.root.as_deref())?;
    let mut writer = Writer::create(&options.out, &header)?;
    let mut failed = None;
    let summary = walk(&base, &policy, Nothing, Rehash::None, "recording", |seen| {
        let Found::Entry(entry, hint) = seen.found else { return ControlFlow::Continue(()) };
        let Some(entry) = policy.judge(&seen.path).and_then(|watched| normalise(entry, &watched)) else {
            return ControlFlow::Continue(());
        };
        match writer.push(&seen.path.tree_key(), &entry_codec::encode(&entry), &hint.encode()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let Written { records, root, checksum } = writer.finish()?;
    if records == 0 {
        report::warn("nothing was found to record: do the paths exist?");
    }
    report::blind(&summary);
    let out = options.out.display().to_string();
    if options.json {
        println!(
            "{}",
            json!({"schema": 1, "file": out, "entries": records, "bytes": summary.bytes, "root": root.to_string(), "checksum": checksum})
        );
    } else {
        println!("{records} paths recorded in {out}, checksum {checksum}");
    }
    Ok(Outcome::Fine)
}

pub fn check(options: &CheckOptions) -> Result<Outcome> {
    let recorded = Recorded::open(&options.file)?;
    if let Some(expected) = &options.expect
        && !recorded.checksum.eq_ignore_ascii_case(expected)
    {
        bail!("{} is not the file that is expected: its checksum is {}", options.file.display(), recorded.checksum);
    }
    let policy = policy(&recorded.header, &own_files(&options.file)?)?;
    let base = base(options.root.as_deref())?;
    let known = KnownRecords(recorded.records()?);
    let rehash = if options.rehash { Rehash::All } else { Rehash::None };
    let mut report = Report::new(options.json, &recorded.header.host);
    // An image that holds only a part of a system may have no names of users and groups; the numbers are compared then.
    let nameless = options.root.as_ref().is_some_and(|root| !root.join("etc/passwd").exists());
    let summary = walk(&base, &policy, known, rehash, "checking", |seen| {
        match difference(&policy, &recorded, seen, nameless) {
            Ok(Some(change)) => report.change(&change),
            Ok(None) => {}
            Err(what) => report.damaged(what),
        }
        if report.has_failed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if report.has_findings() {
        recorded.check_again()?;
    }
    report.finish(&summary, recorded.records, &recorded.root)
}

/// What a scan saw against what is recorded.
fn difference(
    policy: &Policy,
    recorded: &Recorded,
    seen: Seen<EntryAt>,
    nameless: bool,
) -> Result<Option<Change>, String> {
    let Seen { path, known, found } = seen;
    let mut after = match found {
        Found::Entry(entry, _) => policy.judge(&path).and_then(|watched| normalise(entry, &watched)),
        Found::Gone | Found::Unwatched => None,
        // What cannot be seen is told by the summary; it is no evidence of a change.
        Found::Unchanged | Found::Unseen(_) => return Ok(None),
    };
    let known = known.map(|at| recorded.entry(at)).transpose().map_err(|error| error.to_string())?;
    let decode = |bytes: Vec<u8>| entry_codec::decode(&bytes).map_err(|error| format!("{path}: {error}"));
    if nameless && let (Some(known), Some(after)) = (&known, &mut after) {
        take_names(after, &decode(known.clone())?);
    }
    let after_bytes = after.as_ref().map(entry_codec::encode);
    if known == after_bytes {
        return Ok(None);
    }
    let before: Option<Entry> = known.map(decode).transpose()?;
    let after: Option<Entry> = after_bytes.map(decode).transpose()?;
    let Some(watched) = policy.judge(&path) else { return Ok(None) };
    let difference = compare(&watched, before.as_ref(), after.as_ref(), None);
    Ok(difference.map(|d| d.into_change(path, before, after, DetectedBy::Scan)))
}

/// Gives the owner and the group of `entry` the names that they had under the same numbers.
fn take_names(entry: &mut Entry, before: &Entry) {
    if entry.uid == before.uid {
        entry.user.clone_from(&before.user);
    }
    if entry.gid == before.gid {
        entry.group.clone_from(&before.group);
    }
}

/// The recorded paths as the scanner wants what is known.
struct KnownRecords<'f>(Records<'f>);

impl Known for KnownRecords<'_> {
    type Tag = EntryAt;
    type Error = FileError;

    fn advance(&mut self) -> Result<bool, FileError> {
        self.0.advance()
    }

    fn key(&self) -> &[u8] {
        self.0.key()
    }

    fn hint(&self) -> Option<Hint> {
        Hint::decode(self.0.hint()).ok()
    }

    fn take(&mut self) -> EntryAt {
        self.0.entry()
    }
}

/// Walks with a progress line on a terminal.
fn walk<K: Known>(
    base: &Base,
    policy: &Policy,
    known: K,
    rehash: Rehash,
    doing: &str,
    mut see: impl FnMut(Seen<K::Tag>) -> ControlFlow<()>,
) -> Result<Summary>
where
    K::Error: std::error::Error + Send + Sync + 'static,
{
    let control = Control::default();
    let bar = progress_bar();
    let mut seen_count = 0u32;
    let options = Options { rehash, ..Options::default() };
    let summary = scan(base, &policy.roots(), &PolicyPlan(policy), known, &options, &control, |seen| {
        seen_count = seen_count.wrapping_add(1);
        if seen_count.is_multiple_of(1024) {
            bar.set_message(format!("{doing}: {} paths, {} MB read", control.entries(), control.bytes() / 1_000_000));
        }
        see(seen)
    });
    bar.finish_and_clear();
    match summary {
        Ok(summary) => Ok(summary),
        Err(ScanError::Threads(error)) => Err(error).context("start the threads of the scan"),
        Err(ScanError::Known(error)) => Err(error.into()),
    }
}

fn progress_bar() -> ProgressBar {
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn base(root: Option<&Path>) -> Result<Base> {
    match root {
        Some(root) => Ok(Base::at(root)?),
        None => Ok(Base::host()?),
    }
}

/// The paths to record: as they are on this machine, or, below a root, as they are in that system.
fn paths(options: &InitOptions) -> Result<Vec<PathBytes>> {
    let path = |path: &PathBuf| match options.root {
        Some(_) => PathBytes::new(Path::new("/").join(path).as_os_str().as_encoded_bytes())
            .with_context(|| format!("{} cannot be recorded", path.display())),
        None => tally_agent::program::absolute(path),
    };
    options.paths.iter().map(path).collect()
}

/// The file itself, finished or not, is not among what is recorded.
fn own_files(file: &Path) -> Result<Vec<PathBytes>> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(file::PARTIAL);
    [file, Path::new(&partial)].into_iter().map(tally_agent::program::absolute).collect()
}

fn policy(header: &Header, leave_out: &[PathBytes]) -> Result<Policy> {
    let mut digests = Algorithms::SHA256;
    for name in &header.digests {
        let algorithm = Algorithm::from_name(name)
            .with_context(|| format!("\"{name}\" is no digest: sha256, sha1, md5, sha512 or blake3"))?;
        digests = digests.with(algorithm);
    }
    let exclude: Vec<Glob> = header
        .exclude
        .iter()
        .map(|text| Glob::parse(text).with_context(|| format!("--exclude {text}")))
        .collect::<Result<_>>()?;
    let watches = header
        .paths
        .iter()
        .map(|path| {
            let path = PathBytes::new(&path[..]).context("a recorded path is not usable")?;
            Ok(Watch { digests, ..Watch::new(Glob::exactly(&path), Mode::Static) })
        })
        .collect::<Result<_>>()?;
    let mut policy = Policy::from_watches(watches, exclude);
    leave_out.iter().for_each(|path| policy.leave_out(path.clone()));
    Ok(policy)
}
