//! Where credentials come from, in AWS's order: the environment, a profile, web identity, a container's endpoint, the
//! instance's metadata. The first that is there is taken; one that is there and does not work is told, never passed over,
//! so that nobody sends with other rights than those that were meant.
//!
//! Nothing is kept here: `session` does that. What AWS's tools know beside these (`credential_process`, SSO) is not run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tally_types::Timestamp;

use super::fault::Fault;
use super::metadata::{Container, Metadata};
use super::profile::{FILE_BYTES_MAX, Profiles};
use super::sts::Sts;
use crate::http::Http;
use crate::secret::SecretText;

/// Profiles that lead to each other are followed so far.
const PROFILE_STEPS_MAX: usize = 5;
/// Of a web identity's token, and of a container's.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: SecretText,
    pub token: Option<SecretText>,
    /// `None` where they last until somebody changes them.
    pub expires: Option<Timestamp>,
}

/// The access key's number is no secret: AWS prints it in its own messages.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_key, expires, .. } = self;
        f.debug_struct("Credentials").field("access_key", access_key).field("expires", expires).finish_non_exhaustive()
    }
}

/// What the process's environment says of AWS. Taken once, so that tests can say it instead.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// Secrets are in it.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Environment").field(&self.variables.keys()).finish()
    }
}

impl Environment {
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let wanted = name.starts_with("AWS_") || name == "HOME";
            Some((name, value.into_string().ok()?)).filter(|_| wanted)
        });
        Self { variables: variables.collect() }
    }

    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self { variables: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn file(&self, variable: &str, usual: &str) -> Option<PathBuf> {
        match self.value(variable) {
            Some(path) => Some(path.into()),
            None => self.value("HOME").map(|home| Path::new(home).join(".aws").join(usual)),
        }
    }

    /// The shared files as they are now; one that is not there is empty.
    pub fn profiles(&self) -> Result<Profiles, Fault> {
        let read = |variable: &str, usual: &str| match self.file(variable, usual) {
            Some(path) => read_text(&path, FILE_BYTES_MAX),
            None => Ok(None),
        };
        let config = read("AWS_CONFIG_FILE", "config")?.unwrap_or_default();
        let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials")?.unwrap_or_default();
        Ok(Profiles::parse(&config, &credentials))
    }

    fn keys(&self) -> Option<Credentials> {
        Some(Credentials {
            access_key: self.value("AWS_ACCESS_KEY_ID")?.to_owned(),
            secret_key: SecretText::new(self.value("AWS_SECRET_ACCESS_KEY")?),
            token: self.value("AWS_SESSION_TOKEN").map(SecretText::new),
            expires: None,
        })
    }

    /// The region that the environment or the profile names.
    pub fn region(&self, profile: Option<&str>) -> Option<String> {
        let named = self.value("AWS_REGION").or_else(|| self.value("AWS_DEFAULT_REGION"));
        let of_profile = || {
            let profiles = self.profiles().ok()?;
            let name = profile.or_else(|| self.value("AWS_PROFILE")).unwrap_or("default");
            profiles.value(name, "region").map(str::to_owned)
        };
        if profile.is_some() {
            return of_profile().or_else(|| named.map(str::to_owned));
        }
        named.map(str::to_owned).or_else(of_profile)
    }
}

/// `None` where there is no such file.
fn read_text(path: &Path, bytes_max: u64) -> Result<Option<String>, Fault> {
    let failed = |why: String| Fault::Credentials(format!("read {}: {why}", path.display()));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(found) if found.len() > bytes_max => return Err(failed(format!("it has more than {bytes_max} bytes"))),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| failed(error.to_string()))
}

/// Asks the sources.
#[derive(Debug)]
pub struct Chain {
    pub environment: Environment,
    /// `profile = "…"` of a delivery: it alone is asked then.
    pub profile: Option<String>,
    pub http: Http,
    pub metadata: Arc<Metadata>,
    pub region: String,
    /// In place of the region's own.
    pub sts_endpoint: Option<String>,
    /// How a session is called that is not named otherwise.
    pub session_name: String,
}

