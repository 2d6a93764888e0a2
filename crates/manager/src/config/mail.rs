//! `[mail]` and `[[mail_route]]` as one delivery of the kind `mail`, named `mail`.

use serde_json::Value as Json;
use tally_delivery::mail::{self, Given, GivenRoute};
use tally_delivery::{Secret, Settings};
use tally_types::Level;

use super::delivery::{FAILING_MAX, has_name};
use super::{Delivery, ManagerConfig};
use crate::deliveries::{RETRY_FIRST, Select};

/// Its cursor is kept by this name.
const NAME: &str = "mail";

/// What the tables come to.
#[derive(Default)]
pub(super) struct Mailing {
    pub delivery: Option<Delivery>,
    /// Each with where its table begins.
    pub faults: Vec<(usize, String)>,
    pub warnings: Vec<(usize, String)>,
}

impl Mailing {
    pub fn new(config: &ManagerConfig) -> Self {
        let mut out = Self::default();
        let Some(mail) = config.mail.as_ref().filter(|mail| mail.enabled) else {
            let why = match &config.mail {
                Some(_) => "[mail] has enabled = false",
                None => "there is no [mail] that says by which server",
            };
            let told = config.mail_routes.iter().map(|route| (route.at, format!("no mail is sent to them: {why}")));
            out.warnings.extend(told);
            return out;
        };
        if has_name(&config.deliveries, NAME) {
            let what =
                "[mail] is a delivery of the name \"mail\", which a [[delivery]] has too: give that another name";
            out.faults.push((mail.at, what.to_owned()));
            return out;
        }
        if mail::is_program(&mail.server) {
            let what = format!("{} is a program, which is not run: mail goes to the server on localhost", mail.server);
            out.warnings.push((mail.at, what));
        }
        if let Some(Secret::Given(_)) = mail.password {
            let what = "the mail password stands in the configuration, for everybody who may read that: better is \
                        password = { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }";
            out.warnings.push((mail.at, what.to_owned()));
        }
        match settings(config, mail) {
            Ok(settings) => out.delivery = Some(delivery(settings, mail.level)),
            Err(why) => out.faults.push((mail.at, format!("[mail]: {why}"))),
        }
        out
    }
}

fn settings(config: &ManagerConfig, mail: &super::Mail) -> Result<mail::Settings, String> {
    let login = match (&mail.user, &mail.password, mail.authenticate) {
        (Some(user), Some(password), true) => Some((user.clone(), password.clone())),
        (_, _, true) => return Err("authenticate needs user and password".to_owned()),
        (_, _, false) => None,
    };
    let routes = config.mail_routes.iter().map(|route| GivenRoute {
        to: route.to.clone(),
        level: route.when.level.and_then(|level| u8::try_from(level).ok()),
        rules: route.when.rules.clone(),
        group: route.when.group.clone(),
        location: route.when.location.clone(),
        alone: route.alone,
        sms: route.sms,
    });
    mail::Settings::ossec(Given {
        server: mail.server.clone(),
        port: mail.port.and_then(|port| u16::try_from(port).ok()),
        tls: mail.tls,
        tls_verify: mail.tls_verify,
        helo: mail.helo.clone(),
        login,
        from: mail.from.clone().unwrap_or_else(|| FROM.to_owned()),
        reply_to: mail.reply_to.clone(),
        ids_name: mail.ids_name.clone(),
        to: mail.to.clone(),
        routes: routes.collect(),
        per_hour_max: mail.per_hour_max,
    })
}

/// A server of this host makes its own name of it; another one is to be told who sends.
const FROM: &str = "tallystick@localhost";

