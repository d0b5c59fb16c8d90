//! Items on sale and the holds on their units.
//!
//! **Invariant (I4):** stock = free + held + sold, none below zero: free is
//! what is left, and every event checks it.
//!
//! **Invariant:** an item says `sold_out` only when none of its holds is due, however
//! many fell due at once, and too few gifts that are due hold a unit of it.
//!
//! **Invariant:** a user's due holds and gifts never count against that user's limit.

use super::gifts::unit_of;
use super::slab::Indexed;
use super::winners::Name;
use super::{Chore, Timers};
use crate::code::CODES_OF_ORDER_MAX;
use crate::command::{
    HoldState, HoldView, ItemChange, ItemKind, ItemView, MerchantStatus, NewItem, Outcome, Refusal, Stock,
};
use crate::event::{Held, HoldEnded, ItemPut, Units};
use crate::gift::{Gift, GiftState};
use crate::group::{Group, GroupState};
use crate::mutants::{Mutant, is_planted};
use crate::types::{Amount, GiftId, GroupId, HoldId, ItemId, Lsn, Timestamp, UserId, YEAR_S};
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

/// How long ago the end may lie that a change sets, to end a sale at once.
const END_NOW_S: u64 = 60;
/// Due holds that a grab gives back on its way, besides those it needs.
const RELEASE_WITH_GRAB: usize = 64;

/// Holds ended in one record, at most: with the longest names and
/// the largest figures they take 75 of the 128 KiB that a record may have.
pub(crate) const END_RECORD_MAX: usize = 512;

/// Holds of one shard, by id.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Holds {
    all: Indexed<Hold>,
    /// The items that the holds are of, by the numbers that stand in the holds.
    items: Vec<ItemId>,
    /// Those that have ended, in the order of their last records.
    ended: VecDeque<Ended>,
    /// Turns when the numbers of items are given anew.
    era: u32,
}

/// A hold that has ended, and its last record.
struct Ended {
    hold: u32,
    last_lsn: Lsn,
}

/// Ended holds forgotten at a time: the shard is locked meanwhile.
const FORGET_MAX: usize = 4096;

/// One hold. It fills a cache line, because a flash sale makes them by the
/// million under one lock.
pub(crate) struct Hold {
    id: HoldId,
    body: Body,
}

const _: () = assert!(size_of::<Option<Hold>>() == 64);

enum Body {
    Live(Live),
    Ended(Box<HoldView>),
}

/// A live hold but for its id and its user, who stands in the user's part of
/// the item. Packed, so that the word that says which body it is fits as well.
#[derive(Clone, Copy, Default)]
#[repr(C, packed(4))]
struct Live {
    /// The item's number in [`Holds::items`].
    item: u32,
    /// The number of its user's part.
    share: u32,
    /// Where it stands among its user's live holds.
    share_at: u32,
    /// Where it stands among those with its deadline.
    due_at: u32,
    quantity: u32,
    amount: Amount,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl Holds {
    pub(crate) fn len(&self) -> usize {
        self.all.values.len()
    }

    /// The item of a hold.
    pub(crate) fn item_of(&self, id: &HoldId) -> Option<ItemId> {
        self.find(id).map(|at| match &self.all.values[at].body {
            Body::Live(live) => self.items[live.item as usize],
            Body::Ended(view) => view.item,
        })
    }

    /// Forgets holds that have ended with records up to `persisted`, some at a time.
    pub(crate) fn forget_ended(&mut self, persisted: Lsn) {
        for _ in 0..FORGET_MAX {
            let Some(&Ended { hold, .. }) = self.ended.front().filter(|ended| ended.last_lsn <= persisted) else {
                break;
            };
            self.ended.pop_front();
            let hash = hash(&self.all.values[hold].id);
            self.all.remove(hash, hold);
        }
        if self.len() == 0 {
            // A sale is over: its memory goes too.
            *self = Holds { era: self.era.wrapping_add(1), ..Holds::default() };
        }
    }

    #[inline]
    fn find(&self, id: &HoldId) -> Option<u32> {
        self.all.find(hash(id), |hold| hold.id == *id)
    }

    #[inline]
    fn live(&self, at: u32) -> Live {
        match &self.all.values[at].body {
            Body::Live(live) => *live,
            Body::Ended(_) => unreachable!("a hold that has ended is among no item's live ones (I5)"),
        }
    }

    #[inline]
    fn live_mut(&mut self, at: u32) -> &mut Live {
        match &mut self.all.values[at].body {
            Body::Live(live) => live,
            Body::Ended(_) => unreachable!("a hold that has ended is among no item's live ones (I5)"),
        }
    }
}

#[inline]
fn hash(id: &HoldId) -> u64 {
    super::IdHash::default().hash_one(id)
}

/// A user's part in an item.
struct Share {
    user: UserId,
    units: Units,
    /// The user's live holds.
    holds: SmallVec<[u32; 2]>,
}

/// Live holds by deadline: those of one millisecond in any order, so that a
/// grab appends and the end of a hold fills its gap with the last.
#[derive(Default)]
#[repr(C)]
struct Due {
    /// The deadline that was added to last: what is grabbed together is due together.
    newest: (Timestamp, Vec<u32>),
    /// All others, none of them empty.
    others: BTreeMap<Timestamp, Vec<u32>>,
}

impl Due {
    /// Adds a hold, and says where it stands among those of its deadline.
    #[inline]
    fn insert(&mut self, expires_at: Timestamp, hold: u32) -> u32 {
        if self.newest.0 != expires_at {
            self.turn(expires_at);
        }
        self.newest.1.push(hold);
        self.newest.1.len() as u32 - 1
    }

