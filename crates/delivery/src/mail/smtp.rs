//! The conversation with a mail server, with lettre's client, step by step, since each recipient has an answer of its own.
//! It blocks: the caller gives it a thread.

use std::path::Path;
use std::sync::Arc;

use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as From, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;

use super::{Security, Settings};
use crate::format::subject::line;
use crate::secret::SecretText;

/// A mail with those who have not got it yet.
pub(super) struct Mail {
    pub id: Arc<str>,
    pub to: Vec<Mailbox>,
    pub text: Vec<u8>,
    pub first: usize,
}

pub(super) enum Trouble {
    Again(String),
    Wrong(String),
}

/// A recipient whom the server does not take, or a mail that it does not take for anybody.
pub(super) struct Refusal {
    pub id: Arc<str>,
    pub to: String,
    pub first: usize,
    pub why: String,
}

#[derive(Default)]
pub(super) struct Done {
    pub sent: u32,
    pub delivered: Vec<(Arc<str>, String)>,
    pub refused: Vec<Refusal>,
    /// The first; with it the conversation may have ended.
    pub trouble: Option<Trouble>,
}

pub(super) fn send(settings: &Settings, password: Option<&SecretText>, mails: Vec<Mail>) -> Done {
    let mut done = Done::default();
    let mut connection = match open(settings, password) {
        Ok(connection) => connection,
        Err(trouble) => return Done { trouble: Some(trouble), ..done },
    };
    for mail in &mails {
        if let Err(trouble) = send_one(&mut connection, settings, mail, &mut done) {
            done.trouble = Some(trouble);
            connection.abort();
            return done;
        }
    }
    // It has taken everything; whether it says goodbye is of no account.
    let _ = connection.quit();
    done
}

fn open(settings: &Settings, password: Option<&SecretText>) -> Result<SmtpConnection, Trouble> {
    let hello = ClientId::Domain(settings.helo.clone());
    let tls = if settings.security == Security::None { None } else { Some(tls(settings).map_err(Trouble::Wrong)?) };
    let at_once = tls.as_ref().filter(|_| settings.security == Security::Tls);
    let place = (settings.server.as_str(), settings.port);
    let told = |what: &str, error: &Error| told(&format!("{what} {}:{}", settings.server, settings.port), error);
    let mut connection = SmtpConnection::connect(place, Some(settings.timeout), &hello, at_once, None)
        .map_err(|error| judged(&error, told("connect to", &error)))?;
    if settings.security == Security::StartTls
        && let Some(tls) = &tls
    {
        if !connection.can_starttls() {
            connection.abort();
            let why =
                format!("{}:{} does not offer STARTTLS, and nothing is sent in clear", settings.server, settings.port);
            return Err(Trouble::Wrong(why));
        }
        connection.starttls(tls, &hello).map_err(|error| judged(&error, told("STARTTLS with", &error)))?;
    }
    if let (Some(user), Some(password)) = (&settings.user, password) {
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        let answer = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials);
        answer.map_err(|error| {
            let why = told("log in to", &error);
            // Without an answer it may be the network's fault; a refusal, or no way to log in, is for a person.
            if error.is_permanent() || error.is_client() { Trouble::Wrong(why) } else { Trouble::Again(why) }
        })?;
    }
    Ok(connection)
}

fn tls(settings: &Settings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.server.clone()).certificate_store(CertificateStore::None);
    if settings.tls.verify {
        for authority in settings.tls.authorities().map_err(|error| error.to_string())? {
            let certificate = Certificate::from_der(authority.to_vec()).map_err(|error| error.to_string())?;
            builder = builder.add_root_certificate(certificate);
        }
    } else {
        builder = builder.dangerous_accept_invalid_certs(true);
    }
    if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("open {}: {error}", path.display()));
        let identity = Identity::from_pem(&read(certificate)?, &read(key)?);
        let identity = identity.map_err(|error| format!("{}: {error}", certificate.display()))?;
        builder = builder.identify_with(identity);
    }
    builder.build_rustls().map_err(|error| format!("TLS with {}: {error}", settings.server))
}

fn send_one(connection: &mut SmtpConnection, settings: &Settings, mail: &Mail, done: &mut Done) -> Result<(), Trouble> {
    let from = From::new(Some(settings.from.email.clone()), Vec::new());
    connection.command(from).map_err(|error| {
        let why = told("the sender", &error);
        if error.is_permanent() { Trouble::Wrong(why) } else { Trouble::Again(why) }
    })?;
    let mut taken = Vec::new();
    let mut later = None;
    for to in &mail.to {
        let address = to.email.to_string();
        match connection.command(Rcpt::new(to.email.clone(), Vec::new())) {
            Ok(_) => taken.push(address),
            Err(error) if error.is_permanent() => {
                let why = told(&format!("the recipient {}", line(&address, 320)), &error);
                done.refused.push(Refusal { id: mail.id.clone(), to: address, first: mail.first, why });
            }
            Err(error) if error.is_transient() => {
                later.get_or_insert(told(&format!("the recipient {}", line(&address, 320)), &error));
            }
            Err(error) => return Err(Trouble::Again(told("a recipient", &error))),
        }
    }
    if taken.is_empty() {
        connection.command(Rset).map_err(|error| Trouble::Again(told("RSET", &error)))?;
        return later.map_or(Ok(()), |why| Err(Trouble::Again(why)));
    }
    let answer = connection.command(Data).and_then(|_| connection.message(&mail.text));
    match answer {
        Ok(_) => {
            done.sent += 1;
            done.delivered.extend(taken.into_iter().map(|address| (mail.id.clone(), address)));
            later.map_or(Ok(()), |why| Err(Trouble::Again(why)))
        }
        Err(error) if error.is_permanent() => {
            let why = told("the mail", &error);
            let refusal = |to| Refusal { id: mail.id.clone(), to, first: mail.first, why: why.clone() };
            done.refused.extend(taken.into_iter().map(refusal));
            connection.command(Rset).map(drop).map_err(|error| Trouble::Again(told("RSET", &error)))
        }
        Err(error) => Err(Trouble::Again(told("the mail", &error))),
    }
}

/// Of opening a connection.
fn judged(error: &Error, why: String) -> Trouble {
    let is_certificate = why.contains("certificate") || why.contains("UnknownIssuer");
    if is_certificate || error.is_permanent() || error.is_tls() { Trouble::Wrong(why) } else { Trouble::Again(why) }
}

/// With all causes, in one line.
fn told(what: &str, error: &Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    line(&text, 500)
}
