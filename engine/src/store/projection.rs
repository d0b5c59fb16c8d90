//! From events to rows, purely: [`rows_of`] looks nothing up, because events
//! carry post-images. The same function feeds the projector, which writes the
//! rows, and the overlay of a read, which lays them over what is written.
//!
//! **Invariant:** projecting a record twice gives the same rows as once, so a
//! replay from any earlier position is harmless to every table; only the
//! [`Position`] adds up, and it stands in one row with the LSN it holds for.

use super::keys::{self, Bytes, EndPart, MerchantPart, Table};
use super::values::{self, GroupJoin, WalletRow};
use crate::backend::{Audit, EntryKind, OnceKey};
use crate::code::CodeDigest;
use crate::command::Outcome;
use crate::event::{
    EnvelopeRedacted, Event, GroupMove, GroupOrdered, MerchantMove, MerchantMoved, PaymentChanged, Record, Remembered,
    WalletMoved,
};
use crate::gift::GiftRole;
use crate::group::GroupState;
use crate::payment::PaymentState;
use crate::payout::{Payout, PayoutCounts, PayoutState};
use crate::relation::{Relation, RelationRow, RelationSide};
use crate::types::{Amount, Lsn, Timestamp};
use serde::{Deserialize, Serialize};

/// How far the journal is projected, and what adds up over all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last record projected.
    pub applied: Lsn,
    /// The latest time of any record so far, which need not be the last one's:
    /// shards tell the time each for itself. A clock before it has gone back.
    pub at: Timestamp,
    /// How far a test deployment's clock was moved forward in all.
    pub advanced_ms: u64,
    /// Where all money is.
    pub totals: Audit,
    /// How many payouts stand in each state.
    #[serde(skip)]
    pub payouts: PayoutCounts,
}

/// What stands behind the rest of a position, if there was ever need of it.
type Behind = (PayoutCounts, u64);

impl Position {
    /// Its bytes. Where there never was a payout they are what they were before
    /// there could be any.
    pub(crate) fn put(&self) -> Bytes {
        let behind: Behind = (self.payouts, self.totals.refunding);
        match behind {
            (_, 1..) => values::put_cold(&(self, behind)),
            (payouts, 0) if payouts != PayoutCounts::default() => values::put_cold(&(self, payouts)),
            _ => values::put_cold(self),
        }
    }

    /// What [`Position::put`] wrote.
    pub(crate) fn read(bytes: &[u8]) -> Option<Position> {
        let with = |mut position: Position, (payouts, refunding): Behind| {
            position.totals.refunding = refunding;
            Position { payouts, ..position }
        };
        values::cold(bytes)
            .or_else(|| values::cold(bytes).map(|(position, payouts)| with(position, (payouts, 0))))
            .or_else(|| values::cold(bytes).map(|(position, behind)| with(position, behind)))
    }

