//! What the engine should do, as naively as it can be said: a few maps, every
//! sum added up from scratch, no shards, no journal, no store, nothing shared
//! with the engine but its vocabulary and the pure `split`.
//!
//! The model knows every random byte the engine draws, so it says the exact
//! answer to every command beforehand, down to the amount of each share.

use crate::codes::{self, Codes};
use crate::gift_envelopes::GiftEnvelopes;
use crate::gifts::{Given, InTheWay};
use crate::groups::Together;
use crate::payouts::Owed;
use crate::relations::{self, Relations};
use crate::sales::Seller;
use hongbao_engine::api_key::{ApiKey, NewApiKey};
use hongbao_engine::backend::{Audit, Entry, EntryKind, GrabRow, OnceKey, ReceivedRow, Reply};
use hongbao_engine::code::HandedTo;
use hongbao_engine::command::{
    Command, EndedAs, EnvelopeState, EnvelopeView, HoldState, HoldView, ItemKind, ItemView, Merchant, MerchantStatus,
    NewEnvelope, NewItem, OrderView, Outcome, Reference, Refusal, ShareStatus, Stock, Unclaimed, Verification,
    WalletView,
};
use hongbao_engine::order::{OrderProgress, OrderState};
use hongbao_engine::payout::PayoutTo;
use hongbao_engine::redaction::Redaction;
use hongbao_engine::sale::SaleTerms;
use hongbao_engine::split::{self, commitment, envelope_seed};
use hongbao_engine::types::{
    Amount, ApiKeyId, EnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, Timestamp, UserId,
};
use std::collections::BTreeMap;

const REMEMBER_S: u64 = 8 * 86_400;
const YEAR_S: u64 = 31_536_000;
/// The group of movements of which a crash left it open when exactly they were made.
pub(crate) const UNCERTAIN: u64 = u64::MAX;

/// A time, known up to the crash that may have delayed what happened then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl When {
    pub(crate) fn at(at: Timestamp) -> When {
        When { from: at, to: at }
    }

    pub(crate) fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.to
    }
}

/// The records something happened in: of housekeeping only a range is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// When money moved, in which records, and in which group: see [`Movement`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) when: When,
    pub(crate) records: Records,
    pub(crate) group: u64,
}

