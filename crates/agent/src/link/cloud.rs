//! Where in AWS the host runs: asked of the instance's metadata service, version 2 alone (a token first), and only where the
//! machine says that it is one of EC2's. Everything is bounded, and nothing waits for it.
//!
//! Source: the EC2 user guide, "Instance metadata and user data"; `AWS_EC2_METADATA_SERVICE_ENDPOINT` and
//! `AWS_EC2_METADATA_DISABLED` are AWS's own names.

use std::time::Duration;

use serde_json::Value;
use tally_proto::message::CloudPlace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::host::shown;

const ENDPOINT: &str = "http://169.254.169.254";
/// Which of the two variables are handed to the link, whose environment is empty otherwise.
pub const VARIABLES: [&str; 2] = ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED"];
/// Of one call, from connecting to the last byte.
const CALL_TIME_MAX: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The service may come up after the agent: it is asked again after so long.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(15), Duration::from_secs(120), Duration::from_secs(900)];

#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    #[error("the instance's metadata service at {0} does not answer")]
    Silent(String),
    #[error("the instance's metadata service: {0}")]
    Io(#[from] std::io::Error),
    #[error("the instance's metadata service answers what is not understood: {0}")]
    Malformed(&'static str),
    #[error("the instance's metadata service answers {0}")]
    Status(u16),
    #[error("{0}: not an address of the form http://HOST:PORT")]
    Endpoint(String),
}

/// The place, as soon as it is known; `None` where this is no machine of EC2's or nobody answers.
pub async fn place() -> Option<CloudPlace> {
    let endpoint = endpoint(|name| std::env::var(name).ok(), is_ec2)?;
    for pause in PAUSES.into_iter().map(Some).chain([None]) {
        match ask(&endpoint).await {
            Ok(place) => return Some(place),
            Err(error) => tracing::debug!(%error, "the place in the cloud is not known"),
        }
        tokio::time::sleep(pause?).await;
    }
    None
}

/// Whom to ask, if anybody.
fn endpoint(variable: impl Fn(&str) -> Option<String>, is_ec2: impl Fn() -> bool) -> Option<String> {
    let [named, disabled] = VARIABLES;
    if variable(disabled).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    variable(named).filter(|text| !text.is_empty()).or_else(|| is_ec2().then(|| ENDPOINT.to_owned()))
}

/// What the firmware says; nobody is asked over the network to find that out.
fn is_ec2() -> bool {
    let says = |path: &str, wanted: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim().to_ascii_lowercase().starts_with(wanted))
    };
    says("/sys/class/dmi/id/sys_vendor", "amazon ec2") || says("/sys/hypervisor/uuid", "ec2")
}

/// A token, and with that the instance's own document.
pub async fn ask(endpoint: &str) -> Result<CloudPlace, CloudError> {
    let token = call(endpoint, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60").await?;
    let token = String::from_utf8(token).map_err(|_| CloudError::Malformed("a token that is no text"))?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CloudError::Malformed("a token of other characters"));
    }
    let header = format!("X-aws-ec2-metadata-token: {token}");
    document(&call(endpoint, "GET", "/latest/dynamic/instance-identity/document", &header).await?)
}

async fn call(endpoint: &str, method: &str, path: &str, header: &str) -> Result<Vec<u8>, CloudError> {
    let host = endpoint.trim_end_matches('/').strip_prefix("http://");
    let host = host.filter(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
    let host = host.ok_or_else(|| CloudError::Endpoint(endpoint.chars().take(128).collect()))?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let conversation = async {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut answer).await?;
        Ok::<_, CloudError>(answer)
    };
    let answer = timeout(CALL_TIME_MAX, conversation).await.map_err(|_| CloudError::Silent(host.to_owned()))??;
    body(&answer).map(<[u8]>::to_vec)
}

