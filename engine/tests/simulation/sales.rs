//! Merchants' money, naively: each sale for itself.

use crate::model::{Decided, Model, refuse};
use hongbao_engine::command::{Merchant, Outcome, Refusal, Transfer};
use hongbao_engine::sale::{MerchantBalance, MerchantEntry, MerchantEntryKind};
use hongbao_engine::types::{Amount, OrderId, Timestamp, UserId};

/// A merchant and all it ever sold.
#[derive(Clone, Debug)]
pub(crate) struct Seller {
    pub(crate) merchant: Merchant,
    pub(crate) sales: Vec<Sale>,
    pub(crate) withdrawn: u64,
    /// Gone back out of what was available.
    pub(crate) refunded: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Sale {
    amount: u64,
    commission: u64,
    pub(crate) due: Timestamp,
    pub(crate) is_settled: bool,
    /// What was ordered, if it was an order.
    pub(crate) order: Option<OrderId>,
    /// Whether it went back while it was pending.
    is_gone: bool,
}

impl Seller {
    pub(crate) fn new(merchant: Merchant) -> Seller {
        Seller { merchant, sales: Vec::new(), withdrawn: 0, refunded: 0 }
    }

    pub(crate) fn sell(&mut self, price: u64, now: Timestamp) {
        let terms = self.merchant.terms;
        let commission = price * u64::from(terms.commission_bps) / 10_000;
        let slot_ms = if terms.settle_after_s < 86_400 { 60_000 } else { 3_600_000 };
        let after_ms = now.ms() + 1000 * u64::from(terms.settle_after_s);
        let due = Timestamp::from_ms(after_ms - after_ms % slot_ms + slot_ms);
        self.sales.push(Sale { amount: price, commission, due, is_settled: false, order: None, is_gone: false });
    }

    pub(crate) fn balance(&self) -> MerchantBalance {
        let sum = |is_settled: bool| {
            let sales = self.sales.iter().filter(|sale| sale.is_settled == is_settled && !sale.is_gone);
            sales.fold((0, 0), |sum, sale| (sum.0 + sale.amount, sum.1 + sale.commission))
        };
        let fen = |minor| Amount::new(minor).expect("a small amount");
        let (settled, commission) = sum(true);
        MerchantBalance {
            pending: fen(sum(false).0),
            available: fen(settled - commission - self.withdrawn - self.refunded),
        }
    }

    pub(crate) fn commissions(&self) -> u64 {
        self.sales.iter().filter(|sale| sale.is_settled).map(|sale| sale.commission).sum()
    }

    /// Settles what is due. Says whether anything was.
    fn settle(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        for sale in self.sales.iter_mut().filter(|sale| !sale.is_settled && !sale.is_gone && now >= sale.due) {
            sale.is_settled = true;
            any = true;
        }
        any
    }

    /// Gives an order's money back; what is due counts, though nobody has looked. Says whether it has as much.
    pub(crate) fn refund(&mut self, order: OrderId, now: Timestamp) -> bool {
        let mut after = self.clone();
        after.settle(now);
        let available = after.balance().available.minor();
        let sale = after.sales.iter_mut().find(|sale| sale.order == Some(order)).expect("an order was sold");
        if !sale.is_settled {
            sale.is_gone = true;
        } else if sale.amount <= available {
            after.refunded += sale.amount;
        } else {
            return false;
        }
        *self = after;
        true
    }

    /// What is wrong with a statement of all its time.
    pub(crate) fn check_statement(&self, entries: &[MerchantEntry]) -> Result<(), String> {
        let (mut pending, mut available) = (0u64, 0u64);
        let (mut sold, mut commissions, mut withdrawn, mut refunded) = (Vec::new(), 0, 0, 0);
        for entry in entries {
            let amount = entry.amount.minor();
            match &entry.kind {
                MerchantEntryKind::Sale { commission, due, .. } => {
                    pending += amount;
                    sold.push((amount, commission.minor(), *due));
                }
                MerchantEntryKind::Commission { due } if entry.at >= *due => {
                    (pending, commissions) = (pending - amount, commissions + amount);
                }
                MerchantEntryKind::Settled { due } if entry.at >= *due => {
                    (pending, available) = (pending - amount, available + amount);
                }
                MerchantEntryKind::Refund { pending_until: Some(_), .. } => pending -= amount,
                MerchantEntryKind::Refund { pending_until: None, .. } => {
                    (available, refunded) = (available - amount, refunded + amount);
                }
                MerchantEntryKind::Withdrawal(_) => {
                    (available, withdrawn) = (available - amount, withdrawn + amount);
                }
                _ => return Err(format!("{entry:?} should not be there")),
            }
            let after = (entry.balance_after.pending.minor(), entry.balance_after.available.minor());
            if after != (pending, available) {
                return Err(format!("after {entry:?} it should have {pending} and {available}"));
            }
        }
        let expected: Vec<_> = self.sales.iter().map(|sale| (sale.amount, sale.commission, sale.due)).collect();
        if (&sold, commissions, withdrawn, refunded) != (&expected, self.commissions(), self.withdrawn, self.refunded) {
            return Err(format!("{sold:?}, {commissions} and {withdrawn} should be {self:?}"));
        }
        Ok(())
    }
}

impl Model {
    pub(crate) fn sell(&mut self, merchant: &UserId, price: u64, now: Timestamp) {
        self.merchants.get_mut(merchant).expect("an item has a merchant").sell(price, now);
    }

    pub(crate) fn settle_sales(&mut self, now: Timestamp) -> bool {
        // Each of them, whichever has something.
        self.merchants.values_mut().filter_map(|seller| seller.settle(now).then_some(())).count() > 0
    }

    /// Takes a merchant's money out. What is due counts, though nobody has looked.
    pub(crate) fn withdraw_sales(&mut self, now: Timestamp, transfer: &Transfer, lsn: u64) -> Decided {
        let Some(seller) = self.merchants.get_mut(&transfer.user) else { return refuse(Refusal::NotFound) };
        let mut after = seller.clone();
        after.settle(now);
        if after.balance().available < transfer.amount {
            return refuse(Refusal::InsufficientFunds);
        }
        after.withdrawn += transfer.amount.minor();
        *seller = after;
        let balance = seller.balance();
        Decided(Outcome::Sales { merchant: transfer.user.clone(), balance }, true, lsn)
    }
}
