//! Races between engines in front of one deployment, each by name.

use crate::deployment::{Deployment, is_missing};
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::scene::server;
use crate::stand::{START, envelope, fen, item, user};
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, OnceKey, Page, Reply};
use hongbao_engine::clock::ManualClock;
use hongbao_engine::command::*;
use hongbao_engine::redis::{Fuse, RedisBackend, RedisBackendOptions, RedisOpenError};
use hongbao_engine::types::*;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// Two engines in front of a deployment of their own.
pub(crate) struct Two {
    pub(crate) engines: [Arc<RedisBackend>; 2],
    pub(crate) deployment: Deployment,
}

impl Two {
    /// `None` if there is no redis-server and that is all right.
    pub(crate) fn new(seed: u64) -> Option<Two> {
        if is_missing() {
            return None;
        }
        Some(Two::over(Deployment::new(seed)))
    }

    /// The same with all envelopes in so many pools.
    fn in_pools(seed: u64, pools: u16) -> Option<Two> {
        if is_missing() {
            return None;
        }
        Some(Two::over(Deployment::in_pools(seed, pools)))
    }

    pub(crate) fn over(deployment: Deployment) -> Two {
        Two { engines: [Arc::new(deployment.open()), Arc::new(deployment.open())], deployment }
    }

    pub(crate) fn ask(&self, command: Command) -> Outcome {
        self.deployment.drive(self.engines[0].execute(command, None)).expect("it is answered").outcome
    }

    pub(crate) fn deposit(&self, name: &str, minor: u64) {
        self.ask(deposit(name, minor));
    }

