//! The offline audit: every invariant checked from the rows alone, without
//! trusting a figure that another row can confirm.
//!
//! It reads one snapshot in key order. Memory is bounded by the number of
//! items and merchants and by the winners of one envelope, not by history.
//!
//! **Invariant:** a store whose rows are those of a right journal has no
//! finding; each finding is told in plain words with the ids concerned.

use super::audit_gifts::GiftMoney;
use super::audit_groups::GroupMoney;
use super::audit_payouts::fingerprint;
use super::audit_sales::refund_of;
use super::keys::{self, KeyRange, Table};
use super::reads::{self, win_row};
use super::values::{self, EnvelopeRow, WinRow};
use super::{Bytes, Position, RowRead, Snapshot, Store, StoreError, damaged, position_of};
use crate::api_key::ApiKey;
use crate::backend::{Entry, EntryKind};
use crate::command::EndedAs;
use crate::event::EnvelopeCreated;
use crate::types::{Amount, UserId};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::iter::Peekable;

/// What was looked at, and how many findings there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Wallets.
    pub wallets: u64,
    /// Movements on them.
    pub entries: u64,
    /// Envelopes.
    pub envelopes: u64,
    /// Shares grabbed.
    pub wins: u64,
    /// Items.
    pub items: u64,
    /// Holds, live and ended.
    pub holds: u64,
    /// Orders.
    pub orders: u64,
    /// Payouts.
    pub payouts: u64,
    /// Gifts.
    pub gifts: u64,
    /// Groups.
    pub groups: u64,
    /// Codes.
    pub codes: u64,
    /// What users are to others.
    pub relations: u64,
    /// Findings.
    pub findings: u64,
}

/// Tells the split of an envelope again, or `None` if it cannot.
pub type SplitOf<'a> = &'a dyn Fn(&EnvelopeCreated) -> Option<Vec<Amount>>;

impl Store {
    /// Checks every invariant from the rows and gives `finding` each difference.
    /// With `split_of`, shares are also compared with their envelope's split.
    ///
    /// # Errors
    /// [`StoreError`] if a row cannot be read.
    pub fn audit(&self, split_of: SplitOf<'_>, finding: &mut dyn FnMut(String)) -> Result<Audited, StoreError> {
        let snapshot = self.snapshot();
        let position = position_of(&*snapshot)?;
        let audited = Audited::default();
        let mut audit = Auditor {
            snapshot: &*snapshot,
            position,
            split_of,
            finding,
            audited,
            funded: 0,
            entered: 0,
            withdrawn: 0,
            gift_money: GiftMoney::default(),
            group_money: GroupMoney::default(),
            order_refunds: 0,
        };
        audit.money();
        audit.wallets()?;
        audit.payments()?;
        let mut gifts = audit.gifts()?;
        audit.groups(&mut gifts)?;
        audit.envelopes(gifts.escrowed)?;
        audit.payouts()?;
        audit.sales(gifts)?;
        audit.api_keys()?;
        audit.relations()?;
        // A damaged block is found only by reading it.
        for &table in Table::ALL {
            audit.count(table)?;
        }
        Ok(audit.audited)
    }
}

pub(super) struct Auditor<'a> {
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) position: Position,
    split_of: SplitOf<'a>,
    finding: &'a mut dyn FnMut(String),
    pub(super) audited: Audited,
    /// Money from outside that went into envelopes at once.
    funded: u64,
    /// Money from outside that went into wallets, or was paid outside.
    pub(super) entered: u64,
    /// Money that went out of wallets, or back to who had paid outside.
    pub(super) withdrawn: u64,
    /// What wallets paid for gifts and got back.
    pub(super) gift_money: GiftMoney,
    /// What wallets paid for groups and got back.
    pub(super) group_money: GroupMoney,
    /// What wallets got back for which orders: see `audit_sales::refund_of`.
    pub(super) order_refunds: u64,
}

/// What has become of an envelope's money, from its winners' rows.
#[derive(Default)]
pub(super) struct Taken {
    shares: u32,
    pub(super) claimed: u64,
    /// Who claimed what: see `audit_payouts::fingerprint`.
    pub(super) claimants: u64,
    unclaimed: u64,
}

