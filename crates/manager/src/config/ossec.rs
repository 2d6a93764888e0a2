//! The table `[ossec]` of `manager.toml`: how agents of OSSEC's are served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tally_ossec::secure::Cipher;
use tally_ossec::station::Accept;
use tally_types::did_you_mean;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Reader, address};
use crate::ingest::Resend;

const KEYS: [&str; 7] = ["dir", "ciphers", "group", "resend", "authd", "authd_password", "authd_source_address"];

/// How agents of OSSEC's are served. They are as soon as `client.keys` in the directory names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OssecConfig {
    /// Where `client.keys`, `shared/`, `rids/` and `authd.pass` are: OSSEC's own directory, or one that has them.
    pub dir: PathBuf,
    /// Which ciphers are accepted.
    pub ciphers: Accept,
    /// The group of agents that are taken in.
    pub group: Arc<str>,
    /// How messages that were lost in an agent's first scan are asked for again.
    pub resend: Resend,
    /// Where OSSEC's agents can enrol; `None` for nowhere.
    pub authd: Option<SocketAddr>,
    /// Whether that takes a password (`authd.pass`, which is made if it is not there).
    pub authd_password: bool,
    /// Whether a new key is for the address alone that it was asked from.
    pub authd_source_address: bool,
}

impl OssecConfig {
    /// The defaults, with this directory.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            ciphers: Accept::Both,
            group: "ossec".into(),
            resend: Resend::Scan,
            authd: None,
            authd_password: true,
            authd_source_address: false,
        }
    }
}

impl Reader<'_> {
    pub(super) fn ossec(&mut self, config: &mut OssecConfig, table: &DeTable<'_>) {
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "dir" => self.set(value, text("dir is a directory, such as \"/var/ossec\""), |d| config.dir = d.into()),
                "ciphers" => self.set(value, ciphers, |c| config.ciphers = c),
                "group" => self.set(value, group, |g| config.group = g.into()),
                "resend" => self.set(value, resend, |r| config.resend = r),
                "authd" => self.set(value, authd, |a| config.authd = a),
                "authd_password" => self.set(value, flag, |p| config.authd_password = p),
                "authd_source_address" => self.set(value, flag, |s| config.authd_source_address = s),
                unknown => self.unknown_ossec(key, unknown),
            }
        }
    }

    fn unknown_ossec(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, unknown: &str) {
        let near = did_you_mean(unknown, KEYS);
        self.fault(key.span().start, format!("unknown key \"{unknown}\" in [ossec]{near}"));
    }
}

fn text(expected: &'static str) -> impl Fn(&DeValue<'_>) -> Result<String, String> {
    move |value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| expected.to_owned())
}

fn ciphers(value: &DeValue<'_>) -> Result<Accept, String> {
    match value.as_str() {
        Some("both") => Ok(Accept::Both),
        Some("aes") => Ok(Accept::Only(Cipher::Aes)),
        Some("blowfish") => Ok(Accept::Only(Cipher::Blowfish)),
        _ => Err("ciphers is \"both\", \"aes\" (agents of OSSEC 4) or \"blowfish\"".to_owned()),
    }
}

fn group(value: &DeValue<'_>) -> Result<String, String> {
    let is_group =
        |group: &&str| !group.is_empty() && group.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let expected = || "group has letters, digits, and \".\", \"-\", \"_\"".to_owned();
    value.as_str().filter(is_group).map(str::to_owned).ok_or_else(expected)
}

fn resend(value: &DeValue<'_>) -> Result<Resend, String> {
    match value.as_str() {
        Some("scan") => Ok(Resend::Scan),
        Some("agent") => Ok(Resend::Agent),
        Some("off") => Ok(Resend::Off),
        _ => Err("resend is \"scan\", \"agent\" (which starts the agent anew) or \"off\"".to_owned()),
    }
}

fn authd(value: &DeValue<'_>) -> Result<Option<SocketAddr>, String> {
    if value.as_str() == Some("off") { Ok(None) } else { address(value).map(Some) }
}

fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "this is true or false".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ManagerConfig;
    use super::*;

    #[test]
    fn every_key_of_ossec_is_read_and_faults_are_told() {
        let text = "[ossec]\ndir = '/var/ossec'\nciphers = 'aes'\ngroup = 'old'\nresend = 'agent'\nauthd = '[::]:1515'\n\
                    authd_password = false\nauthd_source_address = true\n";
        let (config, faults) = ManagerConfig::parse(text, "m", Path::new("/s"));
        assert_eq!(faults, []);
        assert_eq!((config.ossec.ciphers, config.ossec.resend), (Accept::Only(Cipher::Aes), Resend::Agent));
        assert_eq!(config.ossec.dir, Path::new("/var/ossec"));
        assert!(config.ossec.authd.is_some() && !config.ossec.authd_password && config.ossec.authd_source_address);
        let (config, faults) = ManagerConfig::parse("[ossec]\ncipher = 'aes'\nresend = 1\n", "m", Path::new("/s"));
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(config.ossec, OssecConfig::new("/s/manager/ossec".into()));
        assert_eq!(
            faults,
            [
                "m:2:1: unknown key \"cipher\" in [ossec] (did you mean \"ciphers\"?)",
                "m:3:10: resend is \"scan\", \"agent\" (which starts the agent anew) or \"off\"",
            ]
        );
        let (_, faults) = ManagerConfig::parse("ossec = 1\n", "m", Path::new("/s"));
        assert_eq!(faults[0].to_string(), "m:1:9: ossec is a table: [ossec]");
    }
}