    pub(crate) fn give(&self, terms: NewEnvelope) -> EnvelopeId {
        self.deposit("alice", terms.total.minor());
        match self.ask(Command::CreateEnvelope(Box::new(terms))) {
            Outcome::Envelope(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn sell(&self, terms: NewItem) -> ItemId {
        let (id, name) = (terms.merchant.clone(), "Rosy".to_owned());
        self.ask(Command::PutMerchant(Box::new(NewMerchant::new(id, &name, Some(MerchantStatus::Verified)))));
        match self.ask(Command::CreateItem(Box::new(terms))) {
            Outcome::Item(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn hold(&self, item: ItemId, name: &str, quantity: u32) -> HoldId {
        match self.ask(Command::GrabItem { item, user: user(name), quantity }) {
            Outcome::Held { hold, .. } => hold,
            other => panic!("{other:?}"),
        }
    }

    /// All commands at once, by both engines in turn.
    pub(crate) fn at_once(&self, commands: Vec<(Command, Option<OnceKey>)>) -> Vec<Result<Reply, EngineError>> {
        self.deployment.drive(async {
            let asked = commands.into_iter().enumerate().map(|(nth, (command, once))| {
                let engine = Arc::clone(&self.engines[nth % 2]);
                tokio::spawn(async move { engine.execute(command, once).await })
            });
            let mut replies = Vec::new();
            for reply in asked.collect::<Vec<_>>() {
                replies.push(reply.await.expect("no panic"));
            }
            replies
        })
    }

    pub(crate) fn all_at_once(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let replies = self.at_once(commands.into_iter().map(|command| (command, None)).collect());
        replies.into_iter().map(|reply| reply.expect("it is answered").outcome).collect()
    }

    pub(crate) fn available(&self, name: &str) -> u64 {
        self.deployment.drive(self.engines[1].wallet(&user(name))).expect("a read").available.minor()
    }

    pub(crate) fn stock(&self, item: ItemId) -> Stock {
        self.deployment.drive(self.engines[1].item(item)).expect("a read").expect("an item").stock
    }

    /// No money is lost, doubled or on its way.
    pub(crate) fn assert_clean(&self) {
        self.deployment.settle(&self.engines[0]);
        let audit = self.deployment.drive(Backend::audit(&*self.engines[1])).expect("a read");
        assert!(audit.balanced(), "{audit:?}");
        assert_eq!(audit.in_flight, 0, "{audit:?}");
    }
}

fn deposit(name: &str, minor: u64) -> Command {
    Command::Deposit(Transfer { user: user(name), amount: fen(minor), reference: None })
}

#[test]
fn race_2_the_last_shares_and_many_grabbers() {
    let Some(two) = Two::new(21) else { return };
    for auto_claim in [false, true] {
        let id = two.give(NewEnvelope { auto_claim, ..envelope(1000, 10) });
        let grabs = (0..80).map(|n| Command::Grab { envelope: id, user: user(&format!("{auto_claim}{n}")) });
        let outcomes = two.all_at_once(grabs.collect());
        let (mut shares, mut sum) = (Vec::new(), 0);
        for outcome in &outcomes {
            match outcome {
                Outcome::Won { share, amount, replayed: false, .. } => {
                    shares.push(*share);
                    sum += amount.minor();
                }
                Outcome::SoldOut => {}
                other => panic!("{other:?}"),
            }
        }
        shares.sort_unstable();
        assert_eq!((shares, sum), ((0..10).collect(), 1000));
        two.assert_clean();
    }
}

#[test]
fn race_3_the_same_user_many_times_at_once() {
    let Some(two) = Two::new(22) else { return };
    let id = two.give(NewEnvelope { auto_claim: true, ..envelope(1000, 10) });
    let outcomes = two.all_at_once(vec![Command::Grab { envelope: id, user: user("bob") }; 40]);
    let fresh = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Won { replayed: false, .. })).count();
    assert_eq!(fresh, 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Won { share: 0, .. })), "{outcomes:?}");
    let all = Page { limit: 10, cursor: None };
    let received = two.deployment.drive(two.engines[0].received(&user("bob"), &all)).expect("a read").rows;
    assert_eq!(received.len(), 1);
    assert_eq!(two.available("bob"), received[0].grab.amount.minor());
    two.assert_clean();
}

#[test]
fn race_6_one_key_and_two_bodies_at_once() {
    let Some(two) = Two::new(23) else { return };
    for nth in 0..20 {
        let name = format!("alice{nth}");
        let once = Some(OnceKey::idempotency("app", "deposits", &format!("k{nth}")));
        let commands = (0..12).map(|n| (deposit(&name, 1 + n % 2), once)).collect();
        let mut answers = std::collections::BTreeMap::new();
        for (n, reply) in two.at_once(commands).into_iter().enumerate() {
            let outcome = reply.expect("it is answered").outcome;
            *answers.entry((n % 2, format!("{outcome:?}"))).or_insert(0) += 1;
        }
        // One body was carried out, once; the other was refused.
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert!([1, 2].contains(&two.available(&name)), "{answers:?}");
        let all = Page { limit: 10, cursor: None };
        let entries = two.deployment.drive(two.engines[0].entries(&user(&name), &all)).expect("a read").rows;
        assert_eq!(entries.len(), 1);
    }
    two.assert_clean();
}

#[test]
fn race_13_two_sweepers_refund_once() {
    let Some(two) = Two::new(24) else { return };
    for unclaimed in [Unclaimed::Return, Unclaimed::Credit] {
        let terms = NewEnvelope { unclaimed, expires_in_s: 10, claim_within_s: 5, ..envelope(1000, 100) };
        let id = two.give(terms);
        two.all_at_once((0..90).map(|n| Command::Grab { envelope: id, user: user(&format!("u{n}")) }).collect());
    }
    two.ask(Command::AdvanceClock { by_s: 100 });
    two.deployment.drive(async {
        let sweeps = (0..8).map(|nth| {
            let engine = Arc::clone(&two.engines[nth % 2]);
            tokio::spawn(async move { while engine.sweep().await.expect("it sweeps") {} })
        });
        for sweep in sweeps.collect::<Vec<_>>() {
            sweep.await.expect("no panic");
        }
    });
    let credited: u64 = (0..90).map(|n| two.available(&format!("u{n}"))).sum();
    assert_eq!(two.available("alice") + credited, 2000);
    assert!(credited > 0);
    two.assert_clean();
}

#[test]
fn due_holds_are_never_in_the_way_of_a_grab() {
    let Some(two) = Two::new(25) else { return };
    let id = two.sell(NewItem { hold_ttl_s: 100, ..item(600) });
    for n in 0..600 {
        two.hold(id, &format!("u{}", n % 50), 1);
    }
    assert_eq!(two.ask(Command::GrabItem { item: id, user: user("late"), quantity: 1 }), Outcome::SoldOut);
    two.ask(Command::AdvanceClock { by_s: 100 });
    let grabs = (0..6).map(|n| Command::GrabItem { item: id, user: user(&format!("v{n}")), quantity: 100 });
    let outcomes = two.all_at_once(grabs.collect());
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Held { .. })), "{outcomes:?}");
    assert_eq!(two.stock(id), Stock { total: 600, free: 0, held: 600, sold: 0 });
}

