//! `ar.conf`: the responses that an agent may run, as its manager sends them; and `.passlist`, the passwords of agentless hosts.
//!
//! A line of the first is `NAME - EXECUTABLE - SECONDS`, where NAME is the command's name with the seconds behind it. A line of
//! the second is `HOST|PASSWORD[|SECOND PASSWORD]`.

use core::fmt;

use crate::conf::{ActiveResponse, Command};
use crate::finding::{Findings, Notary};
use tally_types::shown;

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as `firewall-drop600`.
    pub name: String,
    /// A file of `active-response/bin`.
    pub executable: String,
    /// After which the command is undone; 0 is never.
    pub timeout_s: u32,
}

/// More lines are no such file.
const LINES_MAX: usize = 10_000;

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {} - {}", self.name, self.executable, self.timeout_s)
    }
}

/// Reads an `ar.conf`.
pub fn parse(text: &str, file: &str) -> (Vec<Response>, Findings) {
    let mut notary = Notary::new(file, text);
    let mut responses = Vec::new();
    for (at, line) in lines(text, &mut notary) {
        let mut parts = line.splitn(3, " - ");
        let read = (parts.next(), parts.next(), parts.next().and_then(|seconds| seconds.trim().parse().ok()));
        match read {
            (Some(name), Some(executable), Some(timeout_s)) if is_file_name(executable) => {
                responses.push(Response { name: name.to_owned(), executable: executable.to_owned(), timeout_s });
            }
            (_, Some(executable), Some(_)) => {
                notary.error(at, format!("\"{}\" is no file of active-response/bin", shown(executable)));
            }
            _ => notary.error(at, format!("a response is NAME - EXECUTABLE - SECONDS, not \"{}\"", shown(line))),
        }
    }
    (responses, notary.finish())
}

/// What a manager sends: two restarts that are always there, then its responses in their order.
pub fn of(commands: &[Command], responses: &[ActiveResponse]) -> Vec<Response> {
    let restart =
        |executable: &str| Response { name: "restart-ossec0".into(), executable: executable.into(), timeout_s: 0 };
    let mut list = vec![restart("restart-ossec.sh"), restart("restart-ossec.cmd")];
    for response in responses.iter().filter(|r| !r.disabled.as_ref().is_some_and(|disabled| disabled.value)) {
        let Some(name) = &response.command else { continue };
        let Some(command) = commands.iter().find(|command| command.name == name.value) else { continue };
        let timeout_s = response.timeout.as_ref().map_or(0, |timeout| timeout.value);
        let name = format!("{}{timeout_s}", command.name);
        list.push(Response { name, executable: command.executable.clone(), timeout_s });
    }
    list
}

/// The file of these responses, each once, behind the restarts that are always there.
pub fn text<'r>(responses: impl IntoIterator<Item = (&'r str, &'r str, u32)>) -> String {
    let mut list = of(&[], &[]);
    for (name, executable, timeout_s) in responses {
        let response = Response { name: name.to_owned(), executable: executable.to_owned(), timeout_s };
        if is_file_name(executable) && !list.contains(&response) {
            list.push(response);
        }
    }
    list.iter().map(|response| format!("{response}\n")).collect()
}

/// A name that leads nowhere else.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// The password of a host. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// `user@host`
    pub host: String,
    pub password: String,
    /// For what asks a second time, as `enable` of a router.
    pub second: Option<String>,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({})", self.host)
    }
}

/// Reads a `.passlist`.
pub fn passlist(text: &str, file: &str) -> (Vec<Password>, Findings) {
    let mut notary = Notary::new(file, text);
    let mut list = Vec::new();
    for (at, line) in lines(text, &mut notary) {
        let mut parts = line.splitn(3, '|');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(host), Some(password), second) if !host.is_empty() => {
                let second = second.filter(|second| !second.is_empty()).map(str::to_owned);
                list.push(Password { host: host.to_owned(), password: password.to_owned(), second });
            }
            // Not shown: it may be a password.
            _ => notary.error(at, "a line is HOST|PASSWORD or HOST|PASSWORD|SECOND PASSWORD"),
        }
    }
    (list, notary.finish())
}

/// The lines that are neither empty nor a remark, with their places.
fn lines<'t>(text: &'t str, notary: &mut Notary<'_>) -> Vec<(usize, &'t str)> {
    let mut found = Vec::new();
    let mut at = 0;
    for (count, raw) in text.split_inclusive('\n').enumerate() {
        if count >= LINES_MAX {
            notary.error(at, format!("more than {LINES_MAX} lines"));
            break;
        }
        let line = raw.trim_end_matches(['\n', '\r']);
        if !line.trim().is_empty() && !line.starts_with('#') {
            found.push((at, line));
        }
        at += raw.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::OssecConf;

    #[test]
    fn responses_are_read_and_written() {
        let text = "restart-ossec0 - restart-ossec.sh - 0\nx - ../y - 1\nz\n";
        let (responses, findings) = parse(text, "ar.conf");
        assert_eq!(
            responses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["restart-ossec0 - restart-ossec.sh - 0"]
        );
        let told: Vec<_> = findings.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "ar.conf:2:1: \"../y\" is no file of active-response/bin",
                "ar.conf:3:1: a response is NAME - EXECUTABLE - SECONDS, not \"z\"",
            ]
        );
    }

    #[test]
    fn a_manager_sends_what_ossec_sent() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/samples/ar.conf");
        let Ok(expected) = std::fs::read_to_string(path) else {
            println!("skipped: no conformance data");
            return;
        };
        let text = "<ossec_config><command><name>ar-dump</name><executable>ar-dump.sh</executable><expect></expect></command>\
                    <active-response><command>ar-dump</command><location>local</location><timeout>10</timeout></active-response></ossec_config>";
        let (conf, _) = OssecConf::parse(text, "ossec.conf");
        let lines: String =
            of(&conf.commands, &conf.responses).iter().map(|response| format!("{response}\n")).collect();
        assert_eq!(lines, expected);
        assert_eq!(parse(&expected, "ar.conf").0, of(&conf.commands, &conf.responses));
    }

    #[test]
    fn passwords_are_read_and_not_shown() {
        let (list, findings) = passlist("# x\nroot@10.0.0.1|se|cr|et\nu@h|p\nbroken\n", ".passlist");
        assert_eq!((list[0].password.as_str(), list[0].second.as_deref()), ("se", Some("cr|et")));
        assert_eq!((list.len(), format!("{list:?}")), (2, "[Password(root@10.0.0.1), Password(u@h)]".to_owned()));
        assert_eq!(findings.0.len(), 1);
    }
}
