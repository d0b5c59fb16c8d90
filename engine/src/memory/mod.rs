//! The embedded engine: sharded state in memory, made durable by the journal,
//! projected into the store.
//!
//! Read one grab here from lock to reply: `Core::run` asks the journal
//! whether there is room, finds out which shards are needed and brings in what
//! is cold; `Core::attempt` locks them in index order, decides, stages the
//! record, applies it and unlocks; `Core::wait` waits until it is durable.
//!
//! **Invariant:** shards are locked in index order, all that a command needs at
//! once, and never across an await.
//!
//! **Invariant:** a record is staged while the shards it touches are locked, so
//! the journal's order is every shard's order.
//!
//! **Invariant:** an answer that tells of something waits until that something
//! is durable. A "no" tells of nothing and does not wait.

mod addresses;
mod cold;
mod feed;
mod gift_envelopes;
mod groups;
mod housekeeping;
mod notes;
mod payments;
mod picture;
mod reads;
mod recovery;
mod redact;
mod redact_gift;
mod relations;
mod settings;

pub(crate) use recovery::{BEING_COPIED, lock, lock_any, lock_unmigrated};
pub use recovery::{EmbeddedOptions, OpenError, StartReport};
pub(crate) use settings::Settings;
#[cfg(feature = "redis")]
pub(crate) use settings::option_of;

use crate::backend::{OnceKey, Reply};
use crate::clock::Clock;
use crate::code::CodeDigest;
use crate::command::{Command, Outcome, Refusal};
use crate::creates::{CreatesCap, Day};
use crate::entropy::Entropy;
use crate::error::EngineError;
use crate::event::{self, Event, Events};
use crate::feed::cursor::Seal;
use crate::feed::histories::Histories;
use crate::gift::GiftToken;
use crate::journal::{Class, Journal, JournalStats, Refused};
use crate::mutants::{Mutant, is_planted};
use crate::notes::NoteFiles;
use crate::payment::PaymentFor;
use crate::payout::{self, PayoutCounts};
use crate::state::decide::{self, Decision, Drawn, Keys};
use crate::state::envelope::{Envelope, GrabDecision};
use crate::state::gift_envelopes::DrawnGifts;
use crate::state::stock::{self, GrabItemDecision};
use crate::state::winners::Name;
use crate::state::{Chore, Router, Shard, Shards, apply, is_positive};
use crate::store::{DurableBatch, Projector, Store};
use crate::types::{
    ApiKeyId, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, Lsn, OrderId, PaymentId, PayoutId,
    Timestamp, UserId,
};
use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The engine in this process.
pub struct Embedded {
    core: Arc<Core>,
    housekeeper: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the engine's threads share.
pub(crate) struct Core {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    router: Router,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    log: Log,
    durable: Option<Durable>,
    fingerprint_secret: [u8; 32],
    /// Of the feed's cursors.
    seal: Seal,
    /// Of which history a cursor may be.
    histories: Histories,
    /// How long events are kept, seconds.
    events_kept_s: u64,
    /// How many envelopes a sender may make in a day.
    creates: Option<CreatesCap>,
    test_mode: bool,
    serving: AtomicU8,
    /// Why it does not serve, and what its operator has to do, if it is not ready.
    unready: Mutex<Option<String>>,
    housekeeping: housekeeping::State,
    /// What the server keeps for itself.
    notes: NoteFiles,
    /// What opens gifts' addresses, where there is an address key.
    addresses: Option<addresses::Addresses>,
}

/// Where records go.
enum Log {
    Journal(Journal),
    /// Nowhere: for measuring what durability costs. Counts LSNs.
    Off(AtomicU64),
}

/// About a microsecond of looking whether a lock is free.
const SPINS: usize = 64;

/// Grabs decided under one lock: a few microseconds.
const RUN_MAX: usize = 32;

const SERVING: u8 = 0;
const NOT_READY: u8 = 1;
const CLOSING: u8 = 2;

/// What makes an engine outlive its process.
struct Durable {
    store: Arc<Store>,
    projector: Arc<Projector>,
    /// Everything up to this LSN is on disk in the store.
    persisted: Arc<AtomicU64>,
    /// Where it is, if it is in a directory, which is locked while the engine lives: one process a directory.
    place: Option<(PathBuf, std::fs::File)>,
}

/// How an engine is doing, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineStats {
    /// The journal's figures.
    pub journal: Option<JournalStats>,
    /// The last record decided.
    pub staged_lsn: Lsn,
    /// The last record that survives a crash.
    pub durable_lsn: Lsn,
    /// Durable records not yet in the store.
    pub lag_records: u64,
    /// Whether the store takes no writes, so that the lag only grows.
    pub projection_failed: bool,
    /// Envelopes in memory.
    pub envelopes: u64,
    /// Wallets in memory.
    pub wallets: u64,
    /// Holds in memory.
    pub holds: u64,
    /// Payouts in memory.
    pub payouts_in_memory: u64,
    /// How many payouts stand in each state, by its number.
    pub payouts: PayoutCounts,
}