    #[cold]
    fn turn(&mut self, expires_at: Timestamp) {
        let next = self.others.remove(&expires_at).unwrap_or_default();
        let (at, together) = std::mem::replace(&mut self.newest, (expires_at, next));
        if !together.is_empty() {
            self.others.insert(at, together);
        }
    }

    fn remove(&mut self, holds: &mut Holds, at: u32) {
        let Live { expires_at, due_at, .. } = holds.live(at);
        let gap = due_at as usize;
        let is_newest = self.newest.0 == expires_at;
        let others = if is_newest { None } else { self.others.get_mut(&expires_at) };
        let together = others.unwrap_or(&mut self.newest.1);
        assert!(together.get(gap) == Some(&at), "a hold ends once (I5)");
        together.swap_remove(gap);
        match together.get(gap) {
            Some(&moved) => holds.live_mut(moved).due_at = gap as u32,
            None if together.is_empty() && !is_newest => drop(self.others.remove(&expires_at)),
            None => {}
        }
    }

    /// Live holds whose time is over, the earliest first.
    fn until(&self, now: Timestamp) -> impl Iterator<Item = u32> {
        let (at, together) = &self.newest;
        let before = self.others.range(..=now.min(*at)).flat_map(|(_, together)| together);
        let newest = together.iter().take_while(move |_| *at <= now);
        let after = self.others.range(*at..).take_while(move |(at, _)| **at <= now).flat_map(|(_, together)| together);
        before.chain(newest).chain(after).copied()
    }

    #[inline]
    fn first(&self) -> Option<Timestamp> {
        let newest = (!self.newest.1.is_empty()).then_some(self.newest.0);
        let others = self.others.first_key_value().map(|(at, _)| *at);
        newest.into_iter().chain(others).min()
    }
}

/// An item on sale. What a grab writes lies together: every cache line of it
/// goes from core to core.
#[repr(C, align(64))]
pub(crate) struct Item {
    pub(crate) last_lsn: Lsn,
    held: u32,
    sold: u32,
    users: Indexed<Share>,
    due: Due,
    pub(crate) put: Box<ItemPut>,
    /// Gifts that hold a unit, by the deadline after which they do not.
    gifts: BTreeSet<(Timestamp, GiftId)>,
    /// Groups that are open, by the deadline after which they hold no units.
    groups: BTreeSet<(Timestamp, GroupId)>,
    /// The deadline for which the shard's timer is set.
    pub(crate) timer_at: Option<Timestamp>,
    /// Its number in [`Holds::items`], and in which era that was given.
    number: Option<(u32, u32)>,
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
            last_lsn: Lsn(0),
            held: 0,
            sold: 0,
            users: Indexed::default(),
            due: Due::default(),
            put,
            gifts: BTreeSet::new(),
            groups: BTreeSet::new(),
            timer_at: None,
            number: None,
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

