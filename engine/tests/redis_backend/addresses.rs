//! Sealed addresses in front of Redis: races by name, engines that end in the middle, another
//! address key, and what is left in Redis and its files.

use crate::deployment::{Deployment, is_missing};
use crate::feed_story::query;
use crate::gifts::{step, terms};
use crate::races::Two;
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::{World, address, item, kept_addresses, until, user};
use hongbao_engine::EngineError;
use hongbao_engine::address::{Address, AddressOptions, AddressRead};
use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::command::*;
use hongbao_engine::feed::{After, EventTypes};
use hongbao_engine::gift::{GiftState, GiftStep, NewGift};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::redis::{
    CopyError, CopyOptions, FindingKind, RedisBackend, RedisBackendOptions, RedisOpenError, copy_to_directory,
    copy_to_redis,
};
use hongbao_engine::types::*;
use std::path::Path;
use std::sync::Arc;

fn accept_to(gift: GiftId, street: &str) -> Command {
    step(gift, GiftStep::AcceptTo { user: user("bob"), token: None, address: Box::new(address(street)) })
}

fn ship_to(gift: GiftId, address_version: u32) -> Command {
    step(gift, GiftStep::ShipTo { carrier: "sf".to_owned(), tracking: "SF1".to_owned(), address_version })
}

fn erase(gift: GiftId) -> Command {
    step(gift, GiftStep::EraseAddress)
}

fn open(version: u32, street: &str) -> AddressRead {
    AddressRead::Open { version, address: Box::new(address(street)) }
}

fn is_wrong_state(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::WrongState(_)))
}

/// Two engines that take addresses, and an item that alice can give.
fn house(deployment: Deployment) -> (Two, ItemId) {
    let two = Two::over(with_key(deployment, kept_addresses(1)));
    let id = two.sell(NewItem { per_user_limit: None, ..item(100) });
    two.deposit("alice", 1000);
    (two, id)
}

fn with_key(mut deployment: Deployment, addresses: AddressOptions) -> Deployment {
    deployment.options.addresses = Some(addresses);
    deployment
}

impl Two {
    fn read(&self, gift: GiftId) -> AddressRead {
        self.deployment.drive(self.engines[1].address(gift)).expect("it is read")
    }

    fn offered(&self, item: ItemId) -> GiftId {
        self.given(terms("alice", item)).id
    }

    /// An engine with another address key, or none.
    fn opened_with(&self, addresses: Option<AddressOptions>) -> Result<RedisBackend, RedisOpenError> {
        let options = RedisBackendOptions { addresses, ..self.deployment.options.clone() };
        self.deployment.drive(RedisBackend::open(options))
    }

    /// What Redis has under a key that ends so, in hexadecimal digits; '' if there is none.
    fn hex(&self, server: &RedisServer, command: &str, key: &str, words: &str) -> String {
        let found = format!("redis.call('KEYS', '{}:*}}:{key}')[1]", self.deployment.options.redis.key_prefix);
        let lua = format!(
            "local key = {found} local text = key and redis.call('{command}', key{words}) or ''
             return (string.gsub(text, '.', function(c) return string.format('%02x', string.byte(c)) end))"
        );
        server.cli(&["EVAL", &lua, "0"])
    }
}

/// Race 27: address changed against shipped.
#[test]
fn race_27_many_changes_and_ships_at_once_ship_to_what_was_read() {
    if is_missing() {
        return;
    }
    let (two, id) = house(Deployment::new(90));
    for round in 0..6 {
        let gift = two.offered(id);
        two.ask(accept_to(gift, "street 0"));
        let mut sent_to: Option<Box<Address>> = None;
        for nth in 0..20 {
            let AddressRead::Open { version, address } = two.read(gift) else { panic!("it is there") };
            let changes = (0..4).map(|change| accept_to(gift, &format!("street {round} {nth} {change}")));
            let told = two.all_at_once(changes.chain([ship_to(gift, version), ship_to(gift, version)]).collect());
            assert!(told.iter().all(|told| matches!(told, Outcome::Gift(_)) || is_wrong_state(told)), "{told:?}");
            let shipped =
                matches!(&told[4..], [Outcome::Gift(one), Outcome::Gift(_)] if one.state == GiftState::Shipped);
            assert_eq!(shipped, told[4..].iter().any(|told| matches!(told, Outcome::Gift(_))), "{told:?}");
            if shipped {
                sent_to = Some(address);
                break;
            }
        }
        // The last one who ships is alone.
        let AddressRead::Open { version, address } = two.read(gift) else { panic!("it is there") };
        let told = two.ask(ship_to(gift, version));
        assert!(matches!(told, Outcome::Gift(_)), "{told:?}");
        assert_eq!(address, sent_to.unwrap_or_else(|| address.clone()), "frozen at what was read");
        assert!(is_wrong_state(&two.ask(accept_to(gift, "too late"))));
        assert_eq!(two.read(gift), AddressRead::Open { version, address });
    }
    two.assert_sound();
}