fn delivery(settings: mail::Settings, level: u32) -> Delivery {
    Delivery {
        name: NAME.to_owned(),
        events: false,
        select: Select { min_level: Level::new(level).ok(), ..Select::default() },
        from_start: false,
        failing_max: FAILING_MAX,
        retry_first: RETRY_FIRST,
        settings: Settings::Mail(settings),
        // It is shown as the [mail] that it is.
        shown: Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> (ManagerConfig, Vec<String>) {
        let (config, faults) = ManagerConfig::parse(text, "m.toml", Path::new("/s"));
        (config, faults.iter().map(ToString::to_string).collect())
    }

    fn warnings(config: &ManagerConfig) -> String {
        config.warnings.iter().map(|warning| format!("{warning}\n")).collect()
    }

    #[test]
    fn mail_and_its_routes_are_a_delivery() {
        let text = "[mail]\nto = ['ops@example.com']\nfrom = 'fim@example.com'\nserver = 'mx.example.com'\nlevel = 9\n\
                    per_hour_max = 5\nuser = 'fim'\npassword = 'geheim'\n\
                    [[mail_route]]\nto = ['boss@example.com']\nlevel = 12\nrules = [550]\ngroup = 'syscheck'\n\
                    location = '^(db'\nalone = true\nform = 'sms'\n";
        let (config, faults) = parse(text);
        assert_eq!(faults, Vec::<String>::new());
        let [delivery] = &config.deliveries[..] else { panic!("{:?}", config.deliveries) };
        assert_eq!((delivery.name.as_str(), delivery.select.min_level), ("mail", Level::new(9).ok()));
        let Settings::Mail(mail) = &delivery.settings else { panic!() };
        assert_eq!(mail.target(), "ops@example.com, boss@example.com by mx.example.com:587");
        assert_eq!((mail.per_hour_max, mail.user.as_deref()), (5, Some("fim")));
        let route = &mail.routes[1];
        assert_eq!((route.level, &route.rules[..], route.alone, route.sms), (Some(12), &[550][..], true, true));
        assert!(route.group.is_some() && route.location.is_some());
        let told = warnings(&config);
        assert!(told.starts_with("m.toml:1:1: the mail password stands in the configuration"), "{told}");
        let shown = config.effective();
        assert!(!format!("{config:?}{shown}{told}").contains("geheim"));
        assert!(shown.get("delivery").is_none() && shown["mail_route"][0]["form"] == "sms");
        // Where it is named, there is nothing to warn of, and it is shown where it is.
        let (config, faults) = parse(&text.replace("'geheim'", "{ credential = 'smtp' }"));
        assert_eq!((faults, warnings(&config).as_str()), (Vec::new(), ""));
        assert_eq!(config.effective()["mail"]["password"]["credential"], "smtp");
    }

    #[test]
    fn mail_that_is_off_sends_nothing_and_says_so() {
        let route = "[[mail_route]]\nto = ['a@b']\n";
        for (text, why) in
            [(String::new(), "there is no [mail]"), ("[mail]\nenabled = false\n".into(), "enabled = false")]
        {
            let (config, faults) = parse(&format!("{text}{route}"));
            assert_eq!((faults, config.deliveries.len()), (Vec::new(), 0));
            assert!(warnings(&config).contains(why), "{}", warnings(&config));
        }
    }

    #[test]
    fn what_cannot_be_mailed_is_a_fault() {
        for (text, fault) in [
            ("[mail]\n", "m.toml:1:1: [mail]: mail needs to"),
            ("[mail]\nto = ['nobody']\n", "m.toml:1:1: [mail]: \"nobody\" is not a mail address"),
            ("[mail]\nto = ['a@b']\nauthenticate = true\n", "m.toml:1:1: [mail]: authenticate needs user and password"),
            ("[mail]\nto = ['a@b']\npassword = 3\n", "m.toml:3:12: password is "),
            (
                "[mail]\nto = ['a@b']\n[[delivery]]\nname = 'mail'\nkind = 'webhook'\nurl = 'http://127.0.0.1/'\n",
                "m.toml:1:1: [mail] is a delivery of the name \"mail\"",
            ),
        ] {
            let (_, faults) = parse(text);
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{text}: {faults:?}");
        }
    }
}
