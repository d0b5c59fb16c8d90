//! Everything of a period, as it was at its end: for those who keep books elsewhere.
//!
//! **Invariant:** what is told depends only on what happened before the period's end, so
//! it is the same whenever it is asked for afterwards.

use super::keys::{self, KeyRange, MadeBetween, Table};
use super::reads::{self, winners};
use super::values::{self, EnvelopeRow, GroupJoin, WinRow};
use super::{Snapshot, Store, StoreError, damaged, payments};
use crate::backend::{Entry, EntryKind};
use crate::command::{EndedAs, EnvelopeView, OrderView, ShareStatus};
use crate::gift::Gift;
use crate::group::{Group, GroupState};
use crate::payment::{Payment, PaymentFor};
use crate::payout::{Payout, PayoutState};
use crate::sale::{MerchantEntry, MerchantEntryKind};
use crate::state::envelope::{Figures, share_status};
use crate::types::{Amount, EnvelopeId, GiftId, GroupId, Lsn, OrderId, PaymentId, PayoutId, Timestamp, UserId};
use std::collections::BTreeMap;
use std::{fmt, io};

/// From a time on and before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Then or later.
    pub from: Timestamp,
    /// Before then.
    pub to: Timestamp,
}

/// Why not everything of a period was told.
#[derive(Debug, thiserror::Error)]
pub enum PeriodError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever was told did not take it.
    #[error(transparent)]
    Untaken(#[from] io::Error),
}

/// Takes what is told, one after the other.
pub type Take<'a, T> = &'a mut dyn FnMut(T) -> io::Result<()>;

/// Where money is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Outside.
    External,
    /// With a user.
    Wallet(UserId),
    /// In an envelope.
    Escrow(EnvelopeId),
    /// In a gift.
    Gift(GiftId),
    /// In a group that buys together.
    Group(GroupId),
    /// With a merchant.
    Merchant(UserId),
    /// To be paid outside.
    Payable,
    /// The platform's commissions.
    Fees,
    /// Outside, at a payment gateway.
    Gateway(String),
    /// On its way back to who paid outside.
    Refunding,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::External => f.write_str("external"),
            Account::Wallet(user) => write!(f, "wallet:{user}"),
            Account::Escrow(envelope) => write!(f, "escrow:{envelope}"),
            Account::Gift(gift) => write!(f, "escrow:{gift}"),
            Account::Group(group) => write!(f, "escrow:{group}"),
            Account::Merchant(merchant) => write!(f, "merchant:{merchant}"),
            Account::Payable => f.write_str("payable"),
            Account::Fees => f.write_str("platform:fees"),
            Account::Gateway(gateway) => write!(f, "gateway:{gateway}"),
            Account::Refunding => f.write_str("refunding"),
        }
    }
}

/// Why money moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MovementKind {
    /// On a wallet; and what its user could spend afterwards.
    Wallet(EntryKind, Amount),
    /// From outside into an envelope, under this reference.
    Funding(EnvelopeId, String),
    /// Out of an envelope, to be paid.
    PayoutMade(PayoutId),
    /// Paid, under this reference.
    Paid(PayoutId, Option<String>),
    /// Out of a gift to its merchant.
    GiftShipped(GiftId),
    /// Out of a group that is full to its merchant, for a member's order.
    GroupBought(GroupId),
    /// From a merchant to the platform, of sales that were due.
    Commission,
    /// Out of a merchant's available money, under this reference.
    SalesWithdrawn(Option<String>),
    /// From a gateway, under its number.
    PaymentCame(PaymentId, Option<String>),
    /// Out of what was paid, to go back.
    PaymentRefunding(PaymentId),
    /// Back to the gateway, under its number.
    PaymentRefunded(PaymentId, Option<String>),
}

/// Money that moved from one account to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// The record that has it, if it is on a wallet; 0 if it came with a copy.
    pub lsn: Option<Lsn>,
    /// Whom it is about.
    pub user: UserId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub kind: MovementKind,
    /// Whose balance it made less.
    pub from: Account,
    /// Whose it made more.
    pub to: Account,
    /// How much.
    pub amount: Amount,
}

