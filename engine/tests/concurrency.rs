//! Many at once: no share twice, no unit twice, no fen lost, no deadlock, and
//! thousands of deadlines at the same moment.

mod stand;

use hongbao_engine::EngineError;
use hongbao_engine::backend::{Audit, Backend, OnceKey, Reply};
use hongbao_engine::command::*;
use hongbao_engine::memory::Embedded;
use hongbao_engine::storage::Directory;
use hongbao_engine::store::{KeyRange, MemoryRows, Rows, Table};
use hongbao_engine::types::*;
use stand::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const THREADS: usize = 8;

fn on_threads(act: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let act = &act;
            scope.spawn(move || act(n));
        }
    });
}

/// A batch's answers. What was shed, as the small journals of tests may, is asked again.
fn ask_all(engine: &impl Backend, commands: Vec<Command>) -> Vec<Outcome> {
    let replies = wait(engine.execute_all(commands.clone()));
    let answer = |(reply, command): (Result<Reply, EngineError>, Command)| match reply {
        Ok(reply) => reply.outcome,
        Err(EngineError::Overloaded) => engine.ask(command),
        Err(error) => panic!("it is not answered: {error}"),
    };
    replies.into_iter().zip(commands).map(answer).collect()
}

fn in_chunks(engine: &impl Backend, commands: impl Iterator<Item = Command>) -> Vec<Outcome> {
    let commands: Vec<_> = commands.collect();
    commands.chunks(1000).flat_map(|chunk| ask_all(engine, chunk.to_vec())).collect()
}

/// A repeatable sequence of numbers for a thread.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn many_threads_on_one_envelope() {
    const SHARES: usize = 2000;
    for auto_claim in [false, true] {
        let stand = InDirectory::new(1);
        let id = stand.give(NewEnvelope { auto_claim, ..envelope(100_000, SHARES as u32) });
        let told = parking_lot::Mutex::new(BTreeMap::new());
        // Every user asks on two threads, in batches of different sizes; 400 come too late.
        on_threads(|n| {
            let users = (0..SHARES + 400).filter(|k| k % (THREADS / 2) == n % (THREADS / 2));
            let grabs: Vec<_> = users.map(|k| (k, Command::Grab { envelope: id, user: nth_user(k) })).collect();
            for chunk in grabs.chunks(n + 1) {
                let outcomes = ask_all(stand.engine(), chunk.iter().map(|(_, grab)| grab.clone()).collect());
                for ((k, _), outcome) in chunk.iter().zip(outcomes) {
                    match outcome {
                        Outcome::Won { amount, share, .. } => {
                            let before = told.lock().insert(*k, (share, amount));
                            assert!(before.is_none_or(|before| before == (share, amount)), "both are told the same");
                        }
                        Outcome::SoldOut => {}
                        other => panic!("told {other:?}"),
                    }
                }
            }
        });
        let told = told.into_inner();
        let rows = stand.all_grabs(id);
        assert_eq!((told.len(), rows.len()), (SHARES, SHARES), "every share is taken");
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row.share as usize, index, "shares are dense");
            let k: usize = row.user.as_str()[1..].parse().expect("a number");
            assert_eq!(told[&k], (row.share, row.amount));
            assert_eq!(stand.available(&row.user), if auto_claim { row.amount.minor() } else { 0 });
        }
        assert_eq!(rows.iter().filter(|row| row.best).count(), 1);
        assert_eq!(rows.iter().map(|row| row.amount.minor()).sum::<u64>(), 100_000);
        let state = if auto_claim { EnvelopeState::Settled } else { EnvelopeState::SoldOut };
        assert_eq!(stand.seen(id).state, state);
        stand.assert_balanced();
    }
}

