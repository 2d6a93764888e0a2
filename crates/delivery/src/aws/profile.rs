//! The shared files of AWS's tools, `~/.aws/config` and `~/.aws/credentials`: profiles and their keys.
//!
//! Pure: the texts come in. Sections are `[default]` and `[NAME]` in credentials, `[default]` and `[profile NAME]` in config;
//! where both have a key, that of credentials counts. Indented lines belong to the key above (nested settings) and are
//! passed over. A line that is none of these is passed over as AWS's own tools do.

use std::collections::BTreeMap;

/// A file larger than this is none of these.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
const PROFILES_MAX: usize = 10_000;
const KEYS_MAX: usize = 200;

/// Profiles by name, each with its keys in small letters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, BTreeMap<String, String>>);

/// Secrets are in it.
impl std::fmt::Debug for Profiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Profiles").field(&self.0.keys()).finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Config,
    Credentials,
}

impl Profiles {
    /// Both files together.
    pub fn parse(config: &str, credentials: &str) -> Self {
        let mut profiles = Self::default();
        profiles.add(config, File::Config);
        profiles.add(credentials, File::Credentials);
        profiles
    }

    fn add(&mut self, text: &str, file: File) {
        let mut open: Option<String> = None;
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with([' ', '\t']) {
                continue;
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                open = rest.split_once(']').and_then(|(name, _)| profile_name(name.trim(), file));
                continue;
            }
            let (Some(name), Some((key, value))) = (&open, line.split_once('=')) else { continue };
            if self.0.len() >= PROFILES_MAX && !self.0.contains_key(name) {
                continue;
            }
            let keys = self.0.entry(name.clone()).or_default();
            if keys.len() < KEYS_MAX {
                keys.insert(key.trim().to_ascii_lowercase(), without_comment(value).to_owned());
            }
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A key of a profile that is not empty.
    pub fn value(&self, name: &str, key: &str) -> Option<&str> {
        self.0.get(name)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// `None` for sections that are no profile: `[sso-session x]`, `[services x]`.
fn profile_name(section: &str, file: File) -> Option<String> {
    let mut words = section.splitn(2, |c: char| c.is_ascii_whitespace());
    let name = match (words.next()?, words.next(), file) {
        ("profile", Some(name), File::Config) => name.trim(),
        (name, None, File::Credentials) => name,
        ("default", None, File::Config) => "default",
        _ => return None,
    };
    let name = name.trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// A comment after a value begins with a blank.
fn without_comment(value: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: &str = "\u{feff}[default]\nregion = eu-central-1 # ours\n[profile logs]\nrole_arn = arn:aws:iam::222222222222:role/w\n\
        source_profile = base\ns3 =\n  addressing_style = path\n[sso-session x]\nregion = nowhere\n; done\n";
    const CREDENTIALS: &str = "[base]\naws_access_key_id=AKIA\nAWS_SECRET_ACCESS_KEY = a#b/c=d\n[default]\nregion=us-east-1\nnonsense\n[broken\nx=1";

    #[test]
    fn both_files_make_the_profiles() {
        let profiles = Profiles::parse(CONFIG, CREDENTIALS);
        assert_eq!(profiles.value("default", "region"), Some("us-east-1"));
        assert_eq!(profiles.value("logs", "source_profile"), Some("base"));
        assert_eq!(profiles.value("logs", "s3"), None);
        assert_eq!(profiles.value("logs", "addressing_style"), None);
        assert_eq!(profiles.value("base", "aws_secret_access_key"), Some("a#b/c=d"));
        assert!(!profiles.has("x") && !profiles.has("broken") && !profiles.has("sso-session x"));
        assert!(!format!("{profiles:?}").contains("AKIA"));
    }

    proptest! {
        #[test]
        fn anything_may_come(text: String, at in 0usize..200, piece: String) {
            Profiles::parse(&text, &piece);
            let mut mutated = CONFIG.to_owned();
            if mutated.is_char_boundary(at) {
                mutated.insert_str(at.min(CONFIG.len()), &piece);
            }
            Profiles::parse(&mutated, &mutated);
        }
    }
}
