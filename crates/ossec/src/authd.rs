//! OSSEC's enrolment: one request of one line, one answer.
//!
//! `[OSSEC PASS: PASSWORD ]OSSEC A:'NAME'` → `OSSEC K:'LINE OF client.keys'`, or an error in words. Names that are taken
//! get a number; an address that a key already names is refused. Whoever knows the password, or anybody where there is
//! none, gets a key: it is the weakest way in, and is closed unless the operator opens it.

use core::net::IpAddr;

use crate::keys::{AUTHD_FIRST_ID, ClientKey, ClientKeys, KeyError};
use crate::secure::md5_hex;

/// OSSEC reads as much at once.
pub const REQUEST_BYTES_MAX: usize = 4096;
/// The longest password that is taken from a file.
pub const PASSWORD_BYTES_MAX: usize = 4094;
const PASS: &str = "OSSEC PASS: ";
const ASK: &str = "OSSEC A:'";
const UNABLE: &str = "ERROR: Unable to add agent.\n\n";

/// What a peer asks for; the password is checked and gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub name: String,
}

/// The request is not one, or lacks the right password. Such a peer gets no answer at all.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RequestError {
    #[error("this is no enrolment request")]
    Form,
    #[error("the password is missing or wrong")]
    Password,
}

impl Request {
    /// Reads a request. Where `password` is set, it has to be in it, exactly; where none is, one that is given is refused as
    /// OSSEC does, because its sender thinks of another manager.
    pub fn parse(bytes: &[u8], password: Option<&str>) -> Result<Self, RequestError> {
        let bytes = &bytes[..bytes.len().min(REQUEST_BYTES_MAX)];
        let text = String::from_utf8_lossy(bytes);
        let asked = match password {
            None => &*text,
            Some(password) => {
                let given = text.strip_prefix(PASS).ok_or(RequestError::Password)?;
                let (given, rest) = given.split_at_checked(password.len()).ok_or(RequestError::Password)?;
                if !is_same(given, password) {
                    return Err(RequestError::Password);
                }
                rest.strip_prefix(' ').ok_or(RequestError::Password)?
            }
        };
        let name = asked.strip_prefix(ASK).ok_or(RequestError::Form)?;
        let (name, _) = name.split_once('\'').ok_or(RequestError::Form)?;
        Ok(Self { name: name.to_owned() })
    }

    /// As an agent sends it; `None` where the name or the password would end the request early.
    pub fn text(&self, password: Option<&str>) -> Option<String> {
        let is_line = |text: &str| !text.chars().any(char::is_control);
        if !is_line(&self.name) || self.name.contains('\'') || !password.is_none_or(is_line) {
            return None;
        }
        let pass = password.map(|password| format!("{PASS}{password} ")).unwrap_or_default();
        Some(format!("{pass}{ASK}{}'\n", self.name))
    }
}

/// What `authd` answered, for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Key(ClientKey),
    /// Why there is no key, in the manager's words.
    Refused(Vec<String>),
    /// It closed without a word, or said nothing that is understood.
    Nothing,
}

/// Lines of an answer that are told, and what of each.
const REPLY_LINES_MAX: usize = 8;
const REPLY_LINE_CHARS: usize = 256;

impl Reply {
    pub fn parse(bytes: &[u8]) -> Self {
        const KEY: &str = "OSSEC K:'";
        let text = String::from_utf8_lossy(bytes);
        let key = text.find(KEY).and_then(|at| text[at + KEY.len()..].split_once('\''));
        if let Some(key) = key.and_then(|(line, _)| ClientKey::parse(line).ok()) {
            return Self::Key(key);
        }
        // It goes to a terminal.
        let shown = |line: &str| line.chars().filter(|c| !c.is_control()).take(REPLY_LINE_CHARS).collect::<String>();
        let lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("ERROR")).take(REPLY_LINES_MAX).map(shown).collect();
        if lines.is_empty() { Self::Nothing } else { Self::Refused(lines) }
    }
}

/// In a time that does not depend on where two texts of one length differ.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// The first line of `authd.pass`. OSSEC cuts the last byte whether or not it ends the line; here only an end of line is.
pub fn password_of(file: &[u8]) -> Option<String> {
    let line = file.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_one = !line.is_empty() && line.len() <= PASSWORD_BYTES_MAX;
    is_one.then(|| String::from_utf8_lossy(line).into_owned())
}

/// A password for whoever has set none, from random bytes: 32 hexadecimal digits.
pub fn random_password(random: &[u8; 32]) -> String {
    md5_hex(&[random]).iter().copied().map(char::from).collect()
}

/// How the request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key is in `keys`; it is to be on disk before the answer leaves.
    Key(ClientKey),
    Refused(KeyError),
}

/// Makes a key for whoever asks from `source`; its address is in the key where `fix_address` is set (authd's `-i`).
pub fn enrol(keys: &mut ClientKeys, request: &Request, source: IpAddr, fix_address: bool, random: &[u8; 32]) -> Answer {
    match try_enrol(keys, request, source, fix_address, random) {
        Ok(key) => Answer::Key(key),
        Err(error) => Answer::Refused(error),
    }
}

fn try_enrol(
    keys: &mut ClientKeys,
    request: &Request,
    source: IpAddr,
    fix_address: bool,
    random: &[u8; 32],
) -> Result<ClientKey, KeyError> {
    crate::keys::check_name(&request.name)?;
    let source = source.to_canonical();
    if let Some(other) = keys.by_address(source) {
        return Err(KeyError::AddressTaken { address: source.to_string().into(), id: other.id.clone() });
    }
    let name = keys.free_name(&request.name)?;
    let address = if fix_address { source.to_string() } else { "any".to_owned() };
    let key = ClientKey::generate(&keys.free_id(AUTHD_FIRST_ID), &name, &address, random)?;
    keys.add(key.clone())?;
    Ok(key)
}

