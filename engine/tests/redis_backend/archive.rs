//! What is settled leaves Redis, and everybody is told the same as before.

use crate::deployment::{Deployment, is_missing};
use crate::races::Two;
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::{Ask, envelope, nth_user, user};
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, EnvelopeFilter, Listing, Page};
use hongbao_engine::command::*;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::redis::{
    CopyOptions, RedisBackend, RedisBackendOptions, RedisOpenError, ToldEvents, copy_to_directory,
};
use hongbao_engine::types::*;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const USERS: usize = 12;
pub(crate) const WEEK_S: u64 = 7 * 86_400;
/// How long after its settlement an envelope leaves.
pub(crate) const AFTER_S: u64 = 8 * 86_400;

fn users() -> impl Iterator<Item = UserId> {
    (0..USERS).map(nth_user).chain([user("alice")])
}

/// Envelopes of every kind, of which some users have shares; all settled in a
/// week at the latest.
fn evening(two: &Two) -> Vec<EnvelopeId> {
    let mut made = Vec::new();
    for nth in 0..18 {
        let kind = nth % 6;
        let terms = NewEnvelope {
            auto_claim: kind < 2,
            unclaimed: if kind == 3 { Unclaimed::Credit } else { Unclaimed::Return },
            ..envelope(100 + nth as u64, 5)
        };
        let id = two.give(terms);
        let takers = if kind == 0 { 5 } else { nth % 4 };
        for taker in 0..takers {
            let name = nth_user((nth + taker) % USERS);
            assert!(matches!(two.ask(Command::Grab { envelope: id, user: name.clone() }), Outcome::Won { .. }));
            if kind > 3 && taker % 2 == 0 {
                two.ask(Command::Claim { envelope: id, user: name });
            }
        }
        if kind == 5 {
            two.ask(Command::Cancel { envelope: id });
        }
        made.push(id);
    }
    made
}

/// A list in pages of three.
fn pages<T: Debug>(read: impl Fn(Page) -> Listing<T>) -> Vec<String> {
    let mut told = Vec::new();
    let mut page = Page { limit: 3, cursor: None };
    loop {
        let listing = read(page.clone());
        told.extend(listing.rows.iter().map(|row| format!("{row:?}")));
        match listing.next {
            Some(next) => page.cursor = Some(next),
            None => return told,
        }
    }
}

/// Everything that anybody is told of these envelopes and users.
fn told(deployment: &Deployment, backend: &impl Backend, envelopes: &[EnvelopeId]) -> Vec<String> {
    let mut told = Vec::new();
    for &id in envelopes {
        told.push(format!("{:?}", deployment.drive(backend.envelope(id)).expect("a read").expect("it is there")));
        told.extend(pages(|page| deployment.drive(backend.grabs(id, &page)).expect("a read").expect("it is there")));
        for name in users() {
            told.push(format!("{:?}", deployment.drive(backend.grab_of(id, &name)).expect("a read")));
            for command in [
                Command::Grab { envelope: id, user: name.clone() },
                Command::Claim { envelope: id, user: name.clone() },
            ] {
                told.push(format!(
                    "{:?}",
                    deployment.drive(backend.execute(command, None)).expect("an answer").outcome
                ));
            }
        }
        let again = deployment.drive(backend.execute(Command::Cancel { envelope: id }, None));
        told.push(format!("{:?}", again.expect("an answer").outcome));
    }
    for name in users() {
        told.push(format!("{:?}", deployment.drive(backend.wallet(&name)).expect("a read")));
        told.extend(pages(|page| deployment.drive(backend.entries(&name, &page)).expect("a read")));
        told.extend(pages(|page| deployment.drive(backend.sent(&name, &page)).expect("a read")));
        told.extend(pages(|page| deployment.drive(backend.received(&name, &page)).expect("a read")));
    }
    let all = EnvelopeFilter::default();
    told.extend(pages(|page| deployment.drive(backend.envelopes(&all, &page)).expect("a read")));
    told
}