/// The shards that a command needs, locked.
struct Locked<'a> {
    guards: SmallVec<[(usize, MutexGuard<'a, Shard>); 2]>,
}

impl Shards for Locked<'_> {
    #[inline]
    fn shard(&self, index: usize) -> &Shard {
        let found = self.guards.iter().find(|(at, _)| *at == index);
        &found.expect("a decision reads only the shards of its footprint").1
    }

    #[inline]
    fn shard_mut(&mut self, index: usize) -> &mut Shard {
        let found = self.guards.iter_mut().find(|(at, _)| *at == index);
        &mut found.expect("a decision changes only the shards of its footprint").1
    }
}

impl Locked<'_> {
    fn last_lsn(&self) -> Lsn {
        self.guards.iter().map(|(_, shard)| shard.last_lsn).max().unwrap_or_default()
    }
}

/// What a decision needs: shards to lock, and what has to be in memory then.
#[derive(Default)]
struct Footprint {
    shards: SmallVec<[usize; 4]>,
    wallets: SmallVec<[UserId; 1]>,
    memos: SmallVec<[OnceKey; 2]>,
    payouts: Vec<PayoutId>,
    gift: Option<GiftId>,
    /// A gift envelope, and its gifts.
    gift_envelope: Option<GiftEnvelopeId>,
    gifts: Vec<GiftId>,
    /// Who is what to whom.
    relations: SmallVec<[(UserId, UserId); 2]>,
    group: Option<GroupId>,
    /// Whether the wallets of all that are in the group are needed.
    all_of_group: bool,
    /// Codes that an item is to have.
    codes: Option<(ItemId, Vec<CodeDigest>)>,
    order: Option<OrderId>,
    payment: Option<PaymentId>,
    /// Who makes an envelope on which day, and at which count no more are made.
    made: Option<(UserId, Day, u32)>,
}

/// A decision that has been carried out in memory.
struct Done {
    reply: Reply,
    /// What has to be durable before the reply is given.
    wait: Option<Lsn>,
}

/// Nothing was decided, because something was not in memory.
enum Miss {
    /// Something was evicted after it had been brought in, or has only been prepared.
    Again,
    /// These gifts and groups are due and have to end first.
    InTheWay(Vec<Chore>),
    /// It has ended, and is in the store if anywhere.
    Cold,
}

impl Core {
    /// Decides a command and carries it out in memory.
    fn run(&self, command: &Command, once: Option<OnceKey>) -> Result<Done, EngineError> {
        match (command, once) {
            (Command::Grab { envelope, user }, None) if !envelope.is_auto_claim() => self.grab(*envelope, user),
            (Command::GrabItem { item, user, quantity }, None) => {
                let hold = self.draw_hold(*item);
                match self.grab_item(*item, user, *quantity, hold)? {
                    Some(done) => Ok(done),
                    None => self.run_any(command, once, Some(Drawn::Hold(hold))),
                }
            }
            (Command::Redact { envelope, metadata }, _) => self.redact(*envelope, *metadata),
            (Command::RedactGift { gift, metadata }, _) => self.redact_gift(*gift, *metadata),
            (Command::TellPayment { payment, .. }, _) => self.tell_payment(command, *payment, once),
            (Command::StepGift { gift, step }, _) if addresses::is_about(step) => {
                let mut done = self.step_address(command, *gift, step, once)?;
                self.tell_whole(command, &mut done)?;
                Ok(done)
            }
            _ => {
                let mut done = self.run_any(command, once, None)?;
                self.tell_whole(command, &mut done)?;
                Ok(done)
            }
        }
    }

