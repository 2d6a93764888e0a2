//! How a manager is set up: `manager.toml`, and the defaults of what it leaves out.
//!
//! The file holds only what an operator may want to change; a value that the command line gives wins over it. A fault
//! is reported with its line and column, all of them at once, so that one edit mends the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tally_ossec::conf::{self, Kind, OssecConf};
use tally_ossec::finding::Severity;
use tally_ossec::keys::Address;
use tally_ossec::native::{self, Fate, Home};
use tally_types::{Diagnostic, Level, did_you_mean};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use delivery::Delivery;
use mail::Mailing;
pub use ossec::OssecConfig;
pub use section::{
    Agentless, Analysis, Command, Forward, LogFiles, Mail, MailRoute, Response, Selection, SyslogInput, Transport,
};
use table::Table;

use crate::response::Responses;

mod delivery;
mod mail;
mod ossec;
mod section;
mod show;
mod table;

/// OSSEC's port for agents: the firewalls of a site that moves over are open for it.
pub const LISTEN_PORT: u16 = 1514;
/// The console's port. Ours by choice: it needs no privilege, and no common server of a host uses it.
pub const CONSOLE_PORT: u16 = 1580;
/// The file's name in the manager's own directory.
pub const CONFIG_FILE: &str = "manager.toml";
/// The manager's own directory in the state directory.
pub const DIRECTORY: &str = "manager";
/// Of what belongs to OSSEC's agents, in the manager's own directory.
pub const OSSEC_DIRECTORY: &str = "ossec";
/// A configuration larger than this is not one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const HEARTBEAT_S: u32 = 10;
const HEARTBEAT_S_RANGE: std::ops::RangeInclusive<u32> = 1..=600;
const ALERT_LEVEL: u32 = 3;
const KEYS: [&str; 18] = [
    "listen",
    "console",
    "heartbeat_s",
    "alert_level",
    "rules",
    "ossec",
    "syslog",
    "analysis",
    "alerts_log",
    "archive",
    "mail",
    "mail_route",
    "forward",
    "command",
    "responses",
    "response",
    "agentless",
    "delivery",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerConfig {
    /// The state directory; the manager's own part is `dir()`.
    pub state: PathBuf,
    /// Where agents reach the manager. `[::]` means every address of the host, by IPv6 and IPv4, and by IPv4 alone where
    /// the kernel has no IPv6.
    pub listen: SocketAddr,
    /// Where the console page is; `None` for no console.
    pub console: Option<SocketAddr>,
    /// How often an agent speaks when it has nothing to say. Three missed ones make it silent.
    pub heartbeat_ms: u32,
    /// An event that matches a rule of this level or above is an alert.
    pub alert_level: Level,
    /// Rule files that are read after the built-in ones.
    pub rules: Vec<PathBuf>,
    pub syslog: Vec<SyslogInput>,
    pub analysis: Analysis,
    pub alerts_log: LogFiles,
    pub archive: LogFiles,
    pub mail: Option<Mail>,
    pub mail_routes: Vec<MailRoute>,
    pub forward: Vec<Forward>,
    pub commands: Vec<Command>,
    pub responses: Vec<Response>,
    /// Addresses that no response may hit.
    pub never: Vec<String>,
    pub agentless: Vec<Agentless>,
    /// Where alerts and events go.
    pub deliveries: Vec<Delivery>,
    /// What the file asks for and does not get, as it is not done yet or has no counterpart: told at each start.
    pub warnings: Vec<Diagnostic>,
    /// How agents of OSSEC's are served.
    pub ossec: OssecConfig,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: a configuration file has at most {FILE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults { faults: Vec<Diagnostic> },
}

impl ManagerConfig {
    /// The defaults, for the state directory `state`.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        let state = state.into();
        let ossec = OssecConfig::new(state.join(DIRECTORY).join(OSSEC_DIRECTORY));
        Self {
            state,
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, LISTEN_PORT)),
            console: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, CONSOLE_PORT))),
            heartbeat_ms: HEARTBEAT_S * 1000,
            alert_level: Level::new(ALERT_LEVEL).unwrap_or(Level::MAX),
            rules: Vec::new(),
            syslog: Vec::new(),
            analysis: Analysis::default(),
            alerts_log: LogFiles::default(),
            archive: LogFiles::default(),
            mail: None,
            mail_routes: Vec::new(),
            forward: Vec::new(),
            commands: Vec::new(),
            responses: Vec::new(),
            never: Vec::new(),
            agentless: Vec::new(),
            deliveries: Vec::new(),
            warnings: Vec::new(),
            ossec,
        }
    }

    /// The configuration of `state`: what its `manager/manager.toml` says, or the defaults where there is none.
    pub fn for_state(state: &Path) -> Result<Self, ConfigError> {
        let path = state.join(DIRECTORY).join(CONFIG_FILE);
        if path.exists() { Self::load(&path, state) } else { Ok(Self::new(state)) }
    }

    /// What the file `path` says, for the state directory `state`.
    pub fn load(path: &Path, state: &Path) -> Result<Self, ConfigError> {
        Self::load_in(path, None, state)
    }

    /// The same; what an `ossec.conf` names is in the directory `root`, and not in the one above its own.
    pub fn load_in(path: &Path, root: Option<&str>, state: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let bytes = std::fs::read(path).map_err(read)?;
        let (text, file) = (String::from_utf8_lossy(&bytes), path.to_string_lossy());
        let (config, faults) = match conf::kind(&text) {
            Some(Kind::OssecConf) => {
                Self::parse_ossec(&text, &file, root.unwrap_or_else(|| native::root_of(&file)), state)
            }
            _ => Self::parse(&text, &file, state),
        };
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults { faults }) }
    }

    /// Reads the text of an `ossec.conf`, as it is translated (docs/configuration.md).
    fn parse_ossec(text: &str, file: &str, root: &str, state: &Path) -> (Self, Vec<Diagnostic>) {
        let (conf, findings) = OssecConf::parse(text, file);
        let is_there = |name: &str| Path::new(root).join(name).exists();
        let translation = native::manager(&conf, &Home { dir: root, is_there: &is_there }, file);
        let (mut config, mut faults) = Self::parse(&translation.text, &format!("{file}, translated"), state);
        for finding in findings.0 {
            match finding.severity {
                Severity::Error => faults.push(finding.diagnostic),
                Severity::Warning => config.warnings.push(finding.diagnostic),
            }
        }
        let left = translation.notes.iter().filter(|note| note.fate == Fate::Left);
        config.warnings.extend(left.map(|note| {
            let message = format!("<{}> has no counterpart: {}", note.element, note.text);
            Diagnostic { file: file.into(), line: note.line, column: 1, message }
        }));
        (config, faults)
    }

    /// Whether one of the keys at the top of `text` is of a manager's file.
    pub fn has_key(text: &str) -> bool {
        DeTable::parse_recoverable(text).0.get_ref().keys().any(|key| KEYS.contains(&key.get_ref().as_ref()))
    }

    /// The manager's own directory.
    pub fn dir(&self) -> PathBuf {
        self.state.join(DIRECTORY)
    }

    /// The addresses to bind for agents: the first that can be bound is used.
    pub fn listen_candidates(&self) -> Vec<SocketAddr> {
        let mut candidates = vec![self.listen];
        if self.listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            candidates.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.listen.port())));
        }
        candidates
    }

    /// Reads the text of a `manager.toml`. With faults, the configuration is what remains without the faulty parts.
    pub fn parse(text: &str, file: &str, state: &Path) -> (Self, Vec<Diagnostic>) {
        let mut reader = Reader { file: file.into(), text, faults: Vec::new() };
        let mut config = Self::new(state);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            reader.fault(offset, error.message());
        }
        for (key, value) in table.get_ref() {
            reader.key(&mut config, key, value);
        }
        for (number, why) in Responses::new(&config).1 {
            reader.fault(config.responses[number].at, why);
        }
        for forward in delivery::forwards(&config.forward) {
            match forward {
                Ok(forward) => config.deliveries.push(forward),
                Err(message) => reader.fault(0, message),
            }
        }
        let mailing = Mailing::new(&config);
        config.deliveries.extend(mailing.delivery);
        for (at, message) in mailing.faults {
            reader.fault(at, message);
        }
        let warning = |(at, message)| Diagnostic::at(&reader.file, reader.text, at, message);
        config.warnings.extend(mailing.warnings.into_iter().map(warning));
        reader.faults.sort_by_key(|f| (f.line, f.column));
        config.warnings.sort_by_key(|f| (f.line, f.column));
        (config, reader.faults)
    }
}

