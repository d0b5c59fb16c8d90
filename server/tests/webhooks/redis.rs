//! Two servers in front of one Redis: one delivers, and if it ends the other does.

use crate::house::{FAST, House, options};
use crate::receiver::{Got, HELD_UP, PATIENCE, Receiver, SILENCE, status};
use crate::redis_stand::{RedisServer, ServerOptions, is_missing};
use hongbao_engine::redis::{RedisBackend, RedisBackendOptions, RedisOptions};
use hongbao_server::webhooks::{Pace, WebhookOptions};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A server in a runtime of its own, which can be ended with all that goes on in it.
struct Alone {
    runtime: Runtime,
    house: House<RedisBackend>,
}

impl Alone {
    fn open(redis: &RedisServer, webhooks: WebhookOptions) -> Alone {
        let runtime = Runtime::new().unwrap();
        let house = runtime.block_on(async {
            let redis = RedisOptions { urls: vec![redis.url()], buckets: 16, ..RedisOptions::default() };
            let options = RedisBackendOptions { redis, test_mode: true, ..RedisBackendOptions::default() };
            House::over(Arc::new(RedisBackend::open(options).await.unwrap()), webhooks).await
        });
        Alone { runtime, house }
    }

    fn deposit(&self, key: &str, times: usize) {
        self.runtime.block_on(self.house.deposit(key, times));
    }

    fn delivered(&self) -> u64 {
        let metrics = self.house.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix("hongbao_webhook_delivered_total "));
        line.expect("it is told").parse().unwrap()
    }

    /// Nothing of it goes on, and nobody is told.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

fn first_of(got: &[Got]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    got.iter().flat_map(Got::events).filter(|id| seen.insert(id.clone())).collect()
}

#[test]
fn one_server_delivers_and_another_goes_on_where_it_was_killed() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let outside = Runtime::new().unwrap();
    let receiver = outside.block_on(Receiver::start());
    let pace = Pace { timeout: Duration::from_secs(3600), ..FAST };
    let webhooks = || WebhookOptions { is_shared: true, pace, ..options(&[&receiver]) };
    let servers = [Alone::open(&redis, webhooks()), Alone::open(&redis, webhooks())];
    let (hook, secret) = servers[0].runtime.block_on(servers[0].house.hook(&receiver, "w1", json!({})));
    servers[1].deposit("a", 20);
    servers[0].deposit("b", 20);
    outside.block_on(receiver.wait("forty", |got| first_of(got).len() == 40));
    let waits = "all to be noted";
    servers[0].runtime.block_on(servers[0].house.wait(&hook, waits, |told| told["pending"] == 0));
    assert_eq!(receiver.events().len(), 40, "no server delivers what another has delivered");
    let [delivering, other] = if servers[0].delivered() > 0 {
        servers
    } else {
        let [first, second] = servers;
        [second, first]
    };
    assert_eq!((delivering.delivered(), other.delivered()), (40, 0));

    // Killed while the receiver has a request that it does not answer.
    receiver.answer(|_, _| SILENCE.to_owned());
    other.deposit("c", 1);
    let got = outside.block_on(receiver.wait("a request", |got| first_of(got).len() == 41));
    let unanswered = got.last().unwrap().clone();
    receiver.answer(|_, _| status(200));
    let before = receiver.got().len();
    delivering.kill();
    other.deposit("d", 10);
    let got = outside.block_on(receiver.wait("the rest", |got| first_of(got).len() == 51));
    assert_eq!(got[before].header("webhook-id"), unanswered.header("webhook-id"));
    assert_eq!(got[before].body, unanswered.body);
    assert!(got.iter().all(|got| got.signed_by(&secret) == [true]));
    assert_eq!(first_of(&got), other.runtime.block_on(other.house.told()));

    // One that ends in order is not waited for.
    let third =
        Alone::open(&redis, WebhookOptions { pace: Pace { lease: Duration::from_secs(3600), ..pace }, ..webhooks() });
    let Alone { runtime, house } = other;
    runtime.block_on(house.end());
    third.deposit("e", 1);
    outside.block_on(receiver.wait("the last", |got| first_of(got).len() == 52));
    third.kill();
    runtime.shutdown_background();
}