    #[inline]
    fn share_number(&self, name: &Name<'_>) -> Option<u32> {
        self.users.find(name.hash, |share| name.is(&share.user))
    }

    #[inline]
    fn share_of(&self, name: &Name<'_>) -> Option<&Share> {
        self.share_number(name).map(|at| &self.users.values[at])
    }

    /// One of its holds, by id.
    pub(crate) fn hold(&self, holds: &Holds, id: &HoldId) -> Option<HoldView> {
        holds.find(id).map(|at| self.view_of(&holds.all.values[at]))
    }

    fn view_of(&self, hold: &Hold) -> HoldView {
        match &hold.body {
            Body::Live(live) => HoldView {
                id: hold.id,
                item: self.put.id,
                user: self.users.values[live.share].user.clone(),
                quantity: live.quantity,
                amount: live.amount,
                state: HoldState::Held,
                created_at: live.created_at,
                expires_at: live.expires_at,
            },
            Body::Ended(view) => (**view).clone(),
        }
    }

    /// Decides a grab. `refused`: as what its merchant stands, if it may not sell;
    /// `hold` is the id of the hold it may make.
    #[inline]
    pub(crate) fn grab(
        &self,
        holds: &Holds,
        now: Timestamp,
        refused: Option<MerchantStatus>,
        (name, user): (&Name<'_>, &UserId),
        quantity: u32,
        hold: HoldId,
    ) -> GrabItemDecision {
        let answer = |outcome| GrabItemDecision { expired: Vec::new(), result: Some(Err(outcome)) };
        let terms = &self.put.terms;
        let limit = terms.per_user_limit.unwrap_or(u32::MAX);
        if quantity == 0 || quantity > limit {
            return answer(Outcome::Refused(Refusal::over_limit(limit)));
        }
        if quantity > CODES_OF_ORDER_MAX && self.has_codes() {
            return answer(Outcome::Refused(Refusal::over_codes()));
        }
        let Some(amount) = terms.price.checked_mul(quantity.into()) else {
            return answer(Outcome::Refused(Refusal::price_too_high()));
        };
        let mine = self.share_of(name);
        if limit == 1
            && let Some(share) = mine
        {
            // The oldest, if a limit was lowered to 1; told by the holds themselves,
            // because a start loads them in another order.
            let mine = share.holds.iter().map(|&at| (holds.all.values[at].id, holds.live(at)));
            let live =
                mine.filter(|(_, hold)| { hold.expires_at } > now).min_by_key(|(id, hold)| (hold.created_at, *id));
            if let Some((hold, Live { quantity, amount, expires_at, .. })) = live {
                return answer(Outcome::Held { hold, quantity, amount, expires_at, replayed: true });
            }
        }
        if let Some(status) = refused {
            return answer(Outcome::Refused(Refusal::merchant(status)));
        }
        self.set_aside(holds, now, (name, user), (quantity, amount), hold)
    }

    /// Decides whether so many units are set aside for gifts of this user's, or for the user in a group, all or
    /// none. What is held is theirs, whatever the id.
    pub(crate) fn give(
        &self,
        holds: &Holds,
        now: Timestamp,
        refused: Option<MerchantStatus>,
        (giver, quantity): (&UserId, u32),
        hold: HoldId,
    ) -> GrabItemDecision {
        if let Some(status) = refused {
            let result = Some(Err(Outcome::Refused(Refusal::merchant(status))));
            return GrabItemDecision { expired: Vec::new(), result };
        }
        self.set_aside(holds, now, (&Name::of(giver), giver), (quantity, self.put.terms.price), hold)
    }

    #[inline]
    fn set_aside(
        &self,
        holds: &Holds,
        now: Timestamp,
        (name, user): (&Name<'_>, &UserId),
        (quantity, amount): (u32, Amount),
        hold: HoldId,
    ) -> GrabItemDecision {
        let answer = |outcome| GrabItemDecision { expired: Vec::new(), result: Some(Err(outcome)) };
        let terms = &self.put.terms;
        let limit = terms.per_user_limit.unwrap_or(u32::MAX);
        let mine = self.share_of(name);
        if terms.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return answer(Outcome::Ended);
        }
        if let Some(starts_at) = terms.starts_at.filter(|&starts_at| now < starts_at) {
            return answer(Outcome::NotOpen { opens_at: starts_at });
        }

        let mut free = self.stock().free;
        let mut units = mine.map(|share| share.units).unwrap_or_default();
        let mut expired = Vec::new();
        if self.due.first().is_some_and(|at| at <= now) {
            let mut ending = Ending::new(self, holds);
            if ending.make_room(mine, now, quantity).is_break() {
                return GrabItemDecision { expired: ending.ended, result: None };
            }
            free += ending.freed;
            let left = self.share_number(name).and_then(|share| ending.left.get(&share));
            units = left.copied().unwrap_or(units);
            expired = ending.ended;
        }
        let result = if units.held.saturating_add(units.sold).saturating_add(quantity) > limit {
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
                units_after: Units { held: units.held + quantity, sold: units.sold },
            })
        };
        GrabItemDecision { expired, result: Some(result) }
    }

