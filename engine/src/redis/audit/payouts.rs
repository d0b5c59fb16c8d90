//! Payouts of a bucket: each is of what left its envelope for that user, under the id
//! that follows from it, and stands in the lists of its state. Whether what left an
//! envelope has become a payout `envelopes` and `pools` say.

use super::{FindingKind, Look, Pages};
use crate::command::ShareStatus;
use crate::payout::{CLAIM, LAPSE, Payout, PayoutCounts, PayoutKind, PayoutState, REFUND};
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::payouts::score;
use crate::redis::reply::damaged;
use crate::types::{Amount, EnvelopeId, PayoutId};

/// The states that have a list.
const LISTED: [PayoutState; 3] = [PayoutState::Due, PayoutState::Sent, PayoutState::Failed];

impl Look<'_> {
    pub(super) async fn payouts(&mut self) -> Result<()> {
        for name in self.names.payouts.sorted() {
            let Ok(id) = name.parse::<PayoutId>() else {
                self.found(FindingKind::Unreadable, format!("{name}: no payout has this id"));
                continue;
            };
            self.counts.payouts += 1;
            let looked = self.payout(id).await;
            self.told_of(&id.to_string(), looked)?;
        }
        let (layout, number) = (&self.core.layout, self.bucket.number());
        let listed = self.core.sizes(self.bucket, [layout.payouts(self.bucket)]).await?[0];
        self.expect(FindingKind::List, &format!("payouts listed in bucket {number}"), listed, self.counts.payouts);
        self.funded().await
    }

    async fn payout(&mut self, id: PayoutId) -> Result<()> {
        let payout = self.core.payout_row(id).await?.ok_or_else(|| damaged("its row"))?;
        let sum = if payout.state == PayoutState::Paid { &mut self.money.paid_out } else { &mut self.money.payable };
        *sum += payout.amount.minor();
        let (layout, member) = (&self.core.layout, [id.bytes().to_vec()]);
        let place = Some(score(payout.created_at));
        let mut wrong = Vec::new();
        if self.core.scores(self.bucket, layout.payouts(self.bucket), &member).await?[0] != place {
            wrong.push("it is missing from the list of all payouts".to_owned());
        }
        for state in LISTED {
            let stands = self.core.scores(self.bucket, layout.payouts_in(self.bucket, state), &member).await?[0];
            let expected = if state == payout.state { place } else { None };
            if stands != expected {
                let is = if expected.is_some() { "is missing from" } else { "should not be in" };
                wrong.push(format!("it {is} the list of those that are {}", state.name()));
            }
        }
        for what in wrong {
            self.found_if_still(FindingKind::List, format!("{id}: {what}"));
        }
        if let Some(what) = self.core.is_not_of(&payout).await? {
            self.found(FindingKind::Payout, format!("{id}: {what}"));
        }
        Ok(())
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
