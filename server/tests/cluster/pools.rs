//! A mass envelope whose primaries fail over in the middle of transfers between
//! reserve and pools: what was won stays won, and no share is won twice.
//!
//! Everybody who grabs is a user of a few pools. These are empty soon, so first
//! the reserve grants to them, and then other pools have to give some back. At last
//! all of it is archived, and told as before.

use crate::client::{Ask, Client};
use crate::game::give;
use crate::house::{Doors, House, SERVERS};
use crate::process::{hongbao, run, told};
use crate::races::{key_of_envelope, primary_of_key, slot_of_key};
use crate::redis_stand::{is_missing, slots_of};
use hongbao_engine::redis::RedisOptions;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// As few shares for each pool as a mass envelope can have.
const SHARES_A_POOL: u64 = 64;
const PRIMARIES: usize = 3;
const POOLS_A_PRIMARY: usize = 2;
const PLAYERS: usize = 4;
/// Grabs in one call.
const BATCH: usize = 10;
/// Shares that lie in the pools of those who grab, at first: all but those of the reserve.
const IN_FEW_POOLS: usize = 60 * PRIMARIES * POOLS_A_PRIMARY;
const AMOUNT: u64 = 100;
/// Seconds from its settlement until it leaves Redis.
const ARCHIVED_AFTER_S: u64 = 5000;
/// How many cancel it at once.
const CANCELS: usize = 8;
/// A primary that hangs for less is not taken for failed.
const UNNOTICED: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(90);

fn buckets() -> u64 {
    RedisOptions::default().buckets.into()
}

fn shares() -> u64 {
    SHARES_A_POOL * buckets()
}

fn bucket_of(user: &str) -> u64 {
    let digest = Sha256::digest(user.as_bytes());
    u64::from(u16::from_be_bytes([digest[6], digest[7]])) % buckets()
}

/// An envelope, those who grab from it, and what they were told.
struct Hunt {
    id: String,
    transfers: String,
    home_slot: u16,
    users: Mutex<VecDeque<String>>,
    /// Users who may grab now.
    allowed: AtomicUsize,
    won: Mutex<HashMap<String, (u64, u64)>>,
    over: AtomicBool,
}

/// Ends it also when whoever disturbs it fails.
struct Whistle<'a>(&'a Hunt);

impl Drop for Whistle<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Hunt {
    fn won(&self) -> usize {
        self.won.lock().unwrap().len()
    }