impl Answer {
    /// What goes to the peer, in the words that `agent-auth` shows.
    pub fn text(&self, request: &Request) -> String {
        match self {
            Self::Key(key) => format!("OSSEC K:'{key}'\n\n"),
            Self::Refused(KeyError::Name(_) | KeyError::NameTaken(_)) => {
                format!("ERROR: Invalid agent name: {}\n\n{UNABLE}", request.name)
            }
            // The program says whose it is, not which.
            Self::Refused(KeyError::AddressTaken { id, .. }) => format!("ERROR: Invalid IP address: {id}\n\n{UNABLE}"),
            Self::Refused(_) => format!("ERROR: Internal manager error adding agent: {}\n\n{UNABLE}", request.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_gets_a_key_under_a_new_number_and_name() {
        let mut keys = ClientKeys::default();
        let source = "192.0.2.1".parse().unwrap();
        let mut ask = |text: &str, fix: bool| {
            let request = Request::parse(text.as_bytes(), None).unwrap();
            enrol(&mut keys, &request, source, fix, &[3; 32]).text(&request)
        };
        let first = ask("OSSEC A:'web'\n", false);
        assert!(first.starts_with("OSSEC K:'1024 web any ") && first.ends_with("'\n\n"), "{first}");
        assert!(ask("OSSEC A:'web'", true).starts_with("OSSEC K:'1025 web2 192.0.2.1 "));
        assert_eq!(ask("OSSEC A:'db'", false), "ERROR: Invalid IP address: 1025\n\nERROR: Unable to add agent.\n\n");
        assert_eq!(ask("OSSEC A:'w'", false), "ERROR: Invalid agent name: w\n\nERROR: Unable to add agent.\n\n");
    }

    #[test]
    fn a_password_has_to_be_there_exactly() {
        let parse = |text: &str, password| Request::parse(text.as_bytes(), password).map(|request| request.name);
        assert_eq!(parse("OSSEC PASS: s3 cret OSSEC A:'a1'", Some("s3 cret")), Ok("a1".to_owned()));
        for wrong in
            ["OSSEC A:'a1'", "OSSEC PASS: s3 cre OSSEC A:'a1'", "OSSEC PASS: s3 cretx OSSEC A:'a1'", "OSSEC PASS: "]
        {
            assert_eq!(parse(wrong, Some("s3 cret")), Err(RequestError::Password), "{wrong}");
        }
        assert_eq!(parse("OSSEC PASS: x OSSEC A:'a1'", None), Err(RequestError::Form));
        assert_eq!(parse("OSSEC A:a1", None), Err(RequestError::Form));
    }

    #[test]
    fn what_is_asked_is_understood_and_so_is_the_answer() {
        let request = Request { name: "web".into() };
        let mut keys = ClientKeys::default();
        for password in [None, Some("s3 cret")] {
            let text = request.text(password).unwrap();
            let asked = Request::parse(text.as_bytes(), password).unwrap();
            let answer = enrol(&mut keys, &asked, IpAddr::from([192, 0, 2, 1]), false, &[1; 32]);
            let Answer::Key(key) = &answer else { panic!("{answer:?}") };
            assert_eq!(Reply::parse(answer.text(&asked).as_bytes()), Reply::Key(key.clone()));
        }
        let refused = Answer::Refused(KeyError::Name("w".into())).text(&request);
        let words = ["ERROR: Invalid agent name: web", "ERROR: Unable to add agent."].map(str::to_owned);
        assert_eq!(Reply::parse(refused.as_bytes()), Reply::Refused(words.into()));
        for bytes in [&b""[..], b"hello\n", b"OSSEC K:'1024 web any'\n"] {
            assert_eq!(Reply::parse(bytes), Reply::Nothing);
        }
        assert_eq!(Reply::parse(b"ERROR: \x1b[2Jx\n"), Reply::Refused(vec!["ERROR: [2Jx".into()]));
        for name in ["it's", "a\nb"] {
            assert_eq!(Request { name: name.into() }.text(None), None);
        }
        assert_eq!(request.text(Some("a\nb")), None);
    }

    #[test]
    fn a_password_file_is_its_first_line() {
        assert_eq!(password_of(b"secret\nmore\n").as_deref(), Some("secret"));
        assert_eq!(password_of(b"secret").as_deref(), Some("secret"));
        assert_eq!(password_of(b"x\r\n").as_deref(), Some("x"));
        assert_eq!((password_of(b""), password_of(b"\nx")), (None, None));
        assert_eq!(random_password(&[1; 32]).len(), 32);
    }

    proptest! {
        #[test]
        fn any_request_is_answered_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&bytes, None);
            let _ = Reply::parse(&[b"OSSEC K:'", &bytes[..]].concat());
            let _ = Request::parse(&[b"OSSEC PASS: ", &bytes[..]].concat(), Some("pw"));
            let asked = [b"OSSEC A:'", &bytes[..]].concat();
            if let Ok(request) = Request::parse(&asked, None) {
                let mut keys = ClientKeys::default();
                let answer = enrol(&mut keys, &request, IpAddr::from([192, 0, 2, 1]), true, &[1; 32]);
                prop_assert_eq!(matches!(answer, Answer::Key(_)), keys.len() == 1);
            }
        }
    }
}
