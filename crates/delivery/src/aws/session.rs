//! The identity that a delivery acts as: fetched when it is needed, kept until four fifths of its life are over, and of the
//! right account.
//!
//! Where a role is named it is assumed, and then AWS is asked whose credentials came of it (GetCallerIdentity). Another
//! account than the one in the role's name, or none, means that nothing is sent. There is no way around this check: who has
//! a `Held` has a checked one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tally_types::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use super::credentials::{Chain, Credentials, Environment};
use super::fault::Fault;
use super::metadata::{Instance, Metadata};
use super::now;
use super::settings::{ExternalId, Settings, clean_session_name, is_region};
use crate::http::{Http, HttpSettings};

/// Of an answer: the largest are lists of what was refused.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Credentials without an end are asked for again so often, since a file or the environment may have changed.
const LASTING_USE_S: i64 = 300;

/// Credentials whose account is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub credentials: Credentials,
    /// Known where it was checked.
    pub account: Option<String>,
    fresh_until: Timestamp,
}

#[derive(Debug)]
pub struct Session {
    settings: Settings,
    environment: Environment,
    http: Http,
    metadata: Arc<Metadata>,
    /// Whoever finds none fetches them, and the others wait for that.
    held: Mutex<Option<Arc<Held>>>,
    region: OnceCell<String>,
    instance: OnceCell<Instance>,
    /// AWS's clock less ours, in microseconds.
    offset: AtomicI64,
}

impl Session {
    pub fn new(settings: Settings) -> Result<Self, Fault> {
        Self::with(settings, Environment::of_process())
    }

    pub fn with(mut settings: Settings, environment: Environment) -> Result<Self, Fault> {
        if settings.endpoint.is_none() {
            settings.endpoint = environment.value("AWS_ENDPOINT_URL").map(|url| url.trim_end_matches('/').to_owned());
        }
        let http = Http::new(HttpSettings {
            tls: settings.tls.clone(),
            proxy: settings.proxy.clone(),
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..HttpSettings::default()
        })?;
        let metadata = Arc::new(Metadata::new(&environment)?);
        Ok(Self {
            settings,
            environment,
            http,
            metadata,
            held: Mutex::default(),
            region: OnceCell::new(),
            instance: OnceCell::new(),
            offset: AtomicI64::new(0),
        })
    }

    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub const fn http(&self) -> &Http {
        &self.http
    }

    /// The time by AWS's clock, as far as it was told us.
    pub fn now(&self) -> Timestamp {
        now().plus_micros(self.offset.load(Ordering::Relaxed))
    }

    /// AWS refused the time in a signature, and this is its own.
    pub fn learn_clock(&self, theirs: Timestamp) {
        let offset = theirs.since(now());
        self.offset.store(offset, Ordering::Relaxed);
        tracing::warn!(
            offset_s = offset / 1_000_000,
            "this host's clock differs from AWS's, which refuses our requests by it"
        );
    }

    pub async fn region(&self) -> Result<&str, Fault> {
        let region = self.region.get_or_try_init(|| async {
            let named = self.settings.region.clone();
            let named = named.or_else(|| self.environment.region(self.settings.profile.as_deref()));
            let region = match named {
                Some(region) => Some(region),
                None => self.instance().await.and_then(|instance| instance.region.clone()),
            };
            match region.filter(|region| is_region(region)) {
                Some(region) => Ok(region),
                None => Err(Fault::Settings("no region: add region = \"…\", or set AWS_REGION".into())),
            }
        });
        region.await.map(String::as_str)
    }

    /// The instance we run on; `None` where it is none of AWS's, or does not tell just now.
    pub async fn instance(&self) -> Option<&Instance> {
        self.instance.get_or_try_init(|| self.metadata.instance()).await.ok()
    }

    /// Credentials that are of the right account.
    pub async fn held(&self) -> Result<Arc<Held>, Fault> {
        let mut kept = self.held.lock().await;
        if let Some(held) = kept.as_ref().filter(|held| self.now() < held.fresh_until) {
            return Ok(held.clone());
        }
        match self.fetch().await {
            Ok(held) => Ok(kept.insert(Arc::new(held)).clone()),
            // As long as the old ones last, one that cannot be had anew does no harm.
            Err(fault) => match kept.as_ref().and_then(|held| Some((held, held.credentials.expires?))) {
                Some((held, expires)) if self.now() < expires && !matches!(fault, Fault::Account { .. }) => {
                    tracing::warn!(%fault, "AWS credentials could not be renewed; the old ones are used until they end");
                    Ok(held.clone())
                }
                _ => {
                    *kept = None;
                    Err(fault)
                }
            },
        }
    }

