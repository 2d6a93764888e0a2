//! AWS Security Hub: findings in ASFF, imported by the account that owns the instance, as the service demands of custom
//! products.
//!
//! `role_arn` may have `{account_id}` in it: then each account's findings are imported by its own role, and one account that
//! refuses does not keep the others' findings back for longer than a try.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Service};
use super::fault::{Fault, Turn};
use super::session::Session;
use super::settings::{RoleArn, Settings as Access, is_account, partition};
use super::settled::{Settled, outcome};
use crate::destination::{BatchLimits, Sent};
use crate::format::asff::{Site, asff};
use crate::http::Request;
use crate::keys::Keys;
use crate::message::Message;

const HUB: Service = Service { name: "Security Hub", id: "securityhub" };
const CALL_FINDINGS_MAX: usize = 100;
const FINDING_BYTES_MAX: usize = 240 * 1024;
/// Of one call: 6 MB by the quota's words, and a round number below.
const CALL_BYTES_MAX: usize = 5 << 20;
/// Ten calls a second and account are allowed.
const PAUSE: Duration = Duration::from_millis(100);
/// Roles that are kept open; more accounts than that are opened anew.
const ACCOUNTS_MAX: usize = 500;
const PLACEHOLDER: &str = "{account_id}";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub access: Access,
    /// With `{account_id}` where an instance's account is put in.
    pub role_template: Option<String>,
}

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let mut template = keys.string("role_template");
        if let Some(text) = &template
            && (!text.contains(PLACEHOLDER) || RoleArn::parse(&text.replace(PLACEHOLDER, "000000000000")).is_none())
        {
            keys.fault_at("role_template", "role_template is such as \"arn:aws:iam::{account_id}:role/fim-findings\"");
            template = None;
        }
        if template.is_some() && keys.has("role_arn") {
            keys.fault_at("role_arn", "of role_arn and role_template one is enough");
        }
        let mut access = Access::read_with(keys, template.is_some());
        if template.is_some() {
            access.role_arn = None;
        }
        Some(Self { access, role_template: template })
    }

    pub fn target(&self) -> String {
        match &self.role_template {
            Some(template) => template.clone(),
            None => self.access.place(),
        }
    }
}

#[derive(Debug)]
pub struct SecurityHub {
    settings: Settings,
    /// By account; the empty name is that of our own.
    clients: BTreeMap<String, Client>,
    next_call: Instant,
    settled: Settled,
}

/// One finding, of the message at a place of the batch.
struct Finding {
    at: usize,
    value: Value,
    bytes: usize,
}

impl SecurityHub {
    pub fn new(settings: Settings) -> Self {
        Self { settings, clients: BTreeMap::new(), next_call: Instant::now(), settled: Settled::new() }
    }

    /// With a session of the caller's making: for tests.
    pub fn with_session(settings: Settings, session: Arc<Session>) -> Self {
        let mut hub = Self::new(settings);
        hub.clients.insert(String::new(), Client::new(session, HUB));
        hub
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { count_max: CALL_FINDINGS_MAX, ..BatchLimits::default() }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let delivered = self.deliver(batch).await;
        outcome(&mut self.settled, batch, delivered)
    }