    /// The next users who may grab, if any.
    fn next(&self) -> Vec<String> {
        let mut users = self.users.lock().unwrap();
        let most = users.len().min(BATCH);
        let take = |allowed: usize| Some(allowed - allowed.min(most));
        let allowed = self.allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).expect("it is some");
        users.drain(..allowed.min(most)).collect()
    }

    /// Whoever got no answer asks again, like everybody before anybody new.
    fn again(&self, user: String) {
        self.users.lock().unwrap().push_front(user);
        self.allowed.fetch_add(1, Ordering::Relaxed);
    }

    fn learn(&self, user: String, outcome: &Value) {
        if outcome["error"].is_null() {
            assert_eq!(outcome["outcome"], "won", "{user}: there are enough: {outcome}");
            let share = (outcome["share"].as_u64().expect("a share"), outcome["amount"].as_u64().expect("an amount"));
            let before = self.won.lock().unwrap().insert(user, share);
            assert_eq!(before, None, "it asked once more without need");
            return;
        }
        let code = outcome["error"]["code"].as_str().unwrap_or_default();
        assert!(["unconfirmed", "not_ready", "overloaded"].contains(&code), "{user}: {outcome}");
        self.again(user);
    }

    fn play(&self, doors: &Doors, nth: usize) {
        let mut clients: Vec<Client> = (0..SERVERS).map(|server| Client::new(doors.address(server))).collect();
        for round in nth.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let users = self.next();
            if users.is_empty() {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let grabs: Vec<_> = users.iter().map(|user| json!({ "envelope": self.id, "user": user })).collect();
            let ask = Ask::post("/v1/grabs", &json!({ "grabs": grabs }));
            match clients[round % SERVERS].send(&ask) {
                Ok(answer) if answer.status == 200 => {
                    let told = answer.json();
                    let results = told["results"].as_array().expect("results");
                    users.into_iter().zip(results).for_each(|(user, outcome)| self.learn(user, outcome));
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{answer:?}");
                    users.into_iter().for_each(|user| self.again(user));
                }
                Err(_) => users.into_iter().for_each(|user| self.again(user)),
            }
        }
    }

    /// Lets as many grab as are missing, and waits until all who may have so many at least.
    fn until(&self, enough: usize) {
        let until = Instant::now() + PATIENCE;
        while self.won() < enough || self.allowed.load(Ordering::Relaxed) > 0 {
            let missing = enough.saturating_sub(self.won() + self.allowed.load(Ordering::Relaxed));
            self.allowed.fetch_add(missing.min(PLAYERS * BATCH), Ordering::Relaxed);
            assert!(Instant::now() < until, "{} of {enough} have won", self.won());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Transfers of a kind that are open, as the reserve knows them.
    fn open(&self, house: &House, home: usize, kind: &str) -> HashSet<(String, String)> {
        let rows = house.cluster.nodes[home].cli(&["HGETALL", &self.transfers]);
        let rows: Vec<&str> = rows.lines().collect();
        let open = rows.chunks_exact(2).filter(|row| row[1].split(' ').nth(1) == Some(kind));
        open.map(|row| (row[0].to_owned(), row[1].to_owned())).collect()
    }

    fn home(&self, house: &House) -> usize {
        house.cluster.primary_of(self.home_slot)
    }

    /// A primary that serves pools, and not the envelope itself.
    fn another_primary(&self, house: &House) -> usize {
        let home = self.home(house);
        primaries(house).into_iter().find(|&primary| primary != home).expect("there are three")
    }

    /// Stops a primary while transfers with its pools are open, and tells which, and one
    /// of its slots. Others go on, so what stays open is with the one that hangs.
    fn hang_in_transfers(&self, house: &House, kind: &str) -> (usize, u16) {
        let (home, hangs) = (self.home(house), self.another_primary(house));
        let slot = slot_of(house, hangs);
        let envelope = self.transfers.trim_end_matches(":transfers");
        let mut watch = Watch::of(house.cluster.nodes[home].port(), format!("HGET {envelope} open\r\n"));
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "no transfer of kind {kind} was seen open, {} have won", self.won());
            if self.allowed.load(Ordering::Relaxed) == 0 {
                self.allowed.fetch_add(PLAYERS * BATCH, Ordering::Relaxed);
            }
            if watch.number() == 0 {
                continue;
            }
            house.cluster.nodes[hangs].pause();
            let since = Instant::now();
            let mut stuck = self.open(house, home, kind);
            while since.elapsed() < UNNOTICED && !stuck.is_empty() {
                let open = self.open(house, home, kind);
                stuck.retain(|transfer| open.contains(transfer));
            }
            if !stuck.is_empty() {
                eprintln!("{} transfers of kind {kind} are stuck, {} have won", stuck.len(), self.won());
                break;
            }
            house.cluster.nodes[hangs].resume();
        }
        (hangs, slot)
    }

    /// Transfers are open, and the primary of their pools dies.
    fn pools_fail_over(&self, house: &mut House, kind: &str) {
        let (hangs, slot) = self.hang_in_transfers(house, kind);
        house.cluster.nodes[hangs].kill9();
        come_back(house, slot, hangs);
    }

    /// Transfers are open, and the primary of their reserve dies.
    fn reserve_fails_over(&self, house: &mut House, kind: &str) {
        let home = self.home(house);
        let (hangs, _) = self.hang_in_transfers(house, kind);
        house.cluster.nodes[home].kill9();
        house.cluster.nodes[hangs].resume();
        come_back(house, self.home_slot, home);
    }

    /// Transfers are open, and the primary of their pools wakes when another has its place.
    fn pools_wake_late(&self, house: &House, kind: &str) {
        let (hangs, slot) = self.hang_in_transfers(house, kind);
        house.cluster.wait_taken_over(slot, hangs);
        house.cluster.nodes[hangs].resume();
        house.cluster.wait_follows(hangs);
    }

    /// Everybody asks again, and has the same.
    fn ask_again(&self, house: &House) {
        let won = self.won.lock().unwrap();
        let shares: HashSet<u64> = won.values().map(|(share, _)| *share).collect();
        assert_eq!(shares.len(), won.len(), "each share has one winner");
        let users: Vec<&String> = won.keys().collect();
        for (nth, users) in users.chunks(500).enumerate() {
            let grabs: Vec<_> = users.iter().map(|user| json!({ "envelope": self.id, "user": user })).collect();
            let told = house.client(nth % SERVERS).json(&Ask::post("/v1/grabs", &json!({ "grabs": grabs })));
            for (user, told) in users.iter().zip(told["results"].as_array().expect("results")) {
                assert_eq!((&told["outcome"], &told["replayed"]), (&json!("won"), &json!(true)), "{user}: {told}");
                assert_eq!((told["share"].as_u64(), told["amount"].as_u64()), (Some(won[*user].0), Some(AMOUNT)));
            }
        }
        let mut listed = 0;
        let mut cursor = String::new();
        let mut client = house.client(0);
        loop {
            let page = client.json(&Ask::get(format!("/v1/envelopes/{}/grabs?limit=1000&cursor={cursor}", self.id)));
            for grab in page["grabs"].as_array().expect("grabs") {
                let told = won.get(grab["user"].as_str().expect("a user")).map(|(share, _)| *share);
                assert_eq!(told, grab["share"].as_u64(), "nobody was told of {grab}");
                listed += 1;
            }
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(listed, won.len(), "every win is listed");
    }
}

