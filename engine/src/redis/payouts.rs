//! Payouts: each lies in the bucket of whoever gets it. One arrives there as a
//! credit would, by an effect under its own id, or is made where a pool is claimed.
//!
//! What is told of payouts is decided bucket by bucket under one operation, and then
//! answered under it: whoever ends in the middle leaves buckets that have decided
//! and say so again.
//!
//! **Invariant:** an id follows from the envelope, what the payout is for and whose it
//! is. So it is known before a script is asked, and made once.

use super::backend::{ASKED_AT_ONCE, Core, Operation, Result};
use super::bucket::Bucket;
use super::layout::{Key, Layout};
use super::lists::{Bounds, Place, Walk};
use super::reads::{List, cursor, position};
use super::reply::{Answer, Decided, Told, damaged};
use super::scripts::{OPERATION, RESULTS};
use crate::backend::{Listing, Page};
use crate::payout::{CLAIM, Payout, PayoutFilter, PayoutKind, PayoutResult, PayoutState, PayoutView, id_of, secret_of};
use crate::types::{EnvelopeId, PayoutId, Timestamp, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Lists run from the highest time to the lowest. A payout's is counted down from
/// here, so that the oldest comes first: see `payout.lua`.
pub(super) const COUNTED_FROM: u64 = 1 << 52;

/// How many rows are read together for a page, at least, since a filter may pass
/// over most; and at most.
const READ_MIN: usize = 64;
const READ_MAX: usize = 512;

/// The fields of a payout's row, in the order in which [`payout`] reads them.
pub(super) const FIELDS: [&str; 10] =
    ["envelope", "kind", "user", "amount", "state", "attempts", "reference", "reason", "created", "changed"];

/// A payout of its row, or none where there is no row.
pub(super) fn payout(id: PayoutId, row: &Answer) -> Result<Option<Payout>> {
    let wrong = || damaged("a payout");
    if row.maybe(0).is_none() {
        return Ok(None);
    }
    let text =
        |index: usize| Ok::<_, crate::EngineError>(Some(row.text(index)?.to_owned()).filter(|it| !it.is_empty()));
    Ok(Some(Payout {
        id,
        envelope: EnvelopeId::from_bytes(row.id(0)?),
        kind: match row.bytes(1)? {
            b"win" => PayoutKind::Win,
            b"refund" => PayoutKind::Refund,
            _ => return Err(wrong()),
        },
        user: row.user(2)?,
        amount: row.amount(3)?,
        state: PayoutState::ALL
            .into_iter()
            .find(|state| Some(state.name().as_bytes()) == row.maybe(4))
            .ok_or_else(wrong)?,
        attempts: row.units(5)?,
        reference: text(6)?,
        reason: text(7)?,
        created_at: row.at(8)?,
        changed_at: row.at(9)?,
    }))
}

/// The values of a payout's row, in the order of [`FIELDS`].
pub(super) fn payout_row(payout: &Payout) -> [Vec<u8>; FIELDS.len()] {
    let number = |number: u64| number.to_string().into_bytes();
    let text = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
    [
        payout.envelope.bytes().to_vec(),
        kind_name(payout.kind).as_bytes().to_vec(),
        payout.user.as_str().as_bytes().to_vec(),
        number(payout.amount.minor()),
        payout.state.name().as_bytes().to_vec(),
        number(payout.attempts.into()),
        text(&payout.reference),
        text(&payout.reason),
        number(payout.created_at.ms()),
        number(payout.changed_at.ms()),
    ]
}

pub(super) fn kind_name(kind: PayoutKind) -> &'static str {
    match kind {
        PayoutKind::Win => "win",
        PayoutKind::Refund => "refund",
    }
}

/// Where a payout made then stands in lists.
pub(super) fn score(created_at: Timestamp) -> i64 {
    created_at.ms() as i64 - COUNTED_FROM as i64
}

/// Of whom a payout is and what it tells besides.
struct Origin {
    owner: String,
    funding: Option<String>,
}

impl Core {
    /// The id of an envelope's payout to a user; `movement` says what for. It lies in
    /// the user's bucket, however many there are.
    pub(super) fn payout_id(&self, envelope: EnvelopeId, movement: u8, user: &UserId) -> PayoutId {
        let begins = Bucket::begins(user.as_str().as_bytes());
        id_of(&secret_of(&self.fingerprint_secret, envelope), movement, user, begins)
    }

    /// The same as an embedded engine gave it from which the envelope was copied: it
    /// begins as the envelope does.
    fn payout_id_of_copy(&self, envelope: EnvelopeId, movement: u8, user: &UserId) -> PayoutId {
        let [first, second, ..] = *envelope.bytes();
        id_of(&secret_of(&self.fingerprint_secret, envelope), movement, user, [first, second])
    }

    /// Under which a payout may be.
    pub(super) fn payout_ids(&self, envelope: EnvelopeId, movement: u8, user: &UserId) -> [PayoutId; 2] {
        [Core::payout_id, Core::payout_id_of_copy].map(|id| id(self, envelope, movement, user))
    }

