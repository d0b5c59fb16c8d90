//! What is not in memory: brought in before a decision, answered from the
//! store after an end, evicted when nobody needs it any more.
//!
//! **Invariant:** only what is on disk in the store is evicted, under its
//! shard's lock; so whatever is not in memory is in the store as it last was,
//! or was never there.

use super::relations::RELATION_MS;
use super::{Core, Done, Durable, Footprint, Locked, class_of, no};
use crate::backend::{OnceKey, Reply};
use crate::code::CodeDigest;
use crate::command::{Command, EndedAs, Outcome, Refusal};
use crate::creates::{Day, MadeInDay};
use crate::error::EngineError;
use crate::gift::Gift;
use crate::mutants::{Mutant, is_planted};
use crate::order::OrderStep;
use crate::payment::PaymentFor;
use crate::relation::RelationKey;
use crate::state::decide::{self, Keys, ended_hold};
use crate::state::envelope::{Figures, share_status};
use crate::state::gifts::KnownGift;
use crate::state::ledger::Wallet;
use crate::state::orders::KnownOrder;
use crate::state::{KnownCode, KnownPayout, Memo, Shard, Shards};
use crate::store::{EnvelopeRow, StoreError};
use crate::types::{EnvelopeId, GiftId, HoldId, ItemId, Lsn, OrderId, PaymentId, PayoutId, Timestamp, UserId};
use std::sync::atomic::Ordering;

/// How long a wallet or an answer stays in memory after its last use.
const IDLE_MS: u64 = 60_000;
/// How long it is known that an item has not had a code, or that it has and the store knows: to add a million of
/// them at once takes a thousand calls, and memory only for the last.
const CODES_MS: u64 = 1_000;
/// How long a settled envelope stays: its losers keep asking for minutes.
const SETTLED_MS: u64 = 300_000;

pub(super) fn store_failed(error: StoreError) -> EngineError {
    EngineError::Store(error.to_string())
}

impl Core {
    /// Brings in what the footprint needs and memory does not have.
    pub(super) fn warm(&self, footprint: &Footprint) -> Result<(), EngineError> {
        if let Some((sender, day, most)) = &footprint.made {
            self.warm_made(sender, day, *most)?;
        }
        let Some(durable) = &self.durable else { return Ok(()) };
        for user in &footprint.wallets {
            self.warm_wallet(durable, user)?;
        }
        for key in &footprint.memos {
            self.warm_memo(durable, *key)?;
        }
        for id in &footprint.payouts {
            self.warm_payout(durable, *id)?;
        }
        if let Some(id) = footprint.gift {
            self.warm_gift(durable, id)?;
        }
        if let Some(id) = footprint.gift_envelope {
            self.warm_gift_envelope(durable, id)?;
        }
        for id in &footprint.gifts {
            self.warm_gift(durable, *id)?;
        }
        if let Some(id) = footprint.group {
            self.warm_group(durable, id)?;
        }
        if let Some(id) = footprint.order {
            self.warm_order(id)?;
        }
        if let Some(id) = footprint.payment {
            self.warm_payment(durable, id)?;
        }
        if let Some((item, codes)) = &footprint.codes {
            self.warm_codes(durable, *item, codes)?;
        }
        for (user, other) in &footprint.relations {
            self.warm_relation(durable, user, other)?;
        }
        Ok(())
    }