    /// The holds that are due now, ended, as many as a record takes.
    pub(crate) fn end_due(&self, holds: &Holds, now: Timestamp) -> Vec<HoldEnded> {
        let mut ending = Ending::new(self, holds);
        self.due.until(now).take(END_RECORD_MAX).for_each(|at| ending.end(at));
        ending.ended
    }

    /// The event that ends a hold of this item in `state`.
    pub(crate) fn end(&self, hold: &HoldView, state: HoldState, merchant: Option<(UserId, Amount)>) -> HoldEnded {
        let units = self.share_of(&Name::of(&hold.user)).expect("who has a hold has a part in its item").units;
        let sold = if matches!(state, HoldState::Claimed(_)) { hold.quantity } else { 0 };
        let units_after = Units { held: units.held - hold.quantity, sold: units.sold + sold };
        HoldEnded { hold: HoldView { state, ..hold.clone() }, units_after, merchant }
    }

    /// Sets the timer for the next due hold, if it is not set for then or earlier.
    #[inline]
    pub(crate) fn arm(&mut self, timers: &mut Timers) {
        let Some(next) = self.due.first() else { return };
        if self.timer_at.is_none_or(|set| next < set) {
            self.timer_at = Some(next);
            timers.push(Reverse((next, Chore::Item(self.put.id))));
        }
    }

    #[inline]
    pub(crate) fn apply_held(&mut self, holds: &mut Holds, event: &Held, name: &Name<'_>, at: Timestamp, lsn: Lsn) {
        assert!(event.quantity <= self.stock().free, "no unit is held that is not free (I4)");
        self.held += event.quantity;
        let share = self.share_at(&event.user, name);
        let units = &mut self.users.values[share].units;
        units.held += event.quantity;
        assert!(*units == event.units_after, "a user's units are what the last record says (I4)");
        let &Held { hold, quantity, amount, expires_at, .. } = event;
        self.add_hold(holds, hold, Live { share, quantity, amount, created_at: at, expires_at, ..Live::default() });
        self.last_lsn = lsn;
    }

    /// A user's units.
    pub(crate) fn units(&self, user: &UserId) -> Units {
        self.share_of(&Name::of(user)).map(|share| share.units).unwrap_or_default()
    }

    /// Units that a decision left a user over the limit, and short of what is free.
    pub(super) fn short_by(&self, user: &UserId, quantity: u32, decided: &GrabItemDecision) -> (u32, u32) {
        let freed = |of: Option<&UserId>| {
            let holds = decided.expired.iter().map(|ended| &ended.hold);
            holds.filter(|hold| of.is_none_or(|of| *of == hold.user)).map(|hold| hold.quantity).sum::<u32>()
        };
        let Units { held, sold } = self.units(user);
        let wanted = held.saturating_add(sold).saturating_sub(freed(Some(user))).saturating_add(quantity);
        let over = wanted.saturating_sub(self.put.terms.per_user_limit.unwrap_or(u32::MAX));
        (over, quantity.saturating_sub(self.stock().free + freed(None)))
    }