    /// Moves past `record`, which must be the next one.
    ///
    /// # Errors
    /// Why the record cannot be right: its debits are not its credits, or money
    /// would leave a place that does not have it. The position is then useless.
    pub(crate) fn advance(&mut self, lsn: Lsn, record: &Record) -> Result<(), &'static str> {
        if lsn != self.applied.next() {
            return Err("it is not the one that follows the last projected; a part of the journal is missing");
        }
        if !record.balances() {
            return Err("its debits do not equal its credits");
        }
        self.applied = lsn;
        self.at = self.at.max(record.at);
        for event in &record.events {
            self.add(event);
        }
        // The order of a record's events does not matter: only at its end must
        // every place hold what was taken from it.
        let Audit { deposited, withdrawn, paid_out, wallets, escrowed, payable, .. } = self.totals;
        let Audit { refunding, merchants, platform, .. } = self.totals;
        if [deposited, withdrawn, paid_out, wallets, escrowed, payable, refunding, merchants, platform]
            .iter()
            .any(|&place| place > i64::MAX as u64)
        {
            return Err("it takes money from a place that does not hold it");
        }
        Ok(())
    }

    fn add(&mut self, event: &Event) {
        let totals = &mut self.totals;
        let into = |place: &mut u64, amount: Amount| *place = place.wrapping_add(amount.minor());
        let out_of = |place: &mut u64, amount: Amount| *place = place.wrapping_sub(amount.minor());
        match event {
            Event::WalletMoved(moved) => {
                match moved.kind {
                    EntryKind::Deposit(_) => into(&mut totals.deposited, moved.amount),
                    EntryKind::Withdrawal(_) => into(&mut totals.withdrawn, moved.amount),
                    EntryKind::EnvelopeCreated(_)
                    | EntryKind::Claim(_)
                    | EntryKind::Refund(_)
                    | EntryKind::Lapse(_)
                    | EntryKind::Order(_)
                    | EntryKind::GiftPaid(_)
                    | EntryKind::GiftRefund(_)
                    | EntryKind::OrderRefund(_)
                    | EntryKind::GroupPaid(_)
                    | EntryKind::GroupRefund(_) => {}
                }
                if moved.is_credit() {
                    into(&mut totals.wallets, moved.amount);
                } else {
                    out_of(&mut totals.wallets, moved.amount);
                }
            }
            Event::EnvelopeCreated(created) => into(&mut totals.escrowed, created.terms.total),
            Event::Claimed(claimed) => out_of(&mut totals.escrowed, claimed.amount),
            Event::EnvelopeEnded(ended) => out_of(&mut totals.escrowed, ended.refund),
            Event::EnvelopeLapsed { amount, .. } => out_of(&mut totals.escrowed, *amount),
            Event::HoldEnded(ended) => {
                if ended.merchant.is_some() {
                    into(&mut totals.merchants, ended.hold.amount);
                }
            }
            Event::EnvelopeOutside(outside) => into(&mut totals.deposited, outside.deposited),
            Event::PayoutMade(made) => {
                into(&mut totals.payable, made.amount);
                self.payouts[PayoutState::Due as usize] += 1;
            }
            Event::PayoutChanged(changed) => {
                if changed.payout.state == PayoutState::Paid {
                    out_of(&mut totals.payable, changed.payout.amount);
                    into(&mut totals.paid_out, changed.payout.amount);
                }
                let [was, now] = [changed.was, changed.payout.state].map(|state| state as usize);
                self.payouts[was] = self.payouts[was].wrapping_sub(1);
                self.payouts[now] = self.payouts[now].wrapping_add(1);
            }
            Event::GiftChanged(changed) => {
                let (gift, merchant) = changed.moved();
                totals.escrowed = totals.escrowed.wrapping_add_signed(gift);
                totals.merchants = totals.merchants.wrapping_add_signed(merchant);
            }
            Event::MerchantMoved(moved) => match moved.kind {
                MerchantMove::Sold { .. } => {}
                MerchantMove::Settled { commission, .. } => {
                    out_of(&mut totals.merchants, commission);
                    into(&mut totals.platform, commission);
                }
                MerchantMove::Withdrawn(_) => {
                    out_of(&mut totals.merchants, moved.amount);
                    into(&mut totals.withdrawn, moved.amount);
                }
                MerchantMove::Refunded { .. } => out_of(&mut totals.merchants, moved.amount),
            },
            Event::PaymentChanged(changed) => {
                let moves = changed.moves();
                into(&mut totals.deposited, moves.deposited);
                totals.refunding = totals.refunding.wrapping_add_signed(moves.refunding);
                into(&mut totals.withdrawn, moves.withdrawn);
            }
            Event::GroupChanged(changed) => totals.escrowed = totals.escrowed.wrapping_add_signed(changed.moved()),
            Event::GroupOrdered(ordered) => {
                out_of(&mut totals.escrowed, ordered.order.amount);
                into(&mut totals.merchants, ordered.order.amount);
            }
            Event::ClockAdvanced { by_ms } => self.advanced_ms = self.advanced_ms.saturating_add(*by_ms),
            Event::Grabbed(_)
            | Event::EnvelopeSettled(_)
            | Event::MerchantPut(_)
            | Event::ItemPut(_)
            | Event::Held(_)
            | Event::Remembered(_)
            | Event::ApiKeyPut(_)
            | Event::EnvelopeRedacted(_)
            | Event::AddressPut(_)
            | Event::AddressErased(_)
            | Event::CodesAdded(_)
            | Event::CodesHanded(_)
            | Event::OrderChanged(_)
            | Event::RelationsPut(_)
            | Event::GiftEnvelopeMade(_) => {}
        }
    }
}

/// A movement of a merchant's money makes at most so many entries.
const MERCHANT_ENTRIES_MAX: u32 = 2;

/// Where rows go.
pub(crate) trait RowSink {
    /// Whether rows of `table` are of interest; others need not be made.
    fn wants(&self, table: Table) -> bool;
    /// Takes a row; without a value it is deleted. The last one under a key counts.
    fn put(&mut self, table: Table, key: Bytes, value: Option<Bytes>);
}

