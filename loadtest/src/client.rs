//! One keep-alive HTTP/1.1 connection, driven by its caller.
//!
//! Generator and server often share the same cores, so a request costs one
//! write, one read and no allocation: bytes are composed into a buffer that is
//! kept, heads are parsed by `httparse` in place, bodies are lent.
//!
//! **Invariant:** a connection never has two requests on it, and after any
//! failure it is not used again, so an answer can only belong to its request.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEADERS_MAX: usize = 64;
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where requests go, with the head lines that all of them share.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    addresses: Vec<SocketAddr>,
    shared_head: Vec<u8>,
}

impl Target {
    /// `url` is `http://host[:port]`; `key` is sent as the bearer token.
    pub(crate) fn new(url: &str, key: Option<&str>) -> Result<Self, String> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("--target {url}: only http:// is spoken (put TLS in front, test behind it)"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ']) {
            return Err(format!("--target {url}: give http://host:port, without a path"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        let resolvable = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let addresses: Vec<SocketAddr> = resolvable
            .to_socket_addrs()
            .map_err(|error| format!("--target {url}: cannot be resolved: {error}"))?
            .collect();
        if addresses.is_empty() {
            return Err(format!("--target {url}: resolves to no address"));
        }
        let mut shared_head = format!("Host: {authority}\r\n").into_bytes();
        if let Some(key) = key {
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err("--key: a key is visible ASCII characters".to_owned());
            }
            shared_head.extend_from_slice(format!("Authorization: Bearer {key}\r\n").as_bytes());
        }
        Ok(Self { url: format!("http://{authority}"), addresses, shared_head })
    }

    /// Whether every address is this machine's own.
    pub(crate) fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }

    /// Composes a request into `out`, replacing what it held.
    pub(crate) fn compose(&self, out: &mut Vec<u8>, request: &Request<'_>) {
        out.clear();
        out.extend_from_slice(if request.body.is_some() { b"POST " } else { b"GET " });
        out.extend_from_slice(request.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(&self.shared_head);
        if let Some(key) = request.idempotency_key {
            let _ = write!(out, "Idempotency-Key: {key}\r\n");
        }
        match request.body {
            Some(body) => {
                let length = body.len();
                let _ = write!(out, "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
                out.extend_from_slice(body);
            }
            None => out.extend_from_slice(b"\r\n"),
        }
    }
}

/// A request: a POST if it has a body, else a GET.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) body: Option<&'a [u8]>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Could not connect: the server has not seen the request.
    Unconnected(io::Error),
    /// The connection broke or spoke nonsense: the outcome is unknown.
    Lost(io::Error),
    /// No answer in time: the outcome is unknown.
    TimedOut,
}

impl CallError {
    /// Its name among the errors of a run.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unconnected(_) => "unconnected",
            Self::Lost(_) => "connection_lost",
            Self::TimedOut => "timeout",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconnected(error) => write!(f, "cannot connect: {error}"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
            Self::TimedOut => write!(f, "no answer in time"),
        }
    }
}

/// An open connection and the last answer read from it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    body: Range<usize>,
    retry_after: Option<Duration>,
    says_test: bool,
    usable: bool,
}

