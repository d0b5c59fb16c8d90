//! The offline audit's second half: items, holds and orders.
//!
//! **Invariant:** a live hold is counted from its own row, a sold unit from its
//! order; what users' and merchants' rows say must agree with them.

use super::audit::Auditor;
use super::audit_gifts::GiftsMade;
use super::keys::{self, KeyRange, Table};
use super::{StoreError, damaged, reads, values};
use crate::command::{HoldState, HoldView, OrderView};
use crate::event::{ItemPut, order_of};
use crate::order::{OrderProgress, OrderState};
use crate::types::{Amount, ItemId, OrderId, UserId};
use std::collections::BTreeMap;
use std::hash::BuildHasher;

pub(super) type UnitsByItem = BTreeMap<ItemId, u64>;
pub(super) type MoneyByMerchant = BTreeMap<UserId, u64>;

/// Who got how much back for which order: numbers that add up to the same from wallets and from orders.
pub(super) fn refund_of(order: OrderId, user: &UserId, amount: Amount) -> u64 {
    foldhash::fast::FixedState::default().hash_one((order, user, amount))
}

impl Auditor<'_> {
    /// I4, I5 for holds, and the merchants' part of I1.
    pub(super) fn sales(&mut self, mut gifts: GiftsMade) -> Result<(), StoreError> {
        let (mut sold, mut owed) = self.orders()?;
        for (item, units) in std::mem::take(&mut gifts.sold) {
            *sold.entry(item).or_default() += units;
        }
        for (merchant, amount) in std::mem::take(&mut gifts.owed) {
            *owed.entry(merchant).or_default() += amount;
        }
        let mut handed = self.handed()?;
        for row in self.scan(Table::Items, &KeyRange::all()) {
            let (key, value) = row?;
            let item: ItemPut = values::cold(&value).ok_or_else(|| damaged(Table::Items, &key))?;
            self.audited.items += 1;
            let sold = sold.remove(&item.id).unwrap_or_default();
            self.codes(&item, sold, handed.remove(&item.id).unwrap_or_default())?;
            self.item(&item, sold, gifts.held.remove(&item.id).unwrap_or_default())?;
        }
        for (item, sold) in sold {
            self.found(format!("{item}: {sold} units were ordered and there is no such item"));
        }
        for item in gifts.held.into_keys() {
            self.found(format!("{item}: it is given and there is no such item"));
        }
        for item in handed.into_keys() {
            self.found(format!("{item}: codes of it were handed out and there is no such item"));
        }
        let listed = self.count(Table::ItemsByTime)?;
        self.expect("rows in the list of items by time", listed, self.audited.items);
        self.holds()?;
        self.merchants(owed)
    }

    /// Units sold by item, and money owed by merchant, from the orders.
    fn orders(&mut self) -> Result<(UnitsByItem, MoneyByMerchant), StoreError> {
        let mut sold = UnitsByItem::new();
        let mut owed = MoneyByMerchant::new();
        let (mut led_on, mut refunds) = (0, 0u64);
        for row in self.scan(Table::Orders, &KeyRange::all()) {
            let (key, value) = row?;
            let order: OrderView = values::cold(&value).ok_or_else(|| damaged(Table::Orders, &key))?;
            self.audited.orders += 1;
            let progress = self.snapshot.get(Table::OrderProgress, order.id.bytes())?;
            let progress = reads::cold::<OrderProgress>(Table::OrderProgress, order.id.bytes(), progress)?;
            led_on += u64::from(progress.is_some());
            let progress = progress.unwrap_or_default();
            let went_back = progress.state == OrderState::Returned;
            if self.payment_of_order(order.id, went_back)?.is_none() && went_back {
                refunds = refunds.wrapping_add(refund_of(order.id, &order.user, order.amount));
            }
            if !progress.restocked {
                *sold.entry(order.item).or_default() += u64::from(order.quantity);
            }
            *owed.entry(order.merchant.clone()).or_default() += order.amount.minor();
            let hold = self.snapshot.get(Table::Holds, order.hold.bytes())?;
            let hold = reads::cold::<HoldView>(Table::Holds, order.hold.bytes(), hold)?;
            let made_of_it = hold.is_some_and(|hold| {
                order_of(&hold) == Some(order.id)
                    && (hold.item, &hold.user, hold.quantity, hold.amount)
                        == (order.item, &order.user, order.quantity, order.amount)
            });
            if !made_of_it {
                self.found(format!("{}: it does not agree with {}, of which it was made", order.id, order.hold));
            }
        }
        let rows = self.count(Table::OrderProgress)?;
        self.expect("rows of what has become of orders", rows, led_on);
        if refunds != self.order_refunds {
            self.found("what came back from orders is not what their users' wallets have got".to_owned());
        }
        Ok((sold, owed))
    }

    /// I4: stock = free + held + sold.
    fn item(&mut self, item: &ItemPut, sold: u64, given: BTreeMap<UserId, u64>) -> Result<(), StoreError> {
        let id = item.id;
        if !self.has(Table::ItemsByTime, &keys::made_at(item.created_at, id.bytes()))? {
            self.found(format!("{id}: it is missing from the list `{}`", Table::ItemsByTime.name()));
        }
        let mut held_by = given;
        for hold in reads::live_holds(self.snapshot, id) {
            let hold = hold?;
            *held_by.entry(hold.user.clone()).or_default() += u64::from(hold.quantity);
            if hold.state != HoldState::Held || hold.item != id {
                self.found(format!("{}: it is listed as live under {id} and is not", hold.id));
            }
        }
        let held: u64 = held_by.values().sum();
        let mut sold_to_users = 0;
        for row in reads::item_units(self.snapshot, id) {
            let (user, units) = row?;
            sold_to_users += u64::from(units.sold);
            let holds = held_by.remove(&user).unwrap_or_default();
            self.expect(&format!("{id}: units held for {user}"), units.held.into(), holds);
        }
        for (user, holds) in held_by {
            self.expect(&format!("{id}: units held for {user}"), 0, holds);
        }
        self.expect(&format!("{id}: units sold to its users"), sold_to_users, sold);
        let stock = u64::from(item.stock_total);
        if held + sold > stock {
            self.found(format!("{id}: oversold: {held} units are held and {sold} sold of {stock}"));
        }
        Ok(())
    }

    /// I5: a hold is live or has ended in one way.
    fn holds(&mut self) -> Result<(), StoreError> {
        let (mut live, mut claimed) = (0, 0);
        for row in self.scan(Table::Holds, &KeyRange::all()) {
            let (key, value) = row?;
            let hold: HoldView = values::cold(&value).ok_or_else(|| damaged(Table::Holds, &key))?;
            self.audited.holds += 1;
            let listed = self.has(Table::LiveHolds, &keys::live_hold(hold.item, hold.id))?;
            if listed != (hold.state == HoldState::Held) {
                let is = if listed { "listed" } else { "not listed" };
                self.found(format!("{}: it is {:?} and {is} as live", hold.id, hold.state));
            }
            live += u64::from(listed);
            if let Some(order) = order_of(&hold) {
                claimed += 1;
                if !self.has(Table::Orders, &keys::order(order))? {
                    self.found(format!("{}: it was paid and {order} is missing", hold.id));
                }
            }
        }
        let rows = self.count(Table::LiveHolds)?;
        self.expect("holds listed as live", rows, live);
        self.expect("orders", self.audited.orders, claimed);
        Ok(())
    }
}
