//! Races that the engine has to survive, each by its number. Those of a crash,
//! of the journal and of Redis are told elsewhere; 18 and 19 also by the
//! clock's own tests.

mod stand;

use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, EntryKind, OnceKey, Page};
use hongbao_engine::clock::Clock;
use hongbao_engine::command::*;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::*;
use stand::*;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const ROUNDS: usize = 40;
const THREADS: usize = 6;

fn won(outcome: &Outcome) -> Option<(u32, u64, bool)> {
    match outcome {
        Outcome::Won { share, amount, replayed, .. } => Some((*share, amount.minor(), *replayed)),
        _ => None,
    }
}

/// Who won is listed, once each; shares are dense; and the money adds up.
fn check_winners(engine: &Embedded, id: EnvelopeId, answers: &[(UserId, Outcome)]) {
    let rows = engine.all_grabs(id);
    let shares: Vec<u32> = rows.iter().map(|row| row.share).collect();
    assert_eq!(shares, (0..rows.len() as u32).collect::<Vec<_>>(), "shares are dense");
    for (user, outcome) in answers {
        let row = rows.iter().find(|row| row.user == *user);
        assert_eq!(
            won(outcome).map(|(share, amount, _)| (share, amount)),
            row.map(|row| (row.share, row.amount.minor())),
            "{user} was told {outcome:?}"
        );
    }
    let users: BTreeSet<&UserId> = rows.iter().map(|row| &row.user).collect();
    assert_eq!(users.len(), rows.len(), "a user has at most one share");
    engine.assert_balanced();
}

#[test]
fn race_01_grab_against_expiry() {
    let stand = InDirectory::new(1);
    for round in 0..ROUNDS {
        let id = stand.give(NewEnvelope { expires_in_s: 10, ..envelope(1000, 100) });
        let users = |n: usize| (0..8).map(move |k| user(&format!("r{round}-{n}-{k}")));
        let answers: Vec<_> = at_once(THREADS, |n| {
            if n == 0 {
                stand.world.advance_s(10);
                return Vec::new();
            }
            users(n).map(|user| (user.clone(), stand.grab(id, &user))).collect::<Vec<_>>()
        })
        .concat();
        for (_, outcome) in &answers {
            assert!(matches!(outcome, Outcome::Won { replayed: false, .. } | Outcome::Expired), "{outcome:?}");
        }
        until("the envelope has ended", || stand.seen(id).ended_as.is_some());
        check_winners(&stand, id, &answers);
        let grabbed: u64 = answers.iter().filter_map(|(_, outcome)| won(outcome)).map(|(_, amount, _)| amount).sum();
        let view = stand.seen(id);
        assert_eq!(view.ended_as, Some(EndedAs::Expired));
        assert_eq!(view.refunded_amount.minor(), 1000 - grabbed);
        for (user, outcome) in answers {
            let again = stand.grab(id, &user);
            assert_eq!(won(&again).is_some(), won(&outcome).is_some(), "never both: {outcome:?}, then {again:?}");
        }
    }
}

#[test]
fn race_02_the_last_share_and_many_grabbers() {
    let stand = InDirectory::new(2);
    for _ in 0..ROUNDS {
        let id = stand.give(envelope(10, 1));
        let answers = at_once(THREADS, |n| (nth_user(n), stand.grab(id, &nth_user(n))));
        check_winners(&stand, id, &answers);
        let winners = answers.iter().filter(|(_, outcome)| won(outcome).is_some()).count();
        let losers = answers.iter().filter(|(_, outcome)| *outcome == Outcome::SoldOut).count();
        assert_eq!((winners, losers), (1, THREADS - 1));
    }
}

#[test]
fn race_03_the_same_user_twice_at_once() {
    let stand = InDirectory::new(3);
    for round in 0..ROUNDS {
        let auto_claim = round % 2 == 0;
        let id = stand.give(NewEnvelope { auto_claim, ..envelope(1000, 10) });
        let bob = user(&format!("bob{round}"));
        let answers = at_once(THREADS, |_| stand.grab(id, &bob));
        let told: BTreeSet<(u32, u64)> = answers
            .iter()
            .map(|outcome| won(outcome).expect("a win"))
            .map(|(share, amount, _)| (share, amount))
            .collect();
        assert_eq!(told.len(), 1, "one share, and all see it");
        assert_eq!(answers.iter().filter(|outcome| won(outcome).is_some_and(|won| !won.2)).count(), 1);
        assert_eq!(stand.seen(id).remaining_shares, 9);
        let amount = told.first().expect("one").1;
        assert_eq!(stand.available(&bob), if auto_claim { amount } else { 0 });
    }
}

