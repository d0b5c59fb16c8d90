//! Mass envelopes: out of their pools as winners of a whole envelope, and into
//! pools again, one in every bucket of the deployment that they come into.
//!
//! The bit of the id that leads servers to pools stays with the envelope. In a
//! directory its shares have gaps, of what nobody has grabbed; see `state::winners`.
//!
//! **Invariant:** each share lies in one place: with its winner in the pool of the
//! winner's bucket, or free in a pool or the reserve while the envelope is open.

use super::to_directory::Copying;
use super::to_redis::{FILL_BYTES, Writing, before, number, text};
use super::{CopyError, Result};
use crate::command::EndedAs;
use crate::redis::backend::Core;
use crate::redis::bucket::Bucket;
use crate::redis::layout::Layout;
use crate::redis::reads::{EnvelopeRow as MassRow, Win};
use crate::redis::reply::damaged;
use crate::redis::rows::{base_of, packed_win, pool_fields, reserve_fields, width};
use crate::split::Shares;
use crate::store::{EnvelopeRow, WinRow};
use crate::types::{Amount, EnvelopeId, Timestamp};
use std::collections::HashSet;
use std::sync::Arc;

/// Pools whose winners are read at once.
const POOLS_AT_ONCE: usize = 64;
/// Winners taken from the archive at a time.
const ARCHIVED_PAGE: usize = 4096;
/// A transfer that was noted last and was none: of a pool that is closed, and of one that has lapsed too.
const CLOSED: &str = "0 - 0 -1 c";
const LAPSED: &str = "0 - 0 -1 l";

impl Copying<'_> {
    /// A mass envelope as a whole one.
    pub(super) async fn envelope_in_pools(&mut self, id: EnvelopeId) -> Result<()> {
        let row = self.core.mass_row_whole(id).await?.ok_or_else(|| damaged("an envelope"))?;
        let created = row.created.clone();
        let mut latest = created.created_at;
        self.created(created)?;
        let pools: Vec<Bucket> = self.core.layout.all().collect();
        let mut left = HashSet::new();
        for some in pools.chunks(POOLS_AT_ONCE) {
            let mut wins = Vec::new();
            let read = |core: Arc<Core>, pool| async move { Ok((pool, core.pool_winners(id, pool).await?)) };
            self.core
                .in_buckets(some.iter().copied(), read, |(pool, of_pool)| match of_pool {
                    Some(of_pool) => wins.extend(of_pool),
                    None => _ = left.insert(pool),
                })
                .await?;
            latest = latest.max(self.wins(&row, wins)?);
        }
        let mut first = 0;
        while !left.is_empty() {
            let wins = self.core.archived_wins(id, first, ARCHIVED_PAGE).await?;
            let Some(last) = wins.last() else { break };
            first = u64::from(last.share) + 1;
            // Of a pool that is on its way both have winners.
            let wins = wins.into_iter().filter(|win| left.contains(&self.core.layout.of_user(&win.user))).collect();
            latest = latest.max(self.wins(&row, wins)?);
        }
        self.end(&row.created, &row.figures, latest).await
    }

    /// Winners of a mass envelope, and when the last of them changed.
    fn wins(&mut self, row: &MassRow, wins: Vec<Win>) -> Result<Timestamp> {
        let mut latest = row.created.created_at;
        for mut win in wins {
            // By a server whose clock was late: nobody grabs before there is anything to grab.
            win.grabbed_at = win.grabbed_at.max(row.created.created_at);
            win.claimed_at = win.claimed_at.map(|at| at.max(win.grabbed_at));
            latest = latest.max(self.win(row.created.id, win)?);
        }
        Ok(latest)
    }
}

/// A pool while winners come.
#[derive(Clone, Default)]
struct Pool {
    /// Number and amount of each share, those that somebody has first.
    shares: Vec<u8>,
    taken: u64,
    taken_amount: Amount,
    claimed: u64,
    claimed_amount: Amount,
    /// All money of its shares.
    entered: Amount,
}

