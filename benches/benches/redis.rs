//! Grabs in front of Redis against `redis-benchmark` and a bare script, items
//! against envelopes, HTTP against the embedded engine, memory a winner, what is left
//! of an archived one, and Redis's own processor time with three primaries against one.
//!
//! `cargo bench -p hongbao-benches --bench redis`, with `ROUNDS`, `REDIS_GRABS`
//! a turn, and `SLICE_MS`, `CONNECTIONS`, `GENERATORS` of HTTP.
//!
//! Every turn has servers of its own, on the loopback, in directories beside the
//! build's; callers, engine and servers share the machine's cores.
//!
//! **Invariant:** what is counted happened: every user wins once, and afterwards
//! no share of the envelope is left.

#[path = "../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;

use hongbao_benches::http::{Load, Request, WON, setup, start};
use hongbao_benches::lives::{GIFT, Lives};
use hongbao_benches::{
    Goal, Pair, Unit, catch_up, create, create_with, decimal_users, directory, durable, each, figure, fund, heading,
    sell, sender, setting, settle, terms,
};
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::command::{Command, EnvelopeState, NewEnvelope, Outcome};
use hongbao_engine::error::EngineError;
use hongbao_engine::redis::{Durability, RedisBackend, RedisBackendOptions, RedisOptions};
use hongbao_engine::types::{EnvelopeId, ItemId, UserId};
use hongbao_server::app::{Server, app};
use redis_stand::{RedisCluster, RedisServer, ServerOptions};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLERS: usize = 256;
/// As many as a few servers have open at an evening's peak.
const CROWD: usize = 4096;
/// What `redis-benchmark` runs: no user twice, and the next number. Nothing shorter decides a grab.
const TAKE: &str = "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then return redis.call('INCR', KEYS[2]) end";

/// What the rows are measured with.
struct Stand {
    runtime: Runtime,
    users: Arc<Vec<UserId>>,
    rounds: usize,
    directory: tempfile::TempDir,
}

/// What is grabbed.
#[derive(Clone, Copy)]
enum Goods {
    Envelope(EnvelopeId),
    Item(ItemId),
}

impl Goods {
    fn command(self, user: &UserId) -> Command {
        match self {
            Goods::Envelope(envelope) => Command::Grab { envelope, user: user.clone() },
            Goods::Item(item) => Command::GrabItem { item, user: user.clone(), quantity: 1 },
        }
    }
}

/// How the servers keep what they are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// In memory only, and durability relaxed.
    Memory,
    /// In a file that is synced before every answer, and confirmed by a replica.
    Confirmed,
}

/// Redis's own processor time so far, of these servers together.
fn cpu_of(servers: &[RedisServer]) -> Duration {
    let used = |info: String, name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name).map(str::trim).map(str::to_owned));
        line.and_then(|seconds| seconds.parse().ok()).expect("Redis tells its processor time")
    };
    let of = |server: &RedisServer| {
        let info = server.cli(&["INFO", "cpu"]);
        used(info.clone(), "used_cpu_user:") + used(info, "used_cpu_sys:")
    };
    Duration::from_secs_f64(servers.iter().map(of).sum())
}

/// So many bytes, as `redis-cli` tells them.
fn bytes(told: &str) -> f64 {
    told.parse().unwrap_or_else(|_| panic!("a number of bytes, not {told}"))
}

impl Stand {
    fn servers(&self, keeping: Keeping, count: usize) -> Vec<RedisServer> {
        let options = ServerOptions {
            aof: keeping == Keeping::Confirmed,
            on_disk: true,
            under: Some(self.directory.path().to_owned()),
            ..ServerOptions::default()
        };
        (0..count).map(|_| RedisServer::start(options.clone().line("repl-diskless-sync-delay 0"))).collect()
    }

