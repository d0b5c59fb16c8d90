//! The feed in front of Redis: what scripts tell of a bucket stands among its
//! sums, numbered without gaps, and a position is a number for each bucket.
//!
//! **Invariant:** what is told is confirmed: it is read by calls that ask for
//! that. So a number whose event was told never stands for another one, whatever
//! fails over.

use super::backend::{Core, Result};
use super::bucket::Bucket;
use super::commands::hold_view;
use super::gifts::gift_of_bytes;
use super::orders::order_of;
use super::reply::{Answer, damaged};
use super::sales;
use super::scripts::{TELLING, TOLD};
use crate::command::{EndedAs, Merchant, OrderView, Verification};
use crate::error::EngineError;
use crate::event::{EnvelopeCreated, ItemPut};
use crate::feed::{
    After, EnvelopeFacts, EventPage, EventQuery, EventType, EventTypes, FeedEvent, Happened, Moved, Share,
};
use crate::gift::Gift;
use crate::order::OrderProgress;
use crate::payout::{Payout, PayoutKind, PayoutState};
use crate::redaction::{GiftRedaction, Redaction};
use crate::state::envelope::Figures;
use crate::types::{EnvelopeId, GiftId, HoldId, ItemId, OrderId, PayoutId, Timestamp};
use futures_util::future::try_join_all;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What cursors of this feed are sealed as.
const KIND: u8 = 2;
/// How often it is looked whether more has happened while somebody waits.
const LOOK: Duration = Duration::from_millis(100);
/// Envelopes of which it is remembered what never changes.
const FACTS_MAX: usize = 10_000;

/// Which events are told of a deployment in Redis, and for how long they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisEvents {
    /// Which.
    pub told: ToldEvents,
    /// How long, seconds.
    pub kept_s: u64,
    /// How many at most, of all buckets together; each takes some 200 bytes of Redis.
    pub kept_max: u64,
}

/// Which events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldEvents {
    /// None: nothing is written for them.
    None,
    /// All but those that come by the million: [`EventTypes::USUAL`].
    Usual,
    /// All.
    All,
}

impl Default for RedisEvents {
    fn default() -> RedisEvents {
        RedisEvents { told: ToldEvents::Usual, kept_s: 3 * 86_400, kept_max: 1_000_000 }
    }
}

impl ToldEvents {
    fn word(self) -> &'static [u8] {
        match self {
            ToldEvents::None => b"",
            ToldEvents::Usual => b"usual",
            ToldEvents::All => b"all",
        }
    }

    /// Those that are not told.
    fn lacks(self) -> EventTypes {
        match self {
            ToldEvents::None => EventTypes::ALL,
            ToldEvents::Usual => EventTypes::of(EventType::ShareGrabbed).or(EventTypes::of(EventType::HoldHeld)),
            ToldEvents::All => EventTypes::NONE,
        }
    }
}

/// What is remembered of envelopes, which never changes.
pub(super) type KnownFacts = parking_lot::Mutex<HashMap<EnvelopeId, Arc<EnvelopeFacts>>>;

/// What a bucket tells behind a number.
struct Found {
    bucket: Bucket,
    /// The oldest that is kept, and the last there is.
    from: u64,
    last: u64,
    /// From the first that was asked for on.
    events: Vec<Vec<u8>>,
}

/// An event as it stands in its bucket.
struct Entry {
    at: Timestamp,
    bucket: Bucket,
    number: u64,
    bytes: Vec<u8>,
}

impl Core {
    /// Has the bucket tell what is to be told, and forgets what need not be kept.
    /// Says whether there may be more to forget.
    pub(super) async fn tend_events(&self, bucket: Bucket) -> Result<bool> {
        let RedisEvents { told, kept_s, kept_max } = self.events;
        let before_ms = self.clock.now().ms().saturating_sub(kept_s.saturating_mul(1000));
        let kept_max = (kept_max / u64::from(self.layout.buckets)).max(1);
        let args = [told.word().to_vec(), text(before_ms), text(kept_max)];
        // No call of a command, so no test ends an engine here.
        let value = self.nodes.call(bucket, &TELLING, &[self.layout.sums(bucket)], &args, false).await?;
        Ok(Answer::read(value)?.flag(0))
    }

