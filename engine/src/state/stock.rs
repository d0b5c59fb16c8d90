//! Items on sale and the holds on their units.
//!
//! **Invariant (I4):** stock = free + held + sold, none below zero: free is
//! what is left, and every event checks it.
//!
//! **Invariant:** an item says `sold_out` only when none of its holds is due,
//! however many fell due at once.
//!
//! **Invariant:** a user's due holds never count against that user's limit.

use crate::command::{HoldState, HoldView, ItemChange, ItemView, NewItem, Outcome, Refusal, Stock};
use crate::event::{Held, HoldEnded, ItemPut, Units};
use crate::mutants::{Mutant, is_planted};
use crate::types::{Amount, HoldId, Lsn, OrderId, Timestamp, UserId};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::BTreeSet;

const YEAR_S: u64 = 31_536_000;
/// Due holds that a grab gives back on its way, besides those it needs.
const RELEASE_WITH_GRAB: usize = 64;

/// Holds ended in one record, at most: with the longest names and
/// the largest figures they take 75 of the 128 KiB that a record may have.
pub(crate) const END_RECORD_MAX: usize = 512;

/// Holds of one shard, by id.
pub(crate) type Holds = HashMap<HoldId, Hold, super::IdHash>;

/// A hold, and the last record that changed it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) view: HoldView,
    pub(crate) last_lsn: Lsn,
}

/// A user's part in an item.
#[derive(Clone, Debug, Default)]
struct Share {
    units: Units,
    /// The user's live holds.
    holds: SmallVec<[HoldId; 1]>,
}

/// An item on sale.
pub(crate) struct Item {
    pub(crate) put: Box<ItemPut>,
    held: u32,
    sold: u32,
    users: HashMap<UserId, Share, super::UserHash>,
    /// Live holds by deadline.
    due: BTreeSet<(Timestamp, HoldId)>,
    /// The deadline for which the shard's timer is set.
    pub(crate) timer_at: Option<Timestamp>,
    pub(crate) last_lsn: Lsn,
}

/// What a grab of an item comes to: due holds that end first, and then a new
/// hold or an answer; or neither, if it takes the end of more holds than fit a
/// record: then it is to be decided again once these have ended.
pub(crate) struct GrabItemDecision {
    pub(crate) expired: Vec<HoldEnded>,
    pub(crate) result: Option<Result<Held, Outcome>>,
}

impl Item {
    pub(crate) fn new(put: Box<ItemPut>) -> Item {
        Item {
            put,
            held: 0,
            sold: 0,
            users: HashMap::default(),
            due: BTreeSet::new(),
            timer_at: None,
            last_lsn: Lsn(0),
        }
    }

    pub(crate) fn stock(&self) -> Stock {
        let total = self.put.stock_total;
        Stock { total, free: total - self.held - self.sold, held: self.held, sold: self.sold }
    }

    pub(crate) fn view(&self) -> ItemView {
        ItemView {
            id: self.put.id,
            created_at: self.put.created_at,
            terms: self.put.terms.clone(),
            stock: self.stock(),
        }
    }

    /// Decides a grab. `hold` is the id of the hold it may make.
    pub(crate) fn grab(
        &self,
        holds: &Holds,
        now: Timestamp,
        user: &UserId,
        quantity: u32,
        hold: HoldId,
    ) -> GrabItemDecision {
        let answer = |outcome| GrabItemDecision { expired: Vec::new(), result: Some(Err(outcome)) };
        let terms = &self.put.terms;
        let limit = terms.per_user_limit.unwrap_or(u32::MAX);
        if quantity == 0 || quantity > limit {
            let message = format!("must be 1 to {limit} (the item's limit for one user)");
            return answer(Outcome::Refused(Refusal::invalid("quantity", message)));
        }
        let Some(amount) = terms.price.checked_mul(quantity.into()) else {
            return answer(Outcome::Refused(Refusal::invalid("quantity", "price times quantity is above 2^53-1")));
        };
        let mine = self.users.get(user);
        let alive = |id: &&HoldId| holds[*id].view.expires_at > now;
        // The oldest, if a limit was lowered to 1; told by the holds themselves,
        // because a start loads them in another order.
        let age = |id: &&HoldId| (holds[*id].view.created_at, **id);
        if limit == 1
            && let Some(live) = mine.and_then(|share| share.holds.iter().filter(alive).min_by_key(age))
        {
            return answer(held_answer(&holds[live].view, true));
        }
        if terms.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return answer(Outcome::Ended);
        }
        if let Some(starts_at) = terms.starts_at.filter(|&starts_at| now < starts_at) {
            return answer(Outcome::NotOpen { opens_at: starts_at });
        }

