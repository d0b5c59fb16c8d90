//! The state: what is live, in shards, and how events change it.
//!
//! A shard holds every kind of entity; an id or a user says in which shard it
//! lives. Decisions (in [`decide`]) read shards and answer with events;
//! [`apply`] carries events out, on the way up and again at replay.
//!
//! **Invariant:** state changes only in [`apply`], and [`apply`] depends on
//! nothing but the state, the event, its record's time and LSN. No clock, no
//! randomness, no I/O. (Bringing in and evicting what the store holds are not
//! changes: they only move it.)
//!
//! **Invariant:** what is not in memory and may be in the store is brought in
//! before it is decided upon; a vacant place is brought in as such.

pub(crate) mod addresses;
mod codes;
pub(crate) mod decide;
pub(crate) mod envelope;
pub(crate) mod gift_envelopes;
pub(crate) mod gifts;
pub(crate) mod groups;
mod index;
pub(crate) mod ledger;
pub(crate) mod orders;
pub(crate) mod payments;
pub(crate) mod relations;
pub(crate) mod sales;
mod slab;
pub(crate) mod stock;
pub(crate) mod winners;

use crate::address::AddressMark;
use crate::api_key::ApiKey;
use crate::backend::{Audit, EntryKind, OnceKey};
use crate::code::CodeDigest;
use crate::command::{HoldView, Merchant, MerchantStatus, OrderView, Outcome};
use crate::creates::MadeInDay;
use crate::event::{EnvelopeRedacted, Event, Held, MerchantMove, PaymentMoves, Remembered};
use crate::mutants::{Mutant, is_planted};
use crate::payout::{Payout, PayoutCounts, PayoutState};
use crate::redaction::Redaction;
use crate::relation::RelationKey;
use crate::sale::SaleOf;
use crate::types::{
    Amount, ApiKeyId, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, Lsn, OrderId, PaymentId, PayoutId,
    Timestamp, UserId,
};
pub(crate) use codes::KnownCode;
use envelope::Envelope;
use gift_envelopes::KnownGiftEnvelope;
use gifts::KnownGift;
use groups::KnownGroup;
use hashbrown::HashMap;
use ledger::{MerchantAccount, Wallet, credit, debit};
use orders::{KnownOrder, PendingOrder};
use payments::KnownPayment;
use relations::KnownRelation;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{BuildHasherDefault, Hasher};
use stock::{Holds, Item};
use winners::Name;

/// Hashes ids, which are random already, by taking eight of their bytes.
/// Nobody can choose them: only ids that the engine drew are ever inserted.
#[derive(Clone, Copy, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let tail = bytes.last_chunk::<8>().expect("ids and keys are 16 bytes long");
        self.0 = u64::from_le_bytes(*tail);
    }

    /// The length of an id says nothing.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type IdHash = BuildHasherDefault<IdHasher>;
pub(crate) type UserHash = foldhash::fast::RandomState;

