//! Payouts of several engines in front of one deployment.

use crate::races::Two;
use crate::stand::{envelope, user};
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::command::*;
use hongbao_engine::payout::*;
use hongbao_engine::types::*;
use std::collections::BTreeSet;

const ROUNDS: usize = 20;

fn outside(funding: String, total: u64, shares: u32) -> NewEnvelope {
    NewEnvelope { outside: Outside { funding: Some(funding), payout: PayoutTo::External }, ..envelope(total, shares) }
}

fn result(payout: PayoutId, state: PayoutState) -> PayoutResult {
    PayoutResult { payout, state, reference: None, reason: None }
}

impl Two {
    fn payouts(&self, filter: &PayoutFilter) -> Vec<Payout> {
        let page = Page { limit: 1000, cursor: None };
        let listed = self.deployment.drive(self.engines[1].payouts(filter, &page)).expect("a list");
        listed.rows.into_iter().map(|view| view.payout).collect()
    }

    fn assert_balanced(&self) -> hongbao_engine::backend::Audit {
        let audit = self.deployment.drive(Backend::audit(&*self.engines[0])).expect("a read");
        assert!(audit.balanced() && audit.in_flight == 0, "{audit:?}");
        audit
    }
}

/// Of two ends that are told at once the first one stays, and each payout is counted once.
#[test]
fn ends_of_payouts_by_two_engines() {
    let Some(two) = Two::new(51) else { return };
    for round in 0..ROUNDS {
        let id = two.give(NewEnvelope { auto_claim: true, ..outside(format!("f{round}"), 100, 4) });
        let names: Vec<UserId> = (0..4).map(|n| user(&format!("r{round}u{n}"))).collect();
        two.all_at_once(names.iter().map(|user| Command::Grab { envelope: id, user: user.clone() }).collect());
        two.deployment.settle(&two.engines[0]);
        let made = two.payouts(&PayoutFilter { envelope: Some(id), ..PayoutFilter::default() });
        assert_eq!(made.iter().map(|payout| &payout.user).collect::<BTreeSet<_>>(), names.iter().collect());
        let told = |state| Command::PayoutResults(made.iter().map(|payout| result(payout.id, state)).collect());
        let ends = [PayoutState::Paid, PayoutState::Failed];
        let answers = two.all_at_once((0..6).map(|n| told(ends[n % 2])).collect());
        let after = two.payouts(&PayoutFilter { envelope: Some(id), ..PayoutFilter::default() });
        for (n, outcome) in answers.into_iter().enumerate() {
            let Outcome::Payouts(answers) = outcome else { panic!("{outcome:?}") };
            for (answer, payout) in answers.into_iter().zip(&after) {
                let stands = payout.state;
                let expected =
                    if stands == ends[n % 2] { PayoutAnswer::Stands(stands) } else { PayoutAnswer::WrongState(stands) };
                assert_eq!((answer, payout.attempts), (expected, 1));
            }
        }
        two.assert_balanced();
    }
    let paid: u64 = two
        .payouts(&PayoutFilter::default())
        .iter()
        .filter(|it| it.state == PayoutState::Paid)
        .map(|it| it.amount.minor())
        .sum();
    assert_eq!(two.assert_balanced().paid_out, paid);
}

/// One funding makes one envelope, by whichever engine it is asked for.
#[test]
fn one_funding_by_two_engines() {
    let Some(two) = Two::new(52) else { return };
    for round in 0..ROUNDS {
        let create = || Command::CreateEnvelope(Box::new(outside(format!("f{round}"), 100, 1)));
        let made = two.all_at_once((0..6).map(|_| create()).collect());
        let ids: BTreeSet<String> = made
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Envelope(view) => view.id.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(two.assert_balanced().deposited, 100 * (round as u64 + 1));
    }
}

/// What is open when an envelope is cancelled goes back once.
#[test]
fn a_refund_against_grabs_by_two_engines() {
    let Some(two) = Two::new(53) else { return };
    for round in 0..ROUNDS {
        let id = two.give(NewEnvelope { auto_claim: true, ..outside(format!("f{round}"), 80, 8) });
        let mut commands: Vec<Command> =
            (0..6).map(|n| Command::Grab { envelope: id, user: user(&format!("r{round}u{n}")) }).collect();
        commands.insert(3, Command::Cancel { envelope: id });
        commands.insert(5, Command::Cancel { envelope: id });
        let won = two.all_at_once(commands).iter().filter(|outcome| matches!(outcome, Outcome::Won { .. })).count();
        two.deployment.settle(&two.engines[0]);
        let made = two.payouts(&PayoutFilter { envelope: Some(id), ..PayoutFilter::default() });
        let of = |kind| made.iter().filter(move |payout| payout.kind == kind);
        assert_eq!((of(PayoutKind::Win).count(), of(PayoutKind::Refund).count()), (won, 1));
        assert_eq!(made.iter().map(|payout| payout.amount.minor()).sum::<u64>(), 80);
        two.assert_balanced();
    }
}