#[test]
fn nothing_is_oversold_while_everybody_grabs() {
    let Some(two) = Two::new(26) else { return };
    let id = two.sell(NewItem { per_user_limit: Some(2), ..item(50) });
    let grabs = (0..200).map(|n| Command::GrabItem { item: id, user: user(&format!("u{}", n % 40)), quantity: 1 });
    let held = two.all_at_once(grabs.collect()).into_iter().filter(|o| matches!(o, Outcome::Held { .. })).count();
    assert_eq!(held, 50);
    assert_eq!(two.stock(id), Stock { total: 50, free: 0, held: 50, sold: 0 });
}

#[test]
fn all_buckets_know_the_last_of_many_changes_of_a_merchant() {
    let Some(two) = Two::new(31) else { return };
    // In most of the buckets.
    let items: Vec<ItemId> = (0..40).map(|_| two.sell(item(50))).collect();
    let rosy = |status| Command::PutMerchant(Box::new(NewMerchant::new(user("rosy"), "Rosy", Some(status))));
    for _ in 0..8 {
        let changes = MerchantStatus::ALL.into_iter().chain(MerchantStatus::ALL).map(|status| (rosy(status), None));
        two.at_once(changes.collect()).into_iter().for_each(|reply| drop(reply.expect("it is answered")));
        let status = two.deployment.drive(two.engines[0].merchant(&user("rosy"))).unwrap().unwrap().status;
        for item in &items {
            let grab = Command::GrabItem { item: *item, user: user("bob"), quantity: 1 };
            match two.ask(grab) {
                Outcome::Held { .. } => assert_eq!(status, MerchantStatus::Verified),
                Outcome::Refused(Refusal::WrongState(why)) => assert!(why.contains(status.name()), "{status:?}: {why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn race_26_a_hold_is_claimed_and_released_at_once() {
    let Some(two) = Two::new(27) else { return };
    let id = two.sell(item(100));
    two.deposit("bob", 1000);
    let mut sold = 0;
    for _ in 0..20 {
        let hold = two.hold(id, "bob", 1);
        let claim = Command::ClaimHold { hold, user: user("bob") };
        let release = Command::ReleaseHold { hold, user: user("bob") };
        let outcomes = two.all_at_once(vec![claim.clone(), release.clone(), claim, release]);
        let ordered = outcomes.iter().filter(|o| matches!(o, Outcome::Ordered { .. })).count();
        let released = outcomes.iter().filter(|o| matches!(o, Outcome::Released { .. })).count();
        assert!((ordered, released) == (4, 0) || (ordered, released) == (0, 4), "{outcomes:?}");
        sold += ordered as u32 / 4;
    }
    assert_eq!(two.stock(id), Stock { total: 100, free: 100 - sold, held: 0, sold });
    assert_eq!(two.available("bob"), 1000 - 10 * u64::from(sold));
    two.assert_clean();
}

/// The engine that took a payment is gone, and the hold's time is over: whoever
/// wants the unit has the payment ended first, and is told the truth.
#[test]
fn a_payment_left_in_the_middle_is_ended_by_who_needs_the_unit() {
    let Some(two) = Two::new(28) else { return };
    for (funds, calls) in [(100, 2), (100, 3), (3, 2), (3, 3), (100, 4), (3, 4)] {
        let id = two.sell(NewItem { hold_ttl_s: 10, ..item(1) });
        let name = format!("bob{funds}.{calls}");
        two.deposit(&name, funds);
        let hold = two.hold(id, &name, 1);
        let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer: true }));
        let options = RedisBackendOptions { fuse, ..two.deployment.options.clone() };
        let ended = two.deployment.drive(RedisBackend::open(options)).expect("it opens");
        let claim = Command::ClaimHold { hold, user: user(&name) };
        let lost = two.deployment.drive(ended.execute(claim.clone(), None));
        assert!(matches!(lost, Err(EngineError::Unconfirmed(_))), "{lost:?}");
        two.ask(Command::AdvanceClock { by_s: 10 });
        let wanted = two.ask(Command::GrabItem { item: id, user: user("carol"), quantity: 1 });
        if funds < 10 {
            assert!(matches!(wanted, Outcome::Held { .. }), "{calls}: {wanted:?}");
            assert_eq!(two.ask(claim), Outcome::HoldExpired, "{calls}");
        } else {
            assert_eq!(wanted, Outcome::SoldOut, "{calls}");
            assert!(matches!(two.ask(claim), Outcome::Ordered { replayed: true, .. }), "{calls}");
            assert_eq!(two.available(&name), funds - 10);
        }
        two.assert_clean();
    }
}

/// Nobody knows any more whether somebody else has found it unpaid.
#[test]
fn a_payment_that_nobody_made_for_long_is_not_made() {
    let Some(two) = Two::new(32) else { return };
    let id = two.sell(NewItem { hold_ttl_s: 86_400, ..item(1) });
    two.deposit("bob", 100);
    let hold = two.hold(id, "bob", 1);
    // It sees the hold, and lets it be paid.
    let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(2), loses_answer: true }));
    let options = RedisBackendOptions { fuse, ..two.deployment.options.clone() };
    let ended = two.deployment.drive(RedisBackend::open(options)).expect("it opens");
    let claim = Command::ClaimHold { hold, user: user("bob") };
    two.deployment.drive(ended.execute(claim.clone(), None)).expect_err("it ended in the middle");
    two.ask(Command::AdvanceClock { by_s: 1800 });
    two.assert_clean();
    assert_eq!(two.available("bob"), 100);
    assert_eq!(two.stock(id), Stock { total: 1, free: 0, held: 1, sold: 0 });
    assert!(matches!(two.ask(claim), Outcome::Ordered { replayed: false, .. }));
    assert_eq!(two.available("bob"), 90);
    two.assert_clean();
}

