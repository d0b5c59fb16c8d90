//! Groups as the model sees them: who is in, and what follows from that, said again.

use crate::gifts::InTheWay;
use crate::model::{Decided, Model, Moment, When, no, refuse};
use hongbao_engine::backend::EntryKind;
use hongbao_engine::code::HandedTo;
use hongbao_engine::command::{Command, HoldState, HoldView, OrderView, Outcome, Refusal};
use hongbao_engine::group::{Group, GroupState, Member, NewGroup};
use hongbao_engine::types::{GroupId, HoldId, ItemId, OrderId, Timestamp, UserId};

#[derive(Clone, Debug)]
pub(crate) struct Together {
    /// As it is told; of its end only a range may be known.
    group: Group,
    ended: Option<When>,
    /// The last record that changed it.
    pub(crate) lsn: u64,
}

impl Together {
    pub(crate) fn group(&self) -> Group {
        Group { ended_at: self.ended.map(|when| when.from), ..self.group.clone() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.group.state == GroupState::Open
    }

    fn has(&self, user: &UserId) -> bool {
        self.group.members.iter().any(|member| member.user == *user)
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.is_open().then_some(self.group.expires_at)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }

    /// Units that it holds; of one user or of all.
    fn units(&self, user: Option<&UserId>) -> u32 {
        let counted = self.group.members.iter().filter(|member| user.is_none_or(|user| *user == member.user));
        if self.is_open() { counted.count() as u32 } else { 0 }
    }
}

impl Model {
    /// Units that groups of an item hold; of one user or of all.
    pub(crate) fn group_units(&self, item: ItemId, user: Option<&UserId>) -> u32 {
        self.groups.values().filter(|it| it.group.item == item).map(|it| it.units(user)).sum()
    }

    /// Money that is groups' own.
    pub(crate) fn in_groups(&self) -> u64 {
        self.groups.values().map(|it| u64::from(it.units(None)) * it.group.price.minor()).sum()
    }

    /// The group that a command is about, if its time is over: it ends first.
    pub(crate) fn due_group(&self, now: Timestamp, command: &Command) -> Option<InTheWay> {
        let (Command::JoinGroup { group, .. } | Command::LeaveGroup { group, .. }) = command else { return None };
        self.groups.get(group).filter(|it| it.is_due(now)).map(|_| InTheWay::Group(*group))
    }

    /// Whether a command asks for a unit to be set aside in a group, and of what.
    pub(crate) fn wanted_in_group<'a>(&'a self, command: &'a Command) -> Option<(ItemId, &'a UserId)> {
        match command {
            Command::OpenGroup(terms) => {
                let item = self.items.get(&terms.item)?;
                item.terms.group_buy.map(|_| (terms.item, &terms.leader))
            }
            Command::JoinGroup { group, user } => {
                let joined = self.groups.get(group)?;
                (joined.is_open() && !joined.has(user)).then_some((joined.group.item, user))
            }
            _ => None,
        }
    }

    /// Groups of an item whose time is over, each with its units of that user or of all, and all of its units.
    pub(crate) fn due_groups(&self, now: Timestamp, item: ItemId, user: Option<&UserId>) -> Vec<(GroupId, u64, u64)> {
        let mut due: Vec<_> = self.groups.values().filter(|it| it.group.item == item && it.is_due(now)).collect();
        due.sort_by_key(|it| (it.group.expires_at, it.group.id));
        due.into_iter().map(|it| (it.group.id, u64::from(it.units(user)), u64::from(it.units(None)))).collect()
    }

    /// A group that nobody is in any more gives back what it has.
    fn end_group(&mut self, id: GroupId, state: GroupState, moment: Moment) {
        let together = self.groups.get_mut(&id).expect("a group that ends exists");
        (together.group.state, together.ended) = (state, Some(moment.when));
        together.lsn = moment.records.first;
        let group = together.group.clone();
        for member in &group.members {
            self.move_money(&member.user, EntryKind::GroupRefund(id), group.price.minor(), moment);
        }
    }

