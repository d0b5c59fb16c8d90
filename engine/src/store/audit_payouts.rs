//! The offline audit of payouts: each is made of what left its envelope, stands in
//! its lists, and all together they are what is payable and what was paid.
//!
//! **Invariant:** an envelope's payouts are found by its own list, and every payout
//! is in the list of an envelope.

use super::audit::{Auditor, Taken};
use super::keys::{self, KeyRange, Table};
use super::values::EnvelopeRow;
use super::{StoreError, damaged, reads, values};
use crate::payout::{Payout, PayoutCounts, PayoutKind, PayoutState, PayoutTo};
use crate::types::{Amount, UserId};
use std::hash::BuildHasher;

/// A number of who gets how much, the same in every process. Those of all shares
/// claimed add up to those of all their payouts.
pub(super) fn fingerprint(user: &UserId, amount: Amount) -> u64 {
    foldhash::fast::FixedState::default().hash_one((user, amount))
}

impl Auditor<'_> {
    /// I1 and I5 for the payouts of one envelope.
    pub(super) fn payouts_of(&mut self, envelope: &EnvelopeRow, taken: &Taken) -> Result<(), StoreError> {
        let id = envelope.created.id;
        let (mut won, mut refunded, mut winners) = (0, 0, 0u64);
        for row in self.scan(Table::PayoutsOfEnvelope, &KeyRange::prefix(id.bytes())) {
            let (key, _) = row?;
            let payout_id: [u8; 16] = keys::tail(&key).ok_or_else(|| damaged(Table::PayoutsOfEnvelope, &key))?;
            let payout = self.snapshot.get(Table::Payouts, &payout_id)?;
            let Some(payout) = reads::cold::<Payout>(Table::Payouts, &payout_id, payout)? else {
                self.found(format!("{id}: a payout is in its list and not on record"));
                continue;
            };
            self.audited.payouts += 1;
            if payout.envelope != id {
                self.found(format!("{}: it is in the list of {id} and out of {}", payout.id, payout.envelope));
            }
            match payout.kind {
                PayoutKind::Win => {
                    won += payout.amount.minor();
                    winners = winners.wrapping_add(fingerprint(&payout.user, payout.amount));
                }
                PayoutKind::Refund => {
                    refunded += payout.amount.minor();
                    if payout.user != envelope.created.terms.sender {
                        self.found(format!("{}: it is a refund of {id} and not to its sender", payout.id));
                    }
                }
            }
        }
        let outside = &envelope.created.terms.outside;
        let (claimed, claimants) = match outside.payout {
            PayoutTo::External => (taken.claimed, taken.claimants),
            PayoutTo::Wallet => (0, 0),
        };
        self.expect(&format!("{id}: money in payouts to its winners"), won, claimed);
        if won == claimed && winners != claimants {
            self.found(format!("{id}: its payouts do not go to those who claimed, or not what they claimed"));
        }
        let gone_back =
            [envelope.ended.as_ref().map(|(_, ended)| ended.refund), envelope.lapsed.map(|(_, lapse)| lapse)];
        let gone_back = gone_back.into_iter().flatten().map(Amount::minor).sum();
        let expected = if outside.funding.is_some() { gone_back } else { 0 };
        self.expect(&format!("{id}: money in payouts to its sender"), refunded, expected);
        Ok(())
    }

    /// The payouts' part of I1, and their lists.
    pub(super) fn payouts(&mut self) -> Result<(), StoreError> {
        let mut counts = PayoutCounts::default();
        let (mut payable, mut paid) = (0, 0);
        for row in self.scan(Table::Payouts, &KeyRange::all()) {
            let (key, value) = row?;
            let payout: Payout = values::cold(&value).ok_or_else(|| damaged(Table::Payouts, &key))?;
            let id = payout.id;
            if key != *id.bytes() {
                self.found(format!("{id}: it stands under another id"));
            }
            counts[payout.state as usize] += 1;
            let sum = if payout.state == PayoutState::Paid { &mut paid } else { &mut payable };
            *sum += payout.amount.minor();
            for (table, place) in [
                (Table::PayoutsByState, keys::payout_in_state(payout.state, payout.created_at, id)),
                (Table::PayoutsOfEnvelope, keys::payout_of_envelope(payout.envelope, payout.created_at, id)),
            ] {
                if !self.has(table, &place)? {
                    self.found(format!("{id}: it is missing from the list `{}`", table.name()));
                }
            }
        }
        let totals = self.position.totals;
        self.expect("money in payouts not paid", totals.payable, payable);
        self.expect("money paid out", totals.paid_out, paid);
        for (state, (told, rows)) in PayoutState::ALL.iter().zip(self.position.payouts.into_iter().zip(counts)) {
            self.expect(&format!("payouts that are {}", state.name()), told, rows);
        }
        let all = counts.iter().sum();
        for (table, told) in [(Table::PayoutsByState, "by state"), (Table::PayoutsOfEnvelope, "of envelopes")] {
            let rows = self.count(table)?;
            self.expect(&format!("rows in the lists of payouts {told}"), rows, all);
        }
        self.expect("payouts in the lists of envelopes that there are", self.audited.payouts, all);
        Ok(())
    }
}