#[test]
fn race_04_retry_after_a_timeout() {
    let stand = InDirectory::new(4);
    let id = stand.give(envelope(10_000, 1000));
    for n in 0..ROUNDS * 5 {
        let user = nth_user(n);
        {
            let asked = stand.execute(Command::Grab { envelope: id, user: user.clone() }, None);
            let mut asked = pin!(asked);
            // Whoever asked goes away before the answer is durable, or just after.
            let _: Poll<_> = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        let again = won(&stand.grab(id, &user)).expect("a win");
        assert_eq!((again.0, again.2), (n as u32, true), "the same share, told again");
        assert_eq!(won(&stand.grab(id, &user)), Some(again));
    }
    assert_eq!(stand.all_grabs(id).len(), ROUNDS * 5);
}

#[test]
fn race_05_retry_after_expiry_or_sold_out() {
    let mut stand = InDirectory::new(5);
    let sold_out = stand.give(NewEnvelope { expires_in_s: 100, claim_within_s: 50, ..envelope(300, 2) });
    let expired = stand.give(NewEnvelope { expires_in_s: 100, claim_within_s: 50, ..envelope(300, 5) });
    let (bob, carol, dave) = (user("bob"), user("carol"), user("dave"));
    let first: Vec<_> = [sold_out, expired]
        .into_iter()
        .flat_map(|id| [&bob, &carol].map(|user| won(&stand.grab(id, user)).expect("a win")))
        .collect();
    assert_eq!(stand.grab(sold_out, &dave), Outcome::SoldOut);
    assert!(matches!(stand.claim(sold_out, &carol), Outcome::Claimed { .. }));
    let again = |stand: &InDirectory, status: ShareStatus| {
        let mut wins = first.iter();
        for id in [sold_out, expired] {
            for user in [&bob, &carol] {
                let outcome = stand.grab(id, user);
                let (share, amount, _) = *wins.next().expect("four wins");
                assert_eq!(won(&outcome), Some((share, amount, true)));
                let Outcome::Won { status: told, .. } = outcome else { unreachable!("it is a win") };
                let is_claimed = id == sold_out && *user == carol;
                assert_eq!(told, if is_claimed { ShareStatus::Claimed } else { status });
            }
        }
        assert_eq!(stand.grab(sold_out, &dave), Outcome::SoldOut);
    };
    again(&stand, ShareStatus::Grabbed);
    for status in [ShareStatus::Grabbed, ShareStatus::Lapsed] {
        stand.world.advance_s(if status == ShareStatus::Grabbed { 100 } else { 50 });
        again(&stand, status);
        assert_eq!(stand.grab(expired, &dave), Outcome::Expired);
        stand.reopen(|_| ());
        again(&stand, status);
        assert_eq!(stand.grab(expired, &dave), Outcome::Expired);
    }
    assert_eq!(stand.seen(expired).state, EnvelopeState::Settled);
}

#[test]
fn race_06_the_same_idempotency_key_with_another_body() {
    let stand = InDirectory::new(6);
    for round in 0..ROUNDS {
        let key = OnceKey::idempotency("app", "deposits", &format!("key{round}"));
        let bob = user(&format!("bob{round}"));
        let body = |n: usize| {
            Command::Deposit(Transfer { user: bob.clone(), amount: fen(100 + n as u64 % 2), reference: None })
        };
        let replies = at_once(THREADS, |n| stand.ask_under(body(n), Some(key)));
        let first: Vec<_> = (0..THREADS).filter(|&n| matches!(replies[n].outcome, Outcome::Wallet(_))).collect();
        let parity = first[0] % 2;
        for (n, reply) in replies.iter().enumerate() {
            let same = n % 2 == parity;
            assert_eq!(first.contains(&n), same, "{reply:?}");
            assert!(same || reply.outcome == Outcome::Refused(Refusal::IdempotencyMismatch));
        }
        assert_eq!(first.iter().filter(|&&n| !replies[n].replayed).count(), 1);
        assert_eq!(stand.available(&bob), 100 + parity as u64, "one effect");
    }
}

#[test]
fn race_11_claim_against_lapse() {
    let stand = InDirectory::new(11);
    for _ in 0..ROUNDS {
        let alice_before = stand.available(&user("alice"));
        let terms = NewEnvelope { expires_in_s: 1, claim_within_s: 10, ..envelope(1000, 50) };
        let id = stand.give(terms);
        let users: Vec<_> = (0..50).map(nth_user).collect();
        let shares: Vec<_> = users.iter().map(|user| won(&stand.grab(id, user)).expect("a win").1).collect();
        let before: Vec<_> = users.iter().map(|user| stand.available(user)).collect();
        let answers: Vec<_> = at_once(THREADS, |n| {
            if n == 0 {
                stand.world.advance_s(11);
                return Vec::new();
            }
            (n - 1..50).step_by(THREADS - 1).map(|k| (k, stand.claim(id, &users[k]))).collect()
        })
        .concat();
        until("the envelope is settled", || stand.seen(id).state == EnvelopeState::Settled);
        let mut claimed = 0;
        for (k, outcome) in answers {
            let credit = stand.available(&users[k]) - before[k];
            match outcome {
                Outcome::Claimed { amount, replayed: false, .. } => {
                    assert_eq!((amount.minor(), credit), (shares[k], shares[k]));
                    claimed += credit;
                }
                Outcome::Lapsed => assert_eq!(credit, 0),
                other => panic!("told {other:?}"),
            }
        }
        let view = stand.seen(id);
        assert_eq!((view.claimed_amount.minor(), view.refunded_amount.minor()), (claimed, 1000 - claimed));
        assert_eq!(stand.available(&user("alice")) - alice_before, 1000 - claimed);
        stand.assert_balanced();
    }
}

#[test]
fn race_11_claim_against_credit() {
    // So many shards that a credit to anybody but those it was prepared for would find no lock.
    let stand = InDirectory::with(111, |options| options.shards = 4096);
    for round in 0..ROUNDS / 8 {
        let terms =
            NewEnvelope { expires_in_s: 1, claim_within_s: 10, unclaimed: Unclaimed::Credit, ..envelope(20_000, 2000) };
        let id = stand.give(terms);
        let users: Vec<_> = (0..2000).map(|k| user(&format!("r{round}-{k}"))).collect();
        let ask_all = |commands| -> Vec<Outcome> {
            wait(stand.execute_all(commands)).into_iter().map(|reply| reply.expect("it is answered").outcome).collect()
        };
        let grab = |user: &UserId| Command::Grab { envelope: id, user: user.clone() };
        let claim = |user: &UserId| Command::Claim { envelope: id, user: user.clone() };
        let grabs = ask_all(users.iter().map(grab).collect());
        let shares: Vec<_> = grabs.iter().map(|outcome| won(outcome).expect("a win").1).collect();
        at_once(2, |n| {
            if n == 0 {
                stand.world.advance_s(11);
                while stand.tick() {}
                return;
            }
            let claims = ask_all(users.iter().map(claim).collect());
            for (outcome, share) in claims.iter().zip(&shares) {
                let Outcome::Claimed { amount, .. } = outcome else { panic!("told {outcome:?}") };
                assert_eq!(amount.minor(), *share);
            }
        });
        until("the envelope is settled", || stand.seen(id).state == EnvelopeState::Settled);
        for (user, share) in users.iter().zip(shares) {
            assert_eq!(stand.available(user), share, "credited once");
        }
        stand.assert_balanced();
    }
}

#[test]
fn race_13_many_sweepers_and_one_refund() {
    let stand = InDirectory::new(13);
    for _ in 0..ROUNDS {
        let ids: Vec<_> = (0..5)
            .map(|_| stand.give(NewEnvelope { expires_in_s: 10, claim_within_s: 0, ..envelope(100, 10) }))
            .collect();
        stand.grab(ids[0], &user("bob"));
        stand.world.advance_s(10);
        at_once(THREADS, |_| while stand.tick() {});
        until("all are settled", || ids.iter().all(|&id| stand.seen(id).state == EnvelopeState::Settled));
        stand.assert_balanced();
    }
    assert_eq!(stand.available(&user("alice")), ROUNDS as u64 * 500);
    let entries = wait(stand.entries(&user("alice"), &Page { limit: 1000, cursor: None })).expect("a list").rows;
    let refunded: Vec<_> = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Refund(_))).collect();
    let lapsed: Vec<_> = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Lapse(_))).collect();
    assert_eq!((refunded.len(), lapsed.len()), (ROUNDS * 5, ROUNDS));
}

