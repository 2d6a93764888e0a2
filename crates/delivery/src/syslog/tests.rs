//! Headers, frames and bounds, to the byte; real receivers are in `tests/rsyslog.rs`.

use super::*;
use crate::keys::tests::{keys, text};
use crate::message::sample;

fn settings(pairs: &[(&str, crate::Value)]) -> Settings {
    let mut all = vec![("server", text("logs.example.com"))];
    all.extend_from_slice(pairs);
    let mut keys = keys(&all);
    let settings = Settings::read(&mut keys).unwrap();
    assert_eq!(keys.finish(), vec![]);
    settings
}

fn framed(settings: &Settings, message: &Message) -> String {
    String::from_utf8(frame::framed(settings, message).to_vec()).unwrap()
}

#[test]
fn addresses() {
    for (written, expected) in [
        ("logs", Some(("logs", 6514))),
        ("logs:601", Some(("logs", 601))),
        ("[::1]:601", Some(("::1", 601))),
        ("::1", Some(("::1", 6514))),
        ("logs:x", None),
        ("logs:0", None),
        ("a b", None),
        ("", None),
    ] {
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(address(written, Transport::Tls), expected, "{written}");
    }
    assert_eq!(settings(&[]).target(), "udp://logs.example.com:514");
}

#[test]
fn a_frame_tells_its_length_and_a_line_has_one_end() {
    let octets = framed(&settings(&[("transport", text("tcp"))]), &sample::alert(7));
    let (length, message) = octets.split_once(' ').unwrap();
    assert_eq!(length.parse(), Ok(message.len()));
    let line = framed(&settings(&[("transport", text("tcp")), ("framing", text("newline"))]), &sample::alert(7));
    assert_eq!(line.find('\n'), Some(line.len() - 1));
    let old = framed(&settings(&[("protocol", text("rfc3164"))]), &sample::alert(7));
    assert!(old.starts_with("<132>Nov 14 ") && old.contains(" web1 tallystick: {\"schema\":1,"), "{old}");
    let ossec = framed(&settings(&[("format", text("ossec"))]), &sample::alert(7));
    assert!(
        ossec.starts_with("<132>Nov 14 ") && ossec.contains(" manager-1 ossec: Alert Level: 7; Rule: 550 - "),
        "{ossec}"
    );
}

#[test]
fn what_is_too_long_is_cut_in_its_form() {
    let mut message = sample::alert(7);
    let mut agent = (*message.agent).clone();
    agent.name = "ä".repeat(3000).into();
    message.agent = std::sync::Arc::new(agent);
    let json = settings(&[
        ("message_bytes_max", crate::Value::Number(2000)),
        ("hostname", text("manager")),
        ("protocol", text("rfc3164")),
    ]);
    let sent = framed(&json, &message);
    assert!(sent.len() <= 2000);
    let object: serde_json::Value = serde_json::from_str(sent.split_once("tallystick: ").unwrap().1).unwrap();
    assert_eq!((object["truncated"].as_bool(), object["delivery_id"].as_str()), (Some(true), Some("test/7")));
    let plain = settings(&[
        ("message_bytes_max", crate::Value::Number(1000)),
        ("hostname", text("manager")),
        ("protocol", text("rfc3164")),
        ("format", text("cef")),
    ]);
    for bytes in 300..320 {
        let settings = Settings { bytes_max: bytes, ..plain.clone() };
        let sent = framed(&settings, &message);
        assert!(sent.len() <= bytes && sent.ends_with(" bytes]") && sent.contains(" [cut: "), "{sent}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let mut recent = Recent { bytes_max: 10, ..Recent::default() };
    recent.add(vec![Bytes::from_static(b"12345"), Bytes::from_static(b"67890"), Bytes::from_static(b"1")], now);
    assert_eq!((recent.frames.len(), recent.bytes), (2, 6));
    recent.forget_old(now + RESEND_AGE * 2);
    assert_eq!((recent.frames.len(), recent.bytes), (0, 0));
}