pub(crate) fn assert_same(before: &[String], after: &[String], when: &str) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(after, before, "{when}");
    }
    assert_eq!(before.len(), after.len(), "{when}");
}

/// Every invariant, of what is archived as well.
pub(crate) fn assert_sound(deployment: &Deployment, backend: &RedisBackend) -> u64 {
    let audit = deployment.drive(backend.audit_rows(&mut |_| ())).expect("it reads");
    assert_eq!(audit.findings, []);
    assert_eq!(audit.unsettled, 0);
    assert!(audit.totals.balanced(), "{:?}", audit.totals);
    audit.looked_at.envelopes
}

/// The keys of a deployment in Redis, without those of users who are only known
/// by what they have.
pub(crate) fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = server.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    keys.sort_unstable();
    keys
}

pub(crate) struct Alone {
    pub(crate) two: Two,
    pub(crate) server: Arc<RedisServer>,
}

/// Two engines on a server of their own.
fn alone(seed: u64) -> Option<Alone> {
    alone_with(seed, |deployment| deployment)
}

/// The same with all envelopes in so many pools.
pub(crate) fn alone_in_pools(seed: u64, pools: u16) -> Option<Alone> {
    alone_with(seed, |deployment| deployment.with_pools(pools))
}

/// Where envelopes lie whole, and where they lie in pools.
fn both(seed: u64) -> impl Iterator<Item = Alone> {
    [alone(seed), alone_in_pools(seed, 3)].into_iter().flatten()
}

fn alone_with(seed: u64, with: impl FnOnce(Deployment) -> Deployment) -> Option<Alone> {
    if is_missing() {
        return None;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    let mut deployment = with(Deployment::alone_on(seed, &server).archiving());
    deployment.options.redis.archive_after = Duration::from_secs(AFTER_S);
    // They are kept by their own time, not by what is live.
    deployment.options.events.told = ToldEvents::None;
    Some(Alone { two: Two::over(deployment), server })
}

impl Alone {
    pub(crate) fn engine(&self) -> &RedisBackend {
        &self.two.engines[0]
    }

    pub(crate) fn advance(&self, by_s: u64) {
        self.two.ask(Command::AdvanceClock { by_s });
        self.two.deployment.settle(self.engine());
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.two.deployment.archive()).expect("a directory");
        let files = files.map(|file| file.expect("a file").path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "rows")).collect()
    }
}

#[test]
fn what_is_settled_leaves_redis_and_is_told_as_before() {
    for alone in both(1) {
        let Alone { two, server } = &alone;
        let made = evening(two);
        alone.advance(WEEK_S);
        let envelopes = |keys: &[String]| keys.iter().filter(|key| key.contains("env_")).count();
        assert!(envelopes(&keys(server)) >= made.len(), "nothing leaves before its time");
        let before = told(&two.deployment, alone.engine(), &made);
        assert_eq!(assert_sound(&two.deployment, alone.engine()), made.len() as u64);
        assert!(alone.files().is_empty());

        alone.advance(AFTER_S);
        let left = keys(server);
        assert_eq!(envelopes(&left), 0, "{left:?}");
        for kind in [":received:", ":sent:", ":settled", ":envelopes", ":outbox"] {
            assert!(!left.iter().any(|key| key.contains(kind)), "{kind}: {left:?}");
        }
        for wallet in left.iter().filter(|key| key.contains(":wallet:")) {
            assert_eq!(server.cli(&["HLEN", wallet]), "2", "a wallet keeps its balance and how many movements it had");
        }
        assert!(!alone.files().is_empty());
        assert_eq!(alone.engine().archived().envelopes, made.len() as u64);
        for engine in &two.engines {
            assert_same(&before, &told(&two.deployment, &**engine, &made), "archived");
        }
        assert_same(&before, &told(&two.deployment, &two.deployment.open(), &made), "another server");
        assert_eq!(assert_sound(&two.deployment, alone.engine()), made.len() as u64);
    }
}