/// The body of a whole answer to a call. Of foreign making: nothing about it is believed.
pub fn body(answer: &[u8]) -> Result<&[u8], CloudError> {
    let malformed = CloudError::Malformed;
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(malformed("more than 16 KiB"));
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(malformed("no end of its headers"))?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| malformed("headers that are no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).and_then(|rest| rest.get(2..5));
    let status: u16 = status.and_then(|digits| digits.parse().ok()).ok_or(malformed("no status"))?;
    if status != 200 {
        return Err(CloudError::Status(status));
    }
    let body = &answer[end + 4..];
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(malformed("a body in pieces"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            let wanted: usize = value.trim().parse().map_err(|_| malformed("a length that is none"))?;
            return body.get(..wanted).ok_or(malformed("less than it says"));
        }
    }
    Ok(body)
}

/// What of the instance identity document is told.
pub fn document(bytes: &[u8]) -> Result<CloudPlace, CloudError> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|_| CloudError::Malformed("a document that is no JSON"))?;
    let word = |key: &str| value.get(key).and_then(Value::as_str).map(shown).unwrap_or_default();
    let place = CloudPlace {
        provider: "aws".into(),
        account: word("accountId"),
        region: word("region"),
        zone: word("availabilityZone"),
        instance: word("instanceId"),
        image: word("imageId"),
        machine: word("instanceType"),
    };
    if place.instance.is_empty() {
        return Err(CloudError::Malformed("a document without an instance"));
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    const DOCUMENT: &str = r#"{ "accountId": "222222222222", "architecture": "x86_64", "availabilityZone": "eu-central-1a",
        "imageId": "ami-0abc", "instanceId": "i-0123456789abcdef0", "instanceType": "t3.micro", "region": "eu-central-1" }"#;

    /// A mock of the metadata service, as strict as its documentation: no token, no answer.
    fn mock(answer: impl Fn(&str, &[String]) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let lines: Vec<_> = lines.collect();
                let _ = (&stream).write_all(answer(&lines[0], &lines[1..]).as_bytes());
            }
        });
        endpoint
    }

    fn told(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn the_place_is_asked_with_a_token() {
        let endpoint = mock(|request, headers| match request {
            "PUT /latest/api/token HTTP/1.1"
                if headers.iter().any(|header| header == "X-aws-ec2-metadata-token-ttl-seconds: 60") =>
            {
                told("200 OK", "AQAEAtoken==")
            }
            "GET /latest/dynamic/instance-identity/document HTTP/1.1"
                if headers.iter().any(|header| header == "X-aws-ec2-metadata-token: AQAEAtoken==") =>
            {
                told("200 OK", DOCUMENT)
            }
            _ => told("401 Unauthorized", ""),
        });
        let place = ask(&endpoint).await.unwrap();
        assert_eq!(
            (&*place.instance, &*place.account, &*place.region),
            ("i-0123456789abcdef0", "222222222222", "eu-central-1")
        );
        assert_eq!((&*place.zone, &*place.image, &*place.machine), ("eu-central-1a", "ami-0abc", "t3.micro"));
    }

    /// Version 1, which answers without a token, is not spoken.
    #[tokio::test]
    async fn who_gives_no_token_is_not_asked_further() {
        let endpoint = mock(|request, _| match request.starts_with("GET") {
            true => told("200 OK", DOCUMENT),
            false => told("403 Forbidden", ""),
        });
        assert!(matches!(ask(&endpoint).await, Err(CloudError::Status(403))));
    }

    #[tokio::test]
    async fn hostile_answers_are_errors() {
        for (answer, what) in [
            (told("200 OK", "a b\r\nX: y"), "other characters"),
            (told("200 OK", ""), "other characters"),
            ("HTTP/1.1 200 OK\r\n".repeat(4000), "16 KiB"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc".to_owned(), "less than it says"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(), "in pieces"),
            ("SSH-2.0-x\r\n\r\n".to_owned(), "no status"),
            (String::new(), "no end of its headers"),
        ] {
            let endpoint = mock(move |_, _| answer.clone());
            let error = ask(&endpoint).await.unwrap_err().to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
        for document_text in ["", "[]", "{}", "{\"instanceId\": 3}"] {
            assert!(document(document_text.as_bytes()).is_err(), "{document_text}");
        }
        let hostile = document(b"{\"instanceId\": \"i-1\\n\\u001b[31m\", \"region\": null}").unwrap();
        assert_eq!((&*hostile.instance, &*hostile.region), ("i-1[31m", ""));
    }

    #[test]
    fn only_machines_of_ec2_are_asked() {
        let of = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(endpoint(of(&[]), || false), None);
        assert_eq!(endpoint(of(&[]), || true).as_deref(), Some(ENDPOINT));
        assert_eq!(endpoint(of(&[("AWS_EC2_METADATA_DISABLED", "true")]), || true), None);
        assert_eq!(
            endpoint(of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]")]), || false).as_deref(),
            Some("http://[fd00:ec2::254]")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600), at in 0usize..600) {
            let _ = body(&bytes);
            let _ = document(&bytes);
            let mut real = told("200 OK", DOCUMENT).into_bytes();
            let place = at % real.len();
            real[place] = bytes.pop().unwrap_or(0);
            if let Ok(inner) = body(&real) {
                let _ = document(inner);
            }
        }
    }
}
