//! A mail server that fails as it is told: aiosmtpd, with a handler of ours.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::tool::tool;

const SERVER: &str = r#"
import asyncio, os, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

class Handler:
    """Fails by the local part of the recipient and the faults that are asked for; prints what it takes."""
    faults = []
    def fault(self, name):
        if name in self.faults:
            self.faults.remove(name)
            return True
        return False
    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if self.fault("drop-ehlo"):
            server.transport.abort()
        return responses
    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.fault("drop-mail"):
            server.transport.abort()
        if self.fault("451-mail"):
            return "451 4.3.0 not now"
        if self.fault("550-mail"):
            return "550 5.7.1 not from you"
        envelope.mail_from = address
        return "250 OK"
    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.fault("drop-rcpt"):
            server.transport.abort()
        if address.startswith("gone"):
            return "550 5.1.1 no such user"
        if address.startswith("grey") and self.fault("450-rcpt"):
            return "450 4.2.0 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        if self.fault("drop-data"):
            server.transport.abort()
        if self.fault("452-data"):
            return "452 4.3.1 no room"
        if self.fault("554-data"):
            return "554 5.6.0 I do not like it"
        if self.fault("slow-data"):
            await asyncio.sleep(3600)
        text = envelope.content.decode("ascii")
        ids = [l for l in text.splitlines() if l.lower().startswith("message-id:")]
        stuffed = sum(1 for l in text.split("\r\n") if l.startswith(".."))
        print("MAIL", ",".join(envelope.rcpt_tos), ids[0].split(None, 1)[1], stuffed, flush=True)
        return "250 taken"

def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.password == b"good"
    return AuthResult(success=good, handled=True) if good else AuthResult(success=False, handled=False)

handler = Handler()
context = None
if sys.argv[1] != "-":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
more = dict(tls_context=context, require_starttls=True, authenticator=authenticate, auth_required=True) if context else {}
controller = Controller(handler, hostname="127.0.0.1", port=int(sys.argv[3]), **more)
controller.start()
print("READY", flush=True)
for line in sys.stdin:
    handler.faults[:] = line.split()
    print("FAULTS", flush=True)
os._exit(0)
"#;

pub(super) struct Faulty {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
    pub port: u16,
    pub ca: Option<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Faulty {
    pub fn start(with_tls: bool) -> Option<Self> {
        let python = tool("python/bin/python")?;
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python);
        command.args(["-W", "ignore", "-c", SERVER]);
        if with_tls {
            command.arg(&certificate).arg(&key);
        } else {
            command.args(["-", "-"]);
        }
        let mut child = command
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let ca = with_tls.then_some(certificate);
        let mut server = Self { child, input, output, port, ca, _dir: dir };
        assert_eq!(server.line(), "READY");
        Some(server)
    }

    /// Each happens once.
    pub fn fail(&mut self, faults: &str) {
        use std::io::Write as _;
        writeln!(self.input, "{faults}").unwrap();
        // Mails that nobody asked about are passed over.
        while self.line() != "FAULTS" {}
    }

    /// What it says next: of a mail its recipients, its Message-ID, and how many of its lines begin with two dots.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the server has ended");
        line.trim().to_owned()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