    /// Whether a user holds units of it for gifts or in groups: more than by holds.
    pub(super) fn holds_otherwise(&self, holds: &Holds, user: &UserId) -> bool {
        self.share_of(&Name::of(user))
            .is_some_and(|share| share.units.held > share.holds.iter().map(|&at| holds.live(at).quantity).sum::<u32>())
    }

    /// Gifts whose time is over and that hold units all the same, until somebody ends them.
    pub(crate) fn due_gifts(&self, now: Timestamp) -> impl Iterator<Item = GiftId> {
        let is_ignored = is_planted(Mutant::IgnoreDueGifts);
        self.gifts.iter().take_while(move |(at, _)| *at <= now && !is_ignored).map(|(_, gift)| *gift)
    }

    /// Groups whose time is over and that hold units all the same, until somebody ends them.
    pub(crate) fn due_groups(&self, now: Timestamp) -> impl Iterator<Item = GroupId> {
        self.groups.iter().take_while(move |(at, _)| *at <= now).map(|(_, group)| *group)
    }

    /// Notes until when a group holds units, if it does.
    pub(crate) fn note_group(&mut self, group: &Group) {
        let place = (group.expires_at, group.id);
        match group.state {
            GroupState::Open => _ = self.groups.insert(place),
            _ => _ = self.groups.remove(&place),
        }
    }

    /// Notes until when a gift holds a unit, if it does.
    pub(crate) fn note_gift(&mut self, before: Option<&Gift>, gift: &Gift) {
        let place = |gift: &Gift| gift.deadline().filter(|_| gift.state.holds_unit()).map(|at| (at, gift.id));
        if let Some(place) = before.and_then(place) {
            self.gifts.remove(&place);
        }
        self.gifts.extend(place(gift));
    }

    /// A gift's unit goes from where one state has it to where another does.
    pub(crate) fn apply_gift(&mut self, was: Option<GiftState>, gift: &Gift, units_after: Units, lsn: Lsn) {
        let ((held_was, sold_was), (held, sold)) = (unit_of(was), unit_of(Some(gift.state)));
        let by = |now: u32, was: u32| i32::from(now > was) - i32::from(now < was);
        self.shift(&gift.giver, (by(held, held_was), by(sold, sold_was)), units_after, lsn);
    }

    /// So many units of a user's more are held, and so many more sold.
    pub(super) fn shift(&mut self, user: &UserId, (held, sold): (i32, i32), units_after: Units, lsn: Lsn) {
        let moved = |count: u32, by| count.checked_add_signed(by).expect("no count of units is below zero (I4)");
        (self.held, self.sold) = (moved(self.held, held), moved(self.sold, sold));
        assert!(self.held + self.sold <= self.put.stock_total, "no unit is given that is not free (I4)");
        let name = Name::of(user);
        let share = self.share_at(user, &name);
        let units = &mut self.users.values[share].units;
        (units.held, units.sold) = (moved(units.held, held), moved(units.sold, sold));
        assert!(*units == units_after, "a user's units are what the last record says (I4)");
        if units_after == Units::default() {
            self.users.remove(name.hash, share);
        }
        self.last_lsn = lsn;
    }

    /// Units that a user has bought are free again.
    pub(super) fn take_back(&mut self, user: &UserId, quantity: u32) {
        let name = Name::of(user);
        let share = self.share_number(&name).expect("who has bought units has a part in their item");
        self.sold -= quantity;
        let units = &mut self.users.values[share].units;
        units.sold -= quantity;
        if *units == Units::default() {
            self.users.remove(name.hash, share);
        }
    }