/// Sums of all accounts of each kind at one time, minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    /// All that came from outside less all that went there.
    pub external: i128,
    /// With users.
    pub wallets: i128,
    /// In envelopes, gifts and groups.
    pub escrow: i128,
    /// With merchants.
    pub merchants: i128,
    /// To be paid outside.
    pub payable: i128,
    /// The platform's.
    pub platform: i128,
    /// On its way back to who paid outside.
    pub refunding: i128,
}

impl Balances {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, i128); 7] {
        let Balances { external, wallets, escrow, merchants, payable, platform, refunding } = *self;
        [
            ("external", external),
            ("wallets", wallets),
            ("escrow", escrow),
            ("merchants", merchants),
            ("payable", payable),
            ("platform", platform),
            ("refunding", refunding),
        ]
    }

    /// Takes in a movement.
    fn moved(&mut self, movement: &Movement) {
        let amount = i128::from(movement.amount.minor());
        for (account, sign) in [(&movement.from, -1), (&movement.to, 1)] {
            match account {
                // What goes out is less that came from there.
                Account::External | Account::Gateway(_) => self.external -= sign * amount,
                Account::Wallet(_) => self.wallets += sign * amount,
                Account::Escrow(_) | Account::Gift(_) | Account::Group(_) => self.escrow += sign * amount,
                Account::Merchant(_) => self.merchants += sign * amount,
                Account::Payable => self.payable += sign * amount,
                Account::Fees => self.platform += sign * amount,
                Account::Refunding => self.refunding += sign * amount,
            }
        }
    }
}

/// A period's accounts. Opening and closing are added up from wallets' last balances,
/// envelopes with their shares, merchants' last balances, gifts and payouts; movements from the
/// wallets' entries, what envelopes were funded with, gifts that were shipped, payouts, and what
/// merchants' entries say of commissions and withdrawals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// At the period's beginning.
    pub opening: Balances,
    /// What the movements make of nothing.
    pub moved: Balances,
    /// At its end.
    pub closing: Balances,
}

impl Accounts {
    /// Takes in a movement from before the period's end, and says whether it is in it.
    fn takes(&mut self, movement: &Movement, period: Period) -> bool {
        let is_in = movement.at >= period.from;
        // What comes from outside and goes there is told by nothing else.
        let mut moved = Balances::default();
        moved.moved(movement);
        self.closing.external += moved.external;
        if is_in {
            self.moved.moved(movement);
        } else {
            self.opening.external += moved.external;
        }
        is_in
    }

    /// What does not add up, in plain words: opening and movements are the closing, and
    /// what came from outside is somewhere.
    pub fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let named = [self.opening, self.moved, self.closing].map(|balances| balances.named());
        for index in 0..named[0].len() {
            let [(name, opening), (_, moved), (_, closing)] = named.map(|each| each[index]);
            if opening + moved != closing {
                found
                    .push(format!("{name}: {opening} at the beginning and {moved} moved are not {closing} at the end"));
            }
        }
        for (when, balances) in [("beginning", self.opening), ("end", self.closing)] {
            let inside: i128 = balances.named().iter().skip(1).map(|(_, balance)| balance).sum();
            if inside != balances.external {
                found.push(format!("at the {when} {inside} was there, and {} had come in", balances.external));
            }
        }
        found
    }
}

/// A share that somebody grabbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrabLine {
    /// From which envelope.
    pub envelope: EnvelopeId,
    /// Whose.
    pub sender: UserId,
    /// The share; claimed only if it was before the period's end.
    pub win: WinRow,
    /// What it was at the period's end.
    pub status: ShareStatus,
}

/// A payout that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutLine {
    /// The payout; of what came of it only the time in `paid_at` is the same whenever it is told.
    pub payout: Payout,
    /// When it was paid, if that was before the period's end; what came of it otherwise is not kept.
    pub paid_at: Option<Timestamp>,
    /// Under which reference its envelope was funded, if it was.
    pub funding_reference: Option<String>,
}

