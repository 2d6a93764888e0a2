//! Conversations with stand-in agents: lost, replayed and forged datagrams, restarts, floods.

use crate::secure::AES_IV_BYTES;
use crate::standin::Standin;

use super::*;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SALT: Salt = Salt { random: 1, iv: [1; AES_IV_BYTES] };

fn keys() -> ClientKeys {
    let text = format!("001 web 192.0.2.1 {KEY}\n002 db any {KEY}\n003 net 198.51.100.0/24 {KEY}\n");
    ClientKeys::parse(text.as_bytes(), "client.keys").0
}

fn station(accept: Accept) -> Station {
    let mut station = Station::new(accept, SendCounter::resume(Count::new(1, 0)));
    station.set_keys(&keys(), |_| ReceiveCounter::new());
    reserve(&mut station);
    station
}

fn reserve(station: &mut Station) {
    while let Some(count) = station.to_reserve() {
        station.reserved(count);
    }
}

fn agent(id: &str, cipher: Cipher) -> Standin {
    Standin::new(keys().by_id(id).unwrap().clone(), cipher)
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Everything that waits, as the agent hears it.
fn deliver(station: &mut Station, agent: &mut Standin) -> Vec<Order> {
    std::iter::from_fn(|| station.poll_send(SALT)).filter_map(|(_, bytes)| agent.hear(&bytes)).collect()
}

const WEB: &str = "192.0.2.1:40000";

#[test]
fn an_agent_of_each_cipher_is_answered_in_its_own() {
    for cipher in [Cipher::Blowfish, Cipher::Aes] {
        let mut station = station(Accept::Both);
        for (id, from) in [("001", WEB), ("002", "[::ffff:203.0.113.9]:1"), ("003", "198.51.100.77:2")] {
            let mut agent = agent(id, cipher);
            let heard = station.datagram(0, at(from), &agent.startup()).unwrap();
            assert_eq!((&*heard.agent, heard.told, heard.is_new_cipher), (id, Told::Startup, true));
            let (to, bytes) = station.poll_send(SALT).unwrap();
            assert_eq!(to.port(), at(from).port());
            assert_eq!(Datagram::parse(&bytes).unwrap().cipher, cipher);
            assert_eq!(agent.hear(&bytes), Some(Order::Ack));
            assert_eq!(agent.hear(&bytes), None, "it is taken once");
        }
    }
}

#[test]
fn what_an_agent_tells_is_read() {
    let mut station = station(Accept::Both);
    let mut agent = agent("001", Cipher::Aes);
    let mut tell = |bytes: Vec<u8>| station.datagram(0, at(WEB), &bytes).unwrap().told;
    let Told::Text(Meaning::AgentStarted, text) = tell(agent.started()) else { panic!("no start") };
    assert_eq!(&*text.location, "(web) 192.0.2.1->ossec");
    let sums = ("d41d8cd98f00b204e9800998ecf8427e", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert!(matches!(tell(agent.file("/etc/x", 1, sums.0, sums.1)), Told::Syscheck(SyscheckMessage::File(_))));
    assert!(matches!(tell(agent.deleted("/etc/x")), Told::Syscheck(SyscheckMessage::Deleted(_))));
    let Told::Text(Meaning::Log, text) = tell(agent.say("8:syscheck:garbage")) else { panic!("no text") };
    assert_eq!((text.queue, &*text.text), (Queue::Syscheck, &b"garbage"[..]));
    assert!(matches!(tell(agent.scan_starts()), Told::Text(Meaning::Rootcheck(_), _)));
    assert_eq!(tell(agent.say("1:keepalive:x")), Told::Nothing);
    assert_eq!(tell(agent.say("x")), Told::Nothing);
    let Told::KeepAlive(alive) = tell(agent.keepalive()) else { panic!("no keepalive") };
    assert_eq!(alive.version(), "OSSEC HIDS v3.7.0");
    assert_eq!(station.counts().find(|(reason, _)| *reason == Reason::Senseless).unwrap().1, 2);
}

#[test]
fn what_is_lost_is_counted_and_a_replay_is_not_taken() {
    let mut station = station(Accept::Both);
    let mut agent = agent("001", Cipher::Blowfish);
    let all: Vec<_> = (0..10).map(|n| agent.say(format!("1:/x:{n}"))).collect();
    let mut take =
        |n: usize| station.datagram(0, at(WEB), &all[n]).map(|h| (h.missing, h.is_late)).map_err(|r| r.reason);
    assert_eq!(take(0), Ok((0, false)));
    assert_eq!(take(0), Err(Reason::Replay));
    assert_eq!(take(4), Ok((3, false)));
    assert_eq!(take(2), Ok((0, true)));
    assert_eq!(take(2), Err(Reason::Replay));
    assert_eq!(take(9), Ok((4, false)));
}

#[test]
fn a_restart_takes_nothing_twice_and_repeats_no_number() {
    let mut agent = agent("001", Cipher::Aes);
    let mut first = station(Accept::Both);
    let datagrams: Vec<_> = (0..5).map(|_| agent.startup()).collect();
    let mut newest = Count::default();
    for bytes in &datagrams[..4] {
        newest = first.datagram(0, at(WEB), bytes).unwrap().count;
    }
    assert_eq!(deliver(&mut first, &mut agent).len(), 4);
    let stored = Count::new(2, 0);
    assert!(first.to_reserve().is_none());
    drop(first);
    let mut second = Station::new(Accept::Both, SendCounter::resume(stored));
    second.set_keys(
        &keys(),
        |key| if &*key.id == "001" { ReceiveCounter::resume(newest) } else { ReceiveCounter::new() },
    );
    for bytes in &datagrams[..4] {
        assert_eq!(second.datagram(0, at(WEB), bytes).unwrap_err().reason, Reason::Replay);
    }
    assert!(second.datagram(0, at(WEB), &datagrams[4]).is_ok());
    assert!(second.poll_send(SALT).is_none(), "nothing is sent before its number is reserved");
    reserve(&mut second);
    assert_eq!(deliver(&mut second, &mut agent), [Order::Ack]);
}

#[test]
fn only_the_agents_own_addresses_and_accepted_ciphers_are_heard() {
    let mut station = station(Accept::Only(Cipher::Aes));
    let mut refused = |from: &str, bytes: &[u8]| station.datagram(0, at(from), bytes).unwrap_err();
    let mut web = agent("001", Cipher::Aes);
    assert_eq!(refused("192.0.2.2:1", &web.startup()).reason, Reason::UnknownAddress);
    let mut net = agent("003", Cipher::Aes);
    let first = refused("192.0.2.1:1", &net.startup());
    assert_eq!((first.reason, first.agent.as_deref(), first.is_first), (Reason::WrongAddress, Some("003"), true));
    assert!(!refused("192.0.2.1:1", &net.startup()).is_first);
    assert_eq!(refused(WEB, &agent("001", Cipher::Blowfish).startup()).reason, Reason::Cipher);
    assert_eq!(refused(WEB, b"!999!:12345678").reason, Reason::UnknownId);
    assert_eq!(refused(WEB, b"hello").reason, Reason::Malformed);
    assert!(station.datagram(0, at(WEB), &web.startup()).is_ok());
}

#[test]
fn shared_files_reach_who_lacks_them_at_once_and_once() {
    let mut station = station(Accept::Both);
    let mut agent = agent("002", Cipher::Aes);
    let from = at("203.0.113.1:5");
    let shared = |text: &[u8]| Merged::new([("agent.conf", text), ("ar.conf", b"restart-ossec0 - x - 0\n")]).unwrap();
    let run = |station: &mut Station, agent: &mut Standin, from_ms: u64| -> Vec<Order> {
        let mut orders = Vec::new();
        for step in 0..30 {
            station.tick(from_ms + step * PUSH_MS);
            orders.extend(deliver(station, agent));
        }
        orders
    };
    station.set_shared(0, shared(&[b'a'; 4000]));
    station.datagram(0, from, &agent.keepalive()).unwrap();
    let orders = run(&mut station, &mut agent, 0);
    assert_eq!((orders.first(), orders.last(), orders.len()), (Some(&Order::Ack), Some(&Order::FileEnds), 8));
    assert_eq!(station.next_ms(), None);
    station.datagram(10_000, from, &agent.keepalive()).unwrap();
    assert_eq!(run(&mut station, &mut agent, 10_000), [Order::Ack], "it has them");
    // Changed: they come without a keepalive.
    station.set_shared(20_000, shared(b"new"));
    assert!(run(&mut station, &mut agent, 20_000).contains(&Order::FileEnds));
    station.datagram(30_000, from, &agent.keepalive()).unwrap();
    assert_eq!(run(&mut station, &mut agent, 30_000), [Order::Ack]);
    // A part is lost: the agent says so with its next keepalive.
    station.set_shared(40_000, shared(b"newer"));
    station.tick(40_000);
    let lost: Vec<_> = std::iter::from_fn(|| station.poll_send(SALT)).collect();
    assert!(lost.len() > 1);
    station.tick(41_000);
    drop(deliver(&mut station, &mut agent));
    station.datagram(42_000, from, &agent.keepalive()).unwrap();
    assert!(!run(&mut station, &mut agent, 42_000).contains(&Order::FileEnds), "not so soon");
    station.datagram(80_000, from, &agent.keepalive()).unwrap();
    assert!(run(&mut station, &mut agent, 80_000).contains(&Order::FileEnds));
}

#[test]
fn orders_reach_only_who_is_there() {
    let mut station = station(Accept::Both);
    let mut agent = agent("001", Cipher::Aes);
    assert_eq!(station.order(0, "001", Order::RestartSyscheck), Err(OrderError::Silent));
    assert_eq!(station.order(0, "9", Order::RestartSyscheck), Err(OrderError::Unknown));
    station.datagram(0, at(WEB), &agent.startup()).unwrap();
    station.order(0, "001", Order::restart_agent()).unwrap();
    assert_eq!(deliver(&mut station, &mut agent), [Order::Ack, Order::restart_agent()]);
    assert_eq!(station.order(SILENT_MS + 1, "001", Order::Ack), Err(OrderError::Silent));
}

#[test]
fn a_flood_in_an_agents_name_is_not_decrypted_and_the_agent_is_still_heard() {
    let mut station = station(Accept::Both);
    let mut db = agent("002", Cipher::Aes);
    let home = at("203.0.113.1:5");
    station.datagram(0, home, &db.startup()).unwrap();
    let mut liar = Standin::new(ClientKey::parse(&format!("002 db any {}", "f".repeat(64))).unwrap(), Cipher::Blowfish);
    let mut reasons = HashMap::<_, u32>::new();
    for n in 0..10_000u16 {
        let from = SocketAddr::from(([198, 18, (n >> 8) as u8, n as u8], n));
        let refused = station.datagram(1, from, &liar.startup()).unwrap_err();
        *reasons.entry(refused.reason).or_default() += 1;
        assert!(!refused.is_first || reasons[&refused.reason] == 1, "told once");
    }
    assert_eq!(reasons[&Reason::Unreadable], FAILURES_MAX);
    assert_eq!(reasons[&Reason::NotTried], 10_000 - FAILURES_MAX);
    assert!(station.datagram(2, home, &db.startup()).is_ok());
    // Another address of the agent is heard again a little later.
    let moved = at("203.0.113.2:5");
    let bytes = db.startup();
    assert_eq!(station.datagram(3, moved, &bytes).unwrap_err().reason, Reason::NotTried);
    assert!(station.datagram(5_000, moved, &bytes).is_ok());
}

#[test]
fn ten_thousand_unknown_ids_cost_no_memory_and_few_lines() {
    let mut station = station(Accept::Both);
    let mut told = 0;
    for n in 0..10_000u32 {
        let bytes = format!("!{}!:12345678", 10_000 + n);
        let from = SocketAddr::from(([10, 9, (n >> 8) as u8, n as u8], 7));
        let refused = station.datagram(0, from, bytes.as_bytes()).unwrap_err();
        assert_eq!(refused.reason, Reason::UnknownId);
        told += usize::from(refused.is_first);
    }
    assert_eq!((told, station.strangers.len()), (STRANGERS_MAX, STRANGERS_MAX));
    assert_eq!(station.counts().find(|(reason, _)| *reason == Reason::UnknownId).unwrap().1, 10_000);
}

#[test]
fn new_keys_leave_the_others_as_they_are() {
    let mut station = station(Accept::Both);
    let mut web = agent("001", Cipher::Aes);
    let first = web.startup();
    station.datagram(0, at(WEB), &first).unwrap();
    let mut keys = keys();
    keys.remove("002").unwrap();
    keys.add(ClientKey::generate("004", "new", "any", &[5; 32]).unwrap()).unwrap();
    station.set_keys(&keys, |key| {
        assert_eq!(&*key.id, "004");
        ReceiveCounter::new()
    });
    assert_eq!(station.datagram(0, at(WEB), &first).unwrap_err().reason, Reason::Replay);
    assert_eq!(
        station.datagram(0, at(WEB), &agent("002", Cipher::Aes).startup()).unwrap_err().reason,
        Reason::UnknownId
    );
    let mut new = Standin::new(keys.by_id("004").unwrap().clone(), Cipher::Blowfish);
    assert!(station.datagram(0, at(WEB), &new.startup()).is_ok());
}