impl Chain {
    pub async fn credentials(&self, now: Timestamp) -> Result<Credentials, Fault> {
        if let Some(profile) = &self.profile {
            return self.of_profile(&self.environment.profiles()?, profile, now).await;
        }
        if let Some(keys) = self.environment.keys() {
            return Ok(keys);
        }
        let profiles = self.environment.profiles()?;
        let named = self.environment.value("AWS_PROFILE");
        match named {
            Some(profile) => return self.of_profile(&profiles, profile, now).await,
            // A default profile may hold no more than a region.
            None if [
                "aws_access_key_id",
                "role_arn",
                "web_identity_token_file",
                "credential_process",
                "sso_session",
            ]
            .iter()
            .any(|key| profiles.value("default", key).is_some()) =>
            {
                return self.of_profile(&profiles, "default", now).await;
            }
            None => {}
        }
        if let Some(file) = self.environment.value("AWS_WEB_IDENTITY_TOKEN_FILE") {
            let role = self.environment.value("AWS_ROLE_ARN").ok_or_else(|| {
                Fault::Credentials("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not".into())
            })?;
            let name = self.environment.value("AWS_ROLE_SESSION_NAME").unwrap_or(&self.session_name);
            return self.of_web_identity(Path::new(file), role, name, now).await;
        }
        if let Some(container) = Container::of(&self.environment)? {
            return container.credentials(&self.http).await;
        }
        self.metadata.credentials().await
    }

    async fn of_profile(&self, profiles: &Profiles, first: &str, now: Timestamp) -> Result<Credentials, Fault> {
        // Roles that are assumed one after the other, the last first.
        let mut roles: Vec<String> = Vec::new();
        let mut profile = first.to_owned();
        let mut credentials = loop {
            if !profiles.has(&profile) {
                return Err(Fault::Credentials(format!("there is no profile {profile} in the files of AWS")));
            }
            if roles.len() >= PROFILE_STEPS_MAX {
                return Err(Fault::Credentials(format!("the profile {first} leads through too many others")));
            }
            let value = |key: &str| profiles.value(&profile, key);
            if let (Some(access_key), Some(secret_key)) = (value("aws_access_key_id"), value("aws_secret_access_key"))
                && (value("role_arn").is_none() || roles.last() == Some(&profile))
            {
                break Credentials {
                    access_key: access_key.to_owned(),
                    secret_key: SecretText::new(secret_key),
                    token: value("aws_session_token").map(SecretText::new),
                    expires: None,
                };
            }
            let Some(role) = value("role_arn") else {
                let why = if value("credential_process").is_some() || value("sso_session").is_some() {
                    "uses credential_process or SSO, which is not supported: name a profile with keys or a role"
                } else {
                    "has neither keys nor a role"
                };
                return Err(Fault::Credentials(format!("the profile {profile} {why}")));
            };
            if let Some(file) = value("web_identity_token_file") {
                let name = value("role_session_name").unwrap_or(&self.session_name);
                break self.of_web_identity(Path::new(file), role, name, now).await?;
            }
            roles.push(profile.clone());
            if let Some(next) = value("source_profile") {
                profile = next.to_owned();
                continue;
            }
            break match value("credential_source") {
                Some("Environment") => self.environment.keys().ok_or_else(|| {
                    Fault::Credentials(format!("the profile {profile} takes keys from the environment: there are none"))
                })?,
                Some("EcsContainer") => match Container::of(&self.environment)? {
                    Some(container) => container.credentials(&self.http).await?,
                    None => return Err(Fault::Credentials("there is no container's endpoint here".into())),
                },
                Some("Ec2InstanceMetadata") => self.metadata.credentials().await?,
                _ => {
                    return Err(Fault::Credentials(format!(
                        "the profile {profile} has a role, but neither source_profile nor credential_source"
                    )));
                }
            };
        };
        for profile in roles.iter().rev() {
            let value = |key: &str| profiles.value(profile, key);
            let name = value("role_session_name").unwrap_or(&self.session_name);
            let role = value("role_arn").unwrap_or_default();
            credentials = self.sts().assume_role(&credentials, role, name, value("external_id"), now).await?;
        }
        Ok(credentials)
    }

    async fn of_web_identity(&self, file: &Path, role: &str, name: &str, now: Timestamp) -> Result<Credentials, Fault> {
        let token = read_text(file, TOKEN_BYTES_MAX)?.ok_or_else(|| {
            Fault::Credentials(format!("the token {} of a web identity is not there", file.display()))
        })?;
        self.sts().web_identity(token.trim(), role, name, now).await
    }

    pub fn sts(&self) -> Sts<'_> {
        Sts { http: &self.http, region: &self.region, endpoint: self.sts_endpoint.as_deref() }
    }
}
