//! Groups in memory: those that are open, and others that were asked for; and what is decided of them.
//!
//! **Invariant:** a group lives in the shard of its item, whose units it holds.

use super::decide::{Decision, credited, moved};
use super::orders::PendingOrder;
use super::sales::Sales;
use super::stock::Item;
use super::{Chore, Router, Shard, Shards};
use crate::backend::EntryKind;
use crate::code::HandedTo;
use crate::command::{OrderView, Outcome, Refusal};
use crate::event::{Event, Events, GroupChanged, GroupMove, GroupOrdered, Units};
use crate::group::{Group, GroupState, NewGroup};
use crate::mutants::{Mutant, is_planted};
use crate::order::OrderProgress;
use crate::sale::SaleOf;
use crate::types::{GroupId, HoldId, Lsn, OrderId, Timestamp, UserId};
use smallvec::smallvec;
use std::cmp::Reverse;

/// A group, or the knowledge that there is none under its id.
pub(crate) struct KnownGroup {
    pub(crate) group: Option<Box<Group>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
    /// The deadline for which the shard's timer is set.
    pub(crate) timer_at: Option<Timestamp>,
}

impl KnownGroup {
    /// One that was read, or that there is none.
    pub(crate) fn read(group: Option<Box<Group>>, touched_at: Timestamp) -> KnownGroup {
        KnownGroup { group, last_lsn: Lsn(0), touched_at, timer_at: None }
    }

    /// Whether something will become of it by itself.
    pub(crate) fn has_deadline(&self) -> bool {
        self.timer_at.is_some() || self.group.as_ref().is_some_and(|group| group.deadline().is_some())
    }
}

impl Item {
    /// One unit each of the users whom it concerns is set aside, or free again.
    fn apply_group(&mut self, event: &GroupChanged, lsn: Lsn) {
        let by = if event.is_joined() { 1 } else { -1 };
        for (member, units_after) in event.concerned().zip(&event.units_after) {
            self.shift(&member.user, (by, 0), *units_after, lsn);
        }
        self.note_group(&event.group);
    }
}

impl Shard {
    /// A group that is in memory.
    pub(crate) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)?.group.as_deref()
    }

    /// Restores an open group, after its item.
    pub(crate) fn restore_group(&mut self, group: Group) {
        self.items.get_mut(&group.item).expect("a group's item exists").note_group(&group);
        self.groups.insert(group.id, KnownGroup::read(Some(Box::new(group)), Timestamp::default()));
    }

    /// Carries a change out: the units, the group's own money, and the group.
    pub(super) fn apply_group(&mut self, event: GroupChanged, at: Timestamp, lsn: Lsn) {
        self.sums.escrowed = self.sums.escrowed.wrapping_add_signed(event.moved());
        let item = self.items.get_mut(&event.group.item).expect("a group's item exists");
        item.apply_group(&event, lsn);
        let (id, group) = (event.group.id, event.group);
        let before = self.groups.remove(&id);
        let stood = before.as_ref().and_then(|known| known.group.as_deref());
        let members = match event.step {
            GroupMove::Joined => group.members.len().checked_sub(1),
            GroupMove::Left(_) => Some(group.members.len() + 1),
            GroupMove::Ended => Some(group.members.len()),
        };
        let goes_on = |stood: &Group| stood.state == GroupState::Open && Some(stood.members.len()) == members;
        assert!(stood.is_none_or(goes_on), "a group goes on from where it stood (I5)");
        let timer_at = before.and_then(|known| known.timer_at);
        self.groups.insert(id, KnownGroup { group: Some(Box::new(group)), last_lsn: lsn, touched_at: at, timer_at });
        self.arm_group(id);
    }

    /// A member's unit is sold, and its money the merchant's, which the caller has seen to.
    pub(super) fn apply_group_ordered(&mut self, event: GroupOrdered, lsn: Lsn) {
        let GroupOrdered { order, units_after, .. } = event;
        let amount = order.amount.minor();
        self.sums.escrowed = self.sums.escrowed.wrapping_sub(amount);
        let item = self.items.get_mut(&order.item).expect("a group's item exists");
        let quantity = i32::try_from(order.quantity).expect("a member buys one unit");
        item.shift(&order.user, (-quantity, quantity), units_after, lsn);
        self.orders.insert(order.id, PendingOrder { order, lsn, sale: None });
    }

    /// Sets the timer for a group's deadline. One that is set for a group that has ended finds nothing
    /// due and is dropped.
    pub(crate) fn arm_group(&mut self, id: GroupId) {
        let Some(known) = self.groups.get_mut(&id) else { return };
        let next = known.group.as_ref().and_then(|group| group.deadline());
        if next != known.timer_at {
            known.timer_at = next;
            if let Some(at) = next {
                self.timers.push(Reverse((at, Chore::Group(id))));
            }
        }
    }
}