impl Store {
    /// Gives `each` the movements of a period: wallet by wallet in the order of users, the
    /// oldest first; then those that have to do with no wallet.
    ///
    /// # Errors
    /// [`PeriodError`] if they cannot be read, or are not taken.
    pub fn movements(&self, period: Period, each: Take<'_, Movement>) -> Result<Accounts, PeriodError> {
        let snapshot = &*self.snapshot();
        let mut accounts = Accounts::default();
        for row in snapshot.scan(Table::Wallets, &KeyRange::all()) {
            let (key, _) = row?;
            let user = keys::user_of(&key).ok_or_else(|| damaged(Table::Wallets, &key))?;
            let mut movements = Vec::new();
            let (mut opening, mut closing) = (None, None);
            for row in snapshot.scan(Table::Entries, &KeyRange::prefix(&keys::user_prefix(&user))) {
                let (key, value) = row?;
                let wrong = || damaged(Table::Entries, &key);
                let entry = values::entry(&value).ok_or_else(wrong)?;
                let lsn = keys::lsn_of_entry(&key).ok_or_else(wrong)?;
                if entry.at < period.to {
                    let balance_after = entry.balance_after;
                    closing = closing.or(Some(balance_after));
                    let movement = movement(snapshot, &user, lsn, entry)?;
                    if !accounts.takes(&movement, period) {
                        opening = opening.or(Some(balance_after));
                    } else {
                        movements.push(movement);
                    }
                }
            }
            let sum = |balance: Option<Amount>| i128::from(balance.unwrap_or_default().minor());
            accounts.opening.wallets += sum(opening);
            accounts.closing.wallets += sum(closing);
            movements.into_iter().rev().try_for_each(&mut *each)?;
        }
        for movement in outside_movements(snapshot, period.to)? {
            if accounts.takes(&movement, period) {
                each(movement)?;
            }
        }
        for row in snapshot.scan(Table::Payouts, &KeyRange::all()) {
            let payout = payout_row(row)?;
            for (at, balances) in [(period.from, &mut accounts.opening), (period.to, &mut accounts.closing)] {
                if payout.created_at < at && !payout.is_paid_before(at) {
                    balances.payable += i128::from(payout.amount.minor());
                }
            }
        }
        for row in snapshot.scan(Table::Payments, &KeyRange::all()) {
            let payment = payments::payment_row(row)?;
            for (at, balances) in [(period.from, &mut accounts.opening), (period.to, &mut accounts.closing)] {
                let [_, is_back, is_gone] = payment.steps().map(|step| step.is_some_and(|step| step < at));
                if is_back && !is_gone {
                    balances.refunding += i128::from(payment.taken.minor());
                }
            }
        }
        for (at, balances) in [(period.from, &mut accounts.opening), (period.to, &mut accounts.closing)] {
            balances.escrow = self.escrow_before(snapshot, at)?;
        }
        // What orders and gifts brought each merchant, by the beginning and by the end.
        let mut brought = BTreeMap::<UserId, [i128; 2]>::new();
        for gift in gifts(snapshot) {
            let gift = gift?;
            for (index, at) in [period.from, period.to].into_iter().enumerate() {
                let (escrow, merchants) = gift.money_before(at);
                let balances = if index == 0 { &mut accounts.opening } else { &mut accounts.closing };
                balances.escrow += i128::from(escrow.minor());
                brought.entry(gift.merchant.clone()).or_default()[index] += i128::from(merchants.minor());
            }
        }
        for (index, at) in [period.from, period.to].into_iter().enumerate() {
            let balances = if index == 0 { &mut accounts.opening } else { &mut accounts.closing };
            balances.escrow += in_groups_before(snapshot, at)?;
        }
        for row in snapshot.scan(Table::Orders, &KeyRange::all()) {
            let (key, value) = row?;
            let order: OrderView = values::cold(&value).ok_or_else(|| damaged(Table::Orders, &key))?;
            for (index, at) in [period.from, period.to].into_iter().enumerate() {
                if order.created_at < at {
                    brought.entry(order.merchant.clone()).or_default()[index] += i128::from(order.amount.minor());
                }
            }
        }
        for (merchant, balances) in last_balances(snapshot, period)? {
            let brought = brought.entry(merchant).or_default();
            for (index, balance) in balances.into_iter().enumerate() {
                brought[index] = balance.unwrap_or(brought[index]);
            }
        }
        for [opening, closing] in brought.into_values() {
            accounts.opening.merchants += opening;
            accounts.closing.merchants += closing;
        }
        for row in snapshot.scan(Table::MerchantEntries, &KeyRange::all()) {
            let (key, value) = row?;
            let entry = reads::merchant_entry(&key, &value)?;
            if matches!(entry.kind, MerchantEntryKind::Commission { .. }) {
                for (at, balances) in [(period.from, &mut accounts.opening), (period.to, &mut accounts.closing)] {
                    if entry.at < at {
                        balances.platform += i128::from(entry.amount.minor());
                    }
                }
            }
        }
        Ok(accounts)
    }