#[test]
fn many_threads_on_a_few_items() {
    const STOCK: u32 = 300;
    let stand = InDirectory::new(2);
    let items: Vec<_> = [None, Some(1), Some(4)]
        .into_iter()
        .map(|per_user_limit| stand.sell(NewItem { per_user_limit, ..item(STOCK) }))
        .collect();
    (0..200).for_each(|k| stand.deposit(&nth_user(k), 100_000));
    on_threads(|n| {
        let mut dice = Dice(n as u64);
        for _ in 0..300 {
            let (which, user) = (dice.below(3), nth_user(dice.below(200)));
            let quantity = if which == 1 { 1 } else { 1 + dice.below(3) as u32 };
            match stand.grab_item(items[which], &user, quantity) {
                Outcome::Held { hold, replayed, .. } => match dice.below(3) {
                    0 => drop(stand.release_hold(hold, &user)),
                    1 => drop(stand.claim_hold(hold, &user)),
                    _ => assert!(!replayed || which == 1),
                },
                Outcome::SoldOut | Outcome::LimitReached => {}
                other => panic!("told {other:?}"),
            }
        }
    });
    let mut sold = 0;
    for (&id, limit) in items.iter().zip([u32::MAX, 1, 4]) {
        let stock = stand.stock(id);
        assert_eq!(stock.total, STOCK);
        assert_eq!(stock.free + stock.held + stock.sold, STOCK, "stock = free + held + sold (I4)");
        sold += u64::from(stock.sold);
        if stock.free > 0 {
            let newcomer = user("newcomer");
            let quantity = stock.free.min(limit);
            assert!(
                matches!(stand.grab_item(id, &newcomer, quantity), Outcome::Held { .. }),
                "what is free can be had"
            );
        }
    }
    let paid: u64 = (0..200).map(|k| 100_000 - stand.available(&nth_user(k))).sum();
    let audit = wait(Backend::audit(stand.engine())).expect("a read");
    assert_eq!((paid, audit.merchants), (sold * 10, sold * 10));
    stand.assert_balanced();
}

/// How many holds fall due at once; `HONGBAO_DUE_HOLDS=1000000` for the full million.
fn due_holds() -> usize {
    let asked = std::env::var("HONGBAO_DUE_HOLDS").ok();
    asked.map_or(100_000, |text| text.parse().expect("HONGBAO_DUE_HOLDS is a number"))
}

#[test]
fn many_holds_due_at_once_make_no_false_sold_out() {
    let holds = due_holds();
    for threaded in [false, true] {
        let stand = InDirectory::with(3, |options| options.threaded = threaded);
        let id = stand.sell(NewItem { per_user_limit: Some(2), hold_ttl_s: 100, ..item(holds as u32) });
        let grab = |k: usize| Command::GrabItem { item: id, user: nth_user(k), quantity: 1 };
        let held = in_chunks(stand.engine(), (0..holds).map(grab));
        assert!(held.iter().all(|outcome| matches!(outcome, Outcome::Held { .. })));
        assert_eq!(stand.grab_item(id, &user("late"), 1), Outcome::SoldOut);
        assert_eq!(stand.stock(id).held as usize, holds);

        stand.world.advance_s(100);
        // Old users and new ones come for one or two, while the due ones are swept or not.
        on_threads(|n| {
            for k in 0..100 {
                let user = if k % 2 == 0 { nth_user(n * 100 + k) } else { user(&format!("new{n}-{k}")) };
                let outcome = stand.grab_item(id, &user, 1 + (k % 2) as u32);
                assert!(matches!(outcome, Outcome::Held { .. }), "told {outcome:?}");
            }
        });
        if !threaded {
            while stand.tick() {}
        }
        let now_held = (THREADS * 150) as u32;
        until("every due hold was given back", || stand.stock(id).held == now_held);
        assert_eq!(stand.stock(id).free, holds as u32 - now_held);
        // And every unit can be had again.
        let again = in_chunks(
            stand.engine(),
            (0..holds - now_held as usize).map(|k| Command::GrabItem {
                item: id,
                user: user(&format!("again{k}")),
                quantity: 1,
            }),
        );
        assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Held { .. })));
        assert_eq!(stand.grab_item(id, &user("late"), 1), Outcome::SoldOut);
    }
}

/// A user whose name is as long as names may be.
fn long_named(k: usize) -> UserId {
    user(&format!("{k:x>64}"))
}

