//! Calls against real servers: found, followed, retried, confirmed, refused.

#[path = "../../tests/redis_stand/mod.rs"]
pub(super) mod redis_stand;
mod tls;

use super::{Bucket, Durability, Nodes, RedisOpenError, RedisOptions, RedisTls, Script};
use crate::EngineError;
use redis::Value;
use redis_stand::{RedisCluster, RedisServer, ServerOptions, slots_of};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Counts calls by id, and answers how often and with what each was first asked.
static COUNT: Script =
    Script::one("count", &["local n = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)", "return {n, ARGV[1]}"]);

/// Takes the next number for each caller who has none, and repeats it to whoever has.
static TAKE: Script = Script::lane("take", &[include_str!("tests/take.lua")], 1, 0);

fn options(urls: Vec<String>) -> RedisOptions {
    RedisOptions { urls, ..RedisOptions::default() }
}

fn relaxed(urls: Vec<String>) -> RedisOptions {
    RedisOptions { durability: Durability::Relaxed, ..options(urls) }
}

async fn count(nodes: &Nodes, bucket: Bucket, id: &str) -> Result<i64, EngineError> {
    let key = nodes.key(bucket, "count");
    match nodes.call(bucket, &COUNT, &[key], &[id.as_bytes().to_vec()], true).await? {
        Value::Array(answer) => match &answer[..] {
            [Value::Int(times), Value::BulkString(told)] if told == id.as_bytes() => Ok(*times),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn take(nodes: &Nodes, bucket: Bucket, user: &str) -> Result<i64, EngineError> {
    let key = nodes.key(bucket, "taken");
    match nodes.call(bucket, &TAKE, &[key], &[user.as_bytes().to_vec()], true).await? {
        Value::Int(number) => Ok(number),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_single_server_answers_and_reloads_scripts() {
    let server = RedisServer::start(ServerOptions::default());
    let nodes = Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be");
    for number in [0, 1, 50, 63] {
        assert_eq!(count(&nodes, Bucket::new(number), "once").await.expect("it counts"), 1);
    }
    assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
    assert_eq!(count(&nodes, Bucket::new(0), "once").await.expect("it is loaded again"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_lane_travel_together_and_each_gets_its_own_answer() {
    let server = RedisServer::start(ServerOptions::default());
    let nodes = Arc::new(Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be"));
    let bucket = Bucket::new(17);
    let calls = (0..1000).map(|user| {
        let nodes = Arc::clone(&nodes);
        tokio::spawn(
            async move { (user, take(&nodes, bucket, &format!("user{}", user % 900)).await.expect("it takes")) },
        )
    });
    let mut numbers = HashMap::new();
    for call in calls.collect::<Vec<_>>() {
        let (user, number) = call.await.expect("no panic");
        assert_eq!(*numbers.entry(user % 900).or_insert(number), number, "a repeat is told the same");
    }
    let mut taken: Vec<_> = numbers.into_values().collect();
    taken.sort_unstable();
    assert_eq!(taken, (1..=900).collect::<Vec<_>>(), "each number once");
    let stats = server.cli(&["INFO", "commandstats"]);
    let runs =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok());
    assert!(runs.is_some_and(|runs: u32| runs < 700), "one run for many calls: {runs:?}");
}

/// Connects and tells why it does not.
async fn refused(options: &RedisOptions) -> RedisOpenError {
    match Nodes::connect(options).await {
        Ok(_) => panic!("it connects"),
        Err(error) => error,
    }
}

/// Types the command that a message ends with.
fn mend(server: &RedisServer, error: &RedisOpenError) {
    let message = error.to_string();
    let (_, command) = message.rsplit_once(": ").expect("a command at the end");
    let start = format!("redis-cli -p {} ", server.port());
    let words = command.strip_prefix(&start).unwrap_or_else(|| panic!("{start}: {message}"));
    let words: Vec<_> = words.split(' ').map(|word| word.trim_matches('\'')).collect();
    assert_eq!(server.cli(&words), "OK", "{message}");
}

#[tokio::test]
async fn each_wrong_setting_is_refused_with_the_command_that_mends_it() {
    let good = ServerOptions::default;
    for (wrong, setting, relaxed_too) in [
        (good().line("maxmemory-policy allkeys-lru"), "maxmemory-policy", true),
        (ServerOptions::without_aof(), "appendonly", false),
        (good().line("appendfsync everysec"), "appendfsync", false),
        (good().line("no-appendfsync-on-rewrite yes"), "no-appendfsync-on-rewrite", false),
        (good().line("cluster-allow-reads-when-down yes"), "cluster-allow-reads-when-down", false),
    ] {
        let server = RedisServer::start(wrong);
        let confirmed = options(vec![server.url()]);
        let error = refused(&confirmed).await;
        assert!(matches!(&error, RedisOpenError::Setting { setting: told, .. } if *told == setting), "{error}");
        let without = Nodes::connect(&relaxed(vec![server.url()])).await;
        assert_eq!(without.is_err(), relaxed_too, "{setting} matters when durability is relaxed");
        mend(&server, &error);
        let nodes = Nodes::connect(&confirmed).await.unwrap_or_else(|error| panic!("{setting} is mended: {error}"));
        assert_eq!(count(&nodes, Bucket::new(3), setting).await.expect("it counts"), 1);
    }
}

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let url = || vec!["redis://:hunter2@127.0.0.1:1".to_owned()];
    for (wrong, option) in [
        (options(vec![]), "urls"),
        (options(vec!["http://:hunter2@127.0.0.1".to_owned()]), "urls"),
        (options(vec!["rediss://:hunter2@127.0.0.1#insecure".to_owned()]), "tls"),
        (options([&url()[..], &["rediss://:hunter2@127.0.0.1:2".to_owned()]].concat()), "urls"),
        (RedisOptions { tls: RedisTls { ca_file: Some("ca.pem".into()), identity: None }, ..options(url()) }, "tls"),
        (RedisOptions { buckets: 0, ..options(url()) }, "buckets"),
        (RedisOptions { buckets: 20_000, ..options(url()) }, "buckets"),
        (RedisOptions { key_prefix: "{x}".to_owned(), ..options(url()) }, "key_prefix"),
        (RedisOptions { connections: Some(0), ..options(url()) }, "connections"),
    ] {
        let error = refused(&wrong).await;
        assert!(matches!(&error, RedisOpenError::Option { option: told, .. } if *told == option), "{error}");
        assert!(!format!("{error:?} {error} {wrong:?}").contains("hunter2"), "the password is told: {error:?}");
    }
}

#[tokio::test]
async fn passwords_and_users() {
    let server = RedisServer::start(
        ServerOptions { password: Some("sesame".to_owned()), ..ServerOptions::default() }
            .line("user shop on >secret ~hb:* +@all")
            .line("user reader on >secret ~hb:* +@read +info"),
    );
    let port = server.port();
    let at = |login: &str| options(vec![format!("redis://{login}127.0.0.1:{port}")]);
    for wrong in ["", ":open@", "shop:sesame@", "nobody:secret@"] {
        let error = refused(&at(wrong)).await;
        assert!(matches!(error, RedisOpenError::Password { .. }), "{wrong}: {error}");
    }
    let error = refused(&at("reader:secret@")).await;
    assert!(matches!(error, RedisOpenError::Rights { .. }), "{error}");
    mend(&server, &error);
    for (times, right) in [":sesame@", "shop:secret@", "reader:secret@"].into_iter().enumerate() {
        let nodes = Nodes::connect(&at(right)).await.unwrap_or_else(|error| panic!("{right}: {error}"));
        assert_eq!(count(&nodes, Bucket::new(0), "x").await.expect("it counts"), times as i64 + 1);
        // The first has loaded the script; the others load it again.
        server.cli(&["SCRIPT", "FLUSH"]);
    }
}

#[tokio::test]
async fn no_server_at_the_start() {
    let mut server = RedisServer::start(ServerOptions::default());
    let options = options(vec![server.url()]);
    server.kill9();
    let error = refused(&options).await;
    assert!(matches!(error, RedisOpenError::Unreachable { .. }), "{error}");
    server.restart();
    Nodes::connect(&options).await.expect("it is there now");
}

/// Users who ask for numbers all the time, and what they were told.
struct Crowd {
    nodes: Arc<Nodes>,
    stop: Arc<AtomicBool>,
    users: Vec<tokio::task::JoinHandle<Told>>,
}

#[derive(Default)]
struct Told {
    numbers: HashMap<(Bucket, String), i64>,
    not_ready: u32,
    unconfirmed: u32,
}

impl Crowd {
    /// Eight of them, each with its own names, in these buckets in turn.
    fn start(nodes: Nodes, buckets: &[Bucket]) -> Crowd {
        let (nodes, stop) = (Arc::new(nodes), Arc::new(AtomicBool::new(false)));
        let user = |who: usize| {
            let (nodes, stop, buckets) = (Arc::clone(&nodes), Arc::clone(&stop), buckets.to_vec());
            tokio::spawn(async move {
                let mut told = Told::default();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (bucket, name) = (buckets[turn % buckets.len()], format!("{who}.{turn}"));
                    match take(&nodes, bucket, &name).await {
                        Ok(number) => _ = told.numbers.insert((bucket, name), number),
                        Err(EngineError::NotReady(_)) => told.not_ready += 1,
                        Err(EngineError::Unconfirmed(_)) => told.unconfirmed += 1,
                        Err(other) => panic!("{other}"),
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                told
            })
        };
        let users = (0..8).map(user).collect();
        Crowd { nodes, stop, users }
    }

    /// Stops asking; every answer that was given is given again, and no number to two.
    async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for user in self.users {
            let told = user.await.expect("no panic");
            all.numbers.extend(told.numbers);
            all.not_ready += told.not_ready;
            all.unconfirmed += told.unconfirmed;
        }
        let mut holders = HashMap::new();
        for ((bucket, name), number) in &all.numbers {
            let again = until_answered(&self.nodes, *bucket, name).await;
            assert_eq!(again, *number, "{name} in {bucket:?} was told otherwise before");
            let other = holders.insert((*bucket, *number), name);
            assert_eq!(other, None, "{number} of {bucket:?} was given to two");
        }
        all
    }
}

fn seconds(seconds: f64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_secs_f64(seconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_seconds_without_a_server_lose_nothing() {
    let mut server = RedisServer::start(ServerOptions::default());
    let nodes = Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be");
    let crowd = Crowd::start(nodes, &[Bucket::new(1), Bucket::new(2)]);
    seconds(0.5).await;
    server.kill9();
    seconds(3.0).await;
    let started = Instant::now();
    let error = take(&crowd.nodes, Bucket::new(1), "late").await.expect_err("nobody serves");
    assert!(matches!(error, EngineError::NotReady(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1), "nobody waits long for a server that has been away for long");
    server.restart();
    seconds(0.5).await;
    server.cli(&["SCRIPT", "FLUSH"]);
    seconds(0.2).await;
    let told = crowd.stop().await;
    assert!(told.not_ready > 0 && told.numbers.len() > 100, "{} answers", told.numbers.len());
}

#[tokio::test]
async fn a_server_that_hangs_leaves_the_outcome_unknown() {
    let server = RedisServer::start(ServerOptions::default());
    let brisk = RedisOptions {
        response_timeout: Duration::from_millis(200),
        call_timeout: Duration::from_millis(600),
        ..options(vec![server.url()])
    };
    let nodes = Nodes::connect(&brisk).await.expect("it is as it should be");
    let number = take(&nodes, Bucket::new(9), "early").await.expect("it takes");
    server.pause();
    let error = take(&nodes, Bucket::new(9), "late").await.expect_err("it hangs");
    assert!(matches!(error, EngineError::Unconfirmed(_)), "{error}");
    server.resume();
    assert_eq!(take(&nodes, Bucket::new(9), "early").await.expect("it goes on"), number);
    assert_eq!(take(&nodes, Bucket::new(9), "late").await.expect("asking again tells"), number + 1);
}

#[tokio::test]
async fn a_server_that_is_busy_with_another_script_is_waited_for() {
    let server = RedisServer::start(ServerOptions::default().line("busy-reply-threshold 20"));
    let nodes = Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be");
    take(&nodes, Bucket::new(9), "early").await.expect("it takes");
    let forever = "local s = redis.call('TIME') while redis.call('TIME')[1] - s[1] < 2 do end return 1";
    let port = server.port().to_string();
    let mut other = std::process::Command::new("redis-cli")
        .args(["-p", &port, "EVAL", forever, "0"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("redis-cli");
    seconds(0.2).await;
    assert_eq!(take(&nodes, Bucket::new(9), "late").await.expect("it is waited for"), 2);
    other.wait().expect("it ends");
}

#[tokio::test]
async fn a_full_memory_refuses_and_nothing_is_done() {
    let server = RedisServer::start(ServerOptions::default());
    let nodes = Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be");
    take(&nodes, Bucket::new(9), "early").await.expect("it takes");
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = take(&nodes, Bucket::new(9), "late").await.expect_err("it is full");
    assert!(matches!(&error, EngineError::NotReady(why) if why.contains("OOM")), "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(take(&nodes, Bucket::new(9), "late").await.expect("it takes"), 2);
}

#[tokio::test]
async fn a_broken_script_is_told_by_its_name() {
    static BROKEN: Script = Script::one("broken", &["return redis.call('HGET', KEYS[1])"]);
    static SHORT: Script = Script::lane("short", &["return {}"], 1, 0);
    let server = RedisServer::start(ServerOptions::default());
    let nodes = Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be");
    for script in [&BROKEN, &SHORT] {
        let key = nodes.key(Bucket::new(1), "x");
        let error = nodes.call(Bucket::new(1), script, &[key], &[], false).await.expect_err("it is broken");
        assert!(matches!(&error, EngineError::Backend(why) if why.contains(script.name())), "{error}");
    }
}

#[tokio::test]
async fn what_replicas_do_not_confirm_is_unknown() {
    let primary = RedisServer::start(ServerOptions::default().line("repl-diskless-sync-delay 0"));
    let mut wanted = options(vec![primary.url()]);
    wanted.replicas_needed = Some(1);
    wanted.response_timeout = Duration::from_secs(1);
    let error = refused(&wanted).await;
    assert!(matches!(error, RedisOpenError::Replicas { found: 0, needed: 1, .. }), "{error}");

    let replica = RedisServer::start(ServerOptions::default().line("appendfsync everysec"));
    let primary_port = primary.port().to_string();
    assert_eq!(replica.cli(&["REPLICAOF", "127.0.0.1", &primary_port]), "OK");
    while !primary.cli(&["INFO", "replication"]).contains("state=online") {
        seconds(0.05).await;
    }
    let error = refused(&wanted).await;
    assert!(error.to_string().contains(&replica.port().to_string()), "a replica is checked like a primary: {error}");
    mend(&replica, &error);
    let nodes = Nodes::connect(&wanted).await.expect("it has its replica");
    until_answered(&nodes, Bucket::new(5), "bob").await;

    let error = refused(&options(vec![replica.url()])).await;
    assert!(matches!(error, RedisOpenError::Primary { .. }), "{error}");

    replica.pause();
    let error = take(&nodes, Bucket::new(5), "bob").await.expect_err("a repeat, not confirmed");
    assert!(matches!(&error, EngineError::Unconfirmed(why) if why.contains("0 of 1")), "{error}");
    let key = nodes.key(Bucket::new(5), "taken");
    let unasked = nodes.call(Bucket::new(5), &TAKE, &[key], &[b"bob".to_vec()], false).await;
    assert_eq!(unasked.expect("nobody asked for confirmation"), Value::Int(1));
    let started = Instant::now();
    for _ in 0..5 {
        take(&nodes, Bucket::new(5), "bob").await.expect_err("still not confirmed");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "a replica that is missing holds everybody up");
    replica.resume();
    assert_eq!(until_answered(&nodes, Bucket::new(5), "bob").await, 1);
    let fences = primary.cli(&["EXISTS", "hb:{b5}:fence"]);
    assert_eq!(fences, "1", "a repeat writes nothing itself, so a fence has to");
}

/// Asks again until there is an answer: a replica that has just come, or come
/// back, is online before it confirms.
async fn until_answered(nodes: &Nodes, bucket: Bucket, user: &str) -> i64 {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match take(nodes, bucket, user).await {
            Ok(number) => return number,
            Err(error) => {
                let may_be = matches!(error, EngineError::Unconfirmed(_) | EngineError::NotReady(_));
                assert!(may_be && Instant::now() < until, "{error}");
                seconds(0.05).await;
            }
        }
    }
}

/// Asks again while nobody serves, as a caller does who is told 503.
async fn until_ready(nodes: &Nodes, bucket: Bucket, user: &str) -> Result<i64, EngineError> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match take(nodes, bucket, user).await {
            Err(EngineError::NotReady(_)) if Instant::now() < until => seconds(0.1).await,
            told => return told,
        }
    }
}

/// One bucket of each of three primaries.
fn one_of_each() -> [Bucket; 3] {
    [0, 1, 2].map(|index| {
        let (first, last) = slots_of(index, 3);
        (0..).map(Bucket::new).find(|bucket| (first..=last).contains(&bucket.slot())).expect("there are enough")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_loses_a_primary() {
    let mut cluster = RedisCluster::start(3, 1);
    // Any one node is enough to find all, a replica too.
    let one_url = vec![cluster.urls().swap_remove(4)];
    let nodes = Nodes::connect(&options(one_url.clone())).await.expect("it is whole");
    let careless = Nodes::connect(&relaxed(one_url)).await.expect("it is whole");
    let buckets = one_of_each();
    let crowd = Crowd::start(nodes, &buckets);
    seconds(0.5).await;

    for (fault, bucket, elsewhere) in [("killed", buckets[0], buckets[1]), ("hangs", buckets[1], buckets[2])] {
        let old = cluster.primary_of(bucket.slot());
        match fault {
            "killed" => cluster.nodes[old].kill9(),
            _ => cluster.nodes[old].pause(),
        }
        // Whoever is relaxed goes on after the failover.
        until_answered(&careless, bucket, fault).await;
        let error = until_ready(&crowd.nodes, bucket, fault).await.expect_err("no replica is left to confirm");
        assert!(matches!(error, EngineError::Unconfirmed(_)), "{fault}: {error}");
        take(&crowd.nodes, elsewhere, fault).await.expect("the other primaries never stopped");

        match fault {
            "killed" => cluster.nodes[old].restart(),
            _ => cluster.nodes[old].resume(),
        }
        until_answered(&crowd.nodes, bucket, fault).await;
        tokio::task::block_in_place(|| cluster.wait_ok());
    }
    seconds(0.5).await;
    let told = crowd.stop().await;
    assert!(told.unconfirmed > 0 && told.numbers.len() > 300, "{} answers", told.numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_hands_over_to_its_replica_and_nobody_notices() {
    let cluster = RedisCluster::start(3, 1);
    // A hand-over that Redis has to begin again holds clients for longer than a call has.
    let patient = RedisOptions { call_timeout: Duration::from_secs(60), ..options(cluster.urls()) };
    let nodes = Nodes::connect(&patient).await.expect("it is whole");
    let bucket = one_of_each()[0];
    let crowd = Crowd::start(nodes, &[bucket]);
    for (from, to) in [(0, 3), (3, 0)] {
        seconds(0.5).await;
        assert_eq!(cluster.primary_of(bucket.slot()), from);
        tokio::task::block_in_place(|| cluster.hand_over(bucket.slot(), to));
    }
    seconds(0.5).await;
    let told = crowd.stop().await;
    assert_eq!((told.not_ready, told.unconfirmed), (0, 0), "all were answered");
    assert!(told.numbers.len() > 300, "{} answers", told.numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_the_replica_of_a_single_server_the_primary() {
    let (one, other) = (RedisServer::start(ServerOptions::default()), RedisServer::start(ServerOptions::default()));
    let (one_port, other_port) = (one.port().to_string(), other.port().to_string());
    let urls = vec![one.url(), other.url()];
    let error = refused(&options(urls.clone())).await;
    assert!(matches!(error, RedisOpenError::Primary { .. }), "two primaries, and nobody knows which: {error}");
    other.cli(&["REPLICAOF", "127.0.0.1", &one_port]);
    let until = Instant::now() + Duration::from_secs(20);
    while !one.cli(&["INFO", "replication"]).contains("state=online") {
        assert!(Instant::now() < until, "{}", other.log());
        seconds(0.05).await;
    }
    let nodes = Nodes::connect(&options(urls)).await.expect("a primary and its replica");
    let number = until_answered(&nodes, Bucket::new(3), "bob").await;
    other.cli(&["REPLICAOF", "NO", "ONE"]);
    one.cli(&["REPLICAOF", "127.0.0.1", &other_port]);
    assert_eq!(until_answered(&nodes, Bucket::new(3), "bob").await, number);
    assert_eq!(until_answered(&nodes, Bucket::new(3), "eve").await, number + 1);
    assert!(other.cli(&["HLEN", "hb:{b3}:taken"]) == "2", "it was written where the primary is now");
}

#[tokio::test]
async fn whoever_blocks_has_a_connection_of_its_own() {
    let server = RedisServer::start(ServerOptions::default());
    let nodes = Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be");
    let bucket = Bucket::new(3);
    let list = nodes.key(bucket, "list");
    let mut connection = nodes.connection(bucket).await.expect("there are some");
    let mut pop = redis::cmd("BLPOP");
    pop.arg(&list).arg(10);
    let (popped, taken) = tokio::join!(pop.query_async::<(String, String)>(&mut *connection), async {
        seconds(0.7).await;
        let taken = take(&nodes, bucket, "bob").await;
        server.cli(&["LPUSH", "hb:{b3}:list", "news"]);
        taken
    });
    assert_eq!(popped.expect("it waits longer than any call may").1, "news");
    assert_eq!(taken.expect("nobody waits for whoever blocks"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_under_load() {
    let cluster = RedisCluster::start(2, 0);
    let nodes = Nodes::connect(&options(cluster.urls())).await.expect("it is whole");
    let bucket = Bucket::new(17);
    let crowd = Crowd::start(nodes, &[bucket]);
    let stats = || cluster.nodes.iter().map(|node| node.cli(&["INFO", "errorstats"])).collect::<String>();
    let is_redirected = || ["errorstat_MOVED", "errorstat_ASK"].iter().all(|which| stats().contains(which));
    // Whoever asks for the map at the right time is never told MOVED: then once more.
    for moves in 0..40 {
        if moves >= 4 && tokio::task::block_in_place(is_redirected) {
            break;
        }
        seconds(0.3).await;
        let from = cluster.primary_of(bucket.slot());
        let pause = Duration::from_millis(100);
        tokio::task::block_in_place(|| cluster.move_slot(bucket.slot(), 1 - from, pause));
    }
    seconds(0.2).await;
    let told = crowd.stop().await;
    assert_eq!((told.not_ready, told.unconfirmed), (0, 0), "all were answered");
    assert!(told.numbers.len() > 300, "{} answers", told.numbers.len());
    assert!(is_redirected(), "nothing was redirected: {}", stats());
}

#[tokio::test]
async fn a_cluster_with_holes_is_refused() {
    let cluster = RedisCluster::start(2, 0);
    let slot = Bucket::new(17).slot();
    let owner = cluster.primary_of(slot);
    for node in &cluster.nodes {
        node.cli(&["CLUSTER", "DELSLOTS", &slot.to_string()]);
    }
    let error = refused(&options(vec![cluster.nodes[owner].url()])).await;
    assert!(matches!(&error, RedisOpenError::Cluster { why, .. } if why.contains("1 of 16384")), "{error}");
}

/// What `redis-benchmark` makes of the shortest script, 50 clients, one call at a time.
fn baseline(server: &RedisServer) -> f64 {
    let script = "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then return redis.call('INCR', KEYS[2]) end";
    let sha = server.cli(&["SCRIPT", "LOAD", script]);
    let output = std::process::Command::new("redis-benchmark")
        .args(["-p", &server.port().to_string(), "-c", "50", "-n", "200000", "-r", "1000000000", "--csv"])
        .args(["EVALSHA", &sha, "2", "{b17}s", "{b17}n", "__rand_int__"])
        .output()
        .expect("redis-benchmark comes with redis-server");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = table.lines().last().expect("a row");
    row.split("\",\"").nth(1).and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("{table}"))
}

/// `cargo test --release -p hongbao-engine --features redis --lib -- --ignored --nocapture calls_a_second`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, to be run alone"]
async fn calls_a_second() {
    for (what, aof, replicas) in
        [("no file, relaxed", false, 0), ("file, relaxed", true, 0), ("file, one replica confirms", true, 1)]
    {
        let with =
            || ServerOptions { aof, on_disk: true, ..ServerOptions::default() }.line("repl-diskless-sync-delay 0");
        let server = RedisServer::start(with());
        let followers: Vec<_> = (0..replicas).map(|_| RedisServer::start(with())).collect();
        for replica in &followers {
            replica.cli(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]);
            while !server.cli(&["INFO", "replication"]).contains("state=online") {
                seconds(0.05).await;
            }
        }
        let durability = if replicas == 0 { Durability::Relaxed } else { Durability::Confirmed };
        let options = RedisOptions { durability, ..options(vec![server.url()]) };
        let nodes = Arc::new(Nodes::connect(&options).await.expect("it is as it should be"));
        until_answered(&nodes, Bucket::new(17), "first").await;
        let base = tokio::task::block_in_place(|| baseline(&server));
        println!("{what}: redis-benchmark, 50 clients: {base:.0} calls/s");
        for (script, name) in [(&COUNT, "one call a run"), (&TAKE, "64 calls a run")] {
            for (callers, each) in [(1, 2_000), (256, 1_500)] {
                let started = Instant::now();
                let work = (0..callers).map(|caller| {
                    let nodes = Arc::clone(&nodes);
                    tokio::spawn(async move {
                        let bucket = Bucket::new(17);
                        let key = [nodes.key(bucket, script.name())];
                        for call in 0..each {
                            let user = [format!("{callers}.{caller}.{call}").into_bytes()];
                            // A stall of the disk leaves an outcome unknown, and costs its time.
                            while nodes.call(bucket, script, &key, &user, true).await.is_err() {}
                        }
                    })
                });
                for caller in work.collect::<Vec<_>>() {
                    caller.await.expect("no panic");
                }
                let rate = f64::from(callers * each) / started.elapsed().as_secs_f64();
                println!(
                    "{what}: {name}, {callers:>3} callers: {rate:.0} calls/s, {:.2} of redis-benchmark",
                    rate / base
                );
            }
        }
    }
}
