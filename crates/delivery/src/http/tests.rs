//! Against a server of ours that answers as the test says, and misbehaves where real ones seldom do.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers each request on each connection by `answer`, and tells what it got.
async fn server(answer: &'static str, closes: bool) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            number += 1;
            let (told, number) = (told.clone(), number);
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let _ = told.send(format!("{number} {}", String::from_utf8_lossy(&bytes[..count])));
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if closes {
                        return;
                    }
                }
            });
        }
    });
    (port, heard)
}

fn client(settings: HttpSettings) -> Http {
    Http::new(settings).unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again_and_a_closed_one_is_not() {
    let (port, mut heard) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok", false).await;
    let http = client(HttpSettings::default());
    let request = Request::post(format!("http://127.0.0.1:{port}/a?b=%20"), "body").header("X-Own", "1");
    for _ in 0..2 {
        let answer = http.call(&request).await.unwrap();
        assert_eq!((answer.status, answer.header("x-a"), &answer.body[..]), (200, Some("b"), &b"ok"[..]));
        let got = heard.recv().await.unwrap();
        assert!(got.starts_with("1 POST /a?b=%20 HTTP/1.1\r\n"), "{got}");
        assert!(got.contains(&format!("host: 127.0.0.1:{port}\r\n")) && got.ends_with("body"), "{got}");
    }
    let (port, mut heard) = server("HTTP/1.1 204 No Content\r\n\r\n", true).await;
    let request = Request::get(format!("http://127.0.0.1:{port}/"));
    for number in 1..=2 {
        assert_eq!(http.call(&request).await.unwrap().status, 204);
        assert!(heard.recv().await.unwrap().starts_with(&format!("{number} GET / ")));
    }
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_and_in_time() {
    let (port, _heard) = server("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n0123456789", false).await;
    let url = format!("http://127.0.0.1:{port}/");
    let settings = HttpSettings { answer_bytes_max: 5, ..HttpSettings::default() };
    assert!(matches!(client(settings).call(&Request::get(&*url)).await, Err(HttpError::TooLarge { limit: 5, .. })));
    let settings = HttpSettings { whole_time_max: Duration::from_millis(50), ..HttpSettings::default() };
    assert!(matches!(client(settings).call(&Request::get(&*url)).await, Err(HttpError::Time { .. })));
}

#[tokio::test]
async fn what_answers_no_http_is_told() {
    let (port, _heard) = server("SSH-2.0-OpenSSH_9.2\r\n", true).await;
    let error = client(HttpSettings::default()).call(&Request::get(format!("http://127.0.0.1:{port}/"))).await;
    assert!(matches!(error, Err(HttpError::Broken { .. })), "{error:?}");
    let error = client(HttpSettings::default()).call(&Request::get("ftp://x/")).await.unwrap_err();
    assert!(error.is_lasting() && error.to_string().contains("ftp://x/"));
}

#[tokio::test]
async fn a_proxy_carries_what_it_cannot_read() {
    let (port, mut heard) = server("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", true).await;
    let proxy = Some(format!("http://user:pass@127.0.0.1:{port}"));
    let settings = HttpSettings { proxy, ..HttpSettings::default() };
    let error = client(settings).call(&Request::get("https://logs.example.com/x")).await.unwrap_err();
    assert!(error.to_string().contains("407"), "{error}");
    let got = heard.recv().await.unwrap();
    assert!(
        got.starts_with("1 CONNECT logs.example.com:443 HTTP/1.1\r\n") && got.contains("Basic dXNlcjpwYXNz"),
        "{got}"
    );
}

#[test]
fn what_needs_no_proxy() {
    let mut proxy = Proxy::parse("http://proxy:3128").unwrap();
    proxy.direct = vec!["internal".into(), ".example.com".into(), String::new()];
    let served: Vec<_> = ["localhost", "127.0.0.1", "a.internal", "example.com", "b.example.com", "badexample.com"]
        .into_iter()
        .filter(|host| proxy.serves(host))
        .collect();
    assert_eq!((served, proxy.port), (vec!["badexample.com"], 3128));
}

#[test]
fn only_a_proxy_that_says_so_has_opened_a_tunnel() {
    for (answer, is_open) in [
        (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], true),
        (b"HTTP/1.0 200\r\n\r\n", true),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", false),
        (b"SSH 200 x\r\n\r\n", false),
        (b"HTTP/1.1 20\r\n\r\n", false),
        (b"\xff\x1b[31m\r\n\r\n", false),
        (b"", false),
    ] {
        let told = tunnelled(answer);
        assert_eq!(told.is_ok(), is_open, "{told:?}");
        assert!(!told.err().unwrap_or_default().contains('\u{1b}'));
    }
}