/// What it has made before is not made again under the same id, over what has become of it.
#[test]
fn a_key_that_is_used_again_when_its_answer_is_forgotten_makes_something_else() {
    let Some(server) = server() else { return };
    let two = Two::over(Deployment::alone_on(33, &server));
    two.ask(Command::PutMerchant(Box::new(NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified)))));
    let create = Command::CreateItem(Box::new(NewItem { hold_ttl_s: 31_536_000, ..item(1) }));
    let make = || {
        let once = Some(OnceKey::idempotency("app", "items", "k"));
        match two.deployment.drive(two.engines[0].execute(create.clone(), once)).expect("it is answered").outcome {
            Outcome::Item(view) => view.id,
            other => panic!("{other:?}"),
        }
    };
    let first = make();
    two.hold(first, "bob", 1);
    two.ask(Command::AdvanceClock { by_s: 7 * 86_400 });
    assert_eq!(make(), first);
    two.ask(Command::AdvanceClock { by_s: 3 * 86_400 });
    // Redis forgets marks of operations after nine days; its clock is another than the test's.
    let marks = "local n = 0 for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*operation:*')) do n = n + redis.call('DEL', key) end return n";
    let prefix = &two.deployment.options.redis.key_prefix;
    assert_ne!(server.cli(&["EVAL", marks, "0", prefix]), "0");
    assert_ne!(make(), first);
    assert_eq!(two.stock(first), Stock { total: 1, free: 0, held: 1, sold: 0 });
    two.assert_clean();
}