impl Moment {
    pub(crate) fn now(now: Timestamp, lsn: u64) -> Moment {
        Moment { when: When::at(now), records: Records { first: lsn, last: lsn }, group: 0 }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Movement {
    pub(crate) when: When,
    pub(crate) kind: EntryKind,
    pub(crate) amount: u64,
    pub(crate) records: Records,
    /// Movements of one group, if it is not 0, may come in any order.
    pub(crate) group: u64,
}

impl Movement {
    pub(crate) fn is_credit(&self) -> bool {
        matches!(
            self.kind,
            EntryKind::Deposit(_)
                | EntryKind::Claim(_)
                | EntryKind::Refund(_)
                | EntryKind::Lapse(_)
                | EntryKind::GiftRefund(_)
                | EntryKind::OrderRefund(_)
                | EntryKind::GroupRefund(_)
        )
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Wallet {
    pub(crate) movements: Vec<Movement>,
}

impl Wallet {
    pub(crate) fn balance(&self) -> u64 {
        let sum = |credit| self.movements.iter().filter(|m| m.is_credit() == credit).map(|m| m.amount).sum::<u64>();
        sum(true) - sum(false)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Win {
    pub(crate) user: UserId,
    pub(crate) grabbed_at: Timestamp,
    pub(crate) lsn: u64,
    pub(crate) claimed: Option<(When, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) id: EnvelopeId,
    pub(crate) terms: NewEnvelope,
    pub(crate) secret: [u8; 32],
    pub(crate) amounts: Vec<u64>,
    pub(crate) created_at: Timestamp,
    pub(crate) opens_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) claim_by: Timestamp,
    pub(crate) wins: Vec<Win>,
    pub(crate) ended: Option<EndedAs>,
    pub(crate) settled: bool,
    pub(crate) refunded: u64,
    /// What was taken back, and with which record.
    pub(crate) redacted: Option<(Redaction, u64)>,
    /// The last record that changed it.
    pub(crate) lsn: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: ItemId,
    pub(crate) terms: NewItem,
    pub(crate) created_at: Timestamp,
    pub(crate) total: u32,
    pub(crate) lsn: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Memo {
    pub(crate) command: Command,
    answer: Outcome,
    pub(crate) expires_at: Option<Timestamp>,
    lsn: u64,
}

/// Days are short, so that some end.
pub(crate) const DAY_MS: u64 = 600_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// How many envelopes a sender may make in a day of [`DAY_MS`].
    pub(crate) creates: Option<u32>,
    pub(crate) wallets: BTreeMap<UserId, Wallet>,
    pub(crate) envelopes: BTreeMap<EnvelopeId, Envelope>,
    pub(crate) merchants: BTreeMap<UserId, Seller>,
    pub(crate) items: BTreeMap<ItemId, Item>,
    pub(crate) holds: BTreeMap<HoldId, (HoldView, u64)>,
    pub(crate) orders: BTreeMap<OrderId, (OrderView, u64)>,
    pub(crate) api_keys: BTreeMap<ApiKeyId, (ApiKey, u64)>,
    pub(crate) payouts: Vec<Owed>,
    pub(crate) given: BTreeMap<GiftId, Given>,
    pub(crate) groups: BTreeMap<GroupId, Together>,
    pub(crate) codes: Codes,
    pub(crate) relations: Relations,
    pub(crate) gift_envelopes: GiftEnvelopes,
    pub(crate) memos: BTreeMap<OnceKey, Memo>,
    /// What the last command ended because it wanted units, a record each.
    pub(crate) cleared: Vec<InTheWay>,
    /// The last record.
    pub(crate) lsn: u64,
}

/// What a command should come to.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) reply: Reply,
    /// How many records it should make: one or none.
    pub(crate) records: u64,
    /// The record that has to be durable before this may be told; 0 for none.
    pub(crate) needs: u64,
}

/// An outcome, whether it changes anything, and what it tells of.
pub(crate) struct Decided(pub(crate) Outcome, pub(crate) bool, pub(crate) u64);

/// What is told without a record.
fn told(outcome: Outcome, replayed: bool, needs: u64) -> Expected {
    Expected { reply: Reply { outcome, replayed }, records: 0, needs }
}

pub(crate) fn no(outcome: Outcome) -> Decided {
    Decided(outcome, false, 0)
}

pub(crate) fn refuse(refusal: Refusal) -> Decided {
    no(Outcome::Refused(refusal))
}

fn amount(minor: u64) -> Amount {
    Amount::new(minor).expect("amounts stay in their bounds")
}

pub(crate) fn is_positive(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Wallet(_)
            | Outcome::Envelope(_)
            | Outcome::Won { .. }
            | Outcome::Claimed { .. }
            | Outcome::Merchant(_)
            | Outcome::Item(_)
            | Outcome::Held { .. }
            | Outcome::Ordered { .. }
            | Outcome::Released { .. }
            | Outcome::Clock(_)
            | Outcome::ApiKey(_)
            | Outcome::Payouts(_)
            | Outcome::Gift(_)
            | Outcome::Order(_)
            | Outcome::Relations(_)
            | Outcome::GiftEnvelope(_)
            | Outcome::Payment(_)
            | Outcome::Sales { .. }
            | Outcome::Group(_)
            | Outcome::Joined { .. }
    )
}

fn references_of(command: &Command) -> Vec<OnceKey> {
    let key = |kind, r: &Option<Reference>| r.as_ref().map(|r| OnceKey::reference(&r.owner, kind, &r.text));
    let (own, funding) = match command {
        Command::Deposit(transfer) => (key("deposit", &transfer.reference), None),
        Command::Withdraw(transfer) => (key("withdrawal", &transfer.reference), None),
        Command::CreateGift(terms) => (key("gift", &terms.reference), None),
        Command::CreateGiftEnvelope(terms) => (key("gift_envelope", &terms.reference), None),
        Command::OpenGroup(terms) => (key("group", &terms.reference), None),
        Command::WithdrawSales(transfer) => (key("sales_withdrawal", &transfer.reference), None),
        Command::CreateEnvelope(terms) => {
            let funding = terms.outside.funding.as_ref();
            let funding = funding.map(|text| OnceKey::reference(&terms.owner, "funding", text));
            (key("envelope", &terms.reference), funding)
        }
        _ => (None, None),
    };
    own.into_iter().chain(funding).collect()
}

/// What is wrong with a command whatever the state: the field at fault.
fn fault(command: &Command) -> Option<String> {
    let field = match command {
        Command::AddCodes { codes, .. } => return codes::fault(codes),
        Command::PutRelations(rows) => return relations::fault(rows),
        Command::Deposit(transfer) | Command::Withdraw(transfer) | Command::WithdrawSales(transfer)
            if transfer.amount.is_zero() =>
        {
            Some("amount")
        }
        Command::CreateEnvelope(terms) => match terms.split.check(terms.total, terms.shares) {
            Err(error) => Some(error.field()),
            Ok(()) if terms.expires_in_s == 0 || terms.expires_in_s > YEAR_S => Some("expires_in_s"),
            Ok(()) => None,
        },
        Command::CreateItem(terms) => item_fault(terms),
        Command::CreateGiftEnvelope(terms) if !(1..=100).contains(&terms.units) => Some("units"),
        Command::CreateGift(terms) if terms.accept_within_s == 0 => Some("accept_within_s"),
        _ => None,
    };
    field.map(str::to_owned)
}

fn item_fault(terms: &NewItem) -> Option<&'static str> {
    if terms.price.is_zero() {
        return Some("price");
    }
    match (terms.starts_at, terms.ends_at) {
        (Some(starts_at), Some(ends_at)) if ends_at <= starts_at => Some("ends_at"),
        _ if terms.origin.kind == ItemKind::Code && terms.stock > 0 => Some("stock"),
        _ if terms.group_buy.is_some_and(|buy| buy.price > terms.price) => Some("group_buy.price"),
        _ => None,
    }
}

fn starts_wrongly(starts_at: Option<Timestamp>, now: Timestamp) -> bool {
    starts_at.is_some_and(|at| at < now || at > now.plus_s(YEAR_S))
}

impl Model {
    /// Decides a command as the API says, and does what it comes to. `drawn` is
    /// what the engine drew at random for it.
    pub(crate) fn execute(
        &mut self,
        now: Timestamp,
        command: &Command,
        once: Option<OnceKey>,
        drawn: &[Vec<u8>],
    ) -> Expected {
        if let Some(field) = fault(command) {
            return told(Outcome::Refused(Refusal::invalid(&field, "")), false, 0);
        }
        // A redaction is known again by what it did, and kept under no key.
        let once = once.filter(|_| !matches!(command, Command::Redact { .. }));
        if let Some(kept) = once.and_then(|key| self.remembered(key, now)) {
            if kept.command != *command {
                return told(Outcome::Refused(Refusal::IdempotencyMismatch), false, 0);
            }
            let (answer, lsn) = self.as_redacted(kept);
            return told(answer, true, lsn);
        }
        let references = references_of(command);
        let before = self.lsn;
        let is_new = references.iter().all(|key| self.remembered(*key, now).is_none());
        if is_new {
            self.cleared = self.in_the_way(now, command);
            self.cleared.clone().into_iter().for_each(|what| self.clear(now, what));
        }
        let lsn = self.lsn + 1;
        let (decided, replayed) = match references.iter().find_map(|key| self.remembered(*key, now)) {
            Some(kept) if kept.command != *command => {
                return told(Outcome::Refused(Refusal::ReferenceConflict), false, 0);
            }
            Some(kept) => {
                let (answer, lsn) = self.as_redacted(kept);
                (Decided(answer, false, lsn), true)
            }
            None => {
                let is_again = self.has_grabbed(command).is_some();
                (self.decide(now, command, drawn, lsn), is_again)
            }
        };
        let Decided(outcome, mut changes, needs) = decided;
        if is_positive(&outcome) {
            let references = references.into_iter().filter(|_| !replayed);
            let once = once.map(|key| (key, Some(now.plus_s(REMEMBER_S))));
            for (key, expires_at) in once.into_iter().chain(references.map(|key| (key, None))) {
                changes = true;
                let memo = Memo { command: command.clone(), answer: outcome.clone(), expires_at, lsn };
                self.memos.insert(key, memo);
            }
        }
        if changes {
            self.lsn = lsn;
        }
        let needs = if changes && is_positive(&outcome) { lsn } else { needs };
        Expected { reply: Reply { outcome, replayed }, records: self.lsn - before, needs }
    }

    /// A kept answer as it is told by now, and what it tells of.
    fn as_redacted(&self, kept: &Memo) -> (Outcome, u64) {
        let (mut answer, mut lsn) = (kept.answer.clone(), kept.lsn);
        if let Outcome::Envelope(view) = &mut answer
            && let Some(envelope) = self.envelopes.get(&view.id)
        {
            envelope.blank(view);
            lsn = lsn.max(envelope.redacted_lsn());
        }
        (answer, lsn)
    }

    fn remembered(&self, key: OnceKey, now: Timestamp) -> Option<&Memo> {
        self.memos.get(&key).filter(|memo| memo.expires_at.is_none_or(|expires_at| now < expires_at))
    }

    fn decide(&mut self, now: Timestamp, command: &Command, drawn: &[Vec<u8>], lsn: u64) -> Decided {
        match command {
            Command::Deposit(transfer) => {
                if self.audit().deposited + transfer.amount.minor() > Amount::MAX.minor() {
                    return refuse(Refusal::invalid("amount", ""));
                }
                let kind = EntryKind::Deposit(transfer.reference.as_ref().map(|r| r.text.clone()));
                self.move_money(&transfer.user, kind, transfer.amount.minor(), Moment::now(now, lsn));
                Decided(Outcome::Wallet(self.wallet(&transfer.user)), true, lsn)
            }
            Command::Withdraw(transfer) => {
                if self.balance(&transfer.user) < transfer.amount.minor() {
                    return refuse(Refusal::InsufficientFunds);
                }
                let kind = EntryKind::Withdrawal(transfer.reference.as_ref().map(|r| r.text.clone()));
                self.move_money(&transfer.user, kind, transfer.amount.minor(), Moment::now(now, lsn));
                Decided(Outcome::Wallet(self.wallet(&transfer.user)), true, lsn)
            }
            Command::CreateEnvelope(terms) => self.create_envelope(now, terms, drawn, lsn),
            Command::Grab { envelope, user } => self.grab(now, *envelope, user, lsn),
            Command::Claim { envelope, user } => self.claim(now, *envelope, user, lsn),
            Command::Cancel { envelope } => self.cancel(now, *envelope, lsn),
            Command::Redact { envelope, metadata } => self.redact(now, *envelope, *metadata, lsn),
            Command::RedactGift { .. } => unreachable!("gifts' texts are taken back in stories and races of their own"),
            Command::PutMerchant(new) => {
                let known = self.merchants.get(&new.id).map(|seller| &seller.merchant);
                let status = match (new.status, known) {
                    (Some(status), _) => status,
                    (None, Some(merchant)) => merchant.status,
                    (None, None) => MerchantStatus::Pending,
                };
                let before = known.map(|merchant| (merchant.status, merchant.verification.clone()));
                let is_checked = new.status == Some(MerchantStatus::Verified)
                    && (new.verification.is_some() || !matches!(before, Some((MerchantStatus::Verified, Some(_)))));
                let verification = match (status, before) {
                    (MerchantStatus::Pending, _) => None,
                    (MerchantStatus::Verified, _) if is_checked => {
                        let told = new.verification.clone().unwrap_or_default();
                        let by = told.by.unwrap_or(new.told_by.clone());
                        Some(Verification { by, reference: told.reference, at: now })
                    }
                    (_, Some((_, verification))) => verification,
                    (_, None) => None,
                };
                let mut terms = known.map_or_else(SaleTerms::default, |merchant| merchant.terms);
                terms.settle_after_s = new.settle_after_s.unwrap_or(terms.settle_after_s);
                terms.commission_bps = new.commission_bps.unwrap_or(terms.commission_bps);
                let merchant = Merchant { id: new.id.clone(), name: new.name.clone(), status, verification, terms };
                match self.merchants.get_mut(&merchant.id) {
                    Some(seller) => seller.merchant = merchant.clone(),
                    None => _ = self.merchants.insert(merchant.id.clone(), Seller::new(merchant.clone())),
                }
                Decided(Outcome::Merchant(Box::new(merchant)), true, lsn)
            }
            Command::WithdrawSales(transfer) => self.withdraw_sales(now, transfer, lsn),
            Command::CreateItem(terms) if starts_wrongly(terms.starts_at, now) => {
                refuse(Refusal::invalid("starts_at", ""))
            }
            Command::CreateItem(terms) if terms.ends_at.is_some_and(|at| at <= now || at > now.plus_s(2 * YEAR_S)) => {
                refuse(Refusal::invalid("ends_at", ""))
            }
            Command::CreateItem(terms) => match self.merchants.get(&terms.merchant) {
                None => refuse(Refusal::invalid("merchant", "")),
                Some(seller) if seller.merchant.status != MerchantStatus::Verified => {
                    refuse(Refusal::WrongState(String::new()))
                }
                Some(Seller { merchant, .. }) => {
                    if let Some(of) = terms.origin.variant_of {
                        let of = self.items.get(&of).filter(|of| of.terms.merchant == merchant.id);
                        if of.is_none_or(|of| of.terms.origin.variant_of.is_some()) {
                            return refuse(Refusal::invalid("variant_of", ""));
                        }
                    }
                    let id = ItemId::from_bytes(drawn[0].as_slice().try_into().expect("an item's id is drawn"));
                    let total = terms.stock;
                    self.items.insert(id, Item { id, terms: (**terms).clone(), created_at: now, total, lsn });
                    Decided(self.item_answer(id), true, lsn)
                }
            },
            Command::ChangeItem { item, change } => {
                let Some(found) = self.items.get_mut(item) else { return refuse(Refusal::NotFound) };
                let mut terms = found.terms.clone();
                let change = (**change).clone();
                terms.name = change.name.unwrap_or(terms.name);
                terms.category = change.category.unwrap_or(terms.category);
                terms.price = change.price.unwrap_or(terms.price);
                terms.per_user_limit = change.per_user_limit.unwrap_or(terms.per_user_limit);
                terms.starts_at = change.starts_at.unwrap_or(terms.starts_at);
                terms.ends_at = change.ends_at.unwrap_or(terms.ends_at);
                terms.hold_ttl_s = change.hold_ttl_s.unwrap_or(terms.hold_ttl_s);
                terms.image_url = change.image_url.unwrap_or(terms.image_url);
                terms.group_buy = change.group_buy.unwrap_or(terms.group_buy);
                if let Some(field) = item_fault(&terms) {
                    return refuse(Refusal::invalid(field, ""));
                }
                if terms.starts_at != found.terms.starts_at && starts_wrongly(terms.starts_at, now) {
                    return refuse(Refusal::invalid("starts_at", ""));
                }
                let (passed, far) = (Timestamp::from_ms(now.ms() - 60_000), now.plus_s(2 * YEAR_S));
                if terms.ends_at != found.terms.ends_at && terms.ends_at.is_some_and(|at| at < passed || at > far) {
                    return refuse(Refusal::invalid("ends_at", ""));
                }
                found.terms = terms;
                found.lsn = lsn;
                Decided(self.item_answer(*item), true, lsn)
            }
            Command::Restock { item, quantity } => {
                let Some(found) = self.items.get_mut(item) else { return refuse(Refusal::NotFound) };
                if found.terms.origin.kind == ItemKind::Code {
                    return refuse(Refusal::WrongState(String::new()));
                }
                let total = u64::from(found.total) + u64::from(*quantity);
                if *quantity == 0 || total > u64::from(u32::MAX) {
                    return refuse(Refusal::invalid("quantity", ""));
                }
                found.total = total as u32;
                found.lsn = lsn;
                Decided(self.item_answer(*item), true, lsn)
            }
            Command::GrabItem { item, user, quantity } => self.grab_item(now, *item, user, *quantity, drawn, lsn),
            Command::ClaimHold { hold, user } => self.claim_hold(now, *hold, user, drawn, lsn),
            Command::ReleaseHold { hold, user } => {
                if let Some(answer) = self.hold_is_over(now, *hold, user) {
                    return answer;
                }
                let (found, changed) = self.holds.get_mut(hold).expect("a hold that is not over exists");
                found.state = HoldState::Released;
                *changed = lsn;
                Decided(Outcome::Released { replayed: false }, true, lsn)
            }
            Command::CreateApiKey(new) => {
                let id = ApiKeyId::from_bytes(drawn[0].as_slice().try_into().expect("a key's id is drawn"));
                let NewApiKey { name, owner, roles, digest } = (**new).clone();
                let key = ApiKey { id, name, owner, roles, digest, created_at: now, deleted_at: None };
                self.api_keys.insert(id, (key.clone(), lsn));
                Decided(Outcome::ApiKey(Box::new(key)), true, lsn)
            }
            Command::DeleteApiKey { key } => match self.api_keys.get_mut(key) {
                None => refuse(Refusal::NotFound),
                Some((key, deleted)) if key.deleted_at.is_some() => {
                    Decided(Outcome::ApiKey(Box::new(key.clone())), false, *deleted)
                }
                Some((key, last)) => {
                    key.deleted_at = Some(now);
                    *last = lsn;
                    Decided(Outcome::ApiKey(Box::new(key.clone())), true, lsn)
                }
            },
            Command::PayoutResults(results) => {
                let (answers, changes, needs) = self.tell_results(results, now, lsn);
                Decided(Outcome::Payouts(answers), changes, needs)
            }
            Command::CreateGift(terms) => self.create_gift(now, terms, drawn, lsn),
            Command::StepGift { gift, step } => self.step_gift(now, *gift, step, lsn),
            Command::AddCodes { item, codes } => self.add_codes(*item, codes, lsn),
            Command::CreateGiftEnvelope(terms) => self.create_gift_envelope(now, terms, drawn, lsn),
            Command::GrabGift { .. } => self.grab_gift(now, command, lsn),
            Command::StepGiftEnvelope { envelope, step } => self.step_gift_envelope(now, *envelope, step, lsn),
            Command::PutRelations(rows) => self.put_relations(rows, lsn),
            Command::OpenGroup(terms) => self.open_group(now, terms, drawn, lsn),
            Command::JoinGroup { group, user } => self.join_group(now, *group, user, drawn, lsn),
            Command::LeaveGroup { group, user } => self.leave_group(now, *group, user, lsn),
            Command::StepOrder { order, step } => self.step_order(now, *order, step, lsn),
            // They have stories of their own: `engine/tests/payments.rs`.
            Command::CreatePayment(_) | Command::TellPayment { .. } => unreachable!("nobody here pays outside"),
            Command::AdvanceClock { by_s } => Decided(Outcome::Clock(now.plus_s(*by_s)), true, lsn),
        }
    }

    pub(crate) fn move_money(&mut self, user: &UserId, kind: EntryKind, amount: u64, moment: Moment) {
        let Moment { when, records, group } = moment;
        let movement = Movement { when, kind, amount, records, group };
        self.wallets.entry(user.clone()).or_default().movements.push(movement);
    }

    fn create_envelope(&mut self, now: Timestamp, terms: &NewEnvelope, drawn: &[Vec<u8>], lsn: u64) -> Decided {
        if terms.opens_at.is_some_and(|opens_at| opens_at < now || opens_at > now.plus_s(YEAR_S)) {
            return refuse(Refusal::invalid("opens_at", ""));
        }
        let day = now.ms() / DAY_MS;
        let made =
            self.envelopes.values().filter(|it| it.terms.sender == terms.sender && it.created_at.ms() / DAY_MS == day);
        if self.creates.is_some_and(|creates| made.count() as u32 >= creates) {
            return refuse(Refusal::invalid("sender", ""));
        }
        let is_funded = terms.outside.funding.is_some();
        if is_funded && self.audit().deposited + terms.total.minor() > Amount::MAX.minor() {
            return refuse(Refusal::invalid("total", ""));
        }
        if !is_funded && self.balance(&terms.sender) < terms.total.minor() {
            return refuse(Refusal::InsufficientFunds);
        }
        let mut id: [u8; 16] = drawn[0].as_slice().try_into().expect("an envelope's id is drawn");
        let pays_outside = terms.outside.payout == PayoutTo::External;
        id[2] = id[2] & !7 | u8::from(terms.auto_claim) | if pays_outside { 4 } else { 0 };
        let id = EnvelopeId::from_bytes(id);
        let secret = drawn[1].as_slice().try_into().expect("an envelope's secret is drawn");
        let client_seed = terms.client_seed.as_deref().unwrap_or("");
        let seed = envelope_seed(&secret, &id, client_seed.as_bytes());
        let amounts = split::split(&terms.split, terms.total, terms.shares, &seed);
        let opens_at = terms.opens_at.unwrap_or(now);
        let expires_at = opens_at.plus_s(terms.expires_in_s);
        let envelope = Envelope {
            id,
            terms: terms.clone(),
            secret,
            amounts: amounts.iter().map(Amount::minor).collect(),
            created_at: now,
            opens_at,
            expires_at,
            claim_by: expires_at.plus_s(terms.claim_within_s),
            wins: Vec::new(),
            ended: None,
            settled: false,
            refunded: 0,
            redacted: None,
            lsn,
        };
        let answer = Outcome::Envelope(Box::new(envelope.view(now)));
        self.envelopes.insert(id, envelope);
        if !is_funded {
            self.move_money(&terms.sender, EntryKind::EnvelopeCreated(id), terms.total.minor(), Moment::now(now, lsn));
        }
        Decided(answer, true, lsn)
    }

    fn grab(&mut self, now: Timestamp, id: EnvelopeId, user: &UserId, lsn: u64) -> Decided {
        let Some(envelope) = self.envelopes.get_mut(&id) else { return refuse(Refusal::NotFound) };
        if let Some(share) = envelope.share_of(user) {
            return Decided(envelope.won(now, share, true), false, envelope.wins[share].needs());
        }
        if envelope.ended == Some(EndedAs::Cancelled) {
            return no(Outcome::Cancelled);
        }
        if now < envelope.opens_at {
            return no(Outcome::NotOpen { opens_at: envelope.opens_at });
        }
        let share = envelope.wins.len();
        if share == envelope.amounts.len() {
            return no(Outcome::SoldOut);
        }
        if now >= envelope.expires_at {
            return no(Outcome::Expired);
        }
        let claimed = envelope.terms.auto_claim.then_some((When::at(now), lsn));
        envelope.wins.push(Win { user: user.clone(), grabbed_at: now, lsn, claimed });
        envelope.lsn = lsn;
        if envelope.wins.len() == envelope.amounts.len() {
            envelope.ended = Some(EndedAs::SoldOut);
        }
        envelope.settle_if_done();
        let answer = envelope.won(now, share, false);
        if envelope.terms.auto_claim {
            let amount = envelope.amounts[share];
            self.pay(id, user, EntryKind::Claim(id), amount, Moment::now(now, lsn));
        }
        Decided(answer, true, lsn)
    }

    fn claim(&mut self, now: Timestamp, id: EnvelopeId, user: &UserId, lsn: u64) -> Decided {
        let Some(envelope) = self.envelopes.get_mut(&id) else { return refuse(Refusal::NotFound) };
        let Some(share) = envelope.share_of(user) else { return no(Outcome::NotWon) };
        let minor = envelope.amounts[share];
        if let Some((when, needs)) = envelope.wins[share].claimed {
            let answer = Outcome::Claimed { amount: amount(minor), claimed_at: when.from, replayed: true };
            return Decided(answer, false, needs);
        }
        if envelope.status(now, share) == ShareStatus::Lapsed {
            return no(Outcome::Lapsed);
        }
        envelope.wins[share].claimed = Some((When::at(now), lsn));
        envelope.lsn = lsn;
        envelope.settle_if_done();
        self.pay(id, user, EntryKind::Claim(id), minor, Moment::now(now, lsn));
        Decided(Outcome::Claimed { amount: amount(minor), claimed_at: now, replayed: false }, true, lsn)
    }

    fn cancel(&mut self, now: Timestamp, id: EnvelopeId, lsn: u64) -> Decided {
        let Some(envelope) = self.envelopes.get_mut(&id) else { return refuse(Refusal::NotFound) };
        match envelope.ended {
            Some(EndedAs::Cancelled) => {
                Decided(Outcome::Envelope(Box::new(envelope.view(now))), false, envelope.told_lsn())
            }
            None if now < envelope.expires_at => {
                let (sender, unsold) = envelope.end(EndedAs::Cancelled, lsn);
                let answer = Outcome::Envelope(Box::new(envelope.view(now)));
                self.pay(id, &sender, EntryKind::Refund(id), unsold, Moment::now(now, lsn));
                Decided(answer, true, lsn)
            }
            _ => refuse(Refusal::WrongState(String::new())),
        }
    }

    fn redact(&mut self, now: Timestamp, id: EnvelopeId, metadata: bool, lsn: u64) -> Decided {
        let Some(envelope) = self.envelopes.get_mut(&id) else { return refuse(Refusal::NotFound) };
        let redaction = match envelope.redacted {
            Some((done, _)) if done.metadata || !metadata => {
                return Decided(Outcome::Envelope(Box::new(envelope.view(now))), false, envelope.told_lsn());
            }
            Some((done, _)) => Redaction { metadata, ..done },
            None => Redaction { at: now, metadata },
        };
        envelope.redacted = Some((redaction, lsn));
        Decided(Outcome::Envelope(Box::new(envelope.view(now))), true, lsn)
    }

    pub(crate) fn item_answer(&self, id: ItemId) -> Outcome {
        Outcome::Item(Box::new(self.item(id).expect("an item that was just changed exists")))
    }

    fn grab_item(
        &mut self,
        now: Timestamp,
        id: ItemId,
        user: &UserId,
        quantity: u32,
        drawn: &[Vec<u8>],
        lsn: u64,
    ) -> Decided {
        let Some(item) = self.items.get(&id) else { return refuse(Refusal::NotFound) };
        let terms = item.terms.clone();
        let limit = terms.per_user_limit.unwrap_or(u32::MAX);
        if quantity == 0 || quantity > limit {
            return refuse(Refusal::invalid("quantity", ""));
        }
        if let Some((hold, held_lsn)) = self.hold_again(now, id, user) {
            return Decided(held(hold, true), false, *held_lsn);
        }
        if !self.may_sell(&terms.merchant) {
            return refuse(Refusal::WrongState(String::new()));
        }
        if terms.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return no(Outcome::Ended);
        }
        if let Some(opens_at) = terms.starts_at.filter(|&starts_at| now < starts_at) {
            return no(Outcome::NotOpen { opens_at });
        }
        let expired = self.end_due_holds(now, Some(id), lsn);
        let stock = self.stock(id);
        if self.units_of(id, user) + u64::from(quantity) > u64::from(limit) {
            return Decided(Outcome::LimitReached, expired, 0);
        }
        if stock.free < quantity {
            return Decided(Outcome::SoldOut, expired, 0);
        }
        let hold = HoldView {
            id: HoldId::from_bytes(beside(id.bytes(), drawn)),
            item: id,
            user: user.clone(),
            quantity,
            amount: amount(terms.price.minor() * u64::from(quantity)),
            state: HoldState::Held,
            created_at: now,
            expires_at: now.plus_s(terms.hold_ttl_s),
        };
        let answer = held(&hold, false);
        self.holds.insert(hold.id, (hold, lsn));
        Decided(answer, true, lsn)
    }

    /// The answer to a claim or release of a hold that is not to be had any more.
    fn hold_is_over(&self, now: Timestamp, id: HoldId, user: &UserId) -> Option<Decided> {
        let Some((hold, lsn)) = self.holds.get(&id) else { return Some(refuse(Refusal::NotFound)) };
        if hold.user != *user {
            return Some(refuse(Refusal::Forbidden));
        }
        match hold.state {
            HoldState::Claimed(order) => Some(Decided(Outcome::Ordered { order, replayed: true }, false, *lsn)),
            HoldState::Released => Some(Decided(Outcome::Released { replayed: true }, false, *lsn)),
            HoldState::Expired => Some(no(Outcome::HoldExpired)),
            HoldState::Held if now >= hold.expires_at => Some(no(Outcome::HoldExpired)),
            HoldState::Held => None,
        }
    }

    fn claim_hold(&mut self, now: Timestamp, id: HoldId, user: &UserId, drawn: &[Vec<u8>], lsn: u64) -> Decided {
        if let Some(answer) = self.hold_is_over(now, id, user) {
            return answer;
        }
        let price = self.holds[&id].0.amount.minor();
        if self.balance(user) < price {
            return no(Outcome::CannotPay);
        }
        let order = OrderId::from_bytes(beside(id.bytes(), drawn));
        let (hold, changed) = self.holds.get_mut(&id).expect("a hold that is not over exists");
        hold.state = HoldState::Claimed(order);
        *changed = lsn;
        let hold = hold.clone();
        let merchant = self.items[&hold.item].terms.merchant.clone();
        self.sell(&merchant, price, now);
        let view = OrderView {
            id: order,
            hold: id,
            item: hold.item,
            merchant,
            user: hold.user,
            quantity: hold.quantity,
            amount: hold.amount,
            created_at: now,
            progress: self.progress_of_new(hold.item, now),
        };
        let sales = &mut self.merchants.get_mut(&view.merchant).expect("an item has a merchant").sales;
        sales.last_mut().expect("it was just sold").order = Some(order);
        self.hand(view.item, view.quantity, HandedTo::Order(order), lsn);
        self.orders.insert(order, (view, lsn));
        self.move_money(user, EntryKind::Order(order), price, Moment::now(now, lsn));
        Decided(Outcome::Ordered { order, replayed: false }, true, lsn)
    }

    /// One of codes is delivered as it is paid.
    pub(crate) fn progress_of_new(&self, item: ItemId, now: Timestamp) -> OrderProgress {
        match self.sells_codes(item) {
            true => OrderProgress { state: OrderState::Delivered, delivered_at: Some(now), ..OrderProgress::default() },
            false => OrderProgress::default(),
        }
    }

    pub(crate) fn may_sell(&self, merchant: &UserId) -> bool {
        self.merchants[merchant].merchant.status == MerchantStatus::Verified
    }

    /// The live hold that who may have one is given again.
    fn hold_again(&self, now: Timestamp, item: ItemId, user: &UserId) -> Option<&(HoldView, u64)> {
        if self.items[&item].terms.per_user_limit != Some(1) {
            return None;
        }
        let mine = self.holds.values().filter(|(hold, _)| hold.item == item && hold.user == *user);
        let live = mine.filter(|(hold, _)| hold.state == HoldState::Held && !is_due_by(hold, now));
        live.min_by_key(|(hold, _)| (hold.created_at, hold.id))
    }

    pub(crate) fn has_hold_again(&self, now: Timestamp, command: &Command) -> bool {
        matches!(command, Command::GrabItem { item, user, .. } if self.hold_again(now, *item, user).is_some())
    }

    /// Units of an item that a user holds or has bought, gifts among them.
    pub(crate) fn units_of(&self, item: ItemId, user: &UserId) -> u64 {
        let mine = self.holds.values().filter(|(hold, _)| hold.item == item && hold.user == *user);
        let counted = mine.filter(|(hold, _)| matches!(hold.state, HoldState::Held | HoldState::Claimed(_)));
        let (held, sold) = self.given_units(item, Some(user));
        let bought = counted.map(|(hold, _)| u64::from(hold.quantity)).sum::<u64>();
        bought + u64::from(held + sold + self.group_units(item, Some(user)))
            - u64::from(self.restocked(item, Some(user)))
    }

    pub(crate) fn end_due_holds(&mut self, now: Timestamp, item: Option<ItemId>, lsn: u64) -> bool {
        let mut any = false;
        for (hold, changed) in self.holds.values_mut() {
            let due = hold.state == HoldState::Held && now >= hold.expires_at;
            if due && item.is_none_or(|item| item == hold.item) {
                hold.state = HoldState::Expired;
                *changed = lsn;
                any = true;
            }
        }
        any
    }

    /// Does everything that is due. Says whether anything was.
    pub(crate) fn tick(&mut self, now: Timestamp, when: When, records: Records, group: u64) -> bool {
        let mut any = self.end_due_holds(now, None, records.first);
        any |= self.end_due_gifts(now, Moment { when, records, group });
        any |= self.end_due_groups(now, Moment { when, records, group });
        any |= self.settle_sales(now);
        let mut moved: Vec<(EnvelopeId, UserId, EntryKind, u64)> = Vec::new();
        for envelope in self.envelopes.values_mut().filter(|envelope| !envelope.settled) {
            if envelope.ended.is_none() && now >= envelope.expires_at {
                let (sender, unsold) = envelope.end(EndedAs::Expired, records.first);
                moved.push((envelope.id, sender, EntryKind::Refund(envelope.id), unsold));
                any = true;
            }
            if envelope.settled || envelope.ended.is_none() || now < envelope.claim_by {
                continue;
            }
            any = true;
            envelope.settled = true;
            envelope.lsn = records.first;
            let amounts = envelope.amounts.clone();
            let unclaimed = envelope.wins.iter_mut().zip(amounts).filter(|(win, _)| win.claimed.is_none());
            match envelope.terms.unclaimed {
                Unclaimed::Return => {
                    let lapsed: u64 = unclaimed.map(|(_, minor)| minor).sum();
                    envelope.refunded += lapsed;
                    moved.push((envelope.id, envelope.terms.sender.clone(), EntryKind::Lapse(envelope.id), lapsed));
                }
                Unclaimed::Credit => {
                    for (win, minor) in unclaimed {
                        win.claimed = Some((when, records.first));
                        moved.push((envelope.id, win.user.clone(), EntryKind::Claim(envelope.id), minor));
                    }
                }
            }
        }
        for (envelope, user, kind, amount) in moved {
            self.pay(envelope, &user, kind, amount, Moment { when, records, group });
        }
        any
    }

    /// A crash interrupted housekeeping again: what it did may have been done until `to`.
    pub(crate) fn widen(&mut self, to: Timestamp) {
        for movement in self.wallets.values_mut().flat_map(|wallet| &mut wallet.movements) {
            if movement.group == UNCERTAIN {
                movement.when.to = to;
            }
        }
        for win in self.envelopes.values_mut().flat_map(|envelope| &mut envelope.wins) {
            if let Some((when, _)) = &mut win.claimed
                && when.from != when.to
            {
                when.to = to;
            }
        }
        self.widen_payouts(to);
        self.widen_gifts(to);
        self.widen_groups(to);
    }

    pub(crate) fn balance(&self, user: &UserId) -> u64 {
        self.wallets.get(user).map_or(0, Wallet::balance)
    }

    pub(crate) fn wallet(&self, user: &UserId) -> WalletView {
        WalletView { user: user.clone(), available: amount(self.balance(user)), held: Amount::ZERO }
    }

    pub(crate) fn stock(&self, id: ItemId) -> Stock {
        let sum = |state: fn(&HoldState) -> bool| {
            let of_item = self.holds.values().filter(|(hold, _)| hold.item == id && state(&hold.state));
            of_item.map(|(hold, _)| hold.quantity).sum::<u32>()
        };
        let total = self.items[&id].total;
        let (given, sold_given) = self.given_units(id, None);
        let held = sum(|state| *state == HoldState::Held) + given + self.group_units(id, None);
        let sold = sum(|state| matches!(state, HoldState::Claimed(_))) + sold_given - self.restocked(id, None);
        Stock { total, free: total - held - sold, held, sold }
    }

    pub(crate) fn item(&self, id: ItemId) -> Option<ItemView> {
        let item = self.items.get(&id)?;
        Some(ItemView { id, created_at: item.created_at, terms: item.terms.clone(), stock: self.stock(id) })
    }

    /// All money, added up from the movements and the envelopes.
    pub(crate) fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        for wallet in self.wallets.values() {
            for movement in &wallet.movements {
                match movement.kind {
                    EntryKind::Deposit(_) => audit.deposited += movement.amount,
                    EntryKind::Withdrawal(_) => audit.withdrawn += movement.amount,
                    _ => {}
                }
            }
            audit.wallets += wallet.balance();
        }
        let funded = self.envelopes.values().filter(|envelope| envelope.terms.outside.funding.is_some());
        audit.deposited += funded.map(|envelope| envelope.terms.total.minor()).sum::<u64>();
        (audit.payable, audit.paid_out) = self.payable_and_paid();
        audit.escrowed =
            self.envelopes.values().map(Envelope::escrow).sum::<u64>() + self.in_gifts() + self.in_groups();
        audit.merchants = self.merchants.values().map(|seller| seller.balance().total().minor()).sum();
        audit.platform = self.merchants.values().map(Seller::commissions).sum();
        audit.withdrawn += self.merchants.values().map(|seller| seller.withdrawn).sum::<u64>();
        audit
    }

