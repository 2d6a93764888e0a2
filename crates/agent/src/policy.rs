//! By which policy this agent watches: that of its group, which the manager gave and this host keeps, or the host's own.
//!
//! The manager's text is kept in the state directory, so that it holds when the manager is away. It is never trusted: it is
//! checked here like any text of a stranger, it cannot say what only the host's own file may, and `accept_policy = false`
//! in that file refuses all of them. What `--watch` names is watched beside it.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tally_ossec::{conf, native};
use tally_syscheck::collect::Collect;
use tally_syscheck::{AgentConfig, Config, Mode, Policy};
use tally_types::PathBytes;

/// Where the manager's policy is kept, in the agent's part of the state directory.
pub const FILE: &str = "policy.toml";
/// Where it comes from, in words.
const ORIGIN_MANAGER: &str = "the manager";
const ORIGIN_DEFAULT: &str = "the built-in profile linux-base";
const ORIGIN_ARGS: &str = "--watch";
const DEFAULT_TEXT: &str = "profiles = [\"linux-base\"]\n";

/// The text in use, as the manager is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    pub text: Arc<str>,
    pub digest: [u8; 32],
    pub origin: Arc<str>,
}

impl InUse {
    fn new(text: &str, origin: &str) -> Self {
        Self { text: text.into(), digest: Config::digest(text), origin: origin.into() }
    }
}

/// What the host itself says.
pub struct Own {
    config: AgentConfig,
    policy: Policy,
    in_use: InUse,
    /// What `--watch` adds to a policy of the manager, as text.
    watches: String,
    collect: Vec<Collect>,
}

/// How the agent begins.
pub struct Chosen {
    pub config: AgentConfig,
    pub policy: Policy,
    /// Which logs it collects.
    pub collect: Vec<Collect>,
    pub standing: Standing,
}

/// The policy in use, and what is to be done with another that comes.
pub struct Standing {
    pub in_use: InUse,
    pub keeper: Keeper,
    /// A policy of the manager lay here and was not used, and why.
    pub refused: Option<String>,
}

/// Chooses between the manager's policy, kept in `dir`, and the host's `own`. `taken_in` is the digest of what was kept there.
pub fn choose(dir: &Path, own: Own, taken_in: Option<[u8; 32]>) -> Result<Chosen> {
    let Own { config, policy, in_use, watches, mut collect } = own;
    let path = dir.join(FILE);
    let kept = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut keeper = Keeper { path, own: config.clone(), watches, kept: None };
    let Some(text) = kept.filter(|_| config.accept_policy) else {
        return Ok(Chosen { config, policy, collect, standing: Standing { in_use, keeper, refused: None } });
    };
    let usable = if taken_in == Some(Config::digest(&text)) {
        keeper.parse(&text)
    } else {
        Err("the copy on this host was altered; it is not used until the manager sends the policy again".to_owned())
    };
    match usable {
        Err(why) => Ok(Chosen { config, policy, collect, standing: Standing { in_use, keeper, refused: Some(why) } }),
        Ok((used, Config { agent: config, policy, collect: given })) => {
            // What the host itself collects stays.
            collect.extend(
                given
                    .into_iter()
                    .filter(|given| !collect.iter().any(|own| own.source == given.source))
                    .collect::<Vec<_>>(),
            );
            keeper.kept = Some(text.into());
            let in_use = InUse::new(&used, ORIGIN_MANAGER);
            Ok(Chosen { config, policy, collect, standing: Standing { in_use, keeper, refused: None } })
        }
    }
}

/// What the host itself says: its file, or what stands on the command line.
pub fn own(file: Option<&Path>, watches: &[(PathBytes, Option<Mode>)]) -> Result<Own> {
    if let Some(file) = file {
        let origin = file.display().to_string();
        let text = read_own(file)?;
        let (config, faults) = Config::parse(&text, &origin);
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            bail!("the configuration is not usable:\n{}", faults.join("\n"));
        }
        let Config { agent, policy, collect } = config;
        return Ok(if policy.is_empty() {
            Own { config: agent, collect, ..default_own() }
        } else {
            Own { config: agent, policy, in_use: InUse::new(&text, &origin), watches: String::new(), collect }
        });
    }
    if watches.is_empty() {
        return Ok(default_own());
    }
    let text = watches_text(watches);
    let in_use = InUse::new(&text, ORIGIN_ARGS);
    let policy = Policy::from_watch_args(watches);
    Ok(Own { config: AgentConfig::default(), policy, in_use, watches: text, collect: Vec::new() })
}

