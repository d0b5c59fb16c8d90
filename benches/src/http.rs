//! Load over HTTP: keep-alive connections that each have one request under way,
//! the next sent when the last is answered, from threads that share this
//! process and its cores with the servers.
//!
//! **Invariant:** an answer that is not the one expected ends the bench.

use crate::{each, setting, thread_time};
use axum::Router;
use hongbao_engine::types::EnvelopeId;
use hongbao_server::app::Setup;
use hongbao_server::caps::Caps;
use hongbao_server::metrics::Metrics;
use hongbao_server::payments::PaymentOptions;
use hongbao_server::relations::MayGive;
use hongbao_server::serve::{Limits, listen, serve};
use hongbao_server::webhooks::WebhookOptions;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const KEY: &str = "hb_bench_0123456789";
const IN_FLIGHT_MAX: usize = 4096;
/// Grabs in a request of many.
pub const BATCH: usize = 100;
/// Where a user's number goes; as many digits as it has.
pub const USER: &str = "1000000000";
/// Answered before a turn is measured: connections have been accepted and caches filled.
const WARM_UP: Duration = Duration::from_millis(200);

/// What one sender says on its connections.
pub trait Talk: Clone + Send + 'static {
    /// The next request on this connection, whose last answer's body was `answer`; empty before the first.
    /// Users are numbered on from `user`.
    fn next(&mut self, connection: usize, answer: &[u8], user: &mut u64) -> &[u8];
}

/// A request with places for users.
#[derive(Clone)]
pub struct Request {
    /// As it is sent, but for the users.
    pub bytes: Vec<u8>,
    users_at: Vec<usize>,
}

