//! Decisions: commands in, events and an answer out.
//!
//! Each decision is a column of guards in the documented order. It reads the
//! shards it is given and changes nothing. Whatever it needs besides (the time,
//! ids, a split envelope) is handed in.
//!
//! **Invariant:** the events of a decision balance: see [`Record::balances`](crate::event::Record::balances).

use super::addresses;
use super::envelope::{self, Due, Envelope, GrabDecision};
use super::gift_envelopes::{self, DrawnGifts};
use super::gifts::{self, PaidFrom};
use super::winners::Name;
use super::{Chore, Router, Shards, groups, is_positive, orders, payments, relations, sales, stock};
use crate::address::{AddressMark, Draft};
use crate::api_key::ApiKey;
use crate::backend::{EntryKind, OnceKey};
use crate::code::{self, Code, CodeDigest, HandedTo};
use crate::command::{Command, EndedAs, HoldState, HoldView, MerchantStatus, NewEnvelope, Outcome, Refusal, Transfer};
use crate::creates::Allowance;
use crate::event::{
    self, Claimed, CodesAdded, EnvelopeCreated, EnvelopeEnded, EnvelopeOutside, EnvelopeRedacted, Event, Events,
    GiftChanged, ItemPut, PayoutChanged, Remembered, Units, WalletMoved,
};
use crate::gift::{Gift, GiftState, GiftStep, GiftToken, NewGift};
use crate::journal::MAX_RECORD_BYTES;
use crate::mutants::{Mutant, is_planted};
use crate::payout::{self, Payout, PayoutAnswer, PayoutResult, REASON_CHARS_MAX, REFERENCE_CHARS_MAX, RESULTS_MAX};
use crate::redaction::Redaction;
use crate::relation;
use crate::sale::SaleOf;
use crate::types::{
    Amount, ApiKeyId, EnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PaymentId, PayoutId, Timestamp, UserId,
};
use smallvec::smallvec;
use std::collections::HashMap;

/// How long an answer is kept under an idempotency key.
pub(crate) const REMEMBER_S: u64 = 8 * 86_400;
/// How far a test's clock is moved at a time: times stay far from their bounds.
const ADVANCE_S_MAX: u64 = 31_536_000;
/// Shares credited in one record: each may need a shard of its own.
pub(crate) const CREDIT_RECORD_MAX: usize = 64;
/// What answers that are blanked may take in a record, beside ten thousand amounts and metadata.
const BLANKED_BYTES_MAX: usize = MAX_RECORD_BYTES - (80 << 10);
/// What else an answer that tells an envelope takes, at most.
const ANSWER_BYTES_MAX: usize = 1536;
/// What results of payouts may take in a record; the rest is for what is remembered of them.
const RESULTS_BYTES_MAX: usize = MAX_RECORD_BYTES - 4 * RESULTS_MAX - 1024;
/// What codes may take in a record; the rest is for the item, which stands there twice.
const CODES_BYTES_MAX: usize = MAX_RECORD_BYTES - (28 << 10);

/// What was decided: nothing yet has changed.
pub(crate) struct Decision {
    pub(crate) events: Events,
    pub(crate) outcome: Outcome,
    /// Whether the answer is the one first given under the same key.
    pub(crate) replayed: bool,
    /// Whether the answer tells of something that has to be durable first.
    pub(crate) durable: bool,
    /// Whether the events only prepare: once they are carried out, and these gifts and groups
    /// have ended, the command has to be decided again, and this answer means nothing.
    pub(crate) again: Option<Vec<Chore>>,
}

impl Decision {
    /// An answer that changes nothing and tells of nothing.
    pub(super) fn no(outcome: Outcome) -> Decision {
        Decision { events: Events::new(), outcome, replayed: false, durable: false, again: None }
    }

    pub(super) fn refuse(refusal: Refusal) -> Decision {
        Decision::no(Outcome::Refused(refusal))
    }

    /// An answer that tells of what has been decided before.
    pub(super) fn known(outcome: Outcome) -> Decision {
        Decision { durable: true, ..Decision::no(outcome) }
    }

    pub(super) fn new(events: Events, outcome: Outcome) -> Decision {
        Decision { events, outcome, replayed: false, durable: true, again: None }
    }

    /// Keeps a positive answer under the command's keys.
    fn remember(&mut self, now: Timestamp, keys: &Keys) {
        if !is_positive(&self.outcome) {
            return;
        }
        let mut remember = |key, expires_at| {
            let answer = self.outcome.clone();
            let kept = Remembered { key, fingerprint: keys.fingerprint, answer, expires_at };
            self.events.push(Event::Remembered(Box::new(kept)));
        };
        if let Some(key) = keys.once {
            remember(key, Some(now.plus_s(REMEMBER_S)));
        }
        if !self.replayed {
            keys.references.into_iter().flatten().for_each(|key| remember(key, None));
        }
    }
}

/// What a command's decision may need and must not invent.
pub(crate) enum Drawn {
    Nothing,
    /// The envelope to be created, split already, and how many its sender may make
    /// in the day, if that is capped.
    Envelope(Box<Envelope>, Option<Allowance>),
    Item(ItemId),
    Hold(HoldId),
    Order(OrderId),
    ApiKey(ApiKeyId),
    Gift(GiftId, GiftToken),
    Gifts(DrawnGifts),
    /// A group, and the order of its leader, should it be full.
    Group(GroupId, OrderId),
    /// A gift's address, sealed, whose slot is on the disk.
    Address(Draft),
    /// The digests of the codes to be added.
    Codes(Vec<CodeDigest>),
    Payment(PaymentId),
    /// The hold that a payment is for, which has ended and left memory.
    EndedHold(Box<HoldView>),
}

