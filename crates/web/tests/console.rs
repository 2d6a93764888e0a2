//! The console over real sockets, as a browser and as an attacker's page see it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleet;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fleet::{Fleet, HOSTILE, change, entry, modified, rule};
use tally_proto::json::DeliveryStatus;
use tally_types::{AgentId, ChangeKind, Level, Timestamp};
use tally_web::{Console, Live, ServeError, bind, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Only a hanging test runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    _dir: tempfile::TempDir,
    fleet: Fleet,
    console: Console,
    address: SocketAddr,
    live: broadcast::Sender<Live>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn cookie(&self) -> String {
        self.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64)
}

impl Served {
    async fn start(fill: impl FnOnce(&mut Fleet)) -> Self {
        Self::start_with(fill, |console| console).await
    }

    async fn start_with(fill: impl FnOnce(&mut Fleet), set: impl FnOnce(Console) -> Console) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::new(dir.path(), now());
        fill(&mut fleet);
        let (live, _) = broadcast::channel(16);
        let console = set(Console::new(fleet.store.reader(), live.clone()));
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, console.clone(), async { drop(stopped.await) }));
        Self { _dir: dir, fleet, console, address, live, stop, task }
    }

    async fn send(&self, request: String) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        let host = self.address;
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let (host, length) = (self.address, body.len());
        let kind = "application/x-www-form-urlencoded";
        let head =
            format!("Host: {host}\r\n{headers}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
        self.send(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{body}")).await
    }

    fn token(&self) -> String {
        let link = self.console.login_link(&format!("http://{}/", self.address));
        let base = format!("http://{}/login?token=", self.address);
        link.strip_prefix(&base).unwrap().to_owned()
    }

    /// A session's cookie.
    async fn log_in(&self) -> String {
        let answer = self.post("/login", "", &format!("token={}", self.token())).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
        answer.cookie()
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_session() {
    let served = Served::start(Fleet::live).await;
    let policy = format!("/policy/{}", "0".repeat(64));
    for path in [
        "/",
        "/changes",
        "/alerts",
        "/agents",
        "/agent/001",
        "/deliveries",
        "/change/001/3/1",
        "/logs",
        "/logs/001",
        "/collection",
        "/policies",
        &policy,
        "/live",
        "/nowhere",
    ] {
        for cookie in ["", "tally_1=x", &format!("tally_{}={}", served.address.port(), "0".repeat(64))] {
            let answer = served.get(path, cookie).await;
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.body.contains("tally console") && !answer.body.contains("web-1"), "{path}");
        }
    }
    assert_eq!(served.post("/logout", "", "").await.status, 401);
}

#[tokio::test]
async fn deliveries_say_how_they_are() {
    let served = Served::start(|_| {}).await;
    let cookie = served.log_in().await;
    assert!(served.get("/deliveries", &cookie).await.body.contains("Nothing is delivered anywhere"));
    let status = |name: &str, state| DeliveryStatus {
        name: name.into(),
        kind: "syslog".into(),
        target: "logs.example.com:6514".into(),
        state,
        waiting: 12_345,
        oldest_waiting: Some(now().minus_micros(3_700_000_000)),
        sent: 7,
        dead: 0,
        last_success: Some(now()),
        last_error: None,
        last_error_at: None,
        failing_since: None,
    };
    let all = vec![
        status("works", "working"),
        DeliveryStatus {
            dead: 3,
            failing_since: Some(now()),
            last_error: Some("it answered 500: <script>\u{1b}[31m".into()),
            ..status("fails", "failing")
        },
    ];
    let served = Served::start_with(|_| {}, |console| console.with_deliveries(Arc::new(move || Ok(all.clone())))).await;
    let cookie = served.log_in().await;
    let page = served.get("/deliveries", &cookie).await;
    assert_eq!(page.status, 200);
    let at = |text: &str| page.body.find(text).unwrap_or_else(|| panic!("{text}: {}", page.body));
    assert!(at("fails <span") < at("works <span"), "what needs attention comes first");
    for part in ["12,345", "61 min", "3</span>", "&#60;script&#62;\\u{1b}[31m"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
}

#[tokio::test]
async fn a_link_survives_previews_and_works_once() {
    let (logins, mut told) = mpsc::channel(1);
    let served = Served::start_with(|_| {}, |console| console.with_logins(logins)).await;
    let token = served.token();
    for _ in 0..3 {
        let page = served.get(&format!("/login?token={token}"), "").await;
        assert_eq!(page.status, 200);
        assert!(page.header("set-cookie").is_none() && page.body.contains("Log in"));
    }
    let answer = served.post("/login", "", &format!("token={token}")).await;
    assert_eq!(answer.status, 303);
    let set = answer.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    assert!(told.recv().await.unwrap().starts_with("from 127.0.0.1:"));
    let cookie = answer.cookie();
    assert_eq!(served.get("/", &cookie).await.status, 200);
    assert_eq!(served.get(&format!("/login?token={token}"), "").await.status, 401);
    assert_eq!(served.post("/login", "", &format!("token={token}")).await.status, 401);
    // The channel is full, then closed: what cannot be put on record does not happen.
    served.log_in().await;
    let unrecorded = served.token();
    assert_eq!(served.post("/login", "", &format!("token={unrecorded}")).await.status, 503);
    drop(told);
    assert_eq!(served.post("/login", "", &format!("token={unrecorded}")).await.status, 503);
    let out = served.post("/logout", &format!("Cookie: {cookie}\r\n"), "").await;
    assert_eq!((out.status, out.cookie().ends_with('=')), (303, true));
    assert_eq!(served.get("/", &cookie).await.status, 401);
}

#[tokio::test]
async fn every_answer_has_every_header() {
    let served = Served::start(Fleet::live).await;
    let cookie = served.log_in().await;
    let page = served.get("/", &cookie).await;
    let style = page.body.split('"').find(|part| part.ends_with(".css")).unwrap();
    let script = page.body.split('"').find(|part| part.ends_with(".js")).unwrap();
    let mark = page.body.split('"').find(|part| part.ends_with(".svg")).unwrap();
    let answers = [
        served.get("/", &cookie).await,
        served.get("/", "").await,
        served.get("/nowhere", &cookie).await,
        served.get("/change/001/3/9999", &cookie).await,
        served.get("/change/x/y/z", &cookie).await,
        served.get("/changes?since=soon&path=%5B&level=99&kind=x&agent=nobody&before=x", &cookie).await,
        served.get(style, "").await,
        served.get(script, "").await,
        served.get(mark, "").await,
        served.get("/static/other.css", "").await,
        served.get("/login?token=x", "").await,
        served.post("/login", "Origin: http://example.com\r\n", "").await,
        served.post("/", &format!("Cookie: {cookie}\r\n"), "").await,
        served.post("/login", "", &"x".repeat(10_000)).await,
        served.send("DELETE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into()).await,
        served.send("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n".into()).await,
    ];
    for answer in &answers {
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains("http"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert!(answer.header("cache-control").is_some());
    }
    let status = answers.each_ref().map(|answer| answer.status);
    assert_eq!(status, [200, 401, 404, 404, 404, 200, 200, 200, 200, 404, 401, 403, 405, 413, 403, 403]);
    assert_eq!(answers[0].header("cache-control"), Some("no-store"));
    // No third party, and nothing inline that the policy would have to allow.
    for body in answers.iter().map(|answer| answer.body.as_str()) {
        assert!(!body.contains("http://") || body.contains("http://www.w3.org/2000/svg"), "{body}");
        assert!(!body.contains("https://") && !body.contains(" style=") && !body.contains(" onclick"));
    }
}

#[tokio::test]
async fn names_that_resolve_to_us_and_pages_of_others_are_refused() {
    let served = Served::start(|_| {}).await;
    let cookie = served.log_in().await;
    for host in ["evil.example:80", "127.0.0.1.evil.example", ""] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        assert_eq!(served.send(request).await.status, 403, "{host}");
    }
    for from in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: null\r\n"] {
        assert_eq!(served.post("/logout", &format!("{from}Cookie: {cookie}\r\n"), "").await.status, 403, "{from}");
    }
    assert_eq!(served.get("/", &cookie).await.status, 200);
    let mine = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\n", served.address);
    assert_eq!(served.post("/logout", &mine, "").await.status, 303);
}

#[tokio::test]
async fn a_hostile_file_name_is_text_on_every_page() {
    let (mut id, mut policy) = (None, String::new());
    let served = Served::start(|fleet| {
        let agent = fleet.enrol("<img src=x>\u{202e}", "\"><b>", 1);
        fleet.report(agent, tally_types::AgentState::Silent, 1, 1, 1, (&["<i>can</i>"], &["<i>cannot</i>"]));
        let mut hostile = change(HOSTILE, ChangeKind::Moved, Some(entry(1, 1, 0o644)), Some(entry(2, 1, 0o644)));
        hostile.moved_from = Some(tally_types::PathBytes::new(*b"/<u>").unwrap());
        hostile.actors = vec![fleet::actor("<s>", "<em>", "/bin/<p>", "<h6>\x1b[0m")];
        id = Some(fleet.changed(agent, 1, hostile, Some(rule(1, 16, "<q>"))));
        fleet.log(agent, HOSTILE, 70_000);
        let text = "# <img src=x>\u{202e}\n[[watch]]\npath = \"/<u>\"\nwhy = \"<s>\"\ntags = [\"<em>\"]\n\
            [[collect]]\npath = \"/<b>\"\nalias = \"<i>\"\n[[collect]]\ncommand = \"<p>'\"\n<h6>\n";
        policy = fleet.policy("\"><b>", text, "<q>", &[(agent, "<u>")]);
        fleet.line(agent, "<img src=x>", "<b>", Some(rule(5501, 3, "<i>")));
        fleet.line(agent, "<s>", "<u>\u{1b}", Some(rule(200_290, 7, "<em>")));
    })
    .await;
    let cookie = served.log_in().await;
    let id = id.unwrap();
    let pages = [
        "/".into(),
        "/changes".into(),
        "/alerts".into(),
        "/agents?name=%3Cimg".into(),
        "/agent/001".into(),
        format!("/change/{id}"),
        format!("/alert/{id}/1"),
        format!("/changes?same={id}"),
        "/changes?path=%3Cscript%3E%22&agent=%3Cscript%3E".into(),
        "/change/%3Cscript%3E/1/1".into(),
        "/logs".into(),
        "/logs/001".into(),
        "/logs/%3Cscript%3E".into(),
        "/collection".into(),
        "/policies".into(),
        format!("/policy/{policy}"),
        "/policy/%3Cscript%3E".into(),
    ];
    for path in pages {
        let page = served.get(&path, &cookie).await;
        assert!([200, 404].contains(&page.status), "{path}");
        for tag in
            ["<script>alert", "<script>\"", "<img src", "<b>", "<i>", "<u>", "<s>", "<em>", "<p>'", "<h6>", "<q>"]
        {
            assert!(!page.body.contains(tag), "{tag} on {path}");
        }
        assert!(!page.body.contains(['\u{1b}', '\u{202e}']), "{path}");
    }
}

#[tokio::test]
async fn the_page_of_an_agent_says_how_it_knows() {
    let served = Served::start(|fleet| {
        let web = fleet.enrol("web-1", "web", 1);
        fleet.report(web, tally_types::AgentState::Watching, 1, 1, 0, (&["changes"], &[]));
    })
    .await;
    let page = served.get("/agent/001", &served.log_in().await).await;
    for said in ["fanotify", "bpf: refused (a policy of the host forbids it)", "audit: in use", "/mnt/&#60;nfs&#62;"] {
        assert!(page.body.contains(said), "{said} in {}", page.body);
    }
}

#[tokio::test]
async fn policies_say_who_watches_by_them_and_what_they_hold() {
    let mut digests = Vec::new();
    let served = Served::start(|fleet| {
        let [web1, web2, db] = ["web-1", "web-2", "db-1"].map(|name| fleet.enrol(name, &name[..2], 1));
        fleet.enrol("new-1", "", 1);
        let text = "[[watch]]\npath = \"/srv/shop\"\nwhy = \"the shop\"\n\
            [[collect]]\npath = \"/var/log/shop.log\"\n[[collect]]\njournal = \"sshd\"\n";
        digests.push(fleet.policy("we", text, "uid 0 (root)", &[(web1, "group we")]));
        digests.push(fleet.policy(
            "",
            "[[watch]]\npath = \"/db\"\n",
            "",
            &[(web2, "/etc/own.toml"), (db, "/etc/own.toml")],
        ));
    })
    .await;
    let cookie = served.log_in().await;
    let page = served.get("/policies", &cookie).await.body;
    for words in
        ["1 of 2 agents", "uid 0 (root)", "/etc/own.toml", ">2 agents<", "1 agent has not said yet", &digests[0][..16]]
    {
        assert!(page.contains(words), "{words} in {page}");
    }
    let page = served.get(&format!("/policy/{}", digests[0]), &cookie).await.body;
    for words in ["/srv/shop", "the shop", "href=\"/agent/001\"", "[[collect]]", &digests[0]] {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(!page.contains("href=\"/agent/002\""));
    for unknown in ["0".repeat(64), "zz".to_owned()] {
        assert_eq!(served.get(&format!("/policy/{unknown}"), &cookie).await.status, 404);
    }
    let page = served.get("/collection", &cookie).await.body;
    for words in ["/var/log/shop.log", "sshd", "journal", "1 agent", &format!("/policy/{}", digests[0])] {
        assert!(page.contains(words), "{words} in {page}");
    }
}

#[tokio::test]
async fn logs_say_when_they_were_proved_and_what_became_of_them() {
    let served = Served::start(|fleet| {
        let web = fleet.enrol("web-1", "web", 1);
        let quiet = fleet.enrol("web-2", "web", 1);
        fleet.log(web, b"/var/log/auth.log", 200_000);
        for n in 0..150 {
            fleet.log(quiet, format!("/var/log/{n:03}.log").as_bytes(), 10);
        }
        for kind in [ChangeKind::Rotated, ChangeKind::Rotated, ChangeKind::Truncated] {
            fleet.changed(web, 1, change(b"/var/log/auth.log", kind, None, None), None);
        }
        fleet.line(web, "/var/log/auth.log", "Failed password", Some(rule(5716, 5, "A login failed.")));
        fleet.line(web, "/var/log/auth.log", "Failed password", Some(rule(5716, 5, "A login failed.")));
        fleet.line(web, "tallystick", "the collection of /x: 9 bytes were not read", Some(rule(200_290, 7, "Lost.")));
    })
    .await;
    let cookie = served.log_in().await;
    let page = served.get("/logs", &cookie).await.body;
    assert!(page.contains("href=\"/logs/001\"") && page.contains(">150<"), "{page}");
    let page = served.get("/logs/001", &cookie).await.body;
    for words in [
        "/var/log/auth.log",
        "3 chunks of 64 KiB",
        "data-label=\"Rotations\" class=\"num\">2<",
        "<span class=\"lost\">1<",
    ] {
        assert!(page.contains(words), "{words} in {page}");
    }
    let page = served.get("/logs/002", &cookie).await.body;
    assert!(page.contains("href=\"/logs/002?from=100\"") && !page.contains("/var/log/149.log"));
    assert!(served.get("/logs/002?from=100", &cookie).await.body.contains("/var/log/149.log"));
    assert_eq!(served.get("/logs/099", &cookie).await.status, 404);
    let page = served.get("/collection", &cookie).await.body;
    for words in ["data-label=\"Lines\" class=\"num\">2<", "newest 5 alerts", "Lost."] {
        assert!(page.contains(words), "{words} in {page}");
    }
}

#[tokio::test]
async fn one_change_is_shown_in_full() {
    let mut ids = Vec::new();
    let served = Served::start(|fleet| {
        let web = fleet.enrol("web-1", "web", 1);
        let mut first = modified("/etc/passwd", 1);
        first.actors = vec![fleet::actor("root", "alice", "/usr/bin/vim", "vim /etc/passwd")];
        ids.push(fleet.changed(web, 2 * fleet::SECOND, first, Some(rule(550, 7, "Integrity changed."))));
        let mut second = modified("/etc/passwd", 2);
        second.detected_by = tally_types::DetectedBy::Startup;
        second.window = Some(tally_types::Window { earliest: Timestamp(0), latest: Timestamp(90_000_000) });
        ids.push(fleet.changed(web, fleet::SECOND, second, None));
    })
    .await;
    let cookie = served.log_in().await;
    let page = served.get(&format!("/change/{}", ids[0]), &cookie).await.body;
    let sum = |fill: u8| format!("{fill:02x}").repeat(32);
    for words in [
        "/etc/passwd",
        "1,180 bytes",
        "1,204 bytes",
        &sum(1),
        &sum(2),
        "alice as root, with /usr/bin/vim",
        "vim /etc/passwd",
        "Read from /proc while the process still lived.",
        "source address",
        "The kernel reported it as it happened",
        "Integrity changed.",
        "11.5.2",
        "unexplained",
        &format!("tally promote --change {}", ids[0]),
        &format!("href=\"/change/{}\"", ids[1]),
    ] {
        assert!(page.contains(words), "{words}");
    }
    let page = served.get(&format!("/change/{}", ids[1]), &cookie).await.body;
    for words in ["1970-01-01 00:00:00.000000 UTC", "a window of 90 s", "Unknown.", "not who did it"] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(served.get(&format!("/alert/{}/550", ids[0]), &cookie).await.status, 200);
    assert_eq!(served.get(&format!("/alert/{}/551", ids[0]), &cookie).await.status, 404);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let served = Served::start(|fleet| {
        let web = fleet.enrol("web-1", "", 1);
        let db = fleet.enrol("db-1", "", 1);
        for i in 0..120_u8 {
            fleet.changed(web, fleet::HOUR * 2, modified(&format!("/etc/many/{i:03}"), i), None);
        }
        fleet.changed(db, 1, modified("/home/x", 1), Some(rule(550, 7, "Integrity changed.")));
    })
    .await;
    let cookie = served.log_in().await;
    let mut path = "/changes?path=/etc/*&agent=web-1".to_owned();
    let mut seen = 0;
    loop {
        let page = served.get(&path, &cookie).await.body;
        seen += page.matches("<li class=\"line").count();
        assert!(!page.contains("/home/x"));
        let Some(next) = page.split("rel=\"next\" href=\"").nth(1) else { break };
        path = next.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    }
    assert_eq!(seen, 120);
    for (query, count) in [
        ("since=1h", 1),
        ("until=1h", 50),
        ("level=7", 1),
        ("level=8", 0),
        ("kind=removed", 0),
        ("agent=002", 1),
        ("agent=db-1&path=/home", 1),
        ("path=/etc/many/00[0-3]", 4),
    ] {
        let page = served.get(&format!("/changes?{query}"), &cookie).await.body;
        assert_eq!(page.matches("<li class=\"line").count(), count, "{query}");
    }
    let page = served.get("/changes?since=soon&agent=nobody", &cookie).await.body;
    assert_eq!(page.matches("Not understood, and left out").count(), 2);
    assert_eq!(served.get("/alerts", &cookie).await.body.matches("Integrity changed.").count(), 1);
}

#[tokio::test]
async fn the_overview_says_what_needs_attention() {
    let served = Served::start(|_| {}).await;
    let page = served.get("/", &served.log_in().await).await.body;
    assert!(page.contains("Nothing needs attention") && page.contains("No agent is enrolled"));

    let served = Served::start(Fleet::live).await;
    let page = served.get("/", &served.log_in().await).await.body;
    for words in ["web-2 is silent since", "lost 12 records", "8 unexplained alerts", "and 2 more on this path"] {
        assert!(page.contains(words), "{words}");
    }
    // Sixty files of one upgrade are one line.
    assert!(page.contains("and 59 more like it"));

    let (problems, told) = watch::channel::<Arc<[String]>>(Arc::from(["The disk <is> full.".to_owned()]));
    let served = Served::start_with(Fleet::live, |console| console.with_problems(told)).await;
    let cookie = served.log_in().await;
    let page = served.get("/", &cookie).await.body;
    assert!(page.contains("The disk &#60;is&#62; full.") && !page.contains("web-2 is silent since"));
    problems.send_replace(Arc::from([]));
    assert!(!served.get("/", &cookie).await.body.contains("The disk"));
}

/// Reads from a stream of events until `wanted` was there.
async fn read_until(stream: &mut TcpStream, read: &mut String, wanted: &str) {
    let reading = async {
        while !read.contains(wanted) {
            let mut bytes = [0; 4096];
            let n = stream.read(&mut bytes).await.unwrap();
            assert_ne!(n, 0, "the stream ended: {read}");
            read.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        }
    };
    timeout(PATIENCE, reading).await.expect(wanted);
}

#[tokio::test]
async fn news_reach_an_open_page_and_the_end_ends_it() {
    let mut served = Served::start(|fleet| {
        fleet.enrol("web-1", "", 1);
    })
    .await;
    let cookie = served.log_in().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request =
        format!("GET /live HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", served.address.port());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "text/event-stream").await;
    served.fleet.changed(AgentId(1), 0, modified("/etc/new", 1), Some(rule(550, 7, "Integrity changed.")));
    served.live.send(Live::Alert { about: AgentId(1), level: Level::new(7).unwrap() }).unwrap();
    read_until(&mut stream, &mut read, "event: news").await;
    read_until(&mut stream, &mut read, "\"alerts\":1").await;
    assert!(served.get("/", &cookie).await.body.contains("/etc/new"));
    // More than the channel holds: told as such, and the stream goes on.
    for _ in 0..100 {
        served.live.send(Live::Change { about: AgentId(1) }).unwrap();
    }
    read_until(&mut stream, &mut read, "\"more\":true").await;
    served.stop.send(()).unwrap();
    timeout(PATIENCE, stream.read_to_string(&mut read)).await.unwrap().unwrap();
    timeout(PATIENCE, served.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let served = Served::start(|_| {}).await;
    let cookie = served.log_in().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request =
        format!("GET /live HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", served.address.port());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "text/event-stream").await;
    served.post("/logout", &format!("Cookie: {cookie}\r\n"), "").await;
    served.live.send(Live::Agent { id: AgentId(1) }).unwrap();
    read_until(&mut stream, &mut read, "0\r\n\r\n").await;
    assert!(!read.contains("event: news"));
}

#[tokio::test]
async fn only_this_machine_is_served() {
    let error = bind("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("ssh -L"), "{error}");
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::new(dir.path(), now());
    let console = Console::new(fleet.store.reader(), broadcast::channel(1).0);
    let refused = serve(listener, console, std::future::pending()).await;
    assert!(matches!(refused, Err(ServeError::NotLoopback(_))));
}
