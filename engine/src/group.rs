//! Group purchase: so many users buy an item together for less, or none of them does.
//!
//! A leader opens a group and others join it. Each member pays the group's price at once: a unit
//! is set aside, and the money is the group's own. The last that it takes makes an order of each
//! member's. Until then members may leave; if the leader does, or the time is over, all have their
//! money back.
//!
//! **Invariant (I5):** a group ends in one way, and nobody is in it twice. As long as it is open it
//! has one unit and the money of each member, and afterwards nothing.

use crate::command::{Reference, Refusal};
use crate::types::{Amount, GroupId, ItemId, OrderId, Timestamp, UserId, YEAR_S};
use serde::{Deserialize, Serialize};

/// The most members that a group has: all of its orders, or of what goes back, are one record.
pub const SIZE_MAX: u32 = 100;

/// On which terms groups buy an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBuy {
    /// How many members a group has, its leader among them, 2 to [`SIZE_MAX`].
    pub size: u32,
    /// What each pays for one unit, from 1 to the item's price.
    pub price: Amount,
    /// How long a group may take to be full, 1 to 31,536,000 seconds.
    pub within_s: u64,
}

impl GroupBuy {
    /// Checks the terms for an item of that price.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self, item_price: Amount) -> Result<(), Refusal> {
        if !(2..=SIZE_MAX).contains(&self.size) {
            return Err(Refusal::invalid("group_buy.size", format!("must be 2 to {SIZE_MAX}")));
        }
        if self.price.is_zero() || self.price > item_price {
            return Err(Refusal::invalid("group_buy.price", "must be 1 to the item's price"));
        }
        if !(1..=YEAR_S).contains(&self.within_s) {
            return Err(Refusal::invalid("group_buy.within_s", "must be 1 to 31536000"));
        }
        Ok(())
    }
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum GroupState {
    /// It takes more members.
    Open,
    /// It has all of them, and each has an order.
    Full,
    /// It was not full in time, and all have their money back.
    Expired,
    /// Its leader has left, and all have their money back.
    LeaderLeft,
}

impl GroupState {
    /// All of them, by their numbers.
    pub const ALL: [GroupState; 4] = [GroupState::Open, GroupState::Full, GroupState::Expired, GroupState::LeaderLeft];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Open => "open",
            GroupState::Full => "full",
            GroupState::Expired => "expired",
            GroupState::LeaderLeft => "leader_left",
        }
    }
}

/// A group to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGroup {
    /// The owner of the calling key.
    pub owner: String,
    /// What it buys.
    pub item: ItemId,
    /// Who opens it, and is its first member.
    pub leader: UserId,
    /// The caller's own number for it.
    pub reference: Option<Reference>,
}

/// Who is in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Since when.
    pub joined_at: Timestamp,
    /// The id of the order that is made once the group is full; nobody is told it before.
    pub order: OrderId,
}

/// A group as it is kept, and as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id, which begins as its item's.
    pub id: GroupId,
    /// The owner of the key that opened it.
    pub owner: String,
    /// Where it stands.
    pub state: GroupState,
    /// What it buys.
    pub item: ItemId,
    /// Who sells it.
    pub merchant: UserId,
    /// How many members it takes.
    pub size: u32,
    /// What each pays: the item's price for groups when it was opened.
    pub price: Amount,
    /// Who has opened it.
    pub leader: UserId,
    /// Who is in it, in the order in which they joined; of one that came to nothing, who was.
    pub members: Vec<Member>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Until when it takes members.
    pub expires_at: Timestamp,
    /// When it was full, or came to nothing.
    pub ended_at: Option<Timestamp>,
    /// The caller's own number.
    pub reference: Option<String>,
}

impl Group {
    /// One that nobody is in yet.
    pub(crate) fn open(terms: &NewGroup, id: GroupId, merchant: &UserId, buy: GroupBuy, now: Timestamp) -> Group {
        Group {
            id,
            owner: terms.owner.clone(),
            state: GroupState::Open,
            item: terms.item,
            merchant: merchant.clone(),
            size: buy.size,
            price: buy.price,
            leader: terms.leader.clone(),
            members: Vec::new(),
            created_at: now,
            expires_at: now.plus_s(buy.within_s),
            ended_at: None,
            reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
        }
    }

    /// The same with one more, who may be the last that it takes.
    pub(crate) fn joined(mut self, user: &UserId, order: OrderId, now: Timestamp) -> Group {
        self.members.push(Member { user: user.clone(), joined_at: now, order });
        if self.members.len() == self.size as usize {
            (self.state, self.ended_at) = (GroupState::Full, Some(now));
        }
        self
    }

    /// The same without a member.
    pub(crate) fn left(mut self, user: &UserId) -> Group {
        self.members.retain(|member| member.user != *user);
        self
    }

    /// The same, come to nothing.
    pub(crate) fn ended(self, state: GroupState, now: Timestamp) -> Group {
        Group { state, ended_at: Some(now), ..self }
    }

    /// Somebody who is in it.
    pub fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.iter().find(|member| member.user == *user)
    }

    /// The order that a member has got, if it is full.
    pub fn order_of(&self, user: &UserId) -> Option<OrderId> {
        self.member(user).filter(|_| self.state == GroupState::Full).map(|member| member.order)
    }

    /// When it comes to nothing by itself, if it is open.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        (self.state == GroupState::Open).then_some(self.expires_at)
    }

    /// Whether its time is over and nobody has looked yet.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }
}

/// Which groups a list is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupsOf {
    /// Those that a user is in, or was when they came to their end.
    User(UserId),
    /// Those that buy an item, and stand so if a state is given.
    Item(ItemId, Option<GroupState>),
}