    /// A service says that they have ended: the next call fetches new ones.
    pub async fn forget(&self, stale: &Held) {
        let mut kept = self.held.lock().await;
        if kept.as_ref().is_some_and(|held| **held == *stale) {
            *kept = None;
        }
    }

    /// The account that everything goes to.
    pub async fn account(&self) -> Result<String, Fault> {
        if let Some(account) = self.settings.wanted_account() {
            return Ok(account.to_owned());
        }
        let held = self.held().await?;
        if let Some(account) = &held.account {
            return Ok(account.clone());
        }
        let chain = self.chain().await?;
        let identity = chain.sts().caller_identity(&held.credentials, self.now()).await?;
        let known = Held { account: Some(identity.account.clone()), ..(*held).clone() };
        *self.held.lock().await = Some(Arc::new(known));
        Ok(identity.account)
    }

    async fn fetch(&self) -> Result<Held, Fault> {
        let fetched = match self.fetch_once().await {
            // Told once what time it is for AWS, we ask again.
            Err(Fault::Clock { offset_s, .. }) => {
                self.learn_clock(self.now().minus_micros(offset_s.saturating_mul(1_000_000)));
                self.fetch_once().await
            }
            other => other,
        };
        fetched.inspect_err(|fault| tracing::debug!(%fault, "no AWS credentials"))
    }

    async fn fetch_once(&self) -> Result<Held, Fault> {
        let chain = self.chain().await?;
        let mut credentials = chain.credentials(self.now()).await?;
        if let Some(role) = &self.settings.role_arn {
            let external_id = self.external_id().await?;
            let name = &chain.session_name;
            let assumed =
                chain.sts().assume_role(&credentials, role.as_str(), name, external_id.as_deref(), self.now()).await;
            credentials = assumed.map_err(|fault| Self::role_refused(role.as_str(), fault))?;
        }
        let mut account = None;
        if let Some(wanted) = self.settings.wanted_account() {
            let identity = chain.sts().caller_identity(&credentials, self.now()).await?;
            if identity.account != wanted {
                return Err(Fault::Account { wanted: wanted.to_owned(), found: identity.account });
            }
            account = Some(identity.account);
        }
        let now = self.now();
        let life = credentials.expires.map_or(LASTING_USE_S * 1_000_000, |expires| expires.since(now) / 5 * 4);
        Ok(Held { credentials, account, fresh_until: now.plus_micros(life) })
    }

    /// AWS says of a role that is not there, does not trust us or wants another external id one and the same thing.
    fn role_refused(role: &str, fault: Fault) -> Fault {
        match fault {
            Fault::Answer { service, status, code, message, after } if code.starts_with("AccessDenied") => {
                let message = format!(
                    "{message}. Check that the role {role} is there, that its trust policy names who we are and this \
                     external id, and that we may sts:AssumeRole on it"
                );
                Fault::Answer { service, status, code, message, after }
            }
            other => other,
        }
    }

    async fn external_id(&self) -> Result<Option<String>, Fault> {
        match &self.settings.external_id {
            None => Ok(None),
            Some(ExternalId::Text(text)) => Ok(Some(text.clone())),
            Some(ExternalId::Secret(secret)) => match Box::pin(secret.read()).await {
                Ok(text) => Ok(Some(text.reveal().to_owned())),
                Err(error) => Err(Fault::Settings(error.to_string())),
            },
        }
    }

    async fn chain(&self) -> Result<Chain, Fault> {
        Ok(Chain {
            environment: self.environment.clone(),
            profile: self.settings.profile.clone(),
            http: self.http.clone(),
            metadata: self.metadata.clone(),
            region: self.region().await?.to_owned(),
            sts_endpoint: self.settings.sts_endpoint().map(str::to_owned),
            session_name: self.session_name().await,
        })
    }

    /// The instance's number where we run on one, so that CloudTrail names who sends; the host's name elsewhere.
    async fn session_name(&self) -> String {
        if let Some(name) = &self.settings.session_name {
            return name.clone();
        }
        // Who has keys from elsewhere does not wait for an instance's metadata.
        let is_elsewhere = self.environment.value("AWS_ACCESS_KEY_ID").is_some() || self.settings.profile.is_some();
        let id = match is_elsewhere {
            true => None,
            false => self.instance().await.and_then(|instance| instance.id.clone()),
        };
        clean_session_name(&id.unwrap_or_else(host_name))
    }
}

/// The kernel's name for this host.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
