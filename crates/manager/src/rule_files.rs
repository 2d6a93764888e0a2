//! The files of decoders, rules and lists: read at the start, and again when an operator asks.
//!
//! All or nothing: with a fault in any of them, what is loaded goes on. What rules remember of earlier events stays.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{Context, SHA256};
use tally_proto::json::RulesStatus;
use tally_rules::{Analysis, List, Lists, Ruleset, Sources};
use tally_types::{Diagnostic, Timestamp};

use crate::config::{self, ManagerConfig};
use crate::seen_file::SeenFile;

/// A rule file larger than this is not one.
const RULE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// In the manager's own directory.
const SEEN_FILE: &str = "rules-seen";

#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("read the rules {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the rules {path} have more than {RULE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("the list {path}: {why}")]
    List { path: PathBuf, why: String },
    #[error("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults { faults: Vec<Diagnostic> },
}

/// What a manager of this configuration would put events before.
pub fn analysis(config: &ManagerConfig) -> Result<Analysis, RulesError> {
    RuleDesk::open(config, Timestamp(0)).map(|(analysis, _)| analysis)
}

/// A reload that came to nothing, in words.
pub fn not_loaded(error: &RulesError) -> String {
    format!("{error}\nthe rules that were loaded stay")
}

/// Where they are. Whoever wants them read again does it on a thread of its own: parsing takes longer than agents should wait.
#[derive(Clone, Debug)]
pub struct RulePaths {
    files: config::Analysis,
    added: Vec<PathBuf>,
    /// One after the other: what was read last is what is loaded last.
    turn: Arc<Mutex<()>>,
}

/// Rules that were read and parsed, to be installed.
#[derive(Debug)]
pub struct ParsedRules {
    rules: Ruleset,
    digest: [u8; 32],
    lists: usize,
}

impl RulePaths {
    /// Reads and parses them, and lets `install` go on with that before anybody else reads them.
    pub fn read_for<T>(&self, install: impl FnOnce(Result<Box<ParsedRules>, RulesError>) -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        install(self.read().map(Box::new))
    }

    fn read(&self) -> Result<ParsedRules, RulesError> {
        let files = Files::read(&self.files, &self.added)?;
        let rules = Ruleset::parse(&files.sources()).map_err(|faults| RulesError::Faults { faults })?;
        Ok(ParsedRules { rules, digest: files.digest, lists: files.list_count })
    }
}

/// What was loaded of them, and what they remember.
#[derive(Debug)]
pub struct RuleDesk {
    pub paths: RulePaths,
    pub loaded: RulesStatus,
    /// What rules have seen, over restarts.
    pub seen: SeenFile,
}

impl RuleDesk {
    /// Decoders and rules: OSSEC's whole set, if the configuration names one; what is built in, which gives way to that; then
    /// the operator's own.
    pub fn open(config: &ManagerConfig, now: Timestamp) -> Result<(Analysis, Self), RulesError> {
        let files = Files::read(&config.analysis, &config.rules)?;
        let mut analysis =
            Analysis::load(&files.sources(), &own_name()).map_err(|faults| RulesError::Faults { faults })?;
        if let Some(events) = config.analysis.remembered_events {
            analysis.engine.set_remembered(events as usize);
        }
        warn(&analysis);
        let loaded = status(&analysis, files.digest, files.list_count, now);
        let (files, added) = (config.analysis.clone(), config.rules.clone());
        Ok((
            analysis,
            Self {
                paths: RulePaths { files, added, turn: Arc::default() },
                loaded,
                seen: SeenFile::new(config.dir().join(SEEN_FILE)),
            },
        ))
    }

    /// Between two events. Whether anything is other than it was.
    pub fn install(&mut self, parsed: ParsedRules, analysis: &mut Analysis, now: Timestamp) -> bool {
        if parsed.digest == self.loaded.digest {
            return false;
        }
        analysis.install(parsed.rules);
        // What rules search stands elsewhere now.
        self.seen.write_whole(analysis);
        warn(analysis);
        self.loaded = status(analysis, parsed.digest, parsed.lists, now);
        true
    }
}