#[test]
fn race_14_expiry_while_grabs_are_unclaimed() {
    let mut stand = InDirectory::new(14);
    let id = stand.give(NewEnvelope { expires_in_s: 100, claim_within_s: 100, ..envelope(1000, 4) });
    let (bob, carol, alice) = (user("bob"), user("carol"), user("alice"));
    let owed: u64 = [&bob, &carol].iter().map(|user| won(&stand.grab(id, user)).expect("a win").1).sum();
    stand.world.advance_s(100);
    until("what is unsold went back", || stand.available(&alice) == 1000 - owed);
    assert_eq!(stand.seen(id).state, EnvelopeState::Expired);
    stand.reopen(|_| ());
    stand.world.advance_s(99);
    let Outcome::Claimed { amount, replayed: false, .. } = stand.claim(id, &bob) else { panic!("it is still bob's") };
    assert_eq!(stand.available(&alice), 1000 - owed, "only what was unsold");
    stand.world.advance_s(1);
    assert_eq!(stand.claim(id, &carol), Outcome::Lapsed);
    until("the rest went back", || stand.available(&alice) == 1000 - amount.minor());
    assert_eq!(stand.seen(id).state, EnvelopeState::Settled);
    stand.assert_balanced();
}

#[test]
fn race_15_cancel_against_grab() {
    let stand = InDirectory::new(15);
    for round in 0..ROUNDS {
        let id = stand.give(envelope(1000, if round % 4 == 0 { 8 } else { 100 }));
        let users = |n: usize| (0..8).map(move |k| user(&format!("r{round}-{n}-{k}")));
        let answers = at_once(THREADS, |n| {
            if n == 0 {
                std::thread::sleep(Duration::from_micros(round as u64 * 50));
                return vec![(user("alice"), stand.cancel(id))];
            }
            users(n).map(|user| (user.clone(), stand.grab(id, &user))).collect()
        });
        let (cancelled, grabs) = (&answers[0][0].1, answers[1..].concat());
        check_winners(&stand, id, &grabs);
        let grabbed: u64 = grabs.iter().filter_map(|(_, outcome)| won(outcome)).map(|(_, amount, _)| amount).sum();
        let view = stand.seen(id);
        match cancelled {
            Outcome::Envelope(told) => {
                assert_eq!(told.refunded_amount.minor(), 1000 - grabbed, "exactly what was unsold");
                assert_eq!((view.ended_as, view.refunded_amount), (Some(EndedAs::Cancelled), told.refunded_amount));
                assert!(!grabs.iter().any(|(_, outcome)| *outcome == Outcome::SoldOut));
            }
            Outcome::Refused(Refusal::WrongState(_)) => {
                assert_eq!((view.ended_as, grabbed), (Some(EndedAs::SoldOut), 1000));
                assert!(!grabs.iter().any(|(_, outcome)| *outcome == Outcome::Cancelled));
            }
            other => panic!("told {other:?}"),
        }
    }
}