    /// The same in every bucket, until nothing is left to forget.
    pub(super) async fn tend_all_events(self: &Arc<Self>) -> Result<()> {
        let tended = self.in_every_bucket(|core, bucket| async move {
            while core.tend_events(bucket).await? {}
            Ok(())
        });
        tended.await.map(drop)
    }

    pub(super) async fn feed(self: &Arc<Self>, query: &EventQuery) -> Result<EventPage> {
        let lacking = self.events.told.lacks();
        if query.types != EventTypes::USUAL && query.types.any_of(lacking) || lacking == EventTypes::ALL {
            return Err(EngineError::EventsOff(lacking));
        }
        let buckets = usize::from(self.layout.buckets);
        let mut position = match &query.after {
            After::Cursor(cursor) => self.open_position(cursor)?,
            After::Oldest | After::Now => vec![0; buckets],
        };
        let each = match query.after {
            After::Now => 0,
            _ => query.limit * 2 / buckets + 8,
        };
        let mut found = self.found(&position, each, true).await?;
        found.sort_by_key(|found| found.bucket.number());
        let until = query.until.as_ref().map(|cursor| self.open_position(cursor)).transpose()?;
        let is_gone = matches!(query.after, After::Cursor(_))
            && found.iter().zip(&position).any(|(found, &behind)| behind + 1 < found.from || behind > found.last);
        let is_until_gone = until.iter().any(|until| found.iter().zip(until).any(|(found, &until)| until > found.last));
        if is_gone || is_until_gone {
            let oldest: Vec<u64> = found.iter().map(|found| found.from - 1).collect();
            return Err(EngineError::CursorGone { oldest: self.seal_position(&oldest) });
        }
        let mut entries = Vec::new();
        let mut is_end = true;
        for (found, behind) in found.into_iter().zip(&mut position) {
            *behind = match query.after {
                After::Now => found.last,
                _ => (*behind).max(found.from - 1),
            };
            // What is told later may have an earlier time: where a page ends is said by numbers only.
            let last = until.as_ref().map_or(found.last, |until| until[usize::from(found.bucket.number())]);
            is_end &= *behind + found.events.len() as u64 >= last;
            for (bytes, number) in found.events.into_iter().zip(*behind + 1..=last) {
                let at = at_of(&bytes)?;
                entries.push(Entry { at, bucket: found.bucket, number, bytes });
            }
        }
        entries.sort_by_key(|entry| (entry.at, entry.bucket.number(), entry.number));
        // Within a bucket its own order counts, also where a time stood before another.
        let mut events = Vec::new();
        let mut by_bucket: HashMap<u16, std::collections::VecDeque<(u64, Vec<u8>, Timestamp)>> = HashMap::new();
        let order: Vec<u16> = entries.iter().map(|entry| entry.bucket.number()).collect();
        entries.sort_by_key(|entry| (entry.bucket.number(), entry.number));
        let redactions = self.redactions_of(&entries).await?;
        for Entry { at, bucket, number, bytes } in entries {
            by_bucket.entry(bucket.number()).or_default().push_back((number, bytes, at));
        }
        for bucket in order {
            if events.len() == query.limit {
                is_end = false;
                break;
            }
            let next = by_bucket.get_mut(&bucket).and_then(std::collections::VecDeque::pop_front);
            let (number, bytes, at) = next.expect("as many as were counted");
            position[usize::from(bucket)] = number;
            let Some(what) = self.happened(&bytes, query.types, &redactions).await? else { continue };
            if query.owner.as_deref().is_some_and(|wanted| what.owner() != Some(wanted)) {
                continue;
            }
            let id = self.seal.id(&[&bucket.to_le_bytes(), &number.to_le_bytes()], at);
            events.push(FeedEvent { id, at, what, cursor: self.seal_position(&position) });
        }
        Ok(EventPage { events, next: self.seal_position(&position), is_end })
    }

    async fn found(self: &Arc<Self>, position: &[u64], each: usize, confirm: bool) -> Result<Vec<Found>> {
        let position = Arc::new(position.to_vec());
        self.in_every_bucket(|core, bucket| {
            let behind = position[usize::from(bucket.number())];
            async move {
                let args = [text(behind), text(each as u64)];
                let sums = [core.layout.sums(bucket)];
                let answer = Answer::read(core.call(bucket, &TOLD, &sums, &args, confirm).await?)?;
                let events = (3..answer.len()).map(|index| answer.bytes(index).map(<[u8]>::to_vec));
                let events = events.collect::<Result<Vec<_>>>()?;
                Ok(Found { bucket, from: answer.number(0)?.max(1), last: answer.number(1)?, events })
            }
        })
        .await
    }

