//! The offline audit of groups: who joined, what each paid, and what became of it; and their lists.

use super::audit::Auditor;
use super::audit_gifts::GiftsMade;
use super::keys::{self, KeyRange, Table};
use super::values::{self, GroupJoin};
use super::{StoreError, damaged, reads};
use crate::command::OrderView;
use crate::group::{Group, GroupState};
use crate::types::{Amount, GroupId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

/// Who paid how much for which group, and who got it back: numbers that add up to the same
/// from wallets' movements and from who joined.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GroupMoney {
    paid: u64,
    refunded: u64,
}

impl GroupMoney {
    pub(super) fn paid(&mut self, group: GroupId, user: &UserId, amount: Amount) {
        self.paid = self.paid.wrapping_add(fingerprint(group, user, amount));
    }

    pub(super) fn refunded(&mut self, group: GroupId, user: &UserId, amount: Amount) {
        self.refunded = self.refunded.wrapping_add(fingerprint(group, user, amount));
    }
}

fn fingerprint(group: GroupId, user: &UserId, amount: Amount) -> u64 {
    foldhash::fast::FixedState::default().hash_one((group, user, amount))
}

impl Auditor<'_> {
    /// I5 for groups, and their part of I1 and I4: of those that are open `made` is told money and units.
    pub(super) fn groups(&mut self, made: &mut GiftsMade) -> Result<(), StoreError> {
        let mut money = GroupMoney::default();
        let (mut live, mut members, mut joins) = (0, 0, 0);
        for row in self.scan(Table::Groups, &KeyRange::all()) {
            let (key, value) = row?;
            let group: Group = values::cold(&value).ok_or_else(|| damaged(Table::Groups, &key))?;
            let (id, is_open) = (group.id, group.state == GroupState::Open);
            self.audited.groups += 1;
            if key != *id.bytes() {
                self.found(format!("{id}: it stands under another id"));
            }
            members += group.members.len() as u64;
            live += u64::from(is_open);
            joins += self.joins(&group, &mut money)?;
            self.members(&group)?;
            if is_open {
                made.escrowed += group.price.minor() * group.members.len() as u64;
                let held = made.held.entry(group.item).or_default();
                group.members.iter().for_each(|member| *held.entry(member.user.clone()).or_default() += 1);
            }
            if self.has(Table::LiveGroups, &keys::id(id.bytes()))? != is_open {
                self.found(format!("{id}: it is {} and the list `live_groups` says otherwise", group.state.name()));
            }
            let place = keys::group_of_item(group.item, group.created_at, id);
            let told = self.snapshot.get(Table::GroupsOfItem, &place)?;
            if told.as_deref() != Some(&[group.state as u8]) {
                self.found(format!("{id}: the list of its item's groups does not tell as what it stands"));
            }
        }
        for (table, what, rows) in [
            (Table::LiveGroups, "rows in the list of open groups", live),
            (Table::GroupsOfItem, "rows in the lists of items' groups", self.audited.groups),
            (Table::GroupsOfUser, "rows in the lists of users' groups", members),
            (Table::GroupJoins, "rows of who joined groups", joins),
        ] {
            let counted = self.count(table)?;
            self.expect(what, counted, rows);
        }
        for (what, wallets, groups) in [
            ("was paid for", self.group_money.paid, money.paid),
            ("came back from", self.group_money.refunded, money.refunded),
        ] {
            if wallets != groups {
                self.found(format!("what {what} groups is not what their members' wallets have moved"));
            }
        }
        Ok(())
    }

    /// Who joined a group, each with what was paid and came back: those who did not leave are its members.
    fn joins(&mut self, group: &Group, money: &mut GroupMoney) -> Result<u64, StoreError> {
        let id = group.id;
        let mut is_in = BTreeMap::new();
        let mut rows = 0;
        for row in self.scan(Table::GroupJoins, &KeyRange::prefix(id.bytes())) {
            let (key, value) = row?;
            let wrong = || damaged(Table::GroupJoins, &key);
            let join: GroupJoin = values::cold(&value).ok_or_else(wrong)?;
            rows += 1;
            money.paid(id, &join.user, group.price);
            let came_back = matches!(group.state, GroupState::Expired | GroupState::LeaderLeft);
            if join.left_at.is_some() || came_back {
                money.refunded(id, &join.user, group.price);
            }
            if join.left_at.is_none() {
                is_in.insert(keys::tail::<16>(&key).ok_or_else(wrong)?, (join.user, join.joined_at));
            }
        }
        let members = group.members.iter().map(|it| (*it.order.bytes(), (it.user.clone(), it.joined_at)));
        if is_in != members.collect() {
            self.found(format!("{id}: its members are not those who joined and did not leave"));
        }
        Ok(rows)
    }

    /// Each member once, with an order if the group is full.
    fn members(&mut self, group: &Group) -> Result<(), StoreError> {
        let id = group.id;
        let users: BTreeSet<_> = group.members.iter().map(|member| &member.user).collect();
        if users.len() != group.members.len() {
            self.found(format!("{id}: somebody is in it twice"));
        }
        let is_full = group.state == GroupState::Full;
        if (group.members.len() == group.size as usize) != is_full {
            let (members, size, state) = (group.members.len(), group.size, group.state.name());
            self.found(format!("{id}: it has {members} members of {size} and is {state}"));
        }
        if (group.state == GroupState::Open) != group.ended_at.is_none() {
            self.found(format!("{id}: it is {} and its end is told otherwise", group.state.name()));
        }
        for member in &group.members {
            if !self.has(Table::GroupsOfUser, &keys::group_of_user(&member.user, group.created_at, id))? {
                self.found(format!("{id}: it is missing from the groups of {}", member.user));
            }
            let order = self.snapshot.get(Table::Orders, member.order.bytes())?;
            let order = reads::cold::<OrderView>(Table::Orders, member.order.bytes(), order)?;
            let as_it_should = match &order {
                None => !is_full,
                Some(order) => {
                    is_full
                        && (order.item, &order.merchant, &order.user) == (group.item, &group.merchant, &member.user)
                        && (order.quantity, order.amount) == (1, group.price)
                }
            };
            if !as_it_should {
                self.found(format!(
                    "{id}: it is {} and the order of {} is not as that says",
                    group.state.name(),
                    member.user
                ));
            }
        }
        Ok(())
    }
}
