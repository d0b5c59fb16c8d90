//! Orders in memory: those that somebody did something about lately.
//!
//! **Invariant:** an order lives in the shard of its item.

use super::decide::{Decision, credited};
use super::stock::Item;
use super::{Router, Shard, Shards, payments, sales};
use crate::backend::EntryKind;
use crate::command::{OrderNow, OrderView, Outcome, Refusal};
use crate::event::{Event, Events, OrderChanged, Units};
use crate::order::{OrderProgress, OrderState, OrderStep};
use crate::payment::PaymentState;
use crate::sale::SaleOf;
use crate::types::{Amount, Lsn, OrderId, PaymentId, Timestamp};

/// An order that the store may not have yet.
pub(crate) struct PendingOrder {
    pub(crate) order: OrderView,
    pub(crate) lsn: Lsn,
    /// Its commission and when it is due.
    pub(crate) sale: Option<(Amount, Timestamp)>,
}

/// An order, or the knowledge that there is none under its id.
pub(crate) struct KnownOrder {
    pub(crate) order: Option<Box<OrderView>>,
    /// Its commission and when it is due, if it was pending at first; once that was looked up.
    pub(crate) sale: Option<Option<(Amount, Timestamp)>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

impl OrderView {
    /// The order of this item as it is told: one of codes is delivered as it is paid.
    pub(crate) fn of_item(mut self, item: &Item) -> OrderView {
        if item.has_codes() && self.progress.state == OrderState::Paid {
            let delivered_at = Some(self.created_at);
            self.progress = OrderProgress { state: OrderState::Delivered, delivered_at, ..OrderProgress::default() };
        }
        self
    }
}

impl Item {
    /// Units that were sold are free again.
    fn apply_returned(&mut self, order: &OrderView, units_after: Units, lsn: Lsn) {
        self.take_back(&order.user, order.quantity);
        assert!(self.units(&order.user) == units_after, "a user's units are what the last record says (I4)");
        self.last_lsn = lsn;
    }
}

impl Shard {
    /// Carries out what has become of an order; its money is moved beside it.
    pub(super) fn apply_order(&mut self, event: &OrderChanged, at: Timestamp, lsn: Lsn) {
        let order = event.view();
        if let Some(units_after) = event.units_after {
            let item = self.items.get_mut(&order.item).expect("an order's item exists");
            item.apply_returned(&order, units_after, lsn);
        }
        let before = self.known_orders.remove(&order.id);
        let stood = before.as_ref().and_then(|known| known.order.as_ref());
        let is_next = stood.is_none_or(|stood| stood.progress.state == event.was);
        assert!(is_next, "an order goes on from where it stood (I5)");
        let sale = before.and_then(|known| known.sale);
        let known = KnownOrder { order: Some(Box::new(order)), sale, last_lsn: lsn, touched_at: at };
        self.known_orders.insert(event.order.id, known);
    }
}

/// What somebody does about an order.
pub(super) fn step(shards: &impl Shards, router: Router, now: Timestamp, id: OrderId, step: &OrderStep) -> Decision {
    let shard = shards.shard(router.order(id));
    let Some(KnownOrder { order: Some(order), sale: Some(sale), .. }) = shard.known_orders.get(&id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let item = &shard.items[&order.item];
    let order = (**order).clone().of_item(item);
    let progress = match order.step(step, item.put.terms.origin.return_within_s(), now) {
        Err(refusal) => return Decision::refuse(refusal),
        Ok(None) => return Decision::known(Outcome::Order(Box::new(OrderNow::new(order)))),
        Ok(Some(progress)) => progress,
    };
    let mut events = Events::new();
    let mut units_after = None;
    if progress.state == OrderState::Returned {
        let of = (SaleOf::Order(id), order.amount);
        match sales::refunded(shards, router, &order.merchant, of, *sale, now) {
            Err(refusal) => return Decision::refuse(refusal),
            Ok(refunded) => events.extend(refunded),
        }
        let payment = shard.payment(PaymentId::from_bytes(*id.bytes()));
        events.push(match payment.filter(|payment| payment.state == PaymentState::Paid) {
            Some(payment) => payments::back(payment, "the order went back", now),
            None => Event::WalletMoved(credited(shards, router, &order.user, EntryKind::OrderRefund(id), order.amount)),
        });
        if progress.restocked {
            let Units { held, sold } = item.units(&order.user);
            units_after = Some(Units { held, sold: sold - order.quantity });
        }
    }
    let was = order.progress.state;
    let after = OrderView { progress: progress.clone(), ..order.clone() };
    events.push(Event::OrderChanged(Box::new(OrderChanged { was, order, progress, units_after })));
    Decision::new(events, Outcome::Order(Box::new(OrderNow::new(after))))
}