impl Drawn {
    /// The envelope, which is then no longer here.
    pub(crate) fn take_envelope(&mut self) -> Option<Box<Envelope>> {
        match std::mem::replace(self, Drawn::Nothing) {
            Drawn::Envelope(envelope, _) => Some(envelope),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The keys under which a command's answer is kept, and the command's fingerprint.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keys {
    pub(crate) once: Option<OnceKey>,
    pub(crate) references: References,
    pub(crate) fingerprint: [u8; 16],
}

impl Keys {
    pub(crate) fn each(&self) -> impl Iterator<Item = OnceKey> {
        self.once.into_iter().chain(self.references.into_iter().flatten())
    }
}

/// The keys of a command's references: of what it makes, and of the money it takes in.
pub(crate) type References = [Option<OnceKey>; 2];

/// A command's reference, if it has one, with the kind of thing it numbers.
fn reference_and_kind(command: &Command) -> Option<(&'static str, &crate::command::Reference)> {
    let (kind, reference) = match command {
        Command::Deposit(transfer) => ("deposit", &transfer.reference),
        Command::Withdraw(transfer) => ("withdrawal", &transfer.reference),
        Command::CreateEnvelope(terms) => ("envelope", &terms.reference),
        Command::CreateGift(terms) => ("gift", &terms.reference),
        Command::OpenGroup(terms) => ("group", &terms.reference),
        Command::WithdrawSales(transfer) => ("sales_withdrawal", &transfer.reference),
        Command::CreateGiftEnvelope(terms) => ("gift_envelope", &terms.reference),
        Command::Grab { .. }
        | Command::Claim { .. }
        | Command::Cancel { .. }
        | Command::PutMerchant(_)
        | Command::CreateItem(_)
        | Command::ChangeItem { .. }
        | Command::Restock { .. }
        | Command::GrabItem { .. }
        | Command::ClaimHold { .. }
        | Command::ReleaseHold { .. }
        | Command::AdvanceClock { .. }
        | Command::CreateApiKey(_)
        | Command::DeleteApiKey { .. }
        | Command::PayoutResults(_)
        | Command::Redact { .. }
        | Command::StepGift { .. }
        | Command::RedactGift { .. }
        | Command::AddCodes { .. }
        | Command::StepOrder { .. }
        | Command::PutRelations(_)
        | Command::GrabGift { .. }
        | Command::StepGiftEnvelope { .. }
        | Command::CreatePayment(_)
        | Command::TellPayment { .. }
        | Command::JoinGroup { .. }
        | Command::LeaveGroup { .. } => return None,
    };
    reference.as_ref().map(|reference| (kind, reference))
}

/// The keys of a command's references.
pub(crate) fn reference_keys(command: &Command) -> References {
    if let Command::CreateEnvelope(terms) = command {
        return envelope_references(terms);
    }
    [reference_and_kind(command).map(|(kind, own)| OnceKey::reference(&own.owner, kind, &own.text)), None]
}

/// The key of a gift's reference.
pub(crate) fn gift_reference(gift: &Gift) -> Option<OnceKey> {
    gift.reference.as_ref().map(|text| OnceKey::reference(&gift.owner, "gift", text))
}

/// The keys of an envelope's references.
pub(crate) fn envelope_references(terms: &NewEnvelope) -> References {
    let own = terms.reference.as_ref().map(|own| OnceKey::reference(&own.owner, "envelope", &own.text));
    let funding = terms.outside.funding.as_ref();
    [own, funding.map(|text| OnceKey::reference(&terms.owner, "funding", text))]
}

/// Decides a command: first whether it was answered before, then itself.
pub(crate) fn decide(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    command: &Command,
    drawn: &Drawn,
    keys: &Keys,
) -> Decision {
    if let Some(answered) = answered(shards, router, now, keys) {
        return answered;
    }
    let mut references = keys.references.into_iter().flatten();
    let kept = references.find_map(|key| shards.shard(router.memo(key)).remembered(key, now));
    let mut decision = match kept {
        Some(kept) if kept.fingerprint != keys.fingerprint => return Decision::refuse(Refusal::ReferenceConflict),
        Some(kept) => Decision { replayed: true, ..Decision::known(kept.answer.clone()) },
        None => decide_anew(shards, router, now, command, drawn),
    };
    decision.remember(now, keys);
    decision
}

/// The decision of a command that was answered under the same idempotency key.
fn answered(shards: &impl Shards, router: Router, now: Timestamp, keys: &Keys) -> Option<Decision> {
    let kept = keys.once.and_then(|key| shards.shard(router.memo(key)).remembered(key, now))?;
    if kept.fingerprint != keys.fingerprint {
        return Some(Decision::refuse(Refusal::IdempotencyMismatch));
    }
    Some(Decision { replayed: true, ..Decision::known(kept.answer.clone()) })
}

/// Decides a command about something that only the store has: what the answer
/// is has been read there, unless it was answered before.
pub(crate) fn decide_cold(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    outcome: Outcome,
    keys: &Keys,
) -> Decision {
    answered(shards, router, now, keys).unwrap_or_else(|| {
        let mut decision = Decision::no(outcome);
        decision.remember(now, keys);
        decision.durable = !decision.events.is_empty();
        decision
    })
}

fn decide_anew(shards: &impl Shards, router: Router, now: Timestamp, command: &Command, drawn: &Drawn) -> Decision {
    match (command, drawn) {
        (Command::Grab { envelope, user }, _) => grab(shards, router, now, *envelope, user),
        (Command::Claim { envelope, user }, _) => claim(shards, router, now, *envelope, user),
        (Command::Cancel { envelope }, _) => cancel(shards, router, now, *envelope),
        (Command::Deposit(transfer), _) => deposit(shards, router, transfer),
        (Command::Withdraw(transfer), _) => withdraw(shards, router, transfer),
        (Command::CreateEnvelope(_), Drawn::Envelope(envelope, allowance)) => {
            create_envelope(shards, router, now, envelope, allowance.as_ref())
        }
        (Command::PutMerchant(new), _) => {
            let known = shards.shard(router.user(&new.id)).merchants.get(&new.id);
            let merchant = Box::new(new.over(known.map(|account| &account.merchant), now));
            Decision::new(smallvec![Event::MerchantPut(merchant.clone())], Outcome::Merchant(merchant))
        }
        (Command::CreateItem(terms), Drawn::Item(id)) => {
            if let Err(refusal) = stock::check_times(terms, None, now) {
                return Decision::refuse(refusal);
            }
            let Some(account) = shards.shard(router.user(&terms.merchant)).merchants.get(&terms.merchant) else {
                return Decision::refuse(Refusal::invalid("merchant", "is not registered; POST /v1/merchants first"));
            };
            if account.merchant.status != MerchantStatus::Verified {
                return Decision::refuse(Refusal::merchant(account.merchant.status));
            }
            if let Some(of) = terms.origin.variant_of {
                let of = shards.shard(router.item(of)).items.get(&of);
                if let Err(refusal) = terms.check_variant(of.map(|item| &item.put.terms)) {
                    return Decision::refuse(refusal);
                }
            }
            let terms = (**terms).clone();
            let stock_total = terms.stock;
            put_item(shards, router, ItemPut { id: *id, created_at: now, terms, stock_total })
        }
        (Command::ChangeItem { item, change }, _) => {
            let Some(found) = shards.shard(router.item(*item)).items.get(item) else {
                return Decision::refuse(Refusal::NotFound);
            };
            let terms = match stock::changed(&found.put.terms, change, now) {
                Ok(terms) => terms,
                Err(refusal) => return Decision::refuse(refusal),
            };
            put_item(shards, router, ItemPut { terms, ..(*found.put).clone() })
        }
        (Command::Restock { item, quantity }, _) => {
            let Some(found) = shards.shard(router.item(*item)).items.get(item) else {
                return Decision::refuse(Refusal::NotFound);
            };
            if found.has_codes() {
                return Decision::refuse(Refusal::stock_is_codes());
            }
            let stock_total = found.put.stock_total.checked_add(*quantity).filter(|_| *quantity > 0);
            let Some(stock_total) = stock_total else {
                let message = "must be at least 1, and the stock at most 4294967295 in all";
                return Decision::refuse(Refusal::invalid("quantity", message));
            };
            put_item(shards, router, ItemPut { stock_total, ..(*found.put).clone() })
        }
        (Command::GrabItem { item, user, quantity }, Drawn::Hold(hold)) => {
            grab_item(shards, router, now, *item, user, *quantity, *hold)
        }
        (Command::ClaimHold { hold, user }, Drawn::Order(order)) => {
            claim_hold(shards, router, now, *hold, user, *order)
        }
        (Command::ReleaseHold { hold, user }, _) => release_hold(shards, router, now, *hold, user),
        (Command::AdvanceClock { by_s }, _) => {
            let by_ms = by_s.saturating_mul(1000);
            Decision::new(smallvec![Event::ClockAdvanced { by_ms }], Outcome::Clock(now.plus_ms(by_ms)))
        }
        (Command::CreateApiKey(new), Drawn::ApiKey(id)) => put_api_key(new.made(*id, now)),
        (Command::DeleteApiKey { key }, _) => match shards.shard(Router::API_KEYS).api_keys.get(key) {
            None => Decision::refuse(Refusal::NotFound),
            Some(key) if key.deleted_at.is_some() => Decision::known(Outcome::ApiKey(Box::new(key.clone()))),
            Some(key) => put_api_key(key.deleted(now)),
        },
        (Command::PayoutResults(results), _) => payout_results(shards, router, now, results),
        (Command::CreateGift(terms), Drawn::Gift(id, token)) => create_gift(shards, router, now, terms, (*id, *token)),
        (Command::StepGift { gift, step }, _) => step_gift(shards, router, now, *gift, step, drawn),
        (Command::WithdrawSales(transfer), _) => sales::withdraw(shards, router, transfer, now),
        (Command::CreateGiftEnvelope(terms), Drawn::Gifts(drawn)) => {
            gift_envelopes::create(shards, router, now, terms, drawn)
        }
        (Command::GrabGift { envelope, user, token, must_follow }, _) => {
            gift_envelopes::grab(shards, router, now, *envelope, (user, token.as_ref()), *must_follow)
        }
        (Command::StepGiftEnvelope { envelope, step }, _) => gift_envelopes::step(shards, router, now, *envelope, step),
        (Command::PutRelations(rows), _) => {
            let told = Outcome::Relations(rows.len() as u32);
            Decision::new(smallvec![Event::RelationsPut(rows.clone())], told)
        }
        (Command::StepOrder { order, step }, _) => orders::step(shards, router, now, *order, step),
        (Command::AddCodes { item, codes }, Drawn::Codes(digests)) => add_codes(shards, router, *item, codes, digests),
        (Command::CreatePayment(terms), Drawn::Payment(id)) => payments::create(shards, router, now, terms, *id),
        (Command::TellPayment { payment, told }, drawn) => {
            let ended = if let Drawn::EndedHold(hold) = drawn { Some(&**hold) } else { None };
            payments::tell(shards, router, now, (*payment, told), ended)
        }
        (Command::OpenGroup(terms), Drawn::Group(id, order)) => groups::open(shards, router, now, terms, (*id, *order)),
        (Command::JoinGroup { group, user }, Drawn::Order(order)) => {
            groups::join(shards, router, now, *group, user, *order)
        }
        (Command::LeaveGroup { group, user }, _) => groups::leave(shards, router, now, *group, user),
        (
            Command::CreateEnvelope(_)
            | Command::CreateItem(_)
            | Command::GrabItem { .. }
            | Command::ClaimHold { .. }
            | Command::CreateApiKey(_)
            | Command::CreateGift(_)
            | Command::CreateGiftEnvelope(_)
            | Command::CreatePayment(_)
            | Command::AddCodes { .. }
            | Command::OpenGroup(_)
            | Command::JoinGroup { .. },
            _,
        ) => {
            unreachable!("a command that makes something comes with an id for it")
        }
        (Command::Redact { .. } | Command::RedactGift { .. }, _) => {
            unreachable!("a redaction is decided with what it takes back")
        }
    }
}

/// Makes a redaction of an envelope, if anything is left to take back, and with it the
/// same of the answers kept under these keys, of as many as the record has room for.
pub(crate) fn redact(
    shards: &impl Shards,
    router: Router,
    created: &EnvelopeCreated,
    redaction: Option<Redaction>,
    kept_under: &[OnceKey],
) -> Events {
    let Some(redaction) = redaction else { return Events::new() };
    let mut events = blanked_answers(shards, router, kept_under, |answer| match answer {
        Outcome::Envelope(view) if view.id == created.id => {
            redaction.put_in_kept(view);
            Some(view.message.len() + view.metadata.len())
        }
        _ => None,
    });
    events.push(Event::EnvelopeRedacted(Box::new(EnvelopeRedacted::new(created.clone(), redaction))));
    events
}

/// The same of a gift in memory, which has `after` for what is left of it.
pub(crate) fn redact_gift(
    shards: &impl Shards,
    router: Router,
    gift: &Gift,
    after: Gift,
    metadata: bool,
    kept_under: &[OnceKey],
) -> Events {
    let mut events = blanked_answers(shards, router, kept_under, |answer| match answer {
        Outcome::Gift(kept) if kept.id == gift.id => {
            kept.blank(metadata);
            Some(
                [&kept.message, &kept.metadata]
                    .into_iter()
                    .chain(&kept.reason)
                    .chain(&kept.note)
                    .map(String::len)
                    .sum(),
            )
        }
        _ => None,
    });
    let units_after = units_of_giver(shards, router, gift);
    let change = GiftChanged { was: Some(gift.state), gift: after, units_after, owed_after: None, redacts: true };
    events.push(Event::GiftChanged(Box::new(change)));
    events
}

/// The answers under these keys in which `blank` leaves something to be kept in their place, as many as
/// a record has room for. It says how many bytes an answer's texts have, of one that it is for.
fn blanked_answers(
    shards: &impl Shards,
    router: Router,
    kept_under: &[OnceKey],
    blank: impl Fn(&mut Outcome) -> Option<usize>,
) -> Events {
    let (mut events, mut bytes) = (Events::new(), 0);
    for &key in kept_under {
        let kept = shards.shard(router.memo(key)).memos.get(&key).and_then(|memo| memo.kept.as_ref());
        let Some(kept) = kept else { continue };
        let mut blanked = kept.clone();
        let Some(texts) = blank(&mut blanked.answer) else { continue };
        bytes += ANSWER_BYTES_MAX + texts;
        if blanked != *kept && bytes <= BLANKED_BYTES_MAX {
            events.push(Event::Remembered(blanked));
        }
    }
    events
}

fn put_api_key(key: ApiKey) -> Decision {
    let key = Box::new(key);
    Decision::new(smallvec![Event::ApiKeyPut(key.clone())], Outcome::ApiKey(key))
}

/// The event that moves `amount` on a wallet, or `None` if that would leave its bounds.
pub(super) fn moved(
    shards: &impl Shards,
    router: Router,
    user: &UserId,
    kind: EntryKind,
    amount: Amount,
) -> Option<WalletMoved> {
    let wallet = shards.shard(router.user(user)).wallets.get(user);
    let available = wallet.map_or(Amount::ZERO, |wallet| wallet.available);
    let mut moved = WalletMoved { user: user.clone(), kind, amount, available_after: available };
    moved.available_after =
        if moved.is_credit() { available.checked_add(amount)? } else { available.checked_sub(amount)? };
    Some(moved)
}

/// The same for a credit out of an envelope or a gift: all money there is fits in one wallet.
pub(super) fn credited(
    shards: &impl Shards,
    router: Router,
    user: &UserId,
    kind: EntryKind,
    amount: Amount,
) -> WalletMoved {
    moved(shards, router, user, kind, amount).expect("deposits never exceed 2^53-1 in all")
}

/// Whether money may come in: all deposits together stay an amount.
pub(super) fn check_deposit(shards: &impl Shards, amount: Amount, field: &str) -> Result<(), Refusal> {
    let deposited = shards.shard(Router::EXTERNAL).sums.deposited;
    match Amount::new(deposited).and_then(|deposited| deposited.checked_add(amount)) {
        Some(_) => Ok(()),
        None => Err(Refusal::deposits_exceeded(field)),
    }
}

fn deposit(shards: &impl Shards, router: Router, transfer: &Transfer) -> Decision {
    let Transfer { user, amount, reference } = transfer;
    if let Err(refusal) = check_deposit(shards, *amount, "amount") {
        return Decision::refuse(refusal);
    }
    let kind = EntryKind::Deposit(reference.as_ref().map(|r| r.text.clone()));
    let moved = credited(shards, router, user, kind, *amount);
    let outcome = wallet_after(shards, router, &moved);
    Decision::new(smallvec![Event::WalletMoved(moved)], outcome)
}

fn withdraw(shards: &impl Shards, router: Router, transfer: &Transfer) -> Decision {
    let Transfer { user, amount, reference } = transfer;
    let kind = EntryKind::Withdrawal(reference.as_ref().map(|r| r.text.clone()));
    let Some(moved) = moved(shards, router, user, kind, *amount) else {
        return Decision::refuse(Refusal::InsufficientFunds);
    };
    let outcome = wallet_after(shards, router, &moved);
    Decision::new(smallvec![Event::WalletMoved(moved)], outcome)
}

fn wallet_after(shards: &impl Shards, router: Router, moved: &WalletMoved) -> Outcome {
    let mut wallet = shards.shard(router.user(&moved.user)).wallets.get(&moved.user).cloned().unwrap_or_default();
    wallet.available = moved.available_after;
    Outcome::Wallet(wallet.view(&moved.user))
}

fn create_envelope(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    envelope: &Envelope,
    allowance: Option<&Allowance>,
) -> Decision {
    let created = &envelope.created;
    // By the time for which it was drawn: a split of millions takes its while.
    if let Err(refusal) = envelope::check_opening(&created.terms, created.created_at) {
        return Decision::refuse(refusal);
    }
    let (sender, total) = (&created.terms.sender, created.terms.total);
    if let Some(allowance) = allowance
        && shards.shard(router.user(sender)).made_count(sender, created.created_at) >= allowance.most
    {
        return Decision::refuse(allowance.refusal());
    }
    let mut events = Events::new();
    if envelope.is_funded() {
        if let Err(refusal) = check_deposit(shards, total, "total") {
            return Decision::refuse(refusal);
        }
    } else {
        let Some(moved) = moved(shards, router, sender, EntryKind::EnvelopeCreated(created.id), total) else {
            return Decision::refuse(Refusal::InsufficientFunds);
        };
        events.push(Event::WalletMoved(moved));
    }
    events.push(Event::EnvelopeCreated(created.clone()));
    events.extend(EnvelopeOutside::of(created).map(Box::new).map(Event::EnvelopeOutside));
    Decision::new(events, Outcome::Envelope(Box::new(envelope.view(now))))
}

fn grab(shards: &impl Shards, router: Router, now: Timestamp, id: EnvelopeId, user: &UserId) -> Decision {
    let Some(envelope) = shards.shard(router.envelope(id)).envelopes.get(&id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let grabbed = match envelope.grab(now, &Name::of(user), user) {
        GrabDecision::Take(grabbed) => grabbed,
        GrabDecision::Answer(outcome, durable) => return Decision { durable, ..Decision::no(outcome) },
    };
    let (share, amount) = (grabbed.share, grabbed.amount);
    let mut events = Events::new();
    events.push(Event::Grabbed(grabbed));
    let mut status = crate::command::ShareStatus::Grabbed;
    if envelope.auto_claim {
        status = crate::command::ShareStatus::Claimed;
        let claimed = Claimed { envelope: id, share, amount, user: user.clone(), grabbed_at: now };
        push_claim(shards, router, &mut events, envelope, claimed);
        let settled = envelope.settled_after(None, &[amount], &[amount], Amount::ZERO, false);
        events.extend(settled.map(Event::EnvelopeSettled));
    }
    let claim_by = envelope.claim_by;
    Decision::new(events, Outcome::Won { amount, share, status, grabbed_at: now, claim_by, replayed: false })
}

/// A share's claim and its credit or payout, in one record.
fn push_claim(shards: &impl Shards, router: Router, events: &mut Events, envelope: &Envelope, claimed: Claimed) {
    let gone = match envelope.pays_outside {
        true => Event::PayoutMade(envelope.win_payout(&claimed)),
        false => {
            let kind = EntryKind::Claim(claimed.envelope);
            Event::WalletMoved(credited(shards, router, &claimed.user, kind, claimed.amount))
        }
    };
    events.push(Event::Claimed(claimed));
    if is_planted(Mutant::PayOutTwice)
        && let Event::PayoutMade(made) = &gone
    {
        let mut again = made.clone();
        let mut id = *again.payout.bytes();
        id[15] ^= 1;
        again.payout = PayoutId::from_bytes(id);
        events.push(Event::PayoutMade(again));
    }
    events.push(gone);
}

/// What goes back to the sender: into the wallet, or outside to whoever funded it.
/// `movement` says of which end, as a payout's id is made of it.
fn push_refund(
    shards: &impl Shards,
    router: Router,
    events: &mut Events,
    envelope: &Envelope,
    (movement, kind): (u8, EntryKind),
    amount: Amount,
) {
    let is_funded = envelope.is_funded();
    if is_funded {
        events.push(Event::PayoutMade(envelope.refund_payout(movement, amount)));
    }
    if !is_funded || is_planted(Mutant::RefundWalletToo) {
        let sender = &envelope.created.terms.sender;
        events.push(Event::WalletMoved(credited(shards, router, sender, kind, amount)));
    }
}

fn claim(shards: &impl Shards, router: Router, now: Timestamp, id: EnvelopeId, user: &UserId) -> Decision {
    let Some(envelope) = shards.shard(router.envelope(id)).envelopes.get(&id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let claimed = match envelope.claim(now, &Name::of(user), user) {
        Ok(claimed) => claimed,
        Err(outcome) => return Decision { durable: is_positive(&outcome), ..Decision::no(outcome) },
    };
    let amount = claimed.amount;
    let mut events = Events::new();
    push_claim(shards, router, &mut events, envelope, claimed);
    let settled = envelope.settled_after(None, &[], &[amount], Amount::ZERO, false);
    events.extend(settled.map(Event::EnvelopeSettled));
    Decision::new(events, Outcome::Claimed { amount, claimed_at: now, replayed: false })
}

fn cancel(shards: &impl Shards, router: Router, now: Timestamp, id: EnvelopeId) -> Decision {
    let Some(envelope) = shards.shard(router.envelope(id)).envelopes.get(&id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let ended = match envelope.cancel(now) {
        Ok(ended) => ended,
        Err(outcome) => return Decision { durable: is_positive(&outcome), ..Decision::no(outcome) },
    };
    let mut view = envelope.view(now);
    let events = end_envelope(shards, router, envelope, ended);
    view.ended_as = Some(EndedAs::Cancelled);
    view.state = crate::command::EnvelopeState::Cancelled;
    if matches!(events.last(), Some(Event::EnvelopeSettled(_))) {
        view.state = crate::command::EnvelopeState::Settled;
    }
    view.refunded_amount += view.remaining_amount;
    view.remaining_amount = Amount::ZERO;
    view.remaining_shares = 0;
    Decision::new(events, Outcome::Envelope(Box::new(view)))
}

/// The refund of what is unsold, the end, and the settlement if nobody is owed anything.
fn end_envelope(shards: &impl Shards, router: Router, envelope: &Envelope, ended: EnvelopeEnded) -> Events {
    let (how, refund) = (ended.how, ended.refund);
    let mut events = Events::new();
    if !is_planted(Mutant::ForgetRefund) {
        let why = (payout::REFUND, EntryKind::Refund(ended.envelope));
        push_refund(shards, router, &mut events, envelope, why, refund);
    }
    events.push(Event::EnvelopeEnded(ended));
    let settled = envelope.settled_after(Some(how), &[], &[], refund, false);
    events.extend(settled.map(Event::EnvelopeSettled));
    events
}

/// What is due for an envelope now, the first of it; no events if nothing is.
/// Credits go only to winners among `prepared`, whose wallets are at hand: who
/// is next may have changed since they were looked up, by a claim or by time.
pub(crate) fn envelope_due(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    id: EnvelopeId,
    prepared: &[UserId],
) -> Events {
    let Some(envelope) = shards.shard(router.envelope(id)).envelopes.get(&id) else {
        return Events::new();
    };
    match envelope.due(now) {
        None => Events::new(),
        Some(Due::Expire(ended)) => end_envelope(shards, router, envelope, ended),
        Some(Due::Lapse(amount)) => {
            let mut events = Events::new();
            push_refund(shards, router, &mut events, envelope, (payout::LAPSE, EntryKind::Lapse(id)), amount);
            let settled = envelope.settled_after(None, &[], &[], amount, true).expect("a lapse settles");
            events.extend([Event::EnvelopeLapsed { envelope: id, amount }, Event::EnvelopeSettled(settled)]);
            events
        }
        Some(Due::Credit) => {
            let mut events = Events::new();
            let mut amounts = Vec::new();
            for share in envelope.unclaimed_shares(CREDIT_RECORD_MAX) {
                let user = envelope.winners.user(share);
                if !prepared.contains(&user) {
                    continue;
                }
                let amount = envelope.split.get(share);
                let grabbed_at = envelope.winners.get(share).grabbed_at;
                let claimed = Claimed { envelope: id, share, amount, user, grabbed_at };
                push_claim(shards, router, &mut events, envelope, claimed);
                amounts.push(amount);
            }
            let settled = envelope.settled_after(None, &[], &amounts, Amount::ZERO, false);
            events.extend(settled.map(Event::EnvelopeSettled));
            events
        }
    }
}

/// What is told of payouts, each result for itself, in order, and all in one record.
fn payout_results(shards: &impl Shards, router: Router, now: Timestamp, results: &[PayoutResult]) -> Decision {
    let mut events = Events::new();
    let mut answers = Vec::with_capacity(results.len());
    // Those that a result before has changed.
    let mut changed: HashMap<PayoutId, Payout> = HashMap::new();
    for result in results {
        let id = result.payout;
        let known = || shards.shard(router.payout(id)).payouts.get(&id)?.payout.as_deref();
        answers.push(match changed.get(&id).or_else(known) {
            None => PayoutAnswer::NotFound,
            Some(payout) => match payout.told(result, now) {
                Err(answer) => answer,
                Ok(None) => PayoutAnswer::Stands(payout.state),
                Ok(Some(after)) => {
                    let was = payout.state;
                    events.push(Event::PayoutChanged(Box::new(PayoutChanged { was, payout: after.clone() })));
                    let answer = PayoutAnswer::Stands(after.state);
                    changed.insert(id, after);
                    answer
                }
            },
        });
    }
    let mut bytes = Vec::new();
    event::encode(now, &events, &mut bytes);
    if bytes.len() > RESULTS_BYTES_MAX {
        return Decision::refuse(Refusal::too_much_text());
    }
    Decision::new(events, Outcome::Payouts(answers))
}

/// Ends holds of an item that are due now; no events if none is.
pub(crate) fn item_due(shards: &impl Shards, router: Router, now: Timestamp, id: ItemId) -> Events {
    let shard = shards.shard(router.item(id));
    let Some(item) = shard.items.get(&id) else {
        return Events::new();
    };
    item.end_due(&shard.holds, now).into_iter().map(|e| Event::HoldEnded(Box::new(e))).collect()
}

fn put_item(shards: &impl Shards, router: Router, put: ItemPut) -> Decision {
    let mut view = match shards.shard(router.item(put.id)).items.get(&put.id) {
        Some(item) => item.view(),
        None => stock::Item::new(Box::new(put.clone())).view(),
    };
    view.stock.free += put.stock_total - view.stock.total;
    view.stock.total = put.stock_total;
    view.terms = put.terms.clone();
    Decision::new(smallvec![Event::ItemPut(Box::new(put))], Outcome::Item(Box::new(view)))
}

/// Puts codes behind those that an item has.
fn add_codes(shards: &impl Shards, router: Router, item: ItemId, codes: &[Code], digests: &[CodeDigest]) -> Decision {
    let shard = shards.shard(router.item(item));
    let Some(found) = shard.items.get(&item) else {
        return Decision::refuse(Refusal::NotFound);
    };
    if !found.has_codes() {
        return Decision::refuse(Refusal::no_code_item());
    }
    if let Some(place) = shard.first_known(digests) {
        return Decision::refuse(Refusal::known_code(place));
    }
    let first = found.put.stock_total;
    let Some(stock_total) = u32::try_from(codes.len()).ok().and_then(|more| first.checked_add(more)) else {
        return Decision::refuse(Refusal::too_many_codes());
    };
    let added = CodesAdded { item, first, codes: codes.to_vec() };
    let mut decision = put_item(shards, router, ItemPut { stock_total, ..(*found.put).clone() });
    decision.events.push(Event::CodesAdded(Box::new(added)));
    decision
}

fn grab_item(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    item: ItemId,
    user: &UserId,
    quantity: u32,
    hold: HoldId,
) -> Decision {
    let shard = shards.shard(router.item(item));
    let Some(found) = shard.items.get(&item) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let refused = shard.refuses(&found.put.terms.merchant);
    let grab = found.grab(&shard.holds, now, refused, (&Name::of(user), user), quantity, hold);
    let in_the_way = shard.in_the_way(found, now, (user, quantity), &grab);
    let mut events: Events = grab.expired.into_iter().map(|e| Event::HoldEnded(Box::new(e))).collect();
    match grab.result {
        None => Decision { again: Some(Vec::new()), events, ..Decision::no(Outcome::SoldOut) },
        // A gift that is due holds a unit: it ends first, which takes its payer's wallet.
        _ if !in_the_way.is_empty() => Decision { again: Some(in_the_way), events, ..Decision::no(Outcome::SoldOut) },
        Some(Ok(held)) => {
            let outcome = stock::held_answer(&held);
            events.push(Event::Held(held));
            Decision::new(events, outcome)
        }
        // Units that came free on the way are given back whatever the answer.
        Some(Err(outcome)) => Decision { durable: is_positive(&outcome), events, ..Decision::no(outcome) },
    }
}

/// Sets a unit aside for a gift, which its giver pays for at once; somebody else is asked to.
fn create_gift(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    terms: &NewGift,
    drawn: (GiftId, GiftToken),
) -> Decision {
    let shard = shards.shard(router.item(terms.item));
    let Some(item) = shard.items.get(&terms.item) else {
        return Decision::refuse(Refusal::NotFound);
    };
    for (other, must_follow) in [(Some(&terms.payer), false), (terms.recipient.as_ref(), terms.must_follow)] {
        if let Some(other) = other
            && let Err(refusal) = relations::check(shards, router, (&terms.giver, other), must_follow)
        {
            return Decision::refuse(refusal);
        }
    }
    let merchant = &item.put.terms.merchant;
    let refused = shard.refuses(merchant);
    let given = item.give(&shard.holds, now, refused, (&terms.giver, 1), HoldId::from_bytes(*drawn.0.bytes()));
    let in_the_way = shard.in_the_way(item, now, (&terms.giver, 1), &given);
    // Units that came free on the way are given back whatever the answer.
    let mut events: Events = given.expired.into_iter().map(|e| Event::HoldEnded(Box::new(e))).collect();
    let no = |outcome, events| Decision { events, ..Decision::no(outcome) };
    let held = match given.result {
        None => return Decision { again: Some(Vec::new()), ..no(Outcome::SoldOut, events) },
        _ if !in_the_way.is_empty() => return Decision { again: Some(in_the_way), ..no(Outcome::SoldOut, events) },
        Some(Err(outcome)) => return no(outcome, events),
        Some(Ok(held)) => held,
    };
    let mut gift = Gift::make(terms, drawn, (merchant, held.amount), now);
    if terms.payer == terms.giver {
        gift = gift.paid_at_once(now);
    }
    let units = Units { held: held.units_after.held - 1, ..held.units_after };
    match gifts::changed(shards, router, None, gift.clone(), units, PaidFrom::Wallet) {
        Err(refusal) => no(Outcome::Refused(refusal), events),
        Ok(made) => {
            events.extend(made);
            Decision::new(events, Outcome::Gift(Box::new(gift)))
        }
    }
}

fn step_gift(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    id: GiftId,
    step: &GiftStep,
    drawn: &Drawn,
) -> Decision {
    let shard = shards.shard(router.gift(id));
    let Some(gift) = shard.gift(id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    if matches!(step, GiftStep::Pay { .. })
        && let Some(open) = shard.open_payment(id.bytes())
    {
        return Decision::refuse(Refusal::being_paid(open));
    }
    let mark = shard.addresses.get(&id);
    let told = || Outcome::Gift(Box::new(gift.clone()));
    let after = match gift.step(step, now) {
        Err(refusal) => return Decision::refuse(refusal),
        Ok(None) => {
            let event = match (step, drawn) {
                (GiftStep::EraseAddress, _) => addresses::erased(shards, router, id),
                (_, Drawn::Address(draft)) => match gift.takes_address(now) {
                    Err(refusal) => return Decision::refuse(refusal),
                    Ok(()) => Some(addresses::given(id, draft)),
                },
                _ => None,
            };
            return event.map_or_else(|| Decision::known(told()), |event| Decision::new(smallvec![event], told()));
        }
        Ok(Some(after)) => after,
    };
    // What is not done anew was done before, whatever the two are to each other since.
    if let Some(user) = step.comes_to()
        && let Err(refusal) = relations::check(shards, router, (&gift.giver, user), step.must_follow(gift))
    {
        return Decision::refuse(refusal);
    }
    if let GiftStep::ShipTo { address_version, .. } = step
        && let Err(refusal) = addresses::check_version(mark.and_then(AddressMark::live), *address_version)
    {
        return Decision::refuse(refusal);
    }
    let item = &shard.items[&gift.item];
    // A code needs nobody to ship it: who accepts it has it.
    let is_handed = item.has_codes() && after.state == GiftState::Accepted && gift.state != after.state;
    if is_handed && matches!(drawn, Drawn::Address(_)) {
        return Decision::refuse(Refusal::no_address_of_code());
    }
    let after = if is_handed { after.handed(now) } else { after };
    match gifts::changed(shards, router, Some(gift), after.clone(), item.units(&gift.giver), PaidFrom::Wallet) {
        Err(refusal) => Decision::refuse(refusal),
        Ok(mut events) => {
            match drawn {
                Drawn::Address(draft) => events.push(addresses::given(id, draft)),
                _ if after.state != gift.state => events.extend(addresses::follow(mark, &after, now)),
                _ => {}
            }
            events.extend(is_handed.then(|| item.hand(1, HandedTo::Gift(id))).flatten());
            Decision::new(events, Outcome::Gift(Box::new(after)))
        }
    }
}

/// What has become of a gift by itself; no events if nothing has.
pub(crate) fn gift_due(shards: &impl Shards, router: Router, now: Timestamp, id: GiftId) -> Events {
    let Some(gift) = shards.shard(router.gift(id)).gift(id) else {
        return Events::new();
    };
    let Some(after) = gift.due(now) else { return Events::new() };
    let units = units_of_giver(shards, router, gift);
    let follows = addresses::follow(shards.shard(router.gift(id)).addresses.get(&id), &after, now);
    let events = gifts::changed(shards, router, Some(gift), after, units, PaidFrom::Wallet);
    let mut events = events.expect("what is due takes no money out of a wallet");
    events.extend(follows);
    events
}

fn units_of_giver(shards: &impl Shards, router: Router, gift: &Gift) -> Units {
    shards.shard(router.item(gift.item)).items[&gift.item].units(&gift.giver)
}

fn claim_hold(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    id: HoldId,
    user: &UserId,
    order: OrderId,
) -> Decision {
    let shard = shards.shard(router.hold(id));
    let hold = match live_hold(shard, now, id, user) {
        Ok(hold) => hold,
        Err(decision) => return decision,
    };
    let item = &shard.items[&hold.item];
    let merchant = &item.put.terms.merchant;
    let Some(payment) = moved(shards, router, user, EntryKind::Order(order), hold.amount) else {
        return Decision::no(Outcome::CannotPay);
    };
    let (owed, sold) = sales::sold(shards, router, merchant, (SaleOf::Order(order), hold.amount), now);
    let ended = item.end(&hold, HoldState::Claimed(order), Some((merchant.clone(), owed)));
    let mut events: Events = smallvec![Event::WalletMoved(payment), Event::HoldEnded(Box::new(ended)), sold];
    events.extend(item.hand(hold.quantity, HandedTo::Order(order)));
    Decision::new(events, Outcome::Ordered { order, replayed: false })
}

fn release_hold(shards: &impl Shards, router: Router, now: Timestamp, id: HoldId, user: &UserId) -> Decision {
    let shard = shards.shard(router.hold(id));
    let hold = match live_hold(shard, now, id, user) {
        Ok(hold) => hold,
        Err(decision) => return decision,
    };
    let ended = shard.items[&hold.item].end(&hold, HoldState::Released, None);
    Decision::new(smallvec![Event::HoldEnded(Box::new(ended))], Outcome::Released { replayed: false })
}

/// The user's hold if it is alive, or the answer that tells what it has become.
pub(super) fn live_hold(shard: &super::Shard, now: Timestamp, id: HoldId, user: &UserId) -> Result<HoldView, Decision> {
    let Some(hold) = shard.hold(&id) else { return Err(Decision::refuse(Refusal::NotFound)) };
    if let Some(outcome) = ended_hold(&hold, user) {
        return Err(Decision { durable: is_positive(&outcome), ..Decision::no(outcome) });
    }
    if now > hold.expires_at || now == hold.expires_at && !is_planted(Mutant::ClaimHoldAtDeadline) {
        return Err(Decision::no(Outcome::HoldExpired));
    }
    match shard.open_payment(id.bytes()) {
        Some(open) => Err(Decision::refuse(Refusal::being_paid(open))),
        None => Ok(hold),
    }
}

/// What a hold's claim or release is answered once it has ended, or by another user.
pub(crate) fn ended_hold(hold: &HoldView, user: &UserId) -> Option<Outcome> {
    if hold.user != *user {
        return Some(Outcome::Refused(Refusal::Forbidden));
    }
    match hold.state {
        HoldState::Held => None,
        HoldState::Claimed(order) => Some(Outcome::Ordered { order, replayed: true }),
        HoldState::Released => Some(Outcome::Released { replayed: true }),
        HoldState::Expired => Some(Outcome::HoldExpired),
    }
}

/// Checks what can be told from the command alone, whenever it is asked: a
/// command that was right once is right when it is repeated.
///
/// # Errors
/// A refusal that names the field.
pub(crate) fn check(command: &Command) -> Result<(), Refusal> {
    if let Some((_, reference)) = reference_and_kind(command)
        && !(1..=REFERENCE_CHARS_MAX).contains(&reference.text.chars().count())
    {
        return Err(Refusal::invalid("reference", "must be 1 to 128 characters long"));
    }
    match command {
        Command::PayoutResults(results) => check_results(results),
        Command::CreateGift(terms) => terms.check(),
        Command::StepGift { step, .. } => step.check(),
        Command::AddCodes { codes, .. } => check_codes(codes),
        Command::StepOrder { step, .. } => step.check(),
        Command::PutRelations(rows) => relation::check(rows),
        Command::CreateGiftEnvelope(terms) => terms.check(),
        Command::CreatePayment(terms) => terms.check(),
        Command::TellPayment { told, .. } => told.check(),
        Command::Deposit(transfer) | Command::Withdraw(transfer) | Command::WithdrawSales(transfer)
            if transfer.amount.is_zero() =>
        {
            Err(Refusal::invalid("amount", "must be 1 to 9007199254740991"))
        }
        Command::CreateEnvelope(terms) => envelope::check(terms),
        Command::CreateItem(terms) => stock::check(terms),
        Command::CreateApiKey(new) => new.check(),
        Command::PutMerchant(merchant) => merchant.check(),
        Command::AdvanceClock { by_s } if *by_s > ADVANCE_S_MAX => {
            Err(Refusal::invalid("advance_s", "must be at most 31536000"))
        }
        Command::Deposit(_)
        | Command::Withdraw(_)
        | Command::Grab { .. }
        | Command::Claim { .. }
        | Command::Cancel { .. }
        | Command::ChangeItem { .. }
        | Command::Restock { .. }
        | Command::GrabItem { .. }
        | Command::ClaimHold { .. }
        | Command::ReleaseHold { .. }
        | Command::AdvanceClock { .. }
        | Command::DeleteApiKey { .. }
        | Command::Redact { .. }
        | Command::RedactGift { .. }
        | Command::GrabGift { .. }
        | Command::StepGiftEnvelope { .. }
        | Command::WithdrawSales(_)
        | Command::OpenGroup(_)
        | Command::JoinGroup { .. }
        | Command::LeaveGroup { .. } => Ok(()),
    }
}

fn check_codes(codes: &[Code]) -> Result<(), Refusal> {
    code::check(codes)?;
    // A code and its length.
    let bytes: usize = codes.iter().map(|code| code.as_str().len() + 2).sum();
    if bytes > CODES_BYTES_MAX { Err(Refusal::too_long_codes()) } else { Ok(()) }
}

fn check_results(results: &[PayoutResult]) -> Result<(), Refusal> {
    if results.len() > RESULTS_MAX {
        return Err(Refusal::invalid("results", "must hold 1 to 1000 results"));
    }
    for (i, result) in results.iter().enumerate() {
        for (text, field, most) in
            [(&result.reference, "reference", REFERENCE_CHARS_MAX), (&result.reason, "reason", REASON_CHARS_MAX)]
        {
            if text.as_ref().is_some_and(|text| !(1..=most).contains(&text.chars().count())) {
                let message = format!("must be 1 to {most} characters long");
                return Err(Refusal::invalid(&format!("results[{i}].{field}"), message));
            }
        }
    }
    Ok(())
}
