//! E-mail: one mail for each window and list of recipients, in which what has one cause is told once.
//!
//! A mail is sent again until the server has taken it, always with the same Message-ID: made of the first message in it. A
//! recipient whom the server refuses for good costs the others nothing. A password that is refused, a server that does not
//! offer the TLS that is asked for, a certificate that does not hold: those are for a person, and nothing is sent in clear.
//! Beyond `per_hour_max` mails wait until the hour is over, and then go out as one.

mod compose;
mod daily;
mod hour;
mod ossec;
mod route;
mod smtp;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::message::Mailbox;
use tally_proto::json::Review;

use crate::destination::{BatchLimits, Sent};
use crate::group::{Grouper, Limits};
use crate::keys::Keys;
use crate::message::Message;
use crate::secret::Secret;
use crate::tls::TlsSettings;

use compose::Letter;
pub use daily::Daily;
use hour::Hour;
pub use ossec::{Given, GivenRoute};
pub use route::{OsMatch, Route};
use smtp::Trouble;

/// How the way to the server is kept from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS, without which nothing is sent.
    #[default]
    StartTls,
    /// TLS from the first byte on.
    Tls,
    /// In clear: only where that is said.
    None,
}

const SECURITIES: [(&str, Security); 3] =
    [("starttls", Security::StartTls), ("tls", Security::Tls), ("none", Security::None)];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub server: String,
    pub port: u16,
    pub security: Security,
    pub tls: TlsSettings,
    /// What we call ourselves to the server.
    pub helo: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
    /// `X-IDS-OSSEC`.
    pub ids_name: Option<String>,
    /// Who gets what, the first for everything.
    pub routes: Vec<Route>,
    /// How long messages are gathered for one mail.
    pub window: Duration,
    pub per_hour_max: u32,
    /// Causes that a mail tells in full.
    pub causes_max: usize,
    pub timeout: Duration,
    /// The review of each day.
    pub daily: Option<Daily>,
}

const WINDOW: Duration = Duration::from_secs(60);
const PER_HOUR: u32 = 60;
const CAUSES: usize = 25;
const TIMEOUT: Duration = Duration::from_secs(60);
/// A batch: a night in which 600 hosts get 40 new files is one mail.
const COUNT_MAX: usize = crate::group::GATHERED_MAX;
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// The names of what is remembered over restarts.
const HOUR: &str = "mail_hour";
const SENT_IN_HOUR: &str = "mails_in_hour";
/// Mails that are remembered as sent while a batch is tried again.
const SENT_MAX: usize = 10_000;

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let server = keys.needed("server");
        let security = keys.word("security", &SECURITIES).unwrap_or_default();
        let usual = match security {
            Security::StartTls => 587,
            Security::Tls => 465,
            Security::None => 25,
        };
        let port = keys.number("port", 1..=65_535).map_or(usual, |port| u16::try_from(port).unwrap_or(usual));
        let from = keys.needed("from").and_then(|text| mailbox(keys, "from", &text));
        let reply_to = keys.string("reply_to").and_then(|text| mailbox(keys, "reply_to", &text));
        let (user, password) = (keys.string("user"), keys.secret("password"));
        if user.is_some() != password.is_some() {
            keys.fault_at(if user.is_some() { "user" } else { "password" }, "user and password belong together");
        }
        if password.is_some() && security == Security::None {
            keys.fault_at("password", "a password is not sent in clear: let security be \"starttls\" or \"tls\"");
        }
        let daily = Daily::read(keys);
        let mut routes = Vec::new();
        if keys.has("to") || !(keys.has("routes") || daily.as_ref().is_some_and(|daily| !daily.to.is_empty())) {
            if !keys.has("to") {
                keys.fault_at("to", "mail needs to, routes, or digest_at with digest_to: who gets it");
            }
            let to = keys.strings("to").unwrap_or_default();
            routes.push(Route { to: mailboxes(keys, "to", &to), ..Route::default() });
        }
        routes.extend(Route::read_all(keys));
        if daily.as_ref().is_some_and(|daily| daily.recipients(&routes).is_empty()) {
            keys.fault_at("digest_at", "the review needs digest_to, or to: who gets it");
        }
        Some(Self {
            server: server?,
            port,
            security,
            tls: TlsSettings::read(keys),
            helo: keys.string("helo").unwrap_or_else(|| "localhost".to_owned()),
            user,
            password,
            from: from?,
            reply_to,
            ids_name: keys.string("ids_name").filter(|name| name.is_ascii()),
            routes,
            window: keys.time("window").unwrap_or(WINDOW),
            per_hour_max: keys
                .number("per_hour_max", 1..=1_000_000)
                .map_or(PER_HOUR, |n| u32::try_from(n).unwrap_or(PER_HOUR)),
            causes_max: keys.number("causes_max", 1..=1000).map_or(CAUSES, |n| n as usize),
            timeout: keys.time("timeout").unwrap_or(TIMEOUT),
            daily,
        })
    }

    pub fn target(&self) -> String {
        let reviewers = self.daily.iter().flat_map(|daily| &daily.to);
        let all = self.routes.iter().flat_map(|route| &route.to).chain(reviewers);
        let to: Vec<_> = all.map(|to| to.email.to_string()).collect();
        format!("{} by {}:{}", to.join(", "), self.server, self.port)
    }
}