/// A number in Redis, asked for again and again: faster than by a process each time.
struct Watch {
    stream: BufReader<TcpStream>,
    command: String,
}

impl Watch {
    fn of(port: u16, command: String) -> Watch {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        Watch { stream: BufReader::new(stream), command }
    }

    fn number(&mut self) -> usize {
        self.stream.get_mut().write_all(self.command.as_bytes()).expect("a server");
        let mut line = String::new();
        for _ in 0..2 {
            line.clear();
            self.stream.read_line(&mut line).expect("an answer");
        }
        line.trim().parse().unwrap_or_else(|_| panic!("{}: {line:?}", self.command))
    }
}

fn primaries(house: &House) -> Vec<usize> {
    (0..PRIMARIES).map(|range| house.cluster.primary_of(slots_of(range, PRIMARIES).0)).collect()
}

/// Of the slots that a node serves.
fn slot_of(house: &House, node: usize) -> u16 {
    let slots = (0..PRIMARIES).map(|range| slots_of(range, PRIMARIES).0);
    slots.into_iter().find(|&slot| house.cluster.primary_of(slot) == node).expect("it is a primary")
}

/// Until another has the place of one that was killed, and it follows that.
fn come_back(house: &mut House, slot: u16, killed: usize) {
    house.cluster.wait_taken_over(slot, killed);
    house.cluster.nodes[killed].restart();
    house.cluster.wait_follows(killed);
}

/// Users of a few pools of each primary, in turn.
fn users_of_few_pools(house: &House, most: usize) -> VecDeque<String> {
    let mut pools: HashMap<u64, VecDeque<String>> = HashMap::new();
    for primary in primaries(house) {
        let is_here = |bucket: &u64| primary_of_key(house, &format!("hb:{{b{bucket}}}:sums")) == primary;
        pools.extend((0..buckets()).filter(is_here).take(POOLS_A_PRIMARY).map(|bucket| (bucket, VecDeque::new())));
    }
    let each = most.div_ceil(pools.len());
    let mut missing = pools.len();
    for user in (0..).map(|nth| format!("p{nth}")) {
        if let Some(users) = pools.get_mut(&bucket_of(&user)).filter(|users| users.len() < each) {
            users.push_back(user);
            missing -= usize::from(users.len() == each);
        }
        if missing == 0 {
            break;
        }
    }
    let mut pools: Vec<_> = pools.into_values().collect();
    (0..each).flat_map(|_| pools.iter_mut().filter_map(VecDeque::pop_front).collect::<Vec<_>>()).collect()
}

/// The end of a mass envelope among failovers: whoever closes its pools, each gives back once.
fn cancel(house: &mut House, hunt: &Hunt, sold: u64) {
    let (hangs, path) = (hunt.another_primary(house), format!("/v1/envelopes/{}", hunt.id));
    let (slot, home) = (slot_of(house, hangs), hunt.home(house));
    let cancelled = std::thread::scope(|scope| {
        house.cluster.nodes[hangs].pause();
        // The rows of some of these keys lie where it hangs; one of them elsewhere is enough.
        let cancels: Vec<_> = (0..CANCELS)
            .map(|nth| {
                let mut client = house.client(nth % SERVERS);
                let ask = Ask::post(format!("{path}/cancel"), &json!({})).with_key(format!("cancel{nth}"));
                scope.spawn(move || client.json(&ask))
            })
            .collect();
        let until = Instant::now() + PATIENCE;
        while hunt.open(house, home, "c").is_empty() {
            assert!(Instant::now() < until, "nobody closes a pool");
        }
        house.cluster.nodes[hangs].kill9();
        come_back(house, slot, hangs);
        cancels.into_iter().map(|cancelled| cancelled.join().unwrap()).collect::<Vec<_>>()
    });
    let unsold = AMOUNT * (shares() - sold);
    for cancelled in cancelled {
        assert_eq!((&cancelled["ended_as"], &cancelled["refunded_amount"]), (&json!("cancelled"), &json!(unsold)));
    }
    let wallet = house.client(0).json(&Ask::get("/v1/wallets/alice"));
    assert_eq!(wallet["available"], unsold, "what is unsold goes back once: {wallet}");
}

