//! The `agent.toml` of an `ossec.conf`: what is watched, which logs are read, what is checked.

use super::{Scribe, Translation, watch};
use crate::conf::{At, LocalFile, LogFormat, OssecConf, Rootcheck, Syscheck};

/// Sections that only a manager reads.
const MANAGER: [&str; 10] = [
    "global",
    "alerts",
    "email_alerts",
    "reports",
    "rules",
    "remote",
    "command",
    "agentless",
    "syslog_output",
    "database_output",
];

/// Of `repeated_minutes`: docs/policy.md.
const REPEATED_MINUTES_MAX: u32 = 31 * 24 * 60;

/// Translates what an agent reads. `file` is the file's name as it shall stand in the text.
pub fn agent(conf: &OssecConf, file: &str) -> Translation {
    let mut scribe = Scribe::default();
    let watches = !conf.syscheck.disabled.as_ref().is_some_and(|disabled| disabled.value);
    if watches {
        let globs = watch::excludes(&mut scribe, &conf.syscheck);
        if !globs.is_empty() {
            scribe.toml.strings("exclude", &globs);
        }
    }
    own(&mut scribe, conf, watches);
    responses(&mut scribe, conf, file);
    if watches {
        watch::watches(&mut scribe, &conf.syscheck, file);
    }
    rest_of_syscheck(&mut scribe, &conf.syscheck);
    collect(&mut scribe, &conf.localfiles);
    checks(&mut scribe, &conf.rootcheck);
    for name in MANAGER.into_iter().filter(|name| conf.has(name)) {
        scribe.note(1, name, super::Fate::Elsewhere, "for the manager, which reads it from the same file");
    }
    scribe.finish(file)
}

/// `[agent]`.
fn own(scribe: &mut Scribe, conf: &OssecConf, watches: bool) {
    let client = &conf.client;
    let interval = if watches { watch::scan_interval(scribe, &conf.syscheck) } else { None };
    if interval.is_some() || !client.servers.is_empty() {
        scribe.toml.table("agent");
    }
    let port = client.port.as_ref().map(|port| port.value);
    for (place, server) in client.servers.iter().enumerate() {
        if place == 0 {
            let address = match port {
                Some(port) if server.value.contains(':') => format!("[{}]:{port}", server.value),
                Some(port) => format!("{}:{port}", server.value),
                None => server.value.clone(),
            };
            scribe.toml.string("manager", &address);
            let text = "the manager's address; the agent still enrols with a token of that manager";
            scribe.translated(server.line, "client/server-ip", text);
        } else {
            let text = "an agent has one manager; it keeps its events until that answers";
            scribe.left(server.line, "client/server-ip", text);
        }
    }
    if let Some(port) = &client.port {
        scribe.translated(port.line, "client/port", "part of the manager's address");
    }
    if let Some(interval) = interval {
        scribe.toml.string("scan_interval", &interval);
    }
    let texts = [
        (&client.local_ip, "client/local_ip", "the system chooses the address to speak from"),
        (&client.config_profile, "client/config-profile", "the agent's group, given by its token, chooses its policy"),
        (&client.crypto_method, "client/crypto_method", "agents and manager speak QUIC with TLS 1.3"),
    ];
    for (value, element, why) in texts {
        if let Some(value) = value {
            scribe.left(value.line, element, why);
        }
    }
    if let Some(time) = &client.notify_time {
        scribe.left(time.line, "client/notify_time", "the manager says how often its agents speak (heartbeat_s)");
    }
    if let Some(time) = &client.time_reconnect {
        scribe.given(time.line, "client/time-reconnect", "an agent reconnects at once, and then ever more slowly");
    }
}