    /// Whether everything needed is in memory, now that it cannot leave.
    #[inline]
    pub(super) fn is_warm(&self, locked: &Locked<'_>, footprint: &Footprint) -> bool {
        if !self.has_all_of_group(locked, footprint) {
            return false;
        }
        self.durable.is_none()
            || footprint.wallets.iter().all(|user| locked.shard(self.router.user(user)).wallets.contains_key(user))
                && footprint.memos.iter().all(|key| locked.shard(self.router.memo(*key)).memos.contains_key(key))
                && footprint.payouts.iter().all(|id| locked.shard(self.router.payout(*id)).payouts.contains_key(id))
                && footprint.gift.iter().all(|id| locked.shard(self.router.gift(*id)).gifts.contains_key(id))
                && footprint
                    .gift_envelope
                    .iter()
                    .all(|id| locked.shard(self.router.gift_envelope(*id)).gift_envelopes.contains_key(id))
                && footprint.gifts.iter().all(|id| locked.shard(self.router.gift(*id)).gifts.contains_key(id))
                && footprint.group.iter().all(|id| locked.shard(self.router.group(*id)).groups.contains_key(id))
                && footprint.order.iter().all(|id| {
                    locked.shard(self.router.order(*id)).known_orders.get(id).is_some_and(|known| known.sale.is_some())
                })
                && footprint.payment.iter().all(|id| locked.shard(self.router.payment(*id)).payments.contains_key(id))
                && footprint.codes.iter().all(|(item, codes)| {
                    let known = &locked.shard(self.router.item(*item)).codes;
                    codes.iter().all(|code| known.contains_key(code))
                })
                && footprint.relations.iter().all(|(user, other)| {
                    let key = RelationKey::of(user, other);
                    locked.shard(self.router.relation(key)).relations.contains_key(&key)
                })
                && footprint.made.iter().all(|(sender, day, _)| {
                    locked
                        .shard(self.router.user(sender))
                        .made
                        .get(sender)
                        .into_iter()
                        .flatten()
                        .any(|it| it.has(day.from))
                })
    }

    pub(super) fn warm_wallet(&self, durable: &Durable, user: &UserId) -> Result<(), EngineError> {
        self.warm_one(
            self.router.user(user),
            |shard| shard.wallets.get_mut(user).map(|wallet| &mut wallet.touched_at),
            || durable.store.wallet(user),
            |shard, row, touched_at| {
                let row = row.unwrap_or_default();
                let (available, held) = (row.available, row.held);
                let wallet = Wallet { available, held, last_lsn: Lsn(0), touched_at };
                shard.wallets.insert(user.clone(), wallet);
            },
        )
    }

    pub(super) fn warm_memo(&self, durable: &Durable, key: OnceKey) -> Result<(), EngineError> {
        self.warm_one(
            self.router.memo(key),
            |shard| shard.memos.get_mut(&key).map(|memo| &mut memo.touched_at),
            || durable.store.memo(key),
            |shard, kept, touched_at| {
                let kept = kept.map(Box::new).filter(|_| !is_planted(Mutant::ForgetKeys));
                shard.memos.insert(key, Memo { kept, last_lsn: Lsn(0), touched_at });
            },
        )
    }

    fn warm_payout(&self, durable: &Durable, id: PayoutId) -> Result<(), EngineError> {
        self.warm_one(
            self.router.payout(id),
            |shard| shard.payouts.get_mut(&id).map(|known| &mut known.touched_at),
            || durable.store.payout(id),
            |shard, payout, touched_at| {
                let payout = payout.map(Box::new);
                shard.payouts.insert(id, KnownPayout { payout, last_lsn: Lsn(0), touched_at });
            },
        )
    }

    pub(super) fn warm_gift(&self, durable: &Durable, id: GiftId) -> Result<(), EngineError> {
        self.warm_one(
            self.router.gift(id),
            |shard| shard.gifts.get_mut(&id).map(|known| &mut known.touched_at),
            || durable.store.gift(id),
            |shard, gift, touched_at| _ = shard.gifts.insert(id, KnownGift::read(gift.map(Box::new), touched_at)),
        )
    }

    fn warm_made(&self, sender: &UserId, day: &Day, most: u32) -> Result<(), EngineError> {
        self.warm_one(
            self.router.user(sender),
            |shard| shard.made_by(sender, day.from).map(|made| &mut made.touched_at),
            || self.durable.as_ref().map_or(Ok(0), |durable| durable.store.made_by(sender, day, most)),
            |shard, count, touched_at| {
                shard.made.entry(sender.clone()).or_default().push(MadeInDay::new(day, count, touched_at));
            },
        )
    }

