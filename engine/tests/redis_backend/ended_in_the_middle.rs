//! An engine is ended after each of the calls that a command takes, once
//! before and once after Redis has carried the call out. Another engine does
//! what is due and is asked the same again, in either order. Whatever was left:
//! the same answer as if nothing had happened, everything done once, and no
//! money in between.

use crate::deployment::{Deployment, is_missing};
use crate::stand::{api_key, fen, reference, user};
use hongbao_engine::api_key::NewApiKey;
use hongbao_engine::backend::{Backend, EnvelopeFilter, ItemFilter, OnceKey, Page};
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::*;
use hongbao_engine::gift::{GiftRole, GiftStep, NewGift};
use hongbao_engine::order::{ANSWER_WITHIN_S, OrderStep};
use hongbao_engine::payout::{Outside, Payout, PayoutFilter, PayoutResult, PayoutState, PayoutTo};
use hongbao_engine::redis::{Fuse, RedisBackend, RedisBackendOptions};
use hongbao_engine::sale::MerchantBalance;
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::*;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// What is prepared, and the command that is ended in the middle.
type Scene = fn(&Trial<'_>) -> Command;

/// One time that a scene is played, with people of its own.
struct Trial<'a> {
    deployment: &'a Deployment,
    backend: &'a RedisBackend,
    nth: usize,
}

/// What comes of a scene: all of it in words without ids.
type Told = String;

#[test]
fn a_deposit() {
    play(|trial| Command::Deposit(trial.transfer("alice", 70, None)));
}

#[test]
fn a_deposit_under_a_reference() {
    play(|trial| Command::Deposit(trial.transfer("alice", 70, Some("r"))));
}

#[test]
fn a_withdrawal() {
    play(|trial| {
        trial.deposit("alice", 100);
        Command::Withdraw(trial.transfer("alice", 70, None))
    });
}

#[test]
fn a_creation() {
    play(|trial| {
        trial.deposit("alice", 100);
        Command::CreateEnvelope(Box::new(trial.terms(30, 3)))
    });
}

#[test]
fn a_creation_under_a_reference() {
    play(|trial| {
        trial.deposit("alice", 100);
        let reference = Some(reference("app", &trial.name("r")));
        Command::CreateEnvelope(Box::new(NewEnvelope { reference, ..trial.terms(30, 3) }))
    });
}

#[test]
fn a_creation_that_is_funded_from_outside() {
    play(|trial| Command::CreateEnvelope(Box::new(trial.outside(30, 3))));
}

#[test]
fn a_creation_that_is_funded_from_outside_under_a_reference() {
    play(|trial| {
        let reference = Some(reference("app", &trial.name("r")));
        Command::CreateEnvelope(Box::new(NewEnvelope { reference, ..trial.outside(30, 3) }))
    });
}

#[test]
fn a_creation_of_many_shares() {
    play(|trial| {
        trial.deposit("alice", 200_000);
        Command::CreateEnvelope(Box::new(trial.terms(140_000, 140_000)))
    });
}