fn warn(analysis: &Analysis) {
    for warning in analysis.engine.rules().warnings() {
        tracing::warn!(%warning, "a rule file says what its writer cannot mean");
    }
}

/// What they say, each with its name.
struct Files {
    decoders: Vec<(String, String)>,
    whole: Vec<(String, String)>,
    added: Vec<(String, String)>,
    lists: Lists,
    list_count: usize,
    digest: [u8; 32],
}

impl Files {
    fn read(files: &config::Analysis, added: &[PathBuf]) -> Result<Self, RulesError> {
        let decoders = texts(&expanded(&files.decoders)?)?;
        let whole = texts(&expanded(&files.rules)?)?;
        let added = texts(added)?;
        let list_paths = expanded(&files.lists)?;
        let mut digest = Context::new(&SHA256);
        // What is built in belongs to it: another version of this program may say something else.
        add(&mut digest, env!("CARGO_PKG_VERSION").as_bytes());
        for texts in [&decoders, &whole, &added] {
            add(&mut digest, &(texts.len() as u64).to_be_bytes());
            texts.iter().for_each(|(_, text)| add(&mut digest, text.as_bytes()));
        }
        let lists = lists(&list_paths, &mut digest)?;
        let mut value = [0; 32];
        value.copy_from_slice(digest.finish().as_ref());
        Ok(Self { decoders, whole, added, lists, list_count: list_paths.len(), digest: value })
    }

    fn sources(&self) -> Sources<'_> {
        Sources::with_shipped(pairs(&self.decoders), pairs(&self.whole), pairs(&self.added), self.lists.clone())
    }
}

fn status(analysis: &Analysis, digest: [u8; 32], lists: usize, since: Timestamp) -> RulesStatus {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    RulesStatus {
        digest,
        decoders: count(analysis.decoder_count()),
        rules: count(analysis.engine.rules().rules().count()),
        lists: count(lists),
        since,
    }
}

fn add(digest: &mut Context, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

fn pairs(texts: &[(String, String)]) -> Vec<(&str, &str)> {
    texts.iter().map(|(name, text)| (&**name, &**text)).collect()
}

fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, RulesError> {
    let mut texts = Vec::new();
    for path in paths {
        let failed = |source| RulesError::Read { path: path.clone(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > RULE_BYTES_MAX {
            return Err(RulesError::TooLarge { path: path.clone() });
        }
        // Rule files of OSSEC's may hold bytes that are no UTF-8, in comments and names.
        let bytes = std::fs::read(path).map_err(failed)?;
        texts.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(texts)
}

fn lists(paths: &[PathBuf], digest: &mut Context) -> Result<Lists, RulesError> {
    let mut lists = Lists::default();
    for path in paths {
        let failed = |source| RulesError::Read { path: path.clone(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > RULE_BYTES_MAX {
            return Err(RulesError::TooLarge { path: path.clone() });
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        add(digest, &bytes);
        let shown = path.display().to_string();
        let list = if shown.ends_with(".cdb") { List::from_cdb(&bytes) } else { List::from_text(&bytes) };
        let list = list.map_err(|fault| RulesError::List { path: path.clone(), why: fault.to_string() })?;
        // Rules of a site that moved name a list by the directory in which OSSEC has them.
        let short = path.file_name().unwrap_or_default().to_string_lossy();
        lists.insert(&shown, Some(list.clone()));
        lists.insert(&short, Some(list.clone()));
        lists.insert(&format!("lists/{short}"), Some(list));
    }
    Ok(lists)
}

/// `*` in the last part of a name stands for all that are there, in their order.
fn expanded(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RulesError> {
    let mut expanded = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((start, end)) = name.split_once('*') else {
            expanded.push(path.clone());
            continue;
        };
        let dir = path.parent().unwrap_or(Path::new("."));
        let failed = |source| RulesError::Read { path: dir.to_owned(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end) {
                found.push(name);
            }
        }
        let (names, _) = tally_rules::order(found);
        expanded.extend(names.into_iter().map(|name| dir.join(name)));
    }
    Ok(expanded)
}

/// The host's name.
pub fn own_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
