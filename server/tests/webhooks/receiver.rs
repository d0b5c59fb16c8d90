//! A receiver of webhooks that answers as it is told and keeps what it got.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longer than anything takes; only a test that hangs notices.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub head: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        let found = self.head.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The ids of its events.
    pub fn events(&self) -> Vec<String> {
        let body = self.json();
        let events = body["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Which of its signatures are of this secret.
    pub fn signed_by(&self, secret: &str) -> Vec<bool> {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD;
        let key = base64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signed = format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.body);
        let of = |signature: &str| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(signed.as_bytes());
            mac.verify_slice(&base64.decode(signature.strip_prefix("v1,").unwrap()).unwrap()).is_ok()
        };
        self.header("webhook-signature").split(' ').map(of).collect()
    }
}

/// What is answered to a request: status line and headers, with what follows.
pub type Behaviour = Box<dyn Fn(&Got, usize) -> String + Send + Sync>;

/// An answer with this status and nothing else.
pub fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} Told\r\ncontent-length: 0\r\n\r\n")
}

/// What makes a receiver say nothing.
pub const SILENCE: &str = "";
/// What makes it answer only when it is let: with what stands behind it, or 200.
pub const HELD_UP: &str = "held up";
/// What makes it send a body that does not end.
pub const ENDLESS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    count: watch::Receiver<usize>,
    behaviour: Arc<Mutex<Arc<Behaviour>>>,
    go_on: watch::Sender<bool>,
}

impl Receiver {
    /// One that answers 200.
    pub async fn start() -> Receiver {
        Receiver::with(None).await
    }

    /// The same, with TLS if certificate and key are given.
    pub async fn with(tls: Option<Arc<rustls::ServerConfig>>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, count) = watch::channel(0);
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let behaviour: Arc<Mutex<Arc<Behaviour>>> = Arc::new(Mutex::new(Arc::new(Box::new(|_, _| status(200)))));
        let (kept, told, behaves) = (Arc::clone(&got), Arc::new(told), Arc::clone(&behaviour));
        let (go_on, may_go_on) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, told, behaves, tls) = (kept.clone(), told.clone(), behaves.clone(), tls.clone());
                let goes_on = may_go_on.clone();
                tokio::spawn(async move {
                    let Some(tls) = tls else { return converse(stream, &kept, &told, &behaves, goes_on).await };
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                        converse(stream, &kept, &told, &behaves, goes_on).await;
                    }
                });
            }
        });
        Receiver { address, got, count, behaviour, go_on }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers so from now on; the number is how many requests came before.
    pub fn answer(&self, behaviour: impl Fn(&Got, usize) -> String + Send + Sync + 'static) {
        *self.behaviour.lock().unwrap() = Arc::new(Box::new(behaviour));
    }

    /// Lets it answer what was held up.
    pub fn go_on(&self) {
        self.go_on.send_replace(true);
    }

    /// Lets it do so no more.
    pub fn hold_up(&self) {
        self.go_on.send_replace(false);
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// The ids of all events, in the order in which they came.
    pub fn events(&self) -> Vec<String> {
        self.got().iter().flat_map(Got::events).collect()
    }

    /// Waits until what came is as wanted, and gives it.
    pub async fn wait(&self, what: &str, wanted: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let mut count = self.count.clone();
        let arrives = async {
            loop {
                count.mark_unchanged();
                let got = self.got();
                if wanted(&got) {
                    return got;
                }
                count.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, arrives).await {
            Ok(got) => got,
            Err(_) => panic!("waited for {what}; came {:?}", self.got()),
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    got: &Mutex<Vec<Got>>,
    told: &watch::Sender<usize>,
    behaviour: &Mutex<Arc<Behaviour>>,
    mut goes_on: watch::Receiver<bool>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let mut answer = {
            let behaviour = Arc::clone(&behaviour.lock().unwrap());
            let mut got = got.lock().unwrap();
            let answer = behaviour(&request, got.len());
            got.push(request);
            told.send_replace(got.len());
            answer
        };
        if answer == SILENCE {
            return std::future::pending().await;
        }
        if let Some(then) = answer.strip_prefix(HELD_UP) {
            let _ = goes_on.wait_for(|goes_on| *goes_on).await;
            answer = if then.is_empty() { status(200) } else { then.to_owned() };
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if answer == ENDLESS {
            let chunk = format!("{:x}\r\n{}\r\n", 4096, "x".repeat(4096));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            return;
        }
        if stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<Got> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut head = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        head.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut got = Got { path, head, body: String::new() };
    let mut body = vec![0; got.header("content-length").parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    got.body = String::from_utf8(body).ok()?;
    Some(got)
}