#[test]
fn a_grab() {
    play(|trial| {
        let envelope = trial.give(trial.terms(30, 3));
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_grab_that_claims() {
    play(|trial| {
        let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.terms(30, 3) });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_claim() {
    play(|trial| {
        let envelope = trial.give(trial.terms(30, 3));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Claim { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_grab_that_pays_outside() {
    play(|trial| {
        let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.outside(30, 3) });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_claim_that_pays_outside() {
    play(|trial| {
        let envelope = trial.give(trial.outside(30, 3));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Claim { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_cancellation_that_pays_back_outside() {
    play(|trial| {
        let envelope = trial.give(trial.outside(30, 3));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Cancel { envelope }
    });
}

/// Of payouts in several buckets, and of one that is not there.
#[test]
fn results_of_payouts() {
    play(|trial| {
        let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.outside(30, 3) });
        for name in ["bob", "carol"] {
            trial.ask(Command::Grab { envelope, user: trial.user(name) });
        }
        trial.ask(Command::Cancel { envelope });
        trial.deployment.settle(trial.backend);
        let mut results = Vec::new();
        for (name, state) in [("bob", PayoutState::Sent), ("carol", PayoutState::Failed), ("alice", PayoutState::Paid)]
        {
            let payout = trial.payouts(name)[0].id;
            let (reference, reason) = (Some("b1".to_owned()), (name == "carol").then(|| "no account".to_owned()));
            results.push(PayoutResult { payout, state, reference, reason });
        }
        // One after another of the same payout.
        results.push(PayoutResult { state: PayoutState::Due, reason: None, ..results[1].clone() });
        results.push(PayoutResult { payout: PayoutId::from_bytes([7; 16]), ..results[0].clone() });
        Command::PayoutResults(results)
    });
}

#[test]
fn a_cancellation() {
    play(|trial| {
        let envelope = trial.give(trial.terms(30, 3));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Cancel { envelope }
    });
}

#[test]
fn a_redaction() {
    play(|trial| {
        let message = "rude".to_owned();
        let envelope = trial.give(NewEnvelope { message, ..trial.terms(30, 3) });
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Redact { envelope, metadata: true }
    });
}

#[test]
fn a_merchant() {
    play(|trial| Command::PutMerchant(Box::new(trial.merchant())));
}

#[test]
fn a_suspension() {
    play(|trial| {
        trial.sell();
        Command::PutMerchant(Box::new(NewMerchant { status: Some(MerchantStatus::Suspended), ..trial.merchant() }))
    });
}

#[test]
fn a_withdrawal_of_sale_money() {
    play(|trial| {
        trial.deposit("bob", 100);
        let hold = trial.hold();
        let rosy = NewMerchant { settle_after_s: Some(0), commission_bps: Some(3333), ..trial.merchant() };
        trial.ask(Command::PutMerchant(Box::new(rosy)));
        trial.ask(Command::ClaimHold { hold, user: trial.user("bob") });
        // What is due is settled with it.
        trial.ask(Command::AdvanceClock { by_s: 60 });
        Command::WithdrawSales(trial.transfer("rosy", 5, Some("r")))
    });
}

#[test]
fn an_api_key() {
    play(|trial| Command::CreateApiKey(Box::new(trial.api_key())));
}

#[test]
fn a_deleted_api_key() {
    play(|trial| match trial.ask(Command::CreateApiKey(Box::new(trial.api_key()))) {
        Outcome::ApiKey(key) => Command::DeleteApiKey { key: key.id },
        other => panic!("{other:?}"),
    });
}

#[test]
fn an_item() {
    play(|trial| {
        trial.ask(Command::PutMerchant(Box::new(trial.merchant())));
        Command::CreateItem(Box::new(trial.item_terms()))
    });
}

#[test]
fn a_restock() {
    play(|trial| Command::Restock { item: trial.sell(), quantity: 3 });
}

#[test]
fn a_change() {
    play(|trial| {
        let change = ItemChange { price: Some(fen(7)), ..ItemChange::default() };
        Command::ChangeItem { item: trial.sell(), change: Box::new(change) }
    });
}

#[test]
fn a_hold() {
    play(|trial| Command::GrabItem { item: trial.sell(), user: trial.user("bob"), quantity: 2 });
}

#[test]
fn a_release() {
    play(|trial| Command::ReleaseHold { hold: trial.hold(), user: trial.user("bob") });
}

#[test]
fn a_payment() {
    play(|trial| {
        trial.deposit("bob", 100);
        Command::ClaimHold { hold: trial.hold(), user: trial.user("bob") }
    });
}

#[test]
fn a_payment_that_fails() {
    play(|trial| {
        trial.deposit("bob", 3);
        Command::ClaimHold { hold: trial.hold(), user: trial.user("bob") }
    });
}

#[test]
fn a_gift() {
    play(|trial| {
        trial.deposit("alice", 100);
        Command::CreateGift(Box::new(trial.gift_terms()))
    });
}

#[test]
fn a_gift_on_a_cluster_under_a_reference() {
    if !is_missing() {
        play_over(Deployment::on_cluster(50), |trial| {
            trial.deposit("alice", 100);
            let reference = Some(reference("app", &trial.name("r")));
            Command::CreateGift(Box::new(NewGift { reference, ..trial.gift_terms() }))
        });
    }
}

#[test]
fn a_gift_that_cannot_be_paid() {
    play(|trial| {
        trial.deposit("alice", 3);
        Command::CreateGift(Box::new(trial.gift_terms()))
    });
}

#[test]
fn a_gift_that_somebody_is_asked_to_pay() {
    play(|trial| Command::CreateGift(Box::new(NewGift { payer: trial.user("carol"), ..trial.gift_terms() })));
}

/// The last unit is another gift's, whose time is over, and the money of that goes back first.
#[test]
fn a_gift_and_a_due_one_in_its_way() {
    play(|trial| {
        trial.deposit("alice", 50);
        let terms = NewGift { accept_within_s: 10, ..trial.gift_terms() };
        for _ in 0..5 {
            trial.ask(Command::CreateGift(Box::new(terms.clone())));
        }
        trial.ask(Command::AdvanceClock { by_s: 10 });
        Command::CreateGift(Box::new(NewGift { payer: trial.user("carol"), ..terms }))
    });
}

#[test]
fn steps_of_a_gift() {
    let scenes: [Scene; 7] = [
        |trial| {
            trial.deposit("carol", 100);
            trial.step_of("carol", &[], GiftStep::Pay { payer: trial.user("carol") })
        },
        |trial| trial.step_of("carol", &[], GiftStep::Pay { payer: trial.user("carol") }),
        |trial| {
            trial.deposit("alice", 100);
            trial.step_of("alice", &[], trial.accept())
        },
        |trial| {
            trial.deposit("alice", 100);
            trial.step_of("alice", &[], GiftStep::Decline { user: trial.user("bob"), reason: None })
        },
        |trial| trial.step_of("carol", &[], GiftStep::Cancel { user: trial.user("alice") }),
        |trial| {
            trial.deposit("alice", 100);
            let ship = GiftStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() };
            trial.step_of("alice", &[trial.accept()], ship)
        },
        |trial| {
            trial.deposit("alice", 100);
            trial.step_of("alice", &[trial.accept()], GiftStep::Fail { reason: "frost".to_owned() })
        },
    ];
    for (nth, scene) in scenes.into_iter().enumerate().filter(|_| !is_missing()) {
        play_over(Deployment::new(60 + nth as u64), scene);
    }
}

#[test]
fn codes() {
    let scenes: [Scene; 3] = [
        |trial| {
            let item = trial.sell_codes();
            Command::AddCodes { item, codes: ["four", "five"].map(Code::new).to_vec() }
        },
        |trial| {
            trial.deposit("bob", 100);
            let item = trial.sell_codes();
            let held = trial.ask(Command::GrabItem { item, user: trial.user("bob"), quantity: 2 });
            let Outcome::Held { hold, .. } = held else { panic!("{held:?}") };
            Command::ClaimHold { hold, user: trial.user("bob") }
        },
        |trial| {
            trial.deposit("alice", 100);
            let terms = NewGift::new("app", trial.user("alice"), trial.user("bob"), trial.sell_codes());
            let given = trial.ask(Command::CreateGift(Box::new(terms)));
            let Outcome::Gift(gift) = given else { panic!("{given:?}") };
            Command::StepGift { gift: gift.id, step: Box::new(trial.accept()) }
        },
    ];
    for (nth, scene) in scenes.into_iter().enumerate().filter(|_| !is_missing()) {
        play_over(Deployment::new(90 + nth as u64), scene);
    }
}

#[test]
fn steps_of_an_order() {
    for (nth, scene) in ORDER_STEPS.into_iter().enumerate().filter(|_| !is_missing()) {
        play_over(Deployment::new(70 + nth as u64), scene);
    }
    if !is_missing() {
        play_over(Deployment::on_cluster(79), ORDER_STEPS[2]);
    }
}

const BACK: OrderStep = OrderStep::AcceptReturn { restock: true };

/// It is shipped; somebody wants to send it back; it goes back out of what is pending, and out of what is
/// available; there is too little; the merchant has lost its say.
const ORDER_STEPS: [Scene; 6] = [
    |trial| {
        let ship = OrderStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() };
        Command::StepOrder { order: trial.order(), step: Box::new(ship) }
    },
    |trial| Command::StepOrder { order: trial.order(), step: Box::new(trial.return_step()) },
    |trial| Command::StepOrder { order: trial.order_asked_back(), step: Box::new(BACK) },
    |trial| {
        let order = trial.order_asked_back();
        trial.ask(Command::AdvanceClock { by_s: 60 });
        Command::StepOrder { order, step: Box::new(OrderStep::AcceptReturn { restock: false }) }
    },
    |trial| {
        let order = trial.order_asked_back();
        trial.ask(Command::AdvanceClock { by_s: 60 });
        trial.ask(Command::WithdrawSales(trial.transfer("rosy", 1, None)));
        Command::StepOrder { order, step: Box::new(BACK) }
    },
    |trial| {
        let order = trial.order_asked_back();
        trial.ask(Command::AdvanceClock { by_s: ANSWER_WITHIN_S });
        Command::StepOrder { order, step: Box::new(trial.return_step()) }
    },
];

#[test]
fn an_expiry_and_a_lapse() {
    sweep(Unclaimed::Return);
}

#[test]
fn an_expiry_and_credits() {
    sweep(Unclaimed::Credit);
}

#[test]
fn an_expiry_and_a_lapse_that_pay_back_outside() {
    if !is_missing() {
        sweep_of(Deployment::new(25), Unclaimed::Return, |trial, total, shares| trial.outside(total, shares));
    }
}

#[test]
fn an_expiry_and_credits_that_pay_outside_in_pools() {
    if !is_missing() {
        sweep_of(Deployment::in_pools(26, 3), Unclaimed::Credit, |trial, total, shares| trial.outside(total, shares));
    }
}

#[test]
fn a_claim_in_a_pool_that_pays_outside() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.outside(400, 40));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Claim { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_grab_from_a_pool_that_pays_outside() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.outside(400, 40) });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_cancellation_of_pools_that_pays_back_outside() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.outside(400, 40));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Cancel { envelope }
    });
}

#[test]
fn a_creation_in_pools() {
    play_in_pools(3, |trial| {
        trial.deposit("alice", 100);
        Command::CreateEnvelope(Box::new(trial.terms(40, 40)))
    });
}

#[test]
fn a_creation_of_many_shares_in_pools() {
    play_in_pools(2, |trial| {
        trial.deposit("alice", 200_000);
        Command::CreateEnvelope(Box::new(trial.terms(140_000, 140_000)))
    });
}

#[test]
fn a_grab_from_a_pool() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.terms(400, 40));
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_grab_from_a_pool_that_claims() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.terms(400, 40) });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_claim_in_a_pool() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.terms(400, 40));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Claim { envelope, user: trial.user("bob") }
    });
}