#[test]
fn race_18_a_clock_behind_the_last_record() {
    // The first life is an hour ahead of this machine's clock, the second has that clock.
    let mut stand = InDirectory::with(18, |options| options.test_mode = false);
    let ahead = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    stand.world.clock.advance(ahead.as_millis() as u64 + 3_600_000 - START.ms());
    let open = stand.give(NewEnvelope { expires_in_s: 7200, ..envelope(100, 10) });
    let expired = stand.give(NewEnvelope { expires_in_s: 10, ..envelope(100, 10) });
    let first = won(&stand.grab(expired, &user("bob"))).expect("a win");
    stand.world.advance_s(10);
    until("it has expired", || stand.seen(expired).ended_as.is_some());
    let last = stand.now();

    stand.reopen(|options| options.clock = None);
    let why = stand.ready().expect_err("the clock is behind");
    assert!(why.contains("behind the last record") && why.contains("clock accept"), "{why}");
    let refused = stand.try_ask(Command::Grab { envelope: open, user: user("bob") }, None);
    assert!(matches!(refused, Err(EngineError::OperatorNeeded(_))), "{refused:?}");
    assert!(stand.now() >= last, "time does not go back");

    stand.accept_clock();
    assert_eq!(stand.ready(), Ok(()));
    assert!(stand.now() >= last);
    assert_eq!(stand.grab(expired, &user("carol")), Outcome::Expired, "nothing un-expires");
    assert_eq!(won(&stand.grab(expired, &user("bob"))), Some((first.0, first.1, true)));
    assert!(won(&stand.grab(open, &user("bob"))).is_some());
    stand.assert_balanced();
}