/// Opens a group: its leader is the first who joins.
pub(super) fn open(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    terms: &NewGroup,
    (id, order): (GroupId, OrderId),
) -> Decision {
    let Some(item) = shards.shard(router.item(terms.item)).items.get(&terms.item) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let Some(buy) = item.put.terms.group_buy else { return Decision::refuse(Refusal::no_group_buy()) };
    let group = Group::open(terms, id, &item.put.terms.merchant, buy, now);
    join_open(shards, router, now, group, &terms.leader, order, Outcome::Group)
}

/// Joins a group, unless the user is in it already.
pub(super) fn join(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    id: GroupId,
    user: &UserId,
    order: OrderId,
) -> Decision {
    let Some(group) = shards.shard(router.group(id)).group(id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    if group.is_due(now) {
        return end_first(id);
    }
    let is_member = group.member(user).is_some() && !is_planted(Mutant::JoinTwice);
    match group.state {
        GroupState::Open | GroupState::Full if is_member => {
            let (group, order) = (Box::new(group.clone()), group.order_of(user));
            Decision::known(Outcome::Joined { group, order, replayed: true })
        }
        GroupState::Full => Decision::no(Outcome::GroupFull),
        GroupState::Expired => Decision::no(Outcome::Expired),
        GroupState::LeaderLeft => Decision::no(Outcome::LeaderLeft),
        GroupState::Open => join_open(shards, router, now, group.clone(), user, order, |group| {
            let order = group.order_of(user);
            Outcome::Joined { group, order, replayed: false }
        }),
    }
}

/// Leaves a group that is open; if its leader does, it ends. Who is not in it, or not any more, has nothing
/// to leave, so a repeat is answered as the first was.
pub(super) fn leave(shards: &impl Shards, router: Router, now: Timestamp, id: GroupId, user: &UserId) -> Decision {
    let Some(group) = shards.shard(router.group(id)).group(id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    if group.is_due(now) {
        return end_first(id);
    }
    match (group.state, group.member(user)) {
        (GroupState::Open, Some(_)) if *user == group.leader => {
            let (events, after) = ended(shards, router, group, GroupState::LeaderLeft, now);
            Decision::new(events, Outcome::Group(after))
        }
        (GroupState::Open, Some(member)) => {
            let back = credited(shards, router, user, EntryKind::GroupRefund(id), group.price);
            let after = group.clone().left(user);
            let units_after = vec![units_without(shards, router, group, user)];
            let event = GroupChanged { step: GroupMove::Left(member.clone()), group: after.clone(), units_after };
            let events = smallvec![Event::WalletMoved(back), Event::GroupChanged(Box::new(event))];
            Decision::new(events, Outcome::Group(Box::new(after)))
        }
        (GroupState::Full, Some(_)) => Decision::refuse(Refusal::group_is_full()),
        _ => Decision::known(Outcome::Group(Box::new(group.clone()))),
    }
}

/// What has become of a group by itself; no events if nothing has.
pub(crate) fn due(shards: &impl Shards, router: Router, now: Timestamp, id: GroupId) -> Events {
    match shards.shard(router.group(id)).group(id) {
        Some(group) if group.is_due(now) => ended(shards, router, group, GroupState::Expired, now).0,
        _ => Events::new(),
    }
}

/// The group's time is over, and nobody has looked yet: it ends first, which takes its members' wallets.
fn end_first(id: GroupId) -> Decision {
    Decision { again: Some(vec![Chore::Group(id)]), ..Decision::no(Outcome::Expired) }
}

/// One more joins a group that is open: a unit is set aside and paid, and if it was the last, all have their orders.
fn join_open(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    group: Group,
    user: &UserId,
    order: OrderId,
    outcome: impl FnOnce(Box<Group>) -> Outcome,
) -> Decision {
    let shard = shards.shard(router.item(group.item));
    let item = &shard.items[&group.item];
    let refused = shard.refuses(&group.merchant);
    let taken = item.give(&shard.holds, now, refused, (user, 1), HoldId::from_bytes(*order.bytes()));
    let in_the_way = shard.in_the_way(item, now, (user, 1), &taken);
    // Units that came free on the way are given back whatever the answer.
    let mut events: Events = taken.expired.into_iter().map(|e| Event::HoldEnded(Box::new(e))).collect();
    let no = |outcome, events| Decision { events, ..Decision::no(outcome) };
    let held = match taken.result {
        None => return Decision { again: Some(Vec::new()), ..no(Outcome::SoldOut, events) },
        _ if !in_the_way.is_empty() => return Decision { again: Some(in_the_way), ..no(Outcome::SoldOut, events) },
        Some(Err(outcome)) => return no(outcome, events),
        Some(Ok(held)) => held,
    };
    let Some(paid) = moved(shards, router, user, EntryKind::GroupPaid(group.id), group.price) else {
        return no(Outcome::CannotPay, events);
    };
    let group = group.joined(user, order, now);
    let units_after = vec![held.units_after];
    let event = GroupChanged { step: GroupMove::Joined, group: group.clone(), units_after };
    events.extend([Event::WalletMoved(paid), Event::GroupChanged(Box::new(event))]);
    if group.state == GroupState::Full {
        let orders = ordered(shards, router, &group, now, &events);
        events.extend(orders);
    }
    Decision::new(events, outcome(Box::new(group)))
}

/// An order for each member of a group that is full, and its sale. `before`: the events of the same record.
fn ordered(shards: &impl Shards, router: Router, group: &Group, now: Timestamp, before: &[Event]) -> Events {
    let item = &shards.shard(router.item(group.item)).items[&group.item];
    // What was the case for all but those whom the events before concern.
    let units_of = |user: &UserId| {
        let told = before.iter().rev().find_map(|event| match event {
            Event::HoldEnded(ended) if ended.hold.user == *user => Some(ended.units_after),
            Event::GroupChanged(changed) if changed.concerned().any(|it| it.user == *user) => {
                changed.units_after.first().copied()
            }
            _ => None,
        });
        told.unwrap_or_else(|| item.units(user))
    };
    let mut sales = Sales::of(shards, router, &group.merchant, now);
    let mut events = Events::new();
    for (number, member) in (0..).zip(&group.members) {
        let Units { held, sold } = units_of(&member.user);
        let order = OrderView {
            id: member.order,
            hold: HoldId::from_bytes(*member.order.bytes()),
            item: group.item,
            merchant: group.merchant.clone(),
            user: member.user.clone(),
            quantity: 1,
            amount: group.price,
            created_at: now,
            progress: OrderProgress::default(),
        };
        let (owed_after, sale) = sales.sold(SaleOf::Order(order.id), group.price);
        let units_after = Units { held: held - 1, sold: sold + 1 };
        events.push(Event::GroupOrdered(Box::new(GroupOrdered { group: group.id, order, units_after, owed_after })));
        events.push(sale);
        events.extend(item.hand_after(number, 1, HandedTo::Order(member.order)));
    }
    events
}

/// Ends a group that came to nothing: all that are in it have their money back, in one record.
fn ended(
    shards: &impl Shards,
    router: Router,
    group: &Group,
    state: GroupState,
    now: Timestamp,
) -> (Events, Box<Group>) {
    let after = group.clone().ended(state, now);
    let forgotten = usize::from(is_planted(Mutant::ForgetMember) && group.members.len() > 1);
    let back = group.members.iter().skip(forgotten);
    let back = back.map(|it| credited(shards, router, &it.user, EntryKind::GroupRefund(group.id), group.price));
    let mut events: Events = back.map(Event::WalletMoved).collect();
    let units_after = group.members.iter().map(|it| units_without(shards, router, group, &it.user)).collect();
    let event = GroupChanged { step: GroupMove::Ended, group: after.clone(), units_after };
    events.push(Event::GroupChanged(Box::new(event)));
    (events, Box::new(after))
}

/// A user's units of a group's item without the one that the group holds.
fn units_without(shards: &impl Shards, router: Router, group: &Group, user: &UserId) -> Units {
    let Units { held, sold } = shards.shard(router.item(group.item)).items[&group.item].units(user);
    Units { held: held - 1, sold }
}
