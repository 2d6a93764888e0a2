//! What every delivery to AWS is told: region, role, account, endpoints.

use std::path::PathBuf;

use crate::keys::Keys;
use crate::secret::Secret;
use crate::tls::TlsSettings;

/// The role that is assumed before anything is sent: `arn:aws:iam::222222222222:role/fim-log-writer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn {
    text: String,
    account: String,
}

impl RoleArn {
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, name] = parts[..] else { return None };
        let is_role = arn == "arn"
            && partition.starts_with("aws")
            && service == "iam"
            && region.is_empty()
            && is_account(account)
            && name.strip_prefix("role/").is_some_and(|name| !name.is_empty())
            && text.len() <= 2048
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_role.then(|| Self { text: text.to_owned(), account: account.to_owned() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The account that the role is of: the only one that anything goes to.
    pub fn account(&self) -> &str {
        &self.account
    }
}

/// What the role's owner wants to hear, so that nobody can have us use his role for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalId {
    Text(String),
    Secret(Secret),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// That of the environment, the profile or the instance where none is named.
    pub region: Option<String>,
    pub role_arn: Option<RoleArn>,
    pub external_id: Option<ExternalId>,
    /// The account that must be met where no role names one.
    pub account: Option<String>,
    pub profile: Option<String>,
    /// In place of the service's own: an emulator, a VPC endpoint.
    pub endpoint: Option<String>,
    pub sts_endpoint: Option<String>,
    pub session_name: Option<String>,
    pub tls: TlsSettings,
    pub proxy: Option<String>,
}

impl Settings {
    /// The keys that all kinds have in common.
    pub fn read(keys: &mut Keys) -> Self {
        Self::read_with(keys, false)
    }

    /// The same, where a role may be named by other keys.
    pub fn read_with(keys: &mut Keys, has_role: bool) -> Self {
        let region = keys.string("region");
        if region.as_deref().is_some_and(|region| !is_region(region)) {
            keys.fault_at("region", "region is such as \"eu-central-1\"");
        }
        let role_arn = keys.string("role_arn").and_then(|text| {
            let role = RoleArn::parse(&text);
            if role.is_none() {
                keys.fault_at("role_arn", "role_arn is such as \"arn:aws:iam::222222222222:role/fim-log-writer\"");
            }
            role
        });
        let settings = Self {
            region,
            external_id: external_id(keys),
            account: account(keys, role_arn.as_ref()),
            role_arn,
            profile: keys.string("profile"),
            endpoint: url(keys, "endpoint"),
            sts_endpoint: url(keys, "sts_endpoint"),
            session_name: session_name(keys),
            tls: TlsSettings::read(keys),
            proxy: keys.string("proxy"),
        };
        if settings.external_id.is_some() && settings.role_arn.is_none() && !has_role {
            keys.fault_at("external_id", "an external id belongs to a role: add role_arn");
        }
        settings
    }

    /// Where roles are assumed. An endpoint of plain HTTP is an emulator, which has all services; any other is one service's.
    pub fn sts_endpoint(&self) -> Option<&str> {
        let emulator = self.endpoint.as_deref().filter(|endpoint| endpoint.starts_with("http://"));
        self.sts_endpoint.as_deref().or(emulator)
    }

    /// The account that everything goes to, where it was said.
    pub fn wanted_account(&self) -> Option<&str> {
        self.role_arn.as_ref().map(RoleArn::account).or(self.account.as_deref())
    }

    /// For people: the account and the region.
    pub fn place(&self) -> String {
        let account = self.wanted_account().unwrap_or("own account");
        match &self.region {
            Some(region) => format!("{account}/{region}"),
            None => account.to_owned(),
        }
    }
}

