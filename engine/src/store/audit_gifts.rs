//! The offline audit of gifts: what each state says of a unit and of money, and their lists.

use super::audit::Auditor;
use super::audit_sales::{MoneyByMerchant, UnitsByItem};
use super::keys::{self, KeyRange, Table};
use super::{StoreError, damaged, values};
use crate::address::AddressMark;
use crate::gift::{Gift, GiftRole, GiftState};
use crate::types::{Amount, GiftId, ItemId, UserId};
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;

/// Who paid how much for which gift, and who got it back: numbers that add up to the same
/// from wallets' movements and from gifts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GiftMoney {
    paid: u64,
    refunded: u64,
}

impl GiftMoney {
    pub(super) fn paid(&mut self, gift: GiftId, payer: &UserId, amount: Amount) {
        self.paid = self.paid.wrapping_add(fingerprint(gift, payer, amount));
    }

    pub(super) fn refunded(&mut self, gift: GiftId, payer: &UserId, amount: Amount) {
        self.refunded = self.refunded.wrapping_add(fingerprint(gift, payer, amount));
    }
}

fn fingerprint(gift: GiftId, payer: &UserId, amount: Amount) -> u64 {
    foldhash::fast::FixedState::default().hash_one((gift, payer, amount))
}

/// What gifts are made of, and groups, from their own rows.
#[derive(Default)]
pub(super) struct GiftsMade {
    /// Money that is gifts' or groups' own.
    pub(super) escrowed: u64,
    /// Units held for gifts and in groups, by item and giver or member.
    pub(super) held: BTreeMap<ItemId, BTreeMap<UserId, u64>>,
    /// Units sold by gifts.
    pub(super) sold: UnitsByItem,
    /// Money that gifts have brought to merchants.
    pub(super) owed: MoneyByMerchant,
}

impl Auditor<'_> {
    /// I5 for gifts, and their part of I1 and I4.
    pub(super) fn gifts(&mut self) -> Result<GiftsMade, StoreError> {
        let mut made = GiftsMade::default();
        let mut money = GiftMoney::default();
        let (mut live, mut listed) = (0, 0);
        for row in self.scan(Table::Gifts, &KeyRange::all()) {
            let (key, value) = row?;
            let gift: Gift = values::cold(&value).ok_or_else(|| damaged(Table::Gifts, &key))?;
            let id = gift.id;
            self.audited.gifts += 1;
            if key != *id.bytes() {
                self.found(format!("{id}: it stands under another id"));
            }
            let went_back = gift.paid_at.is_some() && !gift.state.is_escrowed() && !gift.state.is_merchants();
            let is_paid_outside = self.payment_of_gift(&gift, went_back)?.is_some();
            if gift.paid_at.is_some() && !is_paid_outside {
                money.paid(id, &gift.payer, gift.amount);
                if went_back {
                    money.refunded(id, &gift.payer, gift.amount);
                }
            }
            if gift.state.is_escrowed() {
                made.escrowed += gift.amount.minor();
            }
            if gift.state.is_merchants() {
                *made.owed.entry(gift.merchant.clone()).or_default() += gift.amount.minor();
            }
            if gift.state.holds_unit() {
                *made.held.entry(gift.item).or_default().entry(gift.giver.clone()).or_default() += 1;
            }
            if gift.state.has_sold() {
                *made.sold.entry(gift.item).or_default() += 1;
            }
            let place = |user, role| keys::gift_of_user(user, role, gift.created_at, id);
            let received = gift.recipient.as_ref().map(|recipient| place(recipient, GiftRole::Received));
            let mut lists = vec![(Table::LiveGifts, keys::id(id.bytes()), gift.state.has_deadline())];
            lists.push((Table::GiftsOfUser, place(&gift.giver, GiftRole::Given), true));
            listed += 1 + u64::from(received.is_some());
            lists.extend(received.map(|key| (Table::GiftsOfUser, key, true)));
            for (table, key, expected) in lists {
                if self.has(table, &key)? != expected {
                    let is = if expected { "is missing from" } else { "should not be in" };
                    self.found(format!("{id}: it {is} the list `{}`", table.name()));
                }
            }
            live += u64::from(gift.state.has_deadline());
        }
        self.addresses()?;
        for (table, told, rows) in
            [(Table::LiveGifts, "gifts that have a deadline", live), (Table::GiftsOfUser, "users' gifts", listed)]
        {
            let counted = self.count(table)?;
            self.expect(&format!("rows in the list of {told}"), counted, rows);
        }
        for (what, wallets, gifts) in [
            ("was paid for", self.gift_money.paid, money.paid),
            ("came back from", self.gift_money.refunded, money.refunded),
        ] {
            if wallets != gifts {
                self.found(format!("what {what} gifts is not what their payers' wallets have moved"));
            }
        }
        Ok(made)
    }

    /// Whether each address that is known is one gift's, with a slot of its own and a sealed text,
    /// and is erased by itself once its gift goes on.
    fn addresses(&mut self) -> Result<(), StoreError> {
        let mut slots = HashSet::new();
        for row in self.scan(Table::Addresses, &KeyRange::all()) {
            let (key, value) = row?;
            let mark: AddressMark = values::cold(&value).ok_or_else(|| damaged(Table::Addresses, &key))?;
            let gift = match self.snapshot.get(Table::Gifts, &key)? {
                Some(gift) => values::cold::<Gift>(&gift).ok_or_else(|| damaged(Table::Gifts, &key))?,
                None => {
                    self.found("an address is known of a gift that is not there".to_owned());
                    continue;
                }
            };
            let id = gift.id;
            if mark.slot.is_some_and(|slot| !slots.insert(slot)) {
                self.found(format!("{id}: the slot of its address is another's, too"));
            }
            if (gift.state == GiftState::Accepted) != mark.erase_at.is_none() {
                self.found(format!("{id}: its address is not erased as its state says"));
            }
            if mark.slot.is_some() != self.has(Table::SealedAddresses, &key)? {
                self.found(format!("{id}: its sealed address is missing, or there although it was erased"));
            }
        }
        let sealed = self.count(Table::SealedAddresses)?;
        self.expect("sealed addresses", sealed, slots.len() as u64);
        Ok(())
    }
}
