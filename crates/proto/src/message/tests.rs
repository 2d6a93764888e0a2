//! Messages: round trips, limits, and bytes of hostile peers.

use proptest::prelude::*;

use super::*;
use crate::arbitrary;
use crate::event::Encoded;
use crate::limit::{BATCH_BYTES_MAX, BATCH_BYTES_TARGET, EVENT_BYTES_MAX};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn batch_of(events: Vec<tally_types::Event>) -> Batch {
    let first = Position::of(&events[0]);
    Batch { after: None, epoch: first.epoch, first_seq: first.seq, events, mark: None }
}

#[test]
fn golden_bytes_stay_what_they_are() {
    let ack = ToAgent::Ack(Ack { stored: Some(Position::new(1764, 35)), resend: true });
    assert_eq!(hex(&ack.encode().unwrap()), "012201e40d2301");
    let welcome = ToAgent::Welcome(Welcome {
        agent: AgentId(1),
        name: "web".into(),
        stored: None,
        numbers_taken: false,
        heartbeat_ms: 10_000,
        now: Timestamp(1),
    });
    assert_eq!(hex(&welcome.encode().unwrap()), "01210103776562 00 00 904e 02".replace(' ', ""));
    let refused = ToAgent::Refused(Refused::new(RefusedCode::Duplicate, "x"));
    assert_eq!(hex(&refused.encode().unwrap()), "0125040178");
    let farewell = ToManager::Farewell { reason: "x".into() };
    assert_eq!(hex(&farewell.encode().unwrap()), "01050178");
    let request = EnrolRequest { secret: "s".into(), name: "n".into(), csr_pem: "c".into() };
    assert_eq!(hex(&request.encode()), "01100173016e0163");
    assert!(!format!("{request:?}").contains("secret"));
}

#[test]
fn the_fullest_batch_fits_a_message_even_if_nothing_compresses() {
    const { assert!(BATCH_BYTES_TARGET + EVENT_BYTES_MAX + 64 * 1024 < BATCH_BYTES_MAX) };
}

#[test]
fn what_a_session_sends_is_what_a_batch_reads() {
    let events = arbitrary::run_of_events(40);
    let encoded: Vec<Encoded> = events.iter().map(Encoded::new).collect();
    let bytes = Batch::encode_message(None, &encoded, None).unwrap();
    let batch = batch_of(events);
    assert_eq!(ToManager::Batch(batch.clone()).encode().unwrap(), bytes);
    assert_eq!(ToManager::decode(&bytes), Ok(ToManager::Batch(batch)));
    let raw: usize = encoded.iter().map(|e| e.bytes.len()).sum();
    assert!(bytes.len() < raw / 2, "{} of {raw}", bytes.len());
}

#[test]
fn a_bomb_is_refused_before_it_unpacks() {
    // A frame of 64 MiB of zeros, which claims to be small, and one that claims what it is.
    let frame = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    for claimed in [100, BATCH_BYTES_MAX as u64, 64 << 20] {
        let mut w = Writer::default();
        w.raw(&[VERSION, BATCH, 0, 1, 1, 0, 1, 1]);
        w.number(claimed);
        w.raw(&frame);
        assert!(frame.len() < 16 * 1024);
        let max = BATCH_BYTES_MAX as u64;
        let expected = if claimed > max {
            DecodeError::TooLarge { what: "batch", value: claimed, max }
        } else {
            DecodeError::Compression
        };
        assert_eq!(ToManager::decode(&w.into_bytes()), Err(expected));
    }
}

#[test]
fn a_batch_must_be_consecutive_and_not_empty() {
    let mut events = arbitrary::run_of_events(3);
    let good = batch_of(events.clone());
    assert!(ToManager::decode(&ToManager::Batch(good.clone()).encode().unwrap()).is_ok());
    events[1].seq += 1;
    for bad in [
        Batch { events, ..good.clone() },
        Batch { events: Vec::new(), ..good.clone() },
        Batch { first_seq: 0, ..good.clone() },
        Batch { first_seq: NUMBER_MAX, ..good },
    ] {
        assert!(ToManager::decode(&ToManager::Batch(bad).encode().unwrap()).is_err());
    }
}

#[test]
fn neither_direction_reads_the_other() {
    let ack = ToAgent::Ack(Ack { stored: None, resend: false }).encode().unwrap();
    assert!(ToManager::decode(&ack).is_err());
    let farewell = ToManager::Farewell { reason: "x".into() }.encode().unwrap();
    assert!(ToAgent::decode(&farewell).is_err() && EnrolRequest::decode(&farewell).is_err());
    let version_2 = DecodeError::Version { what: "message to the agent", got: 2 };
    assert_eq!(ToAgent::decode(&[2, ACK]), Err(version_2));
    assert!(ToAgent::decode(&vec![1; MESSAGE_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_message_that_is_too_long_is_not_made() {
    let nodes = Nodes { request: 1, nodes: vec![vec![0; NODE_BYTES_MAX]; 5], missing: Vec::new() };
    assert!(ToManager::Nodes(nodes).encode().is_err());
}

proptest! {
    #[test]
    fn messages_read_back(to_manager in arbitrary::to_manager(), to_agent in arbitrary::to_agent()) {
        prop_assert_eq!(ToManager::decode(&to_manager.encode().unwrap()), Ok(to_manager));
        prop_assert_eq!(ToAgent::decode(&to_agent.encode().unwrap()), Ok(to_agent));
    }

    #[test]
    fn a_status_reads_back(status in arbitrary::status()) {
        prop_assert_eq!(Status::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn enrolment_reads_back(request in arbitrary::enrol_request(), answer in arbitrary::enrol_answer()) {
        prop_assert_eq!(EnrolRequest::decode(&request.encode()), Ok(request));
        prop_assert_eq!(EnrolAnswer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn damaged_messages_never_panic(message in arbitrary::to_manager(), damage in arbitrary::damage()) {
        let bytes = damage.apply(message.encode().unwrap());
        let _ = ToManager::decode(&bytes);
        let _ = ToAgent::decode(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0u8..50) {
        let bytes = [&[1, tag][..], &bytes].concat();
        let _ = ToManager::decode(&bytes);
        let _ = ToAgent::decode(&bytes);
        let _ = EnrolRequest::decode(&bytes);
        let _ = EnrolAnswer::decode(&bytes);
    }
}