/// The pool is empty, and the reserve has a share.
#[test]
fn a_grab_that_needs_a_grant() {
    play_in_pools(1, |trial| {
        let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.terms(160, 16) });
        for n in 0..15 {
            trial.ask(Command::Grab { envelope, user: trial.user(&format!("u{n}")) });
        }
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

/// The grab leaves the pool with few shares, so it brings the grant itself.
#[test]
fn a_grab_after_which_a_grant_is_asked_for() {
    play_in_pools(1, |trial| {
        let envelope = trial.give(trial.terms(160, 16));
        for n in 0..11 {
            trial.ask(Command::Grab { envelope, user: trial.user(&format!("u{n}")) });
        }
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

/// Two shares lie in three pools: somebody's has to be recalled.
#[test]
fn a_grab_that_needs_a_recall() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.terms(20, 2));
        trial.ask(Command::Grab { envelope, user: trial.user("carol") });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_grab_that_finds_all_sold_out() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.terms(20, 2));
        trial.ask(Command::Grab { envelope, user: trial.user("carol") });
        trial.ask(Command::Grab { envelope, user: trial.user("dave") });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_grab_after_the_end_of_pools_that_nobody_closed() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(NewEnvelope { expires_in_s: 10, ..trial.terms(20, 2) });
        trial.ask(Command::Grab { envelope, user: trial.user("carol") });
        trial.ask(Command::AdvanceClock { by_s: 10 });
        Command::Grab { envelope, user: trial.user("bob") }
    });
}