/// A clock as its contract has it, whose outside can leap.
struct Leaping {
    now_ms: AtomicU64,
    outside_ms: AtomicU64,
    is_frozen: AtomicBool,
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_ms.load(Ordering::SeqCst))
    }

    fn outside(&self) -> Timestamp {
        Timestamp::from_ms(self.outside_ms.load(Ordering::SeqCst))
    }

    fn check(&self) {
        let leap_ms = self.outside().ms().abs_diff(self.now().ms());
        self.is_frozen.store(leap_ms > hongbao_engine::clock::DRIFT_MAX_MS, Ordering::SeqCst);
    }

    fn alarm(&self) -> Option<String> {
        self.is_frozen.load(Ordering::SeqCst).then(|| "the clock leapt".to_owned())
    }

    fn accept(&self) {
        self.now_ms.fetch_max(self.outside().ms(), Ordering::SeqCst);
        self.is_frozen.store(false, Ordering::SeqCst);
    }

    fn advance(&self, _by_ms: u64) {
        unreachable!("this clock is not moved by a command")
    }
}

#[test]
fn race_19_the_clock_leaps_while_running() {
    let clock = Arc::new(Leaping {
        now_ms: START.ms().into(),
        outside_ms: START.ms().into(),
        is_frozen: AtomicBool::new(false),
    });
    let stand = InDirectory::with(19, |options| options.clock = Some(Arc::<Leaping>::clone(&clock)));
    let ids: Vec<_> = (0..20).map(|_| stand.give(envelope(100, 10))).collect();
    clock.outside_ms.fetch_add(30 * 86_400_000, Ordering::SeqCst);
    until("the alarm rings", || stand.clock_alarm().is_some());
    assert!(!stand.tick(), "deadlines stand still");
    assert!(ids.iter().all(|&id| stand.seen(id).state == EnvelopeState::Open), "no mass refund");
    assert!(won(&stand.grab(ids[0], &user("bob"))).is_some(), "what does not hang on deadlines goes on");
    assert_eq!(stand.available(&user("alice")), 0);

    std::fs::write(stand.directory.path().join("clock.accept"), "").expect("the operator's word");
    until("all are settled", || ids.iter().all(|&id| stand.seen(id).state == EnvelopeState::Settled));
    assert_eq!(stand.clock_alarm(), None);
    assert_eq!(stand.available(&user("alice")), 2000);
    stand.assert_balanced();
}

const DOWNTIME_S_MAX: u64 = 3 * 86_400;

/// One life of an engine in a directory, opened by hand to see its report.
fn opened(stand: &InDirectory, path: &std::path::Path) -> (Embedded, bool) {
    let options = EmbeddedOptions { downtime_s_max: DOWNTIME_S_MAX, ..stand.world.options() };
    let (engine, report) = Embedded::open(path, options).expect("it opens");
    (engine, report.swept)
}

