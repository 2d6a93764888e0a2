//! The real programs' datagrams and enrolments, opened and answered. The data is not part of the project; where it is
//! absent, this says so.

use std::path::Path;

use serde_json::Value;
use tally_ossec::authd::{Answer, Request, RequestError, enrol, password_of};
use tally_ossec::control::{Merged, Order, Said};
use tally_ossec::counter::{Count, ReceiveCounter};
use tally_ossec::keys::ClientKeys;
use tally_ossec::message::{Meaning, Message};
use tally_ossec::rootcheck::RootcheckMessage;
use tally_ossec::secure::{Cipher, Datagram, Salt, SecureCodec, SecureKey};
use tally_ossec::syscheck::SyscheckMessage;

fn data(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("skipped: no conformance data");
    }
    text
}

fn lines(text: &str) -> impl Iterator<Item = Value> + '_ {
    text.lines().map(|line| serde_json::from_str(line).expect("the data is JSON"))
}

fn bytes(value: &Value) -> Vec<u8> {
    let hex = value.as_str().expect("a text of hexadecimal digits");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two of them")).collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn every_vector_is_opened_and_sealed() {
    let Some(vectors) = data("wire-vectors.json") else { return };
    let vectors: Value = serde_json::from_str(&vectors).unwrap();
    let mut codec = SecureCodec::default();
    for vector in vectors.as_array().unwrap() {
        let key = SecureKey::derive(text(vector, "name"), text(vector, "id"), text(vector, "key"));
        let number = |name: &str| vector[name].as_u64().unwrap();
        let count = Count::new(number("glob") as u32, number("local") as u16);
        let payload = text(vector, "msg").as_bytes();
        let iv: [u8; 16] = bytes(&vector["aes_iv_hex"]).try_into().unwrap();
        let salt = Salt { random: number("rand") as u16, iv };
        for (cipher, field) in [(Cipher::Blowfish, "blowfish_hex"), (Cipher::Aes, "aes_hex")] {
            let wire = bytes(&vector[field]);
            let datagram = Datagram::parse(&wire).unwrap();
            assert_eq!((datagram.cipher, datagram.id), (cipher, None));
            let opened = codec.open(&key, &datagram).unwrap();
            assert_eq!((opened.count, opened.payload), (count, payload));
            // What another zlib packs may differ in its bytes, never in what it unpacks to.
            let packed = bytes(&vector["padded_zlib_hex"]);
            assert_eq!(key.encrypt(cipher, iv, &packed), wire);
            let sealed = codec.seal(&key, cipher, salt, count, payload);
            let again = codec.open(&key, &Datagram::parse(&sealed).unwrap()).unwrap();
            assert_eq!((again.count, again.payload), (count, payload));
        }
    }
}

#[test]
fn the_conversations_of_the_real_programs_are_understood() {
    let (Some(recorded), Some(keys)) = (data("vectors/conversation.jsonl"), data("vectors/conversation.client.keys"))
    else {
        return;
    };
    let (keys, faults) = ClientKeys::parse(keys.as_bytes(), "client.keys");
    assert_eq!((keys.len(), faults.len()), (2, 0));
    let mut codec = SecureCodec::default();
    let mut seen = [0; 6];
    let mut counters = std::collections::HashMap::new();
    let mut shared = Vec::new();
    for record in lines(&recorded).filter(|record| record["hex"].is_string()) {
        let key = keys.by_id(text(&record, "key_id")).unwrap();
        let secure = SecureKey::derive(&key.name, &key.id, &key.key);
        let wire = bytes(&record["hex"]);
        let datagram = Datagram::parse(&wire).unwrap();
        assert_eq!(datagram.cipher.name(), text(&record, "cipher"));
        let is_agent = text(&record, "dir") == "agent->server";
        assert_eq!(datagram.id.is_some(), is_agent && key.address.single().is_none());
        let opened = codec.open(&secure, &datagram).unwrap();
        assert_eq!(opened.payload, text(&record, "plaintext").as_bytes());
        let direction = (text(&record, "conv").to_owned(), is_agent);
        let counter: &mut ReceiveCounter = counters.entry(direction).or_insert_with(ReceiveCounter::new);
        assert_eq!(counter.take(opened.count).map(|fresh| fresh.missing), Ok(0), "{record}");
        if !is_agent {
            match Order::parse(opened.payload) {
                Order::FilePart(part) => shared.push(part),
                Order::FileEnds => {
                    let files = Merged::parse(&shared.concat()).unwrap();
                    assert_eq!(files[0].0, "ar.conf");
                    shared.clear();
                }
                _ => seen[0] += 1,
            }
        } else if let Some(said) = Said::parse(opened.payload) {
            seen[1] += 1;
            assert!(
                matches!(&said, Said::Startup)
                    || matches!(&said, Said::KeepAlive(k) if k.version() == "OSSEC HIDS v4.2.0")
            );
        } else {
            match Message::parse(opened.payload).unwrap().meaning() {
                Meaning::Syscheck(SyscheckMessage::Unclear) => panic!("{record}"),
                Meaning::Syscheck(SyscheckMessage::Completed) => seen[2] += 1,
                Meaning::Syscheck(_) => seen[3] += 1,
                Meaning::Rootcheck(RootcheckMessage::Finding) => panic!("{record}"),
                Meaning::Rootcheck(_) | Meaning::AgentStarted => seen[4] += 1,
                Meaning::Log => seen[5] += 1,
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

#[test]
fn enrolments_are_answered_as_the_real_authd_does() {
    let Some(recorded) = data("vectors/enrolment.jsonl") else { return };
    let mut keys = ClientKeys::default();
    let mut answered = 0;
    for record in lines(&recorded) {
        let said = record["data"].as_array().unwrap();
        let by =
            |dir: &str| -> String { said.iter().filter(|s| text(s, "dir") == dir).map(|s| text(s, "data")).collect() };
        let (asked, expected) = (by("agent->server"), by("server->agent"));
        if asked.is_empty() {
            continue;
        }
        let options = record["server_options"].as_array().unwrap();
        let has = |option: &str| options.iter().any(|o| o == option);
        let password = record["server_password_file"].as_str().filter(|_| !has("-n"));
        let password = password.and_then(|file| password_of(file.as_bytes()));
        let answer = match Request::parse(asked.as_bytes(), password.as_deref()) {
            Err(RequestError::Form | RequestError::Password) => String::new(),
            Ok(request) => {
                let source = "127.0.0.1".parse().unwrap();
                let answer = enrol(&mut keys, &request, source, has("-i"), &[answered; 32]);
                if let Answer::Key(key) = &answer {
                    assert_eq!(key.key.len(), 64);
                }
                answer.text(&request)
            }
        };
        // Keys are random.
        let shown = |text: &str| text.rsplit_once(' ').map(|(head, _)| head.to_owned());
        if expected.starts_with("OSSEC K:") {
            assert_eq!(shown(&answer), shown(&expected), "{record}");
        } else {
            assert_eq!(answer, expected, "{record}");
        }
        answered += 1;
    }
    assert!(answered > 20, "{answered}");
}
