//! Payouts of a bucket: each is of what left its envelope for that user, under the id
//! that follows from it, and stands in the lists of its state. Whether what left an
//! envelope has become a payout `envelopes` and `pools` say.

use super::{FindingKind, Look, Pages};
use crate::command::ShareStatus;
use crate::payout::{CLAIM, LAPSE, Payout, PayoutCounts, PayoutKind, PayoutState, REFUND};
use crate::redis::backend::{ASKED_AT_ONCE, Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::payouts::score;
use crate::redis::reply::damaged;
use crate::types::{Amount, EnvelopeId, PayoutId};
use futures_util::future::{join, join_all, try_join_all};
use std::sync::Arc;

/// The states that have a list.
const LISTED: [PayoutState; 3] = [PayoutState::Due, PayoutState::Sent, PayoutState::Failed];

/// What is found about one payout.
struct PayoutLook {
    payout: Payout,
    /// In which lists it does not stand as it should.
    misplaced: Vec<String>,
    /// Why it cannot be what it says that it is, if it cannot.
    is_not_of: Option<String>,
}

impl Look<'_> {
    pub(super) async fn payouts(&mut self) -> Result<()> {
        let mut ids = Vec::new();
        for name in self.names.payouts.sorted() {
            match name.parse::<PayoutId>() {
                Ok(id) => ids.push(id),
                Err(_) => self.found(FindingKind::Unreadable, format!("{name}: no payout has this id")),
            }
        }
        let core = Arc::clone(&self.core);
        for ids in ids.chunks(ASKED_AT_ONCE) {
            let asked = ids.iter().map(|&id| core.look_at_payout(self.bucket, id));
            for (id, looked) in ids.iter().zip(join_all(asked).await) {
                self.counts.payouts += 1;
                let Some(looked) = self.told_of(&id.to_string(), looked)? else { continue };
                let is_paid = looked.payout.state == PayoutState::Paid;
                let sum = if is_paid { &mut self.money.paid_out } else { &mut self.money.payable };
                *sum += looked.payout.amount.minor();
                for what in looked.misplaced {
                    self.found_if_still(FindingKind::List, format!("{id}: {what}"));
                }
                if let Some(what) = looked.is_not_of {
                    self.found(FindingKind::Payout, format!("{id}: {what}"));
                }
            }
        }
        let (layout, number) = (&self.core.layout, self.bucket.number());
        let listed = self.core.sizes(self.bucket, [layout.payouts(self.bucket)]).await?[0];
        self.expect(FindingKind::List, &format!("payouts listed in bucket {number}"), listed, self.counts.payouts);
        self.funded().await
    }

    /// What senders of the bucket had funded from outside.
    async fn funded(&mut self) -> Result<()> {
        let core = self.core.clone();
        let mut pages = Pages::of(&core, self.bucket, core.layout.funded(self.bucket));
        let mut seen = std::collections::HashSet::new();
        while let Some(page) = pages.next().await? {
            for (envelope, total) in page {
                if !seen.insert(envelope) {
                    continue;
                }
                let total = std::str::from_utf8(&total).ok().and_then(|text| text.parse::<u64>().ok());
                self.money.deposited += total.ok_or_else(|| damaged("what an envelope was funded with"))?;
            }
        }
        Ok(())
    }
}

impl Core {
    async fn look_at_payout(&self, bucket: Bucket, id: PayoutId) -> Result<PayoutLook> {
        let payout = self.payout_row(id).await?.ok_or_else(|| damaged("its row"))?;
        let (layout, place) = (&self.layout, Some(score(payout.created_at)));
        let all = [("payouts", layout.payouts(bucket), place)];
        let of_states = LISTED.map(|state| {
            let place = if state == payout.state { place } else { None };
            (state.name(), layout.payouts_in(bucket, state), place)
        });
        let lists = all.into_iter().chain(of_states);
        let stands = lists.map(|(list, key, expected)| async move {
            let stands = self.scores(bucket, key, &[id.bytes().to_vec()]).await?[0];
            let is = if expected.is_some() { "is missing from" } else { "should not be in" };
            Result::Ok((stands != expected).then(|| format!("it {is} the list of {list}")))
        });
        let (stands, is_not_of) = join(try_join_all(stands), self.is_not_of(&payout)).await;
        let misplaced = stands?.into_iter().flatten().collect();
        Ok(PayoutLook { is_not_of: is_not_of?, payout, misplaced })
    }

    /// Why a payout cannot be what it says that it is, if it cannot.
    async fn is_not_of(&self, payout: &Payout) -> Result<Option<String>> {
        let Payout { id, kind, user, amount, envelope, .. } = payout;
        let movements: &[u8] = match kind {
            PayoutKind::Win => &[CLAIM],
            PayoutKind::Refund => &[REFUND, LAPSE],
        };
        if !movements.iter().any(|&movement| self.payout_ids(*envelope, movement, user).contains(id)) {
            return Ok(Some(format!("nothing of {envelope} goes to {user} under this id")));
        }
        Ok(match kind {
            PayoutKind::Win => {
                let grab = self.grab_with_row(*envelope, user).await?.and_then(|(_, grab)| grab);
                let claimed = grab.filter(|grab| grab.status == ShareStatus::Claimed).map(|grab| grab.amount);
                (claimed != Some(*amount)).then(|| {
                    let claimed = claimed.map_or(0, Amount::minor);
                    format!("it is {amount} and {user} has claimed {claimed} of {envelope}")
                })
            }
            PayoutKind::Refund => {
                let sender = self.created(*envelope).await?.map(|created| created.terms.sender);
                (sender.as_ref() != Some(user)).then(|| format!("{user} is not the sender of {envelope}"))
            }
        })
    }

    /// How many of a bucket's payouts stand in each state.
    pub(in crate::redis) async fn count_payouts(&self, bucket: Bucket) -> Result<PayoutCounts> {
        let layout = &self.layout;
        let [due, sent, failed] = LISTED.map(|state| layout.payouts_in(bucket, state));
        let [all, due, sent, failed] = self.sizes(bucket, [layout.payouts(bucket), due, sent, failed]).await?;
        let paid = all.saturating_sub(due + sent + failed);
        Ok([due, sent, paid, failed])
    }

    /// What an envelope was funded with from outside, as its sender's bucket has it.
    pub(super) async fn funded_with(&self, bucket: Bucket, envelope: EnvelopeId) -> Result<Option<Amount>> {
        let row = self.fields(bucket, self.layout.funded(bucket), &[envelope.bytes().to_vec()]).await?;
        row.maybe(0).is_some().then(|| row.amount(0)).transpose()
    }
}
