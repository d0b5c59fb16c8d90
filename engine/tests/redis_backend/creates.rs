//! The cap on envelopes of a sender and day in front of Redis, beside what stories
//! tell of it (`conformance/caps.txt`).

use crate::copy::{Stage, open};
use crate::deployment::{Deployment, is_missing};
use crate::races::Two;
use crate::stand::{creates_cap, envelope, user};
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Reply};
use hongbao_engine::command::*;
use hongbao_engine::memory::Embedded;

const CAP: usize = 3;

fn create(sender: &str) -> Command {
    Command::CreateEnvelope(Box::new(NewEnvelope { sender: user(sender), ..envelope(10, 1) }))
}

fn is_refused(reply: &Result<Reply, EngineError>) -> bool {
    match &reply.as_ref().expect("it is answered").outcome {
        Outcome::Envelope(_) => false,
        Outcome::Refused(Refusal::Invalid { field, message }) if field == "sender" => {
            assert!(message.contains("creates_per_sender_per_day is 3 here"), "{message}");
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_servers_at_once_do_not_both_make_the_last() {
    if is_missing() {
        return;
    }
    for (seed, mut deployment) in [(71, Deployment::new(71)), (72, Deployment::new(72).archiving())] {
        deployment.options.creates = Some(creates_cap(CAP as u32));
        let two = Two::over(deployment);
        for round in 0..20 {
            let sender = format!("sender{seed}-{round}");
            two.deposit(&sender, 1000);
            let replies = two.at_once((0..8).map(|_| (create(&sender), None)).collect());
            assert_eq!(replies.iter().filter(|reply| is_refused(reply)).count(), 8 - CAP);
            // What has ended and left Redis still counts.
            for reply in replies {
                if let Outcome::Envelope(view) = reply.expect("it is answered").outcome {
                    assert!(matches!(two.ask(Command::Cancel { envelope: view.id }), Outcome::Envelope(_)));
                }
            }
            two.deployment.settle(&two.engines[0]);
            assert!(is_refused(&two.at_once(vec![(create(&sender), None)])[0]));
        }
    }
}

/// A server without the cap does not count; what it makes is found in the sender's list.
#[test]
fn what_a_server_without_the_cap_made_counts_for_one_that_has_it() {
    if is_missing() {
        return;
    }
    let mut deployment = Deployment::new(73);
    let uncapped = deployment.open();
    deployment.options.creates = Some(creates_cap(CAP as u32));
    let capped = deployment.open();
    let ask = |backend: &hongbao_engine::redis::RedisBackend, command| deployment.drive(backend.execute(command, None));
    let deposit = Transfer { user: user("alice"), amount: envelope(1000, 1).total, reference: None };
    ask(&capped, Command::Deposit(deposit)).expect("it is answered");
    assert!(!is_refused(&ask(&capped, create("alice"))));
    assert!(!is_refused(&ask(&uncapped, create("alice"))));
    assert!(!is_refused(&ask(&capped, create("alice"))));
    assert!(is_refused(&ask(&capped, create("alice"))));
    assert!(!is_refused(&ask(&uncapped, create("alice"))));
}

/// What was made on one side of a copy counts on the other, archived or not, and a copy is no creation.
#[test]
fn what_was_made_before_a_copy_counts_behind_it() {
    if is_missing() {
        return;
    }
    for (seed, deployment) in [(74, Deployment::new(74)), (75, Deployment::new(75).archiving())] {
        let mut stage = Stage::over(seed, deployment);
        stage.embedded.creates = Some(creates_cap(CAP as u32));
        stage.deployment.options.creates = Some(creates_cap(CAP as u32));
        let (first, back) = (stage.path("first"), stage.path("back"));
        let engine = open(&first, &stage.embedded);
        let on = |engine: &Embedded, command| stage.deployment.drive(engine.execute(command, None));
        let amount = envelope(1000, 1).total;
        for sender in ["alice", "bob"] {
            let deposit = Transfer { user: user(sender), amount, reference: None };
            on(&engine, Command::Deposit(deposit)).expect("it is answered");
        }
        assert!(!is_refused(&on(&engine, create("alice"))));
        let Outcome::Envelope(made) = on(&engine, create("alice")).expect("it is answered").outcome else {
            panic!("it is not made")
        };
        // One that has ended counts as well.
        on(&engine, Command::Cancel { envelope: made.id }).expect("it is answered");
        engine.close().expect("it closes");
        drop(engine);

        stage.to_redis(&first, None).expect("it is copied");
        let redis = stage.deployment.open();
        let ask = |command| stage.deployment.drive(redis.execute(command, None));
        stage.deployment.settle(&redis);
        assert!(!is_refused(&ask(create("alice"))), "two of three were made");
        assert!(is_refused(&ask(create("alice"))));
        assert!(!is_refused(&ask(create("bob"))));
        redis.close();
        drop(redis);

        stage.to_directory(&back, None).expect("it is copied back");
        let engine = open(&back, &stage.embedded);
        let on = |command| stage.deployment.drive(engine.execute(command, None));
        assert!(is_refused(&on(create("alice"))));
        for nth in 1..=CAP {
            assert_eq!(is_refused(&on(create("bob"))), nth == CAP, "the {nth}th behind the copy");
        }
        engine.close().expect("it closes");
    }
}
