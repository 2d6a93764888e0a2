//! What stands before every page: which host names are answered, which headers every answer has, and who may come in.
//!
//! A page of elsewhere can make a browser call 127.0.0.1, by a link, a form, or a name whose address it changes meanwhile
//! (DNS rebinding). Against it: only requests for a loopback name are answered at all; the session's cookie is sent only
//! by our own pages (SameSite=Strict); reading is all that a GET does; and a POST must say that it comes from here.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::console::Shared;
use crate::door::Entry;
use crate::failure::Failure;

/// Nothing but what is listed, all of it from here. No inline script or style; HTML that the script puts into the page goes
/// through one policy of its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types tally";

const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), interest-cohort=()"),
];

/// Outermost: checks where the request was meant to go and comes from, and puts the headers on whatever is answered.
pub async fn outer(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.method(), request.headers()) {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    if !headers.get(HOST).and_then(|h| h.to_str().ok()).is_some_and(is_loopback_name) {
        return Some("The console answers only to localhost, 127.0.0.1 and [::1].\n");
    }
    match *method {
        Method::GET | Method::HEAD => None,
        Method::POST if comes_from_here(headers) => None,
        Method::POST => Some("This came from another page.\n"),
        _ => Some("The console knows GET and POST.\n"),
    }
}

/// The `Host` of a request, with or without a port: any port, since a tunnel may have another one.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => return v6.split_once(']').is_some_and(|(name, port)| name == "::1" && is_port(port)),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let port = &host[name.len()..];
    let is_loopback =
        name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback && is_port(port)
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
}

/// Browsers of the last years say where a request comes from in one of two ways; a program that says neither (curl) is no
/// browser that somebody could abuse.
fn comes_from_here(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    match (text(ORIGIN), text(HOST)) {
        (Some(origin), Some(host)) => origin.strip_prefix("http://") == Some(host),
        (origin, _) => origin.is_none(),
    }
}

/// Before every page but the login's.
pub async fn inner(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let entry = match session(request.headers()) {
        Some(session) => shared.door.check(session, Instant::now()),
        None => Entry::Shut,
    };
    match entry {
        Entry::Open => next.run(request).await,
        Entry::Shut => Failure::NotLoggedIn.into_response(),
    }
}

/// The value of the session's cookie.
pub fn session(headers: &HeaderMap) -> Option<&str> {
    let name = cookie_name(headers);
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Cookies know no ports, so two consoles on one machine need two names: the port as the browser sees it is in it.
pub fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(80);
    format!("tally_{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_answered() {
        for good in ["localhost", "LOCALHOST:80", "127.0.0.1:7001", "127.8.8.8", "[::1]", "[::1]:1"] {
            assert!(is_loopback_name(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:7001",
            "127.0.0.1:x",
            "127.0.0.1:1:2",
            "192.0.2.1",
            "0.0.0.0:80",
            "[::2]:1",
            "[::1",
            "[::1]x",
            "::1",
            "localhost:",
        ] {
            assert!(!is_loopback_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_post_comes_from_our_own_page_or_from_no_browser() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)));
            pairs.collect::<HeaderMap>()
        };
        assert!(comes_from_here(&headers(&[("host", "localhost:1"), ("origin", "http://localhost:1")])));
        assert!(comes_from_here(&headers(&[("host", "localhost:1"), ("sec-fetch-site", "same-origin")])));
        assert!(comes_from_here(&headers(&[("host", "localhost:1")])));
        for bad in [
            [("host", "localhost:1"), ("origin", "http://localhost:2")],
            [("host", "localhost:1"), ("origin", "null")],
            [("host", "localhost:1"), ("origin", "https://localhost:1")],
            [("host", "localhost:1"), ("sec-fetch-site", "same-site")],
            [("host", "localhost:1"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!comes_from_here(&headers(&bad)), "{bad:?}");
        }
    }

    #[test]
    fn finds_the_cookie_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; tally_7=x=y ;b"));
        headers.append(COOKIE, HeaderValue::from_static("tally_8=z"));
        for (host, value) in [("localhost:7", Some("x=y")), ("[::1]:8", Some("z")), ("localhost", None)] {
            headers.insert(HOST, HeaderValue::from_static(host));
            assert_eq!(session(&headers), value, "{host}");
        }
    }
}
