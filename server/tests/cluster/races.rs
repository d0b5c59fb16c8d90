//! Races that need a certain moment, brought about on purpose.

use crate::client::{Answer, Ask, Client};
use crate::game::{create, give};
use crate::house::{House, SERVERS};
use crate::number_of;
use crate::process::Running;
use crate::redis_stand::{is_missing, slots_of};
use hongbao_engine::redis::RedisOptions;
use hongbao_engine::types::EnvelopeId;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A house whose Cluster takes nobody for failed, so that a primary that hangs keeps its place.
fn patient_house(options: &[&str]) -> House {
    let house = House::open_with(1, options);
    for node in &house.cluster.nodes {
        assert_eq!(node.cli(&["CONFIG", "SET", "cluster-node-timeout", "120000"]), "OK");
    }
    house
}

/// Asks all at once, each at one of the servers in turn.
fn at_once(house: &House, asks: &[Ask]) -> Vec<Option<Answer>> {
    std::thread::scope(|scope| {
        let asked = asks.iter().enumerate().map(|(nth, ask)| {
            let doors = Arc::clone(&house.doors);
            scope.spawn(move || Client::new(doors.address(nth % SERVERS)).send(ask).ok())
        });
        let asked: Vec<_> = asked.collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

/// A server that sleeps until this is dropped, also by a panic: whoever waits for it has to be answered.
struct Asleep<'a>(&'a Running);

impl Asleep<'_> {
    fn put(server: &Running) -> Asleep<'_> {
        server.signal(Signal::STOP);
        Asleep(server)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

fn by(user: &str) -> Value {
    json!({ "user": user })
}

pub fn slot_of_key(house: &House, key: &str) -> u16 {
    house.cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot")
}

/// The node that serves the bucket of a key, or of an envelope.
pub fn primary_of_key(house: &House, key: &str) -> usize {
    house.cluster.primary_of(slot_of_key(house, key))
}

/// Under which an envelope lies in its bucket.
pub fn key_of_envelope(id: &str) -> String {
    let parsed: EnvelopeId = id.parse().expect("an id");
    let bytes = parsed.bytes();
    let bucket = u16::from_le_bytes([bytes[0], bytes[1]]) % RedisOptions::default().buckets;
    format!("hb:{{b{bucket}}}:{id}")
}

fn primary_of_envelope(house: &House, id: &str) -> usize {
    primary_of_key(house, &key_of_envelope(id))
}

/// The node that serves a user who has a wallet already.
fn primary_of_user(house: &House, user: &str) -> usize {
    let serves = |index: &usize| {
        let node = &house.cluster.nodes[*index];
        !node.cli(&["--scan", "--pattern", &format!("hb:*:wallet:{user}")]).is_empty()
    };
    (0..house.cluster.nodes.len()).filter(|&index| is_primary(house, index)).find(serves).expect("it has a wallet")
}

fn is_primary(house: &House, index: usize) -> bool {
    house.cluster.nodes[index].cli(&["INFO", "replication"]).contains("role:master")
}

/// The result of a script is unknown: asked again by (envelope, user) it is known, and the same for ever.
#[test]
fn race_30_a_result_is_unknown_and_asked_for_again() {
    if is_missing() {
        return;
    }
    const SHARES: u64 = 5;
    const USERS: u64 = 8;
    let house = patient_house(&[]);
    let mut client = house.client(0);
    for round in 0..number_of("ROUNDS", 1) {
        let id = give(&mut client, "alice", SHARES, &format!("unknown-{round}"));
        let grabs: Vec<_> = (0..USERS)
            .map(|user| Ask::post(format!("/v1/envelopes/{id}/grab"), &by(&format!("bob{round}-{user}"))))
            .collect();
        let primary = primary_of_envelope(&house, &id);
        house.cluster.nodes[primary].pause();
        for (ask, answer) in grabs.iter().zip(at_once(&house, &grabs)) {
            let answer = answer.expect("the servers are there");
            let may_be = answer.body.contains("unconfirmed") || answer.body.contains("not_ready");
            assert!(answer.status == 503 && may_be && answer.retry_after_s.is_some(), "{ask:?}: {answer:?}");
        }
        house.cluster.nodes[primary].resume();
        let mut shares = HashSet::new();
        for (nth, ask) in grabs.iter().enumerate() {
            let told = house.client(nth % SERVERS).json(ask);
            let again = house.client((nth + 1) % SERVERS).json(ask);
            assert_eq!((&told["outcome"], &told["share"]), (&again["outcome"], &again["share"]), "{ask:?}");
            match told["outcome"].as_str() {
                Some("won") => assert!(shares.insert(told["share"].as_u64()), "a share has one winner: {told}"),
                outcome => assert_eq!(outcome, Some("sold_out"), "{told}"),
            }
        }
        assert_eq!(shares.len() as u64, SHARES, "every share is won, and no more");
    }
    house.wait_settled(1);
    house.close();
}

/// A share is claimed, and its envelope's primary dies before its replica has heard of the claim: the credit has
/// waited for that, so nothing exists twice.
#[test]
fn race_37_a_credit_waits_until_its_cause_is_safe() {
    if is_missing() {
        return;
    }
    let mut house = House::open();
    let mut client = house.client(0);
    // The wallet must outlive the envelope's primary, so it lies elsewhere.
    let (id, user, old) = (0..)
        .find_map(|nth| {
            let (sender, user) = (format!("alice{nth}"), format!("bob{nth}"));
            client.json(
                &Ask::post(format!("/v1/wallets/{user}/deposits"), &json!({ "amount": 1 })).with_key(format!("d{nth}")),
            );
            let id = give(&mut client, &sender, 1, &format!("cause-{nth}"));
            let old = primary_of_envelope(&house, &id);
            (primary_of_user(&house, &user) != old).then_some((id, user, old))
        })
        .expect("one of them");
    let won = client.json(&Ask::post(format!("/v1/envelopes/{id}/grab"), &by(&user)));
    assert_eq!(won["outcome"], "won", "{won}");
    house.wait_settled(1);

    // Nothing that is written from now on reaches the replica.
    let replica = old + 3;
    house.cluster.nodes[replica].pause();
    house.cluster.nodes[old].cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    let claim = Ask::post(format!("/v1/envelopes/{id}/claim"), &by(&user));
    let wallet = Ask::get(format!("/v1/wallets/{user}"));
    for answer in at_once(&house, &[claim.clone(), claim.clone(), claim.clone(), claim.clone()]) {
        let answer = answer.expect("the servers are there");
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    let done = house.cluster.nodes[old].cli(&["--scan", "--pattern", "hb:*:outbox"]);
    assert!(!done.is_empty(), "the claim is decided, and its credit waits");
    assert_eq!(client.json(&wallet)["available"], 1, "it must not arrive before it is safe");

    house.cluster.nodes[old].kill9();
    house.cluster.nodes[replica].resume();
    let slot = slots_of(old, 3).0;
    house.cluster.wait_taken_over(slot, old);
    house.cluster.nodes[old].restart();
    house.cluster.wait_follows(old);
    let grab = client.json(&Ask::get(format!("/v1/envelopes/{id}/grabs/{user}")));
    assert_eq!(grab["status"], "grabbed", "the claim was lost with the primary, and nobody was told of it: {grab}");
    assert_eq!(client.json(&wallet)["available"], 1, "so there is no credit");
    for server in [0, 1, 0] {
        assert_eq!(house.client(server).json(&claim)["outcome"], "claimed");
    }
    assert_eq!(client.json(&wallet)["available"], 101, "one credit");
    house.wait_settled(1);
    house.close();
}

/// A server falls asleep with credits in its hands, the other carries them, it wakes and sends them as well: one each.
#[test]
fn race_38_a_settler_sleeps_and_wakes() {
    if !is_missing() {
        settler_sleeps(patient_house(&[]), |_| ());
    }
}

/// The same, and while it sleeps all that its credits left behind leaves Redis.
#[test]
fn race_38_a_settler_sleeps_through_the_archiving_and_wakes() {
    if is_missing() {
        return;
    }
    let archive = tempfile::tempdir().expect("a directory");
    let path = archive.path().join("archive").display().to_string();
    settler_sleeps(patient_house(&["--redis-archive", &path, "--redis-archive-after-s", "0"]), |house| {
        let until = Instant::now() + Duration::from_secs(60);
        while house.cluster.nodes.iter().any(|node| node.runs() && node.cli(&["KEYS", "*:env_*"]).contains("env_")) {
            assert!(Instant::now() < until, "the envelope is not archived");
        }
    });
}

fn settler_sleeps(house: House, until_archived: impl Fn(&House)) {
    const USERS: usize = 40;
    let (mut client, sleeper) = (house.client(1), 0);
    let id = give(&mut client, "alice", USERS as u64, "slept-over");
    // Credits that go to one primary, from an envelope on another.
    let mut wallets = (0..3).map(|index| house.cluster.primary_of(slots_of(index, 3).0));
    let wallets = wallets.find(|&index| index != primary_of_envelope(&house, &id)).expect("one of three");
    let mut users = Vec::new();
    for user in (0..).map(|nth| format!("bob{nth}")) {
        let deposit = Ask::post(format!("/v1/wallets/{user}/deposits"), &json!({ "amount": 1 }));
        client.json(&deposit.with_key(format!("d-{user}")));
        if primary_of_user(&house, &user) == wallets {
            users.push(user);
        }
        if users.len() == USERS {
            break;
        }
    }
    for user in &users {
        let won = client.json(&Ask::post(format!("/v1/envelopes/{id}/grab"), &by(user)));
        assert_eq!(won["outcome"], "won", "{won}");
    }
    house.wait_settled(1);

    let claim = |user: &String| Ask::post(format!("/v1/envelopes/{id}/claim"), &by(user));
    let balance = |client: &mut Client, user: &String| {
        let wallet = client.json(&Ask::get(format!("/v1/wallets/{user}")));
        wallet["available"].as_u64().expect("an amount")
    };
    house.cluster.nodes[wallets].pause();
    std::thread::scope(|scope| {
        let asked = users.iter().map(|user| {
            let (address, ask) = (house.doors.address(sleeper), claim(user));
            scope.spawn(move || Client::new(address).send(&ask).ok())
        });
        let asked: Vec<_> = asked.collect();
        // All are decided; their credits wait for the primary that hangs.
        let until = Instant::now() + Duration::from_secs(60);
        let mut decided = |user: &String| {
            let row = client.json(&Ask::get(format!("/v1/envelopes/{id}/grabs/{user}")));
            row["status"] == "claimed"
        };
        while !users.iter().all(&mut decided) {
            assert!(Instant::now() < until, "claims are not decided");
        }
        let asleep = Asleep::put(house.server(sleeper));
        house.cluster.nodes[wallets].resume();
        house.wait_settled(1);
        for user in &users {
            assert_eq!(balance(&mut client, user), 101, "carried by the one who is awake: {user}");
        }
        until_archived(&house);
        drop(asleep);
        for asked in asked {
            let answer = asked.join().unwrap().expect("the sleeper has woken");
            assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
        }
    });
    for (nth, user) in users.iter().enumerate() {
        let told = house.client(nth % SERVERS).json(&claim(user));
        assert_eq!((&told["outcome"], &told["amount"]), (&json!("claimed"), &json!(100)), "{told}");
        assert_eq!(balance(&mut client, user), 101, "one credit: {user}");
        let entries = client.json(&Ask::get(format!("/v1/wallets/{user}/entries")));
        assert_eq!(entries["entries"].as_array().map(Vec::len), Some(2), "{entries}");
    }
    house.wait_settled(1);
    house.close();
}

/// A server dies between the debit of new envelopes and their shares: others complete them, each once.
#[test]
fn race_39_a_server_dies_between_debit_and_shares() {
    if is_missing() {
        return;
    }
    // Of so many some surely have key and sender elsewhere, and the envelope where it hangs.
    const SENDERS: usize = 90;
    let mut house = patient_house(&[]);
    let mut client = house.client(1);
    let sender = |nth: usize| format!("alice{nth}");
    for nth in 0..SENDERS {
        let deposit = json!({ "amount": 500 });
        let path = format!("/v1/wallets/{}/deposits", sender(nth));
        client.json(&Ask::post(path, &deposit).with_key(format!("d{nth}")));
    }
    let creates: Vec<_> = (0..SENDERS).map(|nth| create(&sender(nth), 5, &format!("e{nth}"))).collect();
    let homes: Vec<_> = (0..SENDERS).map(|nth| primary_of_user(&house, &sender(nth))).collect();
    let hangs = house.cluster.primary_of(slots_of(2, 3).0);
    house.cluster.nodes[hangs].pause();
    let answers = std::thread::scope(|scope| {
        let doors = Arc::clone(&house.doors);
        let asked: Vec<_> = creates
            .iter()
            .map(|ask| {
                let address = doors.address(0);
                scope.spawn(move || Client::new(address).send(ask).ok())
            })
            .collect();
        // Some have paid and wait for the one that hangs: now their server dies.
        let balance = |client: &mut Client, nth| {
            let wallet = client.json(&Ask::get(format!("/v1/wallets/{}", sender(nth))));
            wallet["available"].as_u64().unwrap()
        };
        let until = Instant::now() + Duration::from_secs(60);
        let seen =
            |client: &mut Client| (0..SENDERS).filter(|&nth| homes[nth] != hangs && balance(client, nth) == 0).count();
        while seen(&mut client) < 6 {
            assert!(Instant::now() < until, "nobody has paid");
        }
        house.kill_server(0);
        asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    house.cluster.nodes[hangs].resume();
    house.wait_settled(1);

    // Nobody asked again yet: whoever has paid has one envelope, and whoever has not has none.
    let mut made = HashMap::new();
    for nth in 0..SENDERS {
        let wallet = client.json(&Ask::get(format!("/v1/wallets/{}", sender(nth))));
        let sent = client.json(&Ask::get(format!("/v1/users/{}/sent", sender(nth))));
        let sent = sent["envelopes"].as_array().unwrap();
        let paid = (500 - wallet["available"].as_u64().unwrap()) / 500;
        assert_eq!(sent.len() as u64, paid, "{}: {wallet} {sent:?}", sender(nth));
        sent.iter().for_each(|envelope| drop(made.insert(nth, envelope["id"].clone())));
    }
    let unanswered = (0..SENDERS).filter(|nth| made.contains_key(nth) && answers[*nth].is_none()).count();
    assert!(unanswered > 0, "nobody had paid without an answer: {answers:?}");
    house.start_server(0);
    for (nth, ask) in creates.iter().enumerate() {
        let server = nth % SERVERS;
        let envelope = house.client(server).json(ask);
        assert_eq!(made.entry(nth).or_insert(envelope["id"].clone()), &envelope["id"], "one envelope a key");
        if let Some(told) = answers[nth].as_ref().filter(|told| told.status == 201) {
            assert_eq!(told.json()["id"], envelope["id"], "what was answered stays");
        }
    }
    let audit = house.wait_settled(1);
    assert_eq!((&audit["escrowed"], &audit["wallets"]), (&json!(SENDERS * 500), &json!(0)), "{audit}");
    house.close();
}
