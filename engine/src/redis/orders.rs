//! Orders once they are paid: led on by their merchants, and sent back. An order lies in
//! the bucket of its item; its money is in its merchant's bucket, and goes back to its
//! payer's.
//!
//! What a step makes of an order is decided by the order itself, as in the embedded
//! engine. So it is looked at first, and `order.lua` decides whether the step is done:
//! only if the order still stands as it was seen.
//!
//! **Invariant:** while it is not known whether a merchant has the money of an order that
//! goes back, that stands in the outbox with the order as it is to be: whoever meets it
//! ends it first, and nothing else happens to the order.

use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::commands::{ATTEMPTS_MAX, hold_view};
use super::gifts::Either;
use super::reply::{Answer, Decided, Effect, Told, damaged};
use super::scripts::{MERCHANT, ORDER, ORDER_LOOK};
use crate::command::{HoldView, OrderNow, OrderView, Outcome, Refusal};
use crate::error::EngineError;
use crate::order::{OrderProgress, OrderState, OrderStep};
use crate::types::{HoldId, ItemId, OrderId, Timestamp, UserId};

/// An order as it lies in Redis.
pub(super) struct OrderRow {
    pub(super) id: OrderId,
    pub(super) hold: HoldId,
    pub(super) at: Timestamp,
    pub(super) merchant: UserId,
    pub(super) progress: OrderProgress,
    /// The place of its first code, if it was handed any.
    pub(super) codes_from: Option<u32>,
}

/// What stands before the place of an order's first code.
const CODES: u8 = b'#';

impl OrderRow {
    pub(super) fn read(id: &[u8], packed: &[u8]) -> Result<OrderRow> {
        let id = OrderId::from_bytes(id.try_into().map_err(|_| damaged("an order"))?);
        let (hold, rest) = packed.split_first_chunk::<16>().ok_or_else(|| damaged("an order"))?;
        let words = Answer::split(rest.to_vec(), 3);
        let (mut progress, mut codes_from) = (OrderProgress::default(), None);
        match words.maybe(2).map(|rest| (rest, rest.split_first())) {
            None => {}
            // It is delivered as it is paid, and nothing becomes of it afterwards.
            Some((_, Some((&CODES, place)))) => {
                codes_from = Some(Answer::split(place.to_vec(), 1).units(0)?);
                progress.state = OrderState::Delivered;
                progress.delivered_at = Some(words.at(0)?);
            }
            Some((led_on, _)) => progress = progress_of(led_on)?,
        }
        let (hold, at, merchant) = (HoldId::from_bytes(*hold), words.at(0)?, words.user(1)?);
        Ok(OrderRow { id, hold, at, merchant, progress, codes_from })
    }

    /// As it is told, with the hold that was paid.
    pub(super) fn view(self, hold: HoldView) -> OrderView {
        OrderView {
            id: self.id,
            hold: hold.id,
            item: hold.item,
            merchant: self.merchant,
            user: hold.user,
            quantity: hold.quantity,
            amount: hold.amount,
            created_at: self.at,
            progress: self.progress,
        }
    }
}

/// An order that goes back, while its merchant's money is taken.
pub(super) struct Return {
    /// By which it is known among all times that it was tried.
    attempt: [u8; 16],
    begun_at: Timestamp,
    /// Whose answer it is to be.
    operation: Operation,
    keep: Vec<u8>,
    item: ItemId,
    merchant: UserId,
    /// What has become of the order afterwards.
    progress: OrderProgress,
}

