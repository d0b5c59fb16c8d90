//! Calls against real servers: found, followed, retried, confirmed, refused.

#[path = "../../tests/redis_stand/mod.rs"]
mod redis_stand;

use super::{Bucket, Durability, Nodes, RedisOptions, Script};
use redis::Value;
use redis_stand::{RedisServer, ServerOptions};

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

async fn count(nodes: &Nodes, bucket: Bucket, id: &str) -> Result<i64, crate::EngineError> {
    let key = nodes.key(bucket, "count");
    match nodes.call(bucket, &COUNT, &[key], &[id.as_bytes().to_vec()], true).await? {
        Value::Array(answer) => match &answer[..] {
            [Value::Int(times), Value::BulkString(told)] if told == id.as_bytes() => Ok(*times),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn take(nodes: &Nodes, bucket: Bucket, user: &str) -> Result<i64, crate::EngineError> {
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
    for number in [0, 1, 500, 1023] {
        assert_eq!(count(&nodes, Bucket::new(number), "once").await.expect("it counts"), 1);
    }
    assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
    assert_eq!(count(&nodes, Bucket::new(0), "once").await.expect("it is loaded again"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_lane_travel_together_and_each_gets_its_own_answer() {
    let server = RedisServer::start(ServerOptions::default());
    let nodes = std::sync::Arc::new(Nodes::connect(&options(vec![server.url()])).await.expect("it is as it should be"));
    let bucket = Bucket::new(17);
    let calls = (0..1000).map(|user| {
        let nodes = std::sync::Arc::clone(&nodes);
        tokio::spawn(
            async move { (user, take(&nodes, bucket, &format!("user{}", user % 900)).await.expect("it takes")) },
        )
    });
    let mut numbers = std::collections::HashMap::new();
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

/// `cargo test --release -p hongbao-engine --features redis -- --ignored --nocapture calls_a_second`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, to be run alone"]
async fn calls_a_second() {
    use std::sync::Arc;
    use std::time::Instant;
    let server = RedisServer::start(ServerOptions::without_aof());
    let nodes = Arc::new(Nodes::connect(&relaxed(vec![server.url()])).await.expect("it is as it should be"));
    for (what, script) in [("one call a run", &COUNT), ("64 calls a run", &TAKE)] {
        for (callers, each) in [(1, 20_000), (256, 2_000)] {
            let started = Instant::now();
            let work = (0..callers).map(|caller| {
                let nodes = Arc::clone(&nodes);
                tokio::spawn(async move {
                    let bucket = Bucket::new(17);
                    let key = nodes.key(bucket, if std::ptr::eq(script, &TAKE) { "taken" } else { "count" });
                    for call in 0..each {
                        let user = format!("{callers}.{caller}.{call}").into_bytes();
                        nodes
                            .call(bucket, script, std::slice::from_ref(&key), &[user], true)
                            .await
                            .expect("it answers");
                    }
                })
            });
            for caller in work.collect::<Vec<_>>() {
                caller.await.expect("no panic");
            }
            let calls = callers * each;
            println!("{what}: {callers:>3} callers: {:.0} calls/s", f64::from(calls) / started.elapsed().as_secs_f64());
        }
    }
}
