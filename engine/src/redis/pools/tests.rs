//! What was carried once may arrive again at any later time: it changes nothing.

use super::{Core, Opened, Transfer};
use crate::backend::{Audit, Backend};
use crate::command::{Command, NewEnvelope, Outcome, Transfer as Payment};
use crate::redis::bucket::Bucket;
use crate::redis::reply::Answer;
use crate::redis::tests::redis_stand::{RedisServer, ServerOptions};
use crate::redis::{Durability, RedisBackend, RedisBackendOptions, RedisOptions};
use crate::split::SplitRule;
use crate::types::{Amount, EnvelopeId, UserId};
use std::path::PathBuf;
use std::time::Duration;

const POOLS: u16 = 3;
const SHARES: u32 = 40;
const SHARE: u64 = 10;

struct Stage {
    backend: RedisBackend,
    id: EnvelopeId,
    server: RedisServer,
}

/// Where shares lie: in each pool, in the reserve, and those that are won.
#[derive(Clone, Debug, PartialEq)]
struct Places {
    pools: Vec<u64>,
    reserve: u64,
    kept: u64,
    taken: u32,
}

impl Stage {
    async fn set() -> Stage {
        Stage::archiving(None).await
    }

    /// What is settled leaves for this directory.
    async fn archiving(archive: Option<PathBuf>) -> Stage {
        let server = RedisServer::start(ServerOptions::without_aof());
        let redis = RedisOptions {
            urls: vec![server.url()],
            buckets: POOLS,
            mass_shares_min: Some(1),
            durability: Durability::Relaxed,
            archive,
            archive_after: Duration::ZERO,
            ..RedisOptions::default()
        };
        let options = RedisBackendOptions {
            redis,
            test_mode: true,
            sweep_every: None,
            mover_patience: Duration::from_secs(60),
            ..RedisBackendOptions::default()
        };
        let backend = RedisBackend::open(options).await.expect("it opens");
        let total = Amount::new(SHARE * u64::from(SHARES)).expect("an amount");
        let deposit = Payment { user: user("alice"), amount: total, reference: None };
        backend.execute(Command::Deposit(deposit), None).await.expect("it is answered");
        let terms = NewEnvelope::new("app", user("alice"), total, SHARES, SplitRule::Equal);
        let created = backend.execute(Command::CreateEnvelope(Box::new(terms)), None).await.expect("it is answered");
        let Outcome::Envelope(view) = created.outcome else { panic!("{created:?}") };
        Stage { backend, id: view.id, server }
    }

    fn core(&self) -> &Core {
        &self.backend.core
    }

    async fn open(&self, pool: Bucket, verb: &[u8], count: u64) -> Transfer {
        let count = count.to_string().into_bytes();
        match self.core().open_transfer(self.id, pool, verb, count).await.expect("it is answered") {
            Opened::Transfer(transfer) => transfer,
            _ => panic!("nothing was opened"),
        }
    }

    async fn is_open(&self, pool: Bucket) -> bool {
        let opened = self.core().open_transfer(self.id, pool, b"peek", Vec::new()).await.expect("it is answered");
        matches!(opened, Opened::Transfer(_))
    }

    /// The transfer reaches the pool; what that reports.
    async fn arrive(&self, pool: Bucket, verb: &[u8], transfer: &Transfer) -> Answer {
        let what = if verb == b"take" { &transfer.shares } else { &transfer.count };
        let args = vec![transfer.sequence.clone(), what.clone()];
        self.core().pool_script(self.id, pool, verb, args).await.expect("it is answered").expect("it is there")
    }

    async fn note(&self, pool: Bucket, report: &Answer) {
        self.core().note(self.id, pool, report).await.expect("it is answered");
    }

    async fn grab(&self, name: &str) -> Outcome {
        let grab = Command::Grab { envelope: self.id, user: user(name) };
        self.backend.execute(grab, None).await.expect("it is answered").outcome
    }

    /// Users of this pool's bucket.
    fn users_of(&self, pool: Bucket) -> impl Iterator<Item = String> {
        let names = (0..).map(|n| format!("u{n}"));
        names.filter(move |name| self.core().layout.of_user(&user(name)) == pool)
    }