    /// What was in envelopes at a time.
    fn escrow_before(&self, snapshot: &dyn Snapshot, at: Timestamp) -> Result<i128, StoreError> {
        let mut sum = 0;
        let made = MadeBetween { from: None, to: Some(at) };
        for row in snapshot.scan(Table::EnvelopesByTime, &KeyRange::made(&[], made)) {
            let row = envelope_at(snapshot, &row?.0)?;
            // Nothing is left in it, and nobody has to count.
            if row.settled.as_ref().is_some_and(|(settled_at, _)| *settled_at < at) {
                continue;
            }
            let figures = figures_before(snapshot, &row, at)?;
            let left = row.created.terms.total.minor() - figures.claimed.minor() - figures.refunded.minor();
            sum += i128::from(left);
        }
        Ok(sum)
    }

    /// Gives `each` the envelopes that were made in a period as they were at its end, the
    /// oldest first.
    ///
    /// # Errors
    /// [`PeriodError`] if they cannot be read, or are not taken.
    pub fn envelopes_made(&self, period: Period, each: Take<'_, EnvelopeView>) -> Result<(), PeriodError> {
        let snapshot = &*self.snapshot();
        for key in made_oldest_first(snapshot, MadeBetween { from: Some(period.from), to: Some(period.to) })? {
            let row = envelope_at(snapshot, &key)?;
            each(figures_before(snapshot, &row, period.to)?.view(&row.created, period.to))?;
        }
        Ok(())
    }

    /// Gives `each` the payouts that were made in a period, the oldest first.
    ///
    /// # Errors
    /// [`PeriodError`] if they cannot be read, or are not taken.
    pub fn payouts_made(&self, period: Period, each: Take<'_, PayoutLine>) -> Result<(), PeriodError> {
        let snapshot = &*self.snapshot();
        let mut payouts = Vec::new();
        for row in snapshot.scan(Table::Payouts, &KeyRange::all()) {
            let payout = payout_row(row)?;
            if (period.from..period.to).contains(&payout.created_at) {
                payouts.push(payout);
            }
        }
        payouts.sort_by_key(|payout| (payout.created_at, *payout.id.bytes()));
        for payout in payouts {
            let paid_at = payout.is_paid_before(period.to).then_some(payout.changed_at);
            let envelope = reads::envelope(snapshot, payout.envelope)?;
            let envelope = envelope.ok_or_else(|| damaged(Table::Payouts, payout.id.bytes()))?;
            each(PayoutLine { payout, paid_at, funding_reference: envelope.created.terms.outside.funding })?;
        }
        Ok(())
    }

    /// Gives `each` every payout as it is now, in the order of their ids.
    ///
    /// # Errors
    /// [`PeriodError`] if they cannot be read, or are not taken.
    pub fn all_payouts(&self, each: Take<'_, Payout>) -> Result<(), PeriodError> {
        let snapshot = &*self.snapshot();
        for row in snapshot.scan(Table::Payouts, &KeyRange::all()) {
            each(payout_row(row)?)?;
        }
        Ok(())
    }

    /// Gives `each` the shares that were grabbed in a period, envelope by envelope, the oldest
    /// of them first, and by share.
    ///
    /// # Errors
    /// [`PeriodError`] if they cannot be read, or are not taken.
    pub fn grabs_made(&self, period: Period, each: Take<'_, GrabLine>) -> Result<(), PeriodError> {
        let snapshot = &*self.snapshot();
        for key in made_oldest_first(snapshot, MadeBetween { from: None, to: Some(period.to) })? {
            let created = envelope_at(snapshot, &key)?.created;
            if created.expires_at < period.from {
                continue;
            }
            for win in winners(snapshot, created.id) {
                let mut win = win?;
                if win.grabbed_at < period.from || win.grabbed_at >= period.to {
                    continue;
                }
                win.claimed_at = win.claimed_at.filter(|at| *at < period.to);
                let status =
                    share_status(period.to, win.claimed_at.is_some(), created.claim_by, created.terms.unclaimed);
                each(GrabLine { envelope: created.id, sender: created.terms.sender.clone(), win, status })?;
            }
        }
        Ok(())
    }
}

