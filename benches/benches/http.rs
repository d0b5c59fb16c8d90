//! Grabs over HTTP against the same server loop answering a constant: sold out,
//! won and durable, and a hundred in one request against one by one; and the steps of
//! gifts' lives against grabs.
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
use hongbao_benches::http::{
    ALL_WON, BATCH, Expected, Load, Request, SOLD_OUT, Talk, USER, WON, body_of, is_whole, setup, start,
};
use hongbao_benches::lives::{GIFT, Lives};
use hongbao_benches::{
    Goal, Pair, Unit, catch_up, counted, create, directory, durable, each, figure, fund, heading, median, process_time,
    sender, setting,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use hongbao_engine::memory::Embedded;
use hongbao_engine::split::SHARES_MAX;
use hongbao_engine::types::{EnvelopeId, UserId};
use hongbao_server::app::{Server, app};
use hongbao_server::metrics::Metrics;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    fn ours(&self, request: &impl Talk, expected: Expected, wins: u64, used: &mut Used) -> f64 {
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

    /// Steps of gifts' lives, each a durable record as a grab is.
    fn gifts(&self, rounds: usize) {
        let mut lives = self.runtime.block_on(Lives::new(&*self.engine));
        let (mut used, mut used_grab) = (Used::default(), Used::default());
        let what = "durable step of a gift's life (offer, pay, accept, ship, deliver)";
        let goal = Goal::Rate { at_least: 0.6, aim: 0.8 };
        Pair::measure(
            rounds,
            || self.ours(&lives.again(), GIFT, 1, &mut used),
            || self.ours(&Request::single(self.envelope()), WON, 1, &mut used_grab),
        )
        .row(
            &format!("{what}, {} connections", self.load.connections),
            "durable POST …/grab, won",
            Unit::Time,
            goal,
        );
        Pair { ours: used.ours, baseline: used_grab.ours }.row(
            &format!("{what}: all processor time but the senders', projection to its end included"),
            "durable POST …/grab, won",
            Unit::Time,
            Goal::ReportTimes,
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
    let server = Server::new(Arc::clone(&engine), &setup());
    let metrics = Arc::clone(&server.metrics);
    let address = start(&runtime, app(server), metrics);
    let load = Load::from_environment();
    let rounds = setting("ROUNDS", 9);
    let stand = Stand { runtime, engine, address, load, shares: setting("SHARES", 3_000_000) };
    assert_eq!(UserId::new(USER).map(|user| user.as_str().len()), Ok(10), "a user's number has ten digits");

    let sold_out = Goal::Rate { at_least: 0.85, aim: 0.95 };
    stand.against_constant(rounds, "sold-out answer to POST …/grab", false, sold_out);
    stand.against_constant(rounds, "durable POST …/grab, won", true, Goal::Rate { at_least: 0.75, aim: 0.9 });
    stand.gifts(rounds);
    let Stand { runtime, engine, .. } = stand.batches(rounds);
    runtime.shutdown_timeout(Duration::from_secs(1));
    engine.close().expect("the engine closes");
}