    /// What `user` received, in any order.
    pub(crate) fn received(&self, user: &UserId, now: Timestamp) -> Vec<ReceivedRow> {
        let mut rows = Vec::new();
        for envelope in self.envelopes.values() {
            if let Some(share) = envelope.share_of(user) {
                let sender = envelope.terms.sender.clone();
                rows.push(ReceivedRow { envelope: envelope.id, sender, grab: envelope.row(now, share) });
            }
        }
        rows
    }

    /// Every deadline there is.
    pub(crate) fn deadlines(&self) -> Vec<Timestamp> {
        let mut deadlines = Vec::new();
        for envelope in self.envelopes.values().filter(|envelope| !envelope.settled) {
            deadlines.extend([envelope.opens_at, envelope.expires_at, envelope.claim_by]);
        }
        deadlines.extend(self.given.values().filter_map(Given::deadline));
        deadlines.extend(self.groups.values().filter_map(Together::deadline));
        let sales = self.merchants.values().flat_map(|seller| &seller.sales);
        deadlines.extend(sales.filter(|sale| !sale.is_settled).map(|sale| sale.due));
        let live = self.holds.values().filter(|(hold, _)| hold.state == HoldState::Held);
        deadlines.extend(live.map(|(hold, _)| hold.expires_at));
        for item in self.items.values() {
            deadlines.extend(item.terms.starts_at.into_iter().chain(item.terms.ends_at));
        }
        deadlines
    }