    /// Brings one thing into a shard, unless it is there: then it was asked for again.
    pub(super) fn warm_one<T>(
        &self,
        index: usize,
        touched_at: impl Fn(&mut Shard) -> Option<&mut Timestamp>,
        read: impl Fn() -> Result<T, StoreError>,
        take_in: impl Fn(&mut Shard, T, Timestamp),
    ) -> Result<(), EngineError> {
        loop {
            let evictions = {
                let mut shard = self.shards[index].lock();
                if let Some(touched_at) = touched_at(&mut shard) {
                    *touched_at = self.clock.now();
                    return Ok(());
                }
                shard.evictions
            };
            let row = read().map_err(store_failed)?;
            let mut shard = self.shards[index].lock();
            // Brought in, moved and evicted in the meantime, it would be older than the store.
            if shard.evictions == evictions {
                if touched_at(&mut shard).is_none() {
                    take_in(&mut shard, row, self.clock.now());
                }
                return Ok(());
            }
        }
    }

    fn warm_codes(&self, durable: &Durable, item: ItemId, codes: &[CodeDigest]) -> Result<(), EngineError> {
        let shard = &self.shards[self.router.item(item)];
        loop {
            let (evictions, missing) = {
                let mut shard = shard.lock();
                let mut missing = Vec::new();
                for code in codes {
                    match shard.codes.get_mut(code) {
                        Some(known) => known.touched_at = self.clock.now(),
                        None => missing.push(*code),
                    }
                }
                (shard.evictions, missing)
            };
            if missing.is_empty() {
                return Ok(());
            }
            let found = durable.store.has_codes(item, &missing).map_err(store_failed)?;
            let mut shard = shard.lock();
            if shard.evictions == evictions {
                let touched_at = self.clock.now();
                for (code, is_there) in missing.into_iter().zip(found) {
                    shard.codes.entry(code).or_insert(KnownCode { is_there, last_lsn: Lsn(0), touched_at });
                }
                return Ok(());
            }
        }
    }

    fn warm_order(&self, id: OrderId) -> Result<(), EngineError> {
        let shard = &self.shards[self.router.order(id)];
        loop {
            let (evictions, pending) = {
                let mut shard = shard.lock();
                let pending = shard.orders.get(&id).map(|it| (it.order.clone(), it.sale));
                if let Some(known) = shard.known_orders.get_mut(&id) {
                    known.touched_at = self.clock.now();
                    if known.sale.is_some() {
                        return Ok(());
                    }
                    let known = known.order.as_deref().cloned();
                    let sale = pending.map(|(_, sale)| sale);
                    (shard.evictions, known.map(|order| (order, sale)))
                } else {
                    (shard.evictions, pending.map(|(order, sale)| (order, Some(sale))))
                }
            };
            let (order, sale) = match (pending, &self.durable) {
                (None, Some(durable)) => (durable.store.order(id).map_err(store_failed)?, None),
                (None, None) => (None, None),
                (Some((order, sale)), _) => (Some(order), sale),
            };
            let sale = match (&order, sale) {
                (_, Some(sale)) => sale,
                // What the store has is durable, and so is what was replayed.
                (Some(order), None) => self.sale_of(order)?,
                (None, None) => None,
            };
            let mut shard = shard.lock();
            if shard.evictions == evictions {
                let touched_at = self.clock.now();
                let order = order.map(Box::new);
                let read = KnownOrder { order, sale: None, last_lsn: Lsn(0), touched_at };
                shard.known_orders.entry(id).or_insert(read).sale = Some(sale);
                return Ok(());
            }
        }
    }

