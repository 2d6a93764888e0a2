//! One signed call: credentials of the right account, a signature, an answer, and what became of it.

use std::sync::Arc;

use serde_json::Value;
use tally_types::Timestamp;

use super::fault::{Fault, Turn, date_of};
use super::session::Session;
use super::settings::{Settings, suffix};
use super::sign::{Scope, sign};
use crate::http::{Answer, Request};

/// A service as it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// For people: `CloudWatch Logs`.
    pub name: &'static str,
    /// In host names and signatures: `logs`.
    pub id: &'static str,
}

/// Calls of one service by one session.
#[derive(Clone, Debug)]
pub struct Client {
    session: Arc<Session>,
    service: Service,
}

impl Client {
    pub const fn new(session: Arc<Session>, service: Service) -> Self {
        Self { session, service }
    }

    /// The client in `kept`, made at its first use.
    pub(super) fn kept(kept: &mut Option<Self>, access: &Settings, service: Service) -> Result<Self, Fault> {
        if let Some(client) = kept {
            return Ok(client.clone());
        }
        let session = Arc::new(Session::new(access.clone())?);
        Ok(kept.insert(Self::new(session, service)).clone())
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Where the service is, without a slash at the end.
    pub async fn endpoint(&self) -> Result<String, Fault> {
        match &self.session.settings().endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => {
                let region = self.session.region().await?;
                Ok(format!("https://{}.{region}.{}", self.service.id, suffix(region)))
            }
        }
    }

    /// A call of the JSON protocols, such as `Logs_20140328.PutLogEvents` of version `1.1`.
    pub async fn json(&self, version: &str, target: &str, body: &Value) -> Result<Value, Fault> {
        let request = Request::post(format!("{}/", self.endpoint().await?), body.to_string())
            .header("Content-Type", format!("application/x-amz-json-{version}"))
            .header("X-Amz-Target", target);
        self.answer_json(&self.call(&request).await?)
    }

    pub fn answer_json(&self, answer: &Answer) -> Result<Value, Fault> {
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| Fault::Foreign { service: self.service.name, why: error.to_string() })
    }

    /// Signs and sends a request. What has ended is fetched anew, and a clock that differs is allowed for, once each.
    pub async fn call(&self, request: &Request) -> Result<Answer, Fault> {
        let (mut fetched, mut corrected) = (false, false);
        loop {
            let held = self.session.held().await?;
            let mut signed = request.clone();
            let region = self.session.region().await?;
            let sent = self.session.now();
            sign(&mut signed, &held.credentials, Scope { region, service: self.service.id, now: sent })?;
            let answer = self.session.http().call(&signed).await?;
            if answer.is_success() {
                return Ok(answer);
            }
            let fault = refusal(self.service.name, &answer, sent);
            match fault.turn() {
                Turn::Stale if !fetched => {
                    fetched = true;
                    self.session.forget(&held).await;
                }
                _ if matches!(fault, Fault::Clock { .. }) && !corrected => {
                    corrected = true;
                    if let Some(theirs) = date_of(&answer) {
                        self.session.learn_clock(theirs);
                    }
                }
                _ => return Err(fault),
            }
        }
    }
}

/// What an answer says that is no success. Where the time in the signature is refused and the answer's own time shows why,
/// that is told.
pub fn refusal(service: &'static str, answer: &Answer, sent: Timestamp) -> Fault {
    let fault = Fault::of_answer(service, answer);
    match (fault.turn(), date_of(answer)) {
        (Turn::Skewed, Some(theirs)) => {
            let offset_s = sent.since(theirs) / 1_000_000;
            // Nearer than that, it is not the time.
            if offset_s.abs() < 60 { fault } else { Fault::Clock { offset_s, message: fault.to_string() } }
        }
        _ => fault,
    }
}