    /// Whether the rows are the movements, newest first, as far as records up to
    /// `durable` go; `None` if that cannot be told.
    pub(crate) fn check_entries(&self, user: &UserId, rows: &[Entry], durable: u64) -> Option<Result<(), String>> {
        let none = Vec::new();
        let movements = self.wallets.get(user).map_or(&none, |wallet| &wallet.movements);
        if movements.iter().any(|m| m.records.first <= durable && durable < m.records.last) {
            return None;
        }
        let movements: Vec<&Movement> = movements.iter().filter(|m| m.records.last <= durable).collect();
        Some(self.match_entries(&movements, rows))
    }

    fn match_entries(&self, movements: &[&Movement], rows: &[Entry]) -> Result<(), String> {
        if movements.len() != rows.len() {
            return Err(format!("{} entries instead of {}", rows.len(), movements.len()));
        }
        let mut balance = 0;
        let mut open: Vec<&Movement> = Vec::new();
        let mut next = movements.iter().copied().peekable();
        for row in rows.iter().rev() {
            if open.is_empty() {
                let first = next.next().expect("as many movements as rows");
                open.push(first);
                while first.group != 0 && next.peek().is_some_and(|movement| movement.group == first.group) {
                    open.extend(next.next());
                }
            }
            let same = |m: &&Movement| m.kind == row.kind && m.amount == row.amount.minor() && m.when.holds(row.at);
            let Some(found) = open.iter().position(same) else {
                return Err(format!("the entry {row:?} should be one of {open:?}"));
            };
            let movement = open.swap_remove(found);
            balance = if movement.is_credit() { balance + movement.amount } else { balance - movement.amount };
            if row.balance_after.minor() != balance {
                return Err(format!("the balance after {row:?} should be {balance}"));
            }
        }
        Ok(())
    }