#[test]
fn all_deposits_together_stay_below_their_bound() {
    let Some(two) = Two::new(29) else { return };
    let part = Amount::MAX.minor() / 8;
    let outcomes = two.all_at_once((0..40).map(|n| deposit(&format!("u{n}"), part)).collect());
    let accepted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Wallet(_))).count();
    // What buckets were given in advance is a thousandth of the bound.
    assert!((7..=8).contains(&accepted), "{accepted}");
    two.assert_clean();
}

/// Race 18 and its like: an engine with a wrong clock decides nothing.
#[test]
fn a_wrong_clock_is_refused() {
    if is_missing() {
        return;
    }
    let deployment = Deployment::new(30);
    // Live, and by a clock that stands at the start of all stories.
    let clock: Arc<ManualClock> = Arc::new(ManualClock::at(START));
    let options = RedisBackendOptions { test_mode: false, clock: Some(clock), ..deployment.options.clone() };
    let engine = deployment.drive(RedisBackend::open(options)).expect("it opens");
    let refused = deployment.drive(engine.execute(deposit("alice", 1), None));
    assert!(matches!(&refused, Err(EngineError::OperatorNeeded(why)) if why.contains("clock")), "{refused:?}");
    let right = RedisBackendOptions { test_mode: false, clock: None, ..deployment.options.clone() };
    let engine = deployment.drive(RedisBackend::open(right)).expect("it opens");
    let reply = deployment.drive(engine.execute(deposit("alice", 1), None)).expect("it is answered");
    assert!(matches!(reply.outcome, Outcome::Wallet(_)), "{reply:?}");
}

#[test]
fn a_deployment_keeps_its_settings() {
    if is_missing() {
        return;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    let deployment = Deployment::alone_on(31, &server);
    drop(deployment.open());
    let mut changes: Vec<(&str, RedisBackendOptions)> = Vec::new();
    changes.push(("mode", RedisBackendOptions { test_mode: false, ..deployment.options.clone() }));
    changes.push(("currency", RedisBackendOptions { currency: "EUR".to_owned(), ..deployment.options.clone() }));
    let mut buckets = deployment.options.clone();
    buckets.redis.buckets = 16;
    changes.push(("buckets", buckets));
    for (setting, options) in changes {
        match deployment.drive(RedisBackend::open(options)) {
            Err(RedisOpenError::Deployment { why }) => assert!(why.contains(setting), "{why}"),
            other => panic!("{setting}: {:?}", other.err()),
        }
    }
    let asked = server.cli(&["--scan", "--pattern", "*deployment*"]);
    let key = asked.split_whitespace().next().expect("it stands in Redis").to_owned();
    for (format, remedy) in [("5", "`hongbao copy` of that one"), ("999", "or a newer one")] {
        server.cli(&["HSET", &key, "format", format]);
        let opened = deployment.drive(RedisBackend::open(deployment.options.clone()));
        let attached = deployment.drive(RedisBackend::attach(deployment.options.clone()));
        for refused in [opened.err(), attached.err()] {
            let why = refused.expect("it is of another format").to_string();
            assert!(why.contains(&format!("format {format}")) && why.contains(remedy), "{why}");
        }
    }
}

/// What many grabs of one envelope came to: shares and amounts won, and how many noes.
fn won(outcomes: &[Outcome], no: &Outcome) -> (Vec<u32>, u64, usize) {
    let (mut shares, mut sum, mut noes) = (Vec::new(), 0, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Won { share, amount, .. } => {
                shares.push(*share);
                sum += amount.minor();
            }
            other if other == no => noes += 1,
            other => panic!("{other:?}"),
        }
    }
    shares.sort_unstable();
    (shares, sum, noes)
}

