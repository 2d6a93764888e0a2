//! The `manager.toml` of an `ossec.conf`: how agents and log lines come in, what analyses them, and where alerts go.

use super::{Fate, Home, Scribe, Translation};
use crate::conf::{
    ActiveResponse, AgentlessState, At, Connection, EmailAlert, Global, OssecConf, Remote, RuleSource, Rules,
    SyslogOutput,
};

/// Sections that only an agent reads.
const AGENT: [&str; 4] = ["syscheck", "rootcheck", "localfile", "client"];
const LOCAL_DECODERS: &str = "etc/local_decoder.xml";

/// Translates what a manager reads.
pub fn manager(conf: &OssecConf, home: &Home<'_>, file: &str) -> Translation {
    let mut scribe = Scribe::default();
    let root = home.dir;
    if let Some(At { value, line }) = &conf.alerts.log_alert_level {
        scribe.toml.number("alert_level", *value);
        scribe.translated(*line, "alerts/log_alert_level", format!("alert_level {value}"));
    }
    remotes(&mut scribe, &conf.remotes, root);
    analysis(&mut scribe, conf, home);
    outputs(&mut scribe, conf);
    mail(&mut scribe, conf);
    for output in &conf.syslog_outputs {
        forward(&mut scribe, output);
    }
    responses(&mut scribe, conf, root);
    agentless(&mut scribe, conf, root);
    left(&mut scribe, conf);
    for name in AGENT.into_iter().filter(|name| conf.has(name)) {
        scribe.note(1, name, Fate::Elsewhere, "for this host's own agent, which reads it from the same file");
    }
    scribe.finish(file)
}

/// `listen`, `[ossec]` and `[[syslog]]`.
fn remotes(scribe: &mut Scribe, remotes: &[Remote], root: &str) {
    let secure = remotes.iter().find(|remote| remote.connection == Connection::Secure);
    if let Some(remote) = secure {
        let ip = remote.local_ip.as_ref().map_or("::", |ip| ip.value.as_str());
        scribe.toml.string("listen", &address(ip, remote.port));
        scribe.toml.table("ossec");
        scribe.toml.string("dir", root.trim_end_matches('/'));
        let accept = remote.crypto_accept.as_ref().map(|accept| accept.value.as_str());
        let ciphers = accept.filter(|accept| *accept != "any").unwrap_or("both");
        scribe.toml.string("ciphers", ciphers);
        let text = format!("listen on port {}, for agents of both kinds; ossec.ciphers {ciphers}", remote.port);
        scribe.translated(remote.line, "remote", text);
        for address in remote.allowed_ips.iter().chain(&remote.denied_ips) {
            scribe.given(
                address.line,
                "remote/allowed-ips",
                "an agent is known by its key; OSSEC reads these for syslog only",
            );
        }
    }
    for remote in remotes.iter().filter(|remote| remote.connection == Connection::Secure).skip(1) {
        scribe.left(remote.line, "remote", "one listener for agents is enough");
    }
    for remote in remotes.iter().filter(|remote| remote.connection == Connection::Syslog) {
        scribe.toml.item("syslog");
        let ip = remote.local_ip.as_ref().map_or("::", |ip| ip.value.as_str());
        scribe.toml.string("listen", &address(ip, remote.port));
        let transport = if remote.is_tcp { "tcp" } else { "udp" };
        scribe.toml.string("transport", transport);
        scribe.toml.strings("allow", remote.allowed_ips.iter().map(|ip| &ip.value));
        if !remote.denied_ips.is_empty() {
            scribe.toml.strings("deny", remote.denied_ips.iter().map(|ip| &ip.value));
        }
        scribe.translated(remote.line, "remote", format!("[[syslog]] on {transport} port {}", remote.port));
    }
}

