//! Redis away at the start or in the middle, wrong settings and logins: what
//! the binary says, and that nothing is lost.

use crate::client::{Ask, Client};
use crate::game::Game;
use crate::house::House;
use crate::number_of;
use crate::process::{Running, readiness, run, serve, told};
use crate::redis_stand::{RedisServer, ServerOptions, is_missing};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Redis is away for `OUTAGE_S` seconds under load: 503 with Retry-After, then
/// everything goes on by itself.
#[test]
fn redis_is_away_for_some_seconds() {
    if is_missing() {
        return;
    }
    let mut house = House::open();
    let mut game = Game::open(&house);
    let away = Duration::from_secs(number_of("OUTAGE_S", 3));
    game.cycle(&mut house, "Redis is away", |house, pace| {
        house.cluster.nodes.iter_mut().for_each(RedisServer::kill9);
        let since = Instant::now();
        // Whoever balances load in front of the servers sees it.
        for server in [0, 1] {
            let mut client = Client::new(house.doors.address(server));
            while readiness(&mut client).status != 503 {
                assert!(since.elapsed() < Duration::from_secs(60), "server {server} says that it is ready");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // That every refusal says when to ask again is what the players look at.
        pace.refusals(6);
        std::thread::sleep(away.saturating_sub(since.elapsed()));
        house.cluster.nodes.iter_mut().for_each(RedisServer::restart);
        house.cluster.wait_ok();
        for server in [0, 1] {
            house.server(server).wait_ready(house.doors.address(server));
        }
    });
    game.end(house);
}

/// A binary that would serve from these servers.
fn in_front_of(url: &str, data: &Path) -> Command {
    serve(data, &["--backend", "redis", "--redis", url])
}

/// Does not start, ends with `status`, and says all of `words`.
fn refused(url: &str, status: i32, words: &[&str]) -> String {
    let data = tempfile::tempdir().unwrap();
    let output = run(&mut in_front_of(url, data.path()));
    let told = told(&output);
    assert_eq!(output.status.code(), Some(status), "{told}");
    for word in words {
        assert!(told.contains(word), "it says {word:?}: {told}");
    }
    told
}

/// Starts and takes a deposit.
fn serves(url: &str) {
    let data = tempfile::tempdir().unwrap();
    let (server, address) = Running::ready(&mut in_front_of(url, data.path()));
    let deposit = Ask::post("/v1/wallets/alice/deposits", &json!({ "amount": 5 })).with_key("d");
    assert_eq!(Client::new(address).json(&deposit)["available"], 5);
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("everything is in Redis"), "{status}:\n{log}");
}

#[test]
fn no_redis_at_the_start() {
    if is_missing() {
        return;
    }
    let mut redis = RedisServer::start(ServerOptions::default());
    redis.kill9();
    let address = format!("127.0.0.1:{}", redis.port());
    refused(&redis.url(), 1, &[&address, "cannot be reached", "is it running"]);
    redis.restart();
    serves(&redis.url());
}

#[test]
fn wrong_logins_are_refused_and_never_told() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(
        ServerOptions { password: Some("sesame".to_owned()), ..ServerOptions::default() }
            .line("user shop on >secret ~hb:* +@all")
            .line("user reader on >secret ~hb:* +@read +info"),
    );
    let at = |login: &str| format!("redis://{login}127.0.0.1:{}", redis.port());
    let remedy = "redis://user:password@host:port";
    refused(&at(""), 2, &["refuses the password or the user", remedy]);
    for wrong in [":hunter2@", "shop:hunter2@", "nobody:hunter2@"] {
        let told = refused(&at(wrong), 2, &["refuses the password or the user", remedy]);
        assert!(!told.contains("hunter2"), "the password is told: {told}");
    }
    let told = refused(&at("reader:secret@"), 2, &["does not allow it", "ACL SETUSER reader"]);
    mend(&redis, &told);
    for right in [":sesame@", "shop:secret@", "reader:secret@"] {
        serves(&at(right));
    }
}

/// The settings of the engine's own tests; here, that the command reaches whoever starts the binary.
#[test]
fn a_wrong_setting_is_refused_with_the_command_that_mends_it() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::without_aof());
    let told = refused(&redis.url(), 2, &["has appendonly no", "CONFIG SET appendonly yes"]);
    mend(&redis, &told);
    serves(&redis.url());
}

/// Types the command that a message ends with.
fn mend(redis: &RedisServer, told: &str) {
    let start = format!("redis-cli -p {} ", redis.port());
    let (_, command) = told.split_once(&start).unwrap_or_else(|| panic!("{start}: {told}"));
    let words: Vec<_> = command.lines().next().unwrap().split(' ').map(|word| word.trim_matches('\'')).collect();
    assert_eq!(redis.cli(&words), "OK", "{told}");
}
