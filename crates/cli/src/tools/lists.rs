//! `ossec-makelists`: the constant databases of the lists that the configuration names.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tally_ossec::list;

use super::{Ended, Letters, ask_options};
use tally_manager::ManagerConfig;
use tally_ossec::conf::{OssecConf, RuleSource};

const HELP: &str = "
OSSEC HIDS ossec-makelists: -[VhF] [-c config] [-D dir]
    -h          This help message
    -F          Force rebuild of all databases
    -c <config> Configuration file to use
    -D <dir>    Directory that the lists are named against
";

pub fn makelists(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "ugcD")?;
    if letters.has('h') {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    }
    if let Some(unknown) = letters.unknown("FdtugcD") {
        bail!("-{unknown} is not known; -h tells the options");
    }
    for path in lists(letters.value('c'), letters.value('D'))? {
        make(&path, letters.has('F'), out)?;
    }
    Ok(0)
}

/// The texts of the lists: of an `ossec.conf`, or of the manager's own file.
fn lists(config: Option<&str>, dir: Option<&str>) -> Result<Vec<PathBuf>> {
    let Some(config) = config else {
        let state = tally_agent::state_dir(ask_options().state.as_deref());
        return Ok(ManagerConfig::for_state(&state)?.analysis.lists);
    };
    let bytes = std::fs::read(config).with_context(|| config.to_owned())?;
    let (conf, findings) = OssecConf::parse(&String::from_utf8_lossy(&bytes), config);
    findings.errors().for_each(|finding| eprintln!("{finding}"));
    let root = Path::new(dir.unwrap_or_else(|| tally_ossec::native::root_of(config)));
    let names = conf.rules.sources.iter().filter_map(|source| match &source.value {
        RuleSource::List(name) => Some(name.trim_end_matches(".cdb")),
        _ => None,
    });
    Ok(names.map(|name| if name.contains('/') { root.join(name) } else { root.join("rules").join(name) }).collect())
}

fn make(path: &Path, force: bool, out: &mut dyn Write) -> Result<()> {
    let context = || path.display().to_string();
    let mut database = path.as_os_str().to_owned();
    database.push(".cdb");
    let database = PathBuf::from(database);
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified());
    let is_old = match (changed(path), changed(&database)) {
        (Ok(text), Ok(made)) => text > made,
        (Err(error), _) => return Err(error).with_context(context),
        (Ok(_), Err(_)) => true,
    };
    if !is_old && !force {
        return Ok(writeln!(out, " * File {} does not need to be compiled", database.display())?);
    }
    writeln!(out, " * CDB list {} is being compiled", database.display())?;
    let text = String::from_utf8_lossy(&std::fs::read(path).with_context(context)?).into_owned();
    let (records, findings) = list::records(&text, &path.display().to_string());
    findings.0.iter().for_each(|finding| eprintln!("{finding}"));
    let Some(bytes) = list::database(&records) else { bail!("{}: too large for a database", path.display()) };
    let temporary = database.with_extension("tmp");
    std::fs::write(&temporary, bytes).with_context(context)?;
    std::fs::rename(&temporary, &database).with_context(context)
}