/// An acceptance with an address is one step: whoever asks again finds both, or neither.
#[test]
fn an_engine_that_ends_leaves_an_address_or_none() {
    if is_missing() {
        return;
    }
    let (two, id) = house(Deployment::new(91));
    for once in [false, true] {
        // It begins its key, looks, and decides.
        for calls in 1..4 {
            let gift = two.offered(id);
            let keyed = |verb: &str| once.then(|| OnceKey::idempotency("app", verb, &gift.to_string()));
            let key = keyed("accept");
            let most = if once { 4 } else { 3 };
            if calls >= most {
                continue;
            }
            two.lost(accept_to(gift, "a"), key, calls);
            let is_accepted = two.gift(gift).state == GiftState::Accepted;
            assert_eq!(is_accepted, two.read(gift) == open(1, "a"), "after {calls} calls");
            let told = two.at_once(vec![(accept_to(gift, "a"), key); 3]);
            assert!(
                told.iter().all(|told| matches!(&told.as_ref().expect("it is answered").outcome,
                Outcome::Gift(gift) if gift.state == GiftState::Accepted)),
                "{told:?}"
            );
            assert_eq!(two.read(gift), open(1, "a"), "given once, after {calls} calls");
            if !once {
                two.lost(ship_to(gift, 1), None, calls);
                assert!(matches!(two.ask(ship_to(gift, 1)), Outcome::Gift(gift) if gift.state == GiftState::Shipped));
                two.lost(erase(gift), None, calls);
                assert!(matches!(two.ask(erase(gift)), Outcome::Gift(_)));
                assert_eq!(two.read(gift), AddressRead::None);
            }
        }
    }
    two.assert_sound();
}

/// Two engines erase what is due at once, one of them asked to and the other by itself.
#[test]
fn what_is_due_is_erased_once_whoever_comes() {
    if is_missing() {
        return;
    }
    let (two, id) = house(Deployment::on_cluster(92));
    let gifts: Vec<GiftId> = (0..12).map(|_| two.offered(id)).collect();
    for gift in &gifts {
        two.ask(accept_to(*gift, "a"));
        two.ask(ship_to(*gift, 1));
        two.ask(step(*gift, GiftStep::Deliver));
    }
    let clock = two.deployment.options.clock.clone().expect("time is moved by hand");
    clock.advance(99_999);
    two.deployment.settle(&two.engines[0]);
    assert!(gifts.iter().all(|gift| two.read(*gift) == open(1, "a")), "a millisecond before");
    clock.advance(1);
    two.deployment.drive(async {
        let asked = gifts.iter().map(|gift| two.engines[0].execute(erase(*gift), None));
        let erased = futures_util::future::join_all(asked);
        let (erased, one, other) = tokio::join!(erased, two.engines[0].sweep(), two.engines[1].sweep());
        assert!(erased.into_iter().all(|told| matches!(told, Ok(reply) if matches!(reply.outcome, Outcome::Gift(_)))));
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    });
    two.deployment.settle(&two.engines[0]);
    assert!(gifts.iter().all(|gift| two.read(*gift) == AddressRead::None));
    two.assert_sound();
}

/// Those below a directory that have these bytes, in whatever case.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
            continue;
        }
        // Files that are not needed any more go while it is looked.
        let file = std::fs::read(&path).unwrap_or_default();
        if file.windows(bytes.len()).any(|window| window.eq_ignore_ascii_case(bytes)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits")).collect()
}