    pub(crate) fn end_due_group(&mut self, id: GroupId, moment: Moment) {
        self.end_group(id, GroupState::Expired, moment);
    }

    /// Ends every group that is due. Says whether any was.
    pub(crate) fn end_due_groups(&mut self, now: Timestamp, moment: Moment) -> bool {
        let due: Vec<GroupId> = self.groups.values().filter(|it| it.is_due(now)).map(|it| it.group.id).collect();
        due.iter().for_each(|id| self.end_due_group(*id, moment));
        !due.is_empty()
    }

    pub(crate) fn open_group(&mut self, now: Timestamp, terms: &NewGroup, drawn: &[Vec<u8>], lsn: u64) -> Decided {
        let Some(item) = self.items.get(&terms.item) else { return refuse(Refusal::NotFound) };
        let Some(buy) = item.terms.group_buy else { return refuse(Refusal::WrongState(String::new())) };
        let beside = |at: usize| {
            let mut id: [u8; 16] = drawn[at].as_slice().try_into().expect("an id is drawn");
            id[..2].copy_from_slice(&terms.item.bytes()[..2]);
            id
        };
        let group = Group {
            id: GroupId::from_bytes(beside(0)),
            owner: terms.owner.clone(),
            state: GroupState::Open,
            item: terms.item,
            merchant: item.terms.merchant.clone(),
            size: buy.size,
            price: buy.price,
            leader: terms.leader.clone(),
            members: Vec::new(),
            created_at: now,
            expires_at: now.plus_s(buy.within_s),
            ended_at: None,
            reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
        };
        let order = OrderId::from_bytes(beside(1));
        self.take_in(now, group, &terms.leader, order, lsn)
            .unwrap_or_else(|group| Decided(Outcome::Group(Box::new(group)), true, lsn))
    }

    pub(crate) fn join_group(
        &mut self,
        now: Timestamp,
        id: GroupId,
        user: &UserId,
        drawn: &[Vec<u8>],
        lsn: u64,
    ) -> Decided {
        let Some(together) = self.groups.get(&id) else { return refuse(Refusal::NotFound) };
        let (group, last) = (together.group(), together.lsn);
        match group.state {
            GroupState::Expired => return no(Outcome::Expired),
            GroupState::LeaderLeft => return no(Outcome::LeaderLeft),
            GroupState::Open | GroupState::Full if together.has(user) => {
                let order = group.order_of(user);
                return Decided(Outcome::Joined { group: Box::new(group), order, replayed: true }, false, last);
            }
            GroupState::Full => return no(Outcome::GroupFull),
            GroupState::Open => {}
        }
        let mut order: [u8; 16] = drawn[0].as_slice().try_into().expect("an order's id is drawn");
        order[..2].copy_from_slice(&id.bytes()[..2]);
        self.take_in(now, group, user, OrderId::from_bytes(order), lsn).unwrap_or_else(|group| {
            let order = group.order_of(user);
            Decided(Outcome::Joined { group: Box::new(group), order, replayed: false }, true, lsn)
        })
    }

