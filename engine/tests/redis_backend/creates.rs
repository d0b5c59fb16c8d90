//! The cap on envelopes of a sender and day in front of Redis, beside what stories
//! tell of it (`conformance/caps.txt`).

use crate::deployment::{Deployment, is_missing};
use crate::races::Two;
use crate::stand::{creates_cap, envelope, user};
use hongbao_engine::EngineError;
use hongbao_engine::backend::Reply;
use hongbao_engine::command::*;

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
    let ask = |backend: &hongbao_engine::redis::RedisBackend, command| {
        deployment.drive(hongbao_engine::backend::Backend::execute(backend, command, None))
    };
    let deposit = Transfer { user: user("alice"), amount: envelope(1000, 1).total, reference: None };
    ask(&capped, Command::Deposit(deposit)).expect("it is answered");
    assert!(!is_refused(&ask(&capped, create("alice"))));
    assert!(!is_refused(&ask(&uncapped, create("alice"))));
    assert!(!is_refused(&ask(&capped, create("alice"))));
    assert!(is_refused(&ask(&capped, create("alice"))));
    assert!(!is_refused(&ask(&uncapped, create("alice"))));
}
