//! A strict gate in front of an emulator. It judges each PutLogEvents by the limits that AWS documents, knowing nothing of
//! the batcher, passes on what keeps them byte for byte (signatures cover the host's name), and does to a call what the test
//! wants done.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is done to a call.
pub enum Deed {
    Pass,
    /// The service never hears of it.
    Answer {
        status: u16,
        headers: String,
        body: String,
    },
    /// It arrives, and the answer is lost.
    LoseAnswer,
    /// The connection breaks before it arrives.
    Cut,
}

impl Deed {
    pub fn refuse(status: u16, code: &str, message: &str) -> Self {
        Self::Answer { status, headers: String::new(), body: json!({ "__type": code, "message": message }).to_string() }
    }
}

/// A call as it came.
pub struct Call {
    /// `PutLogEvents`, `AssumeRole`; a method and a path where it is neither JSON nor a form.
    pub action: String,
    pub head: String,
    pub body: Vec<u8>,
}

type Rule = Box<dyn FnMut(&Call) -> Deed + Send>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    actions: Vec<String>,
    faults: Vec<String>,
}

pub struct Gate {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Gate {
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that went away is no fault of the gate.
                tokio::spawn(serve(stream, upstream.clone(), shared.clone()));
            }
        });
        Self { endpoint, state }
    }

    /// From now on this is asked for each call.
    pub fn rule(&self, rule: impl FnMut(&Call) -> Deed + Send + 'static) {
        self.state.lock().expect("no test panics here").rule = Some(Box::new(rule));
    }

    pub fn open(&self) {
        self.state.lock().expect("no test panics here").rule = None;
    }

    /// How often this was called.
    pub fn count(&self, action: &str) -> usize {
        let state = self.state.lock().expect("no test panics here");
        state.actions.iter().filter(|seen| *seen == action).count()
    }

    /// What broke a documented limit.
    pub fn faults(&self) -> Vec<String> {
        self.state.lock().expect("no test panics here").faults.clone()
    }
}

async fn serve(mut stream: TcpStream, upstream: String, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let Some(call) = read(&mut stream).await? else { return Ok(()) };
    let deed = {
        let mut state = state.lock().expect("no test panics here");
        state.actions.push(call.action.clone());
        match judged(&call) {
            Err(why) => {
                state.faults.push(why.clone());
                Deed::refuse(400, "InvalidParameterException", &why)
            }
            Ok(()) => state.rule.as_mut().map_or(Deed::Pass, |rule| rule(&call)),
        }
    };
    match deed {
        Deed::Cut => Ok(()),
        Deed::Answer { status, headers, body } => {
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}");
            stream.write_all(text.as_bytes()).await
        }
        Deed::LoseAnswer => forward(&call, &upstream).await.map(drop),
        Deed::Pass => stream.write_all(&forward(&call, &upstream).await?).await,
    }
}

/// One request; the connection is not used again.
async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Call>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let line = head
            .lines()
            .skip(1)
            .find(|line| line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case(name)))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    let form = String::from_utf8_lossy(&body[..body.len().min(2000)]).into_owned();
    let field = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
    let target = header("x-amz-target").map(|target| target.rsplit('.').next().unwrap_or_default().to_owned());
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let action = target.or_else(|| field.map(str::to_owned)).unwrap_or(line);
    Ok(Some(Call { action, head, body }))
}

async fn forward(call: &Call, upstream: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    stream.write_all(format!("{}\r\nConnection: close\r\n\r\n", call.head).as_bytes()).await?;
    stream.write_all(&call.body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// PutLogEvents as its API reference limits it.
fn judged(call: &Call) -> Result<(), String> {
    if call.action != "PutLogEvents" {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&call.body).map_err(|error| error.to_string())?;
    let events = body["logEvents"].as_array().ok_or("logEvents is no list")?;
    let mut bytes = 0;
    let mut times = Vec::new();
    for event in events {
        let text = event["message"].as_str().ok_or("a message is no text")?;
        if text.is_empty() {
            return Err("an empty message".into());
        }
        bytes += text.len() + 26;
        times.push(event["timestamp"].as_i64().ok_or("a timestamp is no number")?);
    }
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Err("no event".into()) };
    let now = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis(),
    )
    .expect("before the year 292 million");
    let faults = [
        (bytes > 1_048_576, "more than 1,048,576 bytes"),
        (events.len() > 10_000, "more than 10,000 events"),
        (!times.is_sorted(), "out of order"),
        (last - first > 86_400_000, "more than 24 hours"),
        (*first < now - 14 * 86_400_000, "older than 14 days"),
        (*last > now + 7_200_000, "more than 2 hours ahead"),
    ];
    faults.into_iter().find(|(is, _)| *is).map_or(Ok(()), |(_, why)| Err(why.to_owned()))
}
