//! What crosses from bucket to bucket.
//!
//! A script writes what it causes elsewhere into its bucket's outbox, in the
//! same step as the cause. Whoever called it carries the effects to where they
//! belong, before it answers, and takes them out of the outbox a little later.
//! What an engine leaves when it ends in the middle the sweeper of any other carries.
//!
//! | field | effect |
//! | --- | --- |
//! | `f` envelope | a funded envelope opens |
//! | `g` envelope, user | a grab is listed with its user, and with `auto_claim` credited |
//! | `c` envelope, user | a share is credited |
//! | `e` envelope | the pools of a mass envelope are told how it has ended |
//! | `t` envelope, pool | a transfer is open with a pool of a mass envelope |
//! | `r` envelope, `l` envelope | what was unsold, what lapsed, goes back to the sender |
//! | the same four, `x` behind what they say | a payout of it is made instead of a credit |
//! | `p` order | a hold is being paid: debit, then end the hold either way |
//! | `m` order, `s` gift | a merchant is owed |
//! | `q` gift | a gift is being paid: debit, then the gift is paid or as before |
//! | `b` gift | a gift that came to nothing is paid back |
//! | `v` gift, `g` or `r` | a gift is listed with its giver, with its recipient |
//! | `o` order | an order goes back: its merchant's money is taken, then it is returned or as before |
//! | `u` order | what was paid for an order that went back |
//! | `k` merchant, turn | whether it may sell is told to every bucket |
//!
//! **Invariant:** an effect enters another bucket only when its cause is
//! confirmed, and leaves the outbox only when it is confirmed itself. It may
//! arrive any number of times: a mark under its id is written with it.