fn movement(snapshot: &dyn Snapshot, user: &UserId, lsn: Lsn, entry: Entry) -> Result<Movement, StoreError> {
    let Entry { at, kind, amount, balance_after } = entry;
    let wallet = Account::Wallet(user.clone());
    let (from, to) = match &kind {
        EntryKind::Deposit(_) => (Account::External, wallet),
        EntryKind::Withdrawal(_) => (wallet, Account::External),
        EntryKind::EnvelopeCreated(envelope) => (wallet, Account::Escrow(*envelope)),
        EntryKind::Claim(envelope) | EntryKind::Refund(envelope) | EntryKind::Lapse(envelope) => {
            (Account::Escrow(*envelope), wallet)
        }
        EntryKind::Order(order) => (wallet, Account::Merchant(merchant_of(snapshot, *order)?)),
        EntryKind::OrderRefund(order) => (Account::Merchant(merchant_of(snapshot, *order)?), wallet),
        EntryKind::GiftPaid(gift) => (wallet, Account::Gift(*gift)),
        EntryKind::GiftRefund(gift) => (Account::Gift(*gift), wallet),
        EntryKind::GroupPaid(group) => (wallet, Account::Group(*group)),
        EntryKind::GroupRefund(group) => (Account::Group(*group), wallet),
    };
    let kind = MovementKind::Wallet(kind, balance_after);
    Ok(Movement { lsn: Some(lsn), user: user.clone(), at, kind, from, to, amount })
}

/// What moved before a time without a wallet: into envelopes that were funded from outside, the oldest
/// first, by payouts, out of gifts and out of groups to merchants, in the order of their ids, and out of what
/// merchants have, merchant by merchant.
fn outside_movements(snapshot: &dyn Snapshot, before: Timestamp) -> Result<Vec<Movement>, StoreError> {
    let mut movements = Vec::new();
    for key in made_oldest_first(snapshot, MadeBetween { from: None, to: Some(before) })? {
        let created = envelope_at(snapshot, &key)?.created;
        let terms = created.terms;
        if let Some(reference) = terms.outside.funding {
            let kind = MovementKind::Funding(created.id, reference);
            let (from, to) = (Account::External, Account::Escrow(created.id));
            let (user, at, amount) = (terms.sender, created.created_at, terms.total);
            movements.push(Movement { lsn: None, user, at, kind, from, to, amount });
        }
    }
    for row in snapshot.scan(Table::Payouts, &KeyRange::all()) {
        let payout = payout_row(row)?;
        let of = |at, kind, from, to| {
            let (user, amount) = (payout.user.clone(), payout.amount);
            Movement { lsn: None, user, at, kind, from, to, amount }
        };
        if payout.created_at < before {
            let kind = MovementKind::PayoutMade(payout.id);
            movements.push(of(payout.created_at, kind, Account::Escrow(payout.envelope), Account::Payable));
        }
        if payout.is_paid_before(before) {
            let kind = MovementKind::Paid(payout.id, payout.reference.clone());
            movements.push(of(payout.changed_at, kind, Account::Payable, Account::External));
        }
    }
    for gift in gifts(snapshot) {
        let gift = gift?;
        if let Some(at) = gift.sold_at().filter(|at| *at < before) {
            let kind = MovementKind::GiftShipped(gift.id);
            let (from, to) = (Account::Gift(gift.id), Account::Merchant(gift.merchant.clone()));
            movements.push(Movement { lsn: None, user: gift.payer, at, kind, from, to, amount: gift.amount });
        }
    }
    for row in snapshot.scan(Table::Payments, &KeyRange::all()) {
        payment_movements(payments::payment_row(row)?, before, &mut movements);
    }
    for group in groups(snapshot) {
        let group = group?;
        if group.state == GroupState::Full
            && let Some(at) = group.ended_at.filter(|at| *at < before)
        {
            for member in group.members {
                let kind = MovementKind::GroupBought(group.id);
                let (from, to) = (Account::Group(group.id), Account::Merchant(group.merchant.clone()));
                movements.push(Movement { lsn: None, user: member.user, at, kind, from, to, amount: group.price });
            }
        }
    }
    for row in snapshot.scan(Table::MerchantEntries, &KeyRange::all()) {
        let (key, value) = row?;
        let MerchantEntry { at, kind, amount, .. } = reads::merchant_entry(&key, &value)?;
        let (kind, to) = match kind {
            MerchantEntryKind::Commission { .. } => (MovementKind::Commission, Account::Fees),
            MerchantEntryKind::Withdrawal(reference) => (MovementKind::SalesWithdrawn(reference), Account::External),
            // Told by wallets and gifts, or between what is pending and available.
            MerchantEntryKind::Sale { .. } | MerchantEntryKind::Settled { .. } | MerchantEntryKind::Refund { .. } => {
                continue;
            }
        };
        if at < before {
            let user = keys::user_of(&key).ok_or_else(|| damaged(Table::MerchantEntries, &key))?;
            let from = Account::Merchant(user.clone());
            movements.push(Movement { lsn: None, user, at, kind, from, to, amount });
        }
    }
    Ok(movements)
}