/// Race 28 and its like: shares move between pools while all grab; none is
/// sold twice, none is left, and nobody hears too early that all are gone.
#[test]
fn race_28_pools_are_sold_out_to_the_last_share() {
    for (pools, shares) in [(1, 40), (3, 40), (4, 7), (7, 100)] {
        let Some(two) = Two::in_pools(33, pools) else { return };
        for auto_claim in [false, true] {
            let id = two.give(NewEnvelope { auto_claim, ..envelope(1000, shares) });
            let name = |n: u32| format!("{auto_claim}{n}");
            let grabs = (0..3 * shares).map(|n| Command::Grab { envelope: id, user: user(&name(n)) });
            let outcomes = two.all_at_once(grabs.collect());
            let (won, sum, noes) = won(&outcomes, &Outcome::SoldOut);
            assert_eq!((won, sum, noes), ((0..shares).collect(), 1000, 2 * shares as usize), "{pools} pools");
            let listed = two.deployment.drive(two.engines[1].grabs(id, &Page { limit: 1000, cursor: None }));
            let listed = listed.expect("a read").expect("an envelope").rows;
            assert_eq!(listed.iter().map(|row| row.share).collect::<Vec<_>>(), (0..shares).collect::<Vec<_>>());
            assert_eq!(listed.iter().filter(|row| row.best).count(), 1);
            for (n, outcome) in (0..).zip(&outcomes) {
                let Outcome::Won { share, amount, .. } = outcome else { continue };
                let row = listed.iter().find(|row| row.share == *share).expect("it is listed");
                assert_eq!((&row.user, row.amount), (&user(&name(n)), *amount));
                let claimed = two.ask(Command::Claim { envelope: id, user: user(&name(n)) });
                assert!(matches!(claimed, Outcome::Claimed { replayed, .. } if replayed == auto_claim), "{claimed:?}");
                assert_eq!(two.available(&name(n)), amount.minor());
            }
            two.assert_clean();
        }
    }
}

/// Nobody is told that all are gone while a share can still be had by whoever comes.
#[test]
fn whoever_comes_to_an_empty_pool_gets_the_last_share() {
    let Some(two) = Two::in_pools(34, 8) else { return };
    for nth in 0..10 {
        let id = two.give(envelope(100, 5));
        for n in 0..7 {
            let outcome = two.ask(Command::Grab { envelope: id, user: user(&format!("r{nth}u{n}")) });
            assert_eq!(matches!(outcome, Outcome::Won { .. }), n < 5, "{n}: {outcome:?}");
            assert_eq!(outcome == Outcome::SoldOut, n >= 5, "{n}: {outcome:?}");
        }
    }
    two.assert_clean();
}

#[test]
fn pools_are_cancelled_while_everybody_grabs() {
    let Some(two) = Two::in_pools(35, 3) else { return };
    for nth in 0..12 {
        let id = two.give(envelope(1000, 40));
        let before = two.available("alice");
        let mut commands: Vec<_> =
            (0..60).map(|n| Command::Grab { envelope: id, user: user(&format!("r{nth}u{n}")) }).collect();
        commands.insert(5 * nth, Command::Cancel { envelope: id });
        commands.insert(5 * nth, Command::Cancel { envelope: id });
        let (cancels, grabs): (Vec<_>, Vec<_>) = two
            .all_at_once(commands)
            .into_iter()
            .partition(|outcome| matches!(outcome, Outcome::Envelope(_) | Outcome::Refused(_)));
        let Outcome::Envelope(view) = &cancels[0] else {
            // The last grab came first: nothing was left to cancel.
            let (won, sum, _) = won(&grabs, &Outcome::SoldOut);
            assert_eq!((won.len(), sum, two.available("alice")), (40, 1000, before));
            continue;
        };
        let (won, sum, _) = won(&grabs, &Outcome::Cancelled);
        assert!(won.windows(2).all(|pair| pair[0] < pair[1]), "{won:?}");
        assert_eq!(view.refunded_amount.minor() + sum, 1000);
        assert_eq!(two.available("alice"), before + view.refunded_amount.minor());
        assert_eq!(cancels[0], cancels[1]);
        two.assert_clean();
    }
}

