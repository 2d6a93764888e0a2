//! The schemas that others have published: OCSF's by its compiled JSON schemas (PyPI `ocsf-json-schema`), ECS's by its types
//! (npm `@elastic/ecs`, by the TypeScript compiler). `cargo xtask test` installs both.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::*;
use crate::tool::tool;

/// Prints a line for each fault; also says that it sees a fault where there is one.
const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
NAMES = {1001: "file_activity", 2004: "detection_finding"}
count = 0
schemas = {v: OcsfJsonSchemaEmbedded(get_ocsf_schema(version=v)) for v in ("1.3.0", "1.8.0")}
validators = {}
for line in sys.stdin:
    event = json.loads(line)
    for version, schema in schemas.items():
        key = (version, event["class_uid"], tuple(event["metadata"]["profiles"]))
        if key not in validators:
            validators[key] = Draft202012Validator(schema.get_class_schema(NAMES[key[1]], profiles=list(key[2])))
        for error in validators[key].iter_errors(event):
            print(version, event["metadata"]["uid"], list(error.absolute_path), error.message[:300])
        count += 1
print("validated", count)
"#;

fn validated(python: &Path, events: &[Value]) -> Vec<String> {
    let mut command = Command::new(python);
    command.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for event in events {
        writeln!(input, "{event}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn ocsf_is_valid_by_two_published_schemas() {
    let Some(python) = tool("python/bin/python") else { return };
    let mut events: Vec<Value> = sample::all().iter().map(|(_, message)| ocsf::value(message)).collect();
    for sort in 0..4 {
        let bytes: Vec<u8> = (0..=255).collect();
        events.push(ocsf::value(&with_bytes(&bytes, sort)));
    }
    let count = events.len() * 2;
    assert_eq!(validated(&python, &events), [format!("validated {count}")]);
    // A validator that sees nothing would prove nothing.
    let mut broken = events.swap_remove(0);
    assert_eq!(broken["class_uid"], 1001);
    broken.as_object_mut().unwrap().remove("actor");
    broken["nonsense"] = true.into();
    let faults = validated(&python, &[broken]);
    assert!(faults.len() > 4 && faults[0].contains("actor") || faults[0].contains("nonsense"), "{faults:?}");
}

/// botocore's own check of a call's parameters, which knows every member of a finding and its type.
const CALL: &str = r#"
import json, sys, botocore.session, botocore.validate
service = botocore.session.get_session().get_service_model("securityhub")
shape = service.operation_model("BatchImportFindings").input_shape
report = botocore.validate.ParamValidator().validate({"Findings": json.load(sys.stdin)}, shape)
print(report.generate_report())
"#;

#[test]
fn asff_is_what_the_model_of_the_service_takes() {
    let Some(python) = tool("python/bin/python") else { return };
    let told = |findings: &[Value]| {
        let mut child =
            Command::new(&python).args(["-c", CALL]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        serde_json::to_writer(child.stdin.take().unwrap(), findings).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let over = |(_, message): (_, Message)| [message.clone(), Message { is_over: true, ..message }];
    let messages = sample::all().into_iter().flat_map(over);
    let mut findings: Vec<Value> = messages.map(|message| asff::asff(&message, &SITE)).collect();
    assert_eq!(told(&findings), "");
    // A check that sees nothing would prove nothing.
    findings[0]["Resources"][0]["Details"]["AwsEc2Instance"] = json!({ "ImageIdd": "ami-0abc" });
    findings[0].as_object_mut().unwrap().remove("Title");
    let faults = told(&findings);
    assert!(faults.contains("ImageIdd") && faults.contains("Title"), "{faults}");
}

#[test]
fn ecs_compiles_against_the_published_types() {
    let Some(node) = tool("node/node_modules") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(std::fs::canonicalize(&node).unwrap(), dir.path().join("node_modules")).unwrap();
    let source = |documents: &[Value]| {
        let mut text = "import type { Ecs } from '@elastic/ecs';\n".to_owned();
        for document in documents {
            // What is ours has a name that no schema's name can be.
            text.push_str(&format!("export const d{}: Ecs & {{ tallystick?: object }} = {document};\n", text.len()));
        }
        text
    };
    let compile = |text: &str| {
        std::fs::write(dir.path().join("check.ts"), text).unwrap();
        let words = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--target", "es2022"];
        let mut command = Command::new("node");
        command.current_dir(dir.path()).arg(node.join("typescript/bin/tsc")).args(words);
        command.args(["--moduleResolution", "bundler", "check.ts"]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let documents: Vec<Value> = sample::all().iter().map(|(_, message)| ecs::value(message)).collect();
    assert_eq!(compile(&source(&documents)), "");
    let mut broken = documents[0].clone();
    broken["file"]["pathh"] = "x".into();
    assert!(compile(&source(&[broken])).contains("pathh"));
    // Words of lists are not in the types.
    let lists = [
        ("kind", &["alert", "event"][..]),
        ("category", &["file", "host", "configuration", "intrusion_detection"]),
        ("type", &["creation", "change", "deletion", "info"]),
    ];
    let flat = std::fs::read_to_string(node.join("@elastic/ecs/generated/ecs_flat.ts")).unwrap();
    for (list, used) in lists {
        let field = &flat[flat.find(&format!("'event.{list}': {{")).unwrap()..];
        let allowed = &field[..field.find("dashed_name").unwrap()];
        for word in used {
            assert!(allowed.contains(&format!("name: '{word}'")), "event.{list} does not know {word}");
        }
        for document in &documents {
            let said = &document["event"][list];
            let said: Vec<_> =
                said.as_array().map_or_else(|| vec![said.as_str()], |all| all.iter().map(Value::as_str).collect());
            assert!(said.into_iter().all(|word| used.contains(&word.unwrap())), "{document}");
        }
    }
}