    /// What a step of an order needs, all of which is fixed as it is paid. Says whether there is such an order.
    pub(super) fn order_footprint(
        &self,
        id: OrderId,
        step: &OrderStep,
        footprint: &mut Footprint,
    ) -> Result<bool, EngineError> {
        self.warm_order(id)?;
        footprint.order = Some(id);
        let index = self.router.order(id);
        let known = {
            let shard = self.shards[index].lock();
            let order = shard.known_orders.get(&id).and_then(|known| known.order.as_ref());
            order.map(|order| (order.user.clone(), order.merchant.clone()))
        };
        let Some((user, merchant)) = known else { return Ok(false) };
        footprint.shards.push(index);
        // Where it was paid outside, its payment has its number.
        footprint.payment = Some(PaymentId::from_bytes(*id.bytes()));
        if matches!(step, OrderStep::Return { .. } | OrderStep::AcceptReturn { .. }) {
            footprint.shards.push(self.router.user(&merchant));
            footprint.wallet(self.router, &user);
        }
        Ok(true)
    }

    /// What a step of a gift needs, all of which is fixed when the gift is made. Gives
    /// its giver, if there is such a gift.
    pub(super) fn gift_footprint(&self, id: GiftId, footprint: &mut Footprint) -> Result<Option<UserId>, EngineError> {
        if let Some(durable) = &self.durable {
            self.warm_gift(durable, id)?;
        }
        footprint.gift = Some(id);
        let index = self.router.gift(id);
        let known = self.shards[index].lock().gift(id).map(|gift| {
            let Gift { giver, payer, merchant, .. } = gift;
            (giver.clone(), payer.clone(), merchant.clone())
        });
        let Some((giver, payer, merchant)) = known else { return Ok(None) };
        footprint.shards.extend([index, self.router.user(&merchant)]);
        footprint.wallet(self.router, &payer);
        Ok(Some(giver))
    }

    /// Answers a command about something that memory does not have: it has
    /// ended, and nothing about it can change any more, or it never was.
    pub(super) fn run_cold(&self, command: &Command, keys: &Keys, now: Timestamp) -> Result<Done, EngineError> {
        self.answer_cold(command, keys, self.cold_outcome(command, now)?)
    }

    /// Answers a command whose outcome is known, unless it was answered before.
    pub(super) fn answer_cold(&self, command: &Command, keys: &Keys, outcome: Outcome) -> Result<Done, EngineError> {
        if keys.once.is_none() {
            // What is in the store is durable: there is nothing to wait for.
            return Ok(no(outcome));
        }
        let mut footprint = Footprint::default();
        for key in keys.each() {
            footprint.memos.push(key);
            footprint.shards.push(self.router.memo(key));
        }
        footprint.sort();
        loop {
            self.warm(&footprint)?;
            self.admit(class_of(command))?;
            let mut locked = self.lock(&footprint.shards);
            if !self.is_warm(&locked, &footprint) {
                continue;
            }
            let now = self.clock.now();
            let decision = decide::decide_cold(&locked, self.router, now, outcome, keys);
            let staged = self.carry_out(&mut locked, now, decision.events, None);
            let wait = decision.durable.then(|| staged.unwrap_or_else(|| locked.last_lsn()));
            return Ok(Done { reply: Reply { outcome: decision.outcome, replayed: decision.replayed }, wait });
        }
    }