/// `[agent.responses]`: OSSEC's agents run what their manager says unless they are told not to; these only if they are told to.
fn responses(scribe: &mut Scribe, conf: &OssecConf, file: &str) {
    let refused = conf.client.disable_active_response.as_ref().filter(|disabled| disabled.value);
    let switches = conf.responses.iter().filter_map(|response| response.disabled.as_ref());
    let is_off = refused.is_some() || switches.clone().any(|disabled| disabled.value);
    let is_on = !is_off && switches.clone().any(|disabled| !disabled.value);
    if is_on {
        let root = file.strip_suffix("/etc/ossec.conf").filter(|root| root.starts_with('/')).unwrap_or("/var/ossec");
        let repeated: Vec<u32> = conf
            .responses
            .iter()
            .flat_map(|response| &response.repeated_offenders)
            .map(|minutes| (*minutes).clamp(1, REPEATED_MINUTES_MAX))
            .collect();
        scribe.toml.table("agent.responses");
        scribe.toml.strings("allow", ["*"]);
        scribe.toml.string("dir", &format!("{root}/active-response/bin"));
        if !repeated.is_empty() {
            scribe.toml.numbers("repeated_minutes", &repeated);
        }
    }
    if let Some(disabled) = &conf.client.disable_active_response {
        scribe.given(
            disabled.line,
            "client/disable-active-response",
            "no response is run unless [agent.responses] allows it",
        );
    }
    for response in &conf.responses {
        match &response.disabled {
            Some(disabled) if is_on && !disabled.value => {
                scribe.translated(
                    response.line,
                    "active-response",
                    "[agent.responses]: every program of active-response/bin",
                );
            }
            Some(disabled) if disabled.value => {
                scribe.given(response.line, "active-response", "no response is run unless [agent.responses] allows it");
            }
            _ => {
                let text = "the manager chooses responses; this host runs none unless <disabled> is \"no\" here";
                scribe.note(response.line, "active-response", super::Fate::Elsewhere, text);
            }
        }
    }
}

fn rest_of_syscheck(scribe: &mut Scribe, syscheck: &Syscheck) {
    if let Some(disabled) = &syscheck.disabled {
        let text = "an agent always watches something: without watches the built-in profile linux-base";
        if disabled.value {
            scribe.left(disabled.line, "syscheck/disabled", text);
        } else {
            scribe.given(disabled.line, "syscheck/disabled", "it is on");
        }
    }
    for key in &syscheck.windows_registry {
        scribe.left(key.line, "syscheck/windows_registry", "there is no agent for Windows yet");
    }
    for key in &syscheck.registry_ignore {
        scribe.left(key.line, "syscheck/registry_ignore", "there is no agent for Windows yet");
    }
    if let Some(filter) = &syscheck.prefilter_cmd {
        scribe.left(
            filter.line,
            "syscheck/prefilter_cmd",
            "no foreign program is run; changes are accepted with tally promote",
        );
    }
    if let Some(start) = &syscheck.scan_on_start {
        if start.value {
            scribe.given(start.line, "syscheck/scan_on_start", "each start compares with what was recorded");
        } else {
            scribe.left(
                start.line,
                "syscheck/scan_on_start",
                "each start compares with what was recorded, to leave no gap",
            );
        }
    }
    if let Some(skip) = &syscheck.skip_nfs {
        scribe.given(skip.line, "syscheck/skip_nfs", "a watch names what it covers: exclude the mount if it shall not");
    }
    if let Some(auto) = &syscheck.auto_ignore {
        if auto.value {
            scribe.left(auto.line, "syscheck/auto_ignore", "no change is silenced because there were others before it");
        } else {
            scribe.given(
                auto.line,
                "syscheck/auto_ignore",
                "no change is silenced because there were others before it",
            );
        }
    }
    if let Some(alert) = &syscheck.alert_new_files {
        if alert.value {
            scribe.given(
                alert.line,
                "syscheck/alert_new_files",
                "a new file is a change, and alerted as rule 554 says",
            );
        } else {
            let text = "a new file is a change, and alerted as rule 554 says: a rule of your own can silence it";
            scribe.left(alert.line, "syscheck/alert_new_files", text);
        }
    }
}

/// `[[collect]]`.
fn collect(scribe: &mut Scribe, localfiles: &[LocalFile]) {
    for localfile in localfiles {
        if let Err(why) = collect_one(scribe, localfile) {
            scribe.left(localfile.line, "localfile", why);
        }
        if let Some(only) = &localfile.only_future_events {
            scribe.left(only.line, "localfile/only-future-events", "of Windows event channels only");
        }
        if let Some(query) = &localfile.query {
            scribe.left(query.line, "localfile/query", "of Windows event channels only");
        }
    }
}