fn external_id(keys: &mut Keys) -> Option<ExternalId> {
    let given = ["external_id", "external_id_file", "external_id_secret"].iter().filter(|key| keys.has(key)).count();
    if given > 1 {
        keys.fault_at("external_id", "of external_id, external_id_file and external_id_secret one is enough");
    }
    let text = keys.string("external_id");
    if text.as_deref().is_some_and(|text| !is_external_id(text)) {
        keys.fault_at("external_id", "external_id has 2 to 1224 letters, digits and +=,.@:/-_");
    }
    let file = keys.path("external_id_file").map(|path: PathBuf| ExternalId::Secret(Secret::File(path)));
    let secret = keys.secret("external_id_secret").map(ExternalId::Secret);
    text.map(ExternalId::Text).or(file).or(secret)
}

fn account(keys: &mut Keys, role: Option<&RoleArn>) -> Option<String> {
    let account = keys.string("account")?;
    if !is_account(&account) {
        keys.fault_at("account", "account is a text of 12 digits, such as \"222222222222\"");
    } else if role.is_some_and(|role| role.account() != account) {
        keys.fault_at("account", "account is another one than that of role_arn");
    }
    Some(account)
}

fn url(keys: &mut Keys, key: &'static str) -> Option<String> {
    let url = keys.string(key)?;
    if !(url.starts_with("https://") || url.starts_with("http://")) || url.contains(['?', '#', '@']) {
        keys.fault_at(key, format!("{key} is such as \"https://logs.eu-central-1.amazonaws.com\""));
    }
    Some(url.trim_end_matches('/').to_owned())
}

fn session_name(keys: &mut Keys) -> Option<String> {
    let name = keys.string("session_name")?;
    if name != clean_session_name(&name) {
        keys.fault_at("session_name", "session_name has 2 to 64 letters, digits and +=,.@-_");
    }
    Some(name)
}

/// What AWS takes as a session's name, of whatever a host is called.
pub fn clean_session_name(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "+=,.@-_".contains(c) { c } else { '-' };
    let name: String = name.chars().take(64).map(kept).collect();
    if name.len() < 2 { format!("fim-{name}") } else { name }
}

pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// It becomes part of a host's name.
pub fn is_region(text: &str) -> bool {
    (3..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@:/-_".contains(&byte))
}

/// The end of service names in a region's partition.
pub fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// `aws`, `aws-cn`, `aws-us-gov`.
pub fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::{keys, text};

    #[test]
    fn roles_name_their_account() {
        let role = RoleArn::parse("arn:aws:iam::222222222222:role/fim/log-writer").unwrap();
        assert_eq!(role.account(), "222222222222");
        for wrong in [
            "arn:aws:iam::22222222222:role/x",
            "arn:aws:iam::222222222222:user/x",
            "arn:aws:sts::222222222222:role/x",
            "arn:aws:iam::222222222222:role/",
            "222222222222",
        ] {
            assert_eq!(RoleArn::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        let mut keys = keys(&[
            ("region", text("Frankfurt")),
            ("role_arn", text("log-writer")),
            ("external_id", text("x")),
            ("account", text("12")),
            ("endpoint", text("127.0.0.1:5067")),
            ("session_name", text("a b")),
        ]);
        Settings::read(&mut keys);
        let faults = keys.finish();
        // The external id is wrong by itself, and without a role.
        assert_eq!(faults.len(), 7, "{faults:?}");
        assert!(faults.iter().any(|(at, why)| *at == 25 && why.contains("role_arn is such as")), "{faults:?}");
    }

    #[test]
    fn an_emulator_has_all_services() {
        let settings = |endpoint: &str| Settings { endpoint: Some(endpoint.into()), ..Settings::default() };
        assert_eq!(settings("http://127.0.0.1:5067").sts_endpoint(), Some("http://127.0.0.1:5067"));
        assert_eq!(settings("https://vpce-1.logs.eu-central-1.vpce.amazonaws.com").sts_endpoint(), None);
        assert_eq!(clean_session_name("käse host"), "k-se-host");
        assert_eq!(clean_session_name("a"), "fim-a");
    }
}