#[test]
fn memory_in_redis_follows_what_is_live() {
    for alone in both(2) {
        let dataset = || {
            let info = alone.server.cli(&["INFO", "memory"]);
            let line = info.lines().find_map(|line| line.trim().strip_prefix("used_memory_dataset:"));
            line.and_then(|bytes| bytes.parse::<i64>().ok()).expect("a number")
        };
        let round = || {
            for _ in 0..4 {
                evening(&alone.two);
            }
            alone.advance(WEEK_S);
            let full = dataset();
            alone.advance(AFTER_S);
            // Marks of operations, which are kept for a time of Redis's own.
            let marks = keys(&alone.server).into_iter().filter(|key| key.contains(":operation:"));
            marks.for_each(|mark| drop(alone.server.cli(&["DEL", &mark])));
            (full, dataset(), keys(&alone.server))
        };
        let (_, first, keys) = round();
        for _ in 0..3 {
            let (full, after, again) = round();
            assert_eq!(again, keys);
            assert!(full - first > 40_000, "72 envelopes take memory: {full} after {first}");
            assert!(after - first < (full - first) / 10, "{after} bytes after {first}, with {full} in between");
        }
    }
}

/// Whoever reads is told the same at any moment.
#[test]
fn race_40_everything_is_read_while_it_leaves() {
    for alone in both(3) {
        let two = &alone.two;
        let made = evening(two);
        alone.advance(WEEK_S);
        let before = told(&two.deployment, alone.engine(), &made);
        two.ask(Command::AdvanceClock { by_s: AFTER_S });
        let (is_over, leaving) = (AtomicBool::new(false), two.deployment.open());
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut reads = 0;
                while !is_over.load(Ordering::Relaxed) || reads == 0 {
                    assert_same(&before, &told(&two.deployment, &*two.engines[1], &made), "while it leaves");
                    reads += 1;
                }
            });
            // One bucket's after the other, and each envelope alone, so that it takes a while.
            while two.deployment.drive(leaving.sweep()).expect("it sweeps") {}
            is_over.store(true, Ordering::Relaxed);
            reading.join().expect("it was told the same");
        });
        assert_same(&before, &told(&two.deployment, &*two.engines[1], &made), "archived");
    }
}

/// Both take the same again and again.
#[test]
fn two_archive_the_same_at_once() {
    for alone in both(4) {
        let Alone { two, server } = &alone;
        let made = evening(two);
        alone.advance(WEEK_S);
        let before = told(&two.deployment, alone.engine(), &made);
        two.ask(Command::AdvanceClock { by_s: AFTER_S });
        let settled: Vec<String> = keys(server).into_iter().filter(|key| key.ends_with(":settled")).collect();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for key in &settled {
                        for id in server.cli(&["--no-raw", "ZRANGE", key, "0", "-1"]).lines() {
                            // Told as `1) "\x01..."`; Lua takes the same escapes.
                            let Some((_, quoted)) = id.split_once(") ") else { continue };
                            let script = format!("return redis.call('ZADD', KEYS[1], 'XX', 0, {})", for_lua(quoted));
                            server.cli(&["EVAL", &script, "1", key]);
                        }
                    }
                }
            });
            let archiving: Vec<_> = two
                .engines
                .iter()
                .map(|engine| scope.spawn(|| while two.deployment.drive(engine.sweep()).expect("it sweeps") {}))
                .collect();
            archiving.into_iter().for_each(|thread| thread.join().expect("it archives"));
            is_over.store(true, Ordering::Relaxed);
            taking.join().expect("it takes");
        });
        assert_same(&before, &told(&two.deployment, alone.engine(), &made), "archived twice");
        assert_eq!(assert_sound(&two.deployment, alone.engine()), made.len() as u64);
    }
}

/// Lua of Redis knows decimal escapes only.
fn for_lua(quoted: &str) -> String {
    let mut lua = String::new();
    let mut rest = quoted.chars();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            lua.push(letter);
            continue;
        }
        match rest.next() {
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                lua.push_str(&format!("\\{:03}", u8::from_str_radix(&digits, 16).expect("two digits")));
            }
            Some(other) => lua.extend(['\\', other]),
            None => {}
        }
    }
    lua
}