    /// From now on the movements are exactly these rows.
    pub(crate) fn learn_entries(&mut self, user: &UserId, rows: &[Entry]) {
        let Some(wallet) = self.wallets.get_mut(user) else { return };
        for (movement, row) in wallet.movements.iter_mut().zip(rows.iter().rev()) {
            movement.kind = row.kind.clone();
            movement.amount = row.amount.minor();
            movement.when = When::at(row.at);
            movement.group = 0;
        }
    }
}

/// Whether a hold's time is over.
pub(crate) fn is_due_by(hold: &HoldView, now: Timestamp) -> bool {
    now >= hold.expires_at
}

fn held(hold: &HoldView, replayed: bool) -> Outcome {
    let HoldView { id, quantity, amount, expires_at, .. } = *hold;
    Outcome::Held { hold: id, quantity, amount, expires_at, replayed }
}

/// A drawn id, but for the two bytes it shares with `id`.
fn beside(id: &[u8; 16], drawn: &[Vec<u8>]) -> [u8; 16] {
    let mut bytes: [u8; 16] = drawn[0].as_slice().try_into().expect("an id is drawn");
    bytes[..2].copy_from_slice(&id[..2]);
    bytes
}

impl Win {
    fn needs(&self) -> u64 {
        self.claimed.map_or(self.lsn, |(_, lsn)| lsn.max(self.lsn))
    }
}