/// What of a payment outside moved before a time.
fn payment_movements(payment: Payment, before: Timestamp, movements: &mut Vec<Movement>) {
    let gateway = || Account::Gateway(payment.gateway.clone());
    let paid_for = match payment.purpose {
        _ if !payment.was_spent => Account::Refunding,
        PaymentFor::Hold(_) => Account::Merchant(payment.merchant.clone()),
        PaymentFor::Gift(gift) => Account::Gift(gift),
    };
    let [came, back, gone] = payment.steps();
    let steps = [
        (came, MovementKind::PaymentCame(payment.id, payment.number.clone()), gateway(), paid_for.clone()),
        // What came in vain was on its way back at once.
        (back.filter(|_| payment.was_spent), MovementKind::PaymentRefunding(payment.id), paid_for, Account::Refunding),
        (gone, MovementKind::PaymentRefunded(payment.id, payment.refund_number.clone()), Account::Refunding, gateway()),
    ];
    for (at, kind, from, to) in steps {
        if let Some(at) = at.filter(|at| *at < before) {
            let (user, amount) = (payment.payer.clone(), payment.taken);
            movements.push(Movement { lsn: None, user, at, kind, from, to, amount });
        }
    }
}

/// What each merchant had in all after its last entry before a period's beginning and end;
/// `None` if it had none before then: what it had was all brought by orders and gifts.
fn last_balances(snapshot: &dyn Snapshot, period: Period) -> Result<BTreeMap<UserId, [Option<i128>; 2]>, StoreError> {
    let mut balances = BTreeMap::<UserId, [Option<i128>; 2]>::new();
    for row in snapshot.scan(Table::MerchantEntries, &KeyRange::all()) {
        let (key, value) = row?;
        let merchant = keys::user_of(&key).ok_or_else(|| damaged(Table::MerchantEntries, &key))?;
        let entry = reads::merchant_entry(&key, &value)?;
        let last = balances.entry(merchant).or_default();
        for (index, at) in [period.from, period.to].into_iter().enumerate() {
            if entry.at < at {
                last[index] = Some(entry.balance_after.total().minor().into());
            }
        }
    }
    Ok(balances)
}

fn groups(snapshot: &dyn Snapshot) -> impl Iterator<Item = Result<Group, StoreError>> {
    snapshot.scan(Table::Groups, &KeyRange::all()).map(|row| {
        let (key, value) = row?;
        values::cold(&value).ok_or_else(|| damaged(Table::Groups, &key))
    })
}

/// What was in groups at a time, of all that had joined and not left.
fn in_groups_before(snapshot: &dyn Snapshot, at: Timestamp) -> Result<i128, StoreError> {
    let mut sum = 0;
    for group in groups(snapshot) {
        let group = group?;
        if group.created_at >= at || group.ended_at.is_some_and(|ended_at| ended_at < at) {
            continue;
        }
        for row in snapshot.scan(Table::GroupJoins, &KeyRange::prefix(group.id.bytes())) {
            let (key, value) = row?;
            let join: GroupJoin = values::cold(&value).ok_or_else(|| damaged(Table::GroupJoins, &key))?;
            if join.joined_at < at && join.left_at.is_none_or(|left_at| left_at >= at) {
                sum += i128::from(group.price.minor());
            }
        }
    }
    Ok(sum)
}

