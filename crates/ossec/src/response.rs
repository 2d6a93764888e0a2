//! What the program of a response is given, and the command by which an OSSEC agent is told to run one.
//!
//! Users, addresses, paths and locations come from logs, and so from whoever attacks. A program of a response is a shell script
//! with the rights of root, mostly, so nothing reaches it that a script could take for anything but a word: an address is an
//! address, a user begins with a letter, a digit or `_`, and a path with a character that a shell knows is refused, not masked.
//! OSSEC lets more through (host names, `?`, a leading `-`) and masks paths. Source: alerts/exec.c, shared/ar_expect.c, os_execd.

use core::fmt::Write as _;
use core::net::IpAddr;

/// Longer words are none.
const USER_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 512;
const LOCATION_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
/// What stands for what is not there.
const NONE: &str = "-";
/// The same as an agent's file name.
const NONE_ON_AGENT: &str = "(null)";
/// An agent takes as much.
pub const COMMAND_BYTES_MAX: usize = 1000;

/// Why a response is not run.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgumentError {
    #[error("the alert names no address")]
    NoAddress,
    #[error("the alert's source is no IP address")]
    Address,
    #[error("the alert names no user")]
    NoUser,
    #[error("the alert's user has characters that no user of a response may have")]
    User,
    #[error("the alert names no file")]
    NoFile,
    #[error("the file's path has characters that a script could misread")]
    File,
}

/// An address of an event: `::ffff:` is taken off, as OSSEC does.
pub fn address(text: &str) -> Result<IpAddr, ArgumentError> {
    text.trim().parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| ArgumentError::Address)
}

/// A user as one plain word.
pub fn user(text: &str) -> Result<Box<str>, ArgumentError> {
    let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_plain = |c: char| is_first(c) || matches!(c, '.' | '@' | '-');
    let is_user = text.starts_with(is_first) && text.chars().all(is_plain) && text.len() <= USER_BYTES_MAX;
    if is_user { Ok(text.into()) } else { Err(ArgumentError::User) }
}

/// A path without any character that a shell gives a meaning to, from the root.
pub fn file(path: &[u8]) -> Result<Box<str>, ArgumentError> {
    let text = core::str::from_utf8(path).map_err(|_| ArgumentError::File)?;
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | '%' | '=' | ',');
    let is_path = text.starts_with('/') && text.len() <= PATH_BYTES_MAX && text.chars().all(is_plain);
    // Nothing that leads elsewhere.
    let leads_on = !text.split('/').any(|part| part == "..");
    if is_path && leads_on { Ok(text.into()) } else { Err(ArgumentError::File) }
}

/// The name of a response as agents know it.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with(['-', '.']) && name.chars().all(is_plain)
}

/// Whether it is added, or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Add,
    Delete,
}

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Delete => "delete",
        }
    }
}

/// The alert that is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// Its time, and its number in the manager's ledger.
    pub seconds: i64,
    pub number: u64,
    pub rule: u32,
    /// With nothing in it that a script could misread.
    pub location: Box<str>,
}

/// What a program is given of an alert. Everything in it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arguments {
    user: Box<str>,
    address: Option<IpAddr>,
    /// `None`: an operator ordered it.
    cause: Option<Cause>,
    file: Option<Box<str>>,
}

impl Arguments {
    /// `location` is where the event comes from: `/var/log/auth.log`, or `(NAME) ADDRESS->/var/log/auth.log` of an agent.
    pub fn new(seconds: i64, number: u64, rule: u32, location: &str) -> Self {
        let cause = Cause { seconds, number, rule, location: harmless(location) };
        Self { user: NONE.into(), address: None, cause: Some(cause), file: None }
    }

    /// What an operator orders, without an alert: the words are OSSEC's.
    pub fn ordered(address: IpAddr) -> Self {
        Self { user: NONE.into(), address: Some(address), cause: None, file: None }
    }

