//! How calls are made: connections, idempotency keys, repeats, time limits.
//!
//! **Invariant:** all requests of one call are the same bytes under the same key, so a
//! server that keeps its promise does what was asked for once.

use crate::error::{Error, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A server closes a connection after 15 s without a request (`--read-timeout-s`).
const IDLE_MAX: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long the server waits for an event, unless it is told.
pub(crate) const POLL_S: u64 = 25;
/// More than any answer has. What goes on for longer is not one.
const ANSWER_BYTES_MAX: usize = 64 << 20;

type Connection = SendRequest<Full<Bytes>>;

/// A client of one server, with one API key. Clones are cheap and share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limit: Duration,
    attempt: Duration,
    idempotency_key: Option<String>,
}

struct Shared {
    /// Host and port.
    address: String,
    authorization: String,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `url`, like `http://127.0.0.1:8080`, with this API key.
    ///
    /// # Errors
    /// [`Error::Request`] if `url` is not such an address, or `key` cannot be sent.
    pub fn new(url: &str, key: &str) -> Result<Client, Error> {
        let wrong = || Error::Request(format!("{url:?}: give an address like http://127.0.0.1:8080"));
        let uri: hyper::Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/").ok_or_else(wrong)?;
        let authorization = format!("Bearer {key}");
        header::HeaderValue::from_str(&authorization)
            .map_err(|_| Error::Request("the API key cannot stand in a header; is there a line's end in it?".into()))?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let shared = Shared { address, authorization, idle: Mutex::default() };
        let (limit, attempt) = (Duration::from_secs(30), Duration::from_secs(10));
        Ok(Client { shared: Arc::new(shared), limit, attempt, idempotency_key: None })
    }

    /// This client with so much time for a call with all its repeats; 30 s unless given.
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Client {
        Client { limit, ..self.clone() }
    }

    /// This client with so much time for one request of a call; 10 s unless given.
    #[must_use]
    pub fn with_attempt(&self, attempt: Duration) -> Client {
        Client { attempt, ..self.clone() }
    }

    /// This client with the idempotency key of one call: to make again what had no answer,
    /// or under a key of the caller's own. Without, each call has a new one.
    #[must_use]
    pub fn with_idempotency_key(&self, key: impl Into<String>) -> Client {
        Client { idempotency_key: Some(key.into()), ..self.clone() }
    }

    /// Makes a call, and again while that may help and time is left.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Error> {
        let began = Instant::now();
        let limit = self.limit.saturating_add(call.poll);
        let key = call.keyed.then(|| self.idempotency_key.clone().unwrap_or_else(new_key));
        let target = call.target?;
        let (mut backoff, mut attempts, mut was_lost) = (BACKOFF_FIRST, 0, false);
        loop {
            attempts += 1;
            let left = limit.saturating_sub(began.elapsed()).min(self.attempt.saturating_add(call.poll));
            let asked = self.once(&call.method, &target, call.body.clone(), key.as_deref());
            let answer = tokio::time::timeout(left, asked).await;
            let (error, again, after) = match answer.unwrap_or_else(|_| Err("it took too long".to_owned().into())) {
                Ok((status, _, body)) if status.is_success() => return Ok(Answer { body, idempotency_key: key }),
                // Deleted by the attempt before, whose answer was lost.
                Ok((StatusCode::NOT_FOUND, ..)) if call.method == Method::DELETE && was_lost => {
                    return Ok(Answer { body: Bytes::new(), idempotency_key: key });
                }
                Ok((status, retry_after_s, body)) => {
                    let problem =
                        Problem { attempts, idempotency_key: key.clone(), ..problem(status, retry_after_s, &body) };
                    let again = problem.is_worth_repeating() && (call.repeatable || problem.retry == "after");
                    (Error::Problem(Box::new(problem)), again, Duration::from_secs(retry_after_s.unwrap_or(0)))
                }
                Err(Lost::Request(reason)) => return Err(Error::Request(reason)),
                Err(Lost::Connection(reason)) => {
                    was_lost = call.repeatable;
                    let idempotency_key = key.clone();
                    (Error::NoAnswer { reason, attempts, idempotency_key }, call.repeatable, Duration::ZERO)
                }
            };
            let wait = after.saturating_add(backoff.mul_f64(rand::random()));
            backoff = (backoff * 2).min(BACKOFF_MAX);
            if !again || began.elapsed().saturating_add(wait) >= limit {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(
        &self,
        method: &Method,
        target: &str,
        body: Option<Bytes>,
        key: Option<&str>,
    ) -> Result<(StatusCode, Option<u64>, Bytes), Lost> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &self.shared.address)
            .header(header::AUTHORIZATION, &self.shared.authorization);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(|error| Lost::Request(error.to_string()))?;
        let mut connection = self.connection().await?;
        // Dropped on any error: half an answer must not be taken for that of the next call.
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let retry_after_s = response.headers().get(header::RETRY_AFTER).and_then(|value| seconds(value.to_str().ok()?));
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        self.shared.idle.lock().push((connection, Instant::now()));
        Ok((status, retry_after_s, body))
    }