/// The rows that `record` writes, in order.
pub(crate) fn rows_of(lsn: Lsn, record: &Record, sink: &mut impl RowSink) {
    for (index, event) in record.events.iter().enumerate() {
        rows_of_event(lsn, index as u32, record.at, event, sink);
    }
}

fn rows_of_event(lsn: Lsn, index: u32, at: Timestamp, event: &Event, sink: &mut impl RowSink) {
    macro_rules! put {
        ($table:ident, $key:expr, $value:expr) => {
            if sink.wants(Table::$table) {
                sink.put(Table::$table, $key, $value);
            }
        };
    }
    let nothing = || Some(Bytes::from([]));
    match event {
        Event::WalletMoved(WalletMoved { user, kind, amount, available_after }) => {
            let wallet = WalletRow { available: *available_after, held: Amount::ZERO };
            put!(Wallets, keys::user(user), Some(values::put_wallet(wallet)));
            put!(Entries, keys::entry(user, lsn, index), Some(values::put_entry(at, kind, *amount, *available_after)));
        }
        Event::EnvelopeCreated(created) => {
            let id = created.id;
            put!(Envelopes, keys::id(id.bytes()), Some(values::put_cold(created)));
            put!(LiveEnvelopes, keys::id(id.bytes()), nothing());
            put!(Sent, keys::of_user_at(&created.terms.sender, created.created_at, id), nothing());
            put!(EnvelopesByTime, keys::made_at(created.created_at, id.bytes()), nothing());
        }
        Event::Grabbed(e) => {
            put!(Wins, keys::win(e.envelope, e.share), Some(values::put_win(&e.user, e.amount, at, None)));
            put!(Received, keys::of_user_at(&e.user, at, e.envelope), Some(values::put_share(e.share)));
        }
        Event::Claimed(e) => {
            let row = || values::put_win(&e.user, e.amount, e.grabbed_at, Some(at));
            put!(Wins, keys::win(e.envelope, e.share), Some(row()));
        }
        Event::EnvelopeEnded(ended) => {
            let key = keys::envelope_end(ended.envelope, EndPart::Ended);
            put!(EnvelopeEnds, key, Some(values::put_cold(&(at, ended))));
        }
        Event::EnvelopeLapsed { envelope, amount } => {
            let key = keys::envelope_end(*envelope, EndPart::Lapsed);
            put!(EnvelopeEnds, key, Some(values::put_cold(&(at, amount))));
        }
        Event::EnvelopeSettled(settled) => {
            let key = keys::envelope_end(settled.envelope, EndPart::Settled);
            put!(EnvelopeEnds, key, Some(values::put_cold(&(at, settled))));
            put!(LiveEnvelopes, keys::id(settled.envelope.bytes()), None);
        }
        Event::MerchantPut(merchant) => {
            put!(Merchants, keys::merchant(&merchant.id, MerchantPart::Terms), Some(values::put_cold(merchant)));
        }
        Event::ItemPut(item) => {
            put!(Items, keys::id(item.id.bytes()), Some(values::put_cold(item)));
            put!(ItemsByTime, keys::made_at(item.created_at, item.id.bytes()), nothing());
        }
        Event::Held(e) => {
            put!(Holds, keys::id(e.hold.bytes()), Some(values::put_cold(&e.view(at))));
            put!(LiveHolds, keys::live_hold(e.item, e.hold), nothing());
            put!(ItemUnits, keys::units(e.item, &e.user), values::put_units(e.units_after));
        }
        Event::HoldEnded(ended) => {
            let hold = &ended.hold;
            put!(Holds, keys::id(hold.id.bytes()), Some(values::put_cold(hold)));
            put!(LiveHolds, keys::live_hold(hold.item, hold.id), None);
            put!(ItemUnits, keys::units(hold.item, &hold.user), values::put_units(ended.units_after));
            if let (Some(order), Some((merchant, owed_after))) = (ended.order(at), &ended.merchant) {
                put!(Orders, keys::order(order.id), Some(values::put_cold(&order)));
                put!(Merchants, keys::merchant(merchant, MerchantPart::Owed), Some(values::put_amount(*owed_after)));
            }
        }
        Event::Remembered(memo) => {
            put!(Memos, keys::id(memo.key.bytes()), Some(put_memo(memo)));
            if let Some(expires_at) = memo.expires_at {
                put!(MemoExpiries, keys::memo_expiry(expires_at, memo.key), nothing());
            }
        }
        Event::ClockAdvanced { .. } => {}
        Event::ApiKeyPut(key) => put!(ApiKeys, keys::id(key.id.bytes()), Some(values::put_cold(key))),
        Event::EnvelopeOutside(outside) => {
            put!(EnvelopeEnds, keys::envelope_end(outside.envelope, EndPart::Outside), Some(values::put_cold(outside)));
        }
        Event::EnvelopeRedacted(event) => {
            let EnvelopeRedacted { created, redaction } = &**event;
            put!(Envelopes, keys::id(created.id.bytes()), Some(values::put_cold(created)));
            let key = keys::envelope_end(created.id, EndPart::Redacted);
            put!(EnvelopeEnds, key, Some(values::put_cold(redaction)));
        }
        Event::PayoutMade(made) => {
            let Payout { id, envelope, state, .. } = made.payout(at);
            put!(Payouts, keys::id(id.bytes()), Some(values::put_cold(&made.payout(at))));
            put!(PayoutsByState, keys::payout_in_state(state, at, id), nothing());
            put!(PayoutsOfEnvelope, keys::payout_of_envelope(envelope, at, id), nothing());
        }
        Event::PayoutChanged(changed) => {
            let payout = &changed.payout;
            let place = |state| keys::payout_in_state(state, payout.created_at, payout.id);
            put!(Payouts, keys::id(payout.id.bytes()), Some(values::put_cold(payout)));
            put!(PayoutsByState, place(changed.was), None);
            put!(PayoutsByState, place(payout.state), nothing());
        }
        Event::AddressPut(put) => {
            let key = || keys::id(put.gift.bytes());
            put!(Addresses, key(), Some(values::put_cold(&put.mark)));
            if let Some(sealed) = &put.sealed {
                put!(SealedAddresses, key(), Some(Bytes::from(sealed.as_slice())));
            }
        }
        Event::AddressErased(erased) => {
            let key = || keys::id(erased.gift.bytes());
            put!(Addresses, key(), erased.kept.as_ref().map(values::put_cold));
            put!(SealedAddresses, key(), None);
        }
        Event::GiftChanged(changed) => {
            let gift = &changed.gift;
            let place = |user, role| keys::gift_of_user(user, role, gift.created_at, gift.id);
            put!(Gifts, keys::id(gift.id.bytes()), Some(values::put_cold(gift)));
            put!(LiveGifts, keys::id(gift.id.bytes()), gift.state.has_deadline().then(|| Bytes::from([])));
            put!(GiftsOfUser, place(&gift.giver, GiftRole::Given), nothing());
            if let Some(recipient) = &gift.recipient {
                put!(GiftsOfUser, place(recipient, GiftRole::Received), nothing());
            }
            put!(ItemUnits, keys::units(gift.item, &gift.giver), values::put_units(changed.units_after));
            if let Some(owed_after) = changed.owed_after {
                let key = keys::merchant(&gift.merchant, MerchantPart::Owed);
                put!(Merchants, key, Some(values::put_amount(owed_after)));
            }
        }
        Event::MerchantMoved(moved) => {
            let MerchantMoved { merchant, balance_after, .. } = &**moved;
            let place = |part| keys::merchant(merchant, part);
            put!(Merchants, place(MerchantPart::Owed), Some(values::put_amount(balance_after.total())));
            put!(Merchants, place(MerchantPart::Pending), Some(values::put_amount(balance_after.pending)));
            if let Some((due, slot)) = moved.slot_after() {
                let slot = slot.filter(|slot| !slot.amount.is_zero()).map(|slot| values::put_cold(&slot));
                put!(MerchantSlots, keys::merchant_slot(merchant, due), slot);
            }
            for (number, entry) in moved.entries().iter().enumerate() {
                let number = index * MERCHANT_ENTRIES_MAX + number as u32;
                put!(MerchantEntries, keys::merchant_entry(merchant, at, lsn, number), Some(values::put_cold(entry)));
            }
        }
        Event::CodesAdded(added) => {
            for (code, place) in added.codes.iter().zip(added.first..) {
                put!(Codes, keys::code(added.item, place), Some(values::put_cold(code)));
                let digest = CodeDigest::of(added.item, code);
                put!(Codes, keys::place_of_code(added.item, digest), Some(values::put_cold(&place)));
            }
        }
        Event::OrderChanged(changed) => {
            let order = &changed.order;
            put!(OrderProgress, keys::order(order.id), Some(values::put_cold(&changed.progress)));
            if let Some(units_after) = changed.units_after {
                put!(ItemUnits, keys::units(order.item, &order.user), values::put_units(units_after));
            }
        }
        Event::GiftEnvelopeMade(envelope) => {
            put!(GiftEnvelopes, keys::id(envelope.id.bytes()), Some(values::put_cold(envelope)));
            let place = keys::gift_envelope_of_user(&envelope.giver, envelope.created_at, envelope.id);
            put!(GiftEnvelopesOfUser, place, nothing());
        }
        Event::RelationsPut(rows) => {
            for RelationRow { user, other, relation } in rows {
                let value = || (*relation != Relation::None).then(|| values::put_cold(relation));
                put!(Relations, keys::relation(user, RelationSide::Own, other), value());
                put!(Relations, keys::relation(other, RelationSide::OfOthers, user), value());
            }
        }
        Event::PaymentChanged(changed) => {
            let PaymentChanged { was, payment, hold } = &**changed;
            let place = |state| keys::payment_in_state(state, payment.created_at, payment.id);
            put!(Payments, keys::id(payment.id.bytes()), Some(values::put_cold(payment)));
            if let Some(was) = was {
                put!(PaymentsByState, place(*was), None);
            }
            put!(PaymentsByState, place(payment.state), nothing());
            if payment.discrepancy.is_some() {
                put!(PaymentsByState, keys::discrepant_payment(payment.created_at, payment.id), nothing());
            }
            if payment.state.is_open() || payment.state == PaymentState::Paid {
                put!(PaymentsOf, keys::id(payment.purpose.bytes()), Some(values::put_cold(&payment.id)));
            }
            if let Some(hold) = hold {
                put!(Holds, keys::id(hold.id.bytes()), Some(values::put_cold(hold)));
            }
        }
        Event::GroupChanged(changed) => {
            let group = &changed.group;
            let is_open = group.state == GroupState::Open;
            put!(Groups, keys::id(group.id.bytes()), Some(values::put_cold(group)));
            put!(LiveGroups, keys::id(group.id.bytes()), is_open.then(|| Bytes::from([])));
            let place = keys::group_of_item(group.item, group.created_at, group.id);
            put!(GroupsOfItem, place, Some(Bytes::from([group.state as u8])));
            for (member, units_after) in changed.concerned().zip(&changed.units_after) {
                put!(ItemUnits, keys::units(group.item, &member.user), values::put_units(*units_after));
            }
            let moved = match &changed.step {
                GroupMove::Joined => group.members.last().map(|member| (member, None)),
                GroupMove::Left(member) => Some((member, Some(at))),
                GroupMove::Ended => None,
            };
            if let Some((member, left_at)) = moved {
                let place = keys::group_of_user(&member.user, group.created_at, group.id);
                put!(GroupsOfUser, place, left_at.is_none().then(|| Bytes::from([])));
                let row = GroupJoin { user: member.user.clone(), joined_at: member.joined_at, left_at };
                put!(GroupJoins, keys::group_join(group.id, member.order), Some(values::put_cold(&row)));
            }
        }
        Event::GroupOrdered(ordered) => {
            let GroupOrdered { order, units_after, owed_after, .. } = &**ordered;
            put!(Holds, keys::id(order.hold.bytes()), Some(values::put_cold(&order.hold_of_group())));
            put!(Orders, keys::order(order.id), Some(values::put_cold(order)));
            put!(ItemUnits, keys::units(order.item, &order.user), values::put_units(*units_after));
            let key = keys::merchant(&order.merchant, MerchantPart::Owed);
            put!(Merchants, key, Some(values::put_amount(*owed_after)));
        }
        Event::CodesHanded(handed) => put!(Codes, keys::handed(handed.to), Some(values::put_cold(handed))),
    }
}

pub(crate) fn put_memo(memo: &Remembered) -> Bytes {
    values::put_cold(&(memo.fingerprint, &memo.answer, memo.expires_at))
}

/// The memo under `key` that [`rows_of`] wrote.
pub(crate) fn memo(key: OnceKey, bytes: &[u8]) -> Option<Remembered> {
    let (fingerprint, answer, expires_at) = values::cold::<([u8; 16], Outcome, Option<Timestamp>)>(bytes)?;
    Some(Remembered { key, fingerprint, answer, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_the_latest_of_all_records() {
        let mut position = Position::default();
        for (lsn, ms) in [(1, 1004), (2, 1000)] {
            let record = Record { at: Timestamp::from_ms(ms), events: vec![Event::ClockAdvanced { by_ms: 1 }].into() };
            position.advance(Lsn(lsn), &record).unwrap();
        }
        assert_eq!((position.at.ms(), position.advanced_ms), (1004, 2));
    }
}