    #[must_use]
    pub fn with_address(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    #[must_use]
    pub fn with_user(self, user: Box<str>) -> Self {
        Self { user, ..self }
    }

    #[must_use]
    pub fn with_file(self, file: Box<str>) -> Self {
        Self { file: Some(file), ..self }
    }

    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub fn user(&self) -> Option<&str> {
        Some(&*self.user).filter(|user| *user != NONE)
    }

    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    pub const fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// The words for the alert's number and its rule.
    fn shown_cause(&self) -> [String; 2] {
        match &self.cause {
            Some(cause) => [format!("{}.{}", cause.seconds, cause.number), cause.rule.to_string()],
            None => ["(from_the_server)".to_owned(), "(no_rule_id)".to_owned()],
        }
    }

    /// Whom it is against: by this a response that runs already is known again.
    pub fn against(&self) -> String {
        match (self.address, &self.file) {
            (Some(address), _) => address.to_string(),
            (None, Some(file)) => file.to_string(),
            (None, None) => self.user.to_string(),
        }
    }

    /// The words behind a program's name, as OSSEC's `execd` gives them.
    pub fn words(&self, action: Action) -> Vec<String> {
        let mut words = vec![action.name().to_owned(), self.user.to_string(), self.shown_address()];
        words.extend(self.shown_cause());
        if let Some(cause) = &self.cause {
            // An agent's location is two words there, too.
            words.extend(cause.location.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
            words.push(self.file.as_deref().unwrap_or(NONE).to_owned());
        }
        words
    }

    /// What an agent is told to run: `NAME USER ADDRESS TIME.ID RULE LOCATION FILE`. `None`: it is longer than an agent takes.
    pub fn command(&self, name: &str) -> Option<Box<str>> {
        let [alert, rule] = self.shown_cause();
        let mut command = format!("{name} {} {} {alert} {rule}", self.user, self.shown_address());
        if let Some(Cause { location, .. }) = &self.cause {
            // Writing to a string cannot fail.
            let _ = write!(command, " {location} {}", self.file.as_deref().unwrap_or(NONE_ON_AGENT));
        }
        (command.len() <= COMMAND_BYTES_MAX).then(|| command.into())
    }

    fn shown_address(&self) -> String {
        self.address.map_or_else(|| NONE.to_owned(), |address| address.to_string())
    }
}

/// A location with nothing in it that a script could misread. It keeps the one blank behind an agent's name.
fn harmless(location: &str) -> Box<str> {
    let mut blanks = usize::from(location.starts_with('('));
    let plain = |c: char| {
        let is_kept =
            c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ':' | '>' | ',' | '(' | ')');
        match c {
            ' ' if blanks > 0 => {
                blanks -= 1;
                ' '
            }
            _ if is_kept => c,
            _ => '_',
        }
    };
    let mut shown: String = location.chars().map(plain).collect();
    let end = (0..=LOCATION_BYTES_MAX.min(shown.len())).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
    shown.truncate(end);
    if shown.starts_with('-') {
        shown.replace_range(..1, "_");
    }
    if shown.is_empty() { "unknown".into() } else { shown.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn words_are_those_that_ossecs_execd_gives() {
        // What the real program was seen to give (samples, ar-dump.log).
        let local = Arguments::new(1_795_490_251, 49_695, 5716, "/srv/probe/srv.log").with_address(ip("10.9.8.6"));
        let words = ["add", "-", "10.9.8.6", "1795490251.49695", "5716", "/srv/probe/srv.log", "-"];
        assert_eq!(local.words(Action::Add), words);
        let of_agent = Arguments::new(1_795_490_251, 49_694, 5716, "(agent1) 127.0.0.1->/srv/probe/ag.log");
        let of_agent = of_agent.with_address(ip("10.9.8.7"));
        assert_eq!(
            of_agent.command("ar-dump10").as_deref(),
            Some("ar-dump10 - 10.9.8.7 1795490251.49694 5716 (agent1) 127.0.0.1->/srv/probe/ag.log (null)")
        );
        let words = of_agent.words(Action::Delete);
        assert_eq!(words[..4], ["delete", "-", "10.9.8.7", "1795490251.49694"]);
        assert_eq!(words[5..], ["(agent1)", "127.0.0.1->/srv/probe/ag.log", "-"]);
        let ordered = Arguments::ordered(ip("192.0.2.77"));
        assert_eq!(
            ordered.command("ar-dump0").as_deref(),
            Some("ar-dump0 - 192.0.2.77 (from_the_server) (no_rule_id)")
        );
        assert_eq!(ordered.words(Action::Add), ["add", "-", "192.0.2.77", "(from_the_server)", "(no_rule_id)"]);
    }

    #[test]
    fn what_an_attacker_writes_is_refused() {
        assert_eq!(address("::ffff:192.0.2.1"), Ok(ip("192.0.2.1")));
        assert_eq!(address("2001:db8::1"), Ok(ip("2001:db8::1")));
        for bad in
            ["", "-", "host.example", "192.0.2.1;id", "192.0.2.1 -j ACCEPT", "1.2.3", "192.0.2.1/0", "0x7f000001"]
        {
            assert_eq!(address(bad), Err(ArgumentError::Address), "{bad}");
        }
        assert_eq!(user("www-data").as_deref(), Ok("www-data"));
        for bad in [
            "",
            "-",
            "-rf",
            "--help",
            ".",
            "../x",
            "a b",
            "a;b",
            "$(id)",
            "a\nb",
            "a`b",
            "root?",
            "a*",
            &"a".repeat(65),
        ] {
            assert_eq!(user(bad), Err(ArgumentError::User), "{bad}");
        }
        assert_eq!(file(b"/etc/ssh/sshd_config").as_deref(), Ok("/etc/ssh/sshd_config"));
        for bad in
            ["", "etc", "/a b", "/a;b", "/$(id)", "/a/../b", "/a\nb", "/a*", "/a'b", "/a\"b", "/~x", "/a|b", "/a&b"]
        {
            assert_eq!(file(bad.as_bytes()), Err(ArgumentError::File), "{bad}");
        }
        assert_eq!(file(b"/\xff"), Err(ArgumentError::File));
        let location = Arguments::new(1, 2, 3, "(web) any->/var/log/$(reboot) `id`;x\n");
        assert_eq!(
            location.command("x0").as_deref(),
            Some("x0 - - 1.2 3 (web) any->/var/log/_(reboot)__id__x_ (null)")
        );
        for bad in ["", "-x", "a b", "../x", ".x", "a/b", "a;b"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("firewall-drop600"));
    }

    proptest! {
        #[test]
        fn no_word_is_more_than_a_word(
            given in "\\PC{0,80}", path in prop::collection::vec(any::<u8>(), 0..80), location in "\\PC{0,400}",
        ) {
            let mut arguments = Arguments::new(1, 2, 3, &location);
            if let Ok(address) = address(&given) {
                arguments = arguments.with_address(address);
            }
            if let Ok(user) = user(&given) {
                arguments = arguments.with_user(user);
            }
            if let Ok(file) = file(&path) {
                arguments = arguments.with_file(file);
            }
            let words = arguments.words(Action::Add);
            prop_assert!((6..=8).contains(&words.len()), "{words:?}");
            for word in &words {
                prop_assert!(word == "-" || !word.starts_with('-'), "{word}");
                prop_assert!(!word.contains([' ', '\n', ';', '$', '`', '&', '|', '<', '*', '?', '"', '\'', '\\']), "{word}");
            }
            if let Some(command) = arguments.command("block0") {
                prop_assert!((7..=8).contains(&command.split(' ').count()) && !command.contains('\n'), "{command}");
            }
        }
    }
}