#[test]
fn a_damaged_file_is_refused_with_its_place() {
    let Some(alone) = alone(5) else { return };
    let two = &alone.two;
    let made = evening(two);
    alone.advance(WEEK_S);
    alone.advance(AFTER_S);
    let file = alone.files().pop().expect("a file");
    let sound = fs::read(&file).expect("it is read");
    let mut damaged = sound.clone();
    for at in (20..sound.len() - 40).step_by(50) {
        damaged[at] ^= 1;
    }
    // In its place, as a disk would do it.
    let write = |bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.write_all_at(bytes, 0))
            .expect("it is written");
    };
    write(&damaged);
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let is_told = |error: &str| error.contains(name) && error.contains("at offset") && error.contains("backup");
    let error = two.deployment.drive(alone.engine().envelope(made[0])).expect_err("it is damaged");
    assert!(matches!(&error, EngineError::Archive(_)) && is_told(&error.to_string()), "{error}");
    let grab = Command::Grab { envelope: made[0], user: user("u0") };
    let error = two.deployment.drive(alone.engine().execute(grab, None)).expect_err("it is damaged");
    assert!(is_told(&error.to_string()), "{error}");
    write(&sound);
    assert_sound(&two.deployment, alone.engine());

    write(&damaged[..]);
    fs::File::options().write(true).open(&file).and_then(|file| file.set_len(30)).expect("it is cut");
    let refused = two.deployment.drive(RedisBackend::open(two.deployment.options.clone()));
    let Err(RedisOpenError::ArchiveDamaged(error)) = refused else { panic!("it opens") };
    assert!(is_told(&error), "{error}");
}

/// All stays in Redis, and what is there is answered; lists are not, as there may be more.
#[test]
fn an_archive_that_is_away_keeps_nothing_back() {
    for alone in both(10) {
        let Alone { two, server } = &alone;
        let made = evening(two);
        alone.advance(WEEK_S);
        let before = told(&two.deployment, alone.engine(), &made);
        let (here, away) = (two.deployment.archive(), two.deployment.archive().with_extension("away"));
        fs::rename(here, &away).expect("it is moved");
        alone.advance(AFTER_S);
        assert!(alone.engine().archived().has_failed);
        let read = two.deployment.drive(alone.engine().envelope(made[0])).expect("it is in Redis");
        assert_eq!(read.map(|view| view.state), Some(EnvelopeState::Settled));
        assert!(matches!(two.ask(Command::Grab { envelope: made[0], user: user("u0") }), Outcome::Won { .. }));
        let list = two.deployment.drive(alone.engine().entries(&user("alice"), &Page { limit: 100, cursor: None }));
        assert!(!list.expect("all of it is in Redis").rows.is_empty());
        let list = two.deployment.drive(alone.engine().sent(&user("alice"), &Page { limit: 100, cursor: None }));
        assert!(matches!(list, Err(EngineError::Archive(_))), "{list:?}");
        fs::rename(&away, here).expect("it is back");
        // Until then what was taken is left to whoever took it.
        alone.advance(1000);
        assert_eq!(
            (alone.engine().archived().has_failed, alone.engine().archived().envelopes),
            (false, made.len() as u64)
        );
        assert!(!keys(server).iter().any(|key| key.contains("env_")));
        assert_same(&before, &told(&two.deployment, alone.engine(), &made), "archived");
    }
}

#[test]
fn what_is_damaged_stays_and_keeps_nothing_back() {
    let Some(alone) = alone(11) else { return };
    let Alone { two, server } = &alone;
    let [sound, damaged] = ["bob", "carol"].map(|name| {
        let id = two.give(NewEnvelope { auto_claim: true, ..envelope(100, 1) });
        two.ask(Command::Grab { envelope: id, user: user(name) });
        id
    });
    alone.advance(WEEK_S);
    let wallet = keys(server).into_iter().find(|key| key.ends_with(":wallet:carol")).expect("a wallet");
    assert_eq!(server.cli(&["SET", &wallet, "damaged"]), "OK");
    alone.advance(AFTER_S);
    let stays = |id: EnvelopeId| keys(server).iter().any(|key| key.ends_with(&id.to_string()));
    assert_eq!((stays(sound), stays(damaged)), (false, true));
}