    /// The group with one more, whose unit and money it has; or why not.
    fn take_in(
        &mut self,
        now: Timestamp,
        mut group: Group,
        user: &UserId,
        order: OrderId,
        lsn: u64,
    ) -> Result<Decided, Group> {
        let (terms, total) = (self.items[&group.item].terms.clone(), self.items[&group.item].total);
        if !self.may_sell(&terms.merchant) {
            return Ok(refuse(Refusal::WrongState(String::new())));
        }
        if terms.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return Ok(no(Outcome::Ended));
        }
        if let Some(opens_at) = terms.starts_at.filter(|&starts_at| now < starts_at) {
            return Ok(no(Outcome::NotOpen { opens_at }));
        }
        let expired = self.end_due_holds(now, Some(group.item), lsn);
        if self.units_of(group.item, user) + 1 > u64::from(terms.per_user_limit.unwrap_or(u32::MAX)) {
            return Ok(Decided(Outcome::LimitReached, expired, 0));
        }
        let stock = self.stock(group.item);
        if stock.held + stock.sold == total {
            return Ok(Decided(Outcome::SoldOut, expired, 0));
        }
        let (id, price) = (group.id, group.price.minor());
        if self.balance(user) < price {
            return Ok(Decided(Outcome::CannotPay, expired, 0));
        }
        self.move_money(user, EntryKind::GroupPaid(id), price, Moment::now(now, lsn));
        group.members.push(Member { user: user.clone(), joined_at: now, order });
        let mut ended = None;
        if group.members.len() as u32 == group.size {
            (group.state, group.ended_at, ended) = (GroupState::Full, Some(now), Some(When::at(now)));
            group.members.iter().for_each(|member| self.order_together(now, &group, member, lsn));
        }
        self.groups.insert(id, Together { group: group.clone(), ended, lsn });
        Err(group)
    }

    fn order_together(&mut self, now: Timestamp, group: &Group, member: &Member, lsn: u64) {
        let (id, item, user) = (member.order, group.item, member.user.clone());
        let hold = HoldView {
            id: HoldId::from_bytes(*id.bytes()),
            item,
            user: user.clone(),
            quantity: 1,
            amount: group.price,
            state: HoldState::Claimed(id),
            created_at: now,
            expires_at: now,
        };
        let (merchant, progress) = (group.merchant.clone(), self.progress_of_new(item, now));
        self.sell(&merchant, group.price.minor(), now);
        let sales = &mut self.merchants.get_mut(&merchant).expect("an item has a merchant").sales;
        sales.last_mut().expect("it was just sold").order = Some(id);
        let (amount, hold_id) = (group.price, hold.id);
        let order =
            OrderView { id, hold: hold_id, item, merchant, user, quantity: 1, amount, created_at: now, progress };
        self.hand(item, 1, HandedTo::Order(id), lsn);
        self.holds.insert(hold.id, (hold, lsn));
        self.orders.insert(id, (order, lsn));
    }

    pub(crate) fn leave_group(&mut self, now: Timestamp, id: GroupId, user: &UserId, lsn: u64) -> Decided {
        let Some(together) = self.groups.get_mut(&id) else { return refuse(Refusal::NotFound) };
        let is_in = together.has(user);
        match together.group.state {
            GroupState::Full if is_in => return refuse(Refusal::WrongState(String::new())),
            GroupState::Open if is_in && *user == together.group.leader => {
                self.end_group(id, GroupState::LeaderLeft, Moment::now(now, lsn));
            }
            GroupState::Open if is_in => {
                together.group.members.retain(|member| member.user != *user);
                together.lsn = lsn;
                let price = together.group.price.minor();
                self.move_money(user, EntryKind::GroupRefund(id), price, Moment::now(now, lsn));
            }
            _ => return Decided(Outcome::Group(Box::new(together.group())), false, together.lsn),
        }
        Decided(Outcome::Group(Box::new(self.groups[&id].group())), true, lsn)
    }

    /// From now on groups ended when it is told here. Says what is wrong if these are not the item's.
    pub(crate) fn learn_groups(&mut self, item: ItemId, groups: &[Group]) -> Result<(), String> {
        let count = self.groups.values().filter(|it| it.group.item == item).count();
        if count != groups.len() {
            return Err(format!("{} instead of {count}", groups.len()));
        }
        for told in groups {
            let known = self.groups.get_mut(&told.id).ok_or_else(|| format!("{told:?} was never opened"))?;
            if let (Some(when), Some(ended_at)) = (&mut known.ended, told.ended_at)
                && when.holds(ended_at)
            {
                *when = When::at(ended_at);
            }
            if known.group() != *told {
                return Err(format!("{told:?} should be {known:?}"));
            }
        }
        Ok(())
    }

    /// A crash left it open until `to` when groups ended.
    pub(crate) fn widen_groups(&mut self, to: Timestamp) {
        for when in self.groups.values_mut().filter_map(|it| it.ended.as_mut()) {
            if when.from != when.to {
                when.to = to;
            }
        }
    }
}
