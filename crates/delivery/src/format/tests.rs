//! Golden files (`testdata/deliveries/*`, renewed by `WRITE_GOLDEN=1`), what any bytes in a path or a log may do, and the schemas
//! that others have published.

mod reader;
mod schema;

use std::path::Path;

use proptest::prelude::*;
use tally_types::*;

use super::*;
use crate::format::asff::Site;
use reader::{read_cef, read_leef};

const SITE: Site<'_> = Site { partition: "aws", region: "eu-central-1", account: "111111111111" };

fn golden(name: &str, text: &str) {
    // The product's version is no matter of the format, nor is the zone of the machine.
    let stamp = ossec::alert(&sample::all()[0].1).local;
    let stamp = format!(
        "{} {} {:02} {:02}:{:02}:{:02}",
        stamp.year,
        stamp.month_name(),
        stamp.day,
        stamp.hour,
        stamp.minute,
        stamp.second
    );
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION").replace(&stamp, "LOCAL-TIME");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/deliveries").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == text, "{} differs; WRITE_GOLDEN=1 renews it. Now:\n{text}", path.display());
}

#[test]
fn every_form_is_as_recorded() {
    for format in Format::ALL {
        let mut out = String::new();
        for (name, message) in sample::all() {
            let text = format.write(&message);
            let shown = match serde_json::from_str::<Value>(&text) {
                Ok(value) if format.is_json() => serde_json::to_string_pretty(&value).unwrap(),
                _ => text,
            };
            out.push_str(&format!("# {name}\n{shown}\n"));
        }
        golden(&format!("{}.txt", format.name()), &out);
    }
    let findings = sample::all().into_iter().map(|(_, message)| asff::asff(&message, &SITE));
    golden("asff.txt", &(serde_json::to_string_pretty(&findings.collect::<Vec<_>>()).unwrap() + "\n"));
}

#[test]
fn names_of_formats_are_read_back() {
    assert!(Format::ALL.into_iter().all(|format| Format::from_name(format.name()) == Some(format)));
}

#[test]
fn json_has_the_id_and_the_schema() {
    use crate::message::sample;
    let alert = json(&sample::alert(7));
    assert_eq!((alert["delivery_id"].as_str(), alert["schema"].as_u64()), (Some("test/7"), Some(1)));
    assert_eq!((alert["rule"]["id"].as_u64(), alert["ledger_index"].as_u64()), (Some(550), Some(7)));
    assert_eq!((alert["agent"].as_str(), alert["group"].as_str()), (Some("web1"), Some("web")));
    let event = json(&sample::event(8));
    assert_eq!((event["delivery_id"].as_str(), event["path"].as_str()), (Some("test/8"), Some("/etc/passwd")));
}

#[test]
fn cef_is_read_back_by_its_own_rules() {
    for (name, message) in sample::all() {
        let event = read_cef(&cef::cef(&message)).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(event.field("externalId"), Some(&*message.id), "{name}");
        assert_eq!(event.header[4], message.rule().map_or("0".to_owned(), |rule| rule.id.to_string()), "{name}");
        assert_eq!(event.header[5], message.title(), "{name}");
        if let Some(change) = message.change() {
            assert_eq!(event.field("filePath"), Some(&*change.path.to_string()), "{name}");
        }
    }
}

#[test]
fn leef_is_read_back_by_its_own_rules() {
    for (name, message) in sample::all() {
        let event = read_leef(&leef::leef(&message)).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(event.field("externalId"), Some(&*message.id), "{name}");
        if let Some(change) = message.change() {
            assert_eq!(event.field("resource"), Some(&*change.path.to_string().replace('^', "\\u{5e}")), "{name}");
        }
    }
}

#[test]
fn findings_keep_the_lengths_of_the_format() {
    for (name, message) in sample::all() {
        let finding = asff::asff(&message, &SITE);
        let length = |key: &str| finding[key].as_str().unwrap_or_default().chars().count();
        assert!(length("Id") <= 512 && (1..=256).contains(&length("Title")), "{name}");
        assert!((1..=1024).contains(&length("Description")), "{name}");
        let fields = finding["ProductFields"].as_object().unwrap();
        assert!(
            fields.len() <= 50
                && fields.iter().all(|(key, value)| key.len() <= 128 && value.as_str().unwrap().len() <= 2048)
        );
        for key in ["SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt", "UpdatedAt"] {
            assert!(length(key) > 0, "{name} has no {key}");
        }
    }
}

/// A message whose every text is `bytes`, as far as it can be.
fn with_bytes(bytes: &[u8], sort: usize) -> Message {
    let text = || std::sync::Arc::<str>::from(String::from_utf8_lossy(bytes));
    let name: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, 0 | b'/')).collect();
    let path = PathBytes::new([b"/x", &name[..]].concat()).unwrap();
    let actor = Actor {
        exe: Some(path.as_bytes().into()),
        cmdline: Some(bytes.into()),
        user: Some(text()),
        login_user: Some(text()),
        tty: Some(text()),
        ..Actor::unknown(7)
    };
    let change = Change {
        after: Some(Entry { user: Some(text()), target: Some(bytes.into()), ..sample::entry(1) }),
        actors: if sort == 0 { vec![actor] } else { Vec::new() },
        summary: vec![text()],
        tags: vec![text()],
        ..Change::new(path, ChangeKind::Added, DetectedBy::Realtime)
    };
    let mut line = LogLine::new(text(), LogQueue::Local, bytes);
    let fields = ["srcip", "user", "url"].map(|name| (name.into(), text()));
    let decoding =
        Decoding { decoder: Some(text()), hostname: Some(text()), program: Some(text()), fields: fields.into() };
    line.decoding = Some(Box::new(decoding));
    let body = match sort {
        0 | 1 => EventBody::Change(Box::new(change)),
        2 => EventBody::Log(Box::new(line)),
        _ => EventBody::Life(Life::Impaired { part: text(), detail: text() }),
    };
    let mut agent = sample::agent(1);
    agent.name = text();
    agent.group = text();
    let description = String::from_utf8_lossy(bytes).into_owned();
    sample::message(5, agent, body, Some(sample::rule(550, 7, &description, &description)))
}

fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let sign = prop::sample::select(b"\n\r\t|=\\^\"'<>&\x1b\0 a:,{}[]\xff\xe2\x80\xae\x85".to_vec());
    prop::collection::vec(prop_oneof![sign, any::<u8>()], 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_a_host_sends_a_message_is_one_line_that_can_be_read(bytes in hostile_bytes(), sort in 0..4_usize) {
        let message = with_bytes(&bytes, sort);
        for format in Format::ALL {
            let text = format.write(&message);
            prop_assert!(!text.contains(|c: char| c.is_control()), "{}: {text:?}", format.name());
            if format.is_json() {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
        }
        let event = read_cef(&cef::cef(&message)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(event.field("externalId"), Some(&*message.id));
        prop_assert_eq!(event.field("deviceExternalId"), Some("001"));
        let event = read_leef(&leef::leef(&message)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(event.field("externalId"), Some(&*message.id));
        prop_assert_eq!(event.field("agentId"), Some("001"));
        prop_assert!(asff::asff(&message, &SITE).to_string().len() < 240 * 1024);
    }
}
