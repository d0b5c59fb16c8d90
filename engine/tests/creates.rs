//! The cap on envelopes of a sender and day, beside what stories tell of it
//! (`conformance/caps.txt`): under a race, over evictions and restarts, set late.

mod stand;

use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::command::*;
use hongbao_engine::memory::Embedded;
use hongbao_engine::types::UserId;
use stand::*;

const CAP: u32 = 3;
const THREADS: usize = 6;

fn create(sender: &UserId) -> Command {
    Command::CreateEnvelope(Box::new(NewEnvelope { sender: sender.clone(), ..envelope(10, 1) }))
}

fn is_refused(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Envelope(_) => false,
        Outcome::Refused(Refusal::Invalid { field, message }) if field == "sender" => {
            assert!(message.contains("creates_per_sender_per_day is 3 here"), "{message}");
            // The end of the first day.
            let free_again = START.ms() + 76_800_000;
            assert!(message.contains(&free_again.to_string()), "{message}");
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_at_once_are_not_both_the_last() {
    let stand = InDirectory::with(61, |options| options.creates = Some(creates_cap(CAP)));
    for round in 0..30 {
        let sender = user(&format!("sender{round}"));
        stand.deposit(&sender, 1000);
        let answers = at_once(THREADS, |_| stand.ask(create(&sender)));
        let refused = answers.iter().filter(|outcome| is_refused(outcome)).count();
        assert_eq!(refused, THREADS - CAP as usize);
        assert_eq!(stand.available(&sender), 1000 - 10 * u64::from(CAP));
    }
}

#[test]
fn the_same_call_at_once_counts_once() {
    let stand = InDirectory::with(62, |options| options.creates = Some(creates_cap(CAP)));
    for round in 0..30 {
        let sender = user(&format!("sender{round}"));
        stand.deposit(&sender, 1000);
        for nth in 0..=CAP {
            let key = OnceKey::idempotency("app", "create", &format!("{sender}-{nth}"));
            let answers = at_once(THREADS, |_| stand.ask_under(create(&sender), Some(key)));
            let refused = answers.iter().filter(|reply| is_refused(&reply.outcome)).count();
            assert_eq!(refused, if nth < CAP { 0 } else { THREADS });
        }
    }
}

#[test]
fn what_was_evicted_is_counted_again() {
    let world = World::new(63).capped(Some(CAP));
    let directory = tempfile::tempdir().unwrap();
    let engine = Embedded::open(directory.path(), world.options_by_hand()).unwrap().0;
    let ask = |command| wait_pumping(&engine, engine.execute(command, None)).unwrap().outcome;
    let alice = user("alice");
    ask(Command::Deposit(Transfer { user: alice.clone(), amount: fen(1000), reference: None }));
    for nth in 0..5 {
        assert_eq!(is_refused(&ask(create(&alice))), nth >= CAP, "the {nth}th");
        while engine.pump().unwrap() {}
        engine.projector().unwrap().persist();
        world.advance_s(100);
        // The count leaves memory with the wallet, which is in the same shard.
        until("the wallet leaves memory", || {
            engine.tick();
            engine.stats().wallets == 0
        });
    }
}

#[test]
fn a_cap_that_is_set_later_counts_what_was_made_before_and_is_changed_at_will() {
    let mut stand = InDirectory::new(64);
    let alice = user("alice");
    stand.deposit(&alice, 1000);
    for _ in 0..4 {
        assert!(!is_refused(&stand.ask(create(&alice))));
    }
    stand.reopen(|options| options.creates = Some(creates_cap(CAP)));
    assert!(is_refused(&stand.ask(create(&alice))));
    stand.reopen(|options| options.creates = Some(creates_cap(5)));
    assert!(!is_refused(&stand.ask(create(&alice))));
    assert!(matches!(stand.ask(create(&alice)), Outcome::Refused(_)));
    stand.reopen(|options| options.creates = None);
    assert!(!is_refused(&stand.ask(create(&alice))));
}
