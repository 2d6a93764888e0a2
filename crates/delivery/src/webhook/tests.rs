//! What is sent, to the byte.

use super::*;
use crate::keys::tests::{keys, text};
use crate::message::sample;

fn settings(pairs: &[(&str, crate::Value)]) -> Settings {
    let mut all = vec![("url", text("https://example.com/x"))];
    all.extend_from_slice(pairs);
    let mut keys = keys(&all);
    let settings = Settings::read(&mut keys).unwrap();
    assert_eq!(keys.finish(), vec![]);
    settings
}

#[test]
fn bodies() {
    let batch = [sample::alert(1), sample::event(2)];
    let array = Webhook::new(settings(&[])).body(&batch);
    let array: serde_json::Value = serde_json::from_str(&array).unwrap();
    assert_eq!(array[1]["delivery_id"], "test/2");
    let lines = Webhook::new(settings(&[("batch", text("lines"))])).body(&batch);
    assert_eq!(lines.lines().count(), 2);
    let webhook = Webhook::new(settings(&[("template", text("{\"t\": \"{rule}\"}"))]));
    assert_eq!((webhook.limits().count_max, webhook.body(&batch[..1])), (1, "{\"t\": \"550\"}".to_owned()));
}

/// RFC 4231 has no case of this form; the value is from `openssl dgst -sha256 -hmac key`.
#[test]
fn the_signature_is_of_timestamp_and_body() {
    let made = signature(&SecretText::new("key"), 1_700_000_000, b"{}");
    assert_eq!(made, "sha256=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae");
}
