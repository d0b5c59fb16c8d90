//! One request to a target, and what it answers.
//!
//! **Invariant:** a request ends within its time, whatever the other side does;
//! of an answer no more than a bound is read, and a redirect is not followed.

use super::sign::{Secret, signatures};
use super::target::{AllowedTarget, Host, Target};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// So much of an answer's body is read, so that its connection can be used again.
const BODY_BYTES_MAX: usize = 64 << 10;
/// So much of all that comes for a request: heads of 1xx may come without end before the answer.
const ANSWER_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX;
/// And so long.
const BODY_TIME: Duration = Duration::from_secs(1);
/// How long a name may be looked up, and an address be dialled.
const DIAL_TIME: Duration = Duration::from_secs(5);

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A status, and how long it asks to be left alone.
    Status(StatusCode, Option<Duration>),
    /// Why there was none.
    None(String),
}

/// Whom to trust, for connections with TLS: those in `ca`, or whom the system trusts.
///
/// # Errors
/// What cannot be read.
pub fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let wrong = |error: &dyn Display| format!("{}: {error}; it has to be in PEM", path.display());
            let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
            for certificate in found {
                roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"there is no certificate in it"));
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(config(roots))
}

pub(crate) fn config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring has what TLS 1.2 and 1.3 need").with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

/// What all requests have in common.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) allowed: Arc<[AllowedTarget]>,
    pub(crate) tls: Arc<ClientConfig>,
    /// How long a request may take, from the dial to the answer's head.
    pub(crate) timeout: Duration,
    pub(crate) names: Names,
}

/// Who knows the addresses of names.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    System,
    /// Somebody who says this, one after the other.
    #[cfg(test)]
    Told(Arc<std::sync::Mutex<std::collections::VecDeque<Vec<IpAddr>>>>),
}

/// The way to one endpoint: a connection that is used again as long as it lasts.
#[derive(Default)]
pub(super) struct Line(Option<(Target, Wire)>);

/// A connection.
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    /// So many bytes may still come for the request that is on its way.
    left: Arc<AtomicUsize>,
}

impl Wire {
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.left.store(ANSWER_BYTES_MAX, Ordering::Relaxed);
        self.sender.send_request(request).await
    }
}

/// What comes over a connection, up to its bound.
struct Bounded<S> {
    stream: S,
    left: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other(format!("it is more than {} KiB", ANSWER_BYTES_MAX >> 10))));
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.left.store(left.saturating_sub(buf.filled().len() - before), Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request's body and what is signed of it.
pub(crate) struct Letter {
    id: String,
    at_s: u64,
    signatures: String,
    body: Bytes,
}

impl Letter {
    /// One that is signed now, by the system's clock: the receiver compares it with its own,
    /// and an engine's may have been moved for a test.
    pub(crate) fn signed<'a>(secrets: impl IntoIterator<Item = &'a Secret>, id: String, body: Bytes) -> Letter {
        let at_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let signatures = signatures(secrets, &id, at_s, &body);
        Letter { id, at_s, signatures, body }
    }
}

impl Sender {
    /// Sends a letter to `url` and gives what came back.
    pub(super) async fn send(&self, line: &mut Line, url: &str, letter: &Letter) -> Answer {
        let sent = timeout(self.timeout, self.ask(line, url, letter)).await;
        match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::None(why),
            Err(_) => {
                line.0 = None;
                Answer::None(format!("no answer within {} s", self.timeout.as_secs_f32()))
            }
        }
    }

    /// Asks `url` something over a connection of its own, and gives what it answers.
    pub(crate) async fn call(&self, method: Method, url: &str, letter: &Letter) -> Result<(StatusCode, Bytes), String> {
        let asked = async {
            let target = Target::read(url, &self.allowed).map_err(|why| format!("the url {why}"))?;
            let mut wire = self.connect(&target).await?;
            let response = wire.ask(request(method, &target, letter)).await;
            let response = response.map_err(|error| format!("no answer: {}", chain(&error)))?;
            let status = response.status();
            // The connection takes no more than its bound.
            let body = response.into_body().collect().await;
            Ok((status, body.map_err(|error| format!("{status} and no more: {}", chain(&error)))?.to_bytes()))
        };
        timeout(self.timeout, asked).await.map_err(|_| format!("no answer within {} s", self.timeout.as_secs_f32()))?
    }

    async fn ask(&self, line: &mut Line, url: &str, letter: &Letter) -> Result<Answer, String> {
        let target = Target::read(url, &self.allowed).map_err(|why| format!("the url {why}"))?;
        let kept = line.0.take().filter(|(to, wire)| *to == target && !wire.sender.is_closed());
        let mut response = None;
        if let Some((_, mut wire)) = kept
            && wire.sender.ready().await.is_ok()
        {
            response = match wire.ask(request(Method::POST, &target, letter)).await {
                Ok(response) => Some((response, wire)),
                // The other side may have closed it before it saw the request: then a new one is made.
                Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => None,
                Err(error) => return Err(format!("no answer: {}", chain(&error))),
            };
        }
        let (response, wire) = match response {
            Some(response) => response,
            None => {
                let mut wire = self.connect(&target).await?;
                let response = wire.ask(request(Method::POST, &target, letter)).await;
                (response.map_err(|error| format!("no answer: {}", chain(&error)))?, wire)
            }
        };
        let answer = Answer::Status(response.status(), retry_after(response.headers()));
        if timeout(BODY_TIME, is_read(response)).await == Ok(true) {
            line.0 = Some((target, wire));
        }
        Ok(answer)
    }

    async fn connect(&self, target: &Target) -> Result<Wire, String> {
        let mut last = String::new();
        for address in target.checked(self.names.found(target).await?, &self.allowed)? {
            match timeout(DIAL_TIME, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.converse(target, stream).await,
                Ok(Err(error)) => last = format!("{}: {error}", shown(address)),
                Err(_) => last = format!("{}: no connection within {} s", shown(address), DIAL_TIME.as_secs()),
            }
        }
        Err(last)
    }

    async fn converse(&self, target: &Target, stream: TcpStream) -> Result<Wire, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if !target.is_tls {
            return begin(stream).await;
        }
        let name = match &target.host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| error.to_string())?,
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        begin(connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?).await
    }
}

