//! Payouts while others meddle: each is made once, counted once, and leaves memory
//! when nobody asks for it. What each step comes to the stories of conformance tell.

mod stand;

use hongbao_engine::backend::{Backend, OnceKey, Page};
use hongbao_engine::command::*;
use hongbao_engine::payout::*;
use hongbao_engine::types::*;
use stand::*;
use std::collections::BTreeSet;
use std::time::Duration;

const ROUNDS: usize = 30;
const THREADS: usize = 6;

/// An envelope that comes from outside and goes there.
fn outside(funding: &str, total: u64, shares: u32) -> NewEnvelope {
    let outside = Outside { funding: Some(funding.to_owned()), payout: PayoutTo::External };
    NewEnvelope { outside, ..envelope(total, shares) }
}

fn create(stand: &InDirectory, terms: NewEnvelope) -> EnvelopeId {
    match stand.ask(Command::CreateEnvelope(Box::new(terms))) {
        Outcome::Envelope(view) => view.id,
        other => panic!("an envelope was expected, not {other:?}"),
    }
}

fn payouts(stand: &InDirectory, filter: &PayoutFilter) -> Vec<Payout> {
    let mut rows = Vec::new();
    let mut page = Page { limit: 1000, cursor: None };
    loop {
        let listing = wait(stand.payouts(filter, &page)).expect("a list");
        rows.extend(listing.rows.into_iter().map(|view| view.payout));
        match listing.next {
            Some(next) => page.cursor = Some(next),
            None => return rows,
        }
    }
}

fn payouts_of(stand: &InDirectory, envelope: EnvelopeId) -> Vec<Payout> {
    payouts(stand, &PayoutFilter { envelope: Some(envelope), ..PayoutFilter::default() })
}

fn result(payout: PayoutId, state: PayoutState, reference: Option<&str>) -> PayoutResult {
    PayoutResult { payout, state, reference: reference.map(str::to_owned), reason: None }
}

fn tell(stand: &InDirectory, results: Vec<PayoutResult>, key: Option<&str>) -> Vec<PayoutAnswer> {
    let once = key.map(|key| OnceKey::idempotency("app", "results", key));
    match stand.ask_under(Command::PayoutResults(results), once).outcome {
        Outcome::Payouts(answers) => answers,
        other => panic!("answers were expected, not {other:?}"),
    }
}

/// Race 11, where a share that is claimed and one that lapses both become payouts.
#[test]
fn race_11_claim_against_lapse_outside() {
    let stand = InDirectory::new(11);
    for round in 0..ROUNDS {
        let terms = NewEnvelope { expires_in_s: 1, claim_within_s: 10, ..outside(&format!("f{round}"), 1000, 50) };
        let id = create(&stand, terms);
        let users: Vec<_> = (0..50).map(nth_user).collect();
        users.iter().for_each(|user| assert!(matches!(stand.grab(id, user), Outcome::Won { .. })));
        let claimed: Vec<UserId> = at_once(THREADS, |n| {
            if n == 0 {
                stand.world.advance_s(11);
                return Vec::new();
            }
            let mine = users.iter().skip(n - 1).step_by(THREADS - 1);
            mine.filter(|user| matches!(stand.claim(id, user), Outcome::Claimed { .. })).cloned().collect()
        })
        .concat();
        until("the envelope is settled", || stand.seen(id).state == EnvelopeState::Settled);
        let made = payouts_of(&stand, id);
        let of_kind = |kind| made.iter().filter(move |payout| payout.kind == kind);
        let winners: Vec<&UserId> = of_kind(PayoutKind::Win).map(|payout| &payout.user).collect();
        assert_eq!(winners.iter().copied().collect::<BTreeSet<_>>(), claimed.iter().collect());
        assert_eq!(winners.len(), claimed.len(), "one payout a claim");
        assert!(of_kind(PayoutKind::Refund).count() <= 1, "one payout of what lapsed");
        assert_eq!(made.iter().map(|payout| payout.amount.minor()).sum::<u64>(), 1000);
        assert_eq!(stand.available(&user("alice")), 0);
        stand.assert_balanced();
    }
}

/// Race 15: a cancellation takes back what is unsold, and every grab is paid.
#[test]
fn race_15_cancel_against_grabs_that_pay_outside() {
    let stand = InDirectory::new(15);
    for round in 0..ROUNDS {
        let id = create(&stand, NewEnvelope { auto_claim: true, ..outside(&format!("f{round}"), 1000, 100) });
        let won: usize = at_once(THREADS, |n| {
            if n == 0 {
                assert!(matches!(stand.cancel(id), Outcome::Envelope(_)));
                return 0;
            }
            let grabs = (0..10).map(|k| stand.grab(id, &user(&format!("u{n}-{k}"))));
            grabs.filter(|outcome| matches!(outcome, Outcome::Won { .. })).count()
        })
        .into_iter()
        .sum();
        let made = payouts_of(&stand, id);
        assert_eq!(made.iter().filter(|payout| payout.kind == PayoutKind::Win).count(), won);
        assert_eq!(made.iter().map(|payout| payout.amount.minor()).sum::<u64>(), 1000);
        stand.assert_balanced();
    }
}

