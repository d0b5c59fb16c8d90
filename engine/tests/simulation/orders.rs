//! Orders as the model sees them: what may follow what, and what goes back.

use crate::model::{Decided, Model, Moment, refuse};
use hongbao_engine::backend::EntryKind;
use hongbao_engine::command::{ItemKind, OrderNow, Outcome, Refusal};
use hongbao_engine::order::{ANSWER_WITHIN_S, OrderState, OrderStep};
use hongbao_engine::types::{ItemId, OrderId, Timestamp, UserId};

impl Model {
    /// Units of an item that came back and are on sale again; of one user or of all.
    pub(crate) fn restocked(&self, item: ItemId, user: Option<&UserId>) -> u32 {
        let orders = self.orders.values().map(|(order, _)| order);
        let back =
            orders.filter(|it| it.item == item && it.progress.restocked && user.is_none_or(|user| *user == it.user));
        back.map(|order| order.quantity).sum()
    }

    pub(crate) fn step_order(&mut self, now: Timestamp, id: OrderId, step: &OrderStep, lsn: u64) -> Decided {
        use OrderState::*;
        let Some((order, last)) = self.orders.get(&id) else { return refuse(Refusal::NotFound) };
        let (mut order, last) = (order.clone(), *last);
        let origin = &self.items[&order.item].terms.origin;
        let within_s = if origin.kind == ItemKind::Code { 0 } else { u64::from(origin.return_within_s) };
        let wrong = || refuse(Refusal::WrongState(String::new()));
        let same = Decided(Outcome::Order(Box::new(OrderNow::new(order.clone()))), false, last);
        let was = order.progress.clone();
        let answer_is_late = was.answer_by.is_some_and(|by| now >= by);
        let progress = &mut order.progress;
        match step {
            OrderStep::Ship { carrier, tracking } => {
                let told = (Some(carrier.clone()), Some(tracking.clone()));
                if (&was.carrier, &was.tracking) == (&told.0, &told.1) {
                    return same;
                }
                if was.state != Paid {
                    return wrong();
                }
                (progress.state, progress.shipped_at) = (Shipped, Some(now));
                (progress.carrier, progress.tracking) = told;
            }
            OrderStep::Deliver => {
                if was.delivered_at.is_some() {
                    return same;
                }
                if !matches!(was.state, Paid | Shipped) {
                    return wrong();
                }
                (progress.state, progress.delivered_at) = (Delivered, Some(now));
            }
            OrderStep::Return { user, .. } if *user != order.user => return refuse(Refusal::Forbidden),
            OrderStep::Return { reason, .. } => match was.state {
                ReturnRequested if answer_is_late => progress.state = Returned,
                ReturnRequested | Returned => return same,
                Refused => return wrong(),
                _ if within_s == 0 || was.delivered_at.is_some_and(|at| now >= at.plus_s(within_s)) => return wrong(),
                _ => {
                    (progress.state, progress.return_requested_at) = (ReturnRequested, Some(now));
                    (progress.return_reason, progress.answer_by) =
                        (Some(reason.clone()), Some(now.plus_s(ANSWER_WITHIN_S)));
                }
            },
            OrderStep::AcceptReturn { restock } => match was.state {
                Returned if was.restocked == *restock => return same,
                ReturnRequested => (progress.state, progress.restocked) = (Returned, *restock),
                _ => return wrong(),
            },
            OrderStep::RefuseReturn { reason } => match was.state {
                Refused => return same,
                ReturnRequested if !answer_is_late => {
                    (progress.state, progress.refusal) = (Refused, Some(reason.clone()));
                }
                _ => return wrong(),
            },
        }
        if matches!(progress.state, Returned | Refused) {
            progress.ended_at = Some(now);
        }
        if progress.state == Returned {
            let seller = self.merchants.get_mut(&order.merchant).expect("an item has a merchant");
            if !seller.refund(id, now) {
                return refuse(Refusal::InsufficientFunds);
            }
            self.move_money(&order.user, EntryKind::OrderRefund(id), order.amount.minor(), Moment::now(now, lsn));
        }
        self.orders.insert(id, (order.clone(), lsn));
        Decided(Outcome::Order(Box::new(OrderNow::new(order))), true, lsn)
    }
}