    /// One grab that touches one shard and nothing cold: what [`Core::run_any`]
    /// would do, without finding out that nothing else is needed.
    #[inline]
    fn grab(&self, id: EnvelopeId, user: &UserId) -> Result<Done, EngineError> {
        self.check_serving()?;
        self.admit(Class::Grab)?;
        let name = Name::of(user);
        let mut guard = self.lock_one(self.router.envelope(id));
        let shard = &mut *guard;
        let Some(envelope) = shard.envelopes.get_mut(&id) else {
            drop(guard);
            let command = Command::Grab { envelope: id, user: user.clone() };
            return self.run_cold(&command, &Keys::default(), self.clock.now());
        };
        let now = self.clock.now();
        let grabbed = match envelope.grab(now, &name, user) {
            GrabDecision::Take(grabbed) => grabbed,
            GrabDecision::Answer(outcome, durable) => {
                envelope.touch(now);
                let wait = durable.then_some(shard.last_lsn);
                return Ok(Done { reply: Reply { outcome, replayed: false }, wait });
            }
        };
        let lsn = self.stage(|bytes| event::encode_grab(now, &grabbed, bytes));
        shard.last_lsn = lsn;
        envelope.last_lsn = lsn;
        let sold_out = envelope.apply_grabbed(&grabbed, &name, now);
        let outcome = envelope.won(now, grabbed.share, false);
        if sold_out {
            shard.arm_envelope(id);
        }
        Ok(Done { reply: Reply { outcome, replayed: false }, wait: Some(lsn) })
    }

    /// Decides commands one after the other. Grabs of one envelope that follow each other are
    /// decided under one lock, some at a time: each for itself all the same.
    fn run_all(&self, commands: &[Command]) -> Vec<Result<Done, EngineError>> {
        let mut done = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while let Some(first) = rest.first() {
            let users = users_of_run(rest);
            match first {
                Command::Grab { envelope, .. } if users.len() > 1 => self.grab_run(*envelope, &users, &mut done),
                _ => done.push(self.run(first, None)),
            }
            rest = &rest[users.len().max(1)..];
        }
        done
    }