/// An answer kept under a key, or the knowledge that there is none.
pub(crate) struct Memo {
    pub(crate) kept: Option<Box<Remembered>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

/// A payout, or the knowledge that there is none under its id.
pub(crate) struct KnownPayout {
    pub(crate) payout: Option<Box<Payout>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

/// What has to be looked at when a deadline comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chore {
    Envelope(EnvelopeId),
    Item(ItemId),
    Gift(GiftId),
    Address(GiftId),
    Group(GroupId),
}

/// Deadlines of one shard, the next first.
pub(crate) type Timers = BinaryHeap<Reverse<(Timestamp, Chore)>>;

/// One part of the state, behind one lock. What a grab writes stands first, on
/// the lock's own cache line.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Shard {
    /// The last record that touched this shard.
    pub(crate) last_lsn: Lsn,
    pub(crate) envelopes: HashMap<EnvelopeId, Box<Envelope>, IdHash>,
    pub(crate) items: HashMap<ItemId, Box<Item>, IdHash>,
    pub(crate) holds: Holds,
    pub(crate) wallets: HashMap<UserId, Wallet, UserHash>,
    pub(crate) merchants: HashMap<UserId, MerchantAccount, UserHash>,
    /// Of all merchants those that may not sell, in every shard: a grab looks here,
    /// beside its item.
    pub(crate) not_selling: HashMap<UserId, MerchantStatus, UserHash>,
    /// Orders that the store may not have yet, with their record.
    pub(crate) orders: HashMap<OrderId, PendingOrder, IdHash>,
    /// What was taken back of envelopes that are not in memory, and the store may not know yet, with their record.
    pub(crate) redactions: HashMap<EnvelopeId, (Redaction, Lsn), IdHash>,
    pub(crate) memos: HashMap<OnceKey, Memo, IdHash>,
    /// Payouts that the store may not have yet, and those that were asked for.
    pub(crate) payouts: HashMap<PayoutId, KnownPayout, IdHash>,
    /// Gifts that have not ended, and others that were asked for.
    pub(crate) gifts: HashMap<GiftId, KnownGift, IdHash>,
    /// Groups that are open, and others that were asked for.
    pub(crate) groups: HashMap<GroupId, KnownGroup, IdHash>,
    /// What is known of gifts' addresses, of all that are not erased.
    pub(crate) addresses: HashMap<GiftId, AddressMark, IdHash>,
    /// Sealed addresses that the store may not have yet, with their record; `None` is erased.
    pub(crate) sealed: HashMap<GiftId, (Option<Vec<u8>>, Lsn), IdHash>,
    /// This shard's part in how many payouts stand in each state; like the sums.
    pub(crate) payout_counts: PayoutCounts,
    pub(crate) timers: Timers,
    /// When money is due to this shard's merchants.
    pub(crate) settlements: BTreeSet<(Timestamp, UserId)>,
    /// This shard's part in the sums; see [`ledger::credit`].
    pub(crate) sums: Audit,
    /// How many envelopes senders have made in a day, if that is capped, of those who did lately.
    pub(crate) made: HashMap<UserId, SmallVec<[MadeInDay; 1]>, UserHash>,
    /// How often something was evicted. A look into the store is valid only
    /// while this has not changed.
    pub(crate) evictions: u64,
    /// In [`Router::API_KEYS`]: every API key, deleted ones too.
    pub(crate) api_keys: BTreeMap<ApiKeyId, ApiKey>,
    /// The last record that changed any of them.
    pub(crate) api_keys_lsn: Lsn,
    /// Codes that the store may not have yet, and those that were looked for.
    pub(crate) codes: HashMap<CodeDigest, KnownCode, IdHash>,
    /// Orders that somebody did something about lately.
    pub(crate) known_orders: HashMap<OrderId, KnownOrder, IdHash>,
    /// What users are to others, as far as the store may not have it yet, or somebody just asked.
    pub(crate) relations: HashMap<RelationKey, KnownRelation, IdHash>,
    /// Gift envelopes that the store may not have yet, and those that somebody asked about.
    pub(crate) gift_envelopes: HashMap<GiftEnvelopeId, KnownGiftEnvelope, IdHash>,
    /// Payments that are open or may have to go back by themselves, and others that were asked for.
    pub(crate) payments: HashMap<PaymentId, KnownPayment, IdHash>,
    /// Of holds and gifts the payment that is open, and of gifts the one that has paid them.
    pub(crate) payment_of: HashMap<[u8; 16], PaymentId, IdHash>,
}

/// Says in which shard things live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Router {
    mask: usize,
}

impl Router {
    /// The shard where money from and to the outside is counted.
    pub(crate) const EXTERNAL: usize = 0;
    /// The shard where API keys are.
    pub(crate) const API_KEYS: usize = 0;

    pub(crate) fn new(shards: usize) -> Router {
        assert!(shards.is_power_of_two(), "the number of shards is a power of two");
        Router { mask: shards - 1 }
    }

    /// Every shard.
    pub(crate) fn all(self) -> impl Iterator<Item = usize> {
        0..=self.mask
    }