    fn cold_outcome(&self, command: &Command, now: Timestamp) -> Result<Outcome, EngineError> {
        let not_found = || Ok(Outcome::Refused(Refusal::NotFound));
        let Some(durable) = &self.durable else { return not_found() };
        Ok(match command {
            Command::Grab { envelope, user } | Command::Claim { envelope, user } => {
                let Some(row) = durable.store.envelope(*envelope).map_err(store_failed)? else { return not_found() };
                let is_grab = matches!(command, Command::Grab { .. });
                cold_share(durable, &row, user, is_grab, now)?
            }
            Command::Cancel { envelope } => {
                let Some(row) = durable.store.envelope(*envelope).map_err(store_failed)? else { return not_found() };
                match ended_as(&row)? {
                    EndedAs::Cancelled => Outcome::Envelope(Box::new(figures(&row)?.view(&row.created, now))),
                    EndedAs::SoldOut | EndedAs::Expired => Outcome::Refused(Refusal::too_late_to_cancel()),
                }
            }
            Command::ClaimHold { hold, user } | Command::ReleaseHold { hold, user } => {
                let Some(hold) = self.cold_hold(*hold)? else { return not_found() };
                match ended_hold(&hold, user) {
                    Some(outcome) => outcome,
                    None => return Err(unsettled("hold")),
                }
            }
            Command::CreatePayment(terms) => match terms.purpose {
                PaymentFor::Hold(hold) => {
                    let Some(hold) = self.cold_hold(hold)? else { return not_found() };
                    ended_hold(&hold, &terms.payer).ok_or_else(|| unsettled("hold"))?
                }
                PaymentFor::Gift(_) => return not_found(),
            },
            Command::Deposit(_)
            | Command::Withdraw(_)
            | Command::TellPayment { .. }
            | Command::CreateEnvelope(_)
            | Command::PutMerchant(_)
            | Command::CreateItem(_)
            | Command::ChangeItem { .. }
            | Command::Restock { .. }
            | Command::GrabItem { .. }
            | Command::AdvanceClock { .. }
            | Command::CreateApiKey(_)
            | Command::DeleteApiKey { .. }
            | Command::PayoutResults(_)
            | Command::Redact { .. }
            | Command::CreateGift(_)
            | Command::StepGift { .. }
            | Command::RedactGift { .. }
            | Command::WithdrawSales(_)
            | Command::AddCodes { .. }
            | Command::StepOrder { .. }
            | Command::PutRelations(_)
            | Command::CreateGiftEnvelope(_)
            | Command::GrabGift { .. }
            | Command::StepGiftEnvelope { .. }
            | Command::OpenGroup(_)
            | Command::JoinGroup { .. }
            | Command::LeaveGroup { .. } => return not_found(),
        })
    }

    /// An envelope that only the store has, without what was taken back of it; and what has
    /// to be durable before it is told.
    pub(super) fn stored_envelope(&self, id: EnvelopeId) -> Result<Option<(EnvelopeRow, Lsn)>, EngineError> {
        let Some(durable) = &self.durable else { return Ok(None) };
        // Looked at before the store: what leaves here is there.
        let pending = self.shards[self.router.envelope(id)].lock().redactions.get(&id).copied();
        let Some(mut row) = durable.store.envelope(id).map_err(store_failed)? else { return Ok(None) };
        if let Some((redaction, _)) = pending {
            redaction.put(&mut row.created);
        }
        Ok(Some((row, pending.map_or(Lsn(0), |(_, lsn)| lsn))))
    }

    pub(super) fn cold_hold(&self, id: HoldId) -> Result<Option<crate::command::HoldView>, EngineError> {
        match &self.durable {
            Some(durable) => durable.store.hold(id).map_err(store_failed),
            None => Ok(None),
        }
    }