    pub(crate) fn apply_ended(&mut self, holds: &mut Holds, event: HoldEnded, lsn: Lsn) {
        let ended = event.hold;
        let expired = ended.state == HoldState::Expired;
        if !(expired && is_planted(Mutant::ReturnUnitsNever)) {
            self.held -= ended.quantity;
        }
        if expired && is_planted(Mutant::ReturnUnitsTwice) {
            self.held = self.held.saturating_sub(ended.quantity);
        }
        let hold = holds.find(&ended.id).expect("a live hold is in memory (I5)");
        let Live { share: at, share_at: gap, .. } = holds.live(hold);
        let gap = gap as usize;
        let share = &mut self.users.values[at];
        assert!(share.holds.get(gap) == Some(&hold), "a hold ends once (I5)");
        share.holds.swap_remove(gap);
        if let Some(&moved) = share.holds.get(gap) {
            holds.live_mut(moved).share_at = gap as u32;
        }
        share.units = event.units_after;
        if matches!(ended.state, HoldState::Claimed(_)) {
            self.sold += ended.quantity;
        }
        if share.units == Units::default() {
            self.users.remove(Name::of(&ended.user).hash, at);
        }
        self.due.remove(holds, hold);
        holds.ended.push_back(Ended { hold, last_lsn: lsn });
        holds.all.values[hold].body = Body::Ended(Box::new(ended));
        self.last_lsn = lsn;
    }

    /// Has a live hold be due at another time.
    pub(super) fn apply_due(&mut self, holds: &mut Holds, hold: HoldId, expires_at: Timestamp, lsn: Lsn) {
        let at = holds.find(&hold).expect("a live hold is in memory (I5)");
        self.due.remove(holds, at);
        holds.live_mut(at).expires_at = expires_at;
        holds.live_mut(at).due_at = self.due.insert(expires_at, at);
        self.last_lsn = lsn;
    }

    /// Restores a user's units from before the last start.
    pub(crate) fn restore_units(&mut self, user: &UserId, units: Units) {
        self.held += units.held;
        self.sold += units.sold;
        let share = self.share_at(user, &Name::of(user));
        self.users.values[share].units = units;
    }

    /// Restores a live hold, after its user's units.
    pub(crate) fn restore_hold(&mut self, holds: &mut Holds, hold: &HoldView) {
        let share = self.share_number(&Name::of(&hold.user)).expect("who has a hold has a part in its item");
        let &HoldView { quantity, amount, created_at, expires_at, .. } = hold;
        self.add_hold(holds, hold.id, Live { share, quantity, amount, created_at, expires_at, ..Live::default() });
    }

    /// The number of a user's part, a new one if there was none.
    #[inline]
    fn share_at(&mut self, user: &UserId, name: &Name<'_>) -> u32 {
        self.share_number(name).unwrap_or_else(|| {
            let share = Share { user: user.clone(), units: Units::default(), holds: SmallVec::new() };
            self.users.insert(name.hash, share)
        })
    }

    /// Puts a hold where it is found: by its id, its user and its deadline.
    #[inline]
    fn add_hold(&mut self, holds: &mut Holds, id: HoldId, mut live: Live) {
        live.item = match self.number {
            Some((number, era)) if era == holds.era => number,
            _ => {
                let number = holds.items.len() as u32;
                holds.items.push(self.put.id);
                self.number = Some((number, holds.era));
                number
            }
        };
        let mine = &mut self.users.values[live.share].holds;
        live.share_at = mine.len() as u32;
        let at = holds.all.values.next();
        mine.push(at);
        live.due_at = self.due.insert(live.expires_at, at);
        let added = holds.all.insert(hash(&id), Hold { id, body: Body::Live(live) });
        debug_assert_eq!(added, at, "a value gets the number that is next");
    }
}

/// Due holds of an item being ended in one record.
struct Ending<'a> {
    item: &'a Item,
    holds: &'a Holds,
    freed: u32,
    ended: Vec<HoldEnded>,
    /// What is left to the users met so far, by their parts' numbers.
    left: HashMap<u32, Units, super::UserHash>,
}