        // The user's own due holds first, wherever they stand among all that are
        // due; then others, up to a number, or as many as the grab needs.
        let mut ending = Ending::new(self, holds);
        let own = mine.iter().flat_map(|share| &share.holds).copied();
        for id in own.filter(|id| holds[id].view.expires_at <= now) {
            if ending.is_full() {
                return GrabItemDecision { expired: ending.ended, result: None };
            }
            ending.end(id);
        }
        for id in self.due_holds(now) {
            if is_planted(Mutant::IgnoreDueHolds) {
                break;
            }
            if ending.ended.len() >= RELEASE_WITH_GRAB && self.stock().free + ending.freed >= quantity {
                break;
            }
            if ending.is_full() {
                return GrabItemDecision { expired: ending.ended, result: None };
            }
            ending.end(id);
        }
        let free = self.stock().free + ending.freed;
        let mine_after = ending.units_of(user);
        let expired = ending.ended;

        let result = if mine_after.held.saturating_add(mine_after.sold).saturating_add(quantity) > limit {
            Err(Outcome::LimitReached)
        } else if free < quantity {
            Err(Outcome::SoldOut)
        } else {
            Ok(Held {
                hold,
                item: self.put.id,
                user: user.clone(),
                quantity,
                amount,
                expires_at: now.plus_s(terms.hold_ttl_s),
                units_after: Units { held: mine_after.held + quantity, sold: mine_after.sold },
            })
        };
        GrabItemDecision { expired, result: Some(result) }
    }

    fn due_holds(&self, now: Timestamp) -> impl Iterator<Item = HoldId> {
        self.due.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The holds that are due now, ended, as many as a record takes.
    pub(crate) fn end_due(&self, holds: &Holds, now: Timestamp) -> Vec<HoldEnded> {
        let mut ending = Ending::new(self, holds);
        self.due_holds(now).take(END_RECORD_MAX).for_each(|id| ending.end(id));
        ending.ended
    }

    /// The event that ends a hold of this item in `state`.
    pub(crate) fn end(&self, hold: &HoldView, state: HoldState, merchant: Option<(UserId, Amount)>) -> HoldEnded {
        let units = self.users[&hold.user].units;
        let sold = if matches!(state, HoldState::Claimed(_)) { hold.quantity } else { 0 };
        let units_after = Units { held: units.held - hold.quantity, sold: units.sold + sold };
        HoldEnded { hold: HoldView { state, ..hold.clone() }, units_after, merchant }
    }

    /// When a hold will be due, if there may be one.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn apply_held(&mut self, event: &Held) {
        assert!(event.quantity <= self.stock().free, "no unit is held that is not free (I4)");
        self.held += event.quantity;
        let share = self.users.entry(event.user.clone()).or_default();
        share.units.held += event.quantity;
        share.holds.push(event.hold);
        assert!(share.units == event.units_after, "a user's units are what the last record says (I4)");
        self.due.insert((event.expires_at, event.hold));
    }

    pub(crate) fn apply_ended(&mut self, event: &HoldEnded) {
        let hold = &event.hold;
        let expired = hold.state == HoldState::Expired;
        if !(expired && is_planted(Mutant::ReturnUnitsNever)) {
            self.held -= hold.quantity;
        }
        if expired && is_planted(Mutant::ReturnUnitsTwice) {
            self.held = self.held.saturating_sub(hold.quantity);
        }
        let share = self.users.get_mut(&hold.user).expect("who has a hold has a part in its item");
        share.holds.retain(|id| *id != hold.id);
        share.units = event.units_after;
        if matches!(hold.state, HoldState::Claimed(_)) {
            self.sold += hold.quantity;
        }
        if share.units == Units::default() {
            self.users.remove(&hold.user);
        }
        assert!(self.due.remove(&(hold.expires_at, hold.id)), "a hold ends once (I5)");
    }

    /// Restores a user's units and live holds from before the last start.
    pub(crate) fn restore_units(&mut self, user: &UserId, units: Units) {
        self.held += units.held;
        self.sold += units.sold;
        self.users.insert(user.clone(), Share { units, holds: SmallVec::new() });
    }

    /// Restores a live hold, after its user's units.
    pub(crate) fn restore_hold(&mut self, hold: &HoldView) {
        let share = self.users.get_mut(&hold.user).expect("who has a hold has a part in its item");
        share.holds.push(hold.id);
        self.due.insert((hold.expires_at, hold.id));
    }
}