    async fn places(&self) -> Places {
        let core = self.core();
        let mut pools = Vec::new();
        for pool in core.layout.all() {
            let report = core.pool_script(self.id, pool, b"report", Vec::new()).await.expect("it is answered");
            let report = report.expect("it is there");
            pools.push(report.number(5).expect("a number"));
        }
        let args = ["row", "head", "tail", "kept"].map(|word| word.as_bytes().to_vec());
        let home = core.layout.of_id(self.id.bytes());
        let row = core.read(home, &[core.layout.envelope(self.id)], &args).await.expect("it is answered");
        let number = |index| row.number(index).expect("a number");
        let taken = core.mass_figures(self.id).await.expect("it is there").taken;
        Places { pools, reserve: number(1) - number(0), kept: number(2), taken }
    }

    async fn audit(&self) -> Audit {
        let audit = Backend::audit(&self.backend).await.expect("a read");
        assert!(audit.balanced(), "{audit:?}");
        audit
    }

    /// Everybody grabs; each share has one winner, and then all are gone.
    async fn sell_out(&self) {
        let mut shares = Vec::new();
        for n in 0..2 * SHARES {
            match self.grab(&format!("v{n}")).await {
                Outcome::Won { share, .. } => shares.push(share),
                Outcome::SoldOut => {}
                other => panic!("{other:?}"),
            }
        }
        let before = self.places().await.taken - shares.len() as u32;
        shares.sort_unstable();
        shares.dedup();
        assert_eq!(before + shares.len() as u32, SHARES);
        assert_eq!(self.audit().await.in_flight, 0);
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a user")
}

#[tokio::test]
async fn transfers_and_reports_that_come_again_or_late_change_nothing() {
    let stage = Stage::set().await;
    let pool = Bucket::new(1);
    let start = stage.places().await;

    let grant = stage.open(pool, b"grant", 1).await;
    assert_eq!(stage.audit().await.in_flight, SHARE as i64);
    assert_eq!(stage.open(pool, b"grant", 1).await.sequence, grant.sequence, "an open one is finished, not begun anew");
    let taken = stage.arrive(pool, b"take", &grant).await;
    stage.arrive(pool, b"take", &grant).await;
    stage.note(pool, &taken).await;
    let granted = stage.places().await;
    stage.note(pool, &taken).await;
    stage.arrive(pool, b"take", &grant).await;
    assert_eq!(stage.places().await, granted);
    assert_eq!((granted.pools[1], granted.reserve), (start.pools[1] + 1, start.reserve - 1));
    assert_eq!(stage.audit().await.in_flight, 0);

    let recall = stage.open(pool, b"recall", 5).await;
    stage.note(pool, &taken).await;
    assert!(stage.is_open(pool).await, "an old report does not end a new transfer");
    let given = stage.arrive(pool, b"give", &recall).await;
    stage.arrive(pool, b"give", &recall).await;
    stage.arrive(pool, b"take", &grant).await;
    assert_eq!(stage.audit().await.in_flight, 5 * SHARE as i64);
    stage.note(pool, &given).await;
    stage.note(pool, &given).await;
    let recalled = stage.places().await;
    assert_eq!((recalled.pools[1], recalled.reserve), (granted.pools[1] - 5, granted.reserve + 5));
    assert_eq!(recalled.kept, recalled.reserve * SHARE);

    let again = stage.open(pool, b"recall", 2).await;
    stage.note(pool, &given).await;
    assert!(stage.is_open(pool).await, "what was given back once is not noted twice");
    assert_eq!(stage.places().await.reserve, recalled.reserve);
    stage.core().carry_transfer(stage.id, pool, &again).await.expect("it is answered");
    assert_eq!(stage.places().await.reserve, recalled.reserve + 2);
    stage.sell_out().await;
}

#[tokio::test]
async fn sold_out_is_not_told_by_a_report_from_before_a_grant() {
    let stage = Stage::set().await;
    let pools: Vec<_> = stage.core().layout.all().collect();
    let mut old = Vec::new();
    for &pool in &pools {
        // Without those that a mover brings.
        let left = stage.places().await.pools[usize::from(pool.number())];
        let recall = stage.open(pool, b"recall", left).await;
        stage.core().carry_transfer(stage.id, pool, &recall).await.expect("it is answered");
        let report = stage.core().pool_script(stage.id, pool, b"report", Vec::new()).await.expect("it is answered");
        old.push(report.expect("it is there"));
    }
    // All are empty and known to be; the last shares leave the reserve for the first.
    while stage.places().await.reserve > 0 {
        let grant = stage.open(pools[0], b"grant", 1024).await;
        for (&pool, report) in pools.iter().zip(&old) {
            stage.note(pool, report).await;
        }
        let taken = stage.arrive(pools[0], b"take", &grant).await;
        for (&pool, report) in pools.iter().zip(&old) {
            stage.note(pool, report).await;
        }
        stage.note(pools[0], &taken).await;
        for (&pool, report) in pools.iter().zip(&old) {
            stage.note(pool, report).await;
        }
    }
    let places = stage.places().await;
    assert_eq!(places.pools, [u64::from(SHARES), 0, 0]);
    let name = stage.users_of(pools[0]).next().expect("there are many");
    let outcome = stage.grab(&name).await;
    assert!(matches!(outcome, Outcome::Won { .. }), "{outcome:?}");
    let name = stage.users_of(pools[2]).next().expect("there are many");
    let outcome = stage.grab(&name).await;
    assert!(matches!(outcome, Outcome::Won { .. }), "{outcome:?}");
    stage.sell_out().await;
}

#[tokio::test]
async fn an_end_that_is_carried_again_pays_back_once() {
    let stage = Stage::set().await;
    let pool = Bucket::new(2);
    let name = stage.users_of(pool).next().expect("there are many");
    assert!(matches!(stage.grab(&name).await, Outcome::Won { .. }));
    // Opened before the end, and still on its way when the pool is closed.
    let grant = stage.open(pool, b"grant", 1).await;
    let cancelled = stage.backend.execute(Command::Cancel { envelope: stage.id }, None).await.expect("it is answered");
    let Outcome::Envelope(view) = cancelled.outcome else { panic!("{cancelled:?}") };
    let paid_back = SHARE * u64::from(SHARES - 1);
    assert_eq!(view.refunded_amount.minor(), paid_back);
    stage.arrive(pool, b"take", &grant).await;
    stage.core().transfer_all(stage.id, b"close").await.expect("there is nothing to close");
    stage.core().transfer_all(stage.id, b"lapse").await.expect("it is too early");
    for verb in [&b"resolve"[..], b"settle", b"credited"] {
        let told = stage.core().reserve(stage.id, verb, []).await.expect("it is answered");
        assert_eq!((told.answer.maybe(1), told.effects.len()), (Some(&b"done"[..]), 0));
    }
    let wallet = stage.backend.wallet(&user("alice")).await.expect("a read");
    assert_eq!(wallet.available.minor(), paid_back);
    assert_eq!(stage.audit().await.escrowed, SHARE);
    assert_eq!(stage.grab("somebody").await, Outcome::Cancelled);
}

/// What `resolve` and `settle` wait for is every pool, whoever asks too early.
#[tokio::test]
async fn an_end_waits_for_every_pool() {
    let stage = Stage::set().await;
    let core = stage.core();
    let told = |verb: &'static [u8]| async {
        core.reserve(stage.id, verb, []).await.expect("it is answered").answer.maybe(1).map(<[u8]>::to_vec)
    };
    for n in 0..10 {
        assert!(matches!(stage.grab(&format!("w{n}")).await, Outcome::Won { .. }));
    }
    core.reserve(stage.id, b"cancel", []).await.expect("it is answered");
    for pool in core.layout.all() {
        assert_eq!(told(b"resolve").await.as_deref(), Some(&b"early"[..]));
        let close = stage.open(pool, b"close", 0).await;
        assert_eq!(told(b"resolve").await.as_deref(), Some(&b"early"[..]));
        core.carry_transfer(stage.id, pool, &close).await.expect("it is answered");
    }
    core.end_mass(stage.id).await.expect("it ends");
    assert_eq!(stage.audit().await.escrowed, 10 * SHARE);
    assert_eq!(told(b"settle").await.as_deref(), Some(&b"done"[..]), "before its time there is nothing to settle");