struct Reader<'t> {
    file: Arc<str>,
    text: &'t str,
    faults: Vec<Diagnostic>,
}

impl<'t> Reader<'t> {
    fn fault(&mut self, offset: usize, message: impl Into<String>) {
        self.faults.push(Diagnostic::at(&self.file, self.text, offset, message));
    }

    fn key(
        &mut self,
        config: &mut ManagerConfig,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        match key.get_ref().as_ref() {
            "listen" => self.set(value, address, |a| config.listen = a),
            "console" => self.set(value, console, |a| config.console = a),
            "heartbeat_s" => self.set(value, heartbeat, |s| config.heartbeat_ms = s * 1000),
            "alert_level" => self.set(value, level, |l| config.alert_level = l),
            "rules" => self.set(value, paths, |p| config.rules = p),
            "ossec" => match value.get_ref().as_table() {
                Some(table) => self.ossec(&mut config.ossec, table),
                None => self.fault(value.span().start, "ossec is a table: [ossec]"),
            },
            known if KEYS.contains(&known) => self.section(config, known, key.span().start, value),
            unknown => {
                let near = did_you_mean(unknown, KEYS);
                self.fault(key.span().start, format!("unknown key \"{unknown}\"{near}"));
            }
        }
    }

    /// A table, or several of a kind.
    fn section(&mut self, config: &mut ManagerConfig, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        if let Some((_, why)) = section::NOT_DONE.iter().find(|(table, _)| *table == name) {
            config.warnings.push(Diagnostic::at(&self.file, self.text, at, format!("[{name}] is not done yet: {why}")));
        }
        match name {
            "syslog" => self.tables(value, "[[syslog]]", |table| config.syslog.push(SyslogInput::read(table))),
            "analysis" => config.analysis = self.table(value, "[analysis]").map(Analysis::read).unwrap_or_default(),
            "alerts_log" => {
                config.alerts_log = self.table(value, "[alerts_log]").map(LogFiles::read).unwrap_or_default()
            }
            "archive" => config.archive = self.table(value, "[archive]").map(LogFiles::read).unwrap_or_default(),
            "mail" => config.mail = self.table(value, "[mail]").map(Mail::read),
            "mail_route" => {
                self.tables(value, "[[mail_route]]", |table| config.mail_routes.push(MailRoute::read(table)))
            }
            "forward" => self.tables(value, "[[forward]]", |table| config.forward.extend(Forward::read(table))),
            "command" => self.tables(value, "[[command]]", |table| config.commands.extend(Command::read(table))),
            "response" => self.tables(value, "[[response]]", |table| config.responses.extend(Response::read(table))),
            "responses" => {
                if let Some(mut table) = self.table(value, "[responses]") {
                    config.never = table.strings("never").unwrap_or_default();
                    for name in config.never.iter().filter(|name| Address::parse(name).is_none()) {
                        let what = format!(
                            "responses.never holds addresses and networks; \"{name}\" is none, and spares nobody"
                        );
                        config.warnings.push(Diagnostic::at(&table.reader.file, table.reader.text, at, what));
                    }
                    table.finish();
                }
            }
            "delivery" => self.deliveries(config, value),
            _ => self.tables(value, "[[agentless]]", |table| config.agentless.extend(Agentless::read(table))),
        }
    }

