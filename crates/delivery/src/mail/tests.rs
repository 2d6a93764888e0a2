//! What a mail says, what it is sent by, and who gets it when a server fails.

use super::*;
use crate::format::sample;
use crate::keys::Value;
use crate::keys::tests::{keys, text};

pub(super) fn settings(port: u16) -> Settings {
    Settings {
        server: "localhost".to_owned(),
        port,
        security: Security::None,
        tls: TlsSettings::default(),
        helo: "manager-1".to_owned(),
        user: None,
        password: None,
        from: "Tallystick <fim@example.com>".parse().unwrap(),
        reply_to: None,
        ids_name: Some("shop".to_owned()),
        routes: vec![Route { to: vec!["ops@example.com".parse().unwrap()], ..Route::default() }],
        window: Duration::from_secs(60),
        per_hour_max: 1000,
        causes_max: 25,
        daily: None,
        timeout: Duration::from_secs(10),
    }
}

fn letter() -> Letter {
    let mut grouper = Grouper::new(Limits::default());
    sample::all().iter().for_each(|(_, message)| grouper.add(message));
    Letter::new(0, &settings(25).routes[0], grouper.take(), 0)
}

#[test]
fn a_mail_is_as_recorded() {
    let text = letter().text(25);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/deliveries/mail.txt");
    let text = format!("Subject: {}\n\n{text}", letter().subject());
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == text, "{} differs; WRITE_GOLDEN=1 renews it. Now:\n{text}", path.display());
}

#[test]
fn what_a_host_sends_is_neither_header_nor_markup() {
    let mail = String::from_utf8(letter().write(&settings(25), SystemTime::UNIX_EPOCH).unwrap()).unwrap();
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    for row in head.split("\r\n") {
        let known = [
            "From: ",
            "To: ",
            "Subject: ",
            "Message-ID: ",
            "Date: ",
            "Auto-Submitted: ",
            "X-",
            "MIME-",
            "Content-",
            " ",
        ];
        assert!(known.iter().any(|name| row.starts_with(name)), "{row:?}");
    }
    let html = body.split_once("Content-Type: text/html").unwrap().1;
    assert!(!html.contains("<b>") && html.contains("&lt;b&gt;") && body.is_ascii());
    assert!(head.contains("X-IDS-OSSEC: shop"));
}

#[test]
fn keys_are_read_with_their_faults() {
    let table =
        |pairs: &[(&str, Value)]| Value::Table(pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect());
    let mut good = keys(&[
        ("server", text("mail.example.com")),
        ("from", text("fim@example.com")),
        ("to", Value::List(vec![text("ops@example.com")])),
        ("user", text("fim")),
        ("password", table(&[("env", text("SMTP"))])),
        (
            "routes",
            Value::List(vec![table(&[
                ("to", text("boss@example.com")),
                ("level", Value::Number(12)),
                ("alone", Value::Truth(true)),
            ])]),
        ),
    ]);
    let read = Settings::read(&mut good).unwrap();
    assert_eq!(good.finish(), []);
    assert_eq!(
        (read.port, read.security, read.routes.len(), read.routes[1].level),
        (587, Security::StartTls, 2, Some(12))
    );
    assert_eq!(read.target(), "ops@example.com, boss@example.com by mail.example.com:587");
    let mut bad = keys(&[
        ("server", text("mail")),
        ("security", text("none")),
        ("from", text("nobody")),
        ("user", text("fim")),
        ("password", table(&[("env", text("SMTP"))])),
        ("routes", Value::List(vec![table(&[("lvl", Value::Number(3))])])),
    ]);
    let _ = Settings::read(&mut bad);
    let faults: Vec<_> = bad.finish().into_iter().map(|(_, fault)| fault).collect();
    for part in [
        "\"nobody\" is not a mail address",
        "a password is not sent in clear",
        "a route needs to",
        "unknown key \"lvl\"",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:?}");
    }
}

mod faulty;
mod postfix;

use faulty::Faulty;
use postfix::Postfix;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The same file patched on so many hosts.
fn patched(hosts: u32) -> Vec<Message> {
    let change = || {
        let change = tally_types::Change {
            before: Some(sample::entry(1)),
            after: Some(sample::entry(2)),
            ..tally_types::Change::new(
                sample::path(b"/usr/bin/su"),
                tally_types::ChangeKind::Modified,
                tally_types::DetectedBy::Realtime,
            )
        };
        tally_types::EventBody::Change(Box::new(change))
    };
    let rule = || Some(sample::rule(550, 7, "Integrity checksum changed.", "syscheck"));
    (1..=hosts).map(|host| sample::message(host.into(), sample::agent(host), change(), rule())).collect()
}

#[test]
fn five_hundred_patched_hosts_are_one_mail_in_postfix() {
    let Some(postfix) = Postfix::start() else { return };
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    std::fs::write(&password, format!("{}\n", postfix::PASSWORD)).unwrap();
    let mut mail = Mail::new(postfix.settings(&password));
    assert_eq!(run(mail.send(&patched(500))), Sent::all());
    let mails = postfix.mails("ops", 1);
    assert_eq!(mails.len(), 1);
    for part in
        ["Subject: Level 7 on web1 and 499 hosts more:", "with ESMTPSA", "multipart/alternative", "Message-ID: <"]
    {
        assert!(mails[0].contains(part), "{part}: {}", mails[0]);
    }
    // Somebody whom it does not know costs the others nothing.
    mail.settings.routes[0].to.push("nobody@example.com".parse().unwrap());
    mail.settings.routes[0].to.push("boss@example.com".parse().unwrap());
    let Sent::Done { refused } = run(mail.send(&patched(3))) else { panic!() };
    assert!(refused.len() == 1 && refused[0].0 == 0 && refused[0].1.contains("nobody@example.com"), "{refused:?}");
    assert_eq!((postfix.mails("ops", 2).len(), postfix.mails("boss", 1).len()), (2, 1));
    // A password that is not right, and a certificate that is not known, are for a person.
    std::fs::write(&password, "wrong horse").unwrap();
    let sent = run(Mail::new(postfix.settings(&password)).send(&patched(1)));
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("535")), "{sent:?}");
    let settings = Settings { tls: TlsSettings::default(), ..postfix.settings(&password) };
    let sent = run(Mail::new(settings).send(&patched(1)));
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("certificate")), "{sent:?}");
    // In clear it takes nothing.
    let sent = run(Mail::new(settings_in_clear(postfix.port)).send(&patched(1)));
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("530")), "{sent:?}");
}