    let advance = Command::AdvanceClock { by_s: 3 * 86_400 };
    stage.backend.execute(advance, None).await.expect("it is answered");
    assert_eq!(core.reserve(stage.id, b"due", []).await.expect("it is answered").answer.tag(), b"lapsing");
    for pool in core.layout.all() {
        assert_eq!(told(b"settle").await.as_deref(), Some(&b"early"[..]));
        let lapse = stage.open(pool, b"lapse", 0).await;
        core.carry_transfer(stage.id, pool, &lapse).await.expect("it is answered");
    }
    core.end_mass(stage.id).await.expect("it is settled");
    let audit = stage.audit().await;
    assert_eq!((audit.escrowed, audit.wallets, audit.in_flight), (0, SHARE * u64::from(SHARES), 0));
}

/// The envelope has been archived since shares were moved: nobody makes a pool of what is carried.
#[tokio::test]
async fn a_mover_that_is_late_finds_no_pool_and_makes_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let stage = Stage::archiving(Some(directory.path().join("archive"))).await;
    let (core, pool) = (stage.core(), Bucket::new(1));
    let grant = stage.open(pool, b"grant", 1).await;
    let taken = stage.arrive(pool, b"take", &grant).await;
    stage.note(pool, &taken).await;
    let recall = stage.open(pool, b"recall", 2).await;
    let given = stage.arrive(pool, b"give", &recall).await;
    stage.note(pool, &given).await;
    let name = stage.users_of(pool).next().expect("there are many");
    let won = stage.grab(&name).await;
    stage.backend.execute(Command::AdvanceClock { by_s: 5 * 86_400 }, None).await.expect("it is answered");
    while stage.backend.sweep().await.expect("it sweeps") {}
    let keys = || {
        let mut keys: Vec<String> = stage.server.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    };
    let (left, audit) = (keys(), stage.audit().await);
    assert!(!left.iter().any(|key| key.contains("env_")), "{left:?}");

    for transfer in [&grant, &recall] {
        core.carry_transfer(stage.id, pool, transfer).await.expect("there is nothing to carry to");
    }
    for report in [&taken, &given] {
        stage.note(pool, report).await;
    }
    core.finish_transfer(stage.id, pool).await.expect("none is open");
    core.tell_pool(stage.id, pool, b"e".to_vec()).await.expect("there is nothing to tell");
    core.move_shares(stage.id, pool).await.expect("there is nothing to move");
    core.transfer_all(stage.id, b"close").await.expect("there is nothing to close");
    core.credit_winners(stage.id).await.expect("there is nobody to credit");
    assert!(!core.end_mass(stage.id).await.expect("there is nothing to end").any);
    assert_eq!((keys(), stage.audit().await), (left, audit));
    let (Outcome::Won { amount, share, .. }, Outcome::Won { amount: before, share: share_before, .. }) =
        (stage.grab(&name).await, won)
    else {
        panic!("{name} has a share")
    };
    assert_eq!((amount, share), (before, share_before));
    assert_eq!(stage.grab("somebody").await, Outcome::Expired);
}