/// A POST as it is sent, with `head` among its headers.
pub fn post(path: &str, head: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\n{head}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Request {
    fn new(path: &str, body: &str) -> Request {
        let bytes = post(path, "", body);
        let users_at = bytes.match_indices(USER).map(|(at, _)| at).collect();
        Request { bytes: bytes.into_bytes(), users_at }
    }

    /// One user grabs.
    pub fn single(envelope: EnvelopeId) -> Request {
        Request::new(&format!("/v1/envelopes/{envelope}/grab"), &format!(r#"{{"user":"{USER}"}}"#))
    }

    /// [`BATCH`] users grab.
    pub fn batch(envelope: EnvelopeId) -> Request {
        let grab = format!(r#"{{"envelope":"{envelope}","user":"{USER}"}}"#);
        Request::new("/v1/grabs", &format!(r#"{{"grabs":[{}]}}"#, vec![grab; BATCH].join(",")))
    }
}

impl Talk for Request {
    /// The same with the next users in their places.
    fn next(&mut self, _: usize, _: &[u8], user: &mut u64) -> &[u8] {
        for &at in &self.users_at {
            let mut number = *user;
            for digit in self.bytes[at..at + USER.len()].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            *user += 1;
        }
        &self.bytes
    }
}

/// How the body of every answer of a turn begins.
pub type Expected = &'static [u8];
/// Nothing is left.
pub const SOLD_OUT: Expected = br#"{"outcome":"sold_out"}"#;
/// A share is won.
pub const WON: Expected = br#"{"outcome":"won""#;
/// The first of many has won.
pub const ALL_WON: Expected = br#"{"results":[{"outcome":"won""#;

/// One keep-alive connection and what has come of its answer.
struct Connection {
    stream: TcpStream,
    came: Vec<u8>,
    /// What came was told, and goes.
    is_told: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        Connection { stream, came: Vec::with_capacity(32 << 10), is_told: false }
    }

    fn send(&mut self, bytes: &[u8]) {
        let sent = self.stream.write(bytes).expect("the server reads");
        assert_eq!(sent, bytes.len(), "a request fits into the socket's buffer");
    }

    /// Reads what there is, and tells the answer's body once it is whole.
    fn read<'a>(&'a mut self, buffer: &'a mut [u8], expected: Expected) -> Option<&'a [u8]> {
        if self.is_told {
            self.came.clear();
            self.is_told = false;
        }
        let read = match self.stream.read(buffer) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("a connection failed: {error}"),
        };
        // Nearly always the answer comes whole, and nothing is copied.
        if self.came.is_empty() && is_whole(read, expected) {
            return body_of(read);
        }
        self.came.extend_from_slice(read);
        self.is_told = is_whole(&self.came, expected);
        if self.is_told { body_of(&self.came) } else { None }
    }
}

/// Whether an answer has come whole.
///
/// # Panics
/// If it is not the one expected.
pub fn is_whole(answer: &[u8], expected: Expected) -> bool {
    let Some(body) = body_of(answer) else { return false };
    let shown = || String::from_utf8_lossy(answer);
    assert!(answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.1 201 "), "{}", shown());
    assert!(body.starts_with(expected) || body.len() < expected.len(), "{}", shown());
    let head = &answer[..answer.len() - body.len()];
    let length = content_length(head).unwrap_or_else(|| panic!("an answer tells its length: {}", shown()));
    assert!(body.len() <= length, "one answer a request: {}", shown());
    body.len() == length
}

/// What stands behind the head, once that is there.
pub fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(&answer[end + 4..])
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let at = head.windows(NAME.len()).position(|window| window == NAME)?;
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

/// What one sender saw.
struct Sent {
    /// Answers, of all and of those within the measured time.
    answers: u64,
    measured: u64,
    busy: Duration,
}

/// A turn at one server.
pub struct Turn {
    /// Nanoseconds an answer.
    pub ns: f64,
    /// All answers, those before and after the measured time too.
    pub answers: u64,
    /// Processor time of the senders.
    pub senders: Duration,
}

/// How the load is made.
#[derive(Clone, Copy)]
pub struct Load {
    /// All together.
    pub connections: usize,
    /// Threads that send.
    pub generators: usize,
    /// What is measured of a turn.
    pub slice: Duration,
}

impl Load {
    /// `CONNECTIONS`, `GENERATORS` and `SLICE_MS` of the environment.
    ///
    /// # Panics
    /// If there are more connections than a server takes requests at once.
    pub fn from_environment() -> Load {
        let load = Load {
            connections: setting("CONNECTIONS", 256),
            generators: setting("GENERATORS", 2),
            slice: Duration::from_millis(setting("SLICE_MS", 1_000)),
        };
        assert!(load.connections <= IN_FLIGHT_MAX, "more would be shed, which is not what is measured");
        load
    }

    /// Sends for a while.
    ///
    /// # Panics
    /// If an answer is not as expected.
    pub fn turn(self, address: SocketAddr, talk: &impl Talk, expected: Expected) -> Turn {
        let ready = Arc::new(Barrier::new(self.generators));
        let threads: Vec<_> = (0..self.generators)
            .map(|thread| {
                let (talk, ready) = (talk.clone(), Arc::clone(&ready));
                // Ten digits hold a thousand million users, and each sender has its own.
                let first = 1_000_000_000 + thread as u64 * 500_000_000;
                std::thread::spawn(move || self.send(address, talk, first, expected, &ready))
            })
            .collect();
        let sent: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a sender does not panic")).collect();
        let measured = sent.iter().map(|sent| sent.measured as usize).sum();
        Turn {
            ns: each(self.slice, measured),
            answers: sent.iter().map(|sent| sent.answers).sum(),
            senders: sent.iter().map(|sent| sent.busy).sum(),
        }
    }

    fn send(
        self,
        address: SocketAddr,
        mut talk: impl Talk,
        mut user: u64,
        expected: Expected,
        ready: &Barrier,
    ) -> Sent {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("the kernel has epoll");
        let mut connections: Vec<_> =
            (0..self.connections / self.generators).map(|_| Connection::open(address)).collect();
        for (number, connection) in connections.iter().enumerate() {
            connection.stream.set_nonblocking(true).expect("a socket takes options");
            let number = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &connection.stream, number, epoll::EventFlags::IN).expect("a socket can be watched");
        }
        ready.wait();
        let from = Instant::now() + WARM_UP;
        let until = from + self.slice;
        let mut sent = Sent { answers: 0, measured: 0, busy: Duration::ZERO };
        let mut waiting = connections.len();
        for (number, connection) in connections.iter_mut().enumerate() {
            connection.send(talk.next(number, &[], &mut user));
        }
        let mut buffer = vec![0; 64 << 10];
        let mut events = Vec::with_capacity(connections.len());
        while waiting > 0 {
            epoll::wait(&epoll, spare_capacity(&mut events), None).expect("sockets can be waited for");
            let now = Instant::now();
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                let connection = &mut connections[number];
                let Some(answer) = connection.read(&mut buffer, expected) else { continue };
                sent.answers += 1;
                sent.measured += u64::from(now >= from && now < until);
                let next = talk.next(number, answer, &mut user);
                if now < until {
                    connection.send(next);
                } else {
                    waiting -= 1;
                }
            }
        }
        sent.busy = thread_time();
        sent
    }
}

/// How the servers of the benches are set up: only the key matters.
pub fn setup() -> Setup {
    Setup {
        currency: "CNY".parse().expect("a currency"),
        admin_key: KEY.to_owned(),
        test: false,
        metrics_apart: false,
        in_flight_max: IN_FLIGHT_MAX,
        event_readers_max: 1,
        body_timeout: Duration::from_secs(15),
        caps: Caps::default(),
        may_give: MayGive::default(),
        webhooks: WebhookOptions::default(),
        payments: PaymentOptions::default(),
    }
}

/// Serves `router` on a port of its own, in the loop of the real server.
pub fn start(runtime: &Runtime, router: Router, metrics: Arc<Metrics>) -> SocketAddr {
    let listeners = listen("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let address = listeners[0].local_addr().expect("it is bound");
    runtime.spawn(serve(router, listeners, Limits::default(), metrics, CancellationToken::new()));
    address
}