/// The canary is nowhere; and what opened an erased address is in no file of the primary or its
/// replica once they were written anew, of which one is asked for at most in five minutes.
#[test]
fn its_text_is_nowhere_and_what_opened_an_erased_one_leaves_the_files() {
    if is_missing() {
        return;
    }
    // So that what lies in files can be found there.
    let plain = || ServerOptions::default().line("rdbcompression no").line("aof-use-rdb-preamble no");
    let primary = Arc::new(RedisServer::start(plain().line("repl-diskless-sync-delay 0")));
    let port = primary.url().rsplit(':').next().expect("a port").trim_matches('/').to_owned();
    let replica = RedisServer::start(plain().line(&format!("replicaof 127.0.0.1 {port}")));
    until("the replica is in step", || primary.cli(&["INFO", "replication"]).contains("state=online"));
    let (two, id) = house(Deployment::alone_on(93, &primary));
    let gift = two.given(NewGift { message: "to you".to_owned(), ..terms("alice", id) }).id;
    let once = Some(OnceKey::idempotency("app", "accept", "k"));
    let told = format!("{:?}", two.at_once(vec![(accept_to(gift, "canary street"), once); 2]));
    two.ask(accept_to(gift, "canary hill"));
    let all = query(After::Oldest, EventTypes::USUAL, 1000);
    let events = two.deployment.drive(two.engines[0].events(&all)).expect("a read");
    let shown = format!("{told} {:?} {:?} {events:?}", two.gift(gift), two.read(gift));
    assert!(!shown.to_lowercase().contains("canary"), "{shown}");
    let everything = "for _, key in ipairs(redis.call('KEYS', '*')) do
        if string.find(string.lower(redis.call('DUMP', key)), 'canary') then return key end
      end return 'none'";
    assert_eq!(primary.cli(&["EVAL", everything, "0"]), "none");
    assert_eq!(primary.cli(&["SAVE"]), "OK");
    let both = [primary.directory().to_owned(), replica.directory().to_owned()];
    let files = |bytes: &[u8]| both.iter().flat_map(|directory| files_with(directory, bytes)).collect::<Vec<_>>();
    assert_eq!(files(b"canary"), [""; 0]);
    let wrapped = bytes_of(&two.hex(&primary, "GET", &format!("address:{gift}"), ""));
    assert_eq!(wrapped.len(), 60, "a nonce, a key and a tag");
    assert!(files(&wrapped).len() >= 2, "it is looked for where it is");
    std::fs::remove_file(primary.directory().join("dump.rdb")).expect("it was just made");

    let rewrites = |server: &RedisServer| {
        let info = server.cli(&["INFO", "persistence"]);
        info.lines()
            .find_map(|line| line.strip_prefix("aof_rewrites:"))
            .map(|count| count.trim().parse::<u32>().expect("a number"))
    };
    // The first address was replaced, and nobody has looked yet.
    let before = [rewrites(&primary), rewrites(&replica)];
    two.ask(erase(gift));
    assert_eq!(two.hex(&primary, "GET", &format!("address:{gift}"), ""), "");
    two.deployment.settle(&two.engines[0]);
    let is_gone = |wrapped: &[u8]| files(wrapped).is_empty();
    until("its files are written anew", || is_gone(&wrapped));
    assert_eq!(two.hex(&primary, "HGET", "erased", ", 'last'"), "", "nothing is left to be done");
    let again = two.offered(id);
    two.ask(accept_to(again, "b"));
    let second = bytes_of(&two.hex(&primary, "GET", &format!("address:{again}"), ""));
    two.ask(erase(again));
    two.deployment.settle(&two.engines[0]);
    two.deployment.settle(&two.engines[1]);
    assert!(!is_gone(&second), "not twice in five minutes");
    let after = [rewrites(&primary), rewrites(&replica)];
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(before.map(|count| count + 1), after);
    }
    two.deployment.options.clock.as_ref().expect("time is moved by hand").advance(300_000);
    two.deployment.settle(&two.engines[1]);
    until("its files are written anew", || is_gone(&second));
    two.assert_sound();
}