    fn deliveries(&mut self, config: &mut ManagerConfig, value: &Spanned<DeValue<'_>>) {
        let Some(array) = value.get_ref().as_array().filter(|array| array.len() <= delivery::DELIVERIES_MAX) else {
            let most = delivery::DELIVERIES_MAX;
            return self
                .fault(value.span().start, format!("expected at most {most} of [[delivery]], with two brackets"));
        };
        for item in array {
            let Some(read) = Delivery::read(self, item) else { continue };
            if delivery::has_name(&config.deliveries, &read.name) {
                let at = item.span().start;
                self.fault(at, format!("there are two deliveries \"{}\": each has a name of its own", read.name));
            } else {
                config.deliveries.push(read);
            }
        }
    }

    fn table<'s, 'v>(&'s mut self, value: &'v Spanned<DeValue<'v>>, name: &'static str) -> Option<Table<'s, 't, 'v>> {
        Table::new(self, value, name)
    }

    fn tables<'v>(
        &mut self,
        value: &'v Spanned<DeValue<'v>>,
        name: &'static str,
        mut each: impl FnMut(Table<'_, 't, 'v>),
    ) {
        let Some(array) = value.get_ref().as_array().filter(|array| array.len() <= table::ITEMS_MAX) else {
            self.fault(
                value.span().start,
                format!("expected at most {} of {name}, with two brackets", table::ITEMS_MAX),
            );
            return;
        };
        for item in array {
            if let Some(table) = Table::new(self, item, name) {
                each(table);
            }
        }
    }

    fn set<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
        put: impl FnOnce(T),
    ) {
        match read(value.get_ref()) {
            Ok(read) => put(read),
            Err(message) => self.fault(value.span().start, message),
        }
    }
}