fn mailbox(keys: &mut Keys, key: &'static str, text: &str) -> Option<Mailbox> {
    let found = text.parse().ok();
    if found.is_none() {
        keys.fault_at(key, format!("\"{text}\" is not a mail address, such as \"fim@example.com\""));
    }
    found
}

fn mailboxes(keys: &mut Keys, key: &'static str, texts: &[String]) -> Vec<Mailbox> {
    texts.iter().filter_map(|text| mailbox(keys, key, text)).collect()
}

/// Who has already got which mail while others are still tried: by Message-ID and address.
type Delivered = HashSet<(Arc<str>, String)>;

#[derive(Debug)]
pub struct Mail {
    settings: Settings,
    hour: Hour,
    delivered: Delivered,
}

impl Mail {
    pub fn new(settings: Settings) -> Self {
        let hour = Hour::new(settings.per_hour_max);
        Self { settings, hour, delivered: Delivered::new() }
    }

    /// What has to outlive a restart, by name: how many mails the present hour had.
    pub fn memory(&self) -> [(&'static str, i64); 2] {
        let (hour, sent) = self.hour.state();
        [(HOUR, i64::try_from(hour).unwrap_or(0)), (SENT_IN_HOUR, i64::from(sent))]
    }

    /// Takes up what an earlier run remembered.
    pub fn remember(&mut self, known: impl Fn(&str) -> Option<i64>) {
        let hour = known(HOUR).and_then(|hour| u64::try_from(hour).ok());
        let sent = known(SENT_IN_HOUR).and_then(|sent| u32::try_from(sent).ok());
        if let (Some(hour), Some(sent)) = (hour, sent) {
            self.hour.restore((hour, sent));
        }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { count_max: COUNT_MAX, bytes_max: BYTES_MAX, wait: self.settings.window }
    }

    /// Whether a message is not to wait for others.
    pub fn is_urgent(&self, message: &Message) -> bool {
        self.settings.routes.iter().any(|route| route.alone && route.matches(message))
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let letters = self.letters(batch);
        let now = SystemTime::now();
        let mut mails = Vec::new();
        for letter in letters {
            let due: Vec<_> = letter
                .to
                .iter()
                .filter(|to| !self.delivered.contains(&(letter.id.clone(), to.email.to_string())))
                .cloned()
                .collect();
            if due.is_empty() {
                continue;
            }
            match letter.write(&self.settings, now) {
                Ok(text) => mails.push(smtp::Mail { id: letter.id, to: due, text, first: letter.first }),
                Err(why) => return Sent::wrong(why),
            }
        }
        if mails.is_empty() {
            self.delivered.clear();
            return Sent::all();
        }
        if let Err(wait) = self.hour.ask(mails.len(), now) {
            let why = format!(
                "{} mails were sent in this hour (per_hour_max): the rest follows as one mail",
                self.settings.per_hour_max
            );
            return Sent::Later { why, after: wait };
        }
        match self.converse(mails).await {
            Ok(done) => self.settle(done, batch.len()),
            Err(sent) => sent,
        }
    }

    /// Sends the review of a day, whatever the hour's count. A recipient who is refused for good is told of in the answer.
    pub async fn send_review(&mut self, id: &str, review: &Review, day: &str) -> Sent {
        let Some(daily) = &self.settings.daily else { return Sent::all() };
        let to = daily.recipients(&self.settings.routes);
        let id: Arc<str> = id.into();
        let is_due = |to: &&Mailbox| !self.delivered.contains(&(id.clone(), to.email.to_string()));
        let due: Vec<_> = to.iter().filter(is_due).cloned().collect();
        if due.is_empty() {
            return Sent::all();
        }
        let text = match compose::review(&self.settings, (&id, &to), (review, day), SystemTime::now()) {
            Ok(text) => text,
            Err(why) => return Sent::wrong(why),
        };
        match self.converse(vec![smtp::Mail { id, to: due, text, first: 0 }]).await {
            Ok(done) => self.settle(done, 1),
            Err(sent) => sent,
        }
    }

    async fn converse(&self, mails: Vec<smtp::Mail>) -> Result<smtp::Done, Sent> {
        let password = match &self.settings.password {
            Some(secret) => Some(secret.read().await.map_err(Sent::wrong)?),
            None => None,
        };
        let settings = self.settings.clone();
        // SMTP is a conversation of small steps; on a thread of its own it may take its time.
        let done = tokio::task::spawn_blocking(move || smtp::send(&settings, password.as_ref(), mails)).await;
        done.map_err(Sent::again)
    }

    /// One letter for each route that has something to tell, and one for each message of those that are told alone.
    fn letters(&self, batch: &[Message]) -> Vec<Letter> {
        let mut letters = Vec::new();
        for (number, route) in self.settings.routes.iter().enumerate().filter(|(_, route)| !route.to.is_empty()) {
            let mut grouper = Grouper::new(Limits::default());
            let mut first = None;
            for (at, message) in batch.iter().enumerate().filter(|(_, message)| route.matches(message)) {
                if route.alone {
                    let mut own = Grouper::new(Limits::default());
                    own.add(message);
                    letters.push(Letter::new(number, route, own.take(), at));
                    continue;
                }
                grouper.add(message);
                first = first.or(Some(at));
            }
            if let Some(first) = first {
                letters.push(Letter::new(number, route, grouper.take(), first));
            }
        }
        letters
    }

    fn settle(&mut self, done: smtp::Done, batch_len: usize) -> Sent {
        self.hour.count(done.sent, SystemTime::now());
        if self.delivered.len() + done.delivered.len() > SENT_MAX {
            self.delivered.clear();
        }
        self.delivered.extend(done.delivered);
        // Whom the server refuses for good is done with: one dead letter tells it, by the first message of the mail.
        for refusal in &done.refused {
            self.delivered.insert((refusal.id.clone(), refusal.to.clone()));
        }
        match done.trouble {
            None => {
                self.delivered.clear();
                let refused = done.refused.into_iter().filter(|refusal| refusal.first < batch_len);
                Sent::Done { refused: refused.map(|refusal| (refusal.first, refusal.why)).collect() }
            }
            Some(Trouble::Again(why)) => Sent::Again { why, after: None },
            Some(Trouble::Wrong(why)) => Sent::Wrong { why },
        }
    }
}

/// Where an `ossec.conf` names a program instead of a server.
pub fn is_program(server: &str) -> bool {
    PathBuf::from(server).is_absolute()
}