fn settings_in_clear(port: u16) -> Settings {
    Settings { security: Security::None, ..settings(port) }
}

#[test]
fn a_mail_that_was_not_taken_is_sent_again_with_the_same_id() {
    let Some(mut server) = Faulty::start(false) else { return };
    let mut mail = Mail::new(settings(server.port));
    let batch = patched(2);
    let mut ids = Vec::new();
    for fault in ["drop-ehlo", "drop-mail", "drop-rcpt", "drop-data", "451-mail", "452-data"] {
        server.fail(fault);
        let sent = run(mail.send(&batch));
        assert!(matches!(sent, Sent::Again { .. }), "{fault}: {sent:?}");
        assert_eq!(run(mail.send(&batch)), Sent::all(), "{fault}");
        let line = server.line();
        assert!(line.starts_with("MAIL ops@example.com <"), "{line}");
        ids.push(line);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // It has taken the mail and never says so: that is a failure too.
    server.fail("slow-data");
    let mut hasty = Mail::new(Settings { timeout: Duration::from_millis(500), ..settings(server.port) });
    assert!(matches!(run(hasty.send(&batch)), Sent::Again { .. }));
}

#[test]
fn a_mail_that_is_refused_is_a_dead_letter_and_the_next_is_sent() {
    let Some(mut server) = Faulty::start(false) else { return };
    let mut mail = Mail::new(settings(server.port));
    server.fail("554-data");
    let sent = run(mail.send(&patched(2)));
    assert!(matches!(&sent, Sent::Done { refused } if refused.len() == 1 && refused[0].1.contains("554")), "{sent:?}");
    assert_eq!(run(mail.send(&patched(2))), Sent::all());
    server.fail("550-mail");
    assert!(matches!(run(mail.send(&patched(2))), Sent::Wrong { .. }));
}

#[test]
fn who_is_put_off_gets_it_later_and_the_others_get_it_once() {
    let Some(mut server) = Faulty::start(false) else { return };
    let to = ["ops@example.com", "gone@example.com", "grey@example.com"].map(|to| to.parse().unwrap());
    let route = Route { to: to.to_vec(), ..Route::default() };
    let mut mail = Mail::new(Settings { routes: vec![route], ..settings(server.port) });
    server.fail("450-rcpt");
    let batch = patched(2);
    let sent = run(mail.send(&batch));
    assert!(matches!(&sent, Sent::Again { why, .. } if why.contains("grey@example.com")), "{sent:?}");
    assert!(server.line().starts_with("MAIL ops@example.com <"));
    let sent = run(mail.send(&batch));
    assert!(matches!(&sent, Sent::Done { .. }), "{sent:?}");
    assert!(server.line().starts_with("MAIL grey@example.com <"));
}

#[test]
fn without_starttls_nothing_is_sent() {
    let Some(server) = Faulty::start(false) else { return };
    let sent = run(Mail::new(Settings { security: Security::StartTls, ..settings(server.port) }).send(&patched(1)));
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("does not offer STARTTLS")), "{sent:?}");
}

#[test]
fn a_bad_password_is_for_a_person() {
    let Some(mut server) = Faulty::start(true) else { return };
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    let tls = TlsSettings { ca: server.ca.clone(), ..TlsSettings::default() };
    let settings = Settings {
        security: Security::StartTls,
        tls,
        user: Some("fim".to_owned()),
        password: Some(Secret::File(password.clone())),
        ..settings(server.port)
    };
    let mut mail = Mail::new(settings);
    std::fs::write(&password, "bad").unwrap();
    let sent = run(mail.send(&patched(1)));
    assert!(matches!(&sent, Sent::Wrong { why } if !why.contains("bad\"")), "{sent:?}");
    // It is read anew each time.
    std::fs::write(&password, "good").unwrap();
    assert_eq!(run(mail.send(&patched(1))), Sent::all());
    assert!(server.line().starts_with("MAIL ops@example.com <"));
}

#[test]
fn routes_get_theirs_and_the_hour_is_kept() {
    let Some(mut server) = Faulty::start(false) else { return };
    let to = |to: &str| vec![to.parse().unwrap()];
    let alone = Route { to: to("boss@example.com"), level: Some(13), alone: true, ..Route::default() };
    let pager = Route { to: to("pager@example.com"), rules: vec![596], sms: true, ..Route::default() };
    let settings = settings(server.port);
    let routes = vec![settings.routes[0].clone(), alone, pager];
    let mut mail = Mail::new(Settings { routes, per_hour_max: 3, ..settings });
    let batch: Vec<_> = sample::all().into_iter().map(|(_, message)| message).collect();
    assert_eq!(run(mail.send(&batch)), Sent::all());
    let lines: Vec<_> = (0..4).map(|_| server.line().split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["ops@example.com", "boss@example.com", "boss@example.com", "pager@example.com"]);
    let sent = run(mail.send(&batch));
    assert!(matches!(&sent, Sent::Later { after: wait, .. } if *wait <= Duration::from_secs(3600)), "{sent:?}");
}