#[test]
fn race_20_restart_after_a_downtime_longer_than_the_expiry() {
    struct Case {
        down_s: u64,
        waits: bool,
    }
    let cases = [
        Case { down_s: 99, waits: false },
        Case { down_s: 100, waits: false },
        Case { down_s: DOWNTIME_S_MAX, waits: false },
        Case { down_s: DOWNTIME_S_MAX + 1, waits: true },
        Case { down_s: 300 * 86_400, waits: true },
    ];
    for Case { down_s, waits } in cases {
        let stand = InDirectory::new(20);
        let path = stand.directory.path().join("another");
        let alice = user("alice");
        let (engine, _) = opened(&stand, &path);
        let id = engine.give(NewEnvelope { expires_in_s: 100, claim_within_s: 0, ..envelope(100, 10) });
        let share = won(&engine.grab(id, &user("bob"))).expect("a win");
        engine.close().expect("it closes");
        drop(engine);

        // Said while nobody serves, it is not about the clock of the next start.
        std::fs::write(path.join("clock.accept"), "").expect("an operator's word");
        stand.world.advance_s(down_s);
        let (engine, swept) = opened(&stand, &path);
        assert!(!path.join("clock.accept").exists(), "after {down_s} s");
        let is_due = down_s >= 100;
        assert_eq!(engine.ready().is_err(), waits, "after {down_s} s");
        assert_eq!(swept, is_due && !waits, "after {down_s} s: swept once, before serving");
        if waits {
            let why = engine.ready().expect_err("it waits");
            assert!(why.contains("clock accept"), "{why}");
            let refused = engine.try_ask(Command::Claim { envelope: id, user: user("bob") }, None);
            assert!(matches!(refused, Err(EngineError::OperatorNeeded(_))), "{refused:?}");
            assert!(!engine.tick());
            assert_eq!((engine.available(&alice), engine.seen(id).ended_as), (0, None), "nothing was let pass");
            engine.accept_clock();
            assert_eq!(engine.ready(), Ok(()));
        }
        assert_eq!(engine.seen(id).state == EnvelopeState::Settled, is_due, "after {down_s} s");
        assert_eq!(engine.available(&alice), if is_due { 100 } else { 0 });
        assert_eq!(won(&engine.grab(id, &user("bob"))), Some((share.0, share.1, true)));
        engine.close().expect("it closes");
        drop(engine);

        let (engine, swept) = opened(&stand, &path);
        assert!(!swept, "after {down_s} s: not swept again");
        assert_eq!(engine.available(&alice), if is_due { 100 } else { 0 });
        engine.assert_balanced();
    }
}

#[test]
fn race_20_a_long_downtime_with_nothing_due_is_no_reason_to_wait() {
    let stand = InDirectory::new(201);
    let path = stand.directory.path().join("another");
    let (engine, _) = opened(&stand, &path);
    let id = engine.give(NewEnvelope { expires_in_s: 31_536_000, ..envelope(100, 10) });
    engine.close().expect("it closes");
    drop(engine);
    stand.world.advance_s(DOWNTIME_S_MAX * 10);
    let (engine, swept) = opened(&stand, &path);
    assert!(!swept);
    assert_eq!(engine.ready(), Ok(()));
    assert!(won(&engine.grab(id, &user("bob"))).is_some());
}

#[test]
fn race_26_release_against_claim_of_a_hold() {
    let stand = InDirectory::new(26);
    let id = stand.sell(item(10));
    let mut sold = 0;
    for round in 0..ROUNDS {
        if sold == 10 {
            break;
        }
        let bob = user(&format!("bob{round}"));
        stand.deposit(&bob, 100);
        let Outcome::Held { hold, .. } = stand.grab_item(id, &bob, 1) else { panic!("there is stock") };
        let answers =
            at_once(
                THREADS,
                |n| {
                    if n % 2 == 0 { stand.claim_hold(hold, &bob) } else { stand.release_hold(hold, &bob) }
                },
            );
        let first = |replayed: &bool| !*replayed;
        let ordered = answers.iter().filter(|a| matches!(a, Outcome::Ordered { .. })).count();
        let released = answers.iter().filter(|a| matches!(a, Outcome::Released { .. })).count();
        assert_eq!((ordered, released), if ordered > 0 { (THREADS, 0) } else { (0, THREADS) }, "one end: {answers:?}");
        let fresh = answers.iter().filter(|answer| {
            matches!(answer, Outcome::Ordered { replayed, .. } | Outcome::Released { replayed } if first(replayed))
        });
        assert_eq!(fresh.count(), 1, "{answers:?}");
        sold += u32::from(ordered > 0);
        assert_eq!(stand.available(&bob), if ordered > 0 { 90 } else { 100 });
        assert_eq!(stand.stock(id), Stock { total: 10, free: 10 - sold, held: 0, sold });
    }
    stand.assert_balanced();
}