    async fn deliver(&mut self, batch: &[Message]) -> Result<(), Fault> {
        let mut by_account: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, message) in batch.iter().enumerate() {
            if self.settled.contains_key(&message.id) {
                continue;
            }
            let own = message.agent.cloud.as_ref().and_then(|cloud| cloud.account.as_deref());
            match (&self.settings.role_template, own) {
                (Some(_), Some(account)) if is_account(account) => {
                    by_account.entry(account.to_owned()).or_default().push(at);
                }
                (Some(_), _) => {
                    let name = &message.agent.name;
                    let why = format!("the AWS account of {name} is not known, and a finding belongs to its account");
                    self.settled.insert(message.id.clone(), Some(why));
                }
                (None, _) => by_account.entry(String::new()).or_default().push(at),
            }
        }
        let mut first = None;
        for (account, places) in by_account {
            // The others' findings are sent all the same.
            if let Err(fault) = self.deliver_to(&account, &places, batch).await {
                first.get_or_insert(fault);
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn deliver_to(&mut self, account: &str, places: &[usize], batch: &[Message]) -> Result<(), Fault> {
        let client = self.client(account)?;
        let region = client.session().region().await?.to_owned();
        let owner = client.session().account().await?;
        let site = Site { partition: partition(&region), region: &region, account: &owner };
        let mut findings = Vec::new();
        for &at in places {
            let message = &batch[at];
            let other = message.agent.cloud.as_ref().and_then(|cloud| cloud.account.as_deref());
            if let Some(other) = other.filter(|other| *other != owner) {
                let why = format!(
                    "the instance belongs to the account {other}, and these credentials to {owner}: use role_template"
                );
                self.settled.insert(message.id.clone(), Some(why));
                continue;
            }
            let value = asff(message, &site);
            let bytes = value.to_string().len();
            if bytes > FINDING_BYTES_MAX {
                let why = format!("it has {bytes} bytes, and Security Hub takes at most {FINDING_BYTES_MAX}");
                self.settled.insert(message.id.clone(), Some(why));
                continue;
            }
            findings.push(Finding { at, value, bytes });
        }
        let mut left = calls(findings);
        while let Some(mut call) = left.pop() {
            sleep_until(self.next_call).await;
            self.next_call = Instant::now() + PAUSE;
            match import(&client, &call).await {
                Ok(failed) => {
                    for finding in &call {
                        let id = &batch[finding.at].id;
                        self.settled.insert(id.clone(), failed.get(&**id).cloned());
                    }
                }
                Err(fault) if fault.turn() == Turn::Refused && call.len() > 1 => {
                    left.push(call.split_off(call.len() / 2));
                    left.push(call);
                }
                Err(fault) if fault.turn() == Turn::Refused => {
                    self.settled.insert(batch[call[0].at].id.clone(), Some(fault.to_string()));
                }
                Err(fault) => return Err(explained(fault, &owner)),
            }
        }
        Ok(())
    }

    fn client(&mut self, account: &str) -> Result<Client, Fault> {
        if let Some(client) = self.clients.get(account) {
            return Ok(client.clone());
        }
        let mut access = self.settings.access.clone();
        if let Some(template) = &self.settings.role_template {
            access.role_arn = RoleArn::parse(&template.replace(PLACEHOLDER, account));
        }
        let client = Client::new(Arc::new(Session::new(access)?), HUB);
        if self.clients.len() >= ACCOUNTS_MAX {
            self.clients.clear();
        }
        self.clients.insert(account.to_owned(), client.clone());
        Ok(client)
    }
}

/// In calls, the first last.
fn calls(findings: Vec<Finding>) -> Vec<Vec<Finding>> {
    let (mut calls, mut bytes) = (Vec::<Vec<Finding>>::new(), 0);
    for finding in findings {
        match calls.last_mut() {
            Some(call) if call.len() < CALL_FINDINGS_MAX && bytes + finding.bytes <= CALL_BYTES_MAX => {
                bytes += finding.bytes;
                call.push(finding);
            }
            _ => {
                bytes = finding.bytes;
                calls.push(vec![finding]);
            }
        }
    }
    calls.reverse();
    calls
}

/// Imports findings, and gives those that were refused, by their `Id`.
async fn import(client: &Client, call: &[Finding]) -> Result<BTreeMap<String, String>, Fault> {
    let findings: Vec<&Value> = call.iter().map(|finding| &finding.value).collect();
    let request = Request::post(
        format!("{}/findings/import", client.endpoint().await?),
        json!({ "Findings": findings }).to_string(),
    )
    .header("Content-Type", "application/json");
    let answer = client.answer_json(&client.call(&request).await?)?;
    let failed = answer["FailedFindings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(failed
        .iter()
        .map(|failed| {
            (text(&failed["Id"]), format!("{}: {}", text(&failed["ErrorCode"]), text(&failed["ErrorMessage"])))
        })
        .collect())
}

fn explained(fault: Fault, account: &str) -> Fault {
    let is_wrong = fault.turn() == Turn::Wrong;
    let Fault::Answer { service, status, code, mut message, after } = fault else { return fault };
    if is_wrong {
        message.push_str(&format!(
            ". Security Hub has to be switched on in {account}, and securityhub:BatchImportFindings allowed there"
        ));
    }
    Fault::Answer { service, status, code, message, after }
}