#[test]
fn a_quantity_from_more_due_holds_than_one_record_takes() {
    const HOLDS: u32 = 5000;
    let mut stand = InDirectory::with(4, |options| options.threaded = false);
    let id = stand.sell(NewItem { hold_ttl_s: 100, ..item(HOLDS) });
    for round in 0..2 {
        // In the first round many hold one each, in the second one user holds them all.
        let holder = |k: u32| if round == 0 { long_named(k as usize) } else { user("hoarder") };
        let grab = |k: u32| Command::GrabItem { item: id, user: holder(k), quantity: 1 };
        let held = in_chunks(stand.engine(), (0..HOLDS).map(grab));
        assert!(held.iter().all(|outcome| matches!(outcome, Outcome::Held { .. })));
        stand.world.advance_s(100);
        let taker = if round == 0 { user("taker") } else { user("hoarder") };
        let outcome = stand.grab_item(id, &taker, HOLDS);
        assert!(matches!(outcome, Outcome::Held { quantity: HOLDS, .. }), "told {outcome:?}");
        assert_eq!(stand.stock(id), Stock { total: HOLDS, free: 0, held: HOLDS, sold: 0 });
        stand.reopen(|_| ());
        assert_eq!(stand.stock(id), Stock { total: HOLDS, free: 0, held: HOLDS, sold: 0 });
        stand.world.advance_s(100);
        while stand.tick() {}
        assert_eq!(stand.stock(id), Stock { total: HOLDS, free: HOLDS, held: 0, sold: 0 });
    }
}

#[test]
fn due_holds_with_the_longest_names_and_figures_fit_their_records() {
    const HOLDS: u32 = 2000;
    const QUANTITY: u32 = 1 << 21;
    let stand = InDirectory::with(5, |options| options.threaded = false);
    let id = stand.sell(NewItem { hold_ttl_s: 100, price: fen(1 << 31), ..item(HOLDS * QUANTITY) });
    // Two holds a user, so that the end of the first leaves a figure, too.
    let user_of = |k: u32| long_named(k as usize % 1000);
    let grabs = (0..HOLDS).map(|k| Command::GrabItem { item: id, user: user_of(k), quantity: QUANTITY });
    let held = in_chunks(stand.engine(), grabs);
    assert!(held.iter().all(|outcome| matches!(outcome, Outcome::Held { .. })));
    stand.world.advance_s(100);
    while stand.tick() {}
    assert_eq!(stand.stock(id).free, HOLDS * QUANTITY);
}

#[test]
fn a_batch_is_decided_in_order_each_for_itself() {
    let stand = InDirectory::new(6);
    let id = stand.give(envelope(1000, 500));
    let gone = EnvelopeId::from_bytes(*b"never was, never");
    // Threads interleave; within a batch the order is kept.
    on_threads(|n| {
        let mut commands = Vec::new();
        for k in 0..50 {
            let user = user(&format!("b{n}-{k}"));
            commands.push(Command::Grab { envelope: id, user: user.clone() });
            commands.push(Command::Grab { envelope: gone, user: user.clone() });
            commands.push(Command::Claim { envelope: id, user: user.clone() });
            commands.push(Command::Withdraw(Transfer { user: user.clone(), amount: fen(1), reference: None }));
            commands.push(Command::Withdraw(Transfer { user, amount: Amount::MAX, reference: None }));
        }
        let mut last_share = None;
        for answers in ask_all(stand.engine(), commands).chunks(5) {
            let [
                Outcome::Won { share, amount: won, replayed: false, .. },
                Outcome::Refused(Refusal::NotFound),
                Outcome::Claimed { amount: claimed, .. },
                Outcome::Wallet(wallet),
                Outcome::Refused(Refusal::InsufficientFunds),
            ] = answers
            else {
                panic!("told {answers:?}")
            };
            assert!(last_share < Some(*share), "in the order in which they were asked");
            last_share = Some(*share);
            assert_eq!((won, wallet.available.minor()), (claimed, won.minor() - 1));
        }
    });
    assert_eq!(stand.seen(id).remaining_shares, 500 - 50 * THREADS as u32);
    stand.assert_balanced();
}