/// Due holds of an item being ended in one record.
struct Ending<'a> {
    item: &'a Item,
    holds: &'a Holds,
    freed: u32,
    ended: Vec<HoldEnded>,
    /// What is left to the users met so far.
    left: HashMap<&'a UserId, Units, super::UserHash>,
}

impl<'a> Ending<'a> {
    fn new(item: &'a Item, holds: &'a Holds) -> Ending<'a> {
        Ending { item, holds, freed: 0, ended: Vec::new(), left: HashMap::default() }
    }

    /// Whether as many have ended as a record takes.
    fn is_full(&self) -> bool {
        self.ended.len() >= END_RECORD_MAX
    }

    /// Ends a due hold, unless it already did here.
    fn end(&mut self, id: HoldId) {
        if self.ended.iter().any(|ended| ended.hold.id == id) {
            return;
        }
        let hold = &self.holds[&id].view;
        let left = self.left.entry(&hold.user).or_insert_with(|| self.item.users[&hold.user].units);
        left.held -= hold.quantity;
        self.freed += hold.quantity;
        let hold = HoldView { state: HoldState::Expired, ..hold.clone() };
        self.ended.push(HoldEnded { hold, units_after: *left, merchant: None });
    }

    fn units_of(&self, user: &UserId) -> Units {
        let before = || self.item.users.get(user).map(|share| share.units);
        self.left.get(user).copied().or_else(before).unwrap_or_default()
    }
}

pub(crate) fn held_answer(hold: &HoldView, replayed: bool) -> Outcome {
    let HoldView { id, quantity, amount, expires_at, .. } = *hold;
    Outcome::Held { hold: id, quantity, amount, expires_at, replayed }
}

/// Checks an item's terms.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn check(terms: &NewItem) -> Result<(), Refusal> {
    let text = |field: &str, text: &str, max: usize| {
        let length = text.chars().count();
        if (1..=max).contains(&length) {
            return Ok(());
        }
        Err(Refusal::invalid(field, format!("must be 1 to {max} characters long")))
    };
    text("name", &terms.name, 200)?;
    text("category", &terms.category, 64)?;
    if terms.price.is_zero() {
        return Err(Refusal::invalid("price", "must be 1 to 9007199254740991"));
    }
    if terms.per_user_limit == Some(0) {
        return Err(Refusal::invalid("per_user_limit", "must be at least 1, or null for no limit"));
    }
    if let (Some(starts_at), Some(ends_at)) = (terms.starts_at, terms.ends_at)
        && ends_at <= starts_at
    {
        return Err(Refusal::invalid("ends_at", "must be after starts_at"));
    }
    if !(1..=YEAR_S).contains(&terms.hold_ttl_s) {
        return Err(Refusal::invalid("hold_ttl_s", "must be 1 to 31536000"));
    }
    if terms.image_url.as_ref().is_some_and(|url| url.len() > 2048) {
        return Err(Refusal::invalid("image_url", "must be at most 2048 characters long"));
    }
    Ok(())
}

/// The terms after a change.
pub(crate) fn changed(terms: &NewItem, change: &ItemChange) -> NewItem {
    let mut terms = terms.clone();
    let change = change.clone();
    macro_rules! take {
        ($($field:ident),*) => { $( if let Some(value) = change.$field { terms.$field = value; } )* };
    }
    take!(name, category, price, per_user_limit, starts_at, ends_at, hold_ttl_s, image_url);
    terms
}

/// An order as its claimed hold tells it.
pub(crate) fn order(hold: &HoldView, order: OrderId, merchant: &UserId, at: Timestamp) -> crate::command::OrderView {
    crate::command::OrderView {
        id: order,
        hold: hold.id,
        item: hold.item,
        merchant: merchant.clone(),
        user: hold.user.clone(),
        quantity: hold.quantity,
        amount: hold.amount,
        created_at: at,
    }
}
