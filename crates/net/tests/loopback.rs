//! Both ends over real sockets on the loopback: what must work, and what a hostile or broken peer may not do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tally_net::*;
use tally_proto::message::{EnrolAnswer, EnrolReply, EnrolRequest, Refused, RefusedCode};
use tally_types::{AgentId, Timestamp};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const NOW: Timestamp = Timestamp(1_795_503_813_000_000);

/// A manager that enrols whoever shows `token`, and echoes the frames of agents.
struct Manager {
    dir: TempDir,
    token: Token,
    address: SocketAddr,
    task: JoinHandle<Server>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Manager {
    fn start(limits: Limits) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), LOOPBACK, limits)
    }

    fn start_in(dir: TempDir, address: SocketAddr, limits: Limits) -> Self {
        let authority = Authority::open_or_create(&dir.path().join("ca")).unwrap();
        let token = Token::generate(authority.fingerprint()).unwrap();
        let server = Server::bind_with(address, &authority, limits).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(serve(server, authority, token.clone(), stopped));
        Self { dir, token, address, task, stop }
    }

    fn at(&self) -> ManagerAddress {
        self.address.to_string().parse().unwrap()
    }

    async fn enrolled(&self) -> Identity {
        enrol(&self.at(), &self.token, "web-1").await.unwrap()
    }

    /// Ends it, and gives back its state and its server.
    async fn stop(self) -> (TempDir, Server) {
        let _ = self.stop.send(());
        (self.dir, self.task.await.unwrap())
    }
}

async fn serve(
    mut server: Server,
    authority: Authority,
    token: Token,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> Server {
    let authority = Arc::new(authority);
    loop {
        let accepted = tokio::select! {
            accepted = server.accept() => accepted,
            _ = &mut stopped => return server,
        };
        match accepted {
            Some(Accepted::Agent { conn, id, certificate }) => {
                assert_eq!(id, certificate.agent);
                tokio::spawn(echo(conn));
            }
            Some(Accepted::Enrol { conn }) => drop(tokio::spawn(certify(conn, authority.clone(), token.clone()))),
            None => return server,
        }
    }
}

async fn echo(conn: Conn) {
    let has_orders = [u8::from(conn.has_orders())];
    let (mut sender, mut receiver) = conn.split();
    while let Ok(Some(frame)) = receiver.recv().await {
        let frame = if frame == b"has it orders?" { has_orders.to_vec() } else { frame };
        if sender.send(&frame).await.is_err() {
            return;
        }
    }
}

async fn certify(mut conn: Conn, authority: Arc<Authority>, token: Token) {
    let Ok(Some(frame)) = conn.recv().await else { return };
    let answer = match EnrolRequest::decode(&frame) {
        Ok(r) if *r.secret == token.secret_text() => EnrolAnswer::Enrolled(EnrolReply {
            agent: AgentId(1),
            name: r.name.clone(),
            cert_pem: authority.issue(&r.csr_pem, AgentId(1), NOW).unwrap().into(),
            ledger_key: "manager+01020304+AAAA".into(),
        }),
        _ => EnrolAnswer::Refused(Refused::new(RefusedCode::Token, "the token is used up\u{1b}[2J")),
    };
    let _ = conn.send(&answer.encode()).await;
    conn.finish(CloseCode::Done, "").await;
}

#[tokio::test]
async fn a_host_enrols_connects_and_moves_the_largest_frame() {
    let manager = Manager::start(Limits::default());
    let begin = Instant::now();
    let identity = manager.enrolled().await;
    let mut conn = connect(&manager.at(), &identity).await.unwrap();
    println!("enrol and connect: {:?}", begin.elapsed());
    assert_eq!((identity.agent, identity.name.as_str()), (AgentId(1), "web-1"));
    let largest: Vec<u8> = (0..FRAME_BYTES_MAX).map(|i| (i % 251) as u8).collect();
    for frame in [b"x".as_slice(), &largest, b"y", &largest[..70_000]] {
        let (mut sender, mut receiver) = conn.split();
        let (sent, received) = tokio::join!(sender.send(frame), receiver.recv());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), frame);
        drop(sender);
        drop(receiver);
        conn = connect(&manager.at(), &identity).await.unwrap();
    }
    let too_large = conn.send(&vec![0; FRAME_BYTES_MAX + 1]).await;
    assert!(matches!(too_large, Err(ConnError::FrameTooLarge { .. })));
    conn.send(b"still usable").await.unwrap();
    assert_eq!(conn.recv().await.unwrap().unwrap(), b"still usable");
    conn.finish(CloseCode::Done, "").await;
}