use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::layout::{Key, Layout};
use super::payouts::kind_name;
use super::reply::{Answer, Decided, Effect, Told, damaged};
use super::scripts::{CREDIT, HOLD, LET_SELL, LISTED, MERCHANT, PAY, PAY_OUT, READ, SETTLED};
use crate::payout::{CLAIM, PayoutKind};
use crate::types::{Amount, EnvelopeId, HoldId, ItemId, Timestamp, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Effects carried at once.
const CARRIED_AT_ONCE: usize = 64;
/// Effects taken out of outboxes at once.
const LEAVING_MAX: usize = 1024;

/// An effect that is where it belongs.
pub(super) struct Arrived {
    cause: Bucket,
    field: Vec<u8>,
}

/// Of each bucket, the last generation that is known to be confirmed. Asked for
/// before an effect is read, and carried with it: what is learned later says
/// nothing of the effect.
pub(super) struct Generations(Vec<AtomicU64>);

impl Generations {
    pub(super) fn of(buckets: u16) -> Generations {
        Generations((0..buckets).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn get(&self, bucket: Bucket) -> u64 {
        self.0[usize::from(bucket.number())].load(Ordering::Acquire)
    }

    fn learn(&self, bucket: Bucket, generation: u64) {
        self.0[usize::from(bucket.number())].fetch_max(generation, Ordering::AcqRel);
    }
}

/// Money or a row on its way to a user.
struct Credit<'a> {
    cause: Bucket,
    read_in: u64,
    /// Under which it waits in the outbox of its cause.
    field: &'a [u8],
    /// Under which it is entered, once.
    id: Vec<u8>,
    envelope: [u8; 16],
    at: Timestamp,
    user: &'a UserId,
    grabbed_at: Option<Timestamp>,
    kind: &'static str,
    amount: Option<Amount>,
    /// Whether it becomes a payout.
    is_outside: bool,
}

impl Core {
    /// Carries effects to where they belong, and what these cause in turn. They
    /// leave the outbox afterwards; no answer waits for that.
    pub(super) async fn carry(&self, cause: Bucket, effects: Vec<Effect>) -> Result<()> {
        let arrived = self.deliver_all(cause, effects).await?;
        arrived.into_iter().for_each(|field| self.leave(cause, field));
        Ok(())
    }

    /// The same, and waits until they have left the outbox.
    pub(super) async fn carry_out(&self, cause: Bucket, effects: Vec<Effect>) -> Result<()> {
        let arrived = self.deliver_all(cause, effects).await?;
        if !arrived.is_empty() {
            self.call(cause, &SETTLED, &[self.layout.outbox(cause)], &arrived, false).await?;
        }
        Ok(())
    }

    /// Carries effects. Tells the fields of those that may leave the outbox now.
    async fn deliver_all(&self, cause: Bucket, effects: Vec<Effect>) -> Result<Vec<Vec<u8>>> {
        let carried = stream::iter(effects).map(|effect| self.deliver(cause, effect)).buffer_unordered(CARRIED_AT_ONCE);
        carried.try_filter_map(|field| ready(Ok(field))).try_collect().await
    }

    /// Carries one effect. Tells its field, unless it has left the outbox already.
    async fn deliver(&self, cause: Bucket, effect: Effect) -> Result<Option<Vec<u8>>> {
        match effect.kind() {
            b'f' => self.open_envelope(cause, &effect).await?,
            b'g' | b'c' | b'r' | b'l' | b'b' | b'u' => self.credit(cause, &effect).await?,
            b'e' => self.tell_pools(&effect).await?,
            b't' => {
                // `reserve note` takes it out: by then another may be open.
                self.finish_transfer(EnvelopeId::from_bytes(effect.id()?), effect.pool()?).await?;
                return Ok(None);
            }
            b'm' | b's' => self.owe(&effect).await?,
            b'v' => self.list_gift(cause, &effect).await?,
            b'q' => {
                // The gift's own script takes it out.
                self.pay_gift(cause, &effect).await?;
                return Ok(None);
            }
            b'o' => {
                // The order's own script takes it out.
                self.give_back(cause, &effect).await?;
                return Ok(None);
            }
            b'k' => self.let_sell(&effect).await?,
            b'p' => {
                // The hold's own script takes it out.
                let natural = Operation { id: [0; 16], keep: Keep::Natural, bucket: cause };
                self.pay(&effect, &natural).await?;
                return Ok(None);
            }
            _ => return Err(damaged("an effect")),
        }
        Ok(Some(effect.field))
    }

    /// Takes an effect out of its outbox, soon.
    pub(super) fn leave(&self, cause: Bucket, field: Vec<u8>) {
        // Once the engine has been closed others do it.
        let _ = self.arrived.send(Arrived { cause, field });
    }

    /// Takes effects that have arrived out of their outboxes, all that wait at once.
    pub(super) async fn empty_outboxes(self: Arc<Self>, mut leaving: mpsc::UnboundedReceiver<Arrived>) {
        let mut waiting = Vec::with_capacity(LEAVING_MAX);
        while leaving.recv_many(&mut waiting, LEAVING_MAX).await > 0 {
            let mut by_bucket: HashMap<Bucket, Vec<Vec<u8>>> = HashMap::new();
            for Arrived { cause, field } in waiting.drain(..) {
                by_bucket.entry(cause).or_default().push(field);
            }
            let emptied = by_bucket.into_iter().map(|(cause, fields)| {
                let core = &self;
                async move { core.call(cause, &SETTLED, &[core.layout.outbox(cause)], &fields, false).await }
            });
            // What was not taken out arrives once more, and is taken out then.
            stream::iter(emptied).buffer_unordered(CARRIED_AT_ONCE).for_each(|_| ready(())).await;
        }
    }

    /// Fenced off: looks again whether an effect waits, and tells the generation in
    /// which it does. One that does not wait has arrived.
    pub(super) async fn waits_in(&self, cause: Bucket, field: &[u8]) -> Result<Option<u64>> {
        let words = |name: &[u8]| [b"row".to_vec(), name.to_vec()];
        let sums = self.call(cause, &READ, &[self.layout.sums(cause)], &words(b"generation"), true).await?;
        let sums = Answer::read(sums)?;
        let generation = if sums.maybe(0).is_some() { sums.number(0)? } else { 0 };
        self.generations.learn(cause, generation);
        // Behind it: as long as the effect waits, no generation begins that fences it off.
        let waits = self.call(cause, &READ, &[self.layout.outbox(cause)], &words(field), true).await?;
        Ok(Answer::read(waits)?.maybe(0).map(|_| generation))
    }

    pub(super) async fn credit(&self, cause: Bucket, effect: &Effect) -> Result<()> {
        let (at, words) = effect.words()?;
        let envelope = effect.id()?;
        let user = words.user(3)?;
        let amount = if words.maybe(2) == Some(b"") { None } else { Some(words.amount(2)?) };
        let marked = |kind: u8| [&[kind][..], &envelope].concat();
        let (id, kind, grabbed_at) = match effect.kind() {
            // A user has at most one share of an envelope.
            b'g' => (marked(b'c'), "c", Some(at)),
            b'c' => (marked(b'c'), "c", None),
            b'r' => (marked(b'r'), "r", None),
            b'b' => (marked(b'b'), "b", None),
            b'u' => (marked(b'u'), "u", None),
            _ => (marked(b'l'), "l", None),
        };
        let (field, read_in, is_outside) = (&effect.field, effect.read_in, is_outside(&words));
        let user = &user;
        self.enter(Credit { cause, read_in, field, id, envelope, at, user, grabbed_at, kind, amount, is_outside }).await
    }

    async fn enter(&self, mut credit: Credit<'_>) -> Result<()> {
        while !self.entered(&credit).await? {
            match self.waits_in(credit.cause, credit.field).await? {
                Some(generation) => credit.read_in = generation,
                None => break,
            }
        }
        Ok(())
    }

    /// Whether it is entered; otherwise rows have left since it was read.
    async fn entered(&self, credit: &Credit<'_>) -> Result<bool> {
        let ms = |at: Timestamp| at.ms().to_string().into_bytes();
        let bucket = self.layout.of_user(credit.user);
        let (received, fences) = (self.layout.received(credit.user), self.layout.fences(bucket));
        let [cause, generation] = as_read((credit.cause, credit.read_in));
        if let (Some(grabbed_at), None) = (credit.grabbed_at, credit.amount) {
            let args = [ms(grabbed_at), credit.envelope.to_vec(), cause, generation];
            let answer = Answer::read(self.call(bucket, &LISTED, &[received, fences], &args, true).await?)?;
            return Ok(answer.tag() != b"fenced");
        }
        if credit.is_outside {
            return self.paid_out(credit, received, fences).await;
        }
        let keys = [self.layout.wallet(credit.user), received, fences];
        let args = [
            credit.id.clone(),
            credit.envelope.to_vec(),
            ms(credit.at),
            credit.grabbed_at.map(ms).unwrap_or_default(),
            credit.kind.as_bytes().to_vec(),
            credit.amount.map(|amount| amount.to_string().into_bytes()).unwrap_or_default(),
            cause,
            generation,
        ];
        let answer = Answer::of_script(self.run(bucket, &CREDIT, keys, args).await?)?;
        Ok(answer.tag() != b"fenced")
    }

    /// The same of money that goes outside: a payout in the user's bucket.
    async fn paid_out(&self, credit: &Credit<'_>, received: Key, fences: Key) -> Result<bool> {
        let ms = |at: Timestamp| at.ms().to_string().into_bytes();
        let [cause, generation] = as_read((credit.cause, credit.read_in));
        let movement = credit.kind.as_bytes()[0];
        let kind = if movement == CLAIM { PayoutKind::Win } else { PayoutKind::Refund };
        let id = self.payout_id(EnvelopeId::from_bytes(credit.envelope), movement, credit.user);
        let keys = self.payout_keys(id).into_iter().chain([received, fences]);
        let args = [
            id.bytes().to_vec(),
            credit.envelope.to_vec(),
            ms(credit.at),
            credit.grabbed_at.map(ms).unwrap_or_default(),
            kind_name(kind).as_bytes().to_vec(),
            credit.amount.map(|amount| amount.to_string().into_bytes()).ok_or_else(|| damaged("a payout"))?,
            credit.user.as_str().as_bytes().to_vec(),
            cause,
            generation,
        ];
        let answer = Answer::of_script(self.run(self.layout.of_user(credit.user), &PAY_OUT, keys, args).await?)?;
        Ok(answer.tag() != b"fenced")
    }

    async fn owe(&self, effect: &Effect) -> Result<()> {
        let (_, words) = effect.words()?;
        let (order, merchant) = (effect.id()?, words.user(3)?);
        let operation = Operation { id: [0; 16], keep: Keep::Natural, bucket: self.layout.of_user(&merchant) };
        let keys = self.merchant_keys(&merchant);
        let of = if effect.kind() == b's' { b"g" } else { b"o" };
        let args = [b"owe".to_vec(), order.to_vec(), words.bytes(2)?.to_vec(), of.to_vec()];
        self.ask(&MERCHANT, &operation, keys, args).await.map(drop)
    }

    /// Tells every bucket whether a merchant may sell.
    async fn let_sell(&self, effect: &Effect) -> Result<()> {
        let (_, words) = effect.words()?;
        let args = [words.bytes(3)?.to_vec(), words.bytes(2)?.to_vec(), words.bytes(4)?.to_vec()];
        let told = self.layout.all().map(|bucket| {
            let args = &args;
            async move { self.call(bucket, &LET_SELL, &[self.layout.not_selling(bucket)], args, true).await.map(drop) }
        });
        stream::iter(told).buffer_unordered(CARRIED_AT_ONCE).try_collect().await
    }

    /// Ends the payment of a hold: its user's wallet decides, and then the hold
    /// is sold or held on. `None` if it could not be paid; `operation` is whose
    /// answer it is to be.
    pub(super) async fn pay(&self, effect: &Effect, operation: &Operation) -> Result<Option<Decided>> {
        let order = effect.id()?;
        let (begun_at, words) = effect.words()?;
        let (amount, user) = (words.bytes(2)?.to_vec(), words.user(3)?);
        let ids = words.bytes(4)?;
        let (hold, item) = ids.split_first_chunk::<16>().ok_or_else(|| damaged("a payment"))?;
        let item = ItemId::from_bytes(item.try_into().map_err(|_| damaged("a payment"))?);
        let hold = HoldId::from_bytes(*hold);

        let keys = [self.layout.wallet(&user), self.layout.unpaid(&user, &order)];
        let begun_at = begun_at.ms().to_string().into_bytes();
        let args = [order.to_vec(), amount, Keep::Repeats.word(), begun_at, b"o".to_vec()];
        let answer = Answer::of_script(self.run(self.layout.of_user(&user), &PAY, keys, args).await?)?;
        let paid = match answer.tag() {
            b"paid" => true,
            b"unpaid" => false,
            _ => return Err(damaged("a payment")),
        };
        let verb: &[u8] = if paid { b"paid" } else { b"unpaid" };
        let natural = Operation { keep: Keep::Natural, ..*operation };
        let under = if paid { operation } else { &natural };
        let args = [item.bytes().to_vec(), hold.bytes().to_vec(), user.as_str().as_bytes().to_vec(), order.to_vec()];
        let args: Vec<Vec<u8>> = [verb.to_vec()].into_iter().chain(args).collect();
        let mut decided = self.ask(&HOLD, under, self.hold_keys(item), args.clone()).await?;
        let is_void = matches!(decided, Decided::Void);
        if is_void {
            // Its key stands for something else by now; what was paid is an order all the same.
            decided = self.ask(&HOLD, &natural, self.hold_keys(item), args).await?;
        }
        if let Decided::New(Told { effects, .. }) | Decided::Kept(Told { effects, .. }) = &mut decided {
            for owed in std::mem::take(effects) {
                self.owe(&owed).await?;
                self.leave(operation.bucket, owed.field);
            }
        }
        let decided = if is_void { Decided::Void } else { decided };
        Ok(paid.then_some(decided))
    }

    /// Enters a grab that has just been told, as its effect would.
    pub(super) async fn enter_grab(
        &self,
        envelope: EnvelopeId,
        user: &UserId,
        at: Timestamp,
        amount: Option<Amount>,
        is_outside: bool,
        read_in: u64,
    ) -> Result<()> {
        let id = [b"c", &envelope.bytes()[..]].concat();
        let field = &[b"g", &envelope.bytes()[..], user.as_str().as_bytes()].concat();
        let (cause, envelope) = (self.layout.of_id(envelope.bytes()), *envelope.bytes());
        let (grabbed_at, kind) = (Some(at), "c");
        self.enter(Credit { cause, read_in, field, id, envelope, at, user, grabbed_at, kind, amount, is_outside }).await
    }

    /// The keys of `merchant.lua`.
    pub(super) fn merchant_keys(&self, id: &UserId) -> [Key; 6] {
        let (layout, bucket): (&Layout, _) = (&self.layout, self.layout.of_user(id));
        [
            layout.merchant(id),
            layout.owed(id),
            layout.merchants(bucket),
            layout.slots(id),
            layout.sales(id),
            layout.due(bucket),
        ]
    }

    /// The keys of `hold.lua`.
    pub(super) fn hold_keys(&self, item: ItemId) -> [Key; 7] {
        let bucket = self.layout.of_id(item.bytes());
        let layout: &Layout = &self.layout;
        [
            layout.item(item),
            layout.units(item),
            layout.live_holds(item),
            layout.holds_being_paid(item),
            layout.holds(bucket),
            layout.due(bucket),
            layout.orders(bucket),
        ]
    }

    /// The keys of `envelope.lua`.
    pub(super) fn envelope_keys(&self, id: EnvelopeId) -> [Key; 6] {
        let bucket = self.layout.of_id(id.bytes());
        [
            self.layout.envelope(id),
            self.layout.shares(id),
            self.layout.winners(id),
            self.layout.winners_in_order(id),
            self.layout.due(bucket),
            self.layout.settled(bucket),
        ]
    }
}

/// Whether money on its way to a user goes outside, by the words of its effect.
pub(super) fn is_outside(words: &Answer) -> bool {
    words.maybe(4) == Some(b"x")
}

/// By which words a script knows where and when an effect was read.
pub(super) fn as_read((cause, generation): (Bucket, u64)) -> [Vec<u8>; 2] {
    [u64::from(cause.number()), generation].map(|number| number.to_string().into_bytes())
}
