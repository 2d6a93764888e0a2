//! AWS Security Finding Format: what Security Hub takes, one finding a message. Source: the reference of ASFF, schema
//! 2018-10-08, with its lengths.
//!
//! A finding belongs to the account and region whose default product it names: those of the instance where they are
//! known, else those of the destination.

use serde_json::{Value, json};
use tally_types::{Algorithm, Change, EventBody};

use super::subject::{Grade, cut, digest, exact, ips, latest, line, pruned};
use crate::Message;

const SCHEMA: &str = "2018-10-08";
const TITLE_BYTES_MAX: usize = 256;
const DESCRIPTION_BYTES_MAX: usize = 1024;
const FIELD_BYTES_MAX: usize = 1024;

/// To whom a finding is given.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: &'a str,
    pub region: &'a str,
    pub account: &'a str,
}

impl Site<'_> {
    pub fn product(&self) -> String {
        let Self { partition, region, account } = self;
        format!("arn:{partition}:securityhub:{region}:{account}:product/{account}/default")
    }
}

/// One finding; its `Id` is the message's.
pub fn asff(message: &Message, site: &Site<'_>) -> Value {
    let label = match message.grade() {
        Grade::Informational => "INFORMATIONAL",
        Grade::Low => "LOW",
        Grade::Medium => "MEDIUM",
        Grade::High => "HIGH",
        Grade::Critical => "CRITICAL",
    };
    let rule = message.rule().map_or_else(|| "event".to_owned(), |rule| rule.id.to_string());
    let created = message.happened().to_string();
    let told = message.alert.as_ref().map_or(message.received, |alert| alert.time);
    let updated = if message.is_over { message.received } else { told };
    // The provider archives; who looks at findings sets their workflow, except when one is new.
    let (workflow, state) = if message.is_over { ("RESOLVED", "ARCHIVED") } else { ("NEW", "ACTIVE") };
    let severity = json!({ "Label": label, "Original": message.level().unwrap_or(0).to_string() });
    let types = [kind(message)];
    pruned(json!({
        "SchemaVersion": SCHEMA,
        "Id": cut(message.id.to_string(), 512),
        "ProductArn": site.product(),
        "ProductName": "Tallystick",
        "CompanyName": "Tallystick",
        "GeneratorId": format!("tallystick/rule/{rule}"),
        "AwsAccountId": site.account,
        "Region": site.region,
        "Types": types,
        "CreatedAt": created,
        "UpdatedAt": updated.max(message.happened()).to_string(),
        "FirstObservedAt": created,
        "LastObservedAt": created,
        "Severity": severity,
        "Title": cut(message.title(), TITLE_BYTES_MAX),
        "Description": cut(message.sentence(), DESCRIPTION_BYTES_MAX),
        "Resources": [resource(message, site)],
        "Process": process(message),
        "ProductFields": product_fields(message),
        "FindingProviderFields": { "Severity": severity, "Types": types },
        "Workflow": { "Status": workflow },
        "RecordState": state,
    }))
}

fn kind(message: &Message) -> &'static str {
    match &message.event.body {
        EventBody::Change(_) => "Unusual Behaviors/VM",
        EventBody::Log(_) => "TTPs",
        EventBody::Life(_) => "Software and Configuration Checks",
    }
}

fn resource(message: &Message, site: &Site<'_>) -> Value {
    let agent = &message.agent;
    let cloud = agent.cloud.as_ref();
    let region = cloud.and_then(|cloud| cloud.region.as_deref()).unwrap_or(site.region);
    let (kind, id) = match cloud.and_then(|cloud| cloud.instance.as_deref()) {
        Some(instance) => {
            let account = cloud.and_then(|cloud| cloud.account.as_deref()).unwrap_or(site.account);
            ("AwsEc2Instance", format!("arn:{}:ec2:{region}:{account}:instance/{instance}", site.partition))
        }
        None => ("Other", format!("tallystick/{}/agent/{}", line(&message.manager, 255), agent.id)),
    };
    let change = message.change();
    json!({
        "Type": kind,
        "Id": id,
        "Partition": site.partition,
        "Region": region,
        "Details": {
            "AwsEc2Instance": (kind == "AwsEc2Instance").then(|| instance(message)),
            "Other": pruned(json!({
                "host": line(message.host(), FIELD_BYTES_MAX),
                "hostname": agent.hostname.as_deref().map(|name| line(name, FIELD_BYTES_MAX)),
                "os": agent.os.as_deref().map(|os| line(os, FIELD_BYTES_MAX)),
                "path": change.map(|change| cut(change.path.to_string(), FIELD_BYTES_MAX)),
                "sha256": change.and_then(latest).and_then(|entry| digest(entry, Algorithm::Sha256)),
            })),
        },
    })
}

fn instance(message: &Message) -> Value {
    let cloud = message.agent.cloud.as_ref();
    let (six, four): (Vec<_>, Vec<_>) = ips(message).into_iter().partition(|ip| ip.contains(':'));
    json!({
        "Type": cloud.and_then(|cloud| cloud.machine.as_deref()),
        "ImageId": cloud.and_then(|cloud| cloud.image.as_deref()),
        "IpV4Addresses": four,
        "IpV6Addresses": six,
    })
}

fn process(message: &Message) -> Value {
    let Some(actor) = message.actor() else { return Value::Null };
    let exe = actor.exe.as_deref().map(String::from_utf8_lossy);
    json!({
        "Name": exe.as_deref().and_then(|exe| exe.rsplit('/').next()).map(|name| line(name, 64)),
        "Path": exe.as_deref().map(|exe| line(exe, 512)),
        "Pid": actor.pid,
        "ParentPid": actor.ppid,
    })
}

fn product_fields(message: &Message) -> Value {
    let text = |text: String| cut(text, FIELD_BYTES_MAX);
    let of_change = |change: &Change| {
        json!({
            "tallystick/Path": text(change.path.to_string()),
            // Base64 that is cut is none.
            "tallystick/PathBase64": exact(change.path.as_bytes()).filter(|exact| exact.len() <= FIELD_BYTES_MAX),
            "tallystick/Change": change.kind.name(),
            "tallystick/Verdict": message.verdict.name(),
            "tallystick/SHA256": latest(change).and_then(|entry| digest(entry, Algorithm::Sha256)),
            "tallystick/Actor": change.actors.first().map(|actor| text(super::subject::actor_words(actor))),
        })
    };
    let mut fields = message.change().map_or_else(|| json!({}), of_change);
    if let Some(rule) = message.rule() {
        fields["tallystick/Level"] = rule.level.to_string().into();
        let norms: Vec<_> = rule.pci_dss.iter().map(|item| &**item).collect();
        fields["tallystick/PciDss"] = (!norms.is_empty()).then(|| text(norms.join(","))).into();
    }
    if let Some(log) = message.log() {
        fields["tallystick/Log"] = text(line(&String::from_utf8_lossy(&log.text), FIELD_BYTES_MAX)).into();
        fields["tallystick/Location"] = line(&log.location, FIELD_BYTES_MAX).into();
    }
    fields["tallystick/Manager"] = line(&message.manager, FIELD_BYTES_MAX).into();
    fields["tallystick/LedgerIndex"] = message.index.to_string().into();
    fields
}