/// Everybody sends to everybody, on few shards, so that every pair of shards is
/// wanted in both orders; deadlines pass and wallets are evicted all the while.
#[test]
fn commands_across_shards_in_opposite_orders() {
    const USERS: usize = 12;
    for shards in [2, 8, 64] {
        let stand = InDirectory::with(7, |options| {
            options.shards = shards;
            options.projector.persist_after = Duration::from_millis(5);
        });
        let id = stand.sell(NewItem { hold_ttl_s: 30, ..item(1_000_000) });
        (0..USERS).for_each(|k| stand.deposit(&nth_user(k), 10_000));
        let made = parking_lot::Mutex::new(Vec::<EnvelopeId>::new());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    stand.assert_balanced();
                    stand.world.advance_s(7);
                    stand.tick();
                }
            });
            on_threads(|n| {
                let mut dice = Dice(n as u64 + shards as u64 * 100);
                for _ in 0..150 {
                    let me = nth_user(dice.below(USERS));
                    let some = |dice: &mut Dice| {
                        let made = made.lock();
                        (!made.is_empty()).then(|| made[made.len() - 1 - dice.below(made.len().min(20))])
                    };
                    match (dice.below(8), some(&mut dice)) {
                        (0 | 1, _) => {
                            let terms = NewEnvelope {
                                sender: me,
                                auto_claim: dice.below(2) == 0,
                                unclaimed: if dice.below(2) == 0 { Unclaimed::Credit } else { Unclaimed::Return },
                                expires_in_s: 1 + dice.below(60) as u64,
                                claim_within_s: dice.below(60) as u64,
                                ..envelope(100, 1 + dice.below(8) as u32)
                            };
                            if let Outcome::Envelope(view) = stand.ask(Command::CreateEnvelope(Box::new(terms))) {
                                made.lock().push(view.id);
                            }
                        }
                        (2 | 3, Some(id)) => drop(stand.grab(id, &me)),
                        (4, Some(id)) => drop(stand.claim(id, &me)),
                        (5, Some(id)) if dice.below(4) == 0 => drop(stand.cancel(id)),
                        (6, _) => {
                            if let Outcome::Held { hold, .. } = stand.grab_item(id, &me, 1) {
                                stand.claim_hold(hold, &me);
                            }
                        }
                        _ => drop(stand.available(&me)),
                    }
                }
            });
            is_over.store(true, Ordering::SeqCst);
        });
        let made = made.into_inner();
        until("all envelopes are settled", || {
            stand.world.advance_s(120);
            stand.tick();
            made.iter().all(|&id| stand.seen(id).state == EnvelopeState::Settled)
        });
        let sold = u64::from(stand.stock(id).sold) * 10;
        let wallets: u64 = (0..USERS).map(|k| stand.available(&nth_user(k))).sum();
        let audit = wait(Backend::audit(stand.engine())).expect("a read");
        let expected = Audit { deposited: 120_000, wallets, merchants: sold, ..Audit::default() };
        assert_eq!(audit, expected);
        assert_eq!(wallets + sold, 120_000);
        for &id in &made {
            let view = stand.seen(id);
            assert_eq!(view.claimed_amount + view.refunded_amount, view.total, "all is somewhere (I2)");
        }
    }
}

/// Wallets leave memory and come back while they are read and written.
#[test]
fn wallets_evicted_while_they_are_used() {
    let stand = InDirectory::with(8, |options| options.projector.persist_after = Duration::from_millis(2));
    let users: Vec<_> = (0..THREADS).map(nth_user).collect();
    users.iter().for_each(|user| stand.deposit(user, 1000));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                stand.world.advance_s(61);
                stand.tick();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        on_threads(|n| {
            let mut dice = Dice(n as u64);
            for sum in 0..300 {
                assert_eq!(stand.available(&users[n]), 1000 + sum, "nobody else moves this wallet");
                stand.deposit(&users[n], 1);
                assert!(stand.available(&users[dice.below(THREADS)]) >= 1000);
            }
        });
        is_over.store(true, Ordering::SeqCst);
    });
    stand.assert_balanced();
}

#[test]
fn thousands_of_winners_are_credited_at_once() {
    const WINNERS: usize = 5000;
    let stand = InDirectory::new(9);
    let terms =
        NewEnvelope { expires_in_s: 10, claim_within_s: 10, unclaimed: Unclaimed::Credit, ..envelope(1 << 20, 6000) };
    let id = stand.give(terms);
    in_chunks(stand.engine(), (0..WINNERS).map(|k| Command::Grab { envelope: id, user: nth_user(k) }));
    stand.world.advance_s(10);
    stand.world.advance_s(10);
    until("it is settled", || stand.seen(id).state == EnvelopeState::Settled);
    let rows = stand.all_grabs(id);
    assert_eq!(rows.len(), WINNERS);
    let mut credited = 0;
    for row in &rows {
        assert_eq!(row.status, ShareStatus::Claimed);
        assert_eq!(stand.available(&row.user), row.amount.minor());
        credited += row.amount.minor();
    }
    let view = stand.seen(id);
    assert_eq!((view.claimed_amount.minor(), view.refunded_amount.minor()), (credited, (1 << 20) - credited));
    stand.assert_balanced();
}