/// A mass envelope whose winners come.
pub(super) struct Pools {
    split: Shares,
    pools: Vec<Pool>,
    is_taken: Vec<bool>,
    base: Timestamp,
}

impl Pools {
    pub(super) fn new(row: &EnvelopeRow, buckets: u16) -> Pools {
        let split = row.created.split();
        let is_taken = vec![false; split.len() as usize];
        Pools { split, pools: vec![Pool::default(); buckets.into()], is_taken, base: base_of(&row.created) }
    }

    /// A winner takes the next place in a pool. How its row is packed there.
    pub(super) fn win(&mut self, pool: Bucket, win: &WinRow) -> Result<Vec<u8>> {
        let wrong = || CopyError::Form(format!("share {} is not the split's; run `hongbao audit`", win.share));
        let is_taken = self.is_taken.get_mut(win.share as usize).ok_or_else(wrong)?;
        if *is_taken || self.split.get(win.share) != win.amount {
            return Err(wrong());
        }
        *is_taken = true;
        let of_pool = &mut self.pools[usize::from(pool.number())];
        let packed = packed_win(self.base, of_pool.taken as u32, win.grabbed_at, win.claimed_at);
        if win.claimed_at.is_some() {
            of_pool.claimed += 1;
            of_pool.claimed_amount += win.amount;
        }
        of_pool.taken += 1;
        of_pool.taken_amount += win.amount;
        of_pool.add(&self.split, win.share);
        Ok(packed)
    }

    /// Spreads what nobody has: the last sixteenth is the reserve's.
    fn spread(&mut self) -> Pool {
        let free: Vec<u32> = (0..self.split.len()).filter(|&share| !self.is_taken[share as usize]).collect();
        let in_pools = free.len() - free.len() / 16;
        let mut reserve = Pool::default();
        for (nth, &share) in free.iter().enumerate() {
            let count = self.pools.len();
            let place = if nth < in_pools { &mut self.pools[nth % count] } else { &mut reserve };
            place.add(&self.split, share);
        }
        reserve
    }
}

impl Pool {
    fn add(&mut self, split: &Shares, share: u32) {
        let amount = split.get(share);
        self.shares.extend_from_slice(&share.to_le_bytes());
        self.shares.extend_from_slice(&amount.minor().to_le_bytes()[..width(split) as usize]);
        self.entered += amount;
    }
}

impl Writing {
    /// The rows of a mass envelope, when all its winners have come.
    pub(super) async fn pools(&mut self, row: &EnvelopeRow, mut pools: Pools) -> Result<()> {
        let created = &row.created;
        let (id, width, buckets) = (created.id, width(&pools.split), self.core.layout.buckets);
        let taken: u64 = pools.pools.iter().map(|pool| pool.taken).sum();
        let (ended, refunded) = end_of(row, taken == u64::from(created.terms.shares));
        let (is_closed, has_lapsed) = (matches!(ended, "e" | "c"), row.lapsed.is_some());
        let reserve = if ended.is_empty() { pools.spread() } else { Pool::default() };
        let size = 4 + width;
        for (number_of_pool, pool) in (0..).zip(&pools.pools) {
            let bucket = Bucket::new(number_of_pool);
            let unclaimed = if has_lapsed { pool.taken_amount - pool.claimed_amount } else { Amount::ZERO };
            self.money(bucket).escrowed += (pool.entered - pool.claimed_amount - unclaimed).minor();
            let count = pool.shares.len() as u64 / size;
            let mut fields = pool_fields(created, width, count, pool.entered);
            for (name, value) in [
                ("head", pool.taken),
                ("taken_amount", pool.taken_amount.minor()),
                ("claimed", pool.claimed),
                ("claimed_amount", pool.claimed_amount.minor()),
                ("filled", count - pool.taken),
            ] {
                fields.extend([text(name), number(value)]);
            }
            let flag = |is: bool| text(if is { "1" } else { "" });
            let states = [("told", text(ended)), ("closed", flag(is_closed)), ("lapsed", flag(has_lapsed))];
            fields.extend(states.into_iter().flat_map(|(name, value)| [text(name), value]));
            let layout = &self.core.layout;
            let (key, shares) = (layout.pool(bucket, id), layout.pool_shares(bucket, id));
            self.fill(bucket, &shares, &pool.shares).await?;
            self.write(bucket, "HSET", key, fields).await?;
        }
        let home = self.core.layout.of_id(id.bytes());
        self.money(home).escrowed += reserve.entered.minor();
        let count = reserve.shares.len() as u64 / size;
        let mut fields = reserve_fields(created, width, buckets, count, reserve.entered);
        let transfers = if is_closed { buckets } else { 0 };
        for (name, value) in [
            ("refunded", refunded),
            ("closed", transfers.into()),
            ("lapsed", if has_lapsed { buckets.into() } else { 0 }),
        ] {
            fields.extend([text(name), number(value)]);
        }
        let flag = |is: bool| text(if is { "1" } else { "" });
        let states = [
            ("ended", text(ended)),
            ("closing", text(if is_closed { ended } else { "" })),
            ("lapsing", flag(has_lapsed)),
            ("settled", flag(row.settled.is_some())),
        ];
        fields.extend(states.into_iter().flat_map(|(name, value)| [text(name), value]));
        let layout = &self.core.layout;
        let (reserve_key, key, transfers_key) = (layout.reserve(id), layout.envelope(id), layout.transfers(id));
        self.fill(home, &reserve_key, &reserve.shares).await?;
        if is_closed || has_lapsed {
            let last = if has_lapsed { LAPSED } else { CLOSED };
            let rows = (0..buckets).flat_map(|pool| [number(pool.into()), text(last)]);
            self.write(home, "HSET", transfers_key, rows).await?;
        }
        self.write(home, "HSET", key, fields).await?;
        self.ways_to(row, ended).await
    }