#[tokio::test]
async fn a_frame_whose_reader_and_writer_are_interrupted_arrives_whole() {
    let manager = Manager::start(Limits::default());
    let identity = manager.enrolled().await;
    let mut conn = connect(&manager.at(), &identity).await.unwrap();
    let frame: Vec<u8> = (0..FRAME_BYTES_MAX).map(|i| (i % 241) as u8).collect();
    // The window is a quarter of the frame and nobody reads the echo: the send is dropped midway.
    let _ = tokio::time::timeout(Duration::from_millis(20), conn.send(&frame)).await;
    let (mut sender, mut receiver) = conn.split();
    let reader = async {
        let mut frames = Vec::new();
        while frames.len() < 2 {
            if let Ok(frame) = tokio::time::timeout(Duration::from_micros(300), receiver.recv()).await {
                frames.push(frame.unwrap().unwrap());
            }
        }
        frames
    };
    let (sent, frames) = tokio::join!(sender.send(b"next"), reader);
    sent.unwrap();
    assert!(frames[0] == frame && frames[1] == b"next");
}

#[tokio::test]
async fn a_token_of_another_manager_and_a_wrong_secret_do_not_enrol() {
    let manager = Manager::start(Limits::default());
    let mut other = manager.token.clone();
    other.ca_fingerprint[31] ^= 1;
    let error = enrol(&manager.at(), &other, "web-1").await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(ConnectError::OtherFingerprint(_))), "{error}");
    let mut guessed = manager.token.clone();
    guessed.secret[0] ^= 1;
    let error = enrol(&manager.at(), &guessed, "web-1").await.unwrap_err();
    assert!(matches!(error, EnrolError::Refused { code: RefusedCode::Token, .. }), "{error}");
    assert_eq!(error.to_string(), "the manager refuses: the token is used up\u{fffd}[2J");
}

#[tokio::test]
async fn a_manager_and_an_agent_of_different_authorities_refuse_each_other() {
    let ours = Manager::start(Limits::default());
    let foreign = Manager::start(Limits::default());
    let identity = ours.enrolled().await;
    let error = connect(&foreign.at(), &identity).await.unwrap_err();
    assert!(matches!(error, ConnectError::OtherAuthority(_)), "{error}");
    // Somebody who trusts this manager but shows another authority's certificate.
    let mut liar = foreign.enrolled().await;
    liar.ca_pem = identity.ca_pem.clone();
    let error = connect(&ours.at(), &liar).await.unwrap_err();
    assert!(matches!(error, ConnectError::CertificateRefused(_)), "{error}");
    let (_, server) = ours.stop().await;
    assert_eq!((server.counts().sessions, server.counts().handshakes_failed), (0, 1));
}

#[tokio::test]
async fn an_agents_certificate_does_not_make_a_manager() {
    let manager = Manager::start(Limits::default());
    let identity = manager.enrolled().await;
    let pem = |text: &str| x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1.contents;
    let chain = vec![pem(&identity.cert_pem).into(), pem(&identity.ca_pem).into()];
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(pem(&identity.key_pem)).into();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN_AGENT.to_vec(), ALPN_ENROL.to_vec()];
    let config = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(config)), LOOPBACK).unwrap();
    let at: ManagerAddress = endpoint.local_addr().unwrap().to_string().parse().unwrap();
    let server = tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let _ = incoming.accept().unwrap().await;
        }
    });
    let error = connect(&at, &identity).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTheManager(_)), "{error}");
    let error = enrol(&at, &manager.token, "x").await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(ConnectError::NotTheManager(_))), "{error}");
    server.abort();
}