impl Connection {
    pub(crate) async fn open(target: &Target, within: Duration) -> Result<Self, CallError> {
        let connect = TcpStream::connect(target.addresses.as_slice());
        let stream = match tokio::time::timeout(within, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(CallError::Unconnected(error)),
            Err(_) => return Err(CallError::Unconnected(io::ErrorKind::TimedOut.into())),
        };
        stream.set_nodelay(true).map_err(CallError::Unconnected)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(16 << 10),
            body: 0..0,
            retry_after: None,
            says_test: false,
            usable: true,
        })
    }

    /// Whether the connection can take a request: not failed, not closed by the
    /// server while it was idle. Looks at readiness already known: no system call
    /// unless the socket has something to say.
    pub(crate) async fn is_usable(&mut self) -> bool {
        if !self.usable {
            return false;
        }
        let told = poll_fn(|cx| match self.stream.poll_read_ready(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => Poll::Ready(false),
        })
        .await;
        if told {
            let mut byte = [0_u8; 1];
            let nothing = self.stream.try_read(&mut byte);
            self.usable = matches!(nothing, Err(ref e) if e.kind() == io::ErrorKind::WouldBlock);
        }
        self.usable
    }

    /// Sends composed bytes and reads the answer: its status. The body is then
    /// in [`Connection::body`].
    pub(crate) async fn exchange(&mut self, request: &[u8], within: Duration) -> Result<u16, CallError> {
        let answer = tokio::time::timeout(within, self.exchange_unbounded(request)).await;
        let result = match answer {
            Ok(Ok(status)) => return Ok(status),
            Ok(Err(error)) => Err(CallError::Lost(error)),
            Err(_) => Err(CallError::TimedOut),
        };
        self.usable = false;
        result
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.read[self.body.clone()]
    }

    /// How long a 503 or 429 asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the last answer said that the server is in test mode.
    pub(crate) fn says_test(&self) -> bool {
        self.says_test
    }

    async fn exchange_unbounded(&mut self, request: &[u8]) -> io::Result<u16> {
        assert!(self.usable, "a failed connection is not used again");
        self.read.clear();
        self.body = 0..0;
        self.stream.write_all(request).await?;
        self.read_more().await?;
        let head = loop {
            match parse_head(&self.read)? {
                Some(head) if head.status >= 200 => break head,
                // An interim answer (100 Continue): the real one follows.
                Some(interim) => drop(self.read.drain(..interim.length)),
                None => self.read_more().await?,
            }
        };
        self.retry_after = head.retry_after;
        self.says_test = head.says_test;
        match head.framing {
            Framing::Length(length) => {
                let end = head.length + length;
                while self.read.len() < end {
                    self.read_more().await?;
                }
                self.body = head.length..end;
                if self.read.len() > end {
                    return Err(bad("more bytes than the answer's Content-Length"));
                }
            }
            Framing::Chunked => self.read_chunks(head.length).await?,
        }
        self.usable = !head.closes;
        Ok(head.status)
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.read.len() >= ANSWER_BYTES_MAX {
            return Err(bad("an answer above 16 MiB"));
        }
        // `read_buf` does not grow a vector that is full by more than a little.
        if self.read.len() == self.read.capacity() {
            self.read.reserve(self.read.len());
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Joins the chunks in place: the body ends up contiguous behind the head.
    async fn read_chunks(&mut self, head_length: usize) -> io::Result<()> {
        let mut joined = head_length;
        let mut at = head_length;
        loop {
            let size_line = httparse::parse_chunk_size(&self.read[at..]).map_err(|_| bad("chunk size"))?;
            let httparse::Status::Complete((line, size)) = size_line else {
                self.read_more().await?;
                continue;
            };
            let start = at + line;
            let end = start + length_within_bounds(size)?;
            while self.read.len() < end + 2 {
                self.read_more().await?;
            }
            if &self.read[end..end + 2] != b"\r\n" {
                return Err(bad("a chunk without its end, or trailers"));
            }
            self.read.copy_within(start..end, joined);
            joined += end - start;
            at = end + 2;
            if size == 0 {
                self.body = head_length..joined;
                return Ok(());
            }
        }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

struct Head {
    status: u16,
    length: usize,
    framing: Framing,
    closes: bool,
    retry_after: Option<Duration>,
    says_test: bool,
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| bad(&format!("not an HTTP answer: {error}")))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let bodiless = status < 200 || status == 204 || status == 304;
    let mut framing = bodiless.then_some(Framing::Length(0));
    let mut closes = response.version == Some(0);
    let mut retry_after = None;
    let mut says_test = false;
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        if header.name.eq_ignore_ascii_case("content-length") && !bodiless {
            let length = value.parse().map_err(|_| bad("Content-Length"))?;
            framing = Some(Framing::Length(length_within_bounds(length)?));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::Chunked);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes |= value.eq_ignore_ascii_case("close");
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            retry_after = value.parse().ok().map(Duration::from_secs);
        } else if header.name.eq_ignore_ascii_case("hongbao-test") {
            says_test = value.eq_ignore_ascii_case("true");
        }
    }
    let framing = framing.ok_or_else(|| bad("an answer without Content-Length"))?;
    Ok(Some(Head { status, length, framing, closes, retry_after, says_test }))
}

fn length_within_bounds(length: u64) -> io::Result<usize> {
    match usize::try_from(length) {
        Ok(length) if length <= ANSWER_BYTES_MAX => Ok(length),
        _ => Err(bad("an answer above 16 MiB")),
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (url, fine) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080", true),
            ("https://127.0.0.1", false),
            ("127.0.0.1:8080", false),
            ("http://127.0.0.1/v1", false),
            ("http://", false),
        ] {
            assert_eq!(Target::new(url, None).is_ok(), fine, "{url}");
        }
        assert!(Target::new("http://[::1]:1", None).unwrap().is_loopback());
        assert!(!Target::new("http://192.0.2.1:80", None).unwrap().is_loopback());
        assert!(Target::new("http://127.0.0.1:1", Some("a\r\nb")).is_err());
    }

    #[test]
    fn composed_requests() {
        let target = Target::new("http://127.0.0.1:1", Some("k")).unwrap();
        let mut out = b"old".to_vec();
        let body: &[u8] = br#"{"user":"a"}"#;
        target.compose(&mut out, &Request { path: "/v1/x", idempotency_key: Some("i"), body: Some(body) });
        let expected = "POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer k\r\n\
            Idempotency-Key: i\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"user\":\"a\"}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// Serves `answer` in pieces of `piece` bytes and reads it with a `Connection`.
    fn read_back(answer: &'static [u8], piece: usize) -> Result<(u16, Vec<u8>, bool), CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                for part in answer.chunks(piece) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let target = Target::new(&url, None).unwrap();
            let within = Duration::from_secs(10);
            let mut connection = Connection::open(&target, within).await?;
            let status = connection.exchange(b"GET / HTTP/1.1\r\n\r\n", within).await?;
            Ok((status, connection.body().to_vec(), connection.usable))
        })
    }

    #[test]
    fn answers_in_every_framing_and_in_pieces() {
        let cases: [(&[u8], u16, &[u8], bool); 5] = [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", 200, b"hi", false),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", true),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
                503,
                b"",
                true,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                200,
                b"abcde",
                true,
            ),
        ];
        for (answer, status, body, usable) in cases {
            for piece in [1, 7, 4096] {
                let name = format!("{} in {piece}", String::from_utf8_lossy(answer));
                let read = read_back(answer, piece).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(read, (status, body.to_vec(), usable), "{name}");
            }
        }
    }

    #[test]
    fn a_cut_answer_is_lost() {
        let cut = read_back(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 4096);
        assert!(matches!(cut, Err(CallError::Lost(_))), "{cut:?}");
    }
}
