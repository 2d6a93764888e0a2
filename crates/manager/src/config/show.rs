//! The configuration as one JSON object, with every default in its place: what `tally config show --effective` prints.

use serde_json::{Map, Value, json};

use tally_delivery::Secret;
use tally_ossec::station::Accept;

use super::{
    Agentless, Command, Forward, LogFiles, Mail, MailRoute, ManagerConfig, OssecConfig, Response, Selection,
    SyslogInput,
};

impl ManagerConfig {
    /// The keys are those of the file; what is off or not given is left out. A password is not shown.
    pub fn effective(&self) -> Value {
        let mut out = object(json!({
            "listen": self.listen.to_string(),
            "console": self.console.map_or_else(|| "off".to_owned(), |console| console.to_string()),
            "heartbeat_s": self.heartbeat_ms / 1000,
            "alert_level": self.alert_level.value(),
            "rules": self.rules,
            "ossec": ossec(self),
            "analysis": {
                "decoders": self.analysis.decoders,
                "rules": self.analysis.rules,
                "lists": self.analysis.lists,
                "remembered_events": self.analysis.remembered_events,
            },
            "alerts_log": files(&self.alerts_log),
            "archive": files(&self.archive),
            "mail": self.mail.as_ref().map(mail),
            "responses": { "never": self.never },
        }));
        let lists = [
            ("syslog", self.syslog.iter().map(syslog).collect::<Vec<_>>()),
            ("mail_route", self.mail_routes.iter().map(route).collect()),
            ("forward", self.forward.iter().map(forward).collect()),
            ("command", self.commands.iter().map(command).collect()),
            ("response", self.responses.iter().map(response).collect()),
            ("agentless", self.agentless.iter().map(agentless).collect()),
            (
                "delivery",
                self.deliveries
                    .iter()
                    .map(|delivery| delivery.shown.clone())
                    .filter(|shown| !shown.is_null())
                    .collect(),
            ),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            out.insert(name.to_owned(), Value::Array(list));
        }
        let mut out = Value::Object(out);
        without_nothing(&mut out);
        out
    }
}

fn ossec(config: &ManagerConfig) -> Value {
    let OssecConfig { dir, ciphers, group, resend, authd, authd_password, authd_source_address } = &config.ossec;
    json!({
        "dir": dir,
        "ciphers": match ciphers {
            Accept::Both => "both",
            Accept::Only(cipher) => cipher.name(),
        },
        "group": **group,
        "resend": resend.name(),
        "authd": authd.map_or_else(|| "off".to_owned(), |authd| authd.to_string()),
        "authd_password": authd_password,
        "authd_source_address": authd_source_address,
    })
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

/// Takes out what is `null`, which TOML has no word for.
fn without_nothing(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nothing);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nothing),
        _ => {}
    }
}

fn syslog(input: &SyslogInput) -> Value {
    json!({
        "listen": input.listen.to_string(),
        "transport": input.transport.name(),
        "allow": input.allow,
        "deny": input.deny,
        "certificate": input.certificate,
        "key": input.key,
    })
}

fn files(files: &LogFiles) -> Value {
    json!({ "text": files.text, "json": files.json, "dir": files.dir, "compress": !files.keep_plain })
}

fn mail(mail: &Mail) -> Value {
    json!({
        "enabled": mail.enabled,
        "to": mail.to,
        "from": mail.from,
        "reply_to": mail.reply_to,
        "ids_name": mail.ids_name,
        "server": mail.server,
        "port": mail.port,
        "helo": mail.helo,
        "user": mail.user,
        "password": mail.password.as_ref().map(secret),
        "authenticate": mail.authenticate,
        "tls": mail.tls,
        "tls_verify": mail.tls_verify,
        "per_hour_max": mail.per_hour_max,
        "level": mail.level,
    })
}

/// Where it is; one that stands in the file is not shown.
fn secret(secret: &Secret) -> Value {
    match (secret, secret.to_string().split_once(' ')) {
        (Secret::Given(_), _) | (_, None) => json!("…"),
        (_, Some((place, name))) => json!({ place: name }),
    }
}

/// Adds the conditions of `when`.
fn selected(value: Value, when: &Selection) -> Value {
    let mut out = object(value);
    out.insert("level".into(), json!(when.level));
    if !when.rules.is_empty() {
        out.insert("rules".into(), json!(when.rules));
    }
    out.insert("group".into(), json!(when.group));
    out.insert("location".into(), json!(when.location));
    Value::Object(out)
}

fn route(route: &MailRoute) -> Value {
    let form = if route.sms { "sms" } else { "full" };
    selected(json!({ "to": route.to, "alone": route.alone, "form": form }), &route.when)
}

fn forward(forward: &Forward) -> Value {
    let value = json!({
        "server": forward.server,
        "transport": forward.transport.name(),
        "format": forward.format,
        "full_host_name": forward.full_host_name,
        "tls_verify": forward.tls_verify,
        "tls_ca": forward.tls_ca,
    });
    selected(value, &forward.when)
}

fn command(command: &Command) -> Value {
    json!({
        "name": command.name,
        "program": command.program,
        "expect": command.expect,
        "timeout_allowed": command.timeout_allowed,
    })
}

fn response(response: &Response) -> Value {
    let value = json!({
        "command": response.command,
        "on": response.on,
        "agent": response.agent,
        "timeout_s": response.timeout_s,
        "repeated_minutes": response.repeated_minutes,
    });
    selected(value, &response.when)
}

fn agentless(agentless: &Agentless) -> Value {
    json!({
        "program": agentless.program,
        "hosts": agentless.hosts,
        "every": format!("{}s", agentless.every_s),
        "diff": agentless.diff,
        "port": agentless.port,
        "arguments": agentless.arguments,
        "run": agentless.run,
    })
}