/// Engines with the old key and with the new one stand beside each other while they are started
/// one after the other, two of them at once.
#[test]
fn another_address_key_takes_over_while_engines_go_on() {
    if is_missing() {
        return;
    }
    let (two, id) = house(Deployment::new(94));
    let gifts: Vec<GiftId> = (0..20).map(|_| two.offered(id)).collect();
    for gift in &gifts {
        two.ask(accept_to(*gift, "a"));
    }
    // All know both, and the old one counts yet.
    let with = |key, older: u8| {
        let older = (older > 0).then(|| kept_addresses(older).key).into_iter().collect();
        Some(AddressOptions { older, ..kept_addresses(key) })
    };
    let both = two.opened_with(with(1, 2)).expect("it opens");
    let options = RedisBackendOptions { addresses: with(2, 1), ..two.deployment.options.clone() };
    let (one, other) = two.deployment.drive(async {
        let write = async {
            for gift in &gifts {
                both.execute(accept_to(*gift, "b"), None).await.expect("it is answered");
            }
        };
        let opened = async { tokio::join!(RedisBackend::open(options.clone()), RedisBackend::open(options.clone())) };
        tokio::join!(opened, write).0
    });
    let new = [one.expect("it opens"), other.expect("it opens")];
    for (nth, gift) in gifts.iter().enumerate() {
        for engine in new.iter().chain([&both]) {
            let read = two.deployment.drive(engine.address(*gift)).expect("it is read");
            assert_eq!(read, open(2, "b"), "of gift {nth}");
        }
    }
    // The last one that was started with the old key is started again, and it is not needed any more.
    let anew = two.opened_with(with(2, 1)).expect("it opens");
    let only = two.opened_with(with(2, 0)).expect("it opens");
    assert_eq!(two.deployment.drive(only.address(gifts[0])).expect("it is read"), open(2, "b"));
    let without = two.deployment.drive(both.address(gifts[0]));
    assert!(without.is_ok(), "it knows both: {without:?}");
    let first = two.deployment.drive(two.engines[0].address(gifts[0]));
    let told = format!("{first:?}");
    assert!(matches!(first, Err(EngineError::OperatorNeeded(_))) && told.contains("--address-old-key-file"), "{told}");
    for addresses in [with(1, 0), with(3, 1), None] {
        let refused = two.opened_with(addresses).err().expect("it opens nothing").to_string();
        assert!(refused.starts_with("20 addresses are sealed with address keys that were not given"), "{refused}");
        assert!(refused.contains(&kept_addresses(2).key.id()), "{refused}");
    }
    drop((anew, only));
    two.assert_sound();
}