/// All that can be asked about an ended envelope, in words.
fn answers(engine: &Embedded, id: EnvelopeId, users: &[UserId]) -> Vec<String> {
    let mut lines = vec![
        format!("{:?}", engine.seen(id)),
        format!("{:?}", engine.all_grabs(id)),
        format!("{:?}", engine.cancel(id)),
    ];
    for user in users {
        lines.push(format!("{user}: {:?}", engine.grab(id, user)));
        lines.push(format!("{user}: {:?}", engine.claim(id, user)));
        lines.push(format!("{user}: {:?}", wait(engine.grab_of(id, user)).expect("a read")));
        lines.push(format!(
            "{user}: {:?}",
            wait(engine.received(user, &Page { limit: 10, cursor: None })).expect("a list").rows
        ));
    }
    lines
}

fn quick_to_persist(options: &mut EmbeddedOptions) {
    options.projector.persist_after = Duration::from_millis(5);
}

/// Time goes by until nothing settled is left in memory.
fn evict_all(stand: &InDirectory) {
    until("every settled envelope has left memory", || {
        stand.world.advance_s(301);
        stand.tick();
        stand.stats().envelopes == 0
    });
}

#[test]
fn race_40_a_settled_envelope_is_evicted() {
    let stand = InDirectory::with(40, quick_to_persist);
    let users: Vec<_> = (0..5).map(nth_user).collect();
    let terms =
        || NewEnvelope { expires_in_s: 100, claim_within_s: 50, client_seed: Some("x".to_owned()), ..envelope(300, 4) };
    let sold_out = stand.give(terms());
    let expired = stand.give(terms());
    let cancelled = stand.give(NewEnvelope { unclaimed: Unclaimed::Credit, ..terms() });
    let auto_claimed = stand.give(NewEnvelope { auto_claim: true, ..terms() });
    let ids = [sold_out, expired, cancelled, auto_claimed];
    for (id, winners) in ids.into_iter().zip([4, 2, 3, 4]) {
        users[..winners].iter().for_each(|user| drop(stand.grab(id, user)));
        assert!(matches!(stand.claim(id, &users[0]), Outcome::Claimed { .. }));
    }
    stand.cancel(cancelled);
    stand.world.advance_s(150);
    until("all are settled", || ids.iter().all(|&id| stand.seen(id).state == EnvelopeState::Settled));
    let all = || ids.iter().map(|&id| answers(&stand, id, &users)).collect::<Vec<_>>();
    let before = all();
    assert_eq!(stand.stats().envelopes, 4);
    evict_all(&stand);
    assert_eq!(all(), before, "the same answers, from the store");
    assert_eq!(stand.stats().envelopes, 0, "asking brings nothing back");
    stand.assert_balanced();
}

#[test]
fn race_40_a_settled_envelope_is_evicted_while_a_winner_repeats() {
    let stand = InDirectory::with(401, quick_to_persist);
    let users: Vec<_> = (0..6).map(nth_user).collect();
    for _ in 0..6 {
        let ids: Vec<_> = (0..8).map(|_| stand.give(NewEnvelope { auto_claim: true, ..envelope(500, 5) })).collect();
        for &id in &ids {
            users[..5].iter().for_each(|user| drop(stand.grab(id, user)));
        }
        let grabs_and_claims = |id| {
            let told = users.iter().map(|user| (stand.grab(id, user), stand.claim(id, user)));
            (told.collect::<Vec<_>>(), stand.cancel(id))
        };
        let before: Vec<_> = ids.iter().map(|&id| (grabs_and_claims(id), stand.all_grabs(id))).collect();
        let evicted = AtomicBool::new(false);
        at_once(4, |n| {
            if n == 0 {
                // Reading keeps an envelope in memory, so the lists are asked for in between.
                evict_all(&stand);
                return evicted.store(true, Ordering::SeqCst);
            }
            while !evicted.load(Ordering::SeqCst) {
                for (&id, before) in ids.iter().zip(&before) {
                    assert_eq!(grabs_and_claims(id), before.0);
                    if n == 1 {
                        assert_eq!(stand.all_grabs(id), before.1);
                    }
                }
            }
        });
        for (&id, before) in ids.iter().zip(&before) {
            assert_eq!((&grabs_and_claims(id), &stand.all_grabs(id)), (&before.0, &before.1));
        }
    }
}