fn address(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// A file of OSSEC's directory, by its whole path.
fn within(root: &str, directory: &str, name: &str) -> String {
    let root = root.trim_end_matches('/');
    match name {
        name if name.starts_with(&format!("{root}/")) => name.to_owned(),
        name if directory.is_empty() || name.contains('/') => format!("{root}/{}", name.trim_start_matches('/')),
        name => format!("{root}/{directory}/{name}"),
    }
}

/// `[analysis]`.
fn analysis(scribe: &mut Scribe, conf: &OssecConf, home: &Home<'_>) {
    let root = home.dir;
    let Rules { sources } = &conf.rules;
    if sources.is_empty() && conf.global.memory_size.is_none() {
        return;
    }
    scribe.toml.table("analysis");
    let (mut rules, mut decoders, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for At { value, line } in sources {
        let (element, key, list, path) = match value {
            RuleSource::Rule(name) => ("rules/include", "rules", &mut rules, within(root, "rules", name)),
            RuleSource::RuleDir(name, pattern) => {
                ("rules/rule_dir", "rules", &mut rules, directory(root, name, pattern))
            }
            RuleSource::Decoder(name) => ("rules/decoder", "decoders", &mut decoders, within(root, "", name)),
            RuleSource::DecoderDir(name, pattern) => {
                ("rules/decoder_dir", "decoders", &mut decoders, directory(root, name, pattern))
            }
            RuleSource::List(name) => {
                ("rules/list", "lists", &mut lists, within(root, "rules", name.trim_end_matches(".cdb")))
            }
        };
        scribe.notes.push(super::Note {
            line: *line,
            element: element.to_owned(),
            fate: Fate::Translated,
            text: format!("analysis.{key} {path}"),
        });
        list.push(path);
    }
    if decoders.is_empty() {
        decoders.push(within(root, "", "etc/decoder.xml"));
        // A site has it only if it has decoders of its own.
        decoders.extend((home.is_there)(LOCAL_DECODERS).then(|| within(root, "", LOCAL_DECODERS)));
    }
    scribe.toml.strings("decoders", &decoders);
    scribe.toml.strings("rules", &rules);
    if !lists.is_empty() {
        scribe.toml.strings("lists", &lists);
    }
    if let Some(memory) = &conf.global.memory_size {
        scribe.toml.number("remembered_events", memory.value);
        scribe.translated(memory.line, "global/memory_size", "analysis.remembered_events");
    }
}

/// All files of a directory, as one name: the pattern is OSSEC's, `.xml$` where none is given.
fn directory(root: &str, name: &str, pattern: &Option<String>) -> String {
    let path = within(root, "", name);
    match pattern.as_deref() {
        None | Some(".xml$" | "\\.xml$") => format!("{}/*.xml", path.trim_end_matches('/')),
        Some(pattern) => {
            // An OSRegex of plain signs is what most files have: `_rules.xml$`.
            let plain = pattern.trim_end_matches('$').trim_start_matches('^');
            let is_plain = plain.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
            if is_plain { format!("{}/*{plain}", path.trim_end_matches('/')) } else { format!("{path}/*") }
        }
    }
}

/// `[alerts_log]` and `[archive]`.
fn outputs(scribe: &mut Scribe, conf: &OssecConf) {
    let Global { logall, logall_json, jsonout_output, .. } = &conf.global;
    if conf.has("global") || conf.has("alerts") {
        scribe.toml.table("alerts_log");
        scribe.toml.truth("text", true);
        scribe.toml.truth("json", jsonout_output.as_ref().is_some_and(|json| json.value));
    }
    if let Some(json) = jsonout_output {
        scribe.translated(json.line, "global/jsonout_output", format!("alerts_log.json {}", json.value));
    }
    if logall.is_some() || logall_json.is_some() {
        scribe.toml.table("archive");
    }
    for (value, key, element) in [(logall, "text", "global/logall"), (logall_json, "json", "global/logall_json")] {
        if let Some(At { value, line }) = value {
            scribe.toml.truth(key, *value);
            scribe.translated(*line, element, format!("archive.{key} {value}"));
        }
    }
}

/// `[mail]` and `[[mail_route]]`.
fn mail(scribe: &mut Scribe, conf: &OssecConf) {
    let global = &conf.global;
    let is_on = global.email_notification.as_ref().is_some_and(|on| on.value);
    if let Some(on) = &global.email_notification {
        scribe.translated(on.line, "global/email_notification", if on.value { "[mail]" } else { "no [mail]" });
    }
    if is_on || names_mail(global) {
        scribe.toml.table("mail");
        scribe.toml.truth("enabled", is_on);
        mail_keys(scribe, global);
        if let Some(level) = &conf.alerts.email_alert_level {
            scribe.toml.number("level", level.value);
            scribe.translated(level.line, "alerts/email_alert_level", format!("mail.level {}", level.value));
        }
    } else if let Some(level) = &conf.alerts.email_alert_level {
        scribe.given(level.line, "alerts/email_alert_level", "no mail is sent");
    }
    for alert in &conf.email_alerts {
        route(scribe, alert);
    }
}

/// Whether anything of `[mail]` is given, be it on or not: what was typed in is kept.
fn names_mail(global: &Global) -> bool {
    let texts = [
        &global.smtp_server,
        &global.email_from,
        &global.email_reply_to,
        &global.email_idsname,
        &global.helo_server,
        &global.smtp_user,
        &global.smtp_password,
    ];
    !global.email_to.is_empty()
        || texts.into_iter().any(Option::is_some)
        || [&global.email_maxperhour, &global.smtp_port].into_iter().any(Option::is_some)
        || [&global.secure_smtp, &global.smtp_tls_verify, &global.auth_smtp].into_iter().any(Option::is_some)
}

fn mail_keys(scribe: &mut Scribe, global: &Global) {
    if !global.email_to.is_empty() {
        scribe.toml.strings("to", global.email_to.iter().map(|to| &to.value));
        for to in &global.email_to {
            scribe.translated(to.line, "global/email_to", format!("mail.to {}", to.value));
        }
    }
    for (value, key, element) in [
        (&global.smtp_server, "server", "global/smtp_server"),
        (&global.email_from, "from", "global/email_from"),
        (&global.email_reply_to, "reply_to", "global/email_reply_to"),
        (&global.email_idsname, "ids_name", "global/email_idsname"),
        (&global.helo_server, "helo", "global/helo_server"),
        (&global.smtp_user, "user", "global/smtp_user"),
        (&global.smtp_password, "password", "global/smtp_password"),
    ] {
        if let Some(At { value, line }) = value {
            scribe.toml.string(key, value);
            scribe.translated(*line, element, format!("mail.{key}"));
        }
    }
    for (value, key, element) in [
        (&global.email_maxperhour, "per_hour_max", "global/email_maxperhour"),
        (&global.smtp_port, "port", "global/smtp_port"),
    ] {
        if let Some(At { value, line }) = value {
            scribe.toml.number(key, *value);
            scribe.translated(*line, element, format!("mail.{key} {value}"));
        }
    }
    for (value, key, element) in [
        (&global.secure_smtp, "tls", "global/secure_smtp"),
        (&global.smtp_tls_verify, "tls_verify", "global/smtp_tls_verify"),
        (&global.auth_smtp, "authenticate", "global/auth_smtp"),
    ] {
        if let Some(At { value, line }) = value {
            scribe.toml.truth(key, *value);
            scribe.translated(*line, element, format!("mail.{key} {value}"));
        }
    }
    if global.smtp_user.is_some() && global.auth_smtp.is_none() {
        // A user alone makes nobody log in there.
        scribe.toml.truth("authenticate", false);
    }
}

fn route(scribe: &mut Scribe, alert: &EmailAlert) {
    scribe.toml.item("mail_route");
    scribe.toml.strings("to", alert.email_to.iter().map(|to| &to.value));
    if let Some(level) = &alert.level {
        scribe.toml.number("level", level.value);
    }
    if !alert.rule_id.is_empty() {
        scribe.toml.numbers("rules", &alert.rule_id);
    }
    if let Some(group) = &alert.group {
        scribe.toml.string("group", &group.value);
    }
    if let Some(location) = &alert.event_location {
        scribe.toml.string("location", &location.value);
    }
    if alert.do_not_delay || alert.do_not_group {
        scribe.toml.truth("alone", true);
    }
    let to: Vec<_> = alert.email_to.iter().map(|to| to.value.as_str()).collect();
    scribe.translated(alert.line, "email_alerts", format!("[[mail_route]] to {}", to.join(", ")));
    let is_sms = alert.format.as_ref().is_some_and(|format| format.value == "sms");
    if is_sms {
        scribe.toml.string("form", "sms");
    }
    if let Some(format) = alert.format.as_ref().filter(|format| format.value != "default" && !is_sms) {
        scribe.left(format.line, "email_alerts/format", format!("{}: there is one form of mail", format.value));
    }
}

/// `[[forward]]`.
fn forward(scribe: &mut Scribe, output: &SyslogOutput) {
    let toml = &mut scribe.toml;
    toml.item("forward");
    toml.string("server", &address(&output.server, output.port));
    toml.string(
        "transport",
        if output.tls.as_ref().is_some_and(|tls| tls.value) {
            "tls"
        } else if output.is_tcp {
            "tcp"
        } else {
            "udp"
        },
    );
    toml.string("format", output.format.name());
    if let Some(level) = &output.level {
        toml.number("level", level.value);
    }
    if !output.rule_id.is_empty() {
        toml.numbers("rules", &output.rule_id);
    }
    if let Some(group) = &output.group {
        toml.string("group", &group.value);
    }
    if let Some(location) = &output.location {
        toml.string("location", &location.value);
    }
    if let Some(fqdn) = &output.use_fqdn {
        toml.truth("full_host_name", fqdn.value);
    }
    if let Some(verify) = &output.tls_verify {
        toml.truth("tls_verify", verify.value);
    }
    if let Some(ca) = &output.tls_ca {
        toml.string("tls_ca", &ca.value);
    }
    let text = format!("[[forward]] to {} as {}", address(&output.server, output.port), output.format.name());
    scribe.translated(output.line, "syslog_output", text);
}

/// `[[command]]` and `[[response]]`.
fn responses(scribe: &mut Scribe, conf: &OssecConf, root: &str) {
    for command in &conf.commands {
        scribe.toml.item("command");
        scribe.toml.string("name", &command.name);
        scribe.toml.string("program", &within(root, "active-response/bin", &command.executable));
        let expect = command.expect;
        let words = [(expect.user, "user"), (expect.srcip, "srcip"), (expect.filename, "filename")];
        scribe.toml.strings("expect", words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word));
        scribe.toml.truth("timeout_allowed", command.timeout_allowed);
        scribe.translated(command.line, "command", format!("[[command]] {}", command.name));
    }
    for address in &conf.global.allow_list {
        scribe.translated(address.line, "global/white_list", format!("responses.never {}", address.value));
    }
    if !conf.global.allow_list.is_empty() {
        scribe.toml.table("responses");
        scribe.toml.strings("never", conf.global.allow_list.iter().map(|address| &address.value));
    }
    for response in &conf.responses {
        self::response(scribe, response);
    }
}

fn response(scribe: &mut Scribe, response: &ActiveResponse) {
    if response.disabled.as_ref().is_some_and(|disabled| disabled.value) {
        scribe.translated(response.line, "active-response", "it is disabled: no [[response]]");
        return;
    }
    let (Some(command), Some(location)) = (&response.command, &response.location) else {
        let text = "without a command: each [[response]] has its own repeated_minutes, and agents say themselves what they run";
        scribe.left(response.line, "active-response", text);
        return;
    };
    // Of several conditions one is enough there, and all are needed here: each has a response of its own.
    let conditions = [response.level.is_some(), !response.rules_id.is_empty(), response.rules_group.is_some()];
    if conditions == [false; 3] {
        scribe.left(response.line, "active-response", "it has no level, rules_id or rules_group, and so is never run");
        return;
    }
    for (nth, _) in conditions.into_iter().enumerate().filter(|(_, is_given)| *is_given) {
        let toml = &mut scribe.toml;
        toml.item("response");
        toml.string("command", &command.value);
        let at = location.value;
        let words = [(at.all, "all"), (at.local, "local"), (at.defined_agent, "agent"), (at.server, "manager")];
        toml.strings("on", words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word));
        if let Some(agent) = response.agent_id.as_ref().filter(|_| at.defined_agent) {
            toml.string("agent", &agent.value);
        }
        match (nth, &response.level, &response.rules_group) {
            (0, Some(level), _) => toml.number("level", level.value),
            (2, _, Some(group)) => toml.string("group", &group.value),
            _ => toml.numbers("rules", &response.rules_id),
        }
        if let Some(timeout) = &response.timeout {
            toml.number("timeout_s", timeout.value);
        }
        if !response.repeated_offenders.is_empty() {
            toml.numbers("repeated_minutes", &response.repeated_offenders);
        }
    }
    scribe.translated(response.line, "active-response", format!("[[response]] with {}", command.value));
}