/// The text of the host's file; an `ossec.conf` as it is translated.
fn read_own(file: &Path) -> Result<String> {
    let origin = file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| origin.clone())?;
    let lossy = String::from_utf8_lossy(&bytes);
    if conf::kind(&lossy) != Some(conf::Kind::OssecConf) {
        return String::from_utf8(bytes).with_context(|| origin.clone());
    }
    let (conf, findings) = conf::OssecConf::parse(&lossy, &origin);
    if findings.has_errors() {
        let faults: Vec<String> = findings.errors().map(ToString::to_string).collect();
        bail!("the configuration is not usable:\n{}", faults.join("\n"));
    }
    for finding in &findings.0 {
        tracing::warn!(what = %finding, "a word of the configuration has no effect");
    }
    let translation = native::agent(&conf, &origin);
    for note in translation.notes.iter().filter(|note| note.fate == native::Fate::Left) {
        tracing::warn!(what = %format!("{origin}:{note}"), "the configuration asks for something that has no counterpart");
    }
    Ok(translation.text)
}

fn default_own() -> Own {
    use std::os::unix::ffi::OsStrExt;
    let exists = |path: &PathBytes| Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).exists();
    let in_use = InUse::new(DEFAULT_TEXT, ORIGIN_DEFAULT);
    Own {
        config: AgentConfig::default(),
        policy: Policy::defaults(exists),
        in_use,
        watches: String::new(),
        collect: Vec::new(),
    }
}