    /// What [`Core::grab`] would answer each of these users, in order.
    fn grab_run(&self, id: EnvelopeId, users: &[&UserId], done: &mut Vec<Result<Done, EngineError>>) {
        let each_alone = |done: &mut Vec<_>| done.extend(users.iter().map(|user| self.grab(id, user)));
        // Let in together: what they take together is less than one record may.
        if self.check_serving().is_err() || self.admit(Class::Grab).is_err() {
            return each_alone(done);
        }
        let names: SmallVec<[Name<'_>; RUN_MAX]> = users.iter().map(|user| Name::of(user)).collect();
        let mut guard = self.lock_one(self.router.envelope(id));
        let shard = &mut *guard;
        let Some(envelope) = shard.envelopes.get_mut(&id) else {
            drop(guard);
            return each_alone(done);
        };
        envelope.winners.bring_near(&names);
        let now = self.clock.now();
        envelope.touch(now);
        let mut sold_out = false;
        for (name, user) in names.iter().zip(users) {
            let (outcome, wait) = match envelope.grab(now, name, user) {
                GrabDecision::Take(grabbed) => {
                    let lsn = self.stage(|bytes| event::encode_grab(now, &grabbed, bytes));
                    shard.last_lsn = lsn;
                    envelope.last_lsn = lsn;
                    sold_out |= envelope.apply_grabbed(&grabbed, name, now);
                    (envelope.won(now, grabbed.share, false), Some(lsn))
                }
                GrabDecision::Answer(outcome, durable) => (outcome, durable.then_some(shard.last_lsn)),
            };
            done.push(Ok(Done { reply: Reply { outcome, replayed: false }, wait }));
        }
        if sold_out {
            shard.arm_envelope(id);
        }
    }

    /// The same for a grab of an item of which nothing is due; `None` leaves the
    /// decision to [`Core::run_any`].
    #[inline]
    fn grab_item(&self, id: ItemId, user: &UserId, quantity: u32, hold: HoldId) -> Result<Option<Done>, EngineError> {
        self.check_serving()?;
        self.admit(Class::Grab)?;
        let name = Name::of(user);
        let mut guard = self.lock_one(self.router.item(id));
        let shard = &mut *guard;
        let Some(item) = shard.items.get(&id) else { return Ok(None) };
        let now = self.clock.now();
        let refused = shard.refuses(&item.put.terms.merchant);
        let decision = item.grab(&shard.holds, now, refused, (&name, user), quantity, hold);
        if !shard.in_the_way(item, now, (user, quantity), &decision).is_empty() {
            return Ok(None);
        }
        let GrabItemDecision { expired, result: Some(result) } = decision else { return Ok(None) };
        if !expired.is_empty() {
            return Ok(None);
        }
        let (outcome, wait) = match result {
            Ok(held) => {
                let lsn = self.stage(|bytes| event::encode_held(now, &held, bytes));
                shard.last_lsn = lsn;
                shard.apply_held(&held, &name, now, lsn);
                (stock::held_answer(&held), Some(lsn))
            }
            Err(outcome) => {
                let wait = is_positive(&outcome).then_some(shard.last_lsn);
                (outcome, wait)
            }
        };
        Ok(Some(Done { reply: Reply { outcome, replayed: false }, wait }))
    }

    #[inline]
    fn check_serving(&self) -> Result<(), EngineError> {
        match self.serving.load(Ordering::Relaxed) {
            SERVING => Ok(()),
            CLOSING => Err(EngineError::ShuttingDown),
            _ => Err(EngineError::OperatorNeeded(self.unready.lock().clone().unwrap_or_default())),
        }
    }

    fn run_any(&self, command: &Command, once: Option<OnceKey>, drawn: Option<Drawn>) -> Result<Done, EngineError> {
        self.check_serving()?;
        let now = self.clock.now();
        if let Err(refusal) = decide::check(command) {
            return Ok(no(Outcome::Refused(refusal)));
        }
        let keys = self.keys_of(command, once);
        let mut drawn = drawn.unwrap_or_else(|| self.draw(command, now));
        let class = class_of(command);
        loop {
            let footprint = match self.footprint(command, &drawn, &keys)? {
                Some(footprint) => footprint,
                None => return self.run_cold(command, &keys, now),
            };
            self.warm(&footprint)?;
            self.admit(class)?;
            match self.attempt(command, &mut drawn, &keys, &footprint) {
                Ok(done) => return Ok(done),
                Err(Miss::Again) => {}
                Err(Miss::InTheWay(chores)) => self.end_in_the_way(&chores)?,
                Err(Miss::Cold) => return self.run_cold(command, &keys, now),
            }
        }
    }

    /// The keys of a command's answer, with its fingerprint if there are any.
    #[inline]
    fn keys_of(&self, command: &Command, once: Option<OnceKey>) -> Keys {
        let references = decide::reference_keys(command);
        let mut keys = Keys { once, references, fingerprint: [0; 16] };
        if keys.each().next().is_some() {
            keys.fingerprint = command.fingerprint(&self.fingerprint_secret);
        }
        keys
    }

    /// Locks, decides, stages, applies, unlocks.
    #[inline]
    fn attempt(&self, command: &Command, drawn: &mut Drawn, keys: &Keys, footprint: &Footprint) -> Result<Done, Miss> {
        let mut locked = self.lock(&footprint.shards);
        if !self.is_warm(&locked, footprint) {
            return Err(Miss::Again);
        }
        let now = self.clock.now();
        let decision = decide::decide(&locked, self.router, now, command, drawn, keys);
        if self.durable.is_some() && decision.outcome == Outcome::Refused(Refusal::NotFound) {
            return Err(Miss::Cold);
        }
        let Decision { events, outcome, replayed, durable, again } = decision;
        let created = matches!(command, Command::CreateEnvelope(_)) && !replayed && !events.is_empty();
        let prepared = if created { drawn.take_envelope() } else { None };
        let staged = self.carry_out(&mut locked, now, events, prepared);
        if let Command::Grab { envelope, .. } | Command::Claim { envelope, .. } | Command::Cancel { envelope } = command
        {
            locked.shard_mut(self.router.envelope(*envelope)).asked_envelope(*envelope, now);
        }
        let durable = durable && !(staged.is_none() && is_planted(Mutant::RepeatBeforeDurable));
        let wait = durable.then(|| staged.unwrap_or_else(|| locked.last_lsn()));
        drop(locked);
        if let Some(chores) = again {
            return Err(Miss::InTheWay(chores));
        }
        if let (Command::AdvanceClock { by_s }, Outcome::Clock(_), false) = (command, &outcome, replayed) {
            self.clock.advance(by_s.saturating_mul(1000));
        }
        Ok(Done { reply: Reply { outcome, replayed }, wait })
    }

    /// Stages a record and applies it, under the locks of all it touches.
    #[inline]
    fn carry_out(
        &self,
        locked: &mut Locked<'_>,
        now: Timestamp,
        mut events: Events,
        prepared: Option<Box<Envelope>>,
    ) -> Option<Lsn> {
        if events.is_empty() {
            return None;
        }
        if is_planted(Mutant::CreditInOwnRecord)
            && let Some(claimed) = events.iter().position(|event| matches!(event, Event::Claimed(_)))
            && claimed + 1 < events.len()
        {
            let first = events.drain(..=claimed).collect();
            self.carry_out(locked, now, first, None);
        }
        let lsn = self.stage(|bytes| event::encode(now, &events, bytes));
        if is_planted(Mutant::ProjectBeforeDurable)
            && let Some(durable) = &self.durable
        {
            let mut bytes = Vec::new();
            event::encode(now, &events, &mut bytes);
            durable.projector.offer(DurableBatch::copied(lsn, [&*bytes]));
        }
        apply(locked, self.router, now, lsn, events, prepared);
        Some(lsn)
    }

    #[inline]
    fn stage(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Lsn {
        match &self.log {
            Log::Journal(journal) => journal.stage(encode),
            Log::Off(count) => Lsn(count.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    /// Waits until everything up to `lsn` is durable.
    async fn wait(&self, lsn: Option<Lsn>) -> Result<(), EngineError> {
        if is_planted(Mutant::AnswerBeforeDurable) {
            return Ok(());
        }
        match (&self.log, lsn) {
            (Log::Journal(journal), Some(lsn)) => {
                journal.wait(lsn).await.map_err(|failed| EngineError::Journal(failed.to_string()))
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn admit(&self, class: Class) -> Result<(), EngineError> {
        let Log::Journal(journal) = &self.log else { return Ok(()) };
        journal.admit(class).map_err(|refused| match refused {
            Refused::StorageFull => EngineError::StorageFull,
            Refused::Backlog | Refused::ProjectionLag => EngineError::Overloaded,
            Refused::Failed => EngineError::Journal(refused.to_string()),
            Refused::Closed => EngineError::ShuttingDown,
        })
    }

    /// Locks the shard of something that everybody may want at once. Whoever
    /// has it gives it back within a microsecond: it is worth waiting for that
    /// long before the kernel is asked to wait.
    #[inline]
    fn lock_one(&self, index: usize) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[index];
        for _ in 0..SPINS {
            if let Some(guard) = shard.try_lock() {
                return guard;
            }
            std::hint::spin_loop();
        }
        shard.lock()
    }

    fn lock(&self, shards: &[usize]) -> Locked<'_> {
        debug_assert!(shards.is_sorted(), "shards are locked in index order");
        Locked { guards: shards.iter().map(|&index| (index, self.shards[index].lock())).collect() }
    }

    /// Invents what a command needs invented, and splits an envelope: before any lock.
    fn draw(&self, command: &Command, now: Timestamp) -> Drawn {
        match command {
            Command::CreateEnvelope(terms) => {
                let mut id = self.random::<16>();
                // See `EnvelopeId::is_auto_claim`. The bits beside it are for Redis, where a copy may
                // take this one: that of mass envelopes, and that of those that pay outside.
                let flags = EnvelopeId::MASS | EnvelopeId::OUTSIDE | 1;
                id[2] = id[2] & !flags | u8::from(terms.auto_claim) | terms.outside.payout.flag();
                let id = EnvelopeId::from_bytes(id);
                let mut envelope = Envelope::prepare((**terms).clone(), id, self.random(), now);
                if terms.outside.is_any() {
                    envelope.created.payout_secret = payout::secret_of(&self.fingerprint_secret, id);
                }
                Drawn::Envelope(Box::new(envelope), self.creates.as_ref().map(|cap| cap.at(now)))
            }
            Command::CreateItem(_) => Drawn::Item(ItemId::from_bytes(self.random())),
            Command::CreateApiKey(_) => Drawn::ApiKey(ApiKeyId::from_bytes(self.random())),
            Command::GrabItem { item, .. } => Drawn::Hold(self.draw_hold(*item)),
            Command::CreateGift(terms) => {
                let id = GiftId::from_bytes(self.random_beside(terms.item.bytes()));
                Drawn::Gift(id, GiftToken(self.random()))
            }
            Command::CreateGiftEnvelope(terms) => {
                let id = GiftEnvelopeId::from_bytes(self.random_beside(terms.item.bytes()));
                let gifts = (0..terms.units).map(|_| GiftId::from_bytes(self.random_beside(terms.item.bytes())));
                Drawn::Gifts(DrawnGifts { id, gifts: gifts.collect(), token: GiftToken(self.random()) })
            }
            Command::OpenGroup(terms) => {
                let item = terms.item.bytes();
                let group = GroupId::from_bytes(self.random_beside(item));
                Drawn::Group(group, OrderId::from_bytes(self.random_beside(item)))
            }
            Command::JoinGroup { group, .. } => Drawn::Order(OrderId::from_bytes(self.random_beside(group.bytes()))),
            Command::AddCodes { item, codes } => Drawn::Codes(CodeDigest::of_all(*item, codes)),
            Command::CreatePayment(terms) => {
                Drawn::Payment(PaymentId::from_bytes(self.random_beside(terms.purpose.bytes())))
            }
            Command::ClaimHold { hold, .. } => Drawn::Order(OrderId::from_bytes(self.random_beside(hold.bytes()))),
            Command::Deposit(_)
            | Command::Withdraw(_)
            | Command::Grab { .. }
            | Command::Claim { .. }
            | Command::Cancel { .. }
            | Command::PutMerchant(_)
            | Command::ChangeItem { .. }
            | Command::Restock { .. }
            | Command::ReleaseHold { .. }
            | Command::AdvanceClock { .. }
            | Command::DeleteApiKey { .. }
            | Command::PayoutResults(_)
            | Command::Redact { .. }
            | Command::StepGift { .. }
            | Command::RedactGift { .. }
            | Command::StepOrder { .. }
            | Command::PutRelations(_)
            | Command::GrabGift { .. }
            | Command::StepGiftEnvelope { .. }
            | Command::TellPayment { .. }
            | Command::LeaveGroup { .. }
            | Command::WithdrawSales(_) => Drawn::Nothing,
        }
    }

    fn draw_hold(&self, item: ItemId) -> HoldId {
        HoldId::from_bytes(self.random_beside(item.bytes()))
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// Random but for the two bytes that lead to the same shard.
    fn random_beside(&self, id: &[u8; 16]) -> [u8; 16] {
        let mut bytes = self.random::<16>();
        bytes[..2].copy_from_slice(&id[..2]);
        bytes
    }

    /// The shards to lock for a command, and what has to be in memory. Links
    /// that it has to look up (an envelope's sender, an item's merchant) never
    /// change, so what was read under one lock holds under the next. `None`
    /// when what the command is about is not in memory.
    #[inline]
    fn footprint(&self, command: &Command, drawn: &Drawn, keys: &Keys) -> Result<Option<Footprint>, EngineError> {
        let router = self.router;
        let mut footprint = Footprint::default();
        match (command, drawn) {
            (Command::Grab { envelope, user }, _) => {
                footprint.shards.push(router.envelope(*envelope));
                if envelope.is_auto_claim() {
                    footprint.wallet(router, user);
                }
            }
            (Command::Claim { envelope, user }, _) => {
                footprint.shards.push(router.envelope(*envelope));
                footprint.wallet(router, user);
            }
            (Command::Cancel { envelope }, _) => {
                let index = router.envelope(*envelope);
                let sender = {
                    let shard = self.shards[index].lock();
                    shard.envelopes.get(envelope).map(|found| found.created.terms.sender.clone())
                };
                footprint.shards.push(index);
                // Gone from memory, its answer may still be kept under a key.
                if let Some(sender) = sender {
                    footprint.wallet(router, &sender);
                }
            }
            (Command::Deposit(transfer) | Command::Withdraw(transfer), _) => {
                footprint.shards.push(Router::EXTERNAL);
                footprint.wallet(router, &transfer.user);
            }
            (Command::CreateEnvelope(terms), Drawn::Envelope(envelope, allowance)) => {
                footprint.shards.push(router.envelope(envelope.id()));
                footprint.shards.push(router.user(&terms.sender));
                footprint.made = allowance.as_ref().map(|it| (terms.sender.clone(), it.day.clone(), it.most));
                match terms.outside.funding {
                    Some(_) => footprint.shards.push(Router::EXTERNAL),
                    None => footprint.wallet(router, &terms.sender),
                }
            }
            // Each grab looks in its own item's shard whether the merchant may sell.
            (Command::PutMerchant(_), _) => footprint.shards.extend(router.all()),
            (Command::CreateItem(terms), Drawn::Item(id)) => {
                footprint.shards.push(router.item(*id));
                footprint.shards.push(router.user(&terms.merchant));
                footprint.shards.extend(terms.origin.variant_of.map(|of| router.item(of)));
            }
            (Command::ChangeItem { item, .. } | Command::Restock { item, .. } | Command::GrabItem { item, .. }, _) => {
                footprint.shards.push(router.item(*item));
            }
            (Command::ClaimHold { hold, user }, _) => {
                let index = router.hold(*hold);
                let merchant = {
                    let shard = self.shards[index].lock();
                    let item = shard.item_of_hold(hold).and_then(|item| shard.items.get(&item));
                    item.map(|item| item.put.terms.merchant.clone())
                };
                let Some(merchant) = merchant else { return Ok(None) };
                footprint.shards.push(index);
                footprint.shards.push(router.user(&merchant));
                footprint.wallet(router, user);
            }
            (Command::ReleaseHold { hold, .. }, _) => footprint.shards.push(router.hold(*hold)),
            (Command::AdvanceClock { .. }, _) => {
                if !self.test_mode {
                    return Err(EngineError::NotReady("the clock can be moved only in test mode".to_owned()));
                }
                footprint.shards.push(Router::EXTERNAL);
            }
            (Command::CreateApiKey(_) | Command::DeleteApiKey { .. }, _) => footprint.shards.push(Router::API_KEYS),
            (Command::PayoutResults(results), _) => {
                footprint.payouts.extend(results.iter().map(|result| result.payout));
                footprint.shards.extend(footprint.payouts.iter().map(|id| router.payout(*id)));
            }
            (Command::CreateGift(terms), Drawn::Gift(..)) => {
                footprint.shards.push(router.item(terms.item));
                if terms.payer == terms.giver {
                    footprint.wallet(router, &terms.payer);
                }
                let others = [Some(&terms.payer), terms.recipient.as_ref()];
                others.into_iter().flatten().for_each(|other| footprint.pair(router, &terms.giver, other));
            }
            (Command::StepGift { gift, step }, _) => {
                // Gone from memory, an answer may still be kept under a key.
                match self.gift_footprint(*gift, &mut footprint)? {
                    None => footprint.shards.push(router.gift(*gift)),
                    Some(giver) => {
                        step.comes_to().into_iter().for_each(|user| footprint.pair(router, &giver, user));
                    }
                }
            }
            (Command::CreateGiftEnvelope(terms), Drawn::Gifts(_)) => {
                footprint.shards.push(router.item(terms.item));
                if terms.payer == terms.giver {
                    footprint.wallet(router, &terms.payer);
                }
                footprint.pair(router, &terms.giver, &terms.payer);
            }
            (Command::GrabGift { envelope, .. } | Command::StepGiftEnvelope { envelope, .. }, _) => {
                self.gift_envelope_footprint(*envelope, command, &mut footprint)?;
            }
            (Command::PutRelations(rows), _) => self.relations_footprint(rows, &mut footprint),
            (Command::StepOrder { order, step }, _) => {
                if !self.order_footprint(*order, step, &mut footprint)? {
                    footprint.shards.push(router.order(*order));
                }
            }
            (Command::CreatePayment(terms), Drawn::Payment(_)) => match terms.purpose {
                PaymentFor::Hold(hold) => footprint.shards.push(router.hold(hold)),
                PaymentFor::Gift(gift) => match self.gift_footprint(gift, &mut footprint)? {
                    None => footprint.shards.push(router.gift(gift)),
                    Some(giver) => footprint.pair(router, &giver, &terms.payer),
                },
            },
            (Command::TellPayment { payment, .. }, _) => self.payment_footprint(*payment, &mut footprint)?,
            (Command::AddCodes { item, .. }, Drawn::Codes(digests)) => {
                footprint.shards.push(router.item(*item));
                footprint.codes = Some((*item, digests.clone()));
            }
            (Command::OpenGroup(terms), Drawn::Group(..)) => {
                footprint.shards.push(router.item(terms.item));
                footprint.wallet(router, &terms.leader);
            }
            (Command::JoinGroup { group, user }, _) => self.group_footprint(*group, Some(user), &mut footprint)?,
            (Command::LeaveGroup { group, user }, _) => self.group_footprint(*group, Some(user), &mut footprint)?,
            (
                Command::CreateEnvelope(_)
                | Command::CreateItem(_)
                | Command::CreateGift(_)
                | Command::CreateGiftEnvelope(_)
                | Command::CreatePayment(_)
                | Command::AddCodes { .. }
                | Command::OpenGroup(_),
                _,
            ) => {
                unreachable!("a command that makes something comes with an id for it")
            }
            (Command::WithdrawSales(transfer), _) => {
                footprint.shards.extend([Router::EXTERNAL, router.user(&transfer.user)]);
            }
            (Command::Redact { .. } | Command::RedactGift { .. }, _) => {
                unreachable!("a redaction finds out for itself what it needs")
            }
        }
        for key in keys.each() {
            footprint.memos.push(key);
            footprint.shards.push(router.memo(key));
        }
        footprint.sort();
        Ok(Some(footprint))
    }

    /// Decides housekeeping and carries it out. Says whether anything was due.
    fn run_due(&self, footprint: &Footprint, due: impl FnOnce(&Locked<'_>, Timestamp) -> Events) -> Result<bool, Miss> {
        let mut locked = self.lock(&footprint.shards);
        if !self.is_warm(&locked, footprint) {
            return Err(Miss::Again);
        }
        let now = self.clock.now();
        let events = due(&locked, now);
        Ok(self.carry_out(&mut locked, now, events, None).is_some())
    }
}

/// The users of the grabs of one envelope with which these commands begin, at most [`RUN_MAX`];
/// none if they begin otherwise, or with a grab that needs more than its envelope.
fn users_of_run(commands: &[Command]) -> SmallVec<[&UserId; RUN_MAX]> {
    let Some(Command::Grab { envelope: first, .. }) = commands.first() else { return SmallVec::new() };
    if first.is_auto_claim() {
        return SmallVec::new();
    }
    let grabs = commands.iter().take(RUN_MAX).map_while(|command| match command {
        Command::Grab { envelope, user } if envelope == first => Some(user),
        _ => None,
    });
    grabs.collect()
}

impl Footprint {
    fn wallet(&mut self, router: Router, user: &UserId) {
        self.shards.push(router.user(user));
        self.wallets.push(user.clone());
    }

    fn sort(&mut self) {
        self.shards.sort_unstable();
        self.shards.dedup();
    }
}

fn no(outcome: Outcome) -> Done {
    Done { reply: Reply { outcome, replayed: false }, wait: None }
}

/// What goes first when something is short: claims and refunds before grabs
/// before what makes new obligations.
fn class_of(command: &Command) -> Class {
    match command {
        Command::Deposit(_)
        | Command::CreateEnvelope(_)
        | Command::PutMerchant(_)
        | Command::CreateItem(_)
        | Command::ChangeItem { .. }
        | Command::Restock { .. }
        | Command::CreateApiKey(_)
        | Command::CreateGift(_)
        | Command::AddCodes { .. }
        | Command::PutRelations(_)
        | Command::CreateGiftEnvelope(_)
        | Command::OpenGroup(_) => Class::Create,
        Command::Grab { .. }
        | Command::GrabItem { .. }
        | Command::GrabGift { .. }
        | Command::CreatePayment(_)
        | Command::JoinGroup { .. } => Class::Grab,
        Command::Withdraw(_)
        | Command::Claim { .. }
        | Command::Cancel { .. }
        | Command::ClaimHold { .. }
        | Command::ReleaseHold { .. }
        | Command::AdvanceClock { .. }
        | Command::DeleteApiKey { .. }
        | Command::PayoutResults(_)
        | Command::Redact { .. }
        | Command::StepGift { .. }
        | Command::RedactGift { .. }
        | Command::StepOrder { .. }
        | Command::StepGiftEnvelope { .. }
        | Command::TellPayment { .. }
        | Command::LeaveGroup { .. }
        | Command::WithdrawSales(_) => Class::Settle,
    }
}

/// Replays a record into shards nobody else has yet.
struct Unshared<'a>(&'a mut [CachePadded<Mutex<Shard>>]);

impl Shards for Unshared<'_> {
    fn shard(&self, _index: usize) -> &Shard {
        unreachable!("replay applies and never decides")
    }

    fn shard_mut(&mut self, index: usize) -> &mut Shard {
        self.0[index].get_mut()
    }
}

impl Event {
    /// The user whose wallet the event moves.
    fn wallet(&self) -> Option<&UserId> {
        match self {
            Event::WalletMoved(moved) => Some(&moved.user),
            _ => None,
        }
    }
}