    /// Waits until another number of events has been told than stands for `mark`.
    pub(super) async fn more_events(self: &Arc<Self>, mark: u64) -> Result<u64> {
        loop {
            let found = self.found(&vec![u64::MAX >> 12; usize::from(self.layout.buckets)], 0, false).await?;
            let told: u64 = found.iter().map(|found| found.last).sum();
            if told + 1 != mark {
                return Ok(told + 1);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn seal_position(&self, position: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(3 * position.len());
        for &number in position {
            let mut rest = number;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        self.seal.seal(KIND, &bytes)
    }

    fn open_position(&self, cursor: &[u8]) -> Result<Vec<u64>> {
        let bytes = self.seal.open(KIND, cursor).ok_or(EngineError::Cursor)?;
        let (mut position, mut number, mut shift) = (Vec::new(), 0u64, 0);
        for byte in bytes {
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte < 0x80 {
                position.push(std::mem::take(&mut number));
                shift = 0;
            }
        }
        // How many buckets a deployment has is fixed.
        if position.len() == usize::from(self.layout.buckets) { Ok(position) } else { Err(EngineError::Cursor) }
    }

    /// What was taken back of the gifts that entries tell of.
    async fn redactions_of(&self, entries: &[Entry]) -> Result<GiftRedactions> {
        let mut by_bucket: HashMap<u16, BTreeSet<GiftId>> = HashMap::new();
        for Entry { bucket, bytes, .. } in
            entries.iter().filter(|entry| matches!(entry.bytes.first(), Some(b'G' | b'R')))
        {
            by_bucket.entry(bucket.number()).or_default().insert(told_gift(bytes)?.id);
        }
        let asked = by_bucket
            .into_iter()
            .map(|(bucket, ids)| self.gift_redactions(Bucket::new(bucket), ids.into_iter().collect()));
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    /// What an entry tells, if it is of these types.
    async fn happened(&self, bytes: &[u8], types: EventTypes, redactions: &GiftRedactions) -> Result<Option<Happened>> {
        let wrong = || damaged("an event");
        let (&kind, rest) = bytes.split_first().ok_or_else(wrong)?;
        let of = match kind {
            b'c' => EventType::EnvelopeCreated,
            b's' => EventType::EnvelopeSoldOut,
            b'x' => EventType::EnvelopeExpired,
            b'n' => EventType::EnvelopeCancelled,
            b't' => EventType::EnvelopeSettled,
            b'g' => EventType::ShareGrabbed,
            b'k' => EventType::ShareClaimed,
            b'l' => EventType::ShareLapsed,
            b'd' => EventType::WalletDeposited,
            b'w' => EventType::WalletWithdrawn,
            b'i' => EventType::ItemPut,
            b'H' | b'h' => EventType::HoldHeld,
            b'o' | b'O' => EventType::OrderCreated,
            b'p' => EventType::PayoutDue,
            b'r' => EventType::EnvelopeRedacted,
            b'm' => EventType::MerchantChanged,
            b'y' => EventType::MerchantSettled,
            b'G' => EventType::GiftOffered,
            b'R' => EventType::GiftRedacted,
            _ => return Err(wrong()),
        };
        // How a hold ended is told by the hold, how a payout, a gift or an order stands by itself.
        if !matches!(kind, b'h' | b'p' | b'G' | b'O') && !types.has(of) {
            return Ok(None);
        }
        let words = |most: usize| Answer::split(rest.to_vec(), most);
        let envelope =
            |id: &[u8]| -> Result<EnvelopeId> { Ok(EnvelopeId::from_bytes(id.try_into().map_err(|_| wrong())?)) };
        Ok(Some(match kind {
            b'c' => {
                let words = words(2);
                let created = self.created_of(envelope(words.bytes(1)?)?).await?;
                Happened::Created(Box::new(Figures::FRESH.view(&created, words.at(0)?)))
            }
            b's' => Happened::SoldOut(self.facts(envelope(words(2).bytes(1)?)?).await?),
            b'x' | b'n' | b'l' => {
                let words = words(3);
                let (amount, envelope) = (words.amount(1)?, self.facts(envelope(words.bytes(2)?)?).await?);
                match kind {
                    b'x' => Happened::Expired { envelope, refunded: amount },
                    b'n' => Happened::Cancelled { envelope, refunded: amount },
                    _ => Happened::Lapsed { envelope, amount },
                }
            }
            b't' => {
                let words = words(4);
                let ended_as = match words.bytes(1)? {
                    b"s" => EndedAs::SoldOut,
                    b"e" => EndedAs::Expired,
                    b"c" => EndedAs::Cancelled,
                    _ => return Err(wrong()),
                };
                let (refunded, created) = (words.amount(2)?, self.created_of(envelope(words.bytes(3)?)?).await?);
                let claimed = created.terms.total.checked_sub(refunded).ok_or_else(wrong)?;
                Happened::Settled { envelope: EnvelopeFacts::of(&created), ended_as, claimed, refunded }
            }
            b'g' | b'k' => {
                let words = words(5);
                let (id, user) = words.bytes(4)?.split_first_chunk::<16>().ok_or_else(wrong)?;
                let share = Share {
                    envelope: self.facts(EnvelopeId::from_bytes(*id)).await?,
                    share: words.units(1)?,
                    amount: words.amount(2)?,
                    user: user_of(user)?,
                    grabbed_at: words.at(3)?,
                };
                if kind == b'g' { Happened::Grabbed(share) } else { Happened::Claimed(share) }
            }
            b'd' | b'w' => {
                let words = words(5);
                let reference = words.text(4)?.strip_prefix('r').map(str::to_owned);
                let moved =
                    Moved { user: words.user(3)?, amount: words.amount(1)?, available: words.amount(2)?, reference };
                if kind == b'd' { Happened::Deposited(moved) } else { Happened::Withdrawn(moved) }
            }
            b'i' => {
                let words = words(4);
                let (id, terms) = words.bytes(3)?.split_first_chunk::<16>().ok_or_else(wrong)?;
                let terms = postcard::from_bytes(terms).map_err(|_| wrong())?;
                let (id, created_at) = (ItemId::from_bytes(*id), words.at(1)?);
                Happened::Item(Box::new(ItemPut { id, created_at, terms, stock_total: words.units(2)? }))
            }
            b'H' | b'h' => {
                let words = words(2);
                let (id, packed) = words.bytes(1)?.split_first_chunk::<16>().ok_or_else(wrong)?;
                let hold = Happened::Hold(Box::new(hold_view(HoldId::from_bytes(*id), packed)?));
                if !types.has(hold.event_type()) {
                    return Ok(None);
                }
                hold
            }
            b'o' => {
                let words = words(5);
                let (order, rest) = words.bytes(4)?.split_first_chunk::<16>().ok_or_else(wrong)?;
                let (hold, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
                let (item, user) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
                Happened::Order(Box::new(OrderView {
                    id: OrderId::from_bytes(*order),
                    hold: HoldId::from_bytes(*hold),
                    item: ItemId::from_bytes(*item),
                    merchant: words.user(3)?,
                    user: user_of(user)?,
                    quantity: words.units(1)?,
                    amount: words.amount(2)?,
                    created_at: words.at(0)?,
                    progress: OrderProgress::default(),
                }))
            }
            b'O' => {
                let order = Happened::Order(Box::new(order_of(words(2).bytes(1)?)?));
                if !types.has(order.event_type()) {
                    return Ok(None);
                }
                order
            }
            b'p' => {
                let payout = payout_of(&words(8))?;
                if !types.has(EventType::of_payout(payout.state)) {
                    return Ok(None);
                }
                Happened::Payout(Box::new(self.facts(payout.envelope).await?.paying(payout)))
            }
            b'r' => {
                let words = words(4);
                let redaction = Redaction { at: words.at(1)?, metadata: words.flag(2) };
                Happened::Redacted { envelope: self.facts(envelope(words.bytes(3)?)?).await?, redaction }
            }
            b'G' => {
                let mut gift = told_gift(bytes)?;
                gift.tell(redactions.get(&gift.id).copied());
                if !types.has(EventType::of_gift(gift.state)) {
                    return Ok(None);
                }
                Happened::Gift(Box::new(gift))
            }
            b'R' => {
                let mut gift = told_gift(bytes)?;
                gift.tell(redactions.get(&gift.id).copied());
                Happened::GiftRedacted(Box::new(gift))
            }
            b'm' => Happened::Merchant(Box::new(merchant_of(&words(9))?)),
            b'y' => Happened::SalesSettled(Box::new(sales::settled(&words(7))?)),
            _ => unreachable!("other kinds were refused"),
        }))
    }

    async fn created_of(&self, id: EnvelopeId) -> Result<EnvelopeCreated> {
        self.created(id).await?.ok_or_else(|| damaged("an envelope that an event tells of"))
    }

    async fn facts(&self, id: EnvelopeId) -> Result<EnvelopeFacts> {
        if let Some(known) = self.known_facts.lock().get(&id) {
            return Ok((**known).clone());
        }
        let facts = Arc::new(EnvelopeFacts::of(&self.created_of(id).await?));
        let mut known = self.known_facts.lock();
        if known.len() >= FACTS_MAX {
            known.clear();
        }
        known.insert(id, Arc::clone(&facts));
        Ok((*facts).clone())
    }
}

/// What was taken back of gifts, of those of which anything was.
type GiftRedactions = HashMap<GiftId, GiftRedaction>;

/// A gift as an entry has it.
fn told_gift(bytes: &[u8]) -> Result<Gift> {
    gift_of_bytes(Answer::split(bytes[1..].to_vec(), 2).bytes(1)?)
}

/// A payout as payout.lua tells it.
fn payout_of(words: &Answer) -> Result<Payout> {
    let wrong = || damaged("an event");
    let &[state, kind] = words.bytes(1)? else { return Err(wrong()) };
    let (id, rest) = words.bytes(7)?.split_first_chunk::<16>().ok_or_else(wrong)?;
    let (envelope, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
    let (user, rest) = rest.split_at_checked(words.units(5)? as usize).ok_or_else(wrong)?;
    let (reference, reason) = rest.split_at_checked(words.units(6)? as usize).ok_or_else(wrong)?;
    let told = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
        Ok::<_, EngineError>((!text.is_empty()).then(|| text.to_owned()))
    };
    Ok(Payout {
        id: PayoutId::from_bytes(*id),
        kind: match kind {
            b'w' => PayoutKind::Win,
            b'r' => PayoutKind::Refund,
            _ => return Err(wrong()),
        },
        user: user_of(user)?,
        amount: words.amount(2)?,
        envelope: EnvelopeId::from_bytes(*envelope),
        state: PayoutState::ALL.into_iter().find(|it| it.letter() == state).ok_or_else(wrong)?,
        attempts: words.units(3)?,
        reference: told(reference)?,
        reason: told(reason)?,
        created_at: words.at(4)?,
        changed_at: words.at(0)?,
    })
}

/// A merchant as merchant.lua tells it.
fn merchant_of(words: &Answer) -> Result<Merchant> {
    let wrong = || damaged("an event");
    let (by, rest) = words.bytes(8)?.split_at_checked(words.units(6)? as usize).ok_or_else(wrong)?;
    let (reference, name) = rest.split_at_checked(words.units(7)? as usize).ok_or_else(wrong)?;
    let told = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| wrong());
    let (by, reference, at) = (told(by)?, told(reference)?, words.at(3)?);
    let reference = Some(reference).filter(|reference| !reference.is_empty());
    let verification = (at > Timestamp::default()).then_some(Verification { by, reference, at });
    let (id, status, terms) = (words.user(2)?, words.merchant_status(1)?, sales::terms(words, 4)?);
    Ok(Merchant { id, name: told(name)?, status, verification, terms })
}

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn user_of(bytes: &[u8]) -> Result<crate::types::UserId> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| crate::types::UserId::new(text).ok()).ok_or_else(|| damaged("an event"))
}

/// When it happened: the number behind the kind.
fn at_of(bytes: &[u8]) -> Result<Timestamp> {
    Answer::split(bytes.get(1..).unwrap_or_default().to_vec(), 2).at(0)
}