impl Return {
    fn read(effect: &Effect, bucket: Bucket) -> Result<Return> {
        let wrong = || damaged("a return");
        let (begun_at, words) = effect.words()?;
        let (attempt, rest) = words.bytes(4)?.split_first_chunk::<16>().ok_or_else(wrong)?;
        let (operation, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
        let (item, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
        let (keep, progress) =
            rest.iter().position(|&byte| byte == b' ').map(|at| rest.split_at(at)).ok_or_else(wrong)?;
        // By itself it decides nothing under the operation.
        let operation = Operation { id: *operation, keep: Keep::Natural, bucket };
        Ok(Return {
            attempt: *attempt,
            begun_at,
            operation,
            keep: keep.to_vec(),
            item: ItemId::from_bytes(*item),
            merchant: words.user(3)?,
            progress: progress_of(&progress[1..])?,
        })
    }

    /// What stands in the outbox, behind the time and the kind.
    fn packed(attempt: &[u8; 16], operation: &Operation, order: &OrderView, progress: &OrderProgress) -> Vec<u8> {
        let words = format!("{} {} ", order.amount, order.merchant);
        let keep = [&operation.keep.word(), &b" "[..]].concat();
        [words.as_bytes(), attempt, &operation.id, order.item.bytes(), &keep, &bytes_of(progress)].concat()
    }
}

/// An order as `order_look.lua` has seen it, and the bucket's time.
struct Seen {
    at: Timestamp,
    row: Vec<u8>,
    order: Option<OrderView>,
    effects: Vec<Effect>,
}

impl Seen {
    fn read(id: OrderId, told: Told) -> Result<Seen> {
        let Told { at, answer, effects } = told;
        let row = answer.bytes(1)?.to_vec();
        let order = match row.is_empty() {
            true => None,
            false => {
                let order = OrderRow::read(id.bytes(), &row)?;
                let hold = hold_view(order.hold, answer.bytes(2)?)?;
                Some(order.view(hold))
            }
        };
        Ok(Seen { at, row, order, effects })
    }

    fn waits(&self, kind: u8) -> bool {
        self.effects.iter().any(|effect| effect.kind() == kind)
    }
}

impl Core {
    pub(super) async fn step_order(&self, id: OrderId, step: &OrderStep, operation: &Operation) -> Result<Either> {
        let bucket = operation.bucket;
        // What is answered by what was seen, or carried, has to be confirmed.
        let mut confirm = false;
        for _ in 0..ATTEMPTS_MAX {
            let seen = match self.look_at_order(id, operation, confirm).await? {
                Decided::New(told) => Seen::read(id, told)?,
                Decided::Kept(_) | Decided::Void => match self.answered(operation).await? {
                    Some(answered) => return Ok(answered),
                    None => continue,
                },
            };
            let Some(order) = &seen.order else { return Ok(Err(Outcome::Refused(Refusal::NotFound))) };
            let return_within_s = match step {
                OrderStep::Return { .. } => {
                    let item = self.item(order.item).await?.ok_or_else(|| damaged("an order"))?;
                    item.terms.origin.return_within_s()
                }
                _ => 0,
            };
            let after = order.step(step, return_within_s, seen.at);
            let goes_back = matches!(&after, Ok(Some(progress)) if progress.state == OrderState::Returned);
            // A merchant that is not owed yet has nothing to give back.
            if seen.waits(b'o') || goes_back && seen.waits(b'm') {
                if confirm {
                    self.carry_out(bucket, seen.effects).await?;
                }
                confirm = !confirm;
                continue;
            }
            let after = match after {
                Err(refusal) => return Ok(Err(Outcome::Refused(refusal))),
                Ok(Some(after)) => after,
                Ok(None) if confirm => {
                    let mut answer = Answer::default();
                    [b"order".to_vec(), packed(order)].iter().for_each(|word| answer.push(word));
                    self.carry(bucket, seen.effects).await?;
                    return self.archived_decision(operation, answer).await.map(Ok);
                }
                Ok(None) => {
                    confirm = true;
                    continue;
                }
            };
            confirm = false;
            let (verb, becomes) = match goes_back {
                true => ("return", Return::packed(&self.random_beside(id.bytes()), operation, order, &after)),
                false => ("step", bytes_of(&after)),
            };
            let until = order.in_time_until(step, return_within_s).map(|at| text(at.ms())).unwrap_or_default();
            let args = [verb.as_bytes().to_vec(), id.bytes().to_vec(), becomes, seen.row.clone(), until];
            let decided = self.ask(&ORDER, operation, self.hold_keys(order.item), args).await?;
            match self.in_the_way(decided, bucket).await? {
                Some(decided) => return Ok(super::gifts::or_unpaid(decided, operation)),
                None => continue,
            }
        }
        Err(EngineError::Overloaded)
    }

    async fn look_at_order(&self, id: OrderId, operation: &Operation, confirm: bool) -> Result<Decided> {
        let (bucket, layout) = (operation.bucket, &self.layout);
        self.look_at(&ORDER_LOOK, operation, [layout.orders(bucket), layout.holds(bucket)], id.bytes(), confirm).await
    }

    /// Takes the money of an order that goes back from its merchant, and then it is its payer's, or
    /// the order is as before. Tells what was decided if it went back by this.
    pub(super) async fn give_back(&self, cause: Bucket, effect: &Effect) -> Result<Option<Told>> {
        let Return { attempt, begun_at, operation, keep, item, merchant, progress } = Return::read(effect, cause)?;
        let order = effect.id()?;
        let natural = Operation { id: [0; 16], keep: Keep::Natural, bucket: self.layout.of_user(&merchant) };
        let keys = self.merchant_keys(&merchant).into_iter().chain([self.layout.unpaid(&merchant, &attempt)]);
        let args = [b"refund".to_vec(), order.to_vec(), text(begun_at.ms()), Keep::Repeats.word()];
        let Decided::New(told) = self.ask(&MERCHANT, &natural, keys, args).await? else {
            return Err(damaged("a return"));
        };
        let (verb, becomes) = match told.answer.tag() {
            b"refunded" => ("returned", bytes_of(&progress)),
            b"short" => ("short", Vec::new()),
            _ => return Err(damaged("a return")),
        };
        let restocks = if progress.restocked { b"1".to_vec() } else { Vec::new() };
        let args = [verb.as_bytes().to_vec(), order.to_vec(), becomes, attempt.to_vec(), keep, restocks];
        let decided = self.ask(&ORDER, &operation, self.hold_keys(item), args).await?;
        let Decided::New(mut told) = decided else { return Err(damaged("a return")) };
        self.carry_refund(cause, std::mem::take(&mut told.effects)).await?;
        Ok((told.answer.tag() == b"order").then_some(told))
    }

    /// What an order that went back causes: its payer has the money again.
    async fn carry_refund(&self, cause: Bucket, effects: Vec<Effect>) -> Result<()> {
        for effect in effects {
            self.credit(cause, &effect).await?;
            self.leave(cause, effect.field);
        }
        Ok(())
    }

    pub(super) async fn order(&self, id: OrderId) -> Result<Option<OrderView>> {
        Ok(self.order_with_codes(id).await?.map(|(order, _)| order))
    }

    /// An order, and the place of its first code if it was handed any.
    pub(super) async fn order_with_codes(&self, id: OrderId) -> Result<Option<(OrderView, Option<u32>)>> {
        let bucket = self.layout.of_id(id.bytes());
        let args = [b"row".to_vec(), id.bytes().to_vec()];
        let row = self.read(bucket, &[self.layout.orders(bucket)], &args).await?;
        let Some(packed) = row.maybe(0) else { return Ok(None) };
        let order = OrderRow::read(id.bytes(), packed)?;
        let hold = self.hold(order.hold).await?.ok_or_else(|| damaged("an order"))?;
        let codes_from = order.codes_from;
        Ok(Some((order.view(hold), codes_from)))
    }
}

/// An order as it lies in Redis; `codes_from`: the place of its first code, if it was handed any.
pub(super) fn order_row(order: &OrderView, codes_from: Option<u32>) -> Vec<u8> {
    let words = format!("{} {}", order.created_at.ms(), order.merchant);
    let mut row = [order.hold.bytes(), words.as_bytes()].concat();
    if let Some(place) = codes_from {
        row.extend([b' ', CODES]);
        row.extend(place.to_string().into_bytes());
    } else if order.progress != OrderProgress::default() {
        row.push(b' ');
        row.extend(bytes_of(&order.progress));
    }
    row
}

/// An order as `order.lua` answers and tells it.
pub(super) fn packed(order: &OrderView) -> Vec<u8> {
    let OrderView { id, hold, item, merchant, user, quantity, amount, created_at, progress } = order;
    let words = format!("{} {quantity} {amount} {merchant} {user} ", created_at.ms());
    [words.as_bytes(), id.bytes(), hold.bytes(), item.bytes(), &bytes_of(progress)].concat()
}

/// An order out of what [`packed`] makes.
pub(super) fn order_of(bytes: &[u8]) -> Result<OrderView> {
    let wrong = || damaged("an order");
    let words = Answer::split(bytes.to_vec(), 6);
    let (id, rest) = words.bytes(5)?.split_first_chunk::<16>().ok_or_else(wrong)?;
    let (hold, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
    let (item, progress) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
    Ok(OrderView {
        id: OrderId::from_bytes(*id),
        hold: HoldId::from_bytes(*hold),
        item: ItemId::from_bytes(*item),
        merchant: words.user(3)?,
        user: words.user(4)?,
        quantity: words.units(1)?,
        amount: words.amount(2)?,
        created_at: words.at(0)?,
        progress: progress_of(progress)?,
    })
}

/// The same as a command's outcome.
pub(super) fn outcome_of(bytes: &[u8]) -> Result<Outcome> {
    Ok(Outcome::Order(Box::new(OrderNow::new(order_of(bytes)?))))
}

fn bytes_of(progress: &OrderProgress) -> Vec<u8> {
    postcard::to_extend(progress, Vec::new()).expect("what became of an order has a postcard form")
}

fn progress_of(bytes: &[u8]) -> Result<OrderProgress> {
    postcard::from_bytes(bytes).map_err(|_| damaged("an order"))
}

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}