    /// A server for a turn, with a replica if answers are to be confirmed.
    fn primary(&self, keeping: Keeping) -> Vec<RedisServer> {
        if keeping == Keeping::Memory {
            return self.servers(keeping, 1);
        }
        let servers = self.servers(keeping, 2);
        servers[1].cli(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]);
        let since = Instant::now();
        while !servers[0].cli(&["INFO", "replication"]).contains("state=online") {
            assert!(since.elapsed() < Duration::from_secs(30), "{}", servers[1].log());
            std::thread::sleep(Duration::from_millis(10));
        }
        servers
    }

    fn open(&self, servers: &[RedisServer], keeping: Keeping) -> Arc<RedisBackend> {
        let redis = self.options(servers, keeping);
        let options = RedisBackendOptions { redis, ..RedisBackendOptions::default() };
        Arc::new(self.runtime.block_on(RedisBackend::open(options)).expect("the servers are as they should be"))
    }

    fn options(&self, servers: &[RedisServer], keeping: Keeping) -> RedisOptions {
        let durability = if keeping == Keeping::Memory { Durability::Relaxed } else { Durability::Confirmed };
        RedisOptions { urls: servers.iter().map(RedisServer::url).collect(), durability, ..RedisOptions::default() }
    }

    fn envelope(&self, engine: &RedisBackend, shares: usize) -> Goods {
        self.runtime.block_on(async {
            fund(engine, &sender()).await;
            Goods::Envelope(create(engine, &sender(), shares as u32).await)
        })
    }

    /// Every user grabs once; callers take the next when their last is answered.
    fn grab_all(&self, engine: &Arc<RedisBackend>, goods: Goods, callers: usize) -> Duration {
        let elapsed = self.runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let start = Instant::now();
            let callers = (0..callers).map(|_| {
                let (engine, users, next) = (Arc::clone(engine), Arc::clone(&self.users), Arc::clone(&next));
                tokio::spawn(async move {
                    while let Some(user) = users.get(next.fetch_add(1, Ordering::Relaxed)) {
                        grab(&engine, goods, user).await;
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.expect("a caller does not panic");
            }
            start.elapsed()
        });
        let left = self.runtime.block_on(async {
            match goods {
                Goods::Envelope(id) => engine.envelope(id).await.expect("it is read").map(|view| view.remaining_shares),
                Goods::Item(id) => engine.item(id).await.expect("it is read").map(|view| view.stock.free),
            }
        });
        assert_eq!(left, Some(0), "every user of the bench wins once");
        elapsed
    }

    /// A turn of ours on servers of its own, in nanoseconds a grab.
    fn ours(&self, keeping: Keeping, is_item: bool) -> f64 {
        let servers = self.primary(keeping);
        let engine = self.open(&servers, keeping);
        let goods = match is_item {
            true => Goods::Item(self.runtime.block_on(sell(&*engine, self.users.len() as u32))),
            false => self.envelope(&engine, self.users.len()),
        };
        settle();
        each(self.grab_all(&engine, goods, CALLERS), self.users.len())
    }

    /// `redis-benchmark` with the shortest script, 50 clients, one call at a time.
    fn bare(&self, keeping: Keeping) -> f64 {
        let servers = self.servers(keeping, 1);
        settle();
        let sha = servers[0].cli(&["SCRIPT", "LOAD", TAKE]);
        let (port, calls) = (servers[0].port().to_string(), self.users.len().to_string());
        let output = std::process::Command::new("redis-benchmark")
            .args(["-p", &port, "-c", "50", "-P", "1", "-n", &calls, "-r", "1000000000", "--csv"])
            .args(["EVALSHA", &sha, "2", "{e}users", "{e}shares", "__rand_int__"])
            .output()
            .expect("redis-benchmark comes with redis-server");
        let table = String::from_utf8_lossy(&output.stdout);
        let rate = table.lines().last().and_then(|row| row.split("\",\"").nth(1)?.parse::<f64>().ok());
        1e9 / rate.unwrap_or_else(|| panic!("redis-benchmark tells a rate: {table}"))
    }

    fn against_bare(&self, keeping: Keeping, what: &str, aim: f64) {
        let file = if keeping == Keeping::Memory { "AOF off" } else { "AOF always" };
        let against = format!("redis-benchmark -c 50 -P 1, EVALSHA of a set and a counter, {file}");
        Pair::measure(self.rounds, || self.ours(keeping, false), || self.bare(keeping)).row(
            what,
            &against,
            Unit::Time,
            Goal::Rate { at_least: 2.0, aim },
        );
    }

    fn item_against_envelope(&self) {
        let turn = |is_item| self.ours(Keeping::Memory, is_item);
        Pair::measure(self.rounds, || turn(true), || turn(false)).row(
            &format!("redis: item grab, {CALLERS} callers, relaxed, AOF off"),
            "envelope grab",
            Unit::Time,
            Goal::Rate { at_least: 0.7, aim: 1.0 },
        );
    }

    /// One server over HTTP in front of Redis, and one with the embedded engine.
    fn http(&self) {
        let (load, shares) = (Load::from_environment(), setting("SHARES", 3_000_000_u32));
        let embedded = Arc::new(durable(self.directory.path()));
        self.runtime.block_on(fund(&*embedded, &sender()));
        let address = self.serve(Arc::clone(&embedded));
        let theirs = || {
            let id = self.runtime.block_on(create(&*embedded, &sender(), shares));
            catch_up(&embedded);
            load.turn(address, &Request::single(id), WON).ns
        };
        let ours = || {
            let servers = self.primary(Keeping::Memory);
            let engine = self.open(&servers, Keeping::Memory);
            let Goods::Envelope(id) = self.envelope(&engine, shares as usize) else { unreachable!("it is one") };
            let address = self.serve(Arc::clone(&engine));
            settle();
            let turn = load.turn(address, &Request::single(id), WON);
            let view = self.runtime.block_on(engine.envelope(id)).expect("it is read").expect("it is there");
            assert_eq!(u64::from(shares - view.remaining_shares), turn.answers, "every answer is a share");
            turn.ns
        };
        let how = format!("through one server, {} connections, relaxed, AOF off", load.connections);
        let against = "the embedded engine's, durable";
        Pair::measure(self.rounds, ours, theirs).row(
            &format!("redis: POST …/grab {how}"),
            against,
            Unit::Time,
            Goal::Rate { at_least: 0.4, aim: 0.7 },
        );

        let mut lives = self.runtime.block_on(Lives::new(&*embedded));
        let theirs = || {
            catch_up(&embedded);
            load.turn(address, &lives.again(), GIFT).ns
        };
        let ours = || {
            let servers = self.primary(Keeping::Memory);
            let engine = self.open(&servers, Keeping::Memory);
            let lives = self.runtime.block_on(Lives::new(&*engine));
            let address = self.serve(Arc::clone(&engine));
            settle();
            load.turn(address, &lives, GIFT).ns
        };
        Pair::measure(self.rounds, ours, theirs).row(
            &format!("redis: step of a gift's life (offer, pay, accept, ship, deliver) {how}"),
            against,
            Unit::Time,
            Goal::Rate { at_least: 0.3, aim: 0.6 },
        );
        embedded.close().expect("the engine closes");
    }

    fn serve<B: Backend + 'static>(&self, engine: Arc<B>) -> SocketAddr {
        let server = Server::new(engine, &setup());
        let metrics = Arc::clone(&server.metrics);
        start(&self.runtime, app(server), metrics)
    }

    /// An envelope for all users, whose grabs claim.
    fn claimed_at_once(&self, engine: &RedisBackend) -> EnvelopeId {
        self.runtime.block_on(async {
            fund(engine, &sender()).await;
            let terms = terms(&sender(), self.users.len() as u32);
            create_with(engine, NewEnvelope { auto_claim: true, ..terms }).await
        })
    }

    /// What an envelope still takes in Redis when every share is claimed.
    fn memory(&self) {
        let servers = self.primary(Keeping::Memory);
        let engine = self.open(&servers, Keeping::Memory);
        let before = used_memory(&servers[0]);
        let id = self.claimed_at_once(&engine);
        self.grab_all(&engine, Goods::Envelope(id), CALLERS);
        self.wait_settled(&engine, id);
        let all = used_memory(&servers[0]) - before;
        let own = memory_of(&servers[0], &format!("*{id}*"));

        let bare = self.servers(Keeping::Memory, 1);
        let fill = "for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end";
        for users in self.users.chunks(1000) {
            let rows = users.iter().zip(1_u32..).flat_map(|(user, nth)| [user.to_string(), (nth % 1000).to_string()]);
            let rows: Vec<String> = rows.collect();
            let words: Vec<&str> =
                ["EVAL", fill, "1", "winners"].into_iter().chain(rows.iter().map(String::as_str)).collect();
            bare[0].cli(&words);
        }
        assert_eq!(bare[0].cli(&["HLEN", "winners"]), self.users.len().to_string(), "each user is in the hash");
        let winners = self.users.len() as f64;
        let pair = Pair { ours: vec![own / winners], baseline: vec![memory_of(&bare[0], "winners") / winners] };
        pair.row(
            &format!("redis: memory a winner after settlement, histories apart, {winners} winners of one envelope"),
            "a hash of user and amount",
            Unit::Bytes,
            Goal::Times { at_most: 1.5, aim: 1.1 },
        );
        let all = format!("{:.0} bytes", all / winners);
        figure("redis: the same with wallet, histories and all else", &all, "report", None, 1);
    }

    /// What a mass envelope leaves in Redis when it has been archived, how fast it
    /// leaves, and a page of its grabs by share, here and there.
    fn archiving(&self) {
        let options = ServerOptions { under: Some(self.directory.path().to_owned()), ..ServerOptions::without_aof() };
        let servers = RedisCluster::start_with(1, 0, options).nodes;
        let archive = Some(self.directory.path().join("archive"));
        let redis = RedisOptions { archive, archive_after: Duration::ZERO, ..self.options(&servers, Keeping::Memory) };
        // It is swept by hand.
        let options = RedisBackendOptions { redis, sweep_every: None, ..RedisBackendOptions::default() };
        let engine = self.runtime.block_on(RedisBackend::open(options)).expect("the servers are as they should be");
        let engine = Arc::new(engine);
        let before = used_memory(&servers[0]);
        let id = self.claimed_at_once(&engine);
        self.grab_all(&engine, Goods::Envelope(id), CALLERS);
        // Somebody has to find out that it is sold out.
        let late = Command::Grab { envelope: id, user: sender() };
        let told = self.runtime.block_on(engine.execute(late, None)).expect("it is answered");
        assert_eq!(told.outcome, Outcome::SoldOut);
        let full = used_memory(&servers[0]) - before;
        let page = || {
            let pages = [1_u32, 2, 3, 4, 5].map(|nth| {
                let share = self.users.len() as u32 / 6 * nth;
                // As the page before it tells where the next one begins.
                let cursor = Some([&[5], &share.to_be_bytes()[..]].concat());
                let started = Instant::now();
                let read = self.runtime.block_on(engine.grabs(id, &Page { limit: 100, cursor }));
                let elapsed = started.elapsed();
                let rows = read.expect("it is read").expect("it is there").rows;
                assert_eq!((rows.len(), rows[0].share), (100, share + 1), "a page is whole");
                elapsed.as_nanos() as f64
            });
            pages.to_vec()
        };
        let live = page();
        let started = Instant::now();
        while self.runtime.block_on(engine.sweep()).expect("it sweeps") {}
        let (elapsed, archived) = (started.elapsed(), engine.archived());
        assert_eq!(archived.envelopes, 1, "it is archived");
        assert_eq!(memory_of(&servers[0], &format!("*{id}*")), 0.0, "nothing of it is left");
        let left = used_memory(&servers[0]) - before;
        let winners = self.users.len() as f64;
        let pair = Pair { ours: vec![left / winners], baseline: vec![full / winners] };
        let what =
            format!("redis: memory a winner after archiving, {winners} winners of one mass envelope in 64 pools");
        pair.row(&what, "before", Unit::Bytes, Goal::ReportTimes);
        let rate = format!("{:.1} k/s", winners / elapsed.as_secs_f64() / 1e3);
        figure("redis: winners archived a second, by one engine, all else quiet", &rate, "report", None, 1);
        let disk = format!("{:.0} bytes in {} files", archived.bytes as f64 / winners, archived.files);
        figure("redis: on the disk a winner that was archived", &disk, "report", None, 1);
        Pair { ours: page(), baseline: live }.row(
            "redis: a page of 100 of its grabs by share, archived",
            "not archived: all winners are read",
            Unit::Time,
            Goal::ReportTimes,
        );
    }

    fn wait_settled(&self, engine: &RedisBackend, id: EnvelopeId) {
        let since = Instant::now();
        loop {
            let view = self.runtime.block_on(engine.envelope(id)).expect("it is read").expect("it is there");
            let audit = self.runtime.block_on(engine.audit()).expect("it is read");
            if view.state == EnvelopeState::Settled && audit.in_flight == 0 {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "the envelope settles: {view:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Redis's own processor time a grab, in nanoseconds.
    fn cpu(&self, servers: &[RedisServer], callers: usize) -> f64 {
        let engine = self.open(servers, Keeping::Memory);
        let goods = self.envelope(&engine, self.users.len());
        settle();
        let before = cpu_of(servers);
        self.grab_all(&engine, goods, callers);
        each(cpu_of(servers) - before, self.users.len())
    }

    fn three_primaries_against_one(&self) {
        let options = ServerOptions {
            under: Some(self.directory.path().to_owned()),
            on_disk: true,
            ..ServerOptions::without_aof()
        };
        let cluster =
            |primaries, callers| self.cpu(&RedisCluster::start_with(primaries, 0, options.clone()).nodes, callers);
        let goal = Goal::Times { at_most: 1.3, aim: 1.1 };
        for callers in [CALLERS, CROWD] {
            let what = format!("redis: the servers' processor time a grab, three primaries, {callers} callers");
            let single = || self.cpu(&self.primary(Keeping::Memory), callers);
            let goal = if callers == CALLERS { goal } else { Goal::ReportTimes };
            Pair::measure(self.rounds, || cluster(3, callers), single).row(&what, "one server", Unit::Time, goal);
        }
        // Only a single server takes decisions of many buckets in one run.
        let (what, rest) = ("redis: the servers' processor time a grab, three primaries", "a Cluster of one");
        Pair::measure(self.rounds, || cluster(3, CALLERS), || cluster(1, CALLERS)).row(
            what,
            rest,
            Unit::Time,
            Goal::ReportTimes,
        );
    }
}

/// Asks until it is answered: what was not confirmed in time is asked again, as a caller does.
async fn grab(engine: &RedisBackend, goods: Goods, user: &UserId) {
    loop {
        match engine.execute(goods.command(user), None).await {
            Ok(reply) => match reply.outcome {
                Outcome::Won { .. } | Outcome::Held { .. } => return,
                other => panic!("there is one for everybody: {other:?}"),
            },
            Err(EngineError::Unconfirmed(_) | EngineError::Overloaded) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn used_memory(server: &RedisServer) -> f64 {
    let info = server.cli(&["INFO", "memory"]);
    bytes(info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("Redis tells it").trim())
}

/// What all keys like `pattern` take, their names and values counted one by one.
fn memory_of(server: &RedisServer, pattern: &str) -> f64 {
    let sum = "local at, sum = '0', 0
        repeat
            local page = redis.call('SCAN', at, 'MATCH', ARGV[1], 'COUNT', 100000)
            at = page[1]
            for _, key in ipairs(page[2]) do sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '0') end
        until at == '0'
        return sum";
    bytes(&server.cli(&["EVAL", sum, "0", pattern]))
}

fn main() {
    heading();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let users = Arc::new(decimal_users(setting("REDIS_GRABS", 200_000)));
    let stand =
        Stand { runtime: runtime.expect("a runtime"), users, rounds: setting("ROUNDS", 5), directory: directory() };
    stand.against_bare(
        Keeping::Memory,
        &format!("redis: grabs of one mass envelope, {CALLERS} callers, relaxed, AOF off"),
        5.0,
    );
    stand.against_bare(
        Keeping::Confirmed,
        &format!("redis: grabs of one mass envelope, {CALLERS} callers, AOF always, one replica confirms"),
        6.0,
    );
    stand.item_against_envelope();
    stand.http();
    stand.memory();
    stand.archiving();
    stand.three_primaries_against_one();
}
