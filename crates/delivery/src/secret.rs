//! Passwords and tokens: the configuration says where one is, never what it is.
//!
//! It is read when it is needed, each time anew, so that one that was changed works without a restart. It is shown nowhere.

use std::fmt;
use std::path::PathBuf;

use crate::aws;
use crate::keys::Value;

/// A secret longer than this is none.
const BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// `{ file = "/etc/tallystick/smtp-password" }`; a line break at its end does not belong to it.
    File(PathBuf),
    /// `{ env = "SMTP_PASSWORD" }`
    Env(String),
    /// `{ credential = "smtp" }`: of systemd, `LoadCredential=` of the unit.
    Credential(String),
    /// `{ ssm = "/fim/smtp" }`: a parameter of AWS Systems Manager.
    Ssm(String),
    /// `{ secretsmanager = "fim/smtp" }`: of AWS Secrets Manager.
    SecretsManager(String),
    /// The secret itself: where OSSEC's files have it. No key of a `[[delivery]]` reads this.
    Given(SecretText),
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("read the secret {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the secret {0} is empty")]
    Empty(Secret),
    #[error("the secret {path} has more than {BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("the secret {path} is not UTF-8")]
    NoText { path: PathBuf },
    #[error("the environment variable {0} is not set")]
    Env(String),
    #[error("the systemd credential {0} is not there: the manager was not started by a unit with LoadCredential={0}:…")]
    Credential(String),
    #[error("the secret {secret} could not be had: {why}")]
    Aws { secret: Secret, why: String },
}

/// A secret itself. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Ssm(name) => write!(f, "ssm {name}"),
            Self::SecretsManager(name) => write!(f, "secretsmanager {name}"),
            Self::Given(_) => f.write_str("in the configuration file"),
        }
    }
}

const FORMS: &str =
    "{ file = \"…\" }, { env = \"…\" }, { credential = \"…\" }, { ssm = \"…\" } or { secretsmanager = \"…\" }";

impl Secret {
    /// What `key` says of where the secret is.
    pub fn from_value(key: &str, value: &Value) -> Result<Self, String> {
        let table = match value {
            Value::Table(table) => table,
            Value::Text(_) => {
                return Err(format!("{key} is a secret and stands never in the configuration itself: write {FORMS}"));
            }
            _ => return Err(format!("{key} is {FORMS}")),
        };
        match &table[..] {
            [(place, Value::Text(name))] if !name.is_empty() => match place.as_str() {
                "file" => Ok(Self::File(name.into())),
                "env" => Ok(Self::Env(name.clone())),
                "credential" if !name.contains('/') => Ok(Self::Credential(name.clone())),
                "ssm" => Ok(Self::Ssm(name.clone())),
                "secretsmanager" => Ok(Self::SecretsManager(name.clone())),
                _ => Err(format!("{key} is {FORMS}")),
            },
            _ => Err(format!("{key} is {FORMS}")),
        }
    }

    /// The secret as it is now.
    pub async fn read(&self) -> Result<SecretText, SecretError> {
        let text = match self {
            Self::File(path) => read_file(path)?,
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
            Self::Credential(name) => {
                let dir =
                    std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| SecretError::Credential(name.clone()))?;
                read_file(&PathBuf::from(dir).join(name))?
            }
            // Their credentials may be behind a secret of their own: the future is not of a known size.
            Self::Ssm(name) => self.of_aws(Box::pin(aws::secret::ssm(name)).await)?,
            Self::SecretsManager(name) => self.of_aws(Box::pin(aws::secret::secrets_manager(name)).await)?,
            Self::Given(text) => text.reveal().to_owned(),
        };
        if text.is_empty() { Err(SecretError::Empty(self.clone())) } else { Ok(SecretText(text)) }
    }
}

impl Secret {
    fn of_aws(&self, read: Result<String, aws::fault::Fault>) -> Result<String, SecretError> {
        read.map_err(|fault| SecretError::Aws { secret: self.clone(), why: fault.to_string() })
    }
}

fn read_file(path: &PathBuf) -> Result<String, SecretError> {
    let failed = |source| SecretError::File { path: path.clone(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > BYTES_MAX {
        return Err(SecretError::TooLarge { path: path.clone() });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| SecretError::NoText { path: path.clone() })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_gives_its_line_and_nothing_shows_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let text = Secret::File(path.clone()).read().await.unwrap();
        assert_eq!((text.reveal(), format!("{text:?}").as_str()), ("hunter2", "SecretText(…)"));
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::File(path.clone()).read().await.is_err());
        let error = Secret::File(dir.path().join("none")).read().await.unwrap_err();
        assert!(error.to_string().contains("none: No such file"), "{error}");
    }

    #[test]
    fn forms_are_told_apart() {
        let table = |place: &str| Value::Table(vec![(place.to_owned(), Value::Text("x".into()))]);
        assert_eq!(Secret::from_value("token", &table("env")), Ok(Secret::Env("x".into())));
        assert!(Secret::from_value("token", &table("vault")).unwrap_err().contains("{ file = "));
    }
}
