//! `tally import`: takes over an OSSEC installation, a directory or an archive of one.
//!
//! What is taken stands in `manager/ossec` of the state directory, in OSSEC's own layout, so that its files name each other as
//! before; the configuration is translated beside it. Nothing in the source is written to. It can run again: a file that is
//! as it was is left alone, and a configuration that somebody edited since is never overwritten, the new one stands beside it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use tally_ossec::conf::{AgentConfig, OssecConf};
use tally_ossec::finding::Findings;
use tally_ossec::internal_options::InternalOptions;
use tally_ossec::native::{self, Fate, Home, Note, Translation};
use tally_ossec::syscheck_db::Tally;

use crate::Outcome;
use crate::options::ImportOptions;

mod report;
mod source;
mod target;

use report::{Item, Report};
use source::Source;
use target::{Put, Target};

/// Where what was taken stands, in the manager's part of the state directory.
const DIR: &str = "ossec";
/// Files that are copied as they are: a directory of OSSEC, what it is, and the mode of the copies.
const COPIED: [(&str, &str, u32); 6] = [
    ("rules", "rules and lists", 0o640),
    ("etc/shared", "files for agents", 0o640),
    ("active-response/bin", "programs of responses", 0o750),
    ("agentless", "scripts of agentless checks and their passwords", 0o700),
    ("queue/rids", "message counters of agents", 0o600),
    ("queue/syscheck", "what was known of a host's files: its baseline when it comes", 0o600),
];
/// Single files, likewise.
const FILES: [(&str, &str, u32); 7] = [
    ("etc/client.keys", "keys of agents", 0o600),
    ("etc/decoder.xml", "decoders", 0o640),
    ("etc/local_decoder.xml", "local decoders", 0o640),
    ("etc/authd.pass", "the password of authd, which is off until [ossec] says where it listens", 0o600),
    ("etc/sslmanager.cert", "the certificate of authd", 0o640),
    ("etc/sslmanager.key", "the key of authd", 0o600),
    ("etc/ossec.conf", "the configuration, as it was", 0o600),
];
/// What stays where it is, and why.
const LEFT: [(&str, &str); 7] = [
    ("logs", "the old logs stay where they are"),
    ("queue/rootcheck", "not done yet: no check for rootkits or of policies is run"),
    ("queue/fts", "what was seen first is learned anew"),
    ("queue/diff", "texts of files are kept by the agents"),
    ("queue/agent-info", "agents tell of themselves when they come"),
    ("queue/agentless", "not done yet: no host is looked at over ssh"),
    ("stats", "there are no alerts about numbers of events"),
];

pub fn run(options: &ImportOptions) -> Result<Outcome> {
    let state = tally_agent::state_dir(options.state.as_deref());
    let manager = state.join("manager");
    let source = Source::open(&options.source)?;
    if !source.has("etc/ossec.conf") && !source.has("etc/client.keys") {
        bail!("{}: no OSSEC installation: it has neither etc/ossec.conf nor etc/client.keys", options.source.display());
    }
    if !options.dry_run {
        tally_agent::create_private_dir(&state)?;
        tally_agent::create_private_dir(&manager)?;
    }
    let mut import = Import {
        target: Target::open(manager.join(DIR), options.dry_run)?,
        source,
        report: Report::new(options.json),
        state,
        manager,
    };
    import.files()?;
    import.configuration()?;
    import.agent_conf()?;
    import.internal_options()?;
    import.left();
    import.target.close()?;
    import.report.finish(options.dry_run)?;
    Ok(Outcome::Fine)
}

struct Import {
    source: Source,
    target: Target,
    report: Report,
    state: PathBuf,
    manager: PathBuf,
}

impl Import {
    fn files(&mut self) -> Result<()> {
        for (name, what, mode) in FILES {
            if self.source.has(name) {
                self.copy(name, what, mode)?;
            }
        }
        for (dir, what, mode) in COPIED {
            let mut names = self.source.list(dir)?;
            // A compiled list is made again from its text.
            names.retain(|name| !name.ends_with(".cdb") || !self.source.has(name.trim_end_matches(".cdb")));
            for name in names {
                self.copy(&name, what, mode)?;
            }
        }
        for link in self.source.links() {
            self.report.add(Item::left(link, "a link is not followed: name the installation that it leads to"));
        }
        Ok(())
    }

    fn copy(&mut self, name: &str, what: &str, mode: u32) -> Result<()> {
        let bytes = self.source.read(name)?;
        let put = self.target.put(name, &bytes, mode)?;
        let mut text = format!("{what}, {}", put.words(&self.target.path(name)));
        if name.starts_with("queue/syscheck/") {
            let Tally { files, changed, removed, broken, .. } = Tally::of(&bytes);
            text.push_str(&format!(
                "; {files} files, {changed} of them changed, {removed} removed, {broken} lines that are none"
            ));
        } else if name == "etc/client.keys" {
            let lines = || bytes.split(|b| *b == b'\n').filter(|line| line.first().is_some_and(u8::is_ascii_digit));
            let gone = lines().filter(|line| line.windows(2).any(|pair| pair == b" #")).count();
            text.push_str(&format!("; {} agents, {gone} removed ones", lines().count() - gone));
        }
        self.report.add(Item::taken(name, text));
        Ok(())
    }