    async fn connection(&self) -> Result<Connection, Lost> {
        loop {
            let idle = self.shared.idle.lock().pop();
            let Some((mut connection, since)) = idle else { break };
            if since.elapsed() < IDLE_MAX && connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(&self.shared.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It ends when its sender is dropped, and errors are told to whoever waits for an answer.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }
}

/// A Retry-After in seconds, however many.
fn seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Why there is no answer.
enum Lost {
    Connection(String),
    Request(String),
}

impl From<String> for Lost {
    fn from(reason: String) -> Lost {
        Lost::Connection(reason)
    }
}

fn new_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn problem(status: StatusCode, retry_after_s: Option<u64>, body: &[u8]) -> Problem {
    let told = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        // Of a proxy in between: it may have passed the request on, or not.
        status: status.as_u16(),
        code: format!("http_{}", status.as_u16()),
        title: String::new(),
        detail: String::from_utf8_lossy(body).chars().take(200).collect(),
        retry: match status.as_u16() {
            429 | 503 => "after",
            500.. => "same_key",
            _ => "never",
        }
        .to_owned(),
        request_id: String::new(),
        errors: Vec::new(),
        retry_after_s: None,
        attempts: 0,
        idempotency_key: None,
    });
    Problem { retry_after_s, ..told }
}

/// A call as the generated methods describe it.
pub(crate) struct Call {
    method: Method,
    target: Result<String, Error>,
    body: Option<Bytes>,
    keyed: bool,
    repeatable: bool,
    poll: Duration,
}

impl Call {
    /// `path` has a `{}` for each of `parts`.
    pub(crate) fn new(method: Method, path: &str, parts: &[&str]) -> Call {
        let mut target = Ok(String::new());
        let mut parts = parts.iter();
        for (at, piece) in path.split("{}").enumerate() {
            if at > 0 {
                let part = parts.next().expect("a value for each place");
                target = target.and_then(|to| append_part(to, part));
            }
            if let Ok(target) = &mut target {
                target.push_str(piece);
            }
        }
        Call { method, target, body: None, keyed: false, repeatable: true, poll: Duration::ZERO }
    }

    pub(crate) fn query(mut self, told: &[(&str, Option<String>)]) -> Call {
        if let Ok(target) = &mut self.target {
            let mut between = '?';
            for (name, value) in told.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
                target.push(between);
                target.push_str(name);
                target.push('=');
                escape(target, value);
                between = '&';
            }
        }
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Call {
        match serde_json::to_vec(body) {
            Ok(body) => self.body = Some(body.into()),
            Err(error) => self.target = Err(Error::Request(error.to_string())),
        }
        self
    }

    pub(crate) fn keyed(mut self) -> Call {
        self.keyed = true;
        self
    }

    pub(crate) fn not_repeatable(mut self) -> Call {
        self.repeatable = false;
        self
    }

    /// A long poll has that time on top: the server means to be late.
    pub(crate) fn poll_s(mut self, seconds: u64) -> Call {
        self.poll = Duration::from_secs(seconds);
        self
    }
}

/// What would name another path is refused.
fn append_part(mut to: String, part: &str) -> Result<String, Error> {
    if matches!(part, "" | "." | "..") {
        return Err(Error::Request(format!("{part:?} cannot be a user or an id")));
    }
    escape(&mut to, part);
    Ok(to)
}

fn escape(to: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push(char::from(byte)),
            _ => write!(to, "%{byte:02X}").expect("a String takes what is written"),
        }
    }
}

/// What a call was answered.
pub(crate) struct Answer {
    body: Bytes,
    /// The key it was asked under: whoever cannot read the answer can ask again.
    idempotency_key: Option<String>,
}

impl std::ops::Deref for Answer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

/// The answer of a call, read.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| Error::Unexpected {
        reason: error.to_string(),
        idempotency_key: answer.idempotency_key.clone(),
    })
}

/// A list, page after page as it is asked for.
pub struct Pages<T> {
    client: Client,
    /// Without a cursor; none once it has ended.
    target: Option<Result<String, Error>>,
    cursor: Option<String>,
    read: std::vec::IntoIter<T>,
    page: PageReader<T>,
}

/// Reads a page, and where the next one starts.
pub(crate) type PageReader<T> = fn(&Answer) -> Result<(Vec<T>, Option<String>), Error>;

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("target", &self.target).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl<T> Pages<T> {
    pub(crate) fn new(client: &Client, call: Call, page: PageReader<T>) -> Pages<T> {
        Pages { client: client.clone(), target: Some(call.target), cursor: None, read: Vec::new().into_iter(), page }
    }

    /// The next of the list; none at its end, and after an error.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        loop {
            if let Some(one) = self.read.next() {
                return Some(Ok(one));
            }
            match self.fetch().await? {
                Ok(read) => self.read = read.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// All that are left, in memory.
    ///
    /// # Errors
    /// The first.
    pub async fn collect(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(one) = self.next().await {
            all.push(one?);
        }
        Ok(all)
    }

    async fn fetch(&mut self) -> Option<Result<Vec<T>, Error>> {
        let target = match self.target.take()? {
            Ok(target) => target,
            Err(error) => return Some(Err(error)),
        };
        let mut call = Call::new(Method::GET, "", &[]);
        let mut asked = target.clone();
        if let Some(cursor) = &self.cursor {
            asked.push_str(if asked.contains('?') { "&cursor=" } else { "?cursor=" });
            escape(&mut asked, cursor);
        }
        call.target = Ok(asked);
        let page = match self.client.call(call).await {
            Ok(answer) => (self.page)(&answer),
            Err(error) => Err(error),
        };
        Some(page.map(|(read, next)| {
            if next.is_some() {
                self.target = Some(Ok(target));
                self.cursor = next;
            }
            read
        }))
    }
}
