//! Signature version 4: a request's canonical form, hashed and signed with a key of the day.
//!
//! Pure: time comes in. Source: AWS, "Create a signed AWS API request"; the vectors in testdata are those that AWS publishes
//! for it. What we never send (paths with `.`, `..` or empty parts) is not normalised.

use std::fmt::Write as _;

use ring::{digest, hmac};
use tally_types::Timestamp;
use time::OffsetDateTime;

use super::credentials::Credentials;
use crate::http::{HttpError, Request};

/// What a signature is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    pub region: &'a str,
    /// As AWS names it in signatures: `logs`, `s3`, `sts`.
    pub service: &'a str,
    pub now: Timestamp,
}

/// `20150830T123600Z`
pub fn amz_date(time: Timestamp) -> String {
    let time = OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Adds the headers that make a request ours. All its headers are signed, so none may be added afterwards.
pub fn sign(request: &mut Request, credentials: &Credentials, scope: Scope<'_>) -> Result<(), HttpError> {
    let date = amz_date(scope.now);
    let host = request.host().ok_or_else(|| HttpError::Url(request.url.clone()))?;
    request.headers.push(("X-Amz-Date".into(), date.clone()));
    if let Some(token) = &credentials.token {
        request.headers.push(("X-Amz-Security-Token".into(), token.reveal().to_owned()));
    }
    let hash = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    if scope.service == "s3" {
        request.headers.push(("X-Amz-Content-Sha256".into(), hash.clone()));
    }
    let (canonical, signed) = canonical(request, &host, &hash, scope.service != "s3");
    let day = &date[..8];
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{place}\n{digest}");
    let mut key = format!("AWS4{}", credentials.secret_key.reveal()).into_bytes();
    for part in [day, scope.region, scope.service, "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &text));
    let access_key = &credentials.access_key;
    let value =
        format!("AWS4-HMAC-SHA256 Credential={access_key}/{place}, SignedHeaders={signed}, Signature={signature}");
    request.headers.push(("Authorization".into(), value));
    Ok(())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The canonical request, and the names of the headers in it.
fn canonical(request: &Request, host: &str, hash: &str, encode_path: bool) -> (String, String) {
    let (path, query) = target(&request.url);
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = vec![("host".to_owned(), host.to_owned())];
    for (name, value) in &request.headers {
        let name = name.to_ascii_lowercase();
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some(_) if name == "host" => {}
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => headers.push((name, value)),
        }
    }
    headers.sort_unstable();
    let signed = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let path = if encode_path { encode(path, b"/") } else { path.to_owned() };
    let mut text = format!("{}\n{path}\n{}\n", request.method, query.join("&"));
    for (name, value) in &headers {
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{signed}\n{hash}");
    (text, signed)
}

/// Path and query of a URL, as they stand.
fn target(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = rest.find(['/', '?']).map_or("/", |at| &rest[at..]);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (if path.is_empty() { "/" } else { path }, query)
}

/// Percent-encodes all but AWS's unreserved characters and those of `kept`.
pub fn encode(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::secret::SecretText;

    fn moment(date: &str) -> Timestamp {
        let text = format!(
            "{}-{}-{}T{}:{}:{}Z",
            &date[..4],
            &date[4..6],
            &date[6..8],
            &date[9..11],
            &date[11..13],
            &date[13..15]
        );
        text.parse().expect("it is a time")
    }

    fn request(case: &Value) -> Request {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = case["headers"]
            .as_array()
            .expect("headers are a list")
            .iter()
            .map(|pair| (pair[0].as_str().unwrap_or_default().into(), pair[1].as_str().unwrap_or_default().into()))
            .filter(|(name, _): &(String, String)| !name.eq_ignore_ascii_case("host"))
            .collect();
        Request {
            method: text("method").parse().expect("it is a method"),
            url: format!("https://example.amazonaws.com{}", text("target")),
            headers,
            body: text("body").into_bytes().into(),
        }
    }

    #[test]
    fn signatures_are_those_that_aws_publishes() {
        let cases: Value = serde_json::from_str(include_str!("../../testdata/sigv4.json")).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() > 15, "{}", cases.len());
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let mut request = request(case);
            let date = case["date"].as_str().unwrap();
            if case["sign_body"] == true {
                let hash = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
                request.headers.push(("x-amz-content-sha256".into(), hash));
            }
            let credentials = Credentials {
                access_key: case["access_key"].as_str().unwrap().into(),
                secret_key: SecretText::new(case["secret_key"].as_str().unwrap()),
                token: case["token"].as_str().map(SecretText::new),
                expires: None,
            };
            let scope = Scope {
                region: case["region"].as_str().unwrap(),
                service: case["service"].as_str().unwrap(),
                now: moment(date),
            };
            sign(&mut request, &credentials, scope).unwrap();
            let (_, value) = request.headers.last().unwrap();
            let wanted = case["signature"].as_str().unwrap();
            assert!(value.ends_with(&format!("Signature={wanted}")), "{name}: {value}");
            let signed = case["signed"].as_str().unwrap();
            assert!(value.contains(&format!("SignedHeaders={signed},")), "{name}: {value}");
        }
    }

    #[test]
    fn paths_of_s3_are_encoded_once_and_others_twice() {
        assert_eq!(target("https://h?x=1"), ("/", "x=1"));
        assert_eq!(target("https://h"), ("/", ""));
        assert_eq!(target("https://h/a%20b?x=1&y"), ("/a%20b", "x=1&y"));
        assert_eq!(encode("/a%20b/eventDay=1", b"/"), "/a%2520b/eventDay%3D1");
        let request = Request::get("https://h/a%20b");
        assert!(canonical(&request, "h", "", true).0.starts_with("GET\n/a%2520b\n"));
        assert!(canonical(&request, "h", "", false).0.starts_with("GET\n/a%20b\n"));
    }
}