/// The native name of a format, or none for one that is not there.
fn format_name(format: LogFormat) -> Option<String> {
    Some(match format {
        LogFormat::Eventlog | LogFormat::Eventchannel => return None,
        LogFormat::SyslogPipe | LogFormat::MultiLine(1) => "syslog".into(),
        LogFormat::MultiLine(_) => "multi-line".into(),
        LogFormat::MultiLineIndented => "indented".into(),
        LogFormat::MysqlLog => "mysql".into(),
        LogFormat::MssqlLog => "mssql".into(),
        LogFormat::PostgresqlLog => "postgresql".into(),
        LogFormat::Nmapg => "nmap".into(),
        LogFormat::Ossecalert => "ossec-alert".into(),
        LogFormat::FullCommand => "full-command".into(),
        other => other.name(),
    })
}

fn collect_one(scribe: &mut Scribe, localfile: &LocalFile) -> Result<(), String> {
    let LocalFile { format, location, .. } = localfile;
    let name = format_name(*format).ok_or("there is no agent for Windows yet")?;
    let (key, source) = match format {
        format if format.is_command() => ("command", location.as_str()),
        LogFormat::Journald if location == "all" || location.starts_with('/') => ("journal", "*"),
        LogFormat::Journald => ("journal", location.as_str()),
        _ if !location.starts_with('/') => return Err(format!("\"{location}\" is no path of this system")),
        _ => ("path", location.as_str()),
    };
    let toml = &mut scribe.toml;
    toml.item("collect");
    toml.string(key, source);
    if *format != LogFormat::Journald {
        toml.string("format", &name);
    }
    if let LogFormat::MultiLine(lines @ 2..) = format {
        toml.number("lines", *lines);
    }
    if let (true, Some(At { value, .. })) = (format.is_command(), &localfile.frequency_s) {
        toml.string("every", &format!("{}s", value.clamp(&1, &EVERY_S_MAX)));
    }
    if let Some(At { value, .. }) = &localfile.alias {
        toml.string("alias", value);
    }
    scribe.translated(localfile.line, "localfile", format!("collect {key} {source} as {name}"));
    Ok(())
}

/// Of the native form: docs/policy.md.
const EVERY_S_MAX: u32 = 604_800;

/// What `<rootcheck>` asks for is not there yet, and each of its elements says so.
fn checks(scribe: &mut Scribe, rootcheck: &Rootcheck) {
    const WHY: &str = "not done yet: no check for rootkits or of policies is run";
    for (list, element) in [
        (&rootcheck.rootkit_files, "rootcheck/rootkit_files"),
        (&rootcheck.rootkit_trojans, "rootcheck/rootkit_trojans"),
        (&rootcheck.system_audit, "rootcheck/system_audit"),
        (&rootcheck.windows_audit, "rootcheck/windows_audit"),
        (&rootcheck.windows_apps, "rootcheck/windows_apps"),
        (&rootcheck.windows_malware, "rootcheck/windows_malware"),
        (&rootcheck.ignore, "rootcheck/ignore"),
    ] {
        for item in list {
            scribe.left(item.line, element, WHY);
        }
    }
    for (value, element) in [
        (&rootcheck.scanall, "rootcheck/scanall"),
        (&rootcheck.readall, "rootcheck/readall"),
        (&rootcheck.skip_nfs, "rootcheck/skip_nfs"),
    ] {
        if let Some(value) = value {
            scribe.left(value.line, element, WHY);
        }
    }
    if let Some(disabled) = &rootcheck.disabled {
        let fate = if disabled.value { super::Fate::Given } else { super::Fate::Left };
        scribe.note(disabled.line, "rootcheck/disabled", fate, WHY);
    }
    if let Some(frequency) = &rootcheck.frequency {
        scribe.left(frequency.line, "rootcheck/frequency", WHY);
    }
    if let Some(base) = &rootcheck.base_directory {
        scribe.left(base.line, "rootcheck/base_directory", WHY);
    }
    for (name, is) in &rootcheck.checks {
        let fate = if is.value { super::Fate::Left } else { super::Fate::Given };
        scribe.note(is.line, &format!("rootcheck/{name}"), fate, WHY);
    }
}