#[test]
fn a_cancellation_of_pools() {
    play_in_pools(3, |trial| {
        let envelope = trial.give(trial.terms(400, 40));
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        Command::Cancel { envelope }
    });
}

#[test]
fn an_expiry_and_a_lapse_of_pools() {
    if !is_missing() {
        sweep_over(Deployment::in_pools(10, 3), Unclaimed::Return);
    }
}

#[test]
fn an_expiry_and_credits_in_pools() {
    if !is_missing() {
        sweep_over(Deployment::in_pools(11, 3), Unclaimed::Credit);
    }
}

#[test]
fn an_archiving() {
    if !is_missing() {
        archive_over(Deployment::new(12).archiving());
    }
}

#[test]
fn an_archiving_out_of_a_cluster() {
    if !is_missing() {
        archive_over(Deployment::on_cluster(13).archiving());
    }
}

#[test]
fn an_archiving_of_pools() {
    if !is_missing() {
        archive_over(Deployment::in_pools(20, 3).archiving());
    }
}

#[test]
fn an_archiving_of_pools_out_of_a_cluster() {
    if !is_missing() {
        archive_over(Deployment::on_cluster(21).with_pools(3).archiving());
    }
}

/// Whatever they settle is archived before the same is asked again.
#[test]
fn commands_that_settle_and_the_archive() {
    let scenes: [Scene; 4] = [
        |trial| {
            let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.outside(30, 1) });
            Command::Grab { envelope, user: trial.user("bob") }
        },
        |trial| {
            let envelope = trial.give(NewEnvelope { auto_claim: true, ..trial.terms(30, 1) });
            Command::Grab { envelope, user: trial.user("bob") }
        },
        |trial| {
            let envelope = trial.give(trial.terms(30, 1));
            trial.ask(Command::Grab { envelope, user: trial.user("bob") });
            Command::Claim { envelope, user: trial.user("bob") }
        },
        |trial| Command::Cancel { envelope: trial.give(trial.terms(30, 3)) },
    ];
    for (nth, scene) in scenes.into_iter().enumerate().filter(|_| !is_missing()) {
        play_over(Deployment::new(14 + nth as u64).archiving(), scene);
        play_over(Deployment::on_cluster(30 + nth as u64).archiving(), scene);
        play_over(Deployment::on_cluster(40 + nth as u64).with_pools(2).archiving(), scene);
    }
}