#[tokio::test]
async fn an_agent_of_before_orders_is_known_as_such() {
    let manager = Manager::start(Limits::default());
    let identity = manager.enrolled().await;
    let mut conn = connect(&manager.at(), &identity).await.unwrap();
    conn.send(b"has it orders?").await.unwrap();
    assert_eq!(conn.recv().await.unwrap().unwrap(), [1]);
    conn.finish(CloseCode::Done, "").await;
    let pem = |text: &str| x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1.contents;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(pem(&identity.key_pem)).into();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAll))
        .with_client_auth_cert(vec![pem(&identity.cert_pem).into()], key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN_AGENT.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(LOOPBACK).unwrap();
    let connection = endpoint.connect_with(config, manager.address, "anything").unwrap().await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(b"TLY1\0\0\0\x0ehas it orders?").await.unwrap();
    let mut answer = [0; 9];
    recv.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"TLY1\0\0\0\x01\0");
}

/// A client that trusts everybody and obeys nothing.
#[derive(Debug)]
struct TrustsAll;

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

async fn raw(address: SocketAddr, alpn: &[u8]) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAll))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(LOOPBACK).unwrap();
    let connection = endpoint.connect_with(config, address, "anything").unwrap().await?;
    Ok((endpoint, connection))
}

fn closed_with(error: quinn::ConnectionError) -> u64 {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("not closed by the server: {other}"),
    }
}

#[tokio::test]
async fn a_session_without_a_certificate_is_refused() {
    let manager = Manager::start(Limits::default());
    let (_endpoint, connection) = raw(manager.address, ALPN_AGENT).await.unwrap();
    assert_eq!(closed_with(connection.closed().await), 8);
    raw(manager.address, b"h3").await.unwrap_err();
    let (_, server) = manager.stop().await;
    assert_eq!((server.counts().no_certificate, server.counts().sessions), (1, 0));
}

#[tokio::test]
async fn frames_beyond_the_limit_are_cut_off_before_they_are_held() {
    let manager = Manager::start(Limits::default());
    for (announced, code) in [(ENROL_FRAME_BYTES_MAX as u32 + 1, 4), (u32::MAX, 4), (0, 5)] {
        let (_endpoint, connection) = raw(manager.address, ALPN_ENROL).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(b"TLY1").await.unwrap();
        recv.read_exact(&mut [0; 4]).await.unwrap();
        send.write_all(&announced.to_be_bytes()).await.unwrap();
        assert_eq!(closed_with(connection.closed().await), code, "{announced}");
    }
    let (_endpoint, connection) = raw(manager.address, ALPN_ENROL).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1").await.unwrap();
    assert_eq!(closed_with(connection.closed().await), 5);
    let (_, server) = manager.stop().await;
    let counts = server.counts();
    assert_eq!((counts.frames_too_large, counts.frames_senseless, counts.handshakes_failed), (2, 1, 1));
}