    /// Evicts what is persisted and idle from one shard.
    pub(super) fn evict(&self, index: usize) {
        let Some(durable) = &self.durable else { return };
        let persisted = Lsn(durable.persisted.load(Ordering::Acquire));
        let mut shard = self.shards[index].lock();
        let shard = &mut *shard;
        let now = self.clock.now();
        let idle = |touched_at: Timestamp, ms| now >= touched_at.plus_ms(ms);
        let before = shard.entities();
        shard.wallets.retain(|_, wallet| wallet.last_lsn > persisted || !idle(wallet.touched_at, IDLE_MS));
        shard.memos.retain(|_, memo| memo.last_lsn > persisted || !idle(memo.touched_at, IDLE_MS));
        shard.envelopes.retain(|_, envelope| {
            !envelope.settled || envelope.last_lsn > persisted || !idle(envelope.touched_at, SETTLED_MS)
        });
        shard.holds.forget_ended(persisted);
        shard.orders.retain(|_, pending| pending.lsn > persisted);
        shard.redactions.retain(|_, (_, last_lsn)| *last_lsn > persisted);
        shard.sealed.retain(|_, (_, last_lsn)| *last_lsn > persisted);
        shard.payouts.retain(|_, known| known.last_lsn > persisted || !idle(known.touched_at, IDLE_MS));
        shard
            .gifts
            .retain(|_, known| known.has_deadline() || known.last_lsn > persisted || !idle(known.touched_at, IDLE_MS));
        let Shard { payments, payment_of, gifts, .. } = shard;
        payments.retain(|_, known| {
            known.payment.as_deref().is_some_and(|payment| Shard::needs_payment(gifts, payment))
                || known.last_lsn > persisted
                || !idle(known.touched_at, IDLE_MS)
        });
        payment_of.retain(|_, payment| payments.contains_key(payment));
        shard
            .groups
            .retain(|_, known| known.has_deadline() || known.last_lsn > persisted || !idle(known.touched_at, IDLE_MS));
        shard.known_orders.retain(|_, known| known.last_lsn > persisted || !idle(known.touched_at, IDLE_MS));
        shard.codes.retain(|_, known| known.last_lsn > persisted || !idle(known.touched_at, CODES_MS));
        shard.gift_envelopes.retain(|_, known| known.last_lsn > persisted || !idle(known.touched_at, IDLE_MS));
        shard.relations.retain(|_, known| known.last_lsn > persisted || !idle(known.touched_at, RELATION_MS));
        shard.made.retain(|_, days| {
            days.retain(|made| made.last_lsn > persisted || !idle(made.touched_at, IDLE_MS));
            !days.is_empty()
        });
        if shard.entities() != before {
            shard.evictions += 1;
            shard.drop_stale_timers();
        }
    }
}

fn unsettled(what: &str) -> EngineError {
    EngineError::Store(format!(
        "it has an unsettled {what} that is not in memory; run `hongbao audit`, and if that finds the store damaged, `hongbao rebuild`"
    ))
}

fn ended_as(row: &EnvelopeRow) -> Result<EndedAs, EngineError> {
    row.settled.as_ref().map(|(_, settled)| settled.how).ok_or_else(|| unsettled("envelope"))
}

/// The final figures of an envelope that is only in the store.
pub(super) fn figures(row: &EnvelopeRow) -> Result<Figures, EngineError> {
    let (_, settled) = row.settled.as_ref().ok_or_else(|| unsettled("envelope"))?;
    Ok(Figures {
        ended: Some(settled.how),
        settled: true,
        taken: settled.taken,
        taken_amount: row.created.terms.total,
        claimed: settled.claimed,
        refunded: settled.refunded,
    })
}

fn cold_share(
    durable: &Durable,
    row: &EnvelopeRow,
    user: &UserId,
    is_grab: bool,
    now: Timestamp,
) -> Result<Outcome, EngineError> {
    let ended = ended_as(row)?;
    let win = durable.store.win_of(row, user).map_err(store_failed)?;
    let created = &row.created;
    Ok(match (win, is_grab) {
        (Some(win), true) => Outcome::Won {
            amount: win.amount,
            share: win.share,
            status: share_status(now, win.claimed_at.is_some(), created.claim_by, created.terms.unclaimed),
            grabbed_at: win.grabbed_at,
            claim_by: created.claim_by,
            replayed: true,
        },
        (Some(win), false) => match win.claimed_at {
            Some(claimed_at) => Outcome::Claimed { amount: win.amount, claimed_at, replayed: true },
            None => Outcome::Lapsed,
        },
        (None, false) => Outcome::NotWon,
        (None, true) => match ended {
            EndedAs::Cancelled => Outcome::Cancelled,
            EndedAs::SoldOut => Outcome::SoldOut,
            EndedAs::Expired => Outcome::Expired,
        },
    })
}

#[cfg(test)]
mod tests;