fn sweep(unclaimed: Unclaimed) {
    if !is_missing() {
        sweep_over(Deployment::new(8), unclaimed);
    }
}

/// The sweeper is ended in the middle of what deadlines bring.
fn sweep_over(deployment: Deployment, unclaimed: Unclaimed) {
    sweep_of(deployment, unclaimed, |trial, total, shares| trial.terms(total, shares));
}

fn sweep_of(deployment: Deployment, unclaimed: Unclaimed, of: fn(&Trial<'_>, u64, u32) -> NewEnvelope) {
    let backend = deployment.open();
    let mut expected: Option<Told> = None;
    for nth in 0..400 {
        let trial = Trial { deployment: &deployment, backend: &backend, nth };
        let terms = NewEnvelope { unclaimed, expires_in_s: 10, claim_within_s: 0, ..of(&trial, 40, 4) };
        let envelope = trial.give(terms);
        trial.ask(Command::Grab { envelope, user: trial.user("bob") });
        trial.ask(Command::Grab { envelope, user: trial.user("carol") });
        trial.hold();
        trial.ask(Command::AdvanceClock { by_s: 1000 });
        let left = nth as i64 / 2;
        let ended = trial.ending(left, nth % 2 == 1);
        let completed = nth > 0 && deployment.drive(ended.sweep()).is_ok();
        drop(ended);
        deployment.settle(&backend);
        let told = trial.tell();
        match &expected {
            None => expected = Some(told),
            Some(expected) => assert_eq!(told, *expected, "ended after {left} calls"),
        }
        if completed {
            assert!(left > 10, "a tour takes more calls than {left}");
            return;
        }
    }
    panic!("the sweeper never came to an end");
}

/// Who archives is ended in the middle: whatever has left Redis and whatever
/// has not, everybody is told the same, and another ends it.
fn archive_over(mut deployment: Deployment) {
    deployment.options.redis.archive_after = Duration::from_secs(5000);
    let backend = deployment.open();
    for nth in 0..400 {
        let trial = Trial { deployment: &deployment, backend: &backend, nth };
        let envelope = trial.give(NewEnvelope { expires_in_s: 10, claim_within_s: 0, ..trial.terms(40, 4) });
        for name in ["bob", "carol"] {
            trial.ask(Command::Grab { envelope, user: trial.user(name) });
        }
        trial.ask(Command::Claim { envelope, user: trial.user("bob") });
        trial.ask(Command::AdvanceClock { by_s: 1000 });
        deployment.settle(&backend);
        let expected = trial.tell();
        trial.ask(Command::AdvanceClock { by_s: 5000 });
        let left = nth as i64 / 2;
        let ended = trial.ending(left, nth % 2 == 1);
        let completed = deployment.drive(ended.sweep()).is_ok();
        drop(ended);
        assert_eq!(trial.tell(), expected, "ended after {left} calls");
        let audit = deployment.drive(backend.audit_rows(&mut |_| ())).expect("it reads");
        assert_eq!(audit.findings, [], "ended after {left} calls");
        // Until then nobody takes what somebody has taken.
        trial.ask(Command::AdvanceClock { by_s: 1000 });
        deployment.settle(&backend);
        assert_eq!(trial.tell(), expected, "ended after {left} calls, and archived by another");
        if completed {
            assert!(left > 15, "to archive an envelope takes more calls than {left}");
            return;
        }
    }
    panic!("who archives never came to an end");
}

fn play(scene: Scene) {
    if !is_missing() {
        play_over(Deployment::new(7), scene);
    }
}

/// The same with all envelopes in so many pools.
fn play_in_pools(pools: u16, scene: Scene) {
    if !is_missing() {
        play_over(Deployment::in_pools(9, pools), scene);
    }
}

/// Plays a scene with the engine ended after each call, and compares.
fn play_over(deployment: Deployment, scene: Scene) {
    let backend = deployment.open();
    let expected = {
        let trial = Trial { deployment: &deployment, backend: &backend, nth: 0 };
        let command = scene(&trial);
        let answered = trial.answered(&backend, &command);
        deployment.settle(&backend);
        answered + &trial.tell()
    };
    let mut nth = 0;
    for left in 0.. {
        let mut completed = true;
        for (loses_answer, sweeps_first) in [(false, false), (false, true), (true, false), (true, true)] {
            nth += 1;
            let trial = Trial { deployment: &deployment, backend: &backend, nth };
            let command = scene(&trial);
            let ended = trial.ending(left, loses_answer);
            let once = trial.once(&command);
            completed &= deployment.drive(ended.execute(command.clone(), once)).is_ok();
            drop(ended);
            if sweeps_first {
                deployment.settle(&backend);
            }
            let answered = trial.answered(&backend, &command);
            deployment.settle(&backend);
            let told = answered + &trial.tell();
            assert_eq!(
                told, expected,
                "ended after {left} calls, answer lost: {loses_answer}, swept first: {sweeps_first} (left is after that)"
            );
        }
        if completed {
            assert!(left > 1, "a command under a key takes two calls and more");
            return;
        }
    }
}

impl Trial<'_> {
    fn name(&self, name: &str) -> String {
        format!("t{}{name}", self.nth)
    }

    fn user(&self, name: &str) -> UserId {
        user(&self.name(name))
    }

    fn once(&self, command: &Command) -> Option<OnceKey> {
        let route = format!("{:?}", std::mem::discriminant(command));
        Some(OnceKey::idempotency("app", &route, &self.name("k")))
    }

    /// An engine that ends after so many calls.
    fn ending(&self, calls: i64, loses_answer: bool) -> RedisBackend {
        let fuse = Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer });
        let options = RedisBackendOptions { fuse: Some(Arc::clone(&fuse)), ..self.deployment.options.clone() };
        let ended = self.deployment.drive(RedisBackend::open(options)).expect("it opens");
        fuse.calls_left.store(calls, Ordering::Relaxed);
        ended
    }

    fn ask(&self, command: Command) -> Outcome {
        self.deployment.drive(self.backend.execute(command, None)).expect("it is answered").outcome
    }

    fn transfer(&self, name: &str, minor: u64, text: Option<&str>) -> Transfer {
        let reference = text.map(|text| reference("app", &self.name(text)));
        Transfer { user: self.user(name), amount: fen(minor), reference }
    }

    fn deposit(&self, name: &str, minor: u64) {
        self.ask(Command::Deposit(self.transfer(name, minor, None)));
    }

    fn terms(&self, total: u64, shares: u32) -> NewEnvelope {
        NewEnvelope::new("app", self.user("alice"), fen(total), shares, SplitRule::Equal)
    }

    /// The same from outside and to there.
    fn outside(&self, total: u64, shares: u32) -> NewEnvelope {
        let outside = Outside { funding: Some(self.name("f")), payout: PayoutTo::External };
        NewEnvelope { outside, ..self.terms(total, shares) }
    }

    fn payouts(&self, name: &str) -> Vec<Payout> {
        let filter = PayoutFilter { user: Some(self.user(name)), ..PayoutFilter::default() };
        let listed = self.deployment.drive(self.backend.payouts(&filter, &Page { limit: 1000, cursor: None }));
        listed.expect("a list").rows.into_iter().map(|view| view.payout).collect()
    }

    fn give(&self, terms: NewEnvelope) -> EnvelopeId {
        self.deposit("alice", terms.total.minor());
        match self.ask(Command::CreateEnvelope(Box::new(terms))) {
            Outcome::Envelope(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    fn merchant(&self) -> NewMerchant {
        NewMerchant::new(self.user("rosy"), "Rosy", Some(MerchantStatus::Verified))
    }

    fn api_key(&self) -> NewApiKey {
        api_key(self.user("shop").as_str(), 7)
    }

    fn item_terms(&self) -> NewItem {
        let name = "99 roses".to_owned();
        let (merchant, category) = (self.user("rosy"), "flowers".to_owned());
        let (price, per_user_limit, starts_at, ends_at, image_url) = (fen(10), None, None, None, None);
        NewItem {
            merchant,
            name,
            category,
            price,
            stock: 5,
            per_user_limit,
            starts_at,
            ends_at,
            hold_ttl_s: 100,
            image_url,
            origin: ItemOrigin::default(),
            group_buy: None,
        }
    }

    fn sell(&self) -> ItemId {
        self.ask(Command::PutMerchant(Box::new(self.merchant())));
        match self.ask(Command::CreateItem(Box::new(self.item_terms()))) {
            Outcome::Item(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    /// An item that has three codes.
    fn sell_codes(&self) -> ItemId {
        self.ask(Command::PutMerchant(Box::new(self.merchant())));
        let origin = ItemOrigin { kind: ItemKind::Code, ..ItemOrigin::default() };
        let item = match self.ask(Command::CreateItem(Box::new(NewItem { stock: 0, origin, ..self.item_terms() }))) {
            Outcome::Item(view) => view.id,
            other => panic!("{other:?}"),
        };
        let added = self.ask(Command::AddCodes { item, codes: ["one", "two", "three"].map(Code::new).to_vec() });
        assert!(matches!(added, Outcome::Item(_)), "{added:?}");
        item
    }

    fn hold(&self) -> HoldId {
        match self.ask(Command::GrabItem { item: self.sell(), user: self.user("bob"), quantity: 2 }) {
            Outcome::Held { hold, .. } => hold,
            other => panic!("{other:?}"),
        }
    }

    /// Bob has bought two, of which the money is available after a minute.
    fn order(&self) -> OrderId {
        self.deposit("bob", 100);
        let hold = self.hold();
        let rosy = NewMerchant { settle_after_s: Some(0), ..self.merchant() };
        self.ask(Command::PutMerchant(Box::new(rosy)));
        match self.ask(Command::ClaimHold { hold, user: self.user("bob") }) {
            Outcome::Ordered { order, .. } => order,
            other => panic!("{other:?}"),
        }
    }

    fn return_step(&self) -> OrderStep {
        OrderStep::Return { user: self.user("bob"), reason: "broken".to_owned() }
    }

    fn order_asked_back(&self) -> OrderId {
        let order = self.order();
        let asked = self.ask(Command::StepOrder { order, step: Box::new(self.return_step()) });
        assert!(matches!(asked, Outcome::Order(_)), "{asked:?}");
        order
    }

    /// Alice gives bob something, and pays.
    fn gift_terms(&self) -> NewGift {
        NewGift::new("app", self.user("alice"), self.user("bob"), self.sell())
    }

    fn accept(&self) -> GiftStep {
        GiftStep::Accept { user: self.user("bob"), token: None }
    }

    /// A step of a gift of alice's that has been led on by others.
    fn step_of(&self, payer: &str, before: &[GiftStep], step: GiftStep) -> Command {
        let terms = NewGift { payer: self.user(payer), ..self.gift_terms() };
        let gift = match self.ask(Command::CreateGift(Box::new(terms))) {
            Outcome::Gift(gift) => gift.id,
            other => panic!("{other:?}"),
        };
        for step in before {
            let done = self.ask(Command::StepGift { gift, step: Box::new(step.clone()) });
            assert!(matches!(done, Outcome::Gift(_)), "{done:?}");
        }
        Command::StepGift { gift, step: Box::new(step) }
    }

    fn codes(&self, to: HandedTo) -> Vec<String> {
        let codes = self.deployment.drive(self.backend.codes(to)).expect("a read");
        codes.iter().map(|code| code.as_str().to_owned()).collect()
    }

    /// The answer in a word, its money, and whether it is positive.
    fn answered(&self, backend: &RedisBackend, command: &Command) -> Told {
        let reply = self.deployment.drive(backend.execute(command.clone(), self.once(command)));
        match reply.expect("it is answered").outcome {
            Outcome::Wallet(view) => format!("wallet {}\n", view.available),
            Outcome::Envelope(view) => {
                format!("envelope {:?} left {} refunded {}\n", view.state, view.remaining_shares, view.refunded_amount)
            }
            // Which of a mass envelope's shares it is depends on where its winner's name leads.
            Outcome::Won { amount, status, .. } => format!("won {amount} {status:?}\n"),
            Outcome::Claimed { amount, .. } => format!("claimed {amount}\n"),
            Outcome::ApiKey(key) => format!("API key {:?} {}\n", key.roles, key.deleted_at.is_some()),
            Outcome::Merchant(_) => "merchant\n".to_owned(),
            Outcome::Sales { balance, .. } => format!("{balance:?}\n"),
            Outcome::Item(view) => format!("item {} {:?}\n", view.terms.price, view.stock),
            Outcome::Held { quantity, amount, .. } => format!("held {quantity} {amount}\n"),
            Outcome::Ordered { order, .. } => format!("ordered {:?}\n", self.codes(HandedTo::Order(order))),
            Outcome::Released { .. } => "released\n".to_owned(),
            Outcome::Order(order) => format!("order {:?}\n", order.view().progress.state),
            Outcome::Gift(gift) => {
                let codes = self.codes(HandedTo::Gift(gift.id));
                format!("gift {:?} {} {:?} {codes:?}\n", gift.state, gift.amount, gift.paid_at.is_some())
            }
            other => format!("{other:?}\n"),
        }
    }

    /// All there is of the trial's people, in every list.
    fn tell(&self) -> Told {
        let mut told = String::new();
        let (deployment, backend) = (self.deployment, self.backend);
        let all = Page { limit: 1000, cursor: None };
        for name in ["alice", "bob", "carol"] {
            let user = self.user(name);
            let wallet = deployment.drive(backend.wallet(&user)).expect("a read");
            writeln!(told, "{name} has {}", wallet.available).expect("a string takes it");
            for entry in deployment.drive(backend.entries(&user, &all)).expect("a read").rows {
                let kind = format!("{:?}", entry.kind);
                let kind = kind.split('(').next().unwrap_or_default();
                writeln!(told, "  {kind} {} {}", entry.amount, entry.balance_after).expect("a string takes it");
            }
            for payout in self.payouts(name) {
                let Payout { kind, amount, state, attempts, reference, reason, .. } = payout;
                writeln!(told, "  payout {kind:?} {amount} {state:?} {attempts} {reference:?} {reason:?}")
                    .expect("a string takes it");
            }
            for view in deployment.drive(backend.sent(&user, &all)).expect("a read").rows {
                let EnvelopeView { state, remaining_shares, claimed_amount, refunded_amount, .. } = view;
                writeln!(told, "  sent {state:?} {remaining_shares} {claimed_amount} {refunded_amount}")
                    .expect("a string takes it");
            }
            for row in deployment.drive(backend.received(&user, &all)).expect("a read").rows {
                writeln!(told, "  received {} {:?}", row.grab.amount, row.grab.status).expect("a string takes it");
            }
            for role in [GiftRole::Given, GiftRole::Received] {
                for gift in deployment.drive(backend.gifts(&user, role, &all)).expect("a read").rows {
                    writeln!(told, "  gift {role:?} {:?}", gift.state).expect("a string takes it");
                }
            }
        }
        let rosy = self.user("rosy");
        let has = deployment.drive(backend.merchant_balance(&rosy)).expect("a read");
        writeln!(told, "sales {:?}", has.filter(|has| *has != MerchantBalance::default())).expect("a string takes it");
        let status = deployment.drive(backend.merchant(&rosy)).expect("a read").map(|merchant| merchant.status);
        let mine = ItemFilter { merchant: Some(rosy), ..ItemFilter::default() };
        for view in deployment.drive(backend.items(&mine, &all)).expect("a read").rows {
            writeln!(told, "item {} {:?} of {status:?}", view.terms.price, view.stock).expect("a string takes it");
            if status != Some(MerchantStatus::Verified) {
                let grab = Command::GrabItem { item: view.id, user: self.user("bob"), quantity: 1 };
                let refused = deployment.drive(backend.execute(grab, None)).expect("it is answered").outcome;
                assert!(matches!(refused, Outcome::Refused(Refusal::WrongState(_))), "{refused:?}");
            }
        }
        let shop = self.user("shop");
        for key in deployment.drive(backend.api_keys(&all)).expect("a read").rows {
            if key.owner == shop {
                writeln!(told, "API key {:?}", key.roles).expect("a string takes it");
            }
        }
        let sender = Some(self.user("alice"));
        let mine = EnvelopeFilter { sender, ..EnvelopeFilter::default() };
        let listed = deployment.drive(backend.envelopes(&mine, &all)).expect("a read").rows.len();
        writeln!(told, "{listed} envelopes").expect("a string takes it");
        let audit = deployment.drive(Backend::audit(backend)).expect("a read");
        assert!(audit.balanced(), "{audit:?}");
        assert_eq!(audit.in_flight, 0, "{audit:?}");
        told
    }
}