impl<'a> Ending<'a> {
    fn new(item: &'a Item, holds: &'a Holds) -> Ending<'a> {
        Ending { item, holds, freed: 0, ended: Vec::new(), left: HashMap::default() }
    }

    /// Whether as many have ended as a record takes.
    fn is_full(&self) -> bool {
        self.ended.len() >= END_RECORD_MAX
    }

    /// Ends the user's own due holds first, wherever they stand among all that
    /// are due; then others, up to a number, or as many as the grab needs. It
    /// breaks off when a record takes no more.
    fn make_room(&mut self, mine: Option<&Share>, now: Timestamp, quantity: u32) -> ControlFlow<()> {
        let own = mine.iter().flat_map(|share| &share.holds).copied();
        for at in own.filter(|&at| { self.holds.live(at).expires_at } <= now) {
            if self.is_full() {
                return ControlFlow::Break(());
            }
            self.end(at);
        }
        for at in self.item.due.until(now) {
            if is_planted(Mutant::IgnoreDueHolds) {
                break;
            }
            if self.ended.len() >= RELEASE_WITH_GRAB && self.item.stock().free + self.freed >= quantity {
                break;
            }
            if self.is_full() {
                return ControlFlow::Break(());
            }
            self.end(at);
        }
        ControlFlow::Continue(())
    }

    /// Ends a due hold, unless it already did here.
    fn end(&mut self, at: u32) {
        let (item, found) = (self.item, &self.holds.all.values[at]);
        if self.ended.iter().any(|ended| ended.hold.id == found.id) {
            return;
        }
        let Live { share, quantity, .. } = self.holds.live(at);
        let left = self.left.entry(share).or_insert_with(|| item.users.values[share].units);
        left.held -= quantity;
        self.freed += quantity;
        let hold = HoldView { state: HoldState::Expired, ..item.view_of(found) };
        self.ended.push(HoldEnded { hold, units_after: *left, merchant: None });
    }
}

/// The answer to who has just got a hold.
pub(crate) fn held_answer(held: &Held) -> Outcome {
    let Held { hold, quantity, amount, expires_at, .. } = *held;
    Outcome::Held { hold, quantity, amount, expires_at, replayed: false }
}

/// Checks an item's terms.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn check(terms: &NewItem) -> Result<(), Refusal> {
    Refusal::unless_long("name", &terms.name, 1..=200)?;
    Refusal::unless_long("category", &terms.category, 1..=64)?;
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
    if terms.origin.kind == ItemKind::Code && terms.stock > 0 {
        let why = "must be 0 or absent for the kind `code`; POST /v1/items/{id}/codes adds what it has";
        return Err(Refusal::invalid("stock", why));
    }
    if let Some(group_buy) = terms.group_buy {
        group_buy.check(terms.price)?;
    }
    if terms.image_url.as_ref().is_some_and(|url| url.len() > 2048) {
        return Err(Refusal::invalid("image_url", "must be at most 2048 characters long"));
    }
    Ok(())
}

/// Checks the times that are being set, which must be right when they are: one
/// that stands already in the terms `before` may have passed meanwhile.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn check_times(terms: &NewItem, before: Option<&NewItem>, now: Timestamp) -> Result<(), Refusal> {
    let set = |time: fn(&NewItem) -> Option<Timestamp>| {
        time(terms).filter(|_| before.is_none_or(|before| time(before) != time(terms)))
    };
    if let Some(starts_at) = set(|terms| terms.starts_at) {
        if starts_at < now {
            return Err(Refusal::invalid("starts_at", "must not be in the past; null opens the sale at once"));
        }
        if starts_at > now.plus_s(YEAR_S) {
            return Err(Refusal::invalid("starts_at", "must be at most a year ahead"));
        }
    }
    if let Some(ends_at) = set(|terms| terms.ends_at) {
        // Who ends a sale now has a clock of its own, and its request is under way for a while.
        let too_late = "must be in the future, or at most a minute ago to end the sale at once";
        match before {
            None if ends_at <= now => return Err(Refusal::invalid("ends_at", "must be in the future")),
            Some(_) if ends_at.plus_s(END_NOW_S) < now => return Err(Refusal::invalid("ends_at", too_late)),
            _ if ends_at > now.plus_s(2 * YEAR_S) => {
                return Err(Refusal::invalid("ends_at", "must be at most two years ahead"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The terms after a change at `now`.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn changed(before: &NewItem, change: &ItemChange, now: Timestamp) -> Result<NewItem, Refusal> {
    let mut terms = before.clone();
    let change = change.clone();
    macro_rules! take {
        ($($field:ident),*) => { $( if let Some(value) = change.$field { terms.$field = value; } )* };
    }
    take!(name, category, price, per_user_limit, starts_at, ends_at, hold_ttl_s, image_url, group_buy);
    check(&terms)?;
    check_times(&terms, Some(before), now)?;
    Ok(terms)
}