    /// The payout of a share that was claimed, or of what went back, if it was made.
    pub(super) async fn payout_of(&self, envelope: EnvelopeId, movement: u8, user: &UserId) -> Result<Option<Payout>> {
        for id in self.payout_ids(envelope, movement, user) {
            if let Some(found) = self.payout_row(id).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The keys of a payout that may be made: its row and the lists it comes into.
    pub(super) fn payout_keys(&self, id: PayoutId) -> [Key; 3] {
        let bucket = self.layout.of_id(id.bytes());
        let due = self.layout.payouts_in(bucket, PayoutState::Due);
        [self.layout.payout(id), self.layout.payouts(bucket), due]
    }

    pub(super) fn claim_id(&self, envelope: EnvelopeId, user: &UserId) -> PayoutId {
        self.payout_id(envelope, CLAIM, user)
    }

    pub(super) async fn payout_row(&self, id: PayoutId) -> Result<Option<Payout>> {
        let bucket = self.layout.of_id(id.bytes());
        let args = [&["row"][..], &FIELDS].concat().iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        payout(id, &self.read(bucket, &[self.layout.payout(id)], &args).await?)
    }

    /// The same of many, in their order, asked for together.
    async fn payout_rows(&self, places: Vec<Place>) -> Result<VecDeque<Payout>> {
        let asked = places.into_iter().map(|at| self.payout_row(PayoutId::from_bytes(at.id)));
        let rows: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
        rows.into_iter().map(|row| row.ok_or_else(|| damaged("a payout"))).collect()
    }

    async fn origin(&self, envelope: EnvelopeId) -> Result<Origin> {
        let created = self.created(envelope).await?.ok_or_else(|| damaged("a payout's envelope"))?;
        Ok(Origin { owner: created.terms.owner, funding: created.terms.outside.funding })
    }

    pub(super) async fn payout(&self, id: PayoutId) -> Result<Option<PayoutView>> {
        let Some(payout) = self.payout_row(id).await? else { return Ok(None) };
        let Origin { owner, funding } = self.origin(payout.envelope).await?;
        Ok(Some(PayoutView { payout, owner, funding_reference: funding }))
    }

    pub(super) async fn payouts(self: &Arc<Self>, filter: &PayoutFilter, page: &Page) -> Result<Listing<PayoutView>> {
        let mut bounds = Bounds::after(position(List::Payouts, page)?);
        // Counted down, what was made before then is what is higher.
        let counted = |at: Timestamp| COUNTED_FROM.saturating_sub(at.ms().min(COUNTED_FROM));
        bounds.before_ms = filter.created_from.map(|from| counted(from) + 1);
        bounds.from_ms = filter.created_to.map(|to| counted(to) + 1);
        let key: fn(&Layout, Bucket) -> Key = match filter.state {
            None | Some(PayoutState::Paid) => Layout::payouts,
            Some(PayoutState::Due) => |layout, bucket| layout.payouts_in(bucket, PayoutState::Due),
            Some(PayoutState::Sent) => |layout, bucket| layout.payouts_in(bucket, PayoutState::Sent),
            Some(PayoutState::Failed) => |layout, bucket| layout.payouts_in(bucket, PayoutState::Failed),
        };
        let mut walk = Walk::of_all(self, key, bounds, None).await?;
        let mut origins: HashMap<EnvelopeId, Origin> = HashMap::new();
        let mut rows = Vec::new();
        let mut ahead = VecDeque::new();
        while let Some(at) = walk.next().await? {
            if let Some(next) = walk.end_of_page(rows.len(), page.limit) {
                return Ok(Listing { rows, next: Some(cursor(List::Payouts, &next)) });
            }
            if ahead.is_empty() {
                ahead = self.payout_rows(walk.ahead(page.limit.clamp(READ_MIN, READ_MAX))).await?;
            }
            let payout = ahead.pop_front().filter(|payout| *payout.id.bytes() == at.id);
            let payout = payout.ok_or_else(|| damaged("a list of payouts"))?;
            if filter.matches(&payout) {
                if let Entry::Vacant(place) = origins.entry(payout.envelope) {
                    place.insert(self.origin(payout.envelope).await?);
                }
                let Origin { owner, funding } = &origins[&payout.envelope];
                if filter.owner.as_ref().is_none_or(|wanted| wanted == owner) {
                    rows.push(PayoutView { payout, owner: owner.clone(), funding_reference: funding.clone() });
                }
            }
            walk.pass(at);
        }
        Ok(Listing { rows, next: None })
    }

    /// Takes in what came of payouts: in each bucket once, then the answer.
    pub(super) async fn tell_results(&self, results: &[PayoutResult], operation: &Operation) -> Result<Decided> {
        let mut by_bucket: BTreeMap<Bucket, Vec<usize>> = BTreeMap::new();
        for (nth, result) in results.iter().enumerate() {
            by_bucket.entry(self.layout.of_id(result.payout.bytes())).or_default().push(nth);
        }
        let mut letters = vec![0u8; results.len()];
        // The answer's own mark may lie in the same bucket as that of a part.
        let mut part = operation.id;
        part[15] ^= u8::MAX;
        for (bucket, of_it) in by_bucket {
            let lists = [PayoutState::Due, PayoutState::Sent, PayoutState::Failed];
            let lists = lists.map(|state| self.layout.payouts_in(bucket, state));
            let mut keys = Vec::from(lists);
            let mut args = Vec::with_capacity(4 * of_it.len());
            for &nth in &of_it {
                let PayoutResult { payout, state, reference, reason } = &results[nth];
                keys.push(self.layout.payout(*payout));
                let text = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
                args.extend([payout.bytes().to_vec(), state.name().as_bytes().to_vec(), text(reference), text(reason)]);
            }
            let under = Operation { bucket, id: part, ..*operation };
            let decided = self.ask(&RESULTS, &under, keys, args).await?;
            let (Decided::New(Told { answer, .. }) | Decided::Kept(Told { answer, .. })) = decided else {
                return Ok(Decided::Void);
            };
            let told = answer.bytes(1)?;
            if answer.tag() != b"payouts" || told.len() != of_it.len() {
                return Err(damaged("an answer about payouts"));
            }
            of_it.into_iter().zip(told).for_each(|(nth, letter)| letters[nth] = *letter);
        }
        let args = [b"keep".to_vec(), b"payouts".to_vec(), letters];
        self.ask(&OPERATION, operation, [], args).await
    }
}