impl Envelope {
    pub(crate) fn share_of(&self, user: &UserId) -> Option<usize> {
        self.wins.iter().position(|win| win.user == *user)
    }

    fn taken(&self) -> u64 {
        self.amounts[..self.wins.len()].iter().sum()
    }

    pub(crate) fn claimed(&self) -> u64 {
        let wins = self.wins.iter().zip(&self.amounts);
        wins.filter(|(win, _)| win.claimed.is_some()).map(|(_, minor)| minor).sum()
    }

    pub(crate) fn escrow(&self) -> u64 {
        self.terms.total.minor() - self.claimed() - self.refunded
    }

    fn settle_if_done(&mut self) {
        self.settled = self.ended.is_some() && self.wins.iter().all(|win| win.claimed.is_some());
    }

    /// Ends it: who is refunded how much.
    fn end(&mut self, how: EndedAs, lsn: u64) -> (UserId, u64) {
        let unsold = self.terms.total.minor() - self.taken();
        self.ended = Some(how);
        self.refunded += unsold;
        self.lsn = lsn;
        self.settle_if_done();
        (self.terms.sender.clone(), unsold)
    }

    fn status(&self, now: Timestamp, share: usize) -> ShareStatus {
        match self.wins[share].claimed {
            Some(_) => ShareStatus::Claimed,
            None if self.terms.unclaimed == Unclaimed::Return && now >= self.claim_by => ShareStatus::Lapsed,
            None => ShareStatus::Grabbed,
        }
    }