#[tokio::test]
async fn slow_peers_are_cut_off_with_a_counted_reason() {
    let quick = Duration::from_millis(200);
    let limits =
        Limits { handshake_time_max: quick, enrol_time_max: quick, frame_time_max: quick, ..Limits::default() };
    let manager = Manager::start(limits);
    // Opens no stream.
    let (_endpoint, silent) = raw(manager.address, ALPN_ENROL).await.unwrap();
    assert_eq!(closed_with(silent.closed().await), 11);
    // Sends a frame a byte at a time: the whole enrolment has its time, or the frame has.
    let (_endpoint, dripping) = raw(manager.address, ALPN_ENROL).await.unwrap();
    let (mut send, _recv) = dripping.open_bi().await.unwrap();
    send.write_all(b"TLY1\0\0\x10\0").await.unwrap();
    let drip = async {
        while send.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (closed, ()) = tokio::join!(dripping.closed(), drip);
    assert!(matches!(closed_with(closed), 3 | 11));
    let (_, server) = manager.stop().await;
    let counts = server.counts();
    assert_eq!((counts.handshakes_slow, counts.slow_senders + counts.enrolments_slow), (1, 1));
}

#[tokio::test]
async fn an_agent_that_does_not_read_is_cut_off() {
    let manager = Manager::start(Limits { frame_time_max: Duration::from_millis(300), ..Limits::default() });
    let identity = manager.enrolled().await;
    let (mut sender, receiver) = connect(&manager.at(), &identity).await.unwrap().split();
    let frame = vec![7; FRAME_BYTES_MAX];
    // The echo of the first frame is never read, so the manager cannot finish sending it.
    let error = loop {
        if let Err(error) = sender.send(&frame).await {
            break error;
        }
    };
    assert!(matches!(error, ConnError::Closed { code: CloseCode::Slow, .. }), "{error}");
    drop(receiver);
    let (_, server) = manager.stop().await;
    assert_eq!(server.counts().slow_receivers, 1);
}

#[tokio::test]
async fn garbage_on_the_port_does_not_disturb_a_session() {
    let manager = Manager::start(Limits::default());
    let identity = manager.enrolled().await;
    let mut conn = connect(&manager.at(), &identity).await.unwrap();
    let (flooding, mut stop) = tokio::sync::mpsc::channel::<()>(1);
    let address = manager.address;
    let flood = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        let mut x = 1_u64;
        let mut sent = 0;
        while let Err(tokio::sync::mpsc::error::TryRecvError::Empty) = stop.try_recv() {
            let bytes: Vec<u8> = (0..1200)
                .map(|_| {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (x >> 33) as u8
                })
                .collect();
            for (first, length) in [(b'!', 1200), (b'#', 3), (0xc3, 1200), (0x43, 60), (0xff, 1), (0x40, 1200)] {
                let mut datagram = bytes[..length].to_vec();
                datagram[0] = first;
                // A QUIC version 1 header, so that some get as far as the keys.
                if first == 0xc3 {
                    datagram[1..6].copy_from_slice(&[0, 0, 0, 1, 8]);
                }
                sent += u64::from(socket.send_to(&datagram, address).is_ok());
            }
            let _ = socket.send_to(&[], address);
        }
        sent
    });
    for i in 0..200_u32 {
        conn.send(&i.to_be_bytes()).await.unwrap();
        assert_eq!(conn.recv().await.unwrap().unwrap(), i.to_be_bytes());
    }
    let newcomer = connect(&manager.at(), &identity).await;
    drop(flooding);
    println!("datagrams of garbage: {}", flood.await.unwrap());
    newcomer.unwrap();
    let (_, server) = manager.stop().await;
    assert!(server.counts().foreign_datagrams > 0);
}

#[tokio::test]
async fn strangers_are_bounded_and_prove_their_address_under_load() {
    let limits = Limits {
        strangers_max: 8,
        strangers_per_address_max: 4,
        retry_above: 2,
        enrol_time_max: Duration::from_secs(20),
        ..Limits::default()
    };
    let manager = Manager::start(limits);
    let mut held = Vec::new();
    for _ in 0..4 {
        let (endpoint, connection) = raw(manager.address, ALPN_ENROL).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(b"TLY1").await.unwrap();
        recv.read_exact(&mut [0; 4]).await.unwrap();
        held.push((endpoint, connection, send, recv));
    }
    let error = enrol(&manager.at(), &manager.token, "late").await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(ConnectError::Busy(_))), "{error}");
    held.pop();
    // The place is free once the server knows that the connection is closed.
    while enrol(&manager.at(), &manager.token, "late").await.is_err() {
        tokio::task::yield_now().await;
    }
    let (_, server) = manager.stop().await;
    let counts = server.counts();
    assert!(counts.retries >= 2 && counts.busy >= 1, "{counts:?}");
}