/// A key of another kind, as only damage makes it: the call fails, and nothing of it is done.
#[tokio::test]
async fn a_damaged_key_fails_one_call_and_sells_nothing_twice() {
    let stage = Stage::set().await;
    let pool = stage.core().layout.of_user(&user("bob"));
    let key = |of: &str| format!("hb:{{b{}}}:{of}:bob", pool.number());
    let before = stage.places().await;
    assert_eq!(stage.server.cli(&["SET", &key("received"), "damaged"]), "OK");
    let grab = Command::Grab { envelope: stage.id, user: user("bob") };
    stage.backend.execute(grab, None).await.expect_err("the list is damaged");
    assert_eq!(stage.places().await, before);
    assert_eq!(stage.server.cli(&["DEL", &key("received")]), "1");
    assert!(matches!(stage.grab("bob").await, Outcome::Won { replayed: false, .. }));

    assert_eq!(stage.server.cli(&["SET", &key("wallet"), "damaged"]), "OK");
    let claim = Command::Claim { envelope: stage.id, user: user("bob") };
    stage.backend.execute(claim.clone(), None).await.expect_err("the wallet is damaged");
    assert_eq!(stage.audit().await.escrowed, SHARE * u64::from(SHARES));
    assert_eq!(stage.server.cli(&["DEL", &key("wallet")]), "1");
    let claimed = stage.backend.execute(claim, None).await.expect("it is answered").outcome;
    assert!(matches!(claimed, Outcome::Claimed { replayed: false, .. }), "{claimed:?}");
    assert_eq!(stage.audit().await.wallets, SHARE);
    stage.sell_out().await;
}
