//! Grabs over HTTP against the same server loop answering a constant: sold out,
//! won and durable, and a hundred in one request against one by one.
//!
//! `cargo bench -p hongbao-benches --bench http`, with `ROUNDS`, `SLICE_MS` of
//! each turn, `CONNECTIONS` and `GENERATORS` (threads that send).
//!
//! Servers and senders share this process and its cores. Every sender's
//! connections each have one request under way: the next is sent when the last
//! is answered. What is sent is the same, byte for byte but for the users, to
//! both sides of a pair; whatever the answer, it is read by the same code.
//!
//! **Invariant:** an answer that is not the one expected ends the bench, and a
//! turn's wins are as many as the records it left in the journal.

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use hongbao_benches::{
    Goal, Pair, Unit, catch_up, counted, create, directory, durable, each, figure, fund, heading, median, process_time,
    sender, setting, thread_time,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use hongbao_engine::memory::Embedded;
use hongbao_engine::split::SHARES_MAX;
use hongbao_engine::types::{EnvelopeId, UserId};
use hongbao_server::app::{Server, Setup, app};
use hongbao_server::metrics::Metrics;
use hongbao_server::serve::{Limits, listen, serve};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: &str = "hb_bench_0123456789";
const BATCH: usize = 100;
/// Where a user's number goes; as many digits as it has.
const USER: &str = "1000000000";
/// Answered before a turn is measured: connections have been accepted and caches filled.
const WARM_UP: Duration = Duration::from_millis(200);

/// A request with places for users.
#[derive(Clone)]
struct Request {
    bytes: Vec<u8>,
    users_at: Vec<usize>,
}

impl Request {
    fn new(path: &str, body: &str) -> Request {
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let users_at = bytes.match_indices(USER).map(|(at, _)| at).collect();
        Request { bytes: bytes.into_bytes(), users_at }
    }

    fn single(envelope: EnvelopeId) -> Request {
        Request::new(&format!("/v1/envelopes/{envelope}/grab"), &format!(r#"{{"user":"{USER}"}}"#))
    }

    fn batch(envelope: EnvelopeId) -> Request {
        let grab = format!(r#"{{"envelope":"{envelope}","user":"{USER}"}}"#);
        Request::new("/v1/grabs", &format!(r#"{{"grabs":[{}]}}"#, vec![grab; BATCH].join(",")))
    }

    /// The bytes with the next users in their places.
    fn next(&mut self, user: &mut u64) -> &[u8] {
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
type Expected = &'static [u8];
const SOLD_OUT: Expected = br#"{"outcome":"sold_out"}"#;
const WON: Expected = br#"{"outcome":"won""#;
const ALL_WON: Expected = br#"{"results":[{"outcome":"won""#;

/// One keep-alive connection and what has come of its answer.
struct Connection {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        Connection { stream, came: Vec::with_capacity(32 << 10) }
    }

    fn send(&mut self, bytes: &[u8]) {
        let sent = self.stream.write(bytes).expect("the server reads");
        assert_eq!(sent, bytes.len(), "a request fits into the socket's buffer");
    }

    /// Reads what there is, and says whether the answer is whole.
    fn read(&mut self, buffer: &mut [u8], expected: Expected) -> bool {
        let read = match self.stream.read(buffer) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("a connection failed: {error}"),
        };
        // Nearly always the answer comes whole, and nothing is copied.
        if self.came.is_empty() && is_whole(read, expected) {
            return true;
        }
        self.came.extend_from_slice(read);
        let whole = is_whole(&self.came, expected);
        if whole {
            self.came.clear();
        }
        whole
    }
}

fn is_whole(answer: &[u8], expected: Expected) -> bool {
    let Some(body) = body_of(answer) else { return false };
    let shown = || String::from_utf8_lossy(answer);
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", shown());
    assert!(body.starts_with(expected) || body.len() < expected.len(), "{}", shown());
    let head = &answer[..answer.len() - body.len()];
    let length = content_length(head).unwrap_or_else(|| panic!("an answer tells its length: {}", shown()));
    assert!(body.len() <= length, "one answer a request: {}", shown());
    body.len() == length
}

fn body_of(answer: &[u8]) -> Option<&[u8]> {
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
struct Turn {
    /// Nanoseconds an answer.
    ns: f64,
    answers: u64,
    /// Processor time of the senders.
    senders: Duration,
}

/// How the load is made.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    generators: usize,
    slice: Duration,
}

impl Load {
    fn turn(self, address: SocketAddr, request: &Request, expected: Expected) -> Turn {
        let ready = Arc::new(Barrier::new(self.generators));
        let threads: Vec<_> = (0..self.generators)
            .map(|thread| {
                let (request, ready) = (request.clone(), Arc::clone(&ready));
                // Ten digits hold a thousand million users, and each sender has its own.
                let first = 1_000_000_000 + thread as u64 * 500_000_000;
                std::thread::spawn(move || self.send(address, request, first, expected, &ready))
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
        mut request: Request,
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
        for connection in &mut connections {
            connection.send(request.next(&mut user));
        }
        let mut buffer = vec![0; 64 << 10];
        let mut events = Vec::with_capacity(connections.len());
        while waiting > 0 {
            epoll::wait(&epoll, spare_capacity(&mut events), None).expect("sockets can be waited for");
            let now = Instant::now();
            for event in events.drain(..) {
                let connection = &mut connections[event.data.u64() as usize];
                if !connection.read(&mut buffer, expected) {
                    continue;
                }
                sent.answers += 1;
                sent.measured += u64::from(now >= from && now < until);
                if now < until {
                    connection.send(request.next(&mut user));
                } else {
                    waiting -= 1;
                }
            }
        }
        sent.busy = thread_time();
        sent
    }
}

/// Serves `router` on a port of its own, in the loop of the real server.
fn start(runtime: &Runtime, router: Router, metrics: Arc<Metrics>) -> SocketAddr {
    let listeners = listen("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let address = listeners[0].local_addr().expect("it is bound");
    runtime.spawn(serve(router, listeners, Limits::default(), metrics, CancellationToken::new()));
    address
}

/// The same routes, with a handler that reads the body and answers `constant`.
fn constant(runtime: &Runtime, constant: Bytes) -> SocketAddr {
    let answer = async move |_: Bytes| ([("content-type", "application/json")], constant.clone());
    let router = Router::new().route("/v1/envelopes/{id}/grab", post(answer.clone())).route("/v1/grabs", post(answer));
    start(runtime, router, Arc::new(Metrics::new()))
}

/// The body that the real server answers to `request`.
fn body(address: SocketAddr, request: &Request, expected: Expected) -> Bytes {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.write_all(&request.bytes).expect("the server reads");
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&answer, expected) {
        let read = stream.read(&mut buffer).expect("the server answers");
        answer.extend_from_slice(&buffer[..read]);
    }
    Bytes::copy_from_slice(body_of(&answer).expect("it is whole"))
}

/// The real server and the loads on it.
struct Stand {
    runtime: Runtime,
    engine: Arc<Embedded>,
    address: SocketAddr,
    load: Load,
    shares: u32,
}

/// What a turn used of the servers' processor time, all threads but the senders'.
#[derive(Default)]
struct Used {
    ours: Vec<f64>,
    baseline: Vec<f64>,
    /// The senders' part of all processor time.
    senders: Vec<f64>,
    /// Records not yet in the store when a turn ended.
    lag: Vec<f64>,
}

impl Stand {
    /// An envelope with so many shares that no turn takes them all.
    fn envelope(&self) -> EnvelopeId {
        self.runtime.block_on(create(&*self.engine, &sender(), self.shares))
    }

    fn envelope_sold_out(&self) -> EnvelopeId {
        let (envelope, user) = (self.runtime.block_on(create(&*self.engine, &sender(), 1)), sender());
        let grab = Command::Grab { envelope, user };
        self.runtime.block_on(self.engine.execute(grab, None)).expect("the only share is grabbed");
        envelope
    }

    /// A turn at the real server: `wins` of every answer are records. Its
    /// processor time counts until everything is on disk in the store too.
    fn ours(&self, request: &Request, expected: Expected, wins: u64, used: &mut Used) -> f64 {
        catch_up(&self.engine);
        let records = self.engine.stats().journal.map_or(0, |journal| journal.records);
        let time = process_time();
        let turn = self.load.turn(self.address, request, expected);
        used.lag.push(self.engine.stats().lag_records as f64);
        used.senders.push(turn.senders.as_secs_f64() / (process_time() - time).as_secs_f64());
        counted(&self.engine, records + wins * turn.answers);
        catch_up(&self.engine);
        used.ours.push(each(process_time() - time - turn.senders, turn.answers as usize));
        turn.ns
    }

    fn theirs(&self, address: SocketAddr, request: &Request, expected: Expected, used: &mut Used) -> f64 {
        catch_up(&self.engine);
        let time = process_time();
        let turn = self.load.turn(address, request, expected);
        used.senders.push(turn.senders.as_secs_f64() / (process_time() - time).as_secs_f64());
        used.baseline.push(each(process_time() - time - turn.senders, turn.answers as usize));
        turn.ns
    }

    /// Ours against a constant of the same size, and what both cost the servers.
    fn against_constant(&self, rounds: usize, what: &str, is_won: bool, goal: Goal) {
        let envelope = || if is_won { self.envelope() } else { self.envelope_sold_out() };
        let (expected, wins) = if is_won { (WON, 1) } else { (SOLD_OUT, 0) };
        let same = constant(&self.runtime, body(self.address, &Request::single(envelope()), expected));
        let (mut used, mut used_same) = (Used::default(), Used::default());
        let pair = Pair::measure(
            rounds,
            || self.ours(&Request::single(envelope()), expected, wins, &mut used),
            || self.theirs(same, &Request::single(EnvelopeId::from_bytes([7; 16])), expected, &mut used_same),
        );
        let against = "a handler that answers a constant";
        pair.row(&format!("{what}, {} connections", self.load.connections), against, Unit::Time, goal);
        Pair { ours: used.ours, baseline: used_same.baseline }.row(
            &format!("{what}: the server's processor time, projection to its end included"),
            against,
            Unit::Time,
            Goal::ReportTimes,
        );
        figure(
            &format!("{what}: the senders' part of all processor time, ours and constant"),
            &format!("{:.0} %, {:.0} %", 100.0 * median(&used.senders), 100.0 * median(&used_same.senders)),
            "the more, the nearer the ratio is pulled to 1",
            None,
            rounds,
        );
        figure(
            &format!("{what}: records not yet in the store at the end of a turn"),
            &format!("{:.0}", median(&used.lag)),
            "report",
            None,
            rounds,
        );
    }

    /// Longer turns on larger envelopes: all connections together have 25,600
    /// grabs under way, and a turn is to be many times that.
    fn batches(mut self, rounds: usize) -> Stand {
        self.load.slice *= 2;
        self.shares = SHARES_MAX.min(self.shares * 4);
        let (mut used, mut used_single) = (Used::default(), Used::default());
        Pair::measure(
            rounds,
            || self.ours(&Request::batch(self.envelope()), ALL_WON, BATCH as u64, &mut used) / BATCH as f64,
            || self.ours(&Request::single(self.envelope()), WON, 1, &mut used_single),
        )
        .row(
            &format!("durable POST /v1/grabs with {BATCH} grabs, a grab, {} connections", self.load.connections),
            "durable POST …/grab, a grab",
            Unit::Time,
            Goal::Rate { at_least: 10.0, aim: 30.0 },
        );
        self
    }
}

fn main() {
    heading();
    let directory = directory();
    let engine = Arc::new(durable(directory.path()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(fund(&*engine, &sender()));
    let setup = Setup {
        currency: "CNY".parse().expect("a currency"),
        admin_key: KEY.to_owned(),
        test: false,
        metrics_apart: false,
        in_flight_max: 4096,
        body_timeout: Duration::from_secs(15),
    };
    let server = Server::new(Arc::clone(&engine), &setup);
    let metrics = Arc::clone(&server.metrics);
    let address = start(&runtime, app(server), metrics);
    let load = Load {
        connections: setting("CONNECTIONS", 256),
        generators: setting("GENERATORS", 2),
        slice: Duration::from_millis(setting("SLICE_MS", 1_000)),
    };
    let rounds = setting("ROUNDS", 9);
    assert!(load.connections <= 4096, "more would be shed, which is not what is measured");
    let stand = Stand { runtime, engine, address, load, shares: setting("SHARES", 3_000_000) };
    assert_eq!(UserId::new(USER).map(|user| user.as_str().len()), Ok(10), "a user's number has ten digits");

    let sold_out = Goal::Rate { at_least: 0.85, aim: 0.95 };
    stand.against_constant(rounds, "sold-out answer to POST …/grab", false, sold_out);
    stand.against_constant(rounds, "durable POST …/grab, won", true, Goal::Rate { at_least: 0.75, aim: 0.9 });
    let Stand { runtime, engine, .. } = stand.batches(rounds);
    runtime.shutdown_timeout(Duration::from_secs(1));
    engine.close().expect("the engine closes");
}