/// `[[agentless]]`.
fn agentless(scribe: &mut Scribe, conf: &OssecConf, root: &str) {
    for agentless in &conf.agentless {
        let toml = &mut scribe.toml;
        toml.item("agentless");
        toml.string("program", &within(root, "agentless", &agentless.kind));
        toml.strings("hosts", agentless.hosts.iter().map(|host| &host.value));
        toml.string("every", &format!("{}s", agentless.frequency_s));
        toml.truth("diff", agentless.state == AgentlessState::PeriodicDiff);
        if let Some(port) = &agentless.port {
            toml.number("port", port.value);
        }
        if let Some(arguments) = &agentless.arguments {
            toml.string("arguments", &arguments.value);
        }
        if let Some(command) = &agentless.run_command {
            toml.string("run", &command.value);
        }
        scribe.translated(agentless.line, "agentless", format!("[[agentless]] {}", agentless.kind));
    }
}

/// What has no counterpart.
fn left(scribe: &mut Scribe, conf: &OssecConf) {
    let global = &conf.global;
    for (value, element) in [
        (&global.integrity_checking, "global/integrity_checking"),
        (&global.rootkit_detection, "global/rootkit_detection"),
        (&global.host_information, "global/host_information"),
    ] {
        if let Some(value) = value {
            scribe.left(value.line, element, "rules give levels, here as in OSSEC since version 1");
        }
    }
    if let Some(stats) = &global.stats {
        scribe.left(stats.line, "global/stats", "there are no alerts about numbers of events");
    }
    if let Some(compress) = &global.compress_alerts {
        scribe.left(compress.line, "global/compress_alerts", "finished days are compressed");
    }
    let texts = [
        (
            &global.custom_alert_output,
            "global/custom_alert_output",
            "alerts have OSSEC's text, JSON, or a forwarded form",
        ),
        (&global.geoipdb, "global/geoipdb", "no database of places is consulted"),
        (&global.geoip_db_path, "global/geoip_db_path", "no database of places is consulted"),
        (&global.geoip6_db_path, "global/geoip6_db_path", "no database of places is consulted"),
        (&global.prelude_profile, "global/prelude_profile", "there is no output to Prelude"),
        (&global.zeromq_uri, "global/zeromq_uri", "there is no output to ZeroMQ"),
        (&global.zeromq_server_cert, "global/zeromq_server_cert", "there is no output to ZeroMQ"),
        (&global.zeromq_client_cert, "global/zeromq_client_cert", "there is no output to ZeroMQ"),
        (
            &global.md5_allowlist,
            "global/md5_allowlist",
            "changes are accepted with tally promote, not by a list of MD5 sums",
        ),
    ];
    for (value, element, why) in texts {
        if let Some(value) = value {
            scribe.left(value.line, element, why);
        }
    }
    for (value, element, why) in [
        (&global.prelude_output, "global/prelude_output", "there is no output to Prelude"),
        (&global.zeromq_output, "global/zeromq_output", "there is no output to ZeroMQ"),
        (&conf.alerts.use_geoip, "alerts/use_geoip", "no database of places is consulted"),
    ] {
        if let Some(value) = value {
            scribe.left(value.line, element, why);
        }
    }
    if let Some(level) = &global.prelude_log_level {
        scribe.left(level.line, "global/prelude_log_level", "there is no output to Prelude");
    }
    for report in &conf.reports {
        scribe.left(report.line, "reports", "no reports are mailed; tally alert list answers the same questions");
    }
    for database in &conf.databases {
        let why = "the manager's own database holds the alerts; others read them as JSON";
        scribe.left(database.line, "database_output", why);
    }
}