/// Race 22: the same result twice, told at once and later, counts once.
#[test]
fn race_22_a_result_told_twice() {
    let stand = InDirectory::new(22);
    let mut paid = 0;
    for round in 0..ROUNDS {
        let id = create(&stand, NewEnvelope { auto_claim: true, ..outside(&format!("f{round}"), 100, 1) });
        stand.grab(id, &user("bob"));
        let payout = payouts_of(&stand, id)[0].id;
        let key = (round % 2 == 0).then(|| format!("k{round}"));
        let told = |_| tell(&stand, vec![result(payout, PayoutState::Paid, Some("bank-1"))], key.as_deref());
        assert!(at_once(THREADS, told).iter().all(|answers| *answers == [PayoutAnswer::Stands(PayoutState::Paid)]));
        paid += 100;
        let kept = payouts_of(&stand, id).remove(0);
        assert_eq!((kept.attempts, kept.reference.as_deref()), (1, Some("bank-1")));
        let audit = wait(Backend::audit(&*stand)).expect("a read");
        assert_eq!((audit.paid_out, audit.payable), (paid, 0));
        stand.assert_balanced();
    }
}

/// Of two that bring different ends the first one stays.
#[test]
fn race_24_paid_against_failed() {
    let stand = InDirectory::new(24);
    for round in 0..ROUNDS {
        let id = create(&stand, NewEnvelope { auto_claim: true, ..outside(&format!("f{round}"), 100, 1) });
        stand.grab(id, &user("bob"));
        let payout = payouts_of(&stand, id)[0].id;
        tell(&stand, vec![result(payout, PayoutState::Sent, None)], None);
        let ends = [PayoutState::Paid, PayoutState::Failed];
        let told = at_once(THREADS, |n| (ends[n % 2], tell(&stand, vec![result(payout, ends[n % 2], None)], None)[0]));
        let stands = payouts_of(&stand, id)[0].state;
        for (end, answer) in told {
            let expected = if end == stands { PayoutAnswer::Stands(stands) } else { PayoutAnswer::WrongState(stands) };
            assert_eq!(answer, expected);
        }
        stand.assert_balanced();
    }
}

/// One funding, whoever asks for it at once and however often.
#[test]
fn race_39_one_funding_makes_one_envelope() {
    let stand = InDirectory::new(39);
    for round in 0..ROUNDS {
        let ids = at_once(THREADS, |n| {
            let terms = NewEnvelope {
                reference: (round % 2 == 0).then(|| reference("app", &format!("r{round}"))),
                ..outside(&format!("f{round}"), 100, 1)
            };
            let once = (n % 2 == 0).then(|| OnceKey::idempotency("app", "create", &format!("{round}-{n}")));
            match stand.ask_under(Command::CreateEnvelope(Box::new(terms)), once).outcome {
                Outcome::Envelope(view) => view.id,
                other => panic!("told {other:?}"),
            }
        });
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1);
        let audit = wait(Backend::audit(&*stand)).expect("a read");
        assert_eq!((audit.deposited, audit.escrowed), (100 * (round as u64 + 1), 100 * (round as u64 + 1)));
    }
}

#[test]
fn a_page_after_another_tells_no_payout_twice_while_states_change() {
    let stand = InDirectory::new(50);
    let id = create(&stand, NewEnvelope { auto_claim: true, ..outside("f", 500, 500) });
    (0..500).for_each(|n| assert!(matches!(stand.grab(id, &nth_user(n)), Outcome::Won { .. })));
    for filter in [PayoutFilter::default(), PayoutFilter { state: Some(PayoutState::Due), ..PayoutFilter::default() }] {
        let before: BTreeSet<PayoutId> = payouts(&stand, &filter).iter().map(|payout| payout.id).collect();
        let mut page = Page { limit: 7, cursor: None };
        let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let listing = wait(stand.payouts(&filter, &page)).expect("a list");
            for view in &listing.rows {
                assert!(seen.insert(view.payout.id), "it is told once");
            }
            // Some of those told, and one that is not told yet, become something else.
            let ahead = before.iter().rfind(|id| !seen.contains(*id)).copied();
            let changed = listing.rows.iter().step_by(2).map(|view| view.payout.id).chain(ahead);
            let results: Vec<_> = changed.map(|id| result(id, PayoutState::Sent, None)).collect();
            told.extend(results.iter().map(|result| result.payout));
            tell(&stand, results, None);
            match listing.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        let stayed = before.difference(&told);
        assert!(stayed.clone().all(|id| seen.contains(id)), "whoever stayed was told");
        assert!(seen.is_subset(&before));
    }
}