    /// The lists and the deadline that lead to an envelope.
    pub(super) async fn ways_to(&mut self, row: &EnvelopeRow, ended: &str) -> Result<()> {
        let created = &row.created;
        let (id, sender) = (created.id, &created.terms.sender);
        let layout: &Layout = &self.core.layout;
        let bucket = layout.of_id(id.bytes());
        let (listed, due) = (layout.envelopes_by_time(bucket), layout.due(bucket));
        let (own, sent) = (layout.of_user(sender), layout.sent(sender));
        let settled = layout.settled(bucket);
        let made = [before(created.created_at), id.bytes().to_vec()];
        self.write(bucket, "ZADD", listed, made.clone()).await?;
        self.write(own, "ZADD", sent, made).await?;
        if row.settled.is_none() {
            let by = if ended.is_empty() { created.expires_at } else { created.claim_by };
            self.write(bucket, "ZADD", due, [number(by.ms()), [b"e", &id.bytes()[..]].concat()]).await?;
        } else {
            // From when on it may be archived, at the latest.
            self.write(bucket, "ZADD", settled, [number(created.claim_by.ms()), id.bytes().to_vec()]).await?;
        }
        Ok(())
    }

    pub(super) async fn fill(&mut self, bucket: Bucket, key: &[u8], shares: &[u8]) -> Result<()> {
        for (nth, part) in shares.chunks(FILL_BYTES).enumerate() {
            let filled = [number((nth * FILL_BYTES) as u64), part.to_vec()];
            self.write(bucket, "SETRANGE", key.to_vec(), filled).await?;
        }
        Ok(())
    }
}

/// How an envelope has ended, as Redis has it, and what went back to its sender.
pub(super) fn end_of(row: &EnvelopeRow, is_sold_out: bool) -> (&'static str, u64) {
    let refunded = row.ended.as_ref().map_or(0, |(_, ended)| ended.refund.minor())
        + row.lapsed.as_ref().map_or(0, |(_, amount)| amount.minor());
    let ended = match row.ended.as_ref().map(|(_, ended)| ended.how) {
        Some(EndedAs::Expired) => "e",
        Some(EndedAs::Cancelled) => "c",
        Some(EndedAs::SoldOut) => "s",
        None if is_sold_out => "s",
        None => "",
    };
    (ended, refunded)
}