#[test]
fn no_engine_answers_without_the_archive() {
    let Some(alone) = alone(6) else { return };
    let two = &alone.two;
    let made = evening(two);
    let opened = |archive: Option<PathBuf>| {
        let mut options: RedisBackendOptions = two.deployment.options.clone();
        options.redis.archive = archive;
        two.deployment.drive(RedisBackend::open(options))
    };
    let refused = |archive: Option<PathBuf>, expected: &str| {
        let Err(error) = opened(archive) else { panic!("{expected}: it opens") };
        let error = error.to_string();
        assert!(error.contains(expected) && error.contains("--redis-archive DIR"), "{error}");
    };
    alone.advance(WEEK_S);
    alone.advance(AFTER_S);
    refused(None, "are archived");
    let empty = tempfile::tempdir().expect("a directory");
    refused(Some(empty.path().to_owned()), "does not have the deployment's archive");
    assert_eq!(fs::read_dir(empty.path()).expect("a directory").count(), 0, "nothing is left in it");
    let Some(other) = self::alone(7) else { return };
    refused(Some(other.two.deployment.archive().to_owned()), "the archive of another deployment");

    // As when what was mounted there is away.
    let away = two.deployment.archive().with_extension("away");
    fs::rename(two.deployment.archive(), &away).expect("it is moved");
    let error = two.deployment.drive(alone.engine().envelope(made[0])).expect_err("it is away");
    assert!(matches!(error, EngineError::Archive(_)), "{error}");
    fs::rename(&away, two.deployment.archive()).expect("it is back");
    two.deployment.drive(alone.engine().envelope(made[0])).expect("it is read").expect("it is there");
}

/// A server that knows of no archive runs already when another begins one.
#[test]
fn a_server_without_the_archive_stops_answering() {
    if is_missing() {
        return;
    }
    let plain = Deployment::new(8);
    let blind = plain.open();
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = plain.options.clone();
    options.redis.archive = Some(directory.path().to_owned());
    let _archiving = plain.drive(RedisBackend::open(options)).expect("it opens");
    let read = || plain.drive(blind.wallet(&user("bob")));
    read().expect("it does not know yet");
    let error = plain.drive(blind.sweep()).expect_err("it finds out");
    assert!(error.to_string().contains("--redis-archive DIR"), "{error}");
    assert!(matches!(read(), Err(EngineError::OperatorNeeded(_))));
}

#[test]
fn what_is_archived_is_copied_out_of_redis() {
    for alone in both(9) {
        let two = &alone.two;
        let made = evening(two);
        alone.advance(WEEK_S);
        alone.advance(AFTER_S);
        // Some of it lives.
        let live = two.give(envelope(100, 3));
        let grab = Command::Grab { envelope: live, user: user("u1") };
        two.ask(grab.clone());
        let again = two.ask(grab.clone());
        let before = told(&two.deployment, alone.engine(), &made);
        let directory = tempfile::tempdir().expect("a directory");
        let copying = CopyOptions { backend: two.deployment.options.clone(), ..CopyOptions::default() };
        let copied =
            two.deployment.drive(copy_to_directory(copying, directory.path(), &mut |_| ())).expect("it copies");
        assert_eq!(copied.differences, Vec::<String>::new());
        let options = EmbeddedOptions {
            test_mode: true,
            clock: two.deployment.options.clock.clone(),
            downtime_s_max: u64::MAX,
            ..EmbeddedOptions::default()
        };
        let (embedded, _) = Embedded::open(directory.path(), options).expect("it opens");
        assert_same(&before, &told(&two.deployment, &embedded, &made), "in a directory");
        assert_eq!(embedded.ask(grab), again);
        embedded.assert_balanced();
    }
}
