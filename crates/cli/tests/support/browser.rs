//! A real browser (Chromium, without a window), driven by chromedriver over the WebDriver protocol.
//!
//! Source: W3C WebDriver 2; chromedriver's own `goog:` capabilities. The HTTP of it is a few fixed forms, so no client is
//! needed for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{Program, signal};
use super::{text, wait_for, wait_until};

const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
];
/// The name of an element's id in JSON (W3C WebDriver §12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Program,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a profile of its own; `None` if none is installed, which is said as the reason to skip.
    pub fn start(with_script: bool) -> Option<Self> {
        if Command::new("chromedriver").arg("--version").output().is_err() {
            println!("skipped: chromedriver is not installed");
            return None;
        }
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let driver = Program::start("chromedriver", command);
        let line = wait_for("chromedriver to start", || {
            driver.out_lines().into_iter().find(|line| line.contains("started successfully on port"))
        });
        let port = line.trim_end_matches('.').rsplit(' ').next().and_then(|port| port.parse().ok()).unwrap();
        let profile = tempfile::tempdir().unwrap();
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let script = if with_script { 1 } else { 2 };
        let options = json!({
            "args": flags, "prefs": {"profile.managed_default_content_settings.javascript": script}
        });
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let session = request(port, "POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}})).unwrap();
        browser.session = text(&session, "/value/sessionId").to_owned();
        assert_ne!(browser.session, "", "{session}");
        Some(browser)
    }

    pub fn open(&self, address: &str) {
        self.post("url", &json!({"url": address}));
    }

    pub fn address(&self) -> String {
        self.get("url").as_str().unwrap().to_owned()
    }

    /// The text that a person sees.
    pub fn text(&self) -> String {
        self.text_of("body")
    }

    pub fn text_of(&self, selector: &str) -> String {
        let text = self.with_element("css selector", selector, "GET", "text");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows `part`, without asking for it again.
    pub fn wait_text(&self, part: &str) {
        wait_until(&format!("the page to show {part:?}"), || {
            let text = self.text();
            if text.contains(part) { Ok(()) } else { Err(text) }
        });
    }

    pub fn click(&self, selector: &str) {
        self.with_element("css selector", selector, "POST", "click");
    }

    /// Follows a link by its text.
    pub fn follow(&self, link: &str) {
        self.with_element("link text", link, "POST", "click");
    }

    pub fn script(&self, code: &str) -> Value {
        self.post("execute/sync", &json!({"script": code, "args": []}))
    }

    /// What the browser complained about: refused resources, failed scripts.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let severe = entries.into_iter().filter(|entry| text(entry, "/level") == "SEVERE");
        severe.map(|entry| text(&entry, "/message").to_owned()).collect()
    }

    /// Finds an element and does something with it. A page that is just being replaced has it in a moment.
    fn with_element(&self, using: &str, what: &str, method: &str, act: &str) -> Value {
        let mut done = Value::Null;
        wait_until(what, || {
            let found = self.try_send("POST", "element", &json!({"using": using, "value": what}))?;
            let element = text(&found, &format!("/{ELEMENT}"));
            let body = if method == "POST" { json!({}) } else { Value::Null };
            done = self.try_send(method, &format!("element/{element}/{act}"), &body)?;
            Ok(())
        });
        done
    }

    fn get(&self, what: &str) -> Value {
        self.try_send("GET", what, &Value::Null).unwrap()
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.try_send("POST", what, body).unwrap()
    }

    /// Sends a command of the session; the driver's refusal is the error.
    fn try_send(&self, method: &str, what: &str, body: &Value) -> Result<Value, String> {
        let path = format!("/session/{}/{what}", self.session);
        let answer = request(self.port, method, &path, body).map_err(|error| format!("{what}: {error}"))?;
        match answer.pointer("/value/error") {
            None => Ok(answer["value"].clone()),
            Some(error) => Err(format!("{what} {body}: {error}: {}", answer["value"]["message"])),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let children = self.driver.descendants();
        if !self.session.is_empty() {
            let _ = request(self.port, "DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        // The browser is not in the driver's process group.
        children.into_iter().for_each(|pid| signal("KILL", pid.into()));
    }
}

fn request(port: u16, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}