    /// `etc/ossec.conf` as the files of manager and agent.
    fn configuration(&mut self) -> Result<()> {
        const NAME: &str = "etc/ossec.conf";
        if !self.source.has(NAME) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.source.read(NAME)?).into_owned();
        let (conf, findings) = OssecConf::parse(&text, NAME);
        self.findings(NAME, &findings);
        let root = self.target.dir().display().to_string();
        let is_agent = conf.has("client") && !conf.has("rules");
        if !is_agent {
            let home = Home { dir: &root, is_there: &|name| self.source.has(name) };
            let translation = native::manager(&conf, &home, NAME);
            self.notes(NAME, &translation);
            let path = self.manager.join("manager.toml");
            self.config(&path, &translation.text, "a manager's configuration")?;
        }
        if ["syscheck", "localfile", "client"].into_iter().any(|section| conf.has(section)) {
            let translation = native::agent(&conf, NAME);
            self.notes(NAME, &translation);
            let path = self.state.join("agent.toml");
            self.config(&path, &translation.text, "an agent's configuration, for tally-agent run --config")?;
        }
        Ok(())
    }

    fn config(&mut self, path: &Path, text: &str, what: &str) -> Result<()> {
        let put = self.target.put_config(path, text)?;
        let words = match put {
            Put::Beside => format!("{what}, in {}.imported: {} was edited and stays", path.display(), path.display()),
            put => format!("{what}, {}", put.words(path)),
        };
        self.report.add(Item::new("etc/ossec.conf", Fate::Translated.name(), words));
        Ok(())
    }

    /// Each `<agent_config>` as a policy.
    fn agent_conf(&mut self) -> Result<()> {
        const NAME: &str = "etc/shared/agent.conf";
        if !self.source.has(NAME) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.source.read(NAME)?).into_owned();
        let (configs, findings) = AgentConfig::parse(&text, NAME);
        self.findings(NAME, &findings);
        for (number, config) in configs.iter().enumerate() {
            let translation = native::agent(&config.conf, NAME);
            self.notes(NAME, &translation);
            let path = self.target.path(&format!("policies/{}.toml", number + 1));
            let put = self.target.put_config(&path, &translation.text)?;
            let selectors = [("name", &config.name), ("os", &config.os), ("profile", &config.profile)];
            let words: Vec<_> =
                selectors.iter().filter_map(|(key, value)| Some(format!("{key} {}", value.as_ref()?))).collect();
            let whom = if words.is_empty() { "all agents".to_owned() } else { words.join(", ") };
            let text = format!(
                "a policy for agents of Tallystick ({whom}), {}; give it to a group by tally policy set GROUP FILE",
                put.words(&path)
            );
            self.report.add(Item { line: Some(config.line), ..Item::new(NAME, Fate::Translated.name(), text) });
        }
        Ok(())
    }

    fn internal_options(&mut self) -> Result<()> {
        for name in ["etc/internal_options.conf", "etc/local_internal_options.conf"] {
            if !self.source.has(name) {
                continue;
            }
            let text = String::from_utf8_lossy(&self.source.read(name)?).into_owned();
            let (options, findings) = InternalOptions::parse(&text, name);
            self.findings(name, &findings);
            // The first is OSSEC's own list of defaults, which nobody edits.
            if name.ends_with("local_internal_options.conf") {
                options.notes().iter().for_each(|note| self.note(name, note));
            } else {
                self.report.add(Item::left(name, "OSSEC's own defaults: nothing here needs them"));
            }
        }
        Ok(())
    }

    fn left(&mut self) {
        for (name, why) in LEFT {
            if self.source.has(name) {
                self.report.add(Item::left(name, why));
            }
        }
        if self.source.has("etc/shared/ar.conf") {
            let text = "the manager makes it from its commands and responses";
            self.report.add(Item::new("etc/shared/ar.conf", Fate::Given.name(), text));
        }
    }

    fn findings(&mut self, name: &str, findings: &Findings) {
        for finding in &findings.0 {
            let diagnostic = &finding.diagnostic;
            let item = Item::left(name, diagnostic.message.clone());
            self.report.add(Item { line: Some(diagnostic.line), ..item });
        }
    }

    fn notes(&mut self, name: &str, translation: &Translation) {
        let told = translation.notes.iter().filter(|note| note.fate != Fate::Elsewhere);
        told.for_each(|note| self.note(name, note));
    }

    fn note(&mut self, name: &str, note: &Note) {
        let item = Item::new(name, note.fate.name(), note.text.clone());
        self.report.add(Item { line: Some(note.line), element: Some(note.element.clone()), ..item });
    }
}

#[cfg(test)]
mod tests;