impl Auditor<'_> {
    pub(super) fn found(&mut self, what: String) {
        self.audited.findings += 1;
        (self.finding)(what);
    }

    /// A finding unless `told` is what the rows say.
    pub(super) fn expect(&mut self, what: &str, told: u64, rows: u64) {
        if told != rows {
            self.found(format!("{what}: {told} is on record, the rows make {rows}"));
        }
    }

    pub(super) fn scan(&self, table: Table, range: &KeyRange) -> impl Iterator<Item = RowRead> + use<> {
        self.snapshot.scan(table, range)
    }

    pub(super) fn count(&self, table: Table) -> Result<u64, StoreError> {
        let mut rows = 0;
        for row in self.scan(table, &KeyRange::all()) {
            row?;
            rows += 1;
        }
        Ok(rows)
    }

    pub(super) fn has(&self, table: Table, key: &Bytes) -> Result<bool, StoreError> {
        Ok(self.snapshot.get(table, key)?.is_some())
    }

    /// I1 for the totals themselves.
    fn money(&mut self) {
        let totals = self.position.totals;
        if !totals.balanced() {
            self.found(format!(
                "the totals do not balance: {} was deposited; {} was withdrawn, {} paid out, {} is in wallets, {} in \
                 envelopes, {} in payouts not paid, {} on its way back, {} with merchants, {} with the platform",
                totals.deposited,
                totals.withdrawn,
                totals.paid_out,
                totals.wallets,
                totals.escrowed,
                totals.payable,
                totals.refunding,
                totals.merchants,
                totals.platform
            ));
        }
    }

    /// I1 for wallets: each follows from its own movements, and together they
    /// are the totals.
    fn wallets(&mut self) -> Result<(), StoreError> {
        let mut entries = self.scan(Table::Entries, &KeyRange::all()).peekable();
        let (mut in_wallets, mut deposited, mut withdrawn) = (0u64, 0u64, 0u64);
        for row in self.scan(Table::Wallets, &KeyRange::all()) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Wallets, &key);
            let user = keys::user_of(&key).ok_or_else(wrong)?;
            let wallet = values::wallet(&value).ok_or_else(wrong)?;
            self.audited.wallets += 1;
            in_wallets += wallet.available.minor() + wallet.held.minor();
            let mut expected = Some(wallet.available.minor());
            while let Some((of, entry)) = next_entry(&mut entries, &user)? {
                self.audited.entries += 1;
                if of != user {
                    self.found(format!("{of} has movements and no wallet"));
                    continue;
                }
                let (amount, after) = (entry.amount.minor(), entry.balance_after.minor());
                match entry.kind {
                    EntryKind::Deposit(_) => deposited += amount,
                    EntryKind::Withdrawal(_) => withdrawn += amount,
                    EntryKind::GiftPaid(gift) => self.gift_money.paid(gift, &user, entry.amount),
                    EntryKind::OrderRefund(order) => {
                        self.order_refunds = self.order_refunds.wrapping_add(refund_of(order, &user, entry.amount));
                    }
                    EntryKind::GiftRefund(gift) => self.gift_money.refunded(gift, &user, entry.amount),
                    EntryKind::GroupPaid(group) => self.group_money.paid(group, &user, entry.amount),
                    EntryKind::GroupRefund(group) => self.group_money.refunded(group, &user, entry.amount),
                    _ => {}
                }
                if expected != Some(after) {
                    let left = expected.map_or("less than nothing".to_owned(), |amount| amount.to_string());
                    self.found(format!(
                        "{user}'s wallet at {} ms: {after} after a movement, {left} before what followed",
                        entry.at.ms()
                    ));
                }
                expected = if entry.kind.is_credit() { after.checked_sub(amount) } else { after.checked_add(amount) };
            }
            if expected != Some(0) {
                self.found(format!("{user}'s wallet did not begin with nothing: a movement is missing"));
            }
        }
        for row in entries {
            let (key, _) = row?;
            let user = keys::user_of(&key).ok_or_else(|| damaged(Table::Entries, &key))?;
            self.found(format!("{user} has movements and no wallet"));
        }
        let totals = self.position.totals;
        self.expect("money in wallets", totals.wallets, in_wallets);
        (self.entered, self.withdrawn) = (deposited, withdrawn);
        Ok(())
    }

    /// A key stands under its own id, and no two that work are one.
    fn api_keys(&mut self) -> Result<(), StoreError> {
        let mut digests = HashMap::new();
        for row in self.scan(Table::ApiKeys, &KeyRange::all()) {
            let (id, value) = row?;
            let key: ApiKey = values::cold(&value).ok_or_else(|| damaged(Table::ApiKeys, &id))?;
            if id != *key.id.bytes() {
                self.found(format!("{}: it stands under another id", key.id));
            }
            if key.deleted_at.is_none()
                && let Some(other) = digests.insert(key.digest, key.id)
            {
                self.found(format!("{}: it is the same key as {other}; delete both", key.id));
            }
        }
        Ok(())
    }

    /// I2 and I3, the lists of envelopes, and the escrow of I1.
    fn envelopes(&mut self, in_gifts: u64) -> Result<(), StoreError> {
        let (mut escrowed, mut live) = (in_gifts, 0u64);
        for row in self.scan(Table::Envelopes, &KeyRange::all()) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Envelopes, &key);
            let created: EnvelopeCreated = values::cold(&value).ok_or_else(wrong)?;
            if key != *created.id.bytes() {
                return Err(wrong());
            }
            let ends = self.scan(Table::EnvelopeEnds, &KeyRange::prefix(&key));
            let envelope = reads::envelope_row(created, ends)?;
            self.audited.envelopes += 1;
            let taken = self.winners(&envelope.created)?;
            escrowed += self.escrow(&envelope, &taken);
            if envelope.created.terms.outside.funding.is_some() {
                self.funded += envelope.created.terms.total.minor();
            }
            self.payouts_of(&envelope, &taken)?;
            live += u64::from(envelope.settled.is_none());
            self.listed(&envelope)?;
        }
        let totals = self.position.totals;
        self.expect("money in envelopes, gifts and groups", totals.escrowed, escrowed);
        self.expect("money deposited", totals.deposited, self.entered + self.funded);
        let live_rows = self.count(Table::LiveEnvelopes)?;
        self.expect("envelopes listed as not settled", live_rows, live);
        for (table, told) in [(Table::Sent, "sent envelopes"), (Table::EnvelopesByTime, "envelopes by time")] {
            let rows = self.count(table)?;
            self.expect(&format!("rows in the list of {told}"), rows, self.audited.envelopes);
        }
        let received = self.count(Table::Received)?;
        self.expect("rows in the lists of received shares", received, self.audited.wins);
        let wins = self.count(Table::Wins)?;
        self.expect("shares on record, with those of no envelope", wins, self.audited.wins);
        Ok(())
    }

    /// I3: one user a share, one share a user, the amount of the split; and a
    /// row in the winner's own list for each.
    fn winners(&mut self, envelope: &EnvelopeCreated) -> Result<Taken, StoreError> {
        let id = envelope.id;
        let split = (self.split_of)(envelope);
        let hasher = foldhash::fast::FixedState::default();
        let mut users = Vec::new();
        let (mut taken, mut end) = (Taken::default(), 0);
        for row in self.scan(Table::Wins, &KeyRange::prefix(id.bytes())) {
            let (key, value) = row?;
            let win = win_row(&key, &value).ok_or_else(|| damaged(Table::Wins, &key))?;
            self.audited.wins += 1;
            // Shares are taken in their order, but out of pools, from which an envelope may have been copied.
            if win.share != end && !id.is_mass() {
                self.found(format!("{id}: share {} is taken and share {end} is not", win.share));
            }
            end = win.share.saturating_add(1);
            taken.shares = if id.is_mass() { taken.shares + 1 } else { end };
            if let Some(amount) = split.as_ref().map(|split| split.get(win.share as usize))
                && amount != Some(&win.amount)
            {
                let planned = amount.map_or("no such share".to_owned(), |amount| format!("{amount} for it"));
                self.found(format!("{id}: share {} was {}, the split has {planned}", win.share, win.amount));
            }
            if win.claimed_at.is_some() {
                taken.claimants = taken.claimants.wrapping_add(fingerprint(&win.user, win.amount));
            }
            let sum = if win.claimed_at.is_some() { &mut taken.claimed } else { &mut taken.unclaimed };
            *sum += win.amount.minor();
            users.push(hasher.hash_one(&win.user));
            self.received(envelope, &win)?;
        }
        if end > envelope.terms.shares {
            self.found(format!("{id}: {end} shares are taken of {}", envelope.terms.shares));
        }
        users.sort_unstable();
        if users.windows(2).any(|pair| pair[0] == pair[1]) {
            self.same_user(envelope)?;
        }
        Ok(taken)
    }

    /// Two users with one hash are nothing; two shares of one user are.
    fn same_user(&mut self, envelope: &EnvelopeCreated) -> Result<(), StoreError> {
        let mut winners = reads::winners(self.snapshot, envelope.id)
            .map(|win| Ok(win?.user))
            .collect::<Result<Vec<_>, StoreError>>()?;
        winners.sort_unstable();
        for pair in winners.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.found(format!("{}: {} has more than one share", envelope.id, pair[0]));
        }
        Ok(())
    }

    fn received(&mut self, envelope: &EnvelopeCreated, win: &WinRow) -> Result<(), StoreError> {
        let key = keys::of_user_at(&win.user, win.grabbed_at, envelope.id);
        let share = self.snapshot.get(Table::Received, &key)?.and_then(|row| values::share(&row));
        if share != Some(win.share) {
            self.found(format!("{}: share {} is not in the list of {}", envelope.id, win.share, win.user));
        }
        Ok(())
    }

    /// I2; gives the money still in the envelope.
    fn escrow(&mut self, envelope: &EnvelopeRow, taken: &Taken) -> u64 {
        let EnvelopeRow { created, ended, lapsed, settled } = envelope;
        let (id, total) = (created.id, created.terms.total.minor());
        let won = taken.claimed + taken.unclaimed;
        let Some(unsold) = total.checked_sub(won) else {
            self.found(format!("{id}: {won} was grabbed of {total}"));
            return 0;
        };
        let sold_out = taken.shares == created.terms.shares;
        let refund = ended.as_ref().map_or(0, |(_, ended)| ended.refund.minor());
        if sold_out {
            self.expect(&format!("{id}: money in all its shares"), total, won);
        }
        if ended.is_some() {
            self.expect(&format!("{id}: money refunded at its end"), refund, unsold);
        }
        let lapse = lapsed.as_ref().map_or(0, |(_, amount)| amount.minor());
        if lapsed.is_some() {
            self.expect(&format!("{id}: money lapsed"), lapse, taken.unclaimed);
        }
        if let Some((_, settled)) = settled {
            self.expect(&format!("{id}: shares taken when it was settled"), settled.taken.into(), taken.shares.into());
            self.expect(&format!("{id}: money claimed when it was settled"), settled.claimed.minor(), taken.claimed);
            self.expect(
                &format!("{id}: money sent back when it was settled"),
                settled.refunded.minor(),
                refund + lapse,
            );
            let how = ended.as_ref().map_or(EndedAs::SoldOut, |(_, ended)| ended.how);
            if settled.how != how {
                self.found(format!("{id}: it ended as {how:?} and was settled as {:?}", settled.how));
            }
        }
        let gone = taken.claimed + refund + lapse;
        let left = total.checked_sub(gone);
        if left.is_none() || (settled.is_some() && left != Some(0)) {
            self.found(format!(
                "{id}: {gone} left it of {total}, and it is {}settled",
                if settled.is_some() { "" } else { "not " }
            ));
        }
        left.unwrap_or(0)
    }

    fn listed(&mut self, envelope: &EnvelopeRow) -> Result<(), StoreError> {
        let created = &envelope.created;
        let id = created.id;
        let lists = [
            (Table::Sent, keys::of_user_at(&created.terms.sender, created.created_at, id), true),
            (Table::EnvelopesByTime, keys::made_at(created.created_at, id.bytes()), true),
            (Table::LiveEnvelopes, keys::id(id.bytes()), envelope.settled.is_none()),
        ];
        for (table, key, expected) in lists {
            if self.has(table, &key)? != expected {
                let is = if expected { "is missing from" } else { "should not be in" };
                self.found(format!("{id}: it {is} the list `{}`", table.name()));
            }
        }
        Ok(())
    }
}

/// The next movement of `user` or of a user before it.
fn next_entry(
    entries: &mut Peekable<impl Iterator<Item = RowRead>>,
    user: &UserId,
) -> Result<Option<(UserId, Entry)>, StoreError> {
    let not_later = |row: &RowRead| match row {
        Ok((key, _)) => keys::user_of(key).is_none_or(|of| of.as_str().as_bytes() <= user.as_str().as_bytes()),
        Err(_) => true,
    };
    let Some(row) = entries.next_if(not_later) else { return Ok(None) };
    let (key, value) = row?;
    let wrong = || damaged(Table::Entries, &key);
    Ok(Some((keys::user_of(&key).ok_or_else(wrong)?, values::entry(&value).ok_or_else(wrong)?)))
}