#[tokio::test]
async fn agents_take_no_strangers_place() {
    let limits = Limits { strangers_max: 2, strangers_per_address_max: 2, ..Limits::default() };
    let manager = Manager::start(limits);
    let identity = manager.enrolled().await;
    let mut held = Vec::new();
    while held.len() < 4 {
        // The place of the enrolment is free once the server knows that its connection is closed.
        match connect(&manager.at(), &identity).await {
            Ok(conn) => held.push(conn),
            Err(error) => assert!(matches!(error, ConnectError::Busy(_)) && held.is_empty(), "{error}"),
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_is_named_as_such() {
    let manager = Manager::start(Limits::default());
    let mut identity = manager.enrolled().await;
    let authority = Authority::open_or_create(&manager.dir.path().join("ca")).unwrap();
    let key = rcgen::KeyPair::from_pem(&identity.key_pem).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    identity.cert_pem = authority.issue(&csr, AgentId(1), Timestamp(0)).unwrap();
    let error = connect(&manager.at(), &identity).await.unwrap_err();
    assert!(error.to_string().contains("certificate expired"), "{error}");
    identity.cert_pem = authority.issue(&csr, AgentId(1), NOW).unwrap();
    connect(&manager.at(), &identity).await.unwrap();
}

#[tokio::test]
async fn the_newest_connections_of_an_agent_win() {
    let manager = Manager::start(Limits { connections_per_agent_max: 2, ..Limits::default() });
    let identity = manager.enrolled().await;
    let mut first = connect(&manager.at(), &identity).await.unwrap();
    let mut second = connect(&manager.at(), &identity).await.unwrap();
    let mut third = connect(&manager.at(), &identity).await.unwrap();
    let error = first.recv().await.unwrap_err();
    assert!(matches!(error, ConnError::Closed { code: CloseCode::Superseded, .. }), "{error}");
    for conn in [&mut second, &mut third] {
        conn.send(b"x").await.unwrap();
        assert_eq!(conn.recv().await.unwrap().unwrap(), b"x");
    }
}

/// The server and everything of it ends as by a kill: nothing says goodbye, because its runtime is gone.
#[test]
fn after_a_kill_the_agent_notices_at_once_and_connects_again() {
    let mut dir = tempfile::tempdir().unwrap();
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut address = LOOPBACK;
    let mut known: Option<(Identity, Conn)> = None;
    for _ in 0..3 {
        let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let manager = {
            let _inside = server.enter();
            Manager::start_in(dir, address, Limits::default())
        };
        address = manager.address;
        known = Some(client.block_on(async {
            let begin = Instant::now();
            let identity = match known.take() {
                None => manager.enrolled().await,
                Some((identity, mut old)) => {
                    // What an agent does anyway: it sends, and learns that nobody knows this connection any more.
                    let error = match old.send(b"heartbeat").await {
                        Ok(()) => old.recv().await.unwrap_err(),
                        Err(error) => error,
                    };
                    assert!(error.to_string().contains("restarted"), "{error}");
                    identity
                }
            };
            let mut conn = connect(&manager.at(), &identity).await.unwrap();
            conn.send(b"x").await.unwrap();
            assert_eq!(conn.recv().await.unwrap().unwrap(), b"x");
            println!("noticed and connected again: {:?}", begin.elapsed());
            (identity, conn)
        }));
        let Manager { dir: kept, task, .. } = manager;
        // Forgetting the handle keeps the server from being dropped, which would close its connections.
        drop(task);
        dir = kept;
        server.shutdown_timeout(Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let manager = Manager::start(Limits::default());
    let identity = manager.enrolled().await;
    let mut conn = connect(&manager.at(), &identity).await.unwrap();
    let (_dir, server) = manager.stop().await;
    server.close(CloseCode::ShuttingDown, "upgrade", Duration::from_secs(5)).await;
    let error = conn.recv().await.unwrap_err();
    assert!(
        matches!(&error, ConnError::Closed { code: CloseCode::ShuttingDown, text } if text == "upgrade"),
        "{error}"
    );
    assert!(conn.send(b"x").await.is_err());
}

#[tokio::test]
async fn a_name_that_leads_nowhere_first_still_connects() {
    let manager = Manager::start(Limits::default());
    let identity = manager.enrolled().await;
    // On most hosts localhost is ::1 and 127.0.0.1, and only the second has a manager.
    let at = ManagerAddress { host: "localhost".into(), port: manager.address.port() };
    let begin = Instant::now();
    let mut conn = connect(&at, &identity).await.unwrap();
    println!("connected by name: {:?}", begin.elapsed());
    conn.send(b"x").await.unwrap();
    assert_eq!(conn.recv().await.unwrap().unwrap(), b"x");
    let unknown: ManagerAddress = "no-such-host.invalid".parse().unwrap();
    assert!(matches!(connect(&unknown, &identity).await, Err(ConnectError::Lookup { .. })));
}

#[tokio::test]
async fn strangers_that_hang_up_leave_their_place() {
    let manager = Manager::start(Limits { strangers_per_address_max: 2, ..Limits::default() });
    for _ in 0..20 {
        let (endpoint, connection) = raw(manager.address, ALPN_ENROL).await.unwrap();
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
    }
    while enrol(&manager.at(), &manager.token, "x").await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// Waits for a datagram as a manager's thread does, and answers it.
fn echo_foreign(port: &ForeignPort) -> ForeignDatagram {
    let datagram = port.next(Duration::from_secs(10)).expect("a datagram");
    port.send(datagram.from, datagram.to, &datagram.bytes).unwrap();
    datagram
}

#[tokio::test]
async fn one_port_serves_quic_and_ossecs_datagrams() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    for address in [LOOPBACK, "[::]:0".parse().unwrap()] {
        let mut server = Server::bind(address, &authority).unwrap();
        let port = server.take_foreign().unwrap().unwrap();
        assert!(server.take_foreign().is_none());
        port.open(true);
        let to = SocketAddr::new(LOOPBACK.ip(), server.local_addr().port());
        let echo = tokio::task::spawn_blocking(move || {
            let first = echo_foreign(&port);
            (first, echo_foreign(&port), port)
        });
        let answers = tokio::task::spawn_blocking(move || {
            let socket = UdpSocket::bind(LOOPBACK).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut buffer = [0; 8192];
            [&b"!7!:short"[..], &[b':'; 6144]].map(|sent| {
                socket.send(sent).unwrap();
                let n = socket.recv(&mut buffer).unwrap();
                buffer[..n] == *sent
            })
        });
        assert_eq!(answers.await.unwrap(), [true, true]);
        let (first, second, port) = echo.await.unwrap();
        assert_eq!((&*first.bytes, second.bytes.len()), (&b"!7!:short"[..], 6144));
        assert_eq!(server.counts().foreign_datagrams, 0);
        drop(port);
    }
}

#[tokio::test]
async fn a_host_enrols_as_with_authd_over_tls() {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    let server = Server::bind(LOOPBACK, &authority).unwrap();
    let port = AuthdPort::bind(LOOPBACK, &authority, None, &server).await.unwrap();
    let address = port.local_addr();
    let answer = |from: std::net::IpAddr, request: &[u8]| {
        let text = String::from_utf8_lossy(request).into_owned();
        text.starts_with("OSSEC A:").then(|| format!("{from} {}", text.trim()))
    };
    let serving = tokio::spawn(port.serve(Arc::new(answer)));
    let ask = move |version: &'static str, request: &'static str| {
        tokio::task::spawn_blocking(move || {
            let mut client = Command::new("openssl")
                .args(["s_client", "-quiet", "-no_ign_eof", version, "-connect", &address.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut stdin = client.stdin.take().unwrap();
            stdin.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            client.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            drop(stdin);
            client.wait().unwrap();
            text
        })
    };
    assert_eq!(ask("-tls1_2", "OSSEC A:'x'\n").await.unwrap(), "127.0.0.1 OSSEC A:'x'");
    assert_eq!(ask("-tls1_3", "OSSEC A:'y'\n").await.unwrap(), "127.0.0.1 OSSEC A:'y'");
    assert_eq!(ask("-tls1_2", "HELLO\n").await.unwrap(), "");
    assert!(server.counts().authd_failed >= 1);
    serving.abort();
}
