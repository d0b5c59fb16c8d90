use super::{Archive, MERGED};
use crate::redis::error::RedisOpenError;
use crate::storage::faulty::{Fault, FaultyDisk};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const SECRET: [u8; 32] = [7; 32];

fn open(path: &Path) -> Archive {
    static OPENED: AtomicU32 = AtomicU32::new(1 << 30);
    Archive::open(path, &SECRET, false, nonce(OPENED.fetch_add(1, Ordering::Relaxed))).expect("it opens")
}

fn nonce(n: u32) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..4].copy_from_slice(&n.to_le_bytes());
    nonce
}

fn rows(numbers: impl Iterator<Item = u32>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    numbers.map(|n| (n.to_be_bytes().to_vec(), format!("row {n}").into_bytes())).collect()
}

fn all(archive: &Archive) -> Vec<u32> {
    let files = archive.files().unwrap();
    let rows = files.of(b"", b"", usize::MAX).unwrap();
    rows.into_iter().map(|(key, _)| u32::from_be_bytes(key.try_into().unwrap())).collect()
}

#[test]
fn rows_of_many_files_are_one_list_and_each_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let archive = open(directory.path());
    for n in 0..5 {
        // Each row is in two files.
        archive.add(nonce(n), &rows((0..100).filter(|row| row % 5 == n || row % 5 == (n + 1) % 5))).unwrap();
    }
    assert_eq!(all(&archive), (0..100).collect::<Vec<_>>());
    let files = archive.files().unwrap();
    assert_eq!(files.get(&42u32.to_be_bytes()).unwrap().unwrap(), b"row 42");
    assert_eq!(files.get(&100u32.to_be_bytes()).unwrap(), None);
    let some = files.of(&[0, 0, 0], &10u32.to_be_bytes(), 3).unwrap();
    assert_eq!(some.iter().map(|(key, _)| key[3]).collect::<Vec<_>>(), [10, 11, 12]);
}

#[test]
fn files_are_merged_while_others_read_and_merge() {
    const FILES: u32 = 200;
    let directory = tempfile::tempdir().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let archive = open(directory.path());
                    let mut had = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let has = all(&archive);
                        assert!(had.iter().all(|row| has.binary_search(row).is_ok()), "a row is gone");
                        had = has;
                    }
                    had.len()
                })
            })
            .collect();
        let writing: Vec<_> = (0..2)
            .map(|writer| {
                let path = directory.path();
                scope.spawn(move || {
                    let archive = open(path);
                    for n in 0..FILES / 2 {
                        let n = writer * FILES / 2 + n;
                        archive.add(nonce(n), &rows(n * 10..n * 10 + 10)).unwrap();
                        archive.merge(nonce(FILES + n)).unwrap();
                    }
                })
            })
            .collect();
        let written = writing.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        written.into_iter().for_each(|written| written.unwrap());
        for thread in reading {
            assert!(thread.join().unwrap() > 0, "nothing was read meanwhile");
        }
    });
    let archive = open(directory.path());
    while archive.merge(nonce(10_000 + archive.files().unwrap().0.len() as u32)).unwrap() {}
    assert!(archive.files().unwrap().0.len() < MERGED, "small files are merged");
    assert_eq!(all(&archive), (0..10 * FILES).collect::<Vec<_>>());
}