/// A server that hangs for so long that another has taken its place does no harm when it goes on.
#[test]
fn who_comes_back_too_late_delivers_no_more() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let outside = Runtime::new().unwrap();
    let receiver = outside.block_on(Receiver::start());
    receiver.answer(|_, before| if before == 0 { HELD_UP.to_owned() } else { status(200) });
    let leasing = |lease| {
        let pace = Pace { timeout: Duration::from_secs(3600), lease, ..FAST };
        WebhookOptions { is_shared: true, pace, ..options(&[&receiver]) }
    };
    // It shows every quarter of an hour that it is there, and the other waits for a moment only.
    let late = Alone::open(&redis, leasing(Duration::from_secs(3600)));
    let (hook, _) = late.runtime.block_on(late.house.hook(&receiver, "w1", json!({})));
    late.deposit("a", 1);
    outside.block_on(receiver.wait("a request", |got| got.len() == 1));
    let prompt = Alone::open(&redis, leasing(Duration::from_millis(200)));
    prompt.deposit("b", 3);
    let got = outside.block_on(receiver.wait("all", |got| first_of(got).len() == 4 && got.len() > 2));
    assert_eq!((got[1].header("webhook-id"), &got[1].body), (got[0].header("webhook-id"), &got[0].body));
    receiver.go_on();
    let until = Instant::now() + PATIENCE;
    while late.delivered() == 0 {
        assert!(Instant::now() < until, "the answer that was held up is not seen");
        std::thread::sleep(Duration::from_millis(5));
    }
    prompt.deposit("c", 6);
    outside.block_on(receiver.wait("the rest", |got| first_of(got).len() == 10));
    prompt.runtime.block_on(prompt.house.wait(&hook, "all to be noted", |told| told["pending"] == 0));
    assert_eq!(first_of(&receiver.got()), prompt.runtime.block_on(prompt.house.told()));
    assert_eq!((late.delivered(), prompt.delivered()), (1, 10), "{:?}", receiver.got());
    late.kill();
    prompt.kill();
}

/// Neither server sees the other's while it makes its own; whoever finds one too many gives way.
#[test]
fn two_servers_make_no_more_than_there_may_be() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let outside = Runtime::new().unwrap();
    let receiver = outside.block_on(Receiver::start());
    let webhooks = || WebhookOptions { is_shared: true, ..options(&[&receiver]) };
    let servers = [Alone::open(&redis, webhooks()), Alone::open(&redis, webhooks())];
    let make = |server: &Alone, key: String| {
        let body = json!({"url": receiver.url()});
        let (code, answer) = server.runtime.block_on(server.house.ask("POST", "/v1/webhooks", &key, body));
        assert!([201, 409].contains(&code), "{answer}");
        code == 201
    };
    let there = || {
        let told = servers[1].runtime.block_on(servers[1].house.get("/v1/webhooks"));
        told["webhooks"].as_array().unwrap().len()
    };
    let first = (0..56).filter(|nth| make(&servers[0], format!("w{nth}"))).count();
    let at_once: usize = std::thread::scope(|scope| {
        let of = |which: usize| {
            let (server, make) = (&servers[which], &make);
            scope.spawn(move || (0..8).filter(|nth| make(server, format!("{which}-{nth}"))).count())
        };
        [of(0), of(1)].into_iter().map(|asking| asking.join().unwrap()).sum()
    });
    assert_eq!((first, there()), (56, first + at_once), "who was told that one was made has it");
    // Of two that both gave way one may have the place.
    let last = (0..16).filter(|nth| make(&servers[1], format!("l{nth}"))).count();
    assert_eq!((there(), first + at_once + last), (64, 64));
    servers.into_iter().for_each(Alone::kill);
}
