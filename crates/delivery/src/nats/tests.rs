//! Against a real nats-server with JetStream.

use std::io::{BufRead as _, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::format::sample;
use crate::tool::tool;

struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Server {
    fn start(with_tls: bool) -> Option<Self> {
        let program = tool("python/bin/nats-server")?;
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "--auth", "s3cret", "-sd"]).arg(dir.path());
        if with_tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            command.arg("--tls").arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, dir };
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("nats-server does not listen");
    }

    /// Asks JetStream's own interface.
    fn ask(&self, subject: &str, body: &str) -> Value {
        let stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut reader = std::io::BufReader::new(stream);
        let hello = "CONNECT {\"verbose\":false,\"auth_token\":\"s3cret\"}\r\nSUB answer 1\r\n";
        let ask = format!("{hello}PUB $JS.API.{subject} answer {}\r\n{body}\r\n", body.len());
        reader.get_mut().write_all(ask.as_bytes()).unwrap();
        loop {
            let mut row = String::new();
            assert!(reader.read_line(&mut row).unwrap() > 0);
            if row.starts_with("MSG answer") {
                let length: usize = row.trim().rsplit(' ').next().unwrap().parse().unwrap();
                let mut payload = vec![0; length];
                reader.read_exact(&mut payload).unwrap();
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }

    fn nats(&self, token: &str, use_tls: bool) -> (tempfile::NamedTempFile, Nats) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), token).unwrap();
        let ca = use_tls.then(|| self.dir.path().join("cert.pem"));
        let nats = Nats::new(Settings {
            server: "localhost".to_owned(),
            port: self.port,
            subject: "fim.alerts".to_owned(),
            format: Format::Json,
            use_tls,
            tls: TlsSettings { ca, ..TlsSettings::default() },
            token: Some(Secret::File(file.path().to_owned())),
            timeout: TIMEOUT,
        });
        (file, nats)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_is_published_twice_is_in_the_stream_once() {
    let Some(server) = Server::start(false) else { return };
    let (_file, mut nats) = server.nats("s3cret", false);
    let batch: Vec<_> = sample::all().into_iter().map(|(_, message)| message).collect();
    let sent = nats.send(&batch).await;
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("no stream")), "{sent:?}");
    let made = server.ask("STREAM.CREATE.FIM", r#"{"name":"FIM","subjects":["fim.>"],"max_msg_size":30000}"#);
    assert!(made["error"].is_null(), "{made}");
    assert_eq!(nats.send(&batch).await, Sent::all());
    // As after a crash: another connection, the same messages.
    let (_file, mut again) = server.nats("s3cret", false);
    assert_eq!(again.send(&batch).await, Sent::all());
    assert_eq!(server.ask("STREAM.INFO.FIM", "")["state"]["messages"], batch.len());
    // One that is too long for the stream is refused, and the others are taken.
    let mut line = tally_types::LogLine::new("/var/log/x", tally_types::LogQueue::Local, vec![b'x'; 32_000]);
    line.decoding = None;
    let body = tally_types::EventBody::Log(Box::new(line));
    let long = sample::message(90, sample::agent(1), body, Some(sample::rule(1002, 2, "x", "syslog")));
    let mut more = sample::all().remove(0).1;
    more.id = "manager-1.example/91".into();
    let Sent::Done { refused } = nats.send(&[long, more]).await else { panic!() };
    assert!(refused.len() == 1 && refused[0].0 == 0, "{refused:?}");
    assert_eq!(server.ask("STREAM.INFO.FIM", "")["state"]["messages"], batch.len() + 1);
    let (_file, mut stranger) = server.nats("guessed", false);
    let sent = stranger.send(&batch).await;
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("Authorization")), "{sent:?}");
}

#[tokio::test]
async fn the_way_is_kept_by_tls() {
    let Some(server) = Server::start(true) else { return };
    let (_file, mut nats) = server.nats("s3cret", true);
    let batch = [sample::all().remove(0).1];
    let sent = nats.send(&batch).await;
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("no stream")), "{sent:?}");
    let (_file, mut nats) = server.nats("s3cret", true);
    nats.settings.tls.ca = None;
    let sent = nats.send(&batch).await;
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("certificate")), "{sent:?}");
}

#[test]
fn words_of_a_server_are_counted_until_one_is_broken() {
    assert_eq!(words(b"PING\r\n+OK\r\nPONG\r\nMSG a 1 3\r\nabc\r\n-ERR 'x'\r\nMSG a 1 99999999999\r\nPONG\r\n"), 3);
    assert_eq!(words(b"PONG"), 0);
    assert_eq!(words(b"MSG a 1 18446744073709551615\r\n"), 0);
}

proptest::proptest! {
    #[test]
    fn no_server_makes_it_panic(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), at in 0usize..300) {
        words(&bytes);
        let mut real = b"INFO {}\r\nPING\r\nHMSG s 1 12 15\r\nNATS/1.0 503\r\nabc\r\nPONG\r\n".to_vec();
        let place = at % real.len();
        real[place] = bytes.pop().unwrap_or(0);
        words(&real);
    }
}