    #[inline]
    fn of_prefix(self, bytes: &[u8; 16]) -> usize {
        usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) & self.mask
    }

    #[inline]
    pub(crate) fn envelope(self, id: EnvelopeId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn user(self, user: &UserId) -> usize {
        self.of_hash(winners::hash_user(user))
    }

    /// The top bits choose the bucket's tag, the low ones the bucket: these are neither.
    fn of_hash(self, hash: u64) -> usize {
        (hash >> 32) as usize & self.mask
    }

    pub(crate) fn item(self, id: ItemId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn hold(self, id: HoldId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn order(self, id: OrderId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn gift(self, id: GiftId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn payment(self, id: PaymentId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn group(self, id: GroupId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn payout(self, id: PayoutId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn gift_envelope(self, id: GiftEnvelopeId) -> usize {
        self.of_prefix(id.bytes())
    }

    pub(crate) fn relation(self, key: RelationKey) -> usize {
        self.of_prefix(&key.0)
    }

    pub(crate) fn memo(self, key: OnceKey) -> usize {
        self.of_prefix(key.bytes())
    }

    /// Every shard that an event touches.
    pub(crate) fn touched(self, event: &Event, touch: &mut impl FnMut(usize)) {
        match event {
            Event::WalletMoved(e) => {
                touch(self.user(&e.user));
                if matches!(e.kind, EntryKind::Deposit(_) | EntryKind::Withdrawal(_)) {
                    touch(Self::EXTERNAL);
                }
            }
            Event::EnvelopeCreated(e) => touch(self.envelope(e.id)),
            Event::Grabbed(e) => touch(self.envelope(e.envelope)),
            Event::Claimed(e) => touch(self.envelope(e.envelope)),
            Event::EnvelopeEnded(e) => touch(self.envelope(e.envelope)),
            Event::EnvelopeLapsed { envelope, .. } => touch(self.envelope(*envelope)),
            Event::EnvelopeSettled(e) => touch(self.envelope(e.envelope)),
            Event::MerchantPut(_) => self.all().for_each(touch),
            Event::ItemPut(e) => touch(self.item(e.id)),
            Event::Held(e) => touch(self.item(e.item)),
            Event::HoldEnded(e) => {
                touch(self.item(e.hold.item));
                if let Some((merchant, _)) = &e.merchant {
                    touch(self.user(merchant));
                }
            }
            Event::Remembered(e) => touch(self.memo(e.key)),
            Event::ClockAdvanced { .. } => {}
            Event::ApiKeyPut(_) => touch(Self::API_KEYS),
            Event::EnvelopeOutside(e) => {
                touch(self.envelope(e.envelope));
                if !e.deposited.is_zero() {
                    touch(Self::EXTERNAL);
                }
            }
            Event::PayoutMade(e) => touch(self.payout(e.payout)),
            Event::PayoutChanged(e) => touch(self.payout(e.payout.id)),
            Event::EnvelopeRedacted(e) => touch(self.envelope(e.created.id)),
            Event::AddressPut(e) => touch(self.gift(e.gift)),
            Event::AddressErased(e) => touch(self.gift(e.gift)),
            Event::GiftChanged(e) => {
                touch(self.gift(e.gift.id));
                if e.owed_after.is_some() {
                    touch(self.user(&e.gift.merchant));
                }
            }
            Event::MerchantMoved(e) => {
                touch(self.user(&e.merchant));
                if matches!(e.kind, MerchantMove::Withdrawn(_)) {
                    touch(Self::EXTERNAL);
                }
            }
            Event::CodesAdded(e) => touch(self.item(e.item)),
            Event::CodesHanded(e) => touch(self.item(e.item)),
            Event::OrderChanged(e) => touch(self.order(e.order.id)),
            Event::GiftEnvelopeMade(e) => touch(self.gift_envelope(e.id)),
            Event::RelationsPut(rows) => {
                rows.iter().for_each(|row| touch(self.relation(RelationKey::of(&row.user, &row.other))));
            }
            Event::PaymentChanged(e) => {
                touch(self.payment(e.payment.id));
                if !e.moves().deposited.is_zero() {
                    touch(Self::EXTERNAL);
                }
            }
            Event::GroupChanged(e) => touch(self.group(e.group.id)),
            Event::GroupOrdered(e) => {
                touch(self.group(e.group));
                touch(self.user(&e.order.merchant));
            }
        }
    }
}

/// Access to the shards that a command or record needs: locked ones while the
/// engine runs, all of them at replay.
pub(crate) trait Shards {
    fn shard(&self, index: usize) -> &Shard;
    fn shard_mut(&mut self, index: usize) -> &mut Shard;
}

/// Carries out what was decided. `prepared` is the envelope that the events
/// create, if it was split beforehand.
///
/// # Panics
/// If an event contradicts the state: that is a broken invariant.
pub(crate) fn apply(
    shards: &mut impl Shards,
    router: Router,
    at: Timestamp,
    lsn: Lsn,
    events: impl IntoIterator<Item = Event>,
    mut prepared: Option<Box<Envelope>>,
) {
    for event in events {
        router.touched(&event, &mut |index| shards.shard_mut(index).last_lsn = lsn);
        match event {
            Event::Grabbed(event) => {
                let shard = shards.shard_mut(router.envelope(event.envelope));
                let envelope = shard.envelope_mut(event.envelope, lsn);
                if envelope.apply_grabbed(&event, &Name::of(&event.user), at) {
                    shard.arm_envelope(event.envelope);
                }
            }
            Event::Claimed(event) => {
                let shard = shards.shard_mut(router.envelope(event.envelope));
                shard.envelope_mut(event.envelope, lsn).apply_claimed(event.share, event.amount, at);
                debit(&mut shard.sums.escrowed, event.amount);
            }
            Event::WalletMoved(event) => {
                let shard = shards.shard_mut(router.user(&event.user));
                let wallet = shard.wallets.entry(event.user.clone()).or_default();
                wallet.apply(&event, lsn, at, &mut shard.sums);
                match event.kind {
                    EntryKind::Deposit(_) => {
                        credit(&mut shards.shard_mut(Router::EXTERNAL).sums.deposited, event.amount);
                    }
                    EntryKind::Withdrawal(_) => {
                        credit(&mut shards.shard_mut(Router::EXTERNAL).sums.withdrawn, event.amount);
                    }
                    _ => {}
                }
            }
            Event::EnvelopeCreated(created) => {
                let id = created.id;
                let sender = &created.terms.sender;
                if let Some(made) = shards.shard_mut(router.user(sender)).made_by(sender, created.created_at) {
                    (made.count, made.last_lsn) = (made.count.saturating_add(1), lsn);
                }
                let shard = shards.shard_mut(router.envelope(id));
                credit(&mut shard.sums.escrowed, created.terms.total);
                let mut envelope = prepared.take().unwrap_or_else(|| Box::new(Envelope::new(created)));
                assert!(envelope.id() == id, "the envelope prepared is the one created");
                envelope.last_lsn = lsn;
                shard.envelopes.insert(id, envelope);
                shard.arm_envelope(id);
            }
            Event::EnvelopeEnded(event) => {
                let shard = shards.shard_mut(router.envelope(event.envelope));
                shard.envelope_mut(event.envelope, lsn).apply_ended(&event);
                debit(&mut shard.sums.escrowed, event.refund);
                shard.arm_envelope(event.envelope);
            }
            Event::EnvelopeLapsed { envelope, amount } => {
                let shard = shards.shard_mut(router.envelope(envelope));
                shard.envelope_mut(envelope, lsn).apply_lapsed(amount);
                debit(&mut shard.sums.escrowed, amount);
            }
            Event::EnvelopeSettled(event) => {
                let shard = shards.shard_mut(router.envelope(event.envelope));
                let envelope = shard.envelope_mut(event.envelope, lsn);
                envelope.apply_settled(&event);
                envelope.touched_at = at;
            }
            Event::MerchantPut(merchant) => {
                router.all().for_each(|index| shards.shard_mut(index).let_sell(&merchant));
                let accounts = &mut shards.shard_mut(router.user(&merchant.id)).merchants;
                match accounts.get_mut(&merchant.id) {
                    Some(account) => account.merchant = *merchant,
                    None => {
                        let new = MerchantAccount::new(*merchant);
                        accounts.insert(new.merchant.id.clone(), new);
                    }
                }
            }
            Event::ItemPut(put) => {
                let items = &mut shards.shard_mut(router.item(put.id)).items;
                match items.get_mut(&put.id) {
                    Some(item) => {
                        item.last_lsn = lsn;
                        item.put = put;
                    }
                    None => {
                        let id = put.id;
                        let mut item = Item::new(put);
                        item.last_lsn = lsn;
                        items.insert(id, Box::new(item));
                    }
                }
            }
            Event::Held(event) => {
                let name = Name::of(&event.user);
                shards.shard_mut(router.item(event.item)).apply_held(&event, &name, at, lsn);
            }
            Event::HoldEnded(event) => {
                if let Some((merchant, owed_after)) = &event.merchant {
                    let shard = shards.shard_mut(router.user(merchant));
                    shard.credit_merchant(merchant, event.hold.amount, *owed_after);
                }
                let shard = shards.shard_mut(router.item(event.hold.item));
                if let Some(order) = event.order(at) {
                    shard.orders.insert(order.id, PendingOrder { order, lsn, sale: None });
                }
                let item = shard.items.get_mut(&event.hold.item).expect("a hold's item exists");
                item.apply_ended(&mut shard.holds, *event, lsn);
            }
            Event::Remembered(event) => {
                let memos = &mut shards.shard_mut(router.memo(event.key)).memos;
                memos.insert(event.key, Memo { kept: Some(event), last_lsn: lsn, touched_at: at });
            }
            Event::ClockAdvanced { .. } => {}
            Event::ApiKeyPut(key) => {
                let shard = shards.shard_mut(Router::API_KEYS);
                shard.api_keys_lsn = lsn;
                shard.api_keys.insert(key.id, *key);
            }
            Event::EnvelopeOutside(event) => {
                if !event.deposited.is_zero() {
                    credit(&mut shards.shard_mut(Router::EXTERNAL).sums.deposited, event.deposited);
                }
                let shard = shards.shard_mut(router.envelope(event.envelope));
                shard.envelope_mut(event.envelope, lsn).apply_outside(*event);
            }
            Event::EnvelopeRedacted(event) => {
                let EnvelopeRedacted { created, redaction } = *event;
                let shard = shards.shard_mut(router.envelope(created.id));
                match shard.envelopes.get_mut(&created.id) {
                    Some(envelope) => {
                        envelope.last_lsn = lsn;
                        redaction.put(&mut envelope.created);
                    }
                    None => {
                        shard.redactions.insert(created.id, (redaction, lsn));
                    }
                }
            }
            Event::PayoutMade(event) => {
                let shard = shards.shard_mut(router.payout(event.payout));
                credit(&mut shard.sums.payable, event.amount);
                shard.count_payout(PayoutState::Due, 1);
                // Nobody asks for it soon: it leaves as soon as the store has it.
                let touched_at = Timestamp::default();
                let made = KnownPayout { payout: Some(Box::new(event.payout(at))), last_lsn: lsn, touched_at };
                let before = shard.payouts.insert(event.payout, made);
                assert!(before.is_none_or(|known| known.payout.is_none()), "a payout is made once (I5)");
            }
            Event::PayoutChanged(event) => {
                let shard = shards.shard_mut(router.payout(event.payout.id));
                let id = event.payout.id;
                if event.payout.state == PayoutState::Paid {
                    let amount = event.payout.amount;
                    debit(&mut shard.sums.payable, amount);
                    credit(&mut shard.sums.paid_out, amount);
                    if is_planted(Mutant::CountPaidTwice) {
                        credit(&mut shard.sums.paid_out, amount);
                    }
                }
                shard.count_payout(event.was, -1);
                shard.count_payout(event.payout.state, 1);
                let changed = KnownPayout { payout: Some(Box::new(event.payout)), last_lsn: lsn, touched_at: at };
                let before = shard.payouts.insert(id, changed).and_then(|known| known.payout);
                assert!(
                    before.is_none_or(|before| before.state == event.was),
                    "a payout goes on from where it stood (I5)"
                );
            }
            Event::GiftChanged(event) => {
                if let Some(owed_after) = event.owed_after {
                    let shard = shards.shard_mut(router.user(&event.gift.merchant));
                    shard.credit_merchant(&event.gift.merchant, event.gift.amount, owed_after);
                }
                shards.shard_mut(router.gift(event.gift.id)).apply_gift(*event, at, lsn);
            }
            Event::MerchantMoved(event) => {
                if matches!(event.kind, MerchantMove::Withdrawn(_)) {
                    credit(&mut shards.shard_mut(Router::EXTERNAL).sums.withdrawn, event.amount);
                }
                if let MerchantMove::Sold { of: SaleOf::Order(id), commission, due, .. } = event.kind
                    && let Some(pending) = shards.shard_mut(router.order(id)).orders.get_mut(&id)
                {
                    pending.sale = Some((commission, due));
                }
                shards.shard_mut(router.user(&event.merchant)).apply_merchant_moved(*event);
            }
            Event::AddressPut(event) => shards.shard_mut(router.gift(event.gift)).apply_address(*event, lsn),
            Event::AddressErased(event) => shards.shard_mut(router.gift(event.gift)).apply_address_erased(&event, lsn),
            Event::CodesAdded(event) => shards.shard_mut(router.item(event.item)).apply_codes(&event, at, lsn),
            Event::CodesHanded(event) => shards.shard_mut(router.item(event.item)).apply_handed(&event),
            Event::OrderChanged(event) => shards.shard_mut(router.order(event.order.id)).apply_order(&event, at, lsn),
            Event::GiftEnvelopeMade(envelope) => {
                shards.shard_mut(router.gift_envelope(envelope.id)).apply_gift_envelope(envelope, at, lsn);
            }
            Event::RelationsPut(rows) => {
                for row in &rows {
                    let index = router.relation(RelationKey::of(&row.user, &row.other));
                    shards.shard_mut(index).apply_relation(row, at, lsn);
                }
            }
            Event::PaymentChanged(event) => {
                let PaymentMoves { deposited, .. } = event.moves();
                if !deposited.is_zero() {
                    credit(&mut shards.shard_mut(Router::EXTERNAL).sums.deposited, deposited);
                }
                shards.shard_mut(router.payment(event.payment.id)).apply_payment(*event, at, lsn);
            }
            Event::GroupChanged(event) => shards.shard_mut(router.group(event.group.id)).apply_group(*event, at, lsn),
            Event::GroupOrdered(event) => {
                let (merchant, amount) = (&event.order.merchant, event.order.amount);
                shards.shard_mut(router.user(merchant)).credit_merchant(merchant, amount, event.owed_after);
                shards.shard_mut(router.group(event.group)).apply_group_ordered(*event, lsn);
            }
        }
    }
}

impl Shard {
    /// An envelope that somebody asks about.
    #[inline]
    pub(crate) fn asked_envelope(&mut self, id: EnvelopeId, now: Timestamp) -> Option<&mut Envelope> {
        let envelope = self.envelopes.get_mut(&id)?;
        envelope.touch(now);
        Some(envelope)
    }

    /// Lets a merchant sell this shard's items or not.
    pub(crate) fn let_sell(&mut self, merchant: &Merchant) {
        match merchant.status {
            MerchantStatus::Verified => _ = self.not_selling.remove(&merchant.id),
            status => _ = self.not_selling.insert(merchant.id.clone(), status),
        }
    }

    /// As what an item's merchant stands, if it may not sell.
    #[inline]
    pub(crate) fn refuses(&self, merchant: &UserId) -> Option<MerchantStatus> {
        if self.not_selling.is_empty() || is_planted(Mutant::SellSuspended) {
            return None;
        }
        self.not_selling.get(merchant).copied()
    }

    /// How much there is in it that may be evicted.
    pub(crate) fn entities(&self) -> usize {
        self.wallets.len()
            + self.memos.len()
            + self.envelopes.len()
            + self.holds.len()
            + self.orders.len()
            + self.redactions.len()
            + self.payouts.len()
            + self.gifts.len()
            + self.groups.len()
            + self.sealed.len()
            + self.codes.len()
            + self.known_orders.len()
            + self.relations.len()
            + self.gift_envelopes.len()
            + self.payments.len()
            + self.made.values().map(SmallVec::len).sum::<usize>()
    }

    fn count_payout(&mut self, state: PayoutState, by: i64) {
        let count = &mut self.payout_counts[state as usize];
        *count = count.wrapping_add_signed(by);
    }

    /// What a sender has made in the day of that time, if it is in memory.
    pub(crate) fn made_by(&mut self, sender: &UserId, at: Timestamp) -> Option<&mut MadeInDay> {
        self.made.get_mut(sender)?.iter_mut().find(|made| made.has(at))
    }

    /// How many a sender has made in the day of that time.
    pub(crate) fn made_count(&self, sender: &UserId, at: Timestamp) -> u32 {
        let days = self.made.get(sender).into_iter().flatten();
        days.filter(|made| made.has(at)).map(|made| made.count).sum()
    }

    /// A hold that is in memory.
    pub(crate) fn hold(&self, id: &HoldId) -> Option<HoldView> {
        let Some(item) = self.holds.item_of(id) else { return self.order_of_group(id).map(OrderView::hold_of_group) };
        self.items.get(&item).expect("a hold's item is in memory").hold(&self.holds, id)
    }

    /// The item of a hold that is in memory.
    pub(crate) fn item_of_hold(&self, id: &HoldId) -> Option<ItemId> {
        self.holds.item_of(id).or_else(|| self.order_of_group(id).map(|order| order.item))
    }

    /// The order that was made with this hold, for a member of a group, if the store may not have both yet.
    fn order_of_group(&self, id: &HoldId) -> Option<&OrderView> {
        let pending = self.orders.get(&OrderId::from_bytes(*id.bytes()))?;
        Some(&pending.order).filter(|order| order.hold == *id)
    }

    /// Money of a sale goes to a merchant, who is owed so much then.
    fn credit_merchant(&mut self, merchant: &UserId, amount: Amount, owed_after: Amount) {
        let account = self.merchants.get_mut(merchant).expect("a merchant that sells exists");
        account.owed += amount;
        assert!(account.owed == owed_after, "what a merchant is owed is what the last record says");
        credit(&mut self.sums.merchants, amount);
    }

    fn envelope_mut(&mut self, id: EnvelopeId, lsn: Lsn) -> &mut Envelope {
        let envelope = self.envelopes.get_mut(&id).expect("an event's envelope is in memory");
        envelope.last_lsn = lsn;
        envelope
    }

    /// Sets the timer for an envelope's next deadline. One that is set for a
    /// deadline that has moved finds nothing due and is dropped.
    pub(crate) fn arm_envelope(&mut self, id: EnvelopeId) {
        let envelope = self.envelopes.get_mut(&id).expect("an event's envelope is in memory");
        let next = envelope.next_deadline();
        if next != envelope.timer_at {
            envelope.timer_at = next;
            if let Some(at) = next {
                self.timers.push(Reverse((at, Chore::Envelope(id))));
            }
        }
    }

    /// Sets units aside and the timer for when they are due.
    #[inline]
    pub(crate) fn apply_held(&mut self, event: &Held, name: &Name<'_>, at: Timestamp, lsn: Lsn) {
        let item = self.items.get_mut(&event.item).expect("units are held of an item that exists");
        item.apply_held(&mut self.holds, event, name, at, lsn);
        item.arm(&mut self.timers);
    }

    /// Sets the timer of an envelope that is due behind all that are due until `now`.
    pub(crate) fn defer_envelope(&mut self, id: EnvelopeId, now: Timestamp) {
        let envelope = self.envelopes.get_mut(&id).expect("an event's envelope is in memory");
        envelope.timer_at = Some(now);
        self.timers.push(Reverse((now, Chore::Envelope(id))));
    }

    /// Sets the timer for an item's next due hold, if it is not set for then or earlier.
    pub(crate) fn arm_item(&mut self, id: ItemId) {
        self.items.get_mut(&id).expect("an event's item is in memory").arm(&mut self.timers);
    }

    /// Drops the timers of what is gone or has another deadline by now, once
    /// they are the most: a sold-out envelope's would stay until its `claim_by`,
    /// which may be years after it was settled and evicted.
    pub(crate) fn drop_stale_timers(&mut self) {
        const KEPT_MIN: usize = 1024;
        if self.timers.len()
            <= KEPT_MIN
                + 2 * (self.envelopes.len()
                    + self.items.len()
                    + self.gifts.len()
                    + self.groups.len()
                    + self.addresses.len())
        {
            return;
        }
        let Shard { timers, envelopes, items, gifts, groups, addresses, .. } = self;
        timers.retain(|Reverse((at, chore))| {
            let set_for = match chore {
                Chore::Envelope(id) => envelopes.get(id).and_then(|envelope| envelope.timer_at),
                Chore::Item(id) => items.get(id).and_then(|item| item.timer_at),
                Chore::Gift(id) => gifts.get(id).and_then(|known| known.timer_at),
                Chore::Address(id) => addresses.get(id).and_then(|mark| mark.erase_at),
                Chore::Group(id) => groups.get(id).and_then(|known| known.timer_at),
            };
            set_for == Some(*at)
        });
    }

    /// The answer kept under a key, unless its time is over.
    pub(crate) fn remembered(&self, key: OnceKey, now: Timestamp) -> Option<&Remembered> {
        let kept = self.memos.get(&key)?.kept.as_deref()?;
        kept.expires_at.is_none_or(|expires_at| now < expires_at).then_some(kept)
    }
}

/// Whether an answer is positive: worth remembering, and true only once durable.
pub(crate) fn is_positive(outcome: &Outcome) -> bool {
    match outcome {
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
        | Outcome::Joined { .. } => true,
        Outcome::SoldOut
        | Outcome::Expired
        | Outcome::Cancelled
        | Outcome::NotOpen { .. }
        | Outcome::NotWon
        | Outcome::Lapsed
        | Outcome::LimitReached
        | Outcome::Ended
        | Outcome::HoldExpired
        | Outcome::CannotPay
        | Outcome::Refused(_)
        | Outcome::GroupFull
        | Outcome::LeaderLeft => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::NewEnvelope;
    use crate::split::SplitRule;

    #[test]
    fn timers_of_what_is_gone_do_not_pile_up() {
        let mut shard = Shard::default();
        let (alice, one) = (UserId::new("alice").unwrap(), Amount::new(1).unwrap());
        let make = |n: u128| {
            let terms = NewEnvelope::new("app", alice.clone(), one, 1, SplitRule::lucky());
            Box::new(Envelope::prepare(
                terms,
                EnvelopeId::from_bytes(n.to_le_bytes()),
                [0; 32],
                Timestamp::from_ms(n as u64),
            ))
        };
        for n in 0..3000 {
            let envelope = make(n);
            let id = envelope.id();
            shard.envelopes.insert(id, envelope);
            shard.arm_envelope(id);
            if n >= 10 {
                shard.envelopes.remove(&id);
            }
        }
        shard.drop_stale_timers();
        assert_eq!(shard.timers.len(), 10);
        assert_eq!(shard.timers.peek().map(|Reverse((at, _))| at.ms()), Some(86_400_000));
        assert!(shard.envelopes.values().all(|envelope| envelope.timer_at.is_some()));
    }
}