/// Races 28 and 29.
#[test]
fn race_29_primaries_fail_over_in_the_middle_of_transfers() {
    if is_missing() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let archive = directory.path().join("archive").display().to_string();
    let mut house =
        House::open_with(1, &["--redis-archive", &archive, "--redis-archive-after-s", &ARCHIVED_AFTER_S.to_string()]);
    let id = give(&mut house.client(0), "alice", shares(), "mass");
    let key = key_of_envelope(&id);
    let hunt = Hunt {
        users: Mutex::new(users_of_few_pools(&house, shares() as usize * 3 / 4)),
        transfers: format!("{key}:transfers"),
        home_slot: slot_of_key(&house, &key),
        id: id.clone(),
        allowed: AtomicUsize::new(0),
        won: Mutex::default(),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let whistle = Whistle(&hunt);
        for nth in 0..PLAYERS {
            let (doors, hunt) = (Arc::clone(&house.doors), &hunt);
            scope.spawn(move || hunt.play(&doors, nth));
        }
        hunt.until(IN_FEW_POOLS);
        hunt.pools_fail_over(&mut house, "g");
        hunt.reserve_fails_over(&mut house, "g");
        hunt.pools_wake_late(&house, "g");
        // When the reserve has no more, other pools give some back.
        hunt.until(IN_FEW_POOLS + shares() as usize / 16);
        hunt.pools_fail_over(&mut house, "r");
        hunt.reserve_fails_over(&mut house, "r");
        hunt.until(0);
        drop(whistle);
    });
    house.wait_settled(1);
    hunt.ask_again(&house);

    let won = hunt.won();
    cancel(&mut house, &hunt, won as u64);
    let mut client = house.client(0);
    let claimed = won / 8;
    for user in hunt.won.lock().unwrap().keys().take(claimed) {
        let claim = Ask::post(format!("/v1/envelopes/{id}/claim"), &json!({ "user": user }));
        assert_eq!(client.json(&claim)["outcome"], "claimed");
    }
    hunt.ask_again(&house);
    client.json(&Ask::post("/v1/test/clock", &json!({ "advance_s": 3 * 3600 })));
    let until = Instant::now() + PATIENCE;
    while client.json(&Ask::get(format!("/v1/envelopes/{id}")))["state"] != "settled" {
        assert!(Instant::now() < until, "nobody settles it");
        std::thread::sleep(Duration::from_millis(50));
    }
    archived(&mut house, &hunt);
    let audit = house.wait_settled(1);
    let lapsed = AMOUNT * (shares() - claimed as u64);
    assert_eq!((&audit["escrowed"], &audit["wallets"]), (&json!(0), &json!(AMOUNT * shares())), "{audit}");
    assert_eq!(client.json(&Ask::get("/v1/wallets/alice"))["available"], lapsed);
    let urls = house.cluster.urls().join(",");
    let found = run(hongbao().args(["audit", "--redis", &urls, "--redis-archive", &archive]));
    assert!(found.status.success() && told(&found).contains("clean"), "{}", told(&found));
    house.close();
}

/// It leaves Redis, and a primary of its pools dies when the first of them has left.
fn archived(house: &mut House, hunt: &Hunt) {
    let first = format!("hb:{{b0}}:{}:pool", hunt.id);
    let common = primary_of_key(house, &first);
    let home = hunt.home(house);
    let others = primaries(house).into_iter().find(|&primary| primary != home && primary != common);
    let dies = others.expect("there are three");
    let slot = slot_of(house, dies);
    let exists = format!("EVAL \"return tostring(redis.call('EXISTS', KEYS[1]))\" 1 {first}\r\n");
    let mut watch = Watch::of(house.cluster.nodes[common].port(), exists);
    assert_eq!(watch.number(), 1);
    house.client(0).json(&Ask::post("/v1/test/clock", &json!({ "advance_s": ARCHIVED_AFTER_S })));
    let until = Instant::now() + PATIENCE;
    while watch.number() > 0 {
        assert!(Instant::now() < until, "no pool leaves");
    }
    house.cluster.nodes[dies].kill9();
    let left = |house: &House, what: &str| -> usize {
        let pattern = format!("*:{}{what}", hunt.id);
        let nodes = primaries(house).into_iter().map(|primary| &house.cluster.nodes[primary]);
        nodes.map(|node| node.cli(&["KEYS", &pattern]).lines().filter(|key| !key.is_empty()).count()).sum()
    };
    come_back(house, slot, dies);
    eprintln!("{} pools are left", left(house, ":pool"));
    hunt.ask_again(house);
    let until = Instant::now() + PATIENCE;
    while left(house, "*") > 0 {
        assert!(Instant::now() < until, "not all of it leaves");
        // Whoever was interrupted has taken it for ten minutes.
        house.client(0).json(&Ask::post("/v1/test/clock", &json!({ "advance_s": 1000 })));
        std::thread::sleep(Duration::from_millis(500));
    }
    hunt.ask_again(house);
}
