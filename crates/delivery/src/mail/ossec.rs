//! Mail as OSSEC's `<global>` and `<email_alerts>` set it up: its words for addresses, servers and TLS become settings.

use std::time::Duration;

use super::{CAUSES, Mailbox, OsMatch, Route, Security, Settings, TIMEOUT, is_program};
use crate::secret::Secret;
use crate::tls::TlsSettings;

/// OSSEC's maild gathers for ten seconds.
const WINDOW: Duration = Duration::from_secs(10);
/// The submission port that begins with TLS.
const TLS_PORT: u16 = 465;

/// As it is written.
#[derive(Clone, Debug)]
pub struct Given {
    /// A program instead of a server is not run: the mail server of this host is taken for it.
    pub server: String,
    pub port: Option<u16>,
    pub tls: bool,
    pub tls_verify: bool,
    pub helo: Option<String>,
    /// Who logs in. That is never done in clear: without `tls` it is done after STARTTLS.
    pub login: Option<(String, Secret)>,
    pub from: String,
    pub reply_to: Option<String>,
    pub ids_name: Option<String>,
    /// Who gets everything.
    pub to: Vec<String>,
    pub routes: Vec<GivenRoute>,
    pub per_hour_max: u32,
}

#[derive(Clone, Debug, Default)]
pub struct GivenRoute {
    pub to: Vec<String>,
    pub level: Option<u8>,
    pub rules: Vec<u32>,
    pub group: Option<String>,
    pub location: Option<String>,
    pub alone: bool,
    pub sms: bool,
}

impl Settings {
    /// The settings, or what is wrong with what is given.
    pub fn ossec(given: Given) -> Result<Self, String> {
        let security = match (given.tls, &given.login) {
            (true, _) if given.port == Some(TLS_PORT) => Security::Tls,
            (true, _) | (false, Some(_)) => Security::StartTls,
            (false, None) => Security::None,
        };
        let usual = if security == Security::StartTls { 587 } else { 25 };
        let server = if is_program(&given.server) { "localhost" } else { given.server.trim_end_matches('.') };
        let mut routes = Vec::new();
        if !given.to.is_empty() {
            routes.push(Route { to: mailboxes(&given.to)?, ..Route::default() });
        }
        for route in given.routes {
            if route.to.is_empty() {
                return Err("a route needs to: who gets it".to_owned());
            }
            routes.push(Route {
                to: mailboxes(&route.to)?,
                level: route.level,
                rules: route.rules,
                group: route.group.as_deref().map(OsMatch::new),
                location: route.location.as_deref().map(OsMatch::new),
                alone: route.alone,
                sms: route.sms,
            });
        }
        if routes.is_empty() {
            return Err("mail needs to: who gets it".to_owned());
        }
        let (user, password) = given.login.unzip();
        Ok(Self {
            server: server.to_owned(),
            port: given.port.unwrap_or(usual),
            security,
            tls: TlsSettings { verify: given.tls_verify, ..TlsSettings::default() },
            helo: given.helo.unwrap_or_else(|| "localhost".to_owned()),
            user,
            password,
            from: mailbox(&given.from)?,
            reply_to: given.reply_to.as_deref().map(mailbox).transpose()?,
            ids_name: given.ids_name.filter(|name| name.is_ascii()),
            routes,
            window: WINDOW,
            per_hour_max: given.per_hour_max,
            causes_max: CAUSES,
            timeout: TIMEOUT,
            daily: None,
        })
    }
}

fn mailboxes(texts: &[String]) -> Result<Vec<Mailbox>, String> {
    texts.iter().map(|text| mailbox(text)).collect()
}

/// OSSEC's own examples end addresses with the dot of the root zone, which SMTP has no room for.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    let found = text.trim().trim_end_matches('.').parse();
    found.map_err(|_| format!("\"{text}\" is not a mail address, such as \"fim@example.com\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given {
            server: "smtp.example.com.".to_owned(),
            port: None,
            tls: false,
            tls_verify: true,
            helo: None,
            login: None,
            from: "ossecm@example.com.".to_owned(),
            reply_to: None,
            ids_name: None,
            to: vec!["ops@example.com".to_owned()],
            routes: Vec::new(),
            per_hour_max: 12,
        }
    }

    #[test]
    fn words_of_ossec_become_settings() {
        let plain = Settings::ossec(given()).unwrap();
        assert_eq!((plain.server.as_str(), plain.port, plain.security), ("smtp.example.com", 25, Security::None));
        assert_eq!(plain.from.to_string(), "ossecm@example.com");
        let login = Some(("fim".to_owned(), Secret::Env("SMTP".to_owned())));
        let with_login = Settings::ossec(Given { login, ..given() }).unwrap();
        // A password never goes in clear.
        assert_eq!((with_login.port, with_login.security), (587, Security::StartTls));
        let tls = Settings::ossec(Given { tls: true, port: Some(465), ..given() }).unwrap();
        assert_eq!(tls.security, Security::Tls);
        let program = Settings::ossec(Given { server: "/usr/sbin/sendmail".to_owned(), ..given() }).unwrap();
        assert_eq!(program.server, "localhost");
        let route = GivenRoute { to: vec!["boss@example.com".to_owned()], alone: true, ..GivenRoute::default() };
        let only = Settings::ossec(Given { to: Vec::new(), routes: vec![route], ..given() }).unwrap();
        assert!(only.routes.len() == 1 && only.routes[0].alone);
    }

    #[test]
    fn what_cannot_be_mailed_to_is_told() {
        assert!(Settings::ossec(Given { to: Vec::new(), ..given() }).unwrap_err().contains("needs to"));
        let bad = Settings::ossec(Given { to: vec!["nobody".to_owned()], ..given() });
        assert!(bad.unwrap_err().contains("\"nobody\" is not a mail address"));
        assert!(Settings::ossec(Given { routes: vec![GivenRoute::default()], ..given() }).is_err());
    }
}