fn shown(address: SocketAddr) -> String {
    format!("{address} cannot be reached")
}

impl Names {
    /// The addresses that the target's host has now.
    async fn found(&self, target: &Target) -> Result<Vec<IpAddr>, String> {
        let name = match &target.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let unknown = |why: &dyn Display| format!("{name} was not found: {why}");
        let looked_up = timeout(DIAL_TIME, self.look_up(name, target.port)).await;
        looked_up.map_err(|_| unknown(&"no answer in time"))?.map_err(|error| unknown(&error))
    }

    async fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        match self {
            Names::System => {
                tokio::net::lookup_host((name, port)).await.map(|found| found.map(|address| address.ip()).collect())
            }
            #[cfg(test)]
            Names::Told(answers) => answers.lock().unwrap().pop_front().ok_or(io::ErrorKind::NotFound.into()),
        }
    }
}

async fn begin<S>(stream: S) -> Result<Wire, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let left = Arc::new(AtomicUsize::new(ANSWER_BYTES_MAX));
    let stream = TokioIo::new(Bounded { stream, left: Arc::clone(&left) });
    let began = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await;
    let (sender, connection) = began.map_err(|error| chain(&error))?;
    // It ends with its sender. Why it broke is told to whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(Wire { sender, left })
}

fn request(method: Method, target: &Target, letter: &Letter) -> Request<Full<Bytes>> {
    let request = Request::builder()
        .method(method)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, concat!("hongbao/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &letter.id)
        .header("webhook-timestamp", letter.at_s)
        .header("webhook-signature", &letter.signatures)
        .body(Full::new(letter.body.clone()));
    request.expect("a path was read from a URL, and the rest is ASCII")
}

/// Reads what is left of an answer; says whether that was all within the bound.
async fn is_read(response: Response<Incoming>) -> bool {
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > BODY_BYTES_MAX {
            return false;
        }
    }
    true
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(SystemTime::now()).ok()?;
    u64::try_from(at.as_second() - now.as_second()).ok().map(Duration::from_secs)
}

/// An error with what it came from, since hyper tells that apart.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    /// A server at this address that ends each connection behind so many answers, and how many it took.
    async fn listen(address: &str, port: u16, answers: usize) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let (port, taken) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut stream = BufReader::new(stream);
                for _ in 0..answers {
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.unwrap() > 0 && line.trim() != "" {
                        line.clear();
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                }
            }
        });
        (port, taken)
    }

    /// A name whose owner lets it lead elsewhere from one moment to the next.
    #[tokio::test]
    async fn what_is_dialled_was_checked_wherever_the_name_leads_a_moment_later() {
        let (port, named_taken) = listen("127.0.0.1", 0, 2).await;
        let (_, inside_taken) = listen("127.0.0.2", port, 2).await;
        let [named, inside] = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let allowed = ["http://hooks.example.com".to_owned(), "http://127.0.0.1".to_owned()];
        let sender = Sender {
            allowed: allowed.iter().map(|host| format!("{host}:{port}").parse().unwrap()).collect(),
            tls: config(RootCertStore::empty()),
            timeout: Duration::from_secs(60),
            names: Names::Told(Arc::clone(&answers)),
        };
        let (url, mut line) = (format!("http://hooks.example.com:{port}/"), Line::default());
        let letter = Letter::signed([], "msg_1".to_owned(), Bytes::new());
        let taken = Answer::Status(StatusCode::OK, None);

        // Asked again between check and dial, the name would lead inside.
        answers.lock().unwrap().extend([vec![inside, named], vec![inside]]);
        assert_eq!(sender.send(&mut line, &url, &letter).await, taken);
        assert_eq!(answers.lock().unwrap().len(), 1, "it is looked up once");
        // A connection that lasts leads where it led.
        assert_eq!(sender.send(&mut line, &url, &letter).await, taken);
        assert_eq!((answers.lock().unwrap().len(), named_taken.load(Ordering::Relaxed)), (1, 1));
        // The next one is made anew, and the name leads inside by now.
        let Answer::None(why) = sender.send(&mut line, &url, &letter).await else { panic!("it was sent") };
        assert!(why.contains("leads to 127.0.0.2, which is an address of the inside"), "{why}");
        answers.lock().unwrap().extend([vec![], vec![named]]);
        let Answer::None(why) = sender.send(&mut line, &url, &letter).await else { panic!("it was sent") };
        assert!(why.contains("leads to no address"), "{why}");
        assert_eq!(sender.send(&mut line, &url, &letter).await, taken, "and outside again");
        assert_eq!((named_taken.load(Ordering::Relaxed), inside_taken.load(Ordering::Relaxed)), (2, 0));
    }

    #[test]
    fn a_time_to_be_left_alone_is_told_in_seconds_or_as_a_date() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), None, "it is over");
        assert!(of("Fri, 31 Dec 2100 23:59:59 GMT").is_some_and(|left| left > Duration::from_secs(1 << 30)));
        for wrong in ["", "-1", "soon", "1.5"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
