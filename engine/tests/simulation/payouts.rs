//! Payouts as the model sees them. Their ids it learns from the first list that
//! tells them: what it knows of each is what it is for.

use crate::model::{Model, Moment, When};
use hongbao_engine::backend::EntryKind;
use hongbao_engine::payout::{Payout, PayoutAnswer, PayoutKind, PayoutResult, PayoutState, PayoutTo, PayoutView};
use hongbao_engine::types::{Amount, EnvelopeId, PayoutId, Timestamp, UserId};

#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) id: Option<PayoutId>,
    pub(crate) envelope: EnvelopeId,
    pub(crate) kind: PayoutKind,
    pub(crate) user: UserId,
    pub(crate) amount: u64,
    pub(crate) state: PayoutState,
    attempts: u32,
    reference: Option<String>,
    reason: Option<String>,
    created: When,
    changed: When,
    /// The last record that changed it.
    pub(crate) lsn: u64,
}

impl Owed {
    /// Whether a view tells this payout. Times count as far as they are known.
    fn is(&self, view: &PayoutView) -> bool {
        let Payout { id, kind, user, amount, envelope, state, attempts, reference, reason, created_at, changed_at } =
            &view.payout;
        self.id.is_none_or(|known| known == *id)
            && (self.kind, &self.user, self.amount, self.envelope) == (*kind, user, amount.minor(), *envelope)
            && (self.state, self.attempts) == (*state, *attempts)
            && (&self.reference, &self.reason) == (reference, reason)
            && self.created.holds(*created_at)
            && self.changed.holds(*changed_at)
    }

    /// What came of it, as it is told now.
    fn told(&mut self, result: &PayoutResult, now: Timestamp, lsn: u64) -> PayoutAnswer {
        use PayoutState::{Due, Failed, Paid, Sent};
        let says_more = |told: &Option<String>, known: &Option<String>| told.is_some() && told != known;
        let is_more = says_more(&result.reference, &self.reference) || says_more(&result.reason, &self.reason);
        match (self.state, result.state) {
            (from, to) if from == to && !is_more => return PayoutAnswer::Stands(from),
            (Due, Sent | Paid | Failed) => {
                self.attempts += 1;
                (self.reference, self.reason) = (None, None);
            }
            (Sent, Paid | Failed) | (Failed, Due) => {}
            (from, _) => return PayoutAnswer::WrongState(from),
        }
        self.state = result.state;
        for (told, known) in [(&result.reference, &mut self.reference), (&result.reason, &mut self.reason)] {
            if told.is_some() {
                known.clone_from(told);
            }
        }
        (self.changed, self.lsn) = (When::at(now), lsn);
        PayoutAnswer::Stands(result.state)
    }
}

impl Model {
    /// Money leaves an envelope: for a wallet, or outside, whichever its terms say.
    pub(crate) fn pay(&mut self, envelope: EnvelopeId, user: &UserId, kind: EntryKind, amount: u64, moment: Moment) {
        let outside = &self.envelopes[&envelope].terms.outside;
        let is_claim = matches!(kind, EntryKind::Claim(_));
        let is_outside = if is_claim { outside.payout == PayoutTo::External } else { outside.funding.is_some() };
        if !is_outside {
            return self.move_money(user, kind, amount, moment);
        }
        self.payouts.push(Owed {
            id: None,
            envelope,
            kind: if is_claim { PayoutKind::Win } else { PayoutKind::Refund },
            user: user.clone(),
            amount,
            state: PayoutState::Due,
            attempts: 0,
            reference: None,
            reason: None,
            created: moment.when,
            changed: moment.when,
            lsn: moment.records.first,
        });
    }

    /// What results come to, and the record that what they tell of stands in.
    pub(crate) fn tell_results(
        &mut self,
        results: &[PayoutResult],
        now: Timestamp,
        lsn: u64,
    ) -> (Vec<PayoutAnswer>, bool, u64) {
        let (mut changes, mut needs) = (false, 0);
        let mut answers = Vec::new();
        for result in results {
            let Some(owed) = self.payouts.iter_mut().find(|owed| owed.id == Some(result.payout)) else {
                answers.push(PayoutAnswer::NotFound);
                continue;
            };
            answers.push(owed.told(result, now, lsn));
            changes |= owed.lsn == lsn;
            needs = needs.max(owed.lsn);
        }
        (answers, changes, needs)
    }

    /// From now on every payout has the id and the times that are told here. Says
    /// what is wrong if these are not all of them.
    pub(crate) fn learn_payouts(&mut self, views: &[PayoutView]) -> Result<(), String> {
        let mut left: Vec<&mut Owed> = self.payouts.iter_mut().collect();
        for view in views {
            let envelope = &self.envelopes[&view.payout.envelope].terms;
            if (&view.owner, &view.funding_reference) != (&envelope.owner, &envelope.outside.funding) {
                return Err(format!("{view:?} is not of its envelope's owner and funding"));
            }
            let Some(found) = left.iter().position(|owed| owed.is(view)) else {
                return Err(format!("{view:?} should be one of {left:?}"));
            };
            let owed = left.swap_remove(found);
            owed.id = Some(view.payout.id);
            (owed.created, owed.changed) = (When::at(view.payout.created_at), When::at(view.payout.changed_at));
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are missing")) }
    }

    /// A crash left it open until `to` when payouts were made.
    pub(crate) fn widen_payouts(&mut self, to: Timestamp) {
        for owed in &mut self.payouts {
            for when in [&mut owed.created, &mut owed.changed] {
                if when.from != when.to {
                    when.to = to;
                }
            }
        }
    }

    /// A payout that was told, as it is told now.
    pub(crate) fn payout(&self, owed: &Owed) -> PayoutView {
        let envelope = &self.envelopes[&owed.envelope].terms;
        let payout = Payout {
            id: owed.id.expect("it was told before"),
            kind: owed.kind,
            user: owed.user.clone(),
            amount: Amount::new(owed.amount).expect("it was an amount"),
            envelope: owed.envelope,
            state: owed.state,
            attempts: owed.attempts,
            reference: owed.reference.clone(),
            reason: owed.reason.clone(),
            created_at: owed.created.from,
            changed_at: owed.changed.from,
        };
        PayoutView { payout, owner: envelope.owner.clone(), funding_reference: envelope.outside.funding.clone() }
    }

    /// Money owed outside, and money paid there.
    pub(crate) fn payable_and_paid(&self) -> (u64, u64) {
        let sum = |is_paid: bool| {
            self.payouts
                .iter()
                .filter(|owed| (owed.state == PayoutState::Paid) == is_paid)
                .map(|owed| owed.amount)
                .sum()
        };
        (sum(false), sum(true))
    }

    /// I5: what became of an envelope's money is in payouts once, or in none.
    pub(crate) fn check_payouts_of(&self, id: EnvelopeId) {
        let envelope = &self.envelopes[&id];
        let sum = |kind| {
            let of_kind = self.payouts.iter().filter(|owed| (owed.envelope, owed.kind) == (id, kind));
            of_kind.map(|owed| owed.amount).sum::<u64>()
        };
        let outside = &envelope.terms.outside;
        let won = if outside.payout == PayoutTo::External { envelope.claimed() } else { 0 };
        let back = if outside.funding.is_some() { envelope.refunded } else { 0 };
        assert_eq!((sum(PayoutKind::Win), sum(PayoutKind::Refund)), (won, back), "payouts of {id}");
    }
}