fn gifts(snapshot: &dyn Snapshot) -> impl Iterator<Item = Result<Gift, StoreError>> {
    snapshot.scan(Table::Gifts, &KeyRange::all()).map(|row| {
        let (key, value) = row?;
        values::cold(&value).ok_or_else(|| damaged(Table::Gifts, &key))
    })
}

impl Gift {
    /// Where its money was before a time: in the gift, and with the merchant.
    fn money_before(&self, at: Timestamp) -> (Amount, Amount) {
        let is_before = |time: Option<Timestamp>| time.is_some_and(|time| time < at);
        if is_before(self.sold_at()) {
            return (Amount::ZERO, self.amount);
        }
        let went_back = self.sold_at().is_none() && is_before(self.ended_at);
        let is_in_it = is_before(self.paid_at) && !went_back;
        (if is_in_it { self.amount } else { Amount::ZERO }, Amount::ZERO)
    }
}

fn payout_row(row: super::RowRead) -> Result<Payout, StoreError> {
    let (key, value) = row?;
    values::cold(&value).ok_or_else(|| damaged(Table::Payouts, &key))
}

impl Payout {
    /// Whether its money had gone out; what it was in between is not kept.
    fn is_paid_before(&self, at: Timestamp) -> bool {
        self.state == PayoutState::Paid && self.changed_at < at
    }
}

fn merchant_of(snapshot: &dyn Snapshot, order: OrderId) -> Result<UserId, StoreError> {
    let order_row: Option<OrderView> =
        reads::cold(Table::Orders, order.bytes(), snapshot.get(Table::Orders, order.bytes())?)?;
    Ok(order_row.ok_or_else(|| damaged(Table::Orders, order.bytes()))?.merchant)
}

/// The keys of [`Table::EnvelopesByTime`], which has the newest first.
fn made_oldest_first(snapshot: &dyn Snapshot, made: MadeBetween) -> Result<Vec<super::Bytes>, StoreError> {
    let range = KeyRange::made(&[], made);
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys =
        snapshot.scan(Table::EnvelopesByTime, &range).map(|row| Ok(row?.0)).collect::<Result<Vec<_>, StoreError>>()?;
    keys.reverse();
    Ok(keys)
}

/// The envelope that a key of [`Table::EnvelopesByTime`] leads to.
fn envelope_at(snapshot: &dyn Snapshot, key: &[u8]) -> Result<EnvelopeRow, StoreError> {
    let wrong = || damaged(Table::EnvelopesByTime, key);
    let id = EnvelopeId::from_bytes(keys::tail(key).ok_or_else(wrong)?);
    reads::envelope(snapshot, id)?.ok_or_else(wrong)
}

/// What an envelope had come to before `at`.
fn figures_before(snapshot: &dyn Snapshot, row: &EnvelopeRow, at: Timestamp) -> Result<Figures, StoreError> {
    let (mut taken, mut taken_amount, mut claimed) = (0, Amount::ZERO, Amount::ZERO);
    for win in winners(snapshot, row.created.id) {
        let win = win?;
        if win.grabbed_at < at {
            taken += 1;
            taken_amount += win.amount;
            if win.claimed_at.is_some_and(|claimed_at| claimed_at < at) {
                claimed += win.amount;
            }
        }
    }
    let mut refunded = Amount::ZERO;
    let mut ended = (taken == row.created.terms.shares).then_some(EndedAs::SoldOut);
    if let Some((_, of)) = row.ended.as_ref().filter(|(ended_at, _)| *ended_at < at) {
        refunded += of.refund;
        ended = Some(of.how);
    }
    if let Some((_, amount)) = row.lapsed.as_ref().filter(|(lapsed_at, _)| *lapsed_at < at) {
        refunded += *amount;
    }
    let settled = row.settled.as_ref().is_some_and(|(settled_at, _)| *settled_at < at);
    Ok(Figures { ended, settled, taken, taken_amount, claimed, refunded })
}