#[test]
fn payouts_leave_memory_when_the_store_has_them_and_come_back_when_asked_for() {
    let stand = InDirectory::with(51, |options| options.projector.persist_after = Duration::from_millis(5));
    let id = create(&stand, NewEnvelope { auto_claim: true, ..outside("f", 200, 200) });
    (0..200).for_each(|n| assert!(matches!(stand.grab(id, &nth_user(n)), Outcome::Won { .. })));
    let none_in_memory = || {
        until("no payout is left in memory", || {
            stand.tick();
            stand.stats().payouts_in_memory == 0
        });
    };
    none_in_memory();
    assert_eq!(stand.stats().payouts, [200, 0, 0, 0]);
    let made = payouts_of(&stand, id);
    assert_eq!(made.len(), 200);
    assert_eq!(stand.stats().payouts_in_memory, 0, "lists come from the store");
    let results: Vec<_> = made.iter().map(|payout| result(payout.id, PayoutState::Paid, None)).collect();
    let mut unknown = results;
    unknown.push(result(PayoutId::from_bytes([9; 16]), PayoutState::Paid, None));
    let answers = tell(&stand, unknown, None);
    assert_eq!(answers.last(), Some(&PayoutAnswer::NotFound));
    assert!(answers[..200].iter().all(|answer| *answer == PayoutAnswer::Stands(PayoutState::Paid)));
    assert_eq!(stand.stats().payouts, [0, 0, 200, 0]);
    assert_eq!(stand.stats().payouts_in_memory, 201);
    stand.world.advance_s(61);
    none_in_memory();
    // What is in the store only is not made again, and stays paid.
    let late: Vec<_> = made.iter().map(|payout| result(payout.id, PayoutState::Failed, None)).collect();
    assert!(tell(&stand, late, None).iter().all(|answer| *answer == PayoutAnswer::WrongState(PayoutState::Paid)));
    stand.assert_balanced();
}

#[test]
fn results_that_do_not_fit_a_record_are_refused_and_fewer_taken() {
    let stand = InDirectory::new(52);
    let id = create(&stand, NewEnvelope { auto_claim: true, ..outside("f", 1000, 1000) });
    for n in 0..1000 {
        assert!(matches!(stand.grab(id, &user(&format!("{n:012}"))), Outcome::Won { .. }));
    }
    let made = payouts_of(&stand, id);
    let results =
        |text: &str, state| made.iter().map(|payout| result(payout.id, state, Some(text))).collect::<Vec<_>>();
    let long = "恭".repeat(128);
    match stand.ask(Command::PayoutResults(results(&long, PayoutState::Sent))) {
        Outcome::Refused(Refusal::Invalid { field, message }) => {
            assert_eq!(field, "results");
            assert!(message.contains("send fewer"), "{message}");
        }
        other => panic!("told {other:?}"),
    }
    assert_eq!(stand.stats().payouts, [1000, 0, 0, 0], "nothing of it was done");
    for part in results(&long, PayoutState::Sent).chunks(200) {
        tell(&stand, part.to_vec(), Some(&part[0].payout.to_string()));
    }
    assert_eq!(stand.stats().payouts, [0, 1000, 0, 0]);
    // What an ordinary call brings fits, a thousand at once.
    let ordinary = "20270206200040011100390082468135";
    let answers = tell(&stand, results(ordinary, PayoutState::Paid), Some("all"));
    assert!(answers.iter().all(|answer| *answer == PayoutAnswer::Stands(PayoutState::Paid)));
    let many = vec![result(made[0].id, PayoutState::Paid, None); 1001];
    assert!(matches!(stand.ask(Command::PayoutResults(many)), Outcome::Refused(Refusal::Invalid { .. })));
}

#[test]
fn an_engine_without_a_store_pays_outside_too() {
    let world = World::new(53);
    let engine = hongbao_engine::memory::Embedded::volatile(&world.options());
    let terms = NewEnvelope { auto_claim: true, ..outside("f", 10, 1) };
    let Outcome::Envelope(view) = engine.ask(Command::CreateEnvelope(Box::new(terms))) else { panic!("not created") };
    assert!(matches!(engine.grab(view.id, &user("bob")), Outcome::Won { .. }));
    assert_eq!(engine.stats().payouts, [1, 0, 0, 0]);
    engine.assert_balanced();
}