#[test]
fn thousands_of_winners_hold_up_nobody_elses_deadline() {
    const WINNERS: usize = 5000;
    let stand = InDirectory::with(11, |options| options.threaded = false);
    let terms = |shares| NewEnvelope {
        expires_in_s: 10,
        claim_within_s: 10,
        unclaimed: Unclaimed::Credit,
        ..envelope(1 << 20, shares)
    };
    let large = stand.give(terms(6000));
    // More than there are shards.
    let small: Vec<_> = (0..40).map(|_| stand.give(terms(3))).collect();
    let held = stand.sell(NewItem { hold_ttl_s: 20, ..item(1) });
    in_chunks(stand.engine(), (0..WINNERS).map(|k| Command::Grab { envelope: large, user: nth_user(k) }));
    for &id in &small {
        stand.grab(id, &user("bob"));
    }
    stand.grab_item(held, &user("bob"), 1);
    stand.world.advance_s(20);
    assert!(stand.engine().tick());
    assert!(small.iter().all(|&id| stand.seen(id).state == EnvelopeState::Settled), "after the first turn");
    assert_eq!(stand.stock(held).free, 1);
    assert_ne!(stand.seen(large).state, EnvelopeState::Settled);
    let ticks = (1..).take_while(|_| stand.engine().tick()).count();
    assert!((5..30).contains(&ticks), "{ticks}");
    assert_eq!(stand.seen(large).state, EnvelopeState::Settled);
    assert!(stand.all_grabs(large).iter().all(|row| row.status == ShareStatus::Claimed));
    stand.assert_balanced();
}

#[test]
fn expired_answers_are_forgotten_as_fast_as_they_are_made() {
    const ANSWERS: usize = 12_000;
    let world = World::new(12);
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(Directory::open(directory.path()).unwrap());
    let rows = Arc::new(MemoryRows::default());
    let opened = Embedded::open_over(storage, Arc::<MemoryRows>::clone(&rows), world.options());
    let (engine, _) = opened.unwrap();
    let alice = user("alice");
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (engine, alice) = (&engine, &alice);
            scope.spawn(move || {
                for number in (part..ANSWERS).step_by(4) {
                    let transfer = Transfer { user: alice.clone(), amount: fen(1), reference: None };
                    let key = OnceKey::idempotency("app", "deposit", &number.to_string());
                    engine.ask_under(Command::Deposit(transfer), Some(key));
                }
            });
        }
    });
    let kept = || rows.snapshot().scan(Table::MemoExpiries, &KeyRange::all()).count();
    until("all answers are kept", || kept() == ANSWERS);
    world.advance_s(30 * 86_400);
    let since = Instant::now();
    until("no answer is kept", || kept() == 0);
    // A thousand a second would take twelve.
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    engine.close().unwrap();
}

#[test]
fn thousands_of_envelopes_expire_at_once() {
    const ENVELOPES: u64 = 3000;
    let stand = InDirectory::new(10);
    let alice = user("alice");
    stand.deposit(&alice, ENVELOPES * 100);
    let terms = |k: u64| {
        let claim_within_s = if k.is_multiple_of(2) { 0 } else { 5 };
        NewEnvelope { expires_in_s: 10, claim_within_s, ..envelope(100, 4) }
    };
    let made = in_chunks(stand.engine(), (0..ENVELOPES).map(|k| Command::CreateEnvelope(Box::new(terms(k)))));
    let ids: Vec<_> = made
        .iter()
        .map(|outcome| match outcome {
            Outcome::Envelope(view) => view.id,
            other => panic!("told {other:?}"),
        })
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ENVELOPES as usize);
    in_chunks(stand.engine(), ids.iter().step_by(3).map(|&id| Command::Grab { envelope: id, user: user("bob") }));
    stand.world.advance_s(10);
    until("all have ended", || ids.iter().all(|&id| stand.seen(id).ended_as == Some(EndedAs::Expired)));
    stand.assert_balanced();
    stand.world.advance_s(5);
    until("all are settled", || ids.iter().all(|&id| stand.seen(id).state == EnvelopeState::Settled));
    assert_eq!(stand.available(&alice), ENVELOPES * 100);
    assert_eq!(stand.available(&user("bob")), 0);
    stand.assert_balanced();
}