/// What is lost can be given again until the gift is shipped, and an engine starts all the same.
#[test]
fn a_lost_data_key_is_told_and_another_address_is_taken() {
    if is_missing() {
        return;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    let (two, id) = house(Deployment::alone_on(95, &server));
    let [gift, shipped] = [two.offered(id), two.offered(id)];
    for gift in [gift, shipped] {
        two.ask(accept_to(gift, "a"));
    }
    two.ask(ship_to(shipped, 1));
    let lose = "for _, key in ipairs(redis.call('KEYS', '*:address:*')) do redis.call('UNLINK', key) end return 'done'";
    assert_eq!(server.cli(&["EVAL", lose, "0"]), "done");
    assert_eq!(two.read(gift), AddressRead::KeyLost);
    two.assert_sound();
    // Who has lost the address key goes on with another one.
    let other = two.opened_with(Some(kept_addresses(7))).expect("nothing is left to open");
    let told = two.deployment.drive(other.execute(accept_to(gift, "a"), None)).expect("it is answered").outcome;
    assert!(matches!(told, Outcome::Gift(_)), "{told:?}");
    assert_eq!(two.deployment.drive(other.address(gift)).expect("it is read"), open(2, "a"));
    two.ask(erase(shipped));
    assert_eq!(two.read(shipped), AddressRead::None);
    two.assert_sound();
}

#[test]
fn none_is_taken_without_an_address_key() {
    let Some(two) = Two::new(96) else { return };
    let id = two.sell(item(9));
    two.deposit("alice", 100);
    let gift = two.offered(id);
    let refused = two.ask(accept_to(gift, "a"));
    let told = format!("{refused:?}");
    assert!(is_wrong_state(&refused) && told.contains("--address-key-file"), "{told}");
    assert_eq!(two.gift(gift).state, GiftState::Offered);
    assert!(matches!(two.ask(erase(gift)), Outcome::Gift(_)));
    two.assert_sound();
}

/// What is done with redis-cli, and what is found then. The gift with an address is given, and one whose is erased.
#[test]
fn an_audit_finds_what_opens_an_erased_address_and_what_is_missing() {
    if is_missing() {
        return;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    let finders = "local live = redis.call('KEYS', '*:address:' .. ARGV[1])[1]
        local function beside(rest) return string.match(live, '^.*}:') .. rest end
        local gift = redis.call('HKEYS', beside('sealed'))[1]";
    for (damage, kind) in [
        ("redis.call('HDEL', beside('sealed'), gift)", FindingKind::Address),
        ("redis.call('HSET', beside('sealed'), string.rep('x', 16), 'x')", FindingKind::Address),
        ("redis.call('HDEL', beside('addresses'), gift)", FindingKind::Address),
        ("redis.call('SET', beside('address:' .. ARGV[2]), 'x')", FindingKind::Address),
        ("redis.call('ZREM', beside('due'), 'a' .. gift)", FindingKind::List),
        ("redis.call('HSET', beside('addresses'), gift, 'x')", FindingKind::Unreadable),
    ] {
        let (two, id) = house(Deployment::alone_on(97, &server));
        let [live, erased] = [two.offered(id), two.offered(id)];
        for gift in [live, erased] {
            two.ask(accept_to(gift, "a"));
        }
        two.ask(ship_to(live, 1));
        two.ask(erase(erased));
        two.assert_sound();
        let lua = format!("{finders} {damage} return 'done'");
        assert_eq!(server.cli(&["EVAL", &lua, "0", &live.to_string(), &erased.to_string()]), "done", "{damage}");
        let audit = two.deployment.drive(two.engines[1].audit_rows(&mut |_| ())).expect("it reads");
        assert!(audit.findings.iter().any(|found| found.kind == kind), "{damage}: {:?}", audit.findings);
        assert!(!format!("{:?}", audit.findings).to_lowercase().contains("canary"));
        server.cli(&["FLUSHALL"]);
    }
}

/// What opens an address is in one place: neither way takes it along, and nothing is left of the attempt.
#[test]
fn a_deployment_or_directory_with_addresses_is_not_copied() {
    if is_missing() {
        return;
    }
    let (two, id) = house(Deployment::new(98));
    let gift = two.offered(id);
    two.ask(accept_to(gift, "a"));
    two.deployment.settle(&two.engines[0]);
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("data");
    let options = CopyOptions { backend: two.deployment.options.clone(), ..CopyOptions::default() };
    let refused = two.deployment.drive(copy_to_directory(options.clone(), &directory, &mut |_| ()));
    assert!(matches!(&refused, Err(CopyError::Form(why)) if why.contains("address/erase")), "{refused:?}");
    assert!(!directory.exists());
    // The engines go on, and once it is erased it is copied.
    two.ask(erase(gift));
    let copied = two.deployment.drive(copy_to_directory(options, &directory, &mut |_| ())).expect("it is copied");
    assert_eq!(copied.differences, [""; 0]);
    let clock = two.deployment.options.clock.clone();
    let embedded = EmbeddedOptions { addresses: Some(kept_addresses(1)), clock, ..World::new(98).options() };
    let (engine, _) = Embedded::open(&directory, embedded.clone()).expect("it opens");
    let told = two.deployment.drive(engine.execute(accept_to(gift, "b"), None)).expect("it is answered").outcome;
    assert!(matches!(told, Outcome::Gift(_)), "{told:?}");
    let read = two.deployment.drive(engine.address(gift)).expect("it is read");
    assert_eq!(read, open(2, "b"), "the erased one's number does not come again");
    engine.close().expect("it closes");
    drop(engine);
    let empty = Deployment::new(99);
    let options = CopyOptions { backend: empty.options.clone(), ..CopyOptions::default() };
    let refused = empty.drive(copy_to_redis(&directory, options, &mut |_| ()));
    assert!(matches!(&refused, Err(CopyError::Form(why)) if why.contains("address/erase")), "{refused:?}");
    let (engine, _) = Embedded::open(&directory, embedded).expect("it opens");
    two.deployment.drive(engine.execute(erase(gift), None)).expect("it is answered");
    engine.close().expect("it closes");
    drop(engine);
    let empty = with_key(Deployment::new(100), kept_addresses(1));
    let options = CopyOptions { backend: empty.options.clone(), ..CopyOptions::default() };
    let copied = empty.drive(copy_to_redis(&directory, options, &mut |_| ())).expect("it is copied");
    assert_eq!(copied.differences, [""; 0]);
    let engine = empty.open();
    empty.drive(engine.execute(accept_to(gift, "c"), None)).expect("it is answered");
    assert_eq!(empty.drive(engine.address(gift)).expect("it is read"), open(3, "c"));
}
