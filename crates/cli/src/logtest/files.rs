//! Which rules, decoders and lists a test runs with.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tally_rules::{Analysis, LIST_BYTES_MAX, List, Lists, Sources};

use super::read_text;
use crate::options::RuleFiles;

/// Faults beyond this number are counted only.
const FAULTS_SHOWN: usize = 20;

pub fn load(files: &RuleFiles) -> anyhow::Result<Analysis> {
    let rules = texts(&files.rules)?;
    let decoders = texts(&files.decoders)?;
    fn named(texts: &[(String, String)]) -> Vec<(&str, &str)> {
        texts.iter().map(|(name, text)| (&**name, &**text)).collect()
    }
    let lists = lists(&files.lists)?;
    let sources = if rules.is_empty() {
        Sources::with_shipped(named(&decoders), Vec::new(), Vec::new(), lists)
    } else {
        Sources { decoders: named(&decoders), rules: named(&rules), lists, ..Sources::default() }
    };
    let host = hostname();
    let analysis = Analysis::load(&sources, &host).map_err(|faults| {
        faults.iter().take(FAULTS_SHOWN).for_each(|fault| eprintln!("{fault}"));
        anyhow::anyhow!("{} faults in the rules or decoders", faults.len())
    })?;
    analysis.engine.rules().warnings().iter().for_each(|warning| eprintln!("{warning}"));
    Ok(analysis)
}

/// Each path is a file, or a directory of files.
fn texts(paths: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for path in paths {
        let files = if path.is_dir() { directory(path)? } else { vec![path.clone()] };
        for file in files {
            texts.push((file.display().to_string(), read_text(&file)?));
        }
    }
    Ok(texts)
}

fn directory(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".xml") {
            names.push(name);
        }
    }
    let (names, left_out) = tally_rules::order(names);
    if !left_out.is_empty() {
        eprintln!("left out, as OSSEC's own configuration does (name them with --rules): {}", left_out.join(" "));
    }
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// `NAME=FILE`, or a path that rules name as it is.
fn lists(given: &[String]) -> anyhow::Result<Lists> {
    let mut lists = Lists::default();
    for one in given {
        let (name, file) = one.split_once('=').unwrap_or((one, one));
        let read = |path: &Path| -> anyhow::Result<Option<Vec<u8>>> {
            match std::fs::metadata(path) {
                Ok(found) if found.len() > LIST_BYTES_MAX as u64 => bail!("{} is too large", path.display()),
                Ok(_) => Ok(Some(std::fs::read(path).with_context(|| format!("read {}", path.display()))?)),
                Err(_) => Ok(None),
            }
        };
        let named = || format!("list {file}");
        let list = if let Some(text) = read(Path::new(file))? {
            Some(
                if file.ends_with(".cdb") { List::from_cdb(&text) } else { List::from_text(&text) }
                    .with_context(named)?,
            )
        } else if let Some(database) = read(Path::new(&format!("{file}.cdb")))? {
            Some(List::from_cdb(&database).with_context(named)?)
        } else {
            eprintln!("the list {file} is not there");
            None
        };
        lists.insert(name, list);
    }
    Ok(lists)
}

/// The short name of this host.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = name.trim().split('.').next().unwrap_or_default();
    if short.is_empty() { "ossec-server".to_owned() } else { short.to_owned() }
}