    fn won(&self, now: Timestamp, share: usize, replayed: bool) -> Outcome {
        Outcome::Won {
            amount: amount(self.amounts[share]),
            share: share as u32,
            status: self.status(now, share),
            grabbed_at: self.wins[share].grabbed_at,
            claim_by: self.claim_by,
            replayed,
        }
    }

    fn best(&self) -> usize {
        let most = self.amounts.iter().max().expect("an envelope has shares");
        self.amounts.iter().position(|minor| minor == most).expect("the largest is among them")
    }

    pub(crate) fn row(&self, now: Timestamp, share: usize) -> GrabRow {
        let win = &self.wins[share];
        GrabRow {
            user: win.user.clone(),
            amount: amount(self.amounts[share]),
            share: share as u32,
            status: self.status(now, share),
            grabbed_at: win.grabbed_at,
            claimed_at: win.claimed.map(|(when, _)| when.from),
            best: self.wins.len() == self.amounts.len() && self.best() == share,
        }
    }

    pub(crate) fn view(&self, now: Timestamp) -> EnvelopeView {
        let state = match (self.settled, self.ended) {
            (true, _) => EnvelopeState::Settled,
            (false, Some(EndedAs::SoldOut)) => EnvelopeState::SoldOut,
            (false, Some(EndedAs::Expired)) => EnvelopeState::Expired,
            (false, Some(EndedAs::Cancelled)) => EnvelopeState::Cancelled,
            (false, None) if now < self.opens_at => EnvelopeState::Scheduled,
            (false, None) => EnvelopeState::Open,
        };
        let over = self.ended.is_some();
        let unsold = if over { 0 } else { self.amounts.len() - self.wins.len() };
        let mut view = EnvelopeView {
            id: self.id,
            owner: self.terms.owner.clone(),
            sender: self.terms.sender.clone(),
            state,
            ended_as: self.ended,
            total: self.terms.total,
            shares: self.terms.shares,
            split: self.terms.split.name().to_owned(),
            message: self.terms.message.clone(),
            remaining_shares: unsold as u32,
            remaining_amount: amount(if over { 0 } else { self.terms.total.minor() - self.taken() }),
            claimed_amount: amount(self.claimed()),
            refunded_amount: amount(self.refunded),
            created_at: self.created_at,
            opens_at: self.opens_at,
            expires_at: self.expires_at,
            claim_by: self.claim_by,
            commitment: commitment(&self.secret),
            secret: (self.wins.len() == self.amounts.len()).then_some(self.secret),
            reference: self.terms.reference.as_ref().map(|r| r.text.clone()),
            metadata: self.terms.metadata.clone(),
            outside: self.terms.outside.clone(),
            redacted_at: None,
        };
        self.blank(&mut view);
        view
    }

    /// The last record that what is told of it tells of.
    pub(crate) fn told_lsn(&self) -> u64 {
        self.lsn.max(self.redacted_lsn())
    }

    fn redacted_lsn(&self) -> u64 {
        self.redacted.map_or(0, |(_, lsn)| lsn)
    }

    /// Leaves nothing of what was taken back in what is told of it.
    fn blank(&self, view: &mut EnvelopeView) {
        if let Some((Redaction { at, metadata }, _)) = self.redacted {
            (view.message, view.redacted_at) = (String::new(), Some(at));
            if metadata {
                view.metadata = "{}".to_owned();
            }
        }
    }
}