/// Sweepers carry what movers carry, at the same time, and all of it counts once.
#[test]
fn movers_and_sweepers_carry_the_same_transfers() {
    for unclaimed in [Unclaimed::Return, Unclaimed::Credit] {
        let Some(two) = Two::in_pools(36, 3) else { return };
        // Both engines move the one clock when they see that it was moved.
        let terms = NewEnvelope { unclaimed, expires_in_s: 10, claim_within_s: 50, ..envelope(1000, 50) };
        let id = two.give(terms);
        let everybody = |two: &Two, from: u32, to: u32| {
            two.deployment.drive(async {
                let sweeps = (0..6).map(|nth| {
                    let engine = Arc::clone(&two.engines[nth % 2]);
                    tokio::spawn(async move {
                        for _ in 0..4 {
                            engine.sweep().await.expect("it sweeps");
                        }
                    })
                });
                let sweeps: Vec<_> = sweeps.collect();
                let grabs = (from..to).map(|n| {
                    let engine = Arc::clone(&two.engines[n as usize % 2]);
                    let grab = Command::Grab { envelope: id, user: user(&format!("u{n}")) };
                    tokio::spawn(async move { engine.execute(grab, None).await.expect("it is answered").outcome })
                });
                let mut outcomes = Vec::new();
                for grab in grabs.collect::<Vec<_>>() {
                    outcomes.push(grab.await.expect("no panic"));
                }
                for sweep in sweeps {
                    sweep.await.expect("no panic");
                }
                outcomes
            })
        };
        let (won_first, sum, _) = won(&everybody(&two, 0, 48), &Outcome::SoldOut);
        assert_eq!(won_first.len(), 48);
        two.ask(Command::AdvanceClock { by_s: 10 });
        let (late, _, _) = won(&everybody(&two, 48, 60), &Outcome::Expired);
        assert_eq!(late, []);
        assert_eq!(two.available("alice"), 1000 - sum);
        for n in 0..8 {
            two.ask(Command::Claim { envelope: id, user: user(&format!("u{n}")) });
        }
        two.ask(Command::AdvanceClock { by_s: 50 });
        everybody(&two, 0, 48);
        let credited: u64 = (0..48).map(|n| two.available(&format!("u{n}"))).sum();
        let view = two.deployment.drive(two.engines[0].envelope(id)).expect("a read").expect("an envelope");
        assert_eq!(view.state, EnvelopeState::Settled);
        assert_eq!(two.available("alice") + credited, 1000);
        assert_eq!(credited == sum, unclaimed == Unclaimed::Credit);
        two.assert_clean();
    }
}

/// The engine that closed the pools is gone: who cancels again hears of it only
/// when the money is back.
#[test]
fn a_cancellation_of_pools_is_answered_after_its_refund_whoever_began_it() {
    let Some(two) = Two::in_pools(37, 3) else { return };
    for calls in 0.. {
        let id = two.give(envelope(1000, 40));
        two.ask(Command::Grab { envelope: id, user: user(&format!("bob{calls}")) });
        let before = two.available("alice");
        let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(calls + 1), loses_answer: true }));
        let options = RedisBackendOptions { fuse, ..two.deployment.options.clone() };
        let ended = two.deployment.drive(RedisBackend::open(options)).expect("it opens");
        let completed = two.deployment.drive(ended.execute(Command::Cancel { envelope: id }, None)).is_ok();
        let Outcome::Envelope(view) = two.ask(Command::Cancel { envelope: id }) else { panic!("{calls}") };
        assert_eq!(two.available("alice"), before + view.refunded_amount.minor(), "ended after {calls} calls");
        if completed {
            assert!(calls > 10);
            break;
        }
    }
    two.assert_clean();
}