#[test]
fn a_directory_belongs_to_one_deployment() {
    let refused = |path: &Path, secret: &[u8; 32], is_noted, expected: &str| {
        let Err(error) = Archive::open(path, secret, is_noted, [2; 16]) else { panic!("{expected}: it opens") };
        assert!(matches!(&error, RedisOpenError::Archive { why, .. } if why.contains(expected)), "{error}");
        assert!(error.to_string().contains("--redis-archive DIR"), "{error}");
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    refused(&path, &SECRET, true, "it is not there");
    refused(directory.path(), &SECRET, true, "does not have the deployment's archive");
    open(&path);
    open(&path);
    refused(&path, &[8; 32], false, "the archive of another deployment");
    let another = directory.path().join("another");
    std::fs::create_dir(&another).unwrap();
    std::fs::write(another.join("file"), "").unwrap();
    refused(&another, &SECRET, false, "not empty");
}

/// The power fails at each call of an addition and of a merge: whatever was told
/// to be on the disk is there afterwards, and so is everything from before.
#[test]
fn rows_survive_a_loss_of_power_at_any_call() {
    for seed in 0..20 {
        for call in 1.. {
            let disk = FaultyDisk::new(seed);
            let open = |n| Archive::over(Arc::new(disk.clone()), &SECRET, false, nonce(n)).unwrap().unwrap();
            let archive = open(1000);
            for n in 0..MERGED as u32 - 1 {
                archive.add(nonce(n), &rows(n * 10..n * 10 + 10)).unwrap();
            }
            let mut safe: Vec<u32> = (0..10 * (MERGED as u32 - 1)).collect();
            disk.fail_call(call, Fault::PowerCut, true);
            if archive.add(nonce(100), &rows(70..80)).is_ok() {
                safe.extend(70..80);
            }
            let merged = archive.merge(nonce(101)).is_ok();
            drop(archive);
            disk.heal();
            disk.crash();
            let archive = open(1001);
            let has = all(&archive);
            let lost: Vec<_> = safe.iter().filter(|row| has.binary_search(row).is_err()).collect();
            assert!(lost.is_empty(), "seed {seed}, call {call}: {lost:?} are gone");
            // What is there can be read, and goes on.
            while archive.merge(nonce(2000 + archive.files().unwrap().0.len() as u32)).unwrap() {}
            if merged {
                assert!(call > 20, "an addition and a merge take more calls than {call}");
                break;
            }
        }
    }
}

/// As when another file system is mounted over it, or none any more.
#[test]
fn a_directory_that_goes_away_is_not_taken_for_empty() {
    let directory = tempfile::tempdir().unwrap();
    let archive = open(directory.path());
    archive.add(nonce(1), &rows(0..10)).unwrap();
    std::fs::remove_file(directory.path().join("archive")).unwrap();
    assert!(archive.files().is_err());
    assert!(archive.add(nonce(2), &rows(0..10)).is_err() || archive.files().is_err());
}

mod late {
    //! Race 38: a settler sleeps through the archiving and wakes.

    use crate::backend::{Backend, Page};
    use crate::command::{Command, NewEnvelope, Outcome, Transfer};
    use crate::redis::backend::Core;
    use crate::redis::reply::Effect;
    use crate::redis::tests::redis_stand::{RedisServer, ServerOptions};
    use crate::redis::{Durability, RedisBackend, RedisBackendOptions, RedisOptions};
    use crate::split::SplitRule;
    use crate::types::{Amount, EnvelopeId, UserId};
    use std::path::Path;
    use std::time::Duration;

    const NAMES: [&str; 3] = ["alice", "bob", "carol"];

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a user")
    }

    async fn open(server: &RedisServer, archive: &Path, mass_shares_min: u32) -> RedisBackend {
        let redis = RedisOptions {
            urls: vec![server.url()],
            buckets: 5,
            durability: Durability::Relaxed,
            archive: Some(archive.to_owned()),
            archive_after: Duration::ZERO,
            mass_shares_min: Some(mass_shares_min),
            ..RedisOptions::default()
        };
        let options =
            RedisBackendOptions { redis, test_mode: true, sweep_every: None, ..RedisBackendOptions::default() };
        RedisBackend::open(options).await.expect("it opens")
    }

    async fn ask(backend: &RedisBackend, command: Command) -> Outcome {
        backend.execute(command, None).await.expect("it is answered").outcome
    }

    async fn told(backend: &RedisBackend) -> String {
        let mut told = String::new();
        let all = Page { limit: 100, cursor: None };
        for name in NAMES {
            let name = user(name);
            told += &format!("{:?}\n", backend.wallet(&name).await.expect("a read"));
            told += &format!("{:?}\n", backend.entries(&name, &all).await.expect("a read").rows);
            told += &format!("{:?}\n", backend.received(&name, &all).await.expect("a read").rows);
            told += &format!("{:?}\n", backend.sent(&name, &all).await.expect("a read").rows);
        }
        told + &format!("{:?}", Backend::audit(backend).await.expect("a read"))
    }

    /// All that the envelope causes, as somebody may have read it in its time: it
    /// opens, bob's grab with and without money, carol's claim, what goes back; of a
    /// mass envelope also a transfer with a pool, and what pools are told of the end.
    async fn effects_of(core: &Core, id: EnvelopeId, at: u64) -> Vec<(bool, Effect)> {
        let (row, _) = core.envelope_fields(id, ["created"]).await.expect("a read");
        let effect = |kind: u8, name: &str, amount: &str, whose: &str| {
            let field = [&[kind], &id.bytes()[..], name.as_bytes()].concat();
            Effect { field, value: format!("{at} {} {amount} {whose}", kind as char).into_bytes(), read_in: 0 }
        };
        let mut of_pools = Vec::new();
        if id.is_mass() {
            of_pools.push((false, effect(b'e', "", "", "")));
            let field = [b"t", &id.bytes()[..], &1u16.to_le_bytes()].concat();
            of_pools.push((false, Effect { field, value: format!("{at} t 1").into_bytes(), read_in: 0 }));
            // How it ended.
            of_pools[0].1.value = format!("{at} e e").into_bytes();
        }
        let mut all = vec![
            (
                true,
                Effect {
                    field: [b"f", &id.bytes()[..]].concat(),
                    value: row.bytes(0).expect("a row").to_vec(),
                    read_in: 0,
                },
            ),
            (false, effect(b'g', "bob", "", "bob")),
            (false, effect(b'g', "bob", "20", "bob")),
            (false, effect(b'c', "carol", "20", "carol")),
            (false, effect(b'r', "", "20", "alice")),
            (false, effect(b'l', "", "20", "alice")),
        ];
        all.extend(of_pools);
        all
    }

    #[tokio::test]
    async fn race_38_whoever_wakes_after_the_archiving_credits_nothing() {
        late(u32::MAX).await;
    }

    #[tokio::test]
    async fn race_38_whoever_wakes_after_the_archiving_of_pools_moves_nothing() {
        late(1).await;
    }

    async fn late(mass_shares_min: u32) {
        let open = async |server: &RedisServer, archive: &Path| open(server, archive, mass_shares_min).await;
        let server = RedisServer::start(ServerOptions::without_aof());
        let directory = tempfile::tempdir().expect("a directory");
        let archive = directory.path().join("archive");
        let (archiving, sleeping) = (open(&server, &archive).await, open(&server, &archive).await);
        let give = async |total: u64| {
            let total = Amount::new(total).expect("an amount");
            ask(&archiving, Command::Deposit(Transfer { user: user("alice"), amount: total, reference: None })).await;
            let terms = NewEnvelope {
                expires_in_s: 100,
                claim_within_s: 100,
                ..NewEnvelope::new("app", user("alice"), total, 3, SplitRule::Equal)
            };
            let Outcome::Envelope(view) = ask(&archiving, Command::CreateEnvelope(Box::new(terms))).await else {
                panic!("it is made")
            };
            view.id
        };
        let id = give(60).await;
        for name in ["bob", "carol"] {
            ask(&archiving, Command::Grab { envelope: id, user: user(name) }).await;
        }
        ask(&archiving, Command::Claim { envelope: id, user: user("carol") }).await;
        let carried = effects_of(&sleeping.core, id, archiving.core.clock.now().ms()).await;
        ask(&archiving, Command::AdvanceClock { by_s: 300 }).await;
        while archiving.sweep().await.expect("it sweeps") {}
        sleeping.sweep().await.expect("it knows the time");
        let names = |server: &RedisServer| {
            let mut keys: Vec<String> = server.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
            keys.sort_unstable();
            keys
        };
        let keys = names(&server);
        assert!(!keys.iter().any(|key| key.contains("env_") || key.contains("received:")), "{keys:?}");
        let before = told(&archiving).await;
        assert!(before.contains("Claim") && before.contains("Lapse") && before.contains("Refund"), "{before}");

        let late = open(&server, &archive).await;
        for engine in [&sleeping, &archiving, &late, &sleeping] {
            for (of_sender, effect) in &carried {
                let layout = &engine.core.layout;
                let cause = if *of_sender { layout.of_user(&user("alice")) } else { layout.of_id(id.bytes()) };
                engine.core.carry(cause, vec![effect.clone()]).await.expect("it has arrived");
                let field = String::from_utf8_lossy(&effect.field[..1]).into_owned();
                assert_eq!(told(&archiving).await, before, "{field} came again");
                assert_eq!(names(&server), keys, "{field} came again");
            }
        }

        // Fences keep nobody off who looks again: what comes of the same bucket arrives.
        for _ in 0..8 {
            let next = give(60).await;
            ask(&sleeping, Command::Grab { envelope: next, user: user("bob") }).await;
            let won = ask(&sleeping, Command::Claim { envelope: next, user: user("bob") }).await;
            assert!(matches!(won, Outcome::Claimed { .. }), "{won:?}");
            while archiving.sweep().await.expect("it sweeps") {}
        }
        let bob = sleeping.wallet(&user("bob")).await.expect("a read");
        assert_eq!(bob.available.minor(), 160);
    }
}