/// The same as text. A path that is not UTF-8 has no place in a text and is told with U+FFFD; it is watched all the same.
fn watches_text(watches: &[(PathBytes, Option<Mode>)]) -> String {
    let mut text = String::new();
    for (path, mode) in watches {
        let path = String::from_utf8_lossy(path.as_bytes());
        let escaped: String =
            path.chars().flat_map(|c| if "\\*?[]{}".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
        let mode = mode.unwrap_or_default().name();
        text.push_str(&format!("[[watch]]\npath = {}\nmode = \"{mode}\"\n", quoted(&escaped)));
    }
    text
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Takes policies of the manager in.
pub struct Keeper {
    path: PathBuf,
    own: AgentConfig,
    watches: String,
    /// The manager's text that is in use.
    kept: Option<Arc<str>>,
}

/// What becomes of a policy that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It is what is used already.
    Same,
    /// It is kept, or what was kept is gone: the agent is to begin anew.
    Kept,
    /// It is not usable here, and why. What is in use stays.
    Refused(String),
}

impl Keeper {
    /// The manager's policy, or its word that there is none.
    pub fn receive(&self, text: Option<&str>) -> io::Result<Reception> {
        let Some(text) = text else {
            return match std::fs::remove_file(&self.path) {
                Ok(()) if self.kept.is_some() => Ok(Reception::Kept),
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(Reception::Same),
            };
        };
        if !self.own.accept_policy {
            let why = "this host's own file refuses policies of the manager (accept_policy = false)";
            return Ok(Reception::Refused(why.to_owned()));
        }
        if self.kept.as_deref() == Some(text) {
            return Ok(Reception::Same);
        }
        if let Err(why) = self.parse(text) {
            return Ok(Reception::Refused(why));
        }
        self.write(text)?;
        Ok(Reception::Kept)
    }

    /// The text with what is watched beside it, and what it means; or its faults.
    fn parse(&self, text: &str) -> Result<(String, Config), String> {
        let told = |faults: Vec<tally_types::Diagnostic>| {
            let shown: Vec<String> = faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
            let more = faults.len().saturating_sub(FAULTS_SHOWN);
            if more > 0 { format!("{}; and {more} more", shown.join("; ")) } else { shown.join("; ") }
        };
        // By itself first: what is watched beside it makes no empty policy usable.
        let (config, faults) = Config::parse_group_over(text, "policy", &self.own);
        if !faults.is_empty() {
            return Err(told(faults));
        }
        if self.watches.is_empty() {
            return Ok((text.to_owned(), config));
        }
        let both = format!("{}\n{}", text.trim_end(), self.watches);
        let (config, faults) = Config::parse_group_over(&both, "policy", &self.own);
        if faults.is_empty() { Ok((both, config)) } else { Err(told(faults)) }
    }

    /// Under a temporary name first, so that a crash leaves the old one or the new one.
    fn write(&self, text: &str) -> io::Result<()> {
        let temporary = self.path.with_extension("toml.new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(dir)?.sync_all()
    }
}

/// Of a refused policy; the rest is counted.
const FAULTS_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "[[watch]]\npath = \"/srv\"\n[agent]\nrehash_days = 3\n";

    fn path(text: &[u8]) -> PathBytes {
        PathBytes::new(text).unwrap()
    }

    /// As if nobody had touched what was kept.
    fn chosen(dir: &Path, file: Option<&Path>, watches: &[(PathBytes, Option<Mode>)]) -> Chosen {
        let taken_in = std::fs::read_to_string(dir.join(FILE)).ok().map(|text| Config::digest(&text));
        choose(dir, own(file, watches).unwrap(), taken_in).unwrap()
    }

    fn received(chosen: &Chosen, text: Option<&str>) -> Reception {
        chosen.standing.keeper.receive(text).unwrap()
    }

    #[test]
    fn an_ossec_conf_is_the_hosts_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ossec.conf");
        let text = b"<!-- caf\xe9 --><ossec_config><syscheck><directories check_all=\"yes\">/srv</directories>\
                     <ignore>/srv/tmp</ignore></syscheck></ossec_config>";
        std::fs::write(&file, text).unwrap();
        let chosen = chosen(dir.path(), Some(&file), &[]);
        assert!(chosen.policy.judge(&path(b"/srv/a")).is_some());
        assert!(chosen.policy.judge(&path(b"/srv/tmp1/a")).is_none());
        assert_eq!(&*chosen.standing.in_use.origin, file.to_str().unwrap());
        std::fs::write(&file, "<ossec_config><syscheck><frequency>x</frequency></syscheck></ossec_config>").unwrap();
        assert!(
            own(Some(&file), &[]).err().unwrap().to_string().contains("ossec.conf:1:36: <frequency> is a whole number")
        );
    }

    #[test]
    fn the_managers_policy_is_kept_over_a_restart_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = chosen(dir.path(), None, &[]);
        assert_eq!(&*first.standing.in_use.origin, ORIGIN_DEFAULT);
        assert_eq!(received(&first, None), Reception::Same);
        assert_eq!(received(&first, Some(GROUP)), Reception::Kept);
        let second = chosen(dir.path(), None, &[]);
        let in_use = &second.standing.in_use;
        assert_eq!((&*in_use.text, &*in_use.origin, in_use.digest), (GROUP, ORIGIN_MANAGER, Config::digest(GROUP)));
        assert_eq!(second.config.rehash_days, 3);
        assert!(
            second.policy.judge(&path(b"/srv/x")).is_some() && second.policy.judge(&path(b"/etc/passwd")).is_none()
        );
        assert_eq!(received(&second, Some(GROUP)), Reception::Same);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join(FILE)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(received(&second, None), Reception::Kept);
        assert_eq!(chosen(dir.path(), None, &[]).standing.in_use, first.standing.in_use);
    }

    #[test]
    fn what_is_not_usable_or_not_wanted_is_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "[agent]\naccept_policy = false\nthreads = 2\n").unwrap();
        let refusal = |chosen: &Chosen, text: &str| match received(chosen, Some(text)) {
            Reception::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(refusal(&chosen(dir.path(), Some(&file), &[]), GROUP).contains("accept_policy"));
        let open = chosen(dir.path(), None, &[]);
        assert!(refusal(&open, "[agent]\nmanager = \"evil\"\n[[watch]]\npath = \"/a\"").contains("policy:2:1"));
        assert!(refusal(&open, "").contains("watches nothing"));
        assert!(refusal(&open, &"#".repeat(Config::TEXT_BYTES_MAX + 1)).contains("the limit is"));
        assert!(!dir.path().join(FILE).exists());
        // The host says that it wants none: what was kept before does not count.
        std::fs::write(dir.path().join(FILE), GROUP).unwrap();
        assert_eq!(&*chosen(dir.path(), Some(&file), &[]).standing.in_use.origin, ORIGIN_DEFAULT);
    }

    #[test]
    fn a_copy_that_was_altered_on_the_host_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(received(&chosen(dir.path(), None, &[]), Some(GROUP)), Reception::Kept);
        let altered = GROUP.replace("/srv", "/tmp");
        std::fs::write(dir.path().join(FILE), &altered).unwrap();
        let left = choose(dir.path(), own(None, &[]).unwrap(), Some(Config::digest(GROUP))).unwrap();
        assert!(left.standing.refused.as_ref().unwrap().contains("altered"));
        assert_eq!(&*left.standing.in_use.origin, ORIGIN_DEFAULT);
        // The manager sends it again, and it is in its place.
        assert_eq!(received(&left, Some(GROUP)), Reception::Kept);
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), GROUP);
    }

    #[test]
    fn what_is_named_on_the_command_line_is_watched_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let odd = [(path(b"/a*\"b"), Some(Mode::Log)), (path(b"/c d"), None)];
        let own = chosen(dir.path(), None, &odd);
        let (config, faults) = Config::parse(&own.standing.in_use.text, "text");
        assert_eq!(faults, []);
        for (path, mode) in &odd {
            assert_eq!(config.policy.judge(path).map(|w| w.mode), Some(mode.unwrap_or_default()));
        }
        assert!(config.policy.judge(&path(b"/ax\"b")).is_none());
        assert_eq!(received(&own, Some(GROUP)), Reception::Kept);
        let both = chosen(dir.path(), None, &odd);
        for watched in [&b"/srv/x"[..], b"/a*\"b", b"/c d/e"] {
            assert!(both.policy.judge(&path(watched)).is_some());
        }
        assert_eq!(received(&both, Some(GROUP)), Reception::Same);
    }
}