fn address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| "an address is written as \"0.0.0.0:1514\" or \"[::]:1514\"".into())
}

fn console(value: &DeValue<'_>) -> Result<Option<SocketAddr>, String> {
    if value.as_str() == Some("off") { Ok(None) } else { address(value).map(Some) }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn heartbeat(value: &DeValue<'_>) -> Result<u32, String> {
    let seconds = integer(value).and_then(|n| u32::try_from(n).ok());
    seconds.filter(|s| HEARTBEAT_S_RANGE.contains(s)).ok_or_else(|| {
        format!("heartbeat_s is a whole number from {} to {}", HEARTBEAT_S_RANGE.start(), HEARTBEAT_S_RANGE.end())
    })
}

fn level(value: &DeValue<'_>) -> Result<Level, String> {
    let number = integer(value).and_then(|n| u32::try_from(n).ok());
    number.and_then(|n| Level::new(n).ok()).ok_or_else(|| "alert_level is a whole number from 0 to 16".into())
}

fn paths(value: &DeValue<'_>) -> Result<Vec<PathBuf>, String> {
    let expected = || "rules is a list of files, such as [\"/etc/tallystick/local_rules.xml\"]".to_owned();
    let list = value.as_array().ok_or_else(expected)?;
    list.iter().map(|v| v.get_ref().as_str().map(PathBuf::from).ok_or_else(expected)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (ManagerConfig, Vec<String>) {
        let (config, faults) = ManagerConfig::parse(text, "manager.toml", Path::new("/s"));
        (config, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_documents_give_as_an_example_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = 0;
        for (document, fence) in [
            ("README.md", "```toml manager.toml\n"),
            ("docs/manager.md", "```toml\n"),
            ("docs/deliveries.md", "```toml\n"),
            ("docs/destinations.md", "```toml\n"),
            ("docs/aws.md", "```toml\n"),
        ] {
            let text = std::fs::read_to_string(root.join(document)).unwrap();
            for example in text.split(fence).skip(1) {
                let example = example.split("```").next().unwrap();
                assert_eq!(parse(example).1, Vec::<String>::new(), "{document}: {example}");
                found += 1;
            }
        }
        assert!(found >= 5, "{found}");
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let (config, faults) = parse("# nothing\n");
        assert_eq!((config, faults), (ManagerConfig::new("/s"), vec![]));
    }

    #[test]
    fn every_key_is_read() {
        let (config, faults) = parse(
            "listen = \"[::1]:2514\"\nconsole = '127.0.0.1:0'\nheartbeat_s = 5\nalert_level = 7\nrules = ['a.xml']\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(config.listen_candidates(), vec!["[::1]:2514".parse().unwrap()]);
        assert_eq!((config.console.unwrap().port(), config.heartbeat_ms, config.alert_level.value()), (0, 5000, 7));
        assert_eq!(config.rules, vec![PathBuf::from("a.xml")]);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let (config, faults) = parse("listn = 1\nheartbeat_s = 0\n\nalert_level = 17\n  console = 'here'\nrules = 4\n");
        assert_eq!(config, ManagerConfig::new("/s"));
        assert_eq!(
            faults,
            [
                "manager.toml:1:1: unknown key \"listn\" (did you mean \"listen\"?)",
                "manager.toml:2:15: heartbeat_s is a whole number from 1 to 600",
                "manager.toml:4:15: alert_level is a whole number from 0 to 16",
                "manager.toml:5:13: an address is written as \"0.0.0.0:1514\" or \"[::]:1514\"",
                "manager.toml:6:9: rules is a list of files, such as [\"/etc/tallystick/local_rules.xml\"]",
            ]
        );
    }

    #[test]
    fn broken_toml_is_told_with_its_place() {
        let (_, faults) = parse("heartbeat_s = \nlisten = '127.0.0.1:1'\n");
        assert!(faults[0].starts_with("manager.toml:1:"), "{faults:?}");
    }

    #[test]
    fn any_address_means_both_families() {
        let tried: Vec<_> = ManagerConfig::new("/s").listen_candidates().iter().map(ToString::to_string).collect();
        assert_eq!(tried, ["[::]:1514", "0.0.0.0:1514"]);
        let (config, _) = parse("listen = '0.0.0.0:9'\nconsole = 'off'");
        assert_eq!((config.listen_candidates().len(), config.console), (1, None));
    }

    #[test]
    fn the_tables_are_read_and_what_is_not_done_is_told() {
        let text = r#"
[ossec]
ciphers = "aes"

[analysis]
rules = ["a"]
[[syslog]]
transport = "tls"
allow = ["10.0.0.0/8"]
[mail]
to = ["a@b"]
[[response]]
command = "drop"
on = ["local"]
level = 7
[[command]]
name = "drop"
program = "/x"
[[agentless]]
program = "/x"
"#;
        let (config, faults) = parse(text);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(config.analysis.rules, [PathBuf::from("a")]);
        assert_eq!(config.syslog[0].listen.to_string(), "[::]:6514");
        assert_eq!((config.mail.unwrap().level, config.responses[0].when.level), (7, Some(7)));
        let told: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        let about = "manager.toml:19:3: [agentless] is not done yet: ";
        assert!(told.iter().any(|fault| fault.starts_with(about)), "{told:?}");
    }

    #[test]
    fn faults_in_tables_are_told() {
        let text = "mail = 4\n[archive]\ntxt = 1\n[[syslog]]\ntransport = 'udpp'\n[[response]]\nlevel = 17\n[forward]\nserver = 'x'\n";
        let expected = [
            "manager.toml:1:8: expected the table [mail], found integer",
            "manager.toml:3:1: unknown key \"txt\" in [archive] (did you mean \"text\"?)",
            "manager.toml:5:13: unknown transport \"udpp\" (did you mean \"udp\"?)",
            "manager.toml:6:1: [[response]] needs command",
            "manager.toml:7:9: level is a whole number from 0 to 16",
            "manager.toml:8:1: expected at most 4096 of [[forward]], with two brackets",
        ];
        assert_eq!(parse(text).1, expected);
    }

    /// What is shown can be read back and means the same.
    #[test]
    fn the_effective_configuration_has_every_default() {
        let (config, _) = parse("[mail]\npassword = 'secret'\n[[forward]]\nserver = 'h:514'\n");
        let shown = config.effective();
        assert_eq!((shown["listen"].as_str(), shown["alert_level"].as_u64()), (Some("[::]:1514"), Some(3)));
        assert_eq!(shown["forward"][0]["format"], "default");
        assert!(!shown.to_string().contains("secret") && !shown.to_string().contains("null"));
    }

    #[test]
    fn an_ossec_conf_is_read_by_the_same_way() {
        let text = "<ossec_config>\n<alerts><log_alert_level>5</log_alert_level></alerts>\n<global><geoipdb>/x</geoipdb>\
                    <emial_to>a</emial_to></global>\n<remote><connection>secure</connection><port>1600</port></remote></ossec_config>";
        let (config, faults) =
            ManagerConfig::parse_ossec(text, "/opt/ossec/etc/ossec.conf", "/opt/ossec", Path::new("/s"));
        assert_eq!(faults, vec![]);
        assert_eq!((config.listen.to_string().as_str(), config.alert_level.value()), ("[::]:1600", 5));
        let told: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        for expected in [
            "/opt/ossec/etc/ossec.conf:3:1: <global/geoipdb> has no counterpart: no database of places is consulted",
            "/opt/ossec/etc/ossec.conf:3:31: warning",
        ] {
            assert!(told.iter().any(|told| told.starts_with(expected.trim_end_matches(" warning"))), "{told:?}");
        }
        let (_, faults) =
            ManagerConfig::parse_ossec("<ossec_config><global><logall>1</logall></global>", "f", "/", Path::new("/s"));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
